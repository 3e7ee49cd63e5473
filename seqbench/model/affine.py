"""The affine map of all steps and replicas at once: a layer's projection, and the head's.

T time, R replicas, B batch, I inputs, K outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def project(x: Tensor, weight: Tensor, bias: Tensor | None, compiled: bool = False) -> Tensor:
    """x_t W + b for all t and replicas at once.

    Args:
        x: [T, R, B, I], or R = 1 where all replicas see the same; taken in the weight's precision.
        weight: [R, I, K].
        bias: [R, 1, K], or fewer columns, the first ones; or None.
        compiled: by code compiled for the CPU, as `Recurrence.compiled` has it; else in torch.

    Returns:
        [T, R, B, K]
    """
    x = x.to(weight.dtype)
    if compiled:
        from seqbench.kernels.cpu.dense import dense

        return dense(x, weight, bias)
    T, _, B, I = x.shape
    R, _, K = weight.shape
    # One bmm over R: torch.matmul on [T, R, B, I] would copy the weights T times.
    rows = x.transpose(0, 1).reshape(-1, T * B, I).expand(R, T * B, I)
    if bias is not None:
        bias = F.pad(bias, (0, K - bias.shape[-1]))
    out = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias, rows, weight)
    return out.view(R, T, B, K).transpose(0, 1)
