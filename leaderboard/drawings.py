"""What a table's figures show. Beyond MOST_TOGETHER units curves stand in small multiples, over the grey baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from seqbench.leaderboard.claims import BASELINE, BASELINES
from seqbench.leaderboard.columns import near_best
from seqbench.leaderboard.curves import (
    MOST_CURVES,
    Line,
    Sensitivity,
    average,
    finite,
    limits,
    lines,
    rate_limits,
    sensitivities,
    sensitivity,
)
from seqbench.leaderboard.figures import COLOURS, INK, SIZE, Looks, drawn, label, one_plot
from seqbench.leaderboard.panels import Panel, Scale, Stroke, decades, panels
from seqbench.leaderboard.rows import Row, Table, score_name
from seqbench.leaderboard.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Drawn = TypeVar("Drawn", Line, Sensitivity)
MOST_TOGETHER = 6
GREY = "#8f8d85"
ROW = 0.27  # inches of a forest plot's line


def drawings(table: Table, looks: Looks) -> dict[str, Callable[[], str]]:
    """Kind of figure -> what draws it, in the order of the page."""
    found: dict[str, Callable[[], str]] = {}
    shown = lines(table)
    rated = [one for one in sensitivities(table) if one.valid][:MOST_CURVES]
    many = len(shown) > MOST_TOGETHER
    if table.comparisons and table.comparisons[0].interval is not None:
        found["forest"] = partial(_forest, table, looks)
    if shown:
        found["epoch"] = partial(_panels, table, shown) if many else partial(_curves, table, shown, "epoch", looks)
    if shown and not many:
        found["seconds"] = partial(_curves, table, shown, "seconds", looks)
    if rated:
        found["rate"] = partial(_rate_panels, table, rated) if many else partial(_rates, table, rated, looks)
    for kind, value in (("cost", near_best), ("size", lambda run: run.parameters.total)):
        dots = [(row, x) for row in table.ranked[:MOST_CURVES] if (x := row.mean(value)) is not None and x.mean > 0]
        if len(dots) > 1:
            found[kind] = partial(_dots, table, dots, kind, looks)
    return found


def baseline(table: Table) -> Row | None:
    """The ranked unit that others are held against: the protocol's, or else the best."""
    name = BASELINES.get(table.protocol, BASELINE)
    rows = [row for row in table.ranked if row.unit.lower() == name.lower()]
    return next(iter([*rows, *table.ranked]), None)


def _forest(table: Table, looks: Looks) -> str:
    """Differences to the baseline with simultaneous intervals, the best unit on top."""
    base = baseline(table)
    assert base is not None
    others = [row for row in table.ranked if row is not base]
    size = SIZE[0], 0.95 + ROW * len(others)

    def fill(figure: Figure) -> None:
        left = 0.05 + 0.0175 * max(len(label(row)) for row in others)
        axes = figure.add_axes((left, 0.5 / size[1], 0.96 - left, 1 - 0.82 / size[1]))
        for n, row in enumerate(others):
            found = table.against(row, base)
            assert found is not None
            colour = looks[row.anchor][0] if found.significant else GREY
            axes.errorbar(
                [found.difference], [-n], xerr=[found.interval or 0.0], color=colour, fmt="o", markersize=5,
            )  # fmt: skip
        axes.axvline(0, color=INK, linewidth=0.7)
        axes.set_yticks([-n for n in range(len(others))], [label(row) for row in others])
        axes.set_ylim(-len(others) + 0.4, 0.6)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
        axes.locator_params(axis="x", nbins=6)
        axes.set_xlabel(f"{table.measure}; left of 0 is better than {label(base)}")
        what = f"{score_name(table.task)} lost" if table.task.score else "test NLL"
        axes.set_title(f"{what} less that of {label(base)}; grey: not told apart", loc="left", fontsize=10, x=-left)

    what = table.measure if table.task.score else "test NLL"
    title = f"Differences in {what} to {base.name} on {table.heading}, with simultaneous 95% intervals"
    return drawn(table, others, "forest", title, fill, size)


def _dots(table: Table, dots: Sequence[tuple[Row, Estimate]], kind: str, looks: Looks) -> str:
    """One dot a unit: test NLL against a cost, with 95% intervals over seeds."""
    dotted = {row.anchor: (looks[row.anchor][0], looks[row.anchor][1] or "o") for row, _ in dots}

    def plot(axes: Axes) -> list[float]:
        from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

        for n, (row, x) in enumerate(dots):
            assert row.test is not None
            bars = axes.errorbar(
                [x.mean], [row.test.mean],
                xerr=[min(x.interval or 0.0, 0.95 * x.mean)], yerr=[row.test.interval or 0.0],
                color=dotted[row.anchor][0], fmt=dotted[row.anchor][1], markersize=6,
            )  # fmt: skip
            for part in bars.get_children():
                part.set_gid(f"unit{n}")
        values = [x.mean for _, x in dots]
        if max(values) > 4 * min(values):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.margins(0.08)
        return [row.test.mean for row, _ in dots if row.test is not None]

    title = f"Test NLL on {table.heading} against {'time' if kind == 'cost' else 'parameters'}"
    return one_plot(table, [row for row, _ in dots], kind, title, plot, dotted)


