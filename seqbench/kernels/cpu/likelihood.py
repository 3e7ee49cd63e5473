"""Likelihoods and their derivatives by what a head puts out, row by row, within compiled code.

Addresses are integers, in bytes; matrices are float32.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite.ir import DoubleType, IRBuilder, Value
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from seqbench.kernels.cpu import vector
from seqbench.kernels.cpu.vector import FLOAT, FLOATS, INT64, WIDTH, Vector

DOUBLE = DoubleType()


def _along(builder: IRBuilder, columns: Value, each: Callable[[Value, Value | None], None]) -> None:
    """each(column, mask) for the vectors of a row, the mask None but for the last of a row that ends within it."""
    whole, left = builder.udiv(columns, INT64(WIDTH)), builder.urem(columns, INT64(WIDTH))
    with cgutils.for_range(builder, whole) as vectors:
        each(builder.mul(vectors.index, INT64(WIDTH)), None)
    with builder.if_then(cgutils.is_not_null(builder, left)):
        each(builder.mul(whole, INT64(WIDTH)), vector.first_lanes(builder, left))


@intrinsic
def bernoulli(typingctx, logits, targets, nats, rows, columns):
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


class _Mixture:
    """A row of outputs, logits [M], mu [K, M] and ln sigma [K, M], and of targets [K]: nats and derivatives.

    a_m = l_m - sum_k [z_km^2 / 2 + s_km] with s = max(ln sigma, least), z = (y - mu) exp(-s);  nats =
    K ln(2 pi) / 2 - ln sum_m exp(a_m) + ln sum_m exp(l_m).  With p = softmax(a), q = softmax(l) its derivatives are
    q_m - p_m;  -p_m z_km exp(-s_km);  p_m (1 - z_km^2), or 0 where ln sigma < least.
    """

    def __init__(self, components: int, least: float) -> None:
        self.M, self.least = components, least

    def density(self, builder: IRBuilder, o: Value, y: Value, K: Value, start: int, mask: Value | None) -> Vector:
        """a of the components from `start`; leaves what is to be multiplied by p in place of mu and ln sigma."""
        M = self.M
        total = cgutils.alloca_once(builder, FLOATS)
        builder.store(vector.constant(0), total)
        with cgutils.for_range(builder, K) as target:
            mean = vector.offset(builder, o, builder.add(INT64(M + start), builder.mul(target.index, INT64(M))))
            deviation = vector.offset(builder, mean, builder.mul(K, INT64(M)))
            number = builder.load(vector.offset(builder, y, target.index), align=4, typ=FLOAT)
            log_sigma = Vector(builder, vector.load(builder, deviation, mask))
            bounded = vector.maximum(log_sigma, self.least)
            precision = vector.exp(-bounded)
            mu = Vector(builder, vector.load(builder, mean, mask))
            z = (Vector(builder, vector.broadcast(builder, number)) - mu) * precision
            term = z * z * 0.5 + bounded
            builder.store(builder.fadd(builder.load(total, typ=FLOATS), term.value), total)
            vector.store(builder, (-(z * precision)).value, mean, mask)
            slope = vector.choose(">=", log_sigma, log_sigma.like(self.least), 1.0 - z * z, log_sigma.like(0))
            vector.store(builder, slope.value, deviation, mask)
        logit = Vector(builder, vector.load(builder, vector.offset(builder, o, INT64(start)), mask))
        return logit - Vector(builder, builder.load(total, typ=FLOATS))

    def row(self, builder: IRBuilder, o: Value, y: Value, K: Value) -> Value:
        """The row's nats, a float32; leaves the derivatives in place of the outputs."""
        M = self.M
        parts = [(start, min(WIDTH, M - start)) for start in range(0, M, WIDTH)]
        masks = [None if count == WIDTH else vector.first_lanes(builder, INT64(count)) for _, count in parts]
        joint = [self.density(builder, o, y, K, start, mask) for (start, _), mask in zip(parts, masks, strict=True)]
        places = [vector.offset(builder, o, INT64(start)) for start, _ in parts]
        logits = [Vector(builder, vector.load(builder, place, mask)) for place, mask in zip(places, masks, strict=True)]
        p, log_joint = _softmax(builder, joint, masks)
        q, log_prior = _softmax(builder, logits, masks)
        for (start, _), place, mask, p_m, q_m in zip(parts, places, masks, p, q, strict=True):
            vector.store(builder, (q_m - p_m).value, place, mask)
            with cgutils.for_range(builder, builder.mul(K, INT64(2))) as number:
                at = builder.add(INT64(M + start), builder.mul(number.index, INT64(M)))
                slope = vector.offset(builder, o, at)
                product = Vector(builder, vector.load(builder, slope, mask)) * p_m
                vector.store(builder, product.value, slope, mask)
        constant = builder.fmul(builder.uitofp(K, DOUBLE), DOUBLE(0.5 * math.log(2 * math.pi)))
        return builder.fptrunc(builder.fadd(constant, builder.fsub(log_prior, log_joint)), FLOAT)


