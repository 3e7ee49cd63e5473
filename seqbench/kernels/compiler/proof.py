"""A plan run in torch, step by step, in any dtype: the proof that the plan is right, apart from how it is compiled.

T time, R replicas, B batch, H hidden, G gates, P slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqbench.cells import State
from seqbench.kernels.compiler.expression import OPERATIONS, in_order
from seqbench.kernels.compiler.plan import Block, Instruction, Pass, Place, Plan


@dataclass
class Memory:
    """What the forward pass leaves for the backward pass.

    Attributes:
        saved: [T, R, B, planes*H]
        states: each [T+1, R, B, H], the first state in front.
        rows: by weight used elementwise, [R, 1, n*H].
        matrices: by weight used in products, [R, n*H, m*H].
    """

    saved: Tensor
    states: list[Tensor]
    rows: dict[str, Tensor]
    matrices: dict[str, Tensor]

    @classmethod
    def begun(cls, plan: Plan, saved: Tensor, w: dict[str, Tensor], first: State) -> Memory:
        """Before the first step.  Args: w: the cell's weights, each [R, ...]; first: the state, each [R, B, H]."""
        T, (R, B, H) = len(saved), first[0].shape
        states = [saved.new_empty(T + 1, R, B, H) for _ in first]
        for whole, one in zip(states, first, strict=True):
            whole[0] = one
        rows = {name: w[name].reshape(R, 1, -1).contiguous() for name in plan.rows}
        matrices = {name: w[name].reshape(R, plan.blocks[name][0] * H, -1).contiguous() for name in plan.matrices}
        return cls(saved, states, rows, matrices)

    def timed(self, place: Place) -> Tensor:
        """[T, R, B, H] of a saved plane, or of a state before or after the step."""
        k, H = place.plane, self.states[0].shape[-1]
        match place.buffer:
            case "state":
                return self.states[k][:-1]
            case "next":
                return self.states[k][1:]
            case _:
                return self.saved[..., k * H : (k + 1) * H]

    def add_gradients(self, plan: Plan, dslots: Tensor, dw: dict[str, Tensor]) -> None:
        """Onto dw, by matrix [R, n*H, m*H].  Args: dslots: [T, R, B, P*H]."""
        H = self.states[0].shape[-1]
        for gradient in plan.gradients:
            block, left = gradient.block, self.timed(gradient.left)
            right = dslots[..., gradient.right.plane * H :][..., : block.width * H]
            into = dw[block.weight][:, block.row * H : (block.row + 1) * H, block.column * H :][..., : block.width * H]
            into += torch.einsum("trbi,trbj->rij", left, right)


def forward(plan: Plan, a: Tensor, w: dict[str, Tensor], state: State) -> Memory:
    """All steps; the hidden states are states[0][1:].

    Args: a: [T, R, B, G*H] projected inputs; w: the cell's weights, each [R, ...]; state: each [R, B, H].
    """
    T, R, B, _ = a.shape
    H = state[0].shape[-1]
    slots = a.new_empty(T, R, B, plan.slots * H)
    slots[..., : plan.gates * H] = a
    memory = Memory.begun(plan, a.new_empty(T, R, B, plan.saved * H), w, state)
    places = _Places(memory, H)
    places.slots = slots
    instructions = [places.bound(op) for op in plan.forward]
    for t in range(T):
        for run in instructions:
            run(t)
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
    places.dslots = dh.new_empty(T, R, B, plan.slots * H)
    places.drows = {name: torch.zeros_like(row) for name, row in memory.rows.items()}
    places.backs = [dh.new_empty(R, B, H) for _ in range(plan.backs)]
    instructions = [places.bound(op) for op in (*plan.backward, *plan.carry)]
    for t in reversed(range(T)):
        for run in instructions:
            run(t)
    dw = places.drows | {name: torch.zeros_like(matrix) for name, matrix in memory.matrices.items()}
    memory.add_gradients(plan, places.dslots, dw)
    return places.dslots[..., : plan.gates * H], dw, places.carry


class _Places:
    """All places at all steps, and what the plan does with them."""

    slots: Tensor
    dh: Tensor
    dslots: Tensor
    drows: dict[str, Tensor]
    carry: list[Tensor]
    backs: list[Tensor]

    def __init__(self, memory: Memory, H: int) -> None:
        self.memory, self.H = memory, H

    def steps(self, place: Place, width: int = 1) -> Sequence[Tensor]:
        """By step [R, B, width*H] of a place and its right neighbours; of rows [R, 1, H]."""
        planes = slice(place.plane * self.H, (place.plane + width) * self.H)
        match place.buffer:
            case "slot":
                return self.slots[..., planes].unbind(0)
            case "saved" | "state" | "next":
                return self.memory.timed(place).unbind(0)
            case "dslot":
                return self.dslots[..., planes].unbind(0)
            case "dh":
                return self.dh.unbind(0)
            case "row":
                one = self.memory.rows[place.weight][..., planes]
            case "drow":
                one = self.drows[place.weight][..., planes]
            case "carry":
                one = self.carry[place.plane]
            case _:
                one = self.backs[place.plane]
        return [one] * len(self.memory.saved)

    def block(self, block: Block) -> Tensor:
        """[R, H, width*H]"""
        H = self.H
        rows = slice(block.row * H, (block.row + 1) * H)
        return self.memory.matrices[block.weight][:, rows, block.column * H : (block.column + block.width) * H]

    def bound(self, op: Instruction) -> Callable[[int], None]:
        """What an instruction does at step t."""
        if isinstance(op, Pass):
            return self.elementwise(op)
        right, width = self.block(op.block), op.block.width
        if op.transposed:
            return _product(self.steps(op.left, width), right.mT, self.steps(op.into), op.add)
        return _product(self.steps(op.left), right, self.steps(op.into, width), op.add)

    def elementwise(self, op: Pass) -> Callable[[int], None]:
        """All places read, then all written."""
        order = {e: k for k, e in enumerate(in_order(e for _, e in op.outputs))}
        given = [(k, self.steps(e.key[0])) for e, k in order.items() if e.op == "at"]
        fixed = [(k, self.memory.saved.new_tensor(e.value)) for e, k in order.items() if e.value is not None]
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


def _product(left: Sequence[Tensor], right: Tensor, into: Sequence[Tensor], add: bool) -> Callable[[int], None]:
    def onto(t: int) -> None:
        into[t].baddbmm_(left[t], right)

    def alone(t: int) -> None:
        into[t].copy_(torch.bmm(left[t], right))

    return onto if add else alone
