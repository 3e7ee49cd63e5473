"""Text: what all sets for language models share. A model reads one token a step and predicts the next.

Training reads B streams of equal length side by side, in windows of T steps, each window going on where the one before
it ended (Zaremba et al. 2014, arXiv 1409.2329); valid and test are one stream each, so that every token but the first,
which nothing precedes, is scored once and with all that came before it.
Shapes: T time, R replicas, B streams, N windows of a split, F tokens, V tokens that there are.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from seqbench.datamodules.base import SPLITS, SequenceData, Split
from seqbench.task import Batch, Score, SeqbenchError, Task

# Steps of a window of valid and test. No figure depends on it but the sequence-weighted one and the test between units,
# which takes windows of the test split as its sequences.
WINDOW = 1000
DISCOUNT = 0.75  # of the Kneser-Ney bigram


class Streams(NamedTuple):
    """A split as windows: number k S + s is window k of stream s, and goes on in number (k + 1) S + s.

    Attributes:
        ids: [F] int64, the tokens.
        starts: [N] int64, each window's first input; on the same device.
        lengths: [N] int64, tokens scored in each window; on the CPU.
        streams: S.
    """

    ids: Tensor
    starts: Tensor
    lengths: Tensor
    streams: int

    @classmethod
    def cut(cls, ids: Tensor, streams: int, steps: int, rest: bool) -> Streams:
        """Windows of so many steps of streams of equal length; what is over at the end of the text is left out.

        rest: whether there is a last window of fewer steps, or that is left out too.
        """
        scored = len(ids) // streams - 1
        first = torch.arange(0, scored if rest else scored - steps + 1, steps)
        starts = first[:, None] + (scored + 1) * torch.arange(streams)
        lengths = (scored - first).clamp_max(steps)
        return cls(ids, starts.flatten(), lengths.repeat_interleave(streams), streams)

    def to(self, device: torch.device) -> Streams:
        return self._replace(ids=self.ids.to(device), starts=self.starts.to(device))

    def gather(self, index: Tensor) -> Batch:
        """The batch of these windows, [R, B] int64, -1 an empty slot: token by token, each with the one after it."""
        counts = self.lengths[index.cpu()].where(index.cpu() >= 0, 0)  # [R,B]
        index = index.to(self.ids.device)
        steps = torch.arange(max(1, int(counts.max())) + 1, device=self.ids.device)[:, None, None]
        ids = self.ids[(self.starts[index] + steps).clamp_max(len(self.ids) - 1)][..., None]  # [T+1,R,B,1]
        return Batch(ids[:-1], ids[1:], steps[:-1] < counts.to(self.ids.device), index)


class Text(SequenceData[Streams]):
    """A set for language models; a subclass says where the tokens come from.

    Args:
        batch_size: B, streams that training reads side by side. Evaluation has one.
        seeds: As in SequenceData; nothing of the order is drawn.
        window: T, steps of a training batch, beyond which no gradient goes.

    Raises:
        SeqbenchError: a batch size or window below 1, no seeds.
    """

    input_size = 1
    unit: str

    def __init__(self, batch_size: int = 20, seeds: list[int] | None = None, *, window: int = 20) -> None:
        super().__init__(batch_size, seeds=seeds)
        if window < 1:
            raise SeqbenchError(f"window is {window}: give 1 or more")
        self.window = self.longest = window

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """V."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """sha256 over all that decides the tokens."""

    @property
    @abstractmethod
    def known(self) -> Sequence[str]:
        """[V], the tokens by their ids.

        Raises:
            SeqbenchError: as `tokens`.
        """

    @property
    @abstractmethod
    def between(self) -> str:
        """What stands between two tokens of a text."""

    @abstractmethod
    def tokens(self) -> dict[Split, Tensor]:
        """All splits, [F] int64 below V, by falling frequency in train.

        Raises:
            SeqbenchError: the files cannot be had, or are not what they should be.
        """

    @property
    def task(self) -> Task:
        V = self.vocabulary
        return Task(self.name, 1, V, "Categorical", self.unit, self.digest, vocabulary=V, carried=True)

    def spelled(self, x: Tensor) -> list[str]:
        known = self.known
        return [known[id_] for id_ in x.flatten().long().tolist()]

    def written(self, ids: Tensor) -> str:
        """Tokens [T, 1] as they stood in a text."""
        lines = self.between.join(self.spelled(ids)).split("<eos>")
        return lines[0] if len(lines) == 1 else "\n".join(line.strip(" ") for line in lines).strip("\n")

    @property
    def start(self) -> Tensor:
        """[1, 1], the end of a line, after which another begins; an unknown token where lines' ends are not known."""
        known = list(self.known)
        return torch.tensor([[next(known.index(end) for end in ("<eos>", "\n", "<unk>") if end in known)]])

    def store(self) -> dict[Split, Streams]:
        ids = self.tokens()
        for split in SPLITS:
            wanted = self.batch_size * (self.window + 1) if split == "train" else 2
            if (found := len(ids[split])) < wanted:
                remedy = "give a longer text, or a smaller --data.batch_size or --data.window"
                raise SeqbenchError(f"{split} has {found} tokens, and {wanted} make the least batch: {remedy}")
        whole: dict[Split, Streams] = {split: Streams.cut(ids[split], 1, WINDOW, rest=True) for split in SPLITS}
        return whole | {"train": Streams.cut(ids["train"], self.batch_size, self.window, rest=False)}

    def gather(self, split: Split, index: Tensor) -> Batch:
        return self.splits[split].gather(index)

    def streams(self, split: Split) -> int:
        return self.splits[split].streams

    def floors(self) -> dict[str, Score]:
        """Needs `setup`. Probabilities are from the train split's counts, in float64; what they have of a token that
        train never has is a count of one.

        "unigram": each token's share of train.
        "bigram": interpolated Kneser-Ney with a discount of 0.75 (Chen and Goodman 1999, section 2.7).
        """
        train, test = self.splits["train"].ids.cpu(), self.splits["test"].ids.cpu()
        lengths = self.splits["test"].lengths
        nats = {"unigram": _unigram(train, test, self.vocabulary), "bigram": _kneser_ney(train, test, self.vocabulary)}
        return {name: _score(values, lengths) for name, values in nats.items()}


