"""A group shrinks as its replicas finish, and no figure of any replica changes by it."""

import gc
from pathlib import Path

import lightning as L
import pytest
import torch

from seqbench import record
from seqbench.cells import Cell, cells, find
from seqbench.datamodules.synthetic import Synthetic
from seqbench.train.callbacks import EpochProgress, Replicas
from seqbench.train.fitting import run
from seqbench.train.module import SequenceModel
from seqbench.train.optim import ChungRMSProp

CONFIGS = Path(__file__).parents[3] / "configs"
SEEDS = [0, 1, 2, 3]
# The first diverges at once (by ChungRMSProp no replica does, as its steps are held), the others stop one by one.
RATES = {
    torch.optim.SGD: [1e3, 1.0, 0.1, 1e-6],
    torch.optim.Adam: [1e4, 1.0, 0.03, 1e-6],
    torch.optim.NAdam: [1e4, 1.0, 0.03, 1e-6],
    ChungRMSProp: [10.0, 1.0, 0.03, 1e-6],
}


class Sizes(L.Callback):
    """R at the end of each epoch."""

    def __init__(self):
        self.sizes = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.sizes.append(pl_module.R)
        assert len(next(iter(trainer.train_dataloader))) == pl_module.R


class NeverCompacted(Replicas):
    def on_train_epoch_end(self, trainer, pl_module):
        pass


def train(seeds, rates, kind=Replicas, optimizer=torch.optim.SGD, dtype=torch.float32):
    data = Synthetic(batch_size=8, seeds=seeds)
    model = SequenceModel(find("GRU")(), data.task, seeds, rates, hidden=7, noise=0.05, optimizer=optimizer).to(dtype)
    replicas, sizes = kind(3), Sizes()
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=40, gradient_clip_val=1.0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, callbacks=[replicas, sizes],
    )  # fmt: skip
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    nats, frames, _ = model.tested()
    return replicas, sizes.sizes, nats.sum(1) / frames.sum(1)


@pytest.mark.parametrize("optimizer", RATES)
def test_compaction_changes_no_figure(optimizer):
    shrunk, sizes, nll = train(SEEDS, RATES[optimizer], optimizer=optimizer)
    whole, constant, expected = train(SEEDS, RATES[optimizer], NeverCompacted, optimizer=optimizer)
    assert min(sizes) < max(sizes) == 4
    assert set(constant) == {4}
    assert sizes == sorted(sizes, reverse=True)
    assert shrunk.diverged.tolist() == whole.diverged.tolist()
    assert shrunk.diverged[0] == (optimizer is not ChungRMSProp)
    assert shrunk.best_epoch.tolist() == whole.best_epoch.tolist()
    assert shrunk.last_epoch.tolist() == whole.last_epoch.tolist()
    torch.testing.assert_close(shrunk.best[1:], whole.best[1:], rtol=0, atol=1e-6)
    torch.testing.assert_close(nll[1:], expected[1:], rtol=0, atol=1e-6)


def test_each_replica_of_a_shrinking_group_equals_its_solo_run():
    """In float64: at these rates 40 epochs make 2e-5 of float32's rounding."""
    rates = RATES[torch.optim.SGD]
    group, _, nll = train(SEEDS, rates, dtype=torch.float64)
    for k in (1, 2, 3):
        solo, _, alone = train([SEEDS[k]], [rates[k]], dtype=torch.float64)
        assert group.best_epoch[k] == solo.best_epoch[0]
        assert group.last_epoch[k] == solo.last_epoch[0]
        torch.testing.assert_close(nll[k], alone[0], rtol=0, atol=1e-9)


def fit_records(folder: Path, *flags: str) -> dict[str, record.Record]:
    """Trains a GRU by the command line into `folder`; its records by run id."""
    files = ["-c", str(CONFIGS / "synthetic.yaml"), "-c", str(CONFIGS / "chung2014.yaml")]
    run(["fit", *files, "--model.cell", "GRU", "--model.hidden", "5", "--run.dir", str(folder), *flags])
    return {path.parent.name: record.load(path) for path in folder.glob("*/record.json")}


