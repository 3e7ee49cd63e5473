"""Language models: against torch.nn's layers, states that are carried, groups, resumed runs, what records keep."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seqbench import record
from seqbench.cells import find
from seqbench.datamodules.text_folder import TextFolder
from seqbench.task import SeqbenchError
from seqbench.train.fitting import run
from seqbench.train.module import SequenceModel
from seqbench.train.optim import PerReplica

SGD = torch.optim.SGD


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    """Lines in which each letter is followed by one of two."""
    g = torch.Generator().manual_seed(0)
    letters, at = [], 0
    for turn in torch.randint(2, (2400,), generator=g).tolist():
        letters.append("abcdefgh"[at])
        at = (2 * at + turn) % 8
    root = tmp_path_factory.mktemp("texts")
    lines = [" ".join(letters[n : n + 12]) for n in range(0, len(letters), 12)]
    (root / "all.txt").write_text("\n".join(lines))
    return root


def loaded(texts: Path, **options) -> TextFolder:
    data = TextFolder(**{"batch_size": 5, "window": 7, "root": str(texts)} | options)
    data.setup()
    return data


def model_of(data: TextFolder, unit: str = "LevyLSTM", **options) -> SequenceModel:
    sizes = {"hidden": 6, "layers": 2, "rate": 1.0, "optimizer": SGD, "initial_range": 0.3}
    return SequenceModel(find(unit)(), data.task, **sizes | options)


def steps(model: SequenceModel, data: TextFolder, count: int, clip: float | None = None) -> None:
    """So many steps of SGD, as `fit` takes them."""
    rates = torch.tensor(model.rates, dtype=torch.float64)
    optimizer = PerReplica(SGD([model.rows]), rates, model.alive, clip, compiled=True)
    for step, index in enumerate(list(data.train_dataloader())[:count]):
        batch = data.gather("train", index)
        nats, frames = model.sequence_nats(batch, model.noisy_weights(step), model.upward(step))
        (nats.sum(1) / (frames > 0).sum(1)).sum().backward()
        optimizer.step()
        model.rows.grad = None


class Zaremba(nn.Module):
    """The same network in torch.nn, with the model's first weights, and its training by hand."""

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        w, H = {name: value[0].detach() for name, value in model.w.items()}, model.hidden
        V = model.task.vocabulary
        self.embedding, self.rnn, self.head = nn.Embedding(V, H), nn.LSTM(H, H, 2), nn.Linear(H, V)

        def gates(weight: torch.Tensor) -> torch.Tensor:
            i, f, o, n = weight.chunk(4, -1)
            return torch.cat([i, f, n, o], -1)

        with torch.no_grad():
            self.embedding.weight.copy_(w["E"])
            for layer, end in enumerate(("", "_l1")):
                getattr(self.rnn, f"weight_ih_l{layer}").copy_(gates(w[f"W{end}"]).T)
                getattr(self.rnn, f"weight_hh_l{layer}").copy_(gates(w[f"U{end}"]).T)
                getattr(self.rnn, f"bias_ih_l{layer}").copy_(gates(w[f"b{end}"])[0])
                getattr(self.rnn, f"bias_hh_l{layer}").zero_().requires_grad_(False)
            self.head.weight.copy_(w["V"].T)
            self.head.bias.copy_(w["c"][0])

    def train_on(self, streams: torch.Tensor, window: int, count: int, rate: float, clip: float) -> None:
        """streams [F, B] of ids."""
        state, weights = None, [p for p in self.parameters() if p.requires_grad]
        for first in range(0, count * window, window):
            x, y = streams[first : first + window], streams[first + 1 : first + window + 1]
            h, state = self.rnn(self.embedding(x), state)
            loss = F.cross_entropy(self.head(h).flatten(0, 1), y.flatten(), reduction="sum") / x.shape[1]
            grads = torch.autograd.grad(loss, weights)
            norm = torch.sqrt(sum((g**2).sum() for g in grads))
            with torch.no_grad():
                for p, g in zip(weights, grads, strict=True):
                    p.sub_(rate * g * min(1.0, clip / float(norm)))
            state = tuple(s.detach() for s in state)


