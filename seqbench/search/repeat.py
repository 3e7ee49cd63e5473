"""A recorded run trained again, by its record's config alone: what `seqbench leaderboard verify` compares."""

from __future__ import annotations

import copy
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import yaml

from seqbench.record import Record, load
from seqbench.task import SeqbenchError
from seqbench.train.audit import data_sets
from seqbench.train.callbacks import StopAfter


def repeat(record: Record, epochs: int | None = None) -> Record:
    """Trains a run again in a temporary folder, with the progress bar of `seqbench fit`; returns the new record.

    Args:
        record: one that audit.py finds nothing wrong with; its config decides what is imported.
        epochs: how many, the first ones of the run; None is all.

    Raises:
        SeqbenchError: it was trained on files of one's own; its config is another run by now; training failed.
    """
    if data_sets()[record.config["data"]["class_path"]].places:
        raise SeqbenchError(f"{record.run_id} was trained on files of one's own; its command: {record.command}")
    with tempfile.TemporaryDirectory() as folder:
        return _train(record, Path(folder), epochs)


def _train(record: Record, folder: Path, epochs: int | None) -> Record:
    config = folder / "config.yaml"
    told = copy.deepcopy(record.config)
    if epochs is not None:
        last = {"class_path": f"{StopAfter.__module__}.{StopAfter.__name__}", "init_args": {"epochs": epochs}}
        told["trainer"]["callbacks"] = [*(told["trainer"].get("callbacks") or ()), last]
    config.write_text(yaml.safe_dump(told), encoding="utf-8")
    command = [sys.executable, "-m", "seqbench.search.child", "fit", "--config", str(config), "--run.dir", str(folder)]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == record.environment.device.split()[0]:
        command += ["--model.recurrence", record.environment.recurrence]  # another kernel rounds otherwise
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)  # its bar is on stderr
    path = folder / record.run_id / "record.json"
    other = [found.parent.name for found in folder.glob("*/record.json") if found != path]
    if other and not path.exists():
        raise SeqbenchError(f"{record.run_id}: its config is run {other[0]} now: a default has changed since")
    if done.returncode or not path.exists():
        raise SeqbenchError(f"{record.run_id} could not be trained again (see above); its command: {record.command}")
    return load(path)
