"""`seqbench fit | validate | test | predict`: a LightningCLI around one model class and any data set."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import numpy as np
import torch
import yaml
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from seqbench.datamodules.base import SequenceData
from seqbench.record import Record, load
from seqbench.task import SeqbenchError
from seqbench.train.arguments import check_classes, import_path, protocols, resolve
from seqbench.train.callbacks import EpochProgress, LastCheckpoint, Replicas
from seqbench.train.flags import (
    check_callbacks,
    check_devices,
    check_flags,
    check_numbers,
    refusal,
    told_in_one_line,
    whole_numbers_first,
)
from seqbench.train.keeping import WholeCheckpoints, no_room
from seqbench.train.module import SequenceModel, replicas
from seqbench.train.quiet import only_warnings, quiet
from seqbench.train.recorder import Recorder

AS_SIGTERM = (signal.SIGHUP, signal.SIGUSR1)


class Parser(LightningArgumentParser):
    """Tells a mistake in one line, with the remedy."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A name cut short, as --conf, would pass by `resolve` and by what a sweep refuses.
        super().__init__(*args, **kwargs, allow_abbrev=False)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise _mistake(message) from ex


def _mistake(message: str) -> SeqbenchError:
    """jsonargparse's pages about a value as one line."""
    text = " ".join(line.strip(" -") for line in message.splitlines())
    text = re.sub(r"^Call to compute_fn of link .*? failed: ", "", text)
    if required := re.search(r"arguments are required: ([\w.]+)", text):
        if within := re.search(r'Parser key "(trainer\.\w+)"', text):
            return SeqbenchError(f"--{within[1]} lacks an option: add --{within[1]}.{required[1]} VALUE")
        remedy = "--model.cell NAME" if "model.cell" in text else "-c NAME"
        return SeqbenchError(
            f"{text.replace('fit.', '')}; add {remedy} (`seqbench cells` and `seqbench data list` tell)"
        )
    if several := re.search(r"Multiple subclasses with name (\w+)\. .*?: ([\w.]+(?:, [\w.]+)+)\.", text):
        both = several[2].replace(", ", " and of ")
        return SeqbenchError(f"{several[1]} is the name of {both}: give its import path")
    key, given = re.search(r'Parser key "([^"]*)"', text), re.search(r"Given value: (.*)$", text)
    if key and key[1] == "config":
        remedy = "give each with a -c of its own" if "," in text else "give the name of a config, or a file"
        return SeqbenchError(f"-c {text.rpartition('/')[2].rstrip(chr(39))}: there is no such config; {remedy}")
    if key and (foreign := re.search(r"Option '(\w+)' is not accepted", text)):
        remedy = f"name one that has it before, --{key[1]} NAME" if "NestedArg" in text else "the config is for others"
        return SeqbenchError(f"--{key[1]}.{foreign[1]}: what is chosen there has no {foreign[1]}; {remedy}")
    if key and key[1] == "data" and given and given[1].startswith("{'init_args'") and "Not a valid" in text:
        return SeqbenchError("The protocol was given before the data set: -c DATA comes before -c PROTOCOL")
    if "unrecognized arguments" in text or "does not accept" in text or re.match(r"Option \S+ is not accepted$", text):
        return SeqbenchError(f"{text[:300]}; `seqbench fit ... --print_config` shows all there are")
    if key and (option := re.search(r"NestedArg\(key='(\w+)', val='?(.*?)'?\)", text)):
        if wrong := re.search(rf"""{option[1]}\b[^:]*: [Ee]xpected (?:an? )?(.*?)(?=\. Got value| Expected)""", text):
            kind = re.sub(r"<class '(\w+)'>|typing\.Literal\[(.*)\]", r"\1\2", wrong[1])
            return SeqbenchError(f"--{key[1]}.{option[1]} {option[2][:80]}: expected {kind}")
        return SeqbenchError(
            f"--{key[1]}.{option[1]}: name the class first, --{key[1]} NAME, and one that has {option[1]}"
        )
    expected = re.findall(r"Expected an? (.*?)(?= Expected an? | Given value|$)", text)
    if key and given and expected:
        plain = [re.sub(r"<class '(\w+)'>|typing\.Literal\[(.*)\]", r"\1\2", kind) for kind in dict.fromkeys(expected)]
        hint = f", as '[{given[1][:60]}]'" if "list" in plain and "," in given[1] and "[" not in given[1] else ""
        return SeqbenchError(f"--{key[1]} {given[1][:80]}: expected {' or '.join(plain)[:300]}{hint}")
    return SeqbenchError(text[:400])


