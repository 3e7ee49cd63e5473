"""`seqbench leaderboard verify --rerun ID`, `--spot` and `--score`: what recorded runs give again.

A rerun trains the whole run, a spot check its first epochs, which takes seconds: on the same kind of device they come
out to the digit, or nearly, and whoever makes a curve up cannot know them. A score is that of weights kept beside a
record: nothing is trained.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from seqbench.leaderboard.bar import with_progress
from seqbench.leaderboard.build import read_one
from seqbench.leaderboard.checks import Check, problems
from seqbench.leaderboard.history import WEIGHTS
from seqbench.record import PartedScore, Record, below
from seqbench.task import SeqbenchError

AGREE = 1e-3  # nats, on the same kind of device
FIRST = 3  # epochs of a spot check
ROUNDED = 1e-5  # of the NLLs in a curve
SAME_WEIGHTS = 1e-4  # nats a frame: of the same weights on any machine


@dataclass(frozen=True)
class Rerun:
    """A recorded run and its repetition.

    Attributes:
        run_id: which run.
        recorded: its test NLL.
        rerun: what came out now.
        difference: rerun less recorded.
        recorded_on: device.
        rerun_on: device.
        recorded_at: commit.
        rerun_at: commit.
        agrees: whether the difference is within AGREE; on another kind of device nothing is promised, and kernels of
            another commit may round otherwise, which hundreds of steps at a high rate make visible.
    """

    run_id: str
    recorded: float
    rerun: float
    difference: float
    recorded_on: str
    rerun_on: str
    recorded_at: str
    rerun_at: str
    agrees: bool

    def __str__(self) -> str:
        devices = self.rerun_on if self.same_device else f"{self.rerun_on}, recorded on {self.recorded_on}"
        verdict = "agrees" if self.agrees else "differs" if self.same_device else "differs, on another kind of device"
        if not self.agrees and self.same_device and self.recorded_at not in ("", self.rerun_at):
            verdict += f"; its own commit may not: git checkout {self.recorded_at}"
        return (
            f"{self.run_id}: test NLL {self.rerun:.6f}, recorded {self.recorded:.6f}, "
            f"difference {self.difference:+.6f}: {verdict} ({devices})"
        )

    @property
    def same_device(self) -> bool:
        """Both on a CPU, or both on a GPU of the same maker's interface."""
        return self.recorded_on.split()[0] == self.rerun_on.split()[0]


def rerun(records: Path, run: str, audit: Sequence[Check], train: Callable[[Record], Record]) -> Rerun:
    """Trains a run again and compares, if its record is sound.

    Args:
        records: the folder of records.
        run: its id, or the first characters of it.
        audit: the checks against the code of units and data, its config's classes among them.
        train: gives the record of the repetition.

    Raises:
        SeqbenchError: no such run, or several; a record that is not sound or has no score; as `train` does.
    """
    record = _sound(records, run, audit)
    if record.test is None:
        raise SeqbenchError(f"{record.run_id} has no test NLL to compare with: choose a finished run")
    again = train(record)
    if again.test is None:
        raise SeqbenchError(f"{record.run_id} did not finish this time: {again.status}: {again.message}")
    difference = again.test.nll - record.test.nll
    return Rerun(
        run_id=record.run_id,
        recorded=record.test.nll,
        rerun=again.test.nll,
        difference=difference,
        recorded_on=record.environment.device,
        rerun_on=again.environment.device,
        recorded_at=record.environment.commit,
        rerun_at=again.environment.commit,
        agrees=abs(difference) <= AGREE,
    )


@dataclass(frozen=True)
class Spot:
    """The first epochs of a recorded run, trained again.

    Attributes:
        run_id: which run.
        epochs: how many.
        difference: the largest between the recorded and the repeated training and validation NLLs; infinite where one
            has a figure and the other has none.
        recorded_on: device.
        rerun_on: device.
        agrees: whether the difference is within AGREE.
    """

    run_id: str
    epochs: int
    difference: float
    recorded_on: str
    rerun_on: str
    agrees: bool

    def __str__(self) -> str:
        how = "to the digit" if self.difference <= ROUNDED else f"by {self.difference:.6f} nats"
        where = (
            self.rerun_on if self.rerun_on == self.recorded_on else f"{self.rerun_on}, recorded on {self.recorded_on}"
        )
        told = "agree" if self.agrees else "differ"
        return f"{self.run_id}: the first {self.epochs} epochs {told} {how} ({where})"


