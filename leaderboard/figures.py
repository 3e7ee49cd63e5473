"""Figures as SVG: what stands in drawings.py, in the style and form of the page.

A figure is a pure function of the board: no date, no random id, no font of this machine in it. Its text and axes are
drawn in `currentColor`, so that it follows a page that turns dark; `standalone` adds what a file of its own needs. What
belongs to a unit is in groups with the attribute `data-unit`, and the root says where the axes lie and what they span
(`data-box`, `data-x`, `data-y`, `data-scale`): from these the page's script shows, hides and reads.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from seqbench.leaderboard import lags
from seqbench.leaderboard.rows import Board, Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AGAINST = {  # what a figure is called by -> its x axis
    "lags": "lag, in steps",
    "forest": "differences to a baseline, with their intervals",
    "epoch": "epoch",
    "seconds": "seconds of training and validation",
    "rate": "learning rate",
    "cost": "seconds until validation NLL is within 1% of its best",
    "size": "parameters, output layer included",
}
READ = ("epoch", "seconds", "rate")  # by the page's script
# Okabe and Ito (2008), told apart by colour-blind readers; without their yellow and black, which vanish on paper or
# on a dark page
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("", "s", "^", "D", "v", "P")  # from the seventh unit on, colours come again with a marker
LONGEST_LABEL = 22  # characters
SIZE = (5.0, 3.3)  # inches of 72 points: 360, so that its text is legible on a screen of 400 pixels
POINT = re.compile(r"([ML]) (-?[\d.]+) (-?[\d.]+)")  # of a path
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
    "axes.titley": 1.0,  # else matplotlib lays all ticks out a second time, to look for one above the title
    "axes.unicode_minus": False,
}
STANDALONE = (
    "<style>svg{color:#1b1b19;font-family:system-ui,sans-serif}.ground{fill:#fdfdfb}"
    "@media(prefers-color-scheme:dark){svg{color:#dddcd6}.ground{fill:#171716}}</style>"
    '<rect class="ground" width="100%" height="100%"/>'
)

Looks = dict[str, tuple[str, str]]


def draw(board: Board) -> dict[str, str]:
    """Figure name -> `<svg>` element, e.g. "jsb-epoch". A table without a run that counts has none, one where a single
    rate was tried has none against the rate, and one without two complete units no forest plot. Of tasks that can be
    solved there is one for all lags, beside the table of the shortest.
    """
    from seqbench.leaderboard.bar import with_progress
    from seqbench.leaderboard.drawings import drawings

    colours = looks(board)
    figures = {f"{family[0].slug}-lags": lags.draw(family, colours) for family in lags.families(board)}
    for table in with_progress([table for table in board.tables if not table.task.solved], "drawing"):
        for kind, draw_one in drawings(table, colours).items():
            figures[f"{table.slug}-{kind}"] = draw_one()
    return figures


def looks(board: Board) -> Looks:
    """Anchor of a row -> colour and marker: a unit's best row looks the same in all figures, then come the others.

    Units of many tables come first, so that those which are held against each other most differ in colour.
    """
    tables = Counter(unit for table in board.tables for unit in {row.unit for row in table.units})
    best = {row.anchor for table in board.tables for row in {r.unit: r for r in reversed(table.units)}.values()}
    others = sorted({row.name for table in board.tables for row in table.units if row.anchor not in best})
    order = {unit: i for i, unit in enumerate(sorted(tables, key=lambda unit: (-tables[unit], unit)))}
    after = {name: len(order) + i for i, name in enumerate(others)}
    cycle = len(COLOURS)
    found = {}
    for table in board.tables:
        for row in table.units:
            i = order[row.unit] if row.anchor in best else after[row.name]
            found[row.anchor] = COLOURS[i % cycle], MARKERS[i // cycle % len(MARKERS)]
    return found


def standalone(svg: str) -> str:
    """The figure as a file: with colours for light and dark, and a font."""
    head, mark, rest = svg.partition(">")
    return f"{head}{mark}{STANDALONE}{rest}\n"


def one_plot(
    table: Table, rows: Sequence[Row], kind: str, title: str, plot: Callable[[Axes], Sequence[float]], looks: Looks
) -> str:
    """One pair of axes with names at the right; `plot` draws and tells at which NLL each row's name belongs."""
    longest = max(len(label(row)) for row in rows)

    def fill(figure: Figure) -> Axes:
        axes = figure.add_axes((0.115, 0.155, 0.8 - 0.0165 * longest, 0.75))
        ends = plot(axes)
        axes.margins(x=0.02)
        axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
        axes.set_xlabel(AGAINST[kind])
        what = {"rate": "validation NLL", "epoch": "NLL", "seconds": "NLL"}.get(kind, "test NLL")
        told = "runs that solved it, %; lines are moved apart" if kind == "lags" else f"{what}, {table.task.unit}"
        axes.set_title(told, loc="left", fontsize=10)
        _label_ends(axes, rows, ends, looks)
        return axes

    return drawn(table, rows, kind, title, fill, SIZE)


