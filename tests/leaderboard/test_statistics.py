"""Intervals and tests against scipy on the same input, and against simulated truth."""

import itertools

import numpy as np
import pytest
import scipy.stats

from leaderboard.statistics import compare, estimate, holm, shares


def made_up(rng, units=2, seeds=5, sequences=40, effect=0.0, spread=0.05):
    """Nats [seeds, sequences] of each unit: sequences differ in length and difficulty, units in how they cope."""
    frames = rng.integers(20, 200, sequences).astype(float)
    difficulty = rng.normal(8.5, 1.0, sequences)
    taste = rng.normal(0, 0.2, (units, 1, sequences))
    luck = rng.normal(0, spread, (units, seeds, 1))
    rest = rng.normal(0, 0.05, (units, seeds, sequences))
    level = difficulty + taste + luck + rest + effect * np.arange(units)[:, None, None]
    return list(level * frames), frames


def test_estimate_agrees_with_scipy():
    values = np.random.default_rng(0).normal(8.5, 0.2, 7)
    found = estimate(values.tolist())
    low, high = scipy.stats.t.interval(0.95, 6, loc=values.mean(), scale=scipy.stats.sem(values))
    assert found.mean == pytest.approx(values.mean(), abs=1e-9)
    assert found.interval == pytest.approx((high - low) / 2, abs=1e-9)
    assert estimate([3.0]).interval is None
    assert estimate([]) is None


def test_one_seed_is_scipys_paired_test_over_sequences():
    rng = np.random.default_rng(1)
    (a, b), _ = made_up(rng, seeds=1)
    even = np.full(a.shape[1], 60.0)
    (found,) = compare([a, b], even)
    expected = scipy.stats.ttest_rel(a[0] / even, b[0] / even)
    assert found.p == pytest.approx(expected.pvalue, rel=5e-3)
    assert found.difference == pytest.approx((a.sum() - b.sum()) / even.sum(), abs=1e-9)


def test_one_sequence_is_scipys_paired_test_over_seeds():
    (a, b), frames = made_up(np.random.default_rng(2), sequences=1)
    (found,) = compare([a, b], frames)
    assert found.p == pytest.approx(scipy.stats.ttest_rel(a[:, 0], b[:, 0]).pvalue, rel=5e-3)


@pytest.mark.parametrize("seeds", [2, 5])
def test_both_are_clarks_min_f_of_scipys_two_tests(seeds):
    (a, b), frames = made_up(np.random.default_rng(3), seeds=seeds, effect=0.1)
    (found,) = compare([a, b], frames)
    over_seeds = scipy.stats.ttest_rel(a.sum(1) / frames.sum(), b.sum(1) / frames.sum())
    over_sequences = scipy.stats.ttest_1samp(shares((a - b).mean(0), frames), 0)
    f1, f2 = over_seeds.statistic**2, over_sequences.statistic**2
    degrees = (f1 + f2) ** 2 / (f1**2 / (len(frames) - 1) + f2**2 / (seeds - 1))
    assert found.p == pytest.approx(scipy.stats.f.sf(f1 * f2 / (f1 + f2), 1, degrees), rel=5e-3)


def test_the_difference_is_that_of_the_reported_figures_and_shares_average_to_it():
    (a, b), frames = made_up(np.random.default_rng(4), effect=0.3)
    (found,) = compare([a, b], frames)
    reported = [np.mean([run.sum() / frames.sum() for run in unit]) for unit in (a, b)]
    assert found.difference == pytest.approx(reported[0] - reported[1], abs=1e-8)
    assert shares((a - b).mean(0), frames).mean() == pytest.approx(found.difference, abs=1e-8)


def test_without_an_effect_few_are_told_apart_and_with_one_most():
    rng = np.random.default_rng(5)
    false = sum(compare(*made_up(rng, spread=0.1))[0].significant for _ in range(1000))
    true = sum(compare(*made_up(rng, effect=0.3, spread=0.1))[0].significant for _ in range(200))
    assert 10 <= false <= 60, "the level is 0.05 and the test errs on the side of caution"
    assert true > 150


def test_holm_is_the_closed_test_of_bonferroni():
    """Its definition: a pair is told apart if every set of pairs that holds it has one with p below level / size."""
    rng = np.random.default_rng(6)
    for _ in range(50):
        p = [float(f"{v:.3g}") for v in rng.uniform(0, 0.06, 5)]
        sets = [s for n in range(1, 6) for s in itertools.combinations(range(5), n)]
        closed = [max(min(min(p[j] for j in s) * len(s), 1) for s in sets if i in s) for i in range(5)]
        assert holm(p) == pytest.approx(closed, rel=5e-3)
    assert holm([]) == []


def test_what_cannot_be_told_apart_is_not():
    a = np.array([[400.0, 500.0]])
    same, shifted, (single,) = (
        compare([a, a], np.array([50.0, 60.0]))[0],
        compare([a, a + 0.1 * np.array([50.0, 60.0])], np.array([50.0, 60.0]))[0],
        compare([a[:, :1], a[:, 1:]], np.array([50.0])),
    )
    assert (same.difference, same.p, same.significant) == (0, 1, False)
    assert shifted.significant, "the same difference on every frame of every sequence"
    assert (single.p, single.holm, single.significant) == (None, None, False)
    assert compare([a], np.array([50.0, 60.0])) == []
