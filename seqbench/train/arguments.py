"""What the names on a command line stand for: configs of the suite, and classes; before Lightning parses them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

import seqbench
from seqbench import cells, datamodules, plugins
from seqbench.task import unknown_name

CONFIGS = Path(seqbench.__file__).parent / "configs"
CONFIG_FLAGS = ("-c", "--config")
UNIT, DATA = "--model.cell", "--data"


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
        if flag in (*CONFIG_FLAGS, UNIT, DATA) and equals:
            yield flag, position, value
        elif argument in (*CONFIG_FLAGS, UNIT, DATA) and position + 1 < len(arguments):
            yield flag, position + 1, arguments[position + 1]


def config_files(arguments: list[str]) -> list[str]:
    """The configs that a command names and that are files of the user's, by the names it uses."""
    named = (value for flag, value in itertools.pairwise(arguments) if flag in CONFIG_FLAGS)
    return [name for name in named if Path(name).is_file()]


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


def protocols() -> list[str]:
    """The configs of the suite that are protocols."""
    sections = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CONFIGS.glob("*.yaml"))}
    return [name for name, config in sections.items() if (config.get("run") or {}).get("protocol")]


def _named_in(config: Path) -> Iterator[tuple[str, str]]:
    """The classes of data and unit in a config file; the parser tells what else is wrong with it."""
    try:
        sections = yaml.safe_load(config.read_text(encoding="utf-8"))
        places = {DATA: sections.get("data"), UNIT: (sections.get("model") or {}).get("cell")}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError):
        return
    for flag, value in places.items():
        name = value.get("class_path") if isinstance(value, dict) else value
        if isinstance(name, str):
            yield flag, name


def known_class(flag: str, name: str) -> type:
    """The unit or data set of that name or at that import path.

    Raises:
        SeqbenchError: there is none.
    """
    return cells.find(name) if flag == UNIT else datamodules.find(name)


def import_path(kind: type) -> str:
    """Where a class is imported from."""
    return f"{kind.__module__}.{kind.__qualname__}"
