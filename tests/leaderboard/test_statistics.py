"""Intervals and tests against scipy on the same input, and against simulated truth."""

import itertools

import numpy as np
import pytest
import scipy.stats

from seqbench.leaderboard.statistics import (
    behrens_fisher,
    compare,
    estimate,
    half_width,
    letters,
    over_pieces,
    prediction,
    shares,
    welch,
)


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


def test_one_sequence_is_welchs_test_over_seeds():
    """With as much scatter in both 2n - 2 degrees of freedom; never more, as scipy has it but for whole numbers."""
    (a, b), frames = made_up(np.random.default_rng(2), sequences=1)
    (found,) = compare([a, b], frames)
    expected = scipy.stats.ttest_ind(a[:, 0], b[:, 0], equal_var=False)
    assert welch(0.3, 0.3, 5) == 8
    assert welch(0.3, 0.0, 5) == 4
    error = abs(found.difference / expected.statistic)
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(abs(found.difference) / error, int(expected.df)), rel=5e-3)


def by_integration(D, s1, n1, s2, n2):
    """P(|s1 t(n1) + s2 t(n2)| > D) by the trapezoidal rule over scipy's density of the first."""
    u = np.sinh(np.linspace(-15, 15, 50_001))
    return 2 * np.trapezoid(scipy.stats.t.pdf(u, n1) * scipy.stats.t.sf((D - s1 * u) / s2, n2), u)


@pytest.mark.parametrize("seeds", [2, 5])
def test_both_are_scipys_two_tests_taken_together(seeds):
    (a, b), frames = made_up(np.random.default_rng(3), seeds=seeds, effect=0.1)
    (found,) = compare([a, b], frames)
    totals = a.sum(1) / frames.sum(), b.sum(1) / frames.sum()
    over_seeds = scipy.stats.ttest_ind(*totals, equal_var=False)
    over_sequences = scipy.stats.ttest_1samp(shares((a - b).mean(0), frames), 0)
    D = abs(found.difference)
    errors = [D / abs(test.statistic) for test in (over_seeds, over_sequences)]
    expected = by_integration(D, errors[0], int(over_seeds.df), errors[1], len(frames) - 1)
    assert found.p == pytest.approx(expected, rel=5e-3)
    edge = by_integration(found.interval, errors[0], int(over_seeds.df), errors[1], len(frames) - 1)
    assert edge == pytest.approx(0.05, rel=5e-3)


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
    p = np.array([compare(*made_up(rng, seeds=3, sequences=77, spread=spread))[0].p for _ in range(1000)])
    for level in (0.05, 0.01, 0.003):
        assert (p < level).sum() <= scipy.stats.binom.ppf(0.999, len(p), level)


def test_a_true_difference_is_told():
    rng = np.random.default_rng(8)
    assert sum(compare(*made_up(rng, effect=0.3, spread=0.05))[0].significant for _ in range(200)) > 180


def test_simultaneous_intervals_leave_out_0_exactly_where_units_are_told_apart():
    rng = np.random.default_rng(6)
    found = [c for _ in range(30) for c in compare(*made_up(rng, units=4, effect=0.06))]
    assert {c.significant for c in found} == {True, False}
    for c in found:
        assert c.significant == (abs(c.difference) > c.interval)
        assert c.corrected == pytest.approx(min(1, 6 * c.p), rel=0.01)
        assert (c.turned().difference, c.turned().interval) == (-c.difference, c.interval)


@pytest.mark.parametrize("level", [0.05, 0.05 / 36])
def test_half_widths_are_where_the_integral_gives_the_level(level):
    s1, s2 = np.array([0.0, 0.02, 0.3, 1.0, 5.0, 1.0, 0.0]), np.array([1.0, 1.0, 1.0, 0.7, 1.0, 0.0, 0.0])
    n1, n2 = np.array([4, 2, 8, 5, 3, 4, 4]), np.full(7, 76)
    found = half_width(level, s1, n1, s2, n2)
    assert found[0] == pytest.approx(scipy.stats.t.ppf(1 - level / 2, 76), rel=1e-3)
    assert found[5] == pytest.approx(scipy.stats.t.ppf(1 - level / 2, 4), rel=1e-3)
    assert found[6] == 0
    for k in range(1, 5):
        assert by_integration(found[k], s1[k], n1[k], s2[k], 76) == pytest.approx(level, rel=0.01)


def test_a_prediction_interval_holds_the_next_run():
    """Of 4,000 sixth values drawn like the first five, 95% lie within."""
    drawn = np.random.default_rng(10).normal(8.5, 0.1, (4000, 6))
    inside = [abs(row[5] - row[:5].mean()) <= prediction(row[:5].tolist()) for row in drawn]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.011)
    assert prediction([8.5]) is None


