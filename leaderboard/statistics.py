"""Means, intervals, and which differences are more than chance.

An interval says how well a mean over seeds is known, not how far single runs scatter.

Who beats whom. Two units, trained with the same seeds and tested on the same sequences, differ by
D = (total nats of A - total nats of B) / (total frames), averaged over the seeds: by what their reported NLLs differ.
Whoever claims that A is better says so of other seeds and of other pieces of music too, so both are random: a crossed
design, as with readers and words in psycholinguistics. Its classic test is min F' (Clark 1973, "The language-as-fixed-
effect fallacy", J. Verbal Learning and Verbal Behavior 12): of the paired tests over seeds, t1 with n - 1 degrees of
freedom, and over sequences, t2 with S - 1, it takes

    min F' = t1^2 t2^2 / (t1^2 + t2^2),    degrees 1 and (t1^2 + t2^2)^2 / (t1^4 / (S - 1) + t2^4 / (n - 1)).

As t = D / sqrt(V), this is D^2 / (V1 + V2): the variances of both add up; what they share is counted twice, which errs
on the side of caution. With one seed only V2 is known, and nothing is said about other seeds.

p-values of all pairs of a table are corrected together (Holm 1979): with probability 0.95 no pair at all is told apart
wrongly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DIGITS = 9  # as many as a record's scores have: what a machine's last bit changes never reaches a file
LEVEL = 0.05


@dataclass(frozen=True)
class Estimate:
    """A mean over runs.

    Attributes:
        mean: of all values.
        interval: half the width of the 95% t-interval of the mean; None where there is one value.
        n: how many values.
    """

    mean: float
    interval: float | None
    n: int


@dataclass(frozen=True)
class Comparison:
    """Two units of a table held against each other.

    Attributes:
        first: position of one of them.
        second: position of the other, greater than `first`.
        difference: test NLL of the first minus that of the second.
        p: of a difference as large by chance, by itself; None where one sequence and one seed say nothing.
        holm: p corrected for all pairs of the table.
    """

    first: int
    second: int
    difference: float
    p: float | None
    holm: float | None

    @property
    def significant(self) -> bool:
        """Whether the two are told apart."""
        return self.holm is not None and self.holm < LEVEL


def estimate(values: Iterable[float]) -> Estimate | None:
    """The mean with its two-sided 95% t-interval, mean +- t(0.975, n-1) s / sqrt(n); None where there is no value."""
    values = list(values)
    n = len(values)
    if not n:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(round(mean, DIGITS), None, n)
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    return Estimate(round(mean, DIGITS), round(_t_quantile(n - 1) * deviation / math.sqrt(n), DIGITS), n)


@lru_cache
def _t_quantile(degrees: int) -> float:
    from scipy.stats import t  # most of a second to import, and many boards have one seed

    return float(t.ppf(0.975, degrees))


def compare(nats: Sequence[Floats], frames: Floats) -> list[Comparison]:
    """All pairs of units, by the test in the module's docstring.

    Args:
        nats: for each unit [n, S]: n seeds, the same for all units, and S test sequences.
        frames: [S], frames scored in each sequence.
    """
    import numpy as np
    from scipy.stats import t

    pairs = list(combinations(range(len(nats)), 2))
    if not pairs:
        return []
    statistics = np.array([_statistic(nats[i] - nats[j], frames) for i, j in pairs])  # [pairs, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * t.sf(np.abs(statistics[:, 0] / np.sqrt(statistics[:, 1])), statistics[:, 2])
    told: list[float | None] = [
        None if not degrees else 1.0 if not difference else 0.0 if not variance else float(f"{value:.3g}")
        for value, (difference, variance, degrees) in zip(p, statistics, strict=True)
    ]
    corrected = iter(holm([value for value in told if value is not None]))
    return [
        Comparison(i, j, round(float(row[0]), DIGITS), value, None if value is None else next(corrected))
        for (i, j), row, value in zip(pairs, statistics, told, strict=True)
    ]


def _statistic(difference: Floats, frames: Floats) -> tuple[float, float, float]:
    """D, its variance and the degrees of freedom, of differences in nats [n, S]; no degrees where nothing varies."""
    total = float(frames.sum())
    D = float(difference.sum()) / total / len(difference)
    over = [shares(difference.mean(0), frames), difference.sum(1) / total]
    known = [(float(values.var(ddof=1)) / len(values), len(values) - 1) for values in over if len(values) > 1]
    variance = sum(v for v, _ in known)
    if not variance:
        return round(D, DIGITS), 0.0, float(sum(degrees for _, degrees in known))
    return D, variance, variance**2 / sum(v**2 / degrees for v, degrees in known)


def shares(difference: Floats, frames: Floats) -> Floats:
    """What each sequence says about D, [S], with mean D: D + (d_i - D f_i) S / sum f.

    D is a ratio of totals, d nats to f frames; this is its linearisation (Cochran 1977, Sampling Techniques, chapter
    6). A plain t-test of these numbers is the test over sequences. Where all sequences are equally long they are the
    differences of the sequences' own NLLs.
    """
    ratio = difference.sum() / frames.sum()
    return ratio + (difference - ratio * frames) * (len(frames) / frames.sum())


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number, step by step (Holm 1979): the k-th smallest of m times m - k + 1, and never
    less than one before it.
    """
    order = sorted(range(len(p)), key=p.__getitem__)
    corrected, largest = [0.0] * len(p), 0.0
    for k, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - k) * p[i]))
        corrected[i] = float(f"{largest:.3g}")
    return corrected
