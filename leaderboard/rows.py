"""What a board consists of: tables of rows, rows of runs. Knows no files and no formats."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from seqbench.leaderboard.published import Published
from seqbench.leaderboard.statistics import DIGITS, Comparison, Estimate, estimate, over_pieces, prediction
from seqbench.record import Record, TaskRecord, came_to_its_end, counts, marks, rates_tried
from seqbench.solving import Solved, count, options
from seqbench.task import Score

Kind = Literal["unit", "floor", "published"]
Convention = Literal["nll", "nll_sequence"]
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}
VISIBLE = 5e-4  # nats: a smaller difference is none in the digits that tables show
DIVERGED = "diverged in every run"
SCORES = {"labelled": "LAS"}  # what people call the share of right guesses by the name of their count


@dataclass(frozen=True)
class Search:
    """The plan of a table: what was trained for each of its complete units.

    Attributes:
        rates: learning rates tried.
        seeds: seeds at the best rate.
        finalists: rates with all of these seeds, of the units that have fewest and most; the best by validation come
            first.
        departs: what the units' settings differ by from the table's protocol: dotted name -> expected, found.
    """

    rates: frozenset[float]
    seeds: frozenset[int]
    finalists: tuple[int, int] = (1, 1)
    departs: tuple[tuple[str, tuple[str, str]], ...] = ()

    def __str__(self) -> str:
        seeds = many(len(self.seeds), "seed")
        if len(self.rates) == 1:
            return f"one rate, {next(iter(self.rates)):.3g}, with {seeds}"
        if len(self.seeds) > 1 and max(self.finalists) > 1:
            told = dict.fromkeys(NUMBERS.get(n, str(n)) for n in self.finalists)
            which = "" if min(self.finalists) == len(self.rates) else f", the {' to '.join(told)} best by validation"
            return f"{len(self.rates)} rates{which} with {seeds} each"
        return f"{len(self.rates)} rates, the best by validation with {seeds}"


@dataclass(frozen=True)
class Row:
    """One line of a table: a unit with all its runs, a floor, or a published result.

    Attributes:
        kind: which of the three.
        name: what the reader calls it; no two units of a table share one.
        unit: the unit and its options, which namesakes on other settings share.
        anchor: unique on the page.
        runs: all runs at the best rate, ordered by seed; empty for floors and published results.
        searched: runs at other rates: what the best was chosen from, ordered by rate.
        beyond: runs at rates or seeds that the table's plan does not have. They are listed, and count nowhere.
        floor: the score, for a floor.
        published: the result, for a published one.
        reference: for a unit, the published result to hold it against; None where there is none.
        search: what a complete unit of this table has.
        task: of the row's table.
        departs: what a unit's settings differ by from its table's protocol: dotted name -> expected, found.
        best_floor: the lowest NLL that needs no model.
        letters: of the groups of units that cannot be told apart; None for what is not ranked.
    """

    kind: Kind
    name: str
    unit: str
    anchor: str
    runs: tuple[Record, ...] = ()
    searched: tuple[Record, ...] = ()
    floor: Score | None = None
    published: Published | None = None
    reference: Published | None = None
    search: Search | None = None
    task: TaskRecord | None = None
    departs: tuple[tuple[str, tuple[str, str]], ...] = ()
    best_floor: float | None = None
    letters: str | None = None
    beyond: tuple[Record, ...] = ()

    @property
    def tag(self) -> str:
        """What a floor, a published row or one without a figure to compare must be told apart by."""
        if self.published is not None:
            return f"{self.published.source}, {self.published.known}"
        if self.kind == "floor":
            return "floor"
        if self.diverged:
            return DIVERGED
        return f"incomplete: {', '.join(self.lacks)}" if self.lacks else ""

    @property
    def all_runs(self) -> tuple[Record, ...]:
        """Counted or not, planned or not."""
        return self.runs + self.searched + self.beyond

    @cached_property
    def counted(self) -> tuple[Record, ...]:
        """The runs that count in means: those that came to their end and were tested."""
        return tuple(filter(counts, self.runs))

    @cached_property
    def lost(self) -> dict[str, int]:
        """How many runs do not count, by the reason."""
        return dict(sorted(Counter(outcome(run) for run in self.all_runs if not counts(run)).items()))

    @cached_property
    def tried(self) -> frozenset[float]:
        """The rates that the best was chosen from: those with a run that came to its end, well or badly."""
        return rates_tried(self.runs + self.searched)

    def ended(self, rate: float) -> frozenset[int]:
        """The seeds whose run at a rate came to its end."""
        return frozenset(run.seed for run in self.runs + self.searched if run.rate == rate and came_to_its_end(run))

    @property
    def rate(self) -> float | None:
        """The rate of `runs`: the best, where any run counts."""
        return self.runs[0].rate if self.runs else None

    @cached_property
    def marks(self) -> list[str]:
        """What a reader must know of a unit's runs that count: search or training was too short, one diverged, or no
        model is needed to do as well.
        """
        found = ["cut short: {1} of {0} epochs".format(*self.cut)] if self.cut else []
        found += marks(self.counted, self.tried)
        if self.test is not None and self.best_floor is not None and self.test.mean > self.best_floor - VISIBLE:
            found.append("no better than a floor")
        return found

    @property
    def cut(self) -> tuple[int, int] | None:
        """The epochs that the protocol has and that the runs were given, where they were given fewer."""
        epochs = dict(self.departs).get("trainer.max_epochs")
        if epochs is None or "unset" in epochs or int(epochs[1]) >= int(epochs[0]):
            return None
        return int(epochs[0]), int(epochs[1])

    @cached_property
    def missing(self) -> list[str]:
        """What others of the table have and this unit was not trained with."""
        if self.search is None:
            return []
        if self.departs != self.search.departs:
            differing = dict(self.departs).keys() ^ dict(self.search.departs).keys() or dict(self.departs).keys()
            return [f"other settings: {', '.join(sorted(name.rpartition('.')[2] for name in differing))}"]
        if self.diverged:
            return []
        seeds = sorted(self.search.seeds - {run.seed for run in self.runs})
        rates = len(self.search.rates - self.tried)
        found = [f"no seed {', '.join(map(str, seeds))}"] if seeds else []
        return found + ([f"{rates} of {len(self.search.rates)} rates not tried"] if rates else [])

    @cached_property
    def diverged(self) -> bool:
        """Whether a unit was tried at all rates that the table's plan has, and diverged at each before any validation:
        a finding, and nothing that more runs would complete.
        """
        runs = self.runs + self.searched
        lost = bool(runs) and all(run.status == "diverged" and not counts(run) for run in runs)
        plan = self.search
        return lost and (plan is None or (plan.rates <= self.tried and plan.departs == self.departs))

    @cached_property
    def lacks(self) -> list[str]:
        """What is missing, and what was lost at the best rate; a row that lacks something is not ranked.

        A run of a seed that nobody brought to its end is none of what is lost: it changes no rank.
        """
        if self.diverged:
            return [DIVERGED]
        wanted = {run.seed for run in self.runs}
        if self.search is not None and self.counted:
            wanted &= self.search.seeds
        lost = Counter(outcome(run) for run in self.runs if run not in self.counted and run.seed in wanted)
        return self.missing + [f"{n} {reason}" for reason, n in sorted(lost.items())]

    @property
    def complete(self) -> bool:
        """A unit that has all that its table's plan has, none of it lost."""
        return self.kind == "unit" and bool(self.counted) and not self.lacks

    def mean(self, value: Callable[[Record], float | None]) -> Estimate | None:
        """The mean of a value over the runs that count and have one."""
        return estimate(v for v in map(value, self.counted) if v is not None)

    def score(self, convention: Convention, split: Literal["train", "valid", "test"] = "test") -> Estimate | None:
        """A split's NLL under a convention, of the best epoch's weights, whatever the kind of row."""
        if self.published is not None:
            by_nats = self.task is None or not self.task.score
            value = getattr(self.published, split, None) if convention == "nll" and by_nats else None
        elif self.floor is not None:
            value = getattr(self.floor, convention) if split == "test" else None
        else:
            return self.mean(lambda run: getattr(getattr(run, split), convention, None))
        return None if value is None else Estimate(value, None, 1)

    @cached_property
    def pieces(self) -> float | None:
        """Half the interval of test NLL over seeds and over test pieces too."""
        tests = [run.test for run in self.counted if run.test is not None]
        if not tests:
            return None
        import numpy as np

        return over_pieces(np.array([test.nats for test in tests]), np.array(tests[0].frames, dtype=float))

    def single(self, convention: Convention) -> float | None:
        """How far one more run's test NLL may lie from the mean: half its prediction interval."""
        return prediction(getattr(run.test, convention) for run in self.counted)

    @cached_property
    def test(self) -> Estimate | None:
        """Test NLL under the main convention."""
        return self.score("nll")

    @cached_property
    def own(self) -> Estimate | None:
        """The score that the task ranks by, lower is better: test NLL, or the share of wrong guesses in percent."""
        name = "" if self.task is None else self.task.score
        if not name:
            return self.test
        right = self.share(name)
        return None if right is None else Estimate(round(100 - right.mean, DIGITS), right.interval, right.n)

    @cached_property
    def solved(self) -> Solved | None:
        """How many of the runs solved their task; None of one that is scored alone, or where no run came to its end."""
        found = count(self.runs)
        return found if self.task is not None and self.task.solved and found.of else None

    def share(self, name: str) -> Estimate | None:
        """The share of right guesses on test by the name of a count, in percent, higher is better."""
        if self.task is not None and name == self.task.score and self.kind != "unit":
            known = self.published.test if self.published is not None else self.floor.right if self.floor else None
            return None if known is None else Estimate(known, None, 1)
        return self.mean(lambda run: run.test.counts[name].share if run.test and name in run.test.counts else None)

    def common(self, value: Callable[[Record], object]) -> str:
        """What the runs have in common, or all that they have, e.g. "cpu, cuda"."""
        return ", ".join(sorted({clean(value(run)) for run in self.runs}))


