"""A folder of MIDI files as a data set: Nottingham's rolls out of its files, splits, digest, and what is told."""

from __future__ import annotations

import io
import json
import zipfile

import mido
import numpy as np
import pytest
import torch

from seqbench import cli, record
from seqbench.datamodules import listing
from seqbench.datamodules.fetch import find
from seqbench.datamodules.midi import read
from seqbench.datamodules.midi_folder import MidiFolder
from seqbench.datamodules.midi_rolls import roll
from seqbench.task import SeqbenchError


def tune(number: int, channel: int = 0) -> bytes:
    """A scale from another key for each number, a quarter a note, by mido."""
    file, midi = io.BytesIO(), mido.MidiFile()
    track = midi.add_track(f"tune {number}")
    for step in (0, 2, 4, 5, 7, 9, 11, 12, 7, 4, 0):
        track.append(mido.Message("note_on", note=40 + number + step, channel=channel))
        track.append(mido.Message("note_off", note=40 + number + step, channel=channel, time=480))
    midi.save(file=file)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path, alone):
    """Twelve tunes, nested, of all three endings."""
    root = tmp_path / "songs"
    for number in range(12):
        path = root / ("", "a", "a/b")[number % 3] / f"{number:02}.{('mid', 'MIDI', 'kar')[number % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tune(number))
    return root


def loaded(root, **options) -> MidiFolder:
    data = MidiFolder(str(root), **options)
    data.setup()
    return data


def rolls(data: MidiFolder) -> list[torch.Tensor]:
    return [frames for split in data.load().values() for frames in split]


def test_nottingham_out_of_its_midi_files(canonical):
    """All rolls with the true shifts; 98.5 per cent of the shifts by the key profiles."""
    sets, path = canonical("nottingham").load(), find("nottingham-midi/Nottingham.zip")
    if path is None:
        pytest.skip("nottingham-midi/Nottingham.zip is not in SEQBENCH_MIRROR")
    manifest = json.loads((path.parent / "manifest.json").read_text())
    equal = right = 0
    with zipfile.ZipFile(path) as archive:
        for name, facts in manifest.items():
            place = facts["mat_index"][0] if isinstance(facts["mat_index"], list) else facts["mat_index"]
            midi = read(archive.read(f"Nottingham/{name}"))
            equal += np.array_equal(roll(midi, shift=facts["shift"]).frames, sets[name.split("/")[0]][place].numpy())
            right += roll(midi).shift == facts["shift"]
    assert (len(manifest), equal) == (1037, 1037)
    assert right >= 1015


def test_all_tunes_are_one_in_c(folder):
    data = loaded(folder)
    assert {split: len(s.lengths) for split, s in data.splits.items()} == {"train": 10, "valid": 1, "test": 1}
    assert (data.longest, data.task.name, data.task.input_size) == (21, "midi_folder", 88)
    assert all(
        not len(set((frames.argmax(1) + 21 - 60).remainder(12).tolist()) - {0, 2, 4, 5, 7, 9, 11})
        for frames in rolls(data)
    )
    plain = rolls(loaded(folder, transpose=False))
    assert len({int(frames[-1].argmax()) for frames in plain}) == 12
    assert {len(frames) for frames in rolls(loaded(folder, frames_per_beat=4))} == {43}
    assert {len(frames) for frames in rolls(loaded(folder, roller="beats"))} == {22}
    assert {len(frames) for frames in rolls(loaded(folder, ticks_per_beat=240))} == {43}


def test_what_was_read_is_told(folder, capsys, monkeypatch):
    (folder / "drums.mid").write_bytes(tune(0, channel=9))
    both = mido.MidiFile(file=io.BytesIO(tune(3)))
    both.tracks += mido.MidiFile(file=io.BytesIO(tune(3, channel=9))).tracks
    both.save(folder / "both.mid")
    command = ["seqbench", "data", "prepare", "midi_folder", "--data.root", str(folder), "--data.skip_bad", "true"]
    monkeypatch.setattr("sys.argv", [*command, "--json"])
    cli.main()
    told = json.loads(capsys.readouterr().out)
    assert {key: told[key] for key in ("files", "notes", "left_out")} == {
        "files": 13, "notes": 13 * 11, "left_out": {"drums": 11},
    }  # fmt: skip
    assert told["skipped"] == {"drums.mid": "has no notes but 11 drums"}
    assert told["minutes"] == pytest.approx(13 * 11 / 120, abs=0.01)
    assert 21 <= told["lowest"] < told["highest"] <= 108
    assert sum(told[split]["sequences"] for split in ("train", "valid", "test")) == 13
    assert set(listing.floors("midi_folder", root=str(folder), skip_bad=True)) == {"note unigram", "per-key Markov"}


