"""Pictures of `seqbench importance`: marginal curves, and a map of rate and size (Greff et al. 2015, figures 3, 4)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from seqbench.search.importance import NAMES, RANGES, RATE, SIZE, Importance
from seqbench.task import SeqbenchError


def draw(found: list[Importance], path: Path) -> None:
    """A line of panels a data set and unit: a curve of each hyper-parameter, and the map; as SVG.

    Raises:
        SeqbenchError: the file cannot be written.
    """
    figure = Figure(figsize=(3 * (len(NAMES) + 1), 2.6 * len(found)), layout="constrained")
    FigureCanvasSVG(figure)
    panels = figure.subplots(len(found), len(NAMES) + 1, squeeze=False)
    for line, one in zip(panels, found, strict=True):
        for panel, name, bounds in zip(line, NAMES, RANGES, strict=False):
            panel.plot(_places(bounds, len(one.curves[name])), one.curves[name])
            panel.set(xlabel=name, xscale="log" if bounds[0] > 0 else "linear")
        line[0].set_ylabel(f"{one.unit} on {one.task}\nvalidation NLL")
        sizes, rates = (_places(RANGES[d], len(one.map)) for d in (SIZE, RATE))
        mesh = line[-1].pcolormesh(rates, sizes, np.array(one.map), shading="nearest")
        line[-1].set(xlabel=NAMES[RATE], ylabel=NAMES[SIZE], xscale="log", yscale="log")
        figure.colorbar(mesh, ax=line[-1], label="validation NLL")
    try:
        figure.savefig(path, format="svg", metadata={"Date": None})
    except OSError as error:
        raise SeqbenchError(f"Cannot write {path} ({error.strerror}): give another --into") from error


def _places(bounds: tuple[float, float], points: int) -> np.ndarray:
    """The middles of equal steps between the bounds, logarithmic where they are positive."""
    share = (np.arange(points) + 0.5) / points
    low, high = bounds
    return low * (high / low) ** share if low > 0 else low + (high - low) * share
