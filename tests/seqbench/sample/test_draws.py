"""What heads draw against their own densities, by chi-square over 100,000 draws; and what the draws are made of."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import binom, chisquare, kstest, norm

from seqbench.model.draws import uniform
from seqbench.model.heads import GaussianMixture, head_for
from seqbench.task import Task, draw_words

N = 100_000
LIKELY = 1e-3  # of a p-value; the draws are the same at every call


class Three(GaussianMixture):
    COMPONENTS = 3


def uniforms(count: int, n: int = N, purpose: str = "sample") -> torch.Tensor:
    """[n, count], as samples get them: of one seed, a step each."""
    return uniform(count, [draw_words(0, purpose, step) for step in range(n)])


def test_uniform_numbers_are_uniform_and_independent():
    found = uniforms(4).numpy()
    assert 0 < found.min() < 1e-4
    assert 1 > found.max() > 1 - 1e-4
    assert all(kstest(column, "uniform").pvalue > LIKELY for column in found.T)
    pairs = [(found[:, 0], found[:, 1]), (found[:, 2], found[:, 3]), (found[:-1, 0], found[1:, 0])]
    for one, other in pairs:
        counts, *_ = np.histogram2d(one, other, 10, [[0, 1], [0, 1]])
        assert chisquare(counts.ravel()).pvalue > LIKELY


def test_another_seed_or_step_draws_other_numbers_and_a_longer_draw_begins_alike():
    one, other, next_step = (uniform(8, [draw_words(*of)]) for of in ((0, "s", 0), (1, "s", 0), (0, "s", 1)))
    assert not torch.equal(one, other)
    assert not torch.equal(one, next_step)
    assert torch.equal(one, uniform(88, [draw_words(0, "s", 0)])[:, :8])


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_keys_are_on_as_often_as_the_logits_say_and_independent(temperature):
    """All 2^6 chords of six keys, by the products of their probabilities."""
    logits = torch.tensor([-3.0, -1.0, 0.0, 0.5, 2.0, 4.0])
    head = head_for(Task("made up", 6, 6, "Bernoulli", "nats/frame", ""))
    y = head.draw(logits.expand(1, 1, N, 6), uniforms(head.draws).view(1, 1, N, -1), temperature)[0, 0]
    p = 1 / (1 + np.exp(-logits.double().numpy() / temperature))
    chords = np.array(list(itertools.product((0, 1), repeat=6)))
    expected = N * np.prod(np.where(chords, p, 1 - p), 1)
    found = np.bincount((y.numpy().astype(int) * 2 ** np.arange(6)[::-1]).sum(1), minlength=64)
    rare = expected < 5
    found, expected = (np.append(v[~rare], v[rare].sum()) for v in (found, expected))
    found, expected = (v[expected > 0] for v in (found, expected))
    assert chisquare(found, expected).pvalue > LIKELY


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_samples_fall_where_the_mixture_has_its_density(temperature):
    """Two targets, three components, 8 x 8 cells of both: exact by normal distribution functions."""
    head = Three(2)
    logits = np.log([0.5, 0.3, 0.2])
    mean, sigma = np.array([[-1.0, 0.5], [1.0, -0.5], [0.2, 2.0]]), np.array([[0.3, 0.5], [0.8, 0.2], [0.1, 1.0]])
    out = torch.from_numpy(np.concatenate([logits, mean.ravel(), np.log(sigma).ravel()])).float()
    y = head.draw(out.expand(1, 1, N, -1), uniforms(head.draws).view(1, 1, N, -1), temperature)[0, 0].double().numpy()
    share = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    edges = np.r_[-np.inf, np.linspace(-1.5, 2.5, 7), np.inf]
    cells = np.diff(norm.cdf(edges[:, None, None], mean, np.sqrt(temperature) * sigma), axis=0)  # [8, M, K]
    expected = N * np.einsum("m,am,bm->ab", share, cells[..., 0], cells[..., 1]).ravel()
    within = np.r_[-1e9, edges[1:-1], 1e9]
    found = np.histogram2d(*y.T, [within, within])[0].ravel()
    common = expected >= 5
    found, expected = (np.append(v[common], v[~common].sum()) for v in (found, expected))
    assert chisquare(found, expected).pvalue > LIKELY


def test_the_density_of_what_a_mixture_draws_is_its_entropy():
    """The mean of -ln p over draws, against the same by integration on a grid: `nats` and `draw` mean one density."""
    head = Three(1)
    g = torch.Generator().manual_seed(0)
    out = torch.randn(head.outputs, generator=g).expand(1, 1, N, -1)
    drawn = head.nats(out, head.draw(out, uniforms(2).view(1, 1, N, -1)))
    grid = torch.linspace(-40, 40, N).view(1, 1, N, 1)
    nats = head.nats(out.double(), grid.double())[0, 0]
    entropy = float((nats * (-nats).exp()).sum() * 80 / (N - 1))
    assert float(drawn.mean()) == pytest.approx(entropy, abs=4 * float(drawn.std()) / N**0.5)


def test_extreme_outputs_draw_what_they_must():
    keys = head_for(Task("made up", 3, 3, "Bernoulli", "nats/frame", ""))
    logits = torch.tensor([-6e4, 6e4, -40.0]).expand(1, 1, 1000, 3)
    assert keys.draw(logits, uniforms(3, 1000).view(1, 1, 1000, 3)).unique(dim=2).flatten().tolist() == [0, 1, 0]
    mixture = head_for(Task("made up", 20, 10, "GaussianMixture", "nats/step", ""))
    certain = torch.zeros(mixture.outputs)
    certain[7] = 6e4  # one component alone, at 3, as narrow as there is
    certain[20 + 70 : 20 + 80], certain[220:] = 3.0, -1e3
    drawn = mixture.draw(certain.expand(1, 1, 1000, -1), uniforms(11, 1000).view(1, 1, 1000, 11))
    assert (drawn - 3).abs().max() < 10 * mixture.MIN_SIGMA
    assert drawn.std() > 0.5 * mixture.MIN_SIGMA
    on = int(keys.draw(torch.zeros(1, 1, 1000, 3), uniforms(3, 1000).view(1, 1, 1000, 3)).sum())
    assert binom(3000, 0.5).cdf(on) == pytest.approx(0.5, abs=0.499)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_classes_are_drawn_as_often_as_the_softmax_says(temperature):
    logits = torch.tensor([-3.0, -1.0, 0.0, 0.5, 2.0, 4.0, -200.0])
    head = head_for(Task("made up", 7, 7, "Categorical", "nats/word", ""))
    y = head.draw(logits.expand(1, 1, N, 7), uniforms(head.draws).view(1, 1, N, -1), temperature)
    assert y.shape == (1, 1, N, 1)
    p = np.exp(logits.double().numpy() / temperature)
    found = np.bincount(y.flatten().long().numpy(), minlength=7)
    assert found[-1] == 0
    assert chisquare(found[:-1], N * p[:-1] / p[:-1].sum()).pvalue > LIKELY


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_numbers_are_drawn_as_the_bound_of_their_task_says(temperature):
    head = head_for(Task("made up", 2, 2, "Gaussian", "nats/step", ""))
    y = head.draw(torch.tensor([-1.0, 2.0]).expand(1, 1, N, 2), uniforms(head.draws).view(1, 1, N, -1), temperature)
    for k, mean in enumerate((-1.0, 2.0)):
        assert kstest(y[0, 0, :, k].numpy(), norm(mean, 0.04 * temperature**0.5).cdf).pvalue > LIKELY
