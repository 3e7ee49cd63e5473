"""`seqbench extract`: one replica of a group's checkpoint as a solo run's, to go on alone.

The solo run goes on as if it had never been in a group: same weights, optimiser state, best weights and curve.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import yaml

from seqbench.files import write_file
from seqbench.task import SeqbenchError
from seqbench.train.callbacks import Replicas
from seqbench.train.keeping import WholeCheckpoints
from seqbench.train.recorder import read_checkpoint


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
    own = saved["seqbench"]
    R = len(own["runs"])
    if not 0 <= replica < R:
        raise SeqbenchError(f"There is no replica {replica}: the group has 0 to {R - 1}")
    if replica not in own["slots"]:
        raise SeqbenchError(f"Replica {replica} was done and dropped from the group; its record is complete")
    run_id, seed, rate = own["runs"][replica]
    config, identity = (
        own[name] | {"model": own[name]["model"] | {"seed": seed, "rate": rate}} for name in ("config", "identity")
    )
    folder = run_dir / run_id
    path = folder / "checkpoints" / "last.ckpt"
    if path.exists():
        raise SeqbenchError(f"{path} is there already: give another --run-dir")
    solo = _solo(saved, own["slots"].index(replica), len(own["slots"]), replica, R)
    solo["seqbench"] = own | {"config": config, "identity": identity, "slots": [0], "runs": [[run_id, seed, rate]]}
    text = yaml.safe_dump(config | {"run": config["run"] | {"dir": str(run_dir)}}, sort_keys=False)
    write_file(folder / "config.yaml", text.encode())
    WholeCheckpoints().save_checkpoint(solo, path)
    return path


def _solo(saved: dict[str, Any], slot: int, held: int, replica: int, R: int) -> dict[str, Any]:
    """The checkpoint cut to one replica: `slot` of the `held` ones, `replica` of the R that began."""
    solo = copy.copy(saved)
    solo["state_dict"] = {name: value[slot : slot + 1].clone() for name, value in saved["state_dict"].items()}
    solo["optimizer_states"] = [
        state | {"state": {k: _cut(values, slot, held) for k, values in state["state"].items()}}
        for state in saved["optimizer_states"]
    ]
    key = Replicas().state_key
    state = saved["callbacks"][key]
    cut = _cut(state, replica, R)
    cut["curve"] = [
        tuple(part[replica : replica + 1] if isinstance(part, list) else part for part in entry)
        for entry in state["curve"]
    ]
    solo["callbacks"] = saved["callbacks"] | {key: cut}
    return solo


def _cut(values: dict[str, Any], k: int, R: int) -> dict[str, Any]:
    """Every tensor [R, ...] as its row k, [1, ...]."""
    return {
        name: value[k : k + 1].clone() if torch.is_tensor(value) and value.ndim and len(value) == R else value
        for name, value in values.items()
    }
