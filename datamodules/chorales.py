"""Bach's four-part chorales out of the music21 package's own corpus: real music without a download.

Source: the music21 corpus, composer Bach. Selection: every score (not the Roman-numeral analyses) with exactly four
parts, which gives 368, all soprano, alto, tenor and bass. Not the same set, split or transposition as JSB Chorales:
figures of the two cannot be compared.

Convention: a frame is a quarter note; a key is on where a note sounds at the quarter's beginning, ties held, repeats
not expanded. A piece is transposed as a whole by -5..+6 semitones, its tonic to C: major pieces to C major, minor
ones to C minor. The tonic is what two of three agree on: the key profiles (of tonic.py), the file's key signature with
its mode, the last note of the bass (chorales that end on the dominant mislead it, modal ones the other two); the
profiles' where all differ.

Split: pieces whose sopranos open with the same eight intervals are settings of one tune and stay together; tunes in
the order of the sha256 of their first piece's name fill train (60 %), valid (20 %) and test.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from seqbench.datamodules.base import SPLITS, Split
from seqbench.datamodules.fetch import writable_cache
from seqbench.datamodules.rolls import KEYS, LOWEST_KEY, PianoRolls
from seqbench.datamodules.tonic import profile_tonic, shift_to_c
from seqbench.files import cache_folder, write_file
from seqbench.task import SeqbenchError

if TYPE_CHECKING:
    from music21.stream import Score

# Raised when what this file makes of the corpus changes; DIGEST then changes too.
PARSER = 1
DIGEST = "03b120764acfba08ce014cb7962046fedef18c70f56208666fa198d33444fafb"
OPENING = 8  # intervals from quarter to quarter
SHARES = (0.6, 0.8)  # of all pieces: where train ends, where valid ends


class Note(NamedTuple):
    """A note of one voice."""

    pitch: int  # MIDI
    on: float  # in quarters
    off: float


class Chorale(NamedTuple):
    """A piece: its voices from soprano to bass, and the tonic (0 is C) that its key signature states, if any."""

    name: str  # of its file: two pieces are there in two encodings
    voices: list[list[Note]]
    stated_tonic: int | None


def find_tonic(chorale: Chorale) -> int:
    """The tonic, 0 is C: see this module's convention."""
    durations = [0.0] * 12
    for note in (n for voice in chorale.voices for n in voice):
        durations[note.pitch % 12] += note.off - note.on
    last = max(chorale.voices[-1], key=lambda note: note.off).pitch % 12
    profile = profile_tonic(durations)
    # most_common keeps the order of first sight among equals, so the profiles' wins where all differ
    return Counter(t for t in (profile, chorale.stated_tonic, last) if t is not None).most_common(1)[0][0]


def roll(chorale: Chorale) -> np.ndarray:
    """[T, 88] uint8, transposed to C; ends with the last note."""
    shift = shift_to_c(find_tonic(chorale))
    notes = [note for voice in chorale.voices for note in voice]
    frames = np.zeros((math.ceil(max(n.off for n in notes)), KEYS), np.uint8)
    for note in notes:
        frames[math.ceil(note.on) : math.ceil(note.off), note.pitch + shift - LOWEST_KEY] = 1
    return frames


def opening(chorale: Chorale) -> tuple[int, ...]:
    """The soprano's first intervals in semitones, from quarter to quarter; what settings of one tune share."""
    pitches = [
        n.pitch for n in sorted(chorale.voices[0], key=lambda n: n.on) for _ in range(math.ceil(n.on), math.ceil(n.off))
    ]
    return tuple(int(step) for step in np.diff(pitches[: OPENING + 1]))


def split_by_tune(chorales: Sequence[Chorale]) -> dict[Split, list[Chorale]]:
    """Train, valid and test, settings of one tune together; inside a split in the order of names."""
    tunes: dict[tuple[int, ...], list[Chorale]] = {}
    for chorale in sorted(chorales):
        tunes.setdefault(opening(chorale), []).append(chorale)
    splits: dict[Split, list[Chorale]] = {split: [] for split in SPLITS}
    done = 0
    for tune in sorted(tunes.values(), key=lambda pieces: hashlib.sha256(pieces[0].name.encode()).digest()):
        part = sum(done >= share * len(chorales) for share in SHARES)
        splits[SPLITS[part]].extend(tune)
        done += len(tune)
    return {split: sorted(pieces) for split, pieces in splits.items()}


