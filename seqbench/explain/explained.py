"""What a trained unit made of one sequence, as arrays.

T time, I inputs, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from seqbench.explain.gradient import gradient_norms
from seqbench.explain.memory import Held, Memory, held, memory_of
from seqbench.explain.values import run_layers
from seqbench.task import SeqbenchError, Task
from seqbench.train.module import SequenceModel

LONGEST = 6_000  # steps: the weights of all pairs take 300 MB then, for each hidden unit


@dataclass(frozen=True)
class Explained:
    """A layer of one replica over one sequence.

    Attributes:
        unit: the unit's name.
        task: of the data set.
        x: [T, I], the sequence.
        norms: [T, T] float32: row j the context, column t the time, 0 where t < j. With a gated memory the L2 norm over
            the hidden units of the weight w_j^t (Levy et al. 2018), without one the norm of dh_t/dh_j.
        memory: gates, content and weights by hidden unit; None for a unit without such a memory.
        held: half-lives and what else follows from the weights; None likewise.
    """

    unit: str
    task: Task
    x: np.ndarray
    norms: np.ndarray
    memory: Memory | None
    held: Held | None

    @property
    def order(self) -> np.ndarray:
        """[H], the hidden units with a memory from the shortest half-life to the longest."""
        assert self.held is not None
        return np.argsort(self.held.half_lives, kind="stable")


def explain(model: SequenceModel, x: np.ndarray, replica: int = 0, layer: int | None = None) -> Explained:
    """What a trained unit holds of each step of a sequence at every later one.

    In float64, by the unit's own step one after the other, without noise.

    Args:
        model: as `seqbench.train.loading.load_model` gives it.
        x: [T, I], the inputs of a sequence.
        replica: of the model's, counted from 0.
        layer: counted from 0, the lowest; None: the highest.

    Raises:
        SeqbenchError: no such replica or layer, x is no sequence of the model's inputs, the inputs are words, or the
            layers are bidirectional.
    """
    if model.task.vocabulary:
        raise SeqbenchError(f"The inputs of {model.task.name} are ids of words, over which no picture is drawn")
    if model.bidirectional:
        raise SeqbenchError("Bidirectional layers hold the future too: pictures are drawn of the past alone")
    layer = model.layers - 1 if layer is None else layer
    for what, given, count in (("replica", replica, model.R), ("layer", layer, model.layers)):
        if not 0 <= given < count:
            raise SeqbenchError(f"There is no {what} {given}: the model has 0 to {count - 1}")
    if x.ndim != 2 or x.shape[1] != model.task.input_size or not 0 < len(x) <= LONGEST:
        wanted = f"[T, {model.task.input_size}] with T from 1 to {LONGEST:,}"
        raise SeqbenchError(f"x is {list(x.shape)}: give one sequence {wanted}, or a part of it")
    ran = run_layers(model, torch.as_tensor(x), replica, layer)
    memory = memory_of(ran)
    found = None if memory is None else held(memory)
    norms = gradient_norms(ran) if found is None else found.norms
    return Explained(type(model.cell).__name__, model.task, x, norms, memory, found)
