"""Any folder of MIDI files as a music set.

By default the rolls are made by the rule of the literature's (see seqbench.datamodules.midi_rolls), so that figures can
be read beside its sets' and frames mean what they mean there. The set is what the files hold: its digest is over their
content, their splits and all options that shape the rolls.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqbench.datamodules.archives import content_digest
from seqbench.datamodules.base import SPLITS, Split
from seqbench.datamodules.folder import draw_splits, find_files, listed, read_list, refuse_copies, refuse_empty
from seqbench.datamodules.midi import MidiError, read
from seqbench.datamodules.midi_rolls import Roll, Roller, roll
from seqbench.datamodules.rolls import LOWEST_KEY, PianoRolls
from seqbench.task import SeqbenchError

SUFFIXES = {".mid", ".midi", ".kar"}
MOST_FRAMES = 96  # of a beat


class _File(NamedTuple):
    name: str
    sha256: str
    split: Split


class MidiFolder(PianoRolls):
    """All MIDI files below a folder (.mid, .midi, .kar), hidden ones left out.

    The split is drawn by hash of the files' content, 80/10/10 per cent, so copies of a file are never in two splits.

    Args:
        root: The folder.
        files: A text file with the splits instead: a line a file, `train NAME`, `valid NAME` or `test NAME`, its name
            as seen from the folder; files without a line are left out.
        roller: "canonical": as the literature's rolls were made; a frame is a part of a quarter note. "beats": a frame
            is a part of the beat that the time signature says, and no note is too short for one.
        frames_per_beat: Frames of a quarter note (canonical) or a beat (beats).
        transpose: Whether each piece is transposed as a whole, its key to C.
        drums: Whether channel 10 is taken as pitches.
        pedal: Whether the sustain pedal holds notes (beats alone).
        ticks_per_beat: Of a quarter note, where the files' headers are wrong or count SMPTE frames; None: the header's.
        skip_bad: Whether files that cannot be read, or have no notes, are left out; otherwise they are refused.
        **options: As in PianoRolls.

    Raises:
        SeqbenchError: as in PianoRolls, or options that cannot be; `task` raises it where the folder or the list cannot
            be used.
    """

    name = "midi_folder"
    title = "A folder of MIDI files"
    origin = "your own, --data.root DIR"
    places = ("root", "files")

    def __init__(
        self,
        root: str = "",
        files: str = "",
        roller: Literal["canonical", "beats"] = "canonical",
        frames_per_beat: int = 2,
        transpose: bool = True,
        drums: bool = False,
        pedal: bool = False,
        ticks_per_beat: int | None = None,
        skip_bad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if roller not in ("canonical", "beats"):
            raise SeqbenchError(f"roller is {roller!r}: give canonical or beats")
        if not 1 <= frames_per_beat <= MOST_FRAMES:
            raise SeqbenchError(f"frames_per_beat is {frames_per_beat}: give 1 to {MOST_FRAMES}")
        if ticks_per_beat is not None and not 1 <= ticks_per_beat < 2**15:
            raise SeqbenchError(f"ticks_per_beat is {ticks_per_beat}: give 1 to {2**15 - 1}, as a header could")
        if pedal and roller != "beats":
            raise SeqbenchError("the canonical roller heeds no pedal: add --data.roller beats or leave it out")
        self.root, self.files = Path(root).expanduser() if root else None, files
        self.roller: Roller = roller
        self.quarters = 1 / frames_per_beat  # a beat is heard as a quarter note, whatever the signature
        self.frames_per_beat, self.transpose, self.ticks_per_beat = frames_per_beat, transpose, ticks_per_beat
        self.drums, self.pedal, self.skip_bad = drums, pedal, skip_bad

    @cached_property
    def longest(self) -> int:  # type: ignore[override]  # of other sets known without their files
        return max(len(piece.frames) for pieces in self._pieces[0].values() for piece in pieces)

    @property
    def digest(self) -> str:
        content = content_digest({file.name: f"{file.split} {file.sha256}" for file in self._found})
        rules = (
            f"midi rolls 1 {content} roller {self.roller} frames {self.frames_per_beat} transposed {self.transpose} "
            f"drums {self.drums} pedal {self.pedal} ticks {self.ticks_per_beat} skipping {self.skip_bad}"
        )
        return hashlib.sha256(rules.encode()).hexdigest()

    def prepare_data(self) -> None:
        """Tells which files are skipped."""
        if bad := self._pieces[1]:
            print(f"{len(bad)} of {self._count} files were skipped: {listed(bad)}", file=sys.stderr)

    def load(self) -> dict[Split, list[Tensor]]:
        return {split: [torch.from_numpy(piece.frames) for piece in self._pieces[0][split]] for split in SPLITS}

    def report(self) -> dict[str, Any]:
        """files, minutes, lowest and highest key (MIDI), notes, left_out (notes by why), skipped (why by file)."""
        pieces = [piece for found in self._pieces[0].values() for piece in found]
        keys = np.flatnonzero(np.any([piece.frames.any(0) for piece in pieces], axis=0)) + LOWEST_KEY
        lost = Counter[str]()
        for piece in pieces:
            lost.update(piece.lost)
        return {
            "files": len(pieces),
            "minutes": round(sum(piece.minutes for piece in pieces), 2),
            "lowest": int(keys[0]),
            "highest": int(keys[-1]),
            "notes": sum(piece.notes for piece in pieces),
            "left_out": dict(lost),
            "skipped": self._pieces[1],
        }

    @cached_property
    def _names(self) -> tuple[list[str], dict[str, str]]:
        """Of all files that can be opened; and why others cannot be, by name."""
        unusable: dict[str, str] = {}
        return find_files(self.root, SUFFIXES, "MIDI files", unusable=unusable), unusable

    @property
    def _count(self) -> int:
        """How many files there are, with those that cannot be opened."""
        return len(self._found) + len(self._names[1])

    @cached_property
    def _found(self) -> list[_File]:
        """All files with their splits, in the order of names."""
        names = self._names[0]
        assert self.root is not None, "it was looked into"
        splits = read_list(Path(self.files).expanduser()) if self.files else {}
        if missing := sorted(splits.keys() - set(names)):
            raise SeqbenchError(f"{self.files} names {missing[0]}, which is no MIDI file below {self.root}: correct it")
        names = [name for name in names if not splits or name in splits]
        hashes = {name: hashlib.sha256(_content(self.root / name)).hexdigest() for name in names}
        refuse_copies(hashes, splits)
        if not splits:
            drawn = draw_splits(hashes.values(), "MIDI file")
            splits = {name: drawn[sha256] for name, sha256 in hashes.items()}
        return [_File(name, hashes[name], splits[name]) for name in names]

    @cached_property
    def _pieces(self) -> tuple[dict[Split, list[Roll]], dict[str, str]]:
        """Each split's pieces, and why files were skipped, by name."""
        splits: dict[Split, list[Roll]] = {split: [] for split in SPLITS}
        bad = dict(self._names[1])
        for file in _bar(self._found):
            try:
                splits[file.split].append(self._read(file.name))
            except MidiError as error:
                bad[file.name] = str(error)
        if bad and not self.skip_bad:
            raise SeqbenchError(
                f"{len(bad)} of {self._count} files in {self.root} cannot be used: {listed(bad)}: "
                "repair them, move them away, or give --data.skip_bad true"
            )
        refuse_empty(splits, "MIDI file")
        return splits, bad

    def _read(self, name: str) -> Roll:
        assert self.root is not None, "it was looked into"
        midi = read(_content(self.root / name))
        if self.ticks_per_beat is not None:
            midi = replace(midi, ticks_per_beat=self.ticks_per_beat)
        shift = None if self.transpose else 0
        return roll(midi, self.roller, self.frames_per_beat, shift, drums=self.drums, pedal=self.pedal)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SeqbenchError(f"{path}: cannot be read ({error.strerror}): make it readable or move it away") from error


def _bar(files: list[_File]) -> Iterator[_File]:
    """The files, with a progress bar where there are enough for seconds."""
    if len(files) < 500:
        return iter(files)
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return iter(track(files, "MIDI files", console=console, transient=True, disable=not console.is_terminal))
