"""Negative log-likelihood over a split, exact under any batch size and any number of processes.

R replicas, B batch, N sequences.  Sums only, in float64: never a mean of means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torchmetrics import Metric


class NLL(Metric):
    """Nats and frames per replica, summed over sequences as they come: memory does not grow with the split.

    `compute` gives float64 figures: `nll`, total nats over total frames, and `nll_sequence`, the mean over
    sequences of each one's nats per frame.  An empty slot has 0 frames and counts nowhere.
    """

    full_state_update = False
    sums: Tensor

    def __init__(self, replicas: int) -> None:
        super().__init__()
        # [4, R]: nats, frames, sequences' means, sequences.
        self.add_state("sums", torch.zeros(4, replicas, dtype=torch.float64), dist_reduce_fx="sum")

    def _apply(self, fn: Any, exclude_state: Sequence[str] = ()) -> Self:
        """Moves with its model; in float64 whatever the model's precision is."""
        super()._apply(fn, exclude_state)
        self.sums = self.sums.double()
        self._defaults["sums"] = torch.zeros_like(self.sums)
        return self

    def update(self, nats: Tensor, frames: Tensor) -> None:
        """Adds sequences: nats [R, B] and frames [R, B], or [1, B] where all replicas see the same."""
        nats, frames = nats.double(), frames.double().expand(nats.shape)
        self.sums += torch.stack([nats, frames, nats / frames.clamp_min(1), frames.clamp_max(1)]).sum(-1)

    def compute(self) -> dict[str, Tensor]:
        """[R] each; torchmetrics makes scalars of them where R is 1."""
        nats, frames, means, sequences = self.sums
        return {"nll": nats / frames, "nll_sequence": means / sequences}

    def per_replica(self) -> Tensor:
        """`nll` as [R] on the CPU, whatever R is."""
        return self.compute()["nll"].reshape(-1).cpu()


class Kept:
    """What is told of each sequence of a split, in one place that is doubled when it is full.

    Small tensors kept from batch to batch would lie between the large ones that a batch frees: glibc's heap then grows
    with every batch, by 7 MB at the sizes of the Penn Treebank.
    """

    def __init__(self) -> None:
        self._table: Tensor | None = None
        self._count = 0

    def add(self, *columns: Tensor) -> None:
        """Columns [R, B], the same ones at every call; in float64, which holds counts and indices as they are."""
        rows = torch.stack([column.double() for column in columns])
        end = self._count + rows.shape[-1]
        if self._table is None or end > self._table.shape[-1]:
            grown = rows.new_zeros(*rows.shape[:-1], max(1024, 2 * end))
            if self._table is not None:
                grown[..., : self._count] = self._table[..., : self._count]
            self._table = grown
        self._table[..., self._count : end] = rows
        self._count = end

    def columns(self) -> tuple[Tensor, ...]:
        """[R, N] each, in the order of the calls."""
        assert self._table is not None, "nothing was added"
        return self._table[..., : self._count].unbind()


class Wrong(Metric):
    """How many guesses on a split are wrong, for each replica."""

    full_state_update = False
    wrong: Tensor

    def __init__(self, replicas: int) -> None:
        super().__init__()
        self.add_state("wrong", torch.zeros(replicas, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, right: Tensor, of: Tensor) -> None:
        """Adds sequences: so many guesses are right [R, B], of so many [R, B]."""
        self.wrong += (of - right).sum(1)

    def compute(self) -> Tensor:
        """[R]; torchmetrics makes a scalar of it where R is 1."""
        return self.wrong

    def per_replica(self) -> Tensor:
        """[R] on the CPU."""
        found: Tensor = self.compute()
        return found.reshape(-1).cpu()
