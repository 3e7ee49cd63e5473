"""Tables of tasks that can be solved: counts of runs, papers' own, the picture against the lag, verdicts."""

import dataclasses
import itertools
import math
import re

import pytest

from seqbench.leaderboard import agreement, figures, markdown
from seqbench.leaderboard.claims import outcomes
from seqbench.leaderboard.columns import narrow
from seqbench.leaderboard.summary import grid, sentences
from seqbench.record import Count, Curve


def runs(factory, cell: str, solved: list[bool], task: str = "two_sequences", **options):
    """Runs of a unit, one a seed; run n that solves its task does so in epoch n + 1, of 10 steps with 2 sequences."""
    made = []
    for seed, well in enumerate(solved):
        one = factory.make(cell, seed, 0.1 if well else 0.7, task, floors={})
        test = dataclasses.replace(one.test, counts={"guesses": Count([int(well)] * 7, [1] * 7)})
        curve = Curve(10, 1, *([float(epoch) for epoch in range(seed + 1)] for _ in range(5)), [])
        digest = f"{sum(map(ord, f'{task} {sorted(options.items())}')):x}".rjust(64, "0")
        named = dataclasses.replace(
            one.task, name=task, head="Certain", unit="nats/target", target_size=2, digest=digest, solved=1.0
        )
        size = dataclasses.replace(one.cell, budget=None, count=None)
        one = dataclasses.replace(one, task=named, cell=size, test=test, curve=curve, best_epoch=seed)
        data = {"class_path": "TwoSequences", "init_args": {"batch_size": 2, **options}}
        one = dataclasses.replace(one, config=one.config | {"data": data})
        made.append(factory.with_config(one, "run", protocol="lags_today"))
    return made


def told(board):
    return [text for _, text in sentences(board)]


def shown(factory, table):
    return {(row.kind, row.name): factory.cells(row) for row in table.rows}


def test_counts_stand_beside_those_of_the_paper(factory):
    solvers, others = runs(factory, "LSTM1997", [True] * 7 + [False]), runs(factory, "Tanh", [False] * 8)
    (table,) = factory.board_of(*solvers, *others).tables
    cells = shown(factory, table)
    ours, theirs = cells["unit", "LSTM1997"], cells["published", "LSTM"]
    assert (ours["solved"], ours["sequences"]) == ("7 of 8", "80")  # the median of 20, 40, ..., 140
    # Clopper & Pearson 1934: the shares by which seven or more, and seven or fewer, of eight have a chance of 2.5%
    low = min((n / 1000 for n in range(1001)), key=lambda p: abs(8 * p**7 * (1 - p) + p**8 - 0.025))
    assert ours["share"] == f"{100 * low:.0f} to {100 * 0.975 ** (1 / 8):.0f}%"
    assert ours["around"] == "20 to 140"  # of seven values all lie within but for 2 * 0.5^7
    assert (theirs["solved"], theirs["sequences"]) == ("18 of 18", "5,040")
    assert cells["published", "BPTT"]["solved"] == "0 of 18"
    assert (cells["unit", "Tanh"]["solved"], cells["unit", "Tanh"]["sequences"]) == ("0 of 8", "–")
    assert [column.name for column in narrow(table.rows)][1:5] == ["unit", "solved", "share", "sequences"]
    assert "18 of 18" in markdown.text(factory.board_of(*solvers, *others), set())


def test_runs_that_were_lost_solve_nothing_and_fail_at_nothing(factory):
    made = runs(factory, "GRU", [True] * 2)
    lost = [dataclasses.replace(run, status="failed", test=None) for run in runs(factory, "Tanh", [False])]
    (table,) = factory.board_of(*made, *lost).tables
    assert shown(factory, table)["unit", "Tanh"]["solved"] == ""
    assert told(factory.board_of(*made, *lost))[0].endswith("runs that solve it: GRU 2 of 2.")


def test_the_rate_is_that_by_which_most_runs_solve_the_validation_split(factory):
    """Not that of the lowest NLL: a run that solves its task stops, and goes no lower."""
    made = []
    for rate, solved, valid in ((1e-2, [True, False], 0.01), (1e-3, [True, True], 0.3)):
        for run in runs(factory, "GRU", solved):
            whole = dataclasses.replace(
                run, rate=rate, best_valid=valid, config=run.config | {"trainer": {"max_epochs": 2}}
            )
            ended = dataclasses.replace(run.curve, valid=[0.5] * (1 if solved[run.seed] else 2))
            made.append(dataclasses.replace(whole, curve=ended, run_id=f"{run.run_id}-{rate}"))
    (table,) = factory.board_of(*made).tables
    (row,) = table.units
    assert row.rate == 1e-3
    assert row.solved.solved == 2


def test_papers_stand_beside_their_own_lag_alone(factory):
    (table,) = factory.board_of(*runs(factory, "LSTM1997", [True] * 2, lag=200)).tables
    assert not [row for row in table.rows if row.kind == "published"]


def test_lags_are_tables_by_name_and_order_and_stay_out_of_the_first_look(factory):
    lagged = [run for lag in (1000, 200) for run in runs(factory, "GRU", [lag < 500] * 2, lag=lag)]
    board = factory.board_of(factory.make("GRU"), *runs(factory, "GRU", [True] * 2), *lagged)
    names = [f"Two sequences (lag {lag}), trained as today" for lag in (100, 200, 1000)]
    assert [table.heading for table in board.tables[1:]] == names
    assert len({table.slug for table in board.tables}) == 4
    assert grid(board).tables == [board.tables[0]]
    assert told(board)[1:] == [
        "Two sequences (lags 100, 200 and 1,000), trained as today, runs that solve it: GRU 2/2, 2/2 and 0/2."
    ]
    assert told(factory.board_of(*lagged[:2])) == [f"{names[2]}, runs that solve it: GRU 0 of 2."]
    like_it = [run for lag in (1000, 200) for run in runs(factory, "LSTM", [lag < 500] * 2, lag=lag)]
    other = runs(factory, "Tanh", [False] * 2, lag=1000)
    assert told(factory.board_of(*lagged, *like_it, *other)) == [
        "Two sequences (lags 200 and 1,000), trained as today, runs that solve it: "
        "GRU and LSTM 2/2 and 0/2 each; Tanh – and 0/2."
    ]
    alone = factory.board_of(*lagged)
    assert grid(alone).tables == list(alone.tables)


