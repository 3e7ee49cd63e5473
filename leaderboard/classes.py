"""Which classes a record's config may name, and where. A record of a run of this suite names them without modules."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqbench.datamodules.base import SequenceData

PLACES = ("data", "model.cell", "model.optimizer", "model.schedule", "trainer.callbacks")
RUN = {"protocol", "patience"}


@lru_cache
def known(place: str) -> frozenset[str]:
    """The names that may stand at a place: of ours, torch.optim, its lr_scheduler, lightning.pytorch.

    Callbacks that only watch are none: a config of a record holds what decides numbers.
    """
    from lightning.pytorch import callbacks
    from torch import optim
    from torch.optim import lr_scheduler as schedules

    import seqbench.train.optim as own
    from seqbench.cells import cells
    from seqbench.train.identity import WATCHING

    if place == "data":
        return frozenset(data_sets())
    if place == "model.cell":
        return frozenset(cells())
    if place == "model.optimizer":
        return _classes_of(optim, optim.Optimizer) | _classes_of(own, optim.Optimizer)
    if place == "model.schedule":
        return _classes_of(schedules, schedules.LRScheduler)
    return _classes_of(callbacks, callbacks.Callback) - WATCHING


def _classes_of(module: Any, base: type) -> frozenset[str]:
    found = (name for name, kind in vars(module).items() if isinstance(kind, type) and issubclass(kind, base))
    return frozenset(name for name in found if not name.startswith("_"))


@lru_cache
def data_sets() -> dict[str, type[SequenceData]]:
    """All data sets by their classes' names."""
    from seqbench import datamodules

    return {kind.__name__: kind for kind in datamodules.datasets().values()}


def unknown(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What in a config could make `seqbench fit` import or read something else: (dotted field, problem) pairs."""
    from seqbench.record import SECTIONS
    from seqbench.train.identity import INCIDENTAL

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


def _misnamed(path: str, value: Any, names: frozenset[str]) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict) or not value.keys() <= {"class_path", "init_args"}:
        yield path, "is no class_path with init_args"
    elif value.get("class_path") not in names:
        yield f"{path}.class_path", f"{value.get('class_path')!r} is none of this version's and its libraries' classes"


def _named(path: str, value: Any) -> Iterator[str]:
    """Where classes are named."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if key == "class_path":
            yield f"{path}.{key}"
        else:
            yield from _named(f"{path}.{key}", inner)
