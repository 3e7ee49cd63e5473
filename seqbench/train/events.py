"""What TensorBoard shows of a run beside its samples: its curves, and its settings in the tab HPARAMS.

    runs/<run_id>/<unit>-rate<rate>-seed<seed>/events.out.tfevents.*

TensorBoard names a run by its folders, so these tell runs apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

from seqbench.train.identity import short
from seqbench.train.module import SequenceModel
from seqbench.train.optim import ChungRMSProp

SHOWN = ("rate", "seed", "layers", "layer_norm", "bidirectional", "noise", "dropout")  # of a configuration's model
METRICS = ("valid/nll", "test/nll")


def run_name(unit: str, rate: float, seed: int) -> str:
    """What tells a run from those beside it, fit for a file's name."""
    return f"{unit}-rate{rate:g}-seed{seed}"


class Writers:
    """One writer of events a replica, counted as the group began."""

    def __init__(
        self, folders: list[Path], model: SequenceModel, configs: list[dict[str, Any]], resumed: bool = False
    ) -> None:
        """Opens them; a run from the start has its earlier events removed, which would be drawn into its curves.

        Args:
            folders: of the runs.
            model: theirs.
            configs: the resolved configuration of each run, with its seed and rate.
            resumed: whether they go on from a checkpoint.
        """
        self.each: list[SummaryWriter] = []
        self._ends: list[Any] = []
        for folder, config in zip(folders, configs, strict=True):
            own = folder / run_name(type(model.cell).__name__, config["model"]["rate"], config["model"]["seed"])
            for events in () if resumed else own.glob("events.out.tfevents.*"):
                events.unlink()
            writer = SummaryWriter(str(own))
            experiment, start, end = hparams(_settings(model, config), dict.fromkeys(METRICS, 0.0))
            for summary in (experiment, start):
                _add(writer, summary)
            writer.flush()
            self.each.append(writer)
            self._ends.append(end)

    def draw(self, k: int, figures: dict[str, float], step: int) -> None:
        """Adds a replica's figures by the names of their curves, at a step of the optimiser."""
        for name, figure in figures.items():
            self.each[k].add_scalar(name, figure, step)
        self.each[k].flush()

    def end(self, k: int, figures: dict[str, float], step: int) -> None:
        """A replica's run has come to its end; adds its last figures."""
        _add(self.each[k], self._ends[k])
        self.draw(k, figures, step)

    def close(self) -> None:
        """Writes what there is left."""
        for writer in self.each:
            writer.close()
        self.each = []


def _add(writer: SummaryWriter, summary: Any) -> None:
    file = writer.file_writer
    assert file is not None  # it is there as soon as the writer is
    file.add_summary(summary)


def _settings(model: SequenceModel, config: dict[str, Any]) -> dict[str, Any]:
    """Of one run, by what they are called in the tab; only texts and numbers have a place there."""
    chosen = config["model"]
    return {
        "data": model.task.name,
        "protocol": config["run"]["protocol"],
        "unit": type(model.cell).__name__,
        "unit's options": ", ".join(f"{name} {value}" for name, value in model.cell.options().items()),
        "hidden": model.hidden,
        "optimizer": short(chosen["optimizer"]) or ChungRMSProp.__name__,
        "schedule": short(chosen["schedule"]),
        **{name: chosen[name] for name in SHOWN},
    }
