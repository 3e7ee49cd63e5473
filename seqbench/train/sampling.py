"""`seqbench sample`: what trained replicas make, as files to hear."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from torch import Tensor

from seqbench.datamodules.base import SequenceData
from seqbench.datamodules.rolls import PianoRolls
from seqbench.files import write_file
from seqbench.sample.ancestral import draw
from seqbench.sample.rendering import Format, prime, render, step_seconds, steps_of
from seqbench.task import SeqbenchError
from seqbench.train.events import run_name
from seqbench.train.loading import load_data, load_model

SECONDS = 20.0  # that are drawn where no length is given


def sample(
    checkpoint: Path,
    out: Path | None = None,
    *,
    replica: int | None = None,
    length: int | None = None,
    prime_with: int | None = None,
    prime_length: int | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    kind: Format = "wav",
) -> list[dict[str, Any]]:
    """Draws from a checkpoint's replicas, with the weights of each one's best epoch, and writes what is to be heard.

    Args:
        checkpoint: of a run or a group, of a unit and a data set of the suite.
        out: a folder; None: `samples` in the run's.
        replica: counted from 0, as the group began; None: each.
        length: steps drawn; None: 20 seconds.
        prime_with: the test sequence whose beginning is given first; None: nothing is.
        prime_length: how many of its steps; None: 5 seconds, but half of the sequence at most.
        temperature: of the drawing; 1 is the network's own distribution.
        seed: of the drawing.
        kind: of the audio file.

    Returns:
        A row for each replica: replica, unit, trained_rate, trained_seed, nll (of what was drawn, in the task's unit,
        by the network itself), seconds, audio and midi (paths; "" for speech).

    Raises:
        SeqbenchError: no such checkpoint, replica or sequence, or nothing to hear.
    """
    model, data = load_model(checkpoint), load_data(checkpoint)
    replicas = range(model.R) if replica is None else [replica]
    if not 0 <= min(replicas) <= max(replicas) < model.R:
        raise SeqbenchError(f"There is no replica {replica}: {checkpoint} has 0 to {model.R - 1}")
    if prime_with is None and prime_length is not None:
        raise SeqbenchError("A prime's length alone says nothing: add --prime N, a test sequence")
    second = step_seconds(data)
    given = _given(data, prime_with, prime_length)
    folder = out or checkpoint.parent.parent / "samples"
    rows = []
    for k in replicas:
        steps = length or steps_of(data, SECONDS)
        drawn = draw(model, k, steps, seed, given, temperature, _watched)
        rendering = render(data, given, drawn.y)
        stem = run_name(type(model.cell).__name__, model.rates[k], model.seeds[k])
        stem += "" if prime_with is None else f"-prime{prime_with}"
        stem += f"-sample{seed}"
        stem += "" if temperature == 1 else f"-temperature{temperature:g}"
        paths = {"audio": folder / f"{stem}.{kind}"} | ({"midi": folder / f"{stem}.mid"} if rendering.midi else {})
        write_file(paths["audio"], rendering.file(kind))
        if rendering.midi:
            write_file(paths["midi"], rendering.midi)
        figures = {"trained_rate": model.rates[k], "trained_seed": model.seeds[k], "nll": float(drawn.nats.mean())}
        told = {"replica": k, "unit": type(model.cell).__name__, **figures, "seconds": round(steps * second, 3)}
        rows.append(told | {name: str(paths.get(name, "")) for name in ("audio", "midi")})
    return rows


def _given(data: SequenceData[Any], sequence: int | None, steps: int | None) -> Tensor | None:
    """The prime; loads the data only where something depends on it."""
    if sequence is not None or not isinstance(data, PianoRolls):  # speech: what its samples were divided by
        data.ready()
    return None if sequence is None else prime(data, sequence, steps)


def _watched(steps: Iterable[int]) -> Iterable[int]:
    console = Console(stderr=True)
    return track(steps, "drawing", console=console, transient=True, disable=not console.is_terminal)
