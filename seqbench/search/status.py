"""How far a sweep is: what each run that it consists of has come to."""

from __future__ import annotations

import fcntl
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqbench import record as rec
from seqbench.search.design import FINALISTS, STAGES, Design, is_over, load_design, members, records
from seqbench.task import SeqbenchError

# Every run is in one of these.
STATES = ("done", "diverged", "running", "stopped", "interrupted", "failed", "waiting")
OF_RECORD = {"finished": "done"}  # the others are called as records call them

Key = tuple[str, int, float]  # unit, seed, rate


@dataclass(frozen=True)
class Way:
    """How far a run that is trained right now has come, as its checkpoint tells.

    Attributes:
        epoch: done so far.
        of: at most.
        best: validation NLL so far; None before the first.
        seconds_left: if it does not stop early.
    """

    epoch: int = 0
    of: int | None = None
    best: float | None = None
    seconds_left: float | None = None


def status(out: Path) -> dict[str, Any]:
    """How many runs are planned, and how many of them are in each state; under "runs" the same for each unit and rate.

    A unit's report has a row of its own, without a rate, until its search has chosen the rates.

    Raises:
        SeqbenchError: `out` holds no sweep.
    """
    design = load_design(out)
    found = {(run.cell.name, run.seed, run.rate): run for run in records(out).values()}
    running = _running(out)
    rows = [row for unit in design.units for row in _rows(design, unit, found, running)]
    counts = {state: sum(row[state] for row in rows) for state in STATES}
    return {"planned": sum(counts.values()), **counts, "runs": rows}


def _rows(design: Design, unit: str, found: dict[Key, rec.Record], running: dict[Key, Way]) -> list[dict[str, Any]]:
    name = unit.rpartition(".")[2]
    by_id = {run.run_id: run for run in found.values()}
    planned = {member for stage in design.stages for member in members(design, stage, unit, by_id)}
    if design.trials:  # each has a rate of its own
        return [_row(name, None, [(name, *member) for member in sorted(planned)], found, running)]
    rows = []
    for rate in design.rates:
        keys = [(name, seed, rate) for seed, at in sorted(planned) if at == rate]
        if keys:
            rows.append(_row(name, rate, keys, found, running))
    searched = all(is_over(found.get((name, 0, rate))) for rate in design.rates)
    to_come = min(FINALISTS, len(design.rates)) * (design.seeds - 1)
    if set(design.stages) == set(STAGES) and not searched and to_come:
        rows.append({**_row(name, None, [], found, running), "waiting": to_come})
    return rows


def _row(
    unit: str, rate: float | None, keys: list[Key], found: dict[Key, rec.Record], running: dict[Key, Way]
) -> dict[str, Any]:
    states = [_state(found.get(key), key in running) for key in keys]
    ways = [running[key] for key, state in zip(keys, states, strict=True) if state == "running"]
    best = [run.best_valid for key in keys if (run := found.get(key)) and run.best_valid is not None]
    best += [way.best for way in ways if way.best is not None]
    left = [way.seconds_left for way in ways if way.seconds_left is not None]
    return {
        "unit": unit,
        "rate": rate,
        **{state: states.count(state) for state in STATES},
        "epoch": max((way.epoch for way in ways), default=None),
        "of": max((way.of for way in ways if way.of), default=None),
        "best": min(best, default=None),
        "seconds_left": max(left, default=None),
    }


def _state(run: rec.Record | None, running: bool) -> str:
    if running and not is_over(run):
        return "running"
    return OF_RECORD.get(run.status, run.status) if run else "waiting"


def _running(out: Path) -> dict[Key, Way]:
    """The runs that are trained right now, by the files of the sweep, or of all shards, that hold their locks."""
    ways = {}
    for path in out.glob("running*.json"):
        if _is_held(path.with_name(path.stem.replace("running", "lock"))):
            for name, group in json.loads(path.read_text(encoding="utf-8")).items():
                unit, seeds, rates = group["unit"].rpartition(".")[2], group["seeds"], group["rates"]
                told = _ways(out / name / "checkpoints" / "last.ckpt")
                for seed, rate in zip(seeds, rates, strict=True):
                    ways[unit, seed, rate] = told.get((seed, rate), Way())
    return ways


def _is_held(lock: Path) -> bool:
    if not lock.exists():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _ways(checkpoint: Path) -> dict[tuple[int, float], Way]:
    """By seed and rate; none where there is no checkpoint yet, or none that can be read."""
    from seqbench.train.recorder import read_checkpoint

    try:
        saved = read_checkpoint(checkpoint)
    except SeqbenchError:
        return {}
    state, longest = saved["callbacks"]["Replicas"], saved["seqbench"]["config"]["trainer"]["max_epochs"]
    done = saved["epoch"] + 1
    of = longest if longest and longest > 0 else None
    left = round(state["seconds"] / done * (of - done)) if of else None
    found = {}
    for k, (_, seed, rate) in enumerate(saved["seqbench"]["runs"]):
        best = float(state["best"][k])
        trains = bool(state["running"][k])
        found[seed, rate] = Way(
            int(state["last_epoch"][k]) + 1, of, best if math.isfinite(best) else None, left if trains else 0
        )
    return found
