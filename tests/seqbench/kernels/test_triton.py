"""The GPU's kernels against the loop in float64 with autograd.

On a GPU they run there.  Without one, Triton's interpreter runs them, in a process of its own: TRITON_INTERPRET has to
be set before triton is imported, which any other test, or torch itself, may have done.

T time, R replicas, B batch, H hidden.
"""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from seqbench.cells import Cell, Weight, cells, find
from seqbench.kernels.compiler.plan import Plan
from seqbench.kernels.compiler.planner import plan
from seqbench.kernels.compiler.trace import Unsupported
from seqbench.kernels.gpu import lowering
from seqbench.kernels.gpu.lowering import Launch, choose, padded, supported
from seqbench.model.recurrence import loop

CUDA = torch.cuda.is_available()
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cuda" if CUDA else "cpu")
RESIDENT, STREAMED = Launch(True, 16), Launch(False, 16)
GUARD = 64
H100_SHARED = 232448

# Padded columns and rows are computed with, and there 0 may be divided by 0; nothing of it is kept.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")


class Odd(Cell):
    """Every operation of the table, products of what is not a state, states that change places, one that is a row.

    In padded columns it divides 0 by 0.
    """

    gates, states = 2, 7
    paper = "none"

    def weights(self, hidden: int) -> dict[str, Weight]:
        rows = {name: Weight((1, hidden), "uniform") for name in ("p", "q")}
        return rows | {"U": Weight((2 * hidden, hidden), "uniform"), "V": Weight((hidden, 3 * hidden), "orthogonal")}

    def step(self, a: Tensor, state: tuple[Tensor, ...], w: SimpleNamespace) -> tuple[Tensor, ...]:
        x, y = a.chunk(2, -1)
        h, left, right, row, one, this, that = state
        m = torch.tanh(torch.maximum(x, left) + torch.bmm(h, w.U[:, : h.shape[-1]]) * w.p / one)
        g, k, n = torch.bmm(m * torch.relu(right), w.V).chunk(3, -1)
        z = torch.sigmoid(g + y) / (1.5 + torch.abs(k)) + torch.sqrt(1 + n * n)
        new = torch.tanh(z - torch.bmm(torch.exp(-z), w.U[:, h.shape[-1] :])) + 0.1 * row * one
        return new, right, torch.minimum(left, 0.3 * x), 0 * x + w.q, 0 * x + 1, that, this


HERE = CUDA or INTERPRETED


def planned() -> list[str]:
    """The units that can be planned, by name."""
    found = []
    for name, kind in cells().items():
        try:
            plan(kind())
        except Unsupported:
            continue
        found.append(name)
    return found


# None, where another process runs them: else each would be skipped by itself.
UNITS = ["Odd", "truncated LSTM1997", *planned()] if HERE else []
FEW = ["Odd", "Tanh", "GRU", "LSTM", "FGR"] if HERE else []


@functools.cache
def unit(name: str) -> tuple[Cell, Plan]:
    special = {"Odd": Odd, "truncated LSTM1997": functools.partial(find("LSTM1997"), truncated=True)}
    cell = (special.get(name) or find(name))()
    return cell, plan(cell)


class Problem(NamedTuple):
    """What a layer is given, forward and backward, in float64."""

    a: Tensor
    w: dict[str, Tensor]
    state: tuple[Tensor, ...]
    dh: Tensor
    dlast: tuple[Tensor, ...]


class Results(NamedTuple):
    """What a layer gives."""

    h: Tensor
    last: list[Tensor]
    da: Tensor
    dw: dict[str, Tensor]
    dstate: list[Tensor]


def problem(cell: Cell, T: int, R: int, B: int, H: int, dtype: torch.dtype = torch.float32) -> Problem:
    """Random numbers; a and w are such as `dtype` has."""
    g = torch.Generator().manual_seed(T + R + B + H)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    w = {name: 0.7 * draw(R, *x.shape) / x.shape[-2] ** 0.5 for name, x in cell.weights(H).items()}
    w = {name: x.to(dtype).double() for name, x in w.items()}
    # No first state is negative: the sLSTM divides by one.
    state = tuple(draw(R, B, H).abs() + 0.1 for _ in range(cell.states))
    a = draw(T, R, B, cell.gates * H).to(dtype).double()
    return Problem(a, w, state, draw(T, R, B, H), tuple(draw(R, B, H) for _ in state))


