"""Mistakes that a unit of one's own may have: one line each, before anything is trained."""

import pytest
import torch

from seqbench.cells import cells
from seqbench.cells.base import Cell, Weight
from seqbench.cells.rules import check_step
from seqbench.model.recurrent import Recurrent
from seqbench.task import SeqbenchError


class Right(Cell):
    gates = 1
    paper = "none"

    def weights(self, hidden):
        return {"U": Weight((hidden, hidden), "orthogonal")}

    def step(self, a, state, w):
        return (torch.tanh(torch.baddbmm(a, state[0], w.U)),)


def step(function):
    return type("Mine", (Right,), {"step": function})


def first(shape, init):
    return type("Mine", (Right,), {"weights": lambda self, hidden: {"U": Weight(shape(hidden), init)}})


def square(hidden):
    return hidden, hidden


def exits(self, a, state, w):
    raise SystemExit(0)


class Forgets(Right):
    def __init__(self, bias: bool = True, size: int = 3) -> None:
        super().__init__(bias)


class Needs(Right):
    def __init__(self, k: float) -> None:
        super().__init__()
        self.k = k


@pytest.mark.parametrize("unit", cells().values(), ids=cells())
def test_all_units_keep_to_the_rules(unit):
    check_step(unit(), 5)


@pytest.mark.parametrize(
    ("unit", "told"),
    [
        (step(lambda self, a, state, w: torch.tanh(a)), r"Mine.step returns no tuple of states but Tensor: .*\(h,\)"),
        (step(lambda self, a, state, w: [torch.tanh(a)]), "no tuple of states but list"),
        (step(lambda self, a, state, w: None), "no tuple of states but NoneType"),
        (step(lambda self, a, state, w: (a, a)), "returns 2 states, and the class says states = 1"),
        (step(lambda self, a, state, w: (torch.cat([a, a], -1),)), r"state 0 as \[2, 3, 8\], where .* is \[2, 3, 4\]"),
        (step(lambda self, a, state, w: (a.double(),)), "state 0 in torch.float64 where it came in torch.float32"),
        (step(lambda self, a, state, w: (a.float(),)), "state 0 in torch.float32 where it came in torch.float64"),
        (step(lambda self, a, state, w: (a @ w.V,)), r"Mine.step, test_rules.py line \d+: AttributeError: .*'V'"),
        (step(lambda self, a, state: (a,)), "TypeError: .* takes 3 positional arguments but 4 were given"),
        (step(exits), r"Mine.step, test_rules.py line \d+: SystemExit: 0"),
        (first(square, "zero"), r"Weight\(\(4, 4\), 'zero'\) cannot be: .*'orthogonal', 'uniform', 'zeros'"),
        (first(lambda hidden: (hidden, -1), "zeros"), "whole numbers above 0"),
        (first(lambda hidden: (2 * hidden, hidden), "orthogonal"), "H x H blocks"),
        (first(square, lambda shape, generator: torch.zeros(3)), r"First values \[3\] .* for a weight \[4, 4\]"),
        (type("Mine", (Right,), {"weights": lambda self, hidden: [1]}), "must return a dictionary of Weight by name"),
        (type("Mine", (Right,), {"weights": lambda self: {}}), "Mine.weights: .*2 were given"),
        (type("Mine", (Right,), {"states": 0}), "Mine.states is 0"),
        (Forgets, "Forgets keeps no size: set self.size in its constructor"),
        (Needs(None), "Needs cannot do without k: give --model.cell.k"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(unit, told):
    with pytest.raises(SeqbenchError, match=told):
        Recurrent(unit, 3, 4)


def test_a_unit_that_keeps_to_them_is_taken():
    assert Recurrent(Right, 3, 4)(torch.zeros(2, 1, 3))[0].shape == (2, 1, 4)


def test_fit_refuses_it_and_leaves_nothing(refusal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = (
        "from seqbench.cells import Tanh\n\n\nclass Mine(Tanh):\n    def step(self, a, state, w):\n        return [a]\n"
    )
    (tmp_path / "units_with_a_list.py").write_text(source)
    told = refusal("fit", "-c", "synthetic", "-c", "chung2014", "--model.cell", "units_with_a_list.Mine")
    assert told == "seqbench: error: Mine.step returns no tuple of states but list: write `return (h,)`"
    assert not (tmp_path / "runs").exists()
