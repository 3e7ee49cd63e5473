"""Layers that read from both ends, against torch.nn's on packed sequences, and what holds of any such layer.

T time, R replicas, B batch, I inputs, H hidden units a direction.
"""

import dataclasses
import json
import math
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import seqbench
from seqbench import cells, record
from seqbench.datamodules.base import SPLITS, SequenceData, Sequences, Split
from seqbench.datamodules.corpora import FSDD
from seqbench.datamodules.penn import PennTreebank
from seqbench.datamodules.polyphonic import JSBChorales
from seqbench.sample.ancestral import draw
from seqbench.search.engines import replica_bytes
from seqbench.task import Batch, Score, SeqbenchError, Task
from seqbench.train import audit
from seqbench.train.module import SequenceModel

T, B, I, H = 11, 5, 4, 6
STEPS = torch.tensor([7, T, 1, 7, 3])
LSTM = cells.LSTM(peepholes=False)
KINDS = ("W", "U", "b")


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def suffixes(layers: int) -> list[tuple[str, str]]:
    """Ours and torch.nn's, forwards before backwards, lowest layer first."""
    ways = [(f"_l{n}" if n else "", f"_l{n}") for n in range(layers)]
    return [(ours + way, theirs + way) for ours, theirs in ways for way in ("", "_reverse")]


