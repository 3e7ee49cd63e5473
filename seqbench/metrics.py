"""Negative log-likelihood over a split, exact under any batch size and any number of processes.

R replicas, B batch.  Sums only, in float64 and int64: never a mean of means.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torchmetrics import Metric


class NLL(Metric):
    """Nats and frames per replica, summed over sequences.

    `compute` gives float64 figures: `nll`, total nats over total frames, and `nll_sequence`, the mean over
    sequences of each one's nats per frame.  An empty slot has 0 frames and counts nowhere.
    """

    full_state_update = False
    nats: Tensor
    frames: Tensor
    means: Tensor
    sequences: Tensor

    def __init__(self, replicas: int) -> None:
        """Args: replicas: R."""
        super().__init__()
        self.add_state("nats", torch.zeros(replicas, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("means", torch.zeros(replicas, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("frames", torch.zeros(replicas, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("sequences", torch.zeros(replicas, dtype=torch.int64), dist_reduce_fx="sum")

    def _apply(self, *arguments: Any, **keywords: Any) -> Module:
        """Moves between devices; a model in half precision still sums in float64."""
        super()._apply(*arguments, **keywords)
        for name in ("nats", "means"):
            setattr(self, name, getattr(self, name).double())
            self._defaults[name] = torch.zeros_like(getattr(self, name))
        return self

    def update(self, nats: Tensor, frames: Tensor) -> None:
        """Adds sequences: nats [R, B] and frames [R, B], or [1, B] where all replicas see the same."""
        nats = nats.double()
        frames = frames.expand(nats.shape)
        self.nats.add_(nats.sum(1))
        self.frames.add_(frames.sum(1))
        self.means.add_((nats / frames.clamp_min(1)).sum(1))
        self.sequences.add_((frames > 0).sum(1))

    def compute(self) -> dict[str, Tensor]:
        """[R] each; torchmetrics makes scalars of them where R is 1."""
        return {"nll": self.nats / self.frames, "nll_sequence": self.means / self.sequences}

    def per_replica(self) -> Tensor:
        """`nll` as [R] on the CPU, whatever R is."""
        return self.compute()["nll"].reshape(-1).cpu()
