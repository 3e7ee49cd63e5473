"""The pictures: Levy et al.'s, hidden units by their time constants, half-lives, gates over time.

T time, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from seqbench.explain.explained import Explained
from seqbench.explain.heat import MOST, Heat, heat
from seqbench.explain.strip import strip, token_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, LEFT, RIGHT = 8.0, 0.85, 1.15  # inches: of a picture, and beside its axes
TOP, BELOW, GAP = 0.55, 0.6, 0.3
STRIP = 1.0
SAMPLES = 9  # hidden units that have a picture of their own
LAGS = 120
LONG = 200  # steps: of a longer piece little but the diagonal would be seen on a linear scale
CELLS = 100_000  # of a matrix of hidden units over time: a page of 4,000 frames stays below 5 MB
STYLE = {"font.size": 9, "text.parse_math": False, "axes.linewidth": 0.6}


@dataclass
class Picture:
    """A figure.

    Attributes:
        name: of its files.
        caption: what it shows.
        figure: matplotlib's.
        heats: what can be read out of it.
    """

    name: str
    caption: str
    figure: Figure
    heats: list[Heat] = field(default_factory=list)


def pictures(found: Explained, seconds: float | None) -> Iterator[Picture]:
    """All that there are for a unit: one without a gated memory has the first alone.

    Args: seconds: how long a step lasts; None: unknown.
    """
    from matplotlib import style

    with style.context(STYLE, after_reset=True):
        yield weights(found, seconds)
        if found.memory is not None:
            yield dimensions(found, seconds)
            yield samples(found)
            yield half_lives(found, seconds)
            if found.memory.gates:
                yield gates(found, seconds)


def weights(found: Explained, seconds: float | None) -> Picture:
    """Levy et al.'s figure: context j against time t."""
    from matplotlib.colors import LogNorm

    side, norm = WIDTH - LEFT - RIGHT, None
    most = max(float(found.norms.max()), 1e-30)
    if found.memory is None:
        what = "norm of dh_t/dh_j"
        caption = f"{what}: how far the state at a time t depends on that at an earlier one, j."
        norm = LogNorm(most * 1e-6, most, clip=True)
    else:
        what = "norm of w_j^t"
        caption = (
            "L2 norm over the hidden units of w_j^t: how strongly the memory at a time t holds what was written at j "
            "(Levy et al. 2018)."
        )
        norm = LogNorm(most * 1e-3, most, clip=True) if len(found.norms) > LONG else None
    if found.bidirectional:
        caption += " Above the diagonal what was read before, below it what the other direction has read behind."
    long = len(found.norms) > LONG and not found.bidirectional
    caption += " Below: the same by how long ago j was." * long
    sheet = _Sheet("weights", caption, [STRIP, side, *[2.2] * long], extra=0.3 * long)
    sheet.strip(found, seconds)
    axes = sheet.axes()
    drawn = sheet.heat(axes, found.norms, **_both_sides(found), what=what, norm=norm)
    sheet.scale(drawn)
    _tell_times(axes, found, "time t, steps")
    axes.set_ylabel("context j" if found.tokens else "context j, steps")
    if found.tokens:
        axes.set_yticks(*token_ticks(found.tokens), fontsize=8)
    if long:
        _by_lag(sheet, found, what, norm)
    return sheet.picture


def _by_lag(sheet: _Sheet, found: Explained, what: str, norm: Any) -> None:
    """Of a long piece the diagonal's neighbourhood, where most happens, on a logarithmic scale of t - j."""
    lags, places, labels = _lags(len(found.norms))
    ago = np.full((len(lags), len(found.norms)), np.nan)
    for row, lag in zip(ago, lags, strict=True):
        row[lag:] = np.diagonal(found.norms, lag)
    axes, names = sheet.axes(), [f"{lag} steps ago" for lag in lags]
    sheet.scale(sheet.heat(axes, ago, rows=("", names), columns=("time", found.times), what=what, norm=norm))
    axes.set_yticks(places, labels)
    _tell_times(axes, found, "time t, steps")
    axes.set_ylabel("t - j, steps")


