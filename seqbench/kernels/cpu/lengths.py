"""Pieces of work, of unequal length too, on a CPU: each runs as many steps as its own longest sequence has.

T time, R replicas, B batch.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor


class Pieces(NamedTuple):
    """Of the work on [T, R, B, ...], cut in time: int64 [pieces] each, a replica's in order of time."""

    replica: Any
    first: Any  # step
    steps: Any

    @property
    def most(self) -> int:
        """Steps of the longest."""
        return int(self.steps.max())


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


@functools.lru_cache(512)  # sequences of a few hundred lengths come again every epoch
def cut_in_time(ends: tuple[int, ...], B: int, rows: int) -> Pieces:
    """Pieces of about so many rows, of each replica one at least, if an empty one.

    Args: ends: [R], the steps of each replica.
    """
    most, R = max(1, rows // B), len(ends)
    counts = np.maximum(1, -(-np.array(ends) // most))
    replica = np.repeat(np.arange(R), counts)
    first = (np.arange(len(replica)) - np.repeat(counts.cumsum() - counts, counts)) * most
    return Pieces(replica, first, np.minimum(most, np.array(ends)[replica] - first))


def summed(replica: Any, parts: Tensor) -> Tensor:
    """[pieces, ...] as [R, ...]: each replica's pieces, one at least, added up in order, whatever thread they are from.

    Args: replica: int64 [pieces], whose each is, ascending.
    """
    counts = np.bincount(replica)
    if len(counts) == len(parts):
        return parts
    first = counts.cumsum() - counts
    total = parts[first]
    for k in range(1, counts.max()):
        more = np.flatnonzero(counts > k)
        total[more] += parts[first[more] + k]
    return total
