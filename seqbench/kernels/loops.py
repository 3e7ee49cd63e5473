"""What training does once a step beside the layers, on a CPU: loops over arrays, compiled.

In torch each is a dozen calls, and behind a layer that has filled the caches a call costs more than the numbers do.
Loaded by cache.own_module.

T time, R replicas, B batch, I inputs, P parameters, F frames, N sequences.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types


@njit(nogil=True, cache=True)
def gather(frames, starts, lengths, index, at_least):
    """What datamodules.base.Sequences.gather returns: frames [T, R, B, I] and present [T, R, B].

    Args: frames: [F, I]; starts, lengths: [N]; index: [R, B], -1 an empty slot; at_least: the smallest T.
    """
    (R, B), I, T = index.shape, frames.shape[1], at_least
    for n in index.flat:
        if n >= len(lengths):
            raise IndexError("an index points behind the last sequence of its split")
        T = max(T, lengths[n] if n >= 0 else 0)
    out, present = np.empty((T, R, B, I), np.float32), np.empty((T, R, B), np.bool_)
    for t in range(T):
        for r in range(R):
            for b in range(B):
                n, row = index[r, b], out[t, r, b]
                there = n >= 0 and t < lengths[n]
                present[t, r, b] = there
                if there:
                    source = frames[starts[n] + t]
                    for i in range(I):
                        row[i] = source[i]
                else:
                    row[:] = 0
    return out, present


ROWS = types.float32[:, ::1]


# Given its types it is compiled as it is loaded, before a training's clock starts.
@njit(
    types.void(ROWS, ROWS, ROWS, ROWS, types.float64[::1], types.boolean[::1], *[types.float64] * 3),
    nogil=True, cache=True, error_model="numpy",
)  # fmt: skip
def chung_rmsprop(p, g, v, m, rates, alive, rho, floor, momentum):
    """A step of seqbench.optim.ChungRMSProp for each replica that is alive, at its own rate.

    Args: p, g, v, m: parameters, gradients and the rule's state, [R, P] float32; rates: [R]; alive: [R] bool.
    """
    kept, new, least, moved = np.float32(rho), np.float32(1 - rho), np.float32(floor), np.float32(momentum)
    for r in range(len(p)):
        if alive[r]:
            rate = np.float32(rates[r])
            for j in range(p.shape[1]):
                v[r, j] = kept * v[r, j] + new * (g[r, j] * g[r, j])
                m[r, j] = moved * m[r, j] + g[r, j] / max(np.sqrt(v[r, j]), least)
                p[r, j] -= rate * m[r, j]
