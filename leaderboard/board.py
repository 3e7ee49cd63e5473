"""From records to tables: what is grouped, averaged, held against each other and ranked. Knows no files."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from seqbench.leaderboard import lags
from seqbench.leaderboard.claims import UNPUBLISHED
from seqbench.leaderboard.naming import (
    GIVEN,
    TOTAL,
    USUAL,
    heading,
    matching,
    row_names,
    set_order,
    table_slug,
    task_name,
    unit_name,
)
from seqbench.leaderboard.protocols import PROTOCOLS, departures, stated, usual
from seqbench.leaderboard.published import REFERENCE, Published, published
from seqbench.leaderboard.rows import Board, Row, Search, Table, clean
from seqbench.leaderboard.statistics import Comparison, compare, letters
from seqbench.record import Curve, Record, best_rate, counts, family_id, protocol
from seqbench.solving import options
from seqbench.task import Score, SeqbenchError

Source = tuple[str, Record]  # a file's name, for messages and links, and what is in it
Key = tuple[str, str, str, str]  # data set, its digest, protocol, how sizes are matched
Had = tuple[
    frozenset[float], frozenset[int], tuple[tuple[str, tuple[str, str]], ...]
]  # rates, seeds, departs of a unit
RATES, SEEDS = 10, 5  # of a sweep that is given no others
MOST_RANKED = 40  # units of a table; the board has a few
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
    names = {key: task_name(members[0][1]) for key, members in groups.items()}
    states = Counter((names[key], key[2], key[3]) for key in groups)
    slugs = Counter(table_slug(names[key], how, size) for key in groups for _, _, how, size in [key])
    headings = Counter(told for told, _ in {(heading(names[key], key[2], key[3]), key[2]) for key in groups})
    tables = []
    for key, members in sorted(groups.items(), key=_order):
        _, digest, how, size = key
        name = names[key]
        title = heading(name, how, size)
        if headings[title] > 1 and how != USUAL[0]:
            title += f", {clean(how) or 'no protocol named'}"
        if states[name, how, size] > 1:
            title += f" (data {clean(digest[:8])})"
        slug = table_slug(name, how, size)
        if slugs[slug] > 1:
            slug += "-" + hashlib.sha256("/".join(key).encode()).hexdigest()[:8]
        tables.append(_table(members, title, slug))
    return Board(tuple(tables))


def _order(group: tuple[Key, list[Source]]) -> tuple[object, ...]:
    """JSB first; of one data set, papers' protocols and sizes matched by the recurrent layer before others; of a task
    that can be solved, short lags first.
    """
    (name, digest, how, size), members = group
    known = list(PROTOCOLS)
    place = known.index(how) if how in known else len(known)
    lag = lags.lag(name, _options(members[0][1]))
    return set_order(name), place, how, size == GIVEN, size.endswith(TOTAL), size, lag, digest


def _options(run: Record) -> dict[str, Any]:
    """Of the data, that decide a task that can be solved."""
    return options(run) if run.task.solved else {}


def _table(members: Sequence[Source], title: str, slug: str) -> Table:
    task, how, size = members[0][1].task, protocol(members[0][1]), matching(members[0][1])
    same_sequences(members)
    results = [] if how in UNPUBLISHED else published(task.name, _options(members[0][1]))
    units, search = _units(slug, members, results)
    rows = [*units, *_floors(slug, members)]
    for i, result in enumerate(results):
        rows.append(Row("published", result.unit, result.unit, f"{slug}-published-{i}", published=result))
    ranked, comparisons = rank([dataclasses.replace(row, task=task) for row in rows])
    return Table(task, title, slug, how, size, search, ranked, comparisons)


def plan(units: Sequence[Row]) -> Search:
    """What was planned for each unit of a table, told from what they have: rates, and seeds at the best one.

    Not the union of all, under which one trial run would make every unit incomplete. It is what most of the single
    units have, and of two such the one with more complete units, times the square of rates times seeds: who has more
    seeds or more rates than others moves no plan that they follow, nor does who has fewer. A seed that a unit lost
    counts as one that it has. Where any unit has a whole sweep, by the defaults of one, only those set a plan, and
    else, where any was searched, none that was tried once. What goes beyond the defaults gives no weight; and where any
    unit was trained as the protocol has it, only those set a plan.
    """
    plain = [row for row in units if not row.departs] or units
    had = [(row.tried, frozenset() if row.rate is None else row.ended(row.rate), row.departs) for row in plain]
    begun = [frozenset(run.seed for run in row.runs) for row in plain]
    whole = [one for one in had if len(one[0]) >= RATES and len(one[1]) >= SEEDS]
    searched = any(len(rates) > 1 for rates, _, _ in had)
    many = [one for one in had if len(one[0]) * len(one[1]) > 1] if searched else []

    def weight(one: Had) -> tuple[object, ...]:
        rates, seeds, departs = one
        size = min(len(rates), RATES) * min(len(seeds), SEEDS)
        complete = sum(
            rates <= tried and seeds <= of and departs == other
            for (tried, _, other), of in zip(had, begun, strict=True)
        )
        order = -len(rates), -len(seeds), sorted(rates), sorted(seeds), repr(departs)
        return had.count(one), complete * size**2, size, *order

    rates, seeds, departs = max(set(whole or many or had), key=weight)
    return Search(rates, seeds, departs=departs)


def _within(row: Row, search: Search) -> Row:
    """The unit by its planned runs; by all, where none of these has a figure."""
    runs = row.all_runs
    planned = [run for run in runs if run.rate in search.rates and run.seed in search.seeds]
    if not any(map(counts, planned)):
        planned = list(runs)
    rate = _rate(planned)
    best = sorted((run for run in planned if run.rate == rate), key=_by_seed)
    others = sorted((run for run in planned if run.rate != rate), key=_by_rate)
    beyond = sorted(set_of(runs) - set_of(planned))
    known = {run.run_id: run for run in runs}
    return dataclasses.replace(
        row,
        runs=tuple(best),
        # of what was not chosen no curve is drawn, and thousands of them would fill the memory
        searched=tuple(dataclasses.replace(run, curve=NO_CURVE) for run in others),
        beyond=tuple(dataclasses.replace(known[name], curve=NO_CURVE) for name in beyond),
    )


def set_of(runs: Iterable[Record]) -> set[str]:
    """The runs' ids."""
    return {run.run_id for run in runs}


