"""Recordings as people have them: each is decoded as it should be, or refused by name and reason."""

from __future__ import annotations

import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.functional import resample

from seqbench import datamodules
from seqbench.datamodules import audio
from seqbench.datamodules.audio import AudioError, Recording, blocks, decode, read_decoded
from seqbench.model.heads import head_for
from seqbench.task import SeqbenchError

TONE = np.rint(8000 * np.sin(np.arange(6000) / 9)).astype(np.int16)


def decoded(path, rate: int = 8000, dequantise: bool = True) -> np.ndarray:
    recording = Recording(path.name, path, "", None, "")
    found = np.concatenate(list(blocks(recording, rate, dequantise)))
    assert found.dtype == np.int16
    return found


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "FLOAT"), ("flac", "PCM_16")]
)
def test_lossless_formats_come_back_exactly(tmp_path, suffix, subtype):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, TONE / 32768, 8000, subtype=subtype)
    assert np.array_equal(decoded(path), TONE)


def test_ogg(tmp_path):
    soundfile.write(tmp_path / "a.ogg", TONE, 8000)
    assert np.corrcoef(decoded(tmp_path / "a.ogg"), TONE)[0, 1] > 0.99


def test_stereo_is_mixed_down(tmp_path):
    both = np.stack([TONE, TONE[::-1] // 2], 1)
    soundfile.write(tmp_path / "a.wav", both, 8000)
    np.testing.assert_allclose(decoded(tmp_path / "a.wav"), both.astype(float).mean(1), atol=0.5)


def test_eight_bits_get_the_noise_of_their_own_steps(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, TONE, 8000, subtype="PCM_U8")
    coarse = soundfile.read(path, dtype="int16")[0].astype(int)
    assert not (coarse % 256).any()
    assert np.array_equal(decoded(path, dequantise=False), coarse)
    noise = decoded(path) - coarse
    assert np.array_equal(decoded(path), coarse + noise)  # the same each time
    assert np.abs(noise).max() <= 128
    assert noise.std() == pytest.approx(256 / np.sqrt(12), rel=0.03)


@pytest.mark.parametrize("have", [44_100, 16_000, 11_025])
@pytest.mark.parametrize("block", [997, 20_000, 2**20])
def test_resampled_in_blocks_is_resampled_whole(tmp_path, monkeypatch, have, block):
    monkeypatch.setattr(audio, "BLOCK", block)
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 50_001).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, have, subtype="FLOAT")
    whole = 32768 * resample(torch.from_numpy(sound), have, 8000).numpy()
    found = decoded(tmp_path / "a.wav")
    assert len(found) == len(whole) == -(-len(sound) * 8000 // have)
    np.testing.assert_allclose(found, whole, atol=0.51)


def test_resampling_keeps_a_tone_and_removes_what_lies_above(tmp_path):
    t = np.arange(44_100) / 44_100
    sound = 0.3 * np.sin(2 * np.pi * 440 * t) + 0.3 * np.sin(2 * np.pi * 9000 * t)
    soundfile.write(tmp_path / "a.wav", sound, 44_100)
    spectrum = np.abs(np.fft.rfft(decoded(tmp_path / "a.wav")[:8000] / 32768)) / 4000
    assert spectrum[440] == pytest.approx(0.3, abs=0.005)
    assert np.delete(spectrum, np.arange(430, 451)).max() < 0.005


def write_nan(path):
    sound = TONE / 32768
    sound[70] = np.nan
    soundfile.write(path, sound, 8000, subtype="FLOAT")


def write_cut(path):
    soundfile.write(path, TONE, 8000)
    path.write_bytes(path.read_bytes()[:5000])


def write_cut_flac(path):
    soundfile.write(path, TONE, 8000, format="FLAC")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_streamed(path):
    """A header of a program that did not know the length, as ffmpeg writes into a pipe."""
    soundfile.write(path, TONE, 8000)
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(content)


REFUSED = {
    "NaN": (write_nan, "no numbers"),
    "cut short": (write_cut, r"cut short: has 4956 of 12000 bytes"),
    "a cut FLAC": (write_cut_flac, "(?i)sync|unknown|flac|cut short"),
    "empty": (lambda path: path.touch(), "the file is empty"),
    "text": (lambda path: path.write_text("hello, this is no sound\n" * 99), "not recognised"),
    "no samples": (lambda path: soundfile.write(path, TONE[:0], 8000), "has no samples"),
    "slow": (lambda path: soundfile.write(path, TONE, 4000), "4000 Hz, below the sample_rate of 8000"),
    "mu-law": (lambda path: soundfile.write(path, TONE, 8000, subtype="ULAW"), "ULAW has steps of many sizes"),
    "unscaled": (lambda path: soundfile.write(path, TONE.astype(float), 8000, subtype="FLOAT"), "times full scale"),
    "a folder": (lambda path: path.mkdir(), "directory"),
}


@pytest.mark.faults("E13")
@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_name_and_reason(tmp_path, case):
    make, reason = REFUSED[case]
    path = tmp_path / "a.wav"
    make(path)
    with pytest.raises(AudioError, match=reason):
        decoded(path)
    recording = Recording("a", path, "", None, "")
    with pytest.raises(SeqbenchError, match=reason) as caught:
        decode({"train": [recording]}, tmp_path / "kept", 8000)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "kept").exists()


