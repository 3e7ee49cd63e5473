"""Vectors of float32 in the CPU's registers, and the elementwise passes written with them.

`elementwise` makes a numba function of a Python function on `Vector`s: the Python function runs once, while numba
compiles, and what it does to its vectors becomes LLVM code.

Addresses are integers, in bytes; strides are in floats, here and in product.py.

Nothing here lets LLVM change the arithmetic: products are fused into sums by `Vector` itself, so the same numbers give
the same bits wherever in a row, in a batch or in a group of replicas they stand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.ir import IRBuilder, Value
from numba import njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

# What numba compiles for, not what the machine has: NUMBA_CPU_NAME and NUMBA_CPU_FEATURES count.
_FEATURES = cpu_target.target_context.codegen().magic_tuple()[2].split(",")

WIDTH = 16 if "+avx512f" in _FEATURES else 8
"""Floats in a vector."""

FLOAT = ir.FloatType()
INT32 = ir.IntType(32)
INT64 = ir.IntType(64)
POINTER = ir.PointerType()
FLOATS = ir.VectorType(FLOAT, WIDTH)
_INTS = ir.VectorType(INT32, WIDTH)
_BITS = ir.VectorType(ir.IntType(1), WIDTH)


def constant(number: float) -> Value:
    """A vector of one number."""
    return ir.Constant(FLOATS, [float(np.float32(number))] * WIDTH)


def call(builder: IRBuilder, name: str, result: ir.Type, arguments: Sequence[Value]) -> Value:
    """Calls one of LLVM's intrinsics."""
    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


def fma(builder: IRBuilder, a: Value, b: Value, c: Value) -> Value:
    """a b + c, rounded once."""
    return call(builder, f"llvm.fma.v{WIDTH}f32", FLOATS, [a, b, c])


def broadcast(builder: IRBuilder, scalar: Value) -> Value:
    """A vector of one scalar."""
    vector = ir.VectorType(scalar.type, WIDTH)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, INT32(0))
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), ir.Constant(_INTS, [0] * WIDTH))


def first_lanes(builder: IRBuilder, count: Value) -> Value:
    """The mask of a vector's first `count` lanes; `count`: int64."""
    lanes = broadcast(builder, builder.trunc(count, INT32))
    return builder.icmp_signed("<", ir.Constant(_INTS, list(range(WIDTH))), lanes)


def pointer(builder: IRBuilder, address: Value) -> Value:
    return builder.inttoptr(address, POINTER)


def offset(builder: IRBuilder, base: Value, floats: Value) -> Value:
    """The pointer `floats` floats behind `base`."""
    return builder.gep(base, [floats], source_etype=FLOAT)


def load(builder: IRBuilder, place: Value, mask: Value | None = None) -> Value:
    """The vector at `place`; what the mask leaves out is not read, it is 0."""
    if mask is None:
        return builder.load(place, align=4, typ=FLOATS)
    # LLVM 22 moved the alignment from this argument to an attribute, and still understands the argument.
    return call(builder, f"llvm.masked.load.v{WIDTH}f32.p0", FLOATS, [place, INT32(4), mask, constant(0)])


def store(builder: IRBuilder, value: Value, target: Value, mask: Value | None = None) -> None:
    """Writes the vector to `target`; what the mask leaves out stays as it is."""
    if mask is None:
        builder.store(value, target, align=4)
    else:
        name = f"llvm.masked.store.v{WIDTH}f32.p0"
        call(builder, name, ir.VoidType(), [value, target, INT32(4), mask])


def add_up(builder: IRBuilder, vector: Value) -> Value:
    """The sum of a vector's lanes: halves, quarters and so on, always in that order."""
    count = WIDTH
    while count > 1:
        count //= 2
        other = ir.Constant(_INTS, [(k + count) % WIDTH for k in range(WIDTH)])
        vector = builder.fadd(vector, builder.shuffle_vector(vector, vector, other))
    return builder.extract_element(vector, INT32(0))


def largest(x: Vector) -> Value:
    """The largest of a vector's lanes, a scalar; NaN where one is."""
    builder, count = x.builder, WIDTH
    while count > 1:
        count //= 2
        other = ir.Constant(_INTS, [(k + count) % WIDTH for k in range(WIDTH)])
        x = maximum(x, Vector(builder, builder.shuffle_vector(x.value, x.value, other)))
    return builder.extract_element(x.value, INT32(0))


