"""`seqbench leaderboard sample`: what the units of a board sound like, as small files beside it (samples.py)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seqbench.files import write_file
from seqbench.leaderboard.bar import with_progress
from seqbench.leaderboard.board import assemble
from seqbench.leaderboard.build import read
from seqbench.leaderboard.rows import Board, Row
from seqbench.leaderboard.samples import FOLDER, INDEX, best_run
from seqbench.record import Record
from seqbench.task import SeqbenchError

LARGEST = 2_000_000  # bytes of all files together: they are kept beside the records
What = Literal["prime", "truth", "sample"]
# From a run's id and what is wanted, an OGG file and a picture in PNG; None where the run has no checkpoint.
Make = Callable[[str, What], tuple[bytes, bytes] | None]


@dataclass(frozen=True)
class Told:
    """What was written for a row, or why nothing was."""

    row: str
    run_id: str
    bytes: int

    def __str__(self) -> str:
        return f"{self.row}: {self.run_id}, " + (f"{self.bytes:,} bytes" if self.bytes else "no checkpoint")


def sample(records: Path, out: Path, make: Make) -> list[Told]:
    """Writes the samples of all rows whose best run has a checkpoint, and the index; what was there before goes.

    Args:
        records: of the board.
        out: the board's folder.
        make: draws.

    Raises:
        SeqbenchError: no records, no checkpoint at all, or files beyond LARGEST.
    """
    board = assemble(read(records))
    files: dict[str, bytes] = {}
    index: dict[str, Any] = {}
    told = []
    for slug, row, run in with_progress(list(_wanted(board)), "samples"):
        made = make(run.run_id, "sample")
        size = _add(files, row.anchor, made)
        told.append(Told(f"{row.name}, {slug}", run.run_id, size))
        if not size:
            continue
        if slug not in index:
            index[slug] = {}
            for what in ("prime", "truth"):
                _add(files, f"{slug}-{what}", make(run.run_id, what))
        index[slug][row.anchor] = run.run_id
    if not index:
        raise SeqbenchError(
            f"no run of {records} that counts has a checkpoint: give the folder that they were trained in"
        )
    if (size := sum(map(len, files.values()))) > LARGEST:
        raise SeqbenchError(f"The samples have {size:,} bytes, more than {LARGEST:,}: give fewer --seconds")
    files[INDEX] = json.dumps(index, indent=1, sort_keys=True).encode()
    for path in (out / FOLDER).glob("*"):
        if path.suffix in (".ogg", ".png") and path.name not in files:
            path.unlink()
    for name, content in files.items():
        write_file(out / FOLDER / name, content)
    return told


def _wanted(board: Board) -> Iterator[tuple[str, Row, Record]]:
    for table in board.tables:
        for row in table.units:
            if (run := best_run(row)) is not None:
                yield table.slug, row, run


def _add(files: dict[str, bytes], stem: str, made: tuple[bytes, bytes] | None) -> int:
    """The bytes that were added."""
    if made is None:
        return 0
    files[f"{stem}.ogg"], files[f"{stem}.png"] = made
    return len(made[0]) + len(made[1])
