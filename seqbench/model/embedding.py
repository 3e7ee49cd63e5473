"""Inputs that are ids: each replica looks them up in a table of its own.

T time, R replicas, B batch, S ids of a step, D numbers of an id's vector, so I = S D inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seqbench.cells import Weight


def embedding_weights(vocabulary: int, size: int) -> dict[str, Weight]:
    """E [vocabulary, D]; {} where there is no vocabulary. Weight noise is for the recurrent layers."""
    return {"E": Weight((vocabulary, size), "uniform", noisy=False)} if vocabulary else {}


def embed(ids: Tensor, E: Tensor) -> Tensor:
    """The rows of E [R, V, D] that ids [T, R or 1, B, S] int64 name, those of a step side by side: [T, R, B, I]."""
    R, V, D = E.shape
    rows = ids + V * torch.arange(R, device=ids.device)[:, None, None]
    return F.embedding(rows, E.reshape(R * V, D)).flatten(-2)