def _by_seed(run: Record) -> tuple[int, str]:
    return run.seed, run.run_id


def _by_rate(run: Record) -> tuple[float, int, str]:
    return run.rate, run.seed, run.run_id


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


def _units(slug: str, members: Sequence[Source], published: Sequence[Published]) -> tuple[list[Row], Search]:
    families: dict[str, list[Record]] = defaultdict(list)
    for _, record in members:
        families[family_id(record)].append(record)
    firsts = {key: runs[0] for key, runs in families.items()}
    expected = usual(firsts.values())
    names = row_names(firsts, expected)
    floors = [score.nll for score in common_floors(members).values()]
    paper = stated(protocol(members[0][1])) is not None
    rows = []
    for key, runs in families.items():
        rate = _rate(runs)
        rows.append(
            Row(
                "unit", names[key], unit_name(runs[0]), f"{slug}-{key}",
                runs=tuple(run for run in runs if run.rate == rate),
                searched=tuple(run for run in runs if run.rate != rate),
                reference=_reference(runs[0], published),
                departs=tuple(departures(runs[0], expected).items()) if paper else (),
                best_floor=min(floors, default=None),
            )
        )  # fmt: skip
    search = plan(rows)
    rows = [dataclasses.replace(_within(row, search), search=search) for row in rows]
    finalists = [n for row in rows if (n := sum(row.ended(rate) >= search.seeds for rate in row.tried))] or [0]
    search = dataclasses.replace(search, finalists=(min(finalists), max(finalists)))
    return [dataclasses.replace(row, search=search) for row in rows], search


def _reference(run: Record, published: Sequence[Published]) -> Published | None:
    """The published result of the same unit at the same size, chosen by the same budget."""
    for result in published:
        if result.source == REFERENCE and not result.elsewhere and result.unit.lower() == run.cell.name.lower():
            same = (run.cell.budget, run.cell.count) == (result.budget, "recurrent") and not run.cell.options
            return result if same else None
    return None


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
    """Rows by the task's own score, and the complete units' comparisons and letters.

    Units that share a letter cannot be told apart. Incomplete units are not compared: a mean over the seeds that
    happened to finish flatters. Of more than MOST_RANKED the best are: pairs and letters of hundreds tell nobody
    anything. They are judged as if all were compared, as it was looked which are the best.
    """

    def order(row: Row) -> tuple[float, str, str, str]:
        return (math.inf if row.own is None else row.own.mean, row.kind, row.name, row.anchor)

    ordered = sorted(rows, key=order)
    complete = [row for row in ordered if row.complete]
    best = complete[:MOST_RANKED]
    comparisons = _compared(best, math.comb(len(complete), 2))
    found = letters(len(best), [(c.first, c.second) for c in comparisons if c.significant])
    told = {row.anchor: text for row, text in zip(best, found, strict=True)}
    return tuple(dataclasses.replace(row, letters=told.get(row.anchor)) for row in ordered), tuple(comparisons)


def _compared(complete: Sequence[Row], judged: int) -> list[Comparison]:
    if len(complete) < 2:
        return []
    import numpy as np

    tests = [[run.test for run in row.counted if run.test is not None] for row in complete]
    if (task := complete[0].task) is None or not task.score:
        nats = [np.array([t.nats for t in row]) for row in tests]
        return compare(nats, np.array(tests[0][0].frames, dtype=float), judged)
    counts = [[t.counts[task.score] for t in row] for row in tests]
    wrong = [100 * np.array([np.subtract(count.of, count.right) for count in row], dtype=float) for row in counts]
    return compare(wrong, np.array(counts[0][0].of, dtype=float), judged)
