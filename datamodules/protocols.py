"""Raw speech as Chung et al. (2014, arXiv 1412.3555) set it up: what is common to all corpora. Imports no torch.

At each step the unit sees FRAME consecutive samples and predicts the HOP that follow, then moves on by HOP: a sequence
of 500 samples has 48 steps, one of 8,000 has 798. Ubisoft's corpora are closed, so the protocols name their sizes only:
A 7,230 sequences of 500 samples, B 800 of 8,000. The split sizes here are ours, 80/10/10.
"""

from __future__ import annotations

from typing import ClassVar

FRAME = 20
HOP = 10


class ProtocolA:
    """Short sequences, each out of one recording."""

    length = 500
    concatenate = False
    counts: ClassVar[dict[str, int]] = {"train": 5784, "valid": 723, "test": 723}
    longest = 48
    ubisoft = counts


class ProtocolB:
    """Long sequences; few recordings of single words are that long, so the recordings of a split are joined first."""

    length = 8000
    concatenate = True
    counts: ClassVar[dict[str, int]] = {"train": 640, "valid": 80, "test": 80}
    longest = 798
    ubisoft = counts