def test_training_is_that_of_torch_nn(texts):
    """Zaremba et al. 2014: nats summed over steps, averaged over streams, norm clipped, states carried on."""
    data = loaded(texts)
    model = model_of(data)
    net, ids = Zaremba(model), data.splits["train"].ids
    n = len(ids) // 5
    steps(model, data, 20, clip=0.5)
    net.train_on(ids[: 5 * n].view(5, n).T, 7, 20, 1.0, 0.5)
    w = {name: value[0].detach() for name, value in model.w.items()}
    torch.testing.assert_close(w["E"], net.embedding.weight.detach(), rtol=0, atol=2e-5)
    torch.testing.assert_close(w["V"], net.head.weight.detach().T, rtol=0, atol=2e-5)
    torch.testing.assert_close(w["U_l1"][:, :12], net.rnn.weight_hh_l1.detach().T[:, :12], rtol=0, atol=2e-5)


@pytest.mark.parametrize("unit", ["LevyLSTM", "NoGates", "GRU"])
def test_windows_with_carried_states_score_as_the_whole_text_at_once(unit, texts):
    data = loaded(texts)
    model = model_of(data, unit, initial_range=1.0)
    ids = data.splits["test"].ids
    cut = type(data.splits["test"]).cut(ids, 1, 9, rest=True)
    with torch.no_grad():
        parts = [model.sequence_nats(cut.gather(n.view(1, 1)))[0] for n in torch.arange(len(cut.lengths))]
        model.forget()
        whole, frames = model.sequence_nats(type(cut).cut(ids, 1, len(ids), rest=True).gather(torch.tensor([[0]])))
        fresh = 0.0
        for n in torch.arange(len(cut.lengths)):
            model.forget()
            fresh += float(model.sequence_nats(cut.gather(n.view(1, 1)))[0])
    assert int(frames) == len(ids) - 1
    torch.testing.assert_close(torch.stack(parts).sum(), whole.sum(), rtol=1e-6, atol=0)
    assert abs(fresh - float(whole)) > 1e-3 * float(whole)


def test_a_replica_of_a_group_is_its_solo_run_to_the_bit(texts):
    """With dropout of what goes up, drawn for each replica."""
    data = loaded(texts)
    settings = {"upward_dropout": 0.4, "noise": 0.01}
    group = model_of(data, seed=[3, 1, 4], rate=[1.0, 0.5, 2.0], **settings)
    steps(group, data, 12)
    for k, (seed, rate) in enumerate([(3, 1.0), (1, 0.5), (4, 2.0)]):
        solo = model_of(data, seed=seed, rate=rate, **settings)
        steps(solo, data, 12)
        assert torch.equal(solo.rows[0], group.rows[k])


def test_carried_states_follow_the_replicas_that_are_kept(texts):
    data = loaded(texts)
    group = model_of(data, seed=[3, 1, 4])
    first, second = (data.gather("train", index) for index in list(data.train_dataloader())[:2])
    with torch.no_grad():
        group.sequence_nats(first)
        expected = model_of(data, seed=[1, 4])
        expected.sequence_nats(first)
        group.keep(torch.tensor([1, 2]))
        assert torch.equal(group.sequence_nats(second)[0], expected.sequence_nats(second)[0])


def fit(folder: Path, texts: Path, *flags: str) -> record.Record:
    words = ["fit", "-c", "text_folder", "--data.root", str(texts), "--data.batch_size", "5", "--data.window", "7"]
    run([*words, "--model.hidden", "6", "--run.dir", str(folder), "--model.upward_dropout", "0.2", *flags])
    (path,) = folder.glob("*/record.json")
    return record.load(path)


def test_runs_of_a_group_are_what_each_is_alone(texts, tmp_path):
    alone = fit(tmp_path / "alone", texts, "--model.seed", "1", "--trainer.max_epochs", "2")
    words = ["fit", "-c", "text_folder", "--data.root", str(texts), "--data.batch_size", "5", "--data.window", "7"]
    options = ["--model.hidden", "6", "--run.dir", str(tmp_path / "group"), "--model.upward_dropout", "0.2"]
    run([*words, *options, "--model.seed", "[0,1]", "--trainer.max_epochs", "2"])
    found = {r.run_id: r for r in map(record.load, (tmp_path / "group").glob("*/record.json"))}
    assert len(found) == 2
    assert found[alone.run_id].test == alone.test
    assert found[alone.run_id].curve.valid == alone.curve.valid


