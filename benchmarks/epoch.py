"""What `seqbench fit` costs over a plain PyTorch loop around the same unit: seconds an epoch, both in one run.

    python benchmarks/epoch.py [--unit GRU] [--epochs 10] [--rounds 5] [--json]

The plain loop does what a run does and nothing else: batches gathered in the same order, weight noise, clipping,
Chung's RMSProp, validation after each epoch.  It shares the unit's step and the time loop, and none of the replica
axis, callbacks, records, checkpoints or TensorBoard.  Rounds alternate, so that a drift of the machine hits both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from datamodules import JSBChorales
from seqbench import record
from seqbench.cells import find
from seqbench.fitting import run
from seqbench.module import SequenceModel
from seqbench.recurrence import project, run_layer

CONFIGS = Path(__file__).parents[1] / "configs"
NOISE, RATE, RHO, FLOOR, MOMENTUM = 0.075, 6e-4, 0.95, 1e-2, 0.9


def plain_epochs(unit: str, epochs: int) -> float:
    """Seconds for `epochs` epochs of training and validation on JSB at batch 16."""
    data = JSBChorales(batch_size=16)
    data.setup()
    cell = find(unit)()
    model = SequenceModel(cell, data.task)  # for its initial weights only
    weights = {name: p.detach().clone().requires_grad_() for name, p in model.w.items()}
    noisy = [name for name, weight in model.spec.items() if weight.noisy]
    squares = {name: torch.zeros_like(w) for name, w in weights.items()}
    momenta = {name: torch.zeros_like(w) for name, w in weights.items()}

    def nll(split: str, index: torch.Tensor, w: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        batch, space = data.gather(split, index), SimpleNamespace(**w)
        h, _ = run_layer(cell, batch.x.float(), space)
        out = project(h, space.V, space.c)
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
                for (name, w), grad in zip(weights.items(), grads, strict=True):
                    g = grad * scale
                    squares[name].mul_(RHO).addcmul_(g, g, value=1 - RHO)
                    momenta[name].mul_(MOMENTUM).addcdiv_(g, squares[name].sqrt().clamp_min(FLOOR))
                    w.sub_(momenta[name], alpha=RATE)
        with torch.no_grad():
            sums = [nll("valid", index, weights) for index in data.val_dataloader()]
            (sum(nats for nats, _ in sums) / sum(frames for _, frames in sums)).item()
    return time.perf_counter() - start


def fit_epochs(unit: str, epochs: int) -> float:
    """Seconds that the record of a run tells, checkpoints and curves included."""
    with tempfile.TemporaryDirectory() as folder:
        run(
            ["fit", "-c", str(CONFIGS / "jsb.yaml"), "-c", str(CONFIGS / "chung2014.yaml"), "--model.cell", unit,
             "--trainer.max_epochs", str(epochs), "--trainer.enable_progress_bar", "false", "--run.dir", folder]
        )  # fmt: skip
        return record.load(next(Path(folder).glob("*/record.json"))).seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--unit", default="GRU")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    plain, fit = [], []
    plain_epochs(options.unit, 1)
    for _ in range(options.rounds):
        plain.append(plain_epochs(options.unit, options.epochs) / options.epochs)
        fit.append(fit_epochs(options.unit, options.epochs) / options.epochs)
    ratios = [f / p for f, p in zip(fit, plain, strict=True)]
    result = {
        "unit": options.unit,
        "plain_seconds": round(statistics.median(plain), 4),
        "fit_seconds": round(statistics.median(fit), 4),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(r, 3) for r in ratios],
    }
    if options.json:
        json.dump(result, sys.stdout)
    else:
        print(
            f"{options.unit} on JSB at batch 16, an epoch: plain loop {result['plain_seconds']} s, "
            f"seqbench fit {result['fit_seconds']} s, ratio {result['ratio']} (median of {options.rounds})"
        )


if __name__ == "__main__":
    main()
