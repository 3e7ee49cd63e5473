"""FSDD and YESNO as they are; the other corpora's layouts, made up small; what is refused."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from seqbench import datamodules
from seqbench.datamodules import archives, corpora
from seqbench.datamodules.archives import content_digest, unpacked
from seqbench.datamodules.fetch import location
from seqbench.datamodules.listing import dataset, rows
from seqbench.datamodules.speech import Speech, divide
from seqbench.record import bits_per_sample
from seqbench.task import SeqbenchError

LOADED: dict[str, Speech] = {}
# floors of test: single Gaussian, linear, AR(20)
FLOORS = {
    "fsdd_a": (14.2599, 11.7253, 6.4103),
    "fsdd_b": (13.9540, 11.4446, 6.0392),
    "yesno_a": (13.1888, 6.4798, -6.7667),
    "yesno_b": (13.2323, 6.5410, -6.7052),
}


@pytest.fixture(scope="session")
def kept(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def corpus(monkeypatch, kept):
    """A function from name to the loaded set; skips where neither mirror nor cache has it."""

    def load(name: str):
        if name not in LOADED:
            data = dataset(name)
            if location(data.file) == "no":
                pytest.skip(f"{data.file} is neither in SEQBENCH_MIRROR nor in the cache")
            monkeypatch.setenv("SEQBENCH_CACHE", str(kept))
            data.setup()
            LOADED[name] = data
        return LOADED[name]

    return load


@pytest.mark.parametrize("name", FLOORS)
def test_counts_floors_and_scale(corpus, name):
    data = corpus(name)
    (row,) = (row for row in rows() if row["name"] == name)
    lengths = {split: waves.lengths for split, waves in data.splits.items()}
    assert {split: len(found) for split, found in lengths.items()} == {split: row[split] for split in lengths}
    assert {int(steps) for found in lengths.values() for steps in found} == {row["longest"]}
    assert [f.nll for f in data.floors().values()] == pytest.approx(FLOORS[name], abs=1e-4)
    train = divide(data.recordings(), "corpus")["train"]
    files = [io.BytesIO(r.content) if isinstance(r.content, bytes) else r.content for r in train]
    samples = np.concatenate([soundfile.read(file, dtype="int16")[0] for file in files]).astype(float)
    assert data.scale == pytest.approx(samples.std(), rel=1e-9)
    assert data.splits["test"].mean == pytest.approx(samples.mean(), rel=1e-9)


def test_floors_without_noise_are_those_of_the_quick_trial(corpus, monkeypatch, kept):
    """On standardised FSDD-A the issue's trial had 14.0 and 11.5 nats a step; its sequences were others."""
    corpus("fsdd_a")
    monkeypatch.setenv("SEQBENCH_CACHE", str(kept))
    data = datamodules.FSDD(dequantise=False)
    data.setup()
    single, linear, _ = (f.nll for f in data.floors().values())
    assert (single, linear) == (pytest.approx(14.0, abs=0.3), pytest.approx(11.5, abs=0.3))


def test_fsdd_splits_are_the_official_ones(corpus):
    recordings = divide(corpus("fsdd_a").recordings(), "corpus")
    assert {split: len(found) for split, found in recordings.items()} == {"train": 2400, "valid": 300, "test": 300}
    numbers = {s: {int(r.name[:-4].split("_")[2]) for r in found} for s, found in recordings.items()}
    assert numbers == {"test": set(range(5)), "valid": set(range(5, 10)), "train": set(range(10, 50))}
    contents = {s: {hashlib.sha256(r.content).digest() for r in found} for s, found in recordings.items()}
    assert len(set.union(*contents.values())) == 3000  # no recording twice, in no split
    assert len({r.speaker for r in recordings["test"]}) == 6
    by_speaker = divide(corpus("fsdd_a").recordings(), "speaker")
    assert [len({r.speaker for r in by_speaker[s]}) for s in ("train", "valid", "test")] == [4, 1, 1]


