"""The key of a piece from how long each pitch class sounds, and the way to C."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Temperley-Kostka-Payne key profiles, C to B.
PROFILES = {
    "major": (0.748, 0.060, 0.488, 0.082, 0.670, 0.460, 0.096, 0.715, 0.104, 0.366, 0.057, 0.400),
    "minor": (0.712, 0.084, 0.474, 0.618, 0.049, 0.460, 0.105, 0.747, 0.404, 0.067, 0.133, 0.330),
}


def profile_tonic(durations: Sequence[float] | np.ndarray) -> int:
    """The tonic (0 is C) of the key whose profile correlates best with 12 pitch classes' total durations.

    0 where all are equal: no key fits better than another.
    """
    if len(set(durations)) == 1:
        return 0
    keys = [(profile, tonic) for tonic in range(12) for profile in PROFILES.values()]
    fits = [np.corrcoef(np.roll(profile, tonic), durations)[0, 1] for profile, tonic in keys]
    return keys[int(np.argmax(fits))][1]


def shift_to_c(tonic: int) -> int:
    """Semitones, -5..+6, that take a tonic to C."""
    return (5 - tonic) % 12 - 5
