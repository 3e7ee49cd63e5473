"""The matrix product: register-blocked, compiled once a machine and called by its address.

`C = A B` is cut into tiles of at most ROWS rows and VECTORS vectors of columns, which stay in registers while k runs.
Every element is one chain of fused multiply-adds in the order of k, whatever tile it falls in: a row has the same bits
alone and among others. The steps of a single sequence are products of one row, which has too few sums to hide how long
an addition takes: for them there is a kind of its own, CHAINED, with two or four chains for each element, of every
second or fourth k, that are added up in the end.

Compiled code is kept in numba's cache; generated code takes the address as a value (`product_address`) and calls it
(`call_product`, `call_product_transposed`), so that it is not compiled again with every unit.

Addresses are integers, in bytes; leading dimensions and steps are in floats.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.ir import IRBuilder, Value
from numba import cfunc, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from seqbench.kernels.cpu import vector
from seqbench.kernels.cpu.vector import FLOAT, FLOATS, INT64, WIDTH

# As many accumulators as leave registers for a row of B and an element of A: 24 of 32, 12 of 16.
ROWS, VECTORS = (8, 3) if WIDTH == 16 else (6, 2)
# A single row has few sums, each waiting for its last addition: as many at once as hide that.
VECTORS_OF_ONE = 8 if WIDTH == 16 else 6
_UNROLL = 4
PLAIN, TRANSPOSED, CHAINED = 0, 1, 2
_KIND, _ROW = 256, 16  # a size of tile as one number
_INT = types.int64


def _places(builder: IRBuilder, base: Value, step: Value, rows: int, vectors: int) -> list[list[Value]]:
    """Where the vectors of a tile's rows stand."""
    starts = [vector.offset(builder, base, builder.mul(step, INT64(i))) for i in range(rows)]
    return [[vector.offset(builder, start, INT64(WIDTH * j)) for j in range(vectors)] for start in starts]


def _accumulate(
    builder: IRBuilder,
    sums: list[list[Value]],
    mask: Value,
    A: list[Value],
    k_step: Value,
    B: Value,
    ldb: Value,
    k: Value,
) -> None:
    """Adds a column of A times a row of B; A: where column 0 starts in every row."""
    at = builder.mul(k, k_step)
    [row] = _places(builder, vector.offset(builder, B, builder.mul(k, ldb)), INT64(0), 1, len(sums[0]))
    masks = [None] * (len(row) - 1) + [mask]
    loaded = [vector.load(builder, place, m) for place, m in zip(row, masks, strict=True)]
    for start, row_sums in zip(A, sums, strict=True):
        element = builder.load(vector.offset(builder, start, at), align=4, typ=FLOAT)
        factor = vector.broadcast(builder, element)
        for total, values in zip(row_sums, loaded, strict=True):
            builder.store(vector.fma(builder, factor, values, builder.load(total, typ=FLOATS)), total)


def _emit_tile(function: ir.Function, kind: int, rows: int, vectors: int) -> None:
    builder = IRBuilder(function.append_basic_block())
    A, lda, B, ldb, C, ldc, start, start_step, K, blocks, a_step, b_step, lanes = function.args
    mask = vector.first_lanes(builder, lanes)
    # Registers after LLVM's first pass; they begin with zeros.
    number = 1 if kind != CHAINED else _UNROLL if vectors <= VECTORS else _UNROLL // 2
    chains = [
        [[cgutils.alloca_once(builder, FLOATS) for _ in range(vectors)] for _ in range(rows)] for _ in range(number)
    ]
    sums = chains[0]

    def tile(base: Value, step: Value) -> Any:
        for row, row_sums in zip(_places(builder, base, step, rows, vectors), sums, strict=True):
            yield from zip(row, row_sums, [None] * (vectors - 1) + [mask], strict=True)

    with builder.if_then(cgutils.is_not_null(builder, start)):
        for place, total, m in tile(vector.pointer(builder, start), start_step):
            builder.store(vector.load(builder, place, m), total)
    row_step, k_step = (INT64(1), lda) if kind == TRANSPOSED else (lda, INT64(1))
    with cgutils.for_range(builder, blocks) as block:
        a = vector.offset(builder, vector.pointer(builder, A), builder.mul(a_step, block.index))
        b = vector.offset(builder, vector.pointer(builder, B), builder.mul(b_step, block.index))
        a_rows = [vector.offset(builder, a, builder.mul(row_step, INT64(i))) for i in range(rows)]
        unrolled = builder.and_(K, INT64(-_UNROLL))
        with cgutils.for_range(builder, builder.sdiv(K, INT64(_UNROLL))) as quarter:
            first = builder.mul(quarter.index, INT64(_UNROLL))
            for i in range(_UNROLL):
                _accumulate(builder, chains[i % number], mask, a_rows, k_step, b, ldb, builder.add(first, INT64(i)))
        with cgutils.for_range(builder, K, start=unrolled) as one:
            _accumulate(builder, sums, mask, a_rows, k_step, b, ldb, one.index)
    for row_sums in zip(*chains, strict=True):
        for total, *others in zip(*row_sums, strict=True):
            for other in others:
                both = builder.fadd(builder.load(total, typ=FLOATS), builder.load(other, typ=FLOATS))
                builder.store(both, total)
    for place, total, m in tile(vector.pointer(builder, C), ldc):
        vector.store(builder, builder.load(total, typ=FLOATS), place, m)
    builder.ret_void()


