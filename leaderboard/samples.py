"""Which samples lie beside a board, for its page to play and to show.

    samples/samples.json, samples/<table>-prime.ogg, .png, <table>-truth.ogg, .png, <row>.ogg, .png;
    of text <row>.png, .txt

`seqbench leaderboard sample` writes them. The index says which run each row's sample is of: a row whose best run is
another one by now has none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from seqbench.leaderboard.rows import Board, Row
from seqbench.record import Record
from seqbench.task import SeqbenchError

FOLDER, INDEX = "samples", "samples.json"


def best_run(row: Row) -> Record | None:
    """The run whose sample a unit has: of the best rate's the one that validated best."""
    known = [run for run in row.counted if run.best_valid is not None]
    return min(known, key=lambda run: (run.best_valid, run.seed), default=None)


def index(out: Path) -> dict[str, dict[str, str]]:
    """By table and row the run that its sample is of; nothing where there are no samples.

    Raises:
        SeqbenchError: the index cannot be read.
    """
    path = out / FOLDER / INDEX
    if not path.exists():
        return {}
    try:
        found: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SeqbenchError(f"{path} cannot be read ({error}): seqbench leaderboard sample writes it") from error
    return found


@dataclass(frozen=True)
class Sample:
    """A sample on the page.

    Attributes:
        stem: of its files' names; a unit's is its row's anchor.
        name: the unit's, or what else it is.
        plays: whether there is a sound; else its picture is of what a memory holds.
        text: what was written, after the words that were given.
    """

    stem: str
    name: str
    plays: bool
    text: str


def heard(board: Board, out: Path) -> dict[str, list[Sample]]:
    """By table what its page plays or shows: prime, truth, and the units whose best run is the sample's.

    Raises:
        SeqbenchError: the index cannot be read.
    """
    known = index(out)
    rows = {
        table.slug: [
            (row.anchor, row.name)
            for row in table.units
            if (run := best_run(row)) and known.get(table.slug, {}).get(row.anchor) == run.run_id
        ]
        for table in board.tables
    }
    both = (("prime", "What all were given"), ("truth", "How the piece goes on"))
    named = {
        slug: [*((f"{slug}-{what}", name) for what, name in both), *units] for slug, units in rows.items() if units
    }
    found = {slug: [_sample(out / FOLDER, *one) for one in samples] for slug, samples in named.items()}
    return {slug: [one for one in samples if one] for slug, samples in found.items()}


def _sample(folder: Path, stem: str, name: str) -> Sample | None:
    """None where it has no files: a text has no sound of how it goes on."""
    if not (folder / f"{stem}.png").exists():
        return None
    text = folder / f"{stem}.txt"
    written = text.read_text(encoding="utf-8") if text.exists() else ""
    return Sample(stem, name, (folder / f"{stem}.ogg").exists(), written)
