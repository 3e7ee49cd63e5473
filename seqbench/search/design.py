"""What a sweep consists of: its design, the groups it is cut into, and the records that say what is done."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from seqbench import record as rec
from seqbench.search.trials import draw_trials
from seqbench.task import SeqbenchError, generator

if TYPE_CHECKING:
    from seqbench.train.recorder import Recorder

Stage = Literal["search", "report", "trials"]
STAGES: tuple[Stage, ...] = ("search", "report")  # of a search of rates; trials are a stage of their own
FINALISTS = 3  # rates that get all seeds
DESIGN = "sweep.json"
EXPONENTS = (-12.0, -6.0)  # of e, between which rates are drawn (Chung et al. 2014)
RUNS = "runs.json"  # beside the design: the ids of all runs that the sweep may come to
HALVED = "halved"  # a file in the folder of a group that was too large for the memory


@dataclass(frozen=True)
class Design:
    """What a sweep is; nothing here may change once it has begun.

    Attributes:
        command: configs and flags for `seqbench fit`, without unit, seeds and rates.
        units: class names of the suite's units and of installed packages'; import paths of others.
        rates: the same for all units.
        seeds: how many; 0, 1, ...
        stages: in order.
        group_size: most replicas that train together.
        trials: of each unit, where it is a random search over more than rates (seqbench/search/trials.py); else 0.
        trial_seed: that the trials are drawn with.
    """

    command: list[str]
    units: list[str]
    rates: list[float]
    seeds: int
    stages: list[Stage]
    group_size: int
    trials: int = 0
    trial_seed: int = 0


@dataclass(frozen=True)
class Group:
    """Runs that train together: one `seqbench fit`.

    Attributes:
        stage: "search", "report" or "trials".
        unit: as in Design.
        seeds: one per replica.
        rates: one per replica.
        run_ids: one per replica.
        name: the folder that keeps the group's checkpoint.
        flags: that the runs have in common beside the design's command.
    """

    stage: Stage
    unit: str
    seeds: list[int]
    rates: list[float]
    run_ids: list[str]
    name: str
    flags: list[str] = field(default_factory=list)

    def checkpoint(self, out: Path) -> Path:
        """What the group goes on from, once it is there."""
        return out / self.name / "checkpoints" / "last.ckpt"

    def command(self, design: Design, out: Path) -> list[str]:
        """Arguments for `seqbench fit`; goes on from the group's checkpoint if there is one."""
        checkpoint = self.checkpoint(out)
        resume = ["--ckpt_path", str(checkpoint)] if checkpoint.exists() else []
        command = fit_command(design, out, self.unit, self.seeds, self.rates, self.flags)
        return [*command, "--run.overwrite", "true", *resume]


@dataclass(frozen=True)
class Shard:
    """A share of a sweep's groups: every `of`-th of them, the first where `number` is 1."""

    number: int = 1
    of: int = 1

    def has(self, group: int) -> bool:
        """Whether the share holds this group, counted from 0."""
        return group % self.of == self.number - 1


def fit_command(
    design: Design, out: Path, unit: str, seeds: list[int], rates: list[float], flags: Sequence[str] = ()
) -> list[str]:
    """Arguments for `seqbench fit` that train these replicas together."""
    replicas = ["--model.seed", json.dumps(seeds), "--model.rate", json.dumps(rates)]
    return ["fit", *with_unit([*design.command, *flags], unit), *replicas, "--run.dir", str(out)]


def with_unit(command: list[str], unit: str) -> list[str]:
    """A command with its unit: last, as a config may name one, but before the unit's own options, --model.cell.NAME."""
    options = (n for n, argument in enumerate(command) if argument.startswith("--model.cell."))
    place = next(options, len(command))
    return [*command[:place], "--model.cell", unit, *command[place:]]


def of_unit(unit: str, found: dict[str, rec.Record]) -> list[rec.Record]:
    """The records of a unit, which name it by its class."""
    return [run for run in found.values() if run.cell.name == unit.rpartition(".")[2]]


def draw_rates(n: int, seed: int) -> list[float]:
    """n learning rates from exp(U(-12, -6)), Chung et al. 2014, one out of each of n equal stretches of its logarithm.

    To 4 digits, falling; a function of n and the sweep's own seed.  Ten independent draws leave gaps: of one such ten
    half lay under 1.5e-5, and none between 0.001 and 0.0025.
    """
    import torch

    within = torch.rand(n, generator=generator(seed, "sweep rates"), dtype=torch.float64)
    low, high = EXPONENTS
    exponents = high - (high - low) * (torch.arange(n) + within) / n
    return [float(f"{math.exp(e):.4g}") for e in exponents.tolist()]


def begin(design: Design, out: Path) -> None:
    """Writes the design, or checks that it is the one that `out` was begun with.

    Raises:
        SeqbenchError: `out` holds another sweep, or cannot be written.
    """
    path = out / DESIGN
    if path.exists():
        known, asked = dataclasses.asdict(load_design(out)), dataclasses.asdict(design)
        differing = [key for key in known if known[key] != asked[key]]
        if differing:
            raise SeqbenchError(f"{out} holds another sweep ({', '.join(differing)} differ): choose another --out")
        return
    try:
        rec.write_json(design, path)
    except OSError as error:
        raise SeqbenchError(f"Cannot write to {out} ({error.strerror}); choose another --out") from error