def _lags(T: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Steps from 0 to T - 1, ever further apart; and places and labels of ticks among them."""
    lags = np.geomspace(1, T, LAGS).round().astype(int) - 1
    ticks = [lag for lag in (0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000) if lag < T]
    places = np.log(np.array(ticks) + 1) / max(np.log(T), 1e-9) * (LAGS - 1)
    return lags, places, [str(lag) for lag in ticks]


def dimensions(found: Explained, seconds: float | None) -> Picture:
    """Each hidden unit over time, the quickest to forget at the top."""
    assert found.held is not None
    from matplotlib.colors import LogNorm, Normalize

    H = len(found.order)
    height = min(max(0.045 * H, 1.6), 5)
    caption = (
        "Hidden units by their half-lives, the shortest at the top. Above: how old, on average by |w_j^t|, what each "
        "holds is at each time. Below: the share of what it wrote that is left some steps later, over all contexts."
    )
    sheet = _Sheet("dimensions", caption, [STRIP, height, height], extra=0.35)
    sheet.strip(found, seconds)
    axes, units = sheet.axes(), found.units
    ages = found.held.ages.T[found.order]
    drawn = sheet.heat(
        axes, ages, rows=("unit", units), columns=("time", found.times), what="mean age, steps", most=_most(H),
        norm=LogNorm(0.1, max(float(ages.max()), 1), clip=True),
    )  # fmt: skip
    sheet.scale(drawn)
    _tell_times(axes, found, "time, steps")
    axes.set_ylabel("hidden units")
    axes.set_yticks([])
    axes, (lags, places, labels) = sheet.axes(), _lags(len(found.held.remaining))
    left = found.held.remaining.T[found.order][:, lags]
    drawn = sheet.heat(
        axes, left, rows=("unit", units), columns=("after", [f"{lag} steps" for lag in lags]), what="share left",
        norm=Normalize(0, 1, clip=True),
    )  # fmt: skip
    sheet.scale(drawn)
    axes.set_xticks(places, labels)
    axes.set_xlabel("steps later")
    axes.set_ylabel("hidden units")
    axes.set_yticks([])
    return sheet.picture


def samples(found: Explained) -> Picture:
    """Levy et al.'s figure of single hidden units."""
    assert found.memory is not None
    assert found.held is not None
    from matplotlib.colors import Normalize

    chosen = found.order[np.linspace(0, len(found.order) - 1, min(SAMPLES, len(found.order))).round().astype(int)]
    caption = (
        f"|w_j^t| of {len(chosen)} single hidden units, evenly spread in the order of half-lives, each on a scale of "
        "its own up to its largest."
    )
    side, rows = 2.0, -(-len(chosen) // 3)
    sheet = _Sheet("units", caption, [side] * rows, extra=0.3)
    for n, unit in enumerate(chosen):
        axes = sheet.axes(left=LEFT + (n % 3) * (side + 0.35), width=side, down=n % 3 == 0)
        values = np.abs(found.memory.weights(int(unit)))
        what = f"w_j^t of unit {found.name(unit)}"
        sheet.heat(
            axes, values, **_both_sides(found), what=what, most=160,
            norm=Normalize(0, float(values.max()) or 1),
        )  # fmt: skip
        axes.set_title(f"unit {found.name(unit)}: {_steps(found.held.half_lives[unit])}", fontsize=8, pad=3)
        axes.tick_params(labelsize=7, labelleft=n % 3 == 0)
        if found.tokens:
            axes.set_xticks([])
            axes.set_yticks([])
    return sheet.picture


def half_lives(found: Explained, seconds: float | None) -> Picture:
    """How many hidden units forget how fast."""
    assert found.held is not None
    lives = found.held.half_lives[~np.isnan(found.held.half_lives)]
    finite = np.maximum(lives[np.isfinite(lives)], 0.05)
    low, high = (
        (np.floor(2 * np.log2(finite.min())), np.ceil(2 * np.log2(finite.max()) + 1e-9)) if len(finite) else (0, 2)
    )
    edges = 2 ** (np.arange(low, max(high, low + 1) + 1) / 2)
    counts, _ = np.histogram(finite, edges)
    beyond = len(lives) - len(finite)
    caption = (
        "Half-lives: after how many steps half of what a hidden unit wrote is gone, on average over the sequence; "
        f"{beyond} of {len(lives)} units keep more than half to its end."
    )
    sheet = _Sheet("half_lives", caption, [2.6], extra=0.3)
    axes = sheet.axes()
    axes.set_xscale("log", base=2)
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color="#3b6ea5", edgecolor="white", linewidth=0.6)
    if beyond:
        axes.bar(edges[-1] * 2**0.5, beyond, edges[-1] * (2 - 2**0.5), align="edge", color="#b8b8b8")
        axes.text(edges[-1] * 2**0.75, beyond, "never", ha="center", va="bottom", fontsize=8)
    axes.margins(x=0.02, y=0.12)
    axes.set_xlabel("half-life, steps")
    axes.set_ylabel("hidden units")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _tell_seconds(axes, seconds, "half-life, seconds")
    return sheet.picture


def gates(found: Explained, seconds: float | None) -> Picture:
    """Each gate of each hidden unit over time."""
    assert found.memory is not None
    known = found.memory.gates
    caption = (
        "Gates over time, hidden units by their half-lives, the shortest at the top. keep: what of the memory stays; "
        "write: how much of the content comes in; read: what the state shows of the memory; reset: what the content "
        "sees of the last state."
    )
    height = min(max(0.03 * len(found.order), 1.2), 3)
    sheet = _Sheet("gates", caption, [STRIP, *[height] * len(known)])
    sheet.strip(found, seconds)
    units = found.units
    for name, gate in known.items():
        axes = sheet.axes()
        drawn = sheet.heat(
            axes,
            gate.T[found.order],
            rows=("unit", units),
            columns=("time", found.times),
            what=name,
            most=_most(len(units)),
        )
        drawn.image.set_clim(0, max(1, gate.max()))
        sheet.scale(drawn)
        _tell_times(axes, found, "")
        axes.set_ylabel("hidden units")
        axes.set_yticks([])
    _tell_times(axes, found, "time, steps")
    return sheet.picture


class _Sheet:
    """A figure whose axes are put below each other, all equally wide: so times stand below times."""

    def __init__(self, name: str, caption: str, heights: list[float], extra: float = 0.0) -> None:
        """Args: heights: of the axes, inches; extra: more room between them."""
        from matplotlib.figure import Figure

        self.gap, self.heights = GAP + extra, heights
        self.height = TOP + sum(heights) + self.gap * (len(heights) - 1) + BELOW
        self.picture = Picture(name, caption, Figure(figsize=(WIDTH, self.height)))
        self.row, self.place = -1, TOP - self.gap

    def axes(self, left: float = LEFT, width: float = WIDTH - LEFT - RIGHT, down: bool = True) -> Axes:
        """The next axes, below the last ones or beside them."""
        if down:
            self.place += self.gap + (self.heights[self.row] if self.row >= 0 else 0)
            self.row += 1
        height = self.heights[self.row]
        bottom = self.height - self.place - height
        box = left / WIDTH, bottom / self.height, width / WIDTH, height / self.height
        return self.picture.figure.add_axes(box)

    def strip(self, found: Explained, seconds: float | None) -> None:
        """The sequence itself, with its seconds above."""
        axes = self.axes()
        drawn = strip(axes, found)
        if drawn is not None:
            self.picture.heats.append(drawn)
        axes.tick_params(labelbottom=False)
        _tell_seconds(axes, seconds, "seconds")

    def heat(self, axes: Axes, values: np.ndarray, **options: Any) -> Heat:
        """As `heat.heat`, and can be read out."""
        drawn = heat(axes, values, **options)
        self.picture.heats.append(drawn)
        return drawn

    def scale(self, drawn: Heat) -> None:
        """The colours' scale, at the right."""
        from matplotlib.ticker import NullFormatter

        box = drawn.axes.get_position()
        beside = self.picture.figure.add_axes((box.x1 + 0.15 / WIDTH, box.y0, 0.14 / WIDTH, box.height))
        bar = self.picture.figure.colorbar(drawn.image, cax=beside, format=lambda value, _: f"{value:g}")
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        bar.set_label(drawn.what)


def _most(H: int) -> int:
    """Blocks of a matrix of H hidden units over time: all units, and as many times as CELLS allow."""
    return min(MOST, max(H, CELLS // H))


def three_digits(value: float) -> str:
    """Or more, where there are more before the point."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def _both_sides(found: Explained) -> dict[str, Any]:
    """What rows and columns of a picture of context and time are, for `heat`."""
    return {
        "rows": ("context", found.times),
        "columns": ("time", found.times),
        "triangle": not found.bidirectional,
    }


def _tell_times(axes: Axes, found: Explained, label: str) -> None:
    """Below the axes; tokens stand above."""
    if found.tokens:
        axes.set_xticks([])
    axes.set_xlabel(label.removesuffix(", steps") if found.tokens else label)


def _tell_seconds(axes: Axes, seconds: float | None, label: str) -> None:
    """A second scale above the axes, where it is known how long a step lasts."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if seconds is None:
        return
    both: Any = (lambda v: v * seconds, lambda v: v / seconds)
    above = axes.secondary_xaxis("top", functions=both)
    above.set_xlabel(label)
    if axes.get_xscale() == "log":
        above.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    above.xaxis.set_major_formatter(lambda value, _: three_digits(value))
    above.xaxis.set_minor_formatter(NullFormatter())


def _steps(half_life: float) -> str:
    return "never half gone" if np.isinf(half_life) else f"half-life {three_digits(half_life)} steps"
