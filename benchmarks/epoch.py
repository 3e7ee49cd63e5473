"""What an epoch of `seqbench fit` costs over its kernels alone, and over a plain PyTorch loop around the same unit.

    python benchmarks/epoch.py [--data jsb] [--unit GRU] [--batch-size 1] [--replicas 1] [--epochs 5] [--rounds 5]

All in one run, rounds in turn, so that a drift of the machine hits all; seconds are those of training and validation.

kernels: what is compiled, and nothing else: the recurrent layer and the head with its likelihood, forward and backward,
    on the epoch's batches, gathered before; forward only on the validation batches.
plain: what a run does and nothing else: batches gathered in the same order, weight noise, Chung's RMSProp, validation
    after each epoch; one replica after the other.  It shares the unit's step and its recurrence, and none of the
    replica axis, callbacks, records, checkpoints or TensorBoard.
stages: the suite's own parts one after the other without Lightning, each by the clock: where the rest goes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from seqbench import record
from seqbench.cells import Cell, find
from seqbench.datamodules.base import SequenceData, Split
from seqbench.datamodules.listing import dataset
from seqbench.datamodules.order import TrainOrder
from seqbench.kernels.sequence import decide
from seqbench.model.affine import project
from seqbench.model.recurrence import run_layer
from seqbench.task import Batch
from seqbench.train.fitting import run
from seqbench.train.module import SequenceModel
from seqbench.train.optim import ChungRMSProp, PerReplica

HELD = 256  # batches gathered before they are timed
CONFIGS = Path(__file__).parents[1] / "configs"
NOISE, RATE, RHO, FLOOR, MOMENTUM, NORM = 0.075, 6e-4, 0.95, 1e-2, 0.9, 1.0


@dataclasses.dataclass(frozen=True)
class Case:
    """What is timed: a unit on a music set, so many sequences a step, replicas with a seed each."""

    unit: str
    data: str
    batch_size: int
    replicas: int
    epochs: int

    def loaded(self, seeds: int | None = None) -> SequenceData:
        """The set, shuffled, as chung2014 has it."""
        count = self.replicas if seeds is None else seeds
        data = dataset(self.data, batch_size=self.batch_size, order="shuffled", seeds=list(range(count)))
        data.setup()
        return data

    def model(self, data: SequenceData, replicas: int) -> SequenceModel:
        return SequenceModel(find(self.unit)(), data.task, list(range(replicas)), RATE, noise=NOISE)


def shuffled(data: SequenceData) -> TrainOrder:
    """The training batches, shuffled anew in each epoch: not those of streams."""
    order = data.train_dataloader()
    assert isinstance(order, TrainOrder)
    return order


def hidden(cell: Cell, batch: Batch, w: dict[str, Tensor]) -> Tensor:
    """[T, R, B, H], by the layer's weights among w."""
    own = SimpleNamespace(**{n: w[n] for n in cell.layer(1, 1)})
    recurrence = decide(cell, w["V"].shape[1], own.W)
    h, _ = run_layer(cell, batch.x.float(), own, recurrence, steps=batch.steps)
    return h


def plain_epochs(case: Case) -> float:
    """Seconds of so many epochs, one replica after the other."""
    return sum(_plain_run(case) for _ in range(case.replicas))


