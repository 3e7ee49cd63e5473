"""`seqbench bench`: first each recurrence of a layer is checked, then forward and backward are timed.

In one run, ours against torch.nn's modules, the loop and each other: a ratio is the median over rounds of what the two
took in the same round.  T time, R replicas, B batch, I inputs, H hidden, G gates.
"""

from __future__ import annotations

import importlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from seqbench import cells
from seqbench.bench.check import Check, Layer, Shape, check_odd, check_timed, fastest
from seqbench.cells import Cell
from seqbench.kernels import sequence
from seqbench.kernels.cpu import threads
from seqbench.kernels.sequence import RecurrenceName
from seqbench.model.recurrence import run_layer
from seqbench.model.stack import recurrent_matrices

ROUNDS = 7
FEWEST, SECONDS = 3, 8.0  # rounds after so many seconds; torch's two threads beside a busy neighbour never end
BLOCK = 3
REST = 0.03  # seconds
REPLICAS = {"cpu": 4, "cuda": 32}
# torch.nn has no peepholes, and resets a GRU after its product.
TORCH = {"Tanh": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}

Contestants = dict[str, Callable[[], object]]
Times = dict[str, list[float]]


@dataclass(frozen=True)
class Row:
    """What was timed.

    Attributes:
        threads: None on a GPU.
        milliseconds: forward and backward, of one replica.
        nn, loop: how many times as fast as torch.nn's module and as the loop; None: not compared.
        lstm: time over the LSTM's.
        one: time of all replicas over that of one alone.
        gflops: 10^9 operations a second of the products alone, 2 T B (2 I G H + 3 U): U numbers in the recurrent
            matrices, once forward and twice backward; the inputs need no gradient.
        share: of the peak; None where that was not measured.
        error, rounding: of the check at that shape.
    """

    device: str
    shape: str
    threads: int | None
    unit: str
    recurrence: RecurrenceName
    hidden: int
    replicas: int
    milliseconds: float
    nn: float | None
    loop: float | None
    lstm: float | None
    one: float | None
    gflops: float
    share: float | None
    error: float
    rounding: float


@dataclass(frozen=True)
class Report:
    """All of it; peaks: of the CPU by number of threads, of the GPU by its name, in 10^9 operations a second."""

    peaks: dict[str, float]
    checks: list[Check]
    rows: list[Row]


def take_turns(contestants: Contestants, wait: Callable[[], object], advance: Callable[[], object]) -> Times:
    """Milliseconds of each, [rounds].

    In each round everyone runs BLOCK times in a row after a rest, and the fastest counts.  The first of them finds its
    buffers gone from the caches, and torch's threads spin on for a while: that would be charged to whoever comes next.
    Rounds go on in turn, so that a drift of the machine hits all.  torch has its threads for its own modules and the
    loop, and one beside the kernels, as in `seqbench fit`.
    """
    torch_threads = torch.get_num_threads()
    times: Times = {name: [] for name in contestants}
    for run in contestants.values():
        run()
    started = time.perf_counter()
    for number in range(ROUNDS):
        advance()
        if number >= FEWEST and time.perf_counter() - started > SECONDS:
            continue
        for name, run in contestants.items():
            torch.set_num_threads(torch_threads if name in ("nn", "loop") else 1)
            time.sleep(REST)
            block = []
            for _ in range(BLOCK):
                wait()
                begin = time.perf_counter()
                run()
                wait()
                block.append(1e3 * (time.perf_counter() - begin))
            times[name].append(min(block))
    torch.set_num_threads(torch_threads)
    return times


def ratio(times: Times, one: str, other: str) -> float:
    """The median over rounds of one's time over another's."""
    return statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))


def ours(cell: Cell, shape: Shape, R: int, device: str, name: RecurrenceName) -> Callable[[], object]:
    """Forward and backward of a layer from zeros, with gradients by the weights."""
    layer = Layer.drawn(cell, shape, R).to(device, torch.float32)
    leaves = {name: p.requires_grad_() for name, p in layer.w.items()}
    dh = torch.randn(shape.T, R, shape.B, shape.size(cell), device=device)

    recurrence = layer.decided(name)

    def run() -> object:
        h, _ = run_layer(cell, layer.x, SimpleNamespace(**leaves), recurrence)
        return torch.autograd.grad(h, list(leaves.values()), dh)

    return run


def theirs(cell: Cell, shape: Shape, device: str) -> Callable[[], object]:
    """The same by torch.nn's module of that size."""
    H = shape.size(cell)
    module = TORCH[type(cell).__name__](shape.I, H).to(device)
    leaves = list(module.parameters())
    x = torch.randn(shape.T, shape.B, shape.I, device=device)
    dh = torch.randn(shape.T, shape.B, H, device=device)
    return lambda: torch.autograd.grad(module(x)[0], leaves, dh)


def operations(cell: Cell, shape: Shape) -> float:
    """2 T B (2 I G H + 3 U), as `Row` says."""
    H = shape.size(cell)
    weights = cell.weights(H)
    U = sum(weights[name].size for name in recurrent_matrices(cell, H, 1))
    return 2 * shape.T * shape.B * (2 * shape.I * cell.gates * H + 3 * U)


@contextmanager
def thread_count(number: int) -> Iterator[None]:
    """So many threads, torch's and the kernels' own."""
    before = os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads()
    os.environ["OMP_NUM_THREADS"] = str(number)
    torch.set_num_threads(number)
    try:
        yield
    finally:
        os.environ.pop("OMP_NUM_THREADS") if before[0] is None else os.environ.update(OMP_NUM_THREADS=before[0])
        torch.set_num_threads(before[1])


