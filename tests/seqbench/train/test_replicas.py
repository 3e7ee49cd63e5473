"""A replica is a run: replica k of a group equals the solo run with its seed and rate.

R replicas.  The made-up data set is small enough that all this takes seconds.
"""

import math

import lightning as L
import pytest
import torch

from seqbench.cells import find
from seqbench.datamodules import listing
from seqbench.datamodules.base import SequenceData
from seqbench.datamodules.polyphonic import JSBChorales
from seqbench.datamodules.synthetic import Synthetic
from seqbench.search.design import draw_rates
from seqbench.task import SeqbenchError
from seqbench.train.callbacks import Replicas
from seqbench.train.module import SequenceModel
from seqbench.train.optim import LINEAR_IN_RATE, ChungRMSProp, PerReplica

UNITS = ["Tanh", "GRU", "LSTM", "LRU"]
SEEDS, RATES = [3, 3, 11], [1e-2, 1e-3, 3e-3]


def train(
    unit: str,
    seeds: list[int],
    rates: list[float],
    epochs: int,
    patience: int | None = None,
    dtype: torch.dtype = torch.float32,
    optimizer=ChungRMSProp,
    order: str = "bucketed",
    data: SequenceData | None = None,
    hidden: int | None = 9,
) -> tuple[SequenceModel, Replicas]:
    data = data or Synthetic(batch_size=8, order=order, seeds=seeds)
    model = SequenceModel(find(unit)(), data.task, seeds, rates, hidden=hidden, noise=0.075, optimizer=optimizer).to(
        dtype
    )
    replicas = Replicas(patience)
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=epochs, gradient_clip_val=1.0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, callbacks=[replicas],
    )  # fmt: skip
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    return model, replicas


def nll_of_test(model: SequenceModel) -> torch.Tensor:
    nats, frames, _ = model.tested()
    return nats.sum(1) / frames.sum(1)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("order", ["bucketed", "shuffled"])
