"""Data sets as arrays, for those who train with something else: `seqbench.data("jsb").train[0]` is a roll [T, 88]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
import torch

from seqbench.datamodules import listing
from seqbench.datamodules.base import SequenceData, Split
from seqbench.task import Task


class Arrays(Sequence[np.ndarray]):
    """The sequences of a split, [T, I] float32 each, ids int64, in the data set's order.

    Attributes:
        targets: what is predicted at each step, [T, K] each. Where that is the next frame, a sequence [T, I] has all
            frames, and its targets are the T - 1 from the second on.
        scored: [T] bool each, as long as the targets: at which steps they count.
    """

    def __init__(
        self, data: SequenceData[Any], split: Split, of: Literal["inputs", "targets", "scored"] = "inputs"
    ) -> None:
        self._data, self._split, self._of = data, split, of

    @property
    def targets(self) -> Arrays:
        return Arrays(self._data, self._split, "targets")

    @property
    def scored(self) -> Arrays:
        return Arrays(self._data, self._split, "scored")

    def __len__(self) -> int:
        return len(self._data.splits[self._split].lengths)

    @overload
    def __getitem__(self, place: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, place: slice) -> list[np.ndarray]: ...
    def __getitem__(self, place: int | slice) -> np.ndarray | list[np.ndarray]:
        found = range(len(self))[place]
        return self._read(found) if isinstance(found, int) else [self._read(n) for n in found]

    def _read(self, n: int) -> np.ndarray:
        batch = self._data.gather(self._split, torch.tensor([[n]]))
        scored = batch.mask[:, 0, 0]
        frames = int(scored.nonzero().max()) + 1 if scored.any() else 0  # behind the last one nothing is
        x, y = batch.x[:, 0, 0], batch.y[:frames, 0, 0]
        if self._of == "scored":
            return scored[:frames].numpy()
        if self._of == "targets":
            return y.numpy()
        return torch.cat([x[:1], y]).numpy() if self._data.task.next_frame else x[:frames].numpy()


class DataSet:
    """A data set's three splits as arrays.

    Attributes:
        task: name, sizes, unit of the likelihood, and the digest of the data.
        train: as valid and test.
    """

    def __init__(self, data: SequenceData[Any]) -> None:
        self.task: Task = data.task
        self.train, self.valid, self.test = (Arrays(data, split) for split in ("train", "valid", "test"))


def data(name: str, **options: Any) -> DataSet:
    """The data set of that name, as `seqbench data list` has it, downloaded if need be.

    Args:
        name: in small letters, e.g. "jsb".
        **options: its constructor's, e.g. root="DIR" of wav_folder.

    Raises:
        SeqbenchError: no such data set, or its files cannot be had.
    """
    return DataSet(listing.loaded(name, **options))
