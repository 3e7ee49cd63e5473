"""Files from strangers: a payload at each entry, which is refused in one line before any of it runs (F14)."""

import dataclasses
import json
import os
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import yaml

from seqbench import record
from seqbench.leaderboard.rerun import rerun
from seqbench.search import cluster
from seqbench.search.design import Design, Group
from seqbench.search.repeat import repeat
from seqbench.task import SeqbenchError
from seqbench.train.audit import CHECKS

pytestmark = pytest.mark.faults("F14")
RECORDS = Path(__file__).parents[1] / "leaderboard" / "records"
QUICK = ["-c", "synthetic", "-c", "chung2014", "--model.hidden", "4", "--trainer.max_epochs", "1"]
SLY = """
    from pathlib import Path
    from typing import Callable
    import lightning as L
    import torch
    from seqbench.datamodules.synthetic import Synthetic

    def called(*arguments, **options):
        Path("OWNED").touch()

    def optimizer(parameters, lr: float = 1.0) -> torch.optim.Optimizer:
        called()

    def callback() -> L.Callback:
        called()

    class Other:
        def __init__(self, *arguments, **options) -> None:
            called()

        __call__ = called

    class Data(Synthetic):
        def __init__(self, made_by: Callable = print, **options) -> None:
            super().__init__(**options)
            made_by()

    class Watch(L.Callback):
        def on_train_end(self, trainer, module) -> None:
            Path("watched").touch()
"""
SYSTEM = {"class_path": "os.system", "init_args": {"command": "touch OWNED"}}
SCHEDULES = "torch.optim.lr_scheduler."
ADAM, LAMBDA = "torch.optim.Adam", "lightning.pytorch.callbacks.LambdaCallback"
PAYLOADS = [
    {"model": {"optimizer": SYSTEM}},
    {"model": {"optimizer": "sly.optimizer"}},
    {"model": {"optimizer": {"class_path": "sly.optimizer"}}},
    {"model": {"optimizer": {"class_path": "sly.Other"}}},
    {"model": {"optimizer": {"class_path": ADAM, "dict_kwargs": {"more": SYSTEM}}}},
    {"model": {"optimizer": {"class_path": ADAM, "init_args": {"weight_decay": SYSTEM}}}},
    {"model": {"schedule": SYSTEM}},
    {"model": {"schedule": {"class_path": SCHEDULES + "LambdaLR", "init_args": {"lr_lambda": "sly.called"}}}},
    {"model": {"cell": SYSTEM}},
    {"data": SYSTEM},
    {"data": {"class_path": "sly.Data", "init_args": {"made_by": "sly.called"}}},
    {"trainer": {"callbacks": [SYSTEM]}},
    {"trainer": {"callbacks": ["sly.callback"]}},
    {"trainer": {"callbacks": [{"class_path": LAMBDA, "init_args": {"setup": "sly.called"}}]}},
    {"trainer": {"callbacks": [{"class_path": LAMBDA, "init_args": {"setup": {"class_path": "sly.Other"}}}]}},
    {"trainer": {"logger": [{"class_path": "sly.Other"}]}},
    {"trainer": {"profiler": SYSTEM}},
    {"trainer": {"plugins": [{"class_path": "sly.Other"}]}},
    {"trainer": {"strategy": SYSTEM}},
    {"trainer": {"accelerator": {"class_path": "sly.Other"}}},
]  # fmt: skip


@pytest.fixture
def sly(folder: Path) -> Path:
    """The current folder, with a module whose functions leave a file OWNED where they are called."""
    (folder / "sly.py").write_text(textwrap.dedent(SLY))
    return folder


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: str(payload)[:70])
def test_a_config_calls_nothing_but_classes_of_the_places_kind(refusal, sly, payload):
    """As a file of -c, which a checkpoint's config.yaml is too."""
    Path("config.yaml").write_text(yaml.safe_dump(payload))
    unit = [] if "cell" in payload.get("model", {}) else ["--model.cell", "Tanh"]
    refusal("fit", *QUICK, *unit, "-c", "config.yaml")
    assert not Path("OWNED").exists()
    assert not Path("runs").exists()


def test_a_callback_of_ones_own_is_taken_from_a_file(seqbench, sly):
    Path("mine.yaml").write_text("trainer: {callbacks: [{class_path: sly.Watch}]}")
    seqbench("fit", *QUICK, "--model.cell", "Tanh", "-c", "mine.yaml")
    assert Path("watched").exists()


