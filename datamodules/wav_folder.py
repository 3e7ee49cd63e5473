"""Any folder of recordings as a speech set.

The set is what the files hold: its digest is over the sha256 of every file, kept in the cache beside size and time of
modification, so that only what has changed is read again.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from seqbench.datamodules.archives import content_digest
from seqbench.datamodules.audio import Recording
from seqbench.datamodules.base import SPLITS, Split
from seqbench.datamodules.fetch import writable_cache
from seqbench.datamodules.speech import Speech
from seqbench.files import cache_folder, write_file
from seqbench.task import SeqbenchError

SUFFIXES = {".wav", ".flac", ".ogg"}


class WavFolder(Speech):
    """All WAV, FLAC and OGG files below a folder, hidden ones left out.

    The split is drawn by hash of the files' content, so copies of a file are never in two splits.

    Args:
        root: The folder.
        files: A text file with the splits instead: a line a recording, `train NAME`, `valid NAME` or `test NAME`, its
            name as seen from the folder; recordings without a line are left out.
        **options: As in Speech.

    Raises:
        SeqbenchError: as in Speech; `task` raises it where the folder or the list cannot be used.
    """

    name = "wav_folder"
    title = "A folder of recordings"
    origin = "your own, --data.root DIR; as many sequences as there are"
    corpus_rate = 8000
    places = ("root", "files")

    def __init__(self, root: str = "", files: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.root, self.files = Path(root).expanduser() if root else None, files

    @property
    def content(self) -> str:
        return self._scanned[0]

    def recordings(self) -> list[Recording]:
        return self._scanned[1]

    @cached_property
    def _scanned(self) -> tuple[str, list[Recording]]:
        """The digest and the recordings, from all files' names and content."""
        if self.root is None or not self.root.is_dir():
            raise SeqbenchError(f"root is {str(self.root or '')!r}, no folder: give your recordings as --data.root DIR")
        listed = _read_list(Path(self.files).expanduser()) if self.files else {}
        hashes = _hashes(self.root)
        if missing := sorted(listed.keys() - hashes.keys()):
            raise SeqbenchError(f"{self.files} names {missing[0]}, which is no recording below {self.root}: correct it")
        hashes = {name: value for name, value in hashes.items() if not listed or name in listed}
        if not hashes:
            raise SeqbenchError(f"{self.root} has no WAV, FLAC or OGG files: give --data.root another folder")
        _refuse_copies(hashes, listed)
        splits = content_digest({name: f"{listed.get(name)} {value}" for name, value in hashes.items()})
        found = [Recording(name, self.root / name, "", listed.get(name), value) for name, value in hashes.items()]
        return splits, found


def _read_list(path: Path) -> dict[str, Split]:
    """Each listed recording's split."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SeqbenchError(f"cannot read {path} ({error}): give --data.files another list") from error
    listed: dict[str, Split] = {}
    for number, line in enumerate(lines, 1):
        split, _, name = line.strip().partition(" ")
        name = name.strip()
        if not line.strip():
            continue
        if split not in SPLITS or not name or name in listed:
            raise SeqbenchError(
                f"{path}, line {number}: {line.strip()[:60]!r}: write `train|valid|test NAME`, each once"
            )
        listed[name] = split
    return listed


def _refuse_copies(hashes: dict[str, str], listed: dict[str, Split]) -> None:
    """A list may not put copies of one recording into two splits."""
    first: dict[str, str] = {}
    for name, split in listed.items():
        other = first.setdefault(hashes[name], name)
        if listed[other] != split:
            raise SeqbenchError(f"{other} and {name} are the same recording in two splits: list one of them")


def _hashes(root: Path) -> dict[str, str]:
    """The sha256 of every recording by its name as seen from the folder, in the order of names."""
    names = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    folder = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    memory = cache_folder() / "speech" / f"hashes-{folder}.json"
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}  # a first look, or a file that was cut short: everything is read
    found = {}
    for name in names:
        state = (root / name).stat()
        entry = known.get(name)
        if entry is None or entry[:2] != [state.st_size, state.st_mtime_ns]:
            entry = [state.st_size, state.st_mtime_ns, _hash(root / name)]
        found[name] = entry
    if found != known:
        writable_cache("speech")
        write_file(memory, json.dumps(found).encode())
    return {name: entry[2] for name, entry in found.items()}


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SeqbenchError(f"{path}: cannot be read ({error.strerror}); make it readable or move it away") from error
