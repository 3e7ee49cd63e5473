"""How far a hidden state depends on an earlier one: the norm of dh_t/dh_j, for units without a gated memory.

What a step detaches is left out, as in training.
T time, H hidden, S all numbers of a state: the unit's states times H.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from seqbench.explain.memory import held_norms
from seqbench.explain.values import Layer
from seqbench.kernels.compiler.expression import in_order
from seqbench.kernels.compiler.trace import Unsupported, trace

AT_ONCE = 2**23  # numbers of Jacobians


def gradient_norms(layer: Layer) -> np.ndarray:
    """The Frobenius norm of the whole derivative dh_t/dh_j, [T, T] float32: row j the context, column t the time.

    Exact, by products of the steps' Jacobians: about T^2 S^2 H operations, so 0.2 s for 100 frames of 104 units and
    seven minutes for 4,000 on one core; T^2 H where no hidden unit sees another one's state.
    """
    T, S = len(layer.a), len(layer.states) * layer.H
    if _apart(layer):
        return held_norms(np.abs(_diagonals(layer)), np.ones((T, layer.H)))[0]
    norms = np.zeros((T, T), np.float32)
    # by context the transposed derivative of the state by h_j, [H, S]
    held, spare = (torch.empty(T, layer.H, S) for _ in range(2))
    start = torch.eye(layer.H, S)
    size = max(1, AT_ONCE // S**2)
    for t in tqdm(range(T), "gradients", delay=2, leave=False, disable=None):
        if t % size == 0:
            steps = _jacobians(layer, slice(t, t + size)).float()  # [size, S, S]
        torch.matmul(held[:t].view(-1, S), steps[t % size].T, out=spare[:t].view(-1, S))
        held, spare = spare, held
        held[t] = start
        norms[: t + 1, t] = held[: t + 1, :, : layer.H].square().sum((1, 2)).sqrt().numpy()
    return norms


def _apart(layer: Layer) -> bool:
    """Whether no hidden unit sees another one's state."""
    try:
        outputs = trace(layer.cell).outputs
    except Unsupported:
        return False
    return len(outputs) == 1 and all(e.op != "matmul" for e in in_order(outputs))


def _diagonals(layer: Layer) -> np.ndarray:
    """dh_t/dh_{t-1} of each unit, [T, H]."""
    new, (before,) = _stepped(layer, slice(None))
    (found,) = torch.autograd.grad(new[0].sum(), before)
    return found[0].numpy()


def _jacobians(layer: Layer, times: slice) -> Tensor:
    """d state_t / d state_{t-1} at those times, [n, S, S]."""
    new, before = _stepped(layer, times)
    rows = []
    for state in new:
        for k in range(layer.H):
            parts = torch.autograd.grad(state[..., k].sum(), before, retain_graph=True, materialize_grads=True)
            rows.append(torch.cat(parts, -1)[0])
    return torch.stack(rows, 1)


@torch.enable_grad()
def _stepped(layer: Layer, times: slice) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Those steps at once, times side by side as sequences are: new states and last ones, [1, n, H] each."""
    before = tuple(state[:-1][times][None].requires_grad_() for state in layer.states)
    return layer.cell.step(layer.a[times][None], before, layer.w), before
