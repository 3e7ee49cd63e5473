"""What must hold between the records of a table, and what a record made up from another contradicts.

Each check yields (file, field, what is wrong). Bounds on what is only unlikely come from the 198 records of JSB and
Piano-midi.de that were published first: how far honest runs come is given beside each.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from seqbench.leaderboard.board import Source, table_key
from seqbench.leaderboard.protocols import departures, meant, stated
from seqbench.record import Record, counts, protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Told = Iterator[tuple[str, str, str]]  # file, field, what is wrong
ENOUGH = 8  # runs of a table from which on what is usual can be said
SAME = 0.05  # of the median pair's distance; honest pairs are at least 0.08 apart, copies at most 0.01
LEAST = 0.002  # nats a frame; where all are copies
FAR = 6.0  # robust deviations of test less validation NLL; honest runs but one are within 4.9 below the line
LOWER = 1.0  # of test less training NLL, a wider line: that one lies above it, and a test NLL that is made up far below
SMOOTH = 1.0  # in ln; honest runs are within 0.68, a mean over seven epochs is at 1.8
FAST = 0.25  # of what a table's runs gain after their first epoch; honest ones are at most 0.12 below all others
MOVES = 8  # values that a curve has
LONG = 100  # epochs of a curve whose roughness is told: of fewer it scatters, sixfold for tanh on speech
CHUNK = 512  # records at once: 10,000 make a matrix of 400 MB otherwise


def disagreements(sources: Sequence[Source]) -> Told:
    """All of them, for records that can be read."""
    tables: dict[Hashable, list[Source]] = defaultdict(list)
    sets: dict[Hashable, list[Source]] = defaultdict(list)
    for name, record in sources:
        tables[table_key(record)].append((name, record))
        if record.test is not None and len(record.test.nats) == len(record.test.frames):
            sets[record.task.name, tuple(record.test.frames)].append((name, record))
    for members in tables.values():
        yield from twins(members)
        yield from constants(members)
        yield from gaps(members)
        yield from curves(members)
    for members in sets.values():
        yield from copies(members)


def settings(sources: Sequence[Source]) -> Told:
    """Under the name of a paper's protocol stand its settings; in one's own folder a row's name says what does not."""
    for name, record in sources:
        paper = meant(protocol(record))
        if paper not in (None, protocol(record)):
            yield (
                name,
                "config.run.protocol",
                f"{protocol(record)!r} reads as {paper}: call a protocol of yours otherwise",
            )
        expected = stated(protocol(record))
        for key, (whole, has) in departures(record, expected).items() if expected is not None else ():
            yield name, f"config.{key}", f"{has}, but configs/{protocol(record)}.yaml has {whole}"


def constants(members: Sequence[Source]) -> Told:
    """Fields that all runs of a table, or all of a unit, have in common."""
    shared: dict[str, Callable[[Record], Any]] = {
        "task": lambda run: vars(run.task),
        "scale": lambda run: run.scale,
        "environment.precision": lambda run: run.environment.precision,
        "curve.steps": lambda run: run.curve.steps,
        "curve.every": lambda run: run.curve.every,
    }
    of_unit: dict[str, Callable[[Record], Any]] = {
        "cell.hidden": lambda run: run.cell.hidden,
        "parameters": lambda run: vars(run.parameters),
    }
    yield from _odd(members, shared, lambda run: (run.config["trainer"].get("precision"), _data(run)))
    yield from _odd(members, of_unit, _unit)


def _unit(run: Record) -> Hashable:
    model = run.config["model"]
    shape = [model.get(key) for key in ("hidden", "layers", "layer_norm", "bidirectional")]
    return run.cell.name, repr(run.cell.options), repr(shape)


def _data(run: Record) -> str:
    return json.dumps([run.config["data"], run.config["trainer"].get("limit_train_batches")], sort_keys=True)


