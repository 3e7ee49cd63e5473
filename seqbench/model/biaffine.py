"""The head of a dependency parser: which other step is the head of a step, and by which relation.

T time, R replicas, B batch, H hidden, K relations, N words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seqbench.cells import Weight
from seqbench.model.affine import project
from seqbench.model.head import Head, at_least_float32


class Biaffine(Head):
    """Biaffine attention over the sentence, then a biaffine classifier (Dozat and Manning 2017, arXiv 1611.01734).

    p(j is the head of i) = softmax over all steps j of the sentence of   d_i' U e_j + u' e_j
    p(relation k of i to j) = softmax over K of   [r_i; 1]' L_k [s_j; 1]

    d and e (of dependents and heads, ARC numbers), r and s (RELATION numbers) are leaky ReLUs of affine maps of the
    hidden states. Nats are those of the head, and of the relation given the right head. Guesses are each step's
    likeliest head, and its likeliest relation to that head: nothing makes a tree of them (the papers' code mends
    cycles).

    y [T, R or 1, B, 3]: the head's step, the relation's id, and bits, 1 where all characters of a word are punctuation
    and 2 where its part of speech is: these words are left out of some counts.
    """

    ARC, RELATION = 200, 100
    SLOPE = 0.1  # of the leaky ReLU, as in Dozat and Manning's code
    PIECE = 512  # words whose relations are scored at once: as many as stay in a CPU's cache
    # Without punctuation by its characters, as CoNLL's eval.pl scores; by its part of speech; and of all words.
    counts = ("labelled", "arcs", "labelled, no PUNCT", "arcs, no PUNCT", "labelled, all", "arcs, all")

    @property
    def outputs(self) -> int:
        """d, e, r and s before their leaky ReLUs."""
        return 2 * (self.ARC + self.RELATION)

    @property
    def kept(self) -> int:
        """With r' L, by which each relation is scored."""
        return self.outputs + self.target_size * (self.RELATION + 1)

    @property
    def uniform(self) -> float:
        """ln K for the relation, and as much for the head: as of a sentence of K words."""
        return 2 * math.log(self.target_size)

    def weights(self, hidden: int) -> dict[str, Weight]:
        """As every head's, U [ARC, ARC] with u below it, and L [RELATION + 1, K (RELATION + 1)]."""
        wide = self.RELATION + 1
        return super().weights(hidden) | {
            "arc": Weight((self.ARC + 1, self.ARC), "uniform", noisy=False),
            "relation": Weight((wide, self.target_size * wide), "zeros", noisy=False),
        }

    def nats_of(
        self, h: Tensor, w: SimpleNamespace, y: Tensor, steps: Tensor | None = None, compiled: bool = False
    ) -> Tensor:
        """[T, R, B]; in float32 or better whatever autocast says."""
        found = []
        for k in range(h.shape[1]):
            read = self._read(h, w, steps, k, compiled)
            head, relation, _ = _own(y, read, k)
            logits = torch.cat(list(self._relations(read, head)))
            nats = F.cross_entropy(read.arcs.flatten(0, 1), head.flatten(), reduction="none")
            nats = nats + F.cross_entropy(logits, relation.flatten(), reduction="none")
            found.append(nats.view(head.shape))
        return _side_by_side(found, len(h))

    def guesses(
        self, h: Tensor, w: SimpleNamespace, y: Tensor, steps: Tensor | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """Of `counts`, whether head and relation are right, and whether the head is."""
        found = []
        for k in range(h.shape[1]):
            read = self._read(h, w, steps, k)
            head, relation, punctuation = _own(y, read, k)
            guess, of_relation = self._likeliest(read)
            arc = guess == head
            labelled = arc & (of_relation == relation)
            found.append([labelled, arc, punctuation & 1 == 0, punctuation & 2 == 0])
        labelled, arc, *counting = (_side_by_side(list(parts), len(h)) for parts in zip(*found, strict=True))
        return [pair for of in (*counting, torch.ones_like(arc)) for pair in ((labelled, of), (arc, of))]

    def mean_of(self, h: Tensor, w: SimpleNamespace, steps: Tensor | None = None, compiled: bool = False) -> Tensor:
        """The likeliest head's step and the likeliest relation to it, [T, R, B, 2]."""
        found = [self._likeliest(self._read(h, w, steps, k, compiled)) for k in range(h.shape[1])]
        return torch.stack([_side_by_side(list(parts), len(h)) for parts in zip(*found, strict=True)], -1)

    def _read(self, h: Tensor, w: SimpleNamespace, steps: Tensor | None, k: int, compiled: bool = False) -> _Read:
        """Of replica k alone, no longer than its own sentences: so no bit depends on what is beside it."""
        lengths = torch.full(h.shape[2:3], len(h)) if steps is None else steps[min(k, len(steps) - 1)].clamp_min(1)
        T, own = int(lengths.max()), slice(k, k + 1)
        out = project(h[:T, own], w.V[own], w.c[own], compiled)[:, 0].transpose(0, 1)  # [B,T,outputs]
        with torch.autocast(out.device.type, enabled=False):
            parts = F.leaky_relu(at_least_float32(out), self.SLOPE)
            d, e, r, s = parts.split([self.ARC, self.ARC, self.RELATION, self.RELATION], -1)
            arc, relation = w.arc[k].to(d.dtype), w.relation[k].to(d.dtype)
            arcs = (d @ arc[:-1] + arc[-1]) @ e.transpose(1, 2)
        beyond = torch.arange(T, device=h.device) >= lengths.to(h.device)[:, None]
        return _Read(arcs.masked_fill(beyond[:, None], -math.inf), r, s, relation)

    def _relations(self, read: _Read, head: Tensor) -> Iterator[Tensor]:
        """Logits [N, K] of some words after the other, each to its step of head [B, T]."""
        s = read.s.gather(1, head[..., None].expand_as(read.s))
        rows = (F.pad(part.flatten(0, 1), (0, 1), value=1.0).split(self.PIECE) for part in (read.r, s))
        with torch.autocast(head.device.type, enabled=False):
            for of_dependents, of_heads in zip(*rows, strict=True):
                affine = (of_dependents @ read.relation).unflatten(-1, (self.target_size, -1))  # [N,K,RELATION+1]
                yield torch.bmm(affine, of_heads[:, :, None])[..., 0]

    def _likeliest(self, read: _Read) -> tuple[Tensor, Tensor]:
        """Each step's head and relation, [B, T] both."""
        head = read.arcs.argmax(-1)
        return head, torch.cat([logits.argmax(-1) for logits in self._relations(read, head)]).view(head.shape)


class _Read(NamedTuple):
    """What a replica makes of its hidden states.

    Attributes:
        arcs: [B, T, T], of each step (row) how much each step is its head; -inf beyond the sentence.
        r: [B, T, RELATION], of dependents.
        s: [B, T, RELATION], of heads.
        relation: L.
    """

    arcs: Tensor
    r: Tensor
    s: Tensor
    relation: Tensor


def _own(y: Tensor, read: _Read, k: int) -> list[Tensor]:
    """Head, relation and punctuation of replica k's steps, [B, T] each."""
    return list(y[: read.arcs.shape[1], min(k, y.shape[1] - 1)].transpose(0, 1).long().unbind(-1))


def _side_by_side(parts: list[Tensor], T: int) -> Tensor:
    """[T, R, B] from each replica's [B, T], zeros where it is shorter."""
    return torch.stack([F.pad(part, (0, T - part.shape[1])).T for part in parts], 1)
