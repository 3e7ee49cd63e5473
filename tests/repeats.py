"""`make repeats`: the same bits, whatever happened. Runs are killed, repeated and trained in company, and compared.

    repeats.py KILLS TRAININGS TIMES     (100 200 50)

KILLS runs are killed at a drawn moment (by the clock, while something is written, while weights are tested), some of
them several times, and called again until they are over; their records must be the undisturbed runs' to the bit.
TRAININGS are short ones of every unit in processes that differ in threads, in what fresh memory is filled with and in
what was trained before. TIMES a sweep is killed half-way and called again, and a group's replicas are trained alone.
Three processes at once are each other's load; all are forked, as importing takes longer than what is tried.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import fcntl
import functools
import hashlib
import json
import logging
import math
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch

from seqbench import record as rec
from seqbench.cells import cells
from seqbench.datamodules.synthetic import Synthetic
from seqbench.kernels.cpu import pool
from seqbench.search.design import Design, Group, groups, is_over, records
from seqbench.search.engines import End, carry_out
from seqbench.search.sweep import sweep
from seqbench.train.callbacks import Replicas
from seqbench.train.fitting import run
from seqbench.train.module import SequenceModel

AT_ONCE = 3
M_PERTURB = -6  # of glibc's malloc.h: a byte that fresh and freed memory is filled with
FLAGS = ["-c", "synthetic", "-c", "chung2014", "--model.hidden", "4", "--trainer.limit_train_batches", "8"]
QUIET = ["--trainer.enable_progress_bar", "false"]
KILLED = Design([*FLAGS, "--trainer.max_epochs", "4", *QUIET], ["GRU", "LSTM", "MinGRU"], [1e-2], 1, ["search"], 1)
GROUPED = dataclasses.replace(KILLED, units=["GRU", "Tanh"], rates=[3e-2, 1e-3], group_size=2)
SWEPT = Design(
    [*FLAGS, "--trainer.max_epochs", "8", "--run.patience", "3", *QUIET], ["GRU"], [3e-2, 1e-2, 3e-3], 2,
    ["search", "report"], 2,
)  # fmt: skip


def forked(work: Callable[[], object], log: Path) -> int:
    """Starts work in a process of its own; what it prints goes to `log`. Returns its id."""
    if child := os.fork():
        return child
    status = 1
    try:
        with log.open("a", buffering=1) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            work()
            status = 0
    except BaseException:  # noqa: BLE001  # its end is its status
        traceback.print_exc()
    finally:
        os._exit(status)


def side_by_side(cases: Sequence[tuple[str, Callable[[Path], str]]], folder: Path) -> int:
    """Runs the cases, each in a process and a folder of its own, and prints what they find; returns how many found."""
    waiting, running, found = list(enumerate(cases)), {}, 0
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            number, (name, case) = waiting.pop(0)
            place = folder / f"{name.replace(' ', '-')}-{number}"
            place.mkdir(parents=True)
            work = functools.partial(_told, case, place)
            running[forked(work, place / "log")] = (name, place)
        child, status = os.wait()
        if child in running:
            name, place = running.pop(child)
            told = place / "told"
            if text := told.read_text() if told.exists() else f"ended with {status}: {place / 'log'}":
                found += 1
                print(f"{name}: {text}", flush=True)
        if sys.stderr.isatty():
            print(f"\r{len(cases) - len(waiting) - len(running)}/{len(cases)}", end=" ", file=sys.stderr, flush=True)
    return found


def _told(case: Callable[[Path], str], place: Path) -> None:
    (place / "told").write_text(case(place))


def figures(found: dict[str, rec.Record]) -> dict[str, Any]:
    """All of the records but seconds, which no two runs share, and threads and commit."""
    made = {run_id: dataclasses.asdict(record) for run_id, record in found.items()}
    for one in made.values():
        del one["seconds"], one["curve"]["seconds"], one["environment"]
    return made


def difference(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """Where they differ, to the bit; "" where they do not. JSON's numbers are whole."""
    if found.keys() != expected.keys():
        return f"runs {sorted(found.keys() ^ expected.keys())}"
    differing = [
        f"{run_id} {key}"
        for run_id, one in found.items()
        for key, value in one.items()
        if json.dumps(value) != json.dumps(expected[run_id][key])
    ]
    return f"differ: {', '.join(differing)}" if differing else ""


# Killed and called again


