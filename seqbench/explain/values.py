"""A unit's layer over one sequence, in float64: its states at all times, and what expressions of its step come to.

T time, H hidden, G gates.  One replica, one sequence: its axes are left out.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from types import SimpleNamespace

import torch
from torch import Tensor

from seqbench.cells import Cell, State
from seqbench.kernels.compiler.expression import OPERATIONS, Expression
from seqbench.model.affine import project
from seqbench.model.embedding import embed
from seqbench.model.recurrence import initial_state
from seqbench.model.stack import directions, in_layer
from seqbench.train.module import SequenceModel


class Layer:
    """One layer, after it has run.

    Attributes:
        a: [T, G*H] the projected inputs.
        states: each [T+1, H], the first one, zeros, in front.
        w: the unit's own weights by name, with an axis of one replica in front.
    """

    def __init__(self, cell: Cell, x: Tensor, w: SimpleNamespace) -> None:
        """Args: x: [T, I] float64; w: w.W [1, I, G*H], w.b where there is one, and the unit's own, float64."""
        a = project(x[:, None, None], w.W, getattr(w, "b", None))  # [T, 1, 1, G*H]
        own = SimpleNamespace(**{name: value for name, value in vars(w).items() if name not in ("W", "b")})
        state = initial_state(cell, a)
        states = [state]
        for a_t in a:
            state = cell.step(a_t, state, own)
            states.append(state)
        self.cell, self.w, self.a = cell, own, a[:, 0, 0]
        self.states: State = tuple(torch.cat(parts).squeeze(1) for parts in zip(*states, strict=True))

    @property
    def H(self) -> int:  # noqa: N802 - the field's name for it
        """Hidden units."""
        return self.states[0].shape[-1]

    def part(self, steps: slice) -> Layer:
        """Those steps of it."""
        found = copy.copy(self)
        first, end, _ = steps.indices(len(self.a))
        found.a, found.states = self.a[steps], tuple(state[first : end + 1] for state in self.states)
        return found

    def values(self, expressions: Sequence[Expression]) -> list[Tensor]:
        """What each comes to at all times, [T, H]."""
        known: dict[Expression, Tensor] = {}
        return [self._value(e, known).expand(len(self.a), self.H) for e in expressions]

    def _value(self, e: Expression, known: dict[Expression, Tensor]) -> Tensor:
        if e not in known:
            known[e] = self._leaf(e) if e.is_leaf else self._result(e, [self._value(x, known) for x in e.args])
        return known[e]

    def _leaf(self, e: Expression) -> Tensor:
        match e.op:
            case "constant":
                return self.a.new_full((1, 1), e.key[0])
            case "input":
                return self._block(self.a, e.key[0])
            case "state":
                return self.states[e.key[0]][:-1]
        name, k = e.key
        return self._block(getattr(self.w, name).reshape(1, -1), k)

    def _result(self, e: Expression, args: list[Tensor]) -> Tensor:
        if e.op != "matmul":
            found: Tensor = OPERATIONS[e.op].torch(*args)
            return found
        name, row, column = e.key
        matrix = getattr(self.w, name)[0].flatten(0, -2)
        return args[0] @ self._block(matrix[row * self.H : (row + 1) * self.H], column)

    def _block(self, x: Tensor, k: int) -> Tensor:
        return x[:, k * self.H : (k + 1) * self.H]


@torch.no_grad()
def run_layers(model: SequenceModel, x: Tensor, replica: int, layer: int) -> list[Layer]:
    """That layer of a model, counted from 0, after it and all below it have run over x [T, I].

    One way, or forwards and backwards: the second has run over the sequence from its end.
    """
    if model.task.vocabulary:
        x = embed(x.long()[:, None, None], model.w["E"][replica : replica + 1])[:, 0, 0]
    x = x.double()
    names = model.cell.layer(1, 1).keys()
    for below in range(layer + 1):
        found = []
        for reverse in directions(model.bidirectional):
            w = {name: model.w[in_layer(below, name, reverse)][replica : replica + 1].double() for name in names}
            found.append(Layer(model.cell, x.flip(0) if reverse else x, SimpleNamespace(**w)))
        hs = [part.states[0][1:] for part in found]
        x = torch.cat([hs[0], *(h.flip(0) for h in hs[1:])], -1)
        if model.layer_norm:
            x = torch.nn.functional.layer_norm(x, x.shape[-1:])
    return found