def test_a_run_leaves_counts_and_goes_on_where_it_stopped(texts, tmp_path):
    flags = ["--model.schedule", "null"]  # else the last epoch decides of the rates before
    whole = fit(tmp_path / "whole", texts, *flags, "--trainer.max_epochs", "4")
    fit(tmp_path / "part", texts, *flags, "--trainer.max_epochs", "2")
    (checkpoint,) = (tmp_path / "part").glob("*/checkpoints/last.ckpt")
    rest = fit(tmp_path / "rest", texts, *flags, "--trainer.max_epochs", "4", "--ckpt_path", str(checkpoint))
    assert (rest.curve.train, rest.curve.valid, rest.test) == (whole.curve.train, whole.curve.valid, whole.test)
    assert whole.test is not None
    assert sum(whole.test.frames) == sum(whole.test.counts["guesses"].of)
    assert whole.floors["bigram"].nll < whole.floors["unigram"].nll
    assert (whole.task.vocabulary, whole.task.carried) == (10, True)


def test_the_embedding_is_counted_in_all_but_not_in_the_layers(texts):
    data = loaded(texts)
    model = model_of(data, embedding=3)
    V, H = data.vocabulary, 6
    assert model.parameters_per_run.recurrent == 4 * (3 * H + H * H + H) + 4 * (2 * H * H + H)
    assert model.parameters_per_run.total == model.rows.numel()
    assert model.parameters_per_run.total - model.parameters_per_run.recurrent == 3 * V + H * V + V
    by_budget = SequenceModel(find("GRU")(), data.task, budget=3000, count="total")
    assert by_budget.w["E"].shape[-1] == by_budget.hidden
    assert by_budget.rows.numel() == pytest.approx(3000, rel=0.05)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"upward_dropout": 1.0}, "below 1"),
        ({"initial_range": 0.1, "initial_sd": 0.1}, "give one of them"),
        ({"embedding": 0}, "Sizes must be positive"),
    ],
)
def test_what_is_refused(texts, options, told):
    with pytest.raises(SeqbenchError, match=told):
        model_of(loaded(texts), **options)


def test_a_music_record_is_written_as_it_was(texts, tmp_path):
    """Fields that a music set has no use for are not in its file."""
    run(["fit", "-c", "synthetic", "-c", "quick", "--model.cell", "Tanh", "--model.hidden", "3",
         "--trainer.max_epochs", "1", "--run.dir", str(tmp_path)])  # fmt: skip
    (path,) = tmp_path.glob("*/record.json")
    written = json.loads(path.read_text())
    assert written["schema"] == 3
    assert not {"vocabulary", "carried"} & written["task"].keys()
    assert "counts" not in written["test"]
    assert record.load(path).test.counts == {}


def test_scores_of_many_batches_take_no_more_memory():
    """What is kept of a batch must not stand between its large tensors: 100 batches of 8 MB of logits each."""
    script = """
import sys, torch
from seqbench.cells import find
from seqbench.task import Batch, Task
from seqbench.train import fitting
from seqbench.train.metrics import Kept
from seqbench.train.module import SequenceModel

fitting._keep_pages()
torch.set_num_threads(1)
model = SequenceModel(find("GRU")(), Task("t", 1, 5000, "Categorical", "", "", vocabulary=5000, carried=True), hidden=8)
ids = torch.randint(5000, (21, 1, 20, 1))
batch = Batch(ids[:-1], ids[1:], torch.ones(20, 1, 20, dtype=torch.bool), torch.arange(20)[None])

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

kept = Kept()
with torch.no_grad():
    for n in range(120):
        kept.add(*model.score(batch))
        if n == 20:
            before = resident()
print(resident() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    assert int(done.stdout) < 30e6
