"""What the names on a command line stand for: configs of the suite, and classes; before Lightning makes them."""

from __future__ import annotations

import contextlib
import pydoc
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, ClusterEnvironment, LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

import seqbench
from seqbench import cells, datamodules, plugins
from seqbench.datamodules.base import SequenceData
from seqbench.record import SECTIONS
from seqbench.task import SeqbenchError, unknown_name

CONFIGS = Path(seqbench.__file__).parent / "configs"
CONFIG_FLAGS = ("-c", "--config")
UNIT, DATA = "--model.cell", "--data"
MOST = 10_000  # values in a config; one whose aliases stand for more is no config
PLACES: dict[str, tuple[type, ...]] = {
    "data": (SequenceData,),
    "model.cell": (cells.Cell,),
    "model.optimizer": (Optimizer,),
    "model.schedule": (LRScheduler,),
    "trainer.accelerator": (Accelerator,),
    "trainer.callbacks": (Callback,),
    "trainer.logger": (Logger,),
    "trainer.plugins": (CheckpointIO, ClusterEnvironment, LayerSync, Precision),
    "trainer.profiler": (Profiler,),
    "trainer.strategy": (Strategy,),
}
WITHIN = tuple(base for bases in PLACES.values() for base in bases)  # what an argument of theirs may be


def resolve(arguments: list[str]) -> list[str]:
    """The arguments with files for the names of configs and import paths for those of classes.

    Classes that config files name are imported, so that they can be found by their short names.

    Raises:
        SeqbenchError: there is no such config, unit or data set.
    """
    plugins.search_here()  # for optimizers and callbacks of one's own, which the parser imports
    resolved = list(arguments)
    for flag, position, value in _values(arguments):
        found = value
        if flag in CONFIG_FLAGS:
            found = str(config_file(value))
            for what, name in _named_in(Path(found)):
                known_class(what, name)
        elif not value.startswith("{"):
            kind = known_class(flag, value)
            found = value if "." in value else import_path(kind)
        resolved[position] = resolved[position].removesuffix(value) + found
    return resolved


def _values(arguments: list[str]) -> Iterator[tuple[str, int, str]]:
    """Each flag that takes a name, the position of the argument which that is in, and the name."""
    for position, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if argument.startswith("-c") and argument[2:3] not in ("", "="):  # as -cNAME
            yield "-c", position, argument[2:]
        elif flag in (*CONFIG_FLAGS, UNIT, DATA) and equals:
            yield flag, position, value
        elif argument in (*CONFIG_FLAGS, UNIT, DATA) and position + 1 < len(arguments):
            yield flag, position + 1, arguments[position + 1]


def config_files(arguments: list[str]) -> list[str]:
    """The configs that a command names and that are files of the user's, by the names it uses."""
    return [name for flag, _, name in _values(arguments) if flag in CONFIG_FLAGS and Path(name).is_file()]


def with_configs(arguments: list[str], files: Mapping[str, Path]) -> list[str]:
    """A command with other files for configs that it names."""
    changed = list(arguments)
    for flag, position, name in _values(arguments):
        if flag in CONFIG_FLAGS and name in files:
            changed[position] = changed[position].removesuffix(name) + str(files[name])
    return changed


def config_file(name: str) -> Path:
    """The config of that name: a file, if there is one, or one that ships with the suite.

    Raises:
        SeqbenchError: neither.
    """
    if Path(name).is_file() or not re.fullmatch(r"[\w-]+", name):
        return Path(name)
    shipped = {path.stem: path for path in CONFIGS.glob("*.yaml")}
    if name not in shipped:
        raise unknown_name("config", name, shipped)
    return shipped[name]


def configured_rate(arguments: list[str]) -> float | None:
    """The learning rate that the config files of a command set, the last that does; None where none does."""
    found = None
    for name in (value for flag, _, value in _values(arguments) if flag in CONFIG_FLAGS):
        model = _sections(config_file(name)).get("model") or {}
        with contextlib.suppress(KeyError, TypeError, ValueError):  # what is no rate the parser tells
            found = float(model["rate"])  # YAML takes 1e-3 for text
    return found


def protocols() -> list[str]:
    """The configs of the suite that are protocols."""
    sections = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CONFIGS.glob("*.yaml"))}
    return [name for name, config in sections.items() if (config.get("run") or {}).get("protocol")]


