"""Grouping, counting, means, ranks, floors and published rows, against numpy and scipy."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import scipy.stats

from seqbench.leaderboard.columns import COLUMNS, MAIN
from seqbench.leaderboard.curves import average, limits, thin
from seqbench.leaderboard.figures import looks, spread
from seqbench.task import SeqbenchError


def test_rows_are_seeds_of_one_setting(factory):
    levels = {"tanh": 9.0, "GRU": 8.4, "LSTM": 8.6}
    records = [factory.make(c, seed, nll, noise=0.05) for c, nll in levels.items() for seed in range(4)]
    (table,) = factory.board_of(*reversed(records)).tables
    assert [(row.name, len(row.runs)) for row in table.ranked] == [("GRU", 4), ("LSTM", 4), ("tanh", 4)]
    for row in table.ranked:
        runs = [r for r in records if r.cell.name == row.name]
        assert [run.seed for run in row.runs] == [0, 1, 2, 3]
        tested = [sum(r.test.nats) / sum(r.test.frames) for r in runs]
        assert row.test.mean == pytest.approx(np.mean(tested), abs=1e-8)
        assert row.test.interval == pytest.approx(scipy.stats.sem(tested) * scipy.stats.t.ppf(0.975, 3), abs=1e-7)
        sequence = np.mean([np.mean(np.divide(r.test.nats, r.test.frames)) for r in runs])
        assert row.score("nll_sequence").mean == pytest.approx(sequence, abs=1e-8)
        shown = factory.cells(row)
        assert shown["valid"] == f"{np.mean([min(r.curve.valid) for r in runs]):.3f}"
        best = [int(np.argmin(r.curve.valid)) for r in runs]
        assert float(shown["best_epoch"]) == pytest.approx(np.mean(best) + 1, abs=0.05)
        for split in ("train", "valid"):
            assert shown[split] == f"{np.mean([getattr(r, split).nll for r in runs]):.3f}"
            weighted = np.mean([getattr(r, split).nll_sequence for r in runs])
            assert shown[f"{split}_sequence"].startswith(f"{weighted:.3f} ± ")
        near = [next(e for e, v in enumerate(r.curve.valid, 1) if v <= 1.01 * min(r.curve.valid)) for r in runs]
        assert float(shown["near_best"]) == pytest.approx(0.6 * np.mean(near), abs=0.051)
        assert float(shown["throughput"]) == pytest.approx(15 / 0.6)


def test_units_that_cannot_be_told_apart_share_a_letter(factory):
    """By scipy's tests, draws of their sum, and Bonferroni's correction."""
    levels = {"GRU": 8.5, "LSTM": 8.53, "NP": 8.9, "tanh": 10.0}
    records = [factory.make(c, seed, nll, noise=0.02) for c, nll in levels.items() for seed in range(4)]
    (table,) = factory.board_of(*records).tables
    frames = np.array(records[0].test.frames, dtype=float)
    nats = {row.name: np.array([run.test.nats for run in row.runs]) for row in table.ranked}
    rng = np.random.default_rng(0)
    apart = set()
    for a, b in itertools.combinations(nats, 2):
        d = (nats[a] - nats[b]).mean(0)
        ratio = d.sum() / frames.sum()
        over_sequences = scipy.stats.sem(ratio + (d - ratio * frames) / frames.mean())
        seeds = scipy.stats.ttest_ind(*(nats[u].sum(1) / frames.sum() for u in (a, b)), equal_var=False)
        over_seeds = abs(ratio / seeds.statistic)
        drawn = over_seeds * rng.standard_t(int(seeds.df), 10**6) + over_sequences * rng.standard_t(6, 10**6)
        half = np.quantile(abs(drawn), 1 - 0.05 / 6)
        found = table.against(*(next(row for row in table.ranked if row.name == u) for u in (a, b)))
        assert found.difference == pytest.approx(ratio, abs=1e-8)
        assert found.interval == pytest.approx(half, rel=0.03)
        apart |= {(a, b)} if abs(ratio) > half else set()
    assert 0 < len(apart) < 6
    letters = {row.name: set(row.letters) for row in table.ranked}
    assert all(bool(letters[a] & letters[b]) == ((a, b) not in apart) for a, b in itertools.combinations(nats, 2))


def test_both_intervals_of_a_unit(factory):
    """Over seeds alone, and, wider, over pieces too: by draws of the sum of both errors."""
    runs = [factory.make("GRU", seed, 8.5, noise=0.1) for seed in range(4)]
    (row,) = factory.board_of(*runs).tables[0].units
    nats, frames = np.array([run.test.nats for run in runs]), np.array(runs[0].test.frames, dtype=float)
    ratio = nats.mean(0).sum() / frames.sum()
    sequences = scipy.stats.sem(ratio + (nats.mean(0) - ratio * frames) / frames.mean())
    rng = np.random.default_rng(0)
    seeds = scipy.stats.sem(nats.sum(1) / frames.sum())
    drawn = seeds * rng.standard_t(3, 10**6) + sequences * rng.standard_t(6, 10**6)
    assert row.pieces == pytest.approx(np.quantile(abs(drawn), 0.95), rel=0.02)
    assert row.pieces > row.test.interval


def test_equal_runs_share_a_letter(factory):
    same = factory.make("GRU", 0, 8.5)
    twin = factory.make("LSTM", 0, 8.5, test=same.test)
    (table,) = factory.board_of(same, twin).tables
    assert [row.letters for row in table.ranked] == ["a", "a"]


def test_curves_of_every_tenth_epoch_say_so(factory):
    run = factory.make("GRU", epochs=5)
    run = dataclasses.replace(run, curve=dataclasses.replace(run.curve, every=10), best_epoch=49)
    (table,) = factory.board_of(run).tables
    assert average(table.units[0]).epoch == [10, 20, 30, 40, 50]
    assert factory.cells(table.units[0])["epochs"] == "50"
    assert float(factory.cells(table.units[0])["throughput"]) == pytest.approx(15 * 50 / 3.0)


def test_runs_tested_on_other_sequences_are_refused_by_name(factory):
    one, other = factory.make("GRU"), factory.make("LSTM")
    swapped = dataclasses.replace(other.test, frames=other.test.frames[::-1])
    with pytest.raises(SeqbenchError, match=r"file 0 and file 1 .*different sequences"):
        factory.board_of(one, dataclasses.replace(other, test=swapped))


def test_all_rows_stand_in_order_of_nll(factory):
    (table,) = factory.board_of(factory.make("GRU", 0, 8.6), factory.diverged("tanh")).tables
    means = [row.test.mean for row in table.rows[:-1]]
    assert means == sorted(means)
    assert table.rows[-1].name == "tanh"
    assert table.rows[-1].test is None
    published = [row for row in table.rows if row.kind == "published"]
    assert sorted(row.test.mean for row in published) == [8.10, 8.43, 8.45, 8.54, 8.67, 8.91, 9.10]
    floors = {row.name: row.test.mean for row in table.rows if row.kind == "floor"}
    assert floors == {"note unigram": 11.091, "per-key Markov": 10.48}
    assert [row.letters for row in table.rows if row.kind != "unit"] == [None] * 9
    after_ours = [row.name for row in table.rows if row.test and row.test.mean > 8.6 and row.kind == "published"]
    assert after_ours == ["LSTM", "tanh", "tanh"]


def test_runs_that_were_lost_are_counted_but_not_averaged(factory):
    fine = [factory.make("GRU", seed, 8.5) for seed in range(2)]
    half = factory.make("GRU", 4, status="diverged", test=None)  # in its first epoch
    failed = factory.make("GRU", 3, status="failed", test=None)
    untested = factory.make("GRU", 5, test=None)
    (table,) = factory.board_of(*fine, half, failed, untested).tables
    row = next(row for row in table.rows if row.kind == "unit")
    assert row.test.mean == pytest.approx(8.5, abs=1e-3)
    shown = factory.cells(row)
    assert (shown["n"], shown["runs"], shown["lost"]) == ("2", "5", "1 diverged, 1 failed, 1 untested")


def test_two_states_of_one_data_set_are_two_tables(factory):
    one = factory.make("GRU")
    other = factory.make("GRU", seed=1)
    other = dataclasses.replace(other, task=dataclasses.replace(other.task, digest="f" * 64), floors={})
    tables = factory.board_of(one, other).tables
    told = "JSB Chorales, 20k in the recurrent layer (data {})"
    assert [table.heading for table in tables] == [told.format("33333333"), told.format("ffffffff")]
    assert len({table.slug for table in tables}) == 2


def test_namesakes_tell_what_differs_and_options_are_part_of_a_name(factory):
    a, b = factory.make("GRU"), factory.with_config(factory.make("GRU", nll=8.6), "model", noise=0.0)
    option = factory.make("LSTM")
    option = dataclasses.replace(option, cell=dataclasses.replace(option.cell, options={"peepholes": False}))
    (table,) = factory.board_of(a, b, option).tables
    assert {row.name for row in table.units} == {"GRU", "GRU [noise=0.0]", "LSTM(peepholes=False)"}


def test_floors_must_agree_within_rounding(factory):
    floors = factory.FLOORS["jsb"]

    def with_unigram(nll):
        return factory.make("LSTM", floors={"note unigram": dataclasses.replace(floors["note unigram"], nll=nll)})

    near = factory.make("GRU"), with_unigram(11.091 + 1e-8), factory.make("tanh", floors={})
    assert factory.board_of(*near) == factory.board_of(*reversed(near))
    with pytest.raises(SeqbenchError, match=r"file 0 and file 1 .*note unigram"):
        factory.board_of(factory.make("GRU"), with_unigram(11.092))


def test_one_run_cannot_have_two_contents(factory):
    record = factory.make("GRU")
    assert len(factory.board_of(record, record).tables[0].units[0].runs) == 1
    with pytest.raises(SeqbenchError, match=r"file 0 and file 1 are both run jsb-gru-"):
        factory.board_of(record, dataclasses.replace(record, seconds=1.0))


def test_column_names_are_unique_and_explained():
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)
    assert all(column.help and column.header for column in COLUMNS)
    wanted = {
        "letters",
        "unit",
        "pieces",
        "recurrent",
        "total",
        "test",
        "n",
        "planned",
        "lost",
        "valid",
        "rate",
        "train",
        "epochs",
    }
    wanted |= {"near_best", "seconds", "throughput", "device", "precision", "commit", "reference", "marks"}
    wanted |= {"reference_sequence", "verdict"}
    told = {column.name: column.help for column in COLUMNS}
    for name in ("reference", "reference_sequence", "verdict"):
        assert "their convention is not known" in told[name]
    assert wanted <= {column.name for column in MAIN}


def test_mean_curves_end_with_the_shortest_run(factory):
    runs = [factory.make("GRU", seed, epochs=30 + seed, noise=0.1) for seed in range(3)]
    (table,) = factory.board_of(*runs).tables
    line = average(table.units[0])
    assert line.epoch == list(range(1, 31))
    valid = np.array([run.curve.valid[:30] for run in runs])
    np.testing.assert_allclose(line.valid, valid.mean(0), atol=1e-6)
    train = np.array([run.curve.train[:30] for run in runs])
    np.testing.assert_allclose(line.train, train.mean(0), atol=1e-6)
    np.testing.assert_allclose([line.train_low, line.train_high], [train.min(0), train.max(0)])
    np.testing.assert_allclose(line.low, valid.min(0))
    np.testing.assert_allclose(line.high, valid.max(0))
    np.testing.assert_allclose(line.seconds, [run_seconds * 0.6 for run_seconds in range(1, 31)], atol=1e-6)


def test_what_is_not_finite_leaves_a_gap(factory):
    run = factory.make("GRU", epochs=5)
    curve = dataclasses.replace(run.curve, train=[None, *run.curve.train[1:]])
    (table,) = factory.board_of(dataclasses.replace(run, curve=curve)).tables
    line = average(table.units[0])
    assert math.isnan(line.train[0])
    assert all(map(math.isfinite, limits([line])))


def test_limits_cut_the_first_epochs_off_and_keep_the_rest(factory):
    (table,) = factory.board_of(factory.make("GRU", epochs=200)).tables
    line = average(table.units[0])
    low, high = limits([line])
    assert low < min(line.valid + line.train)
    assert max(line.valid[20:]) < high < line.valid[0]


def test_a_unit_that_learns_late_does_not_flatten_the_others(factory):
    usual = [
        average(factory.board_of(factory.make(cell, epochs=200)).tables[0].units[0]) for cell in ("GRU", "tanh", "LSTM")
    ]
    late = dataclasses.replace(usual[0], valid=[50.0] * 150 + usual[0].valid[150:])
    low, high = limits(usual)
    assert limits([*usual, late])[1] < high + 2 * (high - low) < 50
    assert limits([*usual, late])[0] == pytest.approx(low, abs=1)


def test_long_curves_are_thinned_to_the_last_point():
    kept = thin(4321)
    assert (kept[0], kept[-1], len(set(kept))) == (0, 4320, 60)
    assert thin(3) == [0, 1, 2]


def test_labels_keep_their_distance_and_order():
    placed = spread([0.5, 0.5, 0.99, 1.0, 0.0], 0.1)
    ordered = sorted(placed)
    assert all(b - a > 0.0999 for a, b in itertools.pairwise(ordered))
    assert max(placed) <= 1.0
    assert placed.index(min(placed)) == 4
    assert placed.index(max(placed)) == 3


def test_a_unit_has_one_colour_on_all_data_sets(factory):
    board = factory.board_of(
        *(factory.make(c, task=t) for c in ("tanh", "GRU", "LSTM") for t in ("jsb", "bach")),
        factory.make("GRU", 0, 8.9, rate=1e-2),
    )
    found = looks(board)
    by_unit = {}
    for table in board.tables:
        seen = set()
        for row in table.units:
            if row.unit not in seen:
                by_unit.setdefault(row.unit, set()).add(found[row.anchor])
            seen.add(row.unit)
        assert len({found[row.anchor] for row in table.units}) == len(table.units)
    assert all(len(colours) == 1 for colours in by_unit.values())


def test_each_protocol_has_a_table_of_its_own(factory):
    records = [factory.with_config(factory.make("GRU"), "run", protocol=how) for how in ("chung2014", "levy2018")]
    tables = factory.board_of(*records).tables
    usual = "JSB Chorales, 20k in the recurrent layer"
    assert [table.heading for table in tables] == [usual, f"{usual}, Levy et al. 2018"]
    assert len({table.slug for table in tables}) == 2
    assert any(row.kind == "published" for row in tables[0].rows)
    assert not any(row.kind == "published" for row in tables[1].rows)


def test_bits_per_sample_of_uniform_noise(factory):
    """A unit that knows no more than that samples are uniform over 2^12 steps pays 12 bits for each, at any scale."""
    for scale in (1.0, 731.5):
        run = factory.make("GRU", nll=88 * (12 * math.log(2) - math.log(scale)), scale=scale)
        (row,) = factory.board_of(run).tables[0].units
        assert float(factory.cells(row)["bits"]) == pytest.approx(12, abs=1e-3)
    assert factory.cells(factory.board_of(factory.make("GRU")).tables[0].units[0])["bits"] == "–"
