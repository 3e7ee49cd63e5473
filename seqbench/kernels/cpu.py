"""Compiled sequences on a CPU, in float32: buffers, records and threads around what lower_numba.py generates.

A batch is cut into tiles of TILE sequences; a replica's tile is one piece of work, whatever else there is.  So the
figures of a replica do not depend on how many there are, nor on the number of threads, by a bit.

T time, R replicas, B batch, I inputs, H hidden, G gates, P slots.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqbench.cells import State
from seqbench.kernels import cache, pool, threads
from seqbench.kernels.dense import aligned, rounded, summed, whole_bias
from seqbench.kernels.lower_numba import backward_fields, forward_fields, source
from seqbench.kernels.plan import Plan
from seqbench.kernels.product import product_address

TILE = 16  # sequences: enough for two threads at the usual 32, and no less than a tile of the product needs
CHUNK = 256  # rows of derivatives that stay in the second cache until they go into the weights'


def sequence(
    plan: Plan, x: Tensor, W: Tensor, b: Tensor | None, w: dict[str, Tensor], state: State
) -> tuple[Tensor, State]:
    """A layer over time.

    Args:
        plan: of the cell.
        x: [T, R or 1, B, I] float32.
        W: [R, I, G*H].
        b: [R, 1, G*H], or fewer columns, the first ones; or None.
        w: the cell's weights, each [R, ...].
        state: the first state, each [R, B, H].

    Returns:
        h [T, R, B, H] and the last state.
    """
    h, *last = _Sequence.apply(plan, x, W, whole_bias(W, b), list(w), *w.values(), *state)
    return h, tuple(last)


class _Code:
    """A plan's compiled functions, which take records, and the names of a record's entries."""

    def __init__(self, plan: Plan) -> None:
        module = cache.numba_module("cpu", source(plan))
        self.forward, self.backward = module.forward, module.backward
        self.forward_fields = forward_fields(plan)
        self.backward_fields = backward_fields(plan)[len(self.forward_fields) :]  # those that are added


_code = functools.lru_cache(_Code)


@dataclass
class _Layout:
    """Sizes, and how the batch is cut."""

    plan: Plan
    T: int
    R: int
    B: int
    I: int
    H: int

    @functools.cached_property
    def tiles(self) -> list[tuple[int, int, int]]:
        """(replica, first row, rows) of each piece of work."""
        return [(r, b, min(TILE, self.B - b)) for r in range(self.R) for b in range(0, self.B, TILE)]

    def pieces(self, buffer: Tensor) -> list[Tensor]:
        """Of a buffer [R*B, steps, H], each piece of work's own part, [steps, rows, H]."""
        parts = buffer.split([rows for _, _, rows in self.tiles])
        return [part.view(buffer.shape[1], part.shape[0], self.H) for part in parts]

    def together(self, parts: list[Tensor]) -> Tensor:
        """Of each piece of work [rows, H], as [R, B, H]."""
        return torch.cat(parts).view(self.R, self.B, self.H)

    @property
    def ld(self) -> int:
        """From row to row of slots."""
        width = self.plan.slots * self.H
        return width if self.plan.slots == 1 else rounded(width)


# A number, or what 1, the replica, its first row, the number of rows and the piece's number are multiplied by.
Entry = int | tuple[int, int, int, int, int]


def _at(tensor: Tensor, replica: int = 0, row: int = 0, piece: int = 0) -> Entry:
    """The address of a piece's part, which begins so many floats further for each replica, row and piece."""
    return tensor.data_ptr(), 4 * replica, 4 * row, 0, 4 * piece