def test_samples_are_those_of_the_files(corpus):
    """B joins recordings in the order of names; A and B have the same noise on the same samples."""
    a, b = corpus("fsdd_a"), corpus("fsdd_b")
    tests = divide(b.recordings(), "corpus")["test"]
    joined = np.concatenate([soundfile.read(io.BytesIO(r.content), dtype="int16")[0] for r in tests])
    assert np.array_equal(b.splits["test"].samples.numpy(), joined)
    start = int(a.splits["test"].starts[300])
    long = int((b.splits["test"].starts <= start).nonzero()[-1])
    offset = start - int(b.splits["test"].starts[long])
    if offset + 500 <= 8000:
        short = a.splits["test"].read(torch.tensor([300]))[0]
        assert torch.equal(short, b.splits["test"].read(torch.tensor([long]))[0, offset : offset + 500])


def test_a_lossless_coder_needs_about_the_bits_of_the_ar_model(corpus):
    """The AR(20) row as bits a sample, beside FLAC's real size of the same split."""
    data = corpus("yesno_b")
    samples = data.splits["test"].samples.numpy()
    packed = io.BytesIO()
    soundfile.write(packed, samples, 8000, format="FLAC")
    bits = bits_per_sample(data.floors()["AR(20), sample by sample"].nll, 10, data.scale)
    assert bits == pytest.approx(8 * len(packed.getvalue()) / len(samples), abs=2.5)


def test_an_archive_with_other_content_is_refused(alone):
    path = alone / corpora.FSDD.file
    path.parent.mkdir(parents=True)
    content = io.BytesIO()
    soundfile.write(content, np.zeros(2000, np.int16), 8000, format="WAV")
    with tarfile.open(path, "w:gz") as tar:
        for name in ("fsdd/recordings/0_ann_0.wav", "fsdd/recordings/../../../0_ann_1.wav"):
            member = tarfile.TarInfo(name)
            member.size = len(content.getvalue())
            tar.addfile(member, io.BytesIO(content.getvalue()))
    with pytest.raises(SeqbenchError, match="other content"):
        datamodules.FSDD().setup()
    with pytest.raises(SeqbenchError, match="more than this corpus"):
        archives.members(path, "recordings", ".wav", 100)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SeqbenchError, match="not a readable archive"):
        datamodules.FSDD().setup()


def test_content_digest_is_that_of_sha256sum():
    text = b"".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode() for name, content in (("a", b"1"), ("b", b"2"))
    )
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in (("b", b"2"), ("a", b"1"))}
    assert content_digest(hashes) == hashlib.sha256(text).hexdigest()


