"""Where the groups of a sweep run: here side by side on this machine; on a Ray cluster in cluster.py.

A group is one `seqbench fit`.  Records land in one folder whatever the engine, and do not tell which it was.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol

from seqbench.search.design import Design, Group, halve, with_unit
from seqbench.train.fitting import AS_SIGTERM

MEMORY_SHARE = 0.6
KEPT_PER_STATE = 4  # values that autograd keeps of each gate and state, counted on GRU and LSTM
KEPT_PER_OUTPUT = 4  # logits, targets, their products and the gradient
REASON = re.compile(
    r"^(?:seqbench: (?:(?:internal )?error: )?(.+?)(?: \(--debug shows where; please report\))?"
    r"|([\w.]*(?:Error|Exception): .+))$"
)
NO_MEMORY = re.compile(r"out ?of ?memory|MemoryError|can(?:no|')t allocate memory|unable to allocate", re.IGNORECASE)


@dataclass(frozen=True)
class End:
    """How a try of a group ended.

    Attributes:
        problem: one line; "" where all went well.
        killed: its process ended without a word.
    """

    problem: str = ""
    killed: bool = False

    @property
    def of_memory(self) -> bool:
        """Whether there was too little of it."""
        return bool(NO_MEMORY.search(self.problem))


class Places(Protocol):
    """Where groups run."""

    def room(self) -> bool:
        """Whether another group can be started."""

    def start(self, group: Group) -> None:
        """Does not wait for it."""

    def ended(self) -> list[tuple[Group, End]]:
        """Those that have ended since the last call; waits a little where there are none."""

    def close(self) -> None:
        """Ends what still runs, as SIGTERM would."""


class Watch(Protocol):
    """Who is told what happens to the groups."""

    def started(self, group: Group) -> None:
        """It runs from now on."""

    def again(self, group: Group, parts: Sequence[Group], why: str) -> None:
        """It has ended and is tried again, as one or several groups."""

    def finished(self, group: Group, problem: str) -> None:
        """It has ended for good; `problem` is "" if all went well."""


def carry_out(groups: Sequence[Group], design: Design, out: Path, places: Places, watch: Watch) -> None:
    """Runs all groups, as many at once as there is room for.

    One that is killed is tried again. Killed again, as where memory is short, or told that there is none, it goes on
    as two of half the size.
    """
    waiting, running, killed = deque(groups), 0, Counter[str]()
    try:
        with _ended_by_signals():
            while waiting or running:
                while waiting and places.room():
                    places.start(waiting[0])
                    watch.started(waiting.popleft())
                    running += 1
                for group, end in places.ended():
                    running -= 1
                    killed[group.name] += end.killed
                    parts = _again(group, end, killed[group.name], design, out)
                    waiting.extend(parts)
                    if parts:
                        watch.again(group, parts, end.problem)
                    else:
                        watch.finished(group, end.problem)
    finally:
        places.close()


def _again(group: Group, end: End, killed: int, design: Design, out: Path) -> list[Group]:
    """What is to be tried again of a group."""
    if end.killed and killed == 1 and not end.of_memory:
        return [group]
    if (end.killed or end.of_memory) and len(group.run_ids) > 1:
        return halve(group, design, out)
    return []


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM, SIGHUP and SIGUSR1 end a sweep with its groups, status 143. Ray has set handlers of its own before."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(143)

    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, *AS_SIGTERM)}
    for number, handler in kept.items():
        if handler != signal.SIG_IGN:  # nohup
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler or signal.SIG_DFL)


def devices() -> list[str]:
    """The GPUs that CUDA shows to this process, each by the name that shows it alone to another."""
    import torch

    if not torch.cuda.is_available():
        return []
    numbers = [str(n) for n in range(torch.cuda.device_count())]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return numbers if visible is None else [name.strip() for name in visible.split(",")][: len(numbers)]


def slots(jobs: int | None = None) -> list[dict[str, str]]:
    """One environment for each group that can run here at once: by default a GPU each, or a core each."""
    names = devices()
    if names:
        return [{"CUDA_VISIBLE_DEVICES": names[n % len(names)]} for n in range(jobs or len(names))]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [{"OMP_NUM_THREADS": "1"}] * (jobs or cores)


def group_size(command: list[str], units: list[str], runs: int, out: Path, jobs: int | None = None) -> int:
    """How many of a unit's first runs to train together: split over what runs side by side, as far as memory goes."""
    from seqbench.train.fitting import SeqbenchCLI

    at_once = len(slots(jobs))
    sharing = math.ceil(at_once / max(1, len(devices())))  # the memory that `_memory` tells of
    alone = ["--model.seed", "0", "--run.dir", str(out)]
    commands = (["fit", *with_unit(command, unit), *alone] for unit in units)
    replica = max(replica_bytes(SeqbenchCLI(arguments, execute=False)) for arguments in commands)
    return max(1, min(math.ceil(runs / at_once), int(MEMORY_SHARE * _memory() / sharing / replica)))


