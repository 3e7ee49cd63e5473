"""Ancestral sampling: each step's target is drawn from the head's distribution, and is what the next step sees.

T steps drawn, P steps of a prime, I inputs, K targets.  A replica is drawn by itself, on the CPU, by its unit's own
`step`, and each random number is a function of (seed, step, place): so a sample has the same bits whatever was trained
or is drawn beside it, on which device, and however long it is to become.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from seqbench.cells import Cell, State
from seqbench.kernels.sequence import Recurrence
from seqbench.model.affine import project
from seqbench.model.draws import uniform
from seqbench.model.embedding import embed
from seqbench.model.head import Head, StepHead
from seqbench.model.stack import run_stack
from seqbench.task import SeqbenchError, Task, draw_words

LOOP = Recurrence("loop", compiled=False)  # for single steps the fastest way there is
BLOCK = 256  # steps whose random numbers are made at once: always so many, as a tensor's size may change the last bit


class Network(Protocol):
    """What is sampled from: a `seqbench.train.module.SequenceModel`."""

    cell: Cell
    task: Task
    head: Head
    layers: int
    layer_norm: bool

    @property
    def w(self) -> dict[str, Tensor]:
        """All weights by name, each [R, ...]."""


class Drawn(NamedTuple):
    """What was drawn.

    Attributes:
        y: [T, K].
        nats: [T] float64, -ln p(y_t | all before it), by the network itself whatever the temperature was.
    """

    y: Tensor
    nats: Tensor


def draw(
    network: Network,
    replica: int,
    length: int,
    seed: int = 0,
    prime: Tensor | None = None,
    temperature: float = 1.0,
    watch: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Drawn:
    """Draws from one replica's weights.

    Args:
        network: as it is tested: without noise and dropout.
        replica: counted among those it holds.
        length: T.
        seed: of the random numbers.
        prime: [P, I], inputs that the network is given first; what is drawn comes after the last of them. None: for
            music nothing, so frame 1 is drawn from the initial state; for speech a step of the mean, which is silence;
            for text the token of id 0.
        temperature: 1 is the network's own distribution; see its head.
        watch: goes through the steps, as a progress bar does.

    Raises:
        SeqbenchError: a length or temperature that is not positive, a task that looks ahead, or a network whose outputs
            are not finite.
    """
    if network.task.looks_ahead:
        raise SeqbenchError(
            f"{network.task.name} is read whole before anything is guessed: it has no next step to draw"
        )
    head = network.head
    assert isinstance(head, StepHead)  # as of every task that does not look ahead
    if not 0 < temperature < math.inf:
        raise SeqbenchError(f"temperature {temperature}: give a positive temperature; 1 is the model itself")
    if length < 1:
        raise SeqbenchError(f"length {length}: give 1 step or more")
    w = SimpleNamespace(**{name: weight[replica : replica + 1].detach().cpu() for name, weight in network.w.items()})
    x = _inputs(network.task, prime, w.W)
    y, nats = [], torch.empty(length, dtype=torch.float64)
    state: State | None = None
    with torch.inference_mode():
        for t in watch(range(length)):
            if len(x):
                seen = embed(x.long(), w.E) if network.task.vocabulary else x
                h, state = run_stack(network.cell, seen, w, LOOP, network.layers, network.layer_norm, state=state)
                out = project(h[-1:], w.V, w.c)
            else:  # the initial state is zero: the head's bias alone
                out = w.c[None]
            if t % BLOCK == 0:
                words = [draw_words(seed, "sample", step) for step in range(t, t + BLOCK)]
                uniforms = uniform(head.draws, words)
            drawn = head.draw(out, uniforms[t % BLOCK].view(1, 1, 1, -1), temperature)
            y.append(drawn[0, 0, 0].float())
            nats[t] = head.nats(out, drawn)[0, 0, 0]
            x = following(x, drawn, network.task)
    if not nats.isfinite().all():
        raise SeqbenchError("The network's outputs are not finite: this replica has diverged, take another")
    return Drawn(torch.stack(y), nats)


def following(x: Tensor, y: Tensor, task: Task) -> Tensor:
    """What comes after inputs x [T, 1, 1, I] and target y [1, 1, 1, K]: the frame or token, or the last I samples."""
    return y if task.next_frame or task.vocabulary else torch.cat([x[-1:], y], -1)[..., -task.input_size :]


def _inputs(task: Task, prime: Tensor | None, like: Tensor) -> Tensor:
    """[P, 1, 1, I] in the weights' precision."""
    if prime is None:
        prime = torch.zeros(0 if task.next_frame else 1, task.input_size)
    return prime.to("cpu", like.dtype)[:, None, None]