def drawn(
    table: Table,
    rows: Sequence[Row],
    kind: str,
    title: str,
    fill: Callable[[Figure], Axes | None],
    size: tuple[float, float],
) -> str:
    """A figure of any form; axes that `fill` returns can be read by the page's script."""
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    name = f"{table.slug}-{kind}"
    # after_reset: a user's own matplotlibrc changes nothing
    with style.context({**STYLE, "svg.hashsalt": name}, after_reset=True):
        figure = Figure(figsize=size)
        axes = fill(figure)
        text = io.StringIO()
        FigureCanvasSVG(figure).print_svg(text, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
        place = {"data-figure": name} | _place(figure, axes) if axes is not None and kind in READ else {}
    return _tidy(name, text.getvalue(), title, place, [row.name for row in rows])


def _place(figure: Figure, axes: Axes) -> dict[str, str]:
    """Where the axes lie in the drawing, in points from the top left, and what they span."""
    width, height = (72 * inches for inches in figure.get_size_inches())
    box = axes.get_position()
    corners = (box.x0 * width, (1 - box.y1) * height, box.width * width, box.height * height)

    def told(values: Sequence[float]) -> str:
        return " ".join(f"{value:.6g}" for value in values)

    return {
        "data-box": told(corners),
        "data-x": told(axes.get_xlim()),
        "data-y": told(axes.get_ylim()),
        "data-scale": axes.get_xscale(),
    }


def _label_ends(axes: Axes, rows: Sequence[Row], ends: Sequence[float], looks: Looks) -> None:
    """Names at the right, each as near to its curve's end as its neighbours let it."""
    bottom, top = axes.get_ylim()
    heights = [min(max((end - bottom) / (top - bottom), 0.0), 1.0) for end in ends]
    for n, (row, height) in enumerate(zip(rows, spread(heights, 0.075), strict=True)):
        colour, marker = looks[row.anchor]
        axes.plot(
            [1.02, 1.05], [height, height], color=colour, linewidth=2, marker=marker, markersize=3.5,
            markevery=[1], transform=axes.transAxes, clip_on=False, gid=f"name{n}",
        )  # fmt: skip
        axes.text(1.065, height - 0.012, label(row), transform=axes.transAxes, va="baseline", gid=f"name{n}")


def label(row: Row) -> str:
    """Its name, as far as there is room for it."""
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


def _tidy(name: str, text: str, title: str, place: dict[str, str], units: Sequence[str]) -> str:
    """Matplotlib's file as an element for a page: scalable, with ids of its own, in the page's font and colour."""
    from markupsafe import escape

    def group(match: re.Match[str]) -> str:
        return f'<g class="{match[1]}" data-unit="{escape(units[int(match[2])])}">'

    def root(match: re.Match[str]) -> str:
        told = "".join(f' {key}="{value}"' for key, value in place.items())
        space = "http://www.w3.org/2000/svg"
        return f'<svg xmlns="{space}" viewBox="{match[1]}" role="img"{told}><title>{escape(title)}</title>'

    svg = text[text.index("<svg") :].rstrip()
    svg = re.sub(r'<g id="(unit|name)(\d+)">', group, svg)
    svg = _own_ids(name, svg).replace(INK, "currentColor")
    svg = re.sub(r'; font-family: [^;"]*', "", svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", svg)
    svg = re.sub(r'<path [^>]*style="fill: none"/>', "", svg)  # the ground of a figure and of its axes
    svg = re.sub(r' (?:d|x|y)="[^"]*"', lambda d: re.sub(r"\d+\.\d{3,}", lambda v: f"{float(v[0]):.1f}", d[0]), svg)
    svg = re.sub(rf'(?<= d=")(?:{POINT.pattern}\s*){{2,}}', lambda d: _steps(d[0]), svg)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', root, svg, count=1)
    return "\n".join(line.strip() for line in _classes(_flat(svg)).splitlines() if line.strip())


def _flat(svg: str) -> str:
    """Groups that say nothing go, and what is in them stays."""
    told: list[bool] = []

    def group(match: re.Match[str]) -> str:
        if match[0] != "</g>":
            told.append(match[0] != "<g>")
            return match[0] if told[-1] else ""
        return match[0] if told.pop() else ""

    return re.sub(r"</?g\b[^>]*>", group, svg.replace("<g/>", ""))


def _classes(svg: str) -> str:
    """A style that several elements have becomes a class of theirs: a third less of a page. A page's styles are shared
    by all its figures, so that a class is called by what it says.
    """
    count = Counter(re.findall(r' style="([^"]*)"', svg))
    names = {style: "s" + _digest(style) for style, n in count.items() if n > 1}
    rules = "".join(f".{name}{{{re.sub(': |; ', lambda m: m[0][0], style)}}}" for style, name in names.items())
    svg = re.sub(r' style="([^"]*)"', lambda m: f' class="{names[m[1]]}"' if m[1] in names else m[0], svg)
    return svg.replace("</style>", f"{rules}</style>", 1)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:7]


def _steps(lines: str) -> str:
    """A polyline, "M 10.0 20.0 L 10.5 19.0 ...", each point told from the one before it: half as long."""
    told, last, at = "", "", (0, 0)
    for kind, *place in POINT.findall(lines):
        x, y = (round(10 * float(value)) for value in place)
        letter = kind if not told else "m" if kind == "M" else "l" if last == "M" else " "
        told += f"{letter}{_tenths(x - at[0])} {_tenths(y - at[1])}"
        last, at = letter, (x, y)
    return told.replace(" -", "-")


def _tenths(value: int) -> str:
    return "0" if value == 0 else re.sub(r"(?<!\d)0(?=\.)|\.0$", "", f"{value / 10:.1f}")


def _own_ids(name: str, svg: str) -> str:
    """Ids that no other figure of the page has, and only those that something in the figure refers to."""
    prefix = "f" + _digest(name)
    used = dict.fromkeys(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', svg))
    short = {old: f"{prefix}{n}" for n, old in enumerate(used)}
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{short[m[1]]}"' if m[1] in short else "", svg)
    return re.sub(r'(?:xlink:)?(href="#|url\(#)([^")]+)', lambda m: m[1] + short[m[2]], svg)
