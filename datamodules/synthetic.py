"""A made-up music set: chord progressions over a random key, with passing notes. For tests and demos.

Each sequence repeats a progression of four triads, transposed as a whole, each chord held for two frames; each frame
may have one more note. There is something to learn from the past, so a recurrent unit gets below the floors.
"""

from __future__ import annotations

import hashlib
from typing import ClassVar, Literal

import torch
from torch import Tensor

from seqbench.datamodules.base import Split
from seqbench.datamodules.rolls import KEYS, PianoRolls
from seqbench.task import SeqbenchError, generator

PROGRESSIONS = (
    ((0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7)),
    ((0, 3, 7), (8, 12, 15), (3, 7, 10), (10, 14, 17)),
    ((0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14)),
)
FRAMES_PER_CHORD = 2
PASSING_NOTES = 0.3


class Synthetic(PianoRolls):
    """Made-up chord progressions.

    Args:
        batch_size: As in SequenceData.
        order: As in SequenceData.
        seeds: As in SequenceData.
        sequences: In the train split; valid and test have a third each.
        shortest: Fewest frames of a sequence.
        longest_length: Most frames of a sequence.
        data_seed: Another seed is another data set.

    Raises:
        SeqbenchError: as in SequenceData, and sizes that give no sequences or sequences below 2 frames.
    """

    name = "synthetic"
    title = "Synthetic chords"
    origin = "made up from a seed"
    counts: ClassVar[dict[str, int]] = {"train": 48, "valid": 16, "test": 16}
    longest = 24

    def __init__(
        self,
        batch_size: int = 16,
        order: Literal["bucketed", "shuffled"] = "bucketed",
        seeds: list[int] | None = None,
        *,
        sequences: int = 48,
        shortest: int = 8,
        longest_length: int = 24,
        data_seed: int = 0,
    ) -> None:
        super().__init__(batch_size, order, seeds)
        if sequences < 3 or not 2 <= shortest <= longest_length:
            raise SeqbenchError("give sequences >= 3 and 2 <= shortest <= longest_length")
        self.sequences, self.data_seed = sequences, data_seed
        self.shortest, self.longest_length = shortest, longest_length

    @property
    def digest(self) -> str:
        shape = f"synthetic 1 {self.sequences} {self.shortest} {self.longest_length} {self.data_seed}"
        return hashlib.sha256(shape.encode()).hexdigest()

    def load(self) -> dict[Split, list[Tensor]]:
        sizes: dict[Split, int] = {
            "train": self.sequences,
            "valid": self.sequences // 3,
            "test": self.sequences // 3,
        }
        return {split: [self._roll(split, i) for i in range(size)] for split, size in sizes.items()}

    def _roll(self, split: Split, number: int) -> Tensor:
        """[T, 88] uint8."""
        g = generator(self.data_seed, f"synthetic {split}", number)
        length = int(torch.randint(self.shortest, self.longest_length + 1, (), generator=g))
        chords = PROGRESSIONS[int(torch.randint(len(PROGRESSIONS), (), generator=g))]
        root = int(torch.randint(24, 48, (), generator=g))
        steps = torch.arange(length)
        keys = root + torch.tensor(chords)[steps // FRAMES_PER_CHORD % len(chords)]  # [T,3]
        roll = torch.zeros(length, KEYS, dtype=torch.uint8).scatter_(1, keys, 1)
        passing = torch.randint(root + 12, root + 24, (length,), generator=g)
        sounds = torch.rand(length, generator=g) < PASSING_NOTES
        roll[steps[sounds], passing[sounds]] = 1
        return roll
