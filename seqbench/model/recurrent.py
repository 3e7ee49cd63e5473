"""A recurrent layer for models of one's own: `seqbench.Recurrent("GRU", 88, 48)`, in the place of torch.nn.GRU.

T time, R replicas, B batch, I inputs, H hidden.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqbench import cells
from seqbench.cells import Cell, State
from seqbench.cells.rules import check_step
from seqbench.kernels.sequence import Recurrence, RecurrenceName, decide
from seqbench.model.head import at_least_float32
from seqbench.model.recurrence import run_layer
from seqbench.model.stack import directions, run_stack, stack_weights
from seqbench.model.weights import initial_weights
from seqbench.task import SeqbenchError


class Recurrent(nn.Module):
    """Layers of one unit over time, compiled as in `seqbench fit`: the fastest way there is for unit, device and dtype.

    Attributes:
        w: the weights by name: W, b and the unit's own (seqbench/cells), those of higher layers with _l1, _l2, ...,
            those that read backwards with _reverse at the end; with replicas each has an axis R in front.
    """

    def __init__(
        self,
        cell: str | type[Cell] | Cell,
        input_size: int,
        hidden_size: int,
        *,
        layers: int = 1,
        layer_norm: bool = False,
        bidirectional: bool = False,
        replicas: int | None = None,
        seed: int = 0,
        recurrence: RecurrenceName | None = None,
    ) -> None:
        """Initial weights are the unit's own, as in `seqbench fit`.

        Args:
            cell: the unit: its name (`seqbench cells`), its class, or an instance where it has options.
            input_size: I.
            hidden_size: H.
            layers: how many, each reading the one below.
            layer_norm: whether what a layer hands up is normalised over its hidden units (seqbench/model/stack.py).
            bidirectional: whether each layer reads from a sequence's end backwards too, by weights of its own; it hands
                up both h of a step, 2H.
            replicas: R, so many independent layers side by side, replica k with the weights that seed + k alone has.
            seed: of the initial weights.
            recurrence: how it runs over time (seqbench/kernels/sequence.py); None: the fastest way there is.

        Raises:
            SeqbenchError: no such unit, one that breaks the rules (seqbench/cells/rules.py), or a size below 1.
        """
        super().__init__()
        if min(input_size, hidden_size, layers, 1 if replicas is None else replicas) < 1:
            raise SeqbenchError(f"Sizes must be positive: {input_size}, {hidden_size}, {layers} layers, {replicas=}")
        cell = cells.find(cell) if isinstance(cell, str) else cell
        self.cell = cell() if isinstance(cell, type) else cell
        self.input_size, self.hidden_size, self.layers = input_size, hidden_size, layers
        self.layer_norm, self.bidirectional = layer_norm, bidirectional
        self.replicas, self.recurrence = replicas, recurrence
        spec = stack_weights(self.cell, input_size, hidden_size, layers, bidirectional)
        check_step(self.cell, hidden_size)
        drawn = initial_weights(spec, list(range(seed, seed + (replicas or 1))))
        self.w = nn.ParameterDict({name: v if replicas else v.squeeze(0) for name, v in drawn.items()})

    def extra_repr(self) -> str:
        both = ", bidirectional=True" if self.bidirectional else ""
        replicas = f", replicas={self.replicas}" if self.replicas else ""
        sizes = f"{self.input_size}, {self.hidden_size}, layers={self.layers}"
        return f"{type(self.cell).__name__}, {sizes}{both}{replicas}"

    def forward(self, x: Tensor, state: State | None = None, steps: Tensor | None = None) -> tuple[Tensor, State]:
        """The hidden states of the highest layer, and the last state.

        Args:
            x: [T, B, I], which all replicas see, or with replicas [T, R, B, I].
            state: the first state, as it is returned; zeros if None.
            steps: [B] integers, how many steps each sequence has, of T; None: all.

        Returns:
            h [T, B, H] and the state of all layers, lowest first: tensors [B, H], a unit's h before its other states;
            with replicas h [T, R, B, H] and [R, B, H]. Given steps, h is 0 behind a sequence's end, and the state is
            that at its end. If bidirectional, h is [T, B, 2H], forwards before backwards, as are each layer's states;
            backwards a sequence begins at its end, and the last state is that at its first step.

        Raises:
            SeqbenchError: x, state or steps do not fit.
        """
        alone = self.replicas is None
        first = None if state is None else tuple(s.unsqueeze(0) for s in state) if alone else state
        self._check(x, first, steps)
        x = x.unsqueeze(1) if x.ndim == 3 else x
        w = SimpleNamespace(**{name: v.unsqueeze(0) if alone else v for name, v in self.w.items()})
        recurrence = decide(self.cell, self.hidden_size, w.W, self.recurrence)
        options: dict[str, Any] = {"layer_norm": self.layer_norm, "bidirectional": self.bidirectional, "state": first}
        if steps is not None:
            options |= {"steps": steps[None], "run": run_to_each_end}
        h, last = run_stack(self.cell, x, w, recurrence, self.layers, **options)
        return (h.squeeze(1), tuple(s.squeeze(0) for s in last)) if alone else (h, last)

    def _check(self, x: Tensor, state: State | None, steps: Tensor | None) -> None:
        R, wanted = self.replicas or 1, self.layers * len(directions(self.bidirectional)) * self.cell.states
        fits = x.ndim == 3 or (x.ndim == 4 and self.replicas == x.shape[1])
        if not fits or x.shape[-1] != self.input_size or not len(x):
            axes = "[T, B, I]" if self.replicas is None else f"[T, B, I] or [T, {R}, B, I]"
            raise SeqbenchError(f"x is {list(x.shape)}: give {axes} with T at least 1 and I = {self.input_size}")
        B, size = x.shape[-2], (R, x.shape[-2], self.hidden_size)
        if state is not None and (len(state) != wanted or any(s.shape != size for s in state)):
            raise SeqbenchError(f"A state of {type(self.cell).__name__} is {wanted} tensors, as the layer returns it")
        if steps is not None and (steps.shape != (B,) or bool(((steps < 0) | (steps > len(x))).any())):
            raise SeqbenchError(f"steps must be one number from 0 to T = {len(x)} for each of {B} sequences")


def run_to_each_end(
    cell: Cell, x: Tensor, w: SimpleNamespace, recurrence: Recurrence, state: State | None, steps: Tensor
) -> tuple[Tensor, State]:
    """As `run_layer`, but by every recurrence h is 0 behind each sequence's end, and the last state is that at its end.

    From one sequence's end to the next, each time with those that go on: the ways over time know no ends.

    Args:
        steps: [1, B].
    """
    (T, _, B, _), R = x.shape, len(w.W)
    if state is None:
        zeros = at_least_float32(w.W).new_zeros(R, B, w.W.shape[-1] // cell.gates)
        state = (zeros,) * cell.states
    order = steps[0].to(x.device).argsort(descending=True, stable=True)
    x, state = x.index_select(2, order), tuple(s.index_select(1, order) for s in state)
    falling, parts, start = steps[0, order.to(steps.device)].tolist(), [], 0
    for end in sorted(set(falling) - {0}):
        n = sum(length >= end for length in falling)
        h, last = run_layer(cell, x[start:end, :, :n], w, recurrence, tuple(s[:, :n] for s in state))
        state = tuple(torch.cat([new, s[:, n:]], 1) for new, s in zip(last, state, strict=True))
        parts.append(F.pad(h, (0, 0, 0, B - n)))
        start = end
    h, back = torch.cat([*parts, state[0].new_zeros(T - start, R, B, state[0].shape[-1])]), order.argsort()
    return h.index_select(2, back), tuple(s.index_select(1, back) for s in state)
