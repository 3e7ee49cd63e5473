"""Recordings in, 16-bit samples on disk out, in blocks: no recording is ever whole in memory.

Whatever a file has is brought to one channel (the mean of all), one sample rate (torchaudio's resampler) and 16 bits.
Refused by name: what cannot be read, is cut short, is empty, has samples that are no numbers or beyond twice full scale
(up to there they are clipped, as lossy coders and resamplers overshoot), is coded in steps of many sizes (mu-law,
ADPCM), or has a lower sample rate than asked for, as interpolated samples would be predicted for nothing.
An 8-bit recording has steps of 256: it gets a uniform noise of one of its own steps as it is decoded, so that
dequantising with one 16-bit step afterwards is right for it too.
"""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from seqbench.datamodules.base import Split
from seqbench.files import make_folder
from seqbench.task import SeqbenchError, generator

if TYPE_CHECKING:
    from soundfile import SoundFile

BLOCK = 2**20  # samples decoded at once
FULL_SCALE = 32768
LINEAR = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "VORBIS", "OPUS"}
STREAMED = 0x7FFFFFFF  # sizes from here on are written by programs that did not know the size


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
    total, squares = 0, 0
    for split, recordings in splits.items():
        lengths[split] = []
        with (folder / f"{split}.pcm").open("wb") as file:
            for recording in recordings:
                start = file.tell()
                for block in blocks(recording, sample_rate, dequantise):
                    file.write(block.tobytes())
                    if split == "train":
                        wide = block.astype(np.int64)
                        total += int(wide.sum())
                        squares += int(wide @ wide)
                lengths[split].append((file.tell() - start) // 2)
    count = sum(lengths["train"])
    variance = count * squares - total**2  # whole numbers of any size: exact
    if variance == 0:
        raise SeqbenchError("all recordings of the train split are silent or constant: nothing to predict, add others")
    index = {"lengths": lengths, "mean": total / count, "scale": math.sqrt(variance) / count}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def blocks(recording: Recording, sample_rate: int, dequantise: bool = True) -> Iterator[np.ndarray]:
    """A recording's samples, in blocks [S] int16.

    Raises:
        SeqbenchError: it is refused; the line names it and the reason.
    """
    import soundfile

    source = io.BytesIO(recording.content) if isinstance(recording.content, bytes) else recording.content
    try:
        _check_header(recording)
        with soundfile.SoundFile(source) as file:
            _check(recording, file, sample_rate)
            signal = _signal(recording, file, dequantise)
            if file.samplerate != sample_rate:
                signal = _resampled(signal, file.samplerate, sample_rate)
            for block in signal:
                yield np.clip(np.rint(block), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    except (OSError, soundfile.SoundFileError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "error_string", error)
        raise _refused(recording, str(reason).strip(" .")) from error


def _refused(recording: Recording, reason: str) -> SeqbenchError:
    name = recording.name if isinstance(recording.content, bytes) else recording.content
    return SeqbenchError(f"{name}: {reason}; repair it, move it away, or leave it out")


def _check_header(recording: Recording) -> None:
    """libsndfile takes a WAV that is cut short for a shorter one: its header says how long it was to be."""
    content = recording.content
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    if size == 0:
        raise _refused(recording, "the file is empty")
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        if file.read(4) != b"RIFF":
            return
        file.seek(12)
        while len(header := file.read(8)) == 8:
            name, declared = struct.unpack("<4sI", header)
            if name == b"data":
                if declared < STREAMED and file.tell() + declared > size:
                    raise _refused(recording, f"cut short: has {size - file.tell()} of {declared} bytes of samples")
                return
            file.seek(declared + declared % 2, io.SEEK_CUR)


def _check(recording: Recording, file: SoundFile, sample_rate: int) -> None:
    if file.subtype not in LINEAR:
        raise _refused(recording, f"{file.subtype} has steps of many sizes: convert it to PCM")
    if file.frames == 0:
        raise _refused(recording, "has no samples")
    if file.samplerate < sample_rate:
        raise _refused(recording, f"has {file.samplerate} Hz, below the sample_rate of {sample_rate}: give a lower one")


def _signal(recording: Recording, file: SoundFile, dequantise: bool) -> Iterator[np.ndarray]:
    """The mean of all channels in steps of 16 bits, in blocks [S] float32."""
    step = FULL_SCALE / 128 / file.channels if dequantise and file.subtype in ("PCM_S8", "PCM_U8") else 0.0
    read = 0
    for number, block in enumerate(file.blocks(max(1, BLOCK // file.channels), dtype="float32", always_2d=True)):
        if not np.isfinite(block).all():
            raise _refused(recording, "has samples that are no numbers (NaN or infinite)")
        if np.abs(block).max() > 2:
            raise _refused(recording, f"goes to {np.abs(block).max():.4g} times full scale: divide its samples")
        read += len(block)
        mono = block[:, 0] if file.channels == 1 else block.mean(1)
        mono = mono * FULL_SCALE
        if step:
            g = generator(0, f"steps of {recording.name}", number)
            mono += step * (torch.rand(len(mono), generator=g).numpy() - 0.5)
        yield mono
    if read != file.frames:
        raise _refused(recording, f"cut short: has {read} of {file.frames} samples")


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
