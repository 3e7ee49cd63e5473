"""A plan: which product and which elementwise pass follow each other in a step, forward and backward.

A step computes with planes [B, H], each at a `Place`.  `print(plan(cell))` shows the whole of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from seqbench.kernels.compiler.expression import Expression, in_order, spelt


@dataclass(frozen=True, order=True)
class Place:
    """Where a plane [B, H] lies at one step.

    Attributes:
        buffer: "slot"; "saved" (for the backward pass); "state" before the step, "next" after it; "row" of a weight,
            [1, H]; "dslot", "drow": the loss's derivatives by them; "carry": by the state after the step, then by the
            one before it; "dh": by the hidden state as the layer's output; "back": by a product's left operand.
        plane: which of that buffer.
        weight: the name of a row's weight.
    """

    buffer: str
    plane: int = 0
    weight: str = ""

    def __str__(self) -> str:
        return f"{self.weight or self.buffer}{'.d' if self.buffer == 'drow' else ''}[{self.plane}]"


@dataclass(frozen=True, order=True)
class Block:
    """Part of a weight, counted in blocks of H x H: rows `row`, columns `column` to `column + width`."""

    weight: str
    row: int
    column: int
    width: int = 1

    def __str__(self) -> str:
        return f"{self.weight}[{self.row}, {self.column}:{self.column + self.width}]"


@dataclass(frozen=True, order=True)
class Product:
    """into .. into + width (+)= left @ block; transposed: into (+)= left .. left + width @ block^T.

    held: no derivative goes back to the left operand, which comes of detached states alone.
    """

    left: Place
    block: Block
    into: Place
    add: bool
    transposed: bool = False
    held: bool = False

    def __str__(self) -> str:
        sign, transposed = "+=" if self.add else "=", "^T" if self.transposed else ""
        return f"{self.into} {sign} {self.left}{' held' if self.held else ''} @ {self.block}{transposed}"


@dataclass(frozen=True, order=True)
class WeightGradient:
    """Derivative by block = sum over time and batch of left^T @ right .. right + width."""

    left: Place
    right: Place
    block: Block

    def __str__(self) -> str:
        return f"d{self.block} += {self.left}^T @ {self.right}"


@dataclass(frozen=True)
class Pass:
    """Elementwise: each place gets its expression, "drow" gets it added up over the batch; all is read, then written.

    Leaves of the expressions are constants and at(Place).
    """

    outputs: tuple[tuple[Place, Expression], ...]

    def __str__(self) -> str:
        statements, results = self.statements({place: str(place) for place in self.inputs()}, str)
        lines = [f"{name} = {spelt(op, operands)}" for name, op, operands in statements]
        for (place, _), result in zip(self.outputs, results, strict=True):
            lines.append(f"{place} {'+=' if place.buffer == 'drow' else '='} {result}")
        return "\n".join(lines)

    def inputs(self) -> list[Place]:
        """The places read, each once."""
        return [e.key[0] for e in in_order(e for _, e in self.outputs) if e.op == "at"]

    def statements(
        self, names: Mapping[Place, str], number: Callable[[float], str]
    ) -> tuple[list[tuple[str, str, list[str]]], list[str]]:
        """The pass as straight-line code, each operation once.

        Args:
            names: how each input is spelt.
            number: how a constant is.

        Returns:
            (new name, operation, operands) in order; and what each output is called in the end.
        """
        called: dict[Expression, str] = {}
        lines: list[tuple[str, str, list[str]]] = []
        for e in in_order(e for _, e in self.outputs):
            if e.op == "at":
                called[e] = names[e.key[0]]
            elif e.op == "constant":
                called[e] = number(e.key[0])
            else:
                called[e] = f"t{len(lines)}"
                lines.append((called[e], e.op, [called[x] for x in e.args]))
        return lines, [called[e] for _, e in self.outputs]


Instruction = Product | Pass


@dataclass(frozen=True, eq=False)
class Plan:
    """A cell's step, forward and backward.

    Attributes:
        gates, states: G; how many tensors the state has.
        slots: how many; the first G are the projected inputs. None outlives its step.
        saved: how many planes are saved for the backward pass, each in a place of its own.
        blocks: of each weight (rows, columns), in blocks of H; (1, n) also for a weight used row by row.
        rows: names of the weights used elementwise.
        forward: of one step, its products plain, after the slots have been filled with the projected inputs.
        backs: how many derivatives by left operands.
        backward: of one step, its products transposed.
        carry: the products that end the backward step, onto "carry"; not needed at the first step where nobody asks
            for the derivative by the first state.
        gradients: of weights, from all steps.
    """

    gates: int
    states: int
    slots: int
    saved: int
    blocks: dict[str, tuple[int, int]]
    rows: tuple[str, ...]
    forward: tuple[Instruction, ...]
    backs: int
    backward: tuple[Instruction, ...]
    carry: tuple[Product, ...]
    gradients: tuple[WeightGradient, ...]

    @property
    def matrices(self) -> list[str]:
        """Names of the weights used in products."""
        return [name for name in self.blocks if name not in self.rows]

    def __str__(self) -> str:
        parts = {"forward": self.forward, "backward": self.backward, "carry": self.carry, "after": self.gradients}
        lines = [f"{self.slots} slots, {self.saved} saved"]
        for name, instructions in parts.items():
            lines += [name, *(f"  {line}" for instruction in instructions for line in str(instruction).splitlines())]
        return "\n".join(lines)
