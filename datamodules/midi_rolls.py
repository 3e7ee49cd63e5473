"""From a MIDI file's events to a piano roll, by one of two rules; every note is in it or counted as left out.

`canonical` is the rule by which the literature's rolls were made (it gives all 1,037 of Nottingham out of their MIDI
files): a frame is a fixed number of ticks, tempo and time signature are ignored; in a track a note-off closes the most
recent note-on of its pitch, whatever the channel; a note is on from the frame line nearest to its beginning to the one
nearest to its end, so it may be too short for any; the first frame is dropped.
`beats` is a musician's: a frame is a part of the beat that the time signature says (6/8 has two), a note-off closes all
of its pitch and channel that began before, the sustain pedal can be heeded, and every note has a frame at least.

In both all tracks are one roll; drums (channel 10) are left out unless asked for, since their numbers are no pitches;
the piece may be transposed as a whole by -5..+6 semitones, its key (by the profiles of tonic.py) to C, and then keys
outside of MIDI 21..108 are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from seqbench.datamodules.midi import DRUMS, OFF, ON, PEDAL_DOWN, PEDAL_UP, Midi, MidiError
from seqbench.datamodules.rolls import KEYS, LOWEST_KEY
from seqbench.datamodules.tonic import profile_tonic, shift_to_c

LONGEST = 200_000  # frames: 14 hours of eighth notes at 120 quarter notes a minute
Roller = Literal["canonical", "beats"]


class Notes(NamedTuple):
    """What sounds, in ticks.

    Attributes:
        on: [N] int64.
        off: [N] int64.
        pitch: [N] int64, MIDI.
        lost: Notes that are none of them, counted by why.
    """

    on: np.ndarray
    off: np.ndarray
    pitch: np.ndarray
    lost: dict[str, int]


@dataclass(frozen=True)
class Roll:
    """A piece.

    Attributes:
        frames: [T, 88] uint8, zeros and ones.
        shift: Semitones by which it was transposed.
        notes: How many are in it.
        lost: Those that are not, by why: "drums", "never closed", "too short", "out of range".
        minutes: How long it plays, to its last note's end.
    """

    frames: np.ndarray
    shift: int
    notes: int
    lost: dict[str, int]
    minutes: float


def roll(
    midi: Midi,
    roller: Roller = "canonical",
    frames_per_beat: int = 2,
    shift: int | None = None,
    *,
    drums: bool = False,
    pedal: bool = False,
) -> Roll:
    """A file's piano roll.

    Args:
        midi: The file.
        roller: By which rule.
        frames_per_beat: Frames of a quarter note (canonical) or of a beat (beats).
        shift: Semitones; None: from the piece's key to C.
        drums: Whether the notes of channel 10 are taken as pitches.
        pedal: Whether the sustain pedal holds notes (beats).

    Raises:
        MidiError: the file counts no beats, no note is left, or the roll would have more than LONGEST frames or fewer
            than two.
    """
    if midi.ticks_per_beat is None:
        raise MidiError("counts SMPTE frames, no beats: --data.ticks_per_beat N says how long a beat is")
    notes = paired(midi, roller, drums, pedal)
    end = int(notes.off.max(initial=0))
    if end * frames_per_beat > LONGEST * midi.ticks_per_beat:
        frames = end * frames_per_beat // midi.ticks_per_beat
        raise MidiError(f"would have {frames:,} frames, more than {LONGEST:,}: cut off the silence in it")
    if roller == "canonical":
        first, last = (_nearest(2 * ticks * frames_per_beat, 2 * midi.ticks_per_beat) - 1 for ticks in notes[:2])
        first = first.clip(0)
    else:
        first, last = (_beat_frames(midi, ticks, frames_per_beat) for ticks in notes[:2])
        last = np.where(notes.off > notes.on, np.maximum(last, first + 1), last)
    if shift is None:
        sounding = np.bincount(notes.pitch % 12, weights=notes.off - notes.on, minlength=12)
        shift = shift_to_c(profile_tonic(sounding))
    keys = notes.pitch + shift - LOWEST_KEY
    long = last > first
    inside = (keys >= 0) & (keys < KEYS)
    kept = long & inside
    lost = notes.lost | {"too short": int((~long).sum()), "out of range": int((long & ~inside).sum())}
    lost = {why: count for why, count in lost.items() if count}
    if not kept.any():
        told = ", ".join(f"{count:,} {why}" for why, count in lost.items())
        raise MidiError(f"has no notes{f' but {told}' if told else ''}")
    length = int(last.max())
    if not 2 <= length <= LONGEST:
        raise MidiError(f"would have {length:,} frames, and 2 to {LONGEST:,} are what can be learnt from")
    return Roll(
        _filled(first[kept], last[kept], keys[kept], length), shift, int(kept.sum()), lost, midi.seconds(end) / 60
    )


def _filled(first: np.ndarray, last: np.ndarray, keys: np.ndarray, length: int) -> np.ndarray:
    """[length, 88] uint8: 1 from `first` to before `last`, key by key, however many notes overlap."""
    frames = np.zeros((length, KEYS), np.uint8)
    for key in np.unique(keys):
        own = keys == key
        changes = np.bincount(first[own], minlength=length + 1) - np.bincount(last[own], minlength=length + 1)
        frames[:, key] = changes.cumsum()[:length] > 0
    return frames


def _nearest(twice: np.ndarray, denominator: int | np.ndarray) -> np.ndarray:
    """The whole numbers nearest to twice / denominator, halves up, where denominator is twice the true one."""
    return (twice + denominator // 2) // denominator


def _beat_frames(midi: Midi, ticks: np.ndarray, frames_per_beat: int) -> np.ndarray:
    """The frame lines [N] nearest to ticks [N]; the lines begin anew where the time signature changes."""
    assert midi.ticks_per_beat
    starts, bases, parts, beats = [0], [0], [4 * frames_per_beat], [4 * midi.ticks_per_beat]
    for tick, numerator, denominator in midi.signatures:
        base = bases[-1] + ((tick - starts[-1]) * parts[-1] * 2 + beats[-1]) // (2 * beats[-1])
        if base > LONGEST:
            break
        compound = numerator > 3 and numerator % 3 == 0
        starts.append(tick)
        bases.append(base)
        parts.append(denominator * frames_per_beat)
        beats.append(4 * midi.ticks_per_beat * (3 if compound else 1))
    at = np.searchsorted(starts, ticks, side="right") - 1
    since = (ticks - np.array(starts)[at]) * np.array(parts)[at]
    return np.array(bases)[at] + _nearest(2 * since, 2 * np.array(beats)[at])


def paired(midi: Midi, roller: Roller, drums: bool = False, pedal: bool = False) -> Notes:
    """All notes of a file, as `roller` closes them: see this module."""
    closed: list[tuple[int, int, int]] = []
    for track in midi.tracks:
        events = [
            (tick, code)
            for tick, code in zip(track.ticks, track.codes, strict=True)
            if (drums or code >> 7 & 15 != DRUMS) and (pedal or code < PEDAL_UP << 11)
        ]
        closed += _last_closed(events) if roller == "canonical" else _all_closed(events, track.end)
    codes = np.frombuffer(b"".join(track.codes.tobytes() for track in midi.tracks), np.uint16)
    begun = codes >> 11 == ON
    beaten = 0 if drums else int((begun & (codes >> 7 & 15 == DRUMS)).sum())
    lost = {"drums": beaten, "never closed": int(begun.sum()) - beaten - len(closed)}
    on, off, pitch = np.array(closed, np.int64).reshape(-1, 3).T
    return Notes(on, off, pitch, lost)


def _last_closed(events: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(on, off, pitch) from (tick, code), where a note-off closes the most recent note-on of its pitch and no other."""
    begun: dict[int, int] = {}
    closed = []
    for tick, code in events:
        pitch = code & 127
        if code >> 11 == ON:
            begun[pitch] = tick
        elif pitch in begun:
            closed.append((begun.pop(pitch), tick, pitch))
    return closed


