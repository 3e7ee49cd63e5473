"""`make recheck N=3`: published runs trained again, whole, at their own commits, as the group they were trained in.

    recheck.py N [SEED [RECORDS]]     (3, drawn anew and printed, leaderboard/records)

N runs are drawn; each one's group is trained by its record's own command in a checkout of its commit, with the packages
of this environment. All figures of all runs of the group are compared: curves, best epoch, the scores of the three
splits, those of each test sequence; what took how long is not. On a CPU of the same kind they are the same to the
digit. A group of JSB takes six minutes or more on a core, one of Nottingham an hour.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import secrets
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from seqbench.leaderboard.build import read
from seqbench.record import Record, came_to_its_end, differences, family_id, load
from seqbench.task import SeqbenchError

ROOT = Path(__file__).parents[1]
NOT_FIGURES = ("command", "environment", "seconds", "message")


def main() -> int:
    """Draws, trains, compares, tells; 1 where anything differs."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbelow(10**6)
    runs = [run for _, run in read(Path(sys.argv[3]) if len(sys.argv) > 3 else ROOT / "leaderboard/records")]
    print(f"{n} of {len(runs)} runs, drawn by seed {seed}: make recheck N={n} SEED={seed} draws them again", flush=True)
    differing, done = 0, set()
    for run in drawn(runs, n, seed):
        group = group_of(run, runs)
        if run.run_id not in done:
            differing += tell(run, group)
            done |= {one.run_id for one in group}
    return int(differing > 0)


def tell(run: Record, group: Sequence[Record]) -> int:
    """Trains the group of a run and prints what comes out; how many of its runs differ."""
    commit, among = run.environment.commit, run.environment.replicas
    how = f"in its group of {among}" if len(group) == among else f"alone: the records have not all {among} of its group"
    print(f"{run.run_id} at {commit}, {how}", flush=True)
    differing = 0
    for one, again in trained(group):
        fields = ["no record: see above"] if again is None else different(one, again)
        differing += bool(fields)
        print(f"  {one.run_id}: {'all figures are the same' if not fields else ', '.join(fields)}", flush=True)
    return differing


def drawn(runs: Sequence[Record], n: int, seed: int) -> list[Record]:
    """Those to be trained again, whatever the order of files; a run that did not come to its end is none of them."""
    known = sorted((run for run in runs if came_to_its_end(run)), key=lambda run: run.run_id)
    return random.Random(seed).sample(known, min(n, len(known)))


def group_of(run: Record, runs: Sequence[Record]) -> list[Record]:
    """The runs that were trained with it, itself too; itself alone where the records have not all of them.

    A sweep's groups are of one unit at one commit, and of one stage: the search has seed 0, the report the others, or
    all where there was no search. Sweeps of one rate each, one after the other, differ by it. Where a stage was cut
    into several groups, the clock that each group shares tells them apart.
    """
    place, family = (run.environment.commit, run.environment.replicas), family_id(run)

    def beside(one: Record) -> bool:  # the family last: it takes longest
        return (one.environment.commit, one.environment.replicas) == place and family_id(one) == family

    found = [one for one in runs if beside(one)]
    stage = [one for one in found if (one.seed == 0) == (run.seed == 0)]
    rate = [one for one in found if one.rate == run.rate]
    candidates = (found, stage, rate, by_clock(run, found))
    return next((group for group in candidates if len(group) == run.environment.replicas), [run])


def by_clock(run: Record, found: Sequence[Record]) -> list[Record]:
    """Those whose first epoch took as long, to the digit; those without an epoch are of the group that lacks them."""
    clocks: dict[tuple[float, ...], list[Record]] = {}
    for one in found:
        clocks.setdefault(tuple(one.curve.seconds[:1]), []).append(one)
    whole = [group for group in clocks.values() if len(group) == run.environment.replicas]
    rest = [one for one in found if not any(one in group for group in whole)]
    return next((group for group in whole if run in group), rest)


def words(group: Sequence[Record], folder: Path) -> list[str]:
    """What trains them together: the first one's command, with the seeds and rates of all."""
    first = group[0]
    command = iter(shlex.split(first.command)[1:])
    kept = []
    for word in command:
        if word in ("--model.seed", "--model.rate"):
            next(command)
        else:
            kept.append(word)
    seeds, rates = ([repr(getattr(run, name)) for run in group] for name in ("seed", "rate"))
    several = len(group) > 1
    flags = {
        "--model.seed": f"[{','.join(seeds)}]" if several else seeds[0],
        "--model.rate": f"[{','.join(rates)}]" if several else rates[0],
        "--model.recurrence": first.environment.recurrence,
        "--run.dir": str(folder),
    }
    return [*kept, *(part for flag in flags.items() for part in flag)]


def trained(group: Sequence[Record]) -> Iterator[tuple[Record, Record | None]]:
    """Each run and its repetition at its own commit; None where it left no record."""
    with tempfile.TemporaryDirectory() as temporary, checkout(group[0].environment.commit) as place:
        runs = Path(temporary)
        command = [sys.executable, "-m", "seqbench.cli", *words(group, runs)]
        subprocess.run(command, cwd=place, env=os.environ | {"PYTHONPATH": str(place)}, check=False)
        for run in group:
            path = runs / run.run_id / "record.json"
            yield run, load(path) if path.is_file() else None


@contextlib.contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """A commit's files in a folder of their own.

    Raises:
        SeqbenchError: the repository has no such commit.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) / "checkout"
        git = ["git", "-C", str(ROOT), "worktree"]
        added = subprocess.run(
            [*git, "add", "--detach", "--quiet", str(place), commit], capture_output=True, text=True, check=False
        )
        if added.returncode:
            raise SeqbenchError(f"{commit} cannot be checked out: {added.stderr.strip()}; fetch the whole history")
        try:
            yield place
        finally:
            subprocess.run([*git, "remove", "--force", str(place)], check=True)


def different(one: Record, again: Record) -> list[str]:
    """Dotted fields of two records of a run that differ, but for when and where they were made."""
    return differences(figures(one), figures(again))


def figures(run: Record) -> dict[str, Any]:
    """A record without when and where it was made."""
    told = dataclasses.asdict(run)
    del told["curve"]["seconds"]
    return {name: value for name, value in told.items() if name not in NOT_FIGURES}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SeqbenchError as error:
        sys.exit(str(error))
