"""Elementwise expressions over planes [B, H], interned: two that are equal are the same object.

An operation is one row of `OPERATIONS`: its meaning in torch, its derivative, how it is spelt on CPU and GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import torch


class Expression:
    """An operation on expressions, or a leaf: what is known before, named by `op` and `key`.

    Attributes:
        op: a key of `OPERATIONS`, "constant", "matmul" (args[0] times a block of a weight), or a leaf's kind.
        args: the operands.
        key: what tells leaves of a kind apart; a constant's value; a matmul's (weight, row, column) in blocks of H.
    """

    __slots__ = ("__weakref__", "args", "key", "op")
    _pool: ClassVar[WeakValueDictionary[tuple[Any, ...], Expression]] = WeakValueDictionary()

    op: str
    args: tuple[Expression, ...]
    key: tuple[Any, ...]

    def __new__(cls, op: str, args: tuple[Expression, ...] = (), key: tuple[Any, ...] = ()) -> Expression:
        identity = (op, args, key)
        known = cls._pool.get(identity)
        if known is None:
            known = object.__new__(cls)
            known.op, known.args, known.key = identity
            cls._pool[identity] = known
        return known

    @property
    def is_leaf(self) -> bool:
        """Whether it is known before, and no operation."""
        return not self.args

    @property
    def value(self) -> float | None:
        """A constant's value, None for anything else."""
        return self.key[0] if self.op == "constant" else None

    def __repr__(self) -> str:
        if self.op in ("constant", "at"):
            return str(self.key[0])
        if self.op == "matmul":
            weight, row, column = self.key
            return f"{self.args[0]} @ {weight}[{row}, {column}]"
        text = spelt(self.op, [str(x) for x in self.args + self.key])
        return f"({text})" if self.op in INFIX else text

    def __add__(self, other: Expression | float) -> Expression:
        x, y = self, lift(other)
        if x.value is not None and y.value is not None:
            return constant(x.value + y.value)
        if x.value == 0 or y.value == 0:
            return y if x.value == 0 else x
        return x - y.args[0] if y.op == "neg" else Expression("add", (x, y))

    def __sub__(self, other: Expression | float) -> Expression:
        x, y = self, lift(other)
        if x.value is not None and y.value is not None:
            return constant(x.value - y.value)
        if x.value == 0 or y.value == 0:
            return -y if x.value == 0 else x
        return Expression("sub", (x, y))

    def __mul__(self, other: Expression | float) -> Expression:
        x, y = self, lift(other)
        if x.value is not None:
            x, y = y, x
        if x.value is not None and y.value is not None:
            return constant(x.value * y.value)
        if y.value == 1:
            return x
        if y.value == -1:
            return -x
        # Without this, a cotangent of zero would be carried through a whole derivative.
        return y if y.value == 0 else Expression("mul", (x, y))

    def __truediv__(self, other: Expression | float) -> Expression:
        y = lift(other)
        return self * (1 / y.value) if y.value else Expression("div", (self, y))

    def __neg__(self) -> Expression:
        if self.value is not None:
            return constant(-self.value)
        return self.args[0] if self.op == "neg" else Expression("neg", (self,))

    def __radd__(self, other: float) -> Expression:
        return constant(other) + self

    def __rsub__(self, other: float) -> Expression:
        return constant(other) - self

    def __rmul__(self, other: float) -> Expression:
        return self * other

    def __rtruediv__(self, other: float) -> Expression:
        return constant(other) / self


def spelt(op: str, operands: list[str]) -> str:
    """An operation to be read: a + b, tanh(a)."""
    return f" {INFIX[op]} ".join(operands) if op in INFIX else f"{op}({', '.join(operands)})"


def constant(value: float) -> Expression:
    """The same number everywhere."""
    return Expression("constant", key=(float(value),))


def lift(x: Expression | float) -> Expression:
    """An expression as it is, a number as a constant."""
    return x if isinstance(x, Expression) else constant(x)


def apply(op: str, *args: Expression | float) -> Expression:
    """An operation of the table on expressions and numbers."""
    return Expression(op, tuple(lift(x) for x in args))


Derivative = Callable[[Expression, Expression], tuple[Expression | float, ...]]