class Unwatched(PassThroughProfiler):
    """Lightning's own for those who want none makes and runs a generator at each of forty places in a step."""

    # Ignored, as the base promises a generator's context manager and Lightning only enters it.
    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


class SeqbenchCLI(LightningCLI):
    """Data, model and run from configs and flags; sizes are stated once, by the data."""

    def __init__(self, arguments: list[str], execute: bool = True) -> None:
        """Parses, builds and, if asked to, runs; `arguments` start with the command's name."""
        only_warnings()
        self.arguments, self.execute = arguments, execute
        whole_numbers_first()
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
            args=resolve(arguments),
        )

    # Ignored, as the base's is static and always called on the instance.
    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one that is called: the parsers of all four take a tenth of a second more."""
        return {self.arguments[0]: super().subcommands()[self.arguments[0]]}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        # Lightning's own warns when sys.argv is not empty beside given arguments.
        self.config = parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        """What a config names is held against its place before any of it is called."""
        check_classes(self.config[self.subcommand])
        check_numbers(self.config[self.subcommand])

    def _parse_ckpt_path(self) -> None:
        """Lightning's own lets a checkpoint's settings override the command line's; here they must agree."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run.dir", type=Path, default=Path("runs"), help="Where runs are kept.")
        parser.add_argument(
            "--run.patience", type=int | None, default=None, help="Stop after so many epochs without a better one."
        )
        parser.add_argument(
            "--run.protocol", type=str, default="", help="Its name: a leaderboard has a table for each."
        )
        parser.add_argument(
            "--run.sample_every", type=int | None, default=None,
            help="Give TensorBoard samples every so many epochs too, not only when training ends.",
        )  # fmt: skip
        parser.add_argument("--run.overwrite", type=bool, default=False, help="Train a finished run again.")
        parser.link_arguments("data.task", "model.task", apply_on="instantiate")
        parser.link_arguments(
            ("model.seed", "model.rate"), "data.init_args.seeds", compute_fn=lambda seed, rate: replicas(seed, rate)[0]
        )

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Adds the callbacks that are always there; here, as later a default ModelCheckpoint would be there too."""
        config = self.config[self.subcommand]
        check_flags(config, self.subcommand == "fit")
        own = self._get(self.config_init, "trainer")["callbacks"] or []
        own = own if isinstance(own, list) else [own]
        check_callbacks(own)
        self.replicas = Replicas(config["run"]["patience"])
        self.recorder = Recorder(
            self.replicas, self.resolved(), self.arguments, config["run"]["dir"], config["run"]["overwrite"]
        )
        self.recorder.name_runs(self.model)
        self._check_checkpoint(config.get("ckpt_path"))
        callbacks: list[L.Callback] = [self.replicas, self.recorder]
        if config["trainer"]["enable_progress_bar"] is not False and not any(isinstance(c, ProgressBar) for c in own):
            callbacks.append(EpochProgress(self.replicas))
        if config["trainer"]["enable_checkpointing"] is not False:
            callbacks.append(LastCheckpoint(self.recorder.group_folder / "checkpoints"))
        if config["trainer"]["profiler"] is None:
            kwargs["profiler"] = Unwatched()
        try:
            trainer = super().instantiate_trainer(**kwargs, callbacks=[*callbacks, *own])
        except (ImportError, RuntimeError, TypeError, ValueError) as error:
            raise refusal(error) from error
        check_devices(trainer)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # or the user's own, by --trainer.plugins
            trainer.strategy.checkpoint_io = WholeCheckpoints()
        _first_process_stops(trainer)
        return trainer

    def resolved(self) -> dict[str, Any]:
        """The configuration as it will be used: sections data, model, trainer, run, plain values only."""
        dumped = yaml.safe_load(self._parser(self.subcommand).dump(self.config[self.subcommand], skip_none=False))
        sections = {name: dumped[name] for name in ("data", "model", "trainer", "run")}
        sections["data"]["init_args"].pop("seeds", None)
        return sections

    def _check_checkpoint(self, path: str | None) -> None:
        if path is None and self.subcommand == "fit":
            return
        if path is None:
            raise SeqbenchError(f"{self.subcommand} needs trained weights: --ckpt_path RUN/checkpoints/last.ckpt")
        if not Path(path).is_file():
            raise SeqbenchError(f"There is no checkpoint {path}; a run keeps its own as RUN/checkpoints/last.ckpt")
        self.recorder.check_checkpoint(Path(path), resume=self.subcommand == "fit")

    def _run_subcommand(self, subcommand: str) -> None:
        if self.execute:
            super()._run_subcommand(subcommand)

    def before_fit(self) -> None:
        """A run without a protocol is not what papers have trained."""
        config = self.config[self.subcommand]
        longest = "endless" if self.trainer.max_epochs == -1 else self.trainer.max_epochs
        if not config["run"]["protocol"] and self.trainer.is_global_zero:
            log.warning(
                f"No protocol was given: this trains {longest} epochs with the defaults of every other "
                f"setting, and the board keeps it in a table of its own. Add -c {' or -c '.join(protocols())}, or "
                "give it a name: --run.protocol NAME"
            )

    def after_fit(self) -> None:
        """The best weights are tested as soon as they are known."""
        self.trainer.test(self.model, self.datamodule, verbose=False)
        self.after_test()
        if self.recorder.leaves_records(self.trainer):
            for run_id in self.recorder.run_ids:
                print(self.recorder.record_path(run_id))

    def after_test(self) -> None:
        """One line a replica."""
        unit = self.model.task.unit
        for k, score in enumerate(self.recorder.scores):
            if not self._chosen(k):
                continue
            first = "" if score.nll_first is None else f", {score.nll_first:.4f} with frame 1"
            rank_zero_print(
                f"{self._name(k)}: test {score.nll:.4f} {unit} (sequence-weighted {score.nll_sequence:.4f}{first}), "
                f"best epoch {int(self.replicas.best_epoch[k]) + 1}"
            )

    def after_validate(self) -> None:
        """One line a replica."""
        for k, nll in enumerate(self.model.valid_nll.per_replica()):
            if self._chosen(k):
                rank_zero_print(f"{self._name(k)}: valid {nll:.4f} {self.model.task.unit}")

    def _chosen(self, k: int) -> bool:
        """Whether a replica's weights are those of an epoch, or else the untrained ones, whose score says nothing."""
        if chosen := int(self.replicas.best_epoch[k]) >= 0:
            return chosen
        why = "diverged before a" if self.replicas.diverged[k] else "no"
        rank_zero_print(f"{self._name(k)}: {why} validation chose its weights, so it has no score")
        return chosen

    def predict(self, **arguments: Any) -> None:
        """Writes each test sequence's expected targets, [T, R, K], into one file."""
        sequences = {}
        batches: list[Any] = self.trainer.predict(**arguments) or []
        if not batches:
            raise SeqbenchError("No sequence was predicted: leave out --return_predictions, or what limits the batches")
        for batch in batches:
            for slot, n in enumerate(batch["index"][0].tolist()):
                frames = int(batch["mask"][:, 0, slot].sum())
                sequences[f"sequence_{n}"] = batch["mean"][:frames, :, slot].float().numpy()
        path = Path(arguments["ckpt_path"]).parent / "predictions.npz"
        np.savez_compressed(path, **sequences)
        print(path)

    def _name(self, k: int) -> str:
        seed, rate = self.model.seeds[k], self.model.rates[k]
        unit = f"{type(self.model.cell).__name__} {self.model.hidden}"
        return f"{unit} on {self.model.task.name}, seed {seed}, rate {rate:g}"


