"""Pieces of work, of unequal length too, on a CPU: each runs as many steps as its own longest sequence has.

T time, R replicas, B batch.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Pieces(NamedTuple):
    """Of work on [T, R, B, ...], cut in time: a replica's after each other, in order of time.

    Attributes:
        replica, first, steps: int64 [pieces] each, whose it is, its first step and the number of them.
        counts: [R], how many pieces each replica has.
    """

    replica: Any
    first: Any
    steps: Any
    counts: tuple[int, ...]


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
    steps = np.minimum(most, np.array(ends)[replica] - first)
    return Pieces(replica, first, steps, tuple(counts.tolist()))


def summed(counts: tuple[int, ...], parts: Tensor) -> Tensor:
    """[pieces, ...] as [R, ...]: each replica's pieces added up in order, whatever thread they are from.

    Args: counts: [R], how many pieces each replica has, one at least.
    """
    if len(counts) == len(parts):
        return parts
    if len(set(counts)) > 1:
        shares = zip(counts, parts.split(counts), strict=True)
        return torch.cat([summed((count,), share) for count, share in shares])
    first, second, *others = parts.view(len(counts), -1, *parts.shape[1:]).unbind(1)
    total = first + second
    for other in others:
        total += other
    return total
