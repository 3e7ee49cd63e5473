"""What the figures show: a unit's mean curves over its seeds, and its validation NLL against the learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise
from statistics import median

from seqbench.leaderboard.rows import Row, Table
from seqbench.record import Curve, counts

MOST_CURVES = 12
MOST_POINTS = 60
STILL = 3  # times a run's median epoch that one may count for


@dataclass(frozen=True)
class Line:
    """A unit's curves, averaged over the seeds that count, as long as the shortest of their runs.

    All lists have one entry a validation; `low` and `high` are the least and the greatest NLL of any seed. NaN where no
    seed has a finite figure.
    """

    row: Row
    epoch: list[float]
    seconds: list[float]
    train: list[float]
    train_low: list[float]
    train_high: list[float]
    valid: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class Sensitivity:
    """A unit's validation NLL at each rate, the mean over the seeds that count there.

    Attributes:
        row: the unit.
        rate: ascending.
        valid: one for each rate.
        diverged: rates at which no run counts and one diverged.
    """

    row: Row
    rate: list[float]
    valid: list[float]
    diverged: list[float]


def lines(table: Table) -> list[Line]:
    """The curves of a table's best units, at most MOST_CURVES, in the table's order."""
    return list(islice((line for row in table.units if (line := average(row)) is not None), MOST_CURVES))


def average(row: Row) -> Line | None:
    """The mean curves of a row; None where no run counts or none has a curve."""
    curves = [run.curve for run in row.counted]
    length = min((len(curve.valid) for curve in curves), default=0)
    if not length:
        return None
    keep, epochs, clocks = thin(length), curves[0].epoch, [clock(curve) for curve in curves]

    def over_seeds(field: str, of: str) -> list[float]:
        return [_reduce([getattr(curve, field)[i] for curve in curves], of) for i in keep]

    return Line(
        row=row,
        epoch=[epochs[i] + 1.0 for i in keep],
        seconds=[_reduce([told[i] for told in clocks], "mean") for i in keep],
        train=over_seeds("train", "mean"),
        train_low=over_seeds("train", "min"),
        train_high=over_seeds("train", "max"),
        valid=over_seeds("valid", "mean"),
        low=over_seeds("valid", "min"),
        high=over_seeds("valid", "max"),
    )


def clock(curve: Curve) -> list[float]:
    """Seconds of training and validation to each validation. An epoch counts for at most STILL times the median one:
    where a machine stood still, or was asleep, nothing was trained.
    """
    each = [b - a for a, b in pairwise([0.0, *curve.seconds])]
    longest = STILL * median(each) if each else 0.0
    return list(accumulate(min(one, longest) for one in each))


def thin(length: int) -> list[int]:
    """At most MOST_POINTS indexes of a curve, evenly spread, the last always among them."""
    if length <= MOST_POINTS:
        return list(range(length))
    return [round(i * (length - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)]


def _reduce(values: Sequence[float | None], of: str) -> float:
    finite = [v for v in values if v is not None]
    if not finite:
        return math.nan
    if of == "mean":
        return round(math.fsum(finite) / len(finite), 6)
    return min(finite) if of == "min" else max(finite)


def limits(shown: Sequence[Line]) -> tuple[float, float]:
    """The range worth seeing: from the lowest value to where most are after a fifth of their epochs, or end."""
    every = finite(v for line in shown for v in (*line.train, *line.valid))
    if not every:
        return 0.0, 1.0
    late = []
    for line in shown:
        start = min(len(line.epoch) - 1, max(1, len(line.epoch) // 5))
        late += finite(v for curve in (line.train, line.valid) for v in (curve[start], curve[-1]))
    return _most([min(every), *(late or every)])


def sensitivities(table: Table) -> list[Sensitivity]:
    """Of the same units as `lines`; empty where only one rate was tried."""
    if len(table.search.rates) < 2:
        return []
    shown = islice((row for row in table.units if row.counted), MOST_CURVES)
    return [sensitivity(row) for row in shown]


def sensitivity(row: Row) -> Sensitivity:
    """Validation NLL at each rate that was tried."""
    found: dict[float, list[float]] = {}
    diverged = set()
    for run in row.runs + row.searched:
        if counts(run) and run.best_valid is not None:
            found.setdefault(run.rate, []).append(run.best_valid)
        elif run.status == "diverged":
            diverged.add(run.rate)
    rates = sorted(found)
    means = [round(math.fsum(found[rate]) / len(found[rate]), 6) for rate in rates]
    return Sensitivity(row, rates, means, sorted(diverged - found.keys()))


def rate_limits(shown: Sequence[Sensitivity]) -> tuple[float, float]:
    """The range worth seeing: from the best value to a little above most."""
    return _most([v for one in shown for v in one.valid])


def _most(values: Iterable[float]) -> tuple[float, float]:
    """From the lowest to a little above most, with a margin: what learns nothing shall not flatten the others."""
    every = sorted(values)
    low, typical = every[0], every[(3 * len(every)) // 4]
    high = min(every[-1], low + 2 * (typical - low) or every[-1])
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def finite(values: Iterable[float]) -> list[float]:
    """Those that are numbers."""
    return [v for v in values if not math.isnan(v)]