def spot(
    records: Path, runs: Sequence[str], audit: Sequence[Check], train: Callable[[Record, int], Record]
) -> Iterator[Spot]:
    """Trains the first epochs of runs again and compares their curves.

    Args:
        records: the folder of records.
        runs: their ids, or the first characters of them.
        audit: the checks against the code of units and data, the config's classes among them.
        train: gives the record of so many epochs of a run.

    Raises:
        SeqbenchError: no such run, or several; a record that is not sound; as `train` does.
    """
    for run in runs:
        record = _sound(records, run, audit)
        shown = min(max(1, FIRST // record.curve.every), len(record.curve.valid))
        again = train(record, shown * record.curve.every)
        difference = max(
            (_apart(one, other) for field in ("train", "valid") for one, other in _first(record, again, field, shown)),
            default=math.inf,
        )
        where = record.environment.device, again.environment.device
        yield Spot(record.run_id, shown * record.curve.every, difference, *where, difference <= AGREE)


def _first(record: Record, again: Record, field: str, shown: int) -> Iterator[tuple[float | None, float | None]]:
    one, other = getattr(record.curve, field)[:shown], getattr(again.curve, field)[:shown]
    return itertools.zip_longest(one, other)


def _apart(one: float | None, other: float | None) -> float:
    if one is None or other is None:
        return 0.0 if one is other else math.inf
    return round(abs(one - other), 9)


@dataclass(frozen=True)
class Scored:
    """A recorded test NLL and that of the weights kept beside the record.

    Attributes:
        run_id: which run.
        recorded: its test NLL.
        found: that of the weights.
        agrees: whether no sequence's NLL differs by more than SAME_WEIGHTS nats a frame.
    """

    run_id: str
    recorded: float
    found: float
    agrees: bool

    def __str__(self) -> str:
        told = "agree" if self.agrees else "differ"
        return f"{self.run_id}: its weights have test NLL {self.found:.6f}, recorded {self.recorded:.6f}: they {told}"


def scores(
    records: Path, runs: Sequence[str], audit: Sequence[Check], score: Callable[[Record, bytes], PartedScore]
) -> Iterator[Scored]:
    """Tests the weights that are kept beside records, and compares sequence by sequence.

    Args:
        records: the folder of records.
        runs: their ids, or the first characters of them; empty: all that have weights.
        audit: the checks against the code of units and data, the config's classes among them.
        score: of a run's weights.

    Raises:
        SeqbenchError: no such run, or several; a record that is not sound or has no score; no weights; as `score` does.
    """
    for run in with_progress(runs or sorted(path.stem for path in records.glob(f"*{WEIGHTS}")), "testing weights"):
        record = _sound(records, run, audit)
        path = records / f"{record.run_id}{WEIGHTS}"
        if record.test is None or not path.is_file():
            raise SeqbenchError(f"{record.run_id} has no {'weights' if record.test else 'test NLL'} beside its record")
        found = score(record, path.read_bytes())
        parts = zip(record.test.nats, found.nats, record.test.frames, strict=False)
        apart = max(abs(one - other) / max(frames, 1) for one, other, frames in parts)
        agrees = found.frames == record.test.frames and apart <= SAME_WEIGHTS
        yield Scored(record.run_id, record.test.nll, found.nll, agrees)


def _sound(records: Path, run: str, audit: Sequence[Check]) -> Record:
    record = _find(records, run)
    if found := next(problems(record, audit), None):
        raise SeqbenchError(f"{record.run_id} is not trained by a config that does not fit it: {': '.join(found)}")
    return record


def _find(records: Path, run: str) -> Record:
    paths = {(path.parent.name if path.name == "record.json" else path.stem): path for path in below(records)}
    matching = [run] if run in paths else [name for name in paths if name.startswith(run)]
    if len(matching) != 1:
        told = f"several runs begin with {run}" if matching else f"there is no run {run} in {records}"
        raise SeqbenchError(f"{told}: give one of {', '.join(sorted(matching or paths)[:5])}, ...")
    return read_one(paths[matching[0]], records)
