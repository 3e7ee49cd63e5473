"""A trained model and its data set from a checkpoint, in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqbench import datamodules
from seqbench.cells import cells
from seqbench.datamodules.base import SequenceData
from seqbench.task import SeqbenchError, Task
from seqbench.train.callbacks import Replicas
from seqbench.train.module import SequenceModel
from seqbench.train.recorder import read_checkpoint

CLASSES = {"cell", "optimizer", "schedule"}  # options that are no plain values


def load_model(path: Path, **options: Any) -> SequenceModel:
    """The model of a checkpoint with the weights of each replica's best epoch, on the CPU.

    Nothing that a checkpoint names is imported: a unit that is not of the suite has to be given.

    Args:
        path: of the checkpoint.
        **options: of SequenceModel, in place of the checkpoint's own; a class as cell gets its options from there.

    Raises:
        SeqbenchError: not a checkpoint of seqbench, or a unit that has to be given.
    """
    saved = read_checkpoint(path)
    own = saved["seqbench"]
    if "task" not in own:
        raise SeqbenchError(f"{path} is of an older seqbench and says nothing of its task: `seqbench test` takes it")
    config = own["config"]["model"]
    given = {name: value for name, value in config.items() if name not in CLASSES} | options
    if "cell" not in given:
        module, _, name = config["cell"]["class_path"].rpartition(".")
        if not module.startswith("seqbench.cells") or name not in cells():
            raise SeqbenchError(f"{path} has {name}, which is no unit of the suite: give its class as cell")
        given["cell"] = cells()[name]
    if isinstance(given["cell"], type):
        given["cell"] = given["cell"](**(config["cell"].get("init_args") or {}))
    name, unit = config["cell"]["class_path"].rpartition(".")[2], type(given["cell"])
    if name not in {kind.__name__ for kind in unit.__mro__}:
        told = f"{path} has the weights of a {name}, and {unit.__name__} was given as its cell"
        raise SeqbenchError(f"{told}: give {name}, or a subclass")
    model = SequenceModel(task=Task(**own["task"]), **given)
    model.restore(saved["callbacks"][Replicas().state_key]["weights"])
    return model.eval()


def chosen(path: Path) -> list[bool]:
    """Of each replica of a checkpoint, whether a validation chose its weights; else they are those it began with.

    Raises:
        SeqbenchError: not a checkpoint of seqbench.
    """
    best: list[int] = read_checkpoint(path)["callbacks"][Replicas().state_key]["best_epoch"].tolist()
    return [epoch >= 0 for epoch in best]


def load_data(path: Path) -> SequenceData[Any]:
    """The data set of a checkpoint, of which no file has been touched yet; nothing that it names is imported.

    Raises:
        SeqbenchError: not a checkpoint of seqbench, a data set that is not of the suite, or one that is no longer what
            the checkpoint was trained on.
    """
    own = read_checkpoint(path)["seqbench"]
    config = own["config"]["data"]
    name = config["class_path"].rpartition(".")[2]
    known = {kind.__name__: kind for kind in datamodules.datasets().values()}
    if name not in known:
        raise SeqbenchError(f"{path} was trained on {name}, which is no data set of the suite: do this in Python")
    data = known[name](**(config.get("init_args") or {}))
    # Which also tells a namesake of one's own, wherever that was imported from.
    if data.task.digest != own["digest"]:
        raise SeqbenchError(f"{path} was trained on other data than {name} has now: train it again")
    return data