def of_torch(layer: torch.nn.LSTM, gradient: bool = False) -> dict[str, torch.Tensor]:
    """The weights of torch's layers, or their gradients, by our names; the two biases are one of ours."""
    found = {}
    for ours, theirs in suffixes(layer.num_layers):
        W, U, b, c = (getattr(layer, f"{part}{theirs}") for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        values = (W.grad.T, U.grad.T, b.grad[None]) if gradient else (W.T, U.T, (b + c)[None])
        found |= {kind + ours: v.detach() for kind, v in zip(KINDS, values, strict=True)}
    return found


def packed(layer: torch.nn.LSTM, x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """h [T, B, 2H] and the states of all layers in our order."""
    out, (h, c) = layer(pack_padded_sequence(x, STEPS, enforce_sorted=False))
    return pad_packed_sequence(out)[0], tuple(s for pair in zip(h, c, strict=True) for s in pair)


def loss(h: torch.Tensor, states: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return h.square().sum() + sum(s.sin().sum() for s in states)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=str)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("replicas", [None, 2])
def test_it_is_torchs_layer_on_packed_sequences(replicas, layers, dtype, tolerance):
    """Outputs, the states at the ends and all gradients, of sequences of unequal length, the longest not first."""
    theirs = [torch.nn.LSTM(I, H, layers, bidirectional=True).to(dtype) for _ in range(replicas or 1)]
    own = seqbench.Recurrent(LSTM, I, H, layers=layers, bidirectional=True, replicas=replicas).to(dtype)
    mapped = [of_torch(layer) for layer in theirs]
    own.w.load_state_dict({name: torch.stack([m[name] for m in mapped]).view(v.shape) for name, v in own.w.items()})
    x = drawn(T, B, I).to(dtype).requires_grad_()
    x_own = x.detach().clone().requires_grad_()
    h, last = own(x_own, steps=STEPS)
    loss(h, last).backward()
    for k, layer in enumerate(theirs):
        expected, states = packed(layer, x)
        loss(expected, states).backward()
        found = (h[:, k], tuple(s[k] for s in last)) if replicas else (h, last)
        torch.testing.assert_close(found, (expected, states), rtol=tolerance, atol=tolerance)
        for name, gradient in of_torch(layer, gradient=True).items():
            ours = own.w[name].grad[k] if replicas else own.w[name].grad
            torch.testing.assert_close(ours, gradient, rtol=10 * tolerance, atol=10 * tolerance)
    torch.testing.assert_close(x_own.grad, x.grad, rtol=10 * tolerance, atol=10 * tolerance)


class Ends(SequenceData[Sequences]):
    """Made-up tosses of a coin; at each one the first and the last are asked for, so that both ends must be read."""

    name = "ends"
    title = "Ends"
    origin = "made up"
    counts: ClassVar[dict[str, int]] = {"train": 96, "valid": 48, "test": 48}
    longest = 9
    input_size = 2

    @property
    def task(self) -> Task:
        return Task(self.name, 2, 2, "Bernoulli", "nats/toss", "", looks_ahead=True)

    def store(self) -> dict[Split, Sequences]:
        g = torch.Generator().manual_seed(0)
        sizes = {split: torch.randint(1, self.longest + 1, (n,), generator=g) for split, n in self.counts.items()}
        made = {split: [torch.randint(2, (n, 1), generator=g) for n in sizes[split].tolist()] for split in sizes}
        return {split: Sequences.pack([torch.cat([x, 1 - x], 1).float() for x in made[split]]) for split in SPLITS}

    def gather(self, split: Split, index: torch.Tensor) -> Batch:
        x, mask, steps = self.splits[split].gather(index)
        last = x.gather(0, (steps - 1).clamp_min(0)[None, ..., None].expand(1, -1, -1, 2))
        y = torch.stack([x[0, ..., 0], last[0, ..., 0]], -1).expand(len(x), -1, -1, -1)
        return Batch(x, y, mask, index, steps)

    def floors(self) -> dict[str, Score]:
        return {}


def model_of(unit: str = "LSTM", **options) -> SequenceModel:
    """With biases that are not 0, or padding of zeros would leave a state of zeros as it is."""
    options = {"hidden": H, "bidirectional": True, "initial_sd": 0.5} | options
    return SequenceModel(cells.find(unit)(), Ends().task, **options)


def batch_of(*numbers: int) -> Batch:
    data = Ends()
    data.setup()
    return data.gather("train", torch.tensor([numbers]))


LENGTHS = (3, 17, 0, 5, 8)  # places in the split of sequences of unequal length


@pytest.mark.parametrize("recurrence", ["loop", "numba"])
@pytest.mark.parametrize("options", [{}, {"layers": 2, "layer_norm": True}], ids=str)
def test_what_stands_behind_a_sequences_end_never_matters(options, recurrence):
    """Each sequence has the nats and the gradient that it has alone, whatever the padding holds."""
    batch = batch_of(*LENGTHS)
    model = model_of(recurrence=recurrence, **options)
    junk = 100 * drawn(*batch.x.shape)
    spoilt = dataclasses.replace(batch, x=batch.x.where(batch.mask[..., None], junk))
    nats, _ = model.sequence_nats(spoilt)
    (gradient,) = torch.autograd.grad(nats.sum(), model.rows)
    alone = [model.sequence_nats(batch_of(n))[0] for n in LENGTHS]
    (expected,) = torch.autograd.grad(torch.cat(alone).sum(), model.rows)
    assert len(set(batch.steps[0].tolist())) > 2
    torch.testing.assert_close(nats[0], torch.cat(alone)[:, 0], rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("unit", ["GRU", "LRU", "NoGates"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_reversed_input_changes_the_parts_of_the_directions(unit, layers):
    """With their weights exchanged, what comes is what came, reversed in time, and forwards stands for backwards."""
    one, other = (seqbench.Recurrent(unit, I, H, layers=layers, bidirectional=True) for _ in range(2))
    exchanged = {}
    for name, weight in one.w.items():
        twin = name.removesuffix("_reverse") if name.endswith("_reverse") else f"{name}_reverse"
        # The two halves of what a layer below hands up come the other way round.
        halves = name.startswith("W_l1")
        exchanged[twin] = torch.cat(weight.chunk(2)[::-1]) if halves else weight
    other.w.load_state_dict(exchanged)
    x = drawn(T, B, I)
    h, last = one(x)
    h_other, last_other = other(x.flip(0))
    torch.testing.assert_close(torch.cat(h_other.flip(0).chunk(2, -1)[::-1], -1), h)
    n = one.cell.states
    pairs = [last_other[k : k + n] for k in range(0, len(last_other), n)]
    for k, states in enumerate(pairs):
        torch.testing.assert_close(states, last[(k ^ 1) * n : ((k ^ 1) + 1) * n])


def test_only_both_directions_see_what_comes():
    batch = batch_of(*LENGTHS)
    later = batch.x.clone()
    later[4:] = 1 - later[4:]
    for bidirectional in (False, True):
        model = model_of(bidirectional=bidirectional)
        out, changed = (model(x, steps=batch.steps)[0][:4] for x in (batch.x, later))
        long = (batch.steps > 4)[0]
        assert torch.equal(out[:, :, ~long], changed[:, :, ~long])
        assert torch.equal(out[:, :, long], changed[:, :, long]) != bidirectional


def test_a_replica_of_a_group_is_its_solo_model_to_the_bit():
    """With all that is drawn in training; each replica has sequences of its own, and lengths."""
    options = {"layers": 2, "layer_norm": True, "noise": 0.1, "dropout": 0.3, "upward_dropout": 0.2}
    rows = torch.tensor([LENGTHS, (8, 1, 2, 9, 30)])
    data = Ends()
    data.setup()
    group = model_of(seed=[4, 9], **options)
    nats, _ = group.sequence_nats(data.gather("train", rows), group.noisy_weights(3), group.upward(3))
    (gradient,) = torch.autograd.grad(nats.sum(), group.rows)
    for k, seed in enumerate((4, 9)):
        solo = model_of(seed=seed, **options)
        # As long as the group's batch: noise is drawn by place.
        batch = data.gather("train", rows[k : k + 1])
        alone, _ = solo.sequence_nats(batch, solo.noisy_weights(3), solo.upward(3))
        torch.testing.assert_close(alone[0], nats[k], rtol=0, atol=0)
        torch.testing.assert_close(torch.autograd.grad(alone.sum(), solo.rows)[0][0], gradient[k], rtol=0, atol=0)


@pytest.mark.parametrize("count", ["recurrent", "total"])
def test_the_budget_is_for_both_directions(count):
    """GRU: 3H(I + H + 1) a direction, above the first layer I = 2H; the head reads 2H."""
    model = model_of("GRU", hidden=None, budget=30_000, count=count, layers=2)
    n = model.hidden
    recurrent = 2 * 3 * n * (2 + n + 1) + 2 * 3 * n * (2 * n + n + 1)
    counted = model.parameters_per_run
    assert (counted.recurrent, counted.total) == (recurrent, recurrent + 2 * n * 2 + 2)
    assert counted.total == model.rows.numel()
    assert getattr(counted, count) == pytest.approx(30_000, rel=0.02)


def test_a_sweep_allows_for_what_both_directions_keep():
    alone, both = (
        replica_bytes(SimpleNamespace(model=model_of(hidden=300, bidirectional=way), datamodule=Ends()))
        for way in (False, True)
    )
    assert both == pytest.approx(2 * alone, rel=0.01)


def test_layer_norm_is_over_both_directions_together():
    model = model_of(layers=2, layer_norm=True)
    h, _ = model.hidden_states(torch.rand(9, 1, 4, 2), SimpleNamespace(**model.w), model.decide())
    torch.testing.assert_close(h.mean(-1), torch.zeros(9, 1, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(h.var(-1, correction=0), torch.ones(9, 1, 4), rtol=1e-2, atol=0)
    assert h[..., :H].mean(-1).abs().max() > 0.1


def test_upward_dropout_and_dropout_are_of_both_directions():
    model = model_of(layers=2, dropout=0.4, upward_dropout=0.25)
    w = vars(model.noisy_weights(0))
    for name in ("U", "U_reverse", "U_l1", "U_l1_reverse"):
        assert (w[name] == 0).double().mean() == pytest.approx(0.4, abs=0.12)
    h, _ = model.hidden_states(torch.rand(40, 1, 9, 2), SimpleNamespace(**w), model.decide(), up=model.upward(0))
    for half in h.chunk(2, -1):
        assert (half == 0).double().mean() == pytest.approx(0.25, abs=0.03)


def test_expectations_are_of_each_sequence_alone():
    model = model_of().eval()
    batch = batch_of(*LENGTHS)
    with torch.no_grad():
        found = model.predict_step(batch, 0)["mean"]
        for n, number in enumerate(LENGTHS):
            alone = model.predict_step(batch_of(number), 0)["mean"]
            torch.testing.assert_close(found[: len(alone), :, n], alone[:, :, 0])


def test_fit_learns_what_stands_at_the_end(seqbench, tmp_path):
    """Forwards alone nobody knows the last toss before it comes: ln 2 a toss, but at the last one."""

    def fit(way: str) -> dict[str, record.Record]:
        command = ["fit", "--data", f"{__name__}.Ends", "--model.cell", "LSTM", "--model.hidden", "6"]
        command += ["--model.rate", "[0.03,0.02]", "--model.optimizer", "torch.optim.Adam"]
        command += ["--trainer.max_epochs", "16", "--trainer.check_val_every_n_epoch", "4"]
        seqbench(*command, "--model.bidirectional", way, "--run.dir", str(tmp_path / way))
        return {path.parent.name: record.load(path) for path in (tmp_path / way).glob("*/record.json")}

    one, both = fit("false"), fit("true")
    assert not one.keys() & both.keys()
    for run in one.values():
        steps = torch.tensor(run.test.frames)
        assert run.test.nll > 0.9 * math.log(2) * float((steps - 1).sum() / steps.sum())
    for run in both.values():
        assert run.test.nll < 0.05
        assert run.task.looks_ahead
        assert run.config["model"]["bidirectional"]
        assert list(audit.sizes(run)) == []
    other = dataclasses.replace(run, parameters=next(iter(one.values())).parameters)
    assert {field for field, _ in audit.sizes(other)} == {"parameters.recurrent", "parameters.total"}


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (JSBChorales().task, "jsb must not look ahead"),
        (FSDD().task, "fsdd_a must not look ahead"),
        (PennTreebank().task, "ptb must not look ahead"),
        (dataclasses.replace(PennTreebank().task, looks_ahead=True), "none has an end to read backwards from"),
    ],
    ids=["music", "speech", "text", "carried states"],
)
def test_a_task_that_must_not_look_ahead_is_refused(task, told):
    with pytest.raises(SeqbenchError, match=told):
        SequenceModel(LSTM, task, hidden=H, bidirectional=True)


def test_no_sample_is_made():
    with pytest.raises(SeqbenchError, match="no next step to draw"):
        draw(model_of(), 0, 5)


def test_cells_has_the_sizes_of_both_directions(seqbench, capsys):
    seqbench("cells", "--input-size", "200", "--budget", "641600", "--count", "recurrent", "--bidirectional", "--json")
    rows = {row["unit"]: row for row in json.loads(capsys.readouterr().out)}
    # The parser of Levy et al. 2018 at 200 units a direction.
    assert (rows["LevyLSTM"]["hidden"], rows["LevyLSTM"]["recurrent"]) == (200, 641_600)
