"""Units against other implementations and against their equations written out in float64.

T time, R replicas, B batch, I inputs, H hidden.
"""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from seqbench.cells import Cell, Weight, cells, find
from seqbench.cells.gru import GRU, GRUResetAfter
from seqbench.cells.lstm import LSTM
from seqbench.cells.tanh import Tanh
from seqbench.kernels.sequence import decide
from seqbench.model.recurrence import run_layer
from seqbench.task import SeqbenchError

ROOT = Path(__file__).parents[3]
T, R, B, I, H = 7, 3, 4, 5, 6


def every_variant() -> list[Cell]:
    """Each unit with each of its options on and off."""
    variants = []
    for kind in cells().values():
        options = [n for n, p in inspect.signature(kind).parameters.items() if isinstance(p.default, bool)]
        variants += [kind(**dict(zip(options, on, strict=True))) for on in product([True, False], repeat=len(options))]
    return variants


def name_of(cell: Cell) -> str:
    return "-".join([type(cell).__name__, *(f"{k}={v}" for k, v in cell.options().items())])


def random_weights(cell: Cell, replicas: int = R, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    spec = cell.layer(I, H)
    return {n: 0.5 * torch.randn(replicas, *w.shape, generator=g, dtype=dtype) for n, w in spec.items()}


def run(cell: Cell, x: torch.Tensor, w: dict[str, torch.Tensor]) -> torch.Tensor:
    space = SimpleNamespace(**w)
    return run_layer(cell, x, space, decide(cell, space.W.shape[-1] // cell.gates, x))[0]


def inputs(batch: int = B, replicas: int = R) -> torch.Tensor:
    return torch.randn(T, replicas, batch, I, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def torch_twin(cell: Cell, w: dict[str, torch.Tensor], k: int) -> torch.nn.RNNBase:
    """torch.nn's module with replica k's weights; their GRU's gates stand in the order r, z, n, ours z, r, n."""
    kind = {"Tanh": torch.nn.RNN, "GRUResetAfter": torch.nn.GRU, "LSTM": torch.nn.LSTM}[type(cell).__name__]
    module = kind(I, H).double()
    order = [1, 0, 2] if isinstance(cell, GRUResetAfter) else list(range(cell.gates))

    def rows(weight: torch.Tensor) -> torch.Tensor:
        return torch.cat([weight.T.split(H)[g] for g in order])

    with torch.no_grad():
        module.weight_ih_l0.copy_(rows(w["W"][k]))
        module.weight_hh_l0.copy_(rows(w["U"][k]))
        module.bias_ih_l0.copy_(rows(w["b"][k])[:, 0] if "b" in w else torch.zeros(cell.gates * H))
        module.bias_hh_l0.zero_()
        if "c_n" in w:
            module.bias_hh_l0[2 * H :] = w["c_n"][k][0]
    return module


@pytest.mark.parametrize("cell", [Tanh(), GRUResetAfter(), LSTM(peepholes=False)], ids=name_of)
def test_equals_torch_where_torch_has_the_unit(cell):
    w, x = random_weights(cell), inputs().requires_grad_()
    h = run(cell, x, w)
    for k in range(R):
        twin, x_k = torch_twin(cell, w, k), x.detach()[:, k].clone().requires_grad_()
        expected = twin(x_k)[0]
        torch.testing.assert_close(h[:, k], expected, rtol=0, atol=1e-12)
        grad = torch.autograd.grad(h[:, k].sin().sum(), x, retain_graph=True)[0]
        torch.testing.assert_close(grad[:, k], torch.autograd.grad(expected.sin().sum(), x_k)[0], rtol=0, atol=1e-12)
        assert not grad[:, [j for j in range(R) if j != k]].any()


def equations_gru(x, w, k):
    """Chung et al. 2014, eq. 5-8, one sequence, one gate at a time."""
    (W_z, W_r, W_n), (b_z, b_r, b_n) = w["W"][k].split(H, 1), w["b"][k][0].split(H)
    U_z, U_r = w["U_zr"][k].split(H, 1)
    h, hs = x.new_zeros(H), []
    for x_t in x:
        z = 1 / (1 + torch.exp(-(x_t @ W_z + h @ U_z + b_z)))
        r = 1 / (1 + torch.exp(-(x_t @ W_r + h @ U_r + b_r)))
        candidate = torch.tanh(x_t @ W_n + (r * h) @ w["U_n"][k] + b_n)
        h = (1 - z) * h + z * candidate
        hs.append(h)
    return torch.stack(hs)


def equations_lstm(x, w, k):
    """Chung et al. 2014, eq. 3-4, with diagonal peepholes."""
    W, U, b = w["W"][k].split(H, 1), w["U"][k].split(H, 1), w["b"][k][0].split(H)
    p_i, p_f, p_o = (w[n][k][0] for n in ("p_i", "p_f", "p_o"))
    h = c = x.new_zeros(H)
    hs = []
    for x_t in x:
        i, f, n, o = (x_t @ W[g] + h @ U[g] + b[g] for g in range(4))
        i = 1 / (1 + torch.exp(-(i + p_i * c)))
        f = 1 / (1 + torch.exp(-(f + p_f * c)))
        c = f * c + i * torch.tanh(n)
        h = torch.tanh(c) / (1 + torch.exp(-(o + p_o * c)))
        hs.append(h)
    return torch.stack(hs)


@pytest.mark.parametrize(("cell", "equations"), [(GRU(), equations_gru), (LSTM(), equations_lstm)])
def test_equals_the_papers_equations(cell, equations):
    w, x = random_weights(cell), inputs()
    for value in w.values():
        value.requires_grad_()
    h = run(cell, x, w)
    expected = torch.stack([torch.stack([equations(x[:, k, j], w, k) for j in range(B)], 1) for k in range(R)], 1)
    torch.testing.assert_close(h, expected, rtol=0, atol=1e-12)
    ours = torch.autograd.grad(h.sin().sum(), list(w.values()))
    theirs = torch.autograd.grad(expected.sin().sum(), list(w.values()))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_the_two_grus_are_different_units():
    before = run(GRU(bias=False), inputs(), w := random_weights(GRU(bias=False)))
    shared = {"W": w["W"], "U": torch.cat([w["U_zr"], w["U_n"]], 2)}
    after = run(GRUResetAfter(bias=False), inputs(), shared)
    assert (before - after).abs().max() > 1e-3


@pytest.mark.parametrize("cell", every_variant(), ids=name_of)
def test_the_future_changes_nothing_before_it(cell):
    w, x = random_weights(cell), inputs()
    later = x.clone()
    later[4:] += 1
    h, changed = run(cell, x, w), run(cell, later, w)
    assert torch.equal(h[:4], changed[:4])
    assert not torch.equal(h[4], changed[4])


@pytest.mark.parametrize("cell", every_variant(), ids=name_of)
def test_sequences_and_replicas_do_not_mix(cell):
    w, x = random_weights(cell), inputs()
    h = run(cell, x, w)
    other = x.clone()
    other[:, 1, 2] += 1
    different = (run(cell, other, w) != h).flatten(3).any(3).any(0)
    assert different.nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("cell", every_variant(), ids=name_of)
def test_every_weight_has_a_gradient(cell):
    w = {n: v.requires_grad_() for n, v in random_weights(cell).items()}
    grads = torch.autograd.grad(run(cell, inputs(), w).sin().sum(), list(w.values()))
    for name, grad in zip(w, grads, strict=True):
        assert grad.ne(0).all(), f"{name} has dead entries"


@pytest.mark.parametrize("cell", every_variant(), ids=name_of)
def test_states_and_gates_are_what_the_cell_says(cell):
    w = {n: v for n, v in random_weights(cell).items() if n not in ("W", "b")}
    a = torch.randn(R, B, cell.gates * H, dtype=torch.float64)
    state = tuple(torch.rand(R, B, H, dtype=torch.float64) for _ in range(cell.states))
    after = cell.step(a, state, SimpleNamespace(**w))
    assert [s.shape for s in after] == [torch.Size([R, B, H])] * cell.states
    assert cell.paper
    assert type(cell).__doc__


@pytest.mark.parametrize("cell", every_variant(), ids=name_of)
def test_gradients_of_the_step(cell):
    w = {n: v[:1, ...] for n, v in random_weights(cell, 1).items() if n not in ("W", "b")}
    leaves = [
        torch.randn(1, 2, cell.gates * H, dtype=torch.float64),
        *(torch.rand(1, 2, H, dtype=torch.float64) + 0.1 for _ in range(cell.states)),
        *w.values(),
    ]

    def step(a, *rest):
        state, weights = rest[: cell.states], rest[cell.states :]
        return cell.step(a, state, SimpleNamespace(**dict(zip(w, weights, strict=True))))

    cut = getattr(cell, "truncated", False)  # at y: no derivative by it is asked for, and none is there
    assert torch.autograd.gradcheck(step, [leaf.requires_grad_(not (cut and k == 1)) for k, leaf in enumerate(leaves)])


def test_options_are_those_that_differ():
    assert LSTM().options() == {}
    assert LSTM(peepholes=False).options() == {"peepholes": False}


def test_unknown_unit_names_the_nearest():
    with pytest.raises(SeqbenchError, match="did you mean LSTM"):
        find("lstn")


def test_weight_size():
    assert Weight((3, 4), "zeros").size == 12


def test_a_new_unit_is_one_new_file(tmp_path):
    """The README's own, put into a copy of the package: listed, trained by name, covered by the tests above."""
    shutil.copytree(ROOT / "seqbench", tmp_path / "seqbench", ignore=shutil.ignore_patterns("__pycache__"))
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S) if "(Cell)" in c]
    name = re.search(r"class (\w+)\(Cell\)", code)[1]
    assert name not in cells()
    (tmp_path / "seqbench" / "cells" / "new.py").write_text(code)

    def run(*arguments: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    (row,) = [row for row in json.loads(run("seqbench.cli", "cells", "--json")) if row["unit"] == name]
    assert row["recurrent"] == 2 * row["hidden"] * (88 + row["hidden"] + 1)
    configs = [flag for c in ("synthetic", "chung2014") for flag in ("-c", str(ROOT / "configs" / f"{c}.yaml"))]
    run("seqbench.cli", "fit", *configs, "--model.cell", name, "--trainer.max_epochs", "1")
    assert len(list(tmp_path.glob(f"runs/synthetic-{name.lower()}-*/record.json"))) == 1
    covered = run("pytest", str(ROOT / "tests/seqbench/cells/test_cells.py"), "-k", name, "--rootdir", str(ROOT), "-vv")
    assert all(f"{test}[{name}]" in covered for test in ("before_it", "do_not_mix", "has_a_gradient", "of_the_step"))
