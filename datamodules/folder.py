"""Folders of the user's own files: which files are in them, and which split each is in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from seqbench.datamodules.base import SPLITS, Split
from seqbench.task import SeqbenchError

TOLD = 700  # characters of one line of a mistake that names files


def find_files(
    root: Path | None,
    suffixes: Collection[str],
    what: str,
    others: Collection[str] = (),
    unusable: dict[str, str] | None = None,
) -> list[str]:
    """All files below a folder with these endings, by name as seen from there, in order; links are followed.

    Hidden files and folders, and those that macOS leaves in archives, are none.

    Args:
        root: The folder.
        suffixes: In small letters, with the dot.
        what: What they are called.
        others: Endings of files of the same kind that cannot be read.
        unusable: Where names that are not UTF-8 and links to nothing are put, with the reason; None: they are refused.

    Raises:
        SeqbenchError: no such folder, no files, one of `others`, a name that is not UTF-8, a link to nothing, or a
            folder that cannot be read.
    """
    if root is None or not root.is_dir():
        seen = "" if root is None or root.is_absolute() else f" in {Path.cwd()}"
        raise SeqbenchError(f"root is {str(root or '')!r}, no folder{seen}: give your {what} as --data.root DIR")
    found, other = [], []
    bad = {} if unusable is None else unusable
    for path in _walk(root):
        name = path.relative_to(root).as_posix()
        ending = path.suffix.lower()
        if ending in others:
            other.append(name)
        if ending not in suffixes:
            continue
        if "\n" in name or name.encode(errors="replace").decode() != name:
            bad[repr(os.fsencode(name))[2:-1]] = "its name is not a line of UTF-8: rename it"
        elif path.is_file():
            found.append(name)
        elif path.is_symlink():
            bad[name] = "is a link to nothing: mend or remove it"
    if bad and (unusable is None or not found):
        raise SeqbenchError(f"{root} cannot be used: {listed(bad)}")
    if other:
        raise SeqbenchError(
            f"{root} has {len(other)} {what} that cannot be read, {other[0]!a} the first: convert them to one of "
            f"{', '.join(sorted(suffixes))}, move them away, or name those to take in --data.files"
        )
    if not found:
        raise SeqbenchError(f"{root} has no {what} ({', '.join(sorted(suffixes))}): give --data.root another folder")
    return sorted(found)


def _walk(root: Path) -> Iterable[Path]:
    """All that is no folder below `root`; a folder that several links lead to is seen once."""

    def unreadable(error: OSError) -> None:
        raise SeqbenchError(f"{error.filename}: cannot be read ({error.strerror}): make it readable or move it away")

    seen = set()
    for place, folders, files in os.walk(root, followlinks=True, onerror=unreadable):
        state = os.stat(place)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        yield from (Path(place) / name for name in files if not name.startswith("."))


def listed(bad: Mapping[str, str]) -> str:
    """Files and what is wrong with each, as many as a line can tell, and how many there are."""
    told = ""
    for count, (name, reason) in enumerate(bad.items()):
        if len(told) + len(name) + len(reason) > TOLD:
            return f"{told}and {len(bad) - count} more"
        told += f"{name} ({reason}); "
    return told.removesuffix("; ")


def read_list(path: Path) -> dict[str, Split]:
    """Each listed file's split: lines `train NAME`, `valid NAME` or `test NAME`, empty ones between.

    Raises:
        SeqbenchError: it cannot be read, names no file, or a line is something else, or names a file again.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SeqbenchError(f"cannot read {path} ({error}): give --data.files another list") from error
    found: dict[str, Split] = {}
    for number, line in enumerate(lines, 1):
        split, _, name = line.strip().partition(" ")
        name = name.strip()
        if not line.strip():
            continue
        if split not in SPLITS or not name or name in found:
            raise SeqbenchError(
                f"{path}, line {number}: {line.strip()[:60]!r}: write `train|valid|test NAME`, each once"
            )
        found[name] = split
    if not found:
        raise SeqbenchError(f"{path} names no file: write lines `train|valid|test NAME`, or leave out --data.files")
    return found


def refuse_copies(hashes: Mapping[str, str], splits: Mapping[str, Split]) -> None:
    """A list may not put copies of one file into two splits.

    Raises:
        SeqbenchError: it does.
    """
    first: dict[str, str] = {}
    for name, split in splits.items():
        other = first.setdefault(hashes[name], name)
        if splits[other] != split:
            raise SeqbenchError(f"{other} and {name} are the same file in two splits: list one of them")


def draw_splits(groups: Iterable[str], what: str) -> dict[str, Split]:
    """80/10/10 per cent of different groups in train, valid and test, drawn by their hash.

    Raises:
        SeqbenchError: there are fewer than three.
    """
    drawn = sorted(set(groups), key=lambda group: hashlib.sha256(group.encode()).digest())
    if len(drawn) < 3:
        raise SeqbenchError(f"{len(drawn)} different {what}s known, three splits need 3: add some, or split otherwise")
    tenth = max(1, round(len(drawn) / 10))
    place: dict[str, Split] = dict.fromkeys(drawn, "train")
    place |= dict.fromkeys(drawn[:tenth], "test")
    place |= dict.fromkeys(drawn[tenth : 2 * tenth], "valid")
    return place


def refuse_empty(splits: Mapping[Split, Collection[object]], what: str) -> None:
    """Every split has something.

    Raises:
        SeqbenchError: one has nothing.
    """
    if empty := [split for split in SPLITS if not splits[split]]:
        raise SeqbenchError(f"the {empty[0]} split has no {what}s: give it some")
