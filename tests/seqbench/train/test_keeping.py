"""Runs whose disk, checkpoint or process comes to harm."""

import errno
import os
import random
import signal
import subprocess
import sys
import tempfile

import pytest
import torch

from seqbench import record
from seqbench.task import SeqbenchError
from seqbench.train.callbacks import Replicas
from seqbench.train.keeping import WholeCheckpoints, claim
from seqbench.train.recorder import read_checkpoint

BASE = ["-c", "synthetic", "-c", "chung2014", "--model.hidden", "5", "--model.cell", "GRU"]


@pytest.mark.faults("F16")
def test_a_flipped_bit_in_a_checkpoint_is_refused_or_changes_nothing(tmp_path):
    """Half of the file is names and padding of the archive."""
    whole, path = tmp_path / "whole.ckpt", tmp_path / "flipped.ckpt"
    weights = torch.randn(300, generator=torch.Generator().manual_seed(0))
    WholeCheckpoints().save_checkpoint({"seqbench": {}, "state_dict": {"rows": weights}}, whole)
    content, draw, refused = whole.read_bytes(), random.Random(0), 0
    start = content.index(weights.numpy().tobytes())
    for place in [start, start + 1199, *(draw.randrange(len(content)) for _ in range(300))]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            read = read_checkpoint(path)["state_dict"]["rows"]
        except SeqbenchError:
            refused += 1
        else:
            assert torch.equal(read, weights)
            assert not start <= place < start + 1200
    assert refused > 100


@pytest.mark.faults("F16")
def test_a_checkpoint_is_begun_beside_the_old_one(fit, tmp_path, monkeypatch):
    """Not in /tmp: to move it from there to another disk is to copy it, which may end half-way."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    ((name, _),) = fit(epochs=1).items()
    assert sorted(os.listdir(tmp_path / "runs" / name / "checkpoints")) == ["best.ckpt", "last.ckpt"]


@pytest.mark.faults("F16")
@pytest.mark.parametrize("epoch", [0, 2, 4])
def test_a_full_disk_is_one_line_and_the_run_goes_on(fit, refusal, tmp_path, monkeypatch, capsys, epoch):
    """From the checkpoint of the epoch before, to the same figures; full at 4, it is when the record is written."""
    assert not fit("--run.dir", "whole", epochs=4)
    (path,) = tmp_path.glob("whole/*/record.json")
    whole, sync, written = record.load(path), os.fsync, []

    def full(handle):
        written.append(handle)
        if len(written) > epoch:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        quiet = ["--trainer.enable_progress_bar", "false"]
        assert "No space left" in refusal("fit", *BASE, "--trainer.max_epochs", "4", *quiet)
    folder = tmp_path / "runs" / whole.run_id
    assert not (folder / "record.json").exists()
    assert os.listdir(folder / "checkpoints") == ["last.ckpt"] * (epoch > 0)
    resume = ["--ckpt_path", str(folder / "checkpoints" / "last.ckpt")] if epoch else []
    resumed = fit(*resume, epochs=4)[whole.run_id]
    assert (resumed.test, resumed.curve.valid) == (whole.test, whole.curve.valid)


@pytest.fixture
def small_disk(tmp_path):
    """A function that gives the folder `disk`, which is one of its own, so many kB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], capture_output=True, check=False).returncode:
        pytest.skip("to mount a small disk takes root")
    yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}k", place], check=True)
    subprocess.run(["umount", place], check=True)


@pytest.mark.faults("F16")
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.parametrize("size", [8, 60])
def test_a_small_disk_holds_nothing_that_is_cut_short(fit, refusal, tmp_path, small_disk, capsys, size):
    """Full before the first checkpoint, or before the second; with more room the run is what it would have been."""
    on_disk = ["--run.dir", "disk", "--trainer.enable_progress_bar", "false"]
    ((name, whole),) = fit(epochs=2).items()
    small_disk(size)
    capsys.readouterr()
    assert "No space left" in refusal("fit", *BASE, *on_disk, "--trainer.max_epochs", "2")
    kept = tmp_path / "disk" / name
    assert not (kept / "record.json").exists() or record.load(kept / "record.json").status == "failed"
    assert not list(kept.rglob("*.tmp"))
    checkpoints = list(kept.glob("checkpoints/*"))
    assert len(checkpoints) == (size == 60)
    resume = [flag for path in checkpoints if read_checkpoint(path) for flag in ("--ckpt_path", str(path))]
    small_disk(10_000)
    fit(*on_disk, *resume, epochs=2)
    assert record.load(kept / "record.json").test == whole.test


@pytest.mark.faults("E12", "F16")
def test_a_second_process_of_the_same_run_is_refused(fit, refusal, tmp_path, capsys):
    ((name, found),) = fit(epochs=1).items()
    capsys.readouterr()
    again = ["fit", *BASE, "--trainer.max_epochs", "1", "--run.overwrite", "true"]
    with claim([tmp_path / "runs" / name]):
        assert "another process" in refusal(*again)
    assert record.load(tmp_path / "runs" / name / "record.json") == found
    assert fit("--run.overwrite", "true", epochs=1)[name].test == found.test


@pytest.mark.faults("C10")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.usefixtures("told")
def test_signals_that_ask_a_run_to_end(fit, tmp_path, monkeypatch, number):
    before = signal.getsignal(number)

    def ask(self, trainer, *arguments):
        if trainer.current_epoch == 1:
            signal.raise_signal(number)

    monkeypatch.setattr(Replicas, "on_train_batch_end", ask, raising=False)
    with pytest.raises(SystemExit) as stop:
        fit()
    assert stop.value.code == 143
    (path,) = tmp_path.glob("runs/*/record.json")
    assert record.load(path).status == "interrupted"
    assert signal.getsignal(number) == before
