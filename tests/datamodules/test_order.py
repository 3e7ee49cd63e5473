"""Batch order: every sequence once, replicas equal to solo runs, buckets common to all, shares that fit together."""

from __future__ import annotations

import pytest
import torch

from seqbench.datamodules.order import EVALUATION_FRAMES, TrainOrder, buckets, epoch_order, evaluation_order, share

LENGTHS = torch.randint(2, 400, (103,), generator=torch.Generator().manual_seed(0))
SEEDS = [5, 0, 11, 2]


def epoch(order: str, seeds: list[int], number: int, lengths: torch.Tensor = LENGTHS) -> list[torch.Tensor]:
    loader = TrainOrder(lengths, 8, order, seeds)
    loader.sampler.set_epoch(number)
    batches = list(loader)
    assert len(batches) == len(loader)
    return batches


@pytest.mark.parametrize("order", ["bucketed", "shuffled"])
def test_every_sequence_once_per_replica_and_epoch(order):
    for number in range(3):
        together = torch.cat(epoch(order, SEEDS, number), dim=1)
        assert together.shape == (4, 103)
        assert (together.sort(1).values == torch.arange(103)).all()


@pytest.mark.parametrize("order", ["bucketed", "shuffled"])
def test_a_row_is_the_solo_order_of_its_seed(order):
    group = epoch(order, SEEDS, 4)
    for row, seed in enumerate(SEEDS):
        for together, solo in zip(group, epoch(order, [seed], 4), strict=True):
            assert torch.equal(together[row], solo[0])


@pytest.mark.parametrize("order", ["bucketed", "shuffled"])
def test_reproducible_and_new_each_epoch_and_seed(order):
    def flat(seed: int, number: int) -> list[int]:
        return torch.cat(epoch(order, [seed], number), dim=1).flatten().tolist()

    assert flat(1, 2) == flat(1, 2)
    assert flat(1, 2) != flat(1, 3)
    assert flat(1, 2) != flat(2, 2)


def test_bucketed_replicas_meet_the_same_bucket_at_every_step():
    bucket = buckets(LENGTHS, 8, "bucketed")
    assert 1 < int(bucket.max()) + 1 < 13
    for batch in epoch_order(bucket, 8, SEEDS, 0):
        counts = [bucket[row].bincount(minlength=int(bucket.max()) + 1).tolist() for row in batch]
        assert all(c == counts[0] for c in counts)
    steps = [int(bucket[batch[0, 0]]) for batch in epoch_order(bucket, 8, SEEDS, 0)]
    assert steps != sorted(steps), "batches of several buckets are mixed"


def test_buckets_hold_whole_batches_of_falling_length():
    bucket = buckets(LENGTHS, 8, "bucketed")
    sizes = bucket.bincount()
    assert (sizes[:-1] % 8 == 0).all()
    for shorter in range(1, len(sizes)):
        assert LENGTHS[bucket == shorter].max() <= LENGTHS[bucket == shorter - 1].min()


@pytest.mark.parametrize(
    ("name", "bound", "shuffled"),
    [("jsb", 1.25, 2), ("nottingham", 1.4, 4), ("musedata", 1.3, 6), ("piano_midi", 1.6, 4)],
)
def test_padding_of_the_canonical_sets(canonical, name, bound, shuffled):
    lengths = canonical(name).splits["train"].lengths

    def ratio(order: str, replicas: int) -> float:
        padded = real = 0
        for number in range(5):
            for batch in epoch_order(buckets(lengths, 16, order), 16, range(replicas), number):
                padded += int(lengths[batch].max()) * batch.numel()
                real += int(lengths[batch].sum())
        return padded / real

    for replicas in (1, 4, 10):
        assert 1 < ratio("bucketed", replicas) < bound
    assert ratio("shuffled", 10) > shuffled


def test_evaluation_has_every_sequence_once_in_bounded_batches():
    lengths = torch.cat([LENGTHS, torch.tensor([EVALUATION_FRAMES + 1, 1])])
    batches = evaluation_order(lengths)
    assert sorted(torch.cat(batches, dim=1).flatten().tolist()) == list(range(105))
    assert batches[0].tolist() == [[103]]
    assert all(int(lengths[b].max()) * b.numel() <= EVALUATION_FRAMES for b in batches[1:])


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_shares_of_a_batch_make_the_batch(world_size):
    for batch in [*epoch("shuffled", SEEDS, 0), *evaluation_order(LENGTHS)]:
        shares = [share(batch, rank, world_size) for rank in range(world_size)]
        assert len({s.shape for s in shares}) == 1
        for row in range(len(batch)):
            filled = torch.cat([s[row] for s in shares])
            assert sorted(filled[filled >= 0].tolist()) == sorted(batch[row].tolist())
