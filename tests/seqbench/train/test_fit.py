"""`seqbench fit` as a user calls it, on the made-up data set."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seqbench import cells, record

BASE = ["-c", "synthetic", "-c", "chung2014", "--model.hidden", "5"]
TWO = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]


def test_a_run_leaves_record_curves_config_and_checkpoint(fit, tmp_path):
    ((name, found),) = fit().items()
    assert found.run_id == name == record.run_id(found.task, "GRU", found.config)
    assert found.status == "finished"
    assert found.curve.epoch == [0, 1, 2]
    assert found.best_valid == pytest.approx(min(found.curve.valid), abs=1e-5)
    assert found.parameters.recurrent == 3 * (88 * 5 + 5 * 5 + 5)
    assert found.test.nll == pytest.approx(math.fsum(found.test.nats) / sum(found.test.frames), abs=1e-8)
    assert len(found.test.nats) == 16
    assert found.environment.precision == "32-true"
    events = EventAccumulator(str(tmp_path / "runs" / name / f"GRU-rate{found.rate:g}-seed{found.seed}")).Reload()
    drawn = [e.value for e in events.Scalars("valid/nll")]
    assert drawn == pytest.approx(found.curve.valid, rel=1e-5)
    assert events.Scalars("test/nll")[0].value == pytest.approx(found.test.nll, rel=1e-5)
    assert {p.name for p in (tmp_path / "runs" / name).iterdir()} >= {"record.json", "config.yaml", "checkpoints"}
    assert json.loads((tmp_path / "runs" / name / "record.json").read_text())["schema"] == record.SCHEMA


def test_the_seconds_of_a_run_leave_out_what_is_compiled_for_its_first_batch(fit, monkeypatch):
    step, calls = cells.Tanh.step, []

    def slow_at_first(self, *arguments):
        if not calls:
            time.sleep(3)
        calls.append(1)
        return step(self, *arguments)

    monkeypatch.setattr(cells.Tanh, "step", slow_at_first)
    (found,) = fit("--model.recurrence", "loop", unit="Tanh", epochs=1).values()
    assert calls
    assert found.seconds < 3


def test_a_group_leaves_the_records_that_its_replicas_leave_alone(fit, seqbench, tmp_path):
    group = fit("--model.seed", "[0,1]", "--model.rate", "[1e-3,1e-2]")
    assert len(group) == 2
    for name, found in group.items():
        (tmp_path / "alone" / name).mkdir(parents=True)
        solo = ["--model.seed", str(found.seed), "--model.rate", str(found.rate), "--run.dir", "alone"]
        seqbench("fit", *BASE, "--model.cell", "GRU", "--trainer.max_epochs", "3", *solo)
        alone = record.load(tmp_path / "alone" / name / "record.json")
        assert alone.test.nll == pytest.approx(found.test.nll, abs=1e-6)
        assert alone.best_epoch == found.best_epoch


def test_the_rate_that_is_drawn_is_the_one_that_was_used(fit, tmp_path):
    ((name, _),) = fit("--model.rate", "0.01", epochs=4).items()
    drawn = [
        e.value
        for e in EventAccumulator(str(tmp_path / "runs" / name / "GRU-rate0.01-seed0")).Reload().Scalars("rule/rate")
    ]
    assert drawn == pytest.approx([0.01, 0.0067, 0.0034, 0.0001], rel=1e-5)


@pytest.mark.faults("A3")
def test_another_optimizer_takes_nothing_from_the_default_one(fit, tmp_path):
    """ChungRMSProp has a momentum of 0.9; SGD has none unless it is asked for."""
    flags = ["--model.optimizer", "torch.optim.SGD", "--model.noise", "0"]
    ((name, plain),) = fit(*flags).items()
    assert (
        yaml.safe_load((tmp_path / "runs" / name / "config.yaml").read_text())["model"]["optimizer"]["init_args"][
            "momentum"
        ]
        == 0
    )
    assert plain.config["model"]["optimizer"] == {"class_path": "SGD"}
    asked = fit(*flags, "--model.optimizer.momentum", "0.9")
    assert len(asked) == 2


@pytest.mark.faults("A1")
@pytest.mark.parametrize("flags", [["--trainer.limit_val_batches", "0"], ["--trainer.max_epochs", "0"]], ids=" ".join)
@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_weights_that_no_validation_chose_have_no_score(fit, flags):
    for found in fit(*flags).values():
        assert (found.status, found.best_epoch, found.test) == ("stopped", None, None)


def test_nothing_is_told_or_made_of_weights_that_no_validation_chose(fit, seqbench, refusal, tmp_path, capsys):
    """The first diverges in its first epoch."""
    fit("--model.optimizer", "torch.optim.SGD", "--model.rate", "[1e30,1e-4]", epochs=2)
    told = capsys.readouterr().out
    assert "rate 1e+30: diverged before a validation chose its weights, so it has no score" in told
    assert told.count(": test ") == 1
    (group,) = tmp_path.glob("runs/group-*")
    checkpoint = str(group / "checkpoints/last.ckpt")
    out = ["--out", str(tmp_path / "seen")]
    seqbench("sample", checkpoint, "--length", "5", *out)
    assert len(list((tmp_path / "seen").glob("*.wav"))) == 1
    assert "no validation chose its weights" in refusal("sample", checkpoint, "--replica", "0", *out)
    assert "no validation chose its weights" in refusal("explain", checkpoint, "--replica", "0", *out)


@pytest.mark.faults("A1")
@pytest.mark.filterwarnings("ignore:.*fast_dev_run")
def test_a_dry_run_leaves_nothing(fit, tmp_path):
    assert fit("--trainer.fast_dev_run", "1") == {}
    assert not list(tmp_path.glob("runs/**/*.*"))


@pytest.mark.faults("A2")
def test_every_second_epoch_is_validated_if_asked_for(fit):
    (found,) = fit("--trainer.check_val_every_n_epoch", "2", epochs=6).values()
    assert found.status == "finished"
    assert found.curve.epoch == [1, 3, 5]
    assert found.curve.step == [2 * 48, 4 * 48, 6 * 48]
    assert len(found.curve.valid) == len(found.curve.gradient) == 3


def test_a_stopped_run_says_from_where_it_goes_on(fit, tmp_path):
    stop = ["--trainer.callbacks", "seqbench.train.callbacks.StopAfter", "--trainer.callbacks.epochs", "3"]
    (found,) = fit("--trainer.check_val_every_n_epoch", "2", *stop, epochs=6).values()
    assert (found.status, found.message) == ("stopped", "after 3 of 6 epochs: it goes on from epoch 2 with --ckpt_path")
    (path,) = tmp_path.rglob("last.ckpt")
    assert torch.load(path, weights_only=True)["epoch"] + 1 == 2


def test_train_and_validation_scores_are_those_of_the_weights_that_are_tested(fit):
    """Without noise: the training split's is not the curve's, which is measured with it."""
    (found,) = fit("--model.noise", "0.3", epochs=3).values()
    assert found.valid.nll == pytest.approx(found.best_valid, abs=1e-6)
    assert found.train.nll < found.curve.train[found.best_epoch] - 0.1
    assert found.valid.nll_sequence != found.valid.nll


def test_a_rule_out_of_its_range_is_told_at_once(fit, caplog):
    """Gradients of nats per frame, as they were once, lie under Chung's floor; here the floor is raised instead."""
    (found,) = fit("--model.optimizer", "ChungRMSProp", "--model.optimizer.floor", "100", epochs=2).values()
    assert found.curve.floored[0] > 0.9
    (line,) = [r.message for r in caplog.records if r.name == "seqbench"]
    assert "floor for the whole first epoch" in line
    caplog.clear()
    (adam,) = (r for r in fit("--model.optimizer", "Adam", epochs=2).values() if r.run_id != found.run_id)
    assert adam.curve.floored == []
    assert all(0 < u < 1 for u in adam.curve.update)
    assert not [r for r in caplog.records if r.name == "seqbench"]