def _records(size: _Layout, fields: list[str], entries: dict[str, Entry]) -> Any:
    """int64 [pieces, fields]"""
    found = (entries[field] for field in fields)
    factors = np.array([(e, 0, 0, 0, 0) if isinstance(e, int) else e for e in found], dtype=np.int64)
    pieces = np.array([(1, *tile, piece) for piece, tile in enumerate(size.tiles)], dtype=np.int64)
    return pieces @ factors.T


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: Plan, x: Tensor, W: Tensor, b: Tensor, names: list[str], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        w, first = dict(zip(names, tensors, strict=False)), tensors[len(names) :]
        R, B, H = first[0].shape
        size = _Layout(plan, x.shape[0], R, B, x.shape[-1], H)
        keep = any(ctx.needs_input_grad)
        x = x.contiguous()
        h = torch.empty(size.T + 1, R, B, H)
        h[0] = first[0]
        # What nobody else sees lies together for each piece of work: its steps follow each other in memory.
        states = [pool.take(R * B, size.T + 1, H) for _ in first[1:]]
        for state, s in zip(states, first[1:], strict=True):
            for steps, (r, begin, height) in zip(size.pieces(state), size.tiles, strict=True):
                steps[0] = s[r, begin : begin + height]
        held = size.T if keep else 1
        slots = pool.take(R * B, held if plan.keeps_slots else 1, size.ld)
        saved = pool.take(plan.saved, R * B, held, H) if plan.saved else slots
        used = [slots, *states, *([saved] if plan.saved else [])]
        matrices = {name: aligned(_matrix(plan, w, name, H)) for name in plan.matrices}
        rows = {name: w[name].reshape(R, -1).contiguous() for name in plan.rows}
        projection = aligned(W), aligned(b)
        records = _forward_records(size, x, projection, [h, *states], slots, saved, matrices, rows)
        code = _code(plan)
        threads.run(lambda piece: code.forward(records[piece]), len(records))
        last = [h[-1].clone(), *(size.together([steps[-1] for steps in size.pieces(state)]) for state in states)]
        if keep:
            ctx.save_for_backward(x, W)
            ctx.lease = pool.Lease(*used)
            # The last two are only held: their addresses are in the records.
            ctx.kept = size, matrices, rows, records, {n: w[n].shape for n in names}, h, projection
        else:
            pool.give(*used)
        return h[1:], *last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor, *dlast: Tensor) -> tuple[Any, ...]:
        size, matrices, rows, records, shapes, *_ = ctx.kept
        x, W = ctx.saved_tensors
        plan = size.plan
        wants_x = ctx.needs_input_grad[1]
        wants_first = any(ctx.needs_input_grad[5 + len(shapes) :])
        job = _Backward(size, x, W, matrices, rows, dh.contiguous(), dlast, wants_x, wants_first)
        code = _code(plan)
        extended = job.records(records)[::-1]  # what was written last is still in a cache
        threads.run(lambda piece: code.backward(extended[piece]), len(extended))
        dW, db, dU, drows, dx, dfirst = job.results()
        pool.give(job.dslots)
        dw = [(drows[name] if name in rows else dU[name]).reshape(shape) for name, shape in shapes.items()]
        return (
            None,
            dx if dx is None else dx.sum_to_size(x.shape),
            dW,
            db,
            None,
            *dw,
            *(dfirst if wants_first else [None] * plan.states),
        )


def _matrix(plan: Plan, w: dict[str, Tensor], name: str, H: int) -> Tensor:
    """[R, rows*H, columns*H] of a weight."""
    return w[name].reshape(w[name].shape[0], plan.blocks[name][0] * H, -1)


def _forward_records(
    size: _Layout,
    x: Tensor,
    projection: tuple[Tensor, Tensor],
    states: list[Tensor],
    slots: Tensor,
    saved: Tensor,
    matrices: dict[str, Tensor],
    rows: dict[str, Tensor],
) -> Any:
    """int64 [pieces, fields]"""
    plan, W, b, H, B, I, ld = size.plan, *projection, size.H, size.B, size.I, size.ld
    held_slots, held = slots.shape[1], saved.shape[2] if plan.saved else 1
    entries: dict[str, Entry] = {
        "product": product_address(), "T": size.T, "B": (0, 0, 0, 1, 0), "I": I, "H": H,
        "first": (0, B * H, H, 0, 0), "step": size.R * B * H,
        "x": _at(x, replica=B * I if x.shape[1] > 1 else 0, row=I), "x_step": x.stride(0),
        "W": _at(W, replica=W.stride(0)), "b": _at(b, replica=b.stride(0)), "ldw": W.shape[-1],
        "slots": _at(slots, replica=B * held_slots * ld, row=held_slots * ld), "ld": ld,
        "slot_step": (0, 0, 0, ld if held_slots > 1 else 0, 0),
        "saved": _at(saved, replica=B * held * H, row=held * H), "saved_plane": saved.stride(0) if plan.saved else 0,
        "saved_step": (0, 0, 0, H if held > 1 else 0, 0), "state0": states[0].data_ptr(),
    }  # fmt: skip
    steps = (size.T + 1) * H
    entries |= {f"state{k}": _at(s, replica=B * steps, row=steps) for k, s in enumerate(states[1:], 1)}
    entries |= {f"ld_{name}": matrix.shape[-1] for name, matrix in matrices.items()}
    entries |= {f"U_{name}": _at(matrix, replica=matrix.stride(0)) for name, matrix in matrices.items()}
    entries |= {f"row_{name}": _at(weight, replica=weight.stride(0)) for name, weight in rows.items()}
    return _records(size, _code(plan).forward_fields, entries)


