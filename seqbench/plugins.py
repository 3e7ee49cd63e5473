"""Units and data sets that are not the suite's: by import path, or offered by an installed package's entry points.

The groups of entry points are seqbench.cells and seqbench.datamodules; an entry's name is its class's:

    [project.entry-points."seqbench.cells"]
    MyUnit = "mypackage.units:MyUnit"

Importing this module imports no torch, and nothing of what is offered, so that listings start fast.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from seqbench.task import SeqbenchError, unknown_name

log = logging.getLogger("seqbench")


@dataclass(frozen=True)
class Kind:
    """What can be added to the suite.

    Attributes:
        name: what it is called in messages.
        group: of entry points.
        base: import path of the class that it is a subclass of.
    """

    name: str
    group: str
    base: str


UNITS = Kind("unit", "seqbench.cells", "seqbench.cells.Cell")
DATA = Kind("data set", "seqbench.datamodules", "seqbench.datamodules.base.SequenceData")


def offers(kind: Kind) -> list[EntryPoint]:
    """What installed packages offer, in the order of names; those whose name is not their class's are left out."""
    found = []
    for entry in sorted(entry_points(group=kind.group)):
        if entry.name == entry.attr:
            found.append(entry)
        else:
            leave_out(entry, f"the entry point's name must be the class's, {entry.attr}")
    return found


def loaded(kind: Kind, base: type, ours: Iterable[str]) -> dict[str, Any]:
    """The classes that installed packages offer, by name; one that cannot be had is told in one line and left out.

    Args:
        kind: units or data sets.
        base: the class they must be subclasses of.
        ours: names of the suite's own.

    Raises:
        SeqbenchError: two have one name.
    """
    found, ours, offered = {}, set(ours), offers(kind)
    for entry in offered:
        refuse_namesakes(kind, entry.name, offered, ours)
        try:
            found[entry.name] = locate(_path(entry), kind, base)
            _refuse_arguments(found[entry.name])
        except SeqbenchError as error:
            found.pop(entry.name, None)
            leave_out(entry, str(error))
    return found


def leave_out(entry: EntryPoint, why: str) -> None:
    """Tells in one line that an offer cannot be had."""
    package = _package(entry)
    log.warning(f"{package}'s {entry.name} ({entry.value}) is left out: {why}")


def _refuse_arguments(found: type) -> None:
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for parameter in inspect.signature(found).parameters.values():
        if parameter.default is parameter.empty and parameter.kind not in variable:
            raise SeqbenchError(f"its constructor cannot do without {parameter.name}: give that a default")


def find(name: str, kind: Kind, base: type, ours: Mapping[str, type]) -> Any:
    """The class of that name, in upper or lower case, or at that import path.

    Raises:
        SeqbenchError: there is none, two packages offer it, or it cannot be imported.
    """
    name = name.rpartition(".")[2] if name.startswith(f"{kind.group}.") else name  # ours, wherever it was moved to
    if "." in name:
        return locate(name, kind, base)
    offered = offers(kind)
    known = {own.lower(): own for own in (*ours, *(entry.name for entry in offered))}
    if name.lower() not in known:
        raise unknown_name(kind.name, name, known.values())
    found = known[name.lower()]
    refuse_namesakes(kind, found, offered, ours)
    return ours[found] if found in ours else locate(_path(next(e for e in offered if e.name == found)), kind, base)


def refuse_namesakes(kind: Kind, name: str, offered: Iterable[EntryPoint], ours: Iterable[str]) -> None:
    """Raises:
    SeqbenchError: more than one has this name.
    """
    places = ["seqbench"] if name in ours else []
    places += [_package(entry) for entry in offered if entry.name == name]
    if len(places) > 1:
        raise SeqbenchError(
            f"{places[0]} and {places[1]} both have a {kind.name} {name}: give its import path, or uninstall one"
        )


def locate(path: str, kind: Kind, base: type) -> Any:
    """The class at an import path, PACKAGE.MODULE.CLASS, in the current folder or installed.

    Raises:
        SeqbenchError: there is none, it cannot be imported, or it is no such class.
    """
    module, _, name = path.rpartition(".")
    try:
        with here_first():
            found: Any = getattr(importlib.import_module(module), name, None)
    except (Exception, SystemExit) as error:  # whatever somebody's module does
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            told = "there is no such module here or installed"
        raise SeqbenchError(f"{module}, for the {kind.name} {name}, cannot be imported: {told}") from error
    if not isinstance(found, type):
        raise SeqbenchError(f"{module} has no class {name}: correct the {kind.name}'s import path")
    if not issubclass(found, base):
        raise SeqbenchError(f"{path} is no {kind.name}: it must be a subclass of {kind.base}")
    if inspect.isabstract(found):
        raise SeqbenchError(f"{path} is no {kind.name} yet: some of its methods are abstract")
    return found


@contextmanager
def here_first() -> Iterator[None]:
    """Modules are looked for in the current folder before all others; afterwards, after them.

    So a user's datamodules or leaderboard is what it is to their own module, and their signal.py is not ours.
    """
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
        search_here()


def search_here() -> None:
    """Modules are looked for in the current folder too, after all that is installed."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)


def _path(entry: EntryPoint) -> str:
    return f"{entry.module}.{entry.attr}"


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.module


def source(entry: EntryPoint) -> Path | None:
    """The file of an offer's module, which is not imported; None where there is none."""
    package, *rest = entry.module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin else None
    places = [Path(folder, *rest) for folder in spec.submodule_search_locations or []]
    files = (file for place in places for file in (place.with_suffix(".py"), place / "__init__.py"))
    return next(filter(Path.is_file, files), None)
