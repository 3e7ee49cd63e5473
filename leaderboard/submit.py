"""`seqbench leaderboard submit RUN_DIR`: takes finished work into the folder of published records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from seqbench.files import write_file
from seqbench.leaderboard.agreement import disagreements
from seqbench.leaderboard.board import assemble
from seqbench.leaderboard.build import read, read_one
from seqbench.leaderboard.checks import Check, Problem, problems
from seqbench.leaderboard.diff import Change, changes
from seqbench.leaderboard.history import SUMS, WEIGHTS
from seqbench.leaderboard.rows import Board
from seqbench.leaderboard.verify import (
    Finding,
    add_sums,
    by_repository,
    not_public,
    read_sums,
    together,
    too_large,
    write_sums,
)
from seqbench.record import Record, below
from seqbench.task import SeqbenchError

SMALL = 160_000  # bytes of weights: 40,000 of them
Weights = Callable[[Path], bytes | None]


@dataclass(frozen=True)
class Kept:
    """A file of best weights that is kept beside its record."""

    run_id: str
    weights: int

    def __str__(self) -> str:
        return f"kept: the best weights of {self.run_id}, {self.weights / 1000:.0f} kB"


def submit(
    run_dir: Path, records: Path, audit: Sequence[Check], dry_run: bool = False, weights: Weights | None = None
) -> list[Change | Kept]:
    """Copies the records of a run, or of all runs below a folder (a sweep), once all of them are sound.

    Args:
        run_dir: a run's folder, or one above several.
        records: the folder of published records; what is new gets a line in its SHA256SUMS.
        audit: the checks against the code of units and data.
        dry_run: only say what would change; nothing is written.
        weights: gives a file of a run's best weights, from its folder; those of one run a unit are kept beside its
            record, where they are small: that with the median test NLL of those that count. Of all runs they would be
            four times as large as the records. Runs that are published already bring theirs where none are kept.

    Returns:
        What changes on the board, and the weights that are kept.

    Raises:
        SeqbenchError: a record is not sound, contradicts one that is published, was made by uncommitted code, or never
            came to its end; nothing is copied then.
    """
    paths = offered_paths(run_dir)
    offered = [(str(path), read_one(path, run_dir)) for path in paths]
    published = read(records) if any(records.glob("*.json")) else []
    if published and not read_sums(records):
        raise SeqbenchError(f"{records / SUMS} is missing: restore it, no record was published without it")
    known = {record.run_id: record for _, record in published}
    findings = [
        Finding(name, field, what)
        for name, record in offered
        for field, what in (*problems(record, audit), *_refusals(record, known))
    ]
    findings += [Finding(str(path), "", what) for path in paths for what in too_large(path)]
    new = [(name, record) for name, record in offered if record.run_id not in known]
    if not findings:
        told = [*by_repository(records, new), *disagreements([*published, *new])]
        names = {name for name, _ in new}
        findings = [*together([*published, *new]), *(Finding(*one) for one in told if one[0] in names)]
    if findings:
        more = f" ({len(findings) - 1} more findings)" if len(findings) > 1 else ""
        raise SeqbenchError(f"not submitted: {findings[0]}{more}")
    board = assemble([*published, *new])
    folders = {record.run_id: Path(name).parent for name, record in offered}
    kept = {} if weights is None else _kept(board, records, folders, weights)
    if not dry_run:
        files = {f"{record.run_id}.json": Path(name).read_bytes() for name, record in new}
        files |= {f"{run_id}{WEIGHTS}": content for run_id, content in kept.items()}
        for name, content in files.items():
            write_file(records / name, content)
        add_sums(records, list(files))
    sizes = [Kept(run_id, len(content)) for run_id, content in kept.items()]
    return [*changes(assemble(published), board), *sizes]


def _kept(board: Board, records: Path, folders: dict[str, Path], weights: Weights) -> dict[str, bytes]:
    """The weights to be kept beside records, by run: of each unit that has none yet."""
    found = {}
    for row in (row for table in board.tables for row in table.units):
        if any((records / f"{run.run_id}{WEIGHTS}").is_file() for run in row.all_runs):
            continue
        tested = sorted((run.test.nll, run.run_id) for run in row.counted if run.test and run.run_id in folders)
        if tested:
            _, run_id = tested[(len(tested) - 1) // 2]
            content = weights(folders[run_id])
            if content is not None and len(content) <= SMALL:
                found[run_id] = content
    return found


def undo(run_dir: Path, records: Path, published: Collection[str]) -> list[Change]:
    """Takes back what `submit` of the same folder copied.

    Args:
        run_dir: as it was given to `submit`.
        records: the folder of published records.
        published: names of files that are in the repository's last commit: they stay.

    Returns:
        What changes on the board.

    Raises:
        SeqbenchError: one of the records is committed already, or is another than that of `run_dir`; all stay then.
    """
    before = read(records)
    here = {name: record for name, record in before if "/" not in name}
    names = []
    for path in offered_paths(run_dir):
        record = read_one(path, run_dir)
        name = f"{record.run_id}.json"
        if name in published:
            raise SeqbenchError(f"{name} is committed: take the commit back by git; what is merged stays")
        if here.get(name, record) != record:
            raise SeqbenchError(f"{name} is not what {path} has: remove it by hand if it shall go")
        names += [name] if name in here else []
    gone = [*names, *(f"{name.removesuffix('.json')}{WEIGHTS}" for name in names)]
    for name in gone:
        (records / name).unlink(missing_ok=True)
    write_sums(records, {name: told for name, told in read_sums(records).items() if name not in gone})
    return changes(assemble(before), assemble([source for source in before if source[0] not in names]))


def offered_paths(run_dir: Path) -> list[Path]:
    """The record of a run, or those of all runs below a folder."""
    return [run_dir / "record.json"] if (run_dir / "record.json").is_file() else below(run_dir)


def _refusals(record: Record, known: dict[str, Record]) -> Iterator[Problem]:
    yield from not_public(record)
    if known.get(record.run_id, record) != record:
        yield "run_id", f"{record.run_id} is published already with other numbers"
