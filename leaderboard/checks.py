"""What must hold inside one record. Each check yields (field, problem) pairs; a sound record yields none.

What must hold between a record and the code of units and data is checked by what the caller hands in: the audit.
"""

from __future__ import annotations

import itertools
import math
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from seqbench.record import Record, bits_per_sample, counts, run_id, score_from_parts, solved
from seqbench.task import SeqbenchError

Problem = tuple[str, str]  # field, what is wrong with it
Check = Callable[[Record], Iterator[Problem]]
RUN_ID = re.compile(r"[a-z0-9_]+-[a-z0-9_]+-[0-9a-f]{12}")
ROUNDED = 1e-5  # of validation NLL in a curve
MOST_BITS = 24.0  # for a 16-bit sample


def problems(record: Record, audit: Sequence[Check]) -> Iterator[Problem]:
    """All that is wrong with a record; `audit`: the checks against the code of units and data."""
    for check in (name, scores, curve, end, settings, plausible, *audit):
        yield from _guarded(check)(record)


def _guarded(check: Check) -> Check:
    """The check; a config that is not as `seqbench fit` writes it is a problem, not an error."""

    def guarded(record: Record) -> Iterator[Problem]:
        try:
            yield from check(record)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, SeqbenchError) as error:
            yield f"config ({check.__name__})", f"cannot be used: {type(error).__name__}: {error}"

    return guarded


def name(record: Record) -> Iterator[Problem]:
    """The run id follows from data, unit and config, and is a name for a file."""
    expected = run_id(record.task, record.cell.name, record.config)
    if not RUN_ID.fullmatch(record.run_id):
        yield "run_id", f"{record.run_id!r} is no name of a run"
    elif record.run_id != expected:
        yield "run_id", f"{record.run_id}, but config, unit and data digest give {expected}"


def scores(record: Record) -> Iterator[Problem]:
    """The reported test NLLs are those of the per-sequence nats and frames; train and valid are of the same weights."""
    splits = {"train": record.train, "valid": record.valid, "test": record.test}
    for split, score in splits.items():
        if score is None and (record.status == "finished" or record.test is not None):
            yield split, "is missing, though the run finished" if record.status == "finished" else "is missing"
        if score is not None and (score.nll_first is not None) != record.task.next_frame:
            yield f"{split}.nll_first", "must be there where the task predicts the next frame, and only there"
    # A sequence's nats are rounded to 1e-4, which shows where few of its steps are scored.
    rounded = 1e-4 if record.task.solved else ROUNDED
    if record.valid is not None and (record.best_valid is None or abs(record.valid.nll - record.best_valid) > rounded):
        yield "valid.nll", f"{record.valid.nll}, but best_valid, of the same weights, is {record.best_valid}"
    test = record.test
    if test is None:
        return
    try:
        expected = score_from_parts(test.nats, test.frames, test.first, test.counts)
    except SeqbenchError as error:
        yield "test", str(error)
        return
    for field in ("nll", "nll_sequence", "nll_first"):
        told, found = getattr(test, field), getattr(expected, field)
        if told != found:
            yield f"test.{field}", f"{told}, but test.nats, test.frames and test.first give {found}"
    if (test.nats, test.first) != (expected.nats, expected.first):
        yield "test.nats", "has more than four digits"
    for field, count in test.counts.items():
        lists = zip(count.right, count.of, test.frames, strict=False)
        fits = len(count.right) == len(count.of) == len(test.frames) and sum(count.of) > 0
        if not fits or not all(0 <= right <= of <= frames for right, of, frames in lists):
            yield f"test.counts.{field}", "has not 0 to all right of at most all frames of each sequence"


def curve(record: Record) -> Iterator[Problem]:
    """One entry a validation; best epoch and validation NLL are the curve's least."""
    told = record.curve
    if told.every != record.config["trainer"].get("check_val_every_n_epoch", 1):
        yield "curve.every", f"{told.every}, but config.trainer.check_val_every_n_epoch is another"
    if any(a > b for a, b in itertools.pairwise([0.0, *told.seconds, record.seconds + 0.01])):
        yield "curve.seconds", "falls, or goes beyond the run's seconds"
    if (record.best_epoch is None) != (record.best_valid is None):
        yield "best_valid", "must be there where best_epoch is"
    elif record.best_epoch is not None and record.best_valid is not None:
        # The epoch in which a run diverged is its last, and none of those that its weights are chosen from.
        valid = told.valid[:-1] if record.status == "diverged" else told.valid
        there = dict(zip(told.epoch, valid, strict=False)).get(record.best_epoch)
        least = min((v for v in valid if v is not None), default=math.inf)
        # A replica that solves its task keeps the weights with which it did.
        last = record.task.solved > 0 and record.best_epoch == told.epoch[-1]
        if there is None or (there > least + ROUNDED and not last):
            yield "best_epoch", f"{record.best_epoch} has validation NLL {there}, but curve.valid falls to {least}"
        elif abs(there - record.best_valid) > ROUNDED:
            yield "best_valid", f"{record.best_valid}, but curve.valid has {there} at the best epoch"