def test_a_worker_of_rays_refuses_the_config_that_it_is_sent(sly):
    theirs = {"theirs.yaml": yaml.safe_dump({"model": {"optimizer": SYSTEM}})}
    design = Design([*QUICK, "-c", "theirs.yaml"], ["Tanh"], [1e-3], 1, ["search"], 1)
    group = Group("search", "Tanh", [0], [1e-3], ["x"], "x")
    _, end = cluster.train_packed(cluster.Work(group, design, Path("out"), "token", theirs, None))
    assert end.problem == "--model.optimizer os.system is refused: give a subclass of Optimizer"
    assert not Path("OWNED").exists()


class Payload:
    def __reduce__(self):
        return os.system, ("touch OWNED",)


@pytest.mark.parametrize("command", ["fit", "test", "extract"])
def test_a_pickle_in_a_checkpoint_is_refused(refusal, sly, command):
    path = sly / "last.ckpt"
    torch.save({"state_dict": {"rows": torch.zeros(1, 2)}, "seqbench": Payload()}, path)
    flags = [*QUICK, "--model.cell", "Tanh", "--weights_only", "false", "--ckpt_path", str(path)]
    told = refusal(command, str(path), "--replica", "0") if command == "extract" else refusal(command, *flags)
    assert f"{path} is not a checkpoint of seqbench" in told
    assert not Path("OWNED").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"garbage", b"\x80\x02]q\x00."])
def test_what_is_no_checkpoint_is_told_as_such(refusal, sly, content):
    Path("last.ckpt").write_bytes(content)
    assert "last.ckpt is damaged, or not a checkpoint of seqbench" in refusal("extract", "last.ckpt", "--replica", "0")


@pytest.mark.parametrize(
    ("section", "settings", "field"),
    [
        ("model", {"optimizer": SYSTEM}, "model.optimizer.class_path"),
        ("model", {"optimizer": {"class_path": "sly.Other"}}, "model.optimizer.class_path"),
        ("model", {"cell": {"class_path": "sly.Other"}}, "model.cell.class_path"),
        ("model", {"schedule": {"class_path": "LambdaLR", "init_args": {"lr_lambda": ["sly.called"]}}},
         "model.schedule.init_args.lr_lambda"),
        ("trainer", {"callbacks": [{"class_path": "LambdaCallback", "init_args": {"setup": "sly.called"}}]},
         "trainer.callbacks.0.init_args.setup"),
        ("trainer", {"callbacks": ["sly.Watch"]}, "trainer.callbacks.0"),
        ("trainer", {"plugins": ["sly.Other"]}, "trainer.plugins"),
        ("trainer", {"logger": "sly.Other"}, "trainer.logger"),
        ("run", {"dir": "/"}, "run.dir"),
    ],
)  # fmt: skip
def test_a_rerun_imports_nothing_that_a_record_names_beside_ours(sly, section, settings, field):
    """The run id is that of the forged config: whoever forges one knows how."""
    run = record.load(sorted(RECORDS.glob("*.json"))[0])
    run = dataclasses.replace(run, config=run.config | {section: run.config[section] | settings})
    run = dataclasses.replace(run, run_id=record.run_id(run.task, run.cell.name, run.config), command="")
    record.save(run, sly / "records" / f"{run.run_id}.json")
    with pytest.raises(SeqbenchError, match=rf"does not fit it: config\.{field.replace('.', '[.]')}: "):
        rerun(sly / "records", run.run_id, CHECKS, repeat)
    assert "sly" not in sys.modules
    assert not Path("OWNED").exists()


def test_the_plan_of_a_sweep_imports_nothing(seqbench, refusal, sly):
    plan = {"command": QUICK, "units": ["sly.Other"], "rates": [0.1], "seeds": 1, "stages": ["search"], "group_size": 1}
    Path("sweep.json").write_text(json.dumps(plan))
    seqbench("sweep", "status", ".", "--json")
    assert "sly" not in sys.modules
    assert not Path("OWNED").exists()
    for wrong in ({"units": 5}, {"rates": ["1e999"]}, {"seeds": [1]}, {"stages": ["play"]}, {"more": 1}):
        Path("sweep.json").write_text(json.dumps(plan | wrong))
        assert "sweep.json cannot be read" in refusal("sweep", "status", ".")
