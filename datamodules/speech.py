"""Raw speech: the next 10 samples from the last 20, out of recordings of any corpus.

Convention: x_t is 20 consecutive samples, y_t the 10 that follow, the next frame starts 10 later; a step's negative
log-likelihood is the density of its 10 samples jointly, in nats (Chung et al. 2014, arXiv 1412.3555). Densities depend
on the scale: samples are normalised by mean and standard deviation of all samples of the train split's recordings,
before noise, the same for every protocol and number of sequences; `seqbench.record.bits_per_sample` undoes it.
Recordings are 16-bit and full of digital silence, where a density grows without bound, so a uniform noise of one step
of 16 bits is added to each sample: fixed, a function of the sample's place in its split alone, so the same for every
unit, epoch and batch. Chung et al. do not say what they did.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from seqbench.datamodules.audio import Decoded, Recording, decode, read_decoded
from seqbench.datamodules.base import SPLITS, SequenceData, Split
from seqbench.datamodules.fetch import writable_cache
from seqbench.datamodules.folder import draw_splits, refuse_empty
from seqbench.datamodules.frames import Waves, floors, map_samples
from seqbench.datamodules.protocols import FRAME, HOP, PROTOCOLS
from seqbench.files import cache_folder
from seqbench.task import Batch, Score, SeqbenchError, Task, generator, unknown_name

# Prime, so that no stride of sequences or recordings meets the same noise again and again.
NOISE_PERIOD = 1_000_003


class Speech(SequenceData[Waves]):
    """A corpus of recordings under protocol A or B; a subclass says which corpus.

    Args:
        batch_size: As in SequenceData; None: the protocol's, 32 (A) or 8 (B).
        order: As in SequenceData; all sequences are equally long, so both are one permutation per seed and epoch.
        seeds: As in SequenceData.
        protocol: "A": 7,230 sequences of 500 samples, each out of one recording. "B": 800 of 8,000, recordings joined.
        length: Samples of a sequence; None: the protocol's.
        frame: Samples seen at a step.
        hop: Samples predicted at a step.
        sequences: How many in all, 80/10/10 per cent of them in train, valid and test, one at a random place in each of
            so many equal stretches of the split; "ubisoft": as many as Ubisoft had; "all". A split with fewer has all.
        concatenate: Whether the recordings of a split are joined, in the order of their names, before they are cut into
            sequences; otherwise each is cut by itself and its rest left out. None: the protocol's.
        split: By "file" or by "speaker", so that no speaker is in two splits: 80/10/10 per cent of them, drawn by hash;
            "corpus": the corpus's own split where it has one, else by file.
        sample_rate: In Hz, recordings are resampled to it; None: the corpus's own, which all must have.
        dequantise: Whether the noise is added.

    Raises:
        SeqbenchError: as in SequenceData, no such protocol, or sizes that leave no step.
    """

    input_size = 20
    fewer: ClassVar[dict[str, dict[str, int]]] = {}  # sequences of each split, where a protocol asks for more
    corpus_rate: int

    def __init__(
        self,
        batch_size: int | None = None,
        order: Literal["bucketed", "shuffled"] = "bucketed",
        seeds: list[int] | None = None,
        *,
        protocol: Literal["A", "B"] = "A",
        length: int | None = None,
        frame: int = FRAME,
        hop: int = HOP,
        sequences: int | Literal["ubisoft", "all"] = "ubisoft",
        concatenate: bool | None = None,
        split: Literal["corpus", "file", "speaker"] = "corpus",
        sample_rate: int | None = None,
        dequantise: bool = True,
    ) -> None:
        if protocol not in PROTOCOLS:
            raise unknown_name("protocol", protocol, PROTOCOLS)
        self.protocol = PROTOCOLS[protocol]
        super().__init__(self.protocol.batch_size if batch_size is None else batch_size, order, seeds)
        self.length = self.protocol.length if length is None else length
        if frame < 1 or hop < 1 or self.length < frame + hop:
            raise SeqbenchError(f"length {self.length} has no step: give at least frame + hop, and 1 or more for both")
        if isinstance(sequences, int) and sequences < 10:
            raise SeqbenchError(f"sequences is {sequences}: give 10 or more, for three splits")
        self.frame, self.hop = frame, hop
        self.longest = (self.length - frame) // hop
        self.sequences = sequences
        self.concatenate = self.protocol.concatenate if concatenate is None else concatenate
        self.split = split
        if sample_rate is not None and sample_rate < 1:
            raise SeqbenchError(f"sample_rate is {sample_rate}: give it in Hz")
        self.asked_rate = sample_rate
        self.dequantise = dequantise

    @property
    @abstractmethod
    def content(self) -> str:
        """A digest of the corpus's recordings and their names."""

    @abstractmethod
    def recordings(self) -> list[Recording]:
        """The corpus's recordings, downloaded if need be.

        Raises:
            SeqbenchError: they cannot be had, or are not what they should be.
        """

    @property
    def sample_rate(self) -> int:
        """Of all samples, in Hz."""
        return self.corpus_rate if self.asked_rate is None else self.asked_rate

    @property
    def _kept(self) -> str:
        """Names the decoded samples, which do not depend on how they are cut."""
        rules = f"speech 1 {self.content} split {self.split} rate {self.sample_rate} noisy steps {self.dequantise}"
        return hashlib.sha256(rules.encode()).hexdigest()

    @property
    def task(self) -> Task:
        rules = (
            f"{self._kept} length {self.length} frame {self.frame} hop {self.hop} sequences {self._wanted()} "
            f"joined {self.concatenate} noise {NOISE_PERIOD if self.dequantise else 0} normalised by the train split"
        )
        digest = hashlib.sha256(rules.encode()).hexdigest()
        return Task(self.protocol.named(self.name), self.frame, self.hop, "GaussianMixture", "nats/step", digest)

    @property
    def scale(self) -> float:
        """What samples were divided by: the train split's standard deviation in steps of 16 bits; needs `setup`."""
        return self.splits["train"].scale

    def prepare_data(self) -> None:
        """Decodes the corpus into the cache folder, once."""
        if not (cache_folder() / "speech" / self._kept).is_dir():
            folder = writable_cache("speech") / self._kept
            decode(divide(self.recordings(), self.split), folder, self.sample_rate, self.dequantise)

    def store(self) -> dict[Split, Waves]:
        self.prepare_data()
        decoded = read_decoded(cache_folder() / "speech" / self._kept)
        return {split: self._waves(decoded, split) for split in SPLITS}

    def _waves(self, decoded: Decoded, split: Split) -> Waves:
        recordings = decoded.lengths[split]
        starts = cut([sum(recordings)] if self.concatenate else recordings, self.length)
        if not len(starts):
            raise SeqbenchError(
                f"{self.name}: no recording of the {split} split has {self.length} samples: give a smaller length, "
                "concatenate true, or more recordings"
            )
        starts = starts[spread(len(starts), self._wanted()[split], split)]
        mapped, samples = map_samples(decoded.files[split])
        noise = torch.empty(NOISE_PERIOD if self.dequantise else 0)
        return Waves(
            samples=samples,
            mapped=mapped,
            starts=starts,
            lengths=torch.full_like(starts, self.longest),
            length=self.length,
            noise=noise.uniform_(-0.5, 0.5, generator=generator(0, "dequantise")),
            mean=decoded.mean,
            scale=decoded.scale,
        )

    def _wanted(self) -> dict[Split, int | None]:
        """Sequences of each split; None for all there are."""
        if self.sequences == "all":
            return dict.fromkeys(SPLITS)
        if self.sequences == "ubisoft":
            return {split: self.protocol.counts[split] for split in SPLITS}
        tenth = self.sequences // 10
        return {"train": self.sequences - 2 * tenth, "valid": tenth, "test": tenth}

    def gather(self, split: Split, index: Tensor) -> Batch:
        """x [T, R, B, 20] and y [T, R, B, 10] float32, views of the same samples; an empty slot is not scored."""
        waves = self.splits[split]
        windows = waves.read(index).unfold(-1, self.frame + self.hop, self.hop)  # [R,B,T,frame+hop]
        windows = windows.permute(2, 0, 1, 3)  # [T,R,B,frame+hop]
        steps = (index.cpu() >= 0) * len(windows)
        index = index.to(windows.device)
        mask = (index >= 0).expand(windows.shape[:-1])
        return Batch(windows[..., : self.frame], windows[..., self.frame :], mask, index, steps)

    def transfer_batch_to_device(self, batch: Tensor, device: torch.device, dataloader_idx: int) -> Batch:
        found = super().transfer_batch_to_device(batch, device, dataloader_idx)
        # Where the samples were too many for the device, the batch alone goes there.
        x, y, mask, index = (part.to(device) for part in (found.x, found.y, found.mask, found.index))
        return Batch(x, y, mask, index, found.steps)

    def floors(self) -> dict[str, Score]:
        """Needs `setup`; see seqbench.datamodules.frames.floors."""
        return floors(self.splits["train"], self.splits["test"], self.frame, self.hop)


