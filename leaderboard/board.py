"""From records to tables: what is grouped, averaged, held against each other and ranked. Knows no files."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from seqbench.leaderboard.claims import CLAIMS
from seqbench.leaderboard.naming import matching, row_names, table_slug, unit_name
from seqbench.leaderboard.published import PUBLISHED, REFERENCE, Published
from seqbench.leaderboard.rows import Board, Row, Search, Table, clean
from seqbench.leaderboard.statistics import Comparison, compare
from seqbench.record import Curve, Record, best_rate, family_id, protocol
from seqbench.task import Score, SeqbenchError

Source = tuple[str, Record]  # a file's name, for messages and links, and what is in it
Key = tuple[str, str, str, str]  # data set, its digest, protocol, how sizes are matched
AGREE = 1e-6  # nats; floors computed on two machines differ by less
NO_CURVE = Curve(0, 1, [], [], [], [], [], [])


def assemble(sources: Sequence[Source]) -> Board:
    """The board of these records, whatever their order and file names.

    Raises:
        SeqbenchError: two records of one run differ, or two of one table disagree about a floor or were tested on
            different sequences.
    """
    groups: dict[Key, list[Source]] = defaultdict(list)
    for name, record in sorted(unique(sources), key=lambda source: source[1].run_id):
        groups[table_key(record)].append((name, record))
    states = Counter(name for name, _ in {key[:2] for key in groups})
    slugs = Counter(table_slug(name, how, size) for name, _, how, size in groups)
    tables = []
    for key, members in sorted(groups.items()):
        name, digest, how, size = key
        title = clean(name) if states[name] == 1 else f"{clean(name)} (data {clean(digest[:8])})"
        slug = table_slug(name, how, size)
        if slugs[slug] > 1:
            slug += "-" + hashlib.sha256("/".join(key).encode()).hexdigest()[:8]
        tables.append(_table(members, f"{title}, {clean(how)}" if how else title, slug))
    return Board(tuple(tables))


def _table(members: Sequence[Source], title: str, slug: str) -> Table:
    task, how, size = members[0][1].task, protocol(members[0][1]), matching(members[0][1])
    same_sequences(members)
    published = [] if how in CLAIMS else PUBLISHED.get(task.name, [])
    units = _units(slug, members, published)
    search = _search(units)
    rows = [dataclasses.replace(row, search=search) for row in units] + _floors(slug, members)
    for i, result in enumerate(published):
        rows.append(Row("published", result.unit, result.unit, f"{slug}-published-{i}", published=result))
    ranked, comparisons = rank([dataclasses.replace(row, task=task) for row in rows])
    return Table(task, title, slug, how, size, search, ranked, comparisons)


def _search(units: Sequence[Row]) -> Search:
    rates = frozenset[float]().union(*(row.tried for row in units))
    seeds = frozenset[int]().union(*(row.ended(row.rate) for row in units if row.rate is not None))
    finalists = (sum(row.ended(rate) >= seeds for rate in row.tried) for row in units)
    return Search(rates, seeds, max(finalists, default=0))


def table_key(record: Record) -> Key:
    """What the runs of one table have in common."""
    return record.task.name, record.task.digest, protocol(record), matching(record)


def unique(sources: Sequence[Source]) -> list[Source]:
    """Each run once.

    Raises:
        SeqbenchError: two records of one run differ.
    """
    seen: dict[str, Source] = {}
    for name, record in sources:
        known = seen.setdefault(record.run_id, (name, record))
        if known[1] != record:
            raise SeqbenchError(
                f"{known[0]} and {name} are both run {record.run_id} but differ: keep one of the two files"
            )
    return list(seen.values())


def same_sequences(members: Sequence[Source]) -> None:
    """Checks that all runs of a table were tested on the same sequences.

    Raises:
        SeqbenchError: two were not; the line names them.
    """
    tested = [(name, record.test.frames) for name, record in members if record.test is not None]
    for name, frames in tested:
        if frames != tested[0][1]:
            raise SeqbenchError(
                f"{tested[0][0]} and {name} were tested on different sequences of {members[0][1].task.name}: "
                "test.frames differ; train one of them again"
            )


def _units(slug: str, members: Sequence[Source], published: Sequence[Published]) -> list[Row]:
    families: dict[str, list[Record]] = defaultdict(list)
    for _, record in members:
        families[family_id(record)].append(record)
    names = row_names({key: runs[0] for key, runs in families.items()})
    references = {p.unit.lower(): p for p in published if p.source == REFERENCE and not p.elsewhere}
    rows = []
    for key, runs in families.items():
        rate = _rate(runs)
        best = sorted((run for run in runs if run.rate == rate), key=lambda run: (run.seed, run.run_id))
        others = sorted((r for r in runs if r.rate != rate), key=lambda run: (run.rate, run.seed, run.run_id))
        # of what was not chosen no curve is drawn, and thousands of them would fill the memory
        searched = tuple(dataclasses.replace(run, curve=NO_CURVE) for run in others)
        unit = unit_name(runs[0])
        reference = references.get(runs[0].cell.name.lower())
        if reference is not None and (runs[0].cell.budget, runs[0].cell.count) != (reference.budget, "recurrent"):
            reference = None  # another size
        rows.append(Row("unit", names[key], unit, f"{slug}-{key}", tuple(best), searched, reference=reference))
    return rows


def _rate(runs: Sequence[Record]) -> float:
    """The best rate; where nothing finished, that with the most runs, the lowest of several: the unit needs a row."""
    found = best_rate(runs)
    tries = Counter(run.rate for run in runs)
    return min(tries, key=lambda rate: (-tries[rate], rate)) if found is None else found


def _floors(slug: str, members: Sequence[Source]) -> list[Row]:
    return [
        Row("floor", clean(name), clean(name), f"{slug}-floor-{i}", floor=score)
        for i, (name, score) in enumerate(sorted(common_floors(members).items()))
    ]


def common_floors(members: Sequence[Source]) -> dict[str, Score]:
    """The floors of a table's test split. A record that states none, as a failed run may, contradicts nobody.

    Raises:
        SeqbenchError: two records disagree.
    """
    known: dict[str, tuple[str, Score]] = {}
    for name, record in members:
        for floor, score in record.floors.items():
            first_name, first = known.setdefault(floor, (name, score))
            if not _agree(first, score):
                raise SeqbenchError(
                    f"{first_name} and {name} disagree about the floor {floor!r} of {record.task.name} "
                    f"({first.nll} and {score.nll}): train one of them again"
                )
    return {floor: score for floor, (_, score) in known.items()}


def _agree(a: Score, b: Score) -> bool:
    return all(
        x is y if x is None or y is None else math.isclose(x, y, rel_tol=0, abs_tol=AGREE)
        for x, y in ((a.nll, b.nll), (a.nll_sequence, b.nll_sequence), (a.nll_first, b.nll_first))
    )


def rank(rows: Sequence[Row]) -> tuple[tuple[Row, ...], tuple[Comparison, ...]]:
    """Rows by test NLL, and the complete units' comparisons.

    A unit's rank is one more than how many units are better than it by more than chance, so that units which cannot be
    told apart from any better one are all first. Incomplete units are not compared: a mean over the seeds that happened
    to finish flatters.
    """

    def order(row: Row) -> tuple[float, str, str, str]:
        return (math.inf if row.test is None else row.test.mean, row.kind, row.name, row.anchor)

    ordered = sorted(rows, key=order)
    complete = [row for row in ordered if row.kind == "unit" and row.counted and not row.lacks]
    comparisons = _compared(complete)
    better = Counter(c.second if c.difference < 0 else c.first for c in comparisons if c.significant)
    ranks = {row.anchor: 1 + better[i] for i, row in enumerate(complete)}
    return tuple(dataclasses.replace(row, rank=ranks.get(row.anchor)) for row in ordered), tuple(comparisons)


def _compared(complete: Sequence[Row]) -> list[Comparison]:
    if len(complete) < 2:
        return []
    import numpy as np

    nats = [np.array([run.test.nats for run in row.counted if run.test is not None]) for row in complete]
    test = complete[0].counted[0].test
    assert test is not None
    return compare(nats, np.array(test.frames, dtype=float))
