"""How a layer runs over time: decided here and nowhere else; and where torch's autograd meets the plans."""

from __future__ import annotations

import functools
import logging
import os
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Literal, cast, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqbench.cells import Cell, LinearCell, State
from seqbench.kernels.compiler.plan import Plan
from seqbench.kernels.compiler.planner import plan
from seqbench.kernels.compiler.trace import Unsupported, at_sizes
from seqbench.task import SeqbenchError

RecurrenceName = Literal["loop", "scan", "numba", "triton"]
VARIABLE = "SEQBENCH_RECURRENCE"
log = logging.getLogger("seqbench")
installed = functools.cache(find_spec)
_plans: WeakKeyDictionary[Cell, Plan | str] = WeakKeyDictionary()  # or why there is none; by `planned`
_met: WeakKeyDictionary[Cell, set[tuple[torch.Size, torch.dtype]]] = WeakKeyDictionary()  # by `planned_at`


@dataclass(frozen=True)
class Recurrence:
    """How layers run over time, and what follows from that for the rest of a model; made by `decide`, handed down.

    Attributes:
        name: loop: one `Cell.step` after the other; scan: parallel over time, for units linear in their memory; numba,
            triton: the unit's plan, compiled for whole sequences, on a CPU in float32 or on a GPU.
        compiled: whether projection, head, weight noise and optimiser take code compiled for the CPU too. Beside the
            loop nothing does, so that it proves all of the rest.
    """

    name: RecurrenceName
    compiled: bool


def decide(cell: Cell, hidden: int, like: Tensor, wanted: RecurrenceName | None = None) -> Recurrence:
    """The fastest way there is for a cell of that hidden size, on a device and in a precision, under autocast or not.

    A unit that is linear in its memory is scanned on a GPU and where it has no kernel; any other that has none runs in
    the loop, and one line says why.

    Args:
        like: of the weights' device and precision.
        wanted: this one, or that of the environment variable SEQBENCH_RECURRENCE, if it can be.

    Raises:
        SeqbenchError: one that does not exist, or cannot be here; it says why.
    """
    no_cpu = _no_cpu_code(like)
    asked = wanted or os.environ.get(VARIABLE)
    if asked:
        if why := _hindrance(asked, cell, hidden, like):
            raise SeqbenchError(f"{type(cell).__name__} cannot run by {asked}: {why}")
        name = cast(RecurrenceName, asked)
    else:
        name = _fastest(cell, hidden, like)
    return Recurrence(name, name != "loop" and not no_cpu)


def _fastest(cell: Cell, hidden: int, like: Tensor) -> RecurrenceName:
    linear, cpu = isinstance(cell, LinearCell), like.device.type == "cpu"
    if linear and not cpu:
        return "scan"
    compiled: RecurrenceName = "numba" if cpu else "triton"
    why = _hindrance(compiled, cell, hidden, like)
    if not why:
        return compiled
    if linear:
        return "scan"
    _tell(f"{type(cell).__name__} runs in the loop: {why}")
    return "loop"


@functools.cache
def _tell(text: str) -> None:
    log.warning(text)


def _hindrance(name: str, cell: Cell, hidden: int, like: Tensor) -> str:
    """Why a cell cannot run so; "" if it can."""
    match name:
        case "loop":
            return ""
        case "scan":
            return "" if isinstance(cell, LinearCell) else "its memory is not linear in itself"
        case "numba":
            why = _no_cpu_code(like)
        case "triton":
            from seqbench.kernels.gpu import lowering

            why = lowering.supported(like.device, like.dtype, hidden) or ""
        case _:
            return f"known are {', '.join(get_args(RecurrenceName))}"
    if not why:
        try:
            planned(cell)
        except Unsupported as reason:
            return str(reason)
    return why


def _no_cpu_code(like: Tensor) -> str:
    """Why code compiled for the CPU cannot take such tensors; "" if it can."""
    if like.device.type != "cpu" or like.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return "its kernels are for float32 on a CPU, without autocast"
    return "" if installed("numba") else "numba is not installed: pip install numba"


def planned(cell: Cell) -> Plan:
    """The cell's plan, made once.

    Raises:
        Unsupported: its step cannot be compiled.
    """
    if cell not in _plans:
        try:
            _plans[cell] = plan(cell)
        except Unsupported as reason:
            _plans[cell] = str(reason)  # the exception itself would keep the frames, and all tensors, of every caller
    outcome = _plans[cell]
    if isinstance(outcome, str):
        raise Unsupported(outcome)
    return outcome


def planned_at(cell: Cell, h: Tensor) -> Plan:
    """The cell's plan, for states like h [R, B, H]; held against its step at each size once.

    Raises:
        Unsupported: its step cannot be compiled.
        SeqbenchError: the step does something else at these sizes than where it was traced.
    """
    made = planned(cell)
    if (key := (h.shape, h.dtype)) not in (met := _met.setdefault(cell, set())):
        R, B, H = h.shape
        if why := at_sizes(cell, R, B, H, h.dtype):
            raise SeqbenchError(f"{why}; run it by the loop: --model.recurrence loop, or {VARIABLE}=loop")
        met.add(key)
    return made


def unroll(lowering: ModuleType, plan: Plan, a: Tensor, w: dict[str, Tensor], state: State) -> tuple[Tensor, State]:
    """Runs a plan from its projected inputs.

    Args:
        lowering: with `forward` and `backward`: gpu/lowering.py, compiler/proof.py.
        a: [T, R, B, G*H] projected inputs.
        w: the cell's weights by name, each [R, ...].
        state: the first state, each [R, B, H].

    Returns:
        h [T, R, B, H] and the last state.
    """
    h, *last = _Planned.apply(lowering, plan, a, list(w), *w.values(), *state)
    return h, tuple(last)


class _Planned(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, lowering: Any, plan: Plan, a: Tensor, names: list[str], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        w, state = dict(zip(names, tensors, strict=False)), tensors[len(names) :]
        with torch.autocast(a.device.type, enabled=False):
            memory = lowering.forward(plan, a, w, state)
        if any(ctx.needs_input_grad):
            ctx.kept = lowering, plan, memory, {name: w[name].shape for name in names}
        h, *_ = memory.states
        return h[1:], *(s[-1].clone() for s in memory.states)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor, *dlast: Tensor) -> tuple[Any, ...]:
        lowering, plan, memory, shapes = ctx.kept
        with torch.autocast(dh.device.type, enabled=False):
            da, dw, dfirst = lowering.backward(plan, memory, dh, list(dlast))
        return None, None, da, None, *(dw[name].reshape(shape) for name, shape in shapes.items()), *dfirst
