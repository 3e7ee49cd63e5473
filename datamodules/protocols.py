"""Raw speech as Chung et al. (2014, arXiv 1412.3555) set it up: what is common to all corpora. Imports no torch.

At each step the unit sees FRAME consecutive samples and predicts the HOP that follow, then moves on by HOP: a sequence
of 500 samples has 48 steps, one of 8,000 has 798. Ubisoft's corpora are closed, so the protocols name their sizes only:
A 7,230 sequences of 500 samples, B 800 of 8,000. The split sizes here are ours, 80/10/10.
"""

from __future__ import annotations

from dataclasses import dataclass

FRAME = 20
HOP = 10


@dataclass(frozen=True)
class Protocol:
    """What a protocol asks for where a data set's options say nothing else.

    Attributes:
        letter: "A" or "B".
        length: Samples of a sequence.
        concatenate: Whether the recordings of a split are joined before they are cut.
        batch_size: Sequences per step.
        counts: Sequences of each split, in all as many as Ubisoft had.
    """

    letter: str
    length: int
    concatenate: bool
    batch_size: int
    counts: dict[str, int]

    @property
    def longest(self) -> int:
        """Steps of a sequence."""
        return (self.length - FRAME) // HOP

    def named(self, corpus: str) -> str:
        """What a corpus is called under this protocol, in listings, run ids and on the board, e.g. "fsdd_a"."""
        return f"{corpus}_{self.letter.lower()}"


PROTOCOLS = {
    "A": Protocol("A", 500, concatenate=False, batch_size=32, counts={"train": 5784, "valid": 723, "test": 723}),
    # Few recordings of single words have 8,000 samples, hence joined.
    "B": Protocol("B", 8000, concatenate=True, batch_size=8, counts={"train": 640, "valid": 80, "test": 80}),
}
