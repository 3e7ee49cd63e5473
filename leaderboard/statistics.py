"""Means, intervals, and which differences are more than chance.

An interval says how well a mean over seeds is known, not how far single runs scatter.

Who beats whom. Two units, trained with the same seeds and tested on the same sequences, differ by
D = (total nats of A - total nats of B) / (total frames), averaged over the seeds: by what their reported NLLs differ.
Whoever claims that A is better says so of other seeds and of other pieces of music too, so both are random: a crossed
design, as with readers and words in psycholinguistics (Clark 1973, "The language-as-fixed-effect fallacy", J. Verbal
Learning and Verbal Behavior 12). Its error has two parts, which the paired t-tests over n seeds and over S sequences
estimate: with standard errors s1 and s2,

    D ~ s1 t(n - 1) + s2 t(S - 1),    p = P(|s1 t(n - 1) + s2 t(S - 1)| > |D|),

the distribution of Behrens and Fisher (Fisher 1935, "The fiducial argument in statistical inference", Annals of
Eugenics 6). Where one part is small this is the paired t-test over the other; what the two share is counted twice,
which errs on the side of caution. Clark's own degrees of freedom (min F') trust few seeds too much: with three, six
times too many pairs of equal units fall below p = 0.003, where a correction for many pairs looks; here no more than
should. With one seed only s2 is known, and nothing is said about other seeds.

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
NODES = 500  # of the quadrature: p-values to a percent of themselves, or to 1e-5


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

    pairs = list(combinations(range(len(nats)), 2))
    if not pairs:
        return []
    total, (n, S) = frames.sum(), nats[0].shape
    differences = [nats[i] - nats[j] for i, j in pairs]
    D = np.array([difference.sum() / total / n for difference in differences])
    over_seeds = _errors([difference.sum(1) / total for difference in differences])
    over_sequences = _errors([shares(difference.mean(0), frames) for difference in differences])
    told: list[float | None] = [None] * len(pairs)
    if n > 1 or S > 1:
        told = [
            float(f"{p:.3g}") for p in behrens_fisher(np.abs(D.round(DIGITS)), over_seeds, n - 1, over_sequences, S - 1)
        ]
    corrected = iter(holm([p for p in told if p is not None]))
    return [
        Comparison(i, j, round(float(d), DIGITS), p, None if p is None else next(corrected))
        for (i, j), d, p in zip(pairs, D, told, strict=True)
    ]


def _errors(values: list[Floats]) -> Floats:
    """Standard errors of means; 0 of a single value."""
    import numpy as np

    return np.array([v.std(ddof=1) / math.sqrt(len(v)) if len(v) > 1 else 0.0 for v in values])


def behrens_fisher(D: Floats, s1: Floats, n1: int, s2: Floats, n2: int) -> Floats:
    """P(|s1 t(n1) + s2 t(n2)| > D) for D >= 0, all arrays alike; 1 where D is 0, 0 where D is not and both s are."""
    import numpy as np
    from scipy.special import stdtr

    # The narrower of the two is averaged over, so that what is averaged is smooth; Gauss-Legendre over its quantiles.
    swap = s1 > s2
    narrow, wide = np.where(swap, s2, s1), np.where(swap, s1, s2)
    few, many = np.where(swap, n2, n1), np.where(swap, n1, n2)
    p = np.zeros(len(D))
    for k in np.flatnonzero(wide):
        quantiles, weights = _nodes(int(few[k]) if narrow[k] else 1)
        p[k] = weights @ stdtr(many[k], (narrow[k] * quantiles - D[k]) / wide[k])
    return np.where(D == 0, 1.0, p)


@lru_cache
def _nodes(degrees: int) -> tuple[Floats, Floats]:
    """Quantiles of t, and the weights that give twice the mean over them."""
    import numpy as np
    from scipy.special import stdtrit

    x, weights = np.polynomial.legendre.leggauss(NODES)
    return stdtrit(degrees, (x + 1) / 2), weights


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
