"""Standard MIDI files: every note-on and note-off with its tick, or a reason why the file cannot be had right.

A reader of our own beside mido, which takes some fifteen times as long and more than a second for a megabyte of notes,
and stops without a word after as many tracks as the header says; pretty_midi reads with mido, and keeps an array of all
ticks. Here a file is read whole or refused: a byte that means nothing, a track that ends inside an event or goes on
behind its end, fewer tracks than announced.
Taken as they are found: running status across meta-events, no end-of-track event, more tracks than announced, chunks of
other kinds. Texts are not decoded, so their encoding is of no matter.

Source: MIDI Manufacturers Association, Standard MIDI Files 1.0 (RP-001).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

MOST_BYTES = 16 * 2**20  # of a file: beyond is no score
OFF, ON, PEDAL_UP, PEDAL_DOWN = range(4)
DRUMS = 9  # the channel, counted from 0
SUSTAIN = 64  # the controller
TEMPO, SIGNATURE, END = 0x51, 0x58, 0x2F  # meta-events
OTHERS = {b"\x1f\x8b": "gzip", b"PK": "a ZIP archive", b"RI": "RIFF, not a Standard MIDI file", b"": "empty"}


class MidiError(Exception):
    """Why a file cannot be read, in a few words; whoever knows its name tells it."""


class Track(NamedTuple):
    """What sounds in a track, in its order.

    Attributes:
        ticks: Of each event, from the track's beginning.
        codes: Of each event: kind * 2048 + channel * 128 + pitch; the kinds are OFF, ON, PEDAL_UP, PEDAL_DOWN. A
            note-on of velocity 0 is OFF.
        end: The track's last tick.
    """

    ticks: array[int]
    codes: array[int]
    end: int


@dataclass(frozen=True)
class Midi:
    """A file.

    Attributes:
        ticks_per_beat: Of a quarter note; None where time is counted in SMPTE frames.
        ticks_per_second: Where it is.
        tracks: All that start together, empty ones left out.
        tempos: (tick, microseconds of a quarter note), by tick.
        signatures: (tick, numerator, denominator), by tick.
    """

    ticks_per_beat: int | None
    ticks_per_second: float | None
    tracks: list[Track]
    tempos: list[tuple[int, int]]
    signatures: list[tuple[int, int, int]]

    def seconds(self, tick: int) -> float:
        """When a tick is, by the tempos; 120 quarter notes a minute before the first."""
        if self.ticks_per_second is not None:
            return tick / self.ticks_per_second
        assert self.ticks_per_beat is not None, "one of both is known"
        changes = [(0, 500_000), *((at, tempo) for at, tempo in self.tempos if at < tick), (tick, 0)]
        micros = sum((after[0] - before[0]) * before[1] for before, after in pairwise(changes))
        return micros / 1e6 / self.ticks_per_beat


def read(content: bytes) -> Midi:
    """A file's content; takes about a tenth of a second and 10 MB for a megabyte of notes.

    Raises:
        MidiError: it cannot be read whole, or its tracks do not start together (type 2).
    """
    if len(content) > MOST_BYTES:
        raise MidiError(f"has {len(content):,} bytes, no score")
    kind, announced, division, place = _header(content)
    tempos: list[tuple[int, int]] = []
    signatures: list[tuple[int, int, int]] = []
    tracks: list[Track] = []
    seen, ended, last = 0, False, content.rfind(b"MTrk")
    while place < len(content):
        name, size = content[place : place + 4], int.from_bytes(content[place + 4 : place + 8], "big")
        if seen >= announced and ended and place > last:
            break  # what some programs leave behind the last track, which ended as it should
        legible = name == b"MTrk" or (name.isascii() and name.decode("latin1").isprintable())
        if len(content) < place + 8 or not legible:
            raise MidiError(f"byte {place} begins no track: the file or a track's length is damaged")
        place += 8
        if place + size > len(content):
            raise MidiError(f"cut short: track {seen + 1} has {len(content) - place} of {size} bytes")
        if name == b"MTrk":
            seen, body = seen + 1, content[place : place + size]
            ended = body.rstrip(b"\0").endswith(b"\xff\x2f")
            track = _track(body, seen, tempos, signatures)
            tracks += [track] if track.codes else []
        place += size
    if seen < announced:
        raise MidiError(f"cut short: has {seen} of {announced} tracks")
    if kind == 2 and seen > 1:
        raise MidiError("is of type 2: its tracks are patterns in no order; save it as type 1")
    tempos.sort(key=lambda change: change[0])
    signatures.sort(key=lambda change: change[0])
    if division & 0x8000:
        frames, parts = 256 - (division >> 8), division & 0xFF
        return Midi(None, (30_000 / 1001 if frames == 29 else frames) * parts, tracks, tempos, signatures)
    return Midi(division, None, tracks, tempos, signatures)


def _header(content: bytes) -> tuple[int, int, int, int]:
    """Type, number of tracks, division, and where the first track begins."""
    if content[:4] != b"MThd":
        what = OTHERS.get(content[:2])
        raise MidiError(f"is {what}" if what else "is no MIDI file: it does not begin with MThd")
    size = int.from_bytes(content[4:8], "big")
    if len(content) < 14 or not 6 <= size <= len(content) - 8:
        raise MidiError("its header is cut short or damaged")
    kind, announced, division = (int.from_bytes(content[n : n + 2], "big") for n in (8, 10, 12))
    if kind > 2:
        raise MidiError(f"is of type {kind}, and there are 0, 1 and 2")
    smpte = division & 0x8000
    if not division or (smpte and (256 - (division >> 8) not in (24, 25, 29, 30) or not division & 0xFF)):
        raise MidiError(f"its header counts time in no way there is (division {division:#06x})")
    return kind, announced, division, 8 + size


def _track(body: bytes, number: int, tempos: list[tuple[int, int]], signatures: list[tuple[int, int, int]]) -> Track:
    """Reads a track's bytes; tempos and time signatures go into the lists.

    A megabyte has half a million events, so the loop is flat: what follows from the status is worked out when it
    changes.
    """
    ticks, codes = array("q"), array("H")
    keep_tick, keep_code, size = ticks.append, codes.append, len(body)
    place = tick = status = either = 0
    length, off, on = -1, 0, 0  # of the running status: its data bytes, and its codes without the pitch
    try:
        while place < size:
            byte = body[place]
            delta, place = (byte, place + 1) if byte < 0x80 else _number(body, place)
            tick += delta
            byte = body[place]
            if byte >= 0xF0:
                place = _special(body, place, tick, number, tempos, signatures)
                continue
            if byte >= 0x80:
                place += 1
                if byte != status:
                    status, length = byte, 1 if byte >> 5 == 0b110 else 2
                    off = OFF << 11 | (byte & 15) << 7
                    on = ON << 11 | (byte & 15) << 7 if byte >= 0x90 else off
            if length == 2:
                either |= body[place] | body[place + 1]
                if status < 0xA0:
                    keep_tick(tick)
                    keep_code((on if body[place + 1] else off) | body[place])
                elif body[place] == SUSTAIN and status >> 4 == 0xB:
                    keep_tick(tick)
                    keep_code((PEDAL_DOWN if body[place + 1] >= 64 else PEDAL_UP) << 11 | (status & 15) << 7)
                place += 2
            elif length == 1:
                either |= body[place]
                place += 1
            else:
                raise MidiError(f"track {number}, byte {place}: {byte:#04x} begins no event")
    except IndexError:
        raise MidiError(f"track {number} ends inside an event") from None
    if either > 0x7F:
        raise MidiError(f"track {number} has values above 127")
    return Track(ticks, codes, tick)


def _special(
    body: bytes, place: int, tick: int, number: int, tempos: list[tuple[int, int]],
    signatures: list[tuple[int, int, int]],
) -> int:  # fmt: skip
    """Reads a meta-event or a system exclusive one; returns where the next event begins."""
    status, kind = body[place], body[place + 1]
    if status not in (0xF0, 0xF7, 0xFF):
        raise MidiError(f"track {number}, byte {place}: {status:#04x} begins no event")
    size, start = _number(body, place + 1 + (status == 0xFF))
    end = start + size
    if end > len(body):
        raise IndexError
    if status == 0xFF and kind in (TEMPO, SIGNATURE):
        _keep(kind, body[start:end], tick, number, tempos, signatures)
    elif status == 0xFF and kind == END:
        if body[end:].strip(b"\0"):
            raise MidiError(f"track {number} goes on for {len(body) - end} bytes behind its end")
        return len(body)
    return end


def _number(body: bytes, place: int) -> tuple[int, int]:
    """A number of one to four bytes, 7 bits each, and where it ends."""
    value = body[place]
    place += 1
    if value < 0x80:
        return value, place
    value &= 0x7F
    for _ in range(3):
        byte = body[place]
        place += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place
    raise MidiError(f"byte {place} of a track: a number of more than four bytes")


def _keep(
    meta: int, data: bytes, tick: int, number: int, tempos: list[tuple[int, int]],
    signatures: list[tuple[int, int, int]],
) -> None:  # fmt: skip
    if meta == TEMPO and len(data) == 3:
        tempos.append((tick, int.from_bytes(data, "big")))
    elif meta == SIGNATURE and len(data) >= 2 and data[0] and data[1] <= 6:
        signatures.append((tick, data[0], 2 ** data[1]))
    else:
        raise MidiError(f"track {number}, tick {tick}: a {'tempo' if meta == TEMPO else 'time signature'} of no sense")
