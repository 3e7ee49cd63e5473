"""`seqbench leaderboard build`: reads records, writes the board. The files are a pure function of the records."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from leaderboard.board import Board, Source, assemble
from seqbench.record import Record, load
from seqbench.task import SeqbenchError

MARK = "<!-- made by seqbench leaderboard build from the records; edits are lost -->\n"
PATIENCE = 2.0  # seconds before a progress bar is worth a line


def build(records: Path, out: Path, check: bool = False) -> Board:
    """Writes README.md, index.html, leaderboard.csv and figures/ into `out`; leaves alone what has not changed.

    Args:
        records: a folder with records: `*.json` in it, `record.json` at any depth.
        out: made if it is not there.
        check: write nothing, and raise if anything would be written.

    Raises:
        SeqbenchError: no records, or one that cannot be read; two that contradict each other; with `check`, a file that
            is missing, stale or left over; `out` cannot be written.
    """
    board = assemble(read(records))
    files = render(board)
    changed = compare(files, out)
    if check and changed:
        raise SeqbenchError(
            f"{out} does not follow from {records}: {', '.join(changed)}; run seqbench leaderboard build"
        )
    try:
        for name in changed:
            path = out / name
            if name in files:
                _replace(path, files[name])
            else:
                path.unlink()
    except OSError as error:
        raise SeqbenchError(f"cannot write the leaderboard: {error}; choose another folder with --out") from error
    return board


def read(folder: Path) -> list[Source]:
    """All records under a folder, each with its path there. Linked folders are not entered.

    Raises:
        SeqbenchError: nothing there; a file that is no record, or a link out of the folder.
    """
    paths = find(folder)
    if not paths:
        raise SeqbenchError(f"no records in {folder}: train something first: make run")
    sources = []
    for path in _with_progress(paths):
        if not path.resolve().is_relative_to(folder.resolve()):
            raise SeqbenchError(f"{path} is a link out of {folder}: copy the record there instead")
        sources.append((str(path.relative_to(folder)), _checked(path)))
    return sources


def find(folder: Path) -> list[Path]:
    """Paths of `*.json` in the folder itself and of `record.json` at any depth, sorted."""
    found = list(folder.glob("*.json"))
    for inner, _, names in os.walk(folder):
        if "record.json" in names and Path(inner) != folder:
            found.append(Path(inner, "record.json"))
    return sorted(found)


def _checked(path: Path) -> Record:
    """The record, if its parts fit each other."""
    record = load(path)
    curve = record.curve
    if len({len(values) for values in vars(curve).values()}) > 1:
        raise SeqbenchError(f"{path}: the curve's lists differ in length: train that run again")
    if record.best_epoch is not None and record.best_epoch not in curve.epoch:
        raise SeqbenchError(f"{path}: the best epoch is not in the curve: train that run again")
    return record


def _with_progress(paths: Sequence[Path]) -> Iterator[Path]:
    """The paths, with a bar on stderr once it takes long."""
    started = time.monotonic()
    with ExitStack() as stack:
        advance = None
        for done, path in enumerate(paths):
            if advance is None and time.monotonic() - started > PATIENCE:
                from rich.console import Console
                from rich.progress import Progress

                bar = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
                line = bar.add_task("reading records", total=len(paths), completed=done)
                advance = (bar, line)
            yield path
            if advance is not None:
                advance[0].advance(advance[1])


def render(board: Board) -> dict[str, bytes]:
    """All generated files, by path under the output folder."""
    from leaderboard import figures, page

    drawn = figures.draw(board)
    texts = {
        "README.md": MARK + page.markdown(board, set(drawn)),
        "index.html": page.html(board, drawn),
        "leaderboard.csv": page.csv_text(board),
    }
    for name, svg in drawn.items():
        texts[f"figures/{name}.svg"] = MARK + figures.standalone(svg)
    return {name: text.encode() for name, text in texts.items()}


def compare(files: dict[str, bytes], out: Path) -> list[str]:
    """Names of the files in `out` that are missing, differ, or were drawn for a data set that is gone."""
    differing = [name for name, content in files.items() if not _holds(out / name, content)]
    left_over = [
        f"figures/{path.name}"
        for path in out.glob("figures/*.svg")
        if f"figures/{path.name}" not in files and path.read_bytes().startswith(MARK.encode())
    ]
    return sorted(differing + left_over)


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _replace(path: Path, content: bytes) -> None:
    """Writes in one stroke: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
