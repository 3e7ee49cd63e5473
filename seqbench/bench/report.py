"""What `seqbench bench` shows: a progress bar on stderr; tables for a terminal, in Markdown, or all of it as JSON."""

from __future__ import annotations

import dataclasses
import json
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from seqbench import cells
from seqbench.bench.check import SHAPES, Check
from seqbench.bench.timing import BLOCK, FEWEST, ROUNDS, Bench, Report, Row
from seqbench.task import SeqbenchError

PLACE = re.compile(r"(<!-- seqbench bench -->\n).*?(<!-- end -->)", re.DOTALL)
COLUMNS: dict[str, Callable[[Row], str]] = {
    "unit": lambda row: row.unit,
    "recurrence": lambda row: row.recurrence,
    "H": lambda row: str(row.hidden),
    "R": lambda row: str(row.replicas),
    "ms": lambda row: f"{row.milliseconds:.2f}",
    "x torch.nn": lambda row: _number(row.nn),
    "x loop": lambda row: _number(row.loop),
    "/ LSTM": lambda row: _number(row.lstm),
    "/ R=1": lambda row: _number(row.one),
    "GFLOP/s": lambda row: f"{row.gflops:.1f}",
    "of peak": lambda row: "" if row.share is None else f"{row.share:.0%}",
    "error": lambda row: f"{row.error:.0e}",
    "loop's": lambda row: f"{row.rounding:.0e}",
}
LEGEND = f"""\
Forward and backward of a layer, float32, R replicas of it together; ms: of one replica, the median of {FEWEST} to
{ROUNDS} rounds, in each of which every contestant runs {BLOCK} times in a row and the fastest counts. x torch.nn, x
loop: how many times as fast, a replica, as torch.nn's RNN, GRU or LSTM and as the loop over Cell.step in the same
rounds. / LSTM: time over the LSTM's, at as many parameters (units without recurrent matrices: at its hidden size).
/ R=1: time of all R over that of one. GFLOP/s: the matrix products alone, 2 T B (2 I G H + 3 U) operations, U
numbers in the recurrent matrices; of peak: of what as many threads do at once in registers (a GPU: in a large
float32 product). error: the largest difference from the loop in float64 over the largest value, of outputs, last
state and all gradients; loop's: of the loop in float32.
"""


def bench(devices: list[str], names: list[str] | None, as_json: bool, into: Path | None) -> None:
    """Runs it and prints.

    Args:
        devices: "cpu", "cuda"; empty: what there is.
        names: units; None: all.
        into: a Markdown file, between whose markers the tables go too.

    Raises:
        SeqbenchError: a figure is wrong, or there is no such unit, device or marker.
    """
    present = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if missing := set(devices) - set(present):
        raise SeqbenchError(f"There is no device {missing.pop()} here: give {' or '.join(present)}")
    if into and not PLACE.search(into.read_text(encoding="utf-8") if into.is_file() else ""):
        raise SeqbenchError(
            f"{into} has no place for the tables: write the lines <!-- seqbench bench --> and <!-- end -->"
        )
    units = [kind() for kind in (map(cells.find, names) if names else cells.cells().values())]
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        run = Bench(units, SHAPES, devices or present)
        task = progress.add_task("checking, then timing", total=run.steps)
        run.advance = lambda: progress.advance(task)
        report = run.run()
    if as_json:
        print(json.dumps({"machine": machine()} | dataclasses.asdict(report), indent=1, allow_nan=False))
    else:
        show(report, Console())
    if into:
        text = into.read_text(encoding="utf-8")
        into.write_text(PLACE.sub(lambda m: f"{m[1]}{markdown(report)}\n{m[2]}", text), encoding="utf-8")


def machine() -> dict[str, str]:
    """What the figures depend on."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("numba", "triton"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {"cpu": cpu_name(), "simd": torch.backends.cpu.get_cpu_capability()} | gpu | versions


def cpu_name() -> str:
    """As the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.is_file() else []
    return names[0] if names else platform.processor() or platform.machine()


def show(report: Report, console: Console) -> None:
    """For a terminal or a pipe, whose lines are never cut."""
    if not console.is_terminal:
        console.width = 10_000
    console.print(_head(report) + "\n" + LEGEND, highlight=False, markup=False)
    for title, rows in _sections(report):
        console.print(title, style="bold", highlight=False)
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in COLUMNS:
            table.add_column(name, justify="left" if name in ("unit", "recurrence") else "right", no_wrap=True)
        for row in rows:
            table.add_row(*(show(row) for show in COLUMNS.values()))
        console.print(table, "")


def markdown(report: Report) -> str:
    """The same for a README."""
    parts = [_head(report), LEGEND]
    for title, rows in _sections(report):
        lines = [list(COLUMNS), ["---", "---", *["--:"] * (len(COLUMNS) - 2)]]
        lines += [[show(row) for show in COLUMNS.values()] for row in rows]
        parts.append("\n".join([f"**{title}**\n", *(f"| {' | '.join(line)} |" for line in lines)]) + "\n")
    return "\n".join(parts)


def _head(report: Report) -> str:
    peaks = "; ".join(f"{name}: {value:,.0f} GFLOP/s" for name, value in report.peaks.items())
    errors = ", ".join(f"{name} {error:.1e} ({dtype})" for (name, dtype), error in _largest(report.checks).items())
    about = ", ".join(f"{name} {value}" for name, value in machine().items())
    return f"{about}. Peak: {peaks or 'not measured'}.\nLargest errors at odd sizes: {errors}.\n"


def _largest(checks: list[Check]) -> dict[tuple[str, str], float]:
    largest: dict[tuple[str, str], float] = {}
    for check in checks:
        if check.rounding is None:
            name = check.recurrence if check.device == "cpu" else f"{check.recurrence} on {check.device}"
            key = name, check.dtype
            largest[key] = max(largest.get(key, 0.0), check.error)
    return largest


def _sections(report: Report) -> list[tuple[str, list[Row]]]:
    shapes = {shape.name: str(shape) for shape in SHAPES}
    sections: dict[tuple[Any, ...], list[Row]] = {}
    for row in report.rows:
        sections.setdefault((row.shape, row.device, row.threads), []).append(row)
    return [
        (f"{shapes.get(shape, shape)}; {'GPU' if threads is None else f'CPU, threads {threads}'}", rows)
        for (shape, _, threads), rows in sections.items()
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
