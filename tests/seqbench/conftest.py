"""All memory that is handed out is full of NaN: what is read before it is written shows in a figure."""

import math
import os
from collections.abc import Iterator

import pytest
import torch

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
