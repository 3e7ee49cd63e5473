"""From records to rows: what is grouped, counted, averaged and ranked. Knows no files and no formats."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from leaderboard.claims import CLAIMS
from leaderboard.published import PUBLISHED, Published
from leaderboard.statistics import Estimate, estimate
from seqbench.record import Record, Score, TaskRecord, family_id, identity, protocol
from seqbench.task import SeqbenchError

Kind = Literal["unit", "floor", "published"]
Source = tuple[str, Record]  # a file's name, for messages, and what is in it
AGREE = 1e-6  # nats; floors computed on two machines differ by less


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
        floor: the score, for a floor.
        published: the result, for a published one.
        rank: 1 is the best; None for what is not ranked.
    """

    kind: Kind
    name: str
    unit: str
    anchor: str
    runs: tuple[Record, ...] = ()
    searched: tuple[Record, ...] = ()
    floor: Score | None = None
    published: Published | None = None
    rank: int | None = None

    @property
    def tag(self) -> str:
        """What a floor or a published row must be told apart by."""
        if self.published is not None:
            return f"{self.published.source}, {self.published.known}"
        return "floor" if self.kind == "floor" else ""

    @cached_property
    def counted(self) -> tuple[Record, ...]:
        """The runs that count in means: finished and tested."""
        return tuple(run for run in self.runs if run.status == "finished" and run.test is not None)

    @cached_property
    def lost(self) -> dict[str, int]:
        """How many runs do not count, by the reason."""
        reasons = Counter(outcome(run) for run in self.runs + self.searched)
        return {reason: n for reason, n in sorted(reasons.items()) if reason != "finished"}

    def mean(self, value: Callable[[Record], float | None]) -> Estimate | None:
        """The mean of a value over the runs that count and have one."""
        return estimate(v for v in map(value, self.counted) if v is not None)

    def score(self, convention: Literal["nll", "nll_sequence", "nll_first"]) -> Estimate | None:
        """Test NLL under a convention, whatever the kind of row."""
        if self.published is not None:
            return Estimate(self.published.test, None, 1) if convention == "nll" else None
        if self.floor is not None:
            value = getattr(self.floor, convention)
            return None if value is None else Estimate(value, None, 1)
        return self.mean(lambda run: getattr(run.test, convention))

    @cached_property
    def test(self) -> Estimate | None:
        """Test NLL under the main convention."""
        return self.score("nll")

    def common(self, value: Callable[[Record], object]) -> str:
        """What the runs have in common, or all that they have, e.g. "cpu, cuda"."""
        return ", ".join(sorted({clean(value(run)) for run in self.runs}))


@dataclass(frozen=True)
class Table:
    """One data set, at one state of its data, under one protocol.

    Attributes:
        task: name, digest and unit of the likelihood.
        title: the task's name, with the digest where two states of the data stand on one board.
        slug: for file names and anchors: small letters, digits, hyphens.
        protocol: the name of the training protocol; "" where the runs name none.
        rows: ordered by test NLL; what has none comes last.
    """

    task: TaskRecord
    title: str
    slug: str
    protocol: str
    rows: tuple[Row, ...]

    @property
    def units(self) -> list[Row]:
        """The rows that were run here."""
        return [row for row in self.rows if row.kind == "unit"]


@dataclass(frozen=True)
class Board:
    """All tables, ordered by data set."""

    tables: tuple[Table, ...]


def outcome(run: Record) -> str:
    """A run's status; "untested" for one that finished training but was never tested."""
    return "untested" if run.status == "finished" and run.test is None else run.status


def best_epoch(run: Record) -> int | None:
    """Which epoch's weights were tested, counted from 1; None where there are none."""
    return None if run.best_epoch is None else run.curve.epoch.index(run.best_epoch) + 1


