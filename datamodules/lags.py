"""Long lags: made-up tasks whose answer waits many steps for what it depends on, as their papers define them.

A sequence has inputs, targets and the steps that are scored: one at the end, some, or all. Those of a split are a
function of the data's seed, and more of them begin with the same. A run ends once all guesses on the validation split
are right.
Shapes: T time, R replicas, B batch, I inputs, K targets, F frames.
"""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import RandomState
from numpy.typing import NDArray
from torch import Tensor

from seqbench.datamodules.base import SPLITS, SequenceData, Sequences, Split
from seqbench.task import SIGMA, Batch, Score, SeqbenchError, Task, draw_seed

Steps = NDArray[np.float32]  # [T, inputs + targets + 1]


class Lags(SequenceData[Sequences]):
    """A task of long lags; a subclass draws one sequence.

    Args:
        batch_size: As in SequenceData.
        order: As in SequenceData.
        seeds: As in SequenceData.
        sequences: In the train split.
        test_sequences: In the test split; valid has a fifth of them, 2 at least.
        data_seed: Another seed is another data set.

    Attributes:
        head: Of the task.
        targets: Columns of a target.
        classes: Of the target, which is an id then; 0: numbers.
        symbols: That an input is one of, given as its id and shown as a one in I columns; 0: inputs are numbers.
        solved: As in Task.

    Raises:
        SeqbenchError: as in SequenceData, and sizes that give no sequences.
    """

    head: ClassVar[Literal["Categorical", "Certain", "Grammar", "Gaussian"]]
    targets: ClassVar[int] = 1
    classes: int = 0
    symbols: int = 0
    solved: ClassVar[float] = 0.99

    def __init__(
        self,
        batch_size: int = 16,
        order: Literal["bucketed", "shuffled"] = "bucketed",
        seeds: list[int] | None = None,
        *,
        sequences: int = 10_000,
        test_sequences: int = 2560,
        data_seed: int = 0,
    ) -> None:
        super().__init__(batch_size, order, seeds)
        if sequences < 1 or test_sequences < 1:
            raise SeqbenchError(f"sequences is {sequences}, test_sequences {test_sequences}: give 1 or more of each")
        self.sequences, self.test_sequences, self.data_seed = sequences, test_sequences, data_seed

    @property
    @abstractmethod
    def shape(self) -> str:
        """The options that decide the sequences, but for their number and seed."""

    @abstractmethod
    def sequence(self, number: int, g: RandomState) -> Steps:
        """Sequence `number` of a split, counted from 0: in the last column 1 where the step is scored.

        g: for all that is drawn; numpy's older generator, as its numbers will not change.
        """

    @property
    def task(self) -> Task:
        drawn = f"{self.name} 1 {self.shape} {self.sequences} {self.test_sequences} {self.data_seed}"
        digest = hashlib.sha256(drawn.encode()).hexdigest()
        size = self.classes or self.targets
        return Task(self.name, self.input_size, size, self.head, "nats/target", digest, solved=self.solved)

    @property
    def sizes(self) -> dict[Split, int]:
        """Sequences of each split."""
        return {"train": self.sequences, "valid": max(2, self.test_sequences // 5), "test": self.test_sequences}

    def store(self) -> dict[Split, Sequences]:
        return {split: Sequences.pack(self.drawn(split)) for split in SPLITS}

    def generator(self, split: Split) -> RandomState:
        """For all sequences of a split, one after the other."""
        return RandomState(draw_seed(self.data_seed, f"{self.name} {split}"))

    def drawn(self, split: Split) -> list[Tensor]:
        """All sequences of a split."""
        g = self.generator(split)
        return [torch.from_numpy(self.sequence(n, g)) for n in range(self.sizes[split])]

    def gather(self, split: Split, index: Tensor) -> Batch:
        frames, present, lengths = self.splits[split].gather(index)
        x, y, scored = frames.split([frames.shape[-1] - self.targets - 1, self.targets, 1], -1)
        if self.symbols:
            x = F.one_hot(x[..., 0].long(), self.symbols).float()
        return Batch(x, y, scored[..., 0].bool() & present, index.to(frames.device), lengths)

    def floors(self) -> dict[str, Score]:
        """Needs `setup`. "constant": the train split's frequencies of classes, or its mean with a deviation of 0.04."""
        train, test = (self._scored(split)[0].double() for split in ("train", "test"))
        if self.classes:
            counts = torch.bincount(train[:, 0].long(), minlength=self.classes) + 1.0
            nats = -(counts / counts.sum()).log()[test[:, 0].long()]
        else:
            nats = (0.5 * ((test - train.mean(0)) / SIGMA) ** 2 + math.log(SIGMA * math.sqrt(2 * math.pi))).sum(-1)
        lengths = self._scored("test")[1]
        means = torch.stack([part.mean() for part in nats.split(lengths)])
        return {"constant": Score(round(float(nats.mean()), 9), round(float(means.mean()), 9), None)}

    def _scored(self, split: Split) -> tuple[Tensor, list[int]]:
        """The targets that are scored, one after the other, and how many each sequence has."""
        held = self.splits[split].to(torch.device("cpu"))
        frames = held.frames[:-1]
        scored = frames[:, -1].bool()
        counts = [int(part.sum()) for part in scored.split(held.lengths.tolist())]
        return frames[scored][:, -1 - self.targets : -1], counts


def integer(low: int, high: int, g: RandomState) -> int:
    """One of low, ..., high."""
    return int(g.randint(low, high + 1))


def last_scored(inputs: NDArray[Any], target: float) -> Steps:
    """A sequence from inputs [T, inputs], with one target, scored at the last step."""
    answer = np.zeros((len(inputs), 2))
    answer[-1] = target, 1
    return np.concatenate([inputs, answer], 1, dtype=np.float32)


def at_least(name: str, value: int, least: int) -> int:
    """The value.

    Raises:
        SeqbenchError: it is less.
    """
    if value < least:
        raise SeqbenchError(f"{name} is {value}: give {least} or more")
    return value
