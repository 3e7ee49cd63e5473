"""`seqbench sweep`: the same learning-rate search for every unit, in groups of replicas.

Two stages: `search` trains every unit at every rate with one seed; `report` trains each unit's three best rates (by
validation) with all seeds, and the best of them by its mean over seeds is the unit's.  What is planned is written once,
to OUT/sweep.json; what is done are the records in OUT/<run_id>/.  So a sweep can be killed at any moment and called
again: finished groups are not run again, one that was half-way goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seqbench import record as rec
from seqbench.search.design import (
    FINALISTS,
    STAGES,
    Design,
    Group,
    begin,
    groups,
    is_over,
    load_design,
    members,
    of_unit,
    records,
)
from seqbench.search.progress import SweepProgress
from seqbench.task import SeqbenchError

RUNNING = "running.json"

Engine = Callable[[Sequence[Group], Design, Path, Callable[[Group, str], None]], None]


def sweep(design: Design, out: Path, engine: Engine) -> bool:
    """Runs what is not done yet; returns whether all runs are over.

    Raises:
        SeqbenchError: `out` holds another sweep, or a sweep that runs in it right now.
    """
    begin(design, out)
    with _lock(out), SweepProgress(design, out) as progress:
        for stage in design.stages:
            found = records(out)
            todo = [g for g in groups(design, stage, out, found) if not all(is_over(found.get(i)) for i in g.run_ids)]
            progress.stage(stage, sum(map(is_over, found.values())), todo)
            rec.write_json([run_id for group in todo for run_id in group.run_ids], out / RUNNING)
            if todo:
                engine(todo, design, out, progress.finished)
            progress.stage_over()
    return status(out)["missing"] == 0


@contextlib.contextmanager
def _lock(out: Path) -> Iterator[None]:
    with (out / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SeqbenchError(f"A sweep is running in {out} already: seqbench sweep status {out}") from error
        yield


def _is_locked(out: Path) -> bool:
    try:
        with _lock(out):
            return False
    except SeqbenchError:
        return True


def status(out: Path) -> dict[str, Any]:
    """How many runs are planned, done, running, diverged, failed and missing.

    Raises:
        SeqbenchError: `out` holds no sweep.
    """
    design, found = load_design(out), records(out)
    planned = sum(_planned(design, unit, found) for unit in design.units)
    states = Counter(r.status for r in found.values())
    waiting = set(json.loads((out / RUNNING).read_text())) if (out / RUNNING).exists() else set()
    running = len([i for i in waiting if not is_over(found.get(i))]) if _is_locked(out) else 0
    over = states["finished"] + states["diverged"]
    return {
        "planned": planned,
        "done": states["finished"],
        "diverged": states["diverged"],
        "running": running,
        "failed": states["failed"],
        "interrupted": states["interrupted"],
        "missing": planned - over,
    }


def _planned(design: Design, unit: str, found: dict[str, rec.Record]) -> int:
    """Runs of a unit. A report's follow from its search, where fewer rates may have come to their end than it wants."""
    searched = sum(is_over(run) for run in of_unit(unit, found) if run.seed == 0)
    if set(design.stages) == set(STAGES) and searched < len(design.rates):
        return len(design.rates) + min(FINALISTS, len(design.rates)) * (design.seeds - 1)
    return sum(len(members(design, stage, unit, found)) for stage in design.stages)


def results(out: Path) -> list[dict[str, Any]]:
    """One row a unit: its best rate by validation, and mean test NLL over the seeds at that rate."""
    found = records(out)
    return [_result(unit, of_unit(unit, found)) for unit in load_design(out).units]


def _result(unit: str, runs: list[rec.Record]) -> dict[str, Any]:
    rate = rec.best_rate(runs)
    counted = [run for run in runs if run.rate == rate and rec.counts(run)]
    tests = [run.test.nll for run in counted if run.test is not None]
    valids = [run.best_valid for run in counted if run.best_valid is not None]
    return {
        "unit": unit,
        "hidden": runs[0].cell.hidden if runs else "-",
        "best rate": rate if rate is not None else "-",
        "seeds": len(tests),
        "test NLL": math.fsum(tests) / len(tests) if tests else "-",
        "spread": max(tests) - min(tests) if tests else "-",
        "valid NLL": math.fsum(valids) / len(valids) if valids else "-",
        "diverged": sum(run.status == "diverged" for run in runs),
        "marks": ", ".join(rec.marks(counted, rec.rates_tried(runs))) or "-",
    }
