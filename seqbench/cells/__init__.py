"""Recurrent units, one file a family; every subclass of Cell in this folder is found by walking it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from seqbench.cells.base import Cell, LinearCell, State, Weight
from seqbench.task import SeqbenchError, unknown_name

__all__ = ["Cell", "LinearCell", "State", "Weight", "cells", "find"]


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


def find(name: str) -> type[Cell]:
    """The unit of that class name, in upper or lower case.

    Raises:
        SeqbenchError: there is none; names the nearest and all.
    """
    known = {unit.lower(): kind for unit, kind in _CELLS.items()}
    if name.lower() not in known:
        raise unknown_name("unit", name, _CELLS)
    return known[name.lower()]


# seqbench.cells.GRU and the like work as class paths, in configs and in code.
_CELLS = _walk()
globals().update(_CELLS)
