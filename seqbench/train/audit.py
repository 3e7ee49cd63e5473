"""What must hold between a record and this code: its config's classes, the task of its data, the unit's sizes.

The leaderboard knows records alone; the command line hands it CHECKS. Each yields (dotted field, what is wrong) pairs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

from lightning.pytorch import callbacks
from torch import optim
from torch.optim import lr_scheduler as schedules

import seqbench.train.optim as own
from seqbench import datamodules
from seqbench.cells import cells
from seqbench.datamodules.base import SequenceData
from seqbench.model.budget import count_parameters, hidden_for_budget
from seqbench.model.heads import head_for
from seqbench.record import SECTIONS, Record
from seqbench.task import Task
from seqbench.train.identity import INCIDENTAL, WATCHING, defaults
from seqbench.train.module import SequenceModel

Problems = Iterator[tuple[str, str]]
PLACES = ("data", "model.cell", "model.optimizer", "model.schedule", "trainer.callbacks")
RUN = {"protocol", "patience"}


@lru_cache
def data_sets() -> dict[str, type[SequenceData[Any]]]:
    """All data sets by their classes' names."""
    return {kind.__name__: kind for kind in datamodules.datasets().values()}


@lru_cache
def known(place: str) -> frozenset[str]:
    """The names that may stand at a place: of ours, torch.optim, its lr_scheduler, lightning.pytorch.

    Callbacks that only watch are none: a config of a record holds what decides numbers.
    """
    if place == "data":
        return frozenset(data_sets())
    if place == "model.cell":
        return frozenset(cells())
    if place == "model.optimizer":
        return _classes_of(optim, optim.Optimizer) | _classes_of(own, optim.Optimizer)
    if place == "model.schedule":
        return _classes_of(schedules, schedules.LRScheduler)
    return _classes_of(callbacks, callbacks.Callback) - {kind.__name__ for kind in WATCHING}


def _classes_of(module: Any, base: type) -> frozenset[str]:
    found = (name for name, kind in vars(module).items() if isinstance(kind, type) and issubclass(kind, base))
    return frozenset(name for name in found if not name.startswith("_"))


def classes(record: Record) -> Problems:
    """What in a config could make `seqbench fit` import or read something else than this suite and its libraries."""
    config = record.config
    expected = {"config": set(SECTIONS), "run": RUN, "data": {"class_path", "init_args"}}
    for name, section in (("config", config), ("run", config["run"]), ("data", config["data"])):
        for key in sorted(section.keys() - expected[name]):
            yield f"config.{key}" if name == "config" else f"config.{name}.{key}", "is nothing that a run is named by"
    for key in sorted(config["trainer"].keys() & INCIDENTAL):
        yield f"config.trainer.{key}", "is nothing that a run is named by"
    placed = set()
    for place in PLACES:
        section, _, key = place.partition(".")
        value = config[section].get(key) if key else config[section]
        several = place == "trainer.callbacks" and isinstance(value, list)
        for path, one in ((f"{place}.{i}", v) for i, v in enumerate(value)) if several else ((place, value),):
            placed.add(f"config.{path}.class_path")
            yield from _misnamed(f"config.{path}", one, known(place)) if one is not None else ()
    for path in _named("config", config):
        if path not in placed:
            yield path, "no class can be named here"
    if config["trainer"].get("plugins"):
        yield "config.trainer.plugins", "is not trained again: a plugin may be anybody's code"


def _misnamed(path: str, value: Any, names: frozenset[str]) -> Problems:
    if not isinstance(value, dict) or not value.keys() <= {"class_path", "init_args"}:
        yield path, "is no class_path with init_args"
    elif value.get("class_path") not in names:
        yield f"{path}.class_path", f"{value.get('class_path')!r} is none of this version's and its libraries' classes"
    else:
        for key, inner in (value.get("init_args") or {}).items():
            if any("." in text for text in _texts(inner)):
                yield f"{path}.init_args.{key}", f"{inner!r:.60} could be the import path of anybody's code"


def _named(path: str, value: Any) -> Iterator[str]:
    """Where classes are named."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if key == "class_path":
            yield f"{path}.{key}"
        else:
            yield from _named(f"{path}.{key}", inner)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(inner)


def task(record: Record) -> Problems:
    """The task, data digest too, is what this code makes of the config's data; a folder of one's own is not here."""
    data = record.config["data"]
    kind = data_sets().get(data["class_path"])
    if kind is None or kind.places:  # told by `classes`; files of one's own
        return
    made = _task(data["class_path"], json.dumps(data.get("init_args") or {}, sort_keys=True))
    for field, value in vars(record.task).items():
        if value != made[field]:
            yield f"task.{field}", f"{value!r}, but this code's data set has {made[field]!r}"


@lru_cache
def _task(data_set: str, options: str) -> dict[str, Any]:
    return dict(vars(data_sets()[data_set](**json.loads(options)).task))


def sizes(record: Record) -> Problems:
    """Unit, hidden size and parameter counts are what this code makes of the config's model."""
    model = defaults(SequenceModel) | record.config["model"]
    cell = model["cell"]
    if cell["class_path"] not in known("model.cell"):
        return  # told by `classes`
    task = record.task
    inputs = (model["embedding"], task.input_size) if task.vocabulary else (task.input_size, 1)
    shape = (task.head, task.target_size, *inputs, task.vocabulary, model["layers"], model["bidirectional"])
    budget = (model["budget"], model["count"]) if model["hidden"] is None else None
    options = json.dumps(cell.get("init_args") or {}, sort_keys=True)
    expected = _sizes(cell["class_path"], options, shape, budget, record.cell.hidden)
    if budget is None:
        expected = expected | {"cell.hidden": model["hidden"]}
    expected = expected | dict(zip(("cell.budget", "cell.count"), budget or (None, None), strict=True))
    told = {f"cell.{key}": value for key, value in vars(record.cell).items()}
    told |= {f"parameters.{key}": value for key, value in vars(record.parameters).items()}
    for field, value in told.items():
        if value != expected[field]:
            yield field, f"{value!r}, but this code makes {expected[field]!r} of the config"


@lru_cache
def _sizes(
    unit: str,
    options: str,
    shape: tuple[str, int, int | None, int, int, int, bool],
    budget: tuple[int, Any] | None,
    hidden: int,
) -> dict[str, Any]:
    """What a record must say of unit and parameters at this hidden size, and the budget's hidden size."""
    cell = cells()[unit](**json.loads(options))
    head, targets, inputs, ids, vocabulary, layers, bidirectional = shape
    sizes: dict[str, Any] = {"layers": layers, "bidirectional": bidirectional, "vocabulary": vocabulary, "ids": ids}
    sizes |= {"head": head_for(Task("", 1, targets, cast(Any, head), "", ""))}
    counts = count_parameters(cell, inputs, hidden, **sizes)
    matched = None if budget is None else hidden_for_budget(cell, inputs, budget=budget[0], count=budget[1], **sizes)
    return {
        "cell.name": unit,
        "cell.options": cell.options(),
        "cell.hidden": matched,
        "parameters.recurrent": counts.recurrent,
        "parameters.total": counts.total,
    }


CHECKS = (classes, task, sizes)