def load_design(out: Path) -> Design:
    """The design of the sweep in `out`.

    Raises:
        SeqbenchError: there is none, or it cannot be read.
    """
    try:
        found: Design = rec.decode(Design, json.loads((out / DESIGN).read_text(encoding="utf-8")), "sweep")
        return found
    except FileNotFoundError as error:
        raise SeqbenchError(f"{out} holds no sweep: begin one by seqbench sweep --out {out}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SeqbenchError(
            f"{out / DESIGN} cannot be read ({error}): restore it, or begin anew in another --out"
        ) from error


def members(design: Design, stage: Stage, unit: str, found: dict[str, rec.Record]) -> list[tuple[int, float]]:
    """Seed and rate of each run of a stage: the search gives every rate seed 0, the report all seeds to the best few.

    The search's runs are not planned twice. A unit's report has none before its search is over.
    """
    if stage == "trials":
        drawn = draw_trials(unit, design.trials, design.group_size, design.trial_seed)
        return [run for group in drawn for run in zip(group.seeds, group.rates, strict=True)]
    if stage == "search":
        return [(0, rate) for rate in design.rates]
    if "search" not in design.stages:
        return [(seed, rate) for rate in design.rates for seed in range(design.seeds)]
    searched = [run for run in of_unit(unit, found) if run.seed == 0 and run.rate in design.rates and is_over(run)]
    if len(searched) < len(design.rates):
        return []
    return [(seed, rate) for rate in rec.best_rates(searched)[:FINALISTS] for seed in range(1, design.seeds)]


def groups(
    design: Design, stage: Stage, out: Path, found: dict[str, rec.Record], shard: Shard | None = None
) -> list[Group]:
    """The groups of a stage, or a shard's: always cut the same way, whatever is done already, about equally large."""
    made = []
    for place, unit in enumerate(design.units):
        cut = _cut(design, stage, unit, found)
        for n, (runs, flags) in enumerate(cut):
            if shard is None or shard.has(place * len(cut) + n):
                seeds, rates = [seed for seed, _ in runs], [rate for _, rate in runs]
                made += _parts(_resolve(design, stage, unit, seeds, rates, flags, out), design, out)
    return made


def _cut(
    design: Design, stage: Stage, unit: str, found: dict[str, rec.Record]
) -> list[tuple[list[tuple[int, float]], list[str]]]:
    """Runs and flags of each group."""
    if stage == "trials":
        drawn = draw_trials(unit, design.trials, design.group_size, design.trial_seed)
        return [(list(zip(group.seeds, group.rates, strict=True)), group.flags) for group in drawn]
    runs = members(design, stage, unit, found)
    number = math.ceil(len(runs) / design.group_size)
    return [(runs[n::number], []) for n in range(number)]


def _parts(group: Group, design: Design, out: Path) -> list[Group]:
    if not (out / group.name / HALVED).exists():
        return [group]
    return [part for half in _halves(group, design, out) for part in _parts(half, design, out)]


def halve(group: Group, design: Design, out: Path) -> list[Group]:
    """Two groups of half the runs each, from now on: they begin anew.

    Raises:
        OSError: `out` cannot be written.
    """
    rec.write_json(True, out / group.name / HALVED)
    return _parts(group, design, out)


def _halves(group: Group, design: Design, out: Path) -> list[Group]:
    middle = math.ceil(len(group.seeds) / 2)
    return [
        _resolve(design, group.stage, group.unit, group.seeds[part], group.rates[part], group.flags, out)
        for part in (slice(middle), slice(middle, None))
    ]


def _resolve(
    design: Design, stage: Stage, unit: str, seeds: list[int], rates: list[float], flags: list[str], out: Path
) -> Group:
    run_ids, name = _names(tuple(fit_command(design, out, unit, seeds, rates, flags)))
    return Group(stage, unit, seeds, rates, list(run_ids), name, flags)


@functools.cache  # a seventh of a second, for each of what may be a hundred groups
def _names(command: tuple[str, ...]) -> tuple[list[str], str]:
    recorder = _recorder(list(command))
    return recorder.run_ids, recorder.group_folder.name


def _recorder(command: list[str]) -> Recorder:
    """Asks the command line itself which runs these are."""
    from seqbench.train.fitting import SeqbenchCLI

    return SeqbenchCLI(command, execute=False).recorder


def planned(design: Design, out: Path) -> list[str]:
    """The ids of all runs that a sweep may come to, whatever its search finds.

    Raises:
        SeqbenchError: the command is wrong.
    """
    _names.cache_clear()  # a config may have changed since another sweep of this process
    if design.trials:
        return [run_id for group in groups(design, "trials", out, {}) for run_id in group.run_ids]
    runs = [(seed, rate) for rate in design.rates for seed in range(max(1, design.seeds))]
    named = [_recorder(fit_command(design, out, unit, [0], design.rates[:1])) for unit in design.units]
    return [recorder.run_id(*run) for recorder in named for run in runs]


def records(out: Path) -> dict[str, rec.Record]:
    """The records of a sweep by run id: others that lie in `out` are none of it.

    Raises:
        SeqbenchError: one of them, or the list of its own runs, cannot be read.
    """
    found = {path.parent.name: path for path in sorted(out.glob("*/record.json"))}
    try:
        own = json.loads((out / RUNS).read_bytes()) if (out / RUNS).exists() else list(found)
    except (OSError, ValueError) as error:
        raise SeqbenchError(f"{out / RUNS} cannot be read ({error}): remove it and call the sweep again") from error
    return {run_id: rec.load(path) for run_id, path in found.items() if run_id in own}


def is_over(record: rec.Record | None) -> bool:
    """Whether a run need not be run again; an interrupted or failed one is tried again."""
    return record is not None and rec.came_to_its_end(record)
