"""Inputs that are ids: each replica looks them up in a table of its own.  T time, R replicas, B batch, I inputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seqbench.cells import Weight


def embedding_weights(vocabulary: int, size: int) -> dict[str, Weight]:
    """E [vocabulary, I]; {} where there is no vocabulary. Weight noise is for the recurrent layers."""
    return {"E": Weight((vocabulary, size), "uniform", noisy=False)} if vocabulary else {}


def embed(ids: Tensor, E: Tensor) -> Tensor:
    """The rows of E [R, V, I] that ids [T, R or 1, B, 1] int64 name: [T, R, B, I]."""
    R, V, I = E.shape
    rows = ids[..., 0] + V * torch.arange(R, device=ids.device)[:, None]
    return F.embedding(rows, E.reshape(R * V, I))
