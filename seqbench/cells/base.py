"""What a recurrent unit is: one step.  R replicas, B batch, H hidden, G gates."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

from torch import Tensor

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Weight:
    """A block of weights that a cell multiplies, for one replica.

    Attributes:
        shape: Without the replica axis. A row (1, H) broadcasts over the batch.
        init: "orthogonal" (each H x H block by itself), "uniform" (+-0.1) or "zeros" (Chung et al. 2014's code).
        noisy: Whether weight noise is added in training: on matrices, not on biases and peepholes.
    """

    shape: tuple[int, ...]
    init: Literal["orthogonal", "uniform", "zeros"]
    noisy: bool = True

    @property
    def size(self) -> int:
        """Number of parameters."""
        return math.prod(self.shape)


class Cell(ABC):
    """One step of a recurrence; owns no tensors, says which it needs and how a state follows from the last.

    The layer computes a_t = W x_t + b for all t in one product; `step` adds the recurrent part. A subclass in a
    file of this folder is found, listed and tested without being named anywhere else.

    Attributes:
        gates: G, how many blocks of H the projected input has; only those the step uses.
        states: How many tensors the state has; the first is h, what the head sees. All start at zero.
        paper: Where the equations are from.
    """

    gates: int
    states: int = 1
    paper: str

    def __init__(self, bias: bool = True) -> None:
        """Args: bias: whether the projected input has a bias b (Chung's equations show none, their code has it)."""
        self.bias = bias

    @abstractmethod
    def weights(self, hidden: int) -> dict[str, Weight]:
        """The recurrent weights by name, for H = `hidden`; matrices are (inputs, outputs)."""

    @abstractmethod
    def step(self, a: Tensor, state: State, w: SimpleNamespace) -> State:
        """The next state.

        Args:
            a: [R, B, G*H] projected input, bias included.
            state: `states` tensors [R, B, H].
            w: w.NAME is [R, *shape] for each name of `weights`.

        Returns:
            `states` tensors [R, B, H].
        """

    def options(self) -> dict[str, Any]:
        """The constructor's arguments that differ from its defaults."""
        parameters = inspect.signature(type(self)).parameters
        return {n: getattr(self, n) for n, p in parameters.items() if getattr(self, n) != p.default}

    def layer(self, input_size: int, hidden: int) -> dict[str, Weight]:
        """All weights of one recurrent layer: W [I, G*H], b [1, G*H] and the cell's own."""
        columns = self.gates * hidden
        projection = {"W": Weight((input_size, columns), "uniform")}
        if self.bias:
            projection["b"] = Weight((1, columns), "zeros", noisy=False)
        return projection | self.weights(hidden)