def _tile(module: ir.Module, kind: int, rows: int, vectors: int) -> ir.Function:
    """The function of one size of tile; its last vector has `lanes` columns."""
    name = f"product{kind}_{rows}x{vectors}"
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [INT64] * 13), name)
    function.linkage = "internal"
    # One by one they are compiled faster, and each has the registers for itself.
    function.attributes.add("noinline")
    _emit_tile(function, kind, rows, vectors)
    return function


@intrinsic
def _call_tile(
    typingctx, kind, rows, vectors, A, lda, B, ldb, C, ldc, start, start_step, K, blocks, a_step, b_step, lanes
):
    def emit(context: Any, builder: IRBuilder, signature: Any, arguments: Sequence[Value]) -> Value:
        kind, rows, vectors, *rest = arguments
        asked = builder.add(builder.mul(kind, INT64(_KIND)), builder.add(builder.mul(rows, INT64(_ROW)), vectors))
        after = builder.append_basic_block()
        switch = builder.switch(asked, after)
        for k in (PLAIN, TRANSPOSED, CHAINED):
            for r in range(1, ROWS + 1 if k != CHAINED else 2):
                for v in range(1, (VECTORS if r > 1 else VECTORS_OF_ONE) + 1):
                    block = builder.append_basic_block()
                    switch.add_case(INT64(k * _KIND + r * _ROW + v), block)
                    with builder.goto_block(block):
                        builder.call(_tile(builder.module, k, r, v), rest)
                        builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*[_INT] * 16), emit


def _product(kind, M, N, K, A, lda, B, ldb, C, ldc, start, start_step, blocks, a_step, b_step):
    if M <= 0 or N <= 0:
        return
    a_row = 1 if kind == TRANSPOSED else lda
    vectors = (N + WIDTH - 1) // WIDTH
    most = VECTORS if M > 1 else VECTORS_OF_ONE
    panels = (vectors + most - 1) // most
    stripes = (M + ROWS - 1) // ROWS
    # Tiles of about equal size: a narrow one is bound by the latency of its few sums.
    wide, more_vectors = vectors // panels, vectors % panels
    high, more_rows = M // stripes, M % stripes
    n = 0
    for panel in range(panels):
        width = wide + (panel < more_vectors)
        lanes = min(N - n - (width - 1) * WIDTH, WIDTH)
        m = 0
        for stripe in range(stripes):
            height = high + (stripe < more_rows)
            first = start + 4 * (n + m * start_step) if start else 0
            a, b, c = A + 4 * m * a_row, B + 4 * n, C + 4 * (n + m * ldc)
            _call_tile(kind, height, width, a, lda, b, ldb, c, ldc, first, start_step, K, blocks, a_step, b_step, lanes)
            m += height
        n += width * WIDTH


@functools.cache
def _compiled() -> Any:
    # numba's cache sees neither a change of vector.py nor of what an intrinsic emits: the name tells.
    code = b"".join(Path(file).read_bytes() for file in (__file__, vector.__file__))
    _product.__name__ = _product.__qualname__ = f"product_{hashlib.sha256(code).hexdigest()[:12]}"
    return cfunc(types.void(*[_INT] * 15), nopython=True, cache=True, error_model="numpy")(_product)


