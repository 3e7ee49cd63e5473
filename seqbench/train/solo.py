"""One replica of a group's checkpoint as a solo run's.  R replicas, P parameters."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from seqbench.train.callbacks import Replicas


def cut(values: dict[str, Any], k: int, R: int) -> dict[str, Any]:
    """Every tensor [R, ...] as its row k, [1, ...]."""
    return {
        name: value[k : k + 1].clone() if torch.is_tensor(value) and value.ndim and len(value) == R else value
        for name, value in values.items()
    }


def replica_state(state: dict[str, Any], k: int) -> dict[str, Any]:
    """The state of the callback `Replicas` for its replica k alone."""
    curve = [tuple(part[k : k + 1] if isinstance(part, list) else part for part in entry) for entry in state["curve"]]
    return cut(state, k, len(state["best"])) | {"curve": curve}


def of_replica(config: dict[str, Any], seed: int, rate: float) -> dict[str, Any]:
    """A group's configuration, whole or as its identity, as that of one replica."""
    return config | {"model": config["model"] | {"seed": seed, "rate": rate}}


def settings(own: dict[str, Any], k: int) -> dict[str, Any]:
    """What a Recorder has added to a group's checkpoint, for its replica k alone."""
    run_id, seed, rate = own["runs"][k]
    config, identity = (of_replica(own[name], seed, rate) for name in ("config", "identity"))
    return own | {"config": config, "identity": identity, "slots": [0], "runs": [[run_id, seed, rate]]}


def best_checkpoint(own: dict[str, Any], replicas: Replicas, k: int) -> dict[str, Any]:
    """A checkpoint with the weights of replica k's best epoch, and nothing to go on with.

    Args:
        own: what a Recorder adds to the group's checkpoint.
        replicas: which has the best weights.
        k: counted as the group began.
    """
    state = replica_state(replicas.state_dict(), k)
    state["weights"] = state["weights"].cpu()
    return {
        "epoch": int(replicas.best_epoch[k]),
        "global_step": 0,
        "pytorch-lightning_version": L.__version__,
        "state_dict": {"rows": state["weights"], "alive": torch.zeros(1, dtype=torch.bool)},
        "callbacks": {replicas.state_key: state},
        "seqbench": settings(own, k),
    }
