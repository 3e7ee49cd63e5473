"""A trained model from its checkpoint, in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqbench.cells import cells
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
        **options: of SequenceModel, in place of the checkpoint's own.

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
            raise SeqbenchError(f"{path} has {name}, which is no unit of the suite: give cell={name}(...)")
        given["cell"] = cells()[name](**(config["cell"].get("init_args") or {}))
    model = SequenceModel(task=Task(**own["task"]), **given)
    model.restore(saved["callbacks"][Replicas().state_key]["weights"])
    return model.eval()
