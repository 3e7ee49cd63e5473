"""What the generated GPU kernels are made of, in Triton; one program computes a tile of the batch of one replica.

H hidden; PADDED the power of two, at least 16, that planes are padded to; TILE rows of the batch in a program.
"""

from __future__ import annotations

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def block(weight: tl.tensor, COLUMNS: tl.constexpr, H: tl.constexpr, PADDED: tl.constexpr) -> tl.tensor:
    """A block H x H of a weight with so many columns, padded with zeros: [PADDED, PADDED]; `weight` is its corner."""
    k = tl.arange(0, PADDED)[:, None]
    n = tl.arange(0, PADDED)[None, :]
    return tl.load(weight + k * COLUMNS + n, mask=(k < H) & (n < H), other=0.0)


@triton.jit
def product(total: tl.tensor, left: tl.tensor, right: tl.tensor) -> tl.tensor:
    """total + left @ right, in the weights' dtype, added up in float32."""
    # "ieee": without it, float32 would be multiplied with the 11 bits of TF32.
    left = left.to(right.dtype)
    if INTERPRETED:
        # The interpreter's tl.dot takes bfloat16's bits for integers.
        left, right = left.to(tl.float32), right.to(tl.float32)
    return tl.dot(left, right, total, input_precision="ieee")


@triton.jit
def streamed(
    total: tl.tensor,
    left: tl.tensor,
    weight: tl.tensor,
    COLUMNS: tl.constexpr,
    H: tl.constexpr,
    PADDED: tl.constexpr,
    TILE: tl.constexpr,
) -> tl.tensor:
    """`product`, 16 rows of the weight's block at a time; `left` lies in memory, as [TILE, PADDED]."""
    i = tl.arange(0, TILE)[:, None]
    n = tl.arange(0, PADDED)[None, :]
    for first in tl.range(0, H, 16):
        k = first + tl.arange(0, 16)
        x = tl.load(left + i * PADDED + k[None, :])
        y = tl.load(weight + k[:, None] * COLUMNS + n, mask=(k[:, None] < H) & (n < H), other=0.0)
        total = product(total, x, y)
    return total


@triton.jit
def maximum(x: tl.tensor, y: tl.tensor) -> tl.tensor:
    """The greater one; NaN if either is, so that a run that diverges is seen to."""
    return tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def minimum(x: tl.tensor, y: tl.tensor) -> tl.tensor:
    """The lesser one; NaN if either is."""
    return tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def tanh(x: tl.tensor) -> tl.tensor:
    """As vector.tanh; by way of the sigmoid, small numbers would be wrong in most of their digits."""
    x = minimum(maximum(x, -8.01773357391357422), 8.01773357391357422)
    s = x * x
    p = s * (s * (s * 1.394553628e-8 + 2.102733560e-5) + 3.520756727e-3) + 1.340216100e-1
    q = s * (s * (s * (s * 8.015776984e-7 + 3.326951409e-4) + 2.597254514e-2) + 4.673548340e-1) + 1.0
    return (x * s * p + x) / q
