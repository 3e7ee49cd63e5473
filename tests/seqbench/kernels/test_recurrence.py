"""How a layer runs over time is decided in one place; what is refused, fallen back to, and left uncompiled."""

import logging
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from seqbench.cells import find
from seqbench.datamodules.synthetic import Synthetic
from seqbench.kernels.cpu import cache, dense, output
from seqbench.kernels.cpu import layer as cpu
from seqbench.kernels.sequence import Recurrence, decide
from seqbench.model.affine import project
from seqbench.model.recurrence import loop, run_layer
from seqbench.task import SeqbenchError
from seqbench.train.module import SequenceModel


class TestDecide:
    x = torch.zeros(1)

    def test_by_unit_device_and_precision(self):
        gru, minimal = find("GRU")(), find("MinGRU")()
        assert decide(gru, 5, self.x) == Recurrence("numba", compiled=True)
        assert decide(gru, 5, self.x.double()) == Recurrence("loop", compiled=False)
        assert decide(minimal, 5, self.x) == Recurrence("numba", compiled=True)
        assert decide(minimal, 5, self.x.double()) == Recurrence("scan", compiled=False)
        assert decide(find("LRU")(), 5, self.x) == Recurrence("numba", compiled=True)
        with torch.autocast("cpu", torch.bfloat16):
            assert decide(gru, 5, self.x) == Recurrence("loop", compiled=False)

    def test_can_be_forced(self, monkeypatch):
        gru = find("GRU")()
        assert decide(gru, 5, self.x, "loop") == Recurrence("loop", compiled=False)
        monkeypatch.setenv("SEQBENCH_RECURRENCE", "loop")
        assert decide(gru, 5, self.x) == Recurrence("loop", compiled=False)
        assert decide(gru, 5, self.x, "numba") == Recurrence("numba", compiled=True)

    @pytest.mark.parametrize(
        ("name", "why"),
        [("scan", "not linear"), ("triton", ""), ("nmba", "known are loop, scan"), ("numba", "float32 on a CPU")],
    )
    def test_what_cannot_be_is_refused_with_the_reason(self, name, why):
        with pytest.raises(SeqbenchError, match=f"GRU cannot run by {name}: .*{why}"):
            decide(find("GRU")(), 5, self.x.double(), name)

    def test_without_numba_a_unit_runs_in_the_loop_and_says_so(self, monkeypatch, caplog):
        monkeypatch.setattr("seqbench.kernels.sequence.installed", lambda name: None)
        with caplog.at_level(logging.WARNING, "seqbench"):
            assert decide(find("FGR")(), 5, self.x).name == "loop"
        assert caplog.messages == ["FGR runs in the loop: numba is not installed: pip install numba"]


def test_under_autocast_the_loops_state_and_products_stay_in_float32():
    cell, g = find("GRU")(), torch.Generator().manual_seed(0)
    w = SimpleNamespace(**{n: torch.randn(2, *v.shape, generator=g) / 3 for n, v in cell.layer(7, 11).items()})
    x, recurrence = torch.randn(9, 2, 13, 7, generator=g), Recurrence("loop", compiled=False)
    exact, _ = run_layer(cell, x, w, recurrence)
    with torch.autocast("cpu", torch.bfloat16):
        h, (last,) = run_layer(cell, x, w, recurrence)
        projected = project(x, w.W, w.b).float()
    assert h.dtype == last.dtype == torch.float32
    # The projection alone is rounded.
    expected, _ = loop(cell, projected, w, (torch.zeros(2, 13, 11),))
    assert torch.equal(h, expected)
    assert 0 < (h - exact).abs().max() < 0.1


@pytest.mark.parametrize("recurrence", ["loop", None])
def test_with_loop_nothing_is_compiled(recurrence, monkeypatch):
    """Layer, projection, head, noise and optimiser; by default all of them are."""
    used, loops = set(), cache.own_module("loops")

    def noted(name, function):
        return lambda *arguments: used.add(name) or function(*arguments)

    parts = (cpu, "sequence"), (dense, "dense"), (output, "bernoulli_nats"), (loops, "normal"), (loops, "chung_rmsprop")
    for module, name in parts:
        monkeypatch.setattr(module, name, noted(name, getattr(module, name)))
    data = Synthetic(batch_size=16)
    model = SequenceModel(find("GRU")(), data.task, noise=0.1, hidden=5, recurrence=recurrence)
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, data)
    model(torch.zeros(3, 1, 2, 88))
    assert used == (set() if recurrence == "loop" else {name for _, name in parts})
    assert model.recurrence.name == (recurrence or "numba")