def product_address() -> int:
    """The compiled product, for `call_product` and `call_product_transposed`; from the cache or compiled now."""
    return int(_compiled().address)


_SIGNATURE = ir.FunctionType(ir.VoidType(), [INT64] * 15)


@intrinsic
def call_product(typingctx, address, M, N, K, A, lda, B, ldb, C, ldc, start, start_step):
    """C [M, N] = start + A [M, K] B [K, N], within compiled code.

    Args:
        address: `product_address()`, as a value.
        M, N, K: Sizes; 0 is allowed.
        A, B, C: Addresses of the first elements, in bytes; rows are contiguous.
        lda, ldb, ldc: From row to row, in floats.
        start: Address of the values to begin with, C itself too; 0: begin with zeros.
        start_step: From row to row of `start`, in floats; 0: one row for all (a bias).
    """

    def emit(context: Any, builder: IRBuilder, signature: Any, arguments: Sequence[Value]) -> Value:
        address, *rest = arguments
        function = builder.inttoptr(address, _SIGNATURE.as_pointer())
        builder.call(function, [INT64(PLAIN), *rest, INT64(1), INT64(0), INT64(0)])
        return context.get_dummy_value()

    return types.void(*[_INT] * 12), emit


@intrinsic
def call_step(typingctx, address, M, N, K, A, lda, B, ldb, C, ldc, start, start_step):
    """As `call_product`, of the rows that one step has: a single one has its sums in chains."""

    def emit(context: Any, builder: IRBuilder, signature: Any, arguments: Sequence[Value]) -> Value:
        address, *rest = arguments
        function = builder.inttoptr(address, _SIGNATURE.as_pointer())
        single = builder.icmp_signed("==", rest[0], INT64(1))
        kind = builder.select(single, INT64(CHAINED), INT64(PLAIN))
        builder.call(function, [kind, *rest, INT64(1), INT64(0), INT64(0)])
        return context.get_dummy_value()

    return types.void(*[_INT] * 12), emit


@intrinsic
def call_product_transposed(
    typingctx, address, M, N, K, A, lda, B, ldb, C, ldc, start, start_step, blocks, a_step, b_step
):
    """C [M, N] = start + the sum of A_o [K, M]^T B_o [K, N] over `blocks` blocks, within compiled code.

    Args:
        blocks: How many; A_o begins at A + o a_step, B_o at B + o b_step.
        a_step, b_step: In floats.
        address, M, N, K, A, lda, B, ldb, C, ldc, start, start_step: As in `call_product`; A's rows have M elements.
    """

    def emit(context: Any, builder: IRBuilder, signature: Any, arguments: Sequence[Value]) -> Value:
        address, *rest = arguments
        builder.call(builder.inttoptr(address, _SIGNATURE.as_pointer()), [INT64(TRANSPOSED), *rest])
        return context.get_dummy_value()

    return types.void(*[_INT] * 15), emit


@intrinsic
def _fma_chains(typingctx, steps):
    def emit(context: Any, builder: IRBuilder, signature: Any, arguments: Sequence[Value]) -> Value:
        sums = [cgutils.alloca_once(builder, FLOATS) for _ in range(ROWS * VECTORS)]
        factor = vector.constant(0.5)
        with cgutils.for_range(builder, arguments[0]):
            for total in sums:
                value = builder.load(total, typ=FLOATS)
                builder.store(vector.fma(builder, value, factor, vector.constant(1.0)), total)
        result = builder.load(sums[0], typ=FLOATS)
        for total in sums[1:]:
            result = builder.fadd(result, builder.load(total, typ=FLOATS))
        return builder.extract_element(result, vector.INT32(0))

    return types.float32(types.int64), emit


@njit(nogil=True)
def _chains(steps):
    return _fma_chains(steps)


def peak_gflops() -> float:
    """What one thread's multiply-adds in registers do at best, in 10^9 operations a second; measured, in 0.2 s."""
    steps = 100_000
    _chains(np.int64(steps))
    seconds = []
    for _ in range(20):
        begin = time.perf_counter()
        _chains(np.int64(steps))
        seconds.append(time.perf_counter() - begin)
    return 2 * steps * ROWS * VECTORS * WIDTH / min(seconds) / 1e9
