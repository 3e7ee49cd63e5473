"""What a repository's history says of records: their commits are in it, and what was published is as it was."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

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
