"""Recordings in, 16-bit samples on disk out, in blocks: no recording is ever whole in memory.

Whatever a file has is brought to one channel (the mean of all), one sample rate (torchaudio's resampler) and 16 bits.
Refused by name: what cannot be read, is cut short, is empty, has samples that are no numbers or beyond twice full scale
(up to there they are clipped, as lossy coders and resamplers overshoot), is coded in steps of many sizes (mu-law,
ADPCM) or in a way that does not tell its length (MP3), has channels that cancel each other, or a lower sample rate than
asked for, as interpolated samples would be predicted for nothing.
An 8-bit recording has steps of 256: it gets a uniform noise of one of its own steps as it is decoded, so that
dequantising with one 16-bit step afterwards is right for it too.
"""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
import torch

from seqbench.datamodules.base import Split
from seqbench.datamodules.folder import listed
from seqbench.files import make_folder
from seqbench.task import SeqbenchError, generator

if TYPE_CHECKING:
    from soundfile import SoundFile

BLOCK = 2**20  # samples decoded at once
FULL_SCALE = 32768
LINEAR = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "VORBIS", "OPUS"}
STREAMED = 0x7FFFF000  # sizes from here on are written by programs that did not know the size; this one is sox's
ORDERS = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">", b"FORM": ">"}  # of the bytes in chunks' sizes
CANCELLED = 1e-3  # of the channels' mean energy: less is left of their sum where they cancel each other


class AudioError(Exception):
    """Why a recording is refused, in a few words; whoever knows its name tells it."""


class Recording(NamedTuple):
    """An audio file of a corpus.

    Attributes:
        name: Unique in the corpus; recordings are kept in the order of names.
        content: Where it is, or its bytes.
        speaker: Who speaks; "" if unknown.
        split: The corpus's own split; None where it has none.
        key: What a split by file draws from: the name, or the content's hash.
    """

    name: str
    content: Path | bytes
    speaker: str
    split: Split | None
    key: str


@dataclass(frozen=True)
class Decoded:
    """A corpus as `decode` leaves it.

    Attributes:
        files: For each split its samples, 16-bit integers of this machine, all recordings end to end.
        lengths: For each split the samples of each recording, in the order of names.
        mean: Of all samples of the train split, in steps of 16 bits.
        scale: Their standard deviation, likewise.
    """

    files: dict[Split, Path]
    lengths: dict[Split, list[int]]
    mean: float
    scale: float


def decode(
    splits: Mapping[Split, Sequence[Recording]], folder: Path, sample_rate: int, dequantise: bool = True
) -> None:
    """Writes the splits' samples into a new folder in one stroke; nothing happens if it is there already.

    Several processes may do so at once: one decodes, the others wait for it.

    Args:
        splits: Their recordings.
        folder: To be made.
        sample_rate: Of the samples written, in Hz.
        dequantise: Whether 8-bit recordings get the noise of one of their steps.

    Raises:
        SeqbenchError: a recording is refused, nothing varies in the train split, or the folder cannot be written.
    """
    try:
        make_folder(folder, lambda part: _write(splits, part, sample_rate, dequantise))
    except OSError as error:
        raise SeqbenchError(f"cannot write to {folder.parent} ({error.strerror}): set SEQBENCH_CACHE") from error


