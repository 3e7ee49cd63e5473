"""A unit's best rate, what a complete unit has, and runs that did not come to their end; by hand."""

import dataclasses

import numpy as np
import pytest

from seqbench.leaderboard.claims import outcomes
from seqbench.leaderboard.curves import sensitivities
from seqbench.leaderboard.rows import DIVERGED
from seqbench.leaderboard.summary import grid, sentence
from seqbench.leaderboard.words import effort


def at(factory, cell, valid, rate, seed=0, **changes):
    """A run with this validation NLL; its test NLL is 0.1 more."""
    return factory.make(cell, seed, valid + 0.1, rate=rate, best_valid=valid, **changes)


def searched(factory, cell, level):
    """A complete sweep: four rates with seed 0, the three best with seeds 0, 1 and 2. The best by mean is 0.002."""
    found = {1e-3: (8.2, 8.8, 8.8), 2e-3: (8.4, 8.5, 8.6), 3e-3: (8.3, 8.7, 8.9), 4e-3: (9.9,)}
    return [at(factory, cell, level + nll, rate, seed) for rate, nlls in found.items() for seed, nll in enumerate(nlls)]


def test_the_best_rate_is_that_of_the_lowest_mean_and_finalists_confuse_nobody(factory):
    """Means 8.6, 8.5 and 8.633; seed 0 alone would choose 0.001."""
    (table,) = factory.board_of(*searched(factory, "GRU", 0.0), *searched(factory, "LSTM", 0.1)).tables
    for row in table.units:
        assert row.rate == 2e-3
        assert [run.seed for run in row.runs] == [0, 1, 2]
        assert len(row.searched) == 7
        assert row.lacks == []
    assert table.units[0].test.mean == pytest.approx(8.6, abs=1e-4)
    drawn = sensitivities(table)[0]
    assert dict(zip(drawn.rate, drawn.valid, strict=True)) == {1e-3: 8.6, 2e-3: 8.5, 3e-3: 8.633333, 4e-3: 9.9}
    assert {row.name for row in table.ranked} == {"GRU", "LSTM"}
    assert str(table.search) == "4 rates, the three best by validation with 3 seeds each"


def test_a_lucky_seed_of_the_search_is_no_best_rate(factory):
    """One rate with five seeds; others with one seed each, which did better."""
    runs = [at(factory, "GRU", 8.5, 2e-3, seed) for seed in range(5)]
    runs += [at(factory, "GRU", 8.1, 1e-3), at(factory, "GRU", 8.2, 4e-3)]
    (row,) = factory.board_of(*runs).tables[0].units
    assert (row.rate, len(row.runs), row.lacks) == (2e-3, 5, [])
    assert str(row.search) == "3 rates, the best by validation with 5 seeds"


def diverging(factory, valid: float):
    """Two rates with three seeds each; at 0.001 one diverged, with that validation NLL at its best epoch."""
    runs = [at(factory, "GRU", 8.0, 1e-3, seed) for seed in range(2)]
    runs += [at(factory, "GRU", valid, 1e-3, 2, status="diverged", message="in epoch 3")]
    runs += [at(factory, "GRU", 8.5, 2e-3, seed) for seed in range(3)]
    (row,) = factory.board_of(*runs).tables[0].units
    assert str(row.search) == "2 rates with 3 seeds each", "what diverged came to its end"
    return row


def test_a_run_that_diverged_counts_with_its_best_epoch_and_is_marked(factory):
    row = diverging(factory, 8.3)
    assert (row.rate, row.lacks, row.letters, len(row.counted)) == (1e-3, [], "a", 3)
    assert row.test.mean == pytest.approx((8.0 + 8.0 + 8.3) / 3 + 0.1, abs=1e-3)
    shown = factory.cells(row)
    assert (shown["lost"], shown["marks"]) == ("", "rate at the edge, diverged after the best epoch in 1 of 3 runs")


def test_a_rate_at_which_a_run_diverged_before_it_was_any_good_is_not_chosen(factory):
    assert diverging(factory, 12.0).rate == 2e-3


def test_a_run_that_diverged_in_its_first_epoch_has_no_figures_and_another_rate_is_chosen(factory):
    runs = [at(factory, "GRU", 8.0, 1e-3, seed) for seed in range(2)]
    lost = at(factory, "GRU", 8.0, 1e-3, 2, status="diverged")
    runs += [dataclasses.replace(lost, best_epoch=None, best_valid=None, train=None, valid=None, test=None)]
    runs += [at(factory, "GRU", 8.5, 2e-3, seed) for seed in range(3)]
    (row,) = factory.board_of(*runs).tables[0].units
    assert (row.rate, factory.cells(row)["lost"]) == (2e-3, "1 diverged")


