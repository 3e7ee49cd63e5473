"""What stands above a picture over time: the sequence itself, as its task has it.

T time, I inputs, K targets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seqbench.datamodules.rolls import KEYS, LOWEST_KEY
from seqbench.explain.heat import Heat, heat
from seqbench.task import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from seqbench.explain.explained import Explained

POINTS = 4000  # of a line; beyond it the span of each step is drawn

TOKENS, LETTERS = 60, 13  # tokens that are told one by one along a side, and of each


def beginning(told: list[str] | None, shown: int) -> tuple[int, int] | None:
    """The steps of a text to show where it has more than can be read at once: so many; None: all."""
    return (0, shown) if told is not None and len(told) > TOKENS else None


def strip(axes: Axes, found: Explained) -> Heat | None:
    """Draws a sequence over its steps; what can be read out of it comes back."""
    if found.tokens is not None:
        tokens(axes, found.tokens)
        return None
    return (piano_roll if found.task.head == "Bernoulli" else waveform)(axes, found.x, found.task, found.start)


def tokens(axes: Axes, told: list[str]) -> None:
    """Each above its step."""
    for place, token in zip(*token_ticks(told), strict=True):
        axes.text(place, 0.02, token, rotation=90, ha="center", va="bottom", fontsize=8)
    axes.set_xlim(-0.5, len(told) - 0.5)
    axes.set_axis_off()


def token_ticks(told: list[str]) -> tuple[np.ndarray, list[str]]:
    """Places and texts of as many tokens as can be read, long ones cut, blanks and ends of lines by a sign."""
    places = np.arange(0, len(told), -(-len(told) // TOKENS))
    shown = [token if len(token) <= LETTERS else token[: LETTERS - 1] + "…" for token in told]
    return places, [shown[n].replace(" ", "␣").replace("\n", "↵") for n in places]


def piano_roll(axes: Axes, x: np.ndarray, task: Task, start: int = 0) -> Heat:
    """The keys between the lowest and the highest that sound."""
    sounding = np.flatnonzero(x.any(0)) if x.any() else np.array([0, task.input_size - 1])
    low, high = int(sounding[0]), int(sounding[-1])
    first, what = (LOWEST_KEY, "MIDI key") if task.input_size == KEYS else (0, "input")
    axes.set_ylabel(what)
    keys = x[:, low : high + 1].T
    return heat(axes, keys, rows=(what, low + first), columns=("time", start), what="on", colours="Greys", up=True)


def waveform(axes: Axes, x: np.ndarray, task: Task, start: int = 0) -> None:
    """The newest samples that each step sees, in standard deviations."""
    samples = x[:, -task.target_size :]
    if samples.size <= POINTS:
        places = start + np.arange(samples.size) / task.target_size - 0.5
        axes.plot(places, samples.ravel(), color="black", linewidth=0.5)
    else:
        axes.fill_between(start + np.arange(len(x)), samples.min(1), samples.max(1), color="black", linewidth=0.3)
    axes.set_xlim(start - 0.5, start + len(x) - 0.5)
    axes.set_ylabel("sample / sd")