def mixture_of(components: int, least: float) -> Any:
    """The likelihood of targets under a mixture of so many Gaussians whose ln sigma are no less than `least`."""
    M, parts = components, _Mixture(components, least)

    @intrinsic
    def mixture(typingctx, outputs, targets, nats, rows, columns):
        """nats [rows] from outputs [rows, M (1 + 2 K)] and targets [rows, K]; derivatives replace the outputs."""

        def emit(context: Any, builder: IRBuilder, signature: Any, arguments: Sequence[Value]) -> Value:
            *addresses, rows, K = arguments
            outputs, targets, nats = (vector.pointer(builder, address) for address in addresses)
            width = builder.mul(INT64(M), builder.add(INT64(1), builder.mul(INT64(2), K)))
            with cgutils.for_range(builder, rows) as row:
                o = vector.offset(builder, outputs, builder.mul(row.index, width))
                y = vector.offset(builder, targets, builder.mul(row.index, K))
                builder.store(parts.row(builder, o, y, K), vector.offset(builder, nats, row.index), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), emit

    return mixture


def _softmax(builder: IRBuilder, parts: list[Vector], masks: Sequence[Value | None]) -> tuple[list[Vector], Value]:
    """Of all lanes that no mask leaves out, as vectors; and ln sum exp of them, a double."""
    lowest = vector.constant(float(np.finfo(np.float32).min))
    kept = [
        part if mask is None else Vector(builder, builder.select(mask, part.value, lowest))
        for part, mask in zip(parts, masks, strict=True)
    ]
    top = vector.largest(functools.reduce(vector.maximum, kept))
    highest = Vector(builder, vector.broadcast(builder, top))
    powers = [vector.exp(part - highest) for part in kept]
    total = vector.add_up(builder, functools.reduce(operator.add, powers).value)
    shares = [power / Vector(builder, vector.broadcast(builder, total)) for power in powers]
    log_total = vector.call(builder, "llvm.log.f64", DOUBLE, [builder.fpext(total, DOUBLE)])
    return shares, builder.fadd(builder.fpext(top, DOUBLE), log_total)


@intrinsic
def scaled(typingctx, matrix, factors, into, ld, rows, columns):
    """into [rows, columns], rows ld floats apart, = matrix [rows, columns] times factors [rows]."""

    def emit(context: Any, builder: IRBuilder, signature: Any, arguments: Sequence[Value]) -> Value:
        *addresses, ld, rows, columns = arguments
        matrix, factors, into = (vector.pointer(builder, address) for address in addresses)
        with cgutils.for_range(builder, rows) as row:
            number = builder.load(vector.offset(builder, factors, row.index), align=4, typ=FLOAT)
            factor = vector.broadcast(builder, number)
            row_in = vector.offset(builder, matrix, builder.mul(row.index, columns))
            row_out = vector.offset(builder, into, builder.mul(row.index, ld))

            def each(column: Value, mask: Value | None) -> None:
                value = vector.load(builder, vector.offset(builder, row_in, column), mask)
                vector.store(builder, builder.fmul(value, factor), vector.offset(builder, row_out, column), mask)

            _along(builder, columns, each)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), emit
