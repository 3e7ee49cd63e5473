"""Pieces of work of unequal length, on a CPU: each runs as many steps as its own longest sequence has.

T time, R replicas, B batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor


def piece_ends(steps: Tensor | None, T: int, R: int, B: int, height: int) -> Any:
    """How many steps each tile of `height` sequences runs.

    Args:
        steps: [R or 1, B] int64 on the CPU, each sequence's; or None.

    Returns:
        int64 [R * tiles of a replica], in order; None where all run T.
    """
    if steps is None:
        return None
    if steps.shape not in ((R, B), (1, B)):
        raise ValueError(f"steps of {R} replicas and {B} sequences have the shape {tuple(steps.shape)}")
    # A few numbers of Python's: numpy takes ten times as long, a share of a short batch that is to be seen.
    longest = [max(row[b : b + height]) for row in steps.tolist() for b in range(0, B, height)]
    if min(longest) >= T:
        return None
    return np.resize(np.array(longest).clip(0, T), R * -(-B // height))


def longest_first(ends: Any, backward: bool = False) -> Any:
    """Pieces in the order in which threads take them: a long one that begins last would keep all waiting.

    Those of about equal length stay in their order, and backward in the opposite one: what was written last is still in
    a cache.
    """
    pieces = np.arange(len(ends))[:: -1 if backward else 1]
    halves = np.rint(2 * ends / max(1, ends.max()))
    return pieces[np.argsort(-halves[pieces], kind="stable")]


def clear_behind(ends: Any, out: Tensor | None) -> None:
    """Zeros in out [T, ...] from the first step on that not all pieces run; they write theirs afterwards.

    Each piece's own rest lies in shreds, which takes several times as long.
    """
    if ends is not None and out is not None:
        out[int(ends.min()) :].zero_()


def cut_in_time(ends: Any, B: int, rows: int) -> tuple[Any, Any, Any]:
    """As `dense.in_pieces`, where replicas have unequally many steps; each has a piece, if an empty one.

    Args:
        ends: int64 [R], the steps of each replica.
    """
    most = max(1, rows // B)
    counts = np.maximum(1, -(-ends // most))
    replica = np.repeat(np.arange(len(ends)), counts)
    first = (np.arange(len(replica)) - np.repeat(counts.cumsum() - counts, counts)) * most
    return replica, first, np.minimum(most, ends[replica] - first)


def summed_by(replica: Any, parts: Tensor) -> Tensor:
    """[pieces, ...] as [R, ...]: as `dense.summed`, for replicas that have unequally many pieces, one at least."""
    counts = np.bincount(replica)
    first = counts.cumsum() - counts
    total = parts[first]
    for k in range(1, counts.max()):
        more = np.flatnonzero(counts > k)
        total[more] += parts[first[more] + k]
    return total
