"""How long the first call of a unit takes: from a cold cache, for one more unit later, and from a warm cache.

    python benchmarks/compile.py [--rounds 3] [--json]

Each in a fresh process with caches of its own, and each process is a round's: median and range over rounds.  Seconds
run from the end of `import torch`, which is not ours, to the last gradient: imports of seqbench and numba, tracing,
planning, compiling, and a small layer's forward and backward.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

FIRST_CALLS = """
import sys, time
import torch
begin = time.perf_counter()
from types import SimpleNamespace
from seqbench import cells
from seqbench.kernels.sequence import decide
from seqbench.model.recurrence import run_layer
from seqbench.model.weights import initial_weights
imported = time.perf_counter()
for name in sys.argv[1].split(","):
    cell = cells.find(name)()
    w = {name: p.requires_grad_() for name, p in initial_weights(cell.layer(88, 36), [0]).items()}
    h, _ = run_layer(cell, torch.zeros(5, 1, 16, 88), SimpleNamespace(**w), decide(cell, 36, w["W"], "numba"))
    torch.autograd.grad(h.sum(), list(w.values()))
print(time.perf_counter() - begin, imported - begin)
"""
# What runs, one after the other; the goal, in seconds.
STAGES = {
    "three units, cold cache": ("Tanh,GRU,LSTM", 20.0),
    "one more, later": ("CIFG", 4.0),
    "the three, warm cache": ("Tanh,GRU,LSTM", 2.0),
    "one, warm cache": ("LSTM", 2.0),
}


def first_calls(units: str, caches: Path) -> tuple[float, float]:
    """Seconds of it all, and of seqbench's imports alone."""
    places = {"SEQBENCH_CACHE": str(caches / "seqbench"), "NUMBA_CACHE_DIR": str(caches / "numba")}
    command = [sys.executable, "-c", FIRST_CALLS, units]
    done = subprocess.run(command, env=os.environ | places, check=True, stdout=subprocess.PIPE, text=True)
    whole, imports = map(float, done.stdout.split())
    return whole, imports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seconds: dict[str, list[tuple[float, float]]] = {stage: [] for stage in STAGES}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for stage, (units, _) in STAGES.items():
                seconds[stage].append(first_calls(units, Path(folder)))
    results = [
        {
            "stage": stage,
            "units": units,
            "seconds": round(statistics.median(whole for whole, _ in seconds[stage]), 2),
            "most": round(max(whole for whole, _ in seconds[stage]), 2),
            "imports": round(statistics.median(imports for _, imports in seconds[stage]), 2),
            "goal": goal,
        }
        for stage, (units, goal) in STAGES.items()
    ]
    if options.json:
        json.dump(results, sys.stdout)
        return
    for row in results:
        print(
            f"{row['stage']:24} {row['seconds']:6.2f} s (most {row['most']:.2f}, imports {row['imports']:.2f}; "
            f"goal {row['goal']:.0f})"
        )


if __name__ == "__main__":
    main()