class _Backward:
    """Room for derivatives, for each piece of work its own; the sums over pieces are taken in order."""

    def __init__(
        self,
        size: _Layout,
        x: Tensor,
        W: Tensor,
        matrices: dict[str, Tensor],
        rows: dict[str, Tensor],
        dh: Tensor,
        dlast: tuple[Tensor, ...],
        wants_x: bool,
        wants_first: bool,
    ) -> None:
        plan, H = size.plan, size.H
        pieces = len(size.tiles)
        self.size, self.W, self.dh, self.wants_first = size, W, dh, wants_first
        height = min(TILE, size.B)
        self.chunk = max(1, min(size.T, CHUNK // height))
        self.dslots = pool.take(pieces, self.chunk, height, size.ld)
        # Each tile's part lies together, as [states, rows, H].
        self.room = torch.empty(pieces, plan.states * height * H)
        self.carry = []
        for room, (r, begin, own) in zip(self.room, size.tiles, strict=True):
            self.carry.append(room[: plan.states * own * H].view(-1, own, H))
            torch.stack([d[r, begin : begin + own] for d in dlast], out=self.carry[-1])
        self.back = torch.empty(pieces, max(1, plan.backs), height, H)
        self.ones = torch.ones(1)
        self.dW, self.db = (torch.zeros(pieces, n, rounded(W.shape[-1])) for n in (size.I, 1))
        self.dU = {name: torch.zeros(pieces, *matrix.shape[1:]) for name, matrix in matrices.items()}
        self.drows = {name: torch.zeros(pieces, row.shape[-1]) for name, row in rows.items()}
        self.transposed = {
            name: aligned(matrix[..., : plan.blocks[name][1] * H].mT) for name, matrix in matrices.items()
        }
        self.dx = torch.empty(size.T, size.R, size.B, size.I) if wants_x else None
        self.W_T = aligned(W.mT) if wants_x else W

    def records(self, forward: Any) -> Any:
        """The forward records, each with what the backward pass needs."""
        size = self.size
        entries: dict[str, Entry] = {
            "dh": self.dh.data_ptr(), "chunk": self.chunk, "ones": self.ones.data_ptr(), "dx": 0,
            "dx_step": size.R * size.B * size.I, "ldw_T": self.W_T.shape[-1], "first_too": int(self.wants_first),
            "W_T": _at(self.W_T, replica=self.W_T.stride(0)),
        }  # fmt: skip
        if self.dx is not None:
            entries["dx"] = _at(self.dx, replica=size.B * size.I, row=size.I)
        for name, matrix in self.transposed.items():
            entries |= {f"ldt_{name}": matrix.shape[-1], f"UT_{name}": _at(matrix, replica=matrix.stride(0))}
        own = {"dslots": self.dslots, "carry": self.room, "back": self.back, "dW": self.dW, "db": self.db}
        own |= {f"dU_{name}": matrix for name, matrix in self.dU.items()}
        own |= {f"drow_{name}": row for name, row in self.drows.items()}
        entries |= {field: _at(tensor, piece=tensor.stride(0)) for field, tensor in own.items()}
        return np.concatenate([forward, _records(size, _code(size.plan).backward_fields, entries)], axis=1)

    def results(self) -> tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor], Tensor | None, list[Tensor]]:
        """dW, db, by matrix, by row, dx [T, R or 1, B, I], by first state."""
        size, N = self.size, self.W.shape[-1]
        blocks = size.plan.blocks
        dU = {name: summed(d, size.R)[..., : blocks[name][1] * size.H] for name, d in self.dU.items()}
        drows = {name: summed(d, size.R) for name, d in self.drows.items()}
        tiles = len(size.tiles) // size.R
        parts = [torch.cat(self.carry[r * tiles : (r + 1) * tiles], 1) for r in range(size.R)]
        return (
            summed(self.dW, size.R)[..., :N], summed(self.db, size.R)[..., :N], dU, drows, self.dx,
            list(torch.stack(parts, 1)),
        )  # fmt: skip
