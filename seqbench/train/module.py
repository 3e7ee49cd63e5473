"""The model that Lightning trains: R runs of one unit side by side, each with its own seed and rate.

Shapes: T time, R replicas, B batch, I inputs, H hidden, G gates, K targets, P parameters.
A solo run is R = 1: the same code.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from seqbench.cells import Cell, State
from seqbench.cells.base import between
from seqbench.cells.rules import check_step
from seqbench.kernels.sequence import Recurrence, RecurrenceName, decide
from seqbench.model.affine import project
from seqbench.model.budget import Count, count_parameters, hidden_for_budget
from seqbench.model.draws import noisy
from seqbench.model.embedding import embed, embedding_weights
from seqbench.model.head import StepHead
from seqbench.model.heads import head_for
from seqbench.model.stack import handed_up, recurrent_matrices, run_stack, stack_weights
from seqbench.model.weights import Layout, Perturbation, UpwardDropout, initial_weights, normal
from seqbench.task import Batch, SeqbenchError, Task
from seqbench.train.metrics import NLL, Kept, Wrong
from seqbench.train.optim import ChungRMSProp, PerReplica
from seqbench.train.options import check_directions, check_dropout, check_inputs, check_sizes
from seqbench.train.schedule import made_schedule


def replicas(seed: int | list[int], rate: float | list[float]) -> tuple[list[int], list[float]]:
    """One seed and one rate for each replica; a single value counts for all.

    Raises:
        SeqbenchError: lists of different lengths, an empty list, or a rate that is not positive.
    """
    seeds = seed if isinstance(seed, list) else [seed]
    rates = rate if isinstance(rate, list) else [rate]
    R = max(len(seeds), len(rates))
    if not seeds or not rates or any(len(v) not in (1, R) for v in (seeds, rates)):
        raise SeqbenchError(
            f"{len(seeds)} seeds and {len(rates)} rates do not pair up: give one of a kind, or as many of both"
        )
    if not all(r > 0 and math.isfinite(r) for r in rates):
        raise SeqbenchError(f"A learning rate must be positive and finite, found {rates}")
    return seeds * (R // len(seeds)), rates * (R // len(rates))


class SequenceModel(L.LightningModule):
    """Recurrent layers and a head, for R replicas.

    Attributes:
        rows: [R, P], all weights, the only parameter; `w` has them by name.
        matched: the budget that the hidden size follows from, and what it counts; None twice where the size was given.
        slots: the replicas held, R of them, counted as the group began: a group shrinks as its replicas finish.
        alive: [R] bool; False once a replica diverged or stopped, and its weights are frozen.
        recurrence: how the last batch ran over time; None before the first.
    """

    def __init__(
        self,
        cell: Cell,
        task: Task,
        seed: int | list[int] = 0,
        rate: float | list[float] = 3e-4,
        budget: int = 20_000,
        count: Count = "recurrent",
        hidden: int | None = None,
        layers: int = 1,
        layer_norm: bool = False,
        bidirectional: bool = False,
        noise: float = 0.0,
        input_noise: float = 0.0,
        dropout: float = 0.0,
        upward_dropout: float = 0.0,
        initial_sd: float | None = None,
        initial_range: float | None = None,
        embedding: int | None = None,
        recurrence: RecurrenceName | None = None,
        optimizer: OptimizerCallable | None = None,
        schedule: LRSchedulerCallable | None = None,
    ) -> None:
        """Initial weights follow from each replica's seed alone.

        Args:
            cell: the unit, by class name; `seqbench cells` lists them.
            task: what the data set promises; comes from the data, not from the user.
            seed: of initial weights, batch order and weight noise; a list trains that many replicas together.
            rate: learning rate; a list likewise.
            budget: how many parameters the unit gets; its hidden size follows.
            count: which parameters the budget counts: the recurrent layer's, or the output layer's too.
            hidden: hidden size, instead of a budget.
            layers: recurrent layers, all of the same size; the budget is for all of them together.
            layer_norm: whether what a layer hands up is normalised over its hidden units (seqbench/model/stack.py).
            bidirectional: whether each layer also reads from a sequence's end backwards, by weights of its own; the
                budget is for both. Only where the task may look ahead.
            noise: standard deviation of the weight noise on the recurrent layers' matrices, drawn anew for every
                training batch.
            input_noise: standard deviation of the noise on what the first layer reads of a training batch.
            dropout: probability of each recurrent weight to be left out of a training batch
                (seqbench/model/weights.py).
            upward_dropout: probability of each hidden unit to be left out at a time step of what a layer, or the
                embedding, hands up (seqbench/model/weights.py).
            initial_sd: standard deviation of all first weights, normal around 0, in place of the unit's own.
            initial_range: of all first weights, uniform between minus and plus this, in place of the unit's own.
            embedding: size of the embedding, where inputs are ids; by default the hidden size.
            recurrence: how it runs over time (loop, scan, numba, triton); by default the fastest way there is for the
                unit, device and precision. Figures differ by rounding only. With loop nothing is compiled.
            optimizer: any torch optimizer class whose step is linear in its rate; by default ChungRMSProp.
            schedule: a class of torch.optim.lr_scheduler, stepped once an epoch; its length (total_iters, T_max) as -1
                ends with the last epoch.
        """
        super().__init__()
        self.cell, self.task, self.optimizer, self.schedule = cell, task, optimizer or ChungRMSProp, schedule
        self.layers, self.layer_norm, self.bidirectional = layers, layer_norm, bidirectional
        self.wanted_recurrence = recurrence
        self.recurrence: Recurrence | None = None
        self._seeds, self._rates = replicas(seed, rate)
        self.slots = list(range(len(self._seeds)))
        check_sizes(
            {"budget": budget, "layers": layers, "hidden": hidden, "embedding": embedding},
            {"noise": noise, "input_noise": input_noise, "initial_sd": initial_sd, "initial_range": initial_range},
        )
        check_inputs(task, embedding, input_noise)
        check_directions(task, bidirectional)
        if initial_sd is not None and initial_range is not None:
            raise SeqbenchError("First weights are normal by initial_sd or uniform by initial_range: give one of them")
        self.head, self.input_noise = head_for(task), input_noise
        inputs, ids = (embedding, task.input_size) if task.vocabulary else (task.input_size, 1)
        shape: dict[str, Any] = {"layers": layers, "bidirectional": bidirectional}
        shape |= {"head": self.head, "vocabulary": task.vocabulary, "ids": ids}
        self.hidden = hidden or hidden_for_budget(cell, inputs, budget=budget, count=count, **shape)
        self.matched = (None, None) if hidden else (budget, count)
        self.parameters_per_run = count_parameters(cell, inputs, self.hidden, **shape)
        inputs = inputs or self.hidden
        self.spec = stack_weights(cell, inputs * ids, self.hidden, layers, bidirectional)
        check_step(cell, self.hidden)
        self.spec |= self.head.weights(handed_up(self.hidden, bidirectional))
        self.spec |= embedding_weights(task.vocabulary, inputs)
        recurrent = recurrent_matrices(cell, self.hidden, layers, bidirectional)
        check_dropout(type(cell).__name__, len(recurrent), dropout, upward_dropout)
        self.upward_dropout = upward_dropout
        self.layout = Layout(self.spec)
        self.perturb = Perturbation(self.layout, recurrent, noise, dropout)
        every = None if initial_range is None else between(-initial_range, initial_range)
        every = every if initial_sd is None else normal(initial_sd)
        self.rows = nn.Parameter(self.layout.rows(initial_weights(self.spec, self.seeds, every)))
        self.alive: Tensor
        self.register_buffer("alive", torch.ones(self.R, dtype=torch.bool))
        self.train_nll, self.valid_nll, self.valid_wrong = NLL(self.R), NLL(self.R), Wrong(self.R)
        self._tested = Kept()
        self._carried: State | None = None
        self._stop_asked = False

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes each hook's name here, some fifty times a step, a tenth of a millisecond by torch's way.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def R(self) -> int:  # noqa: N802 - the field's name for it
        """Number of replicas held."""
        return len(self.slots)

    @property
    def seeds(self) -> list[int]:
        """[R], of the replicas held."""
        return [self._seeds[k] for k in self.slots]

    @property
    def rates(self) -> list[float]:
        """[R], of the replicas held."""
        return [self._rates[k] for k in self.slots]

    @property
    def w(self) -> dict[str, Tensor]:
        """All weights by name, each [R, ...]: views of `rows`."""
        return self.layout.views(self.rows)

    @torch.no_grad()
    def keep(self, held: Tensor) -> None:
        """Goes on with the replicas `held` [R'], counted among those held now; the parameter stays the same object."""
        self.slots = [self.slots[k] for k in held.tolist()]
        self._carried = self._carried and tuple(s[held] for s in self._carried)
        self._replace(self.rows[held], self.alive[held])

    @torch.no_grad()
    def restore(self, rows: Tensor) -> None:
        """Takes all replicas in again, as the group began, with these weights [R, P], none of them alive."""
        self.slots = list(range(len(self._seeds)))
        self.forget()
        self._replace(rows, torch.zeros(self.R, dtype=torch.bool))

    def _replace(self, rows: Tensor, alive: Tensor) -> None:
        self.rows.grad = None
        # Of another type for a moment: torch then forgets the shape that gradients had, even where one who computes
        # with the model still holds what came of it before.
        self.rows.data = self.rows.data.new_empty(0, dtype=torch.complex64)
        self.rows.data = rows.to(self.device).clone()
        self.alive = alive.to(self.device)
        self.train_nll, self.valid_nll = NLL(self.R).to(self.device), NLL(self.R).to(self.device)
        self.valid_wrong = Wrong(self.R).to(self.device)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A group that had been compacted is loaded as small as it was saved."""
        self.keep(torch.tensor(checkpoint["seqbench"]["slots"]))

    def forward(self, x: Tensor, state: State | None = None, steps: Tensor | None = None) -> tuple[Tensor, State]:
        """x [T, R or 1, B, I] -> what the head reads [T, R, B, outputs], and the last states, lowest layer first.

        state: the first states, as they are returned; zeros if None.  steps: as a Batch has them.
        """
        w, recurrence = SimpleNamespace(**self.w), self.decide()
        h, states = self.hidden_states(x, w, recurrence, state, steps)
        return project(h, w.V, w.c, recurrence.compiled), states

    def hidden_states(
        self,
        x: Tensor,
        w: SimpleNamespace,
        recurrence: Recurrence,
        state: State | None = None,
        steps: Tensor | None = None,
        up: UpwardDropout | None = None,
    ) -> tuple[Tensor, State]:
        """As `run_stack`, from a batch's x, which may be ids, and weights by name."""
        if self.task.vocabulary:
            x = embed(x, w.E)
            x = up(x, 0) if up else x
        options = (self.layers, self.layer_norm, steps, state, up, self.bidirectional)
        return run_stack(self.cell, x, w, recurrence, *options)

    def forget(self) -> None:
        """The next batch goes on where none ended, as in every epoch and every pass over a split."""
        self._carried = None

    def carry(self, states: State) -> None:
        """Where batches go on, the next one begins with these states; gradients end here."""
        if self.task.carried:
            self._carried = tuple(s.detach() for s in states)

    def decide(self) -> Recurrence:
        """How it runs over time here and now: on this device, in this precision, under autocast or not."""
        self.recurrence = decide(self.cell, self.hidden, self.rows, self.wanted_recurrence)
        return self.recurrence

    def noisy_weights(self, step: int) -> SimpleNamespace:
        """The weights of a training batch, with fresh noise and dropout: a function of (seed, step)."""
        return SimpleNamespace(**self.perturb(self.rows, self.seeds, step, self.decide().compiled))

    def noisy_inputs(self, batch: Batch, step: int) -> Batch:
        """A training batch with fresh noise on its inputs: a function of (seed, step)."""
        if not self.input_noise:
            return batch
        T, R = batch.x.shape[:2]
        lengths = [T] * R if batch.steps is None else batch.steps.amax(1).tolist()
        x = noisy(batch.x, self.input_noise, lengths, self.seeds, step, self.decide().compiled)
        return dataclasses.replace(batch, x=x)

    def upward(self, step: int) -> UpwardDropout | None:
        """What a training batch leaves out of hidden states: a function of (seed, step, layer)."""
        return UpwardDropout(self.upward_dropout, self.seeds, step) if self.upward_dropout else None

    def sequence_nats(
        self, batch: Batch, w: SimpleNamespace | None = None, up: UpwardDropout | None = None
    ) -> tuple[Tensor, Tensor]:
        """Nats [R, B] in float64 and frames scored [R, B] of each sequence."""
        w = w or SimpleNamespace(**self.w)
        return self._summed(self._carried_on(batch, w, up), w, batch)

    def _carried_on(self, batch: Batch, w: SimpleNamespace, up: UpwardDropout | None = None) -> Tensor:
        """Hidden states [T, R, B, D*H], from those that the batch before ended with where batches go on."""
        h, states = self.hidden_states(batch.x, w, self.decide(), self._carried, batch.steps, up)
        self.carry(states)
        return h

    def _summed(self, h: Tensor, w: SimpleNamespace, batch: Batch) -> tuple[Tensor, Tensor]:
        assert self.recurrence is not None  # by which the hidden states were made
        nats = self.head.nats_of(h, w, batch.y, batch.steps, self.recurrence.compiled).where(batch.mask, 0.0)
        # In float64, a replica's figures do not depend on how many are summed beside it.
        total = nats.sum(0, dtype=torch.float64)
        return total, batch.mask.sum(0).expand_as(total)

    def first_frame_nats(self, batch: Batch) -> Tensor:
        """Nats [R, B] of frame 1 given nothing: h_0 = 0, so the head's bias alone."""
        first = batch.x[:1]
        assert isinstance(self.head, StepHead)  # as of every task whose target is the next frame
        out = self.w["c"][None].expand(1, self.R, first.shape[2], -1)
        return self.head.nats(out, first).squeeze(0)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, **options: Any) -> SequenceModel:  # type: ignore[override]
        """A trained model, with the weights of each replica's best epoch; see `loading.load_model`."""
        from seqbench.train.loading import load_model  # which makes one of these

        return load_model(Path(checkpoint_path), **options)

    # Training

    def setup(self, stage: str) -> None:
        """Refuses what cannot be done for each replica by itself."""
        if self.R > 1 and self.trainer.scaler is not None:
            raise SeqbenchError("16-mixed has one gradient scaler for all replicas: use bf16-mixed, or one replica")
        if self.R > 1 and self.trainer.world_size > 1:
            raise SeqbenchError("Replicas train on one device: give --trainer.devices 1, or a single seed and rate")

    def on_train_epoch_start(self) -> None:
        self.forget()
        self.train_nll.reset()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sum over replicas of each one's loss: gradients do not mix, as weights do not.

        A replica's loss is nats summed over the frames of a sequence, averaged over the sequences of the batch: with
        one sequence a batch that of Chung et al. 2014's code.  With a mean over frames a rule whose constants have a
        scale, as ChungRMSProp's floor, becomes another one.
        """
        step = self.global_step
        batch = self.noisy_inputs(batch, step)
        nats, frames = self.sequence_nats(batch, self.noisy_weights(step), self.upward(step))
        self.train_nll.update(nats.detach(), frames)
        total = nats.sum(1)
        whole = torch.stack([total.detach(), frames.sum(1), (frames > 0).sum(1)])  # of all processes
        if self.trainer.world_size > 1:
            whole = cast(Tensor, self.trainer.strategy.reduce(whole, reduce_op="sum"))
        lost, scored, sequences = whole
        # A replica whose loss leaves all bounds has diverged; NaN is within none.
        self.alive.logical_and_(lost < 10 * self.head.uniform * scored.clamp_min(1))
        # Gradients are averaged over processes: that must be the gradient of the whole batch.
        return (total * self.trainer.world_size / sequences.clamp_min(1)).sum()

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """A stop that is asked for within an epoch waits for its end: half an epoch could not be gone on with."""
        if self.trainer.should_stop and not self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._stop_asked, self.trainer.should_stop = True, False

    def on_train_epoch_end(self) -> None:
        self.trainer.should_stop = self.trainer.should_stop or self._stop_asked

    def configure_gradient_clipping(self, optimizer: Optimizer, *arguments: Any, **named: Any) -> None:
        """Nothing: the optimiser clips each replica's gradient by its own norm."""

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Without the optimizer's own bookkeeping for profilers."""
        self.rows.grad = None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        rates = torch.tensor(self.rates, dtype=torch.float64, device=self.device)
        with self.trainer.precision_plugin.forward_context():
            compiled = self.decide().compiled
        base, clip = self.optimizer([self.rows]), self.trainer.gradient_clip_val
        optimizer = PerReplica(base, rates, self.alive, clip, compiled)
        if self.schedule is None:
            return optimizer
        schedule = made_schedule(self.schedule, optimizer, self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    # Evaluation

    def on_validation_epoch_start(self) -> None:
        self.forget()
        self.valid_nll.reset()
        self.valid_wrong.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if not self.task.solved:
            self.valid_nll.update(*self.sequence_nats(batch))
            return
        nats, frames, _, right, of = self.score(batch, counted=True)
        self.valid_nll.update(nats, frames)
        self.valid_wrong.update(right, of)

    def on_test_epoch_start(self) -> None:
        self.forget()
        self._tested = Kept()

    def score(self, batch: Batch, counted: bool = False) -> tuple[Tensor, ...]:
        """Nats, frames and frame 1's nats (0 where the task has none) of each sequence, [R, B].

        counted: whether two more follow for each of the head's counts: how many guesses are right, of how many.
        """
        w = SimpleNamespace(**self.w)
        h = self._carried_on(batch, w)
        nats, frames = self._summed(h, w, batch)
        first = self.first_frame_nats(batch) if self.task.next_frame else torch.zeros_like(nats)
        pairs = self.head.guesses(h, w, batch.y, batch.steps) if counted else []
        counts = [(part & batch.mask).sum(0).expand_as(nats) for right, of in pairs for part in (right & of, of)]
        return nats, frames, first.double(), *counts

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        nats, *others = self.score(batch, counted=True)
        self._tested.add(batch.index.expand_as(nats), nats, *others)

    def tested(self) -> tuple[Tensor, ...]:
        """What `score` gives of each test sequence, counts too: [R, N] in the order of the split, on the CPU."""
        parts = self._tested.columns()
        if self.trainer.world_size > 1:
            gathered = [cast(Tensor, self.all_gather(part)) for part in parts]  # [world, R, N]
            parts = tuple(part.transpose(0, 1).flatten(1) for part in gathered)
        index, nats, frames, first, *counts = (part.cpu() for part in parts)
        order = index[0].argsort()[(index[0] < 0).sum() :]
        return nats[:, order], frames[:, order].long(), first[:, order], *(count[:, order].long() for count in counts)

    def on_predict_epoch_start(self) -> None:
        self.forget()

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The expected target at each step, [T, R, B, K], with the batch's mask and index."""
        w = SimpleNamespace(**self.w)
        h = self._carried_on(batch, w)
        mean = self.head.mean_of(h, w, batch.steps, self.decide().compiled)
        return {"mean": mean.cpu(), "mask": batch.mask.cpu(), "index": batch.index.cpu()}
