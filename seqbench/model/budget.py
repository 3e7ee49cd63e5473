"""Hidden sizes from a parameter budget: units are compared at matched counts, not at matched sizes.

Counted either way: the recurrent layer alone, as Chung et al. 2014 did, or all with output layer and embedding.
"""

from __future__ import annotations

from typing import Literal

from seqbench.cells import Cell
from seqbench.model.embedding import embedding_weights
from seqbench.model.head import Head
from seqbench.model.stack import handed_up, stack_weights
from seqbench.record import Parameters
from seqbench.task import SeqbenchError

Count = Literal["recurrent", "total"]
TOLERANCE = 0.005


def count_parameters(
    cell: Cell,
    input_size: int | None,
    hidden: int,
    head: Head,
    layers: int = 1,
    vocabulary: int = 0,
    ids: int = 1,
    bidirectional: bool = False,
) -> Parameters:
    """Parameters of the layers of `cell`, each of size `hidden`, and of the head that reads their h.

    input_size: I, or where inputs are ids the numbers of each one's vector; None: as many as H.
    vocabulary: how many vectors an embedding has, counted in the total; 0: none.  ids: how many a step has.
    bidirectional: whether each layer has a second set of weights, and hands up 2H (seqbench/model/stack.py).
    """
    input_size = input_size or hidden
    weights = stack_weights(cell, input_size * ids, hidden, layers, bidirectional)
    others = head.weights(handed_up(hidden, bidirectional)) | embedding_weights(vocabulary, input_size)
    recurrent = sum(weight.size for weight in weights.values())
    return Parameters(recurrent=recurrent, total=recurrent + sum(weight.size for weight in others.values()))


def hidden_for_budget(
    cell: Cell,
    input_size: int | None,
    head: Head,
    budget: int,
    count: Count,
    layers: int = 1,
    vocabulary: int = 0,
    ids: int = 1,
    bidirectional: bool = False,
) -> int:
    """The smallest H within half a percent of the budget for all layers together; if none is, the nearest.

    Of bidirectional layers H is that of a direction, and the budget is for both.

    With biases this gives Chung's sizes for speech (169,000 at 20 inputs: LSTM 195, GRU 227, tanh 400).

    Raises:
        SeqbenchError: not even H = 1 fits in twice the budget.
    """

    def parameters(hidden: int) -> int:
        counted = count_parameters(cell, input_size, hidden, head, layers, vocabulary, ids, bidirectional)
        return getattr(counted, count)

    if parameters(1) > 2 * budget:
        raise SeqbenchError(
            f"A budget of {budget} parameters is too small: {type(cell).__name__} with one hidden unit a "
            f"layer, {layers} layers and {input_size or 1} inputs has {parameters(1)} ({count}). Raise the budget."
        )
    low, high = 1, 2
    while parameters(high) < budget * (1 - TOLERANCE):
        high *= 2
    while low < high:  # the smallest H that is not below the tolerance
        middle = (low + high) // 2
        if parameters(middle) < budget * (1 - TOLERANCE):
            low = middle + 1
        else:
            high = middle
    nearer_below = low > 1 and budget - parameters(low - 1) < parameters(low) - budget
    return low - 1 if nearer_below else low