def test_a_unit_that_diverged_at_all_rates_is_a_finding_and_not_incomplete(factory):
    """One rate less and it may yet be trained: then it is incomplete."""
    lost = [factory.make("Tanh", 0, rate=rate, status="diverged", test=None) for rate in (1e-3, 2e-3, 3e-3, 4e-3)]
    known = searched(factory, "GRU", 0.0)
    board = factory.board_of(*known, *lost)
    (table,) = board.tables
    row = next(row for row in table.units if row.name == "Tanh")
    assert (row.tag, row.missing, row.letters) == (DIVERGED, [], None)
    assert sentence([table]).endswith(f"nats/frame. Tanh {DIVERGED}.")
    assert "ncomplete" not in effort(table)
    assert (dict(grid(board).lines)["Tanh"][0].text, "ncomplete" in grid(board).legend) == ("diverged", False)
    judged = outcomes(dataclasses.replace(table, protocol="chung2014"))
    assert "undecided: diverged in every run: Tanh" in [told for claim, told in judged if claim.units == ("GRU",)]
    (fewer,) = factory.board_of(*known, *lost[1:]).tables
    (row,) = (row for row in fewer.units if row.name == "Tanh")
    assert row.tag == "incomplete: no seed 1, 2, 1 of 4 rates not tried, 1 diverged"
    assert "Incomplete, so not compared: Tanh." in effort(fewer)


@pytest.mark.parametrize("status", ["stopped", "interrupted", "failed"])
@pytest.mark.parametrize(("cell", "rate", "seed"), [("GRU", 2e-3, 3), ("GRU", 5e-3, 0), ("NP", 6e-3, 7)])
def test_a_run_that_did_not_end_changes_nobodys_rank(factory, status, cell, rate, seed):
    """It is listed, and counted among what is not counted: at a new seed, at a new rate, of a new unit."""
    complete = [*searched(factory, "GRU", 0.0), *searched(factory, "LSTM", 0.5)]
    stopped = at(factory, cell, 7.0, rate, seed, status=status, message="after 30 of 500 epochs")
    (before,), (after,) = factory.board_of(*complete).tables, factory.board_of(*complete, stopped).tables
    assert {r.name: (r.letters, r.rate, r.test, r.lacks) for r in after.ranked} == {
        r.name: (r.letters, r.rate, r.test, r.lacks) for r in before.ranked
    }
    assert [r.name for r in after.ranked] == ["GRU", "LSTM"]
    assert str(after.search) == str(before.search)
    row = next(r for r in after.units if r.name == cell)
    assert stopped in [dataclasses.replace(run, curve=stopped.curve) for run in row.all_runs]
    assert factory.cells(row)["lost"] == f"1 {status}"
    assert (row.letters is None) == (cell == "NP")


@pytest.mark.faults("A1")
def test_a_planned_seed_that_stopped_is_lacking(factory):
    runs = [factory.make(cell, seed, 8.5) for cell in ("GRU", "LSTM") for seed in range(3)]
    runs[-1] = dataclasses.replace(runs[-1], status="stopped", message="after 30 of 500 epochs")
    (table,) = factory.board_of(*runs).tables
    assert {row.name: row.lacks for row in table.units} == {"GRU": [], "LSTM": ["1 stopped"]}
    assert [row.name for row in table.ranked] == ["GRU"]


def test_a_unit_of_which_nothing_finished_has_a_row(factory):
    runs = [factory.make("GRU", seed, rate=r, status="diverged", test=None) for r, seed in ((1, 0), (2, 0), (2, 1))]
    (row,) = factory.board_of(*runs).tables[0].units
    assert (row.rate, row.test, row.letters, row.marks) == (2, None, None, [])
    assert (row.lacks, row.tag, row.missing) == ([DIVERGED], DIVERGED, [])


