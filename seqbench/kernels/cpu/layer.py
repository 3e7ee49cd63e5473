"""Compiled sequences on a CPU, in float32: buffers, arguments and threads around what lowering.py generates.

T time, R replicas, B batch, I inputs, H hidden, G gates.  How a batch is cut: tiles.py.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqbench.cells import State
from seqbench.kernels.compiler.plan import Plan
from seqbench.kernels.cpu import cache, pool, threads
from seqbench.kernels.cpu.arguments import address, by_field
from seqbench.kernels.cpu.dense import aligned, whole_bias
from seqbench.kernels.cpu.lengths import clear_behind, longest_first, piece_ends, summed
from seqbench.kernels.cpu.lowering import Fields, backward_fields, forward_fields, source
from seqbench.kernels.cpu.product import product_address
from seqbench.kernels.cpu.tiles import Tiles, tiles


def sequence(
    plan: Plan,
    x: Tensor,
    W: Tensor,
    b: Tensor | None,
    w: dict[str, Tensor],
    state: State,
    steps: Tensor | None = None,
) -> tuple[Tensor, State]:
    """A layer over time.

    Args:
        plan: of the cell.
        x: [T, R or 1, B, I] float32.
        W: [R, I, G*H].
        b: [R, 1, G*H], or fewer columns, the first ones; or None.
        w: the cell's weights, each [R, ...].
        state: the first state, each [R, B, H].
        steps: [R or 1, B] int64, how many each sequence has; None: all have T. A tile (tiles.py) runs as many as the
            longest of its own, so its other sequences run on behind their ends.

    Returns:
        h [T, R, B, H], 0 behind a tile's end, and the state after the tile's own last step.
    """
    h, *last = _Sequence.apply(plan, x, W, whole_bias(W, b), steps, list(w), *w.values(), *state)
    return h, tuple(last)


@functools.lru_cache
def _code(plan: Plan) -> Any:
    """A plan's compiled functions."""
    return cache.numba_module("cpu", source(plan))


def _started(offsets: Any, fields: Fields, starts: dict[str, int | Tensor]) -> Any:
    """Arguments [pieces, fields]: what follows from sizes (tiles.py), onto which addresses are added by name."""
    table = offsets.copy()
    row = by_field(fields.starts, starts)
    table[:, len(fields.sizes) :] += [start if isinstance(start, int) else address(start) for start in row]
    return table


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        x: Tensor,
        W: Tensor,
        b: Tensor,
        steps: Tensor | None,
        names: list[str],
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        w, first = dict(zip(names, tensors, strict=False)), tensors[len(names) :]
        R, B, H = first[0].shape
        T, Rx, _, I = x.shape
        size = tiles(plan, T, R, B, I, H, Rx == 1, any(ctx.needs_input_grad), ctx.needs_input_grad[1])
        x, pieces, ends = x.contiguous(), len(size.pieces), piece_ends(steps, T, R, B, size.height)
        h = torch.empty(T + 1, R, B, H, dtype=torch.float32)
        h[0] = first[0]
        clear_behind(ends, h[1:])
        # What nobody else sees lies together for each piece of work: its steps follow each other in memory.
        states = [pool.take(pieces, T + 1, size.height, H) for _ in first[1:]]
        for state, s in zip(states, first[1:], strict=True):
            state[:, 0] = size.cut(s)
        slot_steps, saved_steps = size.room
        slots = pool.take(pieces, slot_steps, size.height, size.ld)
        saved = pool.take(plan.saved, pieces, saved_steps, size.height, H)
        starts: dict[str, int | Tensor] = {"product": product_address(), "x": x, "W": aligned(W), "b": aligned(b)}
        starts |= {"slots": slots, "saved": saved} | {f"state{k}": s for k, s in enumerate([h, *states])}
        matrices = {name: aligned(_matrix(plan, w, name, H)) for name in plan.matrices}
        starts |= {f"U_{name}": matrix for name, matrix in matrices.items()}
        starts |= {f"row_{name}": w[name].reshape(R, -1).contiguous() for name in plan.rows}
        code, fields = _code(plan), forward_fields(plan)
        given = _started(size.forward, fields, starts)
        if ends is not None:
            given[:, fields.sizes.index("T")] = ends
        work = given if ends is None else given[longest_first(ends)]
        threads.run(lambda piece: code.forward(work[piece]), pieces)
        last = _last(size, ends, h, states)
        used = [slots, saved, *states]
        if size.keep:
            ctx.save_for_backward(x, W)
            ctx.set_materialize_grads(False)
            ctx.lease = pool.Lease(*used)
            # The starts are only kept alive: their addresses are among the arguments.
            ctx.kept = size, ends, matrices, given, {n: w[n].shape for n in names}, starts
        else:
            pool.give(*used)
        return h[1:], *last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor | None, *dlast: Tensor | None) -> tuple[Any, ...]:
        size, ends, matrices, given, shapes, _ = ctx.kept
        x, W = ctx.saved_tensors
        wants_first = any(ctx.needs_input_grad[6 + len(shapes) :])
        job = _Backward(size, W, matrices, dh, dlast, wants_first)
        clear_behind(ends, job.dx)
        code = _code(size.plan)
        extended = np.concatenate([given, job.arguments()], axis=1)
        # What was written last is still in a cache.
        extended = extended[::-1] if ends is None else extended[longest_first(ends, backward=True)]
        threads.run(lambda piece: code.backward(extended[piece]), len(extended))
        pool.give(job.dslots)
        by = job.by_weight(W.shape[-1], shapes)
        return (
            None,
            None if job.dx is None else job.dx.sum_to_size(x.shape),
            by["dW"],
            by["db"],
            None,
            None,
            *(by[name] for name in shapes),
            *((size.together(job.carry[:, k]) if wants_first else None) for k in range(size.plan.states)),
        )


