"""From a cell's step to expressions: the step is run once on small tensors, and every operation it calls is looked at.

A tensor [R, B, n*H] is a list of n planes; chunk, split, slice and cat only move planes about. A weight is followed
through its views by the numbers of its elements, so any spelling of a block of it is understood.  What each expression
comes to is compared with what the operation returned, so a step that mixes sequences or replicas is found out.
R replicas, B batch, H hidden, G gates.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from seqbench.cells import Cell
from seqbench.cells.rules import place
from seqbench.kernels.compiler.expression import OPERATIONS, Expression, apply, constant, in_order, lift

aten = torch.ops.aten
STATES = ("state", "held")  # before the step; no gradient goes back to those held
# R, B, H: different ones, so that a number taken from a shape is found out, and a branch for one sequence or replica.
SIZES = (2, 3, 5), (3, 2, 7), (1, 1, 4)


class Unsupported(Exception):  # noqa: N818 - no error: the cell runs in the loop
    """A step that cannot be compiled: which cell, which operation, which line and why."""


class _Refused(Exception):  # noqa: N818
    """Why; `Unsupported` adds where."""


@dataclass(frozen=True)
class Traced:
    """A step in expressions.

    Attributes:
        outputs: the new states; leaves are input(k), state(k), held(k), a state that no gradient goes back to,
            row(weight, k) and constants.
        blocks: by matrix its (rows, columns), by row-shaped weight its (1, columns), all in blocks of H.
    """

    outputs: tuple[Expression, ...]
    blocks: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class _Planes:
    planes: list[Expression]


@dataclass(frozen=True)
class _Weight:
    name: str
    columns: int  # of the whole weight, in elements
    elements: Tensor  # which of them this view holds, counted without R


def trace(cell: Cell) -> Traced:
    """The step in expressions.

    Raises:
        Unsupported: with the cell, the operation, the line and the reason.
    """
    first, *others = (_trace(cell, sizes) for sizes in SIZES)
    for sizes, other in zip(SIZES[1:], others, strict=True):
        if first.outputs != other.outputs:
            raise Unsupported(f"{place(cell, None)}: {_differs(SIZES[0], sizes)}")
    return first


def at_sizes(cell: Cell, R: int, B: int, H: int, dtype: torch.dtype) -> str:
    """Why the plan of a cell, whose step can be traced, is not that of its step at these sizes; "" if it is.

    It is traced anew and no numbers are compared, so this takes milliseconds, as one step of the loop.
    """
    first = _trace(cell, SIZES[0])
    try:
        other = _trace(cell, (R, B, H), dtype)
    except Unsupported as reason:
        return str(reason)
    return "" if first.outputs == other.outputs else f"{place(cell, None)}: {_differs(SIZES[0], (R, B, H))}"


def _differs(*sizes: tuple[int, int, int]) -> str:
    meant = " and ".join("R {}, B {}, H {}".format(*each) for each in sizes)
    return f"a branch on a size, or a number taken from a shape: the step means another thing at {meant}"


# `test` and `validate` ask for it where torch notes down nothing that could be traced.
@torch.inference_mode(False)
def _trace(cell: Cell, sizes: tuple[int, int, int], dtype: torch.dtype | None = None) -> Traced:
    """The step at sizes R, B, H: on zeros of that dtype; without one, on numbers, and those are compared."""
    R, B, H = sizes
    random = functools.partial(torch.rand, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draw = functools.partial(torch.zeros, dtype=dtype) if dtype else random
    shapes = {name: weight.shape for name, weight in cell.weights(H).items()}
    w = {name: draw(R, *shape) for name, shape in shapes.items()}
    a, state = draw(R, B, cell.gates * H), tuple(draw(R, B, H) for _ in range(cell.states))
    mode, before = _Tracer(a, state, w, compared=dtype is None), dict(vars(cell))
    try:
        with torch.enable_grad(), mode:
            new = cell.step(a, state, SimpleNamespace(**w))
        outputs = _outputs(mode, new, state)
        if changed := [name for name, value in vars(cell).items() if before.get(name, mode) is not value]:
            raise _Refused(f"the step changes the unit's {changed[0]}, so it may mean another thing each time")
    except _Refused as error:
        raise Unsupported(f"{place(cell, error)}: {error}") from None
    except RuntimeError as error:
        raise Unsupported(f"{place(cell, error)}: {str(error).splitlines()[0]}") from error
    rows, matrices = ({e.key[0] for e in in_order(outputs) if e.op == op} for op in ("row", "matmul"))
    if unused := sorted(shapes.keys() - rows - matrices):
        raise Unsupported(f"{place(cell, None)}: weight {unused[0]} is declared and not used")
    if both := sorted(rows & matrices):
        raise Unsupported(f"{place(cell, None)}: weight {both[0]} is used elementwise and in a product")
    blocks = {}
    for name, shape in shapes.items():
        columns = math.prod(shape) if name in rows else shape[-1]
        blocks[name] = 1 if name in rows else math.prod(shape[:-1]) // H, columns // H
    return Traced(outputs, blocks)


def _outputs(mode: _Tracer, new: Any, old: tuple[Tensor, ...]) -> tuple[Expression, ...]:
    if not isinstance(new, tuple | list) or len(new) != len(old):
        raise _Refused(f"it returns {len(new) if isinstance(new, tuple | list) else 'no tuple'}, not {len(old)} states")
    if bad := [k for k, (s, before) in enumerate(zip(new, old, strict=True)) if s.shape != before.shape]:
        raise _Refused(f"state {bad[0]} does not come back as [R, B, H]")
    return tuple(mode.planes(s)[0] for s in new)


class _Tracer(TorchDispatchMode):
    """Looks at each operation of a step: what it does to planes and to views of weights."""

    def __init__(self, a: Tensor, state: tuple[Tensor, ...], draw: dict[str, Tensor], compared: bool) -> None:
        super().__init__()
        self.compared = compared
        self.shape, self.H, self.draw = state[0].shape, state[0].shape[-1], draw
        inputs = [Expression("input", key=(k,)) for k in range(a.shape[-1] // self.H)]
        states = [Expression("state", key=(k,)) for k in range(len(state))]
        self.numbers = dict(zip(inputs, a.split(self.H, -1), strict=True)) | dict(zip(states, state, strict=True))
        self.numbers |= {Expression("held", key=(k,)): one for k, one in enumerate(state)}
        known: list[tuple[Tensor, Any]] = [(a, _Planes(inputs))]
        known += [(tensor, _Planes([e])) for tensor, e in zip(state, states, strict=True)]
        for name, tensor in draw.items():
            elements = torch.arange(tensor[0].numel()).view_as(tensor[:1]).expand_as(tensor)
            known.append((tensor, _Weight(name, tensor.shape[-1], elements)))
        # The tensors are kept, so that no other can have their ids.
        self.values = {id(tensor): (tensor, value) for tensor, value in known}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: skipping it, as torch's modes do, imports torch._dynamo, which takes seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket
        if func._schema.is_mutable:
            raise _Refused(f"{name} changes a tensor in place")
        if not torch.is_grad_enabled():
            raise _Refused(f"{name} stands under no_grad: the loop would have no gradient through it")
        if func is aten._local_scalar_dense.default:
            raise _Refused("the way through the step depends on a tensor's value")
        if name not in RULES and not any(isinstance(x, Tensor) for x in args):
            raise _Refused(f"{name} makes a tensor inside of the step: declare it as a weight")
        values = [self.value(x) for x in args]
        out = func(*args, **kwargs)
        if isinstance(values[0] if values else None, _Weight) and name in WEIGHT_VIEWS:
            result = self.view_of_weight(func, values[0], args[1:], kwargs)
        elif name in RULES:
            result = RULES[name](self, out, *values, **kwargs)
        else:
            raise _Refused(f"no rule for {name}")
        for tensor, value in zip(*((out, result) if isinstance(out, tuple | list) else ([out], [result])), strict=True):
            if isinstance(value, _Planes):
                self.check(tensor, value)
            self.values[id(tensor)] = (tensor, value)
        return out

    def check(self, tensor: Tensor, value: _Planes) -> None:
        """Refuses a tensor that its planes do not come to."""
        R, B, H = self.shape
        if tensor.shape[-1] != len(value.planes) * H:
            raise _Refused("a reshape of the H axis")
        if tuple(tensor.shape[:-1]) in ((R, B), (R, 1)):
            if not self.compared:
                return
            numbers = torch.cat([self.number(plane).expand(self.shape) for plane in value.planes], -1)
            if torch.allclose(tensor.expand_as(numbers), numbers, equal_nan=True):
                return
        raise _Refused("sequences or replicas are left out, mixed or rearranged")

    def number(self, e: Expression) -> Tensor:
        """What an expression comes to, [R, B, H] or [R, 1, H]."""
        if e not in self.numbers:
            args, H = [self.number(x) for x in e.args], self.H
            if e.op == "constant":
                self.numbers[e] = torch.full(self.shape, e.key[0], dtype=torch.float64)
            elif e.op == "row":
                name, k = e.key
                self.numbers[e] = self.draw[name].view(self.shape[0], 1, -1)[..., k * H : (k + 1) * H]
            elif e.op == "matmul":
                name, row, column = e.key
                block = self.draw[name].view(self.shape[0], -1, self.draw[name].shape[-1])
                block = block[:, row * H : (row + 1) * H, column * H : (column + 1) * H]
                self.numbers[e] = args[0].expand(self.shape) @ block
            else:
                self.numbers[e] = OPERATIONS[e.op].torch(*args)
        return self.numbers[e]

    def value(self, x: Any) -> Any:
        """What a tensor stands for; numbers, shapes and lists of tensors likewise."""
        if isinstance(x, tuple | list):
            return [self.value(y) for y in x]
        if not isinstance(x, Tensor):
            return x
        if id(x) not in self.values:
            raise _Refused("a tensor made inside of the step: declare it as a weight")
        return self.values[id(x)][1]

    def planes(self, x: Any) -> list[Expression]:
        """The planes of a tensor, or of a value."""
        value = self.value(x) if isinstance(x, Tensor) else x
        return self.row(value) if isinstance(value, _Weight) else value.planes

    def row(self, weight: _Weight) -> list[Expression]:
        """A weight used elementwise."""
        elements = weight.elements
        if elements.dim() != 3 or elements.shape[1] != 1 or elements.shape[-1] % self.H:
            raise _Refused(f"weight {weight.name} is used elementwise, but is no row [R, 1, n*H]")
        blocks = elements[0, 0].view(-1, self.H)
        if not (blocks - blocks[:, :1] == torch.arange(self.H)).all() or (blocks[:, 0] % self.H).any():
            raise _Refused(f"weight {weight.name} is cut inside of a block of H")
        return [Expression("row", key=(weight.name, k)) for k in (blocks[:, 0] // self.H).tolist()]

    def view_of_weight(self, func: Any, weight: _Weight, args: Any, kwargs: Any) -> Any:
        out = func(weight.elements, *args, **kwargs)
        if isinstance(out, tuple | list):
            return [_Weight(weight.name, weight.columns, elements) for elements in out]
        return _Weight(weight.name, weight.columns, out)

    def blocks(self, planes: list[Expression], sizes: list[int]) -> list[_Planes]:
        """Planes dealt out to tensors of these widths."""
        if any(size % self.H for size in sizes):
            raise _Refused("a block of H is cut")
        left = iter(planes)
        return [_Planes([next(left) for _ in range(size // self.H)]) for size in sizes]

    def elementwise(self, function: Callable[..., Expression], *values: Any) -> _Planes:
        """The function plane by plane."""
        operands = [v if isinstance(v, int | float) else self.planes(v) for v in values]
        counts = {len(v) for v in operands if isinstance(v, list)}
        if len(counts) != 1:
            raise _Refused(f"a broadcast over H: {' and '.join(map(str, sorted(counts)))} blocks")
        return _Planes([function(*(v[k] if isinstance(v, list) else v for v in operands)) for k in range(counts.pop())])

    def product(self, out: Tensor, left: Any, right: Any, onto: Any = None) -> _Planes:
        """left @ right, or onto + left @ right: planes times blocks of a weight."""
        if not isinstance(left, _Planes) or not isinstance(right, _Weight):
            raise _Refused("a product needs a state on the left and a weight on the right")
        if any(plane.value is not None for plane in left.planes):
            raise _Refused("a product of a constant")
        H, N, elements = self.H, right.columns, right.elements[0]
        rows, columns = elements.shape
        first_row, first_column = divmod(int(elements[0, 0]), N)
        plain = (first_row + torch.arange(rows))[:, None] * N + first_column + torch.arange(columns)
        if any(size % H for size in (rows, columns, N, first_row, first_column)) or not elements.equal(plain):
            raise _Refused(f"weight {right.name} is transposed, or cut inside of a block of H")
        sums = []
        for j in range(columns // H):
            total = self.planes(onto)[j] if onto is not None else constant(0.0)
            for k, plane in enumerate(left.planes):
                total = total + Expression("matmul", (plane,), (right.name, first_row // H + k, first_column // H + j))
            sums.append(total)
        return _Planes(sums)


def _elementwise(function: Callable[..., Any]) -> Callable[..., _Planes]:
    def rule(tracer: _Tracer, out: Tensor, *values: Any, **kwargs: Any) -> _Planes:
        if kwargs:
            raise _Refused(f"an argument without a rule: {', '.join(kwargs)}")
        return tracer.elementwise(lambda *planes: lift(function(*planes)), *values)

    return rule


def _named(op: str) -> Callable[..., _Planes]:
    return _elementwise(lambda *planes: apply(op, *planes))


def _split(tracer: _Tracer, out: Any, x: _Planes, sizes: Any, dim: int = 0) -> list[_Planes]:
    if dim not in (2, -1):
        raise _Refused("a split along another axis than H")
    return tracer.blocks(x.planes, [part.shape[-1] for part in out])


def _slice(
    tracer: _Tracer, out: Tensor, x: _Planes, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> _Planes:
    if dim not in (2, -1):
        return x
    begin = (start or 0) % (len(x.planes) * tracer.H)
    if step != 1 or begin % tracer.H or out.shape[-1] % tracer.H:
        raise _Refused("a slice that cuts a block of H")
    return _Planes(x.planes[begin // tracer.H :][: out.shape[-1] // tracer.H])


def _cat(tracer: _Tracer, out: Tensor, parts: list[Any], dim: int = 0) -> _Planes:
    if dim not in (2, -1):
        raise _Refused("a cat along another axis than H")
    return _Planes([plane for part in parts for plane in tracer.planes(part)])


def _same(tracer: _Tracer, out: Tensor, x: Any, *sizes: Any, **kwargs: Any) -> _Planes:
    """A view or copy of planes that keeps them as they are."""
    return x


def _product(tracer: _Tracer, out: Tensor, left: Any, right: Any) -> _Planes:
    return tracer.product(out, left, right)


def _product_onto(tracer: _Tracer, out: Tensor, onto: Any, left: Any, right: Any, **scales: Any) -> _Planes:
    if scales:
        raise _Refused("baddbmm with beta or alpha")
    return tracer.product(out, left, right, onto)


def _power(tracer: _Tracer, out: Tensor, x: Any, exponent: float) -> _Planes:
    if exponent != 2:
        raise _Refused(f"a power of {exponent}")
    return tracer.elementwise(lambda v: v * v, x)


def _detach(tracer: _Tracer, out: Tensor, x: Any) -> _Planes:
    """Of a state. torch's zeros_like and ones_like call it too."""
    if isinstance(x, _Planes) and all(plane.value is not None for plane in x.planes):
        return x
    if isinstance(x, _Planes) and all(plane.op in STATES for plane in x.planes):
        return _Planes([Expression("held", key=plane.key) for plane in x.planes])
    raise _Refused("detach of what is no state: the loop would have no gradient through it")


