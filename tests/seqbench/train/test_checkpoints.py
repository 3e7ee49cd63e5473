"""What goes on from a checkpoint, and what a checkpoint is good for: runs gone on with, scored, refused."""

import re

import numpy as np
import pytest
import torch

from seqbench import record
from seqbench.train.callbacks import Replicas

BASE = ["-c", "synthetic", "-c", "chung2014", "--model.hidden", "5"]


@pytest.mark.faults("D")
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


def test_a_run_may_go_on_longer_only_where_its_rate_does_not_depend_on_its_length(fit, refusal, tmp_path, capsys):
    constant = ["--model.schedule", "null"]
    assert not fit("--run.dir", "runs/whole", *constant, epochs=5)
    whole = record.load(next(tmp_path.glob("runs/whole/*/record.json")))
    ((first, _),) = fit(*constant, epochs=2).items()
    longer = fit("--ckpt_path", f"runs/{first}/checkpoints/last.ckpt", *constant, epochs=5)[whole.run_id]
    assert longer.test == whole.test
    (falling,) = (name for name in fit(epochs=2) if name not in (first, whole.run_id))
    capsys.readouterr()
    more = ["--trainer.max_epochs", "5", "--ckpt_path", f"runs/{falling}/checkpoints/last.ckpt"]
    line = refusal("fit", *BASE, "--model.cell", "GRU", *more)
    assert "trainer.max_epochs differ" in line


@pytest.mark.faults("A1")
@pytest.mark.parametrize("epoch", [1, 3])
def test_a_run_cut_short_within_an_epoch_ends_with_it_and_goes_on(fit, tmp_path, monkeypatch, epoch):
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


@pytest.mark.faults("A1")
def test_a_run_of_so_many_steps_is_whole_and_cannot_go_on(fit, refusal, capsys):
    """60 steps are an epoch and a quarter: what is left of the second would be lost."""
    steps = ["--model.schedule", "null", "--trainer.max_steps"]
    command = ["fit", *BASE, "--model.cell", "GRU", *steps]
    ((name, found),) = fit(*steps, "60", epochs=-1).items()
    assert found.status == "finished"
    capsys.readouterr()
    checkpoint = ["--ckpt_path", f"runs/{name}/checkpoints/last.ckpt"]
    assert "within an epoch" in refusal(*command, "96", "--trainer.max_epochs", "-1", *checkpoint)


def test_a_finished_run_that_is_called_again_is_what_it_was(fit):
    """No epoch is left: its weights are tested again, by the same kernels."""
    ((name, found),) = fit().items()
    resume = ["--ckpt_path", f"runs/{name}/checkpoints/last.ckpt", "--run.overwrite", "true"]
    again = fit(*resume)[name]
    assert (again.status, again.test, again.environment.recurrence) == ("finished", found.test, "numba")


@pytest.mark.faults("B6")
def test_a_checkpoint_beyond_the_length_is_refused(fit, refusal, capsys):
    ((name, _),) = fit("--model.schedule", "null", epochs=3).items()
    capsys.readouterr()
    shorter = ["--model.schedule", "null", "--trainer.max_epochs", "2"]
    checkpoint = ["--ckpt_path", f"runs/{name}/checkpoints/last.ckpt"]
    line = refusal("fit", *BASE, "--model.cell", "GRU", *shorter, *checkpoint)
    assert "has 3 epochs" in line


def test_a_checkpoint_of_another_run_is_refused(fit, refusal, capsys):
    ((name, _),) = fit().items()
    capsys.readouterr()
    checkpoint = ["--ckpt_path", f"runs/{name}/checkpoints/last.ckpt"]
    line = refusal("fit", *BASE, "--model.cell", "LSTM", *checkpoint)
    assert "model.cell.class_path" in line
    line = refusal("fit", *BASE, "--model.cell", "GRU", "--model.noise", "0", *checkpoint)
    assert "model.noise" in line


@pytest.mark.faults("F16")
def test_a_file_that_is_no_checkpoint_is_refused(refusal, tmp_path):
    for name, content in (("text.ckpt", b"hello"), ("torch.ckpt", None)):
        path = tmp_path / name
        path.write_bytes(content) if content else torch.save({"state_dict": {}}, path)
        line = refusal("fit", *BASE, "--model.cell", "GRU", "--ckpt_path", str(path))
        assert "not a checkpoint of seqbench" in line
    torch.save({"state_dict": {"w.U": torch.zeros(1)}, "seqbench": {}}, path)
    line = refusal("fit", *BASE, "--model.cell", "GRU", "--ckpt_path", str(path))
    assert "made by an older seqbench" in line


def test_validate_test_and_predict_use_the_best_weights(fit, seqbench, tmp_path, capsys):
    ((name, found),) = fit().items()
    common = ["-c", f"runs/{name}/config.yaml", "--ckpt_path", f"runs/{name}/checkpoints/last.ckpt"]
    capsys.readouterr()
    seqbench("test", *common)
    assert f"test {found.test.nll:.4f} nats/frame" in capsys.readouterr().out
    seqbench("predict", *common)
    predicted = np.load(tmp_path / "runs" / name / "checkpoints" / "predictions.npz")
    assert len(predicted.files) == 16
    assert [predicted[f"sequence_{n}"].shape for n in range(16)] == [(f, 1, 88) for f in found.test.frames]
    seqbench("validate", *common)
    told = re.search(r"valid (\d+\.\d{4}) nats/frame", capsys.readouterr().out)
    assert told
    assert float(told[1]) == pytest.approx(found.best_valid, abs=1e-4)


def test_validate_scores_the_best_of_each_replica_of_a_compacted_group(fit, seqbench, tmp_path, capsys):
    """At these rates replicas stop or diverge one by one, and the last weights are not the best."""
    records = fit("--model.rate", "[1e3,1,0.3,3e-2]", "--model.optimizer", "Adam", "--run.patience", "3", epochs=40)
    (group,) = tmp_path.glob("runs/group-*")
    capsys.readouterr()
    common = ["-c", str(group / "config.yaml"), "--ckpt_path", str(group / "checkpoints" / "last.ckpt")]
    seqbench("validate", *common)
    told = dict(re.findall(r"rate (\S+): valid (\d+\.\d{4}) nats/frame", capsys.readouterr().out))
    scored = {f"{r.rate:g}": r.best_valid for r in records.values() if r.best_valid is not None}
    assert len(scored) >= 2
    for rate, best in scored.items():
        assert float(told[rate]) == pytest.approx(best, abs=1e-4)
