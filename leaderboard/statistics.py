"""Means, intervals, and which differences are more than chance.

Two intervals. That over seeds says how well a mean over seeds is known on these test pieces; that over seeds and pieces
says it of other pieces of music too, and is much wider. Neither says how far single runs scatter: a prediction interval
does, and a paper's single run is held against that.

Who beats whom. Two units, tested on the same sequences, differ by D = (total nats of A - total nats of B) / (total
frames), of each the mean over its seeds: by what their reported NLLs differ. Whoever claims that A is better says so of
other seeds and of other pieces of music too, so both are random, as readers and words are in psycholinguistics (Clark
1973, "The language-as-fixed-effect fallacy", J. Verbal Learning and Verbal Behavior 12). The error of D has two parts:

- seeds: s1^2 = s_A^2 / n + s_B^2 / n. The same seed of two units draws weights of different sizes, and what comes out
  is not correlated; so this is a test of two independent samples, with 2n - 2 degrees of freedom where both scatter
  alike, and fewer where one scatters more (Welch 1947, Biometrika 34), rounded down. With 2n - 2 always, two equal
  units of which one scatters ten times as much are told apart in 8% of cases;
- sequences: s2, of the paired differences, S - 1 degrees of freedom: what is hard for one unit is hard for the other.

    D ~ s1 t(d) + s2 t(S - 1),    p = P(|s1 t(d) + s2 t(S - 1)| > |D|),

the distribution of Behrens and Fisher (Fisher 1935, "The fiducial argument in statistical inference", Annals of
Eugenics 6). What the two share is counted twice, which errs on the side of caution. With one seed only s2 is known, and
nothing is said about other seeds.

All m pairs of a table are judged together (Bonferroni): two units are told apart where p < 0.05 / m, which is where the
simultaneous interval of D, of level 1 - 0.05 / m, leaves out 0. With probability 0.95 no pair at all is told apart
wrongly, and no simultaneous interval misses its difference. The letters of a table, its matrix, the gaps to the best,
the forest plots and the verdicts on papers' claims are all this one test.
"""

from __future__ import annotations

import dataclasses
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
    Ints = NDArray[np.int64]