rank_zero_print = rank_zero_only(print)
log = logging.getLogger("seqbench")
# Lightning's Timer has a member of one as a default, and a config is to be written.
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


def _first_process_stops(trainer: L.Trainer) -> None:
    """Under ddp the first process alone follows SIGTERM, and ends the others once its records are written.

    Lightning's own handler talks to the other processes, which are in the middle of talking of something else: abort.
    """
    connector = trainer._signal_connector

    def note(number: int, frame: Any) -> None:
        connector.received_sigterm = trainer.is_global_zero

    connector._sigterm_notifier_fn = note  # type: ignore[method-assign, assignment]


def fit(*configs: str | Path, **flags: Any) -> list[Record]:
    """`seqbench fit` from Python, as `seqbench.fit("jsb", "chung2014", **{"model.cell": "GRU", "model.rate": 1e-3})`.

    Args:
        *configs: what -c takes on the command line: names of the suite's configs, or files; what comes later wins.
        **flags: the command line's without their hyphens. A class stands for its import path, so that a notebook's own
            unit can be trained.

    Returns:
        The records, one for each pair of seed and rate; files are left as by the command, in `run.dir`.

    Raises:
        SeqbenchError: what the command would tell in its one line.
        KeyboardInterrupt: ^C; the records on disk say "interrupted".
    """
    named = [argument for config in configs for argument in ("-c", str(config))]
    given = [argument for flag, value in flags.items() for argument in (f"--{flag}", _as_typed(value))]
    threads = torch.get_num_threads()
    try:
        recorder = run(["fit", *named, *given]).recorder
    finally:
        torch.set_num_threads(threads)
    return [load(path) for path in map(recorder.record_path, recorder.run_ids) if path.exists()]


