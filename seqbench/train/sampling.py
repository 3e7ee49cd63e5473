"""`seqbench sample`: what trained replicas make, as files to hear or to read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from seqbench.datamodules.base import SequenceData
from seqbench.datamodules.rolls import PianoRolls
from seqbench.datamodules.text import Text
from seqbench.files import write_file
from seqbench.sample.ancestral import draw
from seqbench.sample.rendering import Format, prime, render, step_seconds, steps_of
from seqbench.task import SeqbenchError
from seqbench.train.events import run_name
from seqbench.train.loading import chosen, load_data, load_model

SECONDS, TOKENS = 20.0, 200  # that are drawn where no length is given


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
    """Draws from a checkpoint's replicas, with the weights of each one's best epoch, and writes it to hear or read.

    Args:
        checkpoint: of a run or a group, of a unit and a data set of the suite.
        out: a folder; None: `samples` in the run's.
        replica: counted from 0, as the group began; None: each.
        length: steps drawn; None: 20 seconds, or 200 tokens of text.
        prime_with: the test sequence whose beginning is given first; None: nothing is, or the end of a line of text.
        prime_length: how many of its steps; None: 5 seconds or 20 tokens, but half of the sequence at most.
        temperature: of the drawing; 1 is the network's own distribution.
        seed: of the drawing.
        kind: of the audio file.

    Returns:
        A row for each replica that a validation chose weights of: replica, unit, trained_rate, trained_seed, nll (of
        what was drawn, in the task's unit, by the network itself); seconds, audio and midi (paths; "" for speech), or
        text (a path).

    Raises:
        SeqbenchError: no such checkpoint, replica or sequence, nothing to draw, or nothing trained to draw from.
    """
    model, data = load_model(checkpoint), load_data(checkpoint)
    replicas = range(model.R) if replica is None else [replica]
    if not 0 <= min(replicas) <= max(replicas) < model.R:
        raise SeqbenchError(f"There is no replica {replica}: {checkpoint} has 0 to {model.R - 1}")
    trained = [k for k, found in enumerate(chosen(checkpoint)) if found and k in replicas]
    if not trained:
        raise SeqbenchError(f"{checkpoint}: no validation chose its weights, so there is nothing trained to draw from")
    if prime_with is None and prime_length is not None:
        raise SeqbenchError("A prime's length alone says nothing: add --prime N, a test sequence")
    given = _given(data, prime_with, prime_length)
    steps = length or (TOKENS if isinstance(data, Text) else steps_of(data, SECONDS))
    folder = out or checkpoint.parent.parent / "samples"
    rows = []
    for k in trained:
        drawn = draw(model, k, steps, seed, given, temperature, _watched)
        stem = run_name(type(model.cell).__name__, model.rates[k], model.seeds[k])
        stem += "" if prime_with is None else f"-prime{prime_with}"
        stem += f"-sample{seed}"
        stem += "" if temperature == 1 else f"-temperature{temperature:g}"
        figures = {"trained_rate": model.rates[k], "trained_seed": model.seeds[k], "nll": float(drawn.nats.mean())}
        told = {"replica": k, "unit": type(model.cell).__name__, **figures}
        rows.append(told | _written(folder / stem, data, given, drawn.y, kind))
    return rows


def _written(stem: Path, data: SequenceData[Any], given: Tensor | None, y: Tensor, kind: Format) -> dict[str, Any]:
    """Writes what was drawn; what there is to tell of the files."""
    files: dict[str, tuple[str, bytes | None]]
    told: dict[str, Any] = {}
    if isinstance(data, Text):
        text = data.written(y if given is None else torch.cat([given, y]))
        files = {"text": (".txt", f"{text.strip()}\n".encode())}
    else:
        rendering = render(data, given, y)
        files = {"audio": (f".{kind}", rendering.file(kind)), "midi": (".mid", rendering.midi)}
        told = {"seconds": round(len(y) * step_seconds(data), 3)}
    for name, (suffix, content) in files.items():
        path = stem.with_name(stem.name + suffix)
        if content is not None:
            try:
                write_file(path, content)
            except OSError as error:
                raise SeqbenchError(f"Cannot write to {path.parent} ({error.strerror}): give another --out") from error
        told[name] = "" if content is None else str(path)
    return told


def _given(data: SequenceData[Any], sequence: int | None, steps: int | None) -> Tensor | None:
    """The prime; loads the data only where something depends on it."""
    if sequence is not None or not isinstance(data, PianoRolls):  # speech: what its samples were divided by
        data.ready()
    if sequence is None:
        return data.start.float() if isinstance(data, Text) else None
    return prime(data, sequence, steps)


def _watched(steps: Iterable[int]) -> Iterable[int]:
    console = Console(stderr=True)
    return track(steps, "drawing", console=console, transient=True, disable=not console.is_terminal)
