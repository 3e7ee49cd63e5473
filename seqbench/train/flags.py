"""What Lightning's Trainer takes and what would not do here what it says: refused in one line each.

docs/how-to/lightning.md has the table of all flags and callbacks; its test tries them.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import callbacks
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from seqbench.decoding import check_plain
from seqbench.task import SeqbenchError

FLAGS: dict[str, tuple[Any, str]] = {
    "min_epochs": (None, "an early stop is --run.patience"),
    "min_steps": (None, "an early stop is --run.patience"),
    "gradient_clip_algorithm": ("norm", "gradients are clipped by norm, each replica's by its own"),
    "val_check_interval": (1.0, "epochs are validated at their end; check_val_every_n_epoch leaves some out"),
    "reload_dataloaders_every_n_epochs": (0, "each epoch has an order of its own anyway"),
    "accumulate_grad_batches": (1, "a larger batch is --data.batch_size"),
    "overfit_batches": (
        0.0,
        "it would undo the data set's order; fewer batches are limit_train_batches",
    ),
    "use_distributed_sampler": (False, "processes share every batch anyway"),
    "model_registry": (None, "checkpoints are files, and nothing is uploaded"),
    "barebones": (False, "it leaves out the checkpoint and the figures that a run consists of"),
}  # each with the value that does nothing
NOT_ZERO = {
    "limit_test_batches": "a run without a test leaves no record; to try the code --trainer.fast_dev_run true",
    "check_val_every_n_epoch": "validation chooses the weights: give 1 or more",
}
BEST = "the weights that count are those of the best epoch, as they were validated"
CALLBACKS: dict[type[L.Callback], str] = {
    callbacks.BatchSizeFinder: "the batch is part of a run's name: --data.batch_size",
    callbacks.LearningRateFinder: "the rate is part of a run's name: --model.rate; `seqbench sweep` searches it",
    callbacks.GradientAccumulationScheduler: FLAGS["accumulate_grad_batches"][1],
    callbacks.WeightAveraging: BEST,
    callbacks.StochasticWeightAveraging: BEST,
    callbacks.ModelPruning: "all weights of a model are one parameter",
    callbacks.BaseFinetuning: "all weights of a model are one parameter",
    callbacks.OnExceptionCheckpoint: "last.ckpt is kept after each validation, and --ckpt_path goes on from it",
    callbacks.SpikeDetection: "a replica that diverges is frozen and its record says so",
}


def whole_numbers_first() -> None:
    """Makes the parser read 1 as one batch, and 1.0 as all of them, in every process.

    It tries the types of a union in their order, and typing has but one union of the same types, in the order of
    whoever named it first: which module that was depends on what was imported before Lightning.
    """
    annotations = inspect.unwrap(L.Trainer.__init__).__annotations__
    for flag in ("train", "val", "test", "predict"):
        annotations[f"limit_{flag}_batches"] = int | float | None
    annotations["overfit_batches"] = int | float
    annotations["gradient_clip_val"] = int | float | None


def check_numbers(config: Any) -> None:
    """Of a parsed command: what no record could hold is refused before anything is trained.

    Raises:
        SeqbenchError: a number that is not finite, beyond 1e100, or of more than 64 bits; names the flag.
    """
    for flag, value in config.items():
        try:
            check_plain(value, f"--{flag}")
        except ValueError as error:
            raise SeqbenchError(f"{error}: no record could hold it") from error


def check_flags(config: Any, trains: bool) -> None:
    """Of a parsed command: sections trainer and others.

    Args:
        config: of the command.
        trains: whether it is `fit`.

    Raises:
        SeqbenchError: a flag that has no meaning here; names the remedy.
    """
    every = config["run"]["sample_every"]
    if every is not None and every < 1:
        raise SeqbenchError(f"--run.sample_every {every} cannot be: give 1 or more epochs, or null for none")
    trainer = config["trainer"]
    for flag, (harmless, remedy) in FLAGS.items():
        value = trainer[flag]
        # 1 is one batch where 1.0 is an epoch.
        if value is not None and (value != harmless or type(value) is not type(harmless)):
            raise SeqbenchError(f"--trainer.{flag} {value} has no meaning here: {remedy}")
    for flag, remedy in NOT_ZERO.items() if trains else ():
        if trainer[flag] == 0:
            raise SeqbenchError(f"--trainer.{flag} {trainer[flag]}: {remedy}")
    if (trainer["gradient_clip_val"] or 0) < 0:
        raise SeqbenchError(f"--trainer.gradient_clip_val {trainer['gradient_clip_val']}: give a norm, or 0 for none")
    if config["seed_everything"] is not False:
        raise SeqbenchError("--seed_everything changes nothing here: weights, order and noise follow from --model.seed")


def check_callbacks(given: list[L.Callback]) -> None:
    """Of the user's callbacks.

    Raises:
        SeqbenchError: one that has no meaning here; names the remedy.
    """
    for callback in given:
        for kind, remedy in CALLBACKS.items():
            if isinstance(callback, kind):
                raise SeqbenchError(f"{type(callback).__name__} has no meaning here: {remedy}")


def check_devices(trainer: L.Trainer) -> None:
    """Of a trainer that has not yet started any process.

    Raises:
        SeqbenchError: a strategy that shards weights or starts processes in ways that lose the command, or more
            processes than cores.
    """
    strategy = trainer.strategy
    spawns = isinstance(strategy.launcher, _MultiProcessingLauncher)
    if spawns or not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
        name = getattr(strategy, "_start_method", "") if spawns else type(strategy).__name__
        raise SeqbenchError(f"--trainer.strategy: {name} is not supported; take --trainer.strategy ddp, or one device")
    cores = os.cpu_count() or 1
    if strategy.root_device.type == "cpu" and trainer.num_devices > cores:
        raise SeqbenchError(
            f"--trainer.devices {trainer.num_devices}: on the CPU these are processes, and there are {cores} cores"
        )


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """What Lightning refuses about its flags and callbacks, as a mistake of the user's."""
    try:
        yield
    except (MisconfigurationException, ModuleNotFoundError) as error:
        raise refusal(error) from error
    except RuntimeError as error:
        if str(error).startswith("Early stopping conditioned on"):  # a figure that there is not
            raise refusal(error) from error
        raise


def refusal(error: Exception) -> SeqbenchError:
    """An error of Lightning's as one line."""
    return SeqbenchError(f"Lightning: {' '.join(str(error).split())[:400]}")