def test_the_first_look_has_matched_units_or_given_sizes_not_both(factory):
    """A parser's percent beside nats, or a word model's thousand units beside 40, would compare nothing."""
    made = [factory.make("GRU", task=task) for task in ("jsb", "nottingham")]
    given = factory.with_size(factory.make("GRU", task="ewt"), (None, None), budget=None, hidden=8)
    board = factory.board_of(*made, given)
    assert [table.task.name for table in grid(board).tables] == ["jsb", "nottingham"]
    assert [table.task.name for table in grid(factory.board_of(given)).tables] == ["ewt"]
    assert len(told(board)) == 3


def test_one_picture_shows_the_share_of_solved_runs_against_the_lag(factory, segments):
    shares = {"LSTM1997": {50: 2, 200: 2, 1000: 1}, "Tanh": {50: 2, 200: 0, 1000: 0}}
    made = [
        run
        for cell, solved in shares.items()
        for lag, n in solved.items()
        for run in runs(factory, cell, [True] * n + [False] * (2 - n), lag=lag)
    ]
    board = factory.board_of(*made)
    drawn = figures.draw(board)
    assert list(drawn) == [f"{board.tables[0].slug}-lags"]
    (svg,) = drawn.values()
    for unit, solved in shares.items():
        paths = [segments(path) for path in re.findall(rf'data-unit="{unit}">\s*<path d="([^"]*)"', svg)]
        (points,) = [pieces[0] for pieces in paths if len(pieces[0]) == len(solved)]
        heights = [float(y) for _, y in points]  # downwards
        n, y = list(solved.values()), heights
        assert [(a > b) - (a < b) for a, b in itertools.pairwise(n)] == [
            (a < b) - (a > b) for a, b in itertools.pairwise(y)
        ]
    assert not figures.draw(factory.board_of(*runs(factory, "Tanh", [True], lag=50)))


@pytest.mark.parametrize(
    ("unit", "base", "expected"),
    [(10, 0, "held"), (1, 0, "not held"), (7, 4, "undecided"), (2, 9, "not held"), (10, 10, "undecided")],
)
def test_a_finding_is_judged_by_both_counts(factory, unit, base, expected):
    """Of 10 runs each, by the hypergeometric distribution."""
    made = [
        run
        for cell, n in (("LSTM1997", unit), ("Tanh", base))
        for run in runs(factory, cell, [True] * n + [False] * (10 - n), lag=1000)
    ]
    (table,) = factory.board_of(*made).tables
    ((claim, told),) = outcomes(table)
    assert claim.text.startswith("An LSTM bridges 1,000 steps")
    ways = [math.comb(10, k) * math.comb(10, unit + base - k) if 0 <= unit + base - k <= 10 else 0 for k in range(11)]
    p = sum(w for w in ways if w <= ways[unit]) / math.comb(20, unit + base)
    assert told.startswith(f"{expected}: LSTM1997 {unit} of 10 (")
    assert told.endswith(f"p = {p:.2g}")
    if base == 0:
        assert f"Tanh 0 of 10 (0 to {100 * (1 - 0.025 ** (1 / 10)):.0f}%)" in told  # Clopper & Pearson 1934


def test_a_unit_that_diverged_at_every_rate_is_told_of(factory):
    made = runs(factory, "ForgetLSTM", [True] * 5, "spike_delays")
    (run,) = runs(factory, "PeepholeLSTM", [False], "spike_delays")
    nothing = dict.fromkeys(("best_epoch", "best_valid", "train", "valid", "test"))
    lost = dataclasses.replace(run, status="diverged", message="in its first epoch", **nothing)
    board = factory.board_of(*made, lost)
    (text,) = told(board)
    assert text.endswith("ForgetLSTM 5 of 5. PeepholeLSTM diverged in every run.")
    ((_, verdict),) = outcomes(board.tables[0])
    assert verdict == "undecided: diverged in every run: PeepholeLSTM"
    ((_, verdict),) = outcomes(factory.board_of(*made).tables[0])
    assert verdict == "undecided: not run, or not complete: PeepholeLSTM"


def test_a_finding_about_a_thousand_steps_is_none_about_a_hundred(factory):
    both = [run for cell in ("LSTM1997", "Tanh") for run in runs(factory, cell, [True] * 2)]
    (table,) = factory.board_of(*both).tables
    assert outcomes(table) == []
    (lonely,) = factory.board_of(*runs(factory, "Tanh", [False] * 2, lag=1000)).tables
    ((_, told),) = outcomes(lonely)
    assert told == "undecided: not run, or not complete: LSTM1997"


def test_runs_that_solve_the_same_two_sequences_are_no_copies_of_each_other(factory):
    made = runs(factory, "GRU", [True] * 3)
    test = made[0].test
    alike = [(str(n), dataclasses.replace(run, test=test)) for n, run in enumerate(made)]
    assert not [told for told in agreement.disagreements(alike) if "copy" in told[2]]
    scored = [(name, dataclasses.replace(run, task=dataclasses.replace(run.task, solved=0.0))) for name, run in alike]
    assert [told for told in agreement.disagreements(scored) if "copy" in told[2]]
