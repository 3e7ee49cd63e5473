"""Any folder of recordings as a speech set.

The set is what the files hold: its digest is over the sha256 of every file, kept in the cache beside size and time of
modification, so that only what has changed is read again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from seqbench.datamodules.archives import content_digest
from seqbench.datamodules.audio import AudioError, Recording, own_rate, refuse
from seqbench.datamodules.fetch import writable_cache
from seqbench.datamodules.folder import find_files, read_list, refuse_copies
from seqbench.datamodules.speech import Speech
from seqbench.files import cache_folder, write_file
from seqbench.task import SeqbenchError

SUFFIXES = {".wav", ".flac", ".ogg", ".oga", ".opus", ".aif", ".aiff"}
OTHERS = {
    ".mp3",
    ".m4a",
    ".mp4",
    ".aac",
    ".wma",
    ".mp2",
    ".webm",
    ".amr",
    ".ape",
    ".au",
    ".caf",
    ".w64",
    ".sph",
    ".rf64",
}


class WavFolder(Speech):
    """All WAV, AIFF, FLAC and Ogg files below a folder, hidden ones left out.

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
    places = ("root", "files")

    def __init__(self, root: str = "", files: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.root, self.files = Path(root).expanduser() if root else None, files

    @property
    def content(self) -> str:
        return self._scanned[0]

    @property
    def sample_rate(self) -> int:
        rates = Counter(self._scanned[2])
        if self.asked_rate is not None:
            return self.asked_rate
        if len(rates) > 1:
            told = ", ".join(f"{rate} Hz ({count})" for rate, count in sorted(rates.items()))
            raise SeqbenchError(f"{self.root} has recordings of {told}: give one rate for all as --data.sample_rate HZ")
        return next(iter(rates))

    def recordings(self) -> list[Recording]:
        return self._scanned[1]

    def report(self) -> dict[str, Any]:
        """files, minutes and sample_rate (Hz)."""
        samples = sum(len(waves.samples) for waves in self.splits.values())
        minutes = round(samples / self.sample_rate / 60, 2)
        return {"files": len(self.recordings()), "minutes": minutes, "sample_rate": self.sample_rate}

    @cached_property
    def _scanned(self) -> tuple[str, list[Recording], list[int]]:
        """The digest, from all files' names and content, the recordings, and their own sample rates in Hz."""
        names = find_files(self.root, SUFFIXES, "recordings", () if self.files else OTHERS)
        assert self.root is not None, "it was looked into"
        if self.files and self.split != "corpus":
            raise SeqbenchError(f"--data.files has the splits already: leave out --data.split {self.split}")
        splits = read_list(Path(self.files).expanduser()) if self.files else {}
        if missing := sorted(splits.keys() - set(names)):
            raise SeqbenchError(f"{self.files} names {missing[0]}, which is no recording below {self.root}: correct it")
        looks = _looks(self.root, [name for name in names if not splits or name in splits])
        refuse({f"{self.root / name}": AudioError(look.bad) for name, look in looks.items() if look.bad})
        refuse_copies({name: look.sha256 for name, look in looks.items()}, splits)
        content = content_digest({name: f"{splits.get(name)} {look.sha256}" for name, look in looks.items()})
        found = [Recording(name, self.root / name, "", splits.get(name), look.sha256) for name, look in looks.items()]
        return content, found, [look.rate for look in looks.values()]


class _Look(NamedTuple):
    """What is remembered of a file: its size and time of modification, and what it was found to be."""

    size: int
    modified: int  # nanoseconds
    sha256: str
    rate: int  # Hz
    bad: str  # why it is refused, or ""


def _looks(root: Path, names: list[str]) -> dict[str, _Look]:
    """Each recording looked at, by its name as seen from the folder, in order; what has not changed is remembered."""
    folder = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    memory = cache_folder() / "speech" / f"hashes-{folder}.json"
    try:
        known = {name: _Look(*look) for name, look in json.loads(memory.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        known = {}  # a first look, or a file that was cut short or is an older version's: everything is read
    found = {}
    for name in names:
        state = (root / name).stat()
        look = known.get(name)
        if look is None or (look.size, look.modified) != (state.st_size, state.st_mtime_ns):
            look = _Look(state.st_size, state.st_mtime_ns, _hash(root / name), *_header(root / name))
        found[name] = look
    if any(known.get(name) != look for name, look in found.items()):
        writable_cache("speech")
        write_file(memory, json.dumps(known | found).encode())
    return found


def _header(path: Path) -> tuple[int, str]:
    """A file's sample rate in Hz, and why it is refused."""
    try:
        return own_rate(Recording(path.name, path, "", None, "")), ""
    except AudioError as error:
        return 0, str(error)


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SeqbenchError(f"{path}: cannot be read ({error.strerror}); make it readable or move it away") from error