def _as_typed(value: Any) -> str:
    if isinstance(value, type):
        return import_path(value)
    return str(value) if isinstance(value, str | Path) else json.dumps(value)


def run(arguments: list[str]) -> SeqbenchCLI:
    """One of Lightning's four commands; `arguments` start with its name.

    Raises:
        SeqbenchError: a mistake of the user's.
        KeyboardInterrupt: ^C; the records say "interrupted".
        SystemExit: 143 after SIGTERM, likewise.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        # The products of a step are small: on two cores one thread is 1.25 times as fast as two, and beside a busy
        # neighbour 5 times, as OpenMP's threads wait for each other.
        torch.set_num_threads(1)
    _keep_pages()
    with quiet(), _signals_kept():
        try:
            with told_in_one_line():
                return SeqbenchCLI(arguments)
        except (ValueError, TypeError) as error:
            # jsonargparse wraps what a constructor raises.
            raise _own_error(error) or error from error
        except OSError as error:
            raise no_room(error) or error from error
        except SIGTERMException:
            sys.exit(143)
        except SystemExit as stop:
            # Lightning turns ^C into status 1.
            if isinstance(stop.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise


@contextmanager
def _signals_kept() -> Iterator[None]:
    """SIGHUP and SIGUSR1 end a run as SIGTERM does; afterwards all signals do what they did before.

    A terminal that is closed sends the first, SLURM the second before a job's time is over. After ^C Lightning leaves
    that ignored, which a notebook would not survive.
    """
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, *AS_SIGTERM)}
    in_main = threading.current_thread() is threading.main_thread()
    for number in AS_SIGTERM:
        if in_main and kept[number] == signal.SIG_DFL:  # nohup has the first ignored
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        yield
    finally:
        for number, handler in kept.items() if in_main else ():
            signal.signal(number, handler or signal.SIG_DFL)


def _keep_pages() -> None:
    """Lets glibc keep freed memory: given back, it comes page by page and zeroed at the next batch.

    That took a tenth of an epoch. The numbers are those of its malloc.h.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "mallopt"):
        trim_threshold, top_pad, mmap_threshold = -1, -2, -3
        libc.mallopt(mmap_threshold, 32 << 20)  # its largest
        libc.mallopt(trim_threshold, (1 << 31) - 1)
        libc.mallopt(top_pad, 256 << 20)


def _own_error(error: BaseException | None) -> SeqbenchError | None:
    while error is not None and not isinstance(error, SeqbenchError):
        error = error.__cause__ or error.__context__
    return error
