"""A group shrinks as its replicas finish, and no figure of any replica changes by it."""

from pathlib import Path

import lightning as L
import pytest
import torch

from seqbench import record
from seqbench.cells import find
from seqbench.datamodules.synthetic import Synthetic
from seqbench.train.callbacks import Replicas
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