def _named_in(config: Path) -> Iterator[tuple[str, str]]:
    """The classes of data and unit in a config file; the parser tells what else is wrong with it."""
    sections = _sections(config)
    model = sections.get("model")
    for flag, value in ((DATA, sections.get("data")), (UNIT, model.get("cell") if isinstance(model, dict) else None)):
        name = value.get("class_path") if isinstance(value, dict) else value
        if isinstance(name, str):
            yield flag, name


def _sections(config: Path) -> dict[str, Any]:
    """A config file's content; nothing where there is no such file, which the parser tells.

    Raises:
        SeqbenchError: it is not UTF-8, no YAML, empty, has no sections or one without options, is endless, or
            has a NUL character.
    """
    try:
        sections = yaml.safe_load(config.read_text(encoding="utf-8"))
    except OSError:
        return {}
    except UnicodeDecodeError as error:
        raise SeqbenchError(f"{config} is not in UTF-8: save it as UTF-8") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise SeqbenchError(f"{config} is no YAML ({' '.join(str(error).split())[:200]}): correct it") from error
    if sections is None:
        raise SeqbenchError(f"{config} is empty: leave it out, or write data, model, trainer or run into it")
    if not isinstance(sections, dict):
        raise SeqbenchError(f"{config} has no sections: write data:, model:, trainer: or run: above its values")
    for name in ("model", "trainer", "run"):
        if not isinstance(sections.get(name) or {}, dict):
            raise SeqbenchError(f"{config}: {name} is {str(sections[name])[:40]!r}: write its options below it")
    waiting, count = [sections], 0
    while waiting and count <= MOST:
        value = waiting.pop()
        count += 1
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if isinstance(value, str) and "\0" in value:  # no path, name or number has it
            raise SeqbenchError(f"{config} has a NUL character in {value[:40]!r}: take it out")
    if count > MOST:
        raise SeqbenchError(f"{config} has more than {MOST:,} values, or refers to itself: write them out")
    return sections


def known_class(flag: str, name: str) -> type:
    """The unit or data set of that name or at that import path.

    Raises:
        SeqbenchError: there is none.
    """
    return cells.find(name) if flag == UNIT else datamodules.find(name)


def import_path(kind: type) -> str:
    """Where a class is imported from."""
    return f"{kind.__module__}.{kind.__qualname__}"


def check_classes(config: Namespace) -> None:
    """Holds all that a parsed configuration names by import path against what its place wants.

    A place takes classes of its own kind alone, and so do their arguments. No function can be named: a config, which
    may be somebody else's, would have it called.

    Args:
        config: of one command, parsed, before anything is made of it.

    Raises:
        SeqbenchError: something else is named.
    """
    for section in SECTIONS:
        _check(section, config.get(section), PLACES.get(section, ()))


def _check(place: str, value: Any, bases: tuple[type, ...]) -> None:
    inner = vars(value) if isinstance(value, Namespace) else value
    if isinstance(inner, list | tuple | set):
        for one in inner:
            _check(place, one, bases)
    elif isinstance(inner, Mapping) and "class_path" in inner:
        path = inner["class_path"]
        found = pydoc.locate(path) if bases and isinstance(path, str) else None
        if not isinstance(found, type) or not issubclass(found, bases):
            kinds = " or ".join(base.__name__ for base in bases[:4])
            remedy = f"give a subclass of {kinds}" if bases else "no class can be named here"
            raise SeqbenchError(f"--{place} {str(path)[:80]} is refused: {remedy}")
        _check(f"{place}.init_args", inner.get("init_args"), WITHIN)
        _check(f"{place}.dict_kwargs", inner.get("dict_kwargs"), ())
    elif isinstance(inner, Mapping):
        for key, one in inner.items():
            _check(f"{place}.{key}", one, PLACES.get(f"{place}.{key}", bases))
    elif callable(inner) and not isinstance(inner, torch.device):  # a device decorates functions
        name = f"{inner.__module__}.{inner.__qualname__}" if hasattr(inner, "__qualname__") else repr(inner)
        raise SeqbenchError(f"--{place} {name[:80]} is refused: no function can be named here, only classes")
