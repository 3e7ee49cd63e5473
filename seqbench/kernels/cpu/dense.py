"""x W + b over a whole batch of replicas on a CPU, in float32, by the product that the kernels have.

Batched products of torch round differently for one replica than for ten; this one does not.

T time, R replicas, B batch, K inputs, N outputs.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqbench.kernels.cpu import cache, threads
from seqbench.kernels.cpu.arguments import address, arguments
from seqbench.kernels.cpu.lengths import cut_in_time, summed
from seqbench.kernels.cpu.product import product_address

ROWS = 2048  # of a piece of work
LINE = 16  # floats of a cache line: rows of weights and of their gradients begin at one
HEADER = """# Made by seqbench.
from numba import njit
from seqbench.kernels.cpu.product import call_product, call_product_transposed
"""
FORWARD = ("product", "T", "M", "N", "K", "x", "x_step", "W", "ldw", "start", "out", "out_step")
GRADIENT = ("product", "T", "B", "N", "K", "x", "x_step", "dout", "dout_step", "dW", "ldw", "ones", "db")
CODE = HEADER + cache.numba_function("forward", FORWARD, [
    "for t in range(T):",
    "    call_product(product, M, N, K, x + 4 * t * x_step, K, W, ldw, out + 4 * t * out_step, N, start, 0)",
]) + cache.numba_function("gradient", GRADIENT, [
    "call_product_transposed(product, K, N, B, x, K, dout, N, dW, ldw, 0, 0, T, x_step, dout_step)",
    "call_product_transposed(product, 1, N, B, ones, 0, dout, N, db, ldw, 0, 0, T, 0, dout_step)",
])  # fmt: skip


def dense(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    """x W + b.

    Args:
        x: [T, R or 1, B, K] float32.
        W: [R, K, N].
        b: [R, 1, N], or fewer columns, the first ones; or None.

    Returns:
        [T, R, B, N]
    """
    out: Tensor = _Dense.apply(x, W, whole_bias(W, b))
    return out


def whole_bias(W: Tensor, b: Tensor | None) -> Tensor:
    """[R, 1, N] with zeros for what b lacks."""
    if b is None:
        return W.new_zeros(W.shape[0], 1, W.shape[-1])
    missing = W.shape[-1] - b.shape[-1]
    return F.pad(b, (0, missing)) if missing else b


def rounded(columns: int) -> int:
    """As many as fill whole cache lines."""
    return -(-columns // LINE) * LINE


def aligned(matrix: Tensor) -> Tensor:
    """[R, K, N] with rows that begin at cache lines."""
    R, K, N = matrix.shape
    padded = matrix.new_empty(R, K, rounded(N))
    padded[..., :N] = matrix
    return padded


@functools.cache
def _code() -> Any:
    return cache.numba_module("dense", CODE)


def _multiply(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    """[T, R, B, N]"""
    T, Rx, B, K = x.shape
    R, _, N = W.shape
    padded, bias = aligned(W), None if b is None else b.contiguous()
    out = torch.empty(T, R, B, N, dtype=torch.float32)
    pieces = cut_in_time((T,) * R, B, ROWS)
    r, t, steps = pieces.replica, pieces.first, pieces.steps
    work = arguments(
        FORWARD, len(t), product=product_address(), T=steps, M=B, N=N, K=K,
        x=address(x) + 4 * (t * Rx + (r if Rx > 1 else 0)) * B * K, x_step=Rx * B * K,
        W=address(padded) + 4 * r * padded.stride(0), ldw=padded.shape[-1],
        start=0 if bias is None else address(bias) + 4 * r * N,
        out=address(out) + 4 * (t * R + r) * B * N, out_step=R * B * N,
    )  # fmt: skip
    run = _code().forward
    threads.run(lambda piece: run(work[piece]), len(work))
    return out


def _gradients(x: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
    """Of W [R, K, N] and b [R, 1, N]."""
    T, Rx, B, K = x.shape
    _, R, _, N = dout.shape
    pieces = cut_in_time((T,) * R, B, ROWS)
    r, t, steps = pieces.replica, pieces.first, pieces.steps
    piece, width = np.arange(len(t)), rounded(N)
    dW, db, ones = (
        torch.empty(len(t), K, width, dtype=torch.float32),
        torch.empty(len(t), 1, width, dtype=torch.float32),
        torch.ones(1, dtype=torch.float32),
    )
    work = arguments(
        GRADIENT, len(t), product=product_address(), T=steps, B=B, N=N, K=K,
        x=address(x) + 4 * (t * Rx + (r if Rx > 1 else 0)) * B * K, x_step=Rx * B * K,
        dout=address(dout) + 4 * (t * R + r) * B * N, dout_step=R * B * N,
        dW=address(dW) + 4 * piece * K * width, ldw=width, ones=address(ones), db=address(db) + 4 * piece * width,
    )  # fmt: skip
    run = _code().gradient
    threads.run(lambda piece: run(work[piece]), len(work))
    return summed(pieces.counts, dW)[..., :N], summed(pieces.counts, db)[..., :N]


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor, b: Tensor) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x, W)
        return _multiply(x, W, b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, W = ctx.saved_tensors
        dout = dout.contiguous()
        dW, db = _gradients(x, dout)
        dx = _multiply(dout, W.mT, None).sum_to_size(x.shape) if ctx.needs_input_grad[0] else None
        return dx, dW, db
