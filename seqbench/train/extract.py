"""`seqbench extract`: one replica of a group's checkpoint as a solo run's, to go on alone.

The solo run goes on as if it had never been in a group: same weights, optimiser state, best weights and curve.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from seqbench.files import write_file
from seqbench.task import SeqbenchError
from seqbench.train.callbacks import Replicas
from seqbench.train.keeping import WholeCheckpoints
from seqbench.train.recorder import read_checkpoint
from seqbench.train.solo import cut, replica_state, settings


def extract(checkpoint: Path, replica: int, run_dir: Path) -> Path:
    """Writes RUN/checkpoints/last.ckpt and RUN/config.yaml for the solo run; returns the checkpoint's path.

    Args:
        checkpoint: of a group.
        replica: counted from 0, as the group began.
        run_dir: where runs are kept.

    Raises:
        SeqbenchError: no such checkpoint or replica, the replica was done and dropped, or its run folder has a
            checkpoint already.
    """
    saved = read_checkpoint(checkpoint)
    if "optimizer_states" not in saved:
        raise SeqbenchError(f"{checkpoint} has the best epoch's weights alone: extract from a last.ckpt")
    own = saved["seqbench"]
    R = len(own["runs"])
    if not 0 <= replica < R:
        raise SeqbenchError(f"There is no replica {replica}: the group has 0 to {R - 1}")
    if replica not in own["slots"]:
        raise SeqbenchError(f"Replica {replica} was done and dropped from the group; its record is complete")
    made = settings(own, replica)
    ((run_id, *_),), config = made["runs"], made["config"]
    folder = run_dir / run_id
    path = folder / "checkpoints" / "last.ckpt"
    if path.exists():
        raise SeqbenchError(f"{path} is there already: give another --run-dir")
    solo = _solo(saved, own["slots"].index(replica), len(own["slots"]), replica)
    solo["seqbench"] = made
    text = yaml.safe_dump(config | {"run": config["run"] | {"dir": str(run_dir)}}, sort_keys=False)
    try:
        write_file(folder / "config.yaml", text.encode())
    except OSError as error:
        raise SeqbenchError(f"Cannot write to {folder} ({error.strerror}): give another --run-dir") from error
    WholeCheckpoints().save_checkpoint(solo, path)
    return path


def _solo(saved: dict[str, Any], slot: int, held: int, replica: int) -> dict[str, Any]:
    """The checkpoint cut to one replica: `slot` of the `held` ones, `replica` as the group began."""
    solo = copy.copy(saved)
    solo["state_dict"] = {name: value[slot : slot + 1].clone() for name, value in saved["state_dict"].items()}
    solo["optimizer_states"] = [
        state | {"state": {k: cut(values, slot, held) for k, values in state["state"].items()}}
        for state in saved["optimizer_states"]
    ]
    key = Replicas().state_key
    solo["callbacks"] = saved["callbacks"] | {key: replica_state(saved["callbacks"][key], replica)}
    return solo