class Vector:
    """A vector while code is made: what is done to it becomes LLVM instructions.

    The other operand is a Vector or a Python number.  A product that is added to or subtracted from something is fused
    with it (`x * y + z` is rounded once).
    """

    def __init__(self, builder: IRBuilder, value: Value, factors: tuple[Vector, Vector] | None = None) -> None:
        self.builder = builder
        self.value = value
        self._factors = factors

    def _vector(self, other: Vector | float) -> Vector:
        return other if isinstance(other, Vector) else Vector(self.builder, constant(other))

    def like(self, number: float) -> Vector:
        """A vector of one number."""
        return self._vector(number)

    def fma(self, m: Vector | float, a: Vector | float) -> Vector:
        """self m + a, rounded once."""
        return Vector(self.builder, fma(self.builder, self.value, self._vector(m).value, self._vector(a).value))

    def __neg__(self) -> Vector:
        if self._factors:
            a, b = self._factors
            return -a * b
        return Vector(self.builder, self.builder.fneg(self.value))

    def __add__(self, other: Vector | float) -> Vector:
        other = self._vector(other)
        for product, term in ((self, other), (other, self)):
            if product._factors:
                a, b = product._factors
                return a.fma(b, term)
        return Vector(self.builder, self.builder.fadd(self.value, other.value))

    __radd__ = __add__

    def __sub__(self, other: Vector | float) -> Vector:
        other = self._vector(other)
        if self._factors or other._factors:
            return self + -other
        return Vector(self.builder, self.builder.fsub(self.value, other.value))

    def __rsub__(self, other: float) -> Vector:
        return self._vector(other) - self

    def __mul__(self, other: Vector | float) -> Vector:
        other = self._vector(other)
        return Vector(self.builder, self.builder.fmul(self.value, other.value), (self, other))

    __rmul__ = __mul__

    def __truediv__(self, other: Vector | float) -> Vector:
        return Vector(self.builder, self.builder.fdiv(self.value, self._vector(other).value))

    def __rtruediv__(self, other: float) -> Vector:
        return self._vector(other) / self


def choose(sign: str, a: Vector, b: Vector, yes: Vector, no: Vector) -> Vector:
    """`yes` where a `sign` b holds, else `no`; with a NaN nothing holds."""
    builder = a.builder
    return Vector(builder, builder.select(builder.fcmp_ordered(sign, a.value, b.value), yes.value, no.value))


def _extreme(sign: str, a: Vector | float, b: Vector | float) -> Vector:
    if not isinstance(a, Vector):
        a, b = b, a
    assert isinstance(a, Vector)
    other = a._vector(b)
    # NaN in `a` comes through as what no comparison chooses; NaN in a number does not happen.
    chosen = choose(sign, other, a, other, a)
    return choose("==", other, other, chosen, other) if isinstance(b, Vector) else chosen


def maximum(a: Vector | float, b: Vector | float) -> Vector:
    """The larger, NaN where either is; at least one is a Vector."""
    return _extreme(">", a, b)


def minimum(a: Vector | float, b: Vector | float) -> Vector:
    """The smaller, NaN where either is; at least one is a Vector."""
    return _extreme("<", a, b)


def absolute(x: Vector) -> Vector:
    return Vector(x.builder, call(x.builder, f"llvm.fabs.v{WIDTH}f32", FLOATS, [x.value]))


def sqrt(x: Vector) -> Vector:
    return Vector(x.builder, call(x.builder, f"llvm.sqrt.v{WIDTH}f32", FLOATS, [x.value]))


def relu(x: Vector) -> Vector:
    return maximum(x, 0.0)


def sign(x: Vector) -> Vector:
    """-1, 0 or 1; NaN of NaN."""
    zero, one = x._vector(0.0), x._vector(1.0)
    return choose(">", x, zero, one, choose("<", x, zero, -one, x))


def tanh(x: Vector) -> Vector:
    """Within 3.1e-7 relative, down to denormals; never beyond 1.

    An odd rational of degrees 9 and 8, from Eigen's generic_fast_tanh (ptanh_float).
    """
    # The bound is the first number where the rational gives 1.
    x = maximum(minimum(x, 8.01773357391357422), -8.01773357391357422)
    square = x * x
    p = _polynomial(square, 1.394553628e-8, 2.102733560e-5, 3.520756727e-3, 1.340216100e-1)
    q = _polynomial(square, 8.015776984e-7, 3.326951409e-4, 2.597254514e-2, 4.673548340e-1, 1.0)
    return (x * square).fma(p, x) / q


