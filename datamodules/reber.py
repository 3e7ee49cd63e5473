"""The embedded Reber grammar, string by string or as an endless stream.  T time, N sequences."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor

from seqbench.datamodules.base import SPLITS, Sequences, Split
from seqbench.datamodules.lags import Lags, Steps, at_least, integer
from seqbench.task import SeqbenchError

SYMBOLS = "BTPSXVE"
# For each node of Reber's grammar what may come, and where it leads; after the E of node 6 nothing.
REBER: tuple[dict[str, int], ...] = (
    {"B": 1}, {"T": 2, "P": 3}, {"S": 2, "X": 4}, {"T": 3, "V": 5}, {"X": 3, "S": 6}, {"P": 4, "V": 6}, {"E": 7}, {},
)  # fmt: skip
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

    A unit that cannot forget has its memory filled. Training streams are `length` symbols long, and those it is tested
    with `test_length`; a prediction is right as in EmbeddedReber, and the task is solved where all of the test streams
    are (in the paper: ten streams of a million symbols, and training streams that end at the first error).

    Args:
        **options: As in Lags.
        length: Symbols predicted of a stream in train.
        test_length: And in valid and test.

    Raises:
        SeqbenchError: as in Lags, and lengths below 1.
    """

    name = "continual_reber"
    title = "Continual embedded Reber grammar"
    origin = "made up from a seed (Gers et al. 2000)"
    counts: ClassVar[dict[str, int]] = {"train": 1000, "valid": 2, "test": 10}
    longest = 10_000
    input_size = 7
    head = "Grammar"
    targets = 2
    classes = symbols = 7
    solved = 1.0

    def __init__(
        self,
        *arguments: Any,
        length: int = 200,
        test_length: int = 10_000,
        sequences: int = 1000,
        test_sequences: int = 10,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, sequences=sequences, test_sequences=test_sequences, **options)
        self.length, self.test_length = at_least("length", length, 1), at_least("test_length", test_length, 1)
        self.longest = max(length, test_length)

    @property
    def shape(self) -> str:
        return f"{self.length} {self.test_length}"

    def drawn(self, split: Split) -> list[Tensor]:
        g, length = self.generator(split), self.length if split == "train" else self.test_length
        return [torch.from_numpy(stream(length, g)) for _ in range(self.sizes[split])]

    def sequence(self, number: int, g: RandomState) -> Steps:
        return stream(self.length, g)


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
