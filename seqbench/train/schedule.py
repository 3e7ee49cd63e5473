"""A schedule of the rate, as Lightning steps it once an epoch: which of torch's can be had, and where it ends."""

from __future__ import annotations

from lightning.pytorch.cli import LRSchedulerCallable
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, ReduceLROnPlateau
from torch.optim.swa_utils import SWALR

from seqbench.task import SeqbenchError

REMEDY = "take one that is stepped once an epoch and multiplies the rate, as LinearLR or CosineAnnealingLR"


def made_schedule(make: LRSchedulerCallable, optimizer: Optimizer, epochs: int | None) -> LRScheduler:
    """The schedule over an optimiser; a length of it, total_iters or T_max, that is -1 ends with the last epoch.

    Raises:
        SeqbenchError: it cannot be made, follows a figure, sets rates of its own, or ends with a last epoch that is not
            known.
    """
    try:
        schedule = make(optimizer)
    except (AttributeError, TypeError, ValueError) as error:
        raise SeqbenchError(f"This --model.schedule cannot be made ({error}): {REMEDY}") from error
    if isinstance(schedule, ReduceLROnPlateau):
        raise SeqbenchError("ReduceLROnPlateau follows one figure, and each replica has its own: take another one")
    if isinstance(schedule, OneCycleLR | CyclicLR | SWALR):
        raise SeqbenchError(f"{type(schedule).__name__} sets rates of its own, step by step: {REMEDY}")
    for length in ("total_iters", "T_max"):
        if getattr(schedule, length, 0) < 0:
            setattr(schedule, length, _last_epoch(epochs))
    return schedule


def _last_epoch(epochs: int | None) -> int:
    """Counted from 0, but 1 at least, as a schedule divides by it."""
    if epochs is None or epochs < 0:
        raise SeqbenchError("The schedule ends with the last epoch: give --trainer.max_epochs")
    return max(1, epochs - 1)
