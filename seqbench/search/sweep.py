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
from seqbench.search.design import FINALISTS, STAGES, Group, Plan, begin, groups, is_over, load_plan, members, records
from seqbench.search.progress import SweepProgress
from seqbench.task import SeqbenchError

RUNNING = "running.json"

Engine = Callable[[Sequence[Group], Plan, Path, Callable[[Group, str], None]], None]


def sweep(plan: Plan, out: Path, engine: Engine) -> bool:
    """Runs what is not done yet; returns whether all runs are over.

    Raises:
        SeqbenchError: `out` holds another sweep, or a sweep that runs in it right now.
    """
    begin(plan, out)
    with _lock(out), SweepProgress(plan, out) as progress:
        for stage in plan.stages:
            found = records(out)
            todo = [g for g in groups(plan, stage, out, found) if not all(is_over(found.get(i)) for i in g.run_ids)]
            progress.stage(stage, sum(map(is_over, found.values())), todo)
            rec.write_json([run_id for group in todo for run_id in group.run_ids], out / RUNNING)
            if todo:
                engine(todo, plan, out, progress.finished)
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
    plan, found = load_plan(out), records(out)
    planned = sum(_planned(plan, unit, found) for unit in plan.units)
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


def _planned(plan: Plan, unit: str, found: dict[str, rec.Record]) -> int:
    """Runs of a unit. A report's follow from its search, where fewer rates may have come to their end than it wants."""
    searched = sum(is_over(r) for r in found.values() if r.cell.name == unit and r.seed == 0)
    if set(plan.stages) == set(STAGES) and searched < len(plan.rates):
        return len(plan.rates) + min(FINALISTS, len(plan.rates)) * (plan.seeds - 1)
    return sum(len(members(plan, stage, unit, found)) for stage in plan.stages)


def results(out: Path) -> list[dict[str, Any]]:
    """One row a unit: its best rate by validation, and mean test NLL over the seeds at that rate."""
    plan, found = load_plan(out), records(out)
    rows = []
    for unit in plan.units:
        mine = [r for r in found.values() if r.cell.name == unit]
        rate = rec.best_rate(mine)
        at_best = [r for r in mine if r.rate == rate and r.status == "finished" and r.test is not None]
        tests = [r.test.nll for r in at_best if r.test is not None]
        valids = [r.best_valid for r in at_best if r.best_valid is not None]
        learning = sum(map(rec.still_learning, at_best))
        marks = ["rate at the edge"] if rate is not None and rec.at_edge(rate, plan.rates) else []
        marks += [f"{learning} still learning"] if learning else []
        rows.append(
            {
                "unit": unit,
                "hidden": mine[0].cell.hidden if mine else "-",
                "best rate": rate if rate is not None else "-",
                "seeds": len(tests),
                "test NLL": math.fsum(tests) / len(tests) if tests else "-",
                "spread": max(tests) - min(tests) if tests else "-",
                "valid NLL": math.fsum(valids) / len(valids) if valids else "-",
                "diverged": sum(r.status == "diverged" for r in mine),
                "marks": ", ".join(marks) or "-",
            }
        )
    return rows