def test_a_streamed_header_is_no_reason(tmp_path):
    write_streamed(tmp_path / "a.wav")
    assert np.array_equal(decoded(tmp_path / "a.wav"), TONE)


def test_overshoot_is_clipped(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([0.5, 1.2, -1.2]), 8000, subtype="FLOAT")
    assert decoded(tmp_path / "a.wav").tolist() == [16384, 32767, -32768]


def test_one_bad_recording_in_a_folder_leaves_nothing_behind(alone, voices):
    root = voices([2000] * 10)
    write_nan(root / "05.wav")
    for _ in range(2):
        with pytest.raises(SeqbenchError, match=r"05\.wav: has samples that are no numbers"):
            datamodules.WavFolder(str(root)).setup()
    assert not list(alone.rglob("*.pcm"))


@pytest.mark.faults("E13")
def test_silence_and_clipping_have_finite_figures(alone, voices):
    """Recordings of nothing but zeros, and of nothing but full scale, beside others."""
    root = voices([4000] * 10)
    soundfile.write(root / "zeros.wav", np.zeros(4000, np.int16), 8000)
    soundfile.write(root / "clipped.wav", np.tile(np.int16([32767, -32768]), 2000), 8000)
    for dequantise in (True, False):
        data = datamodules.WavFolder(str(root), dequantise=dequantise)
        data.setup()
        assert all(np.isfinite(score.nll) for score in data.floors().values())
        head = head_for(data.task)
        for split, waves in data.splits.items():
            batch = data.gather(split, torch.arange(len(waves.starts))[None])
            out = torch.zeros(48, 1, len(waves.starts), head.outputs)
            assert head.nats(out, batch.y).isfinite().all()
            assert batch.x.isfinite().all()


def test_a_silent_train_split_is_refused(alone, tmp_path):
    for name in range(4):
        (tmp_path / "zeros").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "zeros" / f"{name}.wav", np.zeros(1000 + name, np.int16), 8000)
    with pytest.raises(SeqbenchError, match="silent"):
        datamodules.WavFolder(str(tmp_path / "zeros")).setup()


def test_decoded_once(alone, voices):
    root = voices([2000] * 10)
    datamodules.WavFolder(str(root)).setup()
    (kept,) = alone.rglob("train.pcm")
    before = kept.stat().st_mtime_ns
    datamodules.WavFolder(str(root), length=600, concatenate=True, sequences=20).setup()
    assert kept.stat().st_mtime_ns == before
    assert len(list(alone.rglob("train.pcm"))) == 1
    with kept.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(SeqbenchError, match="damaged"):
        datamodules.WavFolder(str(root)).setup()


def test_processes_at_once(alone, voices):
    """Both find nothing decoded; one decodes, slowly, the other waits and takes what it finds."""
    code = """
import sys, time
from seqbench import datamodules
from seqbench.datamodules import audio
write = audio._write
def slow(*arguments):
    print("decodes", flush=True)
    time.sleep(4)
    write(*arguments)
audio._write = slow
data = datamodules.WavFolder(sys.argv[1])
data.setup()
print(sum(len(waves.samples) for waves in data.splits.values()))
"""
    command = [sys.executable, "-c", code, str(voices([20_000] * 12))]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(process.communicate(timeout=60)[0].split() for process in both)
    assert said == [["240000"], ["decodes", "240000"]]
    assert not list(alone.rglob("*.part"))


def test_what_a_killed_process_left_is_replaced(tmp_path):
    soundfile.write(tmp_path / "a.wav", TONE, 8000)
    (tmp_path / "kept.part").mkdir()
    (tmp_path / "kept.part" / "train.pcm").write_bytes(b"half")
    recordings = [Recording("a.wav", tmp_path / "a.wav", "", None, "")]
    decode({"train": recordings, "valid": [], "test": recordings}, tmp_path / "kept", 8000)
    found = read_decoded(tmp_path / "kept")
    assert np.array_equal(np.fromfile(found.files["train"], np.int16), TONE)
    assert (found.mean, found.scale) == (pytest.approx(TONE.mean()), pytest.approx(TONE.std()))
    assert not (tmp_path / "kept.part").exists()
