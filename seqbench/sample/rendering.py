"""What was drawn, as a listener gets it: music as MIDI and sound, speech as sound, both as a picture.

P steps of a prime, T drawn, I inputs, K targets, S samples.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from seqbench.datamodules.base import SequenceData
from seqbench.datamodules.rolls import PianoRolls
from seqbench.datamodules.speech import Speech
from seqbench.datamodules.text import Text
from seqbench.sample import music, picture
from seqbench.sample.ogg import without_serial
from seqbench.task import SeqbenchError

Format = Literal["wav", "ogg"]
FULL_SCALE = 2**15  # steps of 16 bits
SECONDS, TOKENS = 5.0, 20  # that a prime has at most, where nothing else is asked for
AT_ONCE = 2**16  # samples that libsndfile's Vorbis encoder is given: it keeps what it is given on its stack


@dataclass(frozen=True)
class Rendering:
    """A sequence to hear and to see.

    Attributes:
        audio: [S] float32 within -1..1.
        rate: of the audio, in Hz.
        picture: [height, width, 3] bytes.
        midi: a MIDI file; None where it is no music.
    """

    audio: np.ndarray
    rate: int
    picture: np.ndarray
    midi: bytes | None

    def file(self, kind: Format) -> bytes:
        """An audio file: 16-bit WAV, or OGG Vorbis."""
        import soundfile

        content = io.BytesIO()
        subtype = {"wav": "PCM_16", "ogg": "VORBIS"}[kind]
        with soundfile.SoundFile(content, "w", self.rate, 1, subtype, format=kind.upper()) as file:
            for start in range(0, len(self.audio), AT_ONCE):
                file.write(self.audio[start : start + AT_ONCE])
        return without_serial(content.getvalue()) if kind == "ogg" else content.getvalue()

    def png(self) -> bytes:
        """The picture's file."""
        from matplotlib.image import imsave

        content = io.BytesIO()
        imsave(content, self.picture, format="png")
        return content.getvalue()


def step_seconds(data: SequenceData[Any]) -> float:
    """How long a step of a data set is: a frame of music, or the samples that a step of speech predicts.

    Raises:
        SeqbenchError: neither music nor speech.
    """
    if data.step_seconds is None:
        raise SeqbenchError(f"{data.name} is neither music, speech nor text: there is nothing to draw")
    return data.step_seconds


def steps_of(data: SequenceData[Any], seconds: float) -> int:
    """How many steps last so long, one at least.

    Raises:
        SeqbenchError: neither music nor speech.
    """
    return max(1, round(seconds / step_seconds(data)))


def prime(data: SequenceData[Any], sequence: int, steps: int | None) -> Tensor:
    """The beginning of a test sequence as inputs [P, I]; the data set needs `setup`.

    Args:
        data: the data set.
        sequence: counted from 0.
        steps: P; None: 5 seconds, or 20 tokens, but half of the sequence at most.

    Raises:
        SeqbenchError: no such sequence, or it is shorter.
    """
    lengths = data.splits["test"].lengths
    if not 0 <= sequence < len(lengths):
        raise SeqbenchError(f"There is no test sequence {sequence}: {data.name} has 0 to {len(lengths) - 1}")
    batch = data.gather("test", torch.tensor([[sequence]]))
    scored = int(batch.mask.sum())
    if steps is None:
        most = TOKENS if isinstance(data, Text) else steps_of(data, SECONDS)
        steps = min(most, max(1, scored // 2))
    if not 1 <= steps <= max(1, scored):
        raise SeqbenchError(f"Test sequence {sequence} of {data.name} primes with 1 to {scored} steps, not {steps}")
    return batch.x[:steps, 0, 0].float().cpu()


def render(data: SequenceData[Any], given: Tensor | None, y: Tensor, rate: int = music.RATE) -> Rendering:
    """What was given and what was drawn after it.

    Args:
        data: where the network's sequences are from; speech needs `setup`.
        given: inputs [P, I]; None: nothing.
        y: [T, K].
        rate: of music's audio, in Hz; speech has its corpus's.

    Raises:
        SeqbenchError: neither music nor speech.
    """
    seconds = step_seconds(data)
    if isinstance(data, PianoRolls):
        roll = (y if given is None else torch.cat([given, y])).numpy().astype(np.uint8)
        made = music.midi(roll, data.tempo, data.quarters)
        audio = music.sound(made, len(roll) * seconds, rate)
        return Rendering(audio, rate, picture.of_roll(roll, len(roll) - len(y)), music.midi_file(made))
    assert isinstance(data, Speech)  # or `step_seconds` would have refused
    samples = y.flatten() if given is None else torch.cat([given[0], given[1:, -data.hop :].flatten(), y.flatten()])
    waves = data.splits["train"]
    audio = ((samples.double() * waves.scale + waves.mean) / FULL_SCALE).clamp(-1, 1).float().numpy()
    return Rendering(audio, data.sample_rate, picture.of_wave(audio, len(samples) - y.numel()), None)
