"""MIDI files as people have them, built byte by byte: each is read right, or refused with the reason."""

from __future__ import annotations

import io
import itertools
import random
import tracemalloc
from collections import Counter
from contextlib import suppress

import mido
import numpy as np
import pretty_midi
import pytest

from seqbench.datamodules.midi import MidiError, read
from seqbench.datamodules.midi_rolls import LONGEST, roll

END = b"\0\xff\x2f\0"


def number(value: int) -> bytes:
    """A variable-length number."""
    found = [value & 127]
    while value := value >> 7:
        found.append(value & 127 | 128)
    return bytes(reversed(found))


def note(pitch: int, length: int = 480, delta: int = 0, channel: int = 0) -> bytes:
    return number(delta) + bytes([0x90 | channel, pitch, 64]) + number(length) + bytes([0x80 | channel, pitch, 0])


def smf(*tracks: bytes, kind: int = 1, division: int = 480, announced: int | None = None) -> bytes:
    count = len(tracks) if announced is None else announced
    header = b"".join(value.to_bytes(2, "big") for value in (kind, count, division))
    return b"MThd\0\0\0\6" + header + b"".join(b"MTrk" + len(t).to_bytes(4, "big") + t for t in tracks)


def sounding(content: bytes, **options) -> list[list[int]]:
    """Each frame's MIDI numbers, by the rule `beats` and without a shift unless told otherwise."""
    frames = roll(read(content), **({"roller": "beats", "shift": 0} | options)).frames
    return [(np.flatnonzero(frame) + 21).tolist() for frame in frames]


TWO = [[60], [60], [64], [64]]  # what most of the files below hold: C and E, a quarter each
C, E = note(60), note(64)
READ = {
    "type 0": smf(C + E + END, kind=0),
    "type 1": smf(C + END, note(64, delta=480) + END),
    "type 2 with one track": smf(C + E + END, kind=2),
    "running status": smf(b"\0\x90\x3c\x40\x83\x60\x3c\0\0\x40\x40\x83\x60\x40\0" + END),
    "running status across a text": smf(b"\0\x90\x3c\x40\0\xff\x01\x01a\x83\x60\x3c\0\0\x40\x40\x83\x60\x40\0" + END),
    "velocity 0 in other words": smf(C.replace(b"\x80\x3c\0", b"\x90\x3c\0") + E + END),
    "a note-off with a velocity": smf(C.replace(b"\x80\x3c\0", b"\x80\x3c\x7f") + E + END),
    "no end of the track": smf(C + E),
    "zeros behind the end of the track": smf(C + E + END + bytes(5)),
    "more tracks than announced": smf(C + END, note(64, delta=480) + END, announced=1),
    "a chunk of another kind": smf(C + END)[:14] + b"XFIH\0\0\0\3abc" + smf(C + E + END)[14:],
    "a longer header": b"MThd\0\0\0\x08" + smf(C + E + END)[8:14] + b"\0\0" + smf(C + E + END)[14:],
    "something behind the last track": smf(C + E + END) + b"\x1a\0garbage",
    "system exclusive": smf(b"\0\xf0\x03\x7e\x7f\xf7" + C + b"\0\xf7\x01\x05" + E + END),
    "other channel events": smf(b"\0\xc0\x05\0\xb0\x07\x64\0\xe0\0\x40\0\xd0\x05\0\xa0\x3c\x05" + C + E + END),
    "the end 10^7 ticks later": smf(C + E + number(10**7) + b"\xff\x2f\0"),
    "a meta-event nobody knows": smf(b"\0\xff\x60\x02ab" + C + E + END),
    **{
        f"text in {code}": smf(b"\0\xff\x03" + number(len(text)) + text + C + E + END)
        for code in ("utf-8", "utf-16", "shift-jis", "cp1251")
        for text in ["録音".encode(code) if code != "cp1251" else b"\xcf\xf0\xe8\xff\xfe\x80"]
    },
}


@pytest.mark.parametrize("case", READ)
def test_read_right(case):
    assert sounding(READ[case]) == TWO


