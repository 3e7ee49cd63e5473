"""How long a board of many records takes, and how much memory: `python benchmarks/board.py [RECORDS]`.

Made-up records like those of real sweeps: 10 data sets under 2 protocols, 25 units at 8 rates, 3 seeds at best; at most
300 epochs, 80 test sequences. Tells seconds and the peak of resident memory of a build in a fresh process.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from seqbench import record as rec

FACTORY = Path(__file__).parents[1] / "tests/leaderboard/factory.py"
SETS = ("jsb", "nottingham", "musedata", "piano_midi", "bach", "set_f", "set_g", "set_h", "set_i", "set_j")
PROTOCOLS, UNITS, RATES, SEEDS = ("chung2014", "quick"), 25, 8, 3
BUILD = (
    "import sys; from pathlib import Path\n"
    "from seqbench.leaderboard.build import build; build(*map(Path, sys.argv[1:]))"
)


def records(count: int, folder: Path) -> None:
    """Writes so many records."""
    spec = importlib.util.spec_from_file_location("factory", FACTORY)
    assert spec is not None
    assert spec.loader is not None
    factory: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(factory)
    rates = [1e-5 * 2**k for k in range(RATES)]
    members = [(0, rate) for rate in rates] + [(seed, rates[4]) for seed in range(1, SEEDS)]
    everything = itertools.product(range(1 + count // 5000), SETS, PROTOCOLS, range(UNITS), members)
    for more, task, protocol, unit, (seed, rate) in itertools.islice(everything, count):
        level = 8 + 0.02 * unit + 0.1 * abs(rates.index(rate) - 4)
        draw = random.Random(f"{more}{task}{protocol}{unit}{seed}{rate}")
        frames = [random.Random(task).randrange(30, 90) for _ in range(80)]
        test = rec.score_from_parts([f * (level + draw.gauss(0, 0.3)) for f in frames], frames, [1.0] * 80)
        name = f"Unit{unit}" if not more else f"Unit{unit}x{more}"
        run = factory.make(name, seed, level, task, rate=rate, epochs=draw.randrange(100, 300), noise=0.02, test=test)
        run = dataclasses.replace(run, config=run.config | {"run": {"protocol": protocol}})
        run = dataclasses.replace(run, run_id=rec.run_id(run.task, run.cell.name, run.config))
        rec.save(run, folder / f"{run.run_id}.json")


def main() -> None:
    """Makes the records, builds their board, tells."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        records(count, folder / "records")
        size = sum(path.stat().st_size for path in (folder / "records").iterdir())
        started = time.monotonic()
        subprocess.run([sys.executable, "-c", BUILD, str(folder / "records"), str(folder / "out")], check=True)
        seconds = time.monotonic() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        page = (folder / "out/index.html").stat().st_size
        print(
            f"{len(list((folder / 'records').iterdir()))} records of {size / count / 1000:.1f} kB, "
            f"{len(list((folder / 'out/figures').iterdir()))} figures: {seconds:.1f} s, of CPU "
            f"{used.ru_utime + used.ru_stime:.1f} s; {used.ru_maxrss / 2**20:.2f} GiB; page of {page / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()