def searched(rng, units, seeds=5, sequences=77, luck=(0.03, 0.03, 0.03), gap=0.02, taste=0.15):
    """A table as a search makes it: of three rates, with all seeds each, each unit takes that of the lowest mean
    validation NLL, which runs that do well on test do well on too. All units are equal.

    Returns:
        Nats [seeds, sequences] of each unit, frames, and the true NLL of each at its rate: on these pieces, and on all.
    """
    frames = rng.integers(20, 200, sequences).astype(float)
    difficulty = rng.normal(8.5, 1.0, sequences)
    nats, here, everywhere = [], [], []
    for unit in range(units):
        test = rng.normal(0, 1, (3, seeds))
        valid = 0.7 * test + np.sqrt(1 - 0.7**2) * rng.normal(0, 1, (3, seeds))
        level = gap * np.arange(3)
        rate = (level + luck[unit] * valid.mean(1)).argmin()
        pieces = difficulty + rng.normal(0, taste, sequences) + level[rate]
        runs = pieces + luck[unit] * test[rate][:, None] + rng.normal(0, 0.1, (seeds, sequences))
        nats.append(runs * frames)
        here.append(pieces @ frames / frames.sum())
        everywhere.append(8.5 + level[rate])
    return nats, frames, here, everywhere


@pytest.mark.parametrize("luck", [(0.03, 0.03, 0.03), (0.01, 0.03, 0.2)])
def test_the_whole_method_on_simulated_searches(luck):
    """Choice of the rate inside: intervals cover 93 to 97%, equal units are told apart in at most 5% of tables."""
    rng = np.random.default_rng(12)
    over_seeds, over_both, apart = [], [], []
    for _ in range(300):
        nats, frames, here, everywhere = searched(rng, 3, luck=luck)
        for unit, truth, wider in zip(nats, here, everywhere, strict=True):
            found = estimate((unit.sum(1) / frames.sum()).tolist())
            over_seeds.append(abs(found.mean - truth) <= found.interval)
            over_both.append(abs(found.mean - wider) <= over_pieces(unit, frames))
        apart.append(any(c.significant for c in compare(nats, frames)))
    assert 0.93 <= np.mean(over_seeds) <= 0.97
    assert 0.93 <= np.mean(over_both) <= 0.97
    assert np.mean(apart) <= 0.05


def test_of_many_equal_units_seldom_any_pair_is_told_apart():
    """Fifteen pairs a table; uncorrected, a third of such tables would tell some apart."""
    rng = np.random.default_rng(7)
    tables = [compare(*made_up(rng, units=6, spread=0.2)) for _ in range(200)]
    assert sum(any(c.p < 0.05 for c in table) for table in tables) > 40
    assert sum(any(c.significant for c in table) for table in tables) < 15


@pytest.mark.parametrize("seed", range(20))
def test_two_units_share_a_letter_exactly_if_they_are_not_told_apart(seed):
    rng = np.random.default_rng(seed)
    apart = {pair for pair in itertools.combinations(range(7), 2) if rng.random() < 0.4}
    found = letters(7, apart)
    assert found[0].startswith("a")
    for i, j in itertools.combinations(range(7), 2):
        assert bool(set(found[i]) & set(found[j])) == ((i, j) not in apart)
    groups = [{i for i in range(7) if letter in found[i]} for letter in set("".join(found))]
    assert not any(a < b for a in groups for b in groups), "no letter says what another says already"


def test_a_copy_of_a_unit_moves_no_letter():
    """Ranks moved: who stood behind three equals was fourth, and fifth when one of them was there twice."""
    assert letters(3, [(0, 2), (1, 2)]) == ["a", "a", "b"]
    assert letters(4, [(0, 3), (1, 3), (2, 3)]) == ["a", "a", "a", "b"]


def test_what_cannot_be_told_apart_is_not():
    a = np.array([[400.0, 500.0]])
    same, shifted, (single,) = (
        compare([a, a], np.array([50.0, 60.0]))[0],
        compare([a, a + 0.1 * np.array([50.0, 60.0])], np.array([50.0, 60.0]))[0],
        compare([a[:, :1], a[:, 1:]], np.array([50.0])),
    )
    assert (same.difference, same.p, same.significant) == (0, 1, False)
    assert shifted.significant, "the same difference on every frame of every sequence"
    assert (single.p, single.interval, single.significant) == (None, None, False)
    assert compare([a], np.array([50.0, 60.0])) == []
