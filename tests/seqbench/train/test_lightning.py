"""Lightning's flags, callbacks and loggers: the tables of docs/how-to/lightning.md, row by row, on made-up data.

What is not tried here is tried in test_fit.py (schedules, limits, precisions, max_epochs, ddp) and test_checkpoints.py.
"""

import csv
import inspect
import os
import re
from importlib.util import find_spec
from pathlib import Path

import lightning as L
import pytest
from lightning.pytorch import callbacks
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seqbench.cells import find
from seqbench.datamodules import listing
from seqbench.train.fitting import SeqbenchCLI
from seqbench.train.module import SequenceModel

BASE = ["-c", "synthetic", "-c", "chung2014", "--model.hidden", "5", "--model.cell", "GRU"]
SMALL = ["--trainer.limit_train_batches", "6"]
PAGE = (Path(__file__).parents[3] / "docs/how-to/lightning.md").read_text()
CSV = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "logs", "--trainer.logger.name", ""]
pytestmark = pytest.mark.filterwarnings(
    "ignore:Checkpoint directory", "ignore:The `srun` command", "ignore:.*not been set for this class",
)  # fmt: skip


def rows(title: str) -> dict[str, str]:
    """The table under a title of the page: what its second column says of each name."""
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE))


def callback(name: str, **options: str) -> list[str]:
    """Flags for one of Lightning's callbacks."""
    return ["--trainer.callbacks", name, *(f"--trainer.callbacks.{key}={value}" for key, value in options.items())]


FLAGS_THAT_WORK = {
    "accelerator": "cpu", "strategy": "auto", "devices": "1", "num_nodes": "1", "log_every_n_steps": "3",
    "limit_predict_batches": "2", "num_sanity_val_steps": "2", "enable_checkpointing": "false",
    "enable_progress_bar": "false", "enable_model_summary": "true", "deterministic": "true", "benchmark": "true",
    "inference_mode": "false", "profiler": "simple", "detect_anomaly": "true", "sync_batchnorm": "true",
    "default_root_dir": "root", "enable_autolog_hparams": "false", "limit_val_batches": "2",
    "limit_test_batches": "2", "gradient_clip_val": "0.1", "gradient_clip_algorithm": "norm",
    "plugins": "lightning.pytorch.plugins.io.TorchCheckpointIO", "max_time": "00:01:00:00",
}  # fmt: skip
FLAGS_REFUSED = {
    "accelerator": ("tpu", "torch_xla"), "strategy": ("ddp_spawn", "--trainer.strategy ddp"),
    "devices": ("999", f"there are {os.cpu_count()} cores"), "precision": ("12-true", "precision"),
    "min_epochs": ("2", "--run.patience"), "min_steps": ("2", "--run.patience"),
    "val_check_interval": ("0.5", "check_val_every_n_epoch"), "accumulate_grad_batches": ("2", "--data.batch_size"),
    "gradient_clip_algorithm": ("value", "by norm"), "use_distributed_sampler": ("true", "share every batch"),
    "barebones": ("true", "leaves out"), "reload_dataloaders_every_n_epochs": ("1", "order of its own"),
    "overfit_batches": ("2", "limit_train_batches"), "profiler": ("nosuch", "profiler"),
    "plugins": ("torch.nn.Linear", "plugins"), "model_registry": ("name", "are files"),
    "limit_test_batches": ("0", "leaves no record"),
}  # fmt: skip
# In one run each, elsewhere in these tests.
FLAGS_ELSEWHERE = {
    "logger", "callbacks", "fast_dev_run", "max_epochs", "max_steps", "limit_train_batches", "precision",
    "check_val_every_n_epoch",
}  # fmt: skip
CALLBACKS_THAT_WORK = [
    callback("ModelCheckpoint"), callback("ModelCheckpoint", monitor="valid/nll", dirpath="best"),
    callback("ModelCheckpoint", every_n_train_steps="3"), callback("RichProgressBar"), callback("TQDMProgressBar"),
    callback("Timer", duration="00:01:00:00"), callback("LearningRateMonitor") + CSV,
    callback("ModelSummary"), callback("RichModelSummary"),
    callback("EarlyStopping", monitor="valid/nll"), callback("lightning.pytorch.callbacks.LambdaCallback"),
]  # fmt: skip
CALLBACKS_REFUSED = [
    (callback("WeightAveraging"), "best epoch"), (callback("EMAWeightAveraging"), "best epoch"),
    (callback("StochasticWeightAveraging", swa_lrs="0.1"), "best epoch"),
    (callback("BatchSizeFinder"), "--data.batch_size"), (callback("LearningRateFinder"), "--model.rate"),
    (callback("GradientAccumulationScheduler", scheduling="{1: 2}"), "--data.batch_size"),
    (callback("OnExceptionCheckpoint", dirpath="exceptions"), "last.ckpt"),
    (callback("ModelPruning", pruning_fn="l1_unstructured"), "one parameter"),
    (callback("BackboneFinetuning"), "only classes"), (callback("SpikeDetection"), "diverges"),
    (callback("DeviceStatsMonitor"), "logger"), (callback("LearningRateMonitor"), "logger"),
    (callback("EarlyStopping", monitor="val_loss"), "valid/nll"),
    (callback("ModelCheckpoint", monitor="val_loss"), "valid/nll"),
]  # fmt: skip


