"""`seqbench fit | validate | test | predict`: a LightningCLI around one model class and any data set."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import SIGTERMException

from datamodules.base import SequenceData
from seqbench import cells
from seqbench.callbacks import EpochProgress, Replicas
from seqbench.module import SequenceModel, replicas
from seqbench.recorder import Recorder
from seqbench.task import SeqbenchError


class Parser(LightningArgumentParser):
    """Tells a mistake in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise SeqbenchError(_one_line(message)) from ex


def _one_line(message: str) -> str:
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    return " ".join(lines)[:400]


class SeqbenchCLI(LightningCLI):
    """Data, model and run from configs and flags; sizes are stated once, by the data."""

    def __init__(self, arguments: list[str]) -> None:
        """Parses, builds and runs; `arguments` start with the command's name."""
        _check_names(arguments)
        self.command = shlex.join(["seqbench", *arguments])
        super().__init__(
            SequenceModel,
            SequenceData,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_class=Parser,
            trainer_defaults={
                "logger": False,
                "num_sanity_val_steps": 0,
                "enable_model_summary": False,
                "use_distributed_sampler": False,
            },
            args=arguments,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        # Lightning's own warns when sys.argv is not empty beside given arguments.
        self.config = parser.parse_args(args)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run.dir", type=Path, default=Path("runs"), help="Where runs are kept.")
        parser.add_argument(
            "--run.patience", type=int | None, default=None, help="Stop after so many epochs without a better one."
        )
        parser.add_argument("--run.overwrite", type=bool, default=False, help="Train a finished run again.")
        parser.link_arguments("data.task", "model.task", apply_on="instantiate")
        parser.link_arguments(
            ("model.seed", "model.rate"), "data.init_args.seeds", compute_fn=lambda seed, rate: replicas(seed, rate)[0]
        )

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Adds the callbacks that are always there; here, as later a default ModelCheckpoint would be there too."""
        config = self.config[self.subcommand]
        self.replicas = Replicas(config["run"]["patience"])
        self.recorder = Recorder(
            self.replicas, self.resolved(), self.command, config["run"]["dir"], config["run"]["overwrite"]
        )
        self.folder = self.recorder.name_runs(self.model)
        callbacks: list[L.Callback] = [self.replicas, self.recorder]
        if config["trainer"]["enable_progress_bar"] is not False:
            callbacks.append(EpochProgress(self.replicas))
        if config["trainer"]["enable_checkpointing"] is not False:
            self._check_writable()
            callbacks.append(
                ModelCheckpoint(self.folder / "checkpoints", save_last=True, save_top_k=0, enable_version_counter=False)
            )
        own = self._get(self.config_init, "trainer")["callbacks"] or []
        own = own if isinstance(own, list) else [own]
        return super().instantiate_trainer(**kwargs, callbacks=[*callbacks, *own])

    def resolved(self) -> dict[str, Any]:
        """The configuration as it will be used: sections data, model, trainer, run, plain values only."""
        dumped = yaml.safe_load(self._parser(self.subcommand).dump(self.config[self.subcommand], skip_none=False))
        sections = {name: dumped[name] for name in ("data", "model", "trainer", "run")}
        sections["data"]["init_args"].pop("seeds", None)
        return sections

    def _check_writable(self) -> None:
        # ModelCheckpoint would succeed without saving.
        try:
            (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SeqbenchError(f"Cannot write to {self.folder}: {error.strerror}; choose another --run.dir") from error
        if not os.access(self.folder / "checkpoints", os.W_OK):
            raise SeqbenchError(f"Cannot write to {self.folder}; choose another --run.dir")

    def before_fit(self) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.resolved(), sort_keys=False), encoding="utf-8")

    def after_fit(self) -> None:
        """The best weights are tested as soon as they are known."""
        self.trainer.test(self.model, self.datamodule, verbose=False)
        for k, run_id in enumerate(self.recorder.run_ids):
            print(f"{self.recorder.record_path(run_id)}  best epoch {int(self.replicas.best_epoch[k])}")


def _check_names(arguments: list[str]) -> None:
    """A misspelt class would be answered by pages of help: name the nearest instead."""
    for flag, lookup in (("--model.cell", cells.find),):
        for position, argument in enumerate(arguments):
            name, _, value = argument.partition("=")
            if name == flag:
                lookup((value or "".join(arguments[position + 1 : position + 2])).rpartition(".")[2])


def run(arguments: list[str]) -> None:
    """One of Lightning's four commands; `arguments` start with its name.

    Raises:
        SystemExit: 143 after SIGTERM, 130 after ^C; the records say "interrupted".
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Lightning 2.6 with torch 2.11, at every start; nothing a user could do about it.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    try:
        SeqbenchCLI(arguments)
    except SIGTERMException:
        sys.exit(143)
    except SystemExit as stop:
        # Lightning turns ^C into status 1.
        sys.exit(130 if isinstance(stop.__context__, KeyboardInterrupt) else stop.code)
