"""What a reader sees first: one grid, units against data sets, and one sentence a table, all from the tables alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqbench.leaderboard import lags
from seqbench.leaderboard.columns import perplexity
from seqbench.leaderboard.naming import GIVEN
from seqbench.leaderboard.rows import DIVERGED, Board, Row, Table, listed, score_name

MOST_NAMED = 3  # units of a kind in a sentence
MOST_LINES = 30  # of the grid
SYMBOLS = {  # a mark's first words -> what stands in the grid
    "cut short": "¶",
    "still learning": "†",
    "rate at the edge": "‡",
    "diverged after": "§",
    "no better than a floor": "↓",
}
KEY = (
    "Test NLL, lower is better: the lowest of each column, and the others' gaps to it with simultaneous 95% intervals, "
    "over seeds and test pieces. Units that share a letter cannot be told apart."
)


@dataclass(frozen=True)
class Cell:
    """A unit on a data set.

    Attributes:
        row: where the rest stands.
        text: the NLL of the best and of what is not compared, the gap to the best of the others, "diverged".
        letters: of its groups; "" for what is not compared.
        symbols: of its marks.
    """

    row: Row
    text: str
    letters: str
    symbols: str

    def __str__(self) -> str:
        return " ".join(part for part in (self.text, self.letters, self.symbols) if part)


@dataclass(frozen=True)
class Grid:
    """Units, the first table's order first, against the tables that have units in common with it.

    Tasks that can be solved are left out where there are others: their figure is no NLL. Beside units that were matched
    by their parameters none stand whose sizes were given, and the other way round.

    Attributes:
        tables: the columns.
        lines: a unit, and its cell in each column.
        apart: tables that are no column.
        more: units beyond MOST_LINES, which have no line.
    """

    tables: list[Table]
    lines: list[tuple[str, list[Cell | None]]]
    apart: int = 0
    more: int = 0

    @property
    def legend(self) -> str:
        """The symbols that occur, and what is not shown; "" where there is none."""
        more = [f"{self.more} more units stand in the tables."] if self.more else []
        if any(table.task.score for table in self.tables):
            more.append("Where units are ranked by what is right, it is the share of what is wrong, in percent.")
        if self.apart:
            more.append("Tables that are no column have a sentence below.")
        if any(c and c.row.letters is None and not c.row.diverged for _, cells in self.lines for c in cells):
            more.append("In brackets: incomplete, not compared.")
        used = {c for _, cells in self.lines for cell in cells if cell for c in cell.symbols}
        symbols = [f"{s} {words}{_rest(words)}." for words, s in SYMBOLS.items() if s in used]
        return " ".join([*symbols, *more])


def _rest(words: str) -> str:
    return " the best epoch" if words == "diverged after" else ""


def grid(board: Board) -> Grid:
    """The grid of a board."""
    scored = [table for table in board.tables if not table.task.solved] or list(board.tables)
    first = scored[0]
    alike = [table for table in scored if (table.matching == GIVEN) == (first.matching == GIVEN)]
    tables = [table for table in alike if {row.unit for row in first.units} & {row.unit for row in table.units}]
    order: dict[str, None] = {}
    for table in tables:
        order |= dict.fromkeys(row.unit for row in [*table.ranked, *table.units])
    shown = list(order)[:MOST_LINES]
    lines = [(unit, [_cell(table, unit) for table in tables]) for unit in shown]
    return Grid(tables, lines, len(board.tables) - len(tables), len(order) - len(shown))


def _cell(table: Table, unit: str) -> Cell | None:
    """The unit's best complete row; the best of the others where there is none."""
    rows = sorted((row for row in table.units if row.unit == unit), key=lambda row: row.letters is None)
    if not rows:
        return None
    row = rows[0]
    marks = "".join(s for words, s in SYMBOLS.items() if any(mark.startswith(words) for mark in row.marks))
    if row.letters is None:
        text = "diverged" if row.diverged else "(–)" if row.own is None else f"({row.own.mean:.3f})"
        return Cell(row, text, "", marks)
    assert row.own is not None
    text = f"{row.own.mean:.3f}" if row is table.ranked[0] else gap(table, row)
    return Cell(row, text, row.letters, marks)


def sentences(board: Board) -> list[tuple[Table, str]]:
    """One of each table; tables that differ by their lag alone have one in common, with the first of them."""
    families = {table.slug: family for family in lags.families(board) for table in family}
    told = []
    for table in board.tables:
        family = families.get(table.slug, [table])
        if family[0] is table:
            told.append((table, sentence(family)))
    return told


def gap(table: Table, row: Row) -> str:
    """+0.070 ± 0.044: a ranked unit less the best one, in the table's measure."""
    found = table.against(row, table.ranked[0])
    assert found is not None
    return f"{found.difference:+.3f}" + ("" if found.interval is None else f" ± {found.interval:.3f}")


def sentence(family: Sequence[Table]) -> str:
    """Who is ahead, or who solves it, and who diverged throughout: of tables that differ by their lag alone."""
    first = family[0]
    return (lags.sentence(family) if first.task.solved else _ahead(first)) + _lost(family)


def _lost(family: Sequence[Table]) -> str:
    """Who diverged throughout, in all of these tables."""
    lost = [{row.name for row in table.units if row.diverged} for table in family]
    names = sorted(set.intersection(*lost))
    return f" {listed(names)} {DIVERGED}." if names else ""


def _ahead(table: Table) -> str:
    """Who is ahead, by how much, and who cannot be told apart from it."""
    ranked = table.ranked
    if not ranked:
        return f"{table.heading}: no unit is complete."
    best = ranked[0]
    assert best.own is not None
    seeds = ", of one seed each" if len(table.search.seeds) == 1 else ""
    lead = f"{table.heading}{seeds}: {best.name} {{}} at {_figure(table, best)}"
    if len(ranked) == 1:
        return f"{lead.format('is the only complete unit,')}."
    lost = f" (gaps in {table.measure})" if table.task.score else ""
    near: list[Row] = []
    behind: list[Row] = []
    for row in ranked[1:]:
        found = table.against(row, best)
        (behind if found is not None and found.significant else near).append(row)
    if not near:
        return f"{lead.format('is ahead')}{lost}; behind it {_named(table, behind)}."
    apart = f"; behind it {_named(table, behind)}" if behind else ""
    first = "comes first" if table.task.score else "has the lowest NLL"
    return f"{lead.format(first)}{lost}, not told apart from {_named(table, near)}{apart}."


def _figure(table: Table, row: Row) -> str:
    """8.465 nats/frame; of words their perplexity too; a LAS of 84.81%."""
    assert row.own is not None
    if table.task.score:
        return f"a {score_name(table.task)} of {100 - row.own.mean:.2f}%"
    figure, found = f"{row.own.mean:.3f} {table.measure}", perplexity(row)
    return figure if found is None else f"{figure}, a perplexity of {found:.2f}"


def _named(table: Table, rows: Sequence[Row]) -> str:
    named = [f"{row.name} ({gap(table, row)})" for row in rows[:MOST_NAMED]]
    if more := len(rows) - MOST_NAMED:
        named += [f"{more} more"] if more > 0 else []
    return listed(named)
