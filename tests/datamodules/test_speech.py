"""Frames, noise, scale, splits and digest of speech against plain loops over what was written into WAV files."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from seqbench import cli, datamodules, record
from seqbench.datamodules.audio import Recording
from seqbench.datamodules.frames import Waves, floors
from seqbench.datamodules.speech import cut, divide, spread
from seqbench.record import bits_per_sample
from seqbench.task import SeqbenchError

LENGTHS = [3000, 4111, 2500, 499, 1000, 5200, 3333, 2001, 1500, 2750, 1999, 4000]


@pytest.fixture
def plain(alone, voices):
    """Made-up recordings without dequantisation, loaded."""
    data = datamodules.WavFolder(str(voices(LENGTHS)), dequantise=False)
    data.setup()
    return data


def members(data) -> dict[str, list[np.ndarray]]:
    """Each split's recordings as soundfile reads them, in the order of names."""
    splits = divide(data.recordings(), data.split)
    return {s: [soundfile.read(r.content, dtype="int16")[0] for r in found] for s, found in splits.items()}


def test_frames_are_the_plain_loop(plain):
    files = members(plain)
    everything = np.concatenate(files["train"]).astype(np.float64)
    for split, recordings in files.items():
        pieces = [r[i : i + 500] for r in recordings for i in range(0, len(r) - 499, 500)]
        assert plain.splits[split].lengths.tolist() == [48] * len(pieces)
        batch = plain.gather(split, torch.tensor([[1, -1, 0], [0, 2, -1]]))
        assert (batch.x.shape, batch.y.shape) == ((48, 2, 3, 20), (48, 2, 3, 10))
        assert batch.mask[:, 0].tolist() == [[True, False, True]] * 48
        assert batch.steps.tolist() == [[48, 0, 48], [48, 48, 0]]
        assert batch.index.tolist() == [[1, -1, 0], [0, 2, -1]]
        for r, b, n in ((0, 0, 1), (0, 2, 0), (1, 0, 0), (1, 1, 2)):
            piece = (pieces[n] - everything.mean()) / everything.std()
            for t in (0, 1, 47):
                x, y = piece[10 * t : 10 * t + 20], piece[10 * t + 20 : 10 * t + 30]
                np.testing.assert_allclose(batch.x[t, r, b], x, rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(batch.y[t, r, b], y, rtol=1e-5, atol=1e-6)
        assert not batch.x[:, 0, 1].any()
    assert plain.scale == pytest.approx(everything.std(), rel=1e-12)


def test_a_protocol_stands_for_options(alone, voices):
    """B is joined recordings in sequences of 8,000 samples, 8 a step; A each by itself, 500 samples, 32 a step."""
    root = str(voices([20_000] * 10))
    spelt = {"A": {"length": 500, "concatenate": False, "batch_size": 32}}
    spelt["B"] = {"length": 8000, "concatenate": True, "batch_size": 8}
    for protocol, other in (("A", "B"), ("B", "A")):
        short, long = (datamodules.WavFolder(root, **kind) for kind in ({"protocol": protocol}, spelt[protocol]))
        assert short.batch_size == long.batch_size
        short.setup()
        long.setup()
        for split in ("train", "valid", "test"):
            assert torch.equal(short.splits[split].starts, long.splits[split].starts)
        mixed = datamodules.WavFolder(root, protocol=other, **spelt[protocol])
        assert mixed.batch_size == spelt[protocol]["batch_size"]
    with pytest.raises(SeqbenchError, match="no protocol 'C'"):
        datamodules.WavFolder(root, protocol="C")


def test_a_list_of_splits_is_not_drawn_over(alone, voices, tmp_path):
    (tmp_path / "list").write_text("train 0.wav\n")
    with pytest.raises(SeqbenchError, match=r"has the splits already: leave out --data\.split file"):
        datamodules.WavFolder(str(voices([2000] * 3)), files=str(tmp_path / "list"), split="file").setup()


def test_joined_recordings_are_cut_across_their_ends(alone, voices):
    data = datamodules.WavFolder(str(voices(LENGTHS)), dequantise=False, concatenate=True, length=1100)
    data.setup()
    for split, recordings in members(data).items():
        joined = np.concatenate(recordings)
        assert data.splits[split].lengths.tolist() == [108] * (len(joined) // 1100)
        got = data.gather(split, torch.tensor([[len(joined) // 1100 - 1]])).y[-1, 0, 0] * data.scale
        end = len(joined) // 1100 * 1100
        np.testing.assert_allclose(got + data.splits[split].mean, joined[end - 10 : end], atol=0.01)


def test_noise_is_one_step_fixed_and_the_same_in_every_batch(alone, voices, plain):
    root = str(voices(LENGTHS))
    noisy, again = datamodules.WavFolder(root), datamodules.WavFolder(root, seeds=[5], batch_size=3)
    noisy.setup()
    again.setup()
    index = torch.arange(10)[None]
    noise = (noisy.gather("train", index).y - plain.gather("train", index).y) * noisy.scale
    assert float(noise.abs().max()) == pytest.approx(0.5, abs=0.01)
    assert float(noise.std()) == pytest.approx(1 / math.sqrt(12), rel=0.03)
    assert noisy.scale == plain.scale
    for batch in (torch.tensor([[3]]), torch.tensor([[9, 3, -1]])):
        slot = batch[0].tolist().index(3)
        assert torch.equal(again.gather("train", batch).x[:, 0, slot], noisy.gather("train", index).x[:, 0, 3])


def test_digest_follows_from_content_and_all_that_shapes_the_frames(alone, voices):
    root = voices(LENGTHS)
    task = datamodules.WavFolder(str(root)).task
    assert (task.name, task.input_size, task.target_size) == ("wav_folder_a", 20, 10)
    assert (task.head, task.unit, task.next_frame) == ("GaussianMixture", "nats/step", False)
    assert task == datamodules.WavFolder(str(root), batch_size=3, order="shuffled", seeds=[4, 5]).task
    options = [
        {}, {"dequantise": False}, {"length": 600}, {"frame": 21}, {"hop": 5}, {"sequences": 20}, {"concatenate": True},
        {"sequences": "all"}, {"sample_rate": 4000}, {"split": "file"},
    ]  # fmt: skip
    digests = {datamodules.WavFolder(str(root), **option).task.digest for option in options}
    assert len(digests) == len(options)
    path = root / "03.wav"
    state = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert datamodules.WavFolder(str(root)).task.digest not in digests
    path.rename(root / "3.wav")
    assert datamodules.WavFolder(str(root)).task.digest not in digests


def test_no_recording_is_in_two_splits_and_copies_stay_together(alone, voices):
    root = voices([2000] * 20)
    for number in range(20):
        os.link(root / f"{number:02}.wav", root / f"copy of {number:02}.wav")
    splits = divide(datamodules.WavFolder(str(root)).recordings(), "corpus")
    assert {split: len(found) for split, found in splits.items()} == {"train": 32, "valid": 4, "test": 4}
    names = [{r.name.removeprefix("copy of ") for r in found} for found in splits.values()]
    assert sum(map(len, names)) == len(set.union(*names)) == 20


def test_speaker_disjoint():
    recordings = [Recording(f"{s}{n}", b"", s, "train", f"{s}{n}") for s in "abcdefghijkl" for n in range(5)]
    splits = divide(recordings, "speaker")
    speakers = {split: {r.speaker for r in found} for split, found in splits.items()}
    assert {split: len(found) for split, found in speakers.items()} == {"train": 10, "valid": 1, "test": 1}
    assert len(set.union(*speakers.values())) == 12
    by_file = divide(recordings, "file")
    assert Counter({split: len(found) for split, found in by_file.items()}) == {"train": 48, "valid": 6, "test": 6}
    with pytest.raises(SeqbenchError, match="2 different speakers"):
        divide([r for r in recordings if r.speaker in "ab"], "speaker")
    with pytest.raises(SeqbenchError, match="valid split has no recordings"):
        divide(recordings, "corpus")


def test_a_list_of_the_users_own(alone, voices, tmp_path):
    root = voices([2000, 3000, 2500, 2600])
    text = tmp_path / "list.txt"
    text.write_text("test 00.wav\ntrain 02.wav\n\nvalid 01.wav\n")
    data = datamodules.WavFolder(str(root), str(text))
    data.setup()
    assert [len(data.splits[split].lengths) for split in ("train", "valid", "test")] == [5, 6, 4]
    other = tmp_path / "other.txt"
    other.write_text("test 01.wav\ntrain 02.wav\nvalid 00.wav\n")
    assert datamodules.WavFolder(str(root), str(other)).task.digest != data.task.digest
    (root / "copy.wav").write_bytes((root / "00.wav").read_bytes())
    for line, reason in (
        ("test 09.wav", "09.wav, which is no recording"),
        ("trian 03.wav", "line 1"),
        ("train 00.wav\ntest copy.wav", "same file"),
        ("train 00.wav\ntrain 00.wav", "line 2"),
    ):
        text.write_text(line)
        with pytest.raises(SeqbenchError, match=reason):
            _ = datamodules.WavFolder(str(root), str(text)).task


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"length": 29}, "frame"),
        ({"hop": 0}, "frame"),
        ({"sequences": 9}, "sequences"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_arguments(options, reason):
    with pytest.raises(SeqbenchError, match=reason):
        datamodules.WavFolder("x", **options)


def test_folders_that_cannot_be_used(alone, voices, tmp_path):
    for root in ("", str(tmp_path / "none")):
        with pytest.raises(SeqbenchError, match=r"--data\.root"):
            _ = datamodules.WavFolder(root).task
    (tmp_path / "empty").mkdir()
    with pytest.raises(SeqbenchError, match="no recordings"):
        _ = datamodules.WavFolder(str(tmp_path / "empty")).task
    with pytest.raises(SeqbenchError, match="recordings known"):
        datamodules.WavFolder(str(voices([2000, 2000]))).setup()
    with pytest.raises(SeqbenchError, match="8000 samples"):
        datamodules.WavFolder(str(voices([2000, 2000, 2000])), length=8000).setup()


def test_cut_and_spread():
    assert cut([1200, 499, 500, 0, 1000], 500).tolist() == [0, 500, 1699, 2199, 2699]
    assert cut([10], 500).tolist() == []
    assert spread(7, None, "x").tolist() == spread(7, 9, "x").tolist() == list(range(7))
    picked = spread(1_000_003, 1000, "train")
    edges = torch.arange(1001) * 1_000_003 // 1000
    assert bool(((edges[:-1] <= picked) & (picked < edges[1:])).all())
    assert len(set((picked % 32).tolist())) == 32  # no stride
    assert torch.equal(picked, spread(1_000_003, 1000, "train"))


def test_number_of_sequences(alone, voices):
    root = str(voices([5000] * 10))
    for sequences, expected in (("all", (80, 10, 10)), (50, (40, 5, 5)), ("ubisoft", (80, 10, 10))):
        data = datamodules.WavFolder(root, sequences=sequences)
        data.setup()
        assert tuple(len(data.splits[s].lengths) for s in ("train", "valid", "test")) == expected


def waves(values: np.ndarray, length: int) -> Waves:
    samples = torch.from_numpy(values.astype(np.int16))
    starts = torch.arange(len(values) // length) * length
    return Waves(
        samples, None, starts, torch.full_like(starts, (length - 20) // 10), length, torch.empty(0), 0.0, 1000.0
    )


def plain_floors(train: np.ndarray, test: np.ndarray) -> list[float]:
    """Each floor by numpy.linalg.lstsq on whole matrices; [N, L] normalised samples."""

    def steps(x):
        rows = [x[n, t : t + 30] for n in range(len(x)) for t in range(0, x.shape[1] - 29, 10)]
        return np.stack(rows)[:, :20], np.stack(rows)[:, 20:]

    def singles(x):
        end = 20 + (x.shape[1] - 20) // 10 * 10
        rows = np.stack([x[n, t : t + 21] for n in range(len(x)) for t in range(end - 20)])
        return rows[:, :20], rows[:, 20:]

    figures = []
    for rows, inputs, factor in ((steps, 0, 1), (steps, 20, 1), (singles, 20, 10)):
        (x, y), (u, v) = rows(train), rows(test)
        x, u = (np.hstack([np.ones((len(z), 1)), z[:, :inputs]]) for z in (x, u))
        weights = np.linalg.lstsq(x, y)[0]
        variance = ((y - x @ weights) ** 2).mean(0)
        density = -0.5 * (v - u @ weights) ** 2 / variance - 0.5 * np.log(2 * np.pi * variance)
        figures.append(-density.sum(1).mean() * factor)
    return figures


def test_floors_are_plain_least_squares(monkeypatch, plain):
    monkeypatch.setattr("seqbench.datamodules.frames.CHUNK", 1200)  # several chunks, the last one smaller
    both = [plain.splits[split] for split in ("train", "test")]
    whole = [torch.cat(list(w.chunks())).numpy() for w in both]
    found = plain.floors()
    assert list(found) == ["single Gaussian", "linear, 20 samples", "AR(20), sample by sample"]
    assert [f.nll for f in found.values()] == pytest.approx(plain_floors(*whole), abs=1e-6)
    assert all(f.nll_first is None and f.nll_sequence == f.nll for f in found.values())


def test_floors_of_known_processes():
    """White noise: nothing helps, 10 (1 + ln 2 pi) / 2. An AR(1) of coefficient 0.9: its innovations' density."""
    g = np.random.default_rng(0)
    white = g.standard_normal(60_000)
    moving = np.zeros(60_000)
    for t in range(1, len(moving)):
        moving[t] = 0.9 * moving[t - 1] + math.sqrt(1 - 0.81) * white[t]
    alike = [f.nll for f in floors(waves(1000 * white, 500), waves(1000 * white, 500), 20, 10).values()]
    assert alike == pytest.approx([5 * (1 + math.log(2 * math.pi))] * 3, abs=0.1)
    single, linear, ar = (f.nll for f in floors(waves(1000 * moving, 500), waves(1000 * moving, 500), 20, 10).values())
    horizons = sum(0.5 * math.log(2 * math.pi * math.e * (1 - 0.81 ** (h + 1))) for h in range(10))
    assert single == pytest.approx(5 * (1 + math.log(2 * math.pi)), abs=0.1)
    assert linear == pytest.approx(horizons, abs=0.1)
    assert ar == pytest.approx(5 * math.log(2 * math.pi * math.e * 0.19), abs=0.1)


def test_bits_per_sample():
    """A uniform density over 2^12 steps is 12 bits, whatever the scale."""
    for scale in (1.0, 1700.0):
        nats = 10 * math.log(2**12 / scale)
        assert bits_per_sample(nats, 10, scale) == pytest.approx(12)


def test_protocols_import_no_torch():
    code = "import sys; import seqbench.datamodules.protocols; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_samples_beyond_the_device_stay_mapped(plain, monkeypatch):
    monkeypatch.setattr("seqbench.datamodules.frames.RESIDENT_BYTES", 10)
    kept = plain.splits["train"]
    assert kept.to(torch.device("meta")) is kept
    monkeypatch.undo()
    assert kept.to(torch.device("meta")).samples.device.type == "meta"


def test_one_command_trains_on_any_folder(alone, voices, monkeypatch, tmp_path):
    """Two replicas, on recordings of two sample rates; the record has the floors, and no frame 1."""
    root = voices([5000] * 8)
    soundfile.write(root / "studio.wav", np.random.default_rng(0).uniform(-0.1, 0.1, (30_000, 2)), 44_100)
    config = Path(__file__).parents[2] / "configs" / "wav_folder.yaml"
    rate = ["--data.sample_rate", "8000"]
    command = ["seqbench", "fit", "-c", str(config), "--data.root", str(root), *rate, "--trainer.max_epochs", "2"]
    options = ["--model.hidden", "6", "--model.seed", "[0,1]", "--run.dir", str(tmp_path / "runs")]
    monkeypatch.setattr("sys.argv", [*command, *options])
    cli.main()
    found = [record.load(path) for path in tmp_path.glob("runs/*/record.json")]
    assert len(found) == 2
    data = datamodules.WavFolder(str(root), sample_rate=8000)
    data.setup()
    for run in found:
        assert (run.status, run.task.unit, run.task.digest) == ("finished", "nats/step", data.task.digest)
        assert run.test.frames == data.splits["test"].lengths.tolist()
        assert run.test.first is None
        assert run.floors == data.floors()
        assert run.curve.valid[1] < run.curve.valid[0]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its memory from /proc")
def test_ten_hours_in_little_memory(alone, voices, tmp_path):
    """Links to 40 recordings make ten hours; decoding, floors and two epochs' batches in a process of their own."""
    root = voices([80_000] * 40)
    for number in range(40):
        for copy in range(1, 90):
            os.link(root / f"{number:02}.wav", root / f"{number:02}-{copy:02}.wav")
    code = """
import sys
from pathlib import Path
from seqbench import datamodules
data = datamodules.WavFolder(sys.argv[1], sequences=int(sys.argv[2]))
data.setup()
seconds = sum(len(s.samples) for s in data.splits.values()) / 8000
data.floors()
for index in data.train_dataloader():
    data.gather("train", index)
assert seconds >= 36000, seconds
assert sum(len(s.lengths) for s in data.splits.values()) == int(sys.argv[2])
(most,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
print(most)
"""
    command = [sys.executable, "-c", code, str(root), "100000"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    # 0.7 GiB of it are torch and Lightning; the samples alone would be 0.54. getrusage knows the parent's size instead.
    assert 1024 * int(done.stdout) < 1.2 * 2**30
    assert sum(path.stat().st_size for path in Path(alone).rglob("*.pcm")) >= 2 * 8000 * 36000