def test_replica_equals_solo_in_float64(unit, order):
    group, _ = train(unit, SEEDS, RATES, 4, dtype=torch.float64, order=order)  # 24 steps
    for k, (seed, rate) in enumerate(zip(SEEDS, RATES, strict=True)):
        solo, _ = train(unit, [seed], [rate], 4, dtype=torch.float64, order=order)
        for name, weight in solo.w.items():
            torch.testing.assert_close(group.w[name][k], weight[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("unit", UNITS)
def test_replica_equals_solo_in_float32_with_early_stop(unit):
    group, in_group = train(unit, SEEDS, RATES, 10, patience=2)
    for k, (seed, rate) in enumerate(zip(SEEDS, RATES, strict=True)):
        solo, alone = train(unit, [seed], [rate], 10, patience=2)
        assert in_group.best_epoch[k] == alone.best_epoch[0]
        assert in_group.last_epoch[k] == alone.last_epoch[0]
        torch.testing.assert_close(in_group.best[k], alone.best[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(nll_of_test(group)[k], nll_of_test(solo)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("unit", UNITS)
def test_a_diverging_replica_changes_no_other_by_a_bit(unit):
    calm, calm_state = train(unit, SEEDS, RATES, 5, optimizer=torch.optim.SGD)
    wild, wild_state = train(unit, SEEDS, [RATES[0], 1e4, RATES[2]], 5, optimizer=torch.optim.SGD)
    assert wild_state.diverged.tolist() == [False, True, False]
    assert torch.equal(calm_state.weights[[0, 2]], wild_state.weights[[0, 2]])
    assert torch.equal(nll_of_test(calm)[[0, 2]], nll_of_test(wild)[[0, 2]])


@pytest.mark.parametrize("kind", [torch.optim.SGD, ChungRMSProp])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # of the latter none is compiled
def test_a_replica_whose_gradient_is_not_finite_is_frozen(kind, dtype):
    p = torch.nn.Parameter(torch.ones(3, 2, dtype=dtype))
    alive = torch.tensor([True, False, True])
    optimizer = PerReplica(kind([p]), torch.tensor([0.1, 0.1, 0.2]), alive, compiled=dtype == torch.float32)
    p.grad = torch.tensor([[1.0, 1.0], [math.nan, math.inf], [1.0, 1.0]], dtype=dtype)
    optimizer.step()
    size = 1.0 if kind is torch.optim.SGD else 1 / math.sqrt(0.05)  # of norms 0.6 and 1.3: the second is held to 1
    held = 1.0 if kind is torch.optim.SGD else 1 / (0.2 * size * math.sqrt(2))
    expected = torch.tensor([1 - 0.1 * size, 1.0, 1 - 0.2 * size * held], dtype=dtype)
    torch.testing.assert_close(p.detach(), expected[:, None].expand(3, 2))


@pytest.mark.parametrize("shape", [(1, 30_011), (3, 35)])
@pytest.mark.parametrize("clip", [None, 3.0])
def test_the_compiled_rmsprop_is_the_plain_one_in_float64(shape, clip):
    """The rate follows a schedule, small gradients meet the floor, high rates the norm that updates are held to."""
    g = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=g)
    rates, alive = torch.tensor([1e-3, 0.1, 0.01])[: shape[0]], torch.ones(shape[0], dtype=torch.bool)
    grads = torch.randn(10, *shape, generator=g) * torch.logspace(-6, 1, shape[-1])
    found = []
    for dtype in (torch.float32, torch.float64):
        p = torch.nn.Parameter(start.clone().to(dtype))
        optimizer = PerReplica(ChungRMSProp([p]), rates.double(), alive, clip, compiled=dtype == torch.float32)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for grad in grads:
            p.grad = grad.to(dtype)
            optimizer.step()
            schedule.step()
        found.append([p.detach(), *optimizer.state[p].values(), *optimizer.watch()])
    for compiled, plain in zip(*found, strict=True):
        torch.testing.assert_close(compiled.double(), plain, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("name", LINEAR_IN_RATE)
def test_every_optimizer_takes_each_replicas_rate(name):
    """Against the same optimizer, solo, with the rate as its own lr."""
    kind = getattr(torch.optim, name)
    options = {"weight_decay": 0.01} if name in ("SGD", "Adam", "AdamW") else {}
    rates = [0.3, 1e-3]
    g = torch.Generator().manual_seed(0)
    start = torch.randn(2, 20, generator=g, dtype=torch.float64)
    grads = torch.randn(20, 2, 20, generator=g, dtype=torch.float64)
    group = torch.nn.Parameter(start.clone())
    optimizer = PerReplica(
        kind([group], **options), torch.tensor(rates, dtype=torch.float64), torch.ones(2, dtype=torch.bool)
    )
    solos = [torch.nn.Parameter(start[k].clone()) for k in range(2)]
    optimizers = [kind([p], lr=rate, **options) for p, rate in zip(solos, rates, strict=True)]
    for grad in grads:
        group.grad = grad.clone()
        optimizer.step()
        for k, solo in enumerate(optimizers):
            solos[k].grad = grad[k].clone()
            solo.step()
    torch.testing.assert_close(group.detach(), torch.stack([p.detach() for p in solos]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("rate", [0.01, 3.0])  # the higher one's updates are held to norm 1
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # compiled, and not
def test_chungs_rmsprop_against_the_rule_written_out(rate, dtype):
    """Two replicas at rates of their own; the third weight's gradients lie under the floor."""
    rates = [rate, rate / 2]
    start = [1.0, -2.0, 0.5, 0.1]  # the last has no gradient, and counts neither as at the floor nor as above it
    grads = ([0.5, -1e-3, 1e-5, 0.0], [-0.25, 2e-3, 1e-5, 0.0], [1.0, 0.0, 1e-5, 0.0])
    p = torch.nn.Parameter(torch.tensor([start, start], dtype=dtype))
    rated, compiled = torch.tensor(rates, dtype=torch.float64), dtype == torch.float32
    optimizer = PerReplica(ChungRMSProp([p]), rated, torch.ones(2).bool(), compiled=compiled)
    expected = [list(start), list(start)]
    v, m, watched = [[0.0] * 4, [0.0] * 4], [[0.0] * 4, [0.0] * 4], [[], []]
    for grad in grads:
        p.grad = torch.tensor([grad, grad], dtype=dtype)
        optimizer.step()
        for k, (x, own) in enumerate(zip(expected, rates, strict=True)):
            weights = math.hypot(*x)
            for j, g in enumerate(grad):
                v[k][j] = 0.95 * v[k][j] + 0.05 * g * g
                m[k][j] = 0.9 * m[k][j] - own * g / max(math.sqrt(v[k][j]), 1e-2)
            held = min(1.0, 1.0 / math.hypot(*m[k]))
            for j in range(4):
                x[j] += held * m[k][j]
            at_floor = sum(0 < math.sqrt(s) <= 1e-2 for s in v[k]) / 3
            watched[k].append((math.hypot(*grad), held * math.hypot(*m[k]) / weights, at_floor))
    tolerance = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 1e-5}
    torch.testing.assert_close(p.detach().double(), torch.tensor(expected, dtype=torch.float64), **tolerance)
    for k, told in enumerate(zip(*optimizer.watch(), strict=True)):
        means = [sum(part) / 3 for part in zip(*watched[k], strict=True)]
        assert [float(value) for value in told] == pytest.approx(means, rel=1e-5)


def test_chungs_rmsprop_is_not_linear_in_its_rate():
    """So it takes the replicas' rates itself: half the rate is not half the way."""
    moved = []
    for rate in (1.0, 2.0):
        p = torch.nn.Parameter(torch.zeros(1, 4, dtype=torch.float64))
        optimizer = PerReplica(ChungRMSProp([p]), torch.tensor([rate]).double(), torch.ones(1).bool())
        p.grad = torch.ones(1, 4, dtype=torch.float64)
        optimizer.step()
        moved.append(float(p.detach().norm()))
    assert moved == pytest.approx([1.0, 1.0])


def test_an_optimizer_that_is_not_linear_in_its_rate_is_refused():
    with pytest.raises(SeqbenchError, match="Rprop cannot train replicas"):
        PerReplica(torch.optim.Rprop([torch.nn.Parameter(torch.ones(1, 1))]), torch.ones(1), torch.ones(1).bool())


def test_a_rate_given_to_the_optimizer_is_refused():
    with pytest.raises(SeqbenchError, match=r"--model\.rate"):
        PerReplica(
            torch.optim.Adam([torch.nn.Parameter(torch.ones(1, 1))], lr=0.1), torch.ones(1), torch.ones(1).bool()
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clipping_is_per_replica(dtype):
    p = torch.nn.Parameter(torch.zeros(2, 3, dtype=dtype))
    optimizer = PerReplica(torch.optim.SGD([p]), torch.ones(2).double(), torch.ones(2).bool(), clip=1.0)
    p.grad = torch.tensor([[3.0, 0, 4.0], [0.1, 0.2, 0]], dtype=dtype)
    optimizer.step()
    expected = -torch.tensor([[0.6, 0, 0.8], [0.1, 0.2, 0]], dtype=dtype)
    torch.testing.assert_close(p.detach(), expected)
    gradient, _, floored = optimizer.watch()
    torch.testing.assert_close(gradient, torch.tensor([5.0, 0.05**0.5], dtype=torch.float64))
    assert floored is None


@pytest.mark.faults("A3")
def test_a_clip_of_0_is_none():
    p = torch.nn.Parameter(torch.zeros(1, 2))
    optimizer = PerReplica(torch.optim.SGD([p]), torch.ones(1).double(), torch.ones(1).bool(), clip=0.0)
    p.grad = torch.tensor([[3.0, 4.0]])
    optimizer.step()
    assert p.tolist() == [[-3.0, -4.0]]


def test_weights_and_noise_follow_from_the_seed_alone():
    task = Synthetic().task
    group = SequenceModel(find("GRU")(), task, [5, 7, 5], [1.0, 1.0, 2.0], hidden=4, noise=0.1)
    solo = SequenceModel(find("GRU")(), task, 5, 1.0, hidden=4, noise=0.1)
    for model_weight, solo_weight in zip(group.w.values(), solo.w.values(), strict=True):
        assert torch.equal(model_weight[0], solo_weight[0])
        assert torch.equal(model_weight[0], model_weight[2])
    assert not torch.equal(group.w["W"][0], group.w["W"][1])
    first, again, later = (vars(group.noisy_weights(step)) for step in (0, 0, 1))
    for name in ("W", "U_zr", "U_n"):
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], later[name])
        assert torch.equal(first[name][0], vars(solo.noisy_weights(0))[name][0])
        noise = (first[name] - group.w[name]).detach().flatten()
        assert noise.std().item() == pytest.approx(0.1, rel=0.2)
    for name in ("b", "V", "c"):  # the output layer has none
        assert torch.equal(first[name], group.w[name])


def test_initial_weights_are_chungs():
    model = SequenceModel(find("LSTM")(), Synthetic().task, 0, 1.0, hidden=20)
    eye = torch.eye(20)
    for block in model.w["U"][0].split(20, 1):
        torch.testing.assert_close(block @ block.T, eye, rtol=0, atol=1e-5)
    assert model.w["W"].abs().max() <= 0.1
    assert model.w["W"].std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)
    assert not any(model.w[name].any() for name in ("b", "c", "p_i", "p_f", "p_o"))


@pytest.mark.parametrize(("seed", "rate"), [([1, 2], [1e-3] * 3), ([], 1e-3), (0, 0.0), (0, [math.nan])])
def test_replicas_that_do_not_pair_up_are_refused(seed, rate):
    with pytest.raises(SeqbenchError):
        SequenceModel(find("Tanh")(), Synthetic().task, seed, rate)


def test_training_learns_what_the_data_hold():
    model, replicas = train("LSTM", [0], [1e-2], 100)
    data = Synthetic()
    data.setup()
    floor = data.floors()["note unigram"].nll
    assert nll_of_test(model)[0] < floor - 1
    assert replicas.best[0] < floor - 1


@pytest.mark.faults("C11")
@pytest.mark.parametrize("unit", UNITS)
def test_replica_of_a_ten_rate_search_on_jsb_equals_its_solo_run(unit):
    """10 epochs, weight noise and early stop on; three of the ten are trained alone."""
    if listing.location(JSBChorales.file) == "no":
        pytest.skip("needs JSB Chorales: set SEQBENCH_MIRROR or run `seqbench data prepare jsb`")
    rates = draw_rates(10, 0)
    group, in_group = train(unit, [0], rates, 10, patience=2, data=JSBChorales(seeds=[0] * 10), hidden=None)
    for k in (0, 4, 9):
        solo, alone = train(unit, [0], [rates[k]], 10, patience=2, data=JSBChorales(), hidden=None)
        assert in_group.best_epoch[k] == alone.best_epoch[0]
        assert in_group.last_epoch[k] == alone.last_epoch[0]
        for name, weight in solo.w.items():
            assert torch.equal(group.w[name][k], weight[0])  # to the bit: float32 on a CPU
        torch.testing.assert_close(nll_of_test(group)[k], nll_of_test(solo)[0], rtol=0, atol=1e-9)


@pytest.mark.faults("C11")
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("unit", UNITS)
def test_replica_equals_solo_to_the_bit_whatever_the_others_lengths(unit, batch_size, monkeypatch):
    """Sequences of 2 to 600 frames side by side, one or three of each replica's."""
    seeds, rates = [3, 4, 11, 3], [1e-2, 1e-3, 3e-3, 1e-3]

    def weights(seeds: list[int], rates: list[float]) -> torch.Tensor:
        data = Synthetic(batch_size, "shuffled", seeds, sequences=14, shortest=2, longest_length=600)
        return train(unit, seeds, rates, 1, data=data)[0].rows.detach()

    group = weights(seeds, rates)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert torch.equal(weights(seeds, rates), group)
    for k, (seed, rate) in enumerate(zip(seeds, rates, strict=True)):
        assert torch.equal(weights([seed], [rate])[0], group[k])
