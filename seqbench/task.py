"""What data and models must agree on: task, batch, score, random draws, and how a user's mistake is told.

Shapes: T time, R replicas, B batch, I inputs, K targets. R is 1 where all replicas see the same sequences.
Imports nothing else of the suite, and no torch, so that listings start fast.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Of the head Gaussian, whose guesses are right within it, and of the floors that are told in its nats.
SIGMA = 0.04


class SeqbenchError(Exception):
    """A mistake that the user can mend: one line that names the remedy. The command line shows only that line."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> SeqbenchError:
    """The error to raise for a name that is not among `known`: it names the nearest and all."""
    nearest = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), nearest, n=1, cutoff=0.5)
    guess = f"; did you mean {nearest[close[0]]}?" if close else "."
    return SeqbenchError(f"There is no {what} {name!r}{guess} Known: {', '.join(sorted(nearest.values()))}")


@dataclass(frozen=True)
class Task:
    """What a dataset promises a model, known from the dataset's constructor arguments alone.

    Attributes:
        name: The dataset's short name, as in `seqbench data list`.
        input_size: I, the inputs at each step.
        target_size: K, the targets at each step; for a Categorical head, the classes that the one target is of, for a
            Biaffine one the relations.
        head: The distribution of a target given the hidden state; a class of seqbench/model/heads.py.
        unit: What a negative log-likelihood is counted in, e.g. "nats/frame".
        digest: sha256 over the data and all that shapes them (splits, scaling, dequantisation).
        next_frame: True where the target at t is the input at t+1; then frame 1 has no input and is scored from the
            initial state alone, apart from the main figure.
        vocabulary: Where inputs are ids: what they are below; the model looks them up in an embedding, those of a step
            side by side. 0: inputs are numbers.
        carried: True where each batch goes on where the one before it ended, slot by slot: states are carried over,
            but begin at zero in every epoch and every pass over a split.
        score: What units are ranked by: one of the head's counts, by its name, of which a larger share is better; "":
            nats, of which fewer are.
        looks_ahead: True where all of a sequence may be read before anything of it is guessed, so that layers may be
            bidirectional: no target is an input of a later step.
        solved: The share of the head's guesses on the test split that makes the task solved; 0: it is scored alone. A
            replica is done once all guesses on the validation split are right.
    """

    name: str
    input_size: int
    target_size: int
    head: Literal["Bernoulli", "GaussianMixture", "Categorical", "Certain", "Grammar", "Gaussian", "Biaffine"]
    unit: str
    digest: str
    next_frame: bool = False
    vocabulary: int = 0
    carried: bool = False
    score: str = ""
    solved: float = 0.0
    looks_ahead: bool = False


@dataclass(frozen=True)
class Score:
    """A negative log-likelihood under the three conventions of seqbench.record, in nats."""

    nll: float
    nll_sequence: float
    nll_first: float | None  # None where the task scores no frame without input
    # Of a floor, in percent, where the task ranks by a count: how much is right of what counts.
    right: float | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Batch:
    """Sequences side by side, padded to the longest.

    Attributes:
        x: [T, R, B, I] inputs, any dtype (rolls stay uint8 until a model needs them); ids are int64.
        y: [T, R, B, K] targets.
        mask: [T, R, B] bool, True where the frame is scored.
        index: [R, B] int64, which sequence of its split; -1 an empty slot.
        steps: [R, B] int64, always on the CPU: after so many frames of each sequence none is scored; what need not be
            computed follows from it, and where a sequence that is read backwards begins. None: unknown, so all T.
    """

    x: Tensor
    y: Tensor
    mask: Tensor
    index: Tensor
    steps: Tensor | None = None


def draw_seed(seed: int, purpose: str, step: int = 0) -> int:
    """The 32 bits that start a generator: a function of (seed, purpose, step), so no state is ever stored."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


def draw_words(seed: int, purpose: str, step: int) -> tuple[int, int]:
    """Two words of 32 bits for draws that need no generator: likewise a function of (seed, purpose, step)."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:], "big")


def generator(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """A CPU generator for one draw; initial weights and permutations come from the CPU on every device."""
    import torch

    return torch.Generator().manual_seed(draw_seed(seed, purpose, step))
