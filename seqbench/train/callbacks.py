"""What Lightning does once for a model, done for each replica: best weights, early stop, curves.

Everything here lives in checkpoints, so that a resumed run goes on as if nothing had happened.
R replicas, P parameters.
"""

from __future__ import annotations

import gc
import logging
import math
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from torch import Tensor

from seqbench.task import SeqbenchError
from seqbench.train.module import SequenceModel
from seqbench.train.optim import PerReplica

OUT_OF_RANGE = 0.9  # share of the weights at the floor: the released rule has 0.04 to 0.5 on music
log = logging.getLogger("seqbench")


def fitting(trainer: L.Trainer) -> bool:
    """Whether this is `fit`, its validation included."""
    return trainer.state.fn == TrainerFn.FITTING


def log_figures(module: L.LightningModule, name: str, figures: dict[int, float], diverged: Tensor) -> None:
    """Hands figures to Lightning's loggers, and to the callbacks that monitor one; once an epoch, as a step is short.

    Args:
        module: whose epoch ends.
        name: of the mean over the replicas that have not diverged; replica k's own is NAME/replica_k.
        figures: by replica, counted as the group began.
        diverged: [R] bool, of the whole group; that of one replica logs the mean alone, which is its figure.
    """
    known = [figure for k, figure in figures.items() if math.isfinite(figure) and not diverged[k]]
    mean = math.fsum(known) / len(known) if known else math.nan
    # All processes have the same figures; their mean, which is asked for lest Lightning warn, is each one's.
    module.log(name, mean, prog_bar=name.endswith("/nll"), sync_dist=True, batch_size=1)
    for k, figure in figures.items() if len(diverged) > 1 else ():
        module.log(f"{name}/replica_{k}", figure, sync_dist=True, batch_size=1)


class Epoch(NamedTuple):
    """An entry of the curves; lists [R], NaN where a replica was dropped.

    Attributes:
        epoch: counted from 0.
        step: of the optimiser, done so far.
        seconds: of training and validation so far.
        train: nats per frame, measured while training.
        valid: nats per frame.
        gradient: norm of the gradient before clipping; as the next two a mean over the steps since the last entry.
        update: norm of the update over norm of the weights.
        floored: share of the weights at the optimiser's floor; empty where it has none.
    """

    epoch: int
    step: int
    seconds: float
    train: list[float]
    valid: list[float]
    gradient: list[float]
    update: list[float]
    floored: list[float]

    def figures(self) -> dict[str, list[float]]:
        """What is drawn of an epoch, by the names that curves have; lists [R]."""
        drawn = {
            "train/nll": self.train,
            "valid/nll": self.valid,
            "rule/gradient_norm": self.gradient,
            "rule/update_over_weights": self.update,
        }
        return drawn | ({"rule/weights_at_floor": self.floored} if self.floored else {})


