"""The record of a run: typed, versioned, strict JSON. The one thing a leaderboard is made from; imports no torch.

All likelihoods are negative logarithms in nats (natural log), lower is better. `nll` is frame-weighted: total nats
over frames scored, frame 1 left out where it has no input (Chung et al. 2014). Also kept: the mean of the
sequences' own means, and the frame-weighted figure with frame 1 scored from the initial state.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import typing
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from seqbench.decoding import decode, stated
from seqbench.files import write_file
from seqbench.task import Score, SeqbenchError

SCHEMA = 3
LARGEST_FILE = 2**23  # bytes; 10,000 epochs make 600,000
# Sequences of a batch, where a configuration says nothing: what data sets have by default, and those of streams.
BATCH, STREAMS = 16, 20
# stopped: it ended before its protocol's end and may go on from its checkpoint.
Status = Literal["finished", "diverged", "stopped", "interrupted", "failed"]

SECTIONS = ("data", "model", "trainer", "run")


@dataclass(frozen=True)
class Count:
    """Guesses: how many are right, of how many that count; per sequence, in the order of the test split."""

    right: list[int]
    of: list[int]

    @property
    def share(self) -> float:
        """Of all that count, in percent."""
        return round(100 * sum(self.right) / sum(self.of), 9)


@dataclass(frozen=True)
class PartedScore(Score):
    """A score with its parts, from which it can be recomputed: per sequence, in the order of the test split."""

    nats: list[float]  # rounded to 1e-4; the score is computed from the rounded values
    frames: list[int]
    first: list[float] | None  # nats of frame 1
    counts: dict[str, Count] = field(default_factory=dict)  # by name; a music set has none


@dataclass(frozen=True)
class Curve:
    """One entry a validation: `train` is measured while training (weight noise on), `valid` after it.

    The last three tell whether the rule of training works, as means over the steps since the entry before.
    """

    steps: int  # of the optimiser in an epoch
    every: int  # epochs from one validation to the next
    seconds: list[float]
    train: list[float | None]  # None: not finite
    valid: list[float | None]
    gradient: list[float | None]  # norm of the gradient, before clipping
    update: list[float | None]  # norm of the update over norm of the weights
    floored: list[float | None]  # share at the optimiser's floor, of weights with a gradient; empty where it has none

    @property
    def epoch(self) -> list[int]:
        """Counted from 0: 0, 1, 2, ... where every epoch is validated."""
        return [self.every * (entry + 1) - 1 for entry in range(len(self.valid))]

    @property
    def step(self) -> list[int]:
        """Steps done by the end of each entry's epoch."""
        return [self.steps * (epoch + 1) for epoch in self.epoch]


@dataclass(frozen=True)
class TaskRecord:
    """The task as seqbench.task.Task has it."""

    name: str
    input_size: int
    target_size: int
    head: str
    unit: str
    digest: str
    next_frame: bool
    vocabulary: int = 0  # inputs are ids below it; 0: numbers
    carried: bool = False  # states go on from batch to batch
    score: str = ""  # the count that units are ranked by; "": nats
    solved: float = 0.0  # share of right guesses on test that makes it solved; 0: it is scored alone
    looks_ahead: bool = False  # all of a sequence may be read before anything of it is guessed


@dataclass(frozen=True)
class CellRecord:
    """The unit: class name, the options that differ from its defaults, its size and what that was chosen by."""

    name: str
    options: dict[str, Any]
    hidden: int
    budget: int | None  # in parameters; None: the hidden size was given
    count: Literal["recurrent", "total"] | None  # which parameters the budget was for


@dataclass(frozen=True)
class Parameters:
    """Parameter counts: the recurrent layer alone (Chung's way), and all: with output layer and embedding."""

    recurrent: int
    total: int


