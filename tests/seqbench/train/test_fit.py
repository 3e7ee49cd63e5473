"""`seqbench fit` and its sisters as a user calls them, on the made-up data set."""

import json
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seqbench import cells, cli, record
from seqbench.train.callbacks import Replicas
from seqbench.train.fitting import SeqbenchCLI

CONFIGS = Path(__file__).parents[3] / "configs"
BASE = ["-c", str(CONFIGS / "synthetic.yaml"), "-c", str(CONFIGS / "chung2014.yaml"), "--model.hidden", "5"]


def seqbench(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["seqbench", *arguments])
    cli.main()


@pytest.fixture
def fit(monkeypatch, tmp_path):
    """Trains in a folder of its own and returns the records by folder name."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, unit: str = "GRU", epochs: int = 3) -> dict[str, record.Record]:
        seqbench(monkeypatch, "fit", *BASE, "--model.cell", unit, "--trainer.max_epochs", str(epochs), *arguments)
        return {path.parent.name: record.load(path) for path in tmp_path.glob("runs/*/record.json")}

    return run


def refusal(capsys, monkeypatch, *arguments: str) -> str:
    """The one line that a refused command prints."""
    with pytest.raises(SystemExit) as stop:
        seqbench(monkeypatch, *arguments)
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("seqbench: error: ")
    return lines[0]


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
    events = EventAccumulator(str(tmp_path / "runs" / name)).Reload()
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


def test_a_group_leaves_the_records_that_its_replicas_leave_alone(fit, monkeypatch, tmp_path):
    group = fit("--model.seed", "[0,1]", "--model.rate", "[1e-3,1e-2]")
    assert len(group) == 2
    for name, found in group.items():
        (tmp_path / "alone" / name).mkdir(parents=True)
        solo = ["--model.seed", str(found.seed), "--model.rate", str(found.rate), "--run.dir", "alone"]
        seqbench(monkeypatch, "fit", *BASE, "--model.cell", "GRU", "--trainer.max_epochs", "3", *solo)
        alone = record.load(tmp_path / "alone" / name / "record.json")
        assert alone.test.nll == pytest.approx(found.test.nll, abs=1e-6)
        assert alone.best_epoch == found.best_epoch


@pytest.mark.parametrize("schedule", [[], ["--model.schedule", "null"]])
@pytest.mark.parametrize("stop", [1, 3])
def test_resumed_equals_undisturbed(fit, tmp_path, monkeypatch, schedule, stop):
    """Interrupted in an epoch; the rate follows its schedule as if nothing had been."""
    assert not fit("--run.dir", "runs/whole", *schedule, epochs=5)
    whole = record.load(next(tmp_path.glob("runs/whole/*/record.json")))
    start = Replicas.on_train_epoch_start

    def interrupt(self, trainer, pl_module):
        if trainer.current_epoch == stop:
            raise KeyboardInterrupt
        start(self, trainer, pl_module)

    monkeypatch.setattr(Replicas, "on_train_epoch_start", interrupt)
    with pytest.raises(SystemExit) as stopped:
        fit(*schedule, epochs=5)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert stopped.value.code == 130
    path = tmp_path / "runs" / whole.run_id / "record.json"
    assert record.load(path).status == "interrupted"
    resumed = fit("--ckpt_path", str(path.parent / "checkpoints" / "last.ckpt"), *schedule, epochs=5)[whole.run_id]
    assert resumed.curve.epoch == whole.curve.epoch == [0, 1, 2, 3, 4]
    for curve in ("valid", "train", "gradient", "update", "floored"):
        assert getattr(resumed.curve, curve) == getattr(whole.curve, curve)
    assert (resumed.train, resumed.valid, resumed.test) == (whole.train, whole.valid, whole.test)
    assert resumed.seconds >= resumed.curve.seconds[1]


def test_a_run_may_go_on_longer_only_where_its_rate_does_not_depend_on_its_length(fit, tmp_path, capsys, monkeypatch):
    constant = ["--model.schedule", "null"]
    assert not fit("--run.dir", "runs/whole", *constant, epochs=5)
    whole = record.load(next(tmp_path.glob("runs/whole/*/record.json")))
    ((first, _),) = fit(*constant, epochs=2).items()
    longer = fit("--ckpt_path", f"runs/{first}/checkpoints/last.ckpt", *constant, epochs=5)[whole.run_id]
    assert longer.test == whole.test
    (falling,) = (name for name in fit(epochs=2) if name not in (first, whole.run_id))
    capsys.readouterr()
    more = ["--trainer.max_epochs", "5", "--ckpt_path", f"runs/{falling}/checkpoints/last.ckpt"]
    line = refusal(capsys, monkeypatch, "fit", *BASE, "--model.cell", "GRU", *more)
    assert "trainer.max_epochs differ" in line


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_run_cut_short_within_an_epoch_ends_with_it_and_goes_on(fit, monkeypatch, tmp_path, epoch):
    """As max_time and callbacks do that ask Lightning to stop: "stopped" under the whole run's name, but in its last
    epoch, at whose end it is whole.
    """
    assert not fit("--run.dir", "runs/whole", epochs=4)
    whole = record.load(next(tmp_path.glob("runs/whole/*/record.json")))

    def stop(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = trainer.should_stop or (trainer.current_epoch, batch_idx) == (epoch, 5)

    with monkeypatch.context() as patch:
        patch.setattr(Replicas, "on_train_batch_end", stop)
        ((name, cut),) = fit(epochs=4).items()
    assert name == whole.run_id
    assert cut.curve.step == [48 * (n + 1) for n in range(epoch + 1)]
    assert cut.status == ("stopped" if epoch < 3 else "finished")
    if epoch < 3:
        assert "2 of 4 epochs" in cut.message
        cut = fit("--ckpt_path", f"runs/{name}/checkpoints/last.ckpt", epochs=4)[name]
    assert (cut.status, cut.test) == ("finished", whole.test)


def test_a_run_of_so_many_steps_is_whole_and_cannot_go_on(fit, capsys, monkeypatch):
    """60 steps are an epoch and a quarter: what is left of the second would be lost."""
    steps = ["--model.schedule", "null", "--trainer.max_steps"]
    command = ["fit", *BASE, "--model.cell", "GRU", *steps]
    ((name, found),) = fit(*steps, "60", epochs=-1).items()
    assert found.status == "finished"
    capsys.readouterr()
    checkpoint = ["--ckpt_path", f"runs/{name}/checkpoints/last.ckpt"]
    assert "within an epoch" in refusal(capsys, monkeypatch, *command, "96", "--trainer.max_epochs", "-1", *checkpoint)


def test_a_finished_run_that_is_called_again_is_what_it_was(fit, tmp_path):
    """No epoch is left: its weights are tested again, by the same kernels."""
    ((name, found),) = fit().items()
    resume = ["--ckpt_path", f"runs/{name}/checkpoints/last.ckpt", "--run.overwrite", "true"]
    again = fit(*resume)[name]
    assert (again.status, again.test, again.environment.recurrence) == ("finished", found.test, "numba")


def test_a_checkpoint_beyond_the_length_is_refused(fit, capsys, monkeypatch):
    ((name, _),) = fit("--model.schedule", "null", epochs=3).items()
    capsys.readouterr()
    shorter = ["--model.schedule", "null", "--trainer.max_epochs", "2"]
    checkpoint = ["--ckpt_path", f"runs/{name}/checkpoints/last.ckpt"]
    line = refusal(capsys, monkeypatch, "fit", *BASE, "--model.cell", "GRU", *shorter, *checkpoint)
    assert "has 3 epochs" in line


def test_the_rate_that_is_drawn_is_the_one_that_was_used(fit, tmp_path):
    ((name, _),) = fit("--model.rate", "0.01", epochs=4).items()
    drawn = [e.value for e in EventAccumulator(str(tmp_path / "runs" / name)).Reload().Scalars("rule/rate")]
    assert drawn == pytest.approx([0.01, 0.0067, 0.0034, 0.0001], rel=1e-5)


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


@pytest.mark.parametrize("flags", [["--trainer.limit_val_batches", "0"], ["--trainer.max_epochs", "0"]], ids=" ".join)
@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_weights_that_no_validation_chose_have_no_score(fit, flags):
    for found in fit(*flags).values():
        assert (found.status, found.best_epoch, found.test) == ("stopped", None, None)


@pytest.mark.filterwarnings("ignore:.*fast_dev_run")
def test_a_dry_run_leaves_nothing(fit, tmp_path):
    assert fit("--trainer.fast_dev_run", "1") == {}
    assert not list(tmp_path.glob("runs/**/*.*"))


def test_every_second_epoch_is_validated_if_asked_for(fit):
    (found,) = fit("--trainer.check_val_every_n_epoch", "2", epochs=6).values()
    assert found.status == "finished"
    assert found.curve.epoch == [1, 3, 5]
    assert found.curve.step == [2 * 48, 4 * 48, 6 * 48]
    assert len(found.curve.valid) == len(found.curve.gradient) == 3


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


def test_config_in_the_run_folder_trains_the_same_run(fit, monkeypatch, tmp_path):
    ((name, found),) = fit().items()
    seqbench(monkeypatch, "fit", "-c", f"runs/{name}/config.yaml", "--run.overwrite", "true")
    again = record.load(tmp_path / "runs" / name / "record.json")
    assert again.test == found.test
    assert again.curve.valid == found.curve.valid


def test_a_finished_run_is_not_overwritten_unasked(fit, capsys, monkeypatch):
    ((name, _),) = fit().items()
    capsys.readouterr()
    line = refusal(capsys, monkeypatch, "fit", *BASE, "--model.cell", "GRU", "--trainer.max_epochs", "3")
    assert name in line
    assert "--run.overwrite" in line


def test_validate_test_and_predict_use_the_best_weights(fit, capsys, monkeypatch, tmp_path):
    ((name, found),) = fit().items()
    common = ["-c", f"runs/{name}/config.yaml", "--ckpt_path", f"runs/{name}/checkpoints/last.ckpt"]
    capsys.readouterr()
    seqbench(monkeypatch, "test", *common)
    assert f"test {found.test.nll:.4f} nats/frame" in capsys.readouterr().out
    seqbench(monkeypatch, "predict", *common)
    predicted = np.load(tmp_path / "runs" / name / "checkpoints" / "predictions.npz")
    assert len(predicted.files) == 16
    assert [predicted[f"sequence_{n}"].shape for n in range(16)] == [(f, 1, 88) for f in found.test.frames]
    seqbench(monkeypatch, "validate", *common)
    told = re.search(r"valid (\d+\.\d{4}) nats/frame", capsys.readouterr().out)
    assert told
    assert float(told[1]) == pytest.approx(found.best_valid, abs=1e-4)


def test_validate_scores_the_best_of_each_replica_of_a_compacted_group(fit, capsys, monkeypatch, tmp_path):
    """At these rates replicas stop or diverge one by one, and the last weights are not the best."""
    records = fit("--model.rate", "[1e3,1,0.3,3e-2]", "--model.optimizer", "Adam", "--run.patience", "3", epochs=40)
    (group,) = tmp_path.glob("runs/group-*")
    capsys.readouterr()
    common = ["-c", str(group / "config.yaml"), "--ckpt_path", str(group / "checkpoints" / "last.ckpt")]
    seqbench(monkeypatch, "validate", *common)
    told = dict(re.findall(r"rate (\S+): valid (\d+\.\d{4}) nats/frame", capsys.readouterr().out))
    scored = {f"{r.rate:g}": r.best_valid for r in records.values() if r.best_valid is not None}
    assert len(scored) >= 2
    for rate, best in scored.items():
        assert float(told[rate]) == pytest.approx(best, abs=1e-4)


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


def test_sigterm_leaves_an_interrupted_record_and_status_143(tmp_path):
    command = [sys.executable, "-m", "seqbench.cli", "fit", *BASE, "--model.cell", "GRU"]
    process = subprocess.Popen([*command, "--trainer.max_epochs", "100000", "--run.patience", "null"], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("runs/*/checkpoints/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    (path,) = tmp_path.glob("runs/*/record.json")
    found = record.load(path)
    assert found.status == "interrupted"
    assert found.test is None
    assert found.curve.valid


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model.cell", "GRRU"], "did you mean GRU"),
        (["--model.cell", "GRU", "--data", "Synthtic"], "did you mean Synthetic"),
        (["--model.cell", "GRU", "--model.nose", "1"], "--model.nose"),
        (["--model.cell", "GRU", "--trainer.max_epochs", "x"], "expected int"),
        (["--model.cell", "GRU", "--data.batch_size", "0"], "give 1 or more"),
        (["--model.cell", "GRU", "--model.budget", "-1"], "must be positive"),
        (["--model.cell", "GRU", "--model.optimizer.floor", "0.1"], "name the class first, --model.optimizer NAME"),
        (["--model.cell", "GRU", "--data.order", "sideways"], "--data.order sideways: expected 'bucketed', 'shuffled'"),
        (["--model.cell", "GRU", "--model.optimizer", "torch.optim.Rprop"], "use one of: ChungRMSProp"),
        (["--model.cell", "GRU", "--trainer.gradient_clip_algorithm", "value"], "clipped by norm"),
        (["--model.cell", "GRU", "--ckpt_path", "nowhere.ckpt"], "no checkpoint nowhere.ckpt"),
        (["--model.cell", "GRU", "--run.dir", "/proc/nowhere"], "--run.dir"),
        (["--model.cell", "GRU", "--trainer.gradient_clip_val", "-1"], "0 for none"),
        (["--model.cell", "GRU", "--trainer.min_epochs", "3"], "--run.patience"),
        (["--model.cell", "GRU", "--trainer.val_check_interval", "0.5"], "check_val_every_n_epoch"),
        (["--model.cell", "GRU", "--trainer.val_check_interval", "1"], "check_val_every_n_epoch"),
        (["--model.cell", "GRU", "--trainer.reload_dataloaders_every_n_epochs", "1"], "order of its own"),
        (["--model.cell", "GRU", "--run.patience", "0"], "1 or more"),
        (["--model.cell", "GRU", "--seed_everything", "42"], "--model.seed"),
        (["--model.cell", "GRU", "--model.schedule", "torch.optim.lr_scheduler.ReduceLROnPlateau"], "take another"),
        (["-c", "nofile.yaml"], "nofile.yaml"),
        ([], "--model.cell NAME"),
    ],
)
def test_mistakes_are_told_in_one_line_and_leave_nothing(capsys, monkeypatch, tmp_path, arguments, told):
    monkeypatch.chdir(tmp_path)
    assert told in refusal(capsys, monkeypatch, "fit", *BASE, *arguments)
    assert not list(tmp_path.iterdir())


def test_misspelt_names_in_a_config_file_are_told(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("data.yaml").write_text("data: {class_path: seqbench.datamodules.Nottinghm}")
    Path("cell.yaml").write_text("model: {cell: LSTN}")
    assert "did you mean Nottingham" in refusal(capsys, monkeypatch, "fit", "-c", "data.yaml", "--model.cell", "GRU")
    assert "did you mean LSTM" in refusal(capsys, monkeypatch, "fit", *BASE, "-c", "cell.yaml")


def test_a_checkpoint_of_another_run_is_refused(fit, capsys, monkeypatch):
    ((name, _),) = fit().items()
    capsys.readouterr()
    checkpoint = ["--ckpt_path", f"runs/{name}/checkpoints/last.ckpt"]
    line = refusal(capsys, monkeypatch, "fit", *BASE, "--model.cell", "LSTM", *checkpoint)
    assert "model.cell.class_path" in line
    line = refusal(capsys, monkeypatch, "fit", *BASE, "--model.cell", "GRU", "--model.noise", "0", *checkpoint)
    assert "model.noise" in line


def test_a_file_that_is_no_checkpoint_is_refused(capsys, monkeypatch, tmp_path):
    for name, content in (("text.ckpt", b"hello"), ("torch.ckpt", None)):
        path = tmp_path / name
        path.write_bytes(content) if content else torch.save({"state_dict": {}}, path)
        line = refusal(capsys, monkeypatch, "fit", *BASE, "--model.cell", "GRU", "--ckpt_path", str(path))
        assert "not a checkpoint of seqbench" in line
    torch.save({"state_dict": {"w.U": torch.zeros(1)}, "seqbench": {}}, path)
    line = refusal(capsys, monkeypatch, "fit", *BASE, "--model.cell", "GRU", "--ckpt_path", str(path))
    assert "made by an older seqbench" in line


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_parses(capsys, monkeypatch, path):
    """With a partner of the other kind: a data set needs a protocol."""
    kind = "protocol" if "model" in yaml.safe_load(path.read_text()) else "data"
    partner = CONFIGS / ("synthetic.yaml" if kind == "protocol" else "chung2014.yaml")
    both = [partner, path] if kind == "protocol" else [path, partner]
    files = [flag for file in both for flag in ("-c", str(file))]
    monkeypatch.setattr(SeqbenchCLI, "instantiate_classes", lambda self: sys.exit(0))
    with pytest.raises(SystemExit) as stop:
        seqbench(monkeypatch, "fit", *files, "--model.cell", "GRU")
    assert stop.value.code == 0
    assert set(yaml.safe_load(path.read_text())) <= {"data", "model", "trainer", "run"}


@pytest.mark.parametrize("rate", ["0.001", "20"])
def test_two_processes_give_the_figures_of_one(tmp_path, rate):
    """ddp on the CPU: the same gradients but for rounding, every test sequence counted once.

    At the high rate both find in the same step that the run has diverged, though each sees a part of the batch.
    """
    command = [sys.executable, "-m", "seqbench.cli", "fit", *BASE, "--model.cell", "GRU", "--trainer.max_epochs", "3"]
    command += ["--data.batch_size", "5", "--model.rate", rate]
    command += ["--model.optimizer", "SGD"] if rate == "20" else []
    two = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    for folder, flags in (("one", []), ("two", two)):
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
