"""What stands above a picture over time: the sequence itself, as its task has it.

T time, I inputs, K targets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from seqbench.datamodules.rolls import KEYS, LOWEST_KEY
from seqbench.explain.heat import Heat, heat
from seqbench.task import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 4000  # of a line; beyond it the span of each step is drawn

Strip = Callable[["Axes", np.ndarray, Task], Heat | None]


def strip_of(task: Task) -> Strip:
    """Draws a sequence x [T, I] over its steps; what can be read out of it comes back."""
    return piano_roll if task.head == "Bernoulli" else waveform


def piano_roll(axes: Axes, x: np.ndarray, task: Task) -> Heat:
    """The keys between the lowest and the highest that sound."""
    sounding = np.flatnonzero(x.any(0)) if x.any() else np.array([0, task.input_size - 1])
    low, high = int(sounding[0]), int(sounding[-1])
    first, what = (LOWEST_KEY, "MIDI key") if task.input_size == KEYS else (0, "input")
    axes.set_ylabel(what)
    keys = x[:, low : high + 1].T
    return heat(axes, keys, rows=(what, low + first), columns=("time", 0), what="on", colours="Greys", up=True)


def waveform(axes: Axes, x: np.ndarray, task: Task) -> None:
    """The newest samples that each step sees, in standard deviations."""
    samples = x[:, -task.target_size :]
    if samples.size <= POINTS:
        places = np.arange(samples.size) / task.target_size - 0.5
        axes.plot(places, samples.ravel(), color="black", linewidth=0.5)
    else:
        axes.fill_between(np.arange(len(x)), samples.min(1), samples.max(1), color="black", linewidth=0.3)
    axes.set_xlim(-0.5, len(x) - 0.5)
    axes.set_ylabel("sample / sd")
