"""Layers on top of each other, layer normalisation and recurrent dropout.  T time, R replicas, B batch, I inputs."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch

from seqbench.cells import find
from seqbench.cells.gru import GRU, GRUResetAfter
from seqbench.cells.lstm import LSTM
from seqbench.cells.tanh import Tanh
from seqbench.datamodules.synthetic import Synthetic
from seqbench.model.budget import count_parameters, hidden_for_budget
from seqbench.model.heads import Bernoulli
from seqbench.model.recurrence import run_layer
from seqbench.task import SeqbenchError, generator
from seqbench.train.callbacks import Replicas
from seqbench.train.module import SequenceModel

SEEDS, RATES = [3, 3, 11], [1e-2, 1e-3, 3e-3]


def model_of(unit: str = "GRU", **options) -> SequenceModel:
    return SequenceModel(find(unit)(), Synthetic().task, options.pop("seed", [5, 7]), hidden=6, **options)


def train(unit: str, seeds: list[int], rates: list[float], **options) -> SequenceModel:
    data = Synthetic(batch_size=8, seeds=seeds)
    model = SequenceModel(find(unit)(), data.task, seeds, rates, hidden=7, noise=0.05, **options).double()
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=4, gradient_clip_val=1.0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, callbacks=[Replicas()],
    )  # fmt: skip
    trainer.fit(model, data)
    return model


@pytest.mark.parametrize(
    ("cell", "kind"), [(Tanh(), torch.nn.RNN), (GRUResetAfter(), torch.nn.GRU), (LSTM(peepholes=False), torch.nn.LSTM)]
)
def test_three_layers_equal_torchs(cell, kind):
    model = SequenceModel(cell, Synthetic().task, 0, hidden=6, layers=3).double()
    twin = kind(88, 6, num_layers=3).double()
    order = [1, 0, 2] if kind is torch.nn.GRU else range(cell.gates)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.w.values():
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64) / 3)
        for layer in range(3):
            suffix = f"_l{layer}" if layer else ""
            for ours, theirs in (("W", "weight_ih"), ("U", "weight_hh"), ("b", "bias_ih")):
                rows = torch.cat([model.w[ours + suffix][0].T.split(6)[k] for k in order])
                getattr(twin, f"{theirs}_l{layer}").copy_(rows.squeeze(1))
            getattr(twin, f"bias_hh_l{layer}").zero_()
            if kind is torch.nn.GRU:
                getattr(twin, f"bias_hh_l{layer}")[12:] = model.w["c_n" + suffix][0, 0]
    x = torch.randn(9, 1, 4, 88, generator=g, dtype=torch.float64)
    expected = twin(x[:, 0])[0] @ model.w["V"][0] + model.w["c"][0]
    torch.testing.assert_close(model(x)[0][:, 0], expected, rtol=0, atol=1e-12)


def test_single_layer_names_stay():
    assert list(model_of().spec) == ["W", "b", "U_zr", "U_n", "V", "c"]
    assert list(model_of(layers=2).spec) == ["W", "b", "U_zr", "U_n", "W_l1", "b_l1", "U_zr_l1", "U_n_l1", "V", "c"]


@pytest.mark.parametrize("count", ["recurrent", "total"])
def test_the_budget_is_for_the_whole_stack(count):
    sizes = [hidden_for_budget(GRU(), 88, Bernoulli(88), 20_000, count, layers) for layers in (1, 2, 3)]
    assert sizes == sorted(sizes, reverse=True)
    for layers, H in enumerate(sizes, 1):
        recurrent = 3 * H * (88 + H + 1) + (layers - 1) * 3 * H * (H + H + 1)
        counted = count_parameters(GRU(), 88, H, Bernoulli(88), layers)
        assert (counted.recurrent, counted.total) == (recurrent, recurrent + H * 88 + 88)
        assert getattr(counted, count) == pytest.approx(20_000, rel=0.03)


def test_the_models_count_is_that_of_its_weights():
    model = model_of("LSTM", layers=3)
    assert model.parameters_per_run.total == sum(p[0].numel() for p in model.w.values())


def test_layer_norm_is_over_the_hidden_units_of_each_layer():
    plain, normed = model_of(layers=2), model_of(layers=2, layer_norm=True)
    assert list(plain.w) == list(normed.w)
    x = torch.randn(5, 1, 3, 88, generator=torch.Generator().manual_seed(0))

    def normalised(x, suffix):
        w = {name: normed.w[name + suffix] for name in ("W", "b", "U_zr", "U_n")}
        h, _ = run_layer(GRU(), x, SimpleNamespace(**w), normed.decide())
        return (h - h.mean(-1, keepdim=True)) / (h.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()

    with torch.no_grad():
        expected = normalised(normalised(x, ""), "_l1") @ normed.w["V"]
        torch.testing.assert_close(normed(x)[0], expected)
        assert (normed(x)[0] - plain(x)[0]).abs().max() > 0.1


def test_dropout_follows_from_seed_and_step_and_leaves_its_share():
    group, solo = model_of(dropout=0.4, layers=2), model_of(dropout=0.4, layers=2, seed=7)
    first, again, later = (vars(group.noisy_weights(step)) for step in (0, 0, 1))
    for name in ("U_zr", "U_n", "U_zr_l1", "U_n_l1"):
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], later[name])
        assert torch.equal(first[name][1], vars(solo.noisy_weights(0))[name][0])
        kept = first[name] != 0
        assert kept.float().mean().item() == pytest.approx(0.6, abs=0.15)
        torch.testing.assert_close(first[name][kept], group.w[name][kept] / 0.6)
    for name in ("W", "b", "W_l1", "V", "c"):
        assert torch.equal(first[name], group.w[name])


def test_dropout_and_noise_are_drawn_apart():
    both, noise = model_of(dropout=0.4, noise=0.1), model_of(noise=0.1)
    shaken, noisy = vars(both.noisy_weights(3)), vars(noise.noisy_weights(3))
    assert torch.equal(shaken["W"], noisy["W"])
    kept = shaken["U_n"] != 0
    torch.testing.assert_close(shaken["U_n"][kept], noisy["U_n"][kept] / 0.6)
    sizes = {name: both.spec[name].size for name in ("U_zr", "U_n")}
    for k, seed in enumerate((5, 7)):
        mask = torch.empty(sum(sizes.values())).bernoulli_(0.6, generator=generator(seed, "dropout", 3)).bool()
        assert torch.equal(mask.split(list(sizes.values()))[1].view(6, 6), kept[k])


@pytest.mark.parametrize("unit", ["Tanh", "GRU", "LSTM", "FGR", "LRU", "SLSTM"])
def test_replica_equals_solo_with_layers_norm_and_dropout(unit):
    options = {"layers": 2, "layer_norm": True, "dropout": 0.3, "upward_dropout": 0.2}
    group = train(unit, SEEDS, RATES, **options)
    for k, (seed, rate) in enumerate(zip(SEEDS, RATES, strict=True)):
        solo = train(unit, [seed], [rate], **options)
        for name, weight in solo.w.items():
            torch.testing.assert_close(group.w[name][k], weight[0], rtol=0, atol=1e-9)


def test_upward_dropout_leaves_what_a_layer_tells_itself_alone():
    """Zaremba et al. 2014: of what goes up alone; the rest is scaled, so that its mean is what it was."""
    model, x = model_of(layers=2, upward_dropout=0.25), torch.randn(9, 1, 40, 88)
    w, recurrence = SimpleNamespace(**model.w), model.decide()
    dry, states = model.hidden_states(x, w, recurrence)
    wet, dropped = model.hidden_states(x, w, recurrence, up=model.upward(3))
    torch.testing.assert_close(dropped[0], states[0], rtol=0, atol=0)
    assert not torch.allclose(dropped[1], states[1])
    assert (wet == 0).double().mean() == pytest.approx(0.25, abs=0.02)
    alone, _ = model.hidden_states(x, w, recurrence, up=lambda h, layer: h if layer == 2 else model.upward(3)(h, layer))
    torch.testing.assert_close(wet[wet != 0] * 0.75, alone[wet != 0])
    assert dry.shape == wet.shape


def test_dropout_changes_training_and_not_evaluation():
    data = Synthetic()
    data.setup()
    dry, wet = train("GRU", [0], [1e-2]), train("GRU", [0], [1e-2], dropout=0.5)
    assert not torch.equal(dry.w["W"], wet.w["W"])
    x = torch.randn(4, 1, 2, 88, dtype=torch.float64)
    assert torch.equal(wet(x)[0], wet(x)[0])


@pytest.mark.parametrize("options", [{"layers": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_what_cannot_be_is_refused(options):
    with pytest.raises(SeqbenchError):
        model_of(**options)
