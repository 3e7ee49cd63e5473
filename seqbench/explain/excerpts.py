"""What `seqbench leaderboard sample` draws of the runs below a folder, by checkpoints: to hear, to read, to see."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from seqbench.datamodules.arrays import DataSet
from seqbench.datamodules.base import SequenceData
from seqbench.datamodules.text import Text
from seqbench.explain.explained import explain
from seqbench.explain.figures import pictures
from seqbench.explain.page import png
from seqbench.explain.strip import beginning
from seqbench.sample.ancestral import draw
from seqbench.sample.rendering import Rendering, prime, render, steps_of
from seqbench.task import SeqbenchError
from seqbench.train.loading import load_data, load_model
from seqbench.train.recorder import read_checkpoint

RATE = 22_050  # Hz, of music
TOKENS, WORDS = 60, 30  # of a text: those that are written, and those of a long one whose memory is shown


class Excerpts:
    """Of each run the beginning of one test sequence, how that goes on, and how the run's weights go on with it.

    Of text: what the memory holds of each token, and, where there is a next one, how the weights go on.
    """

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

    def __call__(self, run_id: str, what: Literal["prime", "truth", "sample"]) -> dict[str, bytes]:
        """By its ending ("ogg", "png", "txt") each file that there is; none where the run has no checkpoint."""
        if run_id not in self.places:
            return {}
        path, replica = self.places[run_id]
        data = _data(path)
        if data.task.vocabulary:
            return self._of_text(path, replica) if what == "sample" else {}
        given = prime(data, self.sequence, None)
        steps = steps_of(data, self.seconds)
        if what == "sample":
            rendering = render(data, given, draw(load_model(path), replica, steps, prime=given).y, RATE)
        else:
            rendering = self._truth(data, given, steps if what == "truth" else 0)
        return {"ogg": rendering.file("ogg"), "png": rendering.png()}

    def _of_text(self, path: Path, replica: int) -> dict[str, bytes]:
        model, data = load_model(path), _data(path)
        x = DataSet(data).test[self.sequence]
        tokens = data.spelled(torch.as_tensor(x))
        found = explain(model, x, replica, None, beginning(tokens, WORDS), tokens)
        files = {"png": png(next(pictures(found, None)))}
        if isinstance(data, Text):
            given = prime(data, self.sequence, None)
            drawn = draw(model, replica, TOKENS, prime=given).y
            files["txt"] = f"{data.written(given)} | {data.written(drawn)}\n".encode()
        return files

    def _truth(self, data: SequenceData[Any], given: Tensor, steps: int) -> Rendering:
        """The sequence itself, so many steps after the prime as far as it has them."""
        batch = data.gather("test", torch.tensor([[self.sequence]]))
        y = batch.y[: int(batch.mask.sum()), 0, 0].float()
        start = len(given) - 1  # y at the prime's last step is what comes after it
        return render(data, given, y[start : start + steps], RATE)


@lru_cache(maxsize=1)
def _data(path: Path) -> SequenceData[Any]:
    return load_data(path).ready()