def before(of: Any, name: str, do: Callable[..., object], most: int = 1) -> None:
    """Has `do` called before one of the first calls, `most` of them, of a function, and before all that follow."""
    inner, left = getattr(of, name), [random.randrange(most)]

    def counted(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            do(*arguments)
        return inner(*arguments, **named)

    setattr(of, name, counted)


def die(*_: Any) -> None:
    """As by kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)


def cut_and_die(handle: int) -> None:
    """In the middle of a file."""
    os.ftruncate(handle, random.randrange(1 + os.fstat(handle).st_size))
    die()


def killed_at(seconds: float) -> None:
    """Arranges for this process to be killed: by the clock, at a file, or while weights are tested; or never."""
    match random.choice(["clock", "clock", "part of a file", "before a file", "test"]):
        case "clock":  # of the processor, as the machine is busy; nothing handles its signal
            moment = random.uniform(0.01, seconds)
            before(Replicas, "on_train_start", lambda *_: signal.setitimer(signal.ITIMER_PROF, moment))
        case "part of a file":
            before(os, "fsync", cut_and_die, 7)
        case "before a file":
            before(os, "replace", die, 7)
        case "test":
            before(SequenceModel, "score", die, 6)


def until_over(group: Group, design: Design, out: Path, seconds: float) -> int:
    """Trains a group that is to be killed, and less often the more often it was; returns how often it was."""
    kills = 0
    for attempt in range(30):
        if all(is_over(record) for record in _of(group, out)):
            return kills
        kill, seed = random.random() < 0.7**attempt, random.random()

        def work(kill: bool = kill, seed: float = seed) -> None:
            random.seed(seed)
            if kill:
                killed_at(seconds)
            run(group.command(design, out))

        _, status = os.waitpid(forked(work, out / "log"), 0)
        kills += os.WIFSIGNALED(status)
        assert os.WIFSIGNALED(status) or not status, (out / "log").read_text()[-2000:]
    raise AssertionError("never over")


def _of(group: Group, out: Path) -> list[rec.Record | None]:
    paths = [out / run_id / "record.json" for run_id in group.run_ids]
    return [rec.load(path) if path.exists() else None for path in paths]


def undisturbed(group: Group, design: Design, place: Path) -> str:
    """Leaves the records, and how many seconds of a processor they took from the first batch on."""
    begun: list[float] = []
    before(Replicas, "on_train_start", lambda *_: begun.append(time.process_time()))
    run(group.command(design, place / "out"))
    (place / "seconds").write_text(str(time.process_time() - begun[0]))
    return ""


def killed(number: int, group: Group, design: Design, whole: Path, place: Path) -> str:
    """A run that is killed at moments drawn from the case's number, against the undisturbed one."""
    out = place / "out"
    out.mkdir()
    random.seed(number)
    kills = until_over(group, design, out, float((whole / "seconds").read_text()))
    (place / "kills").write_text(str(kills))
    left = [
        path
        for path in out.glob("*/checkpoints/*")
        if path.name not in ("best.ckpt", "last.ckpt") and path.suffix != ".tmp"
    ]
    return difference(figures(records(out)), figures(records(whole / "out"))) or "".join(map(str, left))


def kills(count: int, folder: Path) -> int:
    """Of so many runs, those that are not what the undisturbed ones are."""
    units = [dataclasses.replace(d, units=[unit]) for d in (KILLED, GROUPED) for unit in d.units]
    made = [(group, d) for d in units[:count] for group in groups(d, "search", folder, {})]
    names = [f"whole {n}" for n in range(len(made))]
    found = side_by_side([(n, functools.partial(undisturbed, *m)) for n, m in zip(names, made, strict=True)], folder)
    wholes = [next(folder.glob(f"whole-{n}-*")) for n in range(len(made))]
    cases = [functools.partial(killed, n, *made[n % len(made)], wholes[n % len(made)]) for n in range(count)]
    found += side_by_side([("killed", case) for case in cases], folder)
    times = [int(path.read_text()) for path in folder.glob("killed-*/kills")]
    print(f"{count} runs, killed {sum(times)} times: {found} differ", flush=True)
    return found


# Repeated in other surroundings


def short_training(unit: str, seeds: list[int], rates: list[float], threads: int) -> list[str]:
    """By replica a digest of its weights, its curves and every sequence's nats."""
    data = Synthetic(5, "shuffled", seeds, sequences=30, shortest=2, longest_length=40)
    model = SequenceModel(cells()[unit](), data.task, seeds, rates, hidden=5, noise=0.075)
    replicas = Replicas(None)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=2, num_sanity_val_steps=0, gradient_clip_val=1.0, callbacks=[replicas], **quiet
    )
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    trainer.fit(model, data)
    last = model.rows.detach().clone()
    trainer.test(model, data, verbose=False)
    nats, *_ = model.tested()

    def digest(k: int) -> str:
        curve = [[entry.train[k], entry.valid[k], entry.gradient[k], entry.update[k]] for entry in replicas.curve]
        tensors = (last[k], replicas.weights[k], nats[k])
        return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors) + json.dumps(curve).encode()).hexdigest()

    return [digest(k) for k in range(len(rates))]


def poison(byte: int, nan: bool) -> None:
    """What malloc and torch hand out from now on is full of this byte, or of NaN."""
    with contextlib.suppress(AttributeError):  # no glibc
        ctypes.CDLL(None).mallopt(M_PERTURB, byte)
    if nan:
        take, own = pool.take, pool.own
        pool.take = lambda *shape: take(*shape).fill_(math.nan)  # type: ignore[assignment]
        pool.own = lambda size: own(size).fill_(math.nan)  # type: ignore[assignment]
        torch.use_deterministic_algorithms(True)


