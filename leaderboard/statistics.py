"""Means and intervals. An interval says how well a mean over seeds is known, not how far single runs scatter."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

DIGITS = 9  # as many as a record's scores have: what a machine's last bit changes never reaches a file


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
