"""A plan run in torch, step by step: the proof of the plan in any dtype, and the path where nothing faster is at hand.

T time, R replicas, B batch, H hidden, G gates, P slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqbench.cells import State
from seqbench.kernels.expression import OPERATIONS, in_order
from seqbench.kernels.plan import Block, Operation, Pass, Place, Plan, Product, WeightGradient


@dataclass
class Memory:
    """What the forward pass leaves for the backward pass.

    Attributes:
        slots: [T, R, B, P*H]
        saved: [T, R, B, planes*H]
        states: each [T+1, R, B, H], the first state in front.
        rows: by weight used elementwise, [R, 1, n*H].
        matrices: by weight used in products, [R, n*H, m*H].
    """

    slots: Tensor
    saved: Tensor
    states: list[Tensor]
    rows: dict[str, Tensor]
    matrices: dict[str, Tensor]


def forward(plan: Plan, a: Tensor, w: dict[str, Tensor], state: State) -> Memory:
    """All steps; the hidden states are states[0][1:].

    Args: a: [T, R, B, G*H] projected inputs; w: the cell's weights, each [R, ...]; state: each [R, B, H].
    """
    T, R, B, _ = a.shape
    H = state[0].shape[-1]
    slots = a.new_empty(T, R, B, plan.slots * H)
    slots[..., : plan.gates * H] = a
    states = [a.new_empty(T + 1, R, B, H) for _ in state]
    for whole, first in zip(states, state, strict=True):
        whole[0] = first
    rows = {name: w[name].reshape(R, 1, -1) for name in plan.rows}
    matrices = {name: w[name].reshape(R, plan.blocks[name][0] * H, -1) for name in plan.matrices}
    memory = Memory(slots, a.new_empty(T, R, B, plan.saved * H), states, rows, matrices)
    places = _Places(memory, H)
    operations = [places.bound(op) for op in plan.forward]
    for t in range(T):
        for operation in operations:
            operation(t)
    return memory


def backward(
    plan: Plan, memory: Memory, dh: Tensor, dlast: list[Tensor]
) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
    """Derivatives by the projected inputs [T, R, B, G*H], by each weight [R, n*H, m*H] and by the first state.

    Args: dh: [T, R, B, H] by the hidden states; dlast: by the last state, each [R, B, H].
    """
    T, R, B, H = dh.shape
    places = _Places(memory, H)
    places.dh = dh
    places.carry = [d.clone() for d in dlast]
    places.dslots = torch.empty_like(memory.slots)
    places.drows = {name: torch.zeros_like(row) for name, row in memory.rows.items()}
    places.backs = [dh.new_empty(R, B, H) for _ in range(plan.backs)]
    operations = [places.bound(op) for op in (*plan.backward, *plan.carry)]
    for t in reversed(range(T)):
        for operation in operations:
            operation(t)
    dw = places.drows | {name: torch.zeros_like(matrix) for name, matrix in memory.matrices.items()}
    for gradient in plan.gradients:
        places.add_gradient(gradient, dw[gradient.block.weight])
    return places.dslots[..., : plan.gates * H], dw, places.carry


class _Places:
    """All places at all steps, and what the plan does with them."""

    dh: Tensor
    dslots: Tensor
    drows: dict[str, Tensor]
    carry: list[Tensor]
    backs: list[Tensor]

    def __init__(self, memory: Memory, H: int) -> None:
        self.memory, self.H = memory, H

    def timed(self, place: Place, width: int = 1) -> Tensor | None:
        """[T, R, B, width*H] of a place and its right neighbours; None if it is the same at all steps."""
        m, k = self.memory, place.plane
        planes = slice(k * self.H, (k + width) * self.H)
        match place.buffer:
            case "slot":
                return m.slots[..., planes]
            case "saved":
                return m.saved[..., planes]
            case "state":
                return m.states[k][:-1]
            case "next":
                return m.states[k][1:]
            case "dslot":
                return self.dslots[..., planes]
            case "dh":
                return self.dh
        return None

    def steps(self, place: Place, width: int = 1) -> Sequence[Tensor]:
        """By step [R, B, width*H], rows [R, 1, H]."""
        timed = self.timed(place, width)
        if timed is not None:
            return timed.unbind(0)
        planes = slice(place.plane * self.H, (place.plane + 1) * self.H)
        match place.buffer:
            case "row":
                one = self.memory.rows[place.weight][..., planes]
            case "drow":
                one = self.drows[place.weight][..., planes]
            case "carry":
                one = self.carry[place.plane]
            case _:
                one = self.backs[place.plane]
        return [one] * len(self.memory.slots)

    def block(self, block: Block) -> Tensor:
        """[R, H, width*H]"""
        H = self.H
        rows = slice(block.row * H, (block.row + 1) * H)
        return self.memory.matrices[block.weight][:, rows, block.column * H : (block.column + block.width) * H]

    def bound(self, op: Operation) -> Callable[[int], None]:
        """What an operation does at step t."""
        if isinstance(op, Pass):
            return self.elementwise(op)
        wide, narrow = (op.into, op.left) if isinstance(op, Product) else (op.left, op.into)
        wide_steps, narrow_steps = self.steps(wide, op.block.width), self.steps(narrow)
        right = self.block(op.block)
        if isinstance(op, Product):
            return _product(narrow_steps, right, wide_steps, op.add)
        return _product(wide_steps, right.mT, narrow_steps, op.add)

    def elementwise(self, op: Pass) -> Callable[[int], None]:
        """All places read, then all written."""
        order = {e: k for k, e in enumerate(in_order(e for _, e in op.outputs))}
        given = [(k, self.steps(e.key[0])) for e, k in order.items() if e.op == "at"]
        fixed = [(k, self.memory.slots.new_tensor(e.value)) for e, k in order.items() if e.value is not None]
        computed = [
            (k, OPERATIONS[e.op].torch, [order[x] for x in e.args])
            for e, k in order.items()
            if e.op != "at" and e.value is None
        ]
        kept = [(self.steps(place), order[e], e.op == "at") for place, e in op.outputs if place.buffer != "drow"]
        summed = [(self.steps(place)[0], order[e]) for place, e in op.outputs if place.buffer == "drow"]
        values: list[Any] = [None] * len(order)
        for k, number in fixed:
            values[k] = number
        shape = self.memory.states[0].shape[1:]

        def run(t: int) -> None:
            for k, steps in given:
                values[k] = steps[t]
            for k, function, operands in computed:
                values[k] = function(*(values[x] for x in operands))
            for row, k in summed:
                row.add_(values[k].expand(shape).sum(1, keepdim=True))
            new = [(into[t], values[k].clone() if copied else values[k]) for into, k, copied in kept]
            for into_t, value in new:
                into_t.copy_(value)

        return run

    def add_gradient(self, gradient: WeightGradient, dw: Tensor) -> None:
        H, block = self.H, gradient.block
        left, right = self.timed(gradient.left), self.timed(gradient.right, block.width)
        assert left is not None  # plan: saved, slot, state or next
        assert right is not None
        rows = slice(block.row * H, (block.row + 1) * H)
        dw[:, rows, block.column * H : (block.column + block.width) * H] += torch.einsum("trbi,trbj->rij", left, right)


def _product(left: Sequence[Tensor], right: Tensor, into: Sequence[Tensor], add: bool) -> Callable[[int], None]:
    def onto(t: int) -> None:
        into[t].baddbmm_(left[t], right)

    def alone(t: int) -> None:
        into[t].copy_(torch.bmm(left[t], right))

    return onto if add else alone
