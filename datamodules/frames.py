"""Speech as frames: sequences cut out of long arrays of samples, and what linear models get from the same frames.

Shapes: T steps, R replicas, B batch, N sequences, S samples of a split, L samples of a sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from mmap import ACCESS_COPY, MADV_DONTNEED, mmap
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from seqbench.task import Score

# Sequences are read for floors in stretches of about so many samples.
CHUNK = 2**19
# Of the floors' residuals, as of the components of seqbench.model.heads.GaussianMixture: bounds both where samples
# do not vary.
MIN_VARIANCE = 1e-10
# Samples beyond this stay where they are mapped, and each batch goes to the device by itself.
RESIDENT_BYTES = 2**30


class Waves(NamedTuple):
    """The sequences of a split: places in one array of samples, which is as a rule a memory map.

    Attributes:
        samples: [S] int16.
        mapped: What `samples` lie in; None where they were moved to a device.
        starts: [N] int64, each sequence's first sample; on the same device.
        lengths: [N] int64, steps of each sequence; on the CPU.
        length: L.
        noise: [P] float32, added to samples p, p + P, ...; [0] for none.
        mean: Subtracted from samples.
        scale: Samples are divided by it.
    """

    samples: Tensor
    mapped: mmap | None
    starts: Tensor
    lengths: Tensor
    length: int
    noise: Tensor
    mean: float
    scale: float

    def to(self, device: torch.device) -> Waves:
        """On a device if the samples take less than RESIDENT_BYTES, else as before."""
        if device == self.samples.device or self.samples.nbytes > RESIDENT_BYTES:
            return self
        moved = {name: getattr(self, name).to(device) for name in ("samples", "starts", "noise")}
        return self._replace(**moved, mapped=None)

    def read(self, index: Tensor) -> Tensor:
        """Normalised samples [..., L] float32 of the sequences index [...]; zeros where it is -1."""
        index = index.to(self.starts.device)
        places = self.starts[index.clamp_min(0)].unsqueeze(-1) + torch.arange(self.length, device=index.device)
        values = self.samples[places].float()
        if self.mapped is not None:
            # Pages once touched count as this process's until the system needs them: a long corpus would fill it.
            self.mapped.madvise(MADV_DONTNEED)
        if len(self.noise):
            values += self.noise[places % len(self.noise)]
        return values.sub_(self.mean).div_(self.scale).masked_fill_(index.unsqueeze(-1) < 0, 0.0)

    def chunks(self) -> Iterator[Tensor]:
        """All sequences in order, [n, L] float64 on the CPU."""
        for index in torch.arange(len(self.starts)).split(max(1, CHUNK // self.length)):
            yield self.read(index).cpu().double()


def map_samples(path: Path) -> tuple[mmap, Tensor]:
    """A file's 16-bit integers, [S] int16, and the memory map that they lie in; what is not touched is not read."""
    with path.open("rb") as file:
        mapped = mmap(file.fileno(), 0, access=ACCESS_COPY)  # to torch it is writable, but nobody writes
    return mapped, torch.frombuffer(mapped, dtype=torch.int16)


def floors(train: Waves, test: Waves, frame: int, hop: int) -> dict[str, Score]:
    """Scores on the test split, of models fitted to the train split by least squares, all with a constant term.

    "single Gaussian": a mean and a variance for each of the `hop` places, whatever was before.
    "linear, 20 samples" (`frame` of them): a linear map of the frame, with a variance for each place.
    "AR(20), sample by sample": each sample from the 20 (`frame`) just before it, those of the same step included, with
    one variance. A reference, not a floor: by the chain rule it is a density of the step's samples given the frame, but
    not of the kind a unit has, whose Gaussians take them as independent.
    """

    def steps(values: Tensor) -> Tensor:
        return values.unfold(-1, frame + hop, hop)  # [n,T,frame+hop]

    def each(values: Tensor) -> Tensor:
        T = (values.shape[-1] - frame) // hop
        return values[:, : frame + T * hop].unfold(-1, frame + 1, 1)  # [n,T*hop,frame+1]

    def alone(values: Tensor) -> Tensor:
        return steps(values)[..., frame:]

    return {
        "single Gaussian": _least_squares(train, test, alone, hop, 1),
        f"linear, {frame} samples": _least_squares(train, test, steps, hop, 1),
        f"AR({frame}), sample by sample": _least_squares(train, test, each, 1, hop),
    }


def _least_squares(train: Waves, test: Waves, rows: Callable[[Tensor], Tensor], targets: int, per_step: int) -> Score:
    """Fits and scores the last `targets` columns of rows(values) given the others, streaming.

    Args:
        train: What it is fitted to.
        test: What it is scored on.
        rows: From samples [n, L] to [n, rows, columns].
        targets: Columns that are predicted, with independent residuals.
        per_step: Rows that make a step.
    """
    gram: Tensor | float = 0.0
    for values in train.chunks():
        z = _with_constant(rows(values)).flatten(0, 1)
        gram = gram + z.mT @ z
    assert isinstance(gram, Tensor)
    inputs = len(gram) - targets
    xx, xy, yy = gram[:inputs, :inputs], gram[:inputs, inputs:], gram[inputs:, inputs:].diagonal()
    weights = torch.linalg.pinv(xx, hermitian=True) @ xy  # [inputs,targets]
    residual = yy - 2 * (weights * xy).sum(0) + (weights * (xx @ weights)).sum(0)
    variance = (residual / xx[0, 0]).clamp_min(MIN_VARIANCE)  # [targets]; xx[0, 0] counts the rows
    nats = []
    for values in test.chunks():
        z = _with_constant(rows(values))
        error = z[..., inputs:] - z[..., :inputs] @ weights
        nats.append((0.5 * error.square() / variance + 0.5 * (2 * math.pi * variance).log()).sum(-1).mean(-1))
    nll = round(float(torch.cat(nats).mean()) * per_step, 9)
    return Score(nll=nll, nll_sequence=nll, nll_first=None)  # all sequences have equally many steps


def _with_constant(rows: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(rows[..., :1]), rows], -1)
