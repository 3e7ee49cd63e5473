"""Piano rolls as MIDI and as sound.

A roll says which keys are on, frame by frame, and no more. So a key that is on in several frames on end is one note:
one that is struck again and one that is held look the same. Loudness, instrument, pedal, bars and anything shorter than
a frame are not in it either: all notes are a piano's, equally loud.
T frames, S samples.
"""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from seqbench.datamodules.rolls import LOWEST_KEY

if TYPE_CHECKING:
    from pretty_midi import PrettyMIDI

VELOCITY = 80
RATE = 44_100  # Hz
PARTIALS = (1.0, 0.5, 0.3, 0.15)
PEAK = 0.9


def notes(roll: np.ndarray) -> list[tuple[int, int, int]]:
    """(MIDI pitch, first frame, frame after the last) of each note, in the order of their beginnings, low ones first.

    roll: [T, 88] zeros and ones.
    """
    edges = np.diff(np.pad(roll.astype(np.int8), ((1, 1), (0, 0))), axis=0)  # [T + 1, 88]
    keys, starts = np.nonzero(edges.T == 1)
    _, ends = np.nonzero(edges.T == -1)  # of each key as many as starts, in the same order
    found = zip((keys + LOWEST_KEY).tolist(), starts.tolist(), ends.tolist(), strict=True)
    return sorted(found, key=lambda note: (note[1], note[0]))


def midi(roll: np.ndarray, tempo: float, quarters: float) -> PrettyMIDI:
    """A piano that plays a roll [T, 88].

    Args:
        roll: zeros and ones.
        tempo: quarter notes a minute.
        quarters: quarter notes that a frame has.
    """
    from pretty_midi import Instrument, Note, PrettyMIDI

    seconds = quarters * 60 / tempo
    piano = Instrument(0, name="piano")
    piano.notes = [Note(VELOCITY, pitch, on * seconds, off * seconds) for pitch, on, off in notes(roll)]
    made = PrettyMIDI(initial_tempo=tempo)
    made.instruments.append(piano)
    return made


def midi_file(made: PrettyMIDI) -> bytes:
    """Its file."""
    content = io.BytesIO()
    made.write(content)
    return content.getvalue()


def sound(made: PrettyMIDI, seconds: float, rate: int = RATE) -> np.ndarray:
    """[S] float32 within -1..1: pretty_midi's synthesis, each note a few partials that fade.

    Args:
        made: a piano's notes.
        seconds: how long it is, as the last frames may be silent.
        rate: in Hz; no partial is above half of it.
    """
    from pretty_midi import Instrument, note_number_to_hz

    whole = np.zeros(round(seconds * rate))
    for count in range(1, len(PARTIALS) + 1):
        part = Instrument(0)
        part.notes = [
            note
            for note in made.instruments[0].notes
            if count == min(len(PARTIALS), rate / 2 // note_number_to_hz(note.pitch))
        ]
        played = part.synthesize(rate, partial(_partials, count))[: len(whole)]
        whole[: len(played)] += played
    return (PEAK * whole / max(np.abs(whole).max(), 1e-9)).astype(np.float32)


def _partials(count: int, phase: np.ndarray) -> np.ndarray:
    waves: np.ndarray = sum(share * np.sin((n + 1) * phase) for n, share in enumerate(PARTIALS[:count]))
    return waves
