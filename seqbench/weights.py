"""Initial weights, and what training adds to them: weight noise and recurrent dropout.

Row k of every draw is a function of (seed k, purpose, step) alone, so there is nothing to keep in a checkpoint.
R replicas; every weight is [R, ...], all of them together [R, P].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seqbench.cells import Weight
from seqbench.task import draw_seed, generator


def initial_weights(spec: dict[str, Weight], seeds: list[int]) -> dict[str, Tensor]:
    """Each weight [R, ...], row k drawn on the CPU from seed k alone."""
    generators = [generator(seed, "init") for seed in seeds]
    return {name: torch.stack([_initial(weight, g) for g in generators]) for name, weight in spec.items()}


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


class Layout:
    """All weights of a model side by side, one row of P numbers a replica: one tensor to step, clip, keep and save.

    Those that noise is added to come first.
    """

    def __init__(self, spec: dict[str, Weight]) -> None:
        self.spec = dict(sorted(spec.items(), key=lambda item: not item[1].noisy))
        self.sizes = [weight.size for weight in self.spec.values()]
        self.noisy = sum(weight.size for weight in spec.values() if weight.noisy)

    def rows(self, weights: dict[str, Tensor]) -> Tensor:
        """[R, P], from each weight [R, ...]."""
        return torch.cat([weights[name].flatten(1) for name in self.spec], 1)

    def views(self, rows: Tensor) -> dict[str, Tensor]:
        """Each weight by name, [R, ...], as a view of rows [R, P]."""
        parts = rows.split(self.sizes, 1)
        return {n: part.view(-1, *weight.shape) for (n, weight), part in zip(self.spec.items(), parts, strict=True)}


class Draws:
    """Random numbers [R, P] of one kind, the first `count` of each row; the rest stays 0."""

    def __init__(self, purpose: str, count: int, width: int, fill: Callable[..., Any]) -> None:
        """Args: purpose: part of what starts the generators; width: P; fill: fill(row, generator=g)."""
        self.purpose, self.count, self.width, self.fill = purpose, count, width, fill
        self._buffer = torch.empty(0)

    def draw(self, seeds: list[int], step: int, device: torch.device) -> Tensor:
        """[R, P]; overwritten by the next draw."""
        if self._buffer.device != device or len(self._buffer) != len(seeds):
            self._buffer = torch.zeros(len(seeds), self.width, device=device)
            self._generator = torch.Generator(device)
        for row, seed in zip(self._buffer[:, : self.count], seeds, strict=True):
            self.fill(row, generator=self._generator.manual_seed(draw_seed(seed, self.purpose, step)))
        return self._buffer


class Perturbation:
    """What training does to the weights before each batch.

    noise: w + noise * N(0, 1) on matrices (Chung et al. 2014; Graves 2011).
    dropout: each entry of the recurrent matrices is 0 with that probability, the others are divided by 1 - dropout;
        one draw for all steps and sequences of a batch (DropConnect on U: Merity et al. 2017, "weight-dropped").
    """

    def __init__(self, layout: Layout, recurrent: list[str], noise: float, dropout: float) -> None:
        """Args: layout: of all weights; recurrent: names of those that dropout acts on."""
        self.layout, self.noise, self.dropout = layout, noise, dropout
        self.recurrent = Layout({name: layout.spec[name] for name in recurrent})
        kept = sum(self.recurrent.sizes)
        self._noise = Draws("noise", layout.noisy, sum(layout.sizes), torch.Tensor.normal_)
        self._kept = Draws("dropout", kept, kept, self._keep)

    def _keep(self, row: Tensor, generator: torch.Generator) -> None:
        row.bernoulli_(1 - self.dropout, generator=generator).div_(1 - self.dropout)

    def __call__(self, rows: Tensor, seeds: list[int], step: int) -> dict[str, Tensor]:
        """The weights of training step `step`, each [R, ...], one seed a replica; `rows` [R, P] stay as they are."""
        if self.noise:
            rows = torch.add(rows, self._noise.draw(seeds, step, rows.device), alpha=self.noise)
        w = self.layout.views(rows)
        if self.dropout:
            for name, draw in self.recurrent.views(self._kept.draw(seeds, step, rows.device)).items():
                w[name] = w[name] * draw
        return w
