"""Gathering against a plain loop, and what the Trainer makes of the loaders: splits, epochs, resume, ddp shares."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from seqbench import datamodules
from seqbench.datamodules import base, gathering
from seqbench.datamodules.base import Sequences
from seqbench.datamodules.synthetic import Synthetic
from seqbench.task import SeqbenchError


@pytest.fixture(params=[gathering.copied, gathering.indexed])
def either_way(request, monkeypatch):
    """Gathers as on a CPU, then as on other devices."""
    monkeypatch.setattr(base, "copied", request.param)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("index", [[[2, -1, 0], [1, 1, 5]], [[-1, -1]], [[7]]])
def test_gather_is_the_naive_loop(synthetic, index):
    sequences = synthetic.load()["train"]
    batch = synthetic.gather("train", torch.tensor(index))
    lengths = [len(sequences[i]) for row in index for i in row if i >= 0]
    steps = max(lengths, default=2) - 1
    replicas, width = len(index), len(index[0])
    assert batch.x.shape == batch.y.shape == (steps, replicas, width, 88)
    assert batch.x.dtype == batch.y.dtype == torch.float32
    assert synthetic.splits["train"].frames.dtype == torch.uint8  # what lies on the device
    assert batch.index.tolist() == index
    assert torch.equal(batch.mask, torch.arange(steps)[:, None, None] < batch.steps)
    for r in range(replicas):
        for b in range(width):
            roll = sequences[index[r][b]] if index[r][b] >= 0 else torch.zeros(0, 88)
            for t in range(steps):
                assert bool(batch.mask[t, r, b]) == (t + 1 < len(roll))
                assert torch.equal(batch.x[t, r, b], roll[t].float() if t < len(roll) else torch.zeros(88))
                if t + 1 < len(roll):
                    assert torch.equal(batch.y[t, r, b], roll[t + 1].float())


def test_storage_has_no_padding(synthetic):
    for split, sequences in synthetic.load().items():
        stored = synthetic.splits[split]
        assert len(stored.frames) == sum(len(s) for s in sequences) + 1
        assert stored.lengths.tolist() == [len(s) for s in sequences]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gather_and_floors_where_the_frames_were_moved(synthetic):
    index = torch.tensor([[2, -1, 0]])
    here, floors = synthetic.gather("test", index), synthetic.floors()
    for split in ("train", "test"):
        synthetic.move(split, torch.device("cuda"))
    there = synthetic.gather("test", index)
    for name, tensor in vars(there).items():
        assert tensor.is_cuda == (name != "steps")
        assert torch.equal(tensor.cpu(), vars(here)[name])
    assert synthetic.floors() == floors


@pytest.mark.usefixtures("either_way")
def test_an_index_behind_the_last_sequence_is_refused(synthetic):
    with pytest.raises(IndexError):
        synthetic.gather("train", torch.tensor([[0, len(synthetic.splits["train"].lengths)]]))


@pytest.mark.usefixtures("either_way")
def test_gather_takes_an_index_that_is_a_part_of_another(synthetic):
    whole = torch.tensor([[3, 1, 4, 1], [5, 2, 6, 0]])
    for part in (whole[:, 1:3], whole.T):
        assert torch.equal(synthetic.gather("train", part).x, synthetic.gather("train", part.contiguous()).x)


@pytest.mark.usefixtures("either_way")
def test_pack_of_one_frame():
    frames, present, lengths = Sequences.pack([torch.ones(1, 2)]).gather(torch.tensor([[0]]), at_least=2)
    assert frames.tolist() == [[[[1, 1]]], [[[0, 0]]]]
    assert present.flatten().tolist() == [True, False]
    assert lengths.tolist() == [[1]]


def test_task_follows_from_what_shapes_the_data():
    plain = Synthetic().task
    assert plain == Synthetic(batch_size=3, order="shuffled", seeds=[4, 5]).task
    assert plain.digest != Synthetic(data_seed=1).task.digest
    assert (plain.name, plain.input_size, plain.target_size) == ("synthetic", 88, 88)
    assert (plain.head, plain.unit, plain.next_frame) == ("Bernoulli", "nats/frame", True)


@pytest.mark.parametrize(
    "arguments",
    [{"batch_size": 0}, {"order": "sorted"}, {"seeds": []}, {"sequences": 2}, {"shortest": 1}, {"shortest": 99}],
)
def test_bad_arguments(arguments):
    with pytest.raises(SeqbenchError) as caught:
        Synthetic(**arguments)
    assert "give" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_classes_by_attribute_and_walk():
    assert datamodules.JSBChorales is datamodules.datasets()["jsb"]
    assert {"bach", "jsb", "nottingham", "musedata", "piano_midi", "synthetic"} <= set(datamodules.datasets())
    with pytest.raises(AttributeError):
        _ = datamodules.JSBChorale


class Watcher(LightningModule):
    """Keeps the indices and the frames it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[torch.Tensor]] = {}
        self.frames = 0

    def keep(self, stage, batch):
        self.seen.setdefault(f"{stage} {self.current_epoch}", []).append(batch.index)
        self.frames += int(batch.mask.sum())

    def training_step(self, batch):
        self.keep("fit", batch)
        return self.weight * batch.x.float().mean()

    def validation_step(self, batch, batch_idx):
        self.keep("sanity" if self.trainer.sanity_checking else "valid", batch)

    def test_step(self, batch, batch_idx):
        self.keep("test", batch)

    def predict_step(self, batch, batch_idx):
        self.keep("predict", batch)
        return batch.index

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(folder, epochs: int) -> Trainer:
    return Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, default_root_dir=folder, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=1, log_every_n_steps=1,
    )  # fmt: skip


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def expected(data: Synthetic, epoch: int) -> list[torch.Tensor]:
    order = data.train_dataloader()
    order.set_epoch(epoch)
    return list(order)


