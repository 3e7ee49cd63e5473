"""How long a board of many records takes, and how much memory: `python benchmarks/board.py [RECORDS [UNITS]]`.

The records are the published ones of matched parameters under other names: each table again at other budgets, each
unit's runs as those of other units (UNITS a table, 14 if not given), moved a little so that none is a copy. Tells
seconds and the peak of resident memory of `seqbench leaderboard build` and of `verify`, each in a fresh process. Where
UNITS is more than the suite has, names are made up, of which `verify` tells, a line a record.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from seqbench import record as rec
from seqbench.cells import cells
from seqbench.leaderboard.verify import add_sums
from seqbench.model.budget import count_parameters, hidden_for_budget
from seqbench.model.heads import HEADS

PUBLISHED = Path(__file__).parents[1] / "leaderboard/records"
BUDGETS = range(20_000, 2_000_000, 1_000)
MOVED = 0.1  # nats a frame: of a sequence's NLL


def write(count: int, units: int, folder: Path) -> None:
    """Writes so many records and their SHA256SUMS."""
    folder.mkdir(parents=True)
    for run in itertools.islice(made(units), count):
        rec.save(run, folder / f"{run.run_id}.json")
    add_sums(folder, [])


def made(units: int) -> Iterator[rec.Record]:
    """Records without end, table by table, each of so many units."""
    families: dict[str, dict[str, list[rec.Record]]] = {}
    published = (rec.load(path) for path in sorted(PUBLISHED.glob("*.json")))
    for run in (run for run in published if run.cell.budget is not None):
        key = f"{run.task.name} {run.cell.count}"
        families.setdefault(key, {}).setdefault(run.cell.name, []).append(run)
    names = sorted(cells()) + [f"Unit{n:03}" for n in range(units)]
    for budget in BUDGETS:
        for table in families.values():
            for unit, runs in zip(names[:units], itertools.cycle(table.values())):
                for run in runs:
                    yield moved(run, unit, budget, 0.01 * names.index(unit))


def moved(run: rec.Record, unit: str, budget: int, shift: float) -> rec.Record:
    """The run as if it were another unit's, its NLLs higher by `shift`."""
    draw = random.Random(f"{run.run_id}{unit}{budget}")
    shift += draw.uniform(0, 0.01)
    hidden, counts = run.cell.hidden, run.parameters
    if unit in cells():
        cell, inputs, head = cells()[unit](), run.task.input_size, HEADS[run.task.head](run.task.target_size)
        hidden = hidden_for_budget(cell, inputs, head, budget, run.cell.count or "recurrent")
        counted = count_parameters(cell, inputs, hidden, head)
        counts = rec.Parameters(counted.recurrent, counted.total)

    def up(value: float | None) -> float | None:
        return None if value is None else round(value + shift, 5)

    def score(old: rec.Score | None) -> rec.Score | None:
        first = None if old is None or old.nll_first is None else old.nll_first + shift
        return None if old is None else rec.Score(old.nll + shift, old.nll_sequence + shift, first)

    test = run.test
    if test is not None:
        nats = [n + f * (shift + draw.gauss(0, MOVED)) for n, f in zip(test.nats, test.frames, strict=True)]
        test = rec.score_from_parts(nats, test.frames, test.first)
    model = run.config["model"] | {"cell": {"class_path": unit}, "budget": budget}
    config = run.config | {"model": model}
    return dataclasses.replace(
        run,
        run_id=rec.run_id(run.task, unit, config),
        cell=dataclasses.replace(run.cell, name=unit, hidden=hidden, budget=budget),
        parameters=counts,
        config=config,
        curve=dataclasses.replace(run.curve, train=[*map(up, run.curve.train)], valid=[*map(up, run.curve.valid)]),
        best_valid=None if run.best_valid is None else run.best_valid + shift,
        train=score(run.train),
        valid=score(run.valid),
        test=test,
    )


def timed(folder: Path, command: str, *flags: str) -> str:
    """Runs a command of the board's; what it took."""
    words = [sys.executable, "-m", "seqbench.cli", "leaderboard", command, "--records", str(folder / "records"), *flags]
    started = time.monotonic()
    with (folder / f"{command}.txt").open("w") as told:
        process = subprocess.Popen(words, stdout=told, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds, cpu = time.monotonic() - started, used.ru_utime + used.ru_stime
    last = (folder / f"{command}.txt").read_text().strip().rpartition("\n")[2]
    peak = f"{used.ru_maxrss / 2**20:.2f} GiB"
    return f"{command}: {seconds:.1f} s, of CPU {cpu:.1f} s; {peak}; status {process.returncode}, {last}"


def main() -> None:
    """Makes the records, builds their board and verifies them, tells."""
    count, units = (int(n) for n in (*sys.argv[1:], *("10000", "14")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(count, units, folder / "records")
        size = sum(path.stat().st_size for path in (folder / "records").iterdir())
        print(f"{count} records of {size / count / 1000:.1f} kB, {units} units a table", flush=True)
        print(timed(folder, "build", "--out", str(folder / "out")), flush=True)
        page = (folder / "out/index.html").stat().st_size
        print(f"{len(list((folder / 'out/figures').iterdir()))} figures, a page of {page / 1e6:.1f} MB", flush=True)
        print(timed(folder, "verify"))


if __name__ == "__main__":
    main()