def clean(value: object) -> str:
    """One line of printable text: what a record brings along cannot break a table or an XML file."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def assemble(sources: Sequence[Source]) -> Board:
    """The board of these records, whatever their order and file names.

    Raises:
        SeqbenchError: two records of one run differ, or two of one data set disagree about a floor.
    """
    tables: dict[tuple[str, str, str], list[Source]] = defaultdict(list)
    for name, record in sorted(_unique(sources), key=lambda source: source[1].run_id):
        tables[record.task.name, record.task.digest, protocol(record)].append((name, record))
    digests = {(name, digest) for name, digest, _ in tables}
    names = Counter(name for name, _ in digests)
    slugs = Counter(_slug(f"{name} {how}") for name, _, how in tables)
    made = []
    for (name, digest, how), members in sorted(tables.items()):
        title = clean(name) if names[name] == 1 else f"{clean(name)} (data {clean(digest[:8])})"
        slug = _slug(f"{name} {how}")
        if slugs[slug] > 1:
            slug += "-" + hashlib.sha256(f"{name}/{digest}/{how}".encode()).hexdigest()[:8]
        rows = _units(slug, members) + _floors(slug, members) + _published(slug, name, how)
        made.append(Table(members[0][1].task, f"{title}, {clean(how)}" if how else title, slug, how, _ranked(rows)))
    return Board(tuple(made))


def _unique(sources: Sequence[Source]) -> list[Source]:
    seen: dict[str, Source] = {}
    for name, record in sources:
        known = seen.setdefault(record.run_id, (name, record))
        if known[1] != record:
            raise SeqbenchError(
                f"{known[0]} and {name} are both run {record.run_id} but differ: keep one of the two files"
            )
    return list(seen.values())


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"


def _units(slug: str, members: Sequence[Source]) -> list[Row]:
    families: dict[str, list[Record]] = defaultdict(list)
    for _, record in members:
        families[family_id(record)].append(record)
    names = _names({key: runs[0] for key, runs in families.items()})
    rows = []
    for key, runs in families.items():
        rate = best_rate(runs)
        best = tuple(sorted((run for run in runs if run.rate == rate), key=lambda run: (run.seed, run.run_id)))
        others = tuple(sorted((r for r in runs if r.rate != rate), key=lambda run: (run.rate, run.seed, run.run_id)))
        rows.append(Row("unit", names[key], _unit_name(runs[0]), f"{slug}-{key}", best, others))
    return rows


def best_rate(runs: Sequence[Record]) -> float:
    """The rate whose run has the lowest validation NLL, each rate judged by its smallest seed that finished.

    Rates with no finished run come last, so that a unit with nothing finished still has a row.
    """

    def judged(rate: float) -> tuple[float, float]:
        finished = [run for run in runs if run.rate == rate and run.status == "finished" and run.best_valid is not None]
        first = min(finished, key=lambda run: (run.seed, run.run_id), default=None)
        return (math.inf if first is None or first.best_valid is None else first.best_valid, rate)

    return min({run.rate for run in runs}, key=judged)


def _names(runs: dict[str, Record]) -> dict[str, str]:
    """Group -> unit and options; where that is not unique, also the settings in which the namesakes differ."""
    short = {key: _unit_name(run) for key, run in runs.items()}
    namesakes: dict[str, list[str]] = defaultdict(list)
    for key, name in short.items():
        namesakes[name].append(key)
    names = {}
    for name, keys in namesakes.items():
        if len(keys) == 1:
            names[keys[0]] = name
            continue
        settings = {key: _settings(runs[key]) for key in keys}
        all_settings = sorted({path for values in settings.values() for path in values})
        differing = [p for p in all_settings if len({settings[key].get(p) for key in keys}) > 1]
        told = {
            key: ", ".join(f"{p.rpartition('.')[2]}={settings[key].get(p, 'unset'):.24}" for p in differing[:3])
            for key in keys
        }
        repeated = Counter(told.values())
        for key in keys:
            mark = f", {key[:6]}" if repeated[told[key]] > 1 else ""
            names[key] = clean(f"{name} [{told[key]}{mark}]")
    return names


def _unit_name(run: Record) -> str:
    options = ", ".join(f"{name}={value}" for name, value in sorted(run.cell.options.items()))
    return clean(f"{run.cell.name}({options})" if options else run.cell.name)


def _settings(run: Record) -> dict[str, str]:
    """A config's leaves, by dotted path, without seed and rate."""
    flat: dict[str, str] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                walk(f"{path}.{name}" if path else name, inner)
        else:
            flat[path] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)

    walk("", identity(run.config))
    for key in ("model.seed", "model.rate"):
        flat.pop(key, None)
    return flat


def _floors(slug: str, members: Sequence[Source]) -> list[Row]:
    """One row a floor. A record that states none, as a failed run may, contradicts nobody."""
    known: dict[str, tuple[str, Score]] = {}
    for name, record in members:
        for floor, score in record.floors.items():
            first_name, first = known.setdefault(floor, (name, score))
            if not _agree(first, score):
                raise SeqbenchError(
                    f"{first_name} and {name} disagree about the floor {floor!r} of {record.task.name} "
                    f"({first.nll} and {score.nll}): train one of them again"
                )
    return [
        Row("floor", clean(name), clean(name), f"{slug}-floor-{i}", floor=score)
        for i, (name, (_, score)) in enumerate(sorted(known.items()))
    ]


def _agree(a: Score, b: Score) -> bool:
    return all(
        x is y if x is None or y is None else math.isclose(x, y, rel_tol=0, abs_tol=AGREE)
        for x, y in ((a.nll, b.nll), (a.nll_sequence, b.nll_sequence), (a.nll_first, b.nll_first))
    )


def _published(slug: str, task: str, how: str) -> list[Row]:
    """Of other papers; a protocol with claims of its own is held against those."""
    if how in CLAIMS:
        return []
    return [
        Row("published", result.unit, result.unit, f"{slug}-published-{i}", published=result)
        for i, result in enumerate(PUBLISHED.get(task, []))
    ]


def _ranked(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows in order; a unit's rank is one more than how many units are better."""

    def order(row: Row) -> tuple[float, str, str, str]:
        return (math.inf if row.test is None else row.test.mean, row.kind, row.name, row.anchor)

    means = sorted(row.test.mean for row in rows if row.kind == "unit" and row.test is not None)

    def rank(row: Row) -> int | None:
        return 1 + bisect_left(means, row.test.mean) if row.kind == "unit" and row.test is not None else None

    return tuple(dataclasses.replace(row, rank=rank(row)) for row in sorted(rows, key=order))
