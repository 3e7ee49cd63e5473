"""`seqbench explain`: a checkpoint and a test sequence in, pictures and a page out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from seqbench import cells
from seqbench.datamodules.arrays import DataSet
from seqbench.explain.explained import Explained, explain
from seqbench.explain.figures import pictures, three_digits
from seqbench.explain.page import page, png, svg
from seqbench.explain.strip import beginning
from seqbench.files import write_file
from seqbench.task import SeqbenchError
from seqbench.train.loading import chosen, load_data, load_model

SHOWN = 40  # steps of a text whose sequences are longer than can be read


def write_explained(
    checkpoint: Path,
    sequence: int,
    out: Path,
    replica: int | None,
    layer: int | None,
    unit: str | None,
    steps: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Writes NAME.svg and NAME.png of every picture, and index.html.

    Args:
        checkpoint: of `seqbench fit`.
        sequence: of the test split, counted from 0.
        out: the folder that they go to.
        replica: of a group, counted from 0; None: there is but one.
        layer: counted from 0; None: the highest.
        unit: the class of a unit that is not of the suite, by import path.
        steps: the first to look at, and the one behind the last; None: all, or the first 40 of a long text.

    Returns:
        What was explained, in figures, and the page's path.

    Raises:
        SeqbenchError: what cannot be loaded, no such sequence, replica or layer, nothing trained, or the folder cannot
            be written.
    """
    model = load_model(checkpoint, **({} if unit is None else {"cell": cells.find(unit)}))
    if replica is None and model.R > 1:
        raise SeqbenchError(f"{checkpoint} holds a group: give one of its replicas, --replica 0 to {model.R - 1}")
    if 0 <= (replica or 0) < model.R and not chosen(checkpoint)[replica or 0]:
        raise SeqbenchError(f"{checkpoint}: no validation chose its weights, so there is nothing trained to explain")
    data = load_data(checkpoint).ready()
    test = DataSet(data).test
    if not 0 <= sequence < len(test):
        raise SeqbenchError(f"There is no test sequence {sequence}: {data.name} has 0 to {len(test) - 1}")
    x = test[sequence]
    tokens = data.spelled(torch.as_tensor(x))
    steps = steps or beginning(tokens, SHOWN)
    found = explain(model, x, replica or 0, layer, steps, tokens)
    told = _told(found, data.step_seconds)
    title = f"{found.unit} {model.hidden} on {data.name}, test sequence {sequence}"
    title += f", steps {steps[0]} to {steps[1] - 1}" if steps else ""
    _write(out, found, data.step_seconds, title, told)
    return {"unit": found.unit, "data": data.name, "sequence": sequence} | told | {"page": str(out / "index.html")}


def _told(found: Explained, seconds: float | None) -> dict[str, Any]:
    """Figures, None where there is nothing to tell."""
    told: dict[str, Any] = {"steps": len(found.x)}
    told |= {} if seconds is None else {"seconds": len(found.x) * seconds}
    if found.held is None:
        return told | {"memory": "none: norms of dh_t/dh_j"}
    lives = found.held.half_lives[~np.isnan(found.held.half_lives)]
    median = float(np.median(lives)) if len(lives) else np.inf
    return told | {
        "memory": "gated",
        "median_half_life": None if np.isinf(median) else median,
        "units_never_half_gone": int(np.isinf(lives).sum()),
    }


def _write(out: Path, found: Explained, seconds: float | None, title: str, told: dict[str, Any]) -> None:
    drawn, elements = [], {}
    facts = ", ".join(f"{name.replace('_', ' ')}: {_shown(value)}" for name, value in told.items()) + "."
    try:
        for picture in tqdm(pictures(found, seconds), "drawing", delay=2, leave=False, disable=None):
            elements[picture.name] = svg(picture)
            write_file(out / f"{picture.name}.svg", (elements[picture.name] + "\n").encode())
            write_file(out / f"{picture.name}.png", png(picture))
            drawn.append(picture)
        write_file(out / "index.html", page(drawn, elements, title, facts).encode())
    except OSError as error:
        raise SeqbenchError(f"Cannot write to {out} ({error.strerror}): choose another --out") from error


def _shown(value: Any) -> str:
    return "none, they keep more" if value is None else three_digits(value) if isinstance(value, float) else str(value)
