"""Vectors, elementwise passes, the matrix product: against numpy in float64, with guard zones around every buffer."""

import itertools
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from seqbench.kernels.cpu import product, vector
from seqbench.kernels.cpu.product import call_product, call_product_transposed, product_address
from seqbench.kernels.cpu.vector import WIDTH, Vector, elementwise

AVX2 = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma"}
GUARD = 12345.0


@njit
def multiply(address, M, N, K, A, lda, B, ldb, C, ldc, start, start_step):
    call_product(address, M, N, K, A, lda, B, ldb, C, ldc, start, start_step)


@njit
def multiply_transposed(address, M, N, K, A, lda, B, ldb, C, ldc, start, start_step, blocks, a_step, b_step):
    call_product_transposed(address, M, N, K, A, lda, B, ldb, C, ldc, start, start_step, blocks, a_step, b_step)


class Buffer:
    """A matrix within a larger one of guards: NaN for what is read only, so that what is read beside it shows."""

    def __init__(self, values, gap=0, guard=np.nan, shift=0):
        rows, columns = values.shape
        self.step = columns + gap
        self.whole = np.full(64 + shift + rows * self.step + 64, guard, np.float32)
        self.inside = self.whole[64 + shift :][: rows * self.step].reshape(rows, self.step)[:, :columns]
        self.inside[:] = values
        self.guard = guard

    @property
    def address(self):
        return self.inside.ctypes.data

    def untouched(self):
        before = self.inside.copy()
        self.inside[:] = self.guard
        clean = bool((self.whole == self.guard).all())
        self.inside[:] = before
        return clean


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def apply(function, *arrays, outputs=1):
    """`function` of flat arrays, as one row."""
    arrays = [np.ascontiguousarray(a, np.float32) for a in arrays]
    results = [np.empty_like(arrays[0]) for _ in range(outputs)]
    operands = [*arrays, *results]
    name = f"{function.__module__}_{function.__qualname__}_{function.__code__.co_firstlineno}"
    run = elementwise(len(arrays), outputs, lambda *v: [r] if isinstance(r := function(*v), Vector) else r, name)
    run(tuple(a.ctypes.data for a in operands), (0,) * len(operands), 1, arrays[0].size)
    return results[0] if outputs == 1 else results


def wide_range():
    """Of every size, and densely where most happens."""
    tiny = 10.0 ** np.random.default_rng(0).uniform(-45, 2, 20000)
    return np.concatenate([tiny, -tiny, np.linspace(-110, 110, 200001), [0.0, -0.0]]).astype(np.float32)


def relative_error(result, exact):
    # Beside denormals only their own spacing can be asked for.
    return (np.abs(result - exact) / np.maximum(np.abs(exact), 2.0**-126)).max()


def test_width_is_what_numba_compiles_for():
    if os.environ.get("NUMBA_CPU_FEATURES") == AVX2["NUMBA_CPU_FEATURES"]:
        assert WIDTH == 8
    assert WIDTH in {8, 16}


def test_tanh():
    x = wide_range()
    y = apply(vector.tanh, x)
    assert relative_error(y, np.tanh(x.astype(np.float64))) < 3.2e-7
    assert np.abs(y).max() == 1
    assert apply(vector.tanh, [np.inf, -np.inf]).tolist() == [1, -1]


def test_sigmoid():
    x = wide_range()
    y = apply(vector.sigmoid, x)
    exact = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert np.abs(y - exact).max() < 1e-7
    assert relative_error(y[x > -87], exact[x > -87]) < 4e-7
    assert apply(vector.sigmoid, [np.inf, 0]).tolist() == [1, 0.5]
    assert apply(vector.sigmoid, [-np.inf])[0] < 2e-38


@pytest.mark.parametrize(("function", "exact"), [(vector.sin, np.sin), (vector.cos, np.cos)])
def test_angles(function, exact):
    x = np.concatenate([wide_range(), np.linspace(-8192, 8192, 400001)]).astype(np.float32)
    y = apply(function, x)
    assert np.abs(y - exact(x.astype(np.float64))).max() < 1.2e-7
    assert np.abs(y).max() <= 1
    near = wide_range()[np.abs(wide_range()) < 0.5]
    assert relative_error(apply(function, near), exact(near.astype(np.float64))) < 1.3e-7
    assert np.isnan(apply(function, [np.inf, -np.inf, np.nan, 8193.0])).all()


