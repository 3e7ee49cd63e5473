"""Initial weights, and what training does to them and to hidden states: weight noise, dropout of both kinds.

Row k of every draw is a function of (seed k, purpose, step) alone, so there is nothing to keep in a checkpoint.
R replicas; every weight is [R, ...], all of them together [R, P].
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from seqbench.cells import Weight
from seqbench.cells.base import Draw
from seqbench.model import draws
from seqbench.task import SeqbenchError, draw_seed, generator


def initial_weights(spec: dict[str, Weight], seeds: list[int], every: Draw | None = None) -> dict[str, Tensor]:
    """Each weight [R, ...], row k drawn on the CPU from seed k alone: as the unit has it, or all by one draw."""
    generators = [generator(seed, "init") for seed in seeds]
    if every is not None:
        spec = {name: dataclasses.replace(weight, init=every) for name, weight in spec.items()}
    return {name: torch.stack([_initial(weight, g) for g in generators]) for name, weight in spec.items()}


def normal(sd: float) -> Draw:
    """An initial value: normal, with mean 0 and that standard deviation."""
    return lambda shape, generator: torch.empty(shape).normal_(0, sd, generator=generator)


def _initial(weight: Weight, g: torch.Generator) -> Tensor:
    if callable(weight.init):
        drawn = weight.init(weight.shape, g)
        if drawn.shape != weight.shape:
            raise SeqbenchError(f"First values {list(drawn.shape)} were drawn for a weight {list(weight.shape)}")
        return drawn
    if weight.init == "zeros":
        return torch.zeros(weight.shape)
    if weight.init == "uniform":
        return torch.empty(weight.shape).uniform_(-0.1, 0.1, generator=g)
    rows, columns = weight.shape
    blocks = [nn.init.orthogonal_(torch.empty(rows, rows), generator=g) for _ in range(columns // rows)]
    return torch.cat(blocks, 1)


class UpwardDropout:
    """What a layer hands up is 0 in each place with probability p, else divided by 1 - p (Zaremba et al. 2014).

    Drawn for each time step, replica, sequence and unit by itself, from embedding, layers and to the head; what a layer
    tells itself from one step to the next is left alone.
    """

    def __init__(self, p: float, seeds: list[int], step: int) -> None:
        """Args: p: below 1; seeds: one a replica; step: the optimiser's."""
        self.p, self.seeds, self.step = p, seeds, step

    def __call__(self, h: Tensor, layer: int) -> Tensor:
        """h [T, R, B, H] as it goes up from layer 1, 2, ..., or from the embedding, 0."""
        kept = draws.kept(h.shape, self.p, self.seeds, f"up {layer}", self.step, h.device)
        return torch.where(kept, h / (1 - self.p), 0.0)


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


class Perturbation:
    """What training does to the weights before each batch.

    noise: w + noise * N(0, 1) on the recurrent layers' matrices (Chung et al. 2014; Graves 2011).
    dropout: each entry of the recurrent matrices is 0 with that probability, the others are divided by 1 - dropout;
        one draw for all steps and sequences of a batch (DropConnect on U: Merity et al. 2017, "weight-dropped").
    """

    def __init__(self, layout: Layout, recurrent: list[str], noise: float, dropout: float) -> None:
        """Args: layout: of all weights; recurrent: names of those that dropout acts on."""
        self.layout, self.noise, self.dropout = layout, noise, dropout
        self.recurrent = Layout({name: layout.spec[name] for name in recurrent})
        self._draws = torch.empty(0)

    def __call__(self, rows: Tensor, seeds: list[int], step: int, compiled: bool) -> dict[str, Tensor]:
        """The weights of training step `step`, each [R, ...], one seed a replica; `rows` [R, P] stay as they are.

        compiled: whether noise is drawn by code compiled for the CPU (`Recurrence.compiled`).
        """
        if self.noise:
            rows = torch.add(rows, self._normal(rows, seeds, step, compiled), alpha=self.noise)
        w = self.layout.views(rows)
        if self.dropout:
            for name, kept in self.recurrent.views(self._kept(rows, seeds, step)).items():
                w[name] = w[name] * kept
        return w

    def _normal(self, rows: Tensor, seeds: list[int], step: int, compiled: bool) -> Tensor:
        """[R, P], 0 where no noise is added; overwritten by the next draw."""
        if self._draws.device != rows.device or len(self._draws) != len(rows):
            self._draws = torch.zeros(rows.shape, dtype=torch.float32, device=rows.device)
        draws.fill_normal(self._draws, self.layout.noisy, seeds, "noise", step, compiled)
        return self._draws.to(rows.dtype)

    def _kept(self, rows: Tensor, seeds: list[int], step: int) -> Tensor:
        """[R, K] over the recurrent matrices' entries: 0, or 1 / (1 - dropout)."""
        drawn = torch.empty(len(rows), sum(self.recurrent.sizes), device=rows.device)
        g = torch.Generator(rows.device)
        for row, seed in zip(drawn, seeds, strict=True):
            row.bernoulli_(1 - self.dropout, generator=g.manual_seed(draw_seed(seed, "dropout", step)))
        return drawn.div_(1 - self.dropout)
