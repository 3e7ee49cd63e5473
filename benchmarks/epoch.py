"""What an epoch of `seqbench fit` costs over its kernels alone, and over a plain PyTorch loop around the same unit.

    python benchmarks/epoch.py [--data jsb] [--unit GRU] [--epochs 10] [--rounds 5] [--json]

All in one run, rounds in turn, so that a drift of the machine hits all; seconds are those of training and validation.

kernels: what is compiled, and nothing else: the recurrent layer and the head with its likelihood, forward and backward,
    on the epoch's batches, gathered before; forward only on the validation batches.
plain: what a run does and nothing else: batches gathered in the same order, weight noise, clipping, Chung's RMSProp,
    validation after each epoch.  It shares the unit's step and the way over time, and none of the replica axis,
    callbacks, records, checkpoints or TensorBoard.
stages: the suite's own parts one after the other without Lightning, each by the clock: where the rest goes.
"""

from __future__ import annotations

import argparse
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

from datamodules.base import SequenceData, Split
from datamodules.listing import dataset
from seqbench import record
from seqbench.affine import project
from seqbench.cells import Cell, find
from seqbench.fitting import run
from seqbench.module import SequenceModel
from seqbench.optim import clip_per_replica
from seqbench.recurrence import run_layer

CONFIGS = Path(__file__).parents[1] / "configs"
NOISE, RATE, RHO, FLOOR, MOMENTUM = 0.075, 6e-4, 0.95, 1e-2, 0.9


def loaded(name: str) -> SequenceData:
    """A music set at batch 16, as its configs have it."""
    data = dataset(name)(batch_size=16)
    data.setup()
    return data


def hidden(cell: Cell, x: Tensor, w: dict[str, Tensor]) -> Tensor:
    """[T, 1, B, H], by the layer's weights among w."""
    h, _ = run_layer(cell, x, SimpleNamespace(**{n: w[n] for n in cell.layer(1, 1)}))
    return h