@dataclass(frozen=True)
class Operation:
    """What an operation means.

    Attributes:
        torch: on tensors.
        derivative: from the result y and its cotangent g, the cotangents of the operands (y.args).
        cpu: on seqbench.kernels.cpu.vector's vectors, with {0}, {1} for the operands.
        gpu: in Triton, with the functions of seqbench.kernels.gpu.blocks, likewise.
        dear: worth saving for the backward pass rather than computing again.
    """

    torch: Callable[..., Any]
    derivative: Derivative
    cpu: str
    gpu: str
    dear: bool = False

    @property
    def operands(self) -> int:
        """How many."""
        return 2 if "{1}" in self.cpu else 1


def _share(y: Expression) -> Expression:
    """1 where the first operand is the greater one, 1/2 where they are equal, as torch has it."""
    return 0.5 + 0.5 * apply("sign", y.args[0] - y.args[1])


GPU_SIGN = "tl.where({0} > 0, 1.0, tl.where({0} < 0, -1.0, 0.0))"
INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
OPERATIONS = {
    "add": Operation(torch.add, lambda y, g: (g, g), "({0} + {1})", "({0} + {1})"),
    "sub": Operation(torch.sub, lambda y, g: (g, -g), "({0} - {1})", "({0} - {1})"),
    "mul": Operation(torch.mul, lambda y, g: (g * y.args[1], g * y.args[0]), "({0} * {1})", "({0} * {1})"),
    "div": Operation(
        torch.div, lambda y, g: (g / y.args[1], -(g * y / y.args[1])), "({0} / {1})", "({0} / {1})", dear=True
    ),
    "neg": Operation(torch.neg, lambda y, g: (-g,), "(-{0})", "(-{0})"),
    "sigmoid": Operation(
        torch.sigmoid, lambda y, g: (g * (y * (1 - y)),), "sigmoid({0})", "tl.sigmoid({0})", dear=True
    ),
    "tanh": Operation(
        torch.tanh, lambda y, g: (g * (1 - y * y),), "tanh({0})", "tanh({0})", dear=True
    ),
    "exp": Operation(torch.exp, lambda y, g: (g * y,), "exp({0})", "tl.exp({0})", dear=True),
    "sin": Operation(torch.sin, lambda y, g: (g * apply("cos", y.args[0]),), "sin({0})", "tl.sin({0})", dear=True),
    "cos": Operation(torch.cos, lambda y, g: (-(g * apply("sin", y.args[0])),), "cos({0})", "tl.cos({0})", dear=True),
    "sqrt": Operation(torch.sqrt, lambda y, g: (g * 0.5 / y,), "sqrt({0})", "tl.sqrt({0})", dear=True),
    "relu": Operation(torch.relu, lambda y, g: (g * apply("sign", y),), "relu({0})", "maximum({0}, 0.0)"),
    "absolute": Operation(
        torch.abs, lambda y, g: (g * apply("sign", y.args[0]),), "absolute({0})", "tl.abs({0})"
    ),
    "maximum": Operation(
        torch.maximum, lambda y, g: (g * _share(y), g - g * _share(y)), "maximum({0}, {1})", "maximum({0}, {1})"
    ),
    "minimum": Operation(
        torch.minimum, lambda y, g: (g - g * _share(y), g * _share(y)), "minimum({0}, {1})", "minimum({0}, {1})"
    ),
    "sign": Operation(torch.sign, lambda y, g: (0.0,), "sign({0})", GPU_SIGN),
}  # fmt: skip


def in_order(
    roots: Iterable[Expression], needs: Callable[[Expression], Iterable[Expression]] = lambda e: e.args
) -> list[Expression]:
    """The roots and all that they need, each once, after all that itself needs."""
    ordered: dict[Expression, None] = {}

    def visit(e: Expression) -> None:
        if e not in ordered:
            for x in needs(e):
                visit(x)
            ordered[e] = None

    for root in roots:
        visit(root)
    return list(ordered)


def substitute(e: Expression, known: Mapping[Expression, Expression], memo: dict[Expression, Expression]) -> Expression:
    """The expression with parts replaced by others; nothing is simplified. `memo` is shared between calls."""
    if e in known:
        return known[e]
    if e not in memo:
        memo[e] = Expression(e.op, tuple(substitute(x, known, memo) for x in e.args), e.key) if e.args else e
    return memo[e]
