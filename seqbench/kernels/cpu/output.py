"""The head on a CPU, in float32: affine map, likelihood and derivatives, while they are in the cache.

T time, R replicas, B batch, H hidden, K targets, O outputs of the affine map, M components of a mixture.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqbench.kernels.cpu import cache, pool, threads
from seqbench.kernels.cpu.arguments import address, arguments
from seqbench.kernels.cpu.dense import aligned, rounded
from seqbench.kernels.cpu.lengths import clear_behind, cut_in_time, piece_ends, summed
from seqbench.kernels.cpu.product import product_address

ROWS = 512  # of a piece of work: as many as have their derivatives in the second cache
HEADER = """# Made by seqbench.
from numba import njit
from seqbench.kernels.cpu.likelihood import bernoulli, mixture_of, scaled
from seqbench.kernels.cpu.product import call_product, call_product_transposed
likelihood = LIKELIHOOD
AHEAD = 8
"""
FORWARD = (
    "product", "T", "B", "K", "O", "H", "h", "h_step", "V", "ldv", "c", "y", "y_step", "slopes", "slope_step", "nats",
    "nats_step",
)  # fmt: skip
BACKWARD = (
    "product", "T", "B", "O", "H", "h", "h_step", "V_T", "ldv_T", "slopes", "slope_step", "g", "g_step", "room", "ones",
    "dV", "dc", "ld", "dh",
)  # fmt: skip
CODE = HEADER + cache.numba_function("forward", FORWARD, [
    "for begin in range(0, T, AHEAD):",
    "    end = min(begin + AHEAD, T)",
    # Of single sequences these steps are one product, its rows as far apart as steps are.
    "    for t in range(begin, begin + 1 if B == 1 else end):",
    "        rows, row_h, row_o = (end - begin, h_step, slope_step) if B == 1 else (B, H, O)",
    "        o = slopes + 4 * t * slope_step",
    "        call_product(product, rows, O, H, h + 4 * t * h_step, row_h, V, ldv, o, row_o, c, 0)",
    "    for t in range(begin, end):",
    "        likelihood(slopes + 4 * t * slope_step, y + 4 * t * y_step, nats + 4 * t * nats_step, B, K)",
]) + cache.numba_function("backward", BACKWARD, [
    "for begin in range(0, T, AHEAD):",
    "    end = min(begin + AHEAD, T)",
    "    for t in range(begin, end):",
    "        scaled(slopes + 4 * t * slope_step, g + 4 * t * g_step, room + 4 * t * B * ld, ld, B, O)",
    "    for t in range(begin, begin + 1 if B == 1 else end):",
    "        rows, row_h = (end - begin, h_step) if B == 1 else (B, H)",
    "        d = room + 4 * t * B * ld",
    "        if dh:",
    "            call_product(product, rows, H, O, d, ld, V_T, ldv_T, dh + 4 * t * h_step, row_h, 0, 0)",
    "if B == 1:",
    "    call_product_transposed(product, H, O, T, h, h_step, room, ld, dV, ld, 0, 0, 1, 0, 0)",
    "    call_product_transposed(product, 1, O, T, ones, 0, room, ld, dc, ld, 0, 0, 1, 0, 0)",
    "else:",
    "    call_product_transposed(product, H, O, B, h, H, room, ld, dV, ld, 0, 0, T, h_step, B * ld)",
    "    call_product_transposed(product, 1, O, B, ones, 0, room, ld, dc, ld, 0, 0, T, 0, B * ld)",
])  # fmt: skip


def bernoulli_nats(h: Tensor, V: Tensor, c: Tensor, y: Tensor, steps: Tensor | None = None) -> Tensor:
    """-sum_k ln p(y_k | o): with o = h V + c, softplus(o) - y o; its derivative by o is sigmoid(o) - y.

    Args:
        h: [T, R, B, H] float32.
        V: [R, H, K].
        c: [R, 1, K].
        y: [T, R or 1, B, K] float32, 0 or 1.
        steps: [R or 1, B] int64, how many each sequence has; None: all have T. A replica's longest ends its work.

    Returns:
        [T, R, B]; 0 behind a replica's end, and so is the gradient of h.
    """
    nats: Tensor = _Head.apply("bernoulli", h, V, c, y, steps)
    return nats


def mixture_nats(
    h: Tensor, V: Tensor, c: Tensor, y: Tensor, components: int, least: float, steps: Tensor | None = None
) -> Tensor:
    """-ln sum_m pi_m prod_k N(y_k; mu_mk, sigma_mk^2), as seqbench.model.heads.GaussianMixture has it.

    Args:
        h: [T, R, B, H] float32.
        V: [R, H, O], for O = M (1 + 2 K) outputs: logits [M], mu [M, K], ln sigma [M, K].
        c: [R, 1, O].
        y: [T, R or 1, B, K] float32.
        components: M.
        least: ln sigma does not fall below.
        steps: as in `bernoulli_nats`.

    Returns:
        [T, R, B], likewise.
    """

    def by_target(columns: Tensor) -> Tensor:
        """mu and ln sigma as [K, M]: what is alike for all components lies side by side."""
        others = columns[..., components:].unflatten(-1, (2, components, -1))
        return torch.cat([columns[..., :components], others.mT.flatten(-3)], -1)

    nats: Tensor = _Head.apply(f"mixture_of({components}, {least!r})", h, by_target(V), by_target(c), y, steps)
    return nats


@functools.cache
def _code(likelihood: str) -> Any:
    """Compiled for what likelihood.py makes of this expression."""
    code = CODE.replace("LIKELIHOOD", likelihood)
    return cache.numba_module("output", f"{code}\n# {cache.fingerprint(('likelihood.py',), ())}\n")


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, likelihood: str, h: Tensor, V: Tensor, c: Tensor, y: Tensor, steps: Tensor | None) -> Tensor:
        h, c, y, padded = h.contiguous(), c.contiguous(), y.contiguous(), aligned(V)
        T, R, B, H = h.shape
        O, (_, Ry, _, K) = V.shape[-1], y.shape
        ends = piece_ends(steps, T, R, B, B)
        slopes, nats = pool.take(T, R, B, O), torch.empty(T, R, B, dtype=torch.float32)
        clear_behind(ends, nats)
        pieces = cut_in_time((T,) * R if ends is None else tuple(ends.tolist()), B, ROWS)
        r, t, count = pieces.replica, pieces.first, pieces.steps
        row = (t * R + r) * B
        work = arguments(
            FORWARD, len(t), product=product_address(), T=count, B=B, K=K, O=O, H=H,
            h=address(h) + 4 * row * H, h_step=R * B * H,
            V=address(padded) + 4 * r * padded.stride(0), ldv=padded.shape[-1], c=address(c) + 4 * r * O,
            y=address(y) + 4 * (t * Ry + (r if Ry > 1 else 0)) * B * K, y_step=Ry * B * K,
            slopes=address(slopes) + 4 * row * O, slope_step=R * B * O, nats=address(nats) + 4 * row, nats_step=R * B,
        )  # fmt: skip
        code = _code(likelihood)
        threads.run(lambda piece: code.forward(work[piece]), len(work))
        ctx.save_for_backward(h, V)
        ctx.code, ctx.slopes, ctx.lease = code, slopes, pool.Lease(slopes)
        ctx.ends, ctx.pieces = ends, pieces
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[None, Tensor | None, Tensor, Tensor, None, None]:
        h, V = ctx.saved_tensors
        g, slopes, (_, R, B, H), O = g.contiguous(), ctx.slopes, h.shape, V.shape[-1]
        dh = torch.empty_like(h) if ctx.needs_input_grad[1] else None
        clear_behind(ctx.ends, dh)
        V_T = aligned(V.mT)
        r, t, count = ctx.pieces.replica, ctx.pieces.first, ctx.pieces.steps
        row, piece, ld = (t * R + r) * B, np.arange(len(t)), rounded(O)
        dV, dc, ones = (
            torch.empty(len(t), H, ld, dtype=torch.float32),
            torch.empty(len(t), 1, ld, dtype=torch.float32),
            torch.ones(1, dtype=torch.float32),
        )
        work = arguments(
            BACKWARD, len(t), product=product_address(), T=count, B=B, O=O, H=H,
            h=address(h) + 4 * row * H, h_step=R * B * H,
            V_T=address(V_T) + 4 * r * V_T.stride(0), ldv_T=V_T.shape[-1],
            slopes=address(slopes) + 4 * row * O, slope_step=R * B * O, g=address(g) + 4 * row, g_step=R * B,
            room=0, ones=address(ones), dV=address(dV) + 4 * piece * H * ld, dc=address(dc) + 4 * piece * ld, ld=ld,
            dh=0 if dh is None else address(dh) + 4 * row * H,
        )  # fmt: skip
        run, room, column = ctx.code.backward, int(count.max()) * B * ld, BACKWARD.index("room")

        def backward(piece: int) -> None:
            work[piece, column] = address(pool.own(room))
            run(work[piece])

        threads.run(backward, len(work))
        dV, dc = (summed(ctx.pieces.counts, part) for part in (dV, dc))
        return None, dh, dV[..., :O], dc[..., :O], None, None
