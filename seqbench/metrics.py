"""Negative log-likelihood over a split, exact under any batch size and any number of processes.

R replicas, B batch, N sequences.  Sums only, in float64: never a mean of means.
"""

from __future__ import annotations

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class NLL(Metric):
    """Nats and frames per replica, summed over sequences.

    `compute` gives float64 figures: `nll`, total nats over total frames, and `nll_sequence`, the mean over
    sequences of each one's nats per frame.  An empty slot has 0 frames and counts nowhere.
    """

    full_state_update = False
    nats: list[Tensor]
    frames: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        # Of each batch [B, R], added up when asked for: in every step it would cost a tenth of a millisecond.
        self.add_state("nats", [], dist_reduce_fx="cat")
        self.add_state("frames", [], dist_reduce_fx="cat")

    def update(self, nats: Tensor, frames: Tensor) -> None:
        """Adds sequences: nats [R, B] and frames [R, B], or [1, B] where all replicas see the same."""
        self.nats.append(nats.mT)
        self.frames.append(frames.expand(nats.shape).mT)

    def compute(self) -> dict[str, Tensor]:
        """[R] each; torchmetrics makes scalars of them where R is 1."""
        nats, frames = dim_zero_cat(self.nats).double(), dim_zero_cat(self.frames)  # [N, R]
        # A row for each replica, whose sum does not depend on how many are beside it.
        nats, frames = nats.mT.contiguous(), frames.mT.contiguous()
        means = (nats / frames.clamp_min(1)).sum(1) / (frames > 0).sum(1)
        return {"nll": nats.sum(1) / frames.sum(1), "nll_sequence": means}

    def per_replica(self) -> Tensor:
        """`nll` as [R] on the CPU, whatever R is."""
        return self.compute()["nll"].reshape(-1).cpu()
