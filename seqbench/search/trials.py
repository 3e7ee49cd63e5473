"""Random search over all that is tuned at once, as Greff et al. 2015 (arXiv 1503.04069, section 3.4) draw it.

Hidden size log-uniform in [20, 200], rate in [1e-6, 1e-2], 1 - momentum in [0.01, 1], input noise uniform in [0, 1].
Their rate is scaled by (1 - momentum); torch's SGD does not do that, so it is done here: `--model.rate` is the product.

Trials of a group train as replicas, so they have size, momentum and noise in common and differ by rate and seed; groups
of one are the paper's own draws. The sizes of a unit's G groups are one out of each of G equal stretches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from seqbench.task import generator

SIZES, RATES, LAG = (20, 200), (1e-6, 1e-2), (0.01, 1.0)  # LAG: of 1 - momentum
MOMENTUM = 1e-4  # the least, as Nesterov's rule needs some


@dataclass(frozen=True)
class Trials:
    """Trials that train together.

    Attributes:
        flags: for `seqbench fit`, what they have in common.
        seeds: of each one, the trial's number.
        rates: of each one, to 4 digits.
    """

    flags: list[str]
    seeds: list[int]
    rates: list[float]


def draw_trials(unit: str, trials: int, group_size: int, seed: int) -> list[Trials]:
    """All trials of a unit: a function of these four."""
    import torch

    groups = math.ceil(trials / group_size)
    found = []
    for n in range(groups):
        seeds = list(range(n * group_size, min(trials, (n + 1) * group_size)))
        drawn = torch.rand(3 + len(seeds), generator=generator(seed, f"trials {unit}", n), dtype=torch.float64).tolist()
        hidden = round(_log(SIZES, (n + drawn[0]) / groups))
        momentum = max(MOMENTUM, round(1 - _log(LAG, drawn[1]), 4))
        flags = ["--model.hidden", str(hidden), "--model.optimizer.momentum", str(momentum)]
        flags += ["--model.input_noise", str(round(drawn[2], 4))]
        rates = [float(f"{_log(RATES, u) * (1 - momentum):.4g}") for u in drawn[3:]]
        found.append(Trials(flags, seeds, rates))
    return found


def drawn_of(rate: float, hidden: int, model: dict[str, Any]) -> list[float]:
    """What was drawn of a run, each as a share of its range: size, rate, momentum, input noise.

    model: the section of a record's configuration.

    Raises:
        KeyError: it has no momentum or no input noise, so it is no trial.
    """
    lag = 1 - float(model["optimizer"]["init_args"]["momentum"])
    return [_share(SIZES, hidden), _share(RATES, rate / lag), _share(LAG, lag), float(model["input_noise"])]


def _log(bounds: tuple[float, float], share: float) -> float:
    """What lies so far between the bounds, by its logarithm."""
    return float(bounds[0] * (bounds[1] / bounds[0]) ** share)


def _share(bounds: tuple[float, float], value: float) -> float:
    """The inverse, held to [0, 1]: values are rounded."""
    return min(1.0, max(0.0, math.log(value / bounds[0]) / math.log(bounds[1] / bounds[0])))
