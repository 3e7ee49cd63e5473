"""Small multiples: panels of one scale, two beside each other, so that they are legible on a narrow screen.

They are lines in one pair of axes as large as the figure: axes of matplotlib's own in each panel take three times as
long, and a board of thousands of records has hundreds of panels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from seqbench.leaderboard.figures import INK, SIZE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 0.41 * 72 * SIZE[0], 0.78 * 72  # of a panel, in points
LEFT, NEXT, ROW, BELOW = 0.1 * 72 * SIZE[0], 0.47 * 72 * SIZE[0], 1.15 * 72, 0.3 * 72
MOST_TICKS = 4
EDGE = 4.0  # points between a panel's sides and the first and last value

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """What an axis spans."""

    low: float
    high: float
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high one."""
        if self.logarithmic:
            return math.log(value / self.low) / (math.log(self.high / self.low) or 1.0)
        return (value - self.low) / (self.high - self.low or 1.0)

    @property
    def ticks(self) -> list[float]:
        """Decades, or the two ends where there are not two of them; or round numbers."""
        if self.logarithmic:
            return decades(self.low, self.high)
        from matplotlib.ticker import MaxNLocator

        ticks = MaxNLocator(MOST_TICKS, steps=(1, 2, 2.5, 5, 10)).tick_values(self.low, self.high)
        return [float(tick) for tick in ticks if self.low <= tick <= self.high]


def decades(low: float, high: float) -> list[float]:
    """The powers of ten between two rates; the two themselves where there are not two of them."""
    found = [10.0**e for e in range(-12, 4) if low <= 10.0**e <= high]
    return found if len(found) > 1 else [low, high]


@dataclass(frozen=True)
class Stroke:
    """One line of a panel; `lost`: where along x a cross stands at the top."""

    x: Sequence[float]
    y: Sequence[float]
    colour: str
    width: float
    dashes: tuple[float, float] | None = None
    marker: str = ""
    lost: Sequence[float] = field(default=())


@dataclass(frozen=True)
class Panel:
    """A title and the lines below it, the hindmost first."""

    title: str
    strokes: Sequence[Stroke]


def panels(
    heading: str, shown: Sequence[Panel], x: Scale, y: Scale
) -> tuple[Callable[[Figure], None], tuple[float, float]]:
    """What draws them and a heading into a figure, and its size in inches."""
    rows = math.ceil(len(shown) / 2)
    size = SIZE[0], 0.6 + ROW * rows / 72

    def fill(figure: Figure) -> None:
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 72 * size[0]), ylim=(0, 72 * size[1]))
        axes.set_axis_off()
        axes.text(LEFT, 72 * size[1] - 12, heading, fontsize=9)
        corners = [(LEFT + NEXT * (n % 2), BELOW + ROW * (rows - 1 - n // 2)) for n in range(len(shown))]
        _frames(axes, corners, x, y)
        for panel, corner in zip(shown, corners, strict=True):
            axes.text(corner[0], corner[1] + HEIGHT + 2, panel.title, fontsize=10)
            for stroke in panel.strokes:
                _draw(axes, stroke, corner, x, y)

    return fill, size


def _frames(axes: Axes, corners: Sequence[Point], x: Scale, y: Scale) -> None:
    """Grids at the ticks of y, which have numbers; those of x where no panel is below."""
    across, up = x.ticks, y.ticks
    grid: list[list[Point]] = []
    frame: list[list[Point]] = []
    for n, (left, bottom) in enumerate(corners):
        for tick in up:
            height = bottom + HEIGHT * y.share(tick)
            grid.append([(left, height), (left + WIDTH, height)])
            axes.text(left - 4, height - 3, f"{tick:g}", ha="right", fontsize=8)
        frame.append([(left, bottom + HEIGHT), (left, bottom), (left + WIDTH, bottom)])
        for tick in across:
            place = _across(left, x, tick)
            frame.append([(place, bottom), (place, bottom - 3)])
            if n + 2 >= len(corners):
                axes.text(place, bottom - 12, f"{tick:g}", ha="center", fontsize=8)
    _pieces(axes, grid, 0.6, alpha=0.12)
    _pieces(axes, frame, 0.7)


def _pieces(axes: Axes, pieces: Sequence[Sequence[Point]], width: float, alpha: float = 1.0) -> None:
    """All as one line that is lifted between them, as matplotlib takes as long for each line."""
    points = [point for piece in pieces for point in (*piece, (math.nan, math.nan))]
    axes.plot(*zip(*points, strict=True), color=INK, alpha=alpha, linewidth=width, clip_on=False)


def _draw(axes: Axes, stroke: Stroke, corner: tuple[float, float], x: Scale, y: Scale) -> None:
    """A line, cut off where it leaves the panel."""
    from matplotlib.transforms import Bbox, TransformedBbox

    left, bottom = corner
    across = [_across(left, x, value) for value in stroke.x]
    up = [bottom + HEIGHT * y.share(value) for value in stroke.y]
    (line,) = axes.plot(across, up, color=stroke.colour, linewidth=stroke.width, marker=stroke.marker, markersize=5)
    if stroke.dashes:
        line.set_dashes(stroke.dashes)
    line.set_clip_box(TransformedBbox(Bbox.from_bounds(left, bottom, WIDTH, HEIGHT), axes.transData))
    if stroke.lost:
        places = [_across(left, x, value) for value in stroke.lost]
        axes.plot(places, [bottom + 0.98 * HEIGHT] * len(places), "x", color=stroke.colour, markersize=5)


def _across(left: float, x: Scale, value: float) -> float:
    return left + EDGE + (WIDTH - 2 * EDGE) * x.share(value)