@pytest.mark.faults("B6")
def test_the_page_has_every_flag_and_callback_and_the_tests_below_try_them():
    flags = rows("Trainer's flags")
    assert set(flags) == set(inspect.signature(L.Trainer).parameters)
    assert {flag for flag, says in flags.items() if "works" in says} <= FLAGS_THAT_WORK.keys() | FLAGS_ELSEWHERE
    assert {flag for flag, says in flags.items() if "refused" in says} <= set(FLAGS_REFUSED)
    kinds = rows("Callbacks")
    assert set(kinds) == set(callbacks.__all__)
    tried = {flags[1].rpartition(".")[2] for flags in CALLBACKS_THAT_WORK}
    by_hand = {
        "BasePredictionWriter", "Callback", "Checkpoint", "DeviceStatsMonitor", "ProgressBar", "ThroughputMonitor",
    }  # fmt: skip
    assert {name for name, says in kinds.items() if "refused" not in says} == tried | by_hand
    refused = {flags[1] for flags, _ in CALLBACKS_REFUSED}
    assert {name for name, says in kinds.items() if "refused" in says} <= refused | {"BaseFinetuning"}


@pytest.mark.faults("B6")
@pytest.mark.parametrize("flag", FLAGS_THAT_WORK)
def test_flags_that_work(fit, flag):
    (found,) = fit(*SMALL, f"--trainer.{flag}", FLAGS_THAT_WORK[flag], epochs=1).values()
    assert found.status == "finished"


@pytest.mark.faults("B6")
@pytest.mark.parametrize("flag", FLAGS_REFUSED)
def test_flags_that_are_refused(refusal, folder, flag):
    value, told = FLAGS_REFUSED[flag]
    assert told in refusal("fit", *BASE, f"--trainer.{flag}", value)


@pytest.mark.faults("B6")
@pytest.mark.parametrize("flags", CALLBACKS_THAT_WORK, ids=" ".join)
@pytest.mark.filterwarnings("ignore:.*logging interval")
def test_callbacks_that_work(fit, flags):
    (found,) = fit(*SMALL, *flags, epochs=2).values()
    assert found.status == "finished"


@pytest.mark.faults("B6", "A3")
@pytest.mark.parametrize(("flags", "told"), CALLBACKS_REFUSED, ids=lambda flags: " ".join(flags[:2]))
def test_callbacks_that_are_refused(refusal, folder, flags, told):
    quiet = ["--trainer.max_epochs", "2", "--trainer.enable_progress_bar", "false"]
    assert told in refusal("fit", *BASE, *SMALL, *quiet, *flags)


@pytest.mark.faults("B6")
def test_device_stats_need_a_package(fit, refusal, folder):
    flags = callback("DeviceStatsMonitor") + CSV
    if find_spec("psutil") is None:
        assert "psutil" in refusal("fit", *BASE, *flags)
    else:
        (found,) = fit(*SMALL, *flags, epochs=1).values()
        assert found.status == "finished"


