"""Heads: from hidden states to negative log-likelihoods in nats.  T time, R replicas, B batch, H hidden, K targets."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from seqbench.cells import Weight
from seqbench.task import Task


class Head(ABC):
    """A distribution of the target given an affine map V h_t + c of the hidden state."""

    def __init__(self, task: Task) -> None:
        self.target_size = task.target_size

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Columns of V: the numbers that the distribution is made of."""

    @abstractmethod
    def nats(self, out: Tensor, y: Tensor) -> Tensor:
        """-ln p(y_t | out_t), [T, R, B], from out [T, R, B, outputs] and y [T, R or 1, B, K]; in float32 or better."""

    @abstractmethod
    def mean(self, out: Tensor) -> Tensor:
        """The expected target, [T, R, B, K]."""

    def weights(self, hidden: int) -> dict[str, Weight]:
        """V [H, outputs] and c [1, outputs]."""
        return {
            "V": Weight((hidden, self.outputs), "uniform"),
            "c": Weight((1, self.outputs), "zeros", noisy=False),
        }


class Bernoulli(Head):
    """Independent on/off targets, from logits: -sum_k [y_k ln s(o_k) + (1 - y_k) ln(1 - s(o_k))], on AND off terms."""

    @property
    def outputs(self) -> int:
        """One logit a target."""
        return self.target_size

    def nats(self, out: Tensor, y: Tensor) -> Tensor:
        """[T, R, B]; summed over the K targets, computed from logits, so exact however large they are."""
        out = at_least_float32(out)
        y = y.to(out.dtype).expand_as(out)
        return F.binary_cross_entropy_with_logits(out, y, reduction="none").sum(-1)

    def mean(self, out: Tensor) -> Tensor:
        """Probability of "on"."""
        return torch.sigmoid(out)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision is widened; float32 and float64 stay: a likelihood needs the digits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def head_for(task: Task) -> Head:
    """The head that a task names."""
    known = {kind.__name__: kind for kind in Head.__subclasses__()}
    return known[task.head](task)
