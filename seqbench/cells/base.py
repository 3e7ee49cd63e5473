"""What a recurrent unit is: one step.  R replicas, B batch, H hidden, G gates."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from seqbench.task import SeqbenchError

State = tuple[Tensor, ...]
Draw = Callable[[tuple[int, ...], torch.Generator], Tensor]
Kind = Literal["orthogonal", "uniform", "zeros"]


def between(low: float, high: float) -> Draw:
    """An initial value: uniform in that range."""
    return lambda shape, generator: torch.empty(shape).uniform_(low, high, generator=generator)


@dataclass(frozen=True)
class Weight:
    """A block of weights that a cell multiplies, for one replica.

    Attributes:
        shape: Without the replica axis. A row (1, H) broadcasts over the batch.
        init: "orthogonal" (each H x H block by itself), "uniform" (+-0.1) or "zeros" (Chung et al. 2014's code); or a
            function of shape and CPU generator, where a paper has its own.
        noisy: Whether weight noise is added in training, as to a recurrent layer's matrices; biases, peepholes,
            diagonals and the output layer have none.
    """

    shape: tuple[int, ...]
    init: Kind | Draw
    noisy: bool = True

    def __post_init__(self) -> None:
        """Raises:
        SeqbenchError: no such shape, no such first value, or an orthogonal one of a shape that has no H x H blocks.
        """
        told = f"Weight({self.shape}, {self.init!r})"
        if not all(isinstance(n, int) and n > 0 for n in self.shape):
            raise SeqbenchError(f"{told} cannot be: a shape has whole numbers above 0")
        if not callable(self.init) and self.init not in get_args(Kind):
            kinds = ", ".join(map(repr, get_args(Kind)))
            raise SeqbenchError(f"{told} cannot be: first values are {kinds} or a function of shape and generator")
        if self.init == "orthogonal" and (len(self.shape) != 2 or self.shape[1] % self.shape[0]):
            raise SeqbenchError(f"{told} cannot be: orthogonal are matrices of H x H blocks beside each other")

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
        biased: How many of the G blocks have a bias, the first ones; None: all.
        paper: Where the equations are from.
        bias: Whether the projected input has a bias b.
    """

    gates: int
    states: int = 1
    biased: int | None = None
    paper: str
    bias: bool = True

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
        """The constructor's arguments that differ from its defaults.

        Raises:
            SeqbenchError: the unit does not keep one as an attribute of that name, or it was not given.
        """
        name, found = type(self).__name__, {}
        for option, parameter in inspect.signature(type(self)).parameters.items():
            if not hasattr(self, option):
                raise SeqbenchError(f"{name} keeps no {option}: set self.{option} in its constructor")
            value = getattr(self, option)
            if value is None and parameter.default is parameter.empty:
                raise SeqbenchError(f"{name} cannot do without {option}: give --model.cell.{option}")
            if value != parameter.default:
                found[option] = value
        return found

    def layer(self, input_size: int, hidden: int) -> dict[str, Weight]:
        """All weights of one recurrent layer: W [I, G*H], b [1, `biased`*H] and the cell's own.

        Raises:
            SeqbenchError: `weights` returns no dictionary of Weight by name, or names one W or b.
        """
        projection = {"W": Weight((input_size, self.gates * hidden), "uniform")}
        if self.bias:
            biased = self.gates if self.biased is None else self.biased
            projection["b"] = Weight((1, biased * hidden), "zeros", noisy=False)
        name = type(self).__name__
        if not isinstance(self.states, int) or self.states < 1:
            raise SeqbenchError(f"{name}.states is {self.states!r}: a unit has a state, h, or more")
        try:
            own = self.weights(hidden)
        except TypeError as error:
            raise SeqbenchError(f"{name}.weights: {error}") from error
        if not isinstance(own, dict) or not all(isinstance(weight, Weight) for weight in own.values()):
            raise SeqbenchError(f"{name}.weights must return a dictionary of Weight by name")
        if taken := own.keys() & {"W", "b"}:
            raise SeqbenchError(f"{name} declares a weight {min(taken)}, which is the projection's name")
        return projection | own


class LinearCell(Cell):
    """A unit whose memory is linear in itself given the input: m_t = A_t * m_{t-1} + B_t, for each hidden unit alone.

    It says A, B and what is read from the memory; `step` follows from them, and so does the parallel scan over time
    in seqbench/model/recurrence.py.  A memory is one tensor, or two: real and imaginary part.
    """

    @abstractmethod
    def coefficients(self, a: Tensor, w: SimpleNamespace) -> tuple[State, State]:
        """A and B, one or two tensors [R, B, H] each; A may be [R, 1, H] if it is the same at all times.

        Args:
            a: [R, B, G*H] projected input; in the scan all times stand side by side on the axis B.
            w: as in `step`.
        """

    def read(self, a: Tensor, memory: State, w: SimpleNamespace) -> State:
        """The state [R, B, H] each, h first and the memory last, from a new memory; by default h is the memory."""
        return memory

    def step(self, a: Tensor, state: State, w: SimpleNamespace) -> State:
        """The next state, as `Cell.step` says."""
        A, B = self.coefficients(a, w)
        if len(A) == 1:
            return self.read(a, (torch.addcmul(B[0], A[0], state[-1]),), w)
        re, im = state[-2:]
        return self.read(a, (A[0] * re - A[1] * im + B[0], A[0] * im + A[1] * re + B[1]), w)
