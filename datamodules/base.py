"""What every data set is: splits of sequences kept once, batches of indices, gathered where the frames lie.

Shapes: T time, R replicas, B batch, I inputs, N sequences, F frames of a split.
Loaders yield indices [R, B] only; Lightning's `transfer_batch_to_device` turns them into a seqbench.task.Batch where
the frames already lie, so an epoch copies no data from host to device. There are no worker processes, hence none to
seed. A new data set is one new file with a subclass; name, title, origin, counts, longest, input_size and (where there
is a download) file are written there as literals, because listings read them without importing torch. Speech has counts
and longest by protocol.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, Self, TypeVar

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from seqbench.datamodules.gathering import copied, indexed
from seqbench.datamodules.order import EvaluationOrder, TrainOrder, evaluation_order
from seqbench.task import Batch, Score, SeqbenchError, Task

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


class Stored(Protocol):
    """How a data set keeps the sequences of a split: `Sequences` in memory, or a memory map."""

    @property
    def lengths(self) -> Tensor:
        """[N] int64, always on the CPU, so that sizing a batch waits for no device."""

    def to(self, device: torch.device) -> Self:
        """The same where `gather` shall work."""


S = TypeVar("S", bound=Stored)


class Sequences(NamedTuple):
    """The sequences of a split, end to end, without padding.

    Attributes:
        frames: [F + 1, I], the last row zeros: what padding points at.
        starts: [N] int64, each sequence's first row; where the frames are.
        lengths: [N] int64, always on the CPU, so that sizing a batch waits for no device.
    """

    frames: Tensor
    starts: Tensor
    lengths: Tensor

    @classmethod
    def pack(cls, sequences: Sequence[Tensor]) -> Sequences:
        """From N tensors [T, I] of one dtype."""
        lengths = torch.tensor([len(s) for s in sequences])
        frames = torch.cat([*sequences, torch.zeros_like(sequences[0][:1])])
        return cls(frames, lengths.cumsum(0) - lengths, lengths)

    def to(self, device: torch.device) -> Sequences:
        return Sequences(self.frames.to(device), self.starts.to(device), self.lengths)

    def gather(self, index: Tensor, at_least: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """Sequences side by side, zeros after their ends.

        Args:
            index: [R, B] int64, -1 an empty slot.
            at_least: The smallest T.

        Returns:
            frames [T, R, B, I] float32 and present [T, R, B] bool, T the longest of the batch; and, always on the CPU,
            lengths [R, B] int64, 0 of an empty slot.
        """
        way = copied if self.frames.device.type == "cpu" else indexed
        return way(*self, index, at_least)


class SequenceData(LightningDataModule, ABC, Generic[S]):
    """A data set of sequences, for Lightning's Trainer or a loop of one's own.

    `task` follows from the constructor's arguments; no file is touched before `prepare_data` (download, parse) and
    `setup` (load). A loop of one's own: `data.setup()`, then `data.gather("train", index)` for each index of
    `data.train_dataloader()`.

    Args:
        batch_size: B, sequences per step and replica. Evaluation sizes its batches by frames instead; no figure depends
            on that.
        order: "bucketed": sequences of about equal length side by side; with replicas this saves most of the padding.
            "shuffled": one permutation per seed and epoch (Chung et al. 2014).
        seeds: One seed per replica, for the order of its batches; None is [0]. The command line fills it in from the
            model.

    Raises:
        SeqbenchError: a batch size below 1, an unknown order, no seeds.
    """

    name: str
    title: str
    origin: str
    counts: ClassVar[dict[str, int]]
    longest: int
    input_size: int
    places: ClassVar[tuple[str, ...]] = ()  # arguments that say where files are, not what is in them

    def __init__(
        self,
        batch_size: int = 16,
        order: Literal["bucketed", "shuffled"] = "bucketed",
        seeds: list[int] | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise SeqbenchError(f"batch_size is {batch_size}: give 1 or more")
        if order not in ("bucketed", "shuffled"):
            raise SeqbenchError(f"order is {order!r}: give bucketed or shuffled")
        if seeds is not None and not seeds:
            raise SeqbenchError("seeds is empty: give one seed per replica")
        self.batch_size, self.order = batch_size, order
        self.seeds = [0] if seeds is None else list(seeds)
        self.splits: dict[Split, S] = {}

    @property
    @abstractmethod
    def task(self) -> Task:
        """What the data set promises a model."""

    @abstractmethod
    def store(self) -> dict[Split, S]:
        """All splits, read from the files.

        Raises:
            SeqbenchError: the files cannot be had, or are not what they should be.
        """

    @abstractmethod
    def gather(self, split: Split, index: Tensor) -> Batch:
        """The batch of these sequences, where the split's frames are.

        Args:
            split: "train", "valid" or "test".
            index: [R, B] int64, -1 an empty slot.
        """

    @abstractmethod
    def floors(self) -> dict[str, Score]:
        """What no model is needed for: scores on the test split from the train split's frequencies alone."""

    @property
    def scale(self) -> float | None:
        """What samples were divided by, in steps of 16 bits, known after `setup`; None where nothing was."""
        return None

    def report(self) -> dict[str, Any]:
        """What else was read from files of the user's own, by name, known after `setup`: plain values for a listing."""
        return {}

    @property
    def step_seconds(self) -> float | None:
        """How long a step lasts; None where nobody knows."""
        return None

    def spelled(self, x: Tensor) -> list[str] | None:
        """The token that inputs [T, I] are at each step; None where they are numbers. Needs the set's files."""
        return None

    def setup(self, stage: str | None = None) -> None:
        """Loads all splits, once, whatever the stage."""
        if not self.splits:
            self.splits = self.store()

    def ready(self) -> Self:
        """Itself, downloaded if need be, its splits in memory.

        Raises:
            SeqbenchError: what `store` raises.
        """
        self.prepare_data()
        self.setup()
        return self

    def move(self, split: Split, device: torch.device) -> None:
        """Puts a split's frames on a device, where `gather` then works; nothing happens if they are there."""
        self.splits[split] = self.splits[split].to(device)

    def streams(self, split: Split) -> int:
        """Where states are carried, how many streams a split is: its sequences are window 0 of each, window 1 of each,
        and so on. 0: they are not carried.
        """
        return 0

    def train_dataloader(self) -> TrainOrder | EvaluationOrder:
        """Of streams the same windows in the same order in every epoch and for every seed."""
        if self.streams("train"):
            return self.evaluation("train", **self._process())
        lengths = self.splits["train"].lengths
        return TrainOrder(lengths, self.batch_size, self.order, self.seeds, **self._process())

    def evaluation(self, split: Split, rank: int = 0, world_size: int = 1) -> EvaluationOrder:
        """One pass over a split to score it, or a process's share of it; of train too, of streams in that order."""
        lengths, streams = self.splits[split].lengths, self.streams(split)
        batches = list(torch.arange(len(lengths)).view(-1, 1, streams)) if streams else evaluation_order(lengths)
        return EvaluationOrder(batches, rank=rank, world_size=world_size)

    def val_dataloader(self) -> EvaluationOrder:
        return self.evaluation("valid", **self._process())

    def test_dataloader(self) -> EvaluationOrder:
        return self.evaluation("test", **self._process())

    def predict_dataloader(self) -> EvaluationOrder:
        return self.test_dataloader()

    def transfer_batch_to_device(self, batch: Tensor, device: torch.device, dataloader_idx: int) -> Batch:
        """Called by the Trainer with an index [R, B]; which split it points into follows from the Trainer's stage."""
        split = self._stage_split()
        self.move(split, device)
        return self.gather(split, batch)

    def _stage_split(self) -> Split:
        trainer = self.trainer
        assert trainer is not None, "only a Trainer transfers batches; call gather instead"
        if trainer.training:
            return "train"
        return "valid" if trainer.validating or trainer.sanity_checking else "test"

    def _process(self) -> dict[str, int]:
        """This process's rank and how many there are."""
        if self.trainer is None:
            return {"rank": 0, "world_size": 1}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
