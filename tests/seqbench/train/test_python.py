"""`seqbench.fit`: the command from Python, again and again in one process."""

import os
import signal

import pytest
import torch

import seqbench
from seqbench import record
from seqbench.cells import Tanh
from seqbench.train.callbacks import Replicas

SHORT = {"model.hidden": 4, "trainer.max_epochs": 2}


def test_it_gives_the_records_that_the_command_leaves(folder, fit):
    """Values of Python's kinds: a class, a list, a number, None and a path."""
    flags = SHORT | {"model.rate": [1e-3, 1e-2], "model.schedule": None, "run.dir": folder / "here"}
    one, other = seqbench.fit("synthetic", "chung2014", **{"model.cell": Tanh}, **flags)
    assert (one.rate, other.rate) == (1e-3, 1e-2)
    typed = ["--model.hidden", "4", "--model.rate", "[1e-3,1e-2]", "--model.schedule", "null"]
    by_command = fit(*typed, unit="Tanh", epochs=2)
    for found in (one, other):
        assert record.load(folder / "here" / found.run_id / "record.json") == found
        assert by_command[found.run_id].test == found.test
        assert by_command[found.run_id].curve.valid == found.curve.valid


def test_it_leaves_the_process_as_it_was(folder, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    torch.set_num_threads(2)
    (first,) = seqbench.fit("synthetic", "chung2014", **{"model.cell": "Tanh"}, **SHORT)
    with pytest.raises(seqbench.SeqbenchError, match=r"run.overwrite"):
        seqbench.fit("synthetic", "chung2014", **{"model.cell": "Tanh"}, **SHORT)
    (again,) = seqbench.fit("synthetic", "chung2014", **{"model.cell": "Tanh", "run.overwrite": True}, **SHORT)
    assert again.test == first.test
    assert torch.get_num_threads() == 2
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == handlers


def test_an_interrupt_is_an_interrupt(folder, monkeypatch):
    """And the next one is not ignored."""

    def interrupt(self, trainer, pl_module):
        raise KeyboardInterrupt

    monkeypatch.setattr(Replicas, "on_train_epoch_start", interrupt, raising=False)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        seqbench.fit("synthetic", "chung2014", **{"model.cell": "Tanh"}, **SHORT)
    assert signal.getsignal(signal.SIGINT) is handler
    (path,) = folder.glob("runs/*/record.json")
    assert record.load(path).status == "interrupted"


@pytest.mark.parametrize(
    ("configs", "flags", "told"),
    [
        (["chung2104"], {}, "did you mean chung2014"),
        (["synthetic", "chung2014"], {"model.cell": "GRUU"}, "did you mean GRU"),
        (["synthetic", "chung2014"], {"model.cell": Replicas}, "is no unit"),
        (["synthetic", "chung2014"], {"model.cell": "GRU", "model.nose": 1}, "--model.nose"),
        (["synthetic", "chung2014"], {"model.cell": "GRU", "model.budget": -1}, "must be positive"),
    ],
)
def test_mistakes(folder, configs, flags, told):
    with pytest.raises(seqbench.SeqbenchError, match=told):
        seqbench.fit(*configs, **flags)
    assert not list(folder.iterdir())


def test_a_unit_that_is_in_no_file(folder):
    """As a notebook's are, which Python finds as __main__'s."""
    module = type(os)("in_no_file")
    module.Own = type("Own", (Tanh,), {"__module__": "in_no_file", "paper": "nobody"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "in_no_file", module)
        (found,) = seqbench.fit("synthetic", "chung2014", **{"model.cell": module.Own}, **SHORT)
    assert (found.status, found.cell.name, found.environment.sources["unit"]) == ("finished", "Own", "")
