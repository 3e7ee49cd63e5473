"""What a sweep consists of: its plan, the groups it is cut into, and the records that say what is done."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seqbench import record as rec
from seqbench.task import SeqbenchError, generator

Stage = Literal["search", "report"]
STAGES: tuple[Stage, ...] = ("search", "report")
PLAN = "sweep.json"


@dataclass(frozen=True)
class Plan:
    """What a sweep is; nothing here may change once it has begun.

    Attributes:
        command: configs and flags for `seqbench fit`, without unit, seeds and rates.
        units: class names.
        rates: the same for all units.
        seeds: how many; 0, 1, ...
        stages: in order.
        group_size: most replicas that train together.
    """

    command: list[str]
    units: list[str]
    rates: list[float]
    seeds: int
    stages: list[Stage]
    group_size: int


@dataclass(frozen=True)
class Group:
    """Runs that train together: one `seqbench fit`.

    Attributes:
        stage: "search" or "report".
        unit: class name.
        seeds: one per replica.
        rates: one per replica.
        run_ids: one per replica.
        name: the folder that keeps the group's checkpoint.
    """

    stage: Stage
    unit: str
    seeds: list[int]
    rates: list[float]
    run_ids: list[str]
    name: str

    def command(self, plan: Plan, out: Path) -> list[str]:
        """Arguments for `seqbench fit`; goes on from the group's checkpoint if there is one."""
        checkpoint = out / self.name / "checkpoints" / "last.ckpt"
        resume = ["--ckpt_path", str(checkpoint)] if checkpoint.exists() else []
        return [*fit_command(plan, out, self.unit, self.seeds, self.rates), "--run.overwrite", "true", *resume]


def fit_command(plan: Plan, out: Path, unit: str, seeds: list[int], rates: list[float]) -> list[str]:
    """Arguments for `seqbench fit` that train these replicas together."""
    replicas = ["--model.seed", json.dumps(seeds), "--model.rate", json.dumps(rates)]
    return ["fit", *plan.command, "--model.cell", unit, *replicas, "--run.dir", str(out)]


def draw_rates(n: int, seed: int) -> list[float]:
    """n learning rates exp(U(-12, -6)), Chung et al. 2014, to 4 digits; a function of the sweep's own seed."""
    import torch

    exponents = -12 + 6 * torch.rand(n, generator=generator(seed, "sweep rates"), dtype=torch.float64)
    return [float(f"{math.exp(e):.4g}") for e in exponents.tolist()]


def begin(plan: Plan, out: Path) -> None:
    """Writes the plan, or checks that it is the one that `out` was begun with.

    Raises:
        SeqbenchError: `out` holds another sweep, or cannot be written.
    """
    path = out / PLAN
    if path.exists():
        known, asked = dataclasses.asdict(load_plan(out)), dataclasses.asdict(plan)
        differing = [key for key in known if known[key] != asked[key]]
        if differing:
            raise SeqbenchError(f"{out} holds another sweep ({', '.join(differing)} differ): choose another --out")
        return
    try:
        rec.write_json(dataclasses.asdict(plan), path)
    except OSError as error:
        raise SeqbenchError(f"Cannot write to {out} ({error.strerror}); choose another --out") from error


def load_plan(out: Path) -> Plan:
    """The plan of the sweep in `out`.

    Raises:
        SeqbenchError: there is none, or it cannot be read.
    """
    try:
        return Plan(**json.loads((out / PLAN).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise SeqbenchError(f"{out} holds no sweep: begin one by seqbench sweep --out {out}") from error
    except (OSError, ValueError, TypeError) as error:
        raise SeqbenchError(
            f"{out / PLAN} cannot be read ({error}): restore it, or begin anew in another --out"
        ) from error


def members(plan: Plan, stage: Stage, unit: str, found: dict[str, rec.Record]) -> list[tuple[int, float]]:
    """Seed and rate of each run of a stage.  The report's seed 0 is the search's run: it is not planned twice."""
    if stage == "search":
        return [(0, rate) for rate in plan.rates]
    rate = plan.rates[0] if len(plan.rates) == 1 else best_rate(unit, found)
    first = 1 if "search" in plan.stages else 0
    return [] if rate is None else [(seed, rate) for seed in range(first, plan.seeds)]


def best_rate(unit: str, found: dict[str, rec.Record]) -> float | None:
    """The rate with the lowest validation NLL among the unit's finished runs with seed 0; None if there is none."""
    runs = [r for r in found.values() if r.cell.name == unit and r.seed == 0 and r.status == "finished"]
    scored = [(r.best_valid, r.rate) for r in runs if r.best_valid is not None]
    return min(scored)[1] if scored else None


def groups(plan: Plan, stage: Stage, out: Path, found: dict[str, rec.Record]) -> list[Group]:
    """The groups of a stage, always cut the same way, whatever is done already."""
    made = []
    for unit in plan.units:
        runs = members(plan, stage, unit, found)
        for first in range(0, len(runs), plan.group_size):
            part = runs[first : first + plan.group_size]
            seeds, rates = [seed for seed, _ in part], [rate for _, rate in part]
            made.append(_resolve(plan, stage, unit, seeds, rates, out))
    return made


def _resolve(plan: Plan, stage: Stage, unit: str, seeds: list[int], rates: list[float], out: Path) -> Group:
    """Asks the command line itself which runs these are."""
    from seqbench.fitting import SeqbenchCLI

    recorder = SeqbenchCLI(fit_command(plan, out, unit, seeds, rates), execute=False).recorder
    return Group(stage, unit, seeds, rates, recorder.run_ids, recorder.group_folder.name)


def records(out: Path) -> dict[str, rec.Record]:
    """All records in `out` by run id."""
    return {path.parent.name: rec.load(path) for path in sorted(out.glob("*/record.json"))}


def is_over(record: rec.Record | None) -> bool:
    """Whether a run need not be run again; an interrupted or failed one is tried again."""
    return record is not None and record.status in ("finished", "diverged")
