"""What every unit keeps to, looked at before anything is trained: a mistake is told with its file and line."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from seqbench.cells.base import Cell, State
from seqbench.task import SeqbenchError


def check_step(cell: Cell, hidden: int) -> None:
    """Looks at what one step makes of zeros, for two replicas of three sequences, in single and in double precision.

    Raises:
        SeqbenchError: an option is missing; the step fails, or does not return as many states as the unit has, each as
            it came.
    """
    cell.options()
    for dtype in (torch.float32, torch.float64):
        a, *state = (torch.zeros(2, 3, k * hidden, dtype=dtype) for k in (cell.gates, *[1] * cell.states))
        w = {
            name: torch.zeros(1, *weight.shape, dtype=dtype).expand(2, *weight.shape)
            for name, weight in cell.weights(hidden).items()
        }
        try:
            new = cell.step(a, tuple(state), SimpleNamespace(**w))
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:
            told = " ".join(str(error).split())
            raise SeqbenchError(f"{place(cell, error)}: {type(error).__name__}: {told}") from error
        if fault := _fault(new, tuple(state)):
            raise SeqbenchError(f"{type(cell).__name__}.step returns {fault}")


def _fault(new: Any, state: State) -> str:
    """What is wrong with a new state; "" if nothing."""
    if not isinstance(new, tuple):
        return f"no tuple of states but {type(new).__name__}: write `return (h,)`"
    if len(new) != len(state):
        return f"{len(new)} states, and the class says states = {len(state)}"
    for k, (now, before) in enumerate(zip(new, state, strict=True)):
        if not isinstance(now, torch.Tensor) or now.shape != before.shape:
            seen = list(now.shape) if isinstance(now, torch.Tensor) else type(now).__name__
            return f"state {k} as {seen}, where [R, B, H] is {list(before.shape)}"
        if now.dtype != before.dtype:
            return f"state {k} in {now.dtype} where it came in {before.dtype}: leave the conversion out"
    return ""


def place(cell: Cell, error: BaseException | None) -> str:
    """The cell, and the file and line of its step that the error came through."""
    name = type(cell).__name__
    functions = [f for kind in type(cell).__mro__ for f in vars(kind).values() if inspect.isfunction(f)]
    files = {f.__code__.co_filename for f in functions}
    line = ""
    traceback = error.__traceback__ if error else None
    while traceback:
        code = traceback.tb_frame.f_code
        if code.co_filename in files:
            line = f", {Path(code.co_filename).name} line {traceback.tb_lineno}"
        traceback = traceback.tb_next
    return f"{name}.step{line}"