@dataclass(frozen=True)
class Table:
    """One data set, at one state of its data, under one protocol, units matched in one way.

    Attributes:
        task: name, digest and unit of the likelihood.
        heading: what and how matched, as people say it: "JSB Chorales, 20k in the recurrent layer".
        slug: for file names and anchors: small letters, digits, hyphens.
        protocol: the name of the training protocol; "" where the runs name none.
        matching: what the units' sizes have in common.
        search: what a complete unit has.
        rows: ordered by the task's own score; what has none comes last.
        comparisons: of the ranked units, by their positions in `ranked`.
    """

    task: TaskRecord
    heading: str
    slug: str
    protocol: str
    matching: str
    search: Search
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...] = ()

    @property
    def measure(self) -> str:
        """What the rows' own scores, and the differences between them, are in."""
        return f"points of {score_name(self.task)} lost" if self.task.score else self.task.unit

    @cached_property
    def units(self) -> list[Row]:
        """The rows that were run here."""
        return [row for row in self.rows if row.kind == "unit"]

    @cached_property
    def options(self) -> dict[str, Any]:
        """Of the data, that decide a task that can be solved."""
        return options(self.units[0].all_runs[0]) if self.task.solved and self.units else {}

    @cached_property
    def ranked(self) -> list[Row]:
        """The complete units; of very many the best (board.py)."""
        return [row for row in self.units if row.letters is not None]

    def not_judged(self, units: Sequence[str]) -> str:
        """What is said of units that have no rank to be judged by."""
        lost = {row.unit for row in self.units if row.diverged}
        why = DIVERGED if lost >= set(units) else "not run, or not complete"
        return f"undecided: {why}: {', '.join(units)}"

    def against(self, row: Row, other: Row) -> Comparison | None:
        """Two ranked units, the first held against the second; None for a unit and itself."""
        one, two = self.ranked.index(row), self.ranked.index(other)
        found = self.pairs.get((min(one, two), max(one, two)))
        return found if found is None or one < two else found.turned()

    @cached_property
    def judged(self) -> int:
        """Pairs of complete units, those that are not ranked too: their number is corrected for."""
        return math.comb(sum(row.complete for row in self.units), 2)

    @cached_property
    def pairs(self) -> dict[tuple[int, int], Comparison]:
        """The comparisons by their two positions."""
        return {(c.first, c.second): c for c in self.comparisons}


@dataclass(frozen=True)
class Board:
    """All tables, JSB first, and of one data set the one with the most units first."""

    tables: tuple[Table, ...]


def listed(words: Sequence[str]) -> str:
    """a, b and c; of one or more."""
    return ", ".join(words[:-1]) + " and " * (len(words) > 1) + words[-1]


def many(n: int, what: str) -> str:
    """1 seed, 2 seeds."""
    return f"{n} {what}{'s' * (n != 1)}"


def score_name(task: TaskRecord) -> str:
    """LAS, where the task ranks by it."""
    return clean(SCORES.get(task.score, task.score))


def outcome(run: Record) -> str:
    """A run's status; "untested" for one that finished training but was never tested."""
    return "untested" if run.status == "finished" and run.test is None else run.status


def best_epoch(run: Record) -> int | None:
    """Which epoch's weights were tested, counted from 1; None where there are none."""
    return None if run.best_epoch is None else run.best_epoch + 1


def clean(value: object) -> str:
    """One line of printable text: what a record brings along cannot break a table or an XML file."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
