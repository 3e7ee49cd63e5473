"""What `make recheck` would train: the groups of the published records, by their own commands; nothing is trained."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from seqbench import record as rec
from seqbench.leaderboard.build import read

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    not any((ROOT / "leaderboard/records").glob("*.json")),
    reason="leaderboard/records is empty: nothing to train again",
)


@pytest.fixture(scope="module")
def recheck():
    spec = importlib.util.spec_from_file_location("recheck", ROOT / "tests/recheck.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runs():
    return [run for _, run in read(ROOT / "leaderboard/records")]


def test_the_groups_of_the_published_runs_are_found_from_any_of_them(recheck, runs):
    groups = {tuple(run.run_id for run in recheck.group_of(one, runs)) for one in runs}
    assert sorted(name for group in groups for name in group) == sorted(run.run_id for run in runs)
    known = {run.run_id: run for run in runs}
    assert all(len(group) == known[group[0]].environment.replicas for group in groups)
    assert recheck.group_of(runs[0], runs[:3]) == [runs[0]], "alone, where the others are not there"


def test_a_group_is_trained_by_its_records_command(recheck, runs):
    one = next(run for run in runs if run.task.name == "jsb" and run.seed == 2)
    group = recheck.group_of(one, runs)
    told = recheck.words(group, Path("elsewhere"))
    assert told[:8] == [*one.command.split()[1:6], *one.command.split()[6:8], "--model.seed"]
    assert told[told.index("--model.seed") + 1] == str([run.seed for run in group]).replace(" ", "")
    assert told[told.index("--model.rate") + 1] == str([run.rate for run in group]).replace(" ", "")
    assert told[-2:] == ["--run.dir", "elsewhere"]
    alone = recheck.words([one], Path("elsewhere"))
    assert alone[alone.index("--model.seed") + 1] == "2"


def test_the_same_seed_draws_the_same_runs_whatever_the_order_of_files(recheck, runs):
    assert recheck.drawn(runs, 5, 7) == recheck.drawn(runs[::-1], 5, 7)
    assert recheck.drawn(runs, 5, 7) != recheck.drawn(runs, 5, 8)


def test_every_figure_is_compared_and_nothing_else(recheck, runs):
    run = runs[0]
    later = dataclasses.replace(
        run,
        seconds=1.0,
        command="another",
        environment=dataclasses.replace(run.environment, commit="another"),
        curve=dataclasses.replace(run.curve, seconds=[0.0] * len(run.curve.seconds)),
    )
    assert recheck.different(run, later) == []
    nats = [run.test.nats[0] + 1e-4, *run.test.nats[1:]]
    test = rec.score_from_parts(nats, run.test.frames, run.test.first)
    curve = dataclasses.replace(run.curve, update=[0.0, *run.curve.update[1:]])
    found = recheck.different(run, dataclasses.replace(run, test=test, curve=curve, best_epoch=1))
    assert {"best_epoch", "curve.update", "test.nats"} <= set(found)
    assert not {"valid.nll", "curve.valid"} & set(found)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no repository: no commit can be checked out")
def test_a_commit_is_checked_out_beside_the_repository_and_goes_again(recheck):
    with recheck.checkout("HEAD") as place:
        assert (place / "seqbench/cli.py").is_file()
    assert not place.exists()
    with pytest.raises(recheck.SeqbenchError, match="cannot be checked out"), recheck.checkout("0" * 40):
        pass
