"""From a layer's inputs to hidden states: the projection, then the time loop, the parallel scan, or compiled code.

`loop` over `Cell.step` is the reference: every faster one is tested against it, on outputs, last state and all
gradients.  T time, R replicas, B batch, I inputs, H hidden, G gates, K outputs.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqbench.cells import Cell, LinearCell, State
from seqbench.kernels.sequence import Recurrence, planned_at, unroll
from seqbench.model.affine import project
from seqbench.model.head import at_least_float32


def run_layer(
    cell: Cell,
    x: Tensor,
    w: SimpleNamespace,
    recurrence: Recurrence,
    state: State | None = None,
    steps: Tensor | None = None,
) -> tuple[Tensor, State]:
    """A recurrent layer over time.

    Args:
        x: [T, R or 1, B, I].
        w: the layer's weights: w.W [R, I, G*H], w.b where there is one, and the cell's own, w.NAME [R, ...].
        recurrence: how, as `decide` says (seqbench/kernels/sequence.py).
        state: the first state, each [R, B, H]; zeros if None.
        steps: [R or 1, B] int64 on the CPU, how many of its T steps each sequence is in need of; None: all. "numba"
            leaves others out, where it can, the rest run them all.

    Returns:
        h [T, R, B, H] and the last state. By "numba", given steps: h is 0 where steps were left out, and the last
        state is that before them (seqbench/kernels/cpu/layer.py).
    """
    weights = {name: value for name, value in vars(w).items() if name not in ("W", "b")}
    b = getattr(w, "b", None)
    x = x.to(w.W.dtype)
    # The state is in float32 at least, under autocast too: it sums over hundreds of steps.
    state = state or initial_state(cell, at_least_float32(w.W[:, :1]).expand(-1, x.shape[2], -1))
    if recurrence.name == "numba":
        from seqbench.kernels.cpu import layer

        return layer.sequence(planned_at(cell, state[0]), x, w.W, b, weights, state, steps)
    a = project(x, w.W, b, recurrence.compiled)
    if recurrence.name == "triton":
        from seqbench.kernels.gpu import lowering

        # Its products are of numbers of the projection's precision.
        plan = planned_at(cell, state[0])
        return unroll(lowering, plan, a, {name: v.to(a.dtype) for name, v in weights.items()}, state)
    a = at_least_float32(a)
    own = SimpleNamespace(**{name: v.to(a.dtype) for name, v in weights.items()})
    if recurrence.name == "scan":
        assert isinstance(cell, LinearCell)  # or `decide` would have refused
        return scan(cell, a, own, state)
    with torch.autocast(a.device.type, enabled=False):
        return loop(cell, a, own, state)


def initial_state(cell: Cell, a: Tensor) -> State:
    """Zeros [R, B, H], `cell.states` of them, for a [..., R, B, G*H]."""
    *_, R, B, columns = a.shape
    return tuple(a.new_zeros(R, B, columns // cell.gates) for _ in range(cell.states))


def loop(cell: Cell, a: Tensor, w: SimpleNamespace, state: State) -> tuple[Tensor, State]:
    """One step after the other; as `run_layer`, for any cell."""
    hs = []
    for a_t in a.unbind(0):
        state = cell.step(a_t, state, w)
        hs.append(state[0])
    return torch.stack(hs), state


def scan(cell: LinearCell, a: Tensor, w: SimpleNamespace, state: State) -> tuple[Tensor, State]:
    """All steps at once but for the recurrence itself, which takes about 4 sqrt(T) products; as `run_layer`."""
    T, R, B, _ = a.shape
    rows = a.transpose(0, 1).reshape(R, T * B, -1)
    A, inputs = cell.coefficients(rows, w)
    first = state[-len(A) :]
    if len(A) == 2:
        m = LinearScan.apply(*(torch.complex(*pair) for pair in (_timed(A, T), _timed(inputs, T), first)))
        memory: State = (m.real, m.imag)
    else:
        memory = (LinearScan.apply(*_timed(A, T), *_timed(inputs, T), *first),)
    states = cell.read(rows, tuple(m.reshape(R, T * B, -1) for m in memory), w)
    timed = _timed(states, T)
    return timed[0].transpose(0, 1), tuple(s[:, -1] for s in timed)


def _timed(tensors: State, T: int) -> State:
    """[R, T*B, H] as [R, T, B, H]; [R, 1, H] as [R, 1, 1, H]."""
    return tuple(t.unflatten(1, (1, 1) if t.shape[1] == 1 and T > 1 else (T, -1)) for t in tensors)


class LinearScan(torch.autograd.Function):
    """m_t = A_t * m_{t-1} + B_t, real or complex, over the second axis."""

    @staticmethod
    def forward(ctx: Any, A: Tensor, B: Tensor, first: Tensor) -> Tensor:
        """Args: A: [R, T, B, H] or [R, 1, 1, H]; B: [R, T, B, H]; first: m_0 [R, B, H].  Returns m [R, T, B, H]."""
        m = torch.empty_like(B)
        _scan(A.expand(-1, B.shape[1], -1, -1), B, first, m)
        ctx.save_for_backward(A, m, first)
        return m

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dB_t = grad_t + conj(A_{t+1}) * dB_{t+1}, a scan from the end; dA_t = dB_t * conj(m_{t-1})."""
        A, m, first = ctx.saved_tensors
        later = A.conj().resolve_conj().expand(-1, m.shape[1], -1, -1)[:, 1:]
        dB = torch.empty_like(m)
        dB[:, -1] = grad[:, -1]
        _scan(later, grad[:, :-1], grad[:, -1], dB[:, :-1], reverse=True)
        dA = torch.empty_like(m)
        torch.mul(dB[:, 1:], m[:, :-1].conj(), out=dA[:, 1:])
        torch.mul(dB[:, 0], first.conj(), out=dA[:, 0])
        return dA.sum_to_size(A.shape), dB, A[:, 0].conj() * dB[:, 0]