class Replicas(L.Callback):
    """Keeps each replica's best weights by validation NLL, stops it after `patience` epochs without a better one.

    Where a task can be solved, a replica stops once all of its guesses on the validation split are right, and the
    weights that it has then are the best ones.
    When half of a group is done, the rest goes on as a smaller group: a replica that has stopped costs nothing more.
    All attributes count the replicas as the group began, R of them.

    Attributes:
        curve: one entry a validation.
        best: [R] float64, the lowest validation NLL; infinite before the first.
        best_epoch: [R], -1 before the first.
        last_epoch: [R], the last epoch that a replica took part in.
        running: [R] bool, the replicas that take part in the next epoch.
        diverged: [R] bool.
        weights: [R, P], the weights at the best epoch.
    """

    def __init__(self, patience: int | None = None) -> None:
        """Args: patience: epochs without a better validation NLL before a replica stops; None: never.

        Raises:
            SeqbenchError: a patience below 1.
        """
        if patience is not None and patience < 1:
            raise SeqbenchError(f"A patience of {patience} epochs cannot be: give 1 or more, or null for none")
        self.patience = patience
        self.curve: list[Epoch] = []
        self.best = torch.empty(0)
        self.best_epoch = torch.empty(0)
        self.last_epoch = torch.empty(0)
        self.running = torch.empty(0)
        self.diverged = torch.empty(0)
        self.weights = torch.empty(0)
        self._seconds_before = 0.0
        self._started = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, SequenceModel)
        if not self.weights.numel():
            R = pl_module.R
            self.best = torch.full((R,), math.inf, dtype=torch.float64)
            self.best_epoch = torch.full((R,), -1)
            self.last_epoch = torch.full((R,), -1)
            self.running = torch.ones(R, dtype=torch.bool)
            self.diverged = torch.zeros(R, dtype=torch.bool)
            self.weights = pl_module.rows.detach().clone()

    @property
    def seconds(self) -> float:
        """Of training and validation so far, earlier sittings included."""
        return self._seconds_before + (time.perf_counter() - self._started if self._started else 0.0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, SequenceModel)
        self._keep_order(trainer, pl_module)  # a compacted group is resumed as small as it was saved
        _compile(trainer, pl_module)
        gc.freeze()  # what is imported by now need not be searched for garbage while training
        self._started = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._seconds_before, self._started = self.seconds, 0.0
        gc.unfreeze()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        gc.unfreeze()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The end of an epoch, as Lightning validates before it calls the training epoch's own end."""
        assert isinstance(pl_module, SequenceModel)
        if trainer.sanity_checking:
            return
        if not fitting(trainer):
            nll = dict(zip(pl_module.slots, pl_module.valid_nll.per_replica().tolist(), strict=True))
            log_figures(pl_module, "valid/nll", nll, torch.zeros_like(self.diverged))
            return
        epoch, slots = trainer.current_epoch, torch.tensor(pl_module.slots)
        optimizer = trainer.optimizers[0]
        assert isinstance(optimizer, PerReplica)
        gradient, update, floored = optimizer.watch()
        train, valid = (
            self._all(slots, pl_module.train_nll.per_replica()),
            self._all(slots, pl_module.valid_nll.per_replica()),
        )
        watched = [self._all(slots, figures).tolist() for figures in (gradient, update)]
        watched.append([] if floored is None else self._all(slots, floored).tolist())
        self.curve.append(Epoch(epoch, trainer.global_step, self.seconds, train.tolist(), valid.tolist(), *watched))
        _warn(self.curve, pl_module)
        self.last_epoch[self.running] = epoch  # also where a replica diverged in this very epoch
        trained = self.running.nonzero().flatten().tolist()
        alive = torch.zeros(len(self.best), dtype=torch.bool)
        alive[slots] = pl_module.alive.cpu()
        self.diverged |= self.running & ~alive
        for name, figures in self.curve[-1].figures().items():
            log_figures(pl_module, name, {k: figures[k] for k in trained}, self.diverged)
        better = alive & (valid < self.best)
        if pl_module.task.solved:
            solved = torch.zeros_like(alive)
            solved[slots] = pl_module.valid_wrong.per_replica() == 0
            solved &= alive
            better, alive = better | solved, alive & ~solved
        self.best = torch.where(better, valid, self.best)
        self.best_epoch[better] = epoch
        self._keep_weights(pl_module, slots[better[slots]])
        if self.patience is not None:
            alive &= epoch - self.best_epoch < self.patience
        pl_module.alive.copy_(alive[slots])
        self.running = alive
        trainer.should_stop = trainer.should_stop or not bool(alive.any())

    def _all(self, slots: Tensor, figures: Tensor) -> Tensor:
        """Figures of the replicas in `slots` as [R] float64, NaN for those that were dropped."""
        found = torch.full((len(self.best),), math.nan, dtype=torch.float64)
        found[slots] = figures
        return found

    def _keep_weights(self, module: SequenceModel, better: Tensor) -> None:
        """Of the replicas in `better`, counted as the group began."""
        held = torch.tensor([module.slots.index(k) for k in better.tolist()], device=module.device, dtype=torch.long)
        self.weights = self.weights.to(module.rows.detach())  # Lightning moves and converts after `setup`
        self.weights[better.to(module.device)] = module.rows.detach()[held]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compacts the group once half of it is done."""
        assert isinstance(pl_module, SequenceModel)
        running = self.running[pl_module.slots]
        if 0 < int(running.sum()) <= pl_module.R / 2:
            keep = running.nonzero().flatten().to(pl_module.device)
            pl_module.keep(keep)
            optimizer = trainer.optimizers[0]
            assert isinstance(optimizer, PerReplica)
            optimizer.keep(keep, pl_module.alive)
            self._keep_order(trainer, pl_module)

    def _keep_order(self, trainer: L.Trainer, module: SequenceModel) -> None:
        loader: Any = trainer.train_dataloader
        loader.seeds = module.seeds

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """`validate` scores the best weights too; within a fit, those of the epoch."""
        if not fitting(trainer):
            self._load_best(pl_module)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Tests the best weights, not the last."""
        self._load_best(pl_module)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Predicts with the best weights, not the last."""
        self._load_best(pl_module)

    def _load_best(self, module: L.LightningModule) -> None:
        assert isinstance(module, SequenceModel)
        module.restore(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {
            "curve": [tuple(entry) for entry in self.curve],
            "best": self.best,
            "best_epoch": self.best_epoch,
            "last_epoch": self.last_epoch,
            "running": self.running,
            "diverged": self.diverged,
            "weights": self.weights,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.curve = [Epoch(*entry) for entry in state_dict["curve"]]
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
        self.last_epoch, self.running = state_dict["last_epoch"], state_dict["running"]
        self.diverged, self.weights = state_dict["diverged"], state_dict["weights"]
        self._seconds_before = state_dict["seconds"]


def _warn(curve: list[Epoch], module: SequenceModel) -> None:
    """Says in one line, after the first epoch, that a rule of training is not what its name says."""
    if len(curve) == 1 and curve[0].floored and (share := max(curve[0].floored)) > OUT_OF_RANGE:
        log.warning(
            f"{share:.0%} of the weights of {type(module.cell).__name__} sat at the optimiser's floor for the whole "
            "first epoch: this is momentum SGD at rate / floor, not RMSProp; lower the floor"
        )


def _compile(trainer: L.Trainer, module: SequenceModel) -> None:
    """Runs the first batch, for nothing: a unit's seconds are those of its training, not of a compiler."""
    loader: Any = trainer.train_dataloader
    with trainer.precision_plugin.forward_context():
        batch = trainer.strategy.batch_to_device(next(iter(loader)))
        nats, _ = module.sequence_nats(batch)
    torch.autograd.grad(nats.sum(), module.rows)