def _curves(table: Table, shown: Sequence[Line], kind: str, looks: Looks) -> str:
    """Train and validation NLL, mean and span over seeds."""

    def plot(axes: Axes) -> list[float]:
        for n, line in enumerate(shown):
            x = line.epoch if kind == "epoch" else line.seconds
            colour, marker = looks[line.row.anchor]
            shape: dict[str, Any] = {"marker": marker, "markersize": 3.5, "markevery": max(1, len(x) // 12)}
            shape |= {"color": colour, "gid": f"unit{n}"}
            if len(x) == 1:
                shape["marker"] = marker or "o"
            if len(line.row.counted) > 1:
                band: dict[str, Any] = {"color": colour, "linewidth": 0, "gid": f"unit{n}"}
                axes.fill_between(x, line.train_low, line.train_high, alpha=0.08, **band)
                axes.fill_between(x, line.low, line.high, alpha=0.16, **band)
            axes.plot(x, line.train, linewidth=1.1, dashes=(4, 2), alpha=0.85, **shape)
            axes.plot(x, line.valid, linewidth=1.6, **shape)
        axes.plot([], [], color=INK, linewidth=1.6, label="validation")
        axes.plot([], [], color=INK, linewidth=1.1, dashes=(4, 2), label="training")
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, borderaxespad=0, handlelength=1.6,
            columnspacing=1.0, fontsize=9,
        )  # fmt: skip
        axes.set_ylim(*limits(shown))
        return [(finite(line.valid) or [limits(shown)[1]])[-1] for line in shown]

    rows = [line.row for line in shown]
    return one_plot(table, rows, kind, f"Learning curves of {table.heading} against {kind}", plot, looks)


def _rates(table: Table, shown: Sequence[Sensitivity], looks: Looks) -> str:
    """Validation NLL against the learning rate; a cross at the top where training diverged."""

    def plot(axes: Axes) -> list[float]:
        for n, one in enumerate(shown):
            colour, marker = looks[one.row.anchor]
            shape: dict[str, Any] = {"color": colour, "gid": f"unit{n}"}
            axes.plot(one.rate, one.valid, linewidth=1.6, markersize=5, marker=marker or ".", **shape)
            heights = [0.98] * len(one.diverged)
            axes.plot(one.diverged, heights, "x", markersize=5, transform=axes.get_xaxis_transform(), **shape)
        axes.set_ylim(*rate_limits(shown))
        _decades(axes, table)
        return [one.valid[-1] for one in shown]

    rows = [one.row for one in shown]
    return one_plot(table, rows, "rate", f"Validation NLL of {table.heading} against the learning rate", plot, looks)


def _decades(axes: Axes, table: Table) -> None:
    """A logarithmic axis over the rates tried, with decades alone."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    tried = table.search.rates
    axes.xaxis.set_major_locator(FixedLocator(decades(min(tried), max(tried))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _base(table: Table, shown: Sequence[Drawn], made: Callable[[Row], Drawn | None]) -> Drawn:
    """The baseline's, made where it is not among those shown; the first one where there is none."""
    base = baseline(table)
    own = next((one for one in shown if one.row is base), None)
    return own or (base and made(base)) or shown[0]


def _panels(table: Table, shown: Sequence[Line]) -> str:
    """A unit's validation and training curve in each panel, over the baseline's validation curve in grey."""
    base = _base(table, shown, average)
    behind = Stroke(base.epoch, base.valid, GREY, 2.4)

    def strokes(line: Line) -> list[Stroke]:
        if line is base:
            return [behind]
        train = Stroke(line.epoch, line.train, COLOURS[0], 0.9, dashes=(4, 2))
        return [behind, train, Stroke(line.epoch, line.valid, COLOURS[0], 1.4)]

    epochs = 0.0, max(line.epoch[-1] for line in shown)
    heading = f"NLL against epoch; dashed: training; grey: {label(base.row)}"
    told = [Panel(label(line.row), strokes(line)) for line in shown]
    fill, size = panels(heading, told, Scale(*epochs), Scale(*limits(shown)))
    title = f"Learning curves of {table.heading}, each unit against {base.row.name} in grey"
    return drawn(table, [line.row for line in shown], "epoch", title, fill, size)


def _rate_panels(table: Table, shown: Sequence[Sensitivity]) -> str:
    """A unit's validation NLL against the rate in each panel, over the baseline's in grey."""
    base = _base(table, shown, sensitivity)
    behind = Stroke(base.rate, base.valid, GREY, 2.4)

    def strokes(one: Sensitivity) -> list[Stroke]:
        if one is base:
            return [behind]
        return [behind, Stroke(one.rate, one.valid, COLOURS[0], 1.4, marker=".", lost=one.diverged)]

    tried = sorted(table.search.rates)
    x, y = Scale(tried[0], tried[-1], logarithmic=True), Scale(*rate_limits(shown))
    heading = f"validation NLL against rate; ×: diverged at once; grey: {label(base.row)}"
    fill, size = panels(heading, [Panel(label(one.row), strokes(one)) for one in shown], x, y)
    title = f"Validation NLL of {table.heading} against the rate, each unit against {base.row.name} in grey"
    return drawn(table, [one.row for one in shown], "rate", title, fill, size)