def repeated(number: int, units: Sequence[str], place: Path) -> str:
    """Trains units, in an order and surroundings that follow from the case's number; leaves their digests."""
    draw = random.Random(number)
    poison([0, 0x55, 0xFF, 0xA5][number // 2 % 4], number % 3 == 2)
    order = draw.sample(units, len(units))
    digests = {unit: short_training(unit, [3, 4], [1e-2, 1e-3], 1 + number % 2) for unit in order}
    (place / "digests.json").write_text(json.dumps(digests))
    return ""


def trainings(count: int, folder: Path) -> int:
    """Of so many short trainings, those whose bits are not those of the first of their unit."""
    units = sorted(cells())[: count // 2]  # each at least twice
    size = min(9, len(units))
    parts = [[units[n % len(units)] for n in range(at, min(at + size, count))] for at in range(0, count, size)]
    cases = [("repeated", functools.partial(repeated, n, part)) for n, part in enumerate(parts)]
    found, first = side_by_side(cases, folder), {}
    for path in sorted(folder.glob("repeated-*/digests.json")):
        for unit, digest in json.loads(path.read_text()).items():
            if digest != first.setdefault(unit, digest):
                found += 1
                print(f"{unit}: {path} has other bits", flush=True)
    print(f"{count} trainings of {len(first)} units: {found} differ", flush=True)
    return found


# The two tests that failed once


class Forked:
    """Where a sweep's groups run, as `engines.Local`, but forked."""

    def __init__(self, design: Design, out: Path) -> None:
        self.design, self.out = design, out
        self._running: dict[int, Group] = {}

    def room(self) -> bool:
        return len(self._running) < 2

    def start(self, group: Group) -> None:
        work = functools.partial(run, group.command(self.design, self.out))
        self._running[forked(work, self.out / f"{group.name}.log")] = group

    def ended(self) -> list[tuple[Group, End]]:
        child, status = os.wait()
        return [(self._running.pop(child), End(f"status {status}" if status else ""))]

    def close(self) -> None:
        for child in self._running:
            os.kill(child, signal.SIGTERM)


def swept(out: Path) -> None:
    """Sweeps in a process group of its own, which may be killed as one."""
    os.setpgid(0, 0)
    assert sweep(SWEPT, out, lambda todo, design, to, watch: carry_out(todo, design, to, Forked(design, to), watch))


def swept_whole(place: Path) -> str:
    """Leaves the records."""
    swept(place / "out")
    return ""


def swept_twice(number: int, whole: Path, place: Path) -> str:
    """Killed at a drawn moment once a checkpoint is there, called again, and held against the undisturbed one."""
    draw, out = random.Random(number), place / "out"
    child = forked(functools.partial(swept, out), place / "killed.log")
    wanted = draw.choice([1, 1, 2, 3])
    while len(list(out.glob("*/checkpoints/last.ckpt"))) < wanted and not os.waitpid(child, os.WNOHANG)[0]:
        time.sleep(0.02)
    time.sleep(draw.uniform(0, 2))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with (out / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # its groups have it too, and are killed one after the other
    swept(out)
    return difference(figures(records(out)), figures(records(whole / "out")))


def alone(number: int, place: Path) -> str:
    """An LSTM's replicas beside each other and each by itself, with one thread and with two."""
    seeds, rates, threads = [3, 4, 11, 3], [1e-2, 1e-3, 3e-3, 1e-3], 1 + number % 2
    poison(number % 256, False)
    group = short_training("LSTM", seeds, rates, threads)
    solo = [short_training("LSTM", [s], [r], 3 - threads)[0] for s, r in zip(seeds, rates, strict=True)]
    other = [k for k in range(len(rates)) if group[k] != solo[k]]
    return f"replicas {other} of {number}" if other else ""


def flaky(times: int, folder: Path) -> int:
    """Of so many sweeps killed, and groups trained apart, those that differ."""
    found = side_by_side([("swept", swept_whole)], folder)
    (whole,) = folder.glob("swept-0")
    again = [functools.partial(swept_twice, n, whole) for n in range(times)]
    apart = [functools.partial(alone, n) for n in range(times)]
    mixed = [case for pair in zip(again, apart, strict=True) for case in pair]
    found += side_by_side([("again", case) for case in mixed], folder)
    print(f"{times} sweeps killed and called again, {times} groups beside their replicas alone: {found} differ")
    return found


def main() -> NoReturn:
    """Exits 1 where anything differs; its folder is left then."""
    counts = [int(word) for word in sys.argv[1:]] or [100, 200, 50]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)  # threads of OpenMP that are there already would be waited for in a fork, for ever
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    folder, found = Path(tempfile.mkdtemp(prefix="repeats-")), 0
    for what, count in zip((kills, trainings, flaky), counts, strict=True):
        found += what(count, folder / what.__name__) if count else 0
    print(f"{found} differences" + f"; see {folder}" * bool(found))
    sys.exit(found > 0)


if __name__ == "__main__":
    main()
