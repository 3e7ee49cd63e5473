"""The one time loop, and the product that goes before it.

This loop over `Cell.step` is the reference: every faster path is tested against it, on outputs, last state and all
gradients.  T time, R replicas, B batch, I inputs, H hidden, G gates, K outputs.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from seqbench.cells import Cell, State


def project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x_t W + b for all t and replicas at once.

    Args:
        x: [T, R, B, I], or R = 1 where all replicas see the same.
        weight: [R, I, K].
        bias: [R, 1, K] or None.

    Returns:
        [T, R, B, K]
    """
    T, _, B, I = x.shape
    R, _, K = weight.shape
    # One bmm over R: torch.matmul on [T, R, B, I] would copy the weights T times.
    rows = x.transpose(0, 1).reshape(-1, T * B, I).expand(R, T * B, I)
    out = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias, rows, weight)
    return out.view(R, T, B, K).transpose(0, 1)


def unroll(cell: Cell, a: Tensor, w: SimpleNamespace, state: State | None = None) -> tuple[Tensor, State]:
    """Runs a cell over time.

    Args:
        a: [T, R, B, G*H] projected inputs.
        w: the cell's weights, w.NAME [R, ...].
        state: the first state, each [R, B, H]; zeros if None.

    Returns:
        h [T, R, B, H] and the last state.
    """
    if state is None:
        state = initial_state(cell, a)
    hs = []
    for a_t in a.unbind(0):
        state = cell.step(a_t, state, w)
        hs.append(state[0])
    return torch.stack(hs), state


def initial_state(cell: Cell, a: Tensor) -> State:
    """Zeros [R, B, H], `cell.states` of them."""
    *_, R, B, columns = a.shape
    return tuple(a.new_zeros(R, B, columns // cell.gates) for _ in range(cell.states))
