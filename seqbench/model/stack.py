"""Layers of one unit, one above the other: names of their weights, and the way from x to the top layer's h.

T time, R replicas, B batch, I inputs, H hidden, D directions, 1 or 2.  All layers have H hidden units a direction;
each reads the h of the one below.  A bidirectional layer (Schuster and Paliwal 1997) has two sets of weights and reads
each sequence forwards and, by the other set, from its own last step backwards; up go both h of a step side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from seqbench.cells import Cell, State, Weight
from seqbench.kernels.sequence import Recurrence
from seqbench.model.recurrence import run_layer


def in_layer(layer: int, name: str, reverse: bool = False) -> str:
    """The name of a weight in layer 0, 1, ...: W, W_reverse, W_l1, W_l1_reverse, ..., as torch.nn counts."""
    return f"{name}{f'_l{layer}' if layer else ''}{'_reverse' if reverse else ''}"


def handed_up(hidden: int, bidirectional: bool) -> int:
    """D*H, how many numbers a layer hands up at a step."""
    return 2 * hidden if bidirectional else hidden


def stack_weights(
    cell: Cell, input_size: int, hidden: int, layers: int, bidirectional: bool = False
) -> dict[str, Weight]:
    """All recurrent layers' weights by name."""
    below = handed_up(hidden, bidirectional)
    return {
        in_layer(layer, name, reverse): weight
        for layer in range(layers)
        for reverse in directions(bidirectional)
        for name, weight in cell.layer(below if layer else input_size, hidden).items()
    }


def recurrent_matrices(cell: Cell, hidden: int, layers: int, bidirectional: bool = False) -> list[str]:
    """Names of the matrices that a state is multiplied with, biases and diagonals left out."""
    matrices = [name for name, weight in cell.weights(hidden).items() if weight.noisy]
    return [
        in_layer(layer, name, reverse)
        for layer in range(layers)
        for reverse in directions(bidirectional)
        for name in matrices
    ]


def directions(bidirectional: bool) -> tuple[bool, ...]:
    """Of each direction of a layer, whether it is the one backwards."""
    return (False, True) if bidirectional else (False,)


def reversed_in_time(x: Tensor, steps: Tensor | None) -> Tensor:
    """x [T, R, B, I], each sequence's first steps, [R or 1, B] of them, the last one first; what is behind stays.

    steps: None: all T.  Done twice it is undone.
    """
    if steps is None:
        return x.flip(0)
    T, R, B, _ = x.shape
    t, n = torch.arange(T, device=x.device)[:, None, None], steps.to(x.device)
    rows = torch.where(t < n, n - 1 - t, t) * (R * B) + torch.arange(R * B, device=x.device).view(R, B)
    return x.flatten(0, 2).index_select(0, rows.flatten()).view(x.shape)


def run_stack(
    cell: Cell,
    x: Tensor,
    w: SimpleNamespace,
    recurrence: Recurrence,
    layers: int = 1,
    layer_norm: bool = False,
    steps: Tensor | None = None,
    state: State | None = None,
    up: Callable[[Tensor, int], Tensor] | None = None,
    bidirectional: bool = False,
    run: Callable[..., tuple[Tensor, State]] = run_layer,
) -> tuple[Tensor, State]:
    """Runs all layers over time.

    Args:
        x: [T, R or 1, B, I].
        w: the weights by their names in `stack_weights`, each [R, ...].
        recurrence: how each layer runs over time, as `decide` says (seqbench/kernels/sequence.py).
        layers: how many.
        layer_norm: (h - mean) / sqrt(variance + 1e-5) over the D*H units of each layer, on its way to the next layer or
            the head (Ba et al. 2016). The recurrence sees h as it is, so every unit stays what its paper says. Gain
            and bias would only repeat what the matrix and bias that follow can do, so there are none.
        steps: [R or 1, B] int64, as in `run_layer`; None: all T.  Backwards, a sequence begins with the last of them.
        state: the first states of all layers, lowest first, forwards before backwards, each [R, B, H]; zeros if None.
        up: what becomes of the h that layer 1, 2, ... hands up, as dropout; None: it is handed up as it is.
        bidirectional: whether each layer reads backwards too.
        run: `run_layer`, or another with its arguments.

    Returns:
        What the head sees, [T, R, B, D*H], and the last states of all layers, in the order of the first.
    """
    states: State = ()
    names = cell.layer(1, 1).keys()  # they do not depend on sizes
    for layer in range(layers):
        hs = []
        for reverse in directions(bidirectional):
            own = SimpleNamespace(**{name: getattr(w, in_layer(layer, name, reverse)) for name in names})
            first = state[len(states) : len(states) + cell.states] if state else None
            h, last = run(cell, reversed_in_time(x, steps) if reverse else x, own, recurrence, first, steps)
            hs.append(reversed_in_time(h, steps) if reverse else h)
            states += last
        x = torch.cat(hs, -1) if bidirectional else hs[0]
        if layer_norm:
            x = F.layer_norm(x, x.shape[-1:])
        if up:
            x = up(x, layer + 1)
    return x, states
