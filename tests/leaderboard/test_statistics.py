"""Intervals and tests against scipy on the same input, and against simulated truth."""

import itertools

import numpy as np
import pytest
import scipy.stats

from seqbench.leaderboard.statistics import behrens_fisher, compare, estimate, holm, shares


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


def by_integration(D, s1, n1, s2, n2):
    """P(|s1 t(n1) + s2 t(n2)| > D) by the trapezoidal rule over scipy's density of the first."""
    u = np.sinh(np.linspace(-15, 15, 50_001))
    return 2 * np.trapezoid(scipy.stats.t.pdf(u, n1) * scipy.stats.t.sf((D - s1 * u) / s2, n2), u)


@pytest.mark.parametrize("seeds", [2, 5])
def test_both_are_scipys_two_tests_taken_together(seeds):
    (a, b), frames = made_up(np.random.default_rng(3), seeds=seeds, effect=0.1)
    (found,) = compare([a, b], frames)
    over_seeds = scipy.stats.ttest_rel(a.sum(1) / frames.sum(), b.sum(1) / frames.sum())
    over_sequences = scipy.stats.ttest_1samp(shares((a - b).mean(0), frames), 0)
    D = abs(found.difference)
    errors = [D / abs(test.statistic) for test in (over_seeds, over_sequences)]
    expected = by_integration(D, errors[0], seeds - 1, errors[1], len(frames) - 1)
    assert found.p == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("ratio", [1e-4, 0.03, 0.5, 1.0, 2.0, 30.0, 1e4])
@pytest.mark.parametrize("D", [0.5, 3.0, 12.0])
@pytest.mark.parametrize("n1", [1, 2, 4])
def test_behrens_fisher_agrees_with_scipys_densities(ratio, D, n1):
    s1, s2 = (1.0, ratio) if ratio < 1 else (1 / ratio, 1.0)
    (found,) = behrens_fisher(*(np.array([v]) for v in (D, s1)), n1, np.array([s2]), 76)
    expected = by_integration(D, s1, n1, s2, 76)
    assert found == pytest.approx(expected, rel=0.01, abs=1e-5)


def test_behrens_fisher_agrees_with_draws():
    rng = np.random.default_rng(9)
    drawn = abs(0.7 * rng.standard_t(2, 400_000) + 1.1 * rng.standard_t(30, 400_000))
    for D in (1.0, 3.0, 6.0):
        (found,) = behrens_fisher(np.array([D]), np.array([0.7]), 2, np.array([1.1]), 30)
        assert found == pytest.approx((drawn > D).mean(), rel=0.05)


def test_the_difference_is_that_of_the_reported_figures_and_shares_average_to_it():
    (a, b), frames = made_up(np.random.default_rng(4), effect=0.3)
    (found,) = compare([a, b], frames)
    reported = [np.mean([run.sum() / frames.sum() for run in unit]) for unit in (a, b)]
    assert found.difference == pytest.approx(reported[0] - reported[1], abs=1e-8)
    assert shares((a - b).mean(0), frames).mean() == pytest.approx(found.difference, abs=1e-8)


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.3])
def test_without_an_effect_small_p_values_are_as_rare_as_they_say(spread):
    """At the levels where a correction for many pairs looks, too, and however much seeds matter beside sequences."""
    rng = np.random.default_rng(5)
    p = np.array([compare(*made_up(rng, seeds=3, sequences=77, spread=spread))[0].p for _ in range(3000)])
    for level in (0.05, 0.01, 0.003):
        assert (p < level).sum() <= scipy.stats.binom.ppf(0.999, len(p), level)


def test_a_true_difference_is_told():
    rng = np.random.default_rng(8)
    assert sum(compare(*made_up(rng, effect=0.3, spread=0.05))[0].significant for _ in range(200)) > 180


def test_of_many_equal_units_seldom_any_pair_is_told_apart():
    """Fifteen pairs a table; uncorrected, a third of such tables would tell some apart."""
    rng = np.random.default_rng(7)
    tables = [compare(*made_up(rng, units=6, spread=0.2)) for _ in range(200)]
    assert sum(any(c.p < 0.05 for c in table) for table in tables) > 40
    assert sum(any(c.significant for c in table) for table in tables) < 15


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
