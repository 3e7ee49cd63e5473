"""The likelihood of on/off targets on a CPU, in float32: value and derivative in one pass over the logits.

T time, R replicas, B batch, K targets.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqbench.kernels import cache, pool, threads

LOGITS = 1 << 16  # of a piece of work
SOURCE = '''"""Made by seqbench."""
from numba import njit
from seqbench.kernels.vector import elementwise, softplus_and_sigmoid

def compute(logit, target):
    value, slope = softplus_and_sigmoid(logit)
    return [value - target * logit, slope - target]

both = elementwise(2, 2, compute, "NAME_both")

def NAME_nats(logits, targets, values, slopes, T, R, columns, target_step):
    for t in range(T):
        o = 4 * t * R * columns
        places = (logits + o, targets + 4 * t * max(1, R * (target_step > 0)) * columns, values + o, slopes + o)
        both(places, (columns, target_step, columns, columns), R, columns)

nats = njit("void({})", nogil=True, cache=True)(NAME_nats)
'''.format(", ".join(["int64"] * 8))


def bernoulli_nats(logits: Tensor, targets: Tensor) -> Tensor:
    """-sum_k ln p(y_k): with o a logit and y its target, softplus(o) - y o; its derivative is sigmoid(o) - y.

    Args:
        logits: [T, R, B, K] float32.
        targets: [T, R or 1, B, K] float32, 0 or 1.

    Returns:
        [T, R, B]
    """
    nats: Tensor = _Bernoulli.apply(logits, targets)
    return nats


@functools.cache
def _code() -> Any:
    return cache.numba_module("bernoulli", SOURCE)


class _Bernoulli(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        logits, targets = logits.contiguous(), targets.contiguous()
        T, R, B, K = logits.shape
        shared = targets.shape[1] < R
        nats, slope = pool.take(*logits.shape), pool.take(*logits.shape)
        steps = max(1, LOGITS // (R * B * K))

        def work(piece: int) -> None:
            t = piece * steps
            places = [tensor.data_ptr() + 4 * t * tensor.stride(0) for tensor in (logits, targets, nats, slope)]
            _code().nats(*places, min(steps, T - t), R, B * K, 0 if shared else B * K)

        threads.run(work, -(-T // steps))
        summed = nats.sum(-1)
        pool.give(nats)
        ctx.slope, ctx.lease = slope, pool.Lease(slope)
        return summed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return ctx.slope * g.unsqueeze(-1), None
