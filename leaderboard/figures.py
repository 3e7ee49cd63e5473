"""Learning curves as SVG: train and validation NLL against epochs and against seconds, all units in one figure.

A figure is a pure function of the board: no date, no random id, no font of this machine in it. Its text and axes are
drawn in `currentColor`, so that it follows a page that turns dark; `standalone` adds what a file of its own needs.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from leaderboard.board import Board, Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Against = Literal["epoch", "seconds"]
AGAINST: tuple[Against, ...] = ("epoch", "seconds")
# Okabe and Ito (2008), told apart by colour-blind readers; without their yellow and black, which vanish on paper or
# on a dark page
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("", "o", "s", "^", "D", "v")  # from the seventh unit on, colours come again with a marker
MOST_CURVES = 12
MOST_POINTS = 500
LONGEST_LABEL = 22  # characters
INK = "#010203"  # becomes currentColor
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "axes.unicode_minus": False,
}
STANDALONE = (
    "<style>svg{color:#1b1b19;font-family:system-ui,sans-serif}"
    "@media(prefers-color-scheme:dark){svg{color:#dddcd6}}</style>"
)


@dataclass(frozen=True)
class Line:
    """A unit's curves, averaged over the seeds that count, as long as the shortest of their runs.

    All lists have one entry an epoch; `low` and `high` are the least and the greatest validation NLL of any seed. NaN
    where no seed has a finite figure.
    """

    row: Row
    epoch: list[float]
    seconds: list[float]
    train: list[float]
    valid: list[float]
    low: list[float]
    high: list[float]


def draw(board: Board) -> dict[str, str]:
    """Figure name -> `<svg>` element, e.g. "jsb-epoch". A table without a run that counts has no figures."""
    colours = looks(board)
    figures = {}
    for table in board.tables:
        lines = [line for row in table.units if (line := average(row)) is not None][:MOST_CURVES]
        for against in AGAINST if lines else ():
            name = f"{table.slug}-{against}"
            figures[name] = _figure(name, table, lines, against, colours)
    return figures


def looks(board: Board) -> dict[str, tuple[str, str]]:
    """Anchor of a row -> colour and marker: a unit's best row looks the same in all figures, then come the others."""
    units = sorted({row.unit for table in board.tables for row in table.units})
    best = {row.anchor for table in board.tables for row in {r.unit: r for r in reversed(table.units)}.values()}
    others = sorted({row.name for table in board.tables for row in table.units if row.anchor not in best})
    cycle = len(COLOURS)
    found = {}
    for table in board.tables:
        for row in table.units:
            i = units.index(row.unit) if row.anchor in best else len(units) + others.index(row.name)
            found[row.anchor] = COLOURS[i % cycle], MARKERS[i // cycle % len(MARKERS)]
    return found


def standalone(svg: str) -> str:
    """The figure as a file: with colours for light and dark, and a font."""
    head, mark, rest = svg.partition(">")
    return f"{head}{mark}{STANDALONE}{rest}\n"


def average(row: Row) -> Line | None:
    """The mean curves of a row; None where no run counts or none has a curve."""
    curves = [run.curve for run in row.counted]
    length = min((len(curve.epoch) for curve in curves), default=0)
    if not length:
        return None
    keep = thin(length)

    def over_seeds(field: str, of: str) -> list[float]:
        return [_reduce([getattr(curve, field)[i] for curve in curves], of) for i in keep]

    return Line(
        row=row,
        epoch=[i + 1.0 for i in keep],
        seconds=over_seeds("seconds", "mean"),
        train=over_seeds("train", "mean"),
        valid=over_seeds("valid", "mean"),
        low=over_seeds("valid", "min"),
        high=over_seeds("valid", "max"),
    )


def thin(length: int) -> list[int]:
    """At most MOST_POINTS indexes of a curve, evenly spread, the last always among them."""
    if length <= MOST_POINTS:
        return list(range(length))
    return [round(i * (length - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)]


def _reduce(values: Sequence[float | None], of: str) -> float:
    finite = [v for v in values if v is not None]
    if not finite:
        return math.nan
    if of == "mean":
        return round(math.fsum(finite) / len(finite), 6)
    return min(finite) if of == "min" else max(finite)


def limits(lines: Sequence[Line]) -> tuple[float, float]:
    """The range worth seeing: from the lowest value to where curves are after a twentieth of their epochs, or end."""
    every = [v for line in lines for v in (*line.train, *line.valid) if not math.isnan(v)]
    if not every:
        return 0.0, 1.0
    late = []
    for line in lines:
        start = min(len(line.epoch) - 1, max(1, len(line.epoch) // 20))
        late += [v for curve in (line.train, line.valid) for v in (curve[start], curve[-1]) if not math.isnan(v)]
    low, high = min(every), max(late or every)
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _figure(name: str, table: Table, lines: Sequence[Line], against: Against, looks: dict[str, tuple[str, str]]) -> str:
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # after_reset: a user's own matplotlibrc changes nothing
    with style.context({**STYLE, "svg.hashsalt": name}, after_reset=True):
        figure = Figure(figsize=(6.4, 3.8))
        longest = max(len(_label(line.row)) for line in lines)
        axes = figure.add_axes((0.085, 0.125, 0.85 - 0.013 * longest, 0.79))
        _curves(axes, lines, against, looks)
        axes.set_xlabel("epoch" if against == "epoch" else "seconds of training and validation")
        axes.set_title(f"NLL, {table.task.unit}", loc="left", fontsize=10)
        _label_ends(axes, lines, looks)
        text = io.StringIO()
        FigureCanvasSVG(figure).print_svg(text, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _tidy(name, text.getvalue(), f"Learning curves of {table.title} against {against}")


def _curves(axes: Axes, lines: Sequence[Line], against: Against, looks: dict[str, tuple[str, str]]) -> None:
    for line in lines:
        x = line.epoch if against == "epoch" else line.seconds
        colour, marker = looks[line.row.anchor]
        shape: dict[str, Any] = {"marker": marker, "markersize": 3.5, "markevery": max(1, len(x) // 12)}
        if len(x) == 1:
            shape["marker"] = marker or "o"
        if len(line.row.counted) > 1:
            axes.fill_between(x, line.low, line.high, color=colour, alpha=0.16, linewidth=0)
        axes.plot(x, line.train, color=colour, linewidth=1.1, dashes=(4, 2), alpha=0.85, **shape)
        axes.plot(x, line.valid, color=colour, linewidth=1.6, **shape)
    axes.plot([], [], color=INK, linewidth=1.6, label="validation")
    axes.plot([], [], color=INK, linewidth=1.1, dashes=(4, 2), label="training")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, borderaxespad=0, handlelength=2.2)
    axes.set_ylim(*limits(lines))
    axes.margins(x=0.02)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)


def _label_ends(axes: Axes, lines: Sequence[Line], looks: dict[str, tuple[str, str]]) -> None:
    """Names at the right, each as near to its validation curve's end as its neighbours let it."""
    bottom, top = axes.get_ylim()
    heights = []
    for line in lines:
        last = next((v for v in reversed(line.valid) if not math.isnan(v)), top)
        heights.append(min(max((last - bottom) / (top - bottom), 0.0), 1.0))
    for line, height in zip(lines, spread(heights, 0.062), strict=True):
        colour, marker = looks[line.row.anchor]
        axes.plot(
            [1.02, 1.05], [height, height], color=colour, linewidth=2, marker=marker, markersize=3.5,
            markevery=[1], transform=axes.transAxes, clip_on=False,
        )  # fmt: skip
        axes.text(1.065, height - 0.012, _label(line.row), transform=axes.transAxes, va="baseline")


def _label(row: Row) -> str:
    return row.name if len(row.name) <= LONGEST_LABEL else row.name[: LONGEST_LABEL - 1] + "…"


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights in [0, 1] moved apart until neighbours keep a gap, in the same order; ties go by position."""
    order = sorted(range(len(heights)), key=lambda i: (heights[i], -i))
    placed = list(heights)
    floor = 0.0
    for i in order:
        placed[i] = floor = max(heights[i], floor)
        floor += gap
    ceiling = max(1.0, gap * (len(heights) - 1))
    for i in reversed(order):
        placed[i] = ceiling = min(placed[i], ceiling)
        ceiling -= gap
    return placed


def _tidy(name: str, text: str, title: str) -> str:
    """Matplotlib's file as an element for a page: scalable, with ids of its own, in the page's font and colour."""
    from markupsafe import escape

    svg = text[text.index("<svg") :].rstrip()
    svg = re.sub(r'\b(id="|xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r'style="font: ([\d.]+px) [^;"]*', r'style="font-size: \1', svg)
    svg = re.sub(r' d="[^"]*"', lambda d: re.sub(r"\d+\.\d{3,}", lambda v: f"{float(v[0]):.2f}", d[0]), svg)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', _root(r"\1", escape(title)), svg, count=1)
    return "\n".join(line.rstrip() for line in svg.splitlines())


def _root(box: str, title: str) -> str:
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    title = title.replace("\\", r"\\")
    return f'<svg {spaces} viewBox="{box}" role="img"><title>{title}</title>'
