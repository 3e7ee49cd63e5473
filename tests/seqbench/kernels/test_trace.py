"""What of a step can be compiled, and what is refused: by cell, operation and line; such a cell runs in the loop."""

import inspect
import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from seqbench.cells import Cell, Weight, cells
from seqbench.kernels.compiler.planner import plan
from seqbench.kernels.compiler.trace import Unsupported, at_sizes, trace
from seqbench.kernels.sequence import decide
from seqbench.model.recurrence import run_layer
from seqbench.task import SeqbenchError


class Plain(Cell):
    gates = 1
    paper = "none"

    def weights(self, hidden):
        return {"U": Weight((hidden, hidden), "orthogonal")}


class BranchOnValue(Plain):
    """aten.sum"""

    def step(self, a, state, w):
        if (a + state[0] @ w.U).sum() > 0:  # here
            return (torch.tanh(a),)
        return (a,)


class MeanOverH(Plain):
    """aten.mean"""

    def step(self, a, state, w):
        return (torch.tanh(a - a.mean(-1, keepdim=True) + state[0] @ w.U),)  # here


class InPlace(Plain):
    """aten.tanh_"""

    def step(self, a, state, w):
        y = a + state[0] @ w.U
        y.tanh_()  # here
        return (y,)


class RandomDraw(Plain):
    """aten.rand_like"""

    def step(self, a, state, w):
        return (torch.tanh(a + state[0] @ w.U) * torch.rand_like(a),)  # here


class TensorInside(Plain):
    """declare it as a weight"""

    def step(self, a, state, w):
        half = torch.full(a.shape, 0.5)  # here
        return (torch.tanh(a + state[0] @ w.U) * half,)


class CutBlock(Plain):
    """cuts a block of H"""

    def step(self, a, state, w):
        turned = torch.cat([a[..., 1:], a[..., :1]], -1)  # here
        return (torch.tanh(turned + state[0] @ w.U),)


class Transposed(Plain):
    """weight U is transposed"""

    def step(self, a, state, w):
        return (torch.tanh(a + state[0] @ w.U.transpose(1, 2)),)  # here


class NoGradient(Plain):
    """no_grad"""

    def step(self, a, state, w):
        with torch.no_grad():
            kept = state[0] * 0.5  # here
        return (torch.tanh(a + state[0] @ w.U) + kept,)


class Detached(Plain):
    """detach of what is no state"""

    def step(self, a, state, w):
        return (torch.tanh(a.detach() + state[0] @ w.U),)  # here


class OneSequence(Plain):
    """left out, mixed or rearranged"""

    def step(self, a, state, w):
        first = state[0][:, :1]  # here
        return (torch.tanh(a + state[0] @ w.U) + first,)


class NextSequence(Plain):
    """left out, mixed or rearranged"""

    def step(self, a, state, w):
        h = state[0]
        rolled = torch.cat([h[:, 1:], h[:, :1]], 1)  # here
        return (torch.tanh(a + rolled @ w.U),)


class OtherReplica(Plain):
    """left out, mixed or rearranged"""

    def step(self, a, state, w):
        h = state[0]
        mixed = h.view(h.shape[1], h.shape[0], h.shape[2]).view(h.shape)  # here
        return (torch.tanh(a + mixed @ w.U),)


class ConstantProduct(Plain):
    """a product of a constant"""

    def step(self, a, state, w):
        return (torch.tanh(a + state[0] @ w.U) + torch.ones_like(a) @ w.U,)  # here


class NumberOfShape(Plain):
    """a number taken from a shape"""

    def step(self, a, state, w):
        return (torch.tanh(a + state[0] @ w.U / a.shape[-1] ** 0.5),)


class OneSequenceAlone(Plain):
    """a branch on a size"""

    def step(self, a, state, w):
        new = torch.tanh(a + state[0] @ w.U)
        return (new if a.shape[1] == 1 else new * 0.5,)


class CountsItsCalls(Plain):
    """the step changes the unit's calls"""

    calls = 0

    def step(self, a, state, w):
        self.calls += 1
        new = torch.tanh(a + state[0] @ w.U)
        return (new if self.calls > 100 else new * 0.5,)


class UnusedWeight(Plain):
    """weight p is declared and not used"""

    def weights(self, hidden):
        return super().weights(hidden) | {"p": Weight((1, hidden), "zeros")}

    def step(self, a, state, w):
        return (torch.tanh(a + state[0] @ w.U),)


class WrongStates(Plain):
    """2"""

    def step(self, a, state, w):
        return torch.tanh(a + state[0] @ w.U), a


BAD = [
    BranchOnValue, MeanOverH, InPlace, RandomDraw, TensorInside, CutBlock, Transposed, NoGradient, Detached,
    OneSequence, NextSequence, OtherReplica, ConstantProduct, NumberOfShape, OneSequenceAlone, CountsItsCalls,
    UnusedWeight, WrongStates,
]  # fmt: skip


@pytest.mark.parametrize("kind", BAD, ids=lambda kind: kind.__name__)
def test_is_refused_by_name_operation_and_line(kind):
    with pytest.raises(Unsupported) as refused:
        trace(kind())
    message = str(refused.value)
    assert message.startswith(f"{kind.__name__}.step")
    assert kind.__doc__ in message
    source, first = inspect.getsourcelines(kind)
    lines = [first + k for k, line in enumerate(source) if "# here" in line]
    if lines:
        assert f"test_trace.py line {lines[0]}:" in message