def read_decoded(folder: Path) -> Decoded:
    """What `decode` has written.

    Raises:
        SeqbenchError: it is damaged.
    """
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        files: dict[Split, Path] = {split: folder / f"{split}.pcm" for split in index["lengths"]}
        whole = all(path.stat().st_size == 2 * sum(index["lengths"][split]) for split, path in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SeqbenchError(f"{folder} is damaged ({error}): delete it") from error
    if not whole:
        raise SeqbenchError(f"{folder} is damaged (a file is cut short): delete it")
    return Decoded(files, index["lengths"], index["mean"], index["scale"])


def _write(splits: Mapping[Split, Sequence[Recording]], folder: Path, sample_rate: int, dequantise: bool) -> None:
    lengths: dict[Split, list[int]] = {}
    bad: dict[str, AudioError] = {}
    total, squares = 0, 0
    for split, recordings in splits.items():
        lengths[split] = []
        with (folder / f"{split}.pcm").open("wb") as file:
            for recording in recordings:
                start = file.tell()
                try:
                    for block in blocks(recording, sample_rate, dequantise):
                        file.write(block.tobytes())
                        if split == "train":
                            wide = block.astype(np.int64)
                            total += int(wide.sum())
                            squares += int(wide @ wide)
                except AudioError as error:
                    content = recording.content
                    bad[str(content) if isinstance(content, Path) else recording.name] = error
                lengths[split].append((file.tell() - start) // 2)
    refuse(bad)
    count = sum(lengths["train"])
    variance = count * squares - total**2  # whole numbers of any size: exact
    if variance == 0:
        raise SeqbenchError("all recordings of the train split are silent or constant: nothing to predict, add others")
    index = {"lengths": lengths, "mean": total / count, "scale": math.sqrt(variance) / count}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def blocks(recording: Recording, sample_rate: int, dequantise: bool = True) -> Iterator[np.ndarray]:
    """A recording's samples, in blocks [S] int16.

    Raises:
        AudioError: it is refused.
    """
    with _opened(recording) as file:
        if file.samplerate < sample_rate:
            raise AudioError(f"has {file.samplerate} Hz, below the sample_rate of {sample_rate}: give a lower one")
        signal = _signal(recording, file, dequantise)
        if file.samplerate != sample_rate:
            signal = _resampled(signal, file.samplerate, sample_rate)
        for block in signal:
            yield np.clip(np.rint(block), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def own_rate(recording: Recording) -> int:
    """A recording's own sample rate in Hz, by its header.

    Raises:
        AudioError: it is refused; what only its samples tell is not looked at.
    """
    with _opened(recording) as file:
        return int(file.samplerate)


def refuse(bad: Mapping[str, AudioError]) -> None:
    """Tells all recordings that are refused, by name, at once; nothing happens if there are none.

    Raises:
        SeqbenchError: there are some.
    """
    if len(bad) == 1:
        ((name, reason),) = bad.items()
        raise SeqbenchError(f"{name}: {reason}; repair it, move it away, or leave it out")
    if bad:
        told = listed({name: str(reason) for name, reason in bad.items()})
        raise SeqbenchError(
            f"{len(bad)} recordings are refused: {told}; repair them, move them away, or leave them out"
        )


@contextmanager
def _opened(recording: Recording) -> Iterator[SoundFile]:
    """A recording whose header is in order."""
    import soundfile

    source = io.BytesIO(recording.content) if isinstance(recording.content, bytes) else recording.content
    try:
        _check_header(recording)
        with soundfile.SoundFile(source) as file:
            if file.subtype == "MPEG_LAYER_III":
                raise AudioError("is MP3, which does not tell whether it is whole: convert it to WAV or FLAC")
            if file.subtype not in LINEAR:
                raise AudioError(f"{file.subtype} has steps of many sizes: convert it to PCM")
            if file.frames == 0:
                raise AudioError("has no samples")
            yield file
    except (OSError, soundfile.SoundFileError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "error_string", error)
        raise AudioError(str(reason).strip(" .")) from error


def _check_header(recording: Recording) -> None:
    """libsndfile takes a file that is cut short for a shorter one: its header says how long it was to be."""
    content = recording.content
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    if size == 0:
        raise AudioError("the file is empty")
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        kind = file.read(4)
        if kind == b"OggS":
            _check_pages(file, size)
        elif kind in ORDERS:
            _check_chunks(file, size, ORDERS[kind], b"SSND" if kind == b"FORM" else b"data")


def _check_chunks(file: BinaryIO, size: int, order: str, samples: bytes) -> None:
    """Of WAV (RIFF, RIFX and RF64) and AIFF; `samples` names the chunk that has them."""
    long = None
    file.seek(12)
    while len(header := file.read(8)) == 8:
        name, declared = struct.unpack(f"{order}4sI", header)
        start = file.tell()
        if name == b"ds64":
            long = int.from_bytes(file.read(16)[8:], "little")
        elif name == samples:
            known = declared if declared < STREAMED else long
            if known is not None and start + known > size:
                raise AudioError(f"cut short: has {size - start} of {known} bytes of samples")
            return
        file.seek(start + declared + declared % 2)


def _check_pages(file: BinaryIO, size: int) -> None:
    """Of Ogg: libsndfile reads the first of several streams alone."""
    place = streams = last = 0
    while place < size:
        file.seek(place)
        header = file.read(27)
        if len(header) < 27 or header[:4] != b"OggS":
            raise AudioError(f"cut short or damaged: no page begins at byte {place} of {size}")
        lengths = file.read(header[26])
        place += 27 + len(lengths) + sum(lengths)
        streams += bool(header[5] & 2)
        last = header[5] & 4
    if streams > 1:
        raise AudioError(f"has {streams} streams one after the other or side by side: make them files of their own")
    if place > size or not last:
        raise AudioError("cut short: the end of its stream is missing")


def _signal(recording: Recording, file: SoundFile, dequantise: bool) -> Iterator[np.ndarray]:
    """The mean of all channels in steps of 16 bits, in blocks [S] float32."""
    step = FULL_SCALE / 128 / file.channels if dequantise and file.subtype in ("PCM_S8", "PCM_U8") else 0.0
    read = 0
    whole = left = 0.0
    for number, block in enumerate(file.blocks(max(1, BLOCK // file.channels), dtype="float32", always_2d=True)):
        if not np.isfinite(block).all():
            raise AudioError("has samples that are no numbers (NaN or infinite)")
        if np.abs(block).max() > 2:
            raise AudioError(f"goes to {np.abs(block).max():.4g} times full scale: divide its samples")
        read += len(block)
        mono = block[:, 0] if file.channels == 1 else block.mean(1)
        whole += float(np.square(block).mean(1).sum())
        left += float(np.square(mono).sum())
        mono = mono * FULL_SCALE
        if step:
            g = generator(0, f"steps of {recording.name}", number)
            mono += step * (torch.rand(len(mono), generator=g).numpy() - 0.5)
        yield mono
    if read != file.frames:
        raise AudioError(f"cut short: has {read} of {file.frames} samples")
    if left < CANCELLED * whole:
        raise AudioError(f"its {file.channels} channels cancel each other: keep one of them")


def _resampled(signal: Iterable[np.ndarray], have: int, want: int) -> Iterator[np.ndarray]:
    """As torchaudio.functional.resample of the whole, but in blocks that overlap by more than its filter is long."""
    from torchaudio.functional import resample

    common = math.gcd(have, want)
    have, want = have // common, want // common
    # Its default filter reaches 6 zeros to each side; whole periods keep its phase.
    margin = have * (math.ceil(6 / (0.99 * min(have, want))) + 2)
    held, skip = np.empty(0, np.float32), 0
    for block in signal:
        held = np.concatenate([held, block])
        ready = (len(held) - margin) // have * have
        if ready > max(skip, margin):
            out = resample(torch.from_numpy(held[: ready + margin]), have, want).numpy()
            yield out[skip // have * want : ready // have * want]
            held, skip = held[ready - margin :], margin
    if len(held) > skip:
        yield resample(torch.from_numpy(held), have, want).numpy()[skip // have * want :]
