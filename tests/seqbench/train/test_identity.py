"""What names a run: what decides its numbers, and nothing else; so a name lasts."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest

from seqbench import datamodules, record
from seqbench.cells import find
from seqbench.train import identity
from seqbench.train.fitting import SeqbenchCLI
from seqbench.train.identity import defaults
from seqbench.train.module import SequenceModel
from seqbench.train.optim import ChungRMSProp

CONFIGS = Path(__file__).parents[3] / "configs"
PINNED = {
    ("jsb", "chung2014", "GRU"): "jsb-gru-9c3cbbd010bc",
    ("nottingham", "chung2014", "LSTM"): "nottingham-lstm-efa8203ea869",
    ("fsdd", "chung2014_speech", "Tanh"): "fsdd_a-tanh-f8c62dc95d63",
    ("jsb", "greff2015", "NP"): "jsb-np-9ad63b1976d2",
    ("jsb", "levy2018", "NoGates"): "jsb-nogates-b49f76558ee2",
}


def named(data: str, protocol: str, unit: str, *flags: str) -> str:
    """The id that a command's run would have."""
    files = ["-c", str(CONFIGS / f"{data}.yaml"), "-c", str(CONFIGS / f"{protocol}.yaml")]
    (run_id,) = SeqbenchCLI(["fit", *files, "--model.cell", unit, *flags], execute=False).recorder.run_ids
    return run_id


@pytest.mark.parametrize(("run", "expected"), PINNED.items(), ids="-".join)
def test_names_are_what_they_were(run, expected):
    assert named(*run) == expected


def test_published_records_have_the_names_that_follow_from_them():
    for path in (CONFIGS.parent / "leaderboard" / "records").glob("*.json"):
        found = record.load(path)
        assert found.run_id == path.stem == record.run_id(found.task, found.cell.name, found.config)


def test_a_speech_corpus_is_named_with_its_protocol():
    run = ("fsdd", "chung2014_speech", "Tanh")
    assert named(*run, "--data.protocol", "A") == PINNED[run]
    assert named(*run, "--data.protocol", "B").startswith("fsdd_b-tanh-")
    assert named(*run, "--data.batch_size", "8") != PINNED[run]


@pytest.mark.parametrize("optimizer", [["torch.optim.Adam"], ["torch.optim.SGD", "--model.optimizer.momentum", "0"]])
def test_the_record_of_a_run_names_it_again(tmp_path, optimizer):
    """Its config, classes by name, is a config of `seqbench fit` that gives the same id."""
    flags = ["--model.cell.peepholes", "false", "--data.batch_size", "3", "--trainer.limit_train_batches", "1"]
    flags += ["--model.optimizer", *optimizer]
    files = ["-c", str(CONFIGS / "jsb.yaml"), "-c", str(CONFIGS / "chung2014.yaml"), "--model.cell", "LSTM"]
    recorder = SeqbenchCLI(["fit", *files, *flags], execute=False).recorder
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(recorder.configs[0]))
    assert SeqbenchCLI(["fit", "-c", str(path)], execute=False).recorder.run_ids == recorder.run_ids
    assert "." not in json.dumps(recorder.configs[0]["model"]["cell"]).replace("0.", "")


MOVED = """
from typing import Literal
from seqbench.datamodules.polyphonic import JSBChorales as Set
from seqbench.train import fitting
from seqbench.train import identity
from seqbench.cells import Cell
from seqbench.cells.gru import GRU as Unit
from seqbench.train.module import SequenceModel
from seqbench.task import Task

class JSBChorales(Set):
    def __init__(self, batch_size: int = 16, order: Literal["bucketed", "shuffled"] = "bucketed",
                 seeds: list[int] | None = None, new: int = 3) -> None:
        super().__init__(batch_size, order, seeds)

class GRU(Unit):
    def __init__(self, bias: bool = True, new: int = 3) -> None:
        super().__init__(bias)
        self.new = new

class Newer(SequenceModel):
    def __init__(self, cell: Cell, task: Task, new: int = 3, **options) -> None:
        super().__init__(cell, task, **options)

fitting.SequenceModel = identity.SequenceModel = Newer
"""
ELSEWHERE = """
import sys
import moved_elsewhere
from seqbench.train.fitting import SeqbenchCLI
print(*SeqbenchCLI(sys.argv[1:], execute=False).recorder.run_ids)
"""


@pytest.mark.parametrize("changed", ["", "--data.new", "--model.cell.new", "--model.new"])
def test_new_options_and_classes_in_other_files_rename_no_run(tmp_path, changed):
    """A model, a data set and a unit of the same names, elsewhere, each with an option more; in another process."""
    (tmp_path / "moved_elsewhere.py").write_text(MOVED)
    command = ["fit", "--data", "moved_elsewhere.JSBChorales", "-c", str(CONFIGS / "chung2014.yaml")]
    command += ["--model.cell", "moved_elsewhere.GRU", *([changed, "4"] if changed else [])]
    path = os.pathsep.join([str(tmp_path), str(CONFIGS.parent)])
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *command],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert (done.stdout.strip() == PINNED["jsb", "chung2014", "GRU"]) == (not changed)


def test_a_flag_of_a_newer_lightning_renames_no_run():
    config = {"max_epochs": 5, "new_flag": None, "accelerator": "cpu"}
    assert identity.identity({**EMPTY, "trainer": config})["trainer"] == {"max_epochs": 5}