def _last(size: Tiles, ends: Any, h: Tensor, states: list[Tensor]) -> list[Tensor]:
    """The state after each piece's last step, each [R, B, H], from h [T + 1, R, B, H] and the others by pieces."""
    if ends is None:
        return [h[-1].clone(), *(size.together(state[:, -1]) for state in states)]
    at = torch.from_numpy(ends)
    rows = at.view(size.R, -1).repeat_interleave(size.height, 1)[:, : size.B, None]
    last = h.gather(0, rows.expand(1, -1, -1, size.H))[0]
    return [last, *(size.together(state[torch.arange(len(at)), at]) for state in states)]


def _matrix(plan: Plan, w: dict[str, Tensor], name: str, H: int) -> Tensor:
    """[R, rows*H, columns*H] of a weight."""
    return w[name].reshape(w[name].shape[0], plan.blocks[name][0] * H, -1)


class _Backward:
    """Room for derivatives, for each piece of work its own; the sums over pieces are taken in order."""

    def __init__(
        self,
        size: Tiles,
        W: Tensor,
        matrices: dict[str, Tensor],
        dh: Tensor | None,
        dlast: tuple[Tensor | None, ...],
        wants_first: bool,
    ) -> None:
        """Args: W: [R, I, G*H]; matrices: by name, aligned; dh, dlast: None for zeros."""
        plan, pieces, H = size.plan, len(size.pieces), size.H
        self.size, self.wants_first = size, wants_first
        self.dh = torch.zeros(size.T, size.R, size.B, H, dtype=torch.float32) if dh is None else dh.contiguous()
        self.dslots = pool.take(pieces, size.chunk, size.height, size.ld)
        self.carry = torch.zeros(pieces, plan.states, size.height, H, dtype=torch.float32)
        for k, d in enumerate(dlast):
            if d is not None:
                self.carry[:, k] = size.cut(d)
        self.back = torch.empty(pieces, max(1, plan.backs), size.height, H, dtype=torch.float32)
        self.ones = torch.ones(1, dtype=torch.float32)
        self.dx = torch.empty(size.T, size.R, size.B, size.I, dtype=torch.float32) if size.to_x else None
        self.W_T = aligned(W.mT) if size.to_x else None
        self.transposed = {
            name: aligned(matrix[..., : plan.blocks[name][1] * H].mT) for name, matrix in matrices.items()
        }
        self.weights = torch.zeros(pieces, size.width, dtype=torch.float32)

    def arguments(self) -> Any:
        """What `backward` is given of each piece besides what `forward` was."""
        starts: dict[str, int | Tensor] = {
            "wants_first": int(self.wants_first), "dh": self.dh, "dslots": self.dslots, "carry": self.carry,
            "back": self.back, "ones": self.ones, "dx": 0 if self.dx is None else self.dx,
            "W_T": 0 if self.W_T is None else self.W_T,
        }  # fmt: skip
        starts |= {f"UT_{name}": matrix for name, matrix in self.transposed.items()}
        starts |= dict.fromkeys(self.size.weights, self.weights)
        return _started(self.size.backward, backward_fields(self.size.plan), starts)

    def by_weight(self, columns: int, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
        """dW [R, I, G*H], db [R, 1, G*H] for so many columns, and by name each weight's derivative in its shape."""
        size = self.size
        total = summed(size.counts, self.weights)

        def part(name: str, columns: int) -> Tensor:
            start, rows, width = size.weights[name]
            return total[:, start : start + rows * width].view(size.R, rows, width)[..., :columns]

        gradients = {"dW": part("dW", columns), "db": part("db", columns)}
        for name, shape in shapes.items():
            kind = "drow" if name in size.plan.rows else "dU"
            gradients[name] = part(f"{kind}_{name}", size.plan.blocks[name][1] * size.H).reshape(shape)
        return gradients