def test_exp():
    x = wide_range()
    exact = np.exp(x.astype(np.float64))
    with np.errstate(over="ignore"):
        overflows = np.isinf(exact.astype(np.float32))
    y = apply(vector.exp, x)
    assert relative_error(y[~overflows], exact[~overflows]) < 1.2e-7
    assert np.isinf(y[overflows]).all()
    assert apply(vector.exp, [np.inf, -np.inf, 0, 88.72283, 88.72284, -103.97, -103.98]).tolist() == [
        np.inf, 0, 1, np.exp(np.float64(np.float32(88.72283))).astype(np.float32), np.inf, 2.0**-149, 0,
    ]  # fmt: skip


def test_simple_functions():
    x = np.array([-np.inf, -2, -1e-40, -0.0, 0, 1e-40, 3, np.inf], np.float32)
    assert apply(vector.sign, x).tolist() == [-1, -1, -1, 0, 0, 1, 1, 1]
    assert apply(vector.relu, x).tolist() == np.maximum(x, 0).tolist()
    assert apply(vector.absolute, x).tolist() == np.abs(x).tolist()
    assert apply(vector.sqrt, x[3:]).tolist() == np.sqrt(x[3:]).tolist()
    y = x[::-1].copy()
    assert apply(vector.maximum, x, y).tolist() == np.maximum(x, y).tolist()
    assert apply(vector.minimum, x, y).tolist() == np.minimum(x, y).tolist()
    assert apply(lambda a: vector.minimum(0.5, a), x).tolist() == np.minimum(x, 0.5).tolist()


def test_nan_comes_through():
    ones = ("tanh", "sigmoid", "exp", "sqrt", "relu", "sign", "absolute")

    def all_of_one(x):
        return [getattr(vector, name)(x) for name in ones]

    x = np.array([np.nan, 1, np.nan, 2], np.float32)
    for name, y in zip(ones, apply(all_of_one, x, outputs=len(ones)), strict=True):
        assert np.isnan(y).tolist() == np.isnan(x).tolist(), name

    def all_of_two(x, y):
        return [f(a, b) for f in (vector.maximum, vector.minimum) for a, b in ((x, y), (y, x), (x, 0.5), (-0.5, x))]

    for y in apply(all_of_two, x, np.array([1, 1, np.nan, 2]), outputs=8):
        assert np.isnan(y).tolist() == np.isnan(x).tolist()


def test_operators():
    def operators(x, y, z):
        return [
            x + y, x + 2.0, 2.0 + x, x - y, x - 2.0, 2.0 - x, x * y, 2.0 * x, x / y, x / 3.0, 3.0 / x, -x,
            x * y + z, z + x * y, x * y - z, z - x * y, -(x * y) + z, 1.0 - x * x, x * y - z * x, 2.0 - -(x * y),
            x.fma(y, z), x.fma(2.0, 1.0), x * y * z, (x * y + z) * (x * y), x * (1 - x) - y * (1 - y),
        ]  # fmt: skip

    class Plain(np.ndarray):
        def fma(self, m, a):
            return self * m + a

    arrays = [normal(3 * WIDTH + 5, seed=i) + 3 for i in range(3)]
    expected = operators(*(a.astype(np.float64).view(Plain) for a in arrays))
    for i, (y, exact) in enumerate(zip(apply(operators, *arrays, outputs=len(expected)), expected, strict=True)):
        np.testing.assert_allclose(y, exact, rtol=1e-6, atol=1e-6, err_msg=str(i))


def test_a_product_and_a_sum_are_rounded_once():
    x = np.float32(1 + 2.0**-12)
    remainder = apply(lambda a: 1.0 - a * a, [x])[0]
    assert remainder == 1 - np.float64(x) ** 2 != 1 - x * x


