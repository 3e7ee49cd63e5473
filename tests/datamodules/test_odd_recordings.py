"""Folders of recordings as people have them: ten good ones and an odd file, read right or refused in one line."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest
import soundfile

from seqbench import datamodules
from seqbench.datamodules import listing
from seqbench.task import SeqbenchError

TONE = np.rint(8000 * np.sin(np.arange(6000) / 9)).astype(np.int16)


def wav(declared: int, content: bytes = TONE.tobytes()) -> bytes:
    """A WAV whose header declares so many bytes of samples."""
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16) + struct.pack("<4sI", b"data", declared)
    return struct.pack("<4sI4s", b"RIFF", min(declared + 36, 2**32 - 1), b"WAVE") + head + content


def written(path, samples=TONE, rate=8000, keep=None, **options):
    soundfile.write(path, samples, rate, **options)
    if keep is not None:
        path.write_bytes(path.read_bytes()[:keep])


def ogg_of_two(root):
    written(root / "x.ogg", format="OGG", subtype="VORBIS")
    written(root / "x.ogg.part", TONE[::-1], format="OGG", subtype="VORBIS")
    (root / "x.ogg").write_bytes((root / "x.ogg").read_bytes() + (root / "x.ogg.part").read_bytes())


def beside(root):
    """What is no recording of the set: hidden ones, macOS's, and a folder with a recording's name."""
    for folder in (".Trash-1000/files", ".ipynb_checkpoints", "__MACOSX"):
        (root / folder).mkdir(parents=True)
        written(root / folder / "old.wav")
    (root / "._00.wav").write_bytes(b"\0\5\x16\7" + bytes(78))
    (root / "x.wav").mkdir()


def linked(root):
    """A folder behind two links and one that leads round."""
    other = root.with_name("elsewhere")
    other.mkdir()
    written(other / "x.wav")
    for name in ("a", "b"):
        os.symlink(other, root / name)
    os.symlink(root, other / "round")


READ = {
    "sox into a pipe": lambda root: (root / "x.wav").write_bytes(wav(0x7FFFF000)),
    "ffmpeg into a pipe": lambda root: (root / "x.wav").write_bytes(wav(0xFFFFFFFF)),
    "a radio's": lambda root: (root / "x.wav").write_bytes(wav(0x80000000)),
    "RF64": lambda root: written(root / "x.wav", format="RF64"),
    "RIFX": lambda root: written(root / "x.wav", format="WAV", endian="BIG"),
    "AIFF": lambda root: written(root / "x.aiff"),
    "Chinese": lambda root: written(root / "录音 ğİ 🎤.wav"),
    "linked": linked,
}
REFUSED = {
    "a cut WAV": (lambda root: written(root / "x.wav", keep=5000), "x.wav: cut short: has 4956 of 12000"),
    "a cut RF64": (lambda root: written(root / "x.wav", format="RF64", keep=5000), "x.wav: cut short: has .* of 12000"),
    "a cut RIFX": (lambda root: written(root / "x.wav", format="WAV", endian="BIG", keep=5000), "cut short: has 4956"),
    "a cut AIFF": (lambda root: written(root / "x.aif", format="AIFF", keep=5000), "x.aif: cut short: has .* of 12008"),
    "a cut Ogg": (lambda root: written(root / "x.ogg", keep=-300), "x.ogg: cut short"),
    "a cut Opus": (lambda root: written(root / "x.opus", format="OGG", subtype="OPUS", keep=-300), "x.opus: cut short"),
    "two in one Ogg": (ogg_of_two, "x.ogg: has 2 streams"),
    "MP3 by another name": (lambda root: written(root / "x.wav", format="MP3"), "x.wav: is MP3"),
    "MP3 beside": (lambda root: written(root / "x.mp3", format="MP3"), "1 recordings that cannot be read, 'x.mp3'"),
    "M4A beside": (lambda root: (root / "x.m4a").write_bytes(b"\0\0\0\x20ftypM4A "), "'x.m4a' the first: convert them"),
    "antiphase": (lambda root: written(root / "x.wav", np.stack([TONE, -TONE], 1)), "2 channels cancel each other"),
    "Latin-1": (lambda root: written(root / "x.wav") or os.rename(root / "x.wav", os.fsencode(root) + b"/caf\xe9.wav"),
                r"caf\\xe9.wav \(its name is not a line of UTF-8: rename it"),
    "a name of two lines": (lambda root: written(root / "a\nb.wav"), r"a\\nb.wav \(its name"),
    "a link to nothing": (lambda root: os.symlink("/nowhere.wav", root / "x.wav"), r"x.wav \(is a link to nothing"),
    "a page of the web": (lambda root: (root / "x.wav").write_bytes(b"<!DOCTYPE html>"), "x.wav: "),
    "another rate": (lambda root: written(root / "x.wav", rate=44100), r"8000 Hz \(10\), 44100 Hz \(1\): give one"),
}  # fmt: skip


def load(root, **options):
    data = datamodules.WavFolder(str(root), sequences="all", dequantise=False, **options)
    data.setup()
    return data


@pytest.mark.parametrize("case", READ)
def test_read_right(alone, voices, case):
    root = voices([2000] * 10)
    READ[case](root)
    data = load(root, concatenate=True, length=30)
    samples = np.concatenate([data.splits[split].samples.numpy() for split in ("train", "valid", "test")])
    assert len(samples) == 10 * 2000 + 6000
    found = np.lib.stride_tricks.sliding_window_view(samples, 6000)[::2000]
    assert (found == TONE).all(1).any()


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(alone, voices, case):
    root = voices([2000] * 10)
    make, reason = REFUSED[case]
    make(root)
    with pytest.raises(SeqbenchError, match=reason) as caught:
        load(root)
    assert "\n" not in str(caught.value)
    assert not list(alone.rglob("*.pcm"))


def test_what_is_hidden_is_none_of_it(alone, voices):
    root = voices([2000] * 10)
    before = load(root).task.digest
    beside(root)
    assert load(root).task.digest == before


def test_all_bad_recordings_are_told_at_once(alone, voices):
    root = voices([2000] * 10)
    for name in ("x.wav", "y.wav"):
        (root / name).touch()
    with pytest.raises(SeqbenchError, match=r"2 recordings are refused: .*x\.wav .*y\.wav \(the file is empty\)"):
        load(root)
    for name in ("x.wav", "y.wav"):  # what only the samples tell
        written(root / name, np.full(2000, np.nan), subtype="FLOAT")
    with pytest.raises(SeqbenchError, match=r"2 recordings are refused: .*x\.wav .*y\.wav \(has samples"):
        load(root)


def test_the_rate_is_the_recordings_own(alone, voices, tmp_path):
    root = tmp_path / "studio"
    root.mkdir()
    for number in range(4):
        written(root / f"{number}.wav", np.roll(TONE, number), 44_100)
    data = load(root)
    assert data.sample_rate == 44_100
    assert sum(len(waves.samples) for waves in data.splits.values()) == 4 * 6000
    assert data.report() == {"files": 4, "minutes": round(4 * 6000 / 44_100 / 60, 2), "sample_rate": 44_100}
    assert load(root, sample_rate=8000).task.digest != data.task.digest
    prepared = listing.prepare("wav_folder", root=str(root), protocol="B", length=1000)
    assert (prepared["sample_rate"], prepared["train"]["longest"]) == (44_100, 98)
