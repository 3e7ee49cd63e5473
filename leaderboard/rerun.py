"""`seqbench leaderboard verify --rerun ID`: trains a recorded run again by its config and compares what comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from seqbench.leaderboard.build import find, read_one
from seqbench.leaderboard.checks import Check, problems
from seqbench.record import Record
from seqbench.task import SeqbenchError

AGREE = 1e-3  # nats, on the same kind of device


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
    record = _find(records, run)
    if found := next(problems(record, audit), None):
        raise SeqbenchError(f"{record.run_id} is not trained by a config that does not fit it: {': '.join(found)}")
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


def _find(records: Path, run: str) -> Record:
    paths = {(path.parent.name if path.name == "record.json" else path.stem): path for path in find(records)}
    matching = [run] if run in paths else [name for name in paths if name.startswith(run)]
    if len(matching) != 1:
        told = f"several runs begin with {run}" if matching else f"there is no run {run} in {records}"
        raise SeqbenchError(f"{told}: give one of {', '.join(sorted(matching or paths)[:5])}, ...")
    return read_one(paths[matching[0]], records)
