"""`seqbench importance`: which hyper-parameter matters, by functional ANOVA over the trials of a random search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqbench import record as rec
from seqbench.search.anova import Array, Boxes, forest, marginals, shares
from seqbench.search.findings import Finding, findings
from seqbench.search.trials import LAG, RATES, SIZES, drawn_of
from seqbench.task import SeqbenchError

NAMES = ("hidden size", "rate", "1 - momentum", "input noise")
RANGES = (SIZES, RATES, LAG, (0.0, 1.0))  # the first three logarithmic
SIZE, RATE, MOMENTUM = 0, 1, 2
LEAST = 20  # trials


@dataclass(frozen=True)
class Effect:
    """What one or two hyper-parameters explain, in percent of the variance over the whole ranges.

    Attributes:
        of: names, joined by " x ".
        share: mean over the trees; of a pair, beyond what its two explain.
        low, high: 95% of the trees, each grown on a bootstrap sample of the trials.
    """

    of: str
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Importance:
    """What the trials of a unit on a data set tell.

    Attributes:
        task: the data set.
        unit: the unit.
        trials: that count.
        hours: of training and validation, of all of them; those that train together share the clock.
        findings: of the paper, and whether they hold here.
        effects: the largest first, main effects before pairs.
        curves: of each hyper-parameter, by its name: mean validation NLL over all others, at equal steps of its range.
        map: of hidden size (rows) and rate (columns), likewise.
    """

    task: str
    unit: str
    trials: int
    hours: float
    findings: list[Finding]
    effects: list[Effect]
    curves: dict[str, list[float]]
    map: list[list[float]]


def measured(folder: Path) -> list[Importance]:
    """One for each data set and unit.

    Raises:
        SeqbenchError: fewer than 20 trials of a unit came to their end, none of them beats the worst floor, or there
            are none.
    """
    found: dict[tuple[str, str], list[rec.Record]] = {}
    for run in rec.ended_below(folder):
        if run.best_valid is not None and _is_trial(run):
            found.setdefault((run.task.name, run.cell.name), []).append(run)
    if not found:
        raise SeqbenchError(f"{folder} has no trials: begin some by seqbench sweep --trials 200 --out {folder}")
    return [_measured(*key, runs) for key, runs in sorted(found.items())]


def _is_trial(run: rec.Record) -> bool:
    try:
        drawn_of(run.rate, run.cell.hidden, run.config["model"])
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return False
    return True


def _measured(task: str, unit: str, runs: list[rec.Record]) -> Importance:
    if len(runs) < LEAST:
        raise SeqbenchError(f"{unit} on {task} has {len(runs)} trials that count: {LEAST} are the least")
    x = np.array([drawn_of(run.rate, run.cell.hidden, run.config["model"]) for run in runs])
    y = np.array([_score(run) for run in runs])
    if y.min() == y.max():
        raise SeqbenchError(
            f"no trial of {unit} on {task} beats the worst floor, so there is nothing to explain: train on"
        )
    trees = forest(x, y)
    explained = shares(trees)
    found = [_effect(" x ".join(NAMES[d] for d in of), share) for of, share in explained.items()]
    pairs = [effect for effect in found if " x " in effect.of]
    alone = [effect for effect in found if effect not in pairs]
    return Importance(
        task=task,
        unit=unit,
        trials=len(runs),
        hours=round(sum(run.seconds / run.environment.replicas for run in runs) / 3600, 4),
        findings=findings(explained, SIZE, RATE, MOMENTUM),
        effects=[*sorted(alone, key=_falling), *sorted(pairs, key=_falling)],
        curves={name: _rounded(_mean(trees, (d,))) for d, name in enumerate(NAMES)},
        map=_rounded(_mean(trees, (SIZE, RATE))),
    )


def _score(run: rec.Record) -> float:
    """Validation NLL, but no worse than the worst floor: how badly a run went wrong is no matter of degree."""
    assert run.best_valid is not None
    return min([run.best_valid, *([max(score.nll for score in run.floors.values())] if run.floors else [])])


def _effect(name: str, share: Array) -> Effect:
    low, high = np.percentile(share, [2.5, 97.5])
    return Effect(name, round(float(share.mean()), 2), round(float(low), 2), round(float(high), 2))


def _falling(effect: Effect) -> float:
    return -effect.share


def _mean(trees: list[Boxes], variables: tuple[int, ...]) -> Array:
    found: Array = marginals(trees, variables).mean(0)
    return found


def _rounded(values: Array) -> Any:
    return np.round(values, 5).tolist()


def effects(found: list[Importance]) -> list[dict[str, Any]]:
    """A row an effect."""
    return [
        {
            "data": one.task,
            "unit": one.unit,
            "trials": one.trials,
            "hyper-parameter": effect.of,
            "variance, %": effect.share,
            "trees": f"{effect.low:.1f} to {effect.high:.1f}",
        }
        for one in found
        for effect in one.effects
    ]


def verdicts(found: list[Importance]) -> list[str]:
    """A line a finding."""
    return [
        f"{one.unit} on {one.task}: {finding.verdict}, in {finding.trees:g}% of the trees: {finding.text}"
        for one in found
        for finding in one.findings
    ]
