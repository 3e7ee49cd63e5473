"""What a board says of tasks that can be solved: what they are called, who solves them, and up to which lag."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seqbench.leaderboard.rows import Board, Row, Table, listed
from seqbench.solving import Solved

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAGGED = {  # tasks -> the option that is their lag, 100 by default in all of them
    "adding": "length",
    "copying": "lag",
    "multiplication": "length",
    "temporal_order": "length",
    "two_sequences": "lag",
}
LAG = 100
DODGE = 1.6  # percentage points between two lines that would cover each other


def usual(task: str) -> dict[str, int]:
    """The option that is a task's lag, as it is by default."""
    return {LAGGED[task]: LAG} if task in LAGGED else {}


def sentence(family: Sequence[Table]) -> str:
    """Who solves a task in how many runs, at each lag that it has a table of."""
    solved: dict[str, dict[int, Solved]] = defaultdict(dict)
    for table in family:
        for row in table.ranked:
            if row.solved is not None:
                solved[row.name][_lag(table)] = row.solved
    heading, at = family[0].heading, list(map(_lag, family))
    if len(family) > 1:
        option = LAGGED[family[0].task.name]
        heading = heading.replace(f"{option} {at[0]}", f"{option}s {listed([f'{n:,}' for n in at])}")
    if not solved:
        return f"{heading}: no unit is complete."
    shares = {name: sum(one.solved / one.of for one in found.values()) for name, found in solved.items()}
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(solved, key=lambda name: -shares[name]):
        alike[_counts(solved[name], at)].append(name)
    told = [f"{listed(names)} {counts}{' each' * (len(names) > 1)}" for counts, names in alike.items()]
    return f"{heading}, runs that solve it: {('; ' if len(at) > 1 else ', ').join(told)}."


def _counts(solved: dict[int, Solved], at: Sequence[int]) -> str:
    """10 of 10; at several lags 5/5, 5/5 and 0/5, where there is no table –."""
    if len(at) == 1:
        return f"{solved[at[0]].solved} of {solved[at[0]].of}"
    return listed([f"{solved[n].solved}/{solved[n].of}" if n in solved else "–" for n in at])


def families(board: Board) -> list[list[Table]]:
    """Tables that differ by their lag alone, two or more, the shortest lag first."""
    found: dict[tuple[object, ...], list[Table]] = defaultdict(list)
    for table in board.tables:
        if table.task.name in LAGGED and table.units:
            others = {k: v for k, v in table.options.items() if k != LAGGED[table.task.name]}
            found[table.task.name, table.protocol, table.matching, str(others)].append(table)
    return [tables for tables in found.values() if len(set(map(_lag, tables))) > 1]


def lag(task: str, options: dict[str, Any]) -> int:
    """Steps that a task bridges, about; 0 of one without."""
    return int(options.get(LAGGED[task], LAG)) if task in LAGGED else 0


def _lag(table: Table) -> int:
    return lag(table.task.name, table.options)


def draw(family: Sequence[Table], looks: dict[str, tuple[str, str]]) -> str:
    """The share of runs that solved it against the lag, a line a unit."""
    from seqbench.leaderboard.figures import one_plot

    lines: dict[str, dict[int, float]] = defaultdict(dict)
    rows: dict[str, Row] = {}
    for table in family:
        for row in table.ranked:
            if row.solved is not None and row.unit not in {r.unit for r in table.ranked[: table.ranked.index(row)]}:
                rows.setdefault(row.unit, row)
                lines[row.unit][_lag(table)] = 100 * row.solved.solved / row.solved.of

    def plot(axes: Axes) -> list[float]:
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

        ends = []
        for n, unit in enumerate(rows):
            colour, marker = looks[rows[unit].anchor]
            lags = sorted(lines[unit])
            shares = [lines[unit][at] + DODGE * (n - (len(rows) - 1) / 2) for at in lags]
            axes.plot(lags, shares, color=colour, marker=marker or ".", markersize=5, linewidth=1.6, gid=f"unit{n}")
            ends.append(shares[-1])
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(list(map(_lag, family))))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(-8, 108)
        return ends

    title = f"Share of runs that solve it against the lag: {family[0].heading} and longer"
    return one_plot(family[0], list(rows.values()), "lags", title, plot, looks)
