"""The record of a run: typed, versioned, strict JSON. The one thing a leaderboard is made from; imports no torch.

All likelihoods are negative logarithms in nats (natural log), lower is better. `nll` is frame-weighted: total nats
over frames scored, frame 1 left out where it has no input (Chung et al. 2014). Also kept: the mean of the
sequences' own means, and the frame-weighted figure with frame 1 scored from the initial state.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import os
import tempfile
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seqbench.task import SeqbenchError

SCHEMA = 2
Status = Literal["finished", "diverged", "interrupted", "failed"]

SECTIONS = ("data", "model", "trainer", "run")
# What changes where or how loudly a run happens, not its numbers; everything else is part of the run's identity.
INCIDENTAL = {
    "trainer": {
        "accelerator", "strategy", "devices", "num_nodes", "logger", "fast_dev_run", "log_every_n_steps",
        "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps", "profiler",
        "detect_anomaly", "barebones", "plugins", "default_root_dir", "enable_autolog_hparams", "model_registry",
        "benchmark", "inference_mode", "use_distributed_sampler", "sync_batchnorm", "max_time",
    },
    "model": {"recurrence"},
    "run": {"dir", "overwrite"},
}  # fmt: skip


@dataclass(frozen=True)
class Score:
    """A negative log-likelihood under the three conventions, in nats."""

    nll: float
    nll_sequence: float
    nll_first: float | None  # None where the task scores no frame without input


@dataclass(frozen=True)
class PartedScore(Score):
    """A score with its parts, from which it can be recomputed: per sequence, in the order of the test split."""

    nats: list[float]  # rounded to 1e-4; the score is computed from the rounded values
    frames: list[int]
    first: list[float] | None  # nats of frame 1


@dataclass(frozen=True)
class Curve:
    """One entry an epoch, from 0. `train` is measured while training (weight noise on), `valid` after the epoch."""

    steps: int  # of the optimiser in an epoch
    seconds: list[float]
    train: list[float | None]  # None: not finite
    valid: list[float | None]

    @property
    def epoch(self) -> list[int]:
        """0, 1, 2, ..."""
        return list(range(len(self.valid)))

    @property
    def step(self) -> list[int]:
        """Steps done by the end of each epoch."""
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


@dataclass(frozen=True)
class CellRecord:
    """The unit: class name, the options that differ from its defaults, its size."""

    name: str
    options: dict[str, Any]
    hidden: int


@dataclass(frozen=True)
class Parameters:
    """Parameter counts: the recurrent layer alone (Chung's way) and with the output layer."""

    recurrent: int
    total: int


@dataclass(frozen=True)
class Environment:
    """Where the run happened: nothing here may change its numbers by more than rounding."""

    commit: str  # "" outside a git checkout; ends with "+" if the tree had changes
    versions: dict[str, str]
    device: str
    recurrence: str  # how it ran over time: loop, scan, torch, numba, triton
    precision: str  # effective, e.g. "bf16-mixed" where "16-mixed" was asked for on a CPU
    threads: int  # of the kernels, or of torch where it ran without them


@dataclass(frozen=True)
class Record:
    """One run: one seed, one rate, one unit, one dataset."""

    schema: int
    run_id: str
    status: Status
    message: str  # why it diverged, was interrupted or failed; "" otherwise
    task: TaskRecord
    cell: CellRecord
    parameters: Parameters
    seed: int
    rate: float
    config: dict[str, Any]  # resolved: data, model, trainer, run
    command: str
    environment: Environment
    seconds: float  # of training and validation, to the last epoch; runs trained together share the clock
    curve: Curve
    best_epoch: int | None  # counted from 0
    best_valid: float | None
    test: PartedScore | None  # of the best epoch's weights
    floors: dict[str, Score]  # what no model is needed for, on the same test split
    scale: float | None  # speech: what samples were divided by, in steps of 16 bits


def score_from_parts(nats: list[float], frames: list[int], first: list[float] | None) -> PartedScore:
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
    )


def bits_per_sample(nats: float, samples: int, scale: float) -> float:
    """Bits for each 16-bit sample, from the nats of a step of so many samples that were divided by `scale`.

    A density of y = x / s is s times that of x, so -log2 p(x) = -log2 p(y) + log2 s for each sample.
    """
    return nats / (samples * math.log(2)) + math.log2(scale)


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a resolved config that decides a run's numbers."""
    kept = {}
    for section in SECTIONS:
        kept[section] = {k: v for k, v in config[section].items() if k not in INCIDENTAL.get(section, ())}
    return kept


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
    """`<data set>-<unit>-<hash>`, the hash over the data's digest and the config's identity (seed and rate in it)."""
    return f"{task.name}-{cell_name.lower()}-{_hash([task.digest, identity(config)])}"


def family_id(record: Record) -> str:
    """The same for all runs that differ by seed and rate only: a search and what it found, one row of a leaderboard."""
    config = identity(record.config)
    config["model"] = {k: v for k, v in config["model"].items() if k not in ("seed", "rate")}
    return _hash([record.task.digest, config])


def protocol(record: Record) -> str:
    """The name that the run's protocol config gives itself; "" where it has none."""
    return str(record.config["run"].get("protocol") or "")


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def save(record: Record, path: Path) -> None:
    """Writes the record, all of it or nothing."""
    write_json(dataclasses.asdict(record), path)


def write_json(value: Any, path: Path) -> None:
    """Strict JSON in one stroke: a reader sees the old file or the new one, never a part. Makes the folder."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8") as file:
        file.write(text + "\n")
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def load(path: Path) -> Record:
    """Reads and checks a record.

    Raises:
        SeqbenchError: not JSON, NaN or infinity, a missing or unknown field, a wrong type, another schema version.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError) as error:
        raise SeqbenchError(f"{path}: not a readable record: {error}") from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        found = value.get("schema") if isinstance(value, dict) else type(value).__name__
        raise SeqbenchError(f"{path}: schema {found!r}, this version of seqbench reads {SCHEMA}")
    try:
        record = typing.cast(Record, _decode(Record, value, "record"))
        if not all(isinstance(record.config.get(section), dict) for section in SECTIONS):
            raise ValueError(f"record.config: expected the sections {', '.join(SECTIONS)}")
    except ValueError as error:
        raise SeqbenchError(f"{path}: {error}") from error
    return record


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not strict JSON")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _decode(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`: dataclass, list, dict, union, Literal, or a plain type; ValueError names the place."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        if not isinstance(value, dict) or value.keys() != hints.keys():
            wrong = sorted(value.keys() ^ hints.keys()) if isinstance(value, dict) else type(value).__name__
            raise ValueError(f"{where}: missing or unknown fields: {wrong}")
        return kind(**{name: _decode(hint, value[name], f"{where}.{name}") for name, hint in hints.items()})
    if origin is list and isinstance(value, list):
        if _is_plain(args[0], value):
            return value
        return [_decode(args[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {k: _decode(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is Literal and value in args:
        return value
    if origin is types.UnionType:
        if value is None and type(None) in args:
            return None
        return _decode(next(a for a in args if a is not type(None)), value, where)
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if type(value) is kind:
        return value
    raise ValueError(f"{where}: expected {getattr(kind, '__name__', kind)}, found {value!r:.60}")


def _is_plain(kind: Any, values: list[Any]) -> bool:
    """Whether a list, as most of a record is, holds what it should and nothing is to be made of it."""
    if kind is int:
        return all(type(v) is int for v in values)
    if kind == float | None:
        values = [v for v in values if v is not None]
    elif kind is not float:
        return False
    return all(type(v) is float for v in values) and math.isfinite(sum(values))
