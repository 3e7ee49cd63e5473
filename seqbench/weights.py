"""Initial weights, and what training adds to them: weight noise and recurrent dropout.

Row k of every draw is a function of (seed k, purpose, step) alone, so there is nothing to keep in a checkpoint.
R replicas; every weight is [R, ...].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seqbench.cells import Weight
from seqbench.task import draw_seed, generator


def initial_weights(spec: dict[str, Weight], seeds: list[int]) -> dict[str, nn.Parameter]:
    """Each weight [R, ...], row k drawn on the CPU from seed k alone."""
    generators = [generator(seed, "init") for seed in seeds]
    return {name: nn.Parameter(torch.stack([_initial(weight, g) for g in generators])) for name, weight in spec.items()}


def _initial(weight: Weight, g: torch.Generator) -> Tensor:
    if callable(weight.init):
        return weight.init(weight.shape, g)
    if weight.init == "zeros":
        return torch.zeros(weight.shape)
    if weight.init == "uniform":
        return torch.empty(weight.shape).uniform_(-0.1, 0.1, generator=g)
    rows, columns = weight.shape
    blocks = [nn.init.orthogonal_(torch.empty(rows, rows), generator=g) for _ in range(columns // rows)]
    return torch.cat(blocks, 1)


class Draws:
    """Random rows [R, P] of one kind, split into the shapes of the weights they belong to."""

    def __init__(self, purpose: str, spec: dict[str, Weight], fill: Callable[..., Any]) -> None:
        """Args: purpose: part of what starts the generators; spec: the weights; fill: fill(row, generator=g)."""
        self.purpose, self.spec, self.fill = purpose, spec, fill
        self.sizes = [weight.size for weight in spec.values()]
        self._buffer = torch.empty(0)

    def draw(self, seeds: list[int], step: int, device: torch.device) -> dict[str, Tensor]:
        """Each weight's own, [R, ...]; overwritten by the next draw."""
        if self._buffer.device != device or len(self._buffer) != len(seeds):
            self._buffer = torch.empty(len(seeds), sum(self.sizes), device=device)
            self._generator = torch.Generator(device)
        for row, seed in zip(self._buffer, seeds, strict=True):
            self.fill(row, generator=self._generator.manual_seed(draw_seed(seed, self.purpose, step)))
        rows = self._buffer.split(self.sizes, 1)
        return {n: row.view(-1, *w.shape) for (n, w), row in zip(self.spec.items(), rows, strict=True)}


class Perturbation:
    """What training does to the weights before each batch.

    noise: w + noise * N(0, 1) on matrices (Chung et al. 2014; Graves 2011).
    dropout: each entry of the recurrent matrices is 0 with that probability, the others are divided by 1 - dropout;
        one draw for all steps and sequences of a batch (DropConnect on U: Merity et al. 2017, "weight-dropped").
    """

    def __init__(self, spec: dict[str, Weight], recurrent: list[str], noise: float, dropout: float) -> None:
        """Args: spec: all weights by name; recurrent: those that dropout acts on."""
        self.noise, self.dropout = noise, dropout
        noisy = {name: weight for name, weight in spec.items() if weight.noisy}
        self._noise = Draws("noise", noisy, torch.Tensor.normal_)
        self._kept = Draws("dropout", {name: spec[name] for name in recurrent}, self._keep)

    def _keep(self, row: Tensor, generator: torch.Generator) -> None:
        row.bernoulli_(1 - self.dropout, generator=generator).div_(1 - self.dropout)

    def __call__(self, w: dict[str, Tensor], seeds: list[int], step: int) -> dict[str, Tensor]:
        """The weights of training step `step`, one seed a replica; those in `w` stay as they are."""
        w = dict(w)
        device = next(iter(w.values())).device
        if self.noise:
            for name, draw in self._noise.draw(seeds, step, device).items():
                w[name] = torch.add(w[name], draw, alpha=self.noise)
        if self.dropout:
            for name, draw in self._kept.draw(seeds, step, device).items():
                w[name] = w[name] * draw
        return w
