"""Piano rolls: what all music sets share.

Convention: a frame is 88 binary keys, MIDI 21 (A0) to 108 (C8); frames 2..T are predicted from frames 1..T-1,
each key a Bernoulli variable, and a frame's negative log-likelihood is the sum over its 88 keys, on and off,
in nats (Boulanger-Lewandowski et al. 2012; Chung et al. 2014, arXiv 1412.3555).
Shapes: T time, R replicas, B batch, N sequences, F frames, K = 88 keys.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from seqbench.datamodules.base import SequenceData, Sequences, Split
from seqbench.task import Batch, Score, Task

LOWEST_KEY = 21
KEYS = 88
# The literature's unigram row comes out to four digits with frequencies kept this far from 0 and 1: some test notes are
# never on in train.
CLAMP = 1e-7


class PianoRolls(SequenceData[Sequences]):
    """A music set; a subclass says where the rolls come from.

    Attributes:
        quarters: quarter notes that a frame has.
        tempo: quarter notes a minute, where a roll is to be heard.
    """

    input_size = 88
    quarters: float = 1.0
    tempo: float = 120.0  # MIDI's own where a file says nothing

    @property
    @abstractmethod
    def digest(self) -> str:
        """sha256 over all that decides the rolls."""

    @abstractmethod
    def load(self) -> dict[Split, list[Tensor]]:
        """All splits, each a list of N tensors [T, 88] of zeros and ones.

        Raises:
            SeqbenchError: the files cannot be had, or are not what they should be.
        """

    def store(self) -> dict[Split, Sequences]:
        return {split: Sequences.pack(sequences) for split, sequences in self.load().items()}

    @property
    def task(self) -> Task:
        return Task(self.name, KEYS, KEYS, "Bernoulli", "nats/frame", self.digest, next_frame=True)

    @property
    def step_seconds(self) -> float:
        return self.quarters * 60 / self.tempo

    def gather(self, split: Split, index: Tensor) -> Batch:
        """x is frames 1..T-1, y frames 2..T, float32 views of one gathered tensor [T, R, B, 88]."""
        frames, present, lengths = self.splits[split].gather(index, at_least=2)
        return Batch(frames[:-1], frames[1:], present[1:], index.to(frames.device), (lengths - 1).clamp_min_(0))

    def floors(self) -> dict[str, Score]:
        """Needs `setup`. Frequencies are the train split's, in float64; frame 1 is scored by the unigram in both.

        "note unigram": each key's share of all train frames, clamped to [1e-7, 1 - 1e-7].
        "per-key Markov": each key given its own state one frame before, (on + 1) / (all + 2) for each state.
        """
        cpu = torch.device("cpu")  # the same figures wherever training has moved the frames
        train, test = self.splits["train"].to(cpu), self.splits["test"].to(cpu)
        on = train.frames.sum(0, dtype=torch.float64)
        unigram = (on / train.lengths.sum()).clamp(CLAMP, 1 - CLAMP)  # [K]
        after_off, after_on = _transitions(train)
        frames = test.frames[:-1]  # [F,K]
        alone = _nats(frames, unigram)  # [F]
        previous = frames.roll(1, 0).bool()  # wrong at each first frame, where the unigram stands in
        chained = _nats(frames, torch.where(previous, after_on, after_off))
        chained[test.starts] = alone[test.starts]
        return {"note unigram": _score(alone, test), "per-key Markov": _score(chained, test)}


def _transitions(rolls: Sequences) -> tuple[Tensor, Tensor]:
    """Each key's probability of being on after off, and after on: two tensors [K] float64."""
    frames = rolls.frames[:-1]  # [F,K]
    inner = torch.ones(len(frames), dtype=torch.bool)
    inner[rolls.starts] = False
    now, before = frames[inner], frames[inner.roll(-1)]  # both of one sequence
    on_on = (now & before).sum(0, dtype=torch.float64)
    on = now.sum(0, dtype=torch.float64)
    before_on = before.sum(0, dtype=torch.float64)
    return (on - on_on + 1) / (len(now) - before_on + 2), (on_on + 1) / (before_on + 2)


def _nats(frames: Tensor, probability: Tensor) -> Tensor:
    """[F] float64 from frames [F, K] 0/1 and each key's probability of being on, [K] or [F, K]."""
    return -torch.where(frames.bool(), probability.log(), torch.log1p(-probability)).sum(-1)


def _score(nats: Tensor, rolls: Sequences) -> Score:
    """The three conventions from all frames' nats [F]."""
    first = nats[rolls.starts]  # [N]
    total = torch.stack([n.sum() for n in nats.split(rolls.lengths.tolist())]) - first  # [N]
    scored = rolls.lengths - 1  # [N]
    means = (total / scored)[scored > 0]
    return Score(
        nll=round(float(total.sum() / scored.sum()), 9),
        nll_sequence=round(float(means.mean()), 9),
        nll_first=round(float((total.sum() + first.sum()) / rolls.lengths.sum()), 9),
    )