def test_a_search_is_one_row_at_its_best_rate_by_validation(factory):
    """The best rate's runs count; a better test NLL at another rate tempts nobody."""
    search = [factory.make("GRU", 0, nll, rate=rate) for rate, nll in ((1e-4, 8.9), (1e-3, 8.5), (1e-2, 8.7))]
    tempting = dataclasses.replace(search[2], test=dataclasses.replace(search[2].test, nll=5.0))
    diverged = factory.make("GRU", 0, 9.0, rate=1.0, status="diverged")
    report = [factory.make("GRU", seed, 8.52, rate=1e-3) for seed in (1, 2)]
    (row,) = factory.board_of(*search[:2], tempting, diverged, *report).tables[0].units
    assert [(run.seed, run.rate) for run in row.runs] == [(0, 1e-3), (1, 1e-3), (2, 1e-3)]
    assert [run.rate for run in row.searched] == [1e-4, 1e-2, 1.0]
    assert row.test.mean == pytest.approx(np.mean([r.test.nll for r in (search[1], *report)]))
    shown = factory.cells(row)
    assert (shown["rate"], shown["rates"], shown["n"], shown["lost"]) == ("0.001", "4", "3", "")


def test_incomplete_units_are_marked_and_not_ranked(factory):
    whole = [factory.make("GRU", seed, 8.5, rate=r) for seed in range(3) for r in (1e-3, *[1e-4] * (seed == 0))]
    fewer_seeds = [factory.make("LSTM", 0, 8.0, rate=r) for r in (1e-3, 1e-4)]
    fewer_rates = [factory.make("NP", seed, 8.0, rate=1e-3) for seed in range(3)]
    lost = [factory.make("tanh", s, 8.0, rate=1e-3, status="failed" if s == 2 else "finished") for s in range(3)]
    lost.append(factory.make("tanh", 0, 8.0, rate=1e-4, status="diverged"))
    (table,) = factory.board_of(*whole, *fewer_seeds, *fewer_rates, *lost).tables
    tags = {row.name: row.tag for row in table.units}
    assert tags == {
        "GRU": "",
        "LSTM": "incomplete: no seed 1, 2",
        "NP": "incomplete: 1 of 2 rates not tried",
        "tanh": "incomplete: 1 failed",
    }
    assert [row.name for row in table.ranked] == ["GRU"]
    assert {(shown["n"], shown["planned"]) for row in table.units if (shown := factory.cells(row))} == {
        ("3", "of 3"),
        ("1", "of 3"),
        ("2", "of 3"),
    }


def test_a_rate_at_the_edge_of_those_tried_is_marked(factory):
    """The best is the lowest for the GRU; for the LSTM a higher one was tried, though all runs at it diverged."""
    rates = {1e-4: 8.4, 1e-3: 8.6}
    runs = [factory.make("GRU", 0, nll, rate=rate) for rate, nll in rates.items()]
    runs += [factory.make("GRU", 0, rate=1e-2, status="diverged", test=None)]
    runs += [factory.make("LSTM", 0, nll, rate=rate) for rate, nll in ((1e-4, 8.6), (1e-3, 8.4))]
    runs += [factory.make("LSTM", 0, rate=1e-2, status="diverged", test=None)]
    (table,) = factory.board_of(*runs).tables
    assert {row.name: row.marks for row in table.units} == {"GRU": ["rate at the edge"], "LSTM": []}
    (single,) = factory.board_of(factory.make("GRU")).tables[0].units
    assert single.marks == [], "one rate is no search"


def as_seen(table, names):
    """What a reader sees of some rows."""
    seen = {r.name: (r.letters, r.rate, r.test, r.lacks, [run.run_id for run in r.runs]) for r in table.units}
    return {name: seen[name] for name in names}


@pytest.mark.parametrize(
    ("cell", "rate", "seed"), [("NP", 1e-3, 0), ("NP", 7e-3, 9), ("GRU", 7e-3, 0), ("GRU", 2e-3, 9), ("GRU", 7e-3, 9)]
)
def test_an_extra_run_that_came_to_its_end_changes_nobody(factory, cell, rate, seed):
    """Of a new unit, at a rate that nobody else tried, of a seed that nobody else had; however good it is."""
    complete = [*searched(factory, "GRU", 0.0), *searched(factory, "LSTM", 0.5)]
    extra = at(factory, cell, 6.0, rate, seed)
    (before,), (after,) = factory.board_of(*complete).tables, factory.board_of(*complete, extra).tables
    names = ["GRU", "LSTM"]
    assert as_seen(after, names) == as_seen(before, names)
    assert after.search == before.search
    assert after.comparisons == before.comparisons
    row = next(r for r in after.units if r.name == cell)
    assert extra.run_id in {run.run_id for run in row.all_runs}
    if cell == "NP":
        assert row.letters is None
        assert row.tag.startswith("incomplete: ")
    else:
        assert factory.cells(row)["beyond"] == "1"