def end(record: Record) -> Iterator[Problem]:
    """A finished run stopped because it was long enough, or for want of patience."""
    trainer, patience = record.config["trainer"], record.config["run"].get("patience")
    if record.status != "finished":
        if not record.message:
            yield "message", f"is empty, though the run is {record.status}"
        return
    if record.best_epoch is None:
        yield "best_epoch", "is missing, though the run finished"
        return
    longest, every = trainer.get("max_epochs"), record.curve.every
    done = every * len(record.curve.valid)
    if trainer.get("max_steps", -1) != -1 or not isinstance(longest, int) or longest < 0:
        return
    after = done - 1 - record.best_epoch
    if done > longest:
        yield "curve", f"has {done} epochs, config.trainer.max_epochs is {longest}"
    elif record.task.solved and not after:
        return
    elif done <= longest - every and (patience is None or not patience <= after < patience + every):
        yield "curve", f"ends after {done} of {longest} epochs, {after} after the best, with a patience of {patience}"


def settings(record: Record) -> Iterator[Problem]:
    """What a record says twice it says alike."""
    model = record.config["model"]
    for field in ("seed", "rate"):
        if model.get(field) != getattr(record, field):
            yield field, f"{getattr(record, field)}, but config.model.{field} is {model.get(field)}"
    for flag, value in _flags(record.command).items():
        has = _at(record.config, flag.split("."))
        if has is not None and not _same(has, value):
            yield "command", f"has --{flag} {value}, but config.{flag} is {has}"


def _flags(command: str) -> dict[str, str]:
    """The options of a command that a config has a place for, by their dotted names; of one given twice the last."""
    try:
        words = shlex.split(command)
    except ValueError:
        return {}
    following = itertools.pairwise([*words, ""])
    pairs = (word.partition("=")[::2] if "=" in word else (word, after) for word, after in following)
    return {flag[2:]: value for flag, value in pairs if flag.startswith("--") and "." in flag}


def _at(config: Any, path: list[str]) -> str | int | float | None:
    """The number that a config has at a dotted name, or the class by its name; None where it has neither there."""
    for key in path:
        if isinstance(config, dict) and "class_path" in config:
            config = config.get("init_args") or {}
        config = config.get(key) if isinstance(config, dict) else None
    if isinstance(config, dict):
        return config.get("class_path")
    return config if isinstance(config, int | float) and not isinstance(config, bool) else None


def _same(has: str | int | float, value: str) -> bool:
    if isinstance(has, str):
        return has.rpartition(".")[2].lower() == value.rpartition(".")[2].lower()
    try:
        return float(value) == has
    except ValueError:
        return False


def plausible(record: Record) -> Iterator[Problem]:
    """Numbers that can be. A finished run on rolls is better than 88 tosses of a coin a frame, one on text than taking
    all tokens as alike, and neither is twice as good as the best floor; one on trees, which is read whole, may be. One
    on speech needs between 0 and MOST_BITS bits for a 16-bit sample: less than 0 no code can have, as dequantised
    samples carry at least their own entropy.
    """
    for field, value in (("rate", record.rate), ("cell.hidden", record.cell.hidden)):
        if value <= 0:
            yield field, f"{value} is not positive"
    if not counts(record) or record.test is None:
        return
    if not record.floors:
        yield "floors", "are missing, though the run was tested"
        return
    nll = record.test.nll
    if "Gaussian" not in record.task.head:
        yield from _of_classes(record)
    if record.task.solved:  # made up, and certain for who knows the rule
        if solved(record) and nll >= min(score.nll for score in record.floors.values()):
            yield "test.counts", f"have the task solved, though test.nll, {nll}, is that of guessing"
        return
    if record.task.head == "GaussianMixture":
        if record.scale is None or record.scale <= 0:
            yield "scale", f"{record.scale}: samples of speech have one, in steps of 16 bits"
            return
        bits = bits_per_sample(nll, record.task.target_size, record.scale)
        if not 0 <= bits <= MOST_BITS:
            yield "test.nll", f"{nll} is {bits:.1f} bits for a 16-bit sample: implausible"
        return
    best = min(score.nll for score in record.floors.values())
    trees = record.task.head == "Biaffine"
    if nll < best / 2 and not trees:
        yield "test.nll", f"{nll} is less than half of the best floor, {best}: implausible"
    classes, K = trees or record.task.head == "Categorical", record.task.target_size
    if nll > ((1 + trees) * math.log(K) if classes else K * math.log(2)):
        guess = "taking all classes as alike" if classes else "tossing a coin for each target"
        yield "test.nll", f"{nll} is worse than {guess}: implausible"


def _of_classes(record: Record) -> Iterator[Problem]:
    """Nothing is more probable than certain, but by a density."""
    values: dict[str, Sequence[float | None]] = {"curve.train": record.curve.train, "curve.valid": record.curve.valid}
    for name, score in (("train", record.train), ("valid", record.valid), ("test", record.test)):
        if score is not None:
            values[name] = (score.nll, score.nll_sequence, score.nll_first)
    if record.test is not None:
        values["test.nats"] = (*record.test.nats, *(record.test.first or ()))
    for name, told in values.items():
        if min((value for value in told if value is not None), default=0) < 0:
            yield name, "is more probable than certain"