def _filled(value: float) -> Callable[..., _Planes]:
    return lambda tracer, out, x, **kwargs: _Planes([constant(value) for _ in x.planes])


WEIGHT_VIEWS = {
    aten.select, aten.slice, aten.unsqueeze, aten.squeeze, aten.view, aten._unsafe_view, aten.expand, aten.alias,
    aten.split, aten.split_with_sizes, aten.transpose, aten.permute, aten.reshape, aten.clone, aten.unbind, aten.t,
}  # fmt: skip
RULES: dict[Any, Callable[..., Any]] = {
    aten.add: _elementwise(lambda x, y: lift(x) + y), aten.sub: _elementwise(lambda x, y: lift(x) - y),
    aten.mul: _elementwise(lambda x, y: lift(x) * y), aten.div: _elementwise(lambda x, y: lift(x) / y),
    aten.rsub: _elementwise(lambda x, y: y - lift(x)), aten.neg: _elementwise(lambda x: -x),
    aten.reciprocal: _elementwise(lambda x: 1 / x), aten.square: _elementwise(lambda x: x * x), aten.pow: _power,
    aten.lerp: _elementwise(lambda x, y, weight: x + weight * (y - x)),
    aten.addcmul: _elementwise(lambda x, y, z: x + y * z), aten.silu: _elementwise(lambda x: x * apply("sigmoid", x)),
    aten.sigmoid: _named("sigmoid"), aten.tanh: _named("tanh"), aten.exp: _named("exp"), aten.sqrt: _named("sqrt"),
    aten.sin: _named("sin"), aten.cos: _named("cos"), aten.relu: _named("relu"), aten.abs: _named("absolute"),
    aten.maximum: _named("maximum"), aten.minimum: _named("minimum"), aten.detach: _detach,
    aten.zeros_like: _filled(0.0), aten.ones_like: _filled(1.0),
    aten.split: _split, aten.split_with_sizes: _split, aten.slice: _slice, aten.cat: _cat,
    aten.view: _same, aten._unsafe_view: _same, aten.expand: _same, aten.alias: _same, aten.clone: _same,
    aten.bmm: _product, aten.baddbmm: _product_onto,
}  # fmt: skip