@pytest.mark.faults("B5")
def test_a_logger_gets_the_figures_of_the_record_once_an_epoch(fit, folder):
    (found,) = fit(*CSV, epochs=3).values()
    (path,) = folder.glob("logs/**/metrics.csv")
    table = list(csv.DictReader(path.read_text().splitlines()))
    logged = {name: [float(row[name]) for row in table if row[name]] for name in table[0]}
    assert len(table) == 4  # three epochs and the test
    assert logged["train/nll"] == pytest.approx(found.curve.train, rel=1e-5)
    assert logged["valid/nll"] == pytest.approx(found.curve.valid, rel=1e-5)
    assert logged["rule/gradient_norm"] == pytest.approx(found.curve.gradient, rel=1e-2)
    assert logged["test/nll"] == pytest.approx([found.test.nll], rel=1e-5)


@pytest.mark.faults("B5")
def test_each_replica_of_a_group_is_logged_and_the_mean(fit, folder):
    group = fit("--model.rate", "[1e-3,1e-2]", "--trainer.logger", "TensorBoardLogger",
                "--trainer.logger.save_dir", "logs", epochs=2)  # fmt: skip
    one, other = sorted(group.values(), key=lambda record: record.rate)
    (logs,) = {path.parent for path in folder.glob("logs/**/events.out.tfevents.*")}
    events = EventAccumulator(str(logs)).Reload()
    drawn = {name: [e.value for e in events.Scalars(name)] for name in events.Tags()["scalars"]}
    assert drawn["valid/nll/replica_0"] == pytest.approx(one.curve.valid, rel=1e-5)
    assert drawn["valid/nll/replica_1"] == pytest.approx(other.curve.valid, rel=1e-5)
    mean = [(a + b) / 2 for a, b in zip(one.curve.valid, other.curve.valid, strict=True)]
    assert drawn["valid/nll"] == pytest.approx(mean, rel=1e-5)


@pytest.mark.faults("B5")
def test_callbacks_follow_the_validation(fit, folder):
    """A checkpoint of the best epoch; a stop where nothing gets better by 1,000 nats."""
    best = callback("ModelCheckpoint", monitor="valid/nll", dirpath="best", filename="{epoch}")
    (found,) = fit(*best, "--model.rate", "0.1", epochs=4).values()
    assert [path.name for path in folder.glob("best/*")] == [f"epoch={found.best_epoch}.ckpt"]
    stop = callback("EarlyStopping", monitor="valid/nll", min_delta="1000", patience="1")
    stopped = next(r for r in fit(*stop, epochs=5).values() if r.run_id != found.run_id)
    assert (stopped.status, stopped.curve.epoch) == ("stopped", [0, 1])


@pytest.mark.faults("B5")
def test_validate_and_test_return_their_figures(fit, folder):
    ((name, found),) = fit(*SMALL).items()
    last = f"runs/{name}/checkpoints/last.ckpt"
    for command, told in (("validate", found.best_valid), ("test", found.test.nll)):
        cli = SeqbenchCLI([command, "-c", f"runs/{name}/config.yaml", "--ckpt_path", last])
        nll = cli.trainer.callback_metrics[f"{'valid' if command == 'validate' else command}/nll"]
        assert float(nll) == pytest.approx(told, rel=1e-5)
    (returned,) = cli.trainer.validate(cli.model, cli.datamodule, verbose=False)
    assert returned["valid/nll"] == pytest.approx(found.best_valid, rel=1e-5)


@pytest.mark.faults("A4")
@pytest.mark.parametrize("protocol", [[], ["--run.protocol", "mine"]])
def test_a_run_without_a_protocol_is_told(seqbench, folder, caplog, protocol):
    flags = ["--trainer.max_epochs", "1", "--model.hidden", "5", *SMALL]
    seqbench("fit", "-c", "synthetic", "--model.cell", "GRU", *flags, *protocol)
    told = [r.message for r in caplog.records if r.name == "seqbench"]
    assert len(told) == (not protocol)
    assert all("-c chung2014" in line and "trains 1 epochs" in line and "\n" not in line for line in told)


SCHEDULES = "torch.optim.lr_scheduler."


