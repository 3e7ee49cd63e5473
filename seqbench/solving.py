"""Tasks of long lags as papers tell of them: how many runs solve one, and after how many sequences.

A run has solved its task where enough of its guesses on the test split are right (`Task.solved`). It stops once all on
the validation split are, so its sequences are those that it was trained on until then. Imports no torch.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from seqbench import record as rec

# What of a data set's options decides no task: who is trained how.
TRAINING = ("batch_size", "order", "sequences", "test_sequences", "data_seed")
LEAST = 6  # values that a 95% interval of a median needs


@dataclass(frozen=True)
class Solved:
    """How many of a unit's runs solved their task.

    Attributes:
        solved: of them.
        of: those that came to their end.
        taken: sequences of each that solved it, rising.
    """

    solved: int
    of: int
    taken: tuple[int, ...]

    @property
    def share(self) -> tuple[float, float]:
        """The share's exact 95% interval (Clopper and Pearson), in percent: it covers it whatever it is."""
        from scipy.stats import binomtest

        interval = binomtest(self.solved, self.of).proportion_ci()
        return 100 * float(interval.low), 100 * float(interval.high)

    @property
    def median(self) -> int | None:
        """Sequences until it was solved, over the runs that solved it."""
        return int(statistics.median(self.taken)) if self.taken else None

    @property
    def around(self) -> tuple[float, float] | None:
        """The median's 95% interval, by order statistics; None where there are fewer than six."""
        if len(self.taken) < LEAST:
            return None
        from scipy.stats import quantile_test

        found = quantile_test(self.taken, q=statistics.median(self.taken), p=0.5).confidence_interval()
        return float(found.low), float(found.high)


def count(runs: Iterable[rec.Record]) -> Solved:
    """Of runs of one unit on one task."""
    ended = [run for run in runs if rec.came_to_its_end(run)]
    solved = [run for run in ended if rec.solved(run)]
    return Solved(len(solved), len(ended), tuple(sorted(n for run in solved if (n := rec.sequences(run)) is not None)))


def options(run: rec.Record) -> dict[str, Any]:
    """What of the data's options decides the task, as far as it differs from the defaults."""
    given = run.config["data"].get("init_args") or {}
    return {key: value for key, value in sorted(given.items()) if key not in TRAINING}


def span(interval: tuple[float, float] | None, unit: str = "") -> str:
    """72 to 100%"""
    return "-" if interval is None else f"{interval[0]:,.0f} to {interval[1]:,.0f}{unit}"


@dataclass(frozen=True)
class Counted:
    """What a paper counted, all from memory of it.

    Attributes:
        unit: as the paper names it.
        solved: trials that solved it; None where the paper gives a mean over all alone.
        of: all trials.
        sequences: mean over the trials that solved it.
        source: who and when.
        where: in the paper, and what else must be known.
        link: to the paper.
    """

    unit: str
    solved: int | None
    of: int | None
    sequences: int | None
    source: str
    where: str
    link: str


def _1997(
    sequences: int | None, where: str, solved: int | None = None, of: int | None = None, unit: str = "LSTM"
) -> Counted:
    source, link = "Hochreiter & Schmidhuber 1997", "https://doi.org/10.1162/neco.1997.9.8.1735"
    return Counted(unit, solved, of, sequences, source, where, link)


# By task and the options that differ from the data set's defaults.
COUNTED: dict[tuple[str, str], list[Counted]] = {
    ("reber", "{}"): [_1997(None, "table 1, all five settings", 148, 150)],
    ("two_sequences", "{}"): [_1997(5040, "table 2", 18, 18), _1997(None, "table 2", 0, 18, "BPTT")],
    ("two_sequences", '{"noise": "lags"}'): [_1997(31_000, "table 3")],
    ("two_sequences", '{"lag": 1000, "noise": "lags"}'): [_1997(49_000, "table 3")],
    ("adding", "{}"): [_1997(74_000, "table 7")],
    ("adding", '{"length": 500}'): [_1997(209_000, "table 7")],
    ("adding", '{"length": 1000}'): [_1997(853_000, "table 7")],
    ("temporal_order", "{}"): [_1997(31_390, "table 9")],
    ("temporal_order", '{"marks": 3}'): [_1997(571_100, "table 9")],
}  # fmt: skip


def counted(task: str, options: dict[str, Any]) -> list[Counted]:
    """What papers counted of the very task."""
    return COUNTED.get((task, json.dumps(options, sort_keys=True)), [])
