"""Which way a layer runs over time: picked here and nowhere else; and where torch's autograd meets the plans."""

from __future__ import annotations

import functools
import importlib
import logging
import os
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
from seqbench.kernels.compiler.trace import Unsupported
from seqbench.task import SeqbenchError

Recurrence = Literal["loop", "scan", "torch", "numba", "triton"]
VARIABLE = "SEQBENCH_RECURRENCE"
LOWERINGS = {"torch": "seqbench.kernels.compiler.proof", "triton": "seqbench.kernels.gpu.lowering"}
log = logging.getLogger("seqbench")
_plans: WeakKeyDictionary[Cell, Plan | Unsupported] = WeakKeyDictionary()


def planned(cell: Cell) -> Plan:
    """The cell's plan, made once.

    Raises:
        Unsupported: its step cannot be compiled.
    """
    if cell not in _plans:
        try:
            _plans[cell] = plan(cell)
        except Unsupported as reason:
            _plans[cell] = reason
    found = _plans[cell]
    if isinstance(found, Unsupported):
        raise found
    return found


def pick(cell: Cell, like: Tensor, forced: Recurrence | None = None) -> Recurrence:
    """The fastest way there is for a cell on a device and in a precision.

    loop: one `Cell.step` after the other. scan: parallel over time, for units linear in their memory, on a GPU and in
    precisions that have no kernel. The others run the cell's plan: numba on a CPU in float32, triton on a GPU, torch
    anywhere.

    Args:
        like: the projection's weights, [R, I, G*H].
        forced: this one, or that of the environment variable SEQBENCH_RECURRENCE, if it can be.

    Raises:
        SeqbenchError: a way that does not exist, or cannot be taken here; it says why.
    """
    wanted = forced or os.environ.get(VARIABLE)
    if wanted:
        if why := _hindrance(wanted, cell, like):
            raise SeqbenchError(f"{type(cell).__name__} cannot run by {wanted}: {why}")
        return cast(Recurrence, wanted)
    linear = isinstance(cell, LinearCell)
    ways: tuple[Recurrence, ...]
    if like.device.type == "cpu":
        ways = ("numba", "scan" if linear else "torch")
    else:
        ways = ("scan",) if linear else ("triton", "torch")
    for way in ways:
        if not (why := _hindrance(way, cell, like)):
            return way
    _tell(f"{why}; it runs in the loop")
    return "loop"


@functools.cache
def _tell(text: str) -> None:
    log.warning(text)


def _hindrance(way: str, cell: Cell, like: Tensor) -> str:
    """Why a way cannot be taken; "" if it can."""
    if way not in get_args(Recurrence):
        return f"known are {', '.join(get_args(Recurrence))}"
    if way == "scan":
        return "" if isinstance(cell, LinearCell) else "its memory is not linear in itself"
    if way == "loop":
        return ""
    why = ""
    if way == "numba":
        why = no_numba(like)
    elif way == "triton":
        from seqbench.kernels.gpu import lowering as lower_triton

        why = lower_triton.supported(like.device, like.dtype, like.shape[-1] // cell.gates) or ""
    if not why:
        try:
            planned(cell)
        except Unsupported as reason:
            return str(reason)
    return why


def no_numba(like: Tensor) -> str:
    """Why code compiled for the CPU cannot take such tensors; "" if it can."""
    if like.device.type != "cpu" or like.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return "it is for float32 on a CPU, without autocast"
    return "" if installed("numba") else "numba is not installed: pip install numba"


installed = functools.cache(find_spec)


def unroll(recurrence: Recurrence, cell: Cell, a: Tensor, w: dict[str, Tensor], state: State) -> tuple[Tensor, State]:
    """Runs a cell's plan from its projected inputs; recurrence "torch" or "triton".

    Args:
        a: [T, R, B, G*H] projected inputs.
        w: the cell's weights by name, each [R, ...].
        state: the first state, each [R, B, H].

    Returns:
        h [T, R, B, H] and the last state.
    """
    h, *last = _Planned.apply(_lowering(recurrence), planned(cell), a, list(w), *w.values(), *state)
    return h, tuple(last)


def _lowering(recurrence: Recurrence) -> ModuleType:
    return importlib.import_module(LOWERINGS[recurrence])


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
