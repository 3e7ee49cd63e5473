"""Long lags with symbols: which of two sequences it was, in which order marks came, and copying.  T time."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.random import RandomState

from seqbench.datamodules.lags import Lags, Steps, at_least, integer, last_scored
from seqbench.task import SeqbenchError


class TemporalOrder(Lags):
    """In which order marks came (Hochreiter & Schmidhuber 1997, experiments 6a and 6b).

    A start symbol, then one of four distractors a step, but a mark, X or Y, at each of two or three places, then an end
    symbol, after which the answer is which marks came in which order: one of four or eight classes. T is drawn from
    `length` to 1.1 `length`; at length 100 two marks are at steps 10 to 20 and 50 to 60, three at 10 to 20, 33 to 43
    and 66 to 76.

    Args:
        **options: As in Lags.
        length: The least T.
        marks: 2 (experiment 6a) or 3 (6b).

    Raises:
        SeqbenchError: as in Lags, a length below 20, or other marks.
    """

    name = "temporal_order"
    title = "Temporal order"
    origin = "made up from a seed (Hochreiter & Schmidhuber 1997)"
    counts: ClassVar[dict[str, int]] = {"train": 10_000, "valid": 512, "test": 2560}
    longest = 110
    input_size = 8
    head = "Certain"
    symbols = 8
    PLACES: ClassVar[dict[int, tuple[int, ...]]] = {2: (10, 50), 3: (10, 33, 66)}  # the earliest, in percent of length

    def __init__(self, *arguments: Any, length: int = 100, marks: int = 2, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if marks not in self.PLACES:
            raise SeqbenchError(f"marks is {marks}: give 2 or 3")
        self.length, self.marks = at_least("length", length, 20), marks
        self.longest, self.classes = length + length // 10, 2**marks

    @property
    def shape(self) -> str:
        return f"{self.length} {self.marks}"

    def sequence(self, number: int, g: RandomState) -> Steps:
        T = integer(self.length, self.longest, g)
        ids = g.randint(4, size=(T, 1))  # 0 to 3 distract; 4 is X, 5 Y, 6 the start, 7 the end
        ids[0], ids[-1] = 6, 7
        answer = 0
        for place in self.PLACES[self.marks]:
            mark = integer(0, 1, g)
            ids[integer(place * self.length // 100, (place + 10) * self.length // 100, g)] = 4 + mark
            answer = 2 * answer + mark
        return last_scored(ids, answer)


class TwoSequences(Lags):
    """Which of two symbols a sequence began with (Hochreiter & Schmidhuber 1997, experiments 2a, 2b, 2c).

    noise none (2a): x or y, then a_1, ..., a_{p-1}, always the same; after them the answer, x or y.
    noise symbols (2b): as 2a, but each a is drawn from all p - 1.
    noise lags (2c): b, then x or y, then p drawn from p distractors, then each time with probability 0.9 another one,
    else e, after which comes the answer.

    The answer alone is scored (in the papers 2a and 2b predict the symbols between, too). Half of the sequences of each
    split begin with x; in 2a there are but two different ones.

    Args:
        **options: As in Lags.
        lag: p, about how many steps lie between.
        noise: Which experiment.

    Raises:
        SeqbenchError: as in Lags, a lag below 2, or another noise.
    """

    name = "two_sequences"
    title = "Two sequences with a lag"
    origin = "made up from a seed (Hochreiter & Schmidhuber 1997)"
    counts: ClassVar[dict[str, int]] = {"train": 1000, "valid": 100, "test": 500}
    longest = 100
    input_size = 101
    head = "Certain"
    classes = 2
    solved = 1.0

    def __init__(
        self,
        *arguments: Any,
        lag: int = 100,
        noise: Literal["none", "symbols", "lags"] = "none",
        sequences: int = 1000,
        test_sequences: int = 500,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, sequences=sequences, test_sequences=test_sequences, **options)
        if noise not in ("none", "symbols", "lags"):
            raise SeqbenchError(f"noise is {noise!r}: give none, symbols or lags")
        self.lag, self.noise = at_least("lag", lag, 2), noise
        self.symbols = self.input_size = lag + (4 if noise == "lags" else 1)
        self.longest = lag

    @property
    def shape(self) -> str:
        return f"{self.lag} {self.noise}"

    def sequence(self, number: int, g: RandomState) -> Steps:
        p, answer = self.lag, number % 2
        distractors = np.arange(p - 1)
        if self.noise == "symbols":
            distractors = g.randint(p - 1, size=p - 1)
        if self.noise != "lags":  # x is p - 1, y p
            return last_scored(np.concatenate([[p - 1 + answer], distractors])[:, None], answer)
        distractors = g.randint(p, size=p + g.geometric(0.1) - 1)
        e, b, x = p, p + 1, p + 2
        return last_scored(np.concatenate([[b, x + answer], distractors, [e]])[:, None], answer)


class Copying(Lags):
    """Copying (Arjovsky et al. 2016, arXiv 1511.06464, after Hochreiter & Schmidhuber 1997).

    Ten symbols of eight, `lag` - 1 blanks, a sign, ten blanks: at the last ten steps the ten symbols are wanted, in
    order. These steps alone are scored (in the paper all are, and blanks wanted before). Solved: 99% of the symbols.

    Args:
        **options: As in Lags.
        lag: Steps from the last symbol to the first answer.

    Raises:
        SeqbenchError: as in Lags, and a lag below 1.
    """

    name = "copying"
    title = "Copying"
    origin = "made up from a seed (Arjovsky et al. 2016)"
    counts: ClassVar[dict[str, int]] = {"train": 10_000, "valid": 512, "test": 2560}
    longest = 120
    input_size = 10
    head = "Categorical"
    symbols = 10
    classes = 8
    WANTED: ClassVar[int] = 10

    def __init__(self, *arguments: Any, lag: int = 100, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.lag = at_least("lag", lag, 1)
        self.longest = lag + 2 * self.WANTED

    @property
    def shape(self) -> str:
        return f"{self.lag}"

    def sequence(self, number: int, g: RandomState) -> Steps:
        n = self.WANTED
        wanted = g.randint(self.classes, size=n)
        steps = np.zeros((self.longest, 3), np.float32)
        steps[:, 0] = 8  # a blank
        steps[:n, 0] = wanted
        steps[n + self.lag - 1, 0] = 9  # the sign
        steps[-n:, 1], steps[-n:, 2] = wanted, 1
        return steps
