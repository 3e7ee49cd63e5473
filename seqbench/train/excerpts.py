"""What `seqbench leaderboard sample` draws: short excerpts of the runs below a folder, by their checkpoints."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from seqbench.datamodules.base import SequenceData
from seqbench.sample.ancestral import draw
from seqbench.sample.rendering import Rendering, prime, render, steps_of
from seqbench.task import SeqbenchError
from seqbench.train.loading import load_data, load_model
from seqbench.train.recorder import read_checkpoint

RATE = 22_050  # Hz, of music


class Excerpts:
    """Of each run the beginning of one test sequence, how that goes on, and how the run's weights go on with it."""

    def __init__(self, runs: Path, sequence: int, seconds: float) -> None:
        """Looks for checkpoints.

        Args:
            runs: a folder with runs and groups, at any depth.
            sequence: of the test split.
            seconds: that are drawn.

        Raises:
            SeqbenchError: there is no checkpoint, or the length is not positive.
        """
        if not seconds > 0:
            raise SeqbenchError(f"--seconds {seconds}: give more than 0")
        self.sequence, self.seconds = sequence, seconds
        self.places: dict[str, tuple[Path, int]] = {}
        for path in sorted(runs.rglob("checkpoints/*.ckpt"), reverse=True):  # best.ckpt after last.ckpt: it is smaller
            for k, (run_id, *_) in enumerate(read_checkpoint(path)["seqbench"]["runs"]):
                self.places[run_id] = path, k
        if not self.places:
            raise SeqbenchError(f"There is no checkpoint below {runs}: give the folder that runs were trained in")

    def __call__(self, run_id: str, what: Literal["prime", "truth", "sample"]) -> tuple[bytes, bytes] | None:
        """An OGG file and a picture in PNG; None where the run has no checkpoint."""
        if run_id not in self.places:
            return None
        path, replica = self.places[run_id]
        data = _data(path)
        given = prime(data, self.sequence, None)
        steps = steps_of(data, self.seconds)
        if what == "sample":
            rendering = render(data, given, draw(load_model(path), replica, steps, prime=given).y, RATE)
        else:
            rendering = self._truth(data, given, steps if what == "truth" else 0)
        return rendering.file("ogg"), rendering.png()

    def _truth(self, data: SequenceData[Any], given: Tensor, steps: int) -> Rendering:
        """The sequence itself, so many steps after the prime as far as it has them."""
        batch = data.gather("test", torch.tensor([[self.sequence]]))
        y = batch.y[: int(batch.mask.sum()), 0, 0].float()
        start = len(given) - 1  # y at the prime's last step is what comes after it
        return render(data, given, y[start : start + steps], RATE)


@lru_cache(maxsize=1)
def _data(path: Path) -> SequenceData[Any]:
    return load_data(path).ready()