@pytest.fixture(scope="module")
def affine():
    return elementwise(2, 2, lambda x, y: [x * 2.0 + y, x - y], "test_affine")


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_elementwise_writes_its_rows_only(affine, rows):
    for columns in (*range(2 * WIDTH + 1), 3 * WIDTH, 3 * WIDTH + 5):
        x, y = (Buffer(normal(rows, columns, seed=i), gap=i, shift=i) for i in range(2))
        p, q = (Buffer(np.zeros((rows, columns)), gap=3 * i, guard=GUARD, shift=i) for i in range(2))
        buffers = (x, y, p, q)
        affine(tuple(b.address for b in buffers), tuple(b.step for b in buffers), rows, columns)
        np.testing.assert_allclose(p.inside, 2 * x.inside + y.inside, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(q.inside, x.inside - y.inside, rtol=1e-6, atol=1e-6)
        assert p.untouched()
        assert q.untouched()


@pytest.mark.parametrize("left", [WIDTH // 4, WIDTH // 2, WIDTH // 2 + 1])
def test_elementwise_in_place(affine, left):
    x, y = (Buffer(normal(3, WIDTH + left, seed=i), gap=2, guard=GUARD) for i in range(2))
    before_x, before_y = x.inside.copy(), y.inside.copy()
    affine((x.address, y.address, y.address, x.address), (x.step, y.step, y.step, x.step), 3, WIDTH + left)
    np.testing.assert_allclose(y.inside, 2 * before_x + before_y, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(x.inside, before_x - before_y, rtol=1e-6, atol=1e-6)
    assert x.untouched()
    assert y.untouched()


@pytest.mark.parametrize("left", [3, WIDTH // 4, WIDTH // 2])
def test_stride_zero_is_one_row_again_and_again(left):
    x = Buffer(normal(7, 2 * WIDTH + left), gap=1)
    bias, total = (Buffer(normal(1, 2 * WIDTH + left, seed=i), guard=GUARD) for i in (1, 2))
    expected = total.inside[0].copy()
    for row in x.inside:
        expected += row - bias.inside[0]
    run = elementwise(3, 1, lambda total, row, bias: [total + (row - bias)], "test_column_sums")
    run((total.address, x.address, bias.address, total.address), (0, x.step, 0, 0), 7, 2 * WIDTH + left)
    assert total.inside[0].tolist() == expected.tolist()
    assert total.untouched()


def test_a_numbers_bits_do_not_depend_on_its_place():
    def gated(x, y):
        gate = vector.sigmoid(x * y + 1.0)
        return gate * vector.tanh(y) + (1.0 - gate) * x

    x, y = (normal(5 * WIDTH + 3, seed=i) for i in range(2))
    whole = apply(gated, x, y)
    for first in range(1, 2 * WIDTH):
        assert apply(gated, x[first:], y[first:]).tolist() == whole[first:].tolist()


def shapes():
    columns = [1, 2, WIDTH - 1, WIDTH, WIDTH + 1, 2 * WIDTH + 3, 3 * WIDTH, 3 * WIDTH + 5, 7 * WIDTH + 1]
    yield from itertools.product(range(1, 18), columns, (0, 1, 3, 4, 7, 40))


@pytest.fixture(scope="module")
def address():
    return product_address()


@pytest.mark.parametrize("start", ["zero", "bias", "itself", "other"])
def test_product(address, start):
    for i, (M, N, K) in enumerate(shapes()):
        A, B = Buffer(normal(M, K), gap=i % 3), Buffer(normal(K, N, seed=1), gap=i % 5, shift=i % 7)
        C = Buffer(normal(M, N, seed=2), gap=i % 4, guard=GUARD, shift=i % 2)
        given = {"zero": None, "bias": Buffer(normal(1, N, seed=3)), "itself": C, "other": Buffer(normal(M, N), gap=2)}
        first = given[start]
        first_address, first_step = (first.address, first.step if len(first.inside) == M else 0) if first else (0, 0)
        exact = A.inside.astype(np.float64) @ B.inside + (first.inside if first else 0)
        multiply(address, M, N, K, A.address, A.step, B.address, B.step, C.address, C.step, first_address, first_step)
        np.testing.assert_allclose(C.inside, exact, rtol=1e-5, atol=1e-5, err_msg=f"{M} {N} {K}")
        assert C.untouched(), (M, N, K)


@pytest.mark.parametrize("add", [False, True])
def test_product_transposed(address, add):
    for i, (M, N, K) in enumerate(shapes()):
        blocks = i % 4
        A = Buffer(normal(blocks * (K + 1), M), gap=i % 3)
        B = Buffer(normal(blocks * (K + 2), N, seed=1), gap=i % 5, shift=i % 7)
        C = Buffer(normal(M, N, seed=2), gap=i % 4, guard=GUARD, shift=i % 2)
        exact = C.inside.astype(np.float64) * add
        for o in range(blocks):
            exact += A.inside[o * (K + 1) :][:K].T.astype(np.float64) @ B.inside[o * (K + 2) :][:K]
        start, step = (C.address, C.step) if add else (0, 0)
        steps = (K + 1) * A.step, (K + 2) * B.step
        operands = (A.address, A.step, B.address, B.step, C.address, C.step)
        multiply_transposed(address, M, N, K, *operands, start, step, blocks, *steps)
        np.testing.assert_allclose(C.inside, exact, rtol=1e-5, atol=1e-5, err_msg=f"{M} {N} {K}")
        assert C.untouched(), (M, N, K)


def test_nothing_to_do(address):
    C = Buffer(np.ones((2, 3)), guard=GUARD)
    for M, N in ((0, 3), (2, 0)):
        multiply(address, M, N, 5, 0, 5, 0, 3, C.address, 3, 0, 0)
        multiply_transposed(address, M, N, 5, 0, 5, 0, 3, C.address, 3, 0, 0, 1, 0, 0)
    assert (C.inside == 1).all()


def test_a_rows_bits_do_not_depend_on_the_others(address):
    M, N, K = 17, 4 * WIDTH + 3, 37
    A, B = Buffer(normal(M, K)), Buffer(normal(K, N, seed=1))
    whole = Buffer(np.zeros((M, N)))
    multiply(address, M, N, K, A.address, K, B.address, N, whole.address, N, 0, 0)
    transposed = Buffer(np.ascontiguousarray(A.inside.T))
    for first, rows in itertools.product(range(M), (1, 2, 5, 8, 11)):
        if first + rows > M:
            continue
        shifted = Buffer(B.inside, gap=first, shift=rows)
        some = Buffer(np.zeros((rows, N)), gap=1, shift=first)
        at = A.address + 4 * first * K
        multiply(address, rows, N, K, at, K, shifted.address, shifted.step, some.address, some.step, 0, 0)
        assert (some.inside == whole.inside[first : first + rows]).all(), (first, rows)
        at = transposed.address + 4 * first
        operands = (at, M, shifted.address, shifted.step, some.address, some.step)
        multiply_transposed(address, rows, N, K, *operands, 0, 0, 1, 0, 0)
        assert (some.inside == whole.inside[first : first + rows]).all(), (first, rows)


def test_peak_is_above_what_a_product_reaches(address):
    assert product.peak_gflops() > 1


def python(code, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:] or result.returncode
    return result.stdout


def test_a_new_process_finds_the_compiled_product(tmp_path):
    code = "from seqbench.kernels.cpu import product; product.product_address(); print(product._compiled().cache_hits)"
    assert python(code, NUMBA_CACHE_DIR=str(tmp_path)).split() == ["0"]
    assert python(code, NUMBA_CACHE_DIR=str(tmp_path)).split() == ["1"]


AT_THE_EDGE = """
import ctypes, importlib.util, itertools, mmap

spec = importlib.util.spec_from_file_location("tests", TESTS)
t = importlib.util.module_from_spec(spec)
spec.loader.exec_module(t)

memory = mmap.mmap(-1, 3 * 2 * mmap.PAGESIZE)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

def matrix(i, rows, columns):
    # it ends where a page begins that must not be touched
    end = (2 * i + 1) * mmap.PAGESIZE
    return start + end - 4 * rows * columns

for i in range(3):
    assert protect(start + (2 * i + 1) * mmap.PAGESIZE, mmap.PAGESIZE, 0) == 0
address = t.product_address()
affine = t.elementwise(1, 1, lambda x: [x + 1.0], "edge")
for M, N, K in itertools.product((1, 5, 8, 11), (1, 7, 15, 17, 33, 49), (1, 3, 4, 9)):
    a, b, c = matrix(0, M, K), matrix(1, K, N), matrix(2, M, N)
    t.multiply(address, M, N, K, a, K, b, N, c, N, 0, 0)
    t.multiply(address, M, N, K, a, K, b, N, c, N, c, N)
    t.multiply_transposed(address, M, N, K, matrix(0, K, M), M, b, N, c, N, c, N, 1, 0, 0)
    affine((matrix(0, M, N), c), (N, N), M, N)
print("clean")
"""


def test_nothing_is_read_behind_a_matrix():
    assert python(f"TESTS = {__file__!r}\n{AT_THE_EDGE}").split() == ["clean"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="AVX2 is x86's")
@pytest.mark.skipif("NUMBA_CPU_FEATURES" in os.environ, reason="these are the tests run within")
def test_on_avx2():
    """All of the above with vectors of 8 and half the registers."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", Path(__file__).name],
        cwd=Path(__file__).parent, env={**os.environ, **AVX2}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:]