def test_all_bad_files_are_told_at_once(folder, capsys):
    (folder / "a" / "empty.mid").touch()
    (folder / "cut.mid").write_bytes(tune(0)[:-9])
    (folder / "drums.kar").write_bytes(tune(0, channel=9))
    with pytest.raises(SeqbenchError, match=r"^3 of 15 files") as caught:
        loaded(folder)
    for told in ("a/empty.mid (is empty)", "cut.mid (cut short", "drums.kar (has no notes", "--data.skip_bad"):
        assert told in str(caught.value)
    (folder / "link.mid").symlink_to("nowhere")
    with pytest.raises(SeqbenchError, match=r"^4 of 16 files") as caught:
        loaded(folder)
    assert all(told in str(caught.value) for told in ("link.mid (is a link to nothing", "cut.mid (cut short"))
    assert loaded(folder, skip_bad=True).report()["skipped"]["link.mid"] == "is a link to nothing: mend or remove it"
    (folder / "link.mid").unlink()
    for number in range(100):
        (folder / f"bad{number}.mid").touch()
    with pytest.raises(SeqbenchError, match=r"^103 of 115 .* and \d+ more") as caught:
        loaded(folder)
    assert len(str(caught.value)) < 1000
    data = loaded(folder, skip_bad=True)
    assert len(data.report()["skipped"]) == 103
    data.prepare_data()
    assert "103 of 115 files were skipped: a/empty.mid (is empty); " in capsys.readouterr().err
    assert len(rolls(data)) == 12


def test_hidden_files_and_copies(folder):
    (folder / ".trash").mkdir()
    (folder / ".trash" / "old.mid").touch()
    (folder / "._00.mid").touch()
    for path in sorted(folder.glob("[0-9]*.mid")):
        path.with_name(f"copy of {path.name}").write_bytes(path.read_bytes())
    data = loaded(folder)
    assert sum(len(s.lengths) for s in data.splits.values()) == 16
    of = {file.name.removeprefix("copy of "): set() for file in data._found}
    for file in data._found:
        of[file.name.removeprefix("copy of ")].add(file.split)
    assert all(len(splits) == 1 for splits in of.values())


def test_a_list_of_the_users_own(folder, tmp_path):
    text = tmp_path / "list.txt"
    text.write_text("train 00.mid\nvalid a/01.MIDI\n\ntest a/b/02.kar\ntrain 03.mid\n")
    data = loaded(folder, files=str(text))
    assert [len(s.lengths) for s in data.splits.values()] == [2, 1, 1]
    text.write_text("train 00.mid\nvalid 99.mid\n")
    with pytest.raises(SeqbenchError, match=r"99\.mid, which is no MIDI file"):
        loaded(folder, files=str(text))
    text.write_text("train 00.mid\ntest 03.mid\n")
    with pytest.raises(SeqbenchError, match="valid split has no MIDI files"):
        loaded(folder, files=str(text))


def test_digest_follows_from_content_and_all_that_shapes_the_rolls(folder):
    options = [
        {}, {"roller": "beats"}, {"frames_per_beat": 4}, {"transpose": False}, {"drums": True}, {"skip_bad": True},
        {"roller": "beats", "pedal": True}, {"ticks_per_beat": 240},
    ]  # fmt: skip
    digests = {MidiFolder(str(folder), **option).task.digest for option in options}
    assert len(digests) == len(options)
    assert MidiFolder(str(folder), batch_size=3, seeds=[1]).task.digest in digests
    moved = folder.rename(folder.with_name("moved"))
    assert MidiFolder(str(moved)).task.digest in digests
    (moved / "00.mid").write_bytes(tune(20))
    assert MidiFolder(str(moved)).task.digest not in digests


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"roller": "piano"}, "roller"),
        ({"frames_per_beat": 0}, "frames_per_beat"),
        ({"frames_per_beat": 97}, "frames_per_beat"),
        ({"ticks_per_beat": 0}, "ticks_per_beat"),
        ({"pedal": True}, "heeds no pedal"),
        ({}, r"--data\.root"),
    ],
)
def test_bad_options(options, reason):
    with pytest.raises(SeqbenchError, match=reason):
        _ = MidiFolder(**options).task


@pytest.mark.parametrize("flags", [["--data.rot", "x"], ["--data.roller", "piano"], ["--data.frames_per_beat", "two"]])
def test_flags_that_are_none_of_the_data_sets(flags):
    with pytest.raises(SeqbenchError, match="midi_folder") as caught:
        listing.parsed("midi_folder", flags)
    assert "\n" not in str(caught.value)


def test_one_command_trains_on_a_folder(folder, monkeypatch, tmp_path):
    command = ["seqbench", "fit", "-c", "midi_folder", "--data.root", str(folder), "--trainer.max_epochs", "1"]
    monkeypatch.setattr("sys.argv", [*command, "--model.hidden", "4", "--run.dir", str(tmp_path / "runs")])
    cli.main()
    (run,) = (record.load(path) for path in tmp_path.glob("runs/*/record.json"))
    assert run.task.digest == MidiFolder(str(folder)).task.digest
    assert run.config["run"]["protocol"] == "chung2014"
    assert str(folder) not in json.dumps(run.config)