DIGITS = 9  # as many as a record's scores have: what a machine's last bit changes never reaches a file
LEVEL = 0.05
NODES = 500  # of the quadrature: p-values to a percent of themselves, or to 1e-5
STEPS, CLOSE = 5, 1e-4  # of the secant rule, at most; of ln p, where it ends


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
        interval: half the simultaneous interval of the difference; None where one sequence and one seed say nothing.
        p: of a difference as large by chance, by itself; None likewise.
        corrected: p times the number of pairs of the table, at most 1.
        n: seeds of each.
    """

    first: int
    second: int
    difference: float
    interval: float | None
    p: float | None
    corrected: float | None
    n: int

    @property
    def significant(self) -> bool:
        """Whether the two are told apart."""
        return self.corrected is not None and self.corrected < LEVEL

    def turned(self) -> Comparison:
        """The second held against the first."""
        return dataclasses.replace(self, first=self.second, second=self.first, difference=-self.difference)


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


def prediction(values: Iterable[float]) -> float | None:
    """How far one more run may lie from the mean of these: half the 95% prediction interval, t(0.975, n-1) s
    sqrt(1 + 1/n). Half the t-interval of the mean is t s / sqrt(n), so this is sqrt(n + 1) times it. None where there
    is one value.
    """
    found = estimate(values)
    return None if found is None or found.interval is None else round(found.interval * math.sqrt(found.n + 1), DIGITS)


def over_pieces(nats: Floats, frames: Floats) -> float | None:
    """Half the 95% interval of a unit's NLL over seeds and test sequences; None where there is one of either.

    Args:
        nats: [n, S], n seeds and S test sequences.
        frames: [S], frames scored in each sequence.
    """
    import numpy as np

    n, S = nats.shape
    if n < 2 or S < 2:
        return None
    seeds, sequences = _error(nats.sum(1) / frames.sum()), _error(shares(nats.mean(0), frames))
    half = half_width(LEVEL, *(np.array([v]) for v in (seeds, n - 1, sequences, S - 1)))
    return round(float(half[0]), DIGITS)


def compare(nats: Sequence[Floats], frames: Floats, judged: int | None = None) -> list[Comparison]:
    """All pairs of units, by the test in the module's docstring.

    Args:
        nats: for each unit [n, S]: n seeds, as many for all units, and S test sequences.
        frames: [S], frames scored in each sequence.
        judged: how many pairs are corrected for, where these units were chosen from more by their figures; None: these.
    """
    import numpy as np

    pairs = list(combinations(range(len(nats)), 2))
    if not pairs:
        return []
    total, (n, S) = frames.sum(), nats[0].shape
    means = [unit.mean(0) for unit in nats]
    D = np.array([(means[i] - means[j]).sum() / total for i, j in pairs]).round(DIGITS)
    if n == 1 and S == 1:
        return [Comparison(i, j, float(d), None, None, None, n) for (i, j), d in zip(pairs, D, strict=True)]
    variances = [_error(unit.sum(1) / total) ** 2 for unit in nats]
    s1 = np.array([math.sqrt(variances[i] + variances[j]) for i, j in pairs])
    n1 = np.array([welch(variances[i], variances[j], n) for i, j in pairs])
    s2 = np.array([_error(shares(means[i] - means[j], frames)) for i, j in pairs])
    n2 = np.full(len(pairs), max(S - 1, 1))
    p = behrens_fisher(np.abs(D), s1, n1, s2, n2)
    m = judged or len(pairs)
    half = half_width(LEVEL / m, s1, n1, s2, n2)
    return [
        Comparison(i, j, float(d), round(float(h), DIGITS), float(f"{q:.3g}"), float(f"{min(1, q * m):.3g}"), n)
        for (i, j), d, h, q in zip(pairs, D, half, p, strict=True)
    ]


def _error(values: Floats) -> float:
    """The standard error of a mean; 0 of a single value."""
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def welch(a: float, b: float, n: int) -> int:
    """Degrees of freedom of a difference of two means over n values each, with squared standard errors a and b."""
    return 1 if n < 2 else 2 * n - 2 if a == b else math.floor((n - 1) * (a + b) ** 2 / (a**2 + b**2))


def behrens_fisher(D: Floats, s1: Floats, n1: Ints, s2: Floats, n2: Ints) -> Floats:
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


def half_width(level: float, s1: Floats, n1: Ints, s2: Floats, n2: Ints) -> Floats:
    """The D at which `behrens_fisher` gives this level, by the secant rule on ln p; 0 where both s are 0."""
    import numpy as np
    from scipy.special import stdtrit

    one, other = s1 * stdtrit(n1, 1 - level / 2), s2 * stdtrit(n2, 1 - level / 2)
    # were both normal the first would be it; it is never less than the larger of the two, nor more than their sum
    least, most = np.maximum(one, other), one + other
    before = np.hypot(one, other)
    D = np.clip(1.02 * before, least, most)

    def off(D: Floats, where: Ints) -> Floats:
        p = behrens_fisher(D[where], s1[where], n1[where], s2[where], n2[where])
        return np.log(np.maximum(p, 1e-300) / level)

    open_ = np.flatnonzero(most > least)
    last, now = off(before, open_), off(D, open_)
    for _ in range(STEPS):
        going = (np.abs(now) > CLOSE) & (now != last)
        open_, last, now = open_[going], last[going], now[going]
        step = now * (D[open_] - before[open_]) / (now - last)
        before[open_], D[open_] = D[open_], np.clip(D[open_] - step, least[open_], most[open_])
        last, now = now, off(D, open_)
    return D


@lru_cache
def _nodes(degrees: int) -> tuple[Floats, Floats]:
    """Quantiles of t, and the weights that give twice the mean over them."""
    from scipy.special import roots_legendre, stdtrit

    x, weights = roots_legendre(NODES)
    return stdtrit(degrees, (x + 1) / 2), weights


def shares(difference: Floats, frames: Floats) -> Floats:
    """What each sequence says about D, [S], with mean D: D + (d_i - D f_i) S / sum f.

    D is a ratio of totals, d nats to f frames; this is its linearisation (Cochran 1977, Sampling Techniques, chapter
    6). A plain t-test of these numbers is the test over sequences. Where all sequences are equally long they are the
    differences of the sequences' own NLLs.
    """
    ratio = difference.sum() / frames.sum()
    return ratio + (difference - ratio * frames) * (len(frames) / frames.sum())


def letters(count: int, apart: Iterable[tuple[int, int]]) -> list[str]:
    """For each of several units, the letters of its groups: two share one exactly if they are not told apart.

    Units are numbered from the best, so that "a" are those that are not told apart from it and from each other (Piepho
    2004, "An algorithm for a letter-based representation of all-pairwise comparisons", J. Computational and Graphical
    Statistics 13: insert and absorb).
    """
    groups = [frozenset(range(count))]
    for i, j in apart:
        split = [part for g in groups for part in ((g - {i}, g - {j}) if i in g and j in g else (g,))]
        groups = [g for k, g in enumerate(split) if not any(g < h or (g == h and k > m) for m, h in enumerate(split))]
    ordered = sorted(groups, key=sorted)
    return ["".join(_letter(k) for k, group in enumerate(ordered) if unit in group) for unit in range(count)]


def _letter(k: int) -> str:
    """a to z, then A to Z, then a1, b1, ..."""
    turn, place = divmod(k, 52)
    return "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[place] + (str(turn) if turn else "")
