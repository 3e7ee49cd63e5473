"""What a trained unit made of one sequence, as arrays.

T time, I inputs, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from seqbench.explain.gradient import gradient_norms
from seqbench.explain.memory import Held, Memory, both_ways, held, held_both_ways, memory_of
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
        x: [T, I], the sequence, or that part of it that is looked at.
        start: which step of the sequence is the first of these.
        tokens: [T], of text the token that each step reads; None: inputs are numbers.
        bidirectional: whether the layer has read the sequence from its end, too.
        norms: [T, T] float32: row j the context, column t the time; one way, 0 where t < j. With a gated memory the L2
            norm over the hidden units of the weight w_j^t (Levy et al. 2018), without one the norm of dh_t/dh_j.
        memory: gates, content and weights by hidden unit, of both directions those forwards before those backwards;
            None for a unit without such a memory.
        held: half-lives and what else follows from the weights, over the whole sequence; its ages are of these steps.
            None likewise.
    """

    unit: str
    task: Task
    x: np.ndarray
    start: int
    tokens: list[str] | None
    bidirectional: bool
    norms: np.ndarray
    memory: Memory | None
    held: Held | None

    @property
    def times(self) -> int | list[str]:
        """What `heat` names steps by."""
        return self.tokens or self.start

    def name(self, unit: int) -> str:
        """Of a hidden unit with a memory; its number is of its direction."""
        assert self.memory is not None
        forwards = self.memory.keep.shape[1] - self.memory.backwards
        return str(unit) if unit < forwards else f"{unit - forwards} backwards"

    @property
    def units(self) -> list[str]:
        """Their names in this order."""
        return [self.name(unit) for unit in self.order]

    @property
    def order(self) -> np.ndarray:
        """[H], the hidden units with a memory from the shortest half-life to the longest."""
        assert self.held is not None
        return np.argsort(self.held.half_lives, kind="stable")


def explain(
    model: SequenceModel,
    x: np.ndarray,
    replica: int = 0,
    layer: int | None = None,
    steps: tuple[int, int] | None = None,
    tokens: list[str] | None = None,
) -> Explained:
    """What a trained unit holds of each step of a sequence at every later one.

    In float64, by the unit's own step one after the other, without noise.

    Args:
        model: as `seqbench.train.loading.load_model` gives it.
        x: [T, I], the inputs of a sequence; it begins with states of zero.
        replica: of the model's, counted from 0.
        layer: counted from 0, the lowest; None: the highest.
        steps: the first one to look at, and the one behind the last; the unit runs over all before, too. None: all.
        tokens: [T], of text the token of each step.

    Raises:
        SeqbenchError: no such replica, layer or steps, or x is no sequence of the model's inputs.
    """
    layer = model.layers - 1 if layer is None else layer
    for what, given, count in (("replica", replica, model.R), ("layer", layer, model.layers)):
        if not 0 <= given < count:
            raise SeqbenchError(f"There is no {what} {given}: the model has 0 to {count - 1}")
    if x.ndim != 2 or x.shape[1] != model.task.input_size or not 0 < len(x) <= LONGEST:
        wanted = f"[T, {model.task.input_size}] with T from 1 to {LONGEST:,}"
        raise SeqbenchError(f"x is {list(x.shape)}: give one sequence {wanted}, or a part of it")
    first, end = steps or (0, len(x))
    if not 0 <= first < end <= len(x):
        raise SeqbenchError(f"There are no steps {first}:{end}: the sequence has 0:{len(x)}")
    part = slice(first, end)
    ways = run_layers(model, torch.as_tensor(x), replica, layer)
    about = type(model.cell).__name__, model.task, x[part], first, tokens and tokens[part], len(ways) == 2
    found = [memory for way in ways if (memory := memory_of(way)) is not None]
    if not found:
        norms = gradient_norms(ways[0].part(part))
        if len(ways) == 2:
            behind = gradient_norms(ways[1].part(slice(len(x) - end, len(x) - first)))
            norms = np.hypot(norms, behind[::-1, ::-1])
        return Explained(*about, norms, None, None)
    memory, whole = found[0], held(found[0])
    if len(ways) == 2:
        memory, whole = both_ways(*found), held_both_ways(whole, held(found[1]))
    shown = replace(whole, norms=whole.norms[part, part], ages=whole.ages[part])
    return Explained(*about, shown.norms, memory.part(part), shown)
