"""Triton source from a plan: a kernel for all steps forward, and one for all steps backward.

A program holds a tile of the batch of one replica: states and the slots of a step stay in registers.  Resident weights
are loaded once, block by block, before the first step.  Where they are not, each product's left operand goes through
memory, and at every step the weights are read again from the GPU's cache, some rows at a time.

Planes are padded to PADDED columns and TILE rows; what stands there is never stored, and is taken for 0 in products.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from seqbench.kernels.compiler.expression import OPERATIONS
from seqbench.kernels.compiler.plan import Block, Instruction, Pass, Place, Plan, Product

HEADER = """\
import triton
import triton.language as tl

from seqbench.kernels.gpu.blocks import block, maximum, minimum, product, streamed, tanh


"""
# Compiled again for lengths of 1 and multiples of 16 otherwise, which nothing is gained from.
DECORATOR = '@triton.jit(do_not_specialize=["T", "R", "B"])'
CONSTANTS = [f"{name}: tl.constexpr" for name in ("H", "PADDED", "TILE")]
PROGRAM = [
    "replica = tl.program_id(0).to(tl.int64)",
    "tile = tl.program_id(1)",
    "b = tile * TILE + tl.arange(0, TILE)[:, None]",
    "h = tl.arange(0, PADDED)[None, :]",
    "inside = (b < B) & (h < H)",
    "first = replica * B * H",
]
STEP = "here = (t * R + replica) * B * H"
PRIVATE = [
    "scratch += (replica * tl.num_programs(1) + tile) * {planes} * TILE * PADDED",
    "through = tl.arange(0, TILE)[:, None] * PADDED + h",
]


def source(plan: Plan, resident: bool, interpreted: bool) -> str:
    """The module's text, with the functions `forward` and `backward`.

    Args: resident: whether the weights are; interpreted: whether for Triton's interpreter.
    """
    # The interpreter counts no further than to a constant.
    sizes = ["T: tl.constexpr" if interpreted else "T", "R", "B", *CONSTANTS]
    kernels = _Forward(plan, resident, sizes), _Backward(plan, resident, sizes)
    return HEADER + "\n\n".join("".join(f"{line}\n" for line in kernel.function()) for kernel in kernels)


def scratch_planes(plan: Plan) -> int:
    """How many planes [TILE, PADDED] of memory each program needs where weights are not resident."""
    products = [op for op in (*plan.backward, *plan.carry) if isinstance(op, Product)]
    return max((op.block.width for op in products), default=1)


Term = tuple[Place, int, Block, bool]  # place added to, number of the left operand, one block, whether it holds a value


class _Kernel(ABC):
    """What both kernels have in common."""

    name: str
    tensors: list[str]
    instructions: tuple[Instruction, ...]

    def __init__(self, plan: Plan, resident: bool, sizes: list[str]) -> None:
        self.plan, self.resident, self.sizes = plan, resident, sizes
        # 2: the next step's planes are loaded before this one's products (and no registers are spilled in them).
        # 1 where the loop reads what it writes: Triton would load that too early, as it does not look for it.
        self.stages = 2 if resident else 1
        self.states = range(plan.states)
        self.weights = [f"row_{name}" for name in plan.rows] + [f"matrix_{name}" for name in plan.matrices]

    def function(self) -> Iterator[str]:
        yield DECORATOR
        yield f"def {self.name}({', '.join([*self.tensors, *self.weights, 'scratch', *self.sizes])}):"
        # Where this program's part of a plane begins, from the step on, in tensors of so many planes.
        planes = sorted({1, self.plan.gates, self.plan.slots, self.plan.saved} - {0})
        offsets = [f"at_{n} = b * {n} * H + h" for n in planes]
        for line in [*PROGRAM, *offsets, *self.load_weights(), *self.body()]:
            yield f"    {line}"

    @abstractmethod
    def body(self) -> Iterator[str]:
        """After the weights have been loaded."""

    def load_weights(self) -> Iterator[str]:
        """Rows, and resident matrices."""
        for name in self.plan.rows:
            columns = self.plan.blocks[name][1]
            for k in range(columns):
                at = f"row_{name} + replica * {columns} * H + {k} * H + h"
                yield f"{_name(Place('row', k, name))} = tl.load({at}, mask=h < H, other=0.0).to(tl.float32)"
        if self.resident:
            products = [op for op in self.instructions if not isinstance(op, Pass)]
            for one in sorted({one for op in products for one in _single(op.block)}):
                yield f"{_matrix(one)} = block({self.corner(one)}, H, PADDED)"
        else:
            yield from (line.format(planes=scratch_planes(self.plan)) for line in PRIVATE)

    def seen(self, block: Block) -> tuple[int, int, int]:
        """In the matrix that the kernel is given: the block's row and column, and how many columns there are."""
        return block.row, block.column, self.plan.blocks[block.weight][1]

    def corner(self, block: Block) -> str:
        """The address of a block's first element, and the columns of its weight."""
        row, column, columns = self.seen(block)
        size = math.prod(self.plan.blocks[block.weight])
        at = f"matrix_{block.weight} + replica * {size} * H * H + {row * columns} * H * H + {column} * H"
        return f"{at}, {columns} * H"

    def step(self, instructions: Iterable[Instruction]) -> Iterator[str]:
        for op in instructions:
            if isinstance(op, Pass):
                yield from _elementwise(op)
            elif op.transposed:
                lefts = [_right(op.left, j) for j in range(op.block.width)]
                terms = [(op.into, j, one, op.add or j > 0) for j, one in enumerate(_single(op.block))]
                yield from self.products(lefts, terms)
            else:
                blocks = enumerate(_single(op.block))
                terms = [(_right(op.into, j), 0, one, op.add) for j, one in blocks]
                yield from self.products([op.left], terms)

    def products(self, lefts: list[Place], terms: list[Term]) -> Iterator[str]:
        for number, left in enumerate(lefts):
            yield f"left_{number} = tl.where(inside, {_name(left)}, 0.0)"
        if not self.resident:
            yield "tl.debug_barrier()"  # all have read what the last product left in scratch
            for number, _ in enumerate(lefts):
                yield f"tl.store(scratch + {number} * TILE * PADDED + through, left_{number})"
            yield "tl.debug_barrier()"
        for into, number, one, add in terms:
            total = _name(into) if add else "tl.zeros((TILE, PADDED), tl.float32)"
            if self.resident:
                yield f"{_name(into)} = product({total}, left_{number}, {_matrix(one)})"
            else:
                at = f"scratch + {number} * TILE * PADDED"
                yield f"{_name(into)} = streamed({total}, {at}, {self.corner(one)}, H, PADDED, TILE)"