def numbered(splits: dict[Split, Sequence[str]], known: Sequence[str], unknown: int) -> dict[Split, Tensor]:
    """Tokens as their places in `known`, those that are not there as `unknown`."""
    place = {token: number for number, token in enumerate(known)}
    return {split: torch.tensor([place.get(token, unknown) for token in text]) for split, text in splits.items()}


def by_frequency(tokens: Sequence[str]) -> list[str]:
    """All kinds of tokens, the most frequent first, equally frequent ones in the order of their characters."""
    return [token for token, _ in sorted(Counter(tokens).items(), key=lambda pair: (-pair[1], pair[0]))]


def words(text: str) -> list[str]:
    """What white space parts, and <eos> at the end of every line."""
    return text.replace("\n", " <eos> ").split()


def text_digest(*parts: str) -> str:
    """sha256 over what decides the tokens."""
    return hashlib.sha256(" ".join(("text 1", *parts)).encode()).hexdigest()


def _unigram(train: Tensor, test: Tensor, V: int) -> Tensor:
    """[F - 1] nats of test's tokens but the first."""
    counts = torch.bincount(train, minlength=V).clamp_min(1).double()
    return -(counts / counts.sum()).log()[test[1:]]


def _kneser_ney(train: Tensor, test: Tensor, V: int) -> Tensor:
    """[F - 1] nats of test's tokens but the first, given the one before.

    p(w | u) = max(c(uw) - d, 0) / c(u) + d n(u.) / c(u) p(w),   p(w) = n(.w) / n(..),   n: how many kinds of pairs.
    """
    pairs, counts = torch.unique(train[:-1] * V + train[1:], return_counts=True)
    seen = torch.bincount(train[:-1], minlength=V).double()  # c(u)
    kinds = torch.bincount(pairs // V, minlength=V)  # n(u.)
    before = torch.bincount(pairs % V, minlength=V).clamp_min(1).double()  # n(.w)
    u, w = test[:-1], test[1:]
    place = torch.searchsorted(pairs, u * V + w).clamp_max(len(pairs) - 1)
    count = counts[place].where(pairs[place] == u * V + w, 0)
    share = torch.where(seen[u] > 0, DISCOUNT * kinds[u] / seen[u].clamp_min(1), 1.0)
    return -((count - DISCOUNT).clamp_min(0) / seen[u].clamp_min(1) + share * (before / before.sum())[w]).log()


def _score(nats: Tensor, lengths: Tensor) -> Score:
    """From nats [F - 1] of one stream's tokens; sequences are its windows."""
    means = torch.stack([part.mean() for part in nats.split(lengths.tolist())])
    return Score(nll=round(float(nats.mean()), 9), nll_sequence=round(float(means.mean()), 9), nll_first=None)
