"""What TensorBoard is given to hear and see of a run."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from torch.utils.tensorboard.writer import SummaryWriter

from seqbench.datamodules.base import SequenceData
from seqbench.datamodules.rolls import PianoRolls
from seqbench.datamodules.speech import Speech
from seqbench.datamodules.text import Text
from seqbench.sample.ancestral import draw
from seqbench.sample.rendering import prime, render, steps_of
from seqbench.task import SeqbenchError
from seqbench.train.module import SequenceModel

# Short enough that the end of a run does not wait for it, and that its events stay small.
SECONDS, STEPS, TOKENS, RATE = 10.0, 1000, 200, 16_000


def listen(writers: Mapping[int, SummaryWriter], model: SequenceModel, data: SequenceData[Any], step: int) -> None:
    """Gives TensorBoard what each replica makes of the first test sequence's beginning: a picture and sound, or a text.

    Nothing of a run changes: no generator is used. What is neither music, speech nor text is left out, as is a replica
    whose outputs are not finite.

    Args:
        writers: of the replicas that are wanted, counted as the group began.
        model: with the weights that it holds now.
        data: after `setup`.
        step: of the optimiser.
    """
    if not isinstance(data, PianoRolls | Speech | Text):
        return
    given = prime(data, 0, None)
    steps = TOKENS if isinstance(data, Text) else min(steps_of(data, SECONDS), STEPS)
    for slot, writer in writers.items():
        try:
            drawn = draw(model, model.slots.index(slot), steps, prime=given)
        except SeqbenchError:
            continue
        if isinstance(data, Text):
            text = f"given: {data.written(given)}\ndrawn: {data.written(drawn.y)}"
            writer.add_text("sample/text", textwrap.indent(text, "    "), step)  # as code, or <unk> would be a tag
            writer.flush()
            continue
        rendering = render(data, given, drawn.y, RATE)
        name = "sample/roll" if rendering.midi else "sample/waveform"
        writer.add_image(name, rendering.picture, step, dataformats="HWC")
        writer.add_audio("sample/audio", rendering.audio[None], step, rendering.rate)
        writer.flush()
