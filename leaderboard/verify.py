"""`seqbench leaderboard verify`: whether records can be believed.

What a record says twice must agree, what follows from something else must follow, records of a table must agree, and
nothing may have changed since it was submitted: SHA256SUMS beside the records, as sha256sum writes and checks it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from seqbench.leaderboard import history
from seqbench.leaderboard.agreement import disagreements, envelope, settings
from seqbench.leaderboard.bar import with_progress
from seqbench.leaderboard.board import Source, assemble, common_floors, same_sequences, table_key, unique
from seqbench.leaderboard.build import read_one
from seqbench.leaderboard.checks import Check, Problem, problems
from seqbench.leaderboard.history import SUMS, WEIGHTS
from seqbench.leaderboard.rows import clean
from seqbench.record import Record, below
from seqbench.task import SeqbenchError

NOT_AUDITED = "classes, data and parameter counts were not held against the code, as torch is missing"
LARGEST = 100_000  # bytes; 500 epochs make 28,000, six counts of 2,000 sentences 83,000


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or that a reader of sound records must know.

    Attributes:
        file: where, below the folder of records; "" where two files contradict each other, which `problem` names.
        field: dotted; "" for the whole file.
        problem: what is wrong.
        note: nothing is wrong.
    """

    file: str
    field: str
    problem: str
    note: bool = False

    def __str__(self) -> str:
        return clean(": ".join(part for part in ("note" * self.note, self.file, self.field, self.problem) if part))


def verify(records: Path, audit: Sequence[Check], since: str | None = None) -> list[Finding]:
    """All that is wrong with a folder of records, and then the notes on it.

    Args:
        records: the folder. Where it has SHA256SUMS all records in it are published ones, and else those that lie in it
            by their run's name: their sums must be there, their commits in the repository, their runs at their end.
        since: a commit; what was published there must be as it was.
        audit: the checks against the code of units and data; none where that cannot be loaded, which a note tells.

    Raises:
        SeqbenchError: there are none, or no such commit.
    """
    sums = read_sums(records)
    before = history.published(records, since) if since else {}
    findings, sources = [], []
    paths = below(records)
    public = {str(path.relative_to(records)) for path in paths if sums or path.name != "record.json"}
    if public and not sums:
        findings.append(Finding(SUMS, "", "is missing: restore it, no record was published without it"))
    for path in with_progress(paths, "verifying"):
        name = str(path.relative_to(records))
        try:
            record = read_one(path, records)
        except SeqbenchError as error:
            findings.append(_unreadable(name, str(error).removeprefix(f"{path}: ")))
            continue
        findings += [Finding(name, "", problem) for problem in (*too_large(path), *_changed(path, name, sums))]
        findings += [Finding(name, field, problem) for field, problem in problems(record, audit)]
        sources.append((name, _lean(record)))
        if (path.parent.name if path.name == "record.json" else path.stem) != record.run_id:
            findings.append(Finding(name, "run_id", f"{record.run_id} is not what the file is named after"))
    weights = sorted(records.glob(f"*{WEIGHTS}"))
    findings += [Finding(path.name, "", problem) for path in weights for problem in _beside(path, sums)]
    gone = sorted(sums.keys() - {str(path.relative_to(records)) for path in (*paths, *weights)})
    findings += [Finding(name, "", f"is gone, though {SUMS} has it") for name in gone]
    told = [*history.kept(before, sums, since or ""), *disagreements(sources)]
    own = [source for source in sources if source[0] in public]
    told += by_repository(records, own)
    told += [(name, field, problem) for name, record in own for field, problem in not_public(record)]
    findings += [Finding(*one) for one in told] + together(sources) + of_units(sources)
    findings += [Finding(*one, note=True) for one in envelope(sources)]
    return findings if audit else [*findings, Finding("", "", NOT_AUDITED, note=True)]


def _lean(record: Record) -> Record:
    """Without the parts of the curve that are held against no other record: of thousands they fill the memory."""
    curve = dataclasses.replace(record.curve, seconds=[], gradient=[], update=[], floored=[])
    return dataclasses.replace(record, curve=curve)


def by_repository(records: Path, public: Sequence[Source]) -> list[tuple[str, str, str]]:
    """What the repository contradicts of records in public: their protocols' configs, their commits, the code there."""
    return [*settings(public), *history.commits(records, public), *history.sources(records, public)]


