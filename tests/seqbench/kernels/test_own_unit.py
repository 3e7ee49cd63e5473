"""The README's example of a unit of one's own: compiled from its step like the suite's, and as fast."""

import importlib.util
import re
import time
from pathlib import Path
from types import SimpleNamespace

import torch

from seqbench.cells import Cell, find
from seqbench.kernels.sequence import decide
from seqbench.model.budget import hidden_for_budget
from seqbench.model.heads import Bernoulli
from seqbench.model.recurrence import run_layer
from seqbench.model.weights import initial_weights

ROOT = Path(__file__).parents[3]


def from_readme(folder: Path) -> Cell:
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S) if "(Cell)" in c]
    (folder / "own.py").write_text(code)
    spec = importlib.util.spec_from_file_location("own", folder / "own.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (kind,) = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Cell) and v is not Cell]
    return kind()


def forward_and_backward(cell: Cell, T: int, B: int, inputs: int, budget: int):
    H = hidden_for_budget(cell, inputs, Bernoulli(inputs), budget, "recurrent")
    w = {name: p.requires_grad_() for name, p in initial_weights(cell.layer(inputs, H), [0]).items()}
    x = torch.randn(T, 1, B, inputs, generator=torch.Generator().manual_seed(0))
    recurrence = decide(cell, H, x)
    assert recurrence.name == "numba"

    def run() -> float:
        begin = time.perf_counter()
        h, _ = run_layer(cell, x, SimpleNamespace(**w), recurrence)
        torch.autograd.grad(h.sum(), list(w.values()))
        return time.perf_counter() - begin

    return run


def test_it_takes_at_most_twice_the_grus_time_at_as_many_parameters(tmp_path):
    own, gru = (forward_and_backward(cell, 64, 32, 88, 20_000) for cell in (from_readme(tmp_path), find("GRU")()))
    own(), gru()  # compiled
    # In turn, and the fastest of many: a neighbour slows single runs down, of both.
    seconds = [(own(), gru()) for _ in range(30)]
    assert min(s for s, _ in seconds) < 2 * min(s for _, s in seconds)
