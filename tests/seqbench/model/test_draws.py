"""Draws of training: normal or a share, a function of seed, purpose, step and place; compiled the same as in torch."""

import numpy as np
import pytest
import torch
from scipy import stats

from seqbench.model.draws import fill_normal, kept, noisy, normal
from seqbench.task import draw_words


def filled(seeds: list[int], count: int, step: int = 0, purpose: str = "noise", compiled: bool = True) -> torch.Tensor:
    rows = torch.zeros(len(seeds), count + 5)
    fill_normal(rows, count, seeds, purpose, step, compiled)
    assert not rows[:, count:].any()
    return rows[:, :count]


@pytest.mark.parametrize("count", [1, 2, 511, 1024, 1025, 24_040])
def test_compiled_and_in_torch_the_draws_are_the_same(count):
    words = [draw_words(seed, "noise", 3) for seed in (0, 1, 7)]
    torch.testing.assert_close(filled([0, 1, 7], count, 3), normal(count, words), rtol=2e-6, atol=1e-6)
    assert torch.equal(filled([0, 1, 7], count, 3, compiled=False), normal(count, words))


def test_the_equations_against_float64():
    """Box and Muller's, from words mixed in Python's whole numbers."""
    k0, k1 = draw_words(5, "noise", 9)

    def mixed(x: int) -> int:
        x ^= x >> 16
        x = x * 0x7FEB352D % 2**32
        x ^= x >> 15
        x = x * 0x846CA68B % 2**32
        return x ^ x >> 16

    found = filled([5], 101, 9)[0].double().numpy()
    for i in (0, 1, 17, 50):
        a, b = (mixed(mixed((2 * i + part + k0) % 2**32) ^ k1) for part in (0, 1))
        radius, angle = np.sqrt(-2 * np.log(((a >> 8) + 0.5) / 2**24)), 2 * np.pi * (b / 2**32 - 1 / 8)
        assert found[i] == pytest.approx(radius * np.cos(angle), abs=2e-6)
        if 51 + i < 101:
            assert found[51 + i] == pytest.approx(radius * np.sin(angle), abs=2e-6)


def test_a_million_draws_are_normal():
    x = filled(list(range(20)), 50_000).double().flatten().numpy()
    assert abs(x.mean()) < 4e-3
    assert x.var() == pytest.approx(1, abs=6e-3)
    assert abs(stats.skew(x)) < 0.01
    assert abs(stats.kurtosis(x)) < 0.02
    assert stats.kstest(x, "norm").pvalue > 1e-3
    assert 4.5 < np.abs(x).max() < 6


def test_rows_steps_purposes_and_neighbours_are_independent():
    others = [filled([0], 40_000, 1), filled([0], 40_000, 2), filled([0], 40_000, 0, "other")]
    rows = torch.cat([filled([0, 1, 2, 1000], 40_000), *others])
    rows = torch.cat([rows, rows[:1].roll(1, 1), rows[:1].roll(20_000, 1), rows[:1] ** 2 - 1, rows[4:5] ** 2 - 1])
    correlation = np.corrcoef(rows.double().numpy())
    # 5 standard deviations; squares have a heavier tail.
    assert np.abs(correlation - np.diag(np.diag(correlation))).max() < 5 / 40_000**0.5


def test_a_row_does_not_depend_on_the_rows_beside_it():
    assert torch.equal(filled([3, 8, 5], 777)[1], filled([8], 777)[0])


def dropped(shape: tuple[int, ...], p: float, seeds: list[int], layer: int = 1, step: int = 0) -> torch.Tensor:
    """1 where something is left out."""
    return (~kept(torch.Size(shape), p, seeds, f"up {layer}", step, torch.device("cpu"))).double()


@pytest.mark.parametrize("p", [0.1, 0.5, 0.65])
def test_dropout_leaves_out_its_share_of_every_unit_and_step(p):
    out = dropped((40, 3, 20, 100), p, [0, 1, 2])
    assert out.mean() == pytest.approx(p, abs=4e-3)
    for axes, n in (((0, 1, 2), 2400), ((1, 2, 3), 6000), ((0, 2, 3), 80_000)):
        assert (out.mean(axes) - p).abs().max() < 5 * (p * (1 - p) / n) ** 0.5
    others = [dropped((40, 1, 20, 100), p, [0], layer, step).flatten() for layer, step in ((2, 0), (1, 1))]
    rows = torch.stack([*out.transpose(0, 1).flatten(1), *others])
    correlation = np.corrcoef(rows.numpy()) - np.eye(5)
    assert np.abs(correlation).max() < 0.02


def test_dropout_of_a_longer_batch_begins_with_that_of_a_shorter_one():
    """So that a replica has what it would have alone, whatever the longest sequence beside it."""
    assert torch.equal(dropped((30, 2, 4, 7), 0.5, [3, 8])[:12, 1:], dropped((12, 1, 4, 7), 0.5, [8]))


@pytest.mark.parametrize("compiled", [False, True])
def test_noise_on_inputs_is_a_replicas_own_whatever_is_beside_it(compiled):
    x = torch.full((50, 2, 8, 3), 5.0)
    both = noisy(x, 0.5, [50, 20], [3, 4], 7, compiled)
    alone = noisy(x[:20, 1:], 0.5, [20], [4], 7, compiled)
    assert torch.equal(both[:20, 1:], alone)
    assert torch.equal(both[20:, 1], x[20:, 1])
    drawn = both[:, 0] - 5
    assert float(drawn.mean()) == pytest.approx(0, abs=0.06)
    assert float(drawn.std()) == pytest.approx(0.5, abs=0.05)
    assert not torch.equal(both, noisy(x, 0.5, [50, 20], [3, 4], 8, compiled))
