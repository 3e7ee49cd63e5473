"""Layers of one unit, one above the other: names of their weights, and the way from x to the top layer's h.

T time, R replicas, B batch, I inputs, H hidden.  All layers have H hidden units; each reads the h of the one below.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch.nn.functional as F
from torch import Tensor

from seqbench.cells import Cell, State, Weight
from seqbench.kernels.sequence import Recurrence
from seqbench.model.recurrence import run_layer


def in_layer(layer: int, name: str) -> str:
    """The name of a weight in layer 0, 1, ...: W, W_l1, ..., as torch.nn's recurrent modules count."""
    return f"{name}_l{layer}" if layer else name


def stack_weights(cell: Cell, input_size: int, hidden: int, layers: int) -> dict[str, Weight]:
    """All recurrent layers' weights by name."""
    return {
        in_layer(layer, name): weight
        for layer in range(layers)
        for name, weight in cell.layer(hidden if layer else input_size, hidden).items()
    }


def recurrent_matrices(cell: Cell, hidden: int, layers: int) -> list[str]:
    """Names of the matrices that a state is multiplied with, biases and diagonals left out."""
    matrices = [name for name, weight in cell.weights(hidden).items() if weight.noisy]
    return [in_layer(layer, name) for layer in range(layers) for name in matrices]


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
) -> tuple[Tensor, State]:
    """Runs all layers over time.

    Args:
        x: [T, R or 1, B, I].
        w: the weights by their names in `stack_weights`, each [R, ...].
        recurrence: how each layer runs over time, as `decide` says (seqbench/kernels/sequence.py).
        layers: how many.
        layer_norm: (h - mean) / sqrt(variance + 1e-5) over the H units of each layer, on its way to the next layer or
            the head (Ba et al. 2016). The recurrence sees h as it is, so every unit stays what its paper says. Gain
            and bias would only repeat what the matrix and bias that follow can do, so there are none.
        steps: [R or 1, B] int64, as in `run_layer`; None: all T.
        state: the first states of all layers, lowest first, each [R, B, H]; zeros if None.
        up: what becomes of the h that layer 1, 2, ... hands up, as dropout; None: it is handed up as it is.

    Returns:
        What the head sees, [T, R, B, H], and the last states of all layers, lowest first.
    """
    states: State = ()
    names = cell.layer(1, 1).keys()  # they do not depend on sizes
    for layer in range(layers):
        own = SimpleNamespace(**{name: getattr(w, in_layer(layer, name)) for name in names})
        first = state[len(states) : len(states) + cell.states] if state else None
        x, last = run_layer(cell, x, own, recurrence, first, steps)
        states += last
        if layer_norm:
            x = F.layer_norm(x, x.shape[-1:])
        if up:
            x = up(x, layer + 1)
    return x, states
