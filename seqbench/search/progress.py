"""A sweep's progress in the terminal: one bar over all runs, one line a finished group."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from seqbench import record as rec
from seqbench.search.design import Design, Group, Stage, records
from seqbench.search.engines import log_path

EPOCH = re.compile(rb"epoch (\d+)/(\d+)")


def naming() -> AbstractContextManager[object]:
    """A sign of life in a terminal while the runs get their names: those of hundreds of trials take seconds."""
    return Console(stderr=True).status("naming the runs")


class SweepProgress:
    """Counts runs; a group under way counts by its epochs, as its log tells them."""

    def __init__(self, design: Design, out: Path, running: Path) -> None:
        """Args: design, out: the sweep; running: the file that tells others which groups run."""
        self.design, self.out, self.running = design, out, running
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("runs"),
            TimeElapsedColumn(), TextColumn("<"), TimeRemainingColumn(),
        )  # fmt: skip
        self._console = Console(stderr=True)
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._under_way: list[Group] = []  # or waiting
        self._started: list[Group] = []
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> SweepProgress:
        self._tell_running()
        self._progress.start()
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._watcher.join()
        self._progress.stop()

    def stage(self, stage: Stage, done: int, todo: list[Group]) -> None:
        """A stage begins: so many runs are done before it, these groups are to be run."""
        self._under_way = list(todo)
        runs = sum(len(group.run_ids) for group in todo)
        self._progress.add_task(stage, total=runs)
        self._console.print(
            f"{stage}: {runs} runs to train in {len(todo)} group{'s' * (len(todo) != 1)}, {done} runs are done"
        )

    def started(self, group: Group) -> None:
        """It runs from now on."""
        self._started.append(group)
        self._tell_running()

    def again(self, group: Group, parts: Sequence[Group], why: str) -> None:
        """A group has ended and is tried again, as one or several groups."""
        self._under_way = [g for g in self._under_way if g != group] + list(parts)
        self._started.remove(group)
        self._tell_running()
        how = f"begins anew as {len(parts)} groups" if len(parts) > 1 else "begins anew"
        if len(parts) == 1 and group.checkpoint(self.out).exists():
            how = "goes on from its checkpoint"
        self._tell(group, f"{why}; {how}")

    def finished(self, group: Group, problem: str) -> None:
        """A group is over; `problem` is empty if all went well."""
        self._under_way.remove(group)
        self._started.remove(group)
        self._tell_running()
        found = records(self.out)
        runs = [run for run_id in group.run_ids if (run := found.get(run_id))]
        scores = [run.best_valid for run in runs if run.best_valid is not None]
        lost = "all diverged" if runs and all(run.status == "diverged" for run in runs) else "no score"
        best = f"best valid {min(scores):.4f}" if scores else lost
        self._tell(group, f"failed: {problem} ({log_path(self.out, group)})" if problem else best)
        self._show()

    def stage_over(self) -> None:
        """The bar of this stage stays, full."""
        self._under_way = []
        self._show()

    def _tell(self, group: Group, what: str) -> None:
        line = f"{group.stage} {group.unit}: {len(group.run_ids)} runs, {what}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _tell_running(self) -> None:
        rec.write_json({group.name: dataclasses.asdict(group) for group in self._started}, self.running)

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            self._show()

    def _show(self) -> None:
        if self._progress.tasks:
            task = self._progress.tasks[-1]
            left = sum(len(group.run_ids) * (1 - self._fraction(group)) for group in list(self._under_way))
            self._progress.update(task.id, completed=(task.total or 0) - left)

    def _fraction(self, group: Group) -> float:
        """Epochs done of all, at most; replicas that stop early end before."""
        path = log_path(self.out, group)
        told = EPOCH.findall(path.read_bytes()) if path.exists() else []
        return int(told[-1][0]) / int(told[-1][1]) if told else 0.0
