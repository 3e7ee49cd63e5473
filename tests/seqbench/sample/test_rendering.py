"""Rolls as MIDI and sound, read back by other programs; speech as the recording that it came from."""

import io

import mido
import numpy as np
import pretty_midi
import pytest
import soundfile
import torch
from PIL import Image

from seqbench.datamodules.polyphonic import JSBChorales, Nottingham
from seqbench.datamodules.wav_folder import WavFolder
from seqbench.sample import music
from seqbench.sample.ogg import without_serial
from seqbench.sample.rendering import Rendering, prime, render, step_seconds
from seqbench.task import SeqbenchError


def rolls():
    """A random one, silent frames at both ends, and the extremes."""
    g = np.random.default_rng(0)
    random = (g.random((60, 88)) < 0.15).astype(np.uint8)
    random[:3] = random[-4:] = 0
    return [random, np.ones((5, 88), np.uint8), np.eye(88, dtype=np.uint8), np.zeros((4, 88), np.uint8)]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize(("tempo", "quarters"), [(120.0, 0.5), (80.0, 1.0), (77.7, 0.25)])
def test_a_midi_file_has_the_roll_and_held_notes_are_joined(number, tempo, quarters):
    roll = rolls()[number]
    content = music.midi_file(music.midi(roll, tempo, quarters))
    read = mido.MidiFile(file=io.BytesIO(content))
    tempos = [m.tempo for track in read.tracks for m in track if m.type == "set_tempo"]
    assert tempos == pytest.approx([60e6 / tempo], abs=1)  # whole microseconds
    found, on, struck = np.zeros_like(roll), {}, 0
    for track in read.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "note_on" and message.velocity:
                on[message.note] = tick
                struck += 1
            elif message.type in ("note_on", "note_off"):
                first, last = (round(t / (read.ticks_per_beat * quarters)) for t in (on.pop(message.note), tick))
                found[first:last, message.note - 21] = 1
    assert not on
    assert np.array_equal(found, roll)
    assert struck == sum(int(roll[t, k]) and not (t and roll[t - 1, k]) for t in range(len(roll)) for k in range(88))


def strongest(audio, rate):
    """The frequency with the most energy."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
    return np.argmax(spectrum) * rate / len(audio)


@pytest.mark.parametrize("rate", [44_100, 16_000])
@pytest.mark.parametrize("key", [0, 27, 48, 87])
def test_the_sound_of_a_note_has_its_frequency_and_no_other_than_its_multiples(key, rate):
    roll = np.zeros((6, 88), np.uint8)
    roll[2:4, key] = 1
    audio = music.sound(music.midi(roll, 60, 1.0), 6.0, rate)
    assert len(audio) == 6 * rate
    assert not audio[: 2 * rate].any()
    assert not audio[4 * rate :].any()
    assert np.abs(audio).max() == pytest.approx(0.9, abs=1e-3)
    note = audio[2 * rate : 4 * rate]
    frequency = pretty_midi.note_number_to_hz(key + 21)
    assert strongest(note, rate) == pytest.approx(frequency, abs=1)
    power = np.abs(np.fft.rfft(note * np.hanning(len(note)))) ** 2
    places = np.fft.rfftfreq(len(note), 1 / rate)
    partials = np.abs(places / frequency - np.round(places / frequency)) * frequency < 6
    assert power[partials & (places > frequency / 2)].sum() > 0.999 * power.sum()


@pytest.mark.parametrize(("kind", "exact"), [("wav", 1 / 2**15), ("ogg", None)])
def test_audio_files_hold_what_was_rendered(kind, exact):
    """Longer than what the encoder is given at once."""
    audio = music.sound(music.midi(rolls()[0], 120, 0.5), 15.0)
    content = Rendering(audio, 44_100, np.zeros((1, 1, 3), np.uint8), None).file(kind)
    read, rate = soundfile.read(io.BytesIO(content))
    assert rate == 44_100
    assert len(read) == len(audio)
    if exact:
        assert np.abs(read - audio).max() <= exact
    assert np.corrcoef(read, audio)[0, 1] > 0.98


def test_an_audio_file_is_the_same_each_time_and_other_programs_read_it():
    """The serial number that libsndfile draws, and the pages' checksums, which readers hold against their content."""
    audio = music.sound(music.midi(rolls()[0], 120, 0.5), 15.0)
    rendering = Rendering(audio, 22_050, np.zeros((1, 1, 3), np.uint8), None)
    content = io.BytesIO()
    soundfile.write(content, audio, 22_050, format="OGG", subtype="VORBIS")
    file = rendering.file("ogg")
    assert file == rendering.file("ogg") == without_serial(content.getvalue()) != content.getvalue()
    assert np.array_equal(soundfile.read(io.BytesIO(file))[0], soundfile.read(io.BytesIO(content.getvalue()))[0])
    wrong = bytearray(file)
    wrong[22] ^= 1  # of the first page's checksum
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.read(io.BytesIO(bytes(wrong)))


