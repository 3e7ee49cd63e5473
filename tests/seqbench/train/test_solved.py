"""Runs of a task that can be solved: they stop once it is, and are counted as papers count."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from seqbench import record
from seqbench.datamodules import datasets
from seqbench.datamodules.lags import Lags
from seqbench.leaderboard import checks
from seqbench.search.solved import rows
from seqbench.task import SeqbenchError
from seqbench.train.identity import defaults

# Two symbols in a row: LSTM learns it within an epoch or three, but for the replica that does not learn at all.
FLAGS = (
    "-c", "two_sequences", "-c", "lags_today", "--data.lag", "3", "--data.sequences", "200", "--model.cell", "LSTM",
    "--data.test_sequences", "20", "--model.hidden", "6", "--model.seed", "[0,1,2]", "--model.rate", "[2e-2,1e-9,2e-2]",
    "--trainer.max_epochs", "12", "--trainer.limit_train_batches", "10",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, dict[int, record.Record]]:
    from seqbench.train.fitting import run

    out = tmp_path_factory.mktemp("solved")
    run(["fit", *FLAGS, "--run.dir", str(out)])
    found = [record.load(path) for path in out.glob("*/record.json")]
    return out, {one.seed: one for one in found}


def test_a_replica_stops_where_all_of_validation_is_right_and_the_others_go_on(runs):
    _, found = runs
    for seed in (0, 2):
        assert found[seed].status == "finished"
        assert found[seed].best_epoch == found[seed].curve.epoch[-1] < 11
        assert found[seed].test.counts["guesses"].right == [1] * 20
        assert record.solved(found[seed])
        assert record.sequences(found[seed]) == 10 * 20 * (found[seed].best_epoch + 1)
    assert len(found[1].curve.valid) == 12
    assert not any(found[1].test.counts["guesses"].right)  # of two sequences it is certain of none
    assert not record.solved(found[1])


def test_the_checks_of_records_know_of_solved_runs(runs):
    for one in runs[1].values():
        assert [*checks.curve(one), *checks.end(one), *checks.scores(one), *checks.plausible(one)] == []
    early = runs[1][1]
    curve = dataclasses.replace(early.curve, valid=[1.0, *early.curve.valid[1:]])
    assert [*checks.curve(dataclasses.replace(early, curve=curve, best_epoch=0, best_valid=1.0))]


def test_the_weights_that_solved_it_are_kept_though_others_had_less_nats(runs):
    """Where the last epoch's are not the curve's least, the checks let it pass; an epoch before they do not."""
    one = runs[1][0]
    curve = dataclasses.replace(
        one.curve, valid=[0.1, *[0.2] * one.best_epoch] if one.best_epoch else [0.2], train=[0.3] * (one.best_epoch + 1)
    )
    assert [*checks.curve(dataclasses.replace(one, curve=curve, best_valid=0.2))] == []


def test_shares_of_solved_runs_stand_beside_the_papers(runs, seqbench, capsys):
    out, found = runs
    seqbench("solved", str(out), "--json")
    told = json.loads(capsys.readouterr().out)
    assert told == rows(out)
    ours = {row["rate"]: row for row in told}
    assert (ours[2e-2]["solved"], ours[2e-2]["of"], ours[1e-9]["solved"], ours[1e-9]["of"]) == (2, 2, 0, 1)
    assert ours[1e-9]["sequences"] is None
    taken = sorted(record.sequences(found[seed]) for seed in (0, 2))
    assert taken[0] <= ours[2e-2]["sequences"] <= taken[1]
    assert ours[2e-2]["share"] == "16 to 100%"  # from 0.025 ** (1 / 2): Clopper and Pearson's of 2 out of 2
    seqbench("solved", str(out))
    assert "two_sequences (lag 3)" in capsys.readouterr().out


def test_a_run_that_was_copied_counts_once(runs, tmp_path):
    folder, _ = runs
    for copy in ("a", "b"):
        shutil.copytree(folder, tmp_path / copy)
    one = min((tmp_path / "b").glob("*/record.json"))  # the copy was made while it trained
    record.save(dataclasses.replace(record.load(one), status="interrupted"), one)
    assert rows(tmp_path) == rows(folder)


def test_papers_are_beside_their_own_setting(runs, tmp_path):
    one = runs[1][0]
    config = one.config | {
        "data": {"class_path": "TwoSequences", "init_args": {"batch_size": 20, "noise": "lags", "lag": 1000}}
    }
    record.save(dataclasses.replace(one, config=config), tmp_path / "a" / "record.json")
    _, paper = rows(tmp_path)
    assert paper["sequences"] == 49_000


def test_a_folder_without_such_runs_is_refused(tmp_path):
    with pytest.raises(SeqbenchError, match="no records in"):
        rows(tmp_path)


def test_a_record_counts_with_the_batch_that_data_sets_have_by_default():
    """Of tasks that can be solved, which alone count sequences."""
    solvable = [kind() for kind in datasets().values() if issubclass(kind, Lags)]
    assert len(solvable) > 6
    for data in solvable:
        default = record.STREAMS if data.task.carried else record.BATCH
        assert defaults(type(data))["batch_size"] == default