class StopAfter(L.Callback):
    """Ends a training after so many epochs, which are those that a longer one begins with.

    Args:
        epochs: how many.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or trainer.current_epoch + 1 >= self.epochs


class LastCheckpoint(ModelCheckpoint):
    """last.ckpt, after every epoch that was validated.

    A class of its own: Lightning knows the states of callbacks by class and options, and a user may want two.
    """

    def __init__(self, folder: Path) -> None:
        # With save_last and save_top_k=0 Lightning 2.6 saves at the end of a fit only.
        super().__init__(folder, filename="last", save_top_k=1, enable_version_counter=False)


class EpochProgress(ProgressBar):
    """One bar over all epochs, with the best figures so far and the time left if no replica stops early.

    Where the output is no terminal: a line now and then instead, for logs.
    """

    QUIET_SECONDS = 20.0

    def __init__(self, replicas: Replicas) -> None:
        super().__init__()
        self.replicas = replicas
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._printed = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero or not self._console.is_terminal:
            return
        columns: tuple[ProgressColumn, ...] = (
            MofNCompleteColumn(), TextColumn("epochs"), TimeElapsedColumn(), TextColumn("<"), TimeRemainingColumn(),
        )  # fmt: skip
        # What does not fit into a line is broken into several, or left out: never the epoch and the time left.
        if self._console.width >= 60:
            unit, figures = (
                TextColumn(f"{{task.{field}}}", table_column=Column()) for field in ("description", "fields[figures]")
            )
            bar = BarColumn(min(40, self._console.width // 8))
            columns = (unit, bar, *columns, figures)
        self._progress = Progress(*columns, console=self._console)
        total = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
        assert isinstance(pl_module, SequenceModel)
        name = f"{type(pl_module.cell).__name__} on {pl_module.task.name}"
        self._progress.add_task(name, total=total, completed=trainer.current_epoch, figures="")
        self._progress.start()

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if self._progress is not None:
            done = (args[-1] + 1) / max(1, self.total_train_batches)
            self._progress.update(self._progress.task_ids[0], completed=trainer.current_epoch + min(done, 0.99))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or not self.replicas.curve or not fitting(trainer):
            return
        epoch, _, seconds, train, valid, *_ = self.replicas.curve[-1]
        best, running = self.replicas.best, self.replicas.running
        # Of the others the group may know nothing any more.
        shown = int((best.masked_fill(~running, math.inf) if running.any() else best).argmin())
        figures = f"train {train[shown]:.3f}  valid {valid[shown]:.3f}  best {best.min():.3f}"
        if len(train) > 1:
            assert isinstance(pl_module, SequenceModel)
            figures += f"  {int(running.sum())}/{len(train)} replicas train"
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=epoch + 1, figures=figures)
        elif trainer.is_global_zero and time.monotonic() - self._printed > self.QUIET_SECONDS:
            print(f"epoch {epoch + 1}/{trainer.max_epochs}  {seconds:.0f} s  {figures}", file=sys.stderr, flush=True)
            self._printed = time.monotonic()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def disable(self) -> None:
        """Asked for by Lightning on all processes but the first."""

    def enable(self) -> None:
        """Asked for by Lightning on the first process."""
