"""`seqbench sweep`: the same learning-rate search for every unit, in groups of replicas.

Two stages: `search` trains every unit at every rate with one seed; `report` trains each unit's three best rates (by
validation) with all seeds, and the best of them by its mean over seeds is the unit's.  What is planned is written once,
to OUT/sweep.json; what is done are the records in OUT/<run_id>/.  So a sweep can be killed at any moment and called
again: finished groups are not run again, one that was half-way goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seqbench import record as rec
from seqbench.search.design import (
    RUNS,
    Design,
    Group,
    Shard,
    begin,
    groups,
    is_over,
    load_design,
    of_unit,
    planned,
    records,
)
from seqbench.search.engines import Watch
from seqbench.search.progress import SweepProgress, naming
from seqbench.task import SeqbenchError

LOCK_TRIES = 10  # `sweep status` holds a lock for a moment

Engine = Callable[[Sequence[Group], Design, Path, Watch], None]


def sweep(design: Design, out: Path, engine: Engine, shard: Shard | None = None) -> bool:
    """Runs what is not done yet, all of it or a shard; returns whether all that could be run is over.

    A unit's report waits for its search: a shard leaves it to a later call where others are not done with that.

    Raises:
        SeqbenchError: `out` holds another sweep, or a sweep that runs in it right now.
    """
    with naming():
        own = planned(design, out)  # first, so that a command that is wrong leaves nothing behind
    begin(design, out)
    rec.write_json(own, out / RUNS)
    name = f"-{shard.number}-of-{shard.of}" if shard else ""
    complete = True
    with _locks(out, shard, name), SweepProgress(design, out, out / f"running{name}.json") as progress:
        for stage in design.stages:
            found = records(out)
            cut = groups(design, stage, out, found, shard)
            todo = [g for g in cut if not all(is_over(found.get(i)) for i in g.run_ids)]
            progress.stage(stage, sum(map(is_over, found.values())), todo)
            if todo:
                engine(todo, design, out, progress)
                found = records(out)
            complete = complete and all(is_over(found.get(i)) for group in todo for i in group.run_ids)
            progress.stage_over()
    return complete


@contextlib.contextmanager
def _locks(out: Path, shard: Shard | None, name: str) -> Iterator[None]:
    """The folder is one sweep's, or shared by shards, of which each has a file of its own."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_lock(out / "lock", out, fcntl.LOCK_SH if shard else fcntl.LOCK_EX))
        if shard:
            stack.enter_context(_lock(out / f"lock{name}", out, fcntl.LOCK_EX))
        yield


@contextlib.contextmanager
def _lock(path: Path, out: Path, kind: int) -> Iterator[None]:
    with path.open("a+") as file:
        for left in reversed(range(LOCK_TRIES)):
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if not left:
                    raise SeqbenchError(f"A sweep is running in {out} already: seqbench sweep status {out}") from error
                time.sleep(0.1)
            except OSError as error:
                raise SeqbenchError(
                    f"{path} cannot be locked ({error.strerror}): choose an --out on a disk that knows flock"
                ) from error
        yield


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
        "hidden": runs[0].cell.hidden if runs else None,
        "best rate": rate,
        "seeds": len(tests),
        "test NLL": math.fsum(tests) / len(tests) if tests else None,
        "spread": max(tests) - min(tests) if tests else None,
        "valid NLL": math.fsum(valids) / len(valids) if valids else None,
        "diverged": sum(run.status == "diverged" for run in runs),
        "marks": ", ".join(rec.marks(counted, rec.rates_tried(runs))) or None,
    }