def not_public(record: Record) -> Iterator[Problem]:
    """Why a run is none to be published, whatever its numbers."""
    commit = record.environment.commit
    if not commit:
        yield "environment.commit", "is not known: train within a clone of the repository"
    if commit.endswith("+"):
        yield "environment.commit", f"{commit} had uncommitted changes: commit them and train it again"
    if record.status in ("interrupted", "failed", "stopped"):
        yield "status", f"{record.status}: a run is published when it came to its end, well or badly"


def too_large(path: Path) -> Iterator[str]:
    """A problem where a record is larger than a repository should have thousands of."""
    if (size := path.stat().st_size) > LARGEST:
        yield f"has {size:,} bytes; a record stays below {LARGEST:,}"


def _changed(path: Path, name: str, sums: dict[str, str]) -> Iterator[str]:
    if sums and name not in sums:
        yield f"is not in {SUMS}: submit it by seqbench leaderboard submit"
    elif sums and sums[name] != _sha256(path):
        yield f"was changed after it was submitted: {SUMS} has another sha256"


def _beside(path: Path, sums: dict[str, str]) -> Iterator[str]:
    """What is wrong with a file of weights; whether they have their record's score is `--score`'s to say."""
    yield from _changed(path, path.name, sums)
    if not path.with_suffix(".json").is_file():
        yield "lies beside no record of its name"


def _unreadable(name: str, problem: str) -> Finding:
    """The finding of a record that cannot be read; the reader's message begins with the field, where it knows it."""
    field, colon, rest = problem.partition(": ")
    known = colon and re.fullmatch(r"record[\w.\[\]]*", field)
    return Finding(name, field.removeprefix("record").strip("."), rest) if known else Finding(name, "", problem)


def read_sums(records: Path) -> dict[str, str]:
    """File name -> sha256; empty where the folder has no SHA256SUMS.

    Raises:
        SeqbenchError: it is no text.
    """
    path = records / SUMS
    if not path.is_file():
        return {}
    try:
        return history.parsed(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SeqbenchError(f"{path} cannot be read ({error}): restore it") from error


def add_sums(records: Path, names: Sequence[str]) -> None:
    """Adds these files to SHA256SUMS."""
    write_sums(records, read_sums(records) | {name: _sha256(records / name) for name in names})


def write_sums(records: Path, sums: dict[str, str]) -> None:
    """SHA256SUMS, in the order of names."""
    text = "".join(f"{told}  {name}\n" for name, told in sorted(sums.items()))
    (records / SUMS).write_text(text, encoding="utf-8")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def together(sources: Sequence[Source]) -> list[Finding]:
    """Where records contradict each other: one run twice, floors, test sequences, digests of one data set."""
    findings = []
    first: dict[str, str] = {}
    for name, record in sources:
        if first.setdefault(record.run_id, name) != name:
            findings.append(Finding(name, "run_id", f"{record.run_id} is also in {first[record.run_id]}"))
    tables, states = defaultdict(list), defaultdict(list)
    for name, record in sources:
        tables[table_key(record)].append((name, record))
        options = json.dumps(record.config["data"], sort_keys=True)
        states[record.task.name, options].append((name, record.task.digest))
    for members in tables.values():
        for check, field in ((common_floors, "floors"), (same_sequences, "test.frames")):
            try:
                check(members)
            except SeqbenchError as error:
                findings.append(Finding("", field, str(error)))
    for digests in states.values():
        usual, _ = Counter(digest for _, digest in digests).most_common(1)[0]
        for name, digest in digests:
            if digest != usual:
                findings.append(
                    Finding(name, "task.digest", f"{digest}, but other runs with the same data config have {usual}")
                )
    return findings


def of_units(sources: Sequence[Source]) -> list[Finding]:
    """Rows that lack seeds or rates which others of their table have, and notes: the marks that rows have on the board.

    Nothing where records contradict each other.
    """
    try:
        board = assemble(unique(sources))
    except SeqbenchError:
        return []  # told by `together`
    files = {record.run_id: name for name, record in sources}
    lacking, notes = [], []
    for table in board.tables:
        for row in table.units:
            name, file = f"{row.name} of {table.heading}", files[row.runs[0].run_id]
            lacking += [Finding(file, "seed, rate", f"{name} is incomplete: {what}") for what in row.missing]
            notes += [Finding("", "", f"{name}: {mark}", note=True) for mark in row.marks]
    return lacking + notes