@dataclass(frozen=True)
class Environment:
    """Where the run happened: nothing here may change its numbers by more than rounding."""

    commit: str  # "" outside a git checkout; ends with "+" if the tree had changes
    versions: dict[str, str]
    device: str
    recurrence: str  # how it ran over time: loop, scan, numba, triton
    precision: str  # effective, e.g. "bf16-mixed" where "16-mixed" was asked for on a CPU
    threads: int  # of the kernels, or of torch where it ran without them
    replicas: int  # trained together, as the group began: they share the clock
    sources: dict[str, str]  # digests of what decides the numbers: the suite's code, and the unit's own file


@dataclass(frozen=True)
class Record:
    """One run: one seed, one rate, one unit, one dataset."""

    schema: int  # version of this form
    run_id: str  # as `run_id` makes it, and the name of the run's folder
    status: Status
    message: str  # why it diverged, stopped, was interrupted or failed; "" otherwise
    task: TaskRecord
    cell: CellRecord
    parameters: Parameters
    seed: int
    rate: float
    config: dict[str, Any]  # data, model, trainer, run: what differs from the defaults, classes by name (identity.py)
    command: str  # what to type for this run alone
    environment: Environment
    seconds: float  # of training and validation, to the last epoch; runs trained together share the clock
    curve: Curve
    best_epoch: int | None  # counted from 0
    best_valid: float | None  # NLL, of the curve's best entry
    train: Score | None  # of the best epoch's weights, without weight noise, as all three
    valid: Score | None
    test: PartedScore | None
    floors: dict[str, Score]  # what no model is needed for, on the same test split
    scale: float | None  # speech: what samples were divided by, in steps of 16 bits


def score_from_parts(
    nats: list[float], frames: list[int], first: list[float] | None, counts: dict[str, Count] | None = None
) -> PartedScore:
    """The three conventions from per-sequence sums; the sums are rounded first, so a reader gets the same digits.

    Raises:
        SeqbenchError: no frames, or lists of different lengths.
    """
    if len(nats) != len(frames) or (first is not None and len(first) != len(nats)) or not sum(frames):
        raise SeqbenchError(f"per-sequence lists do not fit: {len(nats)} nats, {len(frames)} frame counts")
    nats = [round(n, 4) for n in nats]
    total = math.fsum(nats)
    means = [n / f for n, f in zip(nats, frames, strict=True) if f]
    nll_first = None
    if first is not None:
        first = [round(n, 4) for n in first]
        nll_first = round((total + math.fsum(first)) / (sum(frames) + len(first)), 9)
    return PartedScore(
        nll=round(total / sum(frames), 9),
        nll_sequence=round(math.fsum(means) / len(means), 9),
        nll_first=nll_first,
        nats=nats,
        frames=frames,
        first=first,
        counts=counts or {},
    )


def bits_per_sample(nats: float, samples: int, scale: float) -> float:
    """Bits for each 16-bit sample, from the nats of a step of so many samples that were divided by `scale`.

    A density of y = x / s is s times that of x, so -log2 p(x) = -log2 p(y) + log2 s for each sample.
    """
    return nats / (samples * math.log(2)) + math.log2(scale)