REFUSED = {
    "empty": (b"", "is empty"),
    "gzip": (b"\x1f\x8b\x08" + bytes(40), "is gzip"),
    "RIFF": (b"RIFF\x20\0\0\0RMIDdata", "is RIFF"),
    "a page of the web": (b"<!DOCTYPE html><html>404</html>", "does not begin with MThd"),
    "half a header": (smf(C)[:11], "header is cut short"),
    "a header that lies of its length": (b"MThd\xff\xff\xff\xff" + smf(C + END)[8:], "header is cut short or damaged"),
    "type 3": (smf(C + END, kind=3), "type 3"),
    "type 2": (smf(C + END, E + END, kind=2), "type 2"),
    "no ticks": (smf(C + END, division=0), "division 0x0000"),
    "SMPTE of no kind": (smf(C + END, division=0xF028), "division 0xf028"),
    "cut short": (smf(C + E + END)[:-9], "track 1 has 13 of 22 bytes"),
    "fewer tracks than announced": (smf(C + END, announced=3), "has 1 of 3 tracks"),
    "a track's length that lies": (smf(C + E)[:18] + b"\0\0\0\4" + smf(C + E)[22:], "byte 26 begins no track"),
    "SMPTE": (smf(C + END, division=0xE728), "SMPTE"),
    "ends inside an event": (smf(C + b"\0\x90\x3c"), "ends inside an event"),
    "a text that is longer than its track": (smf(C + b"\0\xff\x01\x20abc"), "ends inside an event"),
    "goes on behind its end": (smf(C + END + E + END), "goes on for 13 bytes"),
    "no such status": (smf(b"\0\xf4" + C + END), "0xf4 begins no event"),
    "no status at all": (smf(b"\0\x3c\x40" + C + END), "0x3c begins no event"),
    "a value above 127": (smf(b"\0\x90\x3c\xc0" + C + END), "values above 127"),
    "a number without end": (smf(b"\x80\x80\x80\x80\0\x90\x3c\x40" + C + END), "more than four bytes"),
    "a tempo of two bytes": (smf(b"\0\xff\x51\x02\x07\xa1" + C + END), "a tempo of no sense"),
    "a bar of nothing": (smf(b"\0\xff\x58\x04\0\x02\x18\x08" + C + END), "a time signature of no sense"),
    "no tracks": (smf(), "has no notes$"),
    "no notes": (smf(END), "has no notes$"),
    "drums only": (smf(note(38, channel=9) * 3 + END), "has no notes but 3 drums"),
    "never closed": (smf(b"\0\x90\x3c\x40\x60\x40\x40" + END), "has no notes but 2 never closed"),
    "a single frame": (smf(note(60, 200) + END), "would have 1 frames"),
    "days": (smf(note(60) + note(60, delta=2**28 - 1) + END, division=24), "would have 22,[0-9,]+ frames, more than"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_reason(case):
    content, reason = REFUSED[case]
    with pytest.raises(MidiError, match=reason):
        roll(read(content), "beats", shift=0)


def test_ten_million_ticks_are_a_long_silence():
    frames = roll(read(smf(C + note(64, delta=10**7 - 960) + END)), shift=0).frames
    assert frames.shape == (10**7 // 240, 88)
    assert np.flatnonzero(frames.any(1)).tolist() == [0, len(frames) - 2, len(frames) - 1]


def test_what_is_left_out_is_counted():
    low, high = note(10), note(120)
    body = C + E + note(36, channel=9) + low + high + note(62, 20) + b"\0\x90\x41\x40" + END
    found = roll(read(smf(body)), shift=0)
    assert found.notes == 2
    assert found.lost == {"drums": 1, "out of range": 2, "too short": 1, "never closed": 1}
    assert roll(read(smf(body)), shift=0, drums=True).notes == 3
    assert roll(read(smf(body)), "beats", shift=0).lost == {"drums": 1, "out of range": 2, "never closed": 1}
    assert roll(read(smf(body)), shift=11).lost["out of range"] == 1


def test_time_signatures_make_beats():
    """A bar of 6/8 has two beats, of three eighths each; the lines begin anew where the signature changes."""
    six, two = b"\0\xff\x58\x04\x06\x03\x24\x08", b"\0\xff\x58\x04\x02\x02\x18\x08"
    content = smf(six + note(60, 720) + note(62, 720) + two + note(64) + note(65) + END)
    assert sounding(content, frames_per_beat=1) == [[60], [62], [64], [65]]
    assert sounding(content, frames_per_beat=3) == [[60]] * 3 + [[62]] * 3 + [[64]] * 3 + [[65]] * 3
    assert sounding(content, roller="canonical") == [[60]] * 2 + [[62]] * 3 + [[64]] * 2 + [[65]] * 2


def test_three_quarters_are_three_beats():
    three = b"\0\xff\x58\x04\x03\x02\x18\x08"
    assert sounding(smf(three + C + E + END)) == TWO


def test_a_note_off_is_not_for_a_note_of_its_own_tick():
    on, off = b"\x90\x3c\x40", b"\x80\x3c\0"
    again = smf(b"\0" + on + number(480) + on + b"\0" + off + number(480) + off + END)
    assert sounding(again) == [[60]] * 4
    assert roll(read(again), "beats", shift=0).notes == 2


def test_the_pedal_holds():
    down, up = b"\0\xb0\x40\x7f", b"\0\xb0\x40\0"
    content = smf(down + C + E + up + note(67) + END)
    assert sounding(content) == [[60], [60], [64], [64], [67], [67]]
    assert sounding(content, pedal=True) == [[60], [60], [60, 64], [60, 64], [67], [67]]
    left_down = smf(down + C + number(480) + b"\xff\x2f\0")
    assert sounding(left_down, pedal=True) == [[60]] * 4


def test_minutes_follow_the_tempo():
    slow = b"\0\xff\x51\x03\x0f\x42\x40"  # a second a quarter note
    assert roll(read(smf(C + slow + E + END)), shift=0).minutes == pytest.approx(1.5 / 60)
    assert read(smf(C + END, division=0xE728)).seconds(2000) == pytest.approx(2)  # 25 frames of 40 parts


def made(seed: int, kind: int = 1) -> bytes:
    """A file by mido: several tracks and channels, notes that overlap, tempi, a change of time signature."""
    draw, file = random.Random(seed), io.BytesIO()
    midi = mido.MidiFile(type=kind, ticks_per_beat=480)
    for number in range(1 if kind == 0 else 3):
        events = []
        if number == 0:
            signature = {"type": "time_signature", "numerator": draw.choice([3, 4, 6, 9]), "denominator": 8}
            events = [(0, mido.MetaMessage(**signature)), (2160, mido.MetaMessage("set_tempo", tempo=400_000))]
            events.append((4320, mido.MetaMessage("time_signature", numerator=2, denominator=4)))
        for _ in range(60):
            on, pitch, channel = draw.randrange(0, 9000, 2) + 1, draw.randrange(55, 75), draw.choice([0, number, 9])
            events.append((on, mido.Message("note_on", note=pitch, channel=channel)))
            off = on + draw.randrange(2, 1500, 2)
            events.append((off, mido.Message("note_on", note=pitch, velocity=0, channel=channel)))
        events.sort(key=lambda event: event[0])
        ticks = [0, *(tick for tick, _ in events)]
        midi.tracks.append(
            mido.MidiTrack(e.copy(time=b - a) for (a, b), (_, e) in zip(itertools.pairwise(ticks), events, strict=True))
        )
    midi.save(file=file)
    return file.getvalue()


def by_the_rule(content: bytes, shift: int) -> np.ndarray:
    """The canonical rule in plain loops over mido's messages, drums left out."""
    rows = []
    for track in mido.MidiFile(file=io.BytesIO(content)).tracks:
        tick, begun = 0, {}
        for event in track:
            tick += event.time
            if event.type not in ("note_on", "note_off") or event.channel == 9:
                continue
            if event.type == "note_on" and event.velocity:
                begun[event.note] = tick
            elif event.note in begun:
                rows.append((int(begun.pop(event.note) / 240 + 0.5), int(tick / 240 + 0.5), event.note + shift))
    frames = np.zeros((max(last for _, last, _ in rows), 128), np.uint8)
    for first, last, pitch in rows:
        frames[first:last, pitch] = 1
    return frames[1:, 21:109]


@pytest.mark.parametrize("seed", range(6))
def test_canonical_is_the_rule_in_plain_loops(seed):
    content = made(seed, kind=seed % 2)
    found = roll(read(content), shift=-3)
    assert np.array_equal(found.frames, by_the_rule(content, -3))
    events = [event for track in mido.MidiFile(file=io.BytesIO(content)).tracks for event in track]
    assert found.notes + sum(found.lost.values()) == sum(e.type == "note_on" and e.velocity > 0 for e in events)


@pytest.mark.filterwarnings("ignore:Tempo, Key or Time signature")
@pytest.mark.parametrize("seed", range(6))
def test_beats_are_pretty_midis(seed):
    """Its notes, between its beats in halves; ticks are odd, so that no note lies in the middle between two lines."""
    content = made(seed, kind=seed % 2)
    midi = pretty_midi.PrettyMIDI(io.BytesIO(content))
    beats = midi.get_beats()
    beats = np.append(beats, 2 * beats[-1] - beats[-2])
    lines = np.interp(np.arange(2 * len(beats) - 1) / 2, np.arange(len(beats)), beats)
    notes = [note for instrument in midi.instruments if not instrument.is_drum for note in instrument.notes]
    placed = [(*(np.abs(lines - at).argmin() for at in (note.start, note.end)), note.pitch - 21) for note in notes]
    expected = np.zeros((max(last for _, last, _ in placed), 88), np.uint8)
    for first, last, key in placed:
        expected[first : max(last, first + 1), key] = 1
    assert np.array_equal(roll(read(content), "beats", shift=0).frames, expected)


def damaged(seed: int) -> bytes:
    """A copy with a few bytes changed, and every fifth cut short."""
    draw = random.Random(seed)
    content = bytearray(made(seed % 10, kind=seed % 2))
    for _ in range(draw.choice([1, 1, 2, 5])):
        content[draw.randrange(len(content))] = draw.randrange(256)
    if draw.random() < 0.2:
        del content[draw.randrange(len(content)) :]
    return bytes(content)


def counted_by_mido(content: bytes) -> int:
    """Note-ons of as many tracks as are announced; -1 where a text or a key of no sense stops it."""
    try:
        events = [e for track in mido.MidiFile(file=io.BytesIO(content)).tracks for e in track]
    except Exception:  # noqa: BLE001  # whatever it raises
        return -1
    return sum(event.type == "note_on" and event.velocity > 0 for event in events)


def test_two_hundred_damaged_copies():
    """Refused, or read as mido reads it: not a note more or less, and each in the roll or counted."""
    ends = Counter()
    for seed in range(200):
        content = damaged(seed)
        try:
            midi = read(content)
            found = roll(midi, ("canonical", "beats")[seed // 2 % 2])
        except MidiError:
            ends["refused"] += 1
            continue
        notes, ours = counted_by_mido(content), found.notes + sum(found.lost.values())
        lied = int.from_bytes(content[10:12], "big") < content.count(b"MTrk")
        ends["as mido" if notes == ours else "mido cannot" if notes < 0 else "more tracks" if lied else "others"] += 1
    assert ends["others"] == 0
    assert ends["as mido"] > 40
    assert ends["refused"] > 60


LARGE = {
    "notes": [b"\0\x90\x3c\x40" + b"".join(bytes([1, 30 + i // 2 % 60, 64 * (1 - i % 2)]) for i in range(330_000))],
    "silences": [(b"\0\x90\x3c\x40" + number(2**21) + b"\x3c\0") * 100_000],
    "bars": [b"\0\xff\x58\x04\x03\x02\x18\x08" * 110_000 + C + E],
    "chunks of another kind": [C + E] + [b""] * 120_000,
    "tracks": [b"\0\x90\x3c\x40\x60\x3c\0"] * 66_000,
    "the longest": [C + number(LONGEST * 240 - 1200) + note(60)[1:]],
}


@pytest.mark.parametrize("case", LARGE)
def test_a_megabyte_takes_about_a_second_at_most_and_200_megabytes(case, steps):
    content = smf(*LARGE[case], announced=1)
    if case == "chunks of another kind":
        content = content[:50] + content[50:].replace(b"MTrk", b"XFIH")
    assert len(content) < 2**20

    def rolled(roller):
        with np.errstate(all="raise"), suppress(MidiError):
            roll(read(content), roller)

    for roller in ("canonical", "beats"):
        assert steps(lambda roller=roller: rolled(roller), 30) < 30  # about a second
    if case in ("notes", "the longest"):
        tracemalloc.start()
        rolled("beats")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200 * 2**20