def plain_epochs(unit: str, name: str, epochs: int) -> float:
    """Seconds of so many epochs."""
    data, cell = loaded(name), find(unit)()
    model = SequenceModel(cell, data.task)  # for its initial weights only
    weights = {n: p.detach().clone().requires_grad_() for n, p in model.w.items()}
    noisy = [n for n, weight in model.spec.items() if weight.noisy]
    squares = {n: torch.zeros_like(w) for n, w in weights.items()}
    momenta = {n: torch.zeros_like(w) for n, w in weights.items()}

    def nll(split: Split, index: Tensor, w: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        batch = data.gather(split, index)
        out = project(hidden(cell, batch.x.float(), w), w["V"], w["c"])
        each = binary_cross_entropy_with_logits(out, batch.y.float(), reduction="none").sum(-1)
        return (each * batch.mask).sum(), batch.mask.sum()

    order = data.train_dataloader()
    start = time.perf_counter()
    for epoch in range(epochs):
        order.set_epoch(epoch)
        for index in order:
            shaken = {n: w + NOISE * torch.randn_like(w) if n in noisy else w for n, w in weights.items()}
            nats, frames = nll("train", index, shaken)
            grads = torch.autograd.grad(nats / frames, list(weights.values()))
            scale = 1 / torch.stack([g.norm() for g in grads]).norm().clamp_min(1)
            with torch.no_grad():
                for (n, w), grad in zip(weights.items(), grads, strict=True):
                    g = grad * scale
                    squares[n].mul_(RHO).addcmul_(g, g, value=1 - RHO)
                    momenta[n].mul_(MOMENTUM).addcdiv_(g, squares[n].sqrt().clamp_min(FLOOR))
                    w.sub_(momenta[n], alpha=RATE)
        with torch.no_grad():
            sums = [nll("valid", index, weights) for index in data.val_dataloader()]
            nats, frames = (torch.stack(parts).sum() for parts in zip(*sums, strict=True))
            (nats / frames).item()
    return time.perf_counter() - start


def kernel_epochs(unit: str, name: str, epochs: int) -> float:
    """Seconds of so many epochs' layers and heads, and nothing else."""
    data, cell = loaded(name), find(unit)()
    model = SequenceModel(cell, data.task)
    weights = {n: p.detach().clone().requires_grad_() for n, p in model.w.items()}
    order, seconds = data.train_dataloader(), 0.0

    def gathered(split: Split, index: Tensor) -> tuple[Tensor, Tensor]:
        batch = data.gather(split, index)
        return batch.x.float(), batch.y.float()

    def nats(x: Tensor, y: Tensor) -> Tensor:
        return model.head.nats_of(hidden(cell, x, weights), weights["V"], weights["c"], y)

    held = [gathered("valid", index) for index in data.val_dataloader()]
    for epoch in range(epochs):
        order.set_epoch(epoch)
        batches = [gathered("train", index) for index in order]
        start = time.perf_counter()
        for x, y in batches:
            out = nats(x, y)
            torch.autograd.grad(out, list(weights.values()), out.detach())
        with torch.no_grad():
            for x, y in held:
                nats(x, y)
        seconds += time.perf_counter() - start
    return seconds


def stage_epochs(unit: str, name: str, epochs: int) -> dict[str, float]:
    """Seconds of so many epochs by stage."""
    seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def clock(stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[stage] += time.perf_counter() - start

    data = loaded(name)
    model = SequenceModel(find(unit)(), data.task, rate=RATE, noise=NOISE)
    optimizer = model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    order, step = data.train_dataloader(), 0
    for epoch in range(epochs):
        order.set_epoch(epoch)
        for index in order:
            with clock("gather"):
                batch = data.gather("train", index)
            with clock("weight noise"):
                w = model.noisy_weights(step)
            with clock("layer and head, forward"):
                h, _ = model.run(batch.x, w)
                each = model.head.nats_of(h, w.V, w.c, batch.y)
            with clock("loss"):
                nats = each.where(batch.mask, 0.0).sum(0)
                loss = (nats.sum(1) / batch.mask.sum(0).sum(1).clamp_min(1)).sum()
            with clock("backward"):
                loss.backward()
            with clock("clipping"):
                assert model.rows.grad is not None
                clip_per_replica(model.rows.grad, 1.0)
            with clock("optimizer"):
                optimizer.step()
                optimizer.zero_grad()
            step += 1
        with clock("validation"), torch.no_grad():
            for index in data.val_dataloader():
                model.sequence_nats(data.gather("valid", index))
    return dict(seconds)


def fit_epochs(unit: str, name: str, epochs: int) -> float:
    """Seconds that the record of a run tells, checkpoints and curves included."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        run(
            ["fit", "-c", str(CONFIGS / f"{name}.yaml"), "-c", str(CONFIGS / "chung2014.yaml"), "--model.cell", unit,
             "--trainer.max_epochs", str(epochs), "--trainer.enable_progress_bar", "false", "--run.dir", folder]
        )  # fmt: skip
        return record.load(next(Path(folder).glob("*/record.json"))).seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="jsb", help="a music set")
    parser.add_argument("--unit", default="GRU")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    kernels, plain, fit, stages = [], [], [], []
    case = options.unit, options.data, options.epochs
    plain_epochs(options.unit, options.data, 1)
    for _ in range(options.rounds):
        kernels.append(kernel_epochs(*case) / options.epochs)
        plain.append(plain_epochs(*case) / options.epochs)
        fit.append(fit_epochs(*case) / options.epochs)
        stages.append({stage: seconds / options.epochs for stage, seconds in stage_epochs(*case).items()})
    spent = {name: statistics.median(s[name] for s in stages) for name in stages[0]}
    seconds = {"kernels": kernels, "plain": plain, "fit": fit}
    result = {
        "unit": options.unit,
        "data": options.data,
        "seconds": {name: round(statistics.median(values), 4) for name, values in seconds.items()},
        "fit_over_plain": _ratio(fit, plain),
        "fit_over_kernels": _ratio(fit, kernels),
        "stages": {name: round(value, 4) for name, value in spent.items()}
        | {"Lightning and the rest": round(statistics.median(fit) - sum(spent.values()), 4)},
    }
    if options.json:
        json.dump(result, sys.stdout)
        return
    print(f"{options.unit} on {options.data} at batch 16; seconds an epoch, medians of {options.rounds} rounds")
    for part in ("seconds", "stages"):
        print(", ".join(f"{name} {value}" for name, value in result[part].items()))
    print(f"fit over plain {result['fit_over_plain']}, fit over kernels {result['fit_over_kernels']}")


def _ratio(ours: list[float], others: list[float]) -> float:
    """The median of what each round says."""
    return round(statistics.median(a / b for a, b in zip(ours, others, strict=True)), 3)


if __name__ == "__main__":
    main()
