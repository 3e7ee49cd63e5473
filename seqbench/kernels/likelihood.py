"""The likelihood of on/off targets and its derivative, row by row, within compiled code.

Addresses are integers, in bytes; matrices are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite.ir import IRBuilder, Value
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from seqbench.kernels import vector
from seqbench.kernels.vector import FLOAT, FLOATS, INT64, WIDTH, Vector


def _along(builder: IRBuilder, columns: Value, each: Callable[[Value, Value | None], None]) -> None:
    """each(column, mask) for the vectors of a row, the mask None but for the last of a row that ends within it."""
    whole, left = builder.udiv(columns, INT64(WIDTH)), builder.urem(columns, INT64(WIDTH))
    with cgutils.for_range(builder, whole) as vectors:
        each(builder.mul(vectors.index, INT64(WIDTH)), None)
    with builder.if_then(cgutils.is_not_null(builder, left)):
        each(builder.mul(whole, INT64(WIDTH)), vector.first_lanes(builder, left))


@intrinsic
def likelihood(typingctx, logits, targets, nats, rows, columns):
    """nats [rows] from logits and targets [rows, columns], addresses in bytes; the derivative replaces the logits."""

    def emit(context: Any, builder: IRBuilder, signature: Any, arguments: Sequence[Value]) -> Value:
        *addresses, rows, columns = arguments
        logits, targets, nats = (vector.pointer(builder, address) for address in addresses)
        total = cgutils.alloca_once(builder, FLOATS)
        with cgutils.for_range(builder, rows) as row:
            start = builder.mul(row.index, columns)
            o, y = (vector.offset(builder, matrix, start) for matrix in (logits, targets))
            builder.store(vector.constant(0), total)

            def each(column: Value, mask: Value | None) -> None:
                places = [vector.offset(builder, part, column) for part in (o, y)]
                logit, target = (Vector(builder, vector.load(builder, place, mask)) for place in places)
                value, slope = vector.softplus_and_sigmoid(logit)
                vector.store(builder, (slope - target).value, places[0], mask)
                term = (value - target * logit).value
                term = term if mask is None else builder.select(mask, term, vector.constant(0))
                builder.store(builder.fadd(builder.load(total, typ=FLOATS), term), total)

            _along(builder, columns, each)
            builder.store(vector.add_up(builder, builder.load(total, typ=FLOATS)), builder.gep(
                nats, [row.index], source_etype=FLOAT
            ))  # fmt: skip
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), emit


@intrinsic
def scaled(typingctx, matrix, factors, into, ld, rows, columns):
    """into [rows, columns], rows ld floats apart, = matrix [rows, columns] times factors [rows]."""

    def emit(context: Any, builder: IRBuilder, signature: Any, arguments: Sequence[Value]) -> Value:
        *addresses, ld, rows, columns = arguments
        matrix, factors, into = (vector.pointer(builder, address) for address in addresses)
        with cgutils.for_range(builder, rows) as row:
            number = builder.load(vector.offset(builder, factors, row.index), align=4, typ=FLOAT)
            factor = vector.broadcast(builder, number)
            source = vector.offset(builder, matrix, builder.mul(row.index, columns))
            target = vector.offset(builder, into, builder.mul(row.index, ld))

            def each(column: Value, mask: Value | None) -> None:
                value = vector.load(builder, vector.offset(builder, source, column), mask)
                vector.store(builder, builder.fmul(value, factor), vector.offset(builder, target, column), mask)

            _along(builder, columns, each)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), emit