def reference(cell: Cell, p: Problem) -> Results:
    leaves = [x.clone().requires_grad_() for x in (p.a, *p.w.values(), *p.state)]
    weights, first = leaves[1 : len(p.w) + 1], leaves[len(p.w) + 1 :]
    h, last = loop(cell, leaves[0], SimpleNamespace(**dict(zip(p.w, weights, strict=True))), tuple(first))
    loss = (h * p.dh).sum() + sum((s * d).sum() for s, d in zip(last, p.dlast, strict=True))
    found = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    dw = dict(zip(p.w, found[1:], strict=False))
    return Results(h.detach(), [s.detach() for s in last], found[0], dw, list(found[len(p.w) + 1 :]))


def kernels(of: Plan, p: Problem, launch: Launch, dtype: torch.dtype = torch.float32) -> Results:
    def given(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        return guarded(x.to(DEVICE, dtype))

    w = {name: given(x, dtype) for name, x in p.w.items()}
    memory = lowering.forward(of, given(p.a, dtype), w, tuple(map(given, p.state)), launch)
    da, dw, dstate = lowering.backward(of, memory, given(p.dh), list(map(given, p.dlast)), launch)
    return Results(memory.states[0][1:], [s[-1] for s in memory.states], da, dw, dstate)


def error(found: Results, wanted: Results) -> float:
    """The greatest relative error of any tensor, in its norm; NaN counts as inf."""
    pairs = [(found.h, wanted.h), (found.da, wanted.da)]
    pairs += list(zip(found.last + found.dstate, wanted.last + wanted.dstate, strict=True))
    pairs += [(found.dw[name], dw) for name, dw in wanted.dw.items()]
    errors = [(x.double().cpu().reshape(y.shape) - y).norm() / y.norm().clamp(min=1e-30) for x, y in pairs]
    return max(e.nan_to_num(torch.inf).item() for e in errors)


_guards: list[Tensor] = []


def guarded(x: Tensor) -> Tensor:
    """A copy with NaN on both sides of it."""
    whole = torch.full((x.numel() + 2 * GUARD,), torch.nan, dtype=x.dtype, device=x.device)
    _guards.extend([whole[:GUARD], whole[-GUARD:]])
    return whole[GUARD:-GUARD].view(x.shape).copy_(x)


@pytest.fixture(autouse=True)
def _guard(monkeypatch: pytest.MonkeyPatch):
    """Buffers hold NaN before they are written, so that none is read too early, and nothing is written beside them."""
    _guards.clear()
    monkeypatch.setattr(lowering, "_empty", lambda device, *shape: guarded(torch.full(shape, torch.nan, device=device)))
    yield
    assert all(zone.isnan().all() for zone in _guards)


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize(
    ("launch", "sizes"),
    [(RESIDENT, (9, 1, 13, 11)), (STREAMED, (2, 3, 13, 11)), (RESIDENT, (1, 1, 1, 1)), (STREAMED, (1, 1, 1, 1))],
    ids=["resident", "streamed", "one", "one-streamed"],
)
def test_units(name: str, launch: Launch, sizes: tuple[int, int, int, int]) -> None:
    cell, of = unit(name)
    given = problem(cell, *sizes)
    assert error(kernels(of, given, launch), reference(cell, given)) < 1e-5


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("resident", [True, False])
def test_tiles(name: str, resident: bool) -> None:
    """A batch in several tiles, the last one not full, and planes padded to more than a row of products."""
    cell, of = unit(name)
    given = problem(cell, 2, 2, 6, 19)
    assert error(kernels(of, given, Launch(resident, 4)), reference(cell, given)) < 1e-5


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize(
    ("resident", "dtype"), [(True, torch.bfloat16), (False, torch.bfloat16), (True, torch.float16)]
)
def test_half(name: str, resident: bool, dtype: torch.dtype) -> None:
    """Only the products' left operands are rounded, by half a unit in the last place, a whole one in the interpreter.

    Inputs and weights are rounded before the reference sees them too.
    """
    cell, of = unit(name)
    given = problem(cell, 3, 1, 4, 20, dtype)
    found = error(kernels(of, given, Launch(resident, 4), dtype), reference(cell, given))
    # Errors of a product's terms partly cancel, and those of the steps shrink from one to the next; float32 has 1e-7.
    assert torch.finfo(dtype).eps / 20 < found < 2 * torch.finfo(dtype).eps


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("H", [100, 195, 400])
def test_sizes(name: str, H: int) -> None:
    """As `choose` has it."""
    cell, of = unit(name)
    given = problem(cell, 2, 2, 5, H)
    launch = choose(of, 2, 5, H, torch.float32, DEVICE)
    assert error(kernels(of, given, launch), reference(cell, given)) < 1e-5


@pytest.mark.parametrize("name", FEW)
def test_diverged(name: str) -> None:
    """A NaN is not lost in any operation."""
    cell, of = unit(name)
    given = problem(cell, 3, 1, 2, 4)
    given.a[1, 0, 0, :4] = torch.nan  # one gate's columns
    h = kernels(of, given, RESIDENT).h
    assert h[1:, 0, 0].isnan().all()
    assert not h[:, 0, 1].isnan().any()


@pytest.mark.parametrize("name", FEW[:1])
def test_tanh(name: str) -> None:
    """Right in its digits near 0 too, and at either end."""
    x = torch.cat([torch.logspace(-30, 1.5, 503), torch.tensor([torch.inf])])
    a = torch.cat([x, -x]).double().view(1, 1, 8, 126)
    U, zeros = torch.zeros(1, 126, 126), torch.zeros(1, 8, 126)
    found = kernels(unit("Tanh")[1], Problem(a, {"U": U}, (zeros,), a, (zeros,)), RESIDENT).h.double().cpu()
    assert ((found - a.tanh()).abs() <= 4e-7 * a.tanh().abs()).all()


@pytest.mark.skipif(INTERPRETED, reason="Triton compiles nothing then")
@pytest.mark.parametrize(
    ("name", "H", "dtype"),
    [("GRU", 100, "fp32"), ("LSTM", 100, "fp32"), ("LSTM", 100, "bf16"), ("FGR", 46, "fp32"), ("LSTM", 227, "fp32")],
)
def test_compiles(name: str, H: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For an H100, which need not be there: into the shared memory counted with, and hardly a register is spilled."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    _, of = unit(name)
    torch_dtype = torch.float32 if dtype == "fp32" else torch.bfloat16
    launch = choose(of, 1, 32, H, torch_dtype, torch.device("cpu"))
    constants = {"H": H, "PADDED": padded(H), "TILE": launch.tile}
    module = lowering._module(of, launch.resident)
    for kernel in (module.forward, module.backward):
        signature = {}
        for argument in kernel.arg_names:
            given = dtype if argument == "a" or argument.startswith(("row_", "matrix_")) else "fp32"
            signature[argument] = "constexpr" if argument in constants else "i32" if argument in "TRB" else f"*{given}"
        aligned = {(k,): [["tt.divisibility", 16]] for k, kind in enumerate(signature.values()) if kind[0] == "*"}
        source = ASTSource(kernel, signature, constants, aligned)
        options = {"num_warps": launch.warps(H)}
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        assert compiled.metadata.shared <= H100_SHARED
        (tmp_path / "cubin").write_bytes(compiled.asm["cubin"])
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", tmp_path / "cubin"]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        # With loads that are not pipelined, say, it is thousands.
        assert int(re.search(r"STACK:(\d+)", usage)[1]) <= 256, usage


def test_choose() -> None:
    """Weights of H = 100 fit where the GPU has room for them; tiles grow with the replicas."""
    few = {name: plan(find(name)()) for name in ("GRU", "LSTM")}
    cpu = torch.device("cpu")
    f32, bf16 = torch.float32, torch.bfloat16
    assert choose(few["GRU"], 1, 32, 100, f32, cpu) == Launch(True, 4)
    assert choose(few["GRU"], 32, 32, 100, f32, cpu) == Launch(True, 8)
    assert choose(few["LSTM"], 1, 32, 100, f32, cpu) == Launch(False, 4)
    assert choose(few["LSTM"], 1, 32, 100, bf16, cpu) == Launch(True, 4)
    assert choose(few["LSTM"], 64, 64, 46, f32, cpu) == Launch(True, 16)
    assert choose(few["LSTM"], 64, 64, 400, f32, cpu) == Launch(False, 4)
    assert [Launch(True, 4).warps(H) for H in (1, 100, 195, 400)] == [4, 4, 8, 16]
    assert [padded(H) for H in (1, 16, 17, 100, 512)] == [16, 16, 32, 128, 512]


def test_supported() -> None:
    cpu = torch.device("cpu")
    assert "float64" in str(supported(cpu, torch.float64, 10))
    assert "H = 513" in str(supported(cpu, torch.float32, 513))
    assert "meta" in str(supported(torch.device("meta"), torch.float32, 10))
    assert (supported(cpu, torch.float32, 10) is None) == INTERPRETED
    if CUDA:
        assert supported(torch.device("cuda"), torch.bfloat16, 512) is None


@pytest.mark.skipif(HERE, reason="the tests run here")
@pytest.mark.parametrize("marked", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_in_the_interpreter(marked: str) -> None:
    command = [sys.executable, "-m", "pytest", __file__, "-p", "no:cacheprovider", "-m", marked]
    done = subprocess.run(
        command, check=False, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
