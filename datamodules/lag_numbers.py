"""Long lags with numbers: adding and multiplication, and the delay between spikes.  T time."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.random import RandomState

from seqbench.datamodules.lags import Lags, Steps, at_least, integer, last_scored


class Adding(Lags):
    """The adding problem (Hochreiter & Schmidhuber 1997, experiment 4).

    A step is a pair: a number of [-1, 1] and a mark. Of the first ten pairs one is marked by 1, of the first T/2 - 1
    another one; the first and the last pair have a mark of -1, all others of 0. The answer, after the last pair, is
    0.5 + (X1 + X2) / 4 of the marked numbers; where the first pair was drawn, X1 is 0. It is right within 0.04. T is
    drawn from `length` to 1.1 `length`.

    Args:
        **options: As in Lags.
        length: The least T.

    Raises:
        SeqbenchError: as in Lags, and a length below 20.
    """

    name = "adding"
    title = "Adding problem"
    origin = "made up from a seed (Hochreiter & Schmidhuber 1997)"
    counts: ClassVar[dict[str, int]] = {"train": 10_000, "valid": 512, "test": 2560}
    longest = 110
    input_size = 2
    head = "Gaussian"
    lowest: ClassVar[float] = -1.0  # of the numbers

    def __init__(self, *arguments: Any, length: int = 100, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.length = at_least("length", length, 20)
        self.longest = length + length // 10

    @property
    def shape(self) -> str:
        return f"{self.length}"

    def sequence(self, number: int, g: RandomState) -> Steps:
        T = integer(self.length, self.longest, g)
        pairs = np.zeros((T, 2))
        pairs[:, 0] = g.uniform(self.lowest, 1.0, T)
        pairs[[0, -1], 1] = -1.0
        first = integer(0, 9, g)
        # The second is one of the others but the first pair, whose mark is taken.
        second = integer(1, T // 2 - 2, g)
        second += first > 0 and second >= first
        if first:
            pairs[first, 1] = 1.0
        pairs[second, 1] = 1.0
        return last_scored(pairs, self.answer(float(pairs[first, 0]) if first else None, float(pairs[second, 0])))

    def answer(self, first: float | None, second: float) -> float:
        """Of the marked numbers; None where the first pair was drawn."""
        return 0.5 + ((first or 0.0) + second) / 4


class Multiplication(Adding):
    """The multiplication problem (Hochreiter & Schmidhuber 1997, experiment 5): numbers of [0, 1], the answer X1 X2.

    All else is as in Adding; where the first pair was drawn, X1 is 1.
    """

    name = "multiplication"
    title = "Multiplication problem"
    lowest = 0.0

    def answer(self, first: float | None, second: float) -> float:
        return (1.0 if first is None else first) * second


class SpikeDelays(Lags):
    """Measuring spike delays (Gers, Schraudolph & Schmidhuber 2002, "MSD"), a task for peepholes.

    The input is 1 at a spike and 0 elsewhere; between one spike and the next are `delay` + D steps, D one of 0, ..., 9.
    At each spike but the first, D / 10 of the delay that ends there is the answer; right within 0.04 is right to the
    step. [The delays from memory of the paper.] A paper's stream is here a sequence of `spikes` delays.

    Args:
        **options: As in Lags.
        delay: The least delay, in steps.
        spikes: Delays of a sequence.

    Raises:
        SeqbenchError: as in Lags, and a delay or spikes below 1.
    """

    name = "spike_delays"
    title = "Measuring spike delays"
    origin = "made up from a seed (Gers et al. 2002)"
    counts: ClassVar[dict[str, int]] = {"train": 10_000, "valid": 512, "test": 2560}
    longest = 191
    input_size = 1
    head = "Gaussian"

    def __init__(self, *arguments: Any, delay: int = 10, spikes: int = 10, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.delay, self.spikes = at_least("delay", delay, 1), at_least("spikes", spikes, 1)
        self.longest = 1 + spikes * (delay + 9)

    @property
    def shape(self) -> str:
        return f"{self.delay} {self.spikes}"

    def sequence(self, number: int, g: RandomState) -> Steps:
        drawn = g.randint(10, size=self.spikes)
        ends = (self.delay + drawn).cumsum()
        steps = np.zeros((ends[-1] + 1, 3), np.float32)
        steps[0, 0] = 1
        steps[ends] = np.stack([np.ones(self.spikes), drawn / 10, np.ones(self.spikes)], 1)
        return steps
