"""The embedded Reber grammar, string by string or as an endless stream.  T time, N sequences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor

from seqbench.datamodules.base import SPLITS, Sequences, Split
from seqbench.datamodules.lags import Lags, Steps, at_least, integer
from seqbench.task import SeqbenchError, Task

SYMBOLS = "BTPSXVE"
# For each node of Reber's grammar what may come, and where it leads; after the E of node 6 nothing.
REBER: tuple[dict[str, int], ...] = (
    {"B": 1}, {"T": 2, "P": 3}, {"S": 2, "X": 4}, {"T": 3, "V": 5}, {"X": 3, "S": 6}, {"P": 4, "V": 6}, {"E": 7}, {},
)  # fmt: skip
WINDOW = 1000  # steps of an evaluation batch; its states go on, so no figure depends on it
Step = tuple[str, str]  # a symbol, and those that could have come there


def embedded_string(g: RandomState) -> list[Step]:
    """One string: B, T or P, a string of Reber's grammar, the same T or P again, E."""
    wrapped = "TP"[integer(0, 1, g)]
    steps = [("B", "B"), (wrapped, "TP")]
    node = 0
    while REBER[node]:
        legal = list(REBER[node])
        symbol = legal[integer(0, len(legal) - 1, g)]
        steps.append((symbol, "".join(legal)))
        node = REBER[node][symbol]
    return [*steps, (wrapped, wrapped), ("E", "E")]


class EmbeddedReber(Lags):
    """Embedded Reber grammar (Hochreiter & Schmidhuber 1997, experiment 1): each next symbol of a string.

    256 strings to train on, drawn; 256 other ones to test with. A prediction is right where the legal next symbols are
    the likeliest, and the task is solved where all of a test set are right (in the paper: of both sets).

    Args:
        **options: As in Lags.

    Raises:
        SeqbenchError: as in Lags, and more strings than can be told apart from those of train.
    """

    name = "reber"
    title = "Embedded Reber grammar"
    origin = "made up from a seed (Hochreiter & Schmidhuber 1997)"
    counts: ClassVar[dict[str, int]] = {"train": 256, "valid": 51, "test": 256}
    longest = 40
    input_size = 7
    head = "Grammar"
    targets = 2
    classes = symbols = 7
    solved = 1.0

    def __init__(self, *arguments: Any, sequences: int = 256, test_sequences: int = 256, **options: Any) -> None:
        super().__init__(*arguments, sequences=sequences, test_sequences=test_sequences, **options)

    @property
    def shape(self) -> str:
        return ""

    def sequence(self, number: int, g: RandomState) -> Steps:
        return as_steps(embedded_string(g))

    def store(self) -> dict[Split, Sequences]:
        """No string of train is in valid or test."""
        train = self.drawn("train")
        trained = set(map(_ids, train))
        splits: dict[Split, Sequences] = {"train": Sequences.pack(train)}
        for split in SPLITS[1:]:
            g = self.generator(split)
            found: list[Tensor] = []
            for _ in range(1000 * self.sizes[split]):
                if _ids(sequence := torch.from_numpy(self.sequence(0, g))) not in trained:
                    found.append(sequence)
                if len(found) == self.sizes[split]:
                    break
            else:
                raise SeqbenchError("train has nearly all strings of the grammar: give fewer --data.sequences")
            splits[split] = Sequences.pack(found)
        return splits


class ContinualReber(Lags):
    """The continual embedded Reber grammar (Gers et al. 2000): strings in a stream that is never reset.

    A unit that cannot forget has its memory filled. Training reads `batch_size` streams side by side, window by window,
    and each window goes on with the states that the one before it ended with; they begin at zero with each epoch, which
    reads the same streams. A prediction is right as in EmbeddedReber, and the task is solved where all of the test
    streams are (in the paper: ten streams of a million symbols, and training streams that end at the first error).

    Args:
        batch_size: Streams of train.
        order: As in Lags; the windows stand in the streams' order, whatever it is.
        seeds: As in Lags.
        length: Symbols predicted of each stream of train.
        window: Of these, how many a training batch has, beyond which no gradient goes. What is counted as sequences
            is windows.
        test_length: Symbols predicted of each stream of valid and of test, in windows of a thousand.
        test_sequences: Streams of test, and as many of valid.
        data_seed: As in Lags.

    Raises:
        SeqbenchError: as in Lags, and lengths or a window below 1.
    """

    name = "continual_reber"
    title = "Continual embedded Reber grammar"
    origin = "made up from a seed (Gers et al. 2000)"
    counts: ClassVar[dict[str, int]] = {"train": 2000, "valid": 100, "test": 100}
    longest = 1000
    input_size = 7
    head = "Grammar"
    targets = 2
    classes = symbols = 7
    solved = 1.0

    def __init__(
        self,
        batch_size: int = 20,
        order: Literal["bucketed", "shuffled"] = "bucketed",
        seeds: list[int] | None = None,
        *,
        length: int = 10_000,
        window: int = 100,
        test_length: int = 10_000,
        test_sequences: int = 10,
        data_seed: int = 0,
    ) -> None:
        super().__init__(
            batch_size, order, seeds, sequences=batch_size, test_sequences=test_sequences, data_seed=data_seed
        )
        self.length, self.window = at_least("length", length, 1), at_least("window", window, 1)
        self.test_length = at_least("test_length", test_length, 1)
        self.longest = max(min(window, length), min(WINDOW, test_length))

    @property
    def shape(self) -> str:
        return f"{self.length} {self.window} {self.test_length}"

    @property
    def task(self) -> Task:
        return replace(super().task, carried=True)

    @property
    def sizes(self) -> dict[Split, int]:
        """Streams of each split. As many of valid as of test: a few show too few of a unit's errors."""
        return {"train": self.batch_size, "valid": self.test_sequences, "test": self.test_sequences}

    def drawn(self, split: Split) -> list[Tensor]:
        """Window 0 of all streams, then window 1 of all, and so on."""
        g = self.generator(split)
        length, window = (self.length, self.window) if split == "train" else (self.test_length, WINDOW)
        streams = [torch.from_numpy(stream(length, g)) for _ in range(self.sizes[split])]
        return [each[begin : begin + window] for begin in range(0, length, window) for each in streams]

    def sequence(self, number: int, g: RandomState) -> Steps:
        return stream(self.length, g)

    def streams(self, split: Split) -> int:
        return self.sizes[split]


def stream(length: int, g: RandomState) -> Steps:
    """So many steps of strings one after the other."""
    steps: list[Step] = []
    while len(steps) <= length:
        steps += embedded_string(g)
    return as_steps(steps[: length + 1])


def as_steps(steps: list[Step]) -> Steps:
    """[T, 4]: each symbol but the last; the next one, the legal ones as bits, and 1, as every step is scored."""
    ids = [SYMBOLS.index(symbol) for symbol, _ in steps]
    legal = [sum(1 << SYMBOLS.index(symbol) for symbol in symbols) for _, symbols in steps]
    return np.array([ids[:-1], ids[1:], legal[1:], [1] * (len(ids) - 1)], np.float32).T.copy()


def _ids(sequence: Tensor) -> tuple[float, ...]:
    """A string's symbols but the last, which is always E."""
    return tuple(sequence[:, 0].tolist())
