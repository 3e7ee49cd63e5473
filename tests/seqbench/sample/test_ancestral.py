"""Samples against the network's own forward pass; their bits; what is refused."""

import pytest
import torch

from seqbench.datamodules.base import Sequences
from seqbench.datamodules.synthetic import Synthetic
from seqbench.model.heads import Bernoulli
from seqbench.sample.ancestral import draw
from seqbench.task import Batch, SeqbenchError

UNITS = [("GRU", {}), ("LSTM", {"layers": 2, "layer_norm": True}), ("LRU", {}), ("MinGRU", {"layers": 2})]
NAMES = [name for name, _ in UNITS]


def scored(model, roll):
    """Nats of frame 1 and of all others, [R] each, as `seqbench test` has them of a test split with this roll alone."""
    data = Synthetic()
    data.splits = {"test": Sequences.pack([roll.to(torch.uint8)])}
    with torch.no_grad():
        nats, frames, first = model.score(data.gather("test", torch.zeros(1, 1, dtype=torch.long)))
    assert int(frames[0, 0]) == len(roll) - 1
    return first[:, 0], nats[:, 0]


@pytest.mark.parametrize(("unit", "options"), UNITS, ids=NAMES)
def test_music_has_the_likelihood_that_test_gives_it(network, unit, options):
    model = network(unit, seed=[0, 1], **options)
    for replica in (0, 1):
        drawn = draw(model, replica, 12)
        first, others = scored(model, drawn.y)
        assert float(drawn.nats[0]) == pytest.approx(float(first[replica]), abs=1e-4)
        assert float(drawn.nats[1:].sum()) == pytest.approx(float(others[replica]), abs=1e-4)
        assert abs(float(others[0] - others[1])) > 0.01


@pytest.mark.parametrize(("unit", "options"), UNITS, ids=NAMES)
@pytest.mark.parametrize("given", [1, 7])
def test_a_prime_is_gone_on_with_as_the_network_itself_would(network, music, unit, options, given):
    model = network(unit, **options)
    prime = music.gather("test", torch.zeros(1, 1, dtype=torch.long)).x[:given, 0, 0]
    drawn = draw(model, 0, 12, prime=prime, temperature=0.8)
    whole = scored(model, torch.cat([prime, drawn.y]))[1]
    before = scored(model, prime)[1] if given > 1 else torch.zeros(1)
    assert float(drawn.nats.sum()) == pytest.approx(float(whole - before), abs=1e-4)


@pytest.mark.parametrize(("unit", "options"), UNITS, ids=NAMES)
@pytest.mark.parametrize("given", [0, 5])
def test_speech_has_the_likelihood_that_test_gives_it(network, unit, options, given):
    """A sequence of samples, cut into overlapping frames as the data set cuts them."""
    model = network(unit, speech=True, **options)
    before = torch.randn(20 + 10 * given, generator=torch.Generator().manual_seed(0))
    before = before if given else torch.zeros(20)
    drawn = draw(model, 0, 30, seed=5, prime=before.unfold(0, 20, 10) if given else None)
    windows = torch.cat([before, drawn.y.flatten()]).unfold(0, 30, 10)[:, None, None]
    mask = torch.arange(len(windows))[:, None, None] >= given
    batch = Batch(windows[..., :20], windows[..., 20:], mask, torch.zeros(1, 1), torch.tensor([[len(windows)]]))
    with torch.no_grad():
        nats, frames, _ = model.score(batch)
    assert int(frames) == 30
    assert float(drawn.nats.sum()) == pytest.approx(float(nats), abs=1e-4)


@pytest.mark.parametrize("speech", [False, True])
@pytest.mark.parametrize("unit", ["GRU", "LRU"])
def test_a_replica_draws_the_same_bits_in_any_group_and_at_any_length(network, unit, speech):
    alone = network(unit, speech, seed=7)
    expected = draw(alone, 0, 300, seed=3)
    for seeds in ([7, 1], [3, 1, 7, 4, 5]):
        group = network(unit, speech, seed=seeds)
        found = draw(group, seeds.index(7), 300, seed=3)
        assert torch.equal(found.y, expected.y)
        assert torch.equal(found.nats, expected.nats)
        group.keep(torch.tensor([seeds.index(7)]))
        assert torch.equal(draw(group, 0, 270, seed=3).y, expected.y[:270])  # within a block of random numbers
    other = draw(alone, 0, 300, seed=4).y
    assert not torch.equal(other, expected.y)


def test_a_draw_leaves_torchs_generator_and_the_model_alone(network):
    model = network()
    rows, state = model.rows.detach().clone(), torch.get_rng_state()
    draw(model, 0, 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model.rows, rows)
    assert model.rows.grad is None


def test_the_colder_the_likelier(network, music):
    """At a temperature near 0 each key is on where that is the likelier."""
    model = network()
    prime = music.gather("test", torch.zeros(1, 1, dtype=torch.long)).x[:4, 0, 0]
    cold = draw(model, 0, 12, prime=prime, temperature=1e-6)
    with torch.no_grad():
        out, _ = model(torch.cat([prime, cold.y])[:-1, None, None])
    assert torch.equal(cold.y, (out[3:, 0, 0] > 0).float())
    nats = [float(draw(model, 0, 200, seed=1, temperature=t).nats.mean()) for t in (0.5, 1.0, 2.0)]
    assert nats == sorted(nats)


@pytest.mark.parametrize(("length", "temperature"), [(0, 1.0), (5, 0.0), (5, -1.0), (5, float("nan"))])
def test_what_cannot_be_drawn_is_refused(network, length, temperature):
    with pytest.raises(SeqbenchError, match=r"positive temperature|1 step or more"):
        draw(network(), 0, length, temperature=temperature)


def test_a_replica_that_diverged_is_refused(network):
    model = network(seed=[0, 1])
    model.rows.data[1] = float("nan")
    assert draw(model, 0, 3).nats.isfinite().all()
    with pytest.raises(SeqbenchError, match="diverged"):
        draw(model, 1, 3)


def test_the_first_frame_is_drawn_from_the_head_alone(network):
    """Over many seeds each key's share is its probability, whose logit is the bias."""
    model = network()
    model.w["c"].data[:] = torch.linspace(-2, 2, 88)
    shares = torch.stack([draw(model, 0, 1, seed).y[0] for seed in range(400)]).mean(0)
    assert isinstance(model.head, Bernoulli)
    p = torch.linspace(-2, 2, 88).sigmoid()
    deviations = (shares - p) / (p * (1 - p) / 400).sqrt()
    assert float(deviations.abs().max()) < 4
    assert float(deviations.square().mean()) == pytest.approx(1, abs=0.5)