EMPTY = {
    "data": {"class_path": "seqbench.datamodules.Synthetic"},
    "model": {"cell": {"class_path": "seqbench.cells.GRU"}, "optimizer": {"class_path": "torch.optim.SGD"},
              "seed": 0, "rate": 0.1},
    "trainer": {},
    "run": {},
}  # fmt: skip


@pytest.mark.parametrize(
    "flags",
    [
        ["--trainer.max_epochs", "499"], ["--trainer.max_steps", "7"], ["--trainer.limit_train_batches", "0.5"],
        ["--trainer.limit_val_batches", "2"], ["--trainer.limit_test_batches", "2"],
        ["--trainer.check_val_every_n_epoch", "2"],
        ["--trainer.precision", "bf16-mixed"], ["--trainer.precision", "64-true"],
        ["--trainer.gradient_clip_val", "1"], ["--trainer.callbacks", "lightning.pytorch.callbacks.LambdaCallback"],
        ["--trainer.limit_train_batches", "1"], ["--trainer.limit_val_batches", "1"],
        ["--run.patience", "5"], ["--run.protocol", "mine"],
        ["--model.seed", "1"], ["--model.rate", "0.1"], ["--model.noise", "0"], ["--model.budget", "10000"],
        ["--model.count", "total"], ["--model.hidden", "48"], ["--model.layers", "2"], ["--model.layer_norm", "true"],
        ["--model.dropout", "0.1"], ["--model.upward_dropout", "0.1"], ["--model.initial_sd", "0.1"],
        ["--model.initial_range", "0.1"], ["--model.schedule", "null"],
        ["--model.optimizer", "ChungRMSProp", "--model.optimizer.floor", "0.001"],
        ["--model.optimizer", "torch.optim.Adam"], ["--model.cell.bias", "false"],
        ["--data.batch_size", "2"], ["--data.order", "bucketed"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_changes_the_numbers_changes_the_name(flags):
    run = ("jsb", "chung2014", "GRU")
    assert named(*run, *flags) != PINNED[run]


@pytest.mark.parametrize(
    "flags",
    [
        ["--trainer.accelerator", "cpu"], ["--trainer.devices", "1"], ["--trainer.max_time", "00:00:01:00"],
        ["--trainer.enable_progress_bar", "false"], ["--trainer.log_every_n_steps", "7"],
        ["--trainer.gradient_clip_val", "0"], ["--trainer.precision", "32"], ["--trainer.limit_train_batches", "1.0"],
        ["--trainer.limit_test_batches", "1.0"], ["--trainer.limit_predict_batches", "3"],
        ["--model.optimizer", "ChungRMSProp"],
        ["--trainer.callbacks", "lightning.pytorch.callbacks.DeviceStatsMonitor"], ["--model.recurrence", "loop"],
        ["--run.overwrite", "true"], ["--run.dir", "elsewhere"], ["--model.budget", "20000"], ["--model.layers", "1"],
        ["--model.optimizer", "ChungRMSProp", "--model.optimizer.momentum", "0.9"],
        ["--model.cell.bias", "true"], ["--model.rate", "0.001"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_changes_no_number_changes_no_name(flags):
    run = ("jsb", "chung2014", "GRU")
    assert named(*run, *flags) == PINNED[run]


def test_one_batch_is_one_whatever_was_imported_before(monkeypatch):
    """typing has but one union of int and float, in the order of whoever named it first."""
    annotations = inspect.unwrap(L.Trainer.__init__).__annotations__
    for flag in ("limit_train_batches", "gradient_clip_val"):
        monkeypatch.setitem(annotations, flag, float | int | None)
    flags = ["--trainer.limit_train_batches", "1", "--trainer.gradient_clip_val", "5"]
    cli = SeqbenchCLI(["fit", "-c", "synthetic", "-c", "chung2014", "--model.cell", "Tanh", *flags], execute=False)
    assert [repr(cli.trainer.limit_train_batches), repr(cli.trainer.gradient_clip_val)] == ["1", "5"]


def test_a_budget_that_is_not_asked_for_names_nothing():
    given = ["--model.hidden", "48"]
    assert named("jsb", "chung2014", "GRU", *given) == named(
        "jsb", "chung2014", "GRU", *given, "--model.budget", "9000"
    )


def test_a_changed_default_would_rename_every_run():
    """So none may change: a new behaviour needs a new option."""
    assert defaults(SequenceModel) == {
        "seed": 0, "rate": 3e-4, "budget": 20_000, "count": "recurrent", "hidden": None, "layers": 1,
        "layer_norm": False, "bidirectional": False, "noise": 0.0, "input_noise": 0.0, "dropout": 0.0,
        "upward_dropout": 0.0, "initial_sd": None, "initial_range": None, "embedding": None,
        "recurrence": None, "optimizer": None, "schedule": None,
    }  # fmt: skip
    assert defaults(ChungRMSProp) == {"lr": 1.0, "rho": 0.95, "floor": 0.01, "momentum": 0.9, "norm": 1.0}
    assert defaults(find("LSTM")) == {"bias": True, "peepholes": True}
    music = {"batch_size": 16, "order": "bucketed", "seeds": None}
    assert defaults(datamodules.JSBChorales) == music
    speech = {"batch_size": None, "protocol": "A", "length": None, "frame": 20, "hop": 10, "sequences": "ubisoft",
              "concatenate": None, "split": "corpus",
              "sample_rate": None, "dequantise": True}  # fmt: skip
    assert defaults(datamodules.FSDD) == music | speech
    assert defaults(L.Trainer)["max_steps"] == -1
