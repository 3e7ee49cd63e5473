"""A plan run in torch, step by step: the proof of the plan in any dtype, and the path where nothing faster is at hand.

T time, R replicas, B batch, H hidden, G gates, P slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqbench.cells import State
from seqbench.kernels.expression import OPERATIONS, Expression, in_order
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
    step = _Step(memory, H)
    for t in range(T):
        step.t = t
        step.run(plan.forward)
    return memory


def backward(
    plan: Plan, memory: Memory, dh: Tensor, dlast: list[Tensor]
) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
    """Derivatives by the projected inputs [T, R, B, G*H], by each weight [R, n*H, m*H] and by the first state.

    Args: dh: [T, R, B, H] by the hidden states; dlast: by the last state, each [R, B, H].
    """
    T, R, B, H = dh.shape
    step = _Step(memory, H)
    step.dh = dh
    step.carry = [d.clone() for d in dlast]
    step.dslots = torch.zeros_like(memory.slots)
    step.drows = {name: torch.zeros_like(row) for name, row in memory.rows.items()}
    step.backs = [dh.new_empty(R, B, H) for _ in range(plan.backs)]
    for t in reversed(range(T)):
        step.t = t
        step.run(plan.backward)
        step.run(plan.carry)
    dw = dict(step.drows) | {name: torch.zeros_like(matrix) for name, matrix in memory.matrices.items()}
    for gradient in plan.gradients:
        step.add_gradient(gradient, dw[gradient.block.weight])
    return step.dslots[..., : plan.gates * H], dw, step.carry


class _Step:
    """The places of step t, and what the plan does with them."""

    t: int
    dh: Tensor
    dslots: Tensor
    drows: dict[str, Tensor]
    carry: list[Tensor]
    backs: list[Tensor]

    def __init__(self, memory: Memory, H: int) -> None:
        self.memory, self.H = memory, H

    def run(self, operations: tuple[Operation, ...]) -> None:
        for operation in operations:
            if isinstance(operation, Pass):
                self.elementwise(operation)
            elif isinstance(operation, Product):
                into = self.at(operation.into, operation.block.width)
                _multiply(self.at(operation.left), self.block(operation.block), into, operation.add)
            else:
                left = self.at(operation.left, operation.block.width)
                _multiply(left, self.block(operation.block).mT, self.at(operation.into), operation.add)

    def at(self, place: Place, width: int = 1) -> Tensor:
        """[R, B, width*H] of a place and its right neighbours; rows are [R, 1, H]."""
        m, t, k = self.memory, self.t, place.plane
        planes = slice(k * self.H, (k + width) * self.H)
        match place.buffer:
            case "slot":
                return m.slots[t, ..., planes]
            case "saved":
                return m.saved[t, ..., planes]
            case "state":
                return m.states[k][t]
            case "next":
                return m.states[k][t + 1]
            case "row":
                return m.rows[place.weight][..., planes]
            case "dslot":
                return self.dslots[t, ..., planes]
            case "drow":
                return self.drows[place.weight][..., planes]
            case "carry":
                return self.carry[k]
            case "back":
                return self.backs[k]
            case _:
                return self.dh[t]

    def always(self, place: Place, width: int = 1) -> Tensor:
        """[T, R, B, width*H] of a place at all steps."""
        planes = slice(place.plane * self.H, (place.plane + width) * self.H)
        match place.buffer:
            case "slot":
                return self.memory.slots[..., planes]
            case "saved":
                return self.memory.saved[..., planes]
            case "dslot":
                return self.dslots[..., planes]
            case "state":
                return self.memory.states[place.plane][:-1]
            case _:
                return self.memory.states[place.plane][1:]

    def block(self, block: Block) -> Tensor:
        """[R, H, width*H]"""
        H = self.H
        rows = slice(block.row * H, (block.row + 1) * H)
        return self.memory.matrices[block.weight][:, rows, block.column * H : (block.column + block.width) * H]

    def elementwise(self, done: Pass) -> None:
        """All places read, then all written."""
        values: dict[Expression, Tensor] = {}
        for e in in_order(e for _, e in done.outputs):
            if e.op == "at":
                values[e] = self.at(e.key[0])
            elif e.value is not None:
                values[e] = self.memory.slots.new_tensor(e.value)
            else:
                values[e] = OPERATIONS[e.op].torch(*(values[x] for x in e.args))
        for place, e in done.outputs:
            if place.buffer == "drow":
                self.at(place).add_(values[e].expand(self.dh.shape[1:]).sum(1, keepdim=True))
        written = [(place, values[e]) for place, e in done.outputs if place.buffer != "drow"]
        for place, value in [(place, value.clone()) for place, value in written]:
            self.at(place).copy_(value)

    def add_gradient(self, gradient: WeightGradient, dw: Tensor) -> None:
        H, block = self.H, gradient.block
        left, right = self.always(gradient.left), self.always(gradient.right, block.width)
        product = torch.einsum("trbi,trbj->rij", left, right)
        rows = slice(block.row * H, (block.row + 1) * H)
        dw[:, rows, block.column * H : (block.column + block.width) * H] += product


def _multiply(left: Tensor, right: Tensor, into: Tensor, add: bool) -> None:
    if add:
        into += left @ right
    else:
        into.copy_(left @ right)
