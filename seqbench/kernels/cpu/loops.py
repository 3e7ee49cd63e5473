"""What training does once a step beside the layers, on a CPU: loops over arrays, compiled.

In torch each is a dozen calls, and behind a layer that has filled the caches a call costs more than the numbers do.
Loaded by cache.own_module.

R replicas, P parameters.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

ROWS = types.float32[:, ::1]
BLOCK = 512  # places at a time, so that what is between the loops stays in the first cache
F32, U32 = np.float32, np.uint32


@njit(error_model="numpy")
def mixed(x):
    """A word of 32 bits, as seqbench.model.draws has it; cast back each time, as numba widens what it multiplies."""
    x = U32(x ^ (x >> U32(16)))
    x = U32(x * U32(0x7FEB352D))
    x = U32(x ^ (x >> U32(15)))
    x = U32(x * U32(0x846CA68B))
    return U32(x ^ (x >> U32(16)))


@njit(error_model="numpy")
def logarithm(bits, u):
    """ln u in place, from u [BLOCK] in (0, 1], of which `bits` are the bits: u = 2^e m, ln m by its series in
    s = (m - 1) / (m + 1), sqrt(1/2) <= m < sqrt(2), to s^9: 1e-9 is left out.
    """
    exponent = np.empty(BLOCK, np.float32)
    for j in range(BLOCK):
        # Above sqrt(2) the mantissa is halved: its bits, seen as a number, are larger than those of sqrt(2).
        above = (bits[j] & U32(0x7FFFFF)) > U32(0x3504F3)
        exponent[j] = F32(np.int32(bits[j] >> U32(23)) - np.int32(127) + np.int32(above))
        one = U32(0x3F000000) if above else U32(0x3F800000)
        bits[j] = (bits[j] & U32(0x7FFFFF)) | one
    for j in range(BLOCK):
        s = (u[j] - F32(1)) / (u[j] + F32(1))
        q = s * s
        series = F32(1) + q * (F32(1 / 3) + q * (F32(1 / 5) + q * (F32(1 / 7) + q * F32(1 / 9))))
        u[j] = exponent[j] * F32(0.6931471805599453) + F32(2) * s * series


@njit(error_model="numpy")
def points(logarithms, angles, x, y):
    """Coordinates x, y of points at distances sqrt(-2 ln u) and angles in words; all [BLOCK], none in another's place.

    An eighth of a turn to either side of the first axis by Taylor's series, then whole quarters.
    """
    for j in range(BLOCK):
        t = F32(np.int32((angles[j] & U32(0x3FFFFFFF)) >> U32(6))) * F32(math.pi * 2.0**-25) - F32(math.pi / 4)
        q, quarter, radius = t * t, angles[j] >> U32(30), np.sqrt(F32(-2) * logarithms[j])
        sine = t * (F32(1) + q * (F32(-1 / 6) + q * (F32(1 / 120) + q * (F32(-1 / 5040) + q * F32(1 / 362880)))))
        cosine = F32(1) + q * (F32(-1 / 2) + q * (F32(1 / 24) + q * (F32(-1 / 720) + q * F32(1 / 40320))))
        odd, back = (quarter & U32(1)) != 0, quarter >= U32(2)
        radius = -radius if back else radius
        x[j] = radius * (-sine if odd else cosine)
        y[j] = radius * (cosine if odd else sine)


@njit(types.void(types.float32[:, ::1], types.int64, types.uint32[:, ::1]), nogil=True, cache=True,
      error_model="numpy")  # fmt: skip
def normal(rows, count, words):
    """Fills the first `count` columns of rows [R, P] by the equations of seqbench.model.draws from words [R, 2]."""
    half = (count + 1) // 2
    a, b = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.uint32)
    u, x, y = a.view(np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for r in range(len(rows)):
        row, k0, k1 = rows[r], words[r, 0], words[r, 1]
        for start in range(0, half, BLOCK):
            for j in range(BLOCK):
                place = U32(U32(2 * (start + j)) + k0)
                a[j] = mixed(U32(mixed(place) ^ k1))
                b[j] = mixed(U32(mixed(U32(place + U32(1))) ^ k1))
            for j in range(BLOCK):
                u[j] = F32(np.int32(a[j] >> U32(8))) * F32(2.0**-24) + F32(2.0**-25)
            logarithm(a, u)
            points(u, b, x, y)
            row[start : min(start + BLOCK, half)] = x[: min(BLOCK, half - start)]
            row[half + start : min(half + start + BLOCK, count)] = y[: max(0, min(BLOCK, count - half - start))]


# Sums may be taken in any order that vectors allow: the same for a row, whatever rows are beside it.  What may do so is
# inlined: else a process that compiles the loop has another version of it, which rounds otherwise, than one that loads
# the loop from the cache.
ANY_ORDER = {"reassoc", "nsz", "contract"}


@njit(fastmath=ANY_ORDER, error_model="numpy", forceinline=True)
def sum_of_squares(row):
    """In float64, of a row [P] float32."""
    total = 0.0
    for j in range(len(row)):  # by index: over the row itself it is not made into vector code
        total += np.float64(row[j]) * np.float64(row[j])
    return total


@njit(fastmath=ANY_ORDER, error_model="numpy", forceinline=True)
def advance(g, v, m, scale, rate, kept, new, least, moved):
    """The averages v and m [P] by a gradient g [P] times `scale`; returns what share of the roots of v is at the floor,
    those left out that are 0.
    """
    floored, reached = F32(0), F32(0)
    for j in range(len(g)):
        x = scale * g[j]
        square = kept * v[j] + new * (x * x)
        v[j] = square
        root = np.sqrt(square)
        reached += F32(1) if square > F32(0) else F32(0)
        floored += F32(1) if square > F32(0) and root <= least else F32(0)
        m[j] = moved * m[j] - rate * x / (root if root > least else least)
    return floored / max(reached, F32(1))


# Given its types it is compiled as it is loaded, before a training's clock starts.
@njit(
    types.void(ROWS, ROWS, ROWS, ROWS, types.float64[::1], types.boolean[::1], *[types.float64] * 5,
               types.float64[:, ::1]),
    nogil=True, cache=True, error_model="numpy",
)  # fmt: skip
def chung_rmsprop(p, g, v, m, rates, alive, clip, rho, floor, momentum, limit, watched):
    """A step of seqbench.train.optim.ChungRMSProp for each replica that is alive, at its own rate.

    Args: p, g, v, m: parameters, gradients and the rule's state, [R, P] float32; rates: [R]; alive: [R] bool, becomes
    false where a gradient is not finite; clip: the gradient's largest norm; limit: the update's; watched: [3, R], to
    which are added the gradient's norm, the update's over the weights', and the share of weights at the floor.
    """
    kept, new, least, moved = np.float32(rho), np.float32(1 - rho), np.float32(floor), np.float32(momentum)
    for r in range(len(p)):
        gradient = np.sqrt(sum_of_squares(g[r]))
        alive[r] = alive[r] and gradient < np.inf
        if alive[r]:
            rate = np.float32(rates[r])
            scale = np.float32(clip / max(gradient, clip)) if clip < np.inf else np.float32(1)
            floored = advance(g[r], v[r], m[r], scale, rate, kept, new, least, moved)
            before, update = np.sqrt(sum_of_squares(p[r])), np.sqrt(sum_of_squares(m[r]))
            shrink = np.float32(limit / max(update, limit)) if limit < np.inf else np.float32(1)
            for j in range(p.shape[1]):
                p[r, j] += shrink * m[r, j]
            watched[0, r] += gradient
            watched[1, r] += shrink * update / max(before, 1e-30)
            watched[2, r] += floored
        else:
            watched[:, r] = np.nan