class _Forward(_Kernel):
    name = "forward"

    def __init__(self, plan: Plan, resident: bool, sizes: list[str]) -> None:
        super().__init__(plan, resident, sizes)
        self.tensors = ["a", "saved", *(f"states_{k}" for k in self.states)]
        self.instructions = plan.forward

    def body(self) -> Iterator[str]:
        for k in self.states:
            yield _load(f"state_{k}", f"states_{k}", "first")
        yield f"for t in tl.range(0, T, num_stages={self.stages}):"
        yield from (f"    {line}" for line in self.loop())

    def loop(self) -> Iterator[str]:
        plan = self.plan
        yield STEP
        for k in range(plan.gates):
            yield _load(f"slot_{k}", "a", "here", plan.gates, k)
        yield from self.step(plan.forward)
        for k in range(plan.saved):
            yield _store(f"saved_{k}", "saved", "here", plan.saved, k)
        for k in self.states:
            yield f"state_{k} = next_{k}"
            yield _store(f"state_{k}", f"states_{k}", "(here + R * B * H)")


class _Backward(_Kernel):
    """Sees the matrices transposed."""

    name = "backward"

    def __init__(self, plan: Plan, resident: bool, sizes: list[str]) -> None:
        super().__init__(plan, resident, sizes)
        states = [f"states_{k}" for k in self.states]
        carries = [f"carries_{k}" for k in self.states]
        drows = [f"drow_{name}" for name in plan.rows]
        self.tensors = ["saved", *states, "dh", *carries, "dslots", *drows]
        self.instructions = (*plan.backward, *plan.carry)

    def seen(self, block: Block) -> tuple[int, int, int]:
        return block.column, block.row, self.plan.blocks[block.weight][0]

    def body(self) -> Iterator[str]:
        drows = [Place("drow", k, name) for name in self.plan.rows for k in range(self.plan.blocks[name][1])]
        for k in self.states:
            yield _load(f"carry_{k}", f"carries_{k}", "first")
        for place in drows:
            yield f"{_name(place)} = tl.zeros((TILE, PADDED), tl.float32)"
        yield f"for back in tl.range(0, T, num_stages={self.stages}):"
        yield from (f"    {line}" for line in self.loop())
        for k in self.states:
            yield _store(f"carry_{k}", f"carries_{k}", "first")
        for place in drows:
            columns = self.plan.blocks[place.weight][1]
            at = f"drow_{place.weight} + ((replica * tl.num_programs(1) + tile) * {columns} + {place.plane}) * H"
            total = f"tl.sum(tl.where(inside, {_name(place)}, 0.0), 0, keep_dims=True)"
            yield f"tl.store({at} + h, {total}, mask=h < H)"

    def loop(self) -> Iterator[str]:
        plan = self.plan
        yield "t = T - 1 - back"
        yield STEP
        for place in sorted({place for op in plan.backward if isinstance(op, Pass) for place in op.inputs()}):
            match place.buffer:
                case "saved":
                    yield _load(_name(place), "saved", "here", plan.saved, place.plane)
                case "state":
                    yield _load(_name(place), f"states_{place.plane}", "here")
                case "next":
                    yield _load(_name(place), f"states_{place.plane}", "(here + R * B * H)")
                case "dh":
                    yield _load(_name(place), "dh", "here")
        yield from self.step(plan.backward)
        yield from self.step(plan.carry)
        for k in range(plan.slots):
            yield _store(f"dslot_{k}", "dslots", "here", plan.slots, k)


