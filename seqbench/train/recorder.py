"""What a run leaves on disk: a record, a config, TensorBoard events and checkpoints.

    runs/<run_id>/record.json, config.yaml, <unit>-rate<rate>-seed<seed>/events.out.tfevents.*,
                  checkpoints/best.ckpt, checkpoints/last.ckpt

best.ckpt has the best epoch's weights alone and is there when the run is over; last.ckpt is what it goes on from. A
group of several replicas keeps its last.ckpt and its config in runs/<group>/.
"""

from __future__ import annotations

import contextlib
import logging
import math
import pickle
import shlex
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from seqbench import record as rec
from seqbench.datamodules.base import Split
from seqbench.files import at_home, write_file
from seqbench.task import Score, SeqbenchError, Task
from seqbench.train.callbacks import Replicas, fitting, log_figures
from seqbench.train.events import Writers
from seqbench.train.identity import identity
from seqbench.train.keeping import WholeCheckpoints, claim, is_whole
from seqbench.train.listening import listen
from seqbench.train.metrics import Kept
from seqbench.train.module import SequenceModel
from seqbench.train.provenance import environment
from seqbench.train.solo import best_checkpoint, of_replica

log = logging.getLogger("seqbench")


class Recorder(L.Callback):
    """Writes curves once an epoch, and each replica's record when its run is over, however it ends."""

    def __init__(
        self, replicas: Replicas, config: dict[str, Any], arguments: list[str], folder: Path, overwrite: bool = False
    ) -> None:
        """Names the runs and their folders.

        Args:
            replicas: the callback that knows the curves and the best weights.
            config: the resolved configuration, with sections data, model, trainer and run.
            arguments: of the command line.
            folder: where runs are kept.
            overwrite: train again what is finished already.
        """
        self.replicas, self.config, self.arguments = replicas, config, arguments
        self.folder, self.overwrite = at_home(folder), overwrite
        self.run_ids: list[str] = []
        self.scores: list[rec.PartedScore] = []
        self._writers: Writers | None = None
        self._floors: dict[str, Score] = {}
        self._scale: float | None = None
        self._claim = contextlib.ExitStack()
        self._fit_started = False
        self._trained, self._resumed = 0, 0  # whole epochs, and those of the checkpoint that training began with
        self._factor = 1.0  # of all rates, in the epoch under way

    def name_runs(self, model: SequenceModel) -> None:
        """Fixes the run ids, and the folder of the group (for a solo run: its own).

        Raises:
            SeqbenchError: two replicas are the same run.
        """
        self.task = task_record(model.task)
        cell = model.cell
        self.cell = rec.CellRecord(type(cell).__name__, cell.options(), model.hidden, *model.matched)
        self.seeds, self.rates = model.seeds, model.rates
        self.identity = identity(self.config)
        self.configs = [of_replica(self.identity, s, r) for s, r in zip(self.seeds, self.rates, strict=True)]
        self.run_ids = list(map(self.run_id, self.seeds, self.rates))
        if len(set(self.run_ids)) < len(self.run_ids):
            raise SeqbenchError("Two replicas have the same seed and rate: each must differ in one of them")
        group = "group-" + rec.run_id(self.task, self.cell.name, self.identity)
        self.group_folder = self.folder / (self.run_ids[0] if len(self.run_ids) == 1 else group)

    def run_id(self, seed: int, rate: float) -> str:
        """The id of a run that differs from these by its seed and rate alone."""
        return rec.run_id(self.task, self.cell.name, of_replica(self.identity, seed, rate))

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != TrainerFn.FITTING or self.overwrite or not self.leaves_records(trainer):
            return
        finished = [path for path in map(self.record_path, self.run_ids) if _is_finished(path)]
        if finished:
            raise SeqbenchError(
                f"{finished[0].parent} holds this very run, finished: add --run.overwrite true to train it again"
            )
        last = self.group_folder / "checkpoints/last.ckpt"
        if trainer.ckpt_path is None and last.exists():
            log.warning(f"An earlier try of this run is begun anew; --ckpt_path {last} would have gone on from it")

    @staticmethod
    def leaves_records(trainer: L.Trainer) -> bool:
        """Whether this process writes them; a run of trial, --trainer.fast_dev_run, leaves none."""
        return trainer.is_global_zero and not trainer.fast_dev_run  # type: ignore[attr-defined]

    def record_path(self, run_id: str) -> Path:
        """Where a run's record goes."""
        return self.folder / run_id / "record.json"

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._floors, self._scale = data.floors(), data.scale
        if self.leaves_records(trainer):
            self._make_folders()
            self._fit_started = True
            assert isinstance(pl_module, SequenceModel)
            self._writers = Writers(self._folders(), pl_module, self._configs(), trainer.ckpt_path is not None)

    def _folders(self) -> list[Path]:
        return [self.folder / run_id for run_id in self.run_ids]

    def _configs(self) -> list[dict[str, Any]]:
        """The resolved configuration of each replica alone."""
        return [of_replica(self.config, s, r) for s, r in zip(self.seeds, self.rates, strict=True)]

    def _make_folders(self) -> None:
        # Checked here, as Lightning's ModelCheckpoint succeeds without saving where it cannot write.
        configs = dict(zip(self._folders(), self._configs(), strict=True)) | {self.group_folder: self.config}
        try:
            self._claim = claim(self._folders())
            (self.group_folder / "checkpoints").mkdir(parents=True, exist_ok=True)
            for folder, config in configs.items():
                write_file(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False).encode())
        except OSError as error:
            raise SeqbenchError(
                f"Cannot write to {self.group_folder} ({error.strerror}); choose another --run.dir"
            ) from error

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._factor = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._trained = trainer.current_epoch + 1

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        assert isinstance(pl_module, SequenceModel)
        checkpoint["seqbench"] = self._own(pl_module)

    def _own(self, model: SequenceModel) -> dict[str, Any]:
        """What a checkpoint says of its runs."""
        return {
            "config": self.config,
            "identity": self.identity,
            "digest": self.task.digest,
            "task": vars(self.task),
            "runs": self._runs(),
            "slots": model.slots,
        }

    def _runs(self) -> list[list[Any]]:
        """Run id, seed and rate of each replica."""
        return [list(run) for run in zip(self.run_ids, self.seeds, self.rates, strict=True)]

    def check_checkpoint(self, path: Path, resume: bool) -> None:
        """Refuses another run's checkpoint; only the length of a resumed run without a schedule may differ.

        Raises:
            SeqbenchError: not a checkpoint of seqbench, or made with other data or another model (to resume: with any
                other setting).
        """
        checkpoint = read_checkpoint(path)
        saved = checkpoint["seqbench"]
        if resume:
            self._refuse_part(path, checkpoint)
        keys = rec.differences(_comparable(saved), _comparable({"identity": self.identity, "runs": self._runs()}))
        if resume and "schedule" not in self.identity["model"]:
            keys = [key for key in keys if key not in ("trainer.max_epochs", "trainer.max_steps")]
        elif not resume:
            keys = [key for key in keys if key.startswith(("data.", "model."))]
        if saved["digest"] != self.task.digest:
            keys.append("the data's digest")
        if keys:
            raise SeqbenchError(
                f"The checkpoint was made with another configuration ({', '.join(keys)} differ): "
                "use the config.yaml in its run's folder"
            )

    def _refuse_part(self, path: Path, checkpoint: dict[str, Any]) -> None:
        """A checkpoint within an epoch, whose rest would be lost, or beyond the last epoch that is asked for."""
        if "loops" not in checkpoint:
            raise SeqbenchError(f"{path} has the best epoch's weights alone: go on from a last.ckpt")
        if not checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]:
            raise SeqbenchError(f"{path} was made within an epoch, as --trainer.max_steps does: train from the start")
        self._resumed, longest = checkpoint["epoch"] + 1, self.identity["trainer"].get("max_epochs", -1)
        if 0 <= longest < self._resumed:
            raise SeqbenchError(f"{path} has {self._resumed} epochs: give --trainer.max_epochs that many, or more")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or not fitting(trainer) or not self.replicas.curve or not self._writers:
            return
        assert isinstance(pl_module, SequenceModel)
        entry = self.replicas.curve[-1]
        trained = [k for k in range(len(self.run_ids)) if self.replicas.last_epoch[k] == entry.epoch]
        for k in trained:
            drawn = {name: figures[k] for name, figures in entry.figures().items()}
            self._writers.draw(k, drawn | {"rule/rate": self._factor * self.rates[k]}, entry.step)
        every = self.config["run"]["sample_every"]
        if every and (entry.epoch + 1) % every == 0:
            self._listen(trainer, pl_module, trained)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, SequenceModel)
        nats, frames, first, *counted = (part.tolist() for part in pl_module.tested())
        pairs = list(zip(pl_module.head.counts, counted[::2], counted[1::2], strict=True))
        self.scores = [
            rec.score_from_parts(
                nats[k],
                frames[k],
                first[k] if self.task.next_frame else None,
                {name: rec.Count(right[k], of[k]) for name, right, of in pairs},
            )
            for k in range(pl_module.R)
        ]
        found = {k: score.nll for k, score in enumerate(self.scores)}
        log_figures(pl_module, "test/nll", found, torch.zeros(pl_module.R, dtype=torch.bool))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After a fit the best weights are tested in the same process; only then is a run over."""
        assert isinstance(pl_module, SequenceModel)
        if self._fit_started and self._writers:
            others = [self._score(trainer, pl_module, split) for split in ("train", "valid")]
            for k, score in enumerate(self.scores):
                status, message = self._end(trainer, k)
                self._keep_best(pl_module, k)
                self._write(trainer, pl_module, k, status, message, (others[0][k], others[1][k], score))
                self._writers.end(k, {"test/nll": score.nll}, trainer.global_step)
            self._fit_started = False  # the runs are over, whatever becomes of their samples
            self._listen(trainer, pl_module, range(len(self.run_ids)))
        self._close()

    def _keep_best(self, model: SequenceModel, k: int) -> None:
        """A checkpoint for `test` and `seqbench sample`, which take a replica of a group like a solo run."""
        if self.config["trainer"]["enable_checkpointing"] is not False and self.replicas.best_epoch[k] >= 0:
            path = self._folders()[k] / "checkpoints" / "best.ckpt"
            WholeCheckpoints().save_checkpoint(best_checkpoint(self._own(model), self.replicas, k), path)

    def _listen(self, trainer: L.Trainer, model: SequenceModel, replicas: Iterable[int]) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        assert self._writers is not None
        listen({k: self._writers.each[k] for k in replicas}, model, data, trainer.global_step)

    def _end(self, trainer: L.Trainer, k: int) -> tuple[rec.Status, str]:
        """Whether a replica's training came to the end that its protocol has, and why not."""
        if self.replicas.diverged[k]:
            return "diverged", "the training loss or its gradient left all bounds"
        if self.replicas.best_epoch[k] < 0:
            return "stopped", "no validation chose its weights"
        steps, done = trainer.max_steps, max(self._trained, self._resumed)
        if not self.replicas.running[k] or done == trainer.max_epochs or 0 <= steps <= trainer.global_step:
            return "finished", ""
        kept = done - done % (trainer.check_val_every_n_epoch or 1)  # a checkpoint has been validated
        since = "" if kept == done else f"from epoch {kept} "
        return "stopped", f"after {done} of {trainer.max_epochs} epochs: it goes on {since}with --ckpt_path"

    def _score(self, trainer: L.Trainer, model: SequenceModel, split: Split) -> list[Score]:
        """Of the weights that are tested, without noise, on another split; one a replica."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        kept = Kept()
        model.forget()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            data.move(split, model.device)
            for index in data.evaluation(split):
                kept.add(*model.score(data.gather(split, index)))
        nats, frames, first = kept.columns()
        scores = []
        for k in range(model.R):
            without = first[k].tolist() if self.task.next_frame else None
            whole = rec.score_from_parts(nats[k].tolist(), frames[k].long().tolist(), without)
            scores.append(Score(whole.nll, whole.nll_sequence, whole.nll_first))
        return scores

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        assert isinstance(pl_module, SequenceModel)
        stopped = isinstance(exception, (KeyboardInterrupt, SIGTERMException))
        try:
            if self._fit_started and trainer.is_global_zero:
                status: rec.Status = "interrupted" if stopped else "failed"
                message = f"{type(exception).__name__}: {exception}".strip(": ")[:300]
                for k in range(len(self.run_ids)):
                    end = self._end(trainer, k) if self.replicas.diverged[k] else (status, message)
                    self._write(trainer, pl_module, k, *end, (None, None, None))
        finally:
            self._close()
        if stopped and isinstance(launcher := trainer.strategy.launcher, _SubprocessScriptLauncher):
            launcher.kill(signal.SIGKILL)  # the other processes of ddp would complain that this one is gone

    def _close(self) -> None:
        self._claim.close()
        if self._writers:
            self._writers.close()
            self._writers = None

    def _write(
        self,
        trainer: L.Trainer,
        model: SequenceModel,
        k: int,
        status: rec.Status,
        message: str,
        scores: tuple[Score | None, Score | None, rec.PartedScore | None],
    ) -> None:
        curve, best_epoch = self._curve(trainer, k), int(self.replicas.best_epoch[k])
        known = best_epoch >= 0
        train, valid, test = scores if known else (None, None, None)
        record = rec.Record(
            schema=rec.SCHEMA,
            run_id=self.run_ids[k],
            status=status,
            message=message,
            task=self.task,
            cell=self.cell,
            parameters=model.parameters_per_run,
            seed=self.seeds[k],
            rate=self.rates[k],
            config=self.configs[k],
            command=solo_command(self.arguments, self.seeds[k], self.rates[k]),
            environment=environment(trainer, model, len(self.run_ids)),
            seconds=curve.seconds[-1] if curve.seconds else round(self.replicas.seconds, 2),
            curve=curve,
            best_epoch=best_epoch if known else None,
            best_valid=round(float(self.replicas.best[k]), 9) if known else None,
            train=train,
            valid=valid,
            test=test,
            floors=self._floors,
            scale=self._scale,
        )
        rec.save(record, self.record_path(self.run_ids[k]))

    def _curve(self, trainer: L.Trainer, k: int) -> rec.Curve:
        rows = [row for row in self.replicas.curve if row.epoch <= self.replicas.last_epoch[k]]
        return rec.Curve(
            steps=rows[0].step // (rows[0].epoch + 1) if rows else 0,
            every=trainer.check_val_every_n_epoch or 1,
            seconds=[round(row.seconds, 2) for row in rows],
            train=[_finite(row.train[k]) for row in rows],
            valid=[_finite(row.valid[k]) for row in rows],
            gradient=[_three_digits(row.gradient[k]) for row in rows],
            update=[_three_digits(row.update[k]) for row in rows],
            floored=[_finite(row.floored[k], 3) for row in rows if row.floored],
        )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of `seqbench fit`, on the CPU; what a Recorder adds to it is under "seqbench".

    Raises:
        SeqbenchError: there is no such file, it is none, cannot be read, or is too old.
    """
    if path.is_dir():
        raise SeqbenchError(f"{path} is a folder: give a checkpoint in it, as {path / 'checkpoints' / 'best.ckpt'}")
    if not path.exists():
        raise SeqbenchError(f"There is no file {path}: `seqbench fit` leaves RUN/checkpoints/best.ckpt")
    try:
        if not is_whole(path):
            raise SeqbenchError(f"{path} is damaged, or not a checkpoint of seqbench: train from the start")
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        saved["seqbench"]
    except (
        OSError,
        RuntimeError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        raise SeqbenchError(f"{path} is not a checkpoint of seqbench") from error
    if "rows" not in saved["state_dict"]:
        raise SeqbenchError(f"{path} was made by an older seqbench, before its weights were one tensor: train it again")
    return saved


def _comparable(saved: dict[str, Any]) -> dict[str, Any]:
    """An identity with one seed and rate for each replica, however they were given."""
    config, runs = saved["identity"], saved["runs"]
    return config | {"model": config["model"] | {"seed": [run[1] for run in runs], "rate": [run[2] for run in runs]}}


def solo_command(arguments: list[str], seed: int, rate: float) -> str:
    """What to type for one replica alone: the arguments without what says where to write and where to go on from."""
    dropped = ("--model.seed", "--model.rate", "--run.dir", "--run.overwrite", "--ckpt_path")
    kept, rest = ["seqbench"], iter(arguments)
    for argument in rest:
        flag, equals, _ = argument.partition("=")
        if flag not in dropped:
            kept.append(argument)
        elif not equals:
            next(rest, "")
    # Last, as a config may hold lists of them and what comes later wins.
    return shlex.join([*kept, "--model.seed", str(seed), "--model.rate", repr(rate)])


def task_record(task: Task) -> rec.TaskRecord:
    """The task as a record keeps it."""
    return rec.TaskRecord(**vars(task))


def _is_finished(path: Path) -> bool:
    try:
        return path.exists() and rec.load(path).status == "finished"
    except SeqbenchError as error:
        raise SeqbenchError(f"{error}: add --run.overwrite true to train it again") from error


def _finite(value: float, digits: int = 5) -> float | None:
    return round(value, digits) if math.isfinite(value) else None


def _three_digits(value: float) -> float | None:
    return float(f"{value:.3g}") if math.isfinite(value) else None
