"""`seqbench leaderboard submit RUN_DIR`: takes finished work into the folder of published records."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from seqbench.files import write_file
from seqbench.leaderboard.agreement import disagreements, settings
from seqbench.leaderboard.board import assemble
from seqbench.leaderboard.build import find, read, read_one
from seqbench.leaderboard.checks import Check, Problem, problems
from seqbench.leaderboard.diff import Change, changes
from seqbench.leaderboard.verify import Finding, add_sums, read_sums, together, too_large, write_sums
from seqbench.record import Record
from seqbench.task import SeqbenchError


def submit(run_dir: Path, records: Path, audit: Sequence[Check], dry_run: bool = False) -> list[Change]:
    """Copies the records of a run, or of all runs below a folder (a sweep), once all of them are sound.

    Args:
        run_dir: a run's folder, or one above several.
        records: the folder of published records; what is new gets a line in its SHA256SUMS.
        audit: the checks against the code of units and data.
        dry_run: only say what would change; nothing is written.

    Returns:
        What changes on the board.

    Raises:
        SeqbenchError: a record is not sound, contradicts one that is published, was made by uncommitted code, or never
            came to its end; nothing is copied then.
    """
    paths = offered_paths(run_dir)
    offered = [(str(path), read_one(path, run_dir)) for path in paths]
    published = read(records) if any(records.glob("*.json")) else []
    known = {record.run_id: record for _, record in published}
    findings = [
        Finding(name, field, what)
        for name, record in offered
        for field, what in (*problems(record, audit), *_refusals(record, known))
    ]
    findings += [Finding(str(path), "", what) for path in paths for what in too_large(path)]
    new = [(name, record) for name, record in offered if record.run_id not in known]
    if not findings:
        told = [*settings(new), *disagreements([*published, *new])]
        names = {name for name, _ in new}
        findings = [*together([*published, *new]), *(Finding(*one) for one in told if one[0] in names)]
    if findings:
        more = f" ({len(findings) - 1} more findings)" if len(findings) > 1 else ""
        raise SeqbenchError(f"not submitted: {findings[0]}{more}")
    for name, record in () if dry_run else new:
        write_file(records / f"{record.run_id}.json", Path(name).read_bytes())
    if not dry_run:
        add_sums(records, [f"{record.run_id}.json" for _, record in new])
    return changes(assemble(published), assemble([*published, *new]))


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
    for name in names:
        (records / name).unlink()
    write_sums(records, {name: told for name, told in read_sums(records).items() if name not in names})
    return changes(assemble(before), assemble([source for source in before if source[0] not in names]))


def offered_paths(run_dir: Path) -> list[Path]:
    """The record of a run, or those of all runs below a folder."""
    return [run_dir / "record.json"] if (run_dir / "record.json").is_file() else find(run_dir)


def _refusals(record: Record, known: dict[str, Record]) -> Iterator[Problem]:
    commit = record.environment.commit
    if not commit:
        yield "environment.commit", "is not known: train within a clone of the repository"
    if commit.endswith("+"):
        yield "environment.commit", f"{commit} had uncommitted changes: commit them and train it again"
    if record.status in ("interrupted", "failed", "stopped"):
        yield "status", f"{record.status}: a run is published when it came to its end, well or badly"
    if known.get(record.run_id, record) != record:
        yield "run_id", f"{record.run_id} is published already with other numbers"
