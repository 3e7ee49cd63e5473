"""Which sequences stand side by side in which batch: functions of lengths, seeds and the epoch, with no state kept.

Shapes: N sequences of a split, R replicas, B batch. Batches are int64 indices [R, B], -1 an empty slot.
All draws come from seqbench.task.generator(seed, purpose, epoch), so row k of a group is the order of a solo
run with seed k, and nothing is stored in a checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from seqbench.task import generator

# A bucket takes in another batch of shorter sequences while its padding stays below this, so it is as large, and its
# order as free, as the lengths allow. Padded over real frames on the canonical train sets, batch 16, 10 replicas:
# JSB 1.20, Nottingham 1.30, MuseData 1.23, Piano-midi.de 1.50 (87 sequences: single batches cost 1.46), where one
# permutation per replica ("shuffled") costs 2.1, 4.3, 6.8 and 4.3.
BUCKET_PADDING = 1.25
# An evaluation batch holds at most this many padded frames (one sequence at least): enough to fill a device, and
# bounded for sets whose longest sequence has thousands of frames.
EVALUATION_FRAMES = 2**15


def buckets(lengths: Tensor, batch_size: int, order: str) -> Tensor:
    """Each sequence's bucket, 0 holding the longest: a function of the lengths alone, the same for every replica.

    Args:
        lengths: [N] int64.
        batch_size: B.
        order: "bucketed", or "shuffled": one bucket for all.

    Returns:
        [N] int64.
    """
    bucket = torch.zeros_like(lengths)
    if order == "shuffled":
        return bucket
    falling, place = torch.sort(lengths, descending=True, stable=True)
    start, number = 0, 0
    while start < len(lengths):
        end = start + batch_size
        while end < len(lengths) and _padding(falling[start : end + batch_size]) <= BUCKET_PADDING:
            end += batch_size
        bucket[place[start:end]] = number
        start, number = end, number + 1
    return bucket


def _padding(lengths: Tensor) -> float:
    """Padded over real frames."""
    return len(lengths) * int(lengths.max()) / int(lengths.sum())


def epoch_order(bucket: Tensor, batch_size: int, seeds: Sequence[int], epoch: int) -> list[Tensor]:
    """One epoch's batches: every sequence once in every row.

    Inside a bucket the order comes from the replica's seed. Batches of several buckets are mixed by one draw
    that is common to all seeds, so replicas always meet sequences of about equal length at the same step.

    Args:
        bucket: [N] int64, from `buckets`.
        batch_size: B.
        seeds: R seeds.
        epoch: The epoch, from 0.

    Returns:
        ceil(N / B) tensors [R, B] int64; the one that holds the rest (of the shortest sequences) is narrower.
    """
    rows = []
    for seed in seeds:
        shuffled = torch.randperm(len(bucket), generator=generator(seed, "order", epoch))
        rows.append(shuffled[torch.argsort(bucket[shuffled], stable=True)])
    batches = list(torch.stack(rows).split(batch_size, dim=1))
    if int(bucket.max()) > 0:
        mixed = torch.randperm(len(batches), generator=generator(0, "batches", epoch))
        batches = [batches[i] for i in mixed.tolist()]
    return batches


def evaluation_order(lengths: Tensor) -> list[Tensor]:
    """Every sequence once, longest first, in batches of at most EVALUATION_FRAMES padded frames.

    Args:
        lengths: [N] int64.

    Returns:
        Tensors [1, B] int64, B growing as sequences get shorter.
    """
    place = torch.argsort(lengths, descending=True, stable=True)
    batches, start = [], 0
    while start < len(place):
        width = max(1, EVALUATION_FRAMES // int(lengths[place[start]]))
        batches.append(place[None, start : start + width])
        start += width
    return batches


def share(batch: Tensor, rank: int, world_size: int) -> Tensor:
    """A process's slots of a batch: every world_size-th, filled up with empty slots so that all get equally many.

    Args:
        batch: [R, B] int64.
        rank: This process.
        world_size: All processes.

    Returns:
        [R, ceil(B / world_size)] int64.
    """
    if world_size == 1:
        return batch
    missing = -batch.shape[1] % world_size
    return torch.nn.functional.pad(batch, (0, missing), value=-1)[:, rank::world_size]


class TrainOrder:
    """The training batches of one epoch after another. Lightning calls `.sampler.set_epoch(epoch)` before each."""

    def __init__(
        self,
        lengths: Tensor,
        batch_size: int,
        order: str,
        seeds: Sequence[int],
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.bucket = buckets(lengths, batch_size, order)
        self.batch_size, self.seeds = batch_size, tuple(seeds)
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self.bucket) / self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        for batch in epoch_order(self.bucket, self.batch_size, self.seeds, self.epoch):
            yield share(batch, self.rank, self.world_size)


class EvaluationOrder:
    """The batches of a pass over a split, [1, B] each; under ddp each process takes its slots of each, none twice."""

    def __init__(self, batches: Sequence[Tensor], *, rank: int = 0, world_size: int = 1) -> None:
        self.batches = [share(batch, rank, world_size) for batch in batches]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.batches)
