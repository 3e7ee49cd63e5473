"""The mirror is where it was when the tests were called, whichever folder a test then works in; how time is told.

One thread a process unless told otherwise: the tests' processes share the cores, and where OpenMP's threads wait for
each other on a busy core each of torch's operations takes some hundred times as long.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
if (given := os.environ.get("SEQBENCH_MIRROR")) and "://" not in given:
    os.environ["SEQBENCH_MIRROR"] = str(Path(given).expanduser().absolute())


@pytest.fixture
def steps() -> Callable[[Callable[[], object], float], float]:
    """How long a call takes, in millions of plain steps of Python timed just before it (0.03 to 0.05 s each).

    Seconds would tell of the machine, and of who else works on it. The least of three; the first that is below `most`
    will do.
    """

    def seconds(call: Callable[[], object]) -> float:
        began = time.process_time()
        call()
        return time.process_time() - began

    def step() -> None:
        total = 0
        for n in range(1_000_000):
            total += n

    def measure(call: Callable[[], object], most: float) -> float:
        least = float("inf")
        for _ in range(3):
            unit = seconds(step)
            least = min(least, seconds(call) / unit)
            if least < most:
                break
        return least

    return measure