@pytest.mark.faults("B6")
@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("OneCycleLR", {"max_lr": "0.1", "total_steps": "100"}, "once an epoch"),
        ("OneCycleLR", {"max_lr": "0.1"}, "once an epoch"),
        ("CyclicLR", {"base_lr": "0.1", "max_lr": "1"}, "once an epoch"),
        ("CosineAnnealingWarmRestarts", {"T_0": "0"}, "T_0"),
    ],
)
def test_schedules_that_cannot_be_stepped_once_an_epoch(refusal, folder, name, options, told):
    flags = [f"--model.schedule.{key}={value}" for key, value in options.items()]
    assert told in refusal("fit", *BASE, "--model.schedule", SCHEDULES + name, *flags)


@pytest.mark.faults("B6")
def test_warm_restarts_are_counted_in_epochs(fit, folder):
    flags = ["--model.schedule", f"{SCHEDULES}CosineAnnealingWarmRestarts", "--model.schedule.T_0", "2"]
    ((name, _),) = fit(*SMALL, *flags, "--model.rate", "0.01", epochs=4).items()
    drawn = [
        e.value
        for e in EventAccumulator(str(folder / "runs" / name / "GRU-rate0.01-seed0")).Reload().Scalars("rule/rate")
    ]
    assert drawn == pytest.approx([0.01, 0.005, 0.01, 0.005], rel=1e-5)


OWN = """
import lightning as L

class Timer(L.Callback):
    def on_train_start(self, trainer, pl_module):
        pl_module.rows.data.zero_()
"""


@pytest.mark.faults("B6")
def test_a_callback_of_ones_own_is_in_the_name_whatever_it_is_called(fit, folder):
    (folder / "my_callbacks.py").write_text(OWN)
    (plain,) = fit(*SMALL, epochs=1).values()
    runs = fit(*SMALL, "--trainer.callbacks", "my_callbacks.Timer", epochs=1).values()
    (own,) = (run for run in runs if run.run_id != plain.run_id)
    assert own.config["trainer"]["callbacks"] == [{"class_path": "Timer"}]


@pytest.mark.faults("A3", "B7")
def test_a_model_is_loaded_from_its_checkpoint_with_the_best_weights(fit, folder):
    worse = ["--model.rate", "1", "--model.optimizer", "Adam", "--model.schedule", "null"]
    ((name, found),) = fit(*worse, epochs=6).items()
    assert found.best_epoch < 5
    path = f"runs/{name}/checkpoints/last.ckpt"
    model = SequenceModel.load_from_checkpoint(path)
    L.Trainer(logger=False, enable_progress_bar=False, callbacks=[scores := Scores()]).test(
        model, listing.dataset("synthetic"), verbose=False
    )
    assert scores.nll == pytest.approx(found.test.nll, abs=1e-6)


@pytest.mark.faults("B7")
@pytest.mark.parametrize("first", ["fit", "validate", "test", "predict"])
def test_whatever_lightning_is_asked_for_first_all_of_it_is_compiled(first):
    """Tracing a step where torch notes nothing down had sent it into the loop, and the fit after it."""
    data = listing.dataset("synthetic")
    model = SequenceModel(find("LSTM")(), data.task, hidden=5)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, limit_train_batches=2, **quiet)
    for stage in (first, "fit", "validate", "test", "predict"):
        model.recurrence = None
        getattr(trainer, stage)(model, data)
        assert model.recurrence is not None
        assert (model.recurrence.name, model.recurrence.compiled) == ("numba", True)


class Scores(L.Callback):
    """The test's figure, as plain as it can be."""

    def on_test_end(self, trainer, pl_module):
        nats, frames, _ = pl_module.tested()
        self.nll = float(nats.sum() / frames.sum())


@pytest.mark.faults("B5")
def test_replicas_without_a_figure_leave_the_mean_alone(fit, folder):
    """One diverges at once: the mean that a callback monitors is the other's."""
    rates = ["--model.rate", "[1e-3,1e6]", "--model.optimizer", "torch.optim.SGD"]
    group = fit(*SMALL, *rates, *CSV, epochs=2)
    good = next(r for r in group.values() if r.status == "finished")
    (path,) = folder.glob("logs/**/metrics.csv")
    valid = [float(row["valid/nll"]) for row in csv.DictReader(path.read_text().splitlines()) if row.get("valid/nll")]
    assert valid == pytest.approx(good.curve.valid, rel=1e-5)
