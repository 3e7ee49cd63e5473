"""All memory that is handed out is full of NaN: what is read before it is written shows in a figure.

And torch has as many threads after a test as before it.
"""

import gc
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from seqbench import cli, record
from seqbench.kernels.cpu import pool

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or a GPU's products are refused by the mode below


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch.empty and its like by torch's own mode for it; buffers that are used again by hand."""
    take, own = pool.take, pool.own
    monkeypatch.setattr(pool, "take", lambda *shape: take(*shape).fill_(math.nan))
    monkeypatch.setattr(pool, "own", lambda size: own(size).fill_(math.nan))
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def threads_kept() -> Iterator[None]:
    """Two that a test asked for would slow all tests after it in its process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


BASE = ["-c", "synthetic", "-c", "chung2014", "--model.hidden", "5"]


@pytest.fixture
def seqbench(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The command line."""

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["seqbench", *arguments])
        cli.main()

    return run


@pytest.fixture
def fit(
    seqbench: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., dict[str, record.Record]]:
    """Trains in a folder of its own and returns the records by folder name."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, unit: str = "GRU", epochs: int = 3) -> dict[str, record.Record]:
        seqbench("fit", *BASE, "--model.cell", unit, "--trainer.max_epochs", str(epochs), *arguments)
        return {path.parent.name: record.load(path) for path in tmp_path.glob("runs/*/record.json")}

    return run


@pytest.fixture
def refusal(seqbench: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line that a refused command prints."""

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            seqbench(*arguments)
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("seqbench: error: ")
        return line

    return run


@pytest.fixture
def told() -> Iterator[None]:
    """SIGHUP is followed, also where whoever started the tests had it ignored, as nohup does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, empty; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    gc.collect()  # classes are found by their short names as long as they are there
