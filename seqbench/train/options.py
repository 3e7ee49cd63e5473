"""Which of a model's options cannot be, whatever its unit and task are."""

from __future__ import annotations

from seqbench.task import SeqbenchError, Task

FLOAT32_MAX = 3.4e38


def check_sizes(positive: dict[str, int | None], not_negative: dict[str, float | None]) -> None:
    """Options by name; None stands for a default.

    Raises:
        SeqbenchError: one is too small; tells all. Or one is too large for single precision.
    """
    least = min(value for value in positive.values() if value is not None)
    if least < 1 or min(value or 0 for value in not_negative.values()) < 0:
        told = ", ".join(f"{name} {value}" for name, value in (not_negative | positive).items())
        raise SeqbenchError(f"Sizes must be positive: {told}")
    for name, value in not_negative.items():
        if value is not None and value > FLOAT32_MAX:
            raise SeqbenchError(f"{name} {value:g} cannot be: float32 ends at {FLOAT32_MAX:g}")


def check_inputs(task: Task, embedding: int | None, input_noise: float) -> None:
    """Of ids and of numbers.

    Raises:
        SeqbenchError: an option is for the other kind of inputs.
    """
    if input_noise and task.vocabulary:
        raise SeqbenchError(f"The inputs of {task.name} are ids, which no noise can be added to: leave it out")
    if embedding and not task.vocabulary:
        raise SeqbenchError(f"The inputs of {task.name} are numbers, not ids: leave out --model.embedding")


def check_directions(task: Task, bidirectional: bool) -> None:
    """Of layers that read from both ends.

    Raises:
        SeqbenchError: they would read what the task asks for, or there is no end to read from.
    """
    if bidirectional and not task.looks_ahead:
        raise SeqbenchError(
            f"{task.name} must not look ahead: read backwards, its inputs tell its targets. Leave out "
            "--model.bidirectional"
        )
    if bidirectional and task.carried:
        raise SeqbenchError(
            f"Batches of {task.name} go on where the one before ended, so none has an end to read backwards from: "
            "leave out --model.bidirectional"
        )


def check_dropout(unit: str, recurrent_matrices: int, dropout: float, upward_dropout: float) -> None:
    """Of recurrent weights, and of what a layer hands up.

    Raises:
        SeqbenchError: no probability below 1, or there are no recurrent matrices.
    """
    if not 0 <= dropout < 1 or (dropout and not recurrent_matrices):
        raise SeqbenchError(
            f"Recurrent dropout {dropout} cannot be: give a probability below 1, and 0 to a unit without recurrent "
            f"matrices ({unit} has {recurrent_matrices})"
        )
    if not 0 <= upward_dropout < 1:
        raise SeqbenchError(f"Upward dropout {upward_dropout} cannot be: give a probability below 1")
