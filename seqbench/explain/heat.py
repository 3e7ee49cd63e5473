"""A matrix as a picture with axes, in vectors or as an image by its size, and what a page reads out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 640  # cells along a side: a page of 4,000 frames stays below 5 MB
IN_VECTORS = 600  # cells: beyond it an image is smaller


@dataclass(frozen=True)
class Heat:
    """What was drawn, for reading it out.

    Attributes:
        axes: where.
        values: [rows, columns] as drawn, the first row at the top; masked where there is nothing.
        rows: a text for each row.
        columns: a text for each column.
        what: the values are.
        image: as matplotlib has it, for a scale beside it.
    """

    axes: Axes
    values: np.ma.MaskedArray
    rows: list[str]
    columns: list[str]
    what: str
    image: Any


def heat(
    axes: Axes,
    values: np.ndarray,
    *,
    rows: tuple[str, int | Sequence[str]],
    columns: tuple[str, int | Sequence[str]],
    what: str,
    most: int = MOST,
    up: bool = False,
    triangle: bool = False,
    colours: str = "magma_r",
    norm: Any = None,
) -> Heat:
    """Draws a matrix; a long one in blocks, each as its largest value.

    Args:
        axes: their limits become those of the matrix, cell n around n, or around n and the first.
        values: [rows, columns], NaN where there is nothing.
        rows: what a row is, and the number of the first or a text for each.
        columns: likewise.
        what: the values are.
        most: blocks along a side.
        up: whether the first row is at the bottom.
        triangle: whether there is nothing below the diagonal.
        colours: matplotlib's name for them.
        norm: matplotlib's, from values to colours; by default from 0 to the largest.
    """
    from matplotlib.colors import Normalize

    edges = [np.linspace(0, n, min(n, most) + 1).round().astype(int) for n in values.shape]
    blocks: Any = np.ma.masked_invalid(_largest(values, edges))
    if triangle:
        blocks = np.ma.masked_where(edges[1][1:] <= edges[0][:-1, None], blocks)
    norm = norm or Normalize(0, float(blocks.max()) or 1)
    (R, C), (first, left) = values.shape, (start if isinstance(start, int) else 0 for _, start in (rows, columns))
    bottom, top = (first - 0.5, first + R - 0.5) if up else (first + R - 0.5, first - 0.5)
    if blocks.size <= IN_VECTORS:
        x, y = left + edges[1] - 0.5, first + edges[0] - 0.5
        image: Any = axes.pcolormesh(x, y, blocks, cmap=colours, norm=norm, linewidth=0, snap=True)
        axes.set_xlim(left - 0.5, left + C - 0.5)
        axes.set_ylim(bottom, top)
    else:
        extent = (left - 0.5, left + C - 0.5, bottom, top)
        image = axes.imshow(
            blocks[::-1] if up else blocks, cmap=colours, norm=norm, extent=extent, aspect="auto", interpolation="none"
        )
    names, times = _names(*rows, edges[0]), _names(*columns, edges[1])
    return Heat(axes, blocks[::-1] if up else blocks, names[::-1] if up else names, times, what, image)


def _largest(values: np.ndarray, edges: list[np.ndarray]) -> np.ndarray:
    """By block; NaN where a block is nothing else."""
    for axis, places in enumerate(edges):
        values = np.fmax.reduceat(values, places[:-1], axis=axis)
    return values


def _names(kind: str, start: int | Sequence[str], edges: np.ndarray) -> list[str]:
    """A text for each block: "time 4", "time 4–7"."""
    if not isinstance(start, int):
        return [f"{kind} {start[n]}".strip() for n in edges[:-1]]
    spans = zip(edges[:-1] + start, edges[1:] + start - 1, strict=True)
    return [f"{kind} {low}" if low == high else f"{kind} {low}–{high}" for low, high in spans]