def cpu_peak(number: int) -> float | None:
    """10^9 operations a second that so many threads do at once in registers; None without numba."""
    if not sequence.installed("numba"):
        return None
    product: Any = importlib.import_module("seqbench.kernels.cpu.product")
    with ThreadPoolExecutor(number) as pool:
        return sum(pool.map(lambda _: product.peak_gflops(), range(number)))


def gpu_peak(size: int = 4096) -> float:
    """10^9 operations a second of torch's float32 product of large matrices."""
    a, seconds = torch.randn(size, size, device="cuda"), []
    for _ in range(5):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        a @ a
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / min(seconds) / 1e9


@dataclass
class Bench:
    """A run of it; advance is called once a check and once a round."""

    units: list[Cell]
    shapes: Sequence[Shape]
    devices: Sequence[str]
    advance: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        self.threads: dict[str, list[int | None]] = {"cpu": [*sorted({1, threads.count()})], "cuda": [None]}
        self.peaks: dict[str, float] = {}

    @property
    def steps(self) -> int:
        """How often `advance` will be called."""
        compared = sum(type(cell).__name__ in TORCH for cell in self.units)
        groups = compared + (compared < len(self.units))
        settings = sum(len(self.threads[device]) for device in self.devices)
        checks = len(self.units) * len(self.devices) * (1 + len(self.shapes))
        return checks + settings * len(self.shapes) * groups * ROUNDS

    def run(self) -> Report:
        """Checks, then times.

        Raises:
            SeqbenchError: a check failed.
        """
        checks = [found for device in self.devices for cell in self.units for found in self.checked(cell, device)]
        rows: list[Row] = []
        for device in self.devices:
            for number in self.threads[device]:
                for shape in self.shapes:
                    with thread_count(number or torch.get_num_threads()):
                        rows += self.timed(device, number, shape, checks)
        return Report(self.peaks, checks, rows)

    def checked(self, cell: Cell, device: str) -> list[Check]:
        """Each recurrence at odd sizes with three replicas, and at the timed sizes the one that is timed."""
        found = check_odd(cell, device)
        self.advance()
        for shape in self.shapes:
            found.append(check_timed(cell, shape, device, fastest(cell, shape, device)))
            self.advance()
        return found

    def timed(self, device: str, number: int | None, shape: Shape, checks: list[Check]) -> list[Row]:
        """A shape at one number of threads: the units of torch.nn each against it and the loop, the others together."""
        setting = _Setting(device, number, shape, self.peak(device, number), checks)
        wait = torch.cuda.synchronize if device == "cuda" else lambda: None
        many, rows = shape.replicas or REPLICAS[device], []
        for cell in self.units:
            if type(cell).__name__ in TORCH:
                group = {"1": setting.ours(cell), str(many): setting.ours(cell, many)}
                group |= {"nn": theirs(cell, shape, device), "loop": setting.ours(cell, name="loop")}
                times = take_turns(group, wait, self.advance)
                rows += [setting.row(cell, R, times, str(R)) for R in (1, many)]
        others = {name: cell for cell in self.units if (name := type(cell).__name__) not in TORCH}
        if others:
            group = {"lstm": setting.ours(cells.find("LSTM")())}
            times = take_turns(group | {n: setting.ours(cell) for n, cell in others.items()}, wait, self.advance)
            rows += [setting.row(cell, 1, times, name) for name, cell in others.items()]
        return rows

    def peak(self, device: str, number: int | None) -> float | None:
        """Measured once."""
        name = f"CPU, threads {number}" if number else torch.cuda.get_device_name()
        if name not in self.peaks:
            found = cpu_peak(number) if number else gpu_peak()
            self.peaks |= {name: round(found, 1)} if found else {}
        return self.peaks.get(name)


@dataclass(frozen=True)
class _Setting:
    device: str
    threads: int | None
    shape: Shape
    peak: float | None
    checks: list[Check]

    def ours(self, cell: Cell, R: int = 1, name: RecurrenceName | None = None) -> Callable[[], object]:
        return ours(cell, self.shape, R, self.device, name or fastest(cell, self.shape, self.device))

    def row(self, cell: Cell, R: int, times: Times, name: str) -> Row:
        """Of the contestant of that name."""
        spent = statistics.median(times[name]) / R
        gflops = operations(cell, self.shape) / spent / 1e6
        faster = {other: round(R * ratio(times, other, name), 3) for other in ("nn", "loop") if other in times}
        key = self.device, type(cell).__name__, self.shape.name
        [check] = [c for c in self.checks if (c.device, c.unit, c.shape) == key]
        assert check.rounding is not None
        return Row(
            device=self.device,
            shape=self.shape.name,
            threads=self.threads,
            unit=check.unit,
            recurrence=check.recurrence,
            hidden=self.shape.size(cell),
            replicas=R,
            milliseconds=round(spent, 4),
            nn=faster.get("nn"),
            loop=faster.get("loop"),
            lstm=round(ratio(times, name, "lstm"), 3) if "lstm" in times else None,
            one=round(ratio(times, name, "1"), 3) if R > 1 else None,
            gflops=round(gflops, 2),
            share=round(gflops / self.peak, 4) if self.peak else None,
            error=check.error,
            rounding=check.rounding,
        )
