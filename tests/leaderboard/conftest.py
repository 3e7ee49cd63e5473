import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="session")
def factory() -> ModuleType:
    """Makes records up; see factory.py beside this file."""
    spec = importlib.util.spec_from_file_location("leaderboard_factory", Path(__file__).with_name("factory.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def segments() -> Callable[[str], list[list[np.ndarray]]]:
    """Reads a path of straight lines."""
    return _segments


def _segments(path: str) -> list[list[np.ndarray]]:
    """The points of each piece of a path of straight lines, by the grammar of SVG 1.1, 8.3.9."""
    found, at, kind = [], np.zeros(2), ""
    for token in re.findall(r"[MmLlz]|-?(?:\d+\.?\d*|\.\d+)\s*,?\s*-?(?:\d+\.?\d*|\.\d+)", path):
        if token in "MmLlz":
            kind = token
            continue
        place = np.array([float(value) for value in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", token)])
        at = at + place if kind.islower() else place
        if kind in "Mm":
            found.append([])
            kind = "l" if kind == "m" else "L"
        found[-1].append(at)
    return found
