from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import requests
import soundfile

from seqbench import datamodules
from seqbench.datamodules.base import SequenceData
from seqbench.datamodules.fetch import location
from seqbench.datamodules.synthetic import Synthetic

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


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers."""

    def nobody(*_: object, **__: object) -> None:
        raise requests.ConnectionError

    monkeypatch.setattr("requests.get", nobody)
    monkeypatch.setattr("requests.Session.request", nobody)


def voice(samples: int, seed: int) -> np.ndarray:
    """[samples] int16: a gliding tone with some noise, that begins with digital silence."""
    g = np.random.default_rng(seed)
    phase = np.cumsum(2 * np.pi * np.linspace(100 + 20 * seed, 300 + 20 * seed, samples) / 8000)
    sound = 4000 * np.sin(phase) + 100 * g.standard_normal(samples)
    sound[: samples // 10] = 0
    return np.rint(sound).astype(np.int16)


@pytest.fixture
def voices(tmp_path: Path) -> Callable[[list[int]], Path]:
    """A function that makes a folder of recordings 00.wav, 01.wav, ... of so many samples at 8 kHz."""

    def make(lengths: list[int]) -> Path:
        root = tmp_path / "voices"
        root.mkdir(exist_ok=True)
        for number, samples in enumerate(lengths):
            soundfile.write(root / f"{number:02}.wav", voice(samples, number), 8000)
        return root

    return make
