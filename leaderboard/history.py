"""What a repository's history says of records: their commits are in it, and what was published is as it was."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from seqbench.leaderboard.board import Source
from seqbench.task import SeqbenchError

SUMS = "SHA256SUMS"
WEIGHTS = ".npy"  # of a file with a run's best weights, beside its record
COMMIT = re.compile(r"[0-9a-f]{7,64}")
Told = Iterator[tuple[str, str, str]]  # file, field, what is wrong


def commits(records: Path, sources: Sequence[Source]) -> Told:
    """Published records whose commit is not in the repository that they lie in; nothing where that cannot be told."""
    if _git(records, "rev-parse", "--is-shallow-repository") != "false":
        return
    given = {record.environment.commit for _, record in sources}
    named = sorted(commit for commit in given if COMMIT.fullmatch(commit))  # a line each, and no option of git's
    asked = "".join(f"{commit}^{{commit}}\n" for commit in named)
    answers = (_git(records, "cat-file", "--batch-check", given=asked) or "").splitlines()
    missing = {commit for commit, answer in zip(named, answers, strict=False) if answer.endswith("missing")}
    unknown = missing | given.difference(named)
    for name, record in sources:
        if record.environment.commit in unknown:
            yield name, "environment.commit", f"{record.environment.commit!r:.50} is no commit of this repository"


def sources(records: Path, known: Sequence[Source]) -> Told:
    """Published records whose digests of the suite's code, and of the unit's file, are not those of their commit; as
    `seqbench fit` makes them (train/provenance.py). Nothing where the repository is none of the suite's.
    """
    top = _git(records, "rev-parse", "--show-toplevel")
    if top is None or not COMMIT.fullmatch(_git(records, "rev-parse", "HEAD") or ""):
        return
    code: dict[str, dict[PurePosixPath, bytes]] = {}
    for name, record in known:
        commit, told = record.environment.commit, record.environment.sources
        if commit not in code:
            code[commit] = _code(Path(top), commit) if COMMIT.fullmatch(commit) else {}
        files = code[commit]
        if not files:  # told by `commits`
            continue
        if (suite := _digest(files[path] for path in sorted(files))) != told.get("suite"):
            yield name, "environment.sources.suite", f"{told.get('suite')}, but the code of {commit} has {suite}"
        defined = re.compile(rb"^class %s\b" % re.escape(record.cell.name).encode(), re.MULTILINE)
        own = {_digest([text]) for path, text in files.items() if "cells" in path.parts and defined.search(text)}
        if own and told.get("unit") not in own:
            yield (
                name,
                "environment.sources.unit",
                f"{told.get('unit')}, but {record.cell.name} has {min(own)} at {commit}",
            )


def _code(top: Path, commit: str) -> dict[PurePosixPath, bytes]:
    """What decides numbers at a commit: the package's files as they lie in a checkout, in which data sets are linked
    into it, but not at the first commits with records.
    """
    listed = (_git(top, "ls-tree", "-r", commit, "seqbench", "datamodules") or "").splitlines()
    linked = any(line.endswith("\tseqbench/datamodules") for line in listed)
    blobs = {}
    for line in listed:
        about, _, path = line.partition("\t")
        place = PurePosixPath("seqbench" if linked and path.startswith("datamodules/") else "", path)
        if place.suffix == ".py" and "leaderboard" not in place.parts:
            blobs[place] = about.split()[2]
    asked = "".join(f"{blob}\n" for blob in blobs.values()).encode()
    done = subprocess.run(
        ["git", "-C", str(top), "cat-file", "--batch"], input=asked, capture_output=True, check=False, timeout=60
    )
    found, stream = {}, io.BytesIO(done.stdout)
    for place in blobs:
        size = int(stream.readline().split()[2])
        found[place] = stream.read(size)
        stream.read(1)
    return found


def _digest(texts: Iterable[bytes]) -> str:
    content = hashlib.sha256()
    for text in texts:
        content.update(text)
    return content.hexdigest()[:12]


def published(records: Path, since: str) -> dict[str, str]:
    """SHA256SUMS as they were at a commit: file name -> sha256; empty where none were there yet.

    Raises:
        SeqbenchError: no such commit, or no repository.
    """
    if _git(records, "rev-parse", "--verify", "--quiet", f"{since}^{{commit}}") is None:
        raise SeqbenchError(
            f"{since} is no commit of the repository of {records}: fetch it, or give another to --since"
        )
    text = _git(records, "show", f"{since}:./{SUMS}") or ""
    return parsed(text)


def committed(records: Path) -> dict[str, str]:
    """SHA256SUMS as they are in the last commit: file name -> sha256; empty where there is none."""
    return parsed(_git(records, "show", f"HEAD:./{SUMS}") or "")


def parsed(text: str) -> dict[str, str]:
    """File name -> sha256, of the lines that sha256sum writes."""
    return {name: told for told, _, name in (line.partition("  ") for line in text.splitlines())}


def kept(before: dict[str, str], now: dict[str, str], since: str) -> Told:
    """What was published at a commit and is not as it was."""
    for name, told in sorted(before.items()):
        if name not in now:
            yield name, "", f"was published at {since} and is gone: records are only added"
        elif now[name] != told:
            yield name, "", f"was published at {since} with other contents: records are only added"


def _git(folder: Path, *words: str, given: str = "") -> str | None:
    """What git says of a folder; None where it says nothing or is not there."""
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=60)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
