"""`seqbench leaderboard build`: reads records, writes the board.

The files are a pure function of the records, and of which samples lie beside the board (leaderboard/samples.py).
"""

from __future__ import annotations

import gc
import os
from pathlib import Path
from urllib.parse import quote

from seqbench.files import write_file
from seqbench.leaderboard import samples
from seqbench.leaderboard.bar import with_progress
from seqbench.leaderboard.board import Source, assemble
from seqbench.leaderboard.rows import Board
from seqbench.record import Record, below, load
from seqbench.task import SeqbenchError

BESIDE = "../README.md"
MARK = "<!-- made by seqbench leaderboard build from the records; edits are lost -->\n"


def build(records: Path, out: Path, check: bool = False) -> Board:
    """Writes README.md, index.html, leaderboard.csv and figures/ into `out`; leaves alone what has not changed.

    A README.md beside `out` gets what it asks for (leaderboard/readme.py). A record that cannot be read is
    left out, and told of when the board of the others is written.

    Args:
        records: a folder with records: `*.json` in it, `record.json` at any depth.
        out: made if it is not there.
        check: write nothing, and raise if anything would be written.

    Raises:
        SeqbenchError: no records, or one that cannot be read; two that contradict each other; with `check`, a file that
            is missing, stale or left over; `out` cannot be written.
    """
    sources, unreadable = sift(records)
    if not sources:
        raise unreadable[0]
    gc.freeze()  # what was read stays to the end; thousands of records would be walked again and again
    board = assemble(sources)
    files = render(board, links(sources, records, out), samples.heard(board, out)) | _beside(board, out)
    changed = compare(files, out)
    if check and changed:
        raise SeqbenchError(
            f"{out} does not follow from {records}: {', '.join(changed)}; run seqbench leaderboard build"
        )
    try:
        for name in changed:
            path = _path(out, name)
            if name in files:
                write_file(path, files[name])
            else:
                path.unlink()
    except OSError as error:
        raise SeqbenchError(f"cannot write the leaderboard: {error}; choose another folder with --out") from error
    if unreadable:
        more = "".join(f"; {error}" for error in unreadable[1:3]) + (", ..." if len(unreadable) > 3 else "")
        raise SeqbenchError(f"{len(unreadable)} of {len(below(records))} records left out: {unreadable[0]}{more}")
    return board


def read(folder: Path) -> list[Source]:
    """All records under a folder, each with its path there.

    Raises:
        SeqbenchError: nothing there; a file that is no record, or a link out of the folder.
    """
    sources, unreadable = sift(folder)
    if unreadable:
        raise unreadable[0]
    return sources


def sift(folder: Path) -> tuple[list[Source], list[SeqbenchError]]:
    """All records under a folder, each with its path there, and why others cannot be read. Links to folders are left.

    Raises:
        SeqbenchError: nothing there.
    """
    sources, unreadable = [], []
    for path in with_progress(below(folder), "reading records"):
        try:
            sources.append((str(path.relative_to(folder)), read_one(path, folder)))
        except SeqbenchError as error:
            unreadable.append(error)
    return sources, unreadable


def read_one(path: Path, folder: Path) -> Record:
    """A record of a folder, if its parts fit each other so far that a board can be made of it.

    Raises:
        SeqbenchError: it is none, or a link out of the folder.
    """
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise SeqbenchError(f"{path} is a link out of {folder}: copy the record there instead")
    record = load(path)
    curve = record.curve
    lengths = {len(curve.seconds), len(curve.train), len(curve.valid), len(curve.gradient), len(curve.update)}
    if len(lengths | {len(curve.floored) or len(curve.valid)}) > 1:
        raise SeqbenchError(f"{path}: the curve's lists differ in length: train that run again")
    if record.best_epoch is not None and (curve.every < 1 or record.best_epoch not in curve.epoch):
        raise SeqbenchError(f"{path}: the best epoch is not in the curve: train that run again")
    return record


def links(sources: list[Source], records: Path, out: Path) -> dict[str, str]:
    """Run id -> its record's address, as seen from the page."""
    base = Path(os.path.relpath(records.resolve(), out.resolve()))
    return {record.run_id: quote((base / name).as_posix()) for name, record in sources}


def render(board: Board, links: dict[str, str], heard: dict[str, list[samples.Sample]]) -> dict[str, bytes]:
    """All generated files, by path under the output folder."""
    from seqbench.leaderboard import figures, markdown, page, plain

    drawn = figures.draw(board)
    texts = {
        "README.md": MARK + markdown.text(board, set(drawn)),
        "index.html": page.html(board, drawn, links, heard),
        "leaderboard.csv": plain.csv_text(board),
    }
    for name, svg in drawn.items():
        texts[f"figures/{name}.svg"] = MARK + figures.standalone(svg)
    return {name: text.encode() for name, text in texts.items()}


def _beside(board: Board, out: Path) -> dict[str, bytes]:
    """The README beside `out` with its places filled, where it has any."""
    from seqbench.leaderboard import readme

    path = _path(out, BESIDE)
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    return {BESIDE: readme.with_board(text, board, f"{out.name}/README.md").encode()}


def compare(files: dict[str, bytes], out: Path) -> list[str]:
    """Names of the files in `out` that are missing, differ, or were drawn for a data set that is gone."""
    differing = [name for name, content in files.items() if not _holds(_path(out, name), content)]
    left_over = [
        f"figures/{path.name}"
        for path in out.glob("figures/*.svg")
        if f"figures/{path.name}" not in files and path.read_bytes().startswith(MARK.encode())
    ]
    return sorted(differing + left_over)


def _path(out: Path, name: str) -> Path:
    return Path(os.path.normpath(out / name))


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content