def replica_bytes(cli: Any) -> int:
    """What one replica's longest training batch takes, about: what autograd keeps of each step, in float32."""
    model, data = cli.model, cli.datamodule
    handed_up = (1 + model.bidirectional) * model.hidden
    per_frame = KEPT_PER_STATE * (model.cell.gates + model.cell.states) * handed_up * model.layers
    per_frame += KEPT_PER_OUTPUT * model.head.kept + 2 * model.task.input_size
    return 4 * data.longest * data.batch_size * per_frame


def _memory() -> int:
    """Bytes of memory that are free: of the GPU with the least, or of this machine."""
    import torch

    if torch.cuda.is_available():
        return min(torch.cuda.mem_get_info(n)[0] for n in range(torch.cuda.device_count()))
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"  # macOS: all there are
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")


def local(groups: Sequence[Group], design: Design, out: Path, watch: Watch, jobs: int | None = None) -> None:
    """Each group in a process of its own, as many at once as there are GPUs or cores, or `jobs`."""
    carry_out(groups, design, out, Local(design, out, jobs), watch)


class Local:
    """Processes of this machine."""

    def __init__(self, design: Design, out: Path, jobs: int | None = None) -> None:
        self.design, self.out = design, out
        self._free = slots(jobs)
        self._running: list[tuple[subprocess.Popen[bytes], Group, dict[str, str], int]] = []

    def room(self) -> bool:
        return bool(self._free)

    def start(self, group: Group) -> None:
        slot, path = self._free.pop(), log_path(self.out, group)
        command = [sys.executable, "-P", "-m", "seqbench.search.child", *group.command(self.design, self.out)]
        # By this name Lightning leaves it to us what SLURM's signals do, and takes no part in its job.
        environment = os.environ | slot | {"SLURM_JOB_NAME": "interactive", "SEQBENCH_DEBUG": "1"}  # logs say where
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            self._running.append((process, group, slot, log.tell()))

    def ended(self) -> list[tuple[Group, End]]:
        time.sleep(0.1)
        over = [entry for entry in self._running if entry[0].poll() is not None]
        for entry in over:
            self._running.remove(entry)
            self._free.append(entry[2])
        return [(group, self._end(process.returncode, group, start)) for process, group, _, start in over]

    def _end(self, status: int, group: Group, start: int) -> End:
        if status < 0:
            return End(f"killed by {signal.Signals(-status).name}", killed=True)
        return End(reason(log_path(self.out, group).read_bytes()[start:])) if status else End()

    def close(self) -> None:
        for process, *_ in self._running:
            process.terminate()
        for process, *_ in self._running:
            process.wait()


def log_path(out: Path, group: Group) -> Path:
    """What a group printed."""
    return out / "logs" / f"{group.name}.log"


def reason(log: bytes) -> str:
    """Why a group failed, in one line: the last error that it told."""
    text = log.decode(errors="replace").strip()
    lines = text.splitlines() or ["ended without a word"]
    told = [found[1] or found[2] for line in lines if (found := REASON.match(line))]
    return (told or lines)[-1]
