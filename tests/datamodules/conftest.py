from __future__ import annotations

from pathlib import Path

import pytest

import datamodules
from datamodules.base import SequenceData
from datamodules.fetch import location
from datamodules.synthetic import Synthetic

LOADED: dict[str, SequenceData] = {}


@pytest.fixture
def canonical():
    """A function from name to the loaded set; skips where neither mirror nor cache has it."""

    def load(name: str) -> SequenceData:
        if name not in LOADED:
            data = datamodules.datasets()[name]()
            if location(data.file) == "no":
                pytest.skip(f"{data.file} is neither in SEQBENCH_MIRROR nor in the cache")
            data.setup()
            LOADED[name] = data
        return LOADED[name]

    return load


@pytest.fixture
def synthetic() -> Synthetic:
    data = Synthetic(batch_size=5, seeds=[3, 1, 7], sequences=33)
    data.setup()
    return data


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No mirror, an empty cache: the cache's path."""
    monkeypatch.delenv("SEQBENCH_MIRROR", raising=False)
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