def _scan(A: Tensor, B: Tensor, m: Tensor, out: Tensor, reverse: bool = False) -> None:
    """out_t = A_t * out_{t-1} + B_t from out_{-1} = m; or from the end, out_t = A_t * out_{t+1} + B_t.

    Time is cut into C chunks of L steps.  All chunks at once: what each makes of a zero memory, and by how much it
    shrinks what enters.  From chunk to chunk: what enters each, by the same scan.  All chunks at once: the steps.
    Only products and sums: nothing is divided by a product that may have vanished.

    Args: A: [R, T, B or 1, H]; B, out: [R, T, B, H]; m: [R, B, H].
    """
    T = B.shape[1]
    L = math.isqrt(T) if T >= 16 else 0
    C = T // L if L else 0
    start = T - C * L if reverse else 0  # the steps that fill no chunk come last
    if C:
        body = slice(start, start + C * L)
        steps = list(zip(*(t[:, body].unflatten(1, (C, L)).unbind(2) for t in (A, B, out)), strict=True))
        steps = steps[::-1] if reverse else steps
        shrink, end, _ = steps[0]  # [R, C, B, H]
        for A_l, B_l, _ in steps[1:]:
            end = torch.addcmul(B_l, A_l, end)
            shrink = shrink * A_l
        ends = torch.empty_like(end)
        _scan(shrink, end, m, ends, reverse)
        enters = torch.cat([ends[:, 1:], m[:, None]] if reverse else [m[:, None], ends[:, :-1]], 1)
        for A_l, B_l, out_l in steps:
            enters = torch.addcmul(B_l, A_l, enters, out=out_l)
        m = ends[:, 0 if reverse else -1]
    rest = range(start - 1, -1, -1) if reverse else range(C * L, T)
    for t in rest:
        m = torch.addcmul(B[:, t], A[:, t], m, out=out[:, t])