def test_config_in_the_run_folder_trains_the_same_run(fit, seqbench, tmp_path):
    ((name, found),) = fit().items()
    seqbench("fit", "-c", f"runs/{name}/config.yaml", "--run.overwrite", "true")
    again = record.load(tmp_path / "runs" / name / "record.json")
    assert again.test == found.test
    assert again.curve.valid == found.curve.valid


@pytest.mark.parametrize("noise", ["0", "0.075"])
@pytest.mark.parametrize(("asked", "tolerance"), [("64-true", 1e-4), ("bf16-true", 0.03)])
@pytest.mark.parametrize("unit", ["GRU", "MinGRU", "LSTM1997"])
def test_weights_of_other_precisions_learn_the_same(fit, asked, tolerance, unit, noise):
    (full,) = fit("--model.noise", noise, unit=unit).values()
    runs = fit("--model.noise", noise, "--trainer.precision", asked, unit=unit).values()
    (other,) = (run for run in runs if run.run_id != full.run_id)
    assert other.environment.precision == asked
    assert other.test.nll == pytest.approx(full.test.nll, rel=tolerance)


@pytest.mark.parametrize(("asked", "effective"), [("bf16-mixed", "bf16-mixed"), ("16-mixed", "bf16-mixed")])
@pytest.mark.filterwarnings("ignore:You passed")
def test_half_precision_trains_and_is_recorded_as_it_was(fit, asked, effective):
    """On a CPU Lightning turns 16-mixed into bf16-mixed."""
    (full,) = fit(unit="LSTM").values()
    half = next(r for r in fit("--trainer.precision", asked, unit="LSTM").values() if r.run_id != full.run_id)
    assert half.environment.precision == effective
    assert half.test.nll == pytest.approx(full.test.nll, rel=2e-2)
    assert half.test.nll != full.test.nll