def exp(x: Vector) -> Vector:
    """Within 1.1e-7 relative; inf above 88.72, down to the smallest denormal and 0 below."""
    # ln 2 in two parts, the first short enough for an integer times it to be exact.
    fraction, power = _exp(maximum(minimum(x, 89.0), -104.0), 0.693359375, -2.12194440e-4)
    builder = x.builder
    # In two halves: 2 ** -150 and 2 ** 128 are no normal numbers.
    half = builder.ashr(power, ir.Constant(_INTS, [1] * WIDTH))
    return fraction * _power_of_two(builder, half) * _power_of_two(builder, builder.sub(power, half))


def sigmoid(x: Vector) -> Vector:
    """1 / (1 + exp(-x)), within 4e-7 relative for every x above -87, where it stays."""
    fraction, power = _exp(maximum(minimum(-x, 87.0), -87.0), 0.6931471805599453)
    return 1.0 / (fraction * _power_of_two(x.builder, power) + 1.0)


def sin(x: Vector) -> Vector:
    """Within 1.2e-7 for |x| up to 8,192; NaN beyond, where angles have lost what they say."""
    return _turned(x, 0)


def cos(x: Vector) -> Vector:
    """As `sin`."""
    return _turned(x, 1)


def _turned(x: Vector, quarters: int) -> Vector:
    """sin(x + quarters * pi / 2): x = n * pi / 2 + r, |r| <= pi / 4, polynomials from Cephes (sinf, cosf)."""
    builder = x.builder
    n, count = _nearest(x, 0.6366197723675814)
    r = x
    for part in (1.5703125, 4.837512969970703e-4, 7.549789948768648e-8):  # of pi / 2, short enough for exact products
        r = n.fma(-part, r)
    square = r * r
    sine = (r * square).fma(_polynomial(square, -1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1), r)
    c = _polynomial(square, 2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2, -0.5)
    cosine = square.fma(c, x._vector(1.0))
    count = builder.add(count, ir.Constant(_INTS, [quarters] * WIDTH))
    odd, back = (builder.and_(count, ir.Constant(_INTS, [bit] * WIDTH)) for bit in (1, 2))
    none = ir.Constant(_INTS, [0] * WIDTH)
    found = Vector(builder, builder.select(builder.icmp_signed("!=", odd, none), cosine.value, sine.value))
    found = Vector(builder, builder.select(builder.icmp_signed("!=", back, none), (-found).value, found.value))
    return choose("<=", absolute(x), x._vector(8192.0), found, x._vector(math.nan))


def softplus_and_sigmoid(x: Vector) -> tuple[Vector, Vector]:
    """ln(1 + exp(x)), within 2e-7 relative, and its derivative."""
    fraction, power = _exp(maximum(-absolute(x), -87.0), 0.6931471805599453)
    small = fraction * _power_of_two(x.builder, power)  # exp(-|x|)
    # ln(1 + e) / e for 0 <= e <= 1: a Chebyshev interpolant of degree 9.
    p = _polynomial(
        small,
        -0.00317605701,
        0.0195425272,
        -0.0563736127,
        0.105436238,
        -0.152696671,
        0.196632743,
        -0.249516163,
        0.333297105,
        -0.499998926,
        0.999999995,
    )
    one = x._vector(1.0)
    return p.fma(small, relu(x)), choose(">=", x, x._vector(0.0), one, small) / (small + one)


def _exp(x: Vector, *ln2: float) -> tuple[Vector, Value]:
    """(f, n) with exp(x) = f 2 ** n, n an integer.  |x| <= 104, or NaN, which f is then; `ln2` adds up to ln 2."""
    n, power = _nearest(x, 1.4426950408889634)
    r = x
    for part in ln2:
        r = n.fma(-part, r)
    # The minimax polynomial on |r| <= ln 2 / 2 with f(0) = f'(0) = 1: within 3e-9, relatively.
    return _polynomial(r, 1.381454048e-3, 8.368745117e-3, 4.166839078e-2, 1.66665204e-1, 4.999999343e-1, 1, 1), power


def _nearest(x: Vector, factor: float) -> tuple[Vector, Value]:
    """The integer nearest to x times a factor, below 2 ** 22, as floats and as integers."""
    builder = x.builder
    # Numbers as large as 1.5 * 2 ** 23 have no fraction: the sum is rounded to one, and its low bits are the integer.
    large = x._vector(1.5 * 2**23)
    rounded = x * factor + large
    return rounded - large, builder.sub(builder.bitcast(rounded.value, _INTS), builder.bitcast(large.value, _INTS))