def test_silence_is_silent():
    audio = music.sound(music.midi(np.zeros((4, 88)), 120, 0.5), 1.0)
    assert len(audio) == 44_100
    assert not audio.any()


def test_music_is_as_fast_as_its_set_and_its_picture_tells_what_was_given():
    data = JSBChorales()
    assert (step_seconds(data), step_seconds(Nottingham())) == (0.75, 0.25)
    given, y = torch.zeros(2, 88), torch.zeros(4, 88)
    given[:, 39] = y[:, 0] = 1
    found = render(data, given, y)
    assert len(found.audio) == round(6 * 0.75 * found.rate)
    read = pretty_midi.PrettyMIDI(io.BytesIO(found.midi))
    held = sorted((n.pitch, round(n.start, 3), round(n.end, 3)) for n in read.instruments[0].notes)
    assert held == [(21, 1.5, 4.5), (60, 0.0, 1.5)]
    picture = np.asarray(Image.fromarray(found.picture))
    height, width, _ = picture.shape
    assert (height % 88, width % 6) == (0, 0)
    small = picture[:: height // 88, :: width // 6][::-1]  # [88, 6, 3], the lowest key first
    assert (small[39, :2] == small[39, 0]).all()
    assert (small[0, 2:] == small[0, 2]).all()
    assert len({tuple(colour) for colour in (small[39, 0], small[0, 2], small[50, 3])}) == 3
    assert tuple(small[39, 3]) != tuple(small[39, 0])


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """Ten of them, loud and quiet, with an offset, at a rate of their own."""
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "wav").mkdir()
    g = np.random.default_rng(0)
    for n in range(10):
        samples = (3000 * np.sin(np.arange(900) / (5 + n)) + g.normal(500, 200, 900)).astype(np.int16)
        soundfile.write(tmp_path / f"wav/{n}.wav", samples, 11_025, subtype="PCM_16")
    data = WavFolder(str(tmp_path / "wav"), sample_rate=11_025, length=900, sequences="all")
    data.prepare_data()
    data.setup()
    return data


def test_speech_is_the_recording_again(recordings, tmp_path):
    """What the data set has normalised is rendered as the samples of the file, but for the noise of half a step."""
    batch = recordings.gather("test", torch.zeros(1, 1, dtype=torch.long))
    x, y = batch.x[:, 0, 0], batch.y[:, 0, 0]
    given = prime(recordings, 0, 30)
    assert torch.equal(given, x[:30])
    found = render(recordings, given, y[29:])
    read, rate = soundfile.read(io.BytesIO(found.file("wav")), dtype="int16")
    assert rate == found.rate == 11_025
    originals = [soundfile.read(path, dtype="int16")[0] for path in (tmp_path / "wav").glob("*.wav")]
    nearest = min(np.abs(read.astype(int) - original).max() for original in originals)
    assert nearest <= 1
    assert len(read) == 900
    assert found.midi is None
    assert step_seconds(recordings) == pytest.approx(10 / 11_025)
    given_columns = (np.asarray(found.picture) == (130, 130, 130)).all(-1).any(0)
    assert given_columns.sum() == pytest.approx((20 + 29 * 10) / 900 * found.picture.shape[1], abs=2)


def test_a_prime_is_a_test_sequences_beginning(recordings):
    assert len(prime(recordings, 0, None)) == 44  # half of 88 steps, where 5 seconds would be more
    for sequence, steps, told in ((99, None, "no test sequence 99"), (-1, None, "no test sequence -1"), (0, 89, "88")):
        with pytest.raises(SeqbenchError, match=told):
            prime(recordings, sequence, steps)
