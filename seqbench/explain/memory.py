"""What a gated memory holds of each moment before: the weights w_j^t of Levy et al. 2018 (arXiv 1805.03716).

    m_t = keep_t * m_{t-1} + write_t * content_t = sum_j w_j^t * content_j,   w_j^t = write_j * prod_{k=j+1..t} keep_k

elementwise over the hidden units.  T time, H hidden, j context, t time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from seqbench.cells import LinearCell
from seqbench.explain.gated import Gated, gated_memory
from seqbench.explain.values import Layer
from seqbench.kernels.compiler.expression import Expression


@dataclass(frozen=True)
class Memory:
    """A gated memory over one sequence, float64, or complex128 where the memory is complex.

    Attributes:
        keep: [T, H], by which the last memory is multiplied.
        write: [T, H], by which the content is.
        content: [T, H]
        value: [T, H], the memory m_t as the unit itself computed it.
        gates: [T, H] each, by name: "write", "keep", "read", "reset", those that the unit has.
        backwards: how many of the H hidden units, the last ones, read the sequence from its end: their contexts are
            later than the time.
    """

    keep: np.ndarray
    write: np.ndarray
    content: np.ndarray
    value: np.ndarray
    gates: dict[str, np.ndarray]
    backwards: int = 0

    def part(self, steps: slice) -> Memory:
        """Those steps of it, whose weights are those of the whole."""
        gates = {name: gate[steps] for name, gate in self.gates.items()}
        parts = self.keep[steps], self.write[steps], self.content[steps], self.value[steps]
        return Memory(*parts, gates, self.backwards)

    def weights(self, unit: int) -> np.ndarray:
        """w_j^t of one hidden unit, [T, T]: row j the context, column t the time, 0 where t < j, or backwards t > j."""
        T, forwards = len(self.keep), self.keep.shape[1] - self.backwards
        way = slice(None, None, 1 if unit < forwards else -1)
        keep, write = self.keep[way, unit], self.write[way, unit]
        found = np.zeros((T, T), self.keep.dtype)
        held = np.zeros(T, self.keep.dtype)
        for t in range(T):
            held[:t] *= keep[t]
            held[t] = write[t]
            found[: t + 1, t] = held[: t + 1]
        return found[way, way]


@dataclass(frozen=True)
class Held:
    """How strongly and how long.

    Attributes:
        norms: [T, T] float32, the L2 norm over the hidden units of w_j^t: row j the context, column t the time.
        remaining: [T, H], the share of what a unit wrote that is left after 0, 1, ... steps; NaN for a unit that wrote
            nothing. From step k-1 to k it falls by sum_j |w_j^{j+k}| / sum_j |w_j^{j+k-1}| over the contexts j that the
            sequence shows so long, as in Kaplan & Meier (1958): so those near its end count as far as they are seen.
        half_lives: [H], steps until half of it is left, between two steps on a logarithmic scale; inf where more is
            left at the end.
        ages: [T, H], how long ago, on average by |w_j^t|, what a unit holds was written, in steps.
    """

    norms: np.ndarray
    remaining: np.ndarray
    half_lives: np.ndarray
    ages: np.ndarray


def memory_of(layer: Layer) -> Memory | None:
    """The gated memory of a layer that has run; None where the unit has none."""
    if (gated := gated_memory(layer.cell)) is not None:
        return _traced(layer, gated)
    if isinstance(layer.cell, LinearCell):
        return _linear(layer)
    return None


def both_ways(forwards: Memory, backwards: Memory) -> Memory:
    """The memories of a layer's two directions as one, of the second as it ran: from the sequence's end."""

    def joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.concatenate([one, other[::-1]], 1)

    gates = {name: joined(gate, backwards.gates[name]) for name, gate in forwards.gates.items()}
    return Memory(
        joined(forwards.keep, backwards.keep),
        joined(forwards.write, backwards.write),
        joined(forwards.content, backwards.content),
        joined(forwards.value, backwards.value),
        gates,
        backwards.keep.shape[1],
    )


def held_both_ways(forwards: Held, backwards: Held) -> Held:
    """Likewise; the norms are over the hidden units of both: contexts before the time, and behind it."""
    return Held(
        np.hypot(forwards.norms, backwards.norms[::-1, ::-1]),
        np.concatenate([forwards.remaining, backwards.remaining], 1),
        np.concatenate([forwards.half_lives, backwards.half_lives]),
        np.concatenate([forwards.ages, backwards.ages[::-1]], 1),
    )


def _traced(layer: Layer, gated: Gated) -> Memory:
    def read(*expressions: Expression) -> np.ndarray:
        return _joined([value.numpy() for value in layer.values(expressions)])

    return Memory(
        keep=read(*gated.keep),
        write=read(gated.write),
        content=read(*gated.content),
        value=_joined([layer.states[k][1:].numpy() for k in gated.states]),
        gates={name: read(gate) for name, gate in gated.gates.items()},
    )


def _linear(layer: Layer) -> Memory:
    """A unit that says its coefficients by operations that cannot be traced; all that it writes is content."""
    assert isinstance(layer.cell, LinearCell)
    T, H = len(layer.a), layer.H
    A, B = (
        [part[0].expand(T, H).numpy() for part in parts] for parts in layer.cell.coefficients(layer.a[None], layer.w)
    )
    value = [state[1:].numpy() for state in layer.states[-len(A) :]]
    return Memory(_joined(A), np.ones((T, H)), _joined(B), _joined(value), {})


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """A real array as it is, real and imaginary part as complex numbers."""
    return parts[0] if len(parts) == 1 else parts[0] + 1j * parts[1]


def held(memory: Memory) -> Held:
    """How strongly each moment is held at all later ones. T^2 H products, a second for 4,000 steps of 50 units."""
    keep, write = np.abs(memory.keep), np.abs(memory.write)
    norms, remaining = held_norms(keep, write)
    return Held(norms, remaining, half_lives(remaining), _ages(keep, write))


def held_norms(keep: np.ndarray, write: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Norms [T, T] and remaining [T, H], as in `Held`, from what is not negative: keep and write [T, H]."""
    T, H = keep.shape
    norms = np.zeros((T, T), np.float32)
    left, before = np.zeros((T, H)), np.zeros((T, H))  # by lag, sums over all times; and over all but the last
    by_lag = np.zeros((T + 1, H))  # from `start` on: what is held of the moments before, the latest first
    for t in tqdm(range(T), "weights", delay=2, leave=False, disable=None):
        start = T - t
        by_lag[start:T] *= keep[t]
        by_lag[start - 1] = write[t]
        present = by_lag[start - 1 : T]
        before[:t] = left[:t]
        left[: t + 1] += present
        norms[: t + 1, t] = np.sqrt(np.einsum("jh,jh->j", present, present))[::-1]
    falls = np.ones((T, H))
    falls[1:] = np.divide(left[1:], before[:-1], out=np.zeros((T - 1, H)), where=before[:-1] > 0)
    falls[:, ~write.any(0)] = np.nan
    return norms, np.cumprod(falls, 0)


def half_lives(remaining: np.ndarray) -> np.ndarray:
    """[H] steps until a half is left, from the shares [T, H]."""
    found = np.full(remaining.shape[1], np.inf)
    for unit, share in enumerate(remaining.T):
        below = np.flatnonzero(share <= 0.5)
        if len(below) and below[0]:
            k = below[0]
            with np.errstate(divide="ignore"):
                found[unit] = k - 1 + np.log(share[k - 1] / 0.5) / np.log(share[k - 1] / share[k])
        elif np.isnan(share[0]):
            found[unit] = np.nan
    return found


def _ages(keep: np.ndarray, write: np.ndarray) -> np.ndarray:
    weight, moment = np.zeros(keep.shape[1]), np.zeros(keep.shape[1])
    ages = np.empty(keep.shape)
    for t in range(len(keep)):
        moment = keep[t] * (moment + weight)
        weight = keep[t] * weight + write[t]
        ages[t] = np.divide(moment, weight, out=np.zeros_like(moment), where=weight > 0)
    return ages