def differences(one: dict[str, Any], other: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys whose values differ, or that only one of the two has."""
    keys = []
    for key in sorted(one.keys() | other.keys()):
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            keys += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            keys.append(prefix + key)
    return keys


def run_id(task: TaskRecord, cell_name: str, config: dict[str, Any]) -> str:
    """`<data set>-<unit>-<hash>`, the hash over the data's digest and a record's config, seed and rate in it."""
    return f"{task.name}-{cell_name.lower()}-{_hash([task.digest, config])}"


def family_id(record: Record) -> str:
    """The same for all runs that differ by seed and rate only: a search and what it found, one row of a leaderboard."""
    return _hash([record.task.digest, without_replica(record.config)])


def without_replica(config: dict[str, Any]) -> dict[str, Any]:
    """A record's config without what tells replicas apart: seed and rate."""
    return config | {"model": {k: v for k, v in config["model"].items() if k not in ("seed", "rate")}}


def best_rate(runs: Iterable[Record]) -> float | None:
    """The first of `best_rates`; None where no run counts."""
    return next(iter(best_rates(runs)), None)


def best_rates(runs: Iterable[Record]) -> list[float]:
    """The rates, the best first: most runs that came to their end and have a best epoch, of a task that can be solved
    most that solved it on the validation split, then lowest mean of their NLL there.

    So a search's rates are judged by their one seed until some have all seeds, and by these alone from then on.
    """
    valid: dict[float, list[float]] = {}
    early: Counter[float] = Counter()
    for run in runs:
        if came_to_its_end(run) and run.best_valid is not None:
            valid.setdefault(run.rate, []).append(run.best_valid)
            early[run.rate] += ended_early(run)
    return sorted(
        valid, key=lambda rate: (-len(valid[rate]), -early[rate], math.fsum(valid[rate]) / len(valid[rate]), rate)
    )


def ended_early(record: Record) -> bool:
    """Whether a run ended before its time as all its guesses on the validation split were right."""
    if not record.task.solved or record.status != "finished":
        return False
    most = record.config["trainer"].get("max_epochs")
    return most is not None and record.curve.every * len(record.curve.valid) < most


def ended_below(folder: Path) -> Collection[Record]:
    """The runs below a folder that came to their end, each once, though it was copied.

    Raises:
        SeqbenchError: as `below` and `load`.
    """
    return {run.run_id: run for run in map(load, below(folder)) if came_to_its_end(run)}.values()


def came_to_its_end(record: Record) -> bool:
    """Well or badly; a stopped, interrupted or failed run did not."""
    return record.status in ("finished", "diverged")


def counts(record: Record) -> bool:
    """Whether a run counts in the means of its unit: it came to its end and was tested, with its best epoch's weights.

    With early stopping, what a run does after its best epoch is no matter; that it diverged there is told (`marks`).
    """
    return came_to_its_end(record) and record.test is not None


def solved(record: Record) -> bool:
    """Whether a run has solved its task: enough of the guesses on the test split are right."""
    if not record.task.solved or not counts(record) or record.test is None or not record.test.counts:
        return False
    return next(iter(record.test.counts.values())).share >= 100 * record.task.solved


def sequences(record: Record) -> int | None:
    """Sequences that a run was trained on, by the end of its best epoch; None where it has none."""
    return None if record.best_epoch is None else _of_an_epoch(record) * (record.best_epoch + 1)


def most_sequences(record: Record) -> int | None:
    """Sequences that a run would have been trained on by its last epoch; None where it has no last one."""
    longest = record.config["trainer"].get("max_epochs")
    return _of_an_epoch(record) * longest if isinstance(longest, int) and longest > 0 else None


def _of_an_epoch(record: Record) -> int:
    default = STREAMS if record.task.carried else BATCH
    return record.curve.steps * int((record.config["data"].get("init_args") or {}).get("batch_size", default))


def rates_tried(runs: Iterable[Record]) -> frozenset[float]:
    """The rates that the best is chosen from: those with a run that came to its end, well or badly."""
    return frozenset(run.rate for run in runs if came_to_its_end(run))


def marks(counted: Sequence[Record], tried: Collection[float]) -> list[str]:
    """What a reader must know of the runs that count, all at one rate: the search or the training was too short."""
    found = ["rate at the edge"] if counted and at_edge(counted[0].rate, tried) else []
    runs = f"of {len(counted)} run{'s' * (len(counted) > 1)}"
    if learning := sum(map(still_learning, counted)):
        found.append(f"still learning in {learning} {runs}")
    if diverged := sum(run.status == "diverged" for run in counted):
        found.append(f"diverged after the best epoch in {diverged} {runs}")
    return found


def at_edge(rate: float, tried: Collection[float]) -> bool:
    """Whether a rate is the lowest or highest of several tried: the best may lie beyond."""
    return len(tried) > 1 and rate in (min(tried), max(tried))


def still_learning(record: Record) -> bool:
    """Whether a run that its last epoch ended was best in the last 2% of its epochs: it might have gone on."""
    longest = record.config["trainer"].get("max_epochs")
    if record.status != "finished" or record.best_epoch is None or not isinstance(longest, int) or longest < 1:
        return False
    last = longest // record.curve.every * record.curve.every  # that is validated
    return record.curve.epoch[-1] + 1 == last and record.best_epoch + 1 > 0.98 * last


def protocol(record: Record) -> str:
    """The name that the run's protocol config gives itself; "" where it has none."""
    return str(record.config["run"].get("protocol") or "")


def _hash(value: Any) -> str:
    text = json.dumps(_one_spelling(value), sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _one_spelling(value: Any) -> Any:
    """1.0 as 1, wherever it stands: the same number names the same run. But 1 of `batches` is one, 1.0 is all."""
    if isinstance(value, dict):
        return {k: str(v) if k.endswith("_batches") else _one_spelling(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_one_spelling(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def save(record: Record, path: Path) -> None:
    """Writes the record, all of it or nothing."""
    write_json(record, path)


def write_json(value: Any, path: Path) -> None:
    """Strict JSON, written as `seqbench.files.write_file` does; of a dataclass without the fields at their defaults."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), sort_keys=True, default=stated)
    write_file(path, f"{text}\n".encode())


def load(path: Path) -> Record:
    """Reads and checks a record.

    Raises:
        SeqbenchError: no regular file or a large one, not JSON, a field twice, NaN or infinity, a missing field that
            has no default, an unknown one, a wrong type, another schema version, a test score whose parts are not
            of the same sequences.
    """
    try:
        value = json.loads(_text(path), parse_constant=_refuse_constant, object_pairs_hook=_object)
    except (OSError, ValueError, RecursionError) as error:
        raise SeqbenchError(f"{path}: not a readable record: {error}") from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        found = value.get("schema") if isinstance(value, dict) else type(value).__name__
        raise SeqbenchError(f"{path}: schema {found!r:.60}, this version of seqbench reads {SCHEMA}")
    try:
        record = typing.cast(Record, decode(Record, value, "record"))
        if not all(isinstance(record.config.get(section), dict) for section in SECTIONS):
            raise ValueError(f"record.config: expected the sections {', '.join(SECTIONS)}")
        if (test := record.test) and len(
            {len(part) for part in (test.nats, test.frames, test.first) if part is not None}
        ) > 1:
            raise ValueError("record.test: nats, frames and first are not of the same sequences")
    except (ValueError, OverflowError, RecursionError) as error:
        raise SeqbenchError(f"{path}: {error}") from error
    return record


def below(folder: Path) -> list[Path]:
    """Paths of `*.json` in the folder itself and of `record.json` at any depth, sorted.

    Raises:
        SeqbenchError: nothing there.
    """
    if not folder.is_dir():
        raise SeqbenchError(f"there is no folder {folder}")
    # A sweep's own files lie beside its runs.
    found = [] if (folder / "sweep.json").exists() else list(folder.glob("*.json"))
    for inner, _, names in os.walk(folder):
        if "record.json" in names and Path(inner) != folder:
            found.append(Path(inner, "record.json"))
    if not found:
        raise SeqbenchError(f"no records in {folder}: train something first (`seqbench fit`)")
    return sorted(found)


def _text(path: Path) -> str:
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):  # a pipe would never end
        raise ValueError("it is no file")
    if state.st_size > LARGEST_FILE:
        raise ValueError(f"it has {state.st_size:,} bytes, a record stays below {LARGEST_FILE:,}")
    return path.read_text(encoding="utf-8")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not strict JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values under one key readers take one or the other."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r:.60} is there twice")
    return made
