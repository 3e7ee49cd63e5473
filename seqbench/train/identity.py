"""What names a run: the part of its configuration that decides its numbers, as far as it differs from the defaults.

Defaults are left out and classes stand by their names, so a new option with a default, a Trainer flag of a newer
Lightning or a class moved to another file renames no run, and a changed default renames all: tests hold them.
"""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Collection
from typing import Any

import lightning as L
from lightning.pytorch import callbacks

from seqbench.train.callbacks import StopAfter
from seqbench.train.module import SequenceModel
from seqbench.train.optim import ChungRMSProp

# What changes where, how loudly or how long a run goes on, and its numbers by rounding at most.
INCIDENTAL = {
    "accelerator", "strategy", "devices", "num_nodes", "logger", "fast_dev_run", "log_every_n_steps", "max_time",
    "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps", "profiler",
    "detect_anomaly", "barebones", "default_root_dir", "enable_autolog_hparams", "model_registry", "deterministic",
    "benchmark", "inference_mode", "limit_predict_batches", "use_distributed_sampler", "sync_batchnorm",
    "gradient_clip_algorithm",
}  # fmt: skip
# Those named here: a callback of the user's that has such a name may do anything.
WATCHING = {
    callbacks.DeviceStatsMonitor, callbacks.LearningRateMonitor, callbacks.ModelCheckpoint, callbacks.ModelSummary,
    callbacks.RichModelSummary, callbacks.RichProgressBar,
    callbacks.ThroughputMonitor, callbacks.Timer, callbacks.TQDMProgressBar, StopAfter,
}  # fmt: skip
PRECISIONS = {None: "32-true", 32: "32-true", 64: "64-true", 16: "16-mixed", "32": "32-true", "64": "64-true",
              "16": "16-mixed", "bf16": "bf16-mixed"}  # fmt: skip


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """A resolved configuration, sections data, model, trainer and run, as records keep it and ids are made of it.

    It is still a configuration: `seqbench fit -c` takes it, and gives the same run with the same defaults. But a class
    that is not the suite's is known by its name only where a package offers it; config.yaml has its import path.
    """
    return {
        "data": _data(config["data"]),
        "model": _model(config["model"]),
        "trainer": _trainer(config["trainer"]),
        "run": {key: config["run"][key] for key in ("protocol", "patience") if config["run"].get(key)},
    }


def _data(config: dict[str, Any]) -> dict[str, Any]:
    return _class(config, {"seeds", *_located(config).places})


def _model(config: dict[str, Any]) -> dict[str, Any]:
    known = defaults(SequenceModel)
    # Sizes that were not asked for, where the hidden size is given.
    unasked = {"budget", "count"} if config.get("hidden") is not None else set()
    classes = {"cell", "optimizer", "schedule"}
    kept = _differing({k: v for k, v in config.items() if k not in {"recurrence"} | unasked | classes}, known)
    kept |= {"seed": config["seed"], "rate": config["rate"], "cell": _class(config["cell"])}
    optimizer = config.get("optimizer")
    if optimizer and (chosen := _class(optimizer, {"lr"})) != {"class_path": ChungRMSProp.__name__}:
        kept["optimizer"] = chosen  # without a rate, which is the replica's
    if config.get("schedule"):
        kept["schedule"] = _class(config["schedule"])
    return kept


def _trainer(config: dict[str, Any]) -> dict[str, Any]:
    kept = {
        k: v
        for k, v in config.items()
        if k not in INCIDENTAL | {"callbacks", "plugins", "precision", "gradient_clip_val"}
    }
    whole = dict.fromkeys(("limit_train_batches", "limit_val_batches", "limit_test_batches"), 1.0)
    # Of these 1 is one batch and 1.0 all of them: as numbers they would be equal.
    kept = {k: v for k, v in kept.items() if not (k in whole and isinstance(v, float) and v == 1.0)}
    counts = {k: v for k, v in kept.items() if k in whole and isinstance(v, int) and v}
    kept = _differing(kept, defaults(L.Trainer)) | counts
    kept = {k: v for k, v in kept.items() if v is not None}
    if (precision := PRECISIONS.get(config.get("precision"), config.get("precision"))) != "32-true":
        kept["precision"] = precision
    if clip := config.get("gradient_clip_val"):
        kept["gradient_clip_val"] = clip
    for key in ("callbacks", "plugins"):
        chosen = config.get(key) or []
        chosen = chosen if isinstance(chosen, list) else [chosen]
        if named := [_class(kind) for kind in chosen if _located(kind) not in WATCHING]:
            kept[key] = named
    return kept


def short(config: Any) -> str:
    """The class's name alone, of a parsed configuration or an import path; "" of none."""
    return str(config.get("class_path") if isinstance(config, dict) else config or "").rpartition(".")[2]


def _located(config: Any) -> Any:
    """The class that a parsed configuration names."""
    return pydoc.locate(config["class_path"] if isinstance(config, dict) else config)


def _class(config: Any, left_out: Collection[str] = ()) -> dict[str, Any]:
    """{class_path: NAME, init_args: those that differ from the class's defaults}."""
    given = config.get("init_args") or {} if isinstance(config, dict) else {}
    changed = _differing({k: v for k, v in given.items() if k not in left_out}, defaults(_located(config)))
    return {"class_path": short(config)} | ({"init_args": changed} if changed else {})


def _differing(given: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in given.items() if k not in known or _plain(known[k]) != _plain(v)}


def _plain(value: Any) -> Any:
    """Tuples as lists: YAML knows no others."""
    return list(map(_plain, value)) if isinstance(value, list | tuple) else value


def defaults(kind: type) -> dict[str, Any]:
    """A constructor's defaults, those that it passes on to its bases by **options among them."""
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
        for p in parameters:
            if p.default is not p.empty:
                found.setdefault(p.name, p.default)
        if all(p.kind != p.VAR_KEYWORD for p in parameters):
            break
    return found