def _power_of_two(builder: IRBuilder, n: Value) -> Vector:
    """2 ** n of integers from -126 to 127."""
    exponent = builder.shl(n, ir.Constant(_INTS, [23] * WIDTH))
    return Vector(builder, builder.bitcast(builder.add(exponent, ir.Constant(_INTS, [127 << 23] * WIDTH)), FLOATS))


def _polynomial(x: Vector, *coefficients: float) -> Vector:
    """Highest power first."""
    first, *rest = coefficients
    result = x._vector(first)
    for coefficient in rest:
        result = result.fma(x, coefficient)
    return result


Formula = Callable[..., Sequence[Vector]]


def _load_first(builder: IRBuilder, place: Value, count: int) -> Value:
    """The vector whose first `count` lanes are at `place`; the others are 0."""
    part = ir.VectorType(FLOAT, count)
    lanes = ir.Constant(_INTS, [min(k, count) for k in range(WIDTH)])
    return builder.shuffle_vector(builder.load(place, align=4, typ=part), ir.Constant(part, [0.0] * count), lanes)


def _store_first(builder: IRBuilder, value: Value, target: Value, count: int) -> None:
    lanes = ir.Constant(ir.VectorType(INT32, count), list(range(count)))
    builder.store(builder.shuffle_vector(value, value, lanes), target, align=4)


def elementwise(inputs: int, outputs: int, function: Formula, name: str) -> Any:
    """A numba function f(pointers, strides, rows, columns) that applies `function` to every element.

    Args:
        inputs: Vectors that `function` takes.
        outputs: Vectors that it returns.
        function: Called with Vectors, returns a list of them.
        name: Numba links compiled code by its name: two different passes of one name would run each other's code,
            those from different processes' caches too.

    `f` takes `inputs + outputs` addresses (int64, bytes) and as many strides from row to row (int64, floats) as tuples,
    inputs first.  `columns` are the floats of a row; nothing before or behind them is read or written.  Row after row
    is read, then written: an output may be an input (same address and stride), and with stride 0 it is read and
    written again for every row, in order.
    """
    operands = inputs + outputs

    def emit_row(builder: IRBuilder, rows: list[Value], at: Value, count: Value | int) -> None:
        """A vector at column `at`, or its first lanes: `count` of them, known now or only when it runs."""
        places = [offset(builder, row, at) for row in rows]
        if isinstance(count, int):
            read = [_load_first(builder, place, count) for place in places[:inputs]]
        else:
            mask = first_lanes(builder, count)
            read = [load(builder, place, mask) for place in places[:inputs]]
        results = function(*(Vector(builder, value) for value in read))
        for result, place in zip(results, places[inputs:], strict=True):
            if isinstance(count, int):
                _store_first(builder, result.value, place, count)
            else:
                store(builder, result.value, place, mask)

    def emit(context: Any, builder: IRBuilder, signature: Any, arguments: Sequence[Value]) -> Value:
        pointers, strides, rows, columns = arguments
        starts = [pointer(builder, builder.extract_value(pointers, i)) for i in range(operands)]
        steps = [builder.extract_value(strides, i) for i in range(operands)]
        whole = builder.udiv(columns, INT64(WIDTH))
        left = builder.urem(columns, INT64(WIDTH))
        end = builder.mul(whole, INT64(WIDTH))
        with cgutils.for_range(builder, rows) as row:
            places = [offset(builder, p, builder.mul(s, row.index)) for p, s in zip(starts, steps, strict=True)]
            with cgutils.for_range(builder, whole) as column:
                emit_row(builder, places, builder.mul(column.index, INT64(WIDTH)), WIDTH)
            after = builder.append_basic_block()
            masked = builder.append_basic_block()
            rest = builder.switch(left, masked)
            rest.add_case(INT64(0), after)
            # A processor hands on what was just stored, but not what was stored under a mask.
            for count in (WIDTH // 4, WIDTH // 2):
                block = builder.append_basic_block()
                rest.add_case(INT64(count), block)
                with builder.goto_block(block):
                    emit_row(builder, places, end, count)
                    builder.branch(after)
            with builder.goto_block(masked):
                emit_row(builder, places, end, left)
                builder.branch(after)
            builder.position_at_end(after)
        return context.get_dummy_value()

    @intrinsic
    def compiled(typingctx: Any, pointers: Any, strides: Any, rows: Any, columns: Any) -> Any:
        addresses = types.UniTuple(types.int64, operands)
        return types.void(addresses, addresses, types.int64, types.int64), emit

    def run(pointers, strides, rows, columns):
        compiled(pointers, strides, rows, columns)

    run.__name__ = run.__qualname__ = name
    return njit(nogil=True)(run)
