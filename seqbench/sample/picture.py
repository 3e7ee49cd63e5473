"""Rolls and waveforms as small pictures, [height, width, 3] bytes: what was given in grey, what was drawn in blue."""

from __future__ import annotations

import numpy as np

GIVEN, DRAWN, PAPER, LINE = (130, 130, 130), (31, 99, 180), (255, 255, 255), (225, 225, 225)
KEY, FRAME = 4, 16  # pixels of a key's height, and of a frame's width at most
C = range(3, 88, 12)  # the keys that are a C
WIDTH, HEIGHT = 900, 160  # of a waveform; a roll is as wide where a frame then has 2 pixels at least


def of_roll(roll: np.ndarray, given: int) -> np.ndarray:
    """A roll [T, 88] with time to the right and high keys above; of its frames so many were given."""
    pixels = np.empty((88, len(roll), 3), np.uint8)
    pixels[:] = PAPER
    pixels[list(C)] = LINE
    on = roll.T > 0  # [88, T]
    pixels[:, :given][on[:, :given]] = GIVEN
    pixels[:, given:][on[:, given:]] = DRAWN
    return pixels[::-1].repeat(KEY, 0).repeat(max(2, min(FRAME, WIDTH // len(roll))), 1)


def of_wave(samples: np.ndarray, given: int) -> np.ndarray:
    """Samples [S] within -1..1: of each column's stretch all that lies between its lowest and its highest sample."""
    width = min(WIDTH, len(samples))
    starts = np.arange(width) * len(samples) // width
    high, low = np.maximum.reduceat(samples, starts), np.minimum.reduceat(samples, starts)
    largest = max(np.abs(samples).max(), 1e-9)
    level = np.linspace(1, -1, HEIGHT)[:, None] * largest  # [HEIGHT, 1]
    step = 2 * largest / (HEIGHT - 1)
    inside = (level <= high + step / 2) & (level >= low - step / 2)  # [HEIGHT, width]
    pixels = np.empty((HEIGHT, width, 3), np.uint8)
    pixels[:] = PAPER
    pixels[inside] = DRAWN
    pixels[inside & (starts < given)] = GIVEN
    return pixels
