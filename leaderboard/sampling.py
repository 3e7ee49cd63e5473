"""`seqbench leaderboard sample`: what the units of a board make and hold, as small files beside it (samples.py)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seqbench.files import write_file
from seqbench.leaderboard import samples
from seqbench.leaderboard.bar import with_progress
from seqbench.leaderboard.board import assemble
from seqbench.leaderboard.build import read
from seqbench.leaderboard.rows import Board, Row
from seqbench.leaderboard.samples import FOLDER, INDEX, best_run
from seqbench.record import Record
from seqbench.task import SeqbenchError

ENDINGS = (".ogg", ".png", ".txt")
LARGEST = 2_000_000  # bytes of all files together: they are kept beside the records
What = Literal["prime", "truth", "sample"]
# From a run's id and what is wanted, files by their endings ("ogg", "png", "txt"); none where it has no checkpoint.
Make = Callable[[str, What], dict[str, bytes]]


@dataclass(frozen=True)
class Told:
    """What was written for a row, or why nothing was."""

    row: str
    run_id: str
    bytes: int
    kept: bool = False

    def __str__(self) -> str:
        done = "kept as it is" if self.kept else f"{self.bytes:,} bytes" if self.bytes else "no checkpoint"
        return f"{self.row}: {self.run_id}, {done}"


def sample(records: Path, out: Path, make: Make) -> list[Told]:
    """Writes the samples of all rows whose best run has a checkpoint, and the index.

    Of a row whose best run has none, the samples of that very run stay, where there are any; all others go.

    Args:
        records: of the board.
        out: the board's folder.
        make: draws.

    Raises:
        SeqbenchError: no records, no checkpoint at all, or files beyond LARGEST.
    """
    board, known = assemble(read(records)), samples.index(out)
    files: dict[str, bytes] = {}
    index: dict[str, dict[str, str]] = {}
    told, kept = [], set()
    for slug, row, run in with_progress(list(_wanted(board)), "samples"):
        size = _add(files, row.anchor, make(run.run_id, "sample"))
        stays = not size and known.get(slug, {}).get(row.anchor) == run.run_id
        told.append(Told(f"{row.name}, {slug}", run.run_id, size, stays))
        if stays:
            kept |= {row.anchor, f"{slug}-prime", f"{slug}-truth"}
        elif not size:
            continue
        elif f"{slug}-prime.png" not in files:
            for what in ("prime", "truth"):
                _add(files, f"{slug}-{what}", make(run.run_id, what))
        index.setdefault(slug, {})[row.anchor] = run.run_id
    if not files:
        raise SeqbenchError(
            f"no run of {records} that counts has a checkpoint: give the folder that they were trained in"
        )
    old = {path for path in (out / FOLDER).glob("*") if path.suffix in ENDINGS and path.name not in files}
    stay = {path for path in old if path.stem in kept}
    if (size := sum(map(len, files.values())) + sum(path.stat().st_size for path in stay)) > LARGEST:
        raise SeqbenchError(f"The samples have {size:,} bytes, more than {LARGEST:,}: give fewer --seconds")
    files[INDEX] = json.dumps(index, indent=1, sort_keys=True).encode()
    for path in old - stay:
        path.unlink()
    for name, content in files.items():
        write_file(out / FOLDER / name, content)
    return told


def _wanted(board: Board) -> Iterator[tuple[str, Row, Record]]:
    for table in board.tables:
        for row in table.units:
            if (run := best_run(row)) is not None:
                yield table.slug, row, run


def _add(files: dict[str, bytes], stem: str, made: dict[str, bytes]) -> int:
    """The bytes that were added."""
    files |= {f"{stem}.{ending}": content for ending, content in made.items()}
    return sum(map(len, made.values()))