def _odd(
    members: Sequence[Source], fields: dict[str, Callable[[Record], Any]], alike: Callable[[Record], Hashable]
) -> Told:
    """Records that have something else than most of those that are alike."""
    groups: dict[Hashable, list[Source]] = defaultdict(list)
    for name, record in members:
        groups[alike(record)].append((name, record))
    for group in groups.values():
        for field, value in fields.items():
            had = [json.dumps(value(record), sort_keys=True) for _, record in group]
            usual, _ = Counter(had).most_common(1)[0]
            for (name, _), one in zip(group, had, strict=True):
                if one != usual:
                    yield name, field, f"{one}, but other runs of its table have {usual}"


def copies(members: Sequence[Source]) -> Told:
    """Two runs whose test sequences have the same NLL, but for a shift and a scale: one was made of the other.

    What a linear fit of one on the other leaves, a sequence, is held against what it leaves of the other pairs. Not of
    tasks that can be solved: their test sequences may be few different ones, and all runs that solve them are alike.
    Nor of runs that have learnt no more than a floor knows: all that stay at the unigram's figure are alike too.
    """
    import numpy as np

    members = [(name, run) for name, run in members if run.test and run.test.nll < _least_floor(run)]
    if len(members) < 2:
        return
    first = members[0][1]
    if first.task.solved or len(first.test.frames if first.test else ()) < 4:
        return
    unit, spread = _directions([record for _, record in members])
    sampled, pairs = [], []
    for start in range(0, len(members), CHUNK):
        some = slice(start, start + CHUNK)
        alike = np.clip(unit[some] @ unit.T, -1, 1)
        left = np.sqrt(1 - alike**2) * np.minimum(spread[some, None], spread[None])
        later = np.triu(np.ones(left.shape, dtype=bool), start + 1)
        sampled.append(left[later][:: 1 + len(members) // 64])
        near = np.argwhere(later & (left < max(LEAST, SAME * float(np.median(left)))))
        pairs += [(start + int(i), int(j), float(left[i, j])) for i, j in near]
    bound = max(LEAST, SAME * float(np.median(np.concatenate(sampled))))
    for i, j, distance in pairs:
        if distance < bound and members[i][1].run_id != members[j][1].run_id:
            told = f"sequence by sequence those of {members[i][0]} but for {distance:.4f} nats: one is a copy"
            yield members[j][0], "test.nats", told


def _directions(runs: Sequence[Record]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Each run's NLL of the sequences, less their mean, as a unit vector; and its standard deviation."""
    import numpy as np

    tests = [run.test for run in runs if run.test is not None]
    frames = np.array(tests[0].frames, dtype=np.float64)
    nll = np.array([test.nats for test in tests]) / np.maximum(frames, 1)
    nll -= nll.mean(1, keepdims=True)
    norm = np.linalg.norm(nll, axis=1)
    unit = nll / np.maximum(norm, 1e-12)[:, None]
    return unit.astype(np.float32), (norm / math.sqrt(len(frames))).astype(np.float32)


def twins(members: Sequence[Source]) -> Told:
    """Two runs with the same curve, figure by figure: one is the other under another name. A curve that does not move
    tells nothing, as those of units that stay at chance.
    """
    first: dict[Hashable, Source] = {}
    for name, record in members:
        curve = (*record.curve.valid, *record.curve.train)
        if len(set(curve)) >= MOVES:
            before, known = first.setdefault(curve, (name, record))
            if known.run_id != record.run_id:
                yield name, "curve", f"is that of {before}: one is a copy"


def gaps(members: Sequence[Source]) -> Told:
    """A test NLL that is far lower beside the validation NLL than those of the table's other runs, and beside the
    training NLL lower too.

    Beside one of them alone it may be: a density is sharp, and one of 36 sequences may cost a nat of their mean.
    Of tasks that can be solved some runs solve one and others do not, and what two splits differ by has two widths; as
    it has where some have learnt no more than a floor knows, so that these are left out.
    """
    known = [
        (name, run)
        for name, run in members
        if counts(run) and run.test and run.valid and run.train and run.test.nll < _least_floor(run)
    ]
    if len(known) < ENOUGH or members[0][1].task.solved:
        return
    lower = _below(known, "train", LOWER)
    yield from ((name, "test.nll", told) for name, told in _below(known, "valid", FAR).items() if name in lower)


def _below(known: Sequence[Source], split: Literal["train", "valid"], deviations: float) -> dict[str, str]:
    """The runs whose test NLL lies so many robust deviations below the table's line beside another split's, and where.

    What two splits differ by changes with what was learnt, along a line (Theil and Sen's) through each unit's mean at
    each rate: the many seeds of the best rates, all alike, would call what learnt less far off.
    """
    import numpy as np
    from scipy.stats import theilslopes

    places: dict[Hashable, list[tuple[float, float]]] = defaultdict(list)
    figures = []
    for _, run in known:
        beside = getattr(run, split).nll
        # Ignored, as the caller has left out runs without a test.
        figures.append((beside, run.test.nll - beside))  # type: ignore[union-attr]
        places[_unit(run), run.rate].append(figures[-1])
    pairs = [np.mean(pair, axis=0) for pair in places.values()]
    x, y = np.array(pairs if len(pairs) >= ENOUGH else figures).T
    slope, start, *_ = theilslopes(y, x) if len(set(x)) > 1 else (0.0, float(np.median(y)))
    usual = 1.4826 * float(np.median(np.abs(y - start - slope * x)))
    return {
        name: f"is {split}.nll {difference:+.3f}; by the table's other runs it is {middle:+.3f} ± {usual:.3f}"
        for (name, _), (nll, difference) in zip(known, figures, strict=True)
        if usual > 0 and difference < (middle := start + slope * nll) - deviations * usual
    }


def _least_floor(run: Record) -> float:
    return min((score.nll for score in run.floors.values()), default=math.inf)


def curves(members: Sequence[Source]) -> Told:
    """A validation curve far smoother than those of the unit's other runs; ln roughness is a parabola in ln rate."""
    import numpy as np

    units: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
    for name, record in members:
        if not record.task.solved and (rough := roughness(record)) is not None:
            units[record.cell.name].append((name, record.rate, rough))
    for known in units.values():
        if len(known) < ENOUGH or len({rate for _, rate, _ in known}) < 4:
            continue
        x, y = (np.log([one[k] for one in known]) for k in (1, 2))
        left = y - np.polyval(np.polyfit(x, y, 2), x)
        left -= np.median(left)
        for (name, _, _), off in zip(known, left, strict=True):
            if off < -SMOOTH:
                yield name, "curve.valid", f"is {math.exp(-off):.1f} times smoother than the unit's other curves"


def roughness(record: Record) -> float | None:
    """The median second difference of the first half of a validation curve; None where it is short or flat."""
    valid = [v for v in record.curve.valid if v is not None]
    if len(valid) < LONG:
        return None
    second = sorted(abs(a - 2 * b + c) for a, b, c in zip(valid, valid[1:], valid[2 : len(valid) // 2], strict=False))
    return second[len(second) // 2] or 1e-9


def envelope(sources: Sequence[Source]) -> Told:
    """Validation curves that lie far below all others of their table after some epoch, as one without its beginning
    does. A unit that learns faster than any other does too, so these are to be looked at and are no faults.
    """
    import numpy as np

    tables: dict[Hashable, list[Source]] = defaultdict(list)
    for name, record in sources:
        if not record.task.solved:  # the curve of one that is solved falls at once, whenever it does
            tables[table_key(record)].append((name, record))
    for members in tables.values():
        longest = max(len(run.curve.valid) for _, run in members)
        if len(members) <= ENOUGH or not longest:
            continue
        valid = np.full((len(members), longest), np.nan)
        for line, (_, run) in zip(valid, members, strict=True):
            line[: len(run.curve.valid)] = [np.nan if v is None else v for v in run.curve.valid]
        valid = valid[:, np.isfinite(valid).sum(0) > ENOUGH]
        if not valid.size:
            continue
        least, second = np.partition(np.nan_to_num(valid, nan=np.inf), 1, axis=0)[:2]
        below = np.nan_to_num(np.where(valid == least, second, least) - valid, nan=0.0)
        usual = np.nanmedian(valid[:, 0]) - least.min()
        for i in np.flatnonzero(below.max(1) > FAST * usual):
            epoch = int(below[i].argmax())
            told = f"is {below[i, epoch]:.3f} below all other curves of its table in entry {epoch + 1}"
            yield members[i][0], "curve.valid", told
