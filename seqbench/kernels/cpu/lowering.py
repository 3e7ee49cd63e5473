"""A plan as numba source: the whole time loop, forward and backward, of a tile of one replica's batch.

The generated functions take sizes and strides (floats), then addresses (bytes), each a piece of work's own, in the
order of `forward_fields` and `backward_fields`.  Rows of slots lie `ld` apart, all other planes are rows of H.

T time, R replicas, B batch, I inputs, H hidden, G gates, P slots.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from seqbench.kernels.compiler.expression import OPERATIONS
from seqbench.kernels.compiler.plan import Block, Instruction, Pass, Place, Plan, WeightGradient
from seqbench.kernels.cpu.cache import numba_function

HEADER = '''"""Made by seqbench from a cell's step."""
from numba import njit
from seqbench.kernels.cpu.product import call_product, call_product_transposed, call_step
from seqbench.kernels.cpu.vector import (
    absolute, cos, elementwise, exp, maximum, minimum, relu, sigmoid, sign, sin, sqrt, tanh
)
'''
AHEAD = 8  # steps whose slots are filled at once
OFFSETS = [
    "o = 4 * (first + {t} * step)",
    "p = 4 * {t} * tile * H",
    "q = saved + 4 * {t} * saved_step",
]


@dataclass(frozen=True)
class Fields:
    """Names of what a generated function is given.

    Attributes:
        sizes: what follows from sizes alone; tiles.py knows it of each piece of work.
        starts: addresses, and numbers that differ from call to call; tiles.py knows how far behind one a piece's is.
    """

    sizes: list[str]
    starts: list[str]

    @property
    def all(self) -> list[str]:
        """In order."""
        return self.sizes + self.starts


@functools.cache
def forward_fields(plan: Plan) -> Fields:
    """Of `forward`, in front of those of `backward` too.

    T: steps of the tile; B: rows of the tile; tile: rows that there is room for; first, step: where the tile begins and
    how far it is to the next step, in floats of h and dh; *_step: likewise for others, which begin at their own
    address, saved_step is 0 where nothing is kept; saved_plane: from one saved plane to the next, all steps of the
    first in between; product: the matrix product's address. The other states' steps follow each other, and there is
    room for the slots of AHEAD.
    """
    sizes = [
        "T", "B", "I", "H", "tile", "first", "step", "x_step", "ldw", "ld", "slot_step", "saved_step", "saved_plane",
        *(f"ld_{name}" for name in plan.matrices),
    ]  # fmt: skip
    starts = ["product", "x", "W", "b", "slots", "saved"]
    starts += [f"state{k}" for k in range(plan.states)] + [f"U_{name}" for name in plan.matrices]
    return Fields(sizes, starts + [f"row_{name}" for name in plan.rows])


@functools.cache
def backward_fields(plan: Plan) -> Fields:
    """What `backward` is given behind the forward pass's own.

    chunk: steps whose derivatives are held before they go into the weights'; dslots, carry, back: room for them; ones:
    address of a 1; dx: 0 if not wanted; W_T, UT_*: transposed weights; wants_first: whether the derivative by the first
    state is wanted.
    """
    sizes = ["chunk", "dx_step", "ldw_T"] + [f"ldt_{name}" for name in plan.matrices]
    starts = ["wants_first", "dh", "dslots", "carry", "back", "ones", "dW", "db", "dx", "W_T"]
    starts += [f"{kind}_{name}" for name in plan.matrices for kind in ("UT", "dU")]
    return Fields(sizes, starts + [f"drow_{name}" for name in plan.rows])


def source(plan: Plan) -> str:
    """Python source with the functions `forward` and `backward`."""
    return _Writer(plan).text()


class _Writer:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.passes: list[str] = []

    def text(self) -> str:
        forward, backward = self.forward(), self.backward()
        return HEADER + "".join(self.passes) + forward + backward

    def forward(self) -> str:
        G = self.plan.gates
        into = "slots + 4 * (t - begin) * slot_step"
        return numba_function("forward", forward_fields(self.plan).all, [
            # Some steps ahead, so that W and the recurrent weights do not drive each other out of the first cache.
            f"for begin in range(0, T, {AHEAD}):",
            *_indented([
                f"end = min(begin + {AHEAD}, T)",
                # Of single sequences all these steps are one product, its rows as far apart as steps are.
                "for t in range(begin, begin + 1 if B == 1 else end):",
                "    rows, row_x, row = (end - begin, x_step, slot_step) if B == 1 else (B, I, ld)",
                f"    call_product(product, rows, {G} * H, I, x + 4 * t * x_step, row_x, W, ldw, {into}, row, b, 0)",
                "for t in range(begin, end):",
                *_indented([*_offsets("t"), f"s = {into}", *map(self.instruction, self.plan.forward)]),
            ]),
        ])  # fmt: skip

    def backward(self) -> str:
        G = self.plan.gates
        into_x = f"call_product(product, B, I, {G} * H, d, ld, W_T, ldw_T, dx + 4 * t * dx_step, I, 0, 0)"
        each = [
            *_offsets("t"),
            "d = dslots + 4 * (t - begin) * tile * ld",
            *map(self.instruction, self.plan.backward),
            "if t > 0 or wants_first:",
            *_indented([*map(self.instruction, self.plan.carry), "pass"]),
            "if dx:",
            *_indented([into_x]),
        ]  # fmt: skip
        sums = [
            _sum("I", f"{G} * H", "x + 4 * begin * x_step", "I", "d", "dW", "ldw", "x_step"),
            _sum("1", f"{G} * H", "ones", "0", "d", "db", "ldw", "0"),
            *(self.gradient(gradient) for gradient in self.plan.gradients),
        ]
        return numba_function("backward", [*forward_fields(self.plan).all, *backward_fields(self.plan).all], [
            "end = T",
            "while end > 0:",
            *_indented([
                # Counted from the first step: how far a batch is padded changes no sum's order.
                "begin = (end - 1) // chunk * chunk",
                "for t in range(end - 1, begin - 1, -1):",
                *_indented(each),
                "steps = end - begin",
                *_offsets("begin"),
                "d = dslots",
                *sums,
                "end = begin",
            ]),
        ])  # fmt: skip

    def instruction(self, op: Instruction) -> str:
        if isinstance(op, Pass):
            return self.elementwise(op)
        left, left_step = self.address(op.left)
        into, into_step = self.address(op.into)
        start = into if op.add else "0"
        width = op.block.width
        if op.transposed:
            sizes, right = f"H, {width} * H", f"{_corner(op.block, transposed=True)}, ldt_{op.block.weight}"
        else:
            sizes, right = f"{width} * H, H", f"{_corner(op.block)}, ld_{op.block.weight}"
        operands = f"{left}, {left_step}, {right}, {into}, {into_step}, {start}, {into_step}"
        return f"call_step(product, B, {sizes}, {operands})"

    def gradient(self, gradient: WeightGradient) -> str:
        left, left_row = self.address(gradient.left)
        right, _ = self.address(gradient.right)
        state_step = "tile * H" if gradient.left.plane else "step"
        into = _corner(gradient.block, "dU")
        return _sum(
            "H", f"{gradient.block.width} * H", left, left_row, right, into, f"ld_{gradient.block.weight}",
            "saved_step" if gradient.left.buffer == "saved" else state_step,
        )  # fmt: skip

    def address(self, place: Place) -> tuple[str, str]:
        """Where a plane begins at this step, and how far its rows are apart."""
        k = place.plane
        right = f" + {4 * k} * H" if k else ""
        match place.buffer:
            case "slot":
                return f"s{right}", "ld"
            case "dslot":
                return f"d{right}", "ld"
            case "saved":
                return f"q + {4 * k} * saved_plane" if k else "q", "H"
            case "state":
                return f"state{k} + {'p' if k else 'o'}", "H"
            case "next":
                return f"state{k} + p + 4 * tile * H" if k else "state0 + o + 4 * step", "H"
            case "row":
                return f"row_{place.weight}{right}", "0"
            case "drow":
                return f"drow_{place.weight}{right}", "0"
            case "dh":
                return "dh + o", "H"
            case buffer:  # carry and back
                return f"{buffer} + {4 * k} * tile * H" if k else buffer, "H"

    def elementwise(self, op: Pass) -> str:
        """The call of a pass, whose own function goes in front."""
        number = len(self.passes)
        sums = [place for place, _ in op.outputs if place.buffer == "drow"]
        inputs = op.inputs() + sums or [op.outputs[0][0]]
        names = {place: f"x{i}" for i, place in enumerate(inputs)}
        statements, results = op.statements(names, repr)
        lines = [f"{name} = {OPERATIONS[function].cpu.format(*operands)}" for name, function, operands in statements]
        outputs = []
        for (place, e), result in zip(op.outputs, results, strict=True):
            value = f"x0.like({result})" if e.value is not None else result
            outputs.append(f"{names[place]} + {value}" if place.buffer == "drow" else value)
        self.passes.append(
            f"\n\ndef compute{number}({', '.join(names.values())}):\n"
            + "\n".join(_indented([*lines, f"return [{', '.join(outputs)}]"]))
            + f'\n\n\npass{number} = elementwise({len(inputs)}, {len(outputs)}, compute{number}, "NAME_pass{number}")\n'
        )
        places = [self.address(place) for place in inputs + [place for place, _ in op.outputs]]
        addresses = ", ".join(address for address, _ in places)
        if all(stride == "H" for _, stride in places):  # one row without gaps
            return f"pass{number}(({addresses},), ({'0, ' * len(places)}), 1, B * H)"
        return f"pass{number}(({addresses},), ({', '.join(stride for _, stride in places)},), B, H)"


def _corner(block: Block, kind: str = "U", transposed: bool = False) -> str:
    """The address of a block's first element."""
    row, column = (block.column, block.row) if transposed else (block.row, block.column)
    matrix, step = (f"UT_{block.weight}", "ldt") if transposed else (f"{kind}_{block.weight}", "ld")
    return f"{matrix} + 4 * ({row} * H * {step}_{block.weight} + {column} * H)"


def _sum(
    rows: str, columns: str, left: str, left_row: str, right: str, into: str, into_row: str, left_step: str
) -> str:
    """A weight's gradient: += the sum over the chunk's steps of left^T right."""
    product = f"call_product_transposed(product, {rows}, {columns}, "
    result = f"{into}, {into_row}, {into}, {into_row}, "
    # Of single sequences the steps are rows of one product: one by one they would not fill its loop.
    return (
        f"{product}steps, {left}, {left_step}, {right}, tile * ld, {result}1, 0, 0) if B == 1 else "
        f"{product}B, {left}, {left_row}, {right}, ld, {result}steps, {left_step}, tile * ld)"
    )


def _offsets(t: str) -> list[str]:
    """Where a step's part begins."""
    return [line.format(t=t) for line in OFFSETS]


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]