def test_a_newcomer_with_a_larger_search_is_held_to_the_tables_plan(factory):
    """Two more rates and two more seeds than a sweep has: the plan stays, and what goes beyond it is not counted."""

    def swept(cell, level, rates, seeds):
        found = [at(factory, cell, level + n / 10, (n + 1) * 1e-4) for n in range(rates)]
        return found + [at(factory, cell, level, 1e-4, seed) for seed in range(1, seeds)]

    complete = [*swept("GRU", 8.0, 10, 5), *swept("LSTM", 8.5, 10, 5)]
    (before,), (after,) = (factory.board_of(*complete, *more).tables for more in ((), swept("NP", 8.2, 12, 7)))
    assert str(after.search) == str(before.search)
    assert {r.name for r in after.ranked} == {"GRU", "LSTM", "NP"}
    row = next(r for r in after.ranked if r.name == "NP")
    assert (row.rate, len(row.counted), len(row.beyond)) == (1e-4, 5, 4)


@pytest.mark.parametrize(
    ("units", "seeds", "newcomer", "more"),
    [
        (("GRU", "LSTM", "NP", "NIG", "NOG"), 1, "LSTM", [(1e-3, seed) for seed in (1, 2)]),
        (("GRU", "LSTM", "NP", "NIG", "NOG"), 1, "LSTM", [(1e-3, seed) for seed in (1, 2, 3, 4)]),
        (("GRU", "LSTM"), 5, "NP", [(1e-3, seed) for seed in range(4)]),
        (("GRU", "LSTM"), 10, "NP", [(rate, seed) for rate in (1e-3, 2e-3) for seed in range(5)]),
    ],
)
def test_more_seeds_or_rates_of_one_unit_than_others_have_change_nobody_else(factory, units, seeds, newcomer, more):
    """As where the seeds of a table's second half are still to come."""
    held = [at(factory, cell, 8.0 + n, 1e-3, seed) for n, cell in enumerate(units) for seed in range(seeds)]
    added = [at(factory, newcomer, 8.4, rate, seed) for rate, seed in more]
    (before,), (after,) = factory.board_of(*held).tables, factory.board_of(*held, *added).tables
    others = [unit for unit in units if unit != newcomer]
    told, now = (as_seen(table, others) for table in (before, after))
    assert [(rate, test, lacks, runs) for _, rate, test, lacks, runs in told.values()] == [
        (rate, test, lacks, runs) for _, rate, test, lacks, runs in now.values()
    ]
    assert all(letters is not None for letters, *_ in now.values())


def test_several_trials_do_not_outvote_a_complete_sweep(factory):
    trials = [at(factory, cell, 7.0, 1e-3) for cell in ("NP", "NIG", "NOG", "CIFG")]
    (table,) = factory.board_of(*searched(factory, "GRU", 0.0), *trials).tables
    assert [r.name for r in table.ranked] == ["GRU"]
    assert len(table.search.seeds) == 3


def test_a_cut_run_under_a_papers_name_is_named_marked_and_not_ranked(factory):
    def named(record, epochs):
        return factory.as_chung(factory.with_config(record, "trainer", max_epochs=epochs))

    whole = [named(factory.make(c, seed, 8.5), 500) for c in ("GRU", "LSTM") for seed in range(3)]
    cut = [named(factory.make("tanh", seed, 8.0), 80) for seed in range(3)]
    (table,) = factory.board_of(*whole, *cut).tables
    rows = {row.name: row for row in table.units}
    assert set(rows) == {"GRU", "LSTM", "tanh [max_epochs=80]"}
    row = rows["tanh [max_epochs=80]"]
    assert row.letters is None
    assert row.tag == "incomplete: other settings: max_epochs"
    shown = factory.cells(row)
    assert (shown["marks"], shown["verdict"]) == ("cut short: 80 of 500 epochs", "none: cut short")
    assert factory.cells(rows["GRU"])["verdict"] != "none: cut short"
    (alone,) = factory.board_of(*cut).tables
    assert [r.letters for r in alone.units] == ["a"], "a board of one's own, all of it cut alike, compares what it has"
