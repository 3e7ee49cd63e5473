"""Threads of our own for compiled code that holds no lock: apart from torch's, and whole again after a fork.

Work is taken one piece at a time, so a core that a neighbour keeps busy does less of it and nobody waits for it long.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_pools: dict[int, ThreadPoolExecutor] = {}
os.register_at_fork(after_in_child=_pools.clear)


def count() -> int:
    """How many threads: OMP_NUM_THREADS, or as many as there are cores for this process."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(work: Callable[[int], object], pieces: int, threads: int | None = None) -> None:
    """work(0) ... work(pieces - 1), in any order, this thread among those that do it."""
    threads = min(threads or count(), pieces)
    numbers = itertools.count()

    def take() -> None:
        while (piece := next(numbers)) < pieces:
            work(piece)

    if threads <= 1:
        take()
        return
    if threads not in _pools:
        _pools[threads] = ThreadPoolExecutor(threads - 1, "seqbench-kernels")
    others = [_pools[threads].submit(take) for _ in range(threads - 1)]
    take()
    for other in others:
        other.result()