@pytest.mark.parametrize("stop", [2, 8, 20])
def test_a_compacted_group_is_resumed_as_it_was(tmp_path, stop):
    flags = ["--model.seed", str(SEEDS), "--model.rate", str(RATES[torch.optim.SGD]), "--run.patience", "3"]
    flags += ["--model.optimizer", "torch.optim.SGD", "--model.schedule", "null", "--data.batch_size", "8"]
    whole = fit_records(tmp_path / "whole", *flags, "--trainer.max_epochs", "40")
    fit_records(tmp_path / "part", *flags, "--trainer.max_epochs", str(stop))
    (checkpoint,) = Path(tmp_path / "part").glob("group-*/checkpoints/last.ckpt")
    resumed = fit_records(tmp_path / "rest", *flags, "--trainer.max_epochs", "40", "--ckpt_path", str(checkpoint))
    assert resumed.keys() == whole.keys()
    for run_id, expected in whole.items():
        assert resumed[run_id].curve.valid == expected.curve.valid
        assert resumed[run_id].test == expected.test
        assert resumed[run_id].status == expected.status


def test_the_progress_line_shows_a_replica_that_still_trains(tmp_path, capsys, monkeypatch):
    """The others were dropped, and nobody knows what they would have come to."""
    monkeypatch.setattr(EpochProgress, "QUIET_SECONDS", 0.0)
    data = ["-c", "two_sequences", "--data.lag", "5", "--data.sequences", "2", "--data.test_sequences", "2"]
    flags = ["-c", "lags_today", "--model.cell", "Tanh", "--model.rate", "[1e-2,1e-9]", "--trainer.max_epochs", "40"]
    run(["fit", *data, *flags, "--run.dir", str(tmp_path)])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert "2/2 replicas train" in lines[0]
    assert "1/2 replicas train" in lines[-1]  # the better one has solved it
    assert "nan" not in lines[-1]


class Branching(Cell):
    """h_t = tanh(x_t + U h_{t-1}), by a step that no kernel can be made of."""

    gates = 1
    paper = "made up"

    def weights(self, hidden):
        return {"U": find("Tanh")().weights(hidden)["U"]}

    def step(self, a, state, w):
        (h,) = state
        pre = a + h @ w.U
        return (torch.tanh(pre) if float(pre.detach().sum()) < 1e9 else pre,)


def batch_and_model(kind, seeds=(0, 1, 2)):
    data = Synthetic(batch_size=8, seeds=list(seeds))
    data.setup("fit")
    model = SequenceModel(kind(), data.task, list(seeds), [0.1] * len(seeds), hidden=7)
    return data.gather("train", next(iter(data.train_dataloader()))), model


@pytest.mark.parametrize("kind", [*cells().values(), Branching], ids=lambda kind: kind.__name__)
def test_nothing_of_a_batch_outlives_it(kind):
    """What is kept by accident grows from batch to batch, and its graph still has the group's old size."""
    batch, model = batch_and_model(kind)
    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            model.sequence_nats(batch)[0].sum().backward()
        held = [x for x in gc.get_objects() if type(x) is torch.Tensor and x.grad_fn is not None]
    finally:
        gc.enable()
    assert [tuple(x.shape) for x in held] == []


def test_a_group_shrinks_while_an_outcome_is_held():
    batch, model = batch_and_model(find("GRU"))
    held = model.sequence_nats(batch)[0]
    model.keep(torch.tensor([2]))
    one, _ = batch_and_model(find("GRU"), [2])
    model.sequence_nats(one)[0].sum().backward()
    assert held.shape[0] == 3
    assert model.rows.grad.shape == model.rows.shape
    assert len(model.rows) == 1