def _all_closed(events: list[tuple[int, int]], end: int) -> list[tuple[int, int, int]]:
    """(on, off, pitch) from (tick, code), where a note-off closes all earlier note-ons of its pitch and channel.

    Those of its own tick are left for a later one, unless there are no others. Pedals, where there are any among the
    codes, hold what is closed until they are up, or the track ends.
    """
    begun: dict[int, list[int]] = {}
    held: dict[int, list[tuple[int, int]]] = {}  # by channel, where the pedal is down
    closed = []
    for tick, code in events:
        kind, channel, pitch = code >> 11, code >> 7 & 15, code & 127
        if kind == ON:
            begun.setdefault(code & 0x7FF, []).append(tick)
        elif kind == OFF:
            there = begun.pop(code & 0x7FF, [])
            earlier = [on for on in there if on < tick] or there
            if len(earlier) < len(there):
                begun[code & 0x7FF] = there[len(earlier) :]
            if channel in held:
                held[channel] += [(on, pitch) for on in earlier]
            else:
                closed += [(on, tick, pitch) for on in earlier]
        elif kind == PEDAL_DOWN:
            held.setdefault(channel, [])
        elif kind == PEDAL_UP:
            closed += [(on, tick, pitch) for on, pitch in held.pop(channel, [])]
    return closed + [(on, end, pitch) for notes in held.values() for on, pitch in notes]