def sound(path: Path, rate: int, seconds: float = 0.2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int.from_bytes(hashlib.sha256(str(path).encode()).digest()[:4])
    noise = np.random.default_rng(seed).integers(-3000, 3000, int(rate * seconds))
    soundfile.write(path, noise.astype(np.int16), rate)


def speech_commands(root: Path) -> int:
    folder = root / "SpeechCommands" / "speech_commands_v0.02"
    for word in ("yes", "no"):
        for speaker in ("aa", "bb", "cc", "dd"):
            sound(folder / word / f"{speaker}_nohash_0.wav", 16_000)
    sound(folder / "_background_noise_" / "pink.wav", 16_000)
    (folder / "validation_list.txt").write_text("yes/bb_nohash_0.wav\nno/bb_nohash_0.wav\n")
    (folder / "testing_list.txt").write_text("yes/aa_nohash_0.wav\nno/aa_nohash_0.wav\n")
    return 8


def ljspeech(root: Path) -> int:
    names = [f"LJ001-{number:04}" for number in range(12)]
    for name in names:
        sound(root / "LJSpeech-1.1" / "wavs" / f"{name}.wav", 22_050)
    (root / "LJSpeech-1.1" / "metadata.csv").write_text("".join(f"{name}|x|x\n" for name in names))
    return 12


def cmu_arctic(root: Path) -> int:
    for voice in ("bdl", "clb", "rms", "slt"):
        folder = root / "ARCTIC" / f"cmu_us_{voice}_arctic"
        for number in range(5):
            sound(folder / "wav" / f"arctic_a{number:04}.wav", 16_000)
        (folder / "etc").mkdir()
        (folder / "etc" / "txt.done.data").write_text("".join(f'( arctic_a{n:04} "x" )\n' for n in range(5)))
    return 20


def librispeech(root: Path) -> int:
    for speaker, subset in enumerate(("train-clean-100", "dev-clean", "test-clean"), 1):
        chapter = root / "LibriSpeech" / subset / str(speaker) / "7"
        for number in range(3):
            sound(chapter / f"{speaker}-7-{number:04}.flac", 16_000)
        (chapter / f"{speaker}-7.trans.txt").write_text("".join(f"{speaker}-7-{n:04} WORD\n" for n in range(3)))
    return 9


LAYOUTS = {
    "speech_commands_a": (speech_commands, corpora.SpeechCommands, 8),
    "ljspeech_a": (ljspeech, corpora.LJSpeech, 12),
    "cmu_arctic_a": (cmu_arctic, None, 0),
    "librispeech_a": (librispeech, corpora.LibriSpeech, dict.fromkeys(corpora.LibriSpeech.expected, 3)),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("where", ["mirror", "cache"])
def test_layouts(alone, monkeypatch, tmp_path, name, where):
    layout, kind, expected = LAYOUTS[name]
    root = tmp_path / "mirror" if where == "mirror" else alone
    count = layout(root / "speech")
    if where == "mirror":
        monkeypatch.setenv("SEQBENCH_MIRROR", str(root))
    data = dataset(name)
    if kind is not None:
        with pytest.raises(SeqbenchError, match="recordings, not"):
            data.setup()
        monkeypatch.setattr(kind, "expected", expected)
    data.setup()
    found = data.recordings()
    assert len({r.name for r in found}) == len(found) == count
    assert name == "librispeech_a" or location(data.file) != "no"
    splits = divide(found, "corpus")
    assert all(splits.values())
    if name in ("speech_commands_a", "librispeech_a"):
        speakers = [{r.speaker for r in part} for part in splits.values()]
        assert sum(map(len, speakers)) == len(set.union(*speakers))
    pieces = int(data.corpus_rate * 0.2) // 500
    assert sum(len(waves.lengths) for waves in data.splits.values()) == pieces * count
    assert len(data.task.digest) == 64


def test_cmu_arctic_by_speaker(alone):
    cmu_arctic(alone / "speech")
    data = datamodules.CMUArctic(split="speaker")
    data.setup()
    splits = divide(data.recordings(), "speaker")
    assert [len({r.speaker for r in splits[s]}) for s in ("train", "valid", "test")] == [2, 1, 1]
    with pytest.raises(SeqbenchError, match="no archive 'cmu_us_nobody_arctic'"):
        _ = datamodules.CMUArctic(voices=("nobody",)).task
    with pytest.raises(SeqbenchError, match="did you mean train-clean-100"):
        datamodules.LibriSpeech(train=("train-clean-1000",))


def test_a_download_that_fails_leaves_nothing(alone):
    def download(root: Path) -> None:
        (root / "LJSpeech-1.1").mkdir()
        raise RuntimeError("The hash of the downloaded file does not match")

    with pytest.raises(SeqbenchError, match=r"hash.*SEQBENCH_MIRROR.*speech/LJSpeech-1\.1"):
        unpacked("LJSpeech-1.1", download)
    assert not [path for path in (alone / "speech").iterdir() if path.suffix != ".lock"]

    def works(root: Path) -> None:
        (root / "LJSpeech-1.1").mkdir()

    assert unpacked("LJSpeech-1.1", works) == alone / "speech" / "LJSpeech-1.1"
    assert unpacked("LJSpeech-1.1", download) == alone / "speech" / "LJSpeech-1.1"  # there already
