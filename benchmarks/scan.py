"""The parallel scan against the time loop: forward and backward of one layer, for every unit that offers a scan.

    python benchmarks/scan.py [--steps 4096] [--hidden 64] [--batch 16] [--threads 2] [--rounds 7] [--json]

Rounds alternate, so that a drift of the machine hits both.  Before timing, outputs and gradients of the two are
compared: a figure without that is worth nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor

from seqbench.cells import LinearCell, cells
from seqbench.model.recurrence import initial_state, loop, scan
from seqbench.model.weights import initial_weights


def compare(name: str, cell: LinearCell, options: argparse.Namespace) -> dict[str, float | str]:
    """Medians of seconds, and of the ratio within each round."""
    g = torch.Generator().manual_seed(0)
    weights = initial_weights(cell.layer(1, options.hidden), [0])
    weights = {n: p.requires_grad_() for n, p in weights.items() if n not in ("W", "b")}
    a = torch.randn(options.steps, 1, options.batch, cell.gates * options.hidden, generator=g).requires_grad_()
    leaves = [a, *weights.values()]

    def run(recurrence: Callable[..., tuple[Tensor, tuple[Tensor, ...]]]) -> tuple[Tensor, ...]:
        h, _ = recurrence(cell, a, SimpleNamespace(**weights), initial_state(cell, a))
        return h, *torch.autograd.grad(h, leaves, torch.ones_like(h))

    for ours, expected in zip(run(scan), run(loop), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
    seconds: dict[str, list[float]] = {"loop": [], "scan": []}
    for _ in range(options.rounds):
        for recurrence in (loop, scan):
            start = time.perf_counter()
            run(recurrence)
            seconds[recurrence.__name__].append(time.perf_counter() - start)
    ratios = [one / other for one, other in zip(seconds["loop"], seconds["scan"], strict=True)]
    return {
        "unit": name,
        "loop_seconds": round(statistics.median(seconds["loop"]), 4),
        "scan_seconds": round(statistics.median(seconds["scan"]), 4),
        "ratio": round(statistics.median(ratios), 2),
        "lowest_ratio": round(min(ratios), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("steps", 4096), ("hidden", 64), ("batch", 16), ("threads", 2), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    units = ((name, kind()) for name, kind in cells().items())
    results = [compare(name, cell, options) for name, cell in units if isinstance(cell, LinearCell)]
    if options.json:
        json.dump(results, sys.stdout)
        return
    print(f"T {options.steps}, H {options.hidden}, batch {options.batch}, {options.threads} threads, float32")
    for row in results:
        print(
            f"{row['unit']:13} loop {row['loop_seconds']:.3f} s  scan {row['scan_seconds']:.3f} s  "
            f"ratio {row['ratio']} (median of {options.rounds}, lowest {row['lowest_ratio']})"
        )


if __name__ == "__main__":
    main()
