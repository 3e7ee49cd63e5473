"""What every head is: from hidden states to negative log-likelihoods in nats, and to what is counted beside them.

T time, R replicas, B batch, H hidden, K targets.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from types import SimpleNamespace

import torch
from torch import Tensor

from seqbench.cells import Weight
from seqbench.model.affine import project


class Head(ABC):
    """A distribution of the targets given the hidden states of a sequence.

    It declares its weights, gives nats of them, and names what else is counted of a sequence: how many guesses are
    right, of how many.

    Attributes:
        counts: the names of what `guesses` tells; none where likelihoods are all there is.
    """

    counts: tuple[str, ...] = ()

    def __init__(self, target_size: int) -> None:
        """Args: target_size: as in seqbench.task.Task."""
        self.target_size = target_size

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Columns of V, the affine map h_t V + c that all else is made of."""

    @property
    def kept(self) -> int:
        """Numbers that it makes of a step, so that memory can be told beforehand."""
        return self.outputs

    @property
    @abstractmethod
    def uniform(self) -> float:
        """Nats of a step where nothing is known of the target: what a model that has diverged is far above."""

    @abstractmethod
    def nats_of(
        self, h: Tensor, w: SimpleNamespace, y: Tensor, steps: Tensor | None = None, compiled: bool = False
    ) -> Tensor:
        """-ln p(y_t | h), [T, R, B], from h [T, R, B, H], the weights w.NAME [R, ...] and y [T, R or 1, B, K].

        steps [R or 1, B] int64, on the CPU: how many of its T steps are wanted of each sequence; None: all. Others may
        be left out, and are 0 then.  compiled: by code compiled for the CPU, as `Recurrence.compiled` has it.
        """

    def guesses(
        self, h: Tensor, w: SimpleNamespace, y: Tensor, steps: Tensor | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """For each of `counts`, which steps are guessed right, and which count: [T, R, B] bool each; as `nats_of`.

        Steps that are not scored count nowhere, whatever stands here.
        """
        return []

    @abstractmethod
    def mean_of(self, h: Tensor, w: SimpleNamespace, steps: Tensor | None = None, compiled: bool = False) -> Tensor:
        """The expected target, [T, R, B, K], as `nats_of`; of classes, the likeliest."""

    def weights(self, hidden: int) -> dict[str, Weight]:
        """V [H, outputs] and c [1, outputs]; weight noise is for the recurrent layers (Chung et al. 2014's code)."""
        return {
            "V": Weight((hidden, self.outputs), "uniform", noisy=False),
            "c": Weight((1, self.outputs), "zeros", noisy=False),
        }


class StepHead(Head):
    """A distribution of the target at a step given that step's affine map h_t V + c alone: a next step can be drawn."""

    @abstractmethod
    def nats(self, out: Tensor, y: Tensor) -> Tensor:
        """-ln p(y_t | out_t), [T, R, B], from out [T, R, B, outputs] and y [T, R or 1, B, K]; in float32 or better."""

    @property
    def uniform(self) -> float:
        """Of K targets that are on or off."""
        return self.target_size * math.log(2)

    def nats_of(
        self, h: Tensor, w: SimpleNamespace, y: Tensor, steps: Tensor | None = None, compiled: bool = False
    ) -> Tensor:
        return self.nats(project(h, w.V, w.c, compiled), y)

    @abstractmethod
    def mean(self, out: Tensor) -> Tensor:
        """The expected target, [T, R, B, K]; of a class, the likeliest, [T, R, B, 1]."""

    def mean_of(self, h: Tensor, w: SimpleNamespace, steps: Tensor | None = None, compiled: bool = False) -> Tensor:
        return self.mean(project(h, w.V, w.c, compiled))

    @property
    @abstractmethod
    def draws(self) -> int:
        """Uniform numbers that a target is drawn from."""

    @abstractmethod
    def draw(self, out: Tensor, uniforms: Tensor, temperature: float = 1.0) -> Tensor:
        """A target [..., K] of that distribution, from out [..., outputs] and uniforms [..., draws] between 0 and 1.

        temperature: 1 is the distribution itself; below 1 what is likely becomes likelier.
        """


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision is widened; float32 and float64 stay: a likelihood needs the digits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
