"""Recurrent units, one file a family; every subclass of Cell in this folder is found by walking it.

Those of other packages are found by their entry points, or by import path (seqbench/plugins.py).
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from seqbench import plugins
from seqbench.cells.base import Cell, LinearCell, State, Weight
from seqbench.task import SeqbenchError

__all__ = ["Cell", "LinearCell", "State", "Weight", "cells", "find", "installed"]


def _walk() -> dict[str, type[Cell]]:
    found: dict[str, type[Cell]] = {}
    for module in pkgutil.iter_modules(__path__):
        for name, value in vars(importlib.import_module(f"{__name__}.{module.name}")).items():
            if not inspect.isclass(value) or not issubclass(value, Cell) or inspect.isabstract(value):
                continue
            if found.setdefault(name, value) is not value:
                raise SeqbenchError(f"{value.__module__} and {found[name].__module__} both have a {name}: rename one")
    return found


def cells() -> dict[str, type[Cell]]:
    """Every unit of the suite by class name."""
    return dict(sorted(_CELLS.items()))


def installed() -> dict[str, type[Cell]]:
    """Every unit that another installed package offers, by class name; one that is broken is told and left out.

    Raises:
        SeqbenchError: two units have one name.
    """
    found: dict[str, type[Cell]] = plugins.loaded(plugins.UNITS, Cell, _CELLS)
    return found


def find(name: str) -> type[Cell]:
    """The unit of that class name, in upper or lower case, or at that import path.

    Raises:
        SeqbenchError: there is none, and it names the nearest and all; or it cannot be imported.
    """
    found: type[Cell] = plugins.find(name, plugins.UNITS, Cell, _CELLS)
    return found


# seqbench.cells.GRU and the like work as class paths, in configs and in code.
_CELLS = _walk()
globals().update(_CELLS)
