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
from seqbench.kernels.dense import aligned, rounded, whole_bias
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

    @property
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


def _of_replica(tensor: Tensor, r: int) -> int:
    """Where replica r's part of [R, ...] begins; a part that all share, where R is 1."""
    return tensor.data_ptr() + 4 * (r if tensor.shape[0] > 1 else 0) * tensor.stride(0)


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
    plan, W, b, H, B, I = size.plan, *projection, size.H, size.B, size.I
    per_step = size.R * B
    entries = {
        "product": product_address(), "T": size.T, "I": I, "H": H, "step": per_step * H, "x_step": x.stride(0),
        "ldw": W.shape[-1], "ld": size.ld, "saved_plane": saved.stride(0) if plan.saved else 0,
        "state0": states[0].data_ptr(),
    }  # fmt: skip
    held_slots, held = slots.shape[1], saved.shape[2] if plan.saved else 1
    entries |= {f"ld_{name}": matrix.shape[-1] for name, matrix in matrices.items()}
    records, fields = [], _code(plan).forward_fields
    for r, begin, height in size.tiles:
        row = r * B + begin
        own = {
            "B": height, "first": row * H,
            "x": x.data_ptr() + 4 * ((r if x.shape[1] > 1 else 0) * B + begin) * I,
            "W": _of_replica(W, r), "b": _of_replica(b, r),
            "slots": slots.data_ptr() + 4 * row * held_slots * size.ld,
            "slot_step": height * size.ld if held_slots > 1 else 0,
            "saved": saved.data_ptr() + 4 * row * held * H, "saved_step": height * H if held > 1 else 0,
        }  # fmt: skip
        own |= {f"state{k}": s.data_ptr() + 4 * row * (size.T + 1) * H for k, s in enumerate(states[1:], 1)}
        own |= {f"U_{name}": _of_replica(matrix, r) for name, matrix in matrices.items()}
        own |= {f"row_{name}": _of_replica(weight, r) for name, weight in rows.items()}
        records.append([(entries | own)[field] for field in fields])
    return np.array(records, dtype=np.int64)


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
        self.carry = [torch.stack([d[r, begin : begin + rows] for d in dlast]) for r, begin, rows in size.tiles]
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
        size, plan = self.size, self.size.plan
        entries = {
            "dh": self.dh.data_ptr(), "chunk": self.chunk, "ones": self.ones.data_ptr(), "dx": 0,
            "dx_step": size.R * size.B * size.I, "ldw_T": self.W_T.shape[-1], "first_too": int(self.wants_first),
        }  # fmt: skip
        entries |= {f"ldt_{name}": matrix.shape[-1] for name, matrix in self.transposed.items()}
        records, fields = [], _code(plan).backward_fields
        for piece, (r, begin, _) in enumerate(size.tiles):
            own = {
                "dslots": _of_replica(self.dslots, piece), "carry": self.carry[piece].data_ptr(),
                "back": _of_replica(self.back, piece), "dW": _of_replica(self.dW, piece),
                "db": _of_replica(self.db, piece), "W_T": _of_replica(self.W_T, r),
            }  # fmt: skip
            if self.dx is not None:
                own["dx"] = self.dx.data_ptr() + 4 * (r * size.B + begin) * size.I
            own |= {f"UT_{name}": _of_replica(matrix, r) for name, matrix in self.transposed.items()}
            own |= {f"dU_{name}": _of_replica(matrix, piece) for name, matrix in self.dU.items()}
            own |= {f"drow_{name}": _of_replica(row, piece) for name, row in self.drows.items()}
            records.append([(entries | own)[field] for field in fields])
        return np.concatenate([forward, np.array(records, dtype=np.int64)], axis=1)

    def results(self) -> tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor], Tensor | None, list[Tensor]]:
        """dW, db, by matrix, by row, dx [T, R or 1, B, I], by first state."""
        size, N = self.size, self.W.shape[-1]
        blocks = size.plan.blocks
        dU = {name: self.summed(d)[..., : blocks[name][1] * size.H] for name, d in self.dU.items()}
        drows = {name: self.summed(d) for name, d in self.drows.items()}
        tiles = len(size.tiles) // size.R
        parts = [torch.cat(self.carry[r * tiles : (r + 1) * tiles], 1) for r in range(size.R)]
        return (
            self.summed(self.dW)[..., :N], self.summed(self.db)[..., :N], dU, drows, self.dx,
            list(torch.stack(parts, 1)),
        )  # fmt: skip

    def summed(self, parts: Tensor) -> Tensor:
        """[pieces, ...] as [R, ...], added up in the order of the tiles."""
        by_tile = parts.unflatten(0, (self.size.R, -1)).unbind(1)
        return functools.reduce(torch.add, by_tile)