def read_corpus() -> list[Chorale]:
    """Every four-part chorale of the installed music21's corpus; about 20 seconds, with a progress bar."""
    from music21 import converter, corpus
    from music21.stream import Score
    from rich.console import Console
    from rich.progress import track

    paths = [Path(p) for p in sorted(corpus.getComposer("bach")) if Path(p).suffix != ".rntxt"]
    chorales = []
    console = Console(stderr=True)
    bar = track(paths, "Bach chorales, once", console=console, transient=True, disable=not console.is_terminal)
    for path in bar:
        # music21 would keep pickles of its own in the temporary folder, and trust those that it finds there
        score = converter.parse(path, forceSource=True, storePickle=False)
        if isinstance(score, Score) and len(score.parts) == 4:
            chorales.append(_chorale(path.name, score))
    return chorales


def _chorale(name: str, score: Score) -> Chorale:
    voices = []
    for part in score.parts:
        sounding = [n for n in part.flatten().notes if n.quarterLength > 0]
        voices.append(
            [
                Note(pitch.midi, float(n.offset), float(n.offset + n.quarterLength))
                for n in sounding
                for pitch in n.pitches
            ]
        )
    key = score.parts[0].recurse().getElementsByClass("Key").first()
    return Chorale(name, voices, None if key is None else key.tonic.pitchClass)


def digest_of(splits: dict[Split, list[Tensor]]) -> str:
    """sha256 over names of splits, lengths and frames."""
    sha = hashlib.sha256()
    for split, rolls in splits.items():
        sha.update(f"{split} {[len(r) for r in rolls]}\n".encode())
        for frames in rolls:
            sha.update(frames.numpy().tobytes())
    return sha.hexdigest()


class BachChorales(PianoRolls):
    """368 four-part chorales; see this module."""

    name = "bach"
    title = "Bach chorales"
    origin = "music21's corpus; music out of copyright, encodings by their encoders' permission (its license.txt)"
    counts: ClassVar[dict[str, int]] = {"train": 221, "valid": 75, "test": 72}
    longest = 193
    tempo = 80.0  # a chorale's: the rolls know none

    @property
    def digest(self) -> str:
        return DIGEST

    def prepare_data(self) -> None:
        self.load()

    def load(self) -> dict[Split, list[Tensor]]:
        cached = _read(cache_file())
        if cached is not None and digest_of(cached) == DIGEST:
            return cached
        writable_cache()  # told before the work, not after
        pieces = split_by_tune(read_corpus())
        rolls = {split: [torch.from_numpy(roll(c)) for c in pieces[split]] for split in SPLITS}
        if (found := digest_of(rolls)) != DIGEST:
            raise SeqbenchError(
                f"the corpus of music21 {_version()} gives other chorales ({found[:12]}...): install music21==10.5.1"
            )
        _write(cache_file(), rolls)
        return rolls


def _version() -> str:
    import music21

    return str(music21.__version__)


def cache_file() -> Path:
    """Where the parsed set is kept."""
    return cache_folder() / f"bach-chorales-{PARSER}-music21-{_version()}.npz"


def _read(path: Path) -> dict[Split, list[Tensor]] | None:
    """The cached set; None where there is none or it cannot be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {
                split: list(torch.from_numpy(arrays[f"{split}_frames"]).split(arrays[f"{split}_lengths"].tolist()))
                for split in SPLITS
            }
    except (OSError, ValueError, KeyError, RuntimeError, BadZipFile):
        return None


def _write(path: Path, rolls: dict[Split, list[Tensor]]) -> None:
    arrays = {}
    for split, frames in rolls.items():
        arrays[f"{split}_frames"] = torch.cat(frames).numpy()
        arrays[f"{split}_lengths"] = np.array([len(f) for f in frames])
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_file(path, content.getvalue())
