"""Pictures of `seqbench importance`: marginal curves, and a map of rate and size (Greff et al. 2015, figures 3, 4)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from seqbench.search.importance import NAMES, RANGES, RATE, SIZE, Importance
from seqbench.task import SeqbenchError

if TYPE_CHECKING:
    from matplotlib.axis import Axis

SIZES = (20, 50, 100, 200)  # that stand at an axis


def draw(found: list[Importance], path: Path) -> None:
    """A line of panels a data set and unit: a curve of each hyper-parameter, and the map; as SVG.

    The curves of a line share an axis, so that what explains little is flat; above each stands what it explains.

    Raises:
        SeqbenchError: the file cannot be written.
    """
    figure = Figure(figsize=(3 * (len(NAMES) + 1), 2.6 * len(found)), layout="constrained")
    FigureCanvasSVG(figure)
    panels = figure.subplots(len(found), len(NAMES) + 1, squeeze=False)
    for line, one in zip(panels, found, strict=True):
        explained = {effect.of: effect.share for effect in one.effects}
        for panel, name, bounds in zip(line, NAMES, RANGES, strict=False):
            panel.plot(_places(bounds, len(one.curves[name])), one.curves[name])
            panel.set(xlabel=name, xscale="log" if bounds[0] > 0 else "linear")
            panel.set_title(f"{explained[name]:.1f}% of the variance", fontsize=10, loc="left")
            panel.sharey(line[0])
            panel.grid(alpha=0.25)
        line[0].set_ylabel(f"{one.unit} on {one.task}\nvalidation NLL")
        _in_whole_numbers(line[SIZE].xaxis)
        sizes, rates = (_places(RANGES[d], len(one.map)) for d in (SIZE, RATE))
        # as an image: a thousand cells as paths are a large file, with seams
        mesh = line[-1].pcolormesh(rates, sizes, np.array(one.map), shading="nearest", rasterized=True)
        line[-1].set(xlabel=NAMES[RATE], ylabel=NAMES[SIZE], xscale="log", yscale="log")
        _in_whole_numbers(line[-1].yaxis)
        both = explained[f"{NAMES[SIZE]} x {NAMES[RATE]}"]
        line[-1].set_title(f"{both:.1f}% beyond the two", fontsize=10, loc="left")
        figure.colorbar(mesh, ax=line[-1], label="validation NLL")
    try:
        figure.savefig(path, format="svg", metadata={"Date": None})
    except OSError as error:
        raise SeqbenchError(f"Cannot write {path} ({error.strerror}): give another --into") from error


def _in_whole_numbers(axis: Axis) -> None:
    axis.set_major_locator(FixedLocator(SIZES))
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_locator(NullLocator())


def _places(bounds: tuple[float, float], points: int) -> np.ndarray:
    """The middles of equal steps between the bounds, logarithmic where they are positive."""
    share = (np.arange(points) + 0.5) / points
    low, high = bounds
    return low * (high / low) ** share if low > 0 else low + (high - low) * share
