"""Finds a unit's gated memory in its step: m_t = keep * m_{t-1} + write * content, for each hidden unit alone.

A unit declares nothing. Its step is traced into expressions, as for compiling (seqbench/kernels/compiler), and a new
state is taken apart as it is written: what multiplies its own last value outside of any function is `keep`; in what is
left, the factors that cannot be negative (sums and products of sigmoids and exponentials) are `write`, all else is
`content`. Gates and content may themselves depend on the memory, as by peepholes or in a GRU; they are taken as they
come out, as by Levy et al. (2018, arXiv 1805.03716).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from seqbench.cells import Cell
from seqbench.kernels.compiler.expression import Expression, constant, in_order, substitute
from seqbench.kernels.compiler.trace import Traced, Unsupported, trace

ZERO, ONE = constant(0.0), constant(1.0)
VARYING = ("input", "state", "matmul")  # of what an expression consists, all that differs from step to step


@dataclass(frozen=True)
class Gated:
    """A memory, in expressions of a step's inputs, last states and weights.

    Attributes:
        states: which of the unit's states it is: one, or two, the real and the imaginary part.
        keep: as many expressions: a memory of two tensors is kept by a complex factor.
        write: real; 1 where there is no such gate.
        content: as many expressions as states.
        others: what else a unit multiplies by as a gate, by name: "read" what is read from the memory, "reset" a part
            of the content.
    """

    states: tuple[int, ...]
    keep: tuple[Expression, ...]
    write: Expression
    content: tuple[Expression, ...]
    others: dict[str, Expression]

    @property
    def gates(self) -> dict[str, Expression]:
        """Those that there are: a factor that is the same at every step, a number or a weight, is none."""
        known = {"write": self.write} | ({"keep": self.keep[0]} if len(self.keep) == 1 else {}) | self.others
        return {name: gate for name, gate in known.items() if any(e.op in VARYING for e in in_order([gate]))}


def gated_memory(cell: Cell) -> Gated | None:
    """The memory; None if no state is one, or the step cannot be traced. Of several the first whose content varies.

    (A state with a constant content counts, as the SLSTM's normaliser.)
    """
    try:
        step = _followed(trace(cell))
    except Unsupported:
        return None
    for k, new in enumerate(step.outputs):
        own = Expression("state", key=(k,))
        keep, rest = _parted(new, own)
        if keep.value == 0:
            continue
        partner = _partner(step, k, rest)
        if partner is None:
            write, content = _written(rest)
            found = Gated((k,), (keep,), write, (content,), _others(step, k, (content,)))
        elif (pair := _complex(step, k, partner)) is not None:
            found = pair
        else:
            continue
        if found.content[0].value is None:
            return found
    return None


def _followed(step: Traced) -> Traced:
    """Where training sends no gradient back to a state, the step reads it all the same."""
    held = {Expression("held", key=(k,)): Expression("state", key=(k,)) for k in range(len(step.outputs))}
    memo: dict[Expression, Expression] = {}
    return replace(step, outputs=tuple(substitute(e, held, memo) for e in step.outputs))


def _partner(step: Traced, k: int, rest: Expression) -> int | None:
    """The state that adds to state k as a multiple of itself, and takes from it likewise."""
    for other, new in enumerate(step.outputs):
        into = _parted(rest, Expression("state", key=(other,)))[0]
        back = _parted(new, Expression("state", key=(k,)))[0]
        if other != k and into.value != 0 and back.value != 0:
            return other
    return None


def _complex(step: Traced, re: int, im: int) -> Gated | None:
    """re' = A re - B im + ..., im' = B re + A im + ...: one memory, kept by A + i B."""
    x, y = (Expression("state", key=(k,)) for k in (re, im))
    (a, rest), (d, other) = _parted(step.outputs[re], x), _parted(step.outputs[im], y)
    (minus_b, rest), (b, other) = _parted(rest, y), _parted(other, x)
    if a is not d or minus_b is not -b:
        return None
    (write, content), (also, imaginary) = _written(rest), _written(other)
    if write is not also:
        write, content, imaginary = ONE, rest, other
    return Gated((re, im), (a, b), write, (content, imaginary), _others(step, re, (content, imaginary)))


def _parted(e: Expression, state: Expression) -> tuple[Expression, Expression]:
    """A and B of e = A * state + B, A free of bare occurrences of the state; (0, e) where it has none."""
    if e is state:
        return ONE, ZERO
    if e.op not in ("add", "sub", "neg", "mul", "div"):
        return ZERO, e
    parts = [_parted(x, state) for x in e.args]
    if all(a.value == 0 for a, _ in parts):
        return ZERO, e
    (a, b), (c, d) = parts[0], parts[-1]
    match e.op:
        case "add":
            return a + c, b + d
        case "sub":
            return a - c, b - d
        case "neg":
            return -a, -b
        case "mul" if c.value == 0:
            return a * e.args[1], b * e.args[1]
        case "mul" if a.value == 0:
            return c * e.args[0], d * e.args[0]
        case "div" if c.value == 0:
            return a / e.args[1], b / e.args[1]
    return ZERO, e


def _written(rest: Expression) -> tuple[Expression, Expression]:
    """Gate and content of what is added to a memory; (1, rest) where no gate is common to all of it."""
    gates: dict[Expression, Expression] = {}
    for gate, content in _terms(rest):
        gates[content] = gates.get(content, ZERO) + gate
    if len(gates) == 1:
        ((content, gate),) = gates.items()
        if _is_gate(gate):
            return gate, content
    return ONE, rest


def _terms(e: Expression) -> Iterator[tuple[Expression, Expression]]:
    if e.op in ("add", "sub") and not _is_gate(e):
        yield from _terms(e.args[0])
        for gate, content in _terms(e.args[1]):
            yield (gate if e.op == "add" else -gate), content
    else:
        yield _factors(e)


def _factors(e: Expression) -> tuple[Expression, Expression]:
    """What of a product is a gate, up to its sign, and the rest."""
    if _is_gate(e):
        return e, ONE
    if e.op == "neg":
        gate, content = _factors(e.args[0])
        return -gate, content
    if e.op in ("mul", "div"):
        (gate, content), (other, below) = (_factors(x) for x in e.args)
        if e.op == "mul":
            return gate * other, content * below
        return gate / other, content / below
    return ONE, e


def _others(step: Traced, state: int, content: tuple[Expression, ...]) -> dict[str, Expression]:
    found = {}
    if state:
        found["read"] = _factors(step.outputs[0])[0]
    resets = [gate for e in in_order(content) if e.op == "mul" and (gate := _factor_of(e)) is not None]
    found |= {f"reset {n + 1}" if len(resets) > 1 else "reset": gate for n, gate in enumerate(dict.fromkeys(resets))}
    return found


def _factor_of(product: Expression) -> Expression | None:
    """The operand that is a gate, where the other is none."""
    x, y = product.args
    if _is_gate(x) == _is_gate(y):
        return None
    gate = x if _is_gate(x) else y
    return gate if gate.value is None else None


def _is_gate(e: Expression) -> bool:
    return _bounds(e)[0] >= 0


def _bounds(e: Expression) -> tuple[float, float]:
    """Between which numbers an expression of sigmoids, exponentials and constants lies; anything else: anywhere."""
    if e.value is not None:
        return e.value, e.value
    anywhere = -math.inf, math.inf
    if e.op in ("sigmoid", "exp", "sqrt"):
        return 0.0, 1.0 if e.op == "sigmoid" else math.inf
    if e.op not in ("add", "sub", "neg", "mul", "div", "maximum", "minimum"):
        return anywhere
    (low, high), (least, most) = _bounds(e.args[0]), _bounds(e.args[-1])
    match e.op:
        case "add":
            return low + least, high + most
        case "sub":
            return low - most, high - least
        case "neg":
            return -high, -low
        case "maximum":
            return max(low, least), max(high, most)
        case "minimum":
            return min(low, least), min(high, most)
        case "mul" if low >= 0 and least >= 0:
            return low * least, math.inf if math.inf in (high, most) else high * most
        case "div" if low >= 0 and least >= 0:
            return 0.0, math.inf
    return anywhere