def test_trainer_sees_each_epochs_order_and_the_right_split(synthetic, tmp_path):
    model = Watcher()
    runner = trainer(tmp_path, 3)
    runner.fit(model, synthetic)
    for epoch in range(3):
        assert same(model.seen[f"fit {epoch}"], expected(synthetic, epoch))
        assert sorted(torch.cat(model.seen[f"valid {epoch}"], 1)[0].tolist()) == list(range(11))
    assert not same(model.seen["fit 0"], model.seen["fit 1"])
    runner.test(model, synthetic, verbose=False)
    for split, run in (("valid", runner.validate), ("test", runner.test)):
        model.frames = 0
        run(model, synthetic, verbose=False)
        assert model.frames == int((synthetic.splits[split].lengths - 1).sum())


def test_predict_takes_the_test_split(synthetic, tmp_path):
    model = Watcher()
    trainer(tmp_path, 1).predict(model, synthetic, return_predictions=False)
    assert model.frames == int((synthetic.splits["test"].lengths - 1).sum())


def test_order_goes_on_after_resume(synthetic, tmp_path):
    first = trainer(tmp_path, 2)
    first.fit(Watcher(), synthetic)
    first.save_checkpoint(tmp_path / "two.ckpt")
    again = Synthetic(batch_size=5, seeds=[3, 1, 7], sequences=33)
    model = Watcher()
    trainer(tmp_path, 4).fit(model, again, ckpt_path=tmp_path / "two.ckpt", weights_only=True)
    assert sorted(key for key in model.seen if key.startswith("fit")) == ["fit 2", "fit 3"]
    assert same(model.seen["fit 2"], expected(again, 2))
    assert same(model.seen["fit 3"], expected(again, 3))


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_every_pass_exactly(synthetic, world_size):
    def passes(rank: int) -> list[list[torch.Tensor]]:
        data = Synthetic(batch_size=5, seeds=[3], sequences=33)
        data.setup()
        data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)
        return [list(data.train_dataloader()), list(data.val_dataloader()), list(data.test_dataloader())]

    for size, ranks in zip((33, 11, 11), zip(*map(passes, range(world_size)), strict=True), strict=True):
        assert len({len(batches) for batches in ranks}) == 1
        seen = torch.cat([index.flatten() for batches in ranks for index in batches])
        assert sorted(seen[seen >= 0].tolist()) == list(range(size))