def _elementwise(op: Pass) -> Iterator[str]:
    statements, results = op.statements({place: _name(place) for place in op.inputs()}, _number)
    for name, function, operands in statements:
        yield f"{name} = {OPERATIONS[function].gpu.format(*operands)}"
    # Two steps, as an output may overwrite an input of another.
    for number, result in enumerate(results):
        yield f"new_{number} = tl.broadcast_to({result}, (TILE, PADDED))"
    for number, (place, _) in enumerate(op.outputs):
        yield f"{_name(place)} {'+=' if place.buffer == 'drow' else '='} new_{number}"


def _name(place: Place) -> str:
    """A place's variable."""
    return "_".join(filter(None, [place.buffer, place.weight, str(place.plane)]))


def _matrix(block: Block) -> str:
    return f"block_{block.weight}_{block.row}_{block.column}"


def _right(place: Place, j: int) -> Place:
    """The place j to the right."""
    return Place(place.buffer, place.plane + j, place.weight)


def _single(block: Block) -> list[Block]:
    return [Block(block.weight, block.row, block.column + j) for j in range(block.width)]


def _number(value: float) -> str:
    spelt = str(value) if math.isfinite(value) else f"float('{value}')"
    return f"tl.full((1, 1), {spelt}, tl.float32)"


def _address(tensor: str, step: str, planes: int, plane: int) -> str:
    """Of a plane in a tensor [steps, R, B, planes*H]; `step` is the address of the step in one of a single plane."""
    return f"{tensor} + {step} * {planes} + at_{planes} + {plane} * H" if planes > 1 else f"{tensor} + {step} + at_1"


def _load(name: str, tensor: str, step: str, planes: int = 1, plane: int = 0) -> str:
    return f"{name} = tl.load({_address(tensor, step, planes, plane)}, mask=inside, other=0.0).to(tl.float32)"


def _store(name: str, tensor: str, step: str, planes: int = 1, plane: int = 0) -> str:
    return f"tl.store({_address(tensor, step, planes, plane)}, {name}, mask=inside)"