def divide(recordings: Sequence[Recording], rule: str) -> dict[Split, list[Recording]]:
    """The splits' recordings in the order of names; no recording, key or (rule "speaker") speaker is in two of them.

    Args:
        recordings: All.
        rule: As `split` of Speech.

    Raises:
        SeqbenchError: fewer than three to draw from, or a split without recordings.
    """
    ordered = sorted(recordings, key=lambda recording: recording.name)
    if rule == "corpus" and any(recording.split is not None for recording in ordered):
        splits: dict[Split, list[Recording]] = {s: [r for r in ordered if r.split == s] for s in SPLITS}
        refuse_empty(splits, "recording")
        return splits
    what = "speaker" if rule == "speaker" else "recording"
    groups = [recording.speaker if rule == "speaker" else recording.key for recording in ordered]
    place = draw_splits(filter(None, groups), what)
    splits = {split: [] for split in SPLITS}
    for recording, group in zip(ordered, groups, strict=True):
        splits[place[group]].append(recording)
    return splits


def cut(lengths: Sequence[int], length: int) -> Tensor:
    """First samples [N] int64 of consecutive sequences; `lengths` of recordings end to end, rests left out."""
    samples = torch.tensor(lengths)  # [files]
    pieces = samples // length
    first = samples.cumsum(0) - samples  # each recording's first sample
    within = torch.arange(int(pieces.sum())) - torch.repeat_interleave(pieces.cumsum(0) - pieces, pieces)
    return torch.repeat_interleave(first, pieces) + within * length


def spread(available: int, wanted: int | None, purpose: str) -> Tensor:
    """[N] int64, rising: one at a random place in each of `wanted` equal stretches of `available`; all if too few."""
    if wanted is None or wanted >= available:
        return torch.arange(available)
    edges = torch.arange(wanted + 1) * available // wanted
    draws = torch.rand(wanted, dtype=torch.float64, generator=generator(0, f"sequences of {purpose}"))
    return edges[:-1] + (draws * edges.diff()).long()