def _plain_run(case: Case) -> float:
    data = case.loaded(1)
    model = case.model(data, 1)  # for its initial weights only
    weights = {n: p.detach().clone().requires_grad_() for n, p in model.w.items()}
    noisy = [n for n, weight in model.spec.items() if weight.noisy]
    squares = {n: torch.zeros_like(w) for n, w in weights.items()}
    momenta = {n: torch.zeros_like(w) for n, w in weights.items()}

    def nll(split: Split, index: Tensor, w: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        batch = data.gather(split, index)
        out = project(hidden(model.cell, batch, w), w["V"], w["c"], compiled=True)
        each = binary_cross_entropy_with_logits(out, batch.y.float(), reduction="none").sum(-1)
        return (each * batch.mask).sum(), batch.mask.sum()

    order = shuffled(data)
    start = time.perf_counter()
    for epoch in range(case.epochs):
        order.set_epoch(epoch)
        for index in order:
            shaken = {n: w + NOISE * torch.randn_like(w) if n in noisy else w for n, w in weights.items()}
            nats, _ = nll("train", index, shaken)
            grads = torch.autograd.grad(nats / index.shape[1], list(weights.values()))
            with torch.no_grad():
                for (n, _), g in zip(weights.items(), grads, strict=True):
                    squares[n].mul_(RHO).addcmul_(g, g, value=1 - RHO)
                    momenta[n].mul_(MOMENTUM).addcdiv_(g, squares[n].sqrt().clamp_min(FLOOR), value=-RATE)
                held = NORM / torch.stack([m.norm() for m in momenta.values()]).norm().clamp_min(NORM)
                for n, w in weights.items():
                    w.add_(momenta[n] * held)
        with torch.no_grad():
            sums = [nll("valid", index, weights) for index in data.val_dataloader()]
            nats, frames = (torch.stack(parts).sum() for parts in zip(*sums, strict=True))
            (nats / frames).item()
    return time.perf_counter() - start


def kernel_epochs(case: Case) -> float:
    """Seconds of so many epochs' layers and heads, and nothing else."""
    data = case.loaded()
    model = case.model(data, case.replicas)
    weights = {n: p.detach().clone().requires_grad_() for n, p in model.w.items()}
    order, seconds = shuffled(data), 0.0

    def gathered(split: Split, index: Tensor) -> Batch:
        batch = data.gather(split, index)
        return dataclasses.replace(batch, x=batch.x.float(), y=batch.y.float())

    def nats(batch: Batch) -> Tensor:
        h = hidden(model.cell, batch, weights)
        return model.head.nats_of(h, SimpleNamespace(**weights), batch.y, batch.steps, compiled=True)

    held = [gathered("valid", index) for index in data.val_dataloader()]
    for epoch in range(case.epochs):
        order.set_epoch(epoch)
        for first in range(0, len(order), HELD):
            batches = [gathered("train", index) for index in list(order)[first : first + HELD]]
            start = time.perf_counter()
            for batch in batches:
                out = nats(batch)
                torch.autograd.grad(out, list(weights.values()), torch.ones_like(out))
            seconds += time.perf_counter() - start
        start = time.perf_counter()
        with torch.no_grad():
            for batch in held:
                nats(batch)
        seconds += time.perf_counter() - start
    return seconds


def stage_epochs(case: Case) -> dict[str, float]:
    """Seconds of so many epochs by stage."""
    seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def clock(stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[stage] += time.perf_counter() - start

    data = case.loaded()
    model = case.model(data, case.replicas)
    rates = torch.full((case.replicas,), RATE, dtype=torch.float64)
    optimizer = PerReplica(ChungRMSProp([model.rows]), rates, model.alive, compiled=True)
    order, step = shuffled(data), 0
    for epoch in range(case.epochs):
        order.set_epoch(epoch)
        for index in order:
            with clock("gather"):
                batch = data.gather("train", index)
            with clock("weight noise"):
                w = model.noisy_weights(step)
            with clock("layer and head, forward"):
                nats, frames = model.sequence_nats(batch, w)
            with clock("NLL"):
                model.train_nll.update(nats.detach(), frames)
            with clock("backward"):
                (nats.sum(1) / index.shape[1]).sum().backward()
            with clock("optimizer"):
                optimizer.step()
                model.rows.grad = None
            step += 1
        with clock("validation"), torch.no_grad():
            for index in data.val_dataloader():
                model.sequence_nats(data.gather("valid", index))
    return dict(seconds)


def fit_epochs(case: Case) -> float:
    """Seconds that the record of a run tells, checkpoints and curves included."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        run(
            ["fit", "-c", str(CONFIGS / f"{case.data}.yaml"), "-c", str(CONFIGS / "chung2014.yaml"),
             "--model.cell", case.unit, "--model.seed", str(list(range(case.replicas))), "--model.rate", str(RATE),
             "--data.batch_size", str(case.batch_size), "--trainer.max_epochs", str(case.epochs),
             "--trainer.enable_progress_bar", "false", "--run.dir", folder]
        )  # fmt: skip
        return record.load(next(Path(folder).glob("*/record.json"))).seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="jsb", help="a music set")
    parser.add_argument("--unit", default="GRU")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--replicas", type=int, default=1, help="seeds trained together")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    kernels, plain, fit, stages = [], [], [], []
    case = Case(options.unit, options.data, options.batch_size, options.replicas, options.epochs)
    plain_epochs(dataclasses.replace(case, replicas=1, epochs=1))
    for _ in range(options.rounds):
        kernels.append(kernel_epochs(case) / options.epochs)
        plain.append(plain_epochs(case) / options.epochs)
        fit.append(fit_epochs(case) / options.epochs)
        stages.append({stage: seconds / options.epochs for stage, seconds in stage_epochs(case).items()})
    spent = {name: statistics.median(s[name] for s in stages) for name in stages[0]}
    seconds = {"kernels": kernels, "plain": plain, "fit": fit}
    result = {
        **dataclasses.asdict(case),
        "seconds": {name: round(statistics.median(values), 4) for name, values in seconds.items()},
        "fit_over_plain": _ratio(fit, plain),
        "fit_over_kernels": _ratio(fit, kernels),
        "stages": {name: round(value, 4) for name, value in spent.items()}
        | {"Lightning and the rest": round(statistics.median(fit) - sum(spent.values()), 4)},
    }
    if options.json:
        json.dump(result, sys.stdout)
        return
    print(f"{case}; seconds an epoch, medians of {options.rounds} rounds")
    for part in ("seconds", "stages"):
        print(", ".join(f"{name} {value}" for name, value in result[part].items()))
    print(f"fit over plain {result['fit_over_plain']}, fit over kernels {result['fit_over_kernels']}")


def _ratio(ours: list[float], others: list[float]) -> float:
    """The median of what each round says."""
    return round(statistics.median(a / b for a, b in zip(ours, others, strict=True)), 3)


if __name__ == "__main__":
    main()
