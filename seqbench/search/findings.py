"""What Greff et al. 2015 found of hyper-parameters (section 5.3, recalled), judged by the trees of a functional ANOVA.

Each tree was grown on a bootstrap sample of the trials, so the share of trees in which a finding is true says how sure
it is: held from 95% on, not held up to 5%, undecided between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqbench.search.anova import Array

SURE = 0.95  # of the trees
HARDLY, SMALL = 1.0, 20.0  # percent of the variance: of momentum, and of all pairs together


@dataclass(frozen=True)
class Finding:
    """One of them.

    Attributes:
        text: as a sentence.
        verdict: held, not held or undecided.
        trees: in which it is true, in percent.
    """

    text: str
    verdict: str
    trees: float


def findings(shares: dict[tuple[int, ...], Array], size: int, rate: int, momentum: int) -> list[Finding]:
    """All of them, of one unit on one data set.

    Args:
        shares: [trees] of each variable and pair, in percent of the variance.
        size: which variable it is.
        rate: likewise.
        momentum: likewise.
    """
    alone = {of[0]: share for of, share in shares.items() if len(of) == 1}
    pairs = np.sum([share for of, share in shares.items() if len(of) == 2], axis=0)
    below = [share for variable, share in alone.items() if variable not in (size, rate)]
    true = {
        "The rate matters most.": alone[rate] > np.max([share for v, share in alone.items() if v != rate], axis=0),
        "The hidden size comes second.": (alone[size] > np.max(below, axis=0)) & (alone[rate] > alone[size]),
        f"Momentum hardly matters: below {HARDLY:.0f}% of the variance.": alone[momentum] < HARDLY,
        f"Interactions are small: below {SMALL:.0f}% together.": pairs < SMALL,
    }
    return [_finding(text, float(np.mean(trees))) for text, trees in true.items()]


def _finding(text: str, share: float) -> Finding:
    verdict = "held" if share >= SURE else "not held" if share <= 1 - SURE else "undecided"
    return Finding(text, verdict, round(100 * share, 1))