def test_a_refused_cell_runs_in_the_loop_with_one_line_that_says_why(caplog):
    cell, g = MeanOverH(), torch.Generator().manual_seed(0)
    w = SimpleNamespace(**{n: torch.randn(2, *v.shape, generator=g) for n, v in cell.layer(3, 4).items()})
    x = torch.randn(5, 2, 3, 3, generator=g)
    with caplog.at_level(logging.WARNING, "seqbench"):
        assert decide(cell, 4, x).name == "loop"
        h, _ = run_layer(cell, x, w, decide(cell, 4, x))
    assert torch.equal(h, run_layer(cell, x, w, decide(cell, 4, x, "loop"))[0])
    assert caplog.messages == [f"MeanOverH runs in the loop: {_reason(cell)}"]


class ManySequences(Plain):
    """A branch that no size that is traced at meets; in both the step can be compiled."""

    def rare(self, a):
        return a.shape[1] > 8

    def step(self, a, state, w):
        new = torch.tanh(a + state[0] @ w.U)
        return (new * 0.5 if self.rare(a) else new,)


class TwoReplicas(ManySequences):
    def rare(self, a):
        return a.shape[0] == 2 and a.numel() > 100


class SixUnits(ManySequences):
    def rare(self, a):
        return a.shape[-1] == 6


class InFloat32(ManySequences):
    def rare(self, a):
        return a.dtype == torch.float32


class MixesMany(ManySequences):
    """What is done there could not be compiled."""

    def step(self, a, state, w):
        new = torch.tanh(a + state[0] @ w.U)
        return (new.roll(1, 1) if self.rare(a) else new,)


@pytest.mark.faults("B8")
@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        (ManySequences, (1, 9, 4)), (MixesMany, (1, 9, 4)), (TwoReplicas, (2, 7, 8)), (SixUnits, (3, 2, 6)),
        (InFloat32, (2, 3, 4)),
    ],
)  # fmt: skip
def test_a_branch_on_a_size_that_was_not_traced_is_refused_when_that_size_comes(kind, sizes):
    """Where it does not come, it trains compiled, to the loop's figures; by the loop it trains at any size."""

    def both(R, B, H):
        cell, g = kind(), torch.Generator().manual_seed(0)
        w = {n: torch.randn(R, *v.shape, generator=g) for n, v in cell.layer(3, H).items()}
        x = torch.randn(5, R, B, 3, generator=g)
        return [run_layer(cell, x, SimpleNamespace(**w), decide(cell, H, x, how))[0] for how in ("loop", None)]

    if kind is not InFloat32:
        expected, found = both(3, 4, 5)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    with pytest.raises(SeqbenchError, match=rf"{kind.__name__}\.step.*--model.recurrence loop"):
        both(*sizes)


@pytest.mark.faults("B8")
@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 20, 46), (10, 33, 8), (4, 4, 4)])
def test_no_unit_of_the_suite_branches_on_a_size(sizes):
    for kind in cells().values():
        assert at_sizes(kind(), *sizes, torch.float32) == ""


@pytest.mark.faults("B7")
def test_a_step_is_traced_in_inference_mode_too():
    """Where `test` and `validate` run; the units' chunk is another operation there, which has no rule."""
    for kind in (cells()["GRU"], Spelt):
        with torch.inference_mode():
            inside = str(plan(kind()))
        assert inside == str(plan(kind()))


def test_tracing_is_fast():
    """torch's dispatch modes import torch._dynamo, which takes seconds; this one does not."""
    code = """
import sys
from seqbench.cells import find
from seqbench.kernels.compiler.planner import plan
plan(find("GRU")())
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def _reason(cell):
    with pytest.raises(Unsupported) as refused:
        trace(cell)
    return refused.value


class Spelt(Cell):
    """The GRU with other words: slices, separate products, a sum in another order, sigmoid of a chunk."""

    gates = 3
    paper = "none"

    def weights(self, hidden):
        return {"U": Weight((hidden, 3 * hidden), "orthogonal")}

    def step(self, a, state, w):
        (h,) = state
        H = h.shape[-1]
        z, r = torch.sigmoid(h @ w.U[..., : 2 * H] + a[..., : 2 * H]).chunk(2, -1)
        n = torch.baddbmm(a[..., 2 * H :], r * h, w.U[:, :, 2 * H :]).tanh()
        return (h + z * (n - h),)


def test_the_same_equations_in_other_words_are_the_same_plan():
    """Up to the names of the weights' blocks."""
    expected = str(plan(cells()["GRU"]())).replace("U_n[0, 0:1]", "U[0, 2:3]").replace("U_zr", "U")
    assert sorted(str(plan(Spelt())).splitlines()) == sorted(expected.splitlines())


GATED = ("tanh", "gru", "lstm", "hochreiter", "greff", "levy", "slstm")  # a unit of one's own may be for the loop alone


@pytest.mark.parametrize("name", [name for name, kind in cells().items() if kind.__module__.endswith(GATED)])
def test_every_gated_unit_of_the_papers_is_planned(name):
    assert plan(cells()[name]()).forward


def test_a_plan_can_be_read():
    assert str(plan(cells()["Tanh"]())).splitlines() == [
        "1 slots, 0 saved",
        "forward",
        "  slot[0] += state[0] @ U[0, 0:1]",
        "  t0 = tanh(slot[0])",
        "  next[0] = t0",
        "backward",
        "  t0 = carry[0] + dh[0]",
        "  t1 = next[0] * next[0]",
        "  t2 = 1.0 - t1",
        "  t3 = t0 * t2",
        "  dslot[0] = t3",
        "carry",
        "  carry[0] = dslot[0] @ U[0, 0:1]^T",
        "after",
        "  dU[0, 0:1] += state[0]^T @ dslot[0]",
    ]
