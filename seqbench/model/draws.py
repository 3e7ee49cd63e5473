"""Draws as a function of (seed, purpose, step, place), alike on all devices but for rounding: normal numbers for weight
noise, what dropout keeps, and uniform numbers for samples.

Normal numbers.

For place i of a row's first half, two words of 32 bits are hashed from i and the two words that the seed, purpose and
step are hashed to; Box and Muller 1958 make two normal numbers of them, for place i and for place i of the second half:

    u = (a >> 8 + 1/2) / 2^24    t = 2 pi (b / 2^32 - 1/8)    z = sqrt(-2 ln u) cos t,  sqrt(-2 ln u) sin t

There is no state to keep in a checkpoint, a row does not depend on the rows beside it, and no device waits for a host's
generator.  On a CPU a compiled loop does it (kernels/cpu/loops.py), nine times as fast as torch's own `normal_`.
A uniform number is (a + 1/2) / 2^32 of the same words.

What dropout keeps: for place i one word a is hashed in the same way, and i is kept where a < (1 - p) 2^32.

R replicas, P parameters.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from seqbench.kernels.cpu import cache
from seqbench.task import draw_words

WORD = 0xFFFFFFFF


def fill_normal(rows: Tensor, count: int, seeds: list[int], purpose: str, step: int, compiled: bool) -> None:
    """Fills the first `count` columns of rows [R, P] float32 with N(0, 1), each row from its own seed.

    compiled: by code compiled for the CPU, as `Recurrence.compiled` has it; else in torch.
    """
    words = [draw_words(seed, purpose, step) for seed in seeds]
    if compiled:
        cache.own_module("loops").normal(rows.numpy(), count, np.array(words, np.uint32))
    else:
        rows[:, :count] = normal(count, words, rows.device)


def noisy(x: Tensor, sd: float, lengths: list[int], seeds: list[int], step: int, compiled: bool) -> Tensor:
    """x [T, R, B, I] with N(0, sd^2) added to each replica's first steps, so many of each: to those after them nothing.

    A replica's draws follow from its seed and its own length, whatever is beside it.
    """
    drawn = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
    for k, (length, seed) in enumerate(zip(lengths, seeds, strict=True)):
        row = torch.empty(1, length * x[0, 0].numel(), dtype=torch.float32, device=x.device)
        fill_normal(row, row.shape[1], [seed], "input noise", step, compiled)
        drawn[:length, k] = row.view(length, *x.shape[2:])
    return torch.add(x, drawn, alpha=sd)


def normal(count: int, words: list[tuple[int, int]], device: torch.device | None = None) -> Tensor:
    """[R, count] float32, by the equations above, from two words of 32 bits for each replica."""
    half = (count + 1) // 2
    place = 2 * torch.arange(half, device=device)
    a, b = (_hashed(place + part, words) for part in (0, 1))  # [R, half]
    u = (a >> 8).float() * 2.0**-24 + 2.0**-25  # in float32 as the compiled loop's: near 1 it shows
    radius = torch.sqrt(-2 * torch.log(u.double()))
    angle = 2 * math.pi * (b.double() * 2.0**-32 - 0.125)
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], 1)[:, :count].float()


def uniform(count: int, words: list[tuple[int, int]]) -> Tensor:
    """[N, count] float64 between 0 and 1, both left out, from two words of 32 bits for each row."""
    return (_hashed(torch.arange(count), words).double() + 0.5) * 2.0**-32


def kept(shape: torch.Size, p: float, seeds: list[int], purpose: str, step: int, device: torch.device) -> Tensor:
    """[T, R, B, H] bool, True with probability 1 - p; replica k's from seed k, and from its place in [T, B, H] alone.

    So a longer batch, as a replica may have in a group, begins with the draws of a shorter one.
    """
    T, R, B, H = shape
    a = _hashed(torch.arange(T * B * H, device=device), [draw_words(seed, purpose, step) for seed in seeds])
    return (a < round((1 - p) * 2**32)).view(R, T, B, H).transpose(0, 1)


def _hashed(place: Tensor, words: list[tuple[int, int]]) -> Tensor:
    """[R, P] int64 of 32 bits, from places [P] and two words for each row."""
    keys = torch.tensor(words, device=place.device)[:, :, None]  # [R, 2, 1] int64
    return _mixed(_mixed((place + keys[:, 0]) & WORD) ^ keys[:, 1])


def _mixed(x: Tensor) -> Tensor:
    """A bijection of 32 bits that spreads each bit over all (Wellons 2018, "lowbias32"); in int64, which holds them."""
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & WORD
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & WORD
    return x ^ (x >> 16)