def test_any_torch_optimizer_by_config(fit):
    (adam,) = fit("--model.optimizer", "torch.optim.Adam", "--model.rate", "1e-2").values()
    assert adam.config["model"]["optimizer"] == {"class_path": "Adam"}
    assert adam.test.nll < 55


def test_a_diverging_run_says_so(fit):
    (found,) = fit("--model.rate", "1e6", "--model.optimizer", "torch.optim.SGD").values()
    assert found.status == "diverged"
    assert "left all bounds" in found.message


@pytest.mark.faults("F16")
@pytest.mark.parametrize("flags", [[], TWO], ids=["one process", "two"])
def test_sigterm_leaves_an_interrupted_record_and_status_143(tmp_path, flags):
    """Of one process, or of the first of two; the other ends with it, and neither says more than a line."""
    command = [sys.executable, "-m", "seqbench.cli", "fit", *BASE, "--model.cell", "GRU", *flags]
    endless = ["--trainer.max_epochs", "100000", "--run.patience", "null", "--trainer.enable_progress_bar", "false"]
    with (tmp_path / "told").open("w") as told:
        process = subprocess.Popen([*command, *endless], cwd=tmp_path, stderr=told)
    try:
        deadline = time.monotonic() + 300  # a busy machine takes its time
        while not list(tmp_path.glob("runs/*/checkpoints/last.ckpt")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 143
    finally:
        process.kill()  # or it trains on where this fails
    (path,) = tmp_path.glob("runs/*/record.json")
    found = record.load(path)
    assert found.status == "interrupted"
    assert found.test is None
    assert found.curve.valid
    for word in ("Traceback", "Abort", "Garbage"):
        assert word not in (tmp_path / "told").read_text()
    assert str(tmp_path) not in {os.path.realpath(place) for place in Path("/proc").glob("[0-9]*/cwd")}


@pytest.mark.faults("B6")
@pytest.mark.parametrize("rate", ["0.001", "20"])
def test_two_processes_give_the_figures_of_one(tmp_path, rate):
    """ddp on the CPU: the same gradients but for rounding, every test sequence counted once.

    At the high rate both find in the same step that the run has diverged, though each sees a part of the batch.
    """
    command = [sys.executable, "-m", "seqbench.cli", "fit", *BASE, "--model.cell", "GRU", "--trainer.max_epochs", "3"]
    command += ["--data.batch_size", "5", "--model.rate", rate]
    command += ["--model.optimizer", "SGD"] if rate == "20" else []
    for folder, flags in (("one", []), ("two", TWO)):
        subprocess.run([*command, "--run.dir", folder, *flags], cwd=tmp_path, check=True, timeout=120)
    one, other = (record.load(next(tmp_path.glob(f"{folder}/*/record.json"))) for folder in ("one", "two"))
    assert (one.run_id, one.status) == (other.run_id, other.status)
    assert other.environment.device.endswith("x 2")
    if rate == "20":
        assert one.status == "diverged"
        return
    assert other.test.frames == one.test.frames
    assert other.test.nll == pytest.approx(one.test.nll, abs=1e-4)
    assert other.curve.valid == pytest.approx(one.curve.valid, abs=1e-4)
    assert other.curve.gradient == pytest.approx(one.curve.gradient, rel=1e-2)
