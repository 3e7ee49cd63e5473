"""What must hold inside one record, case by case."""

import dataclasses
import subprocess
from pathlib import Path

import pytest

from seqbench import record as rec
from seqbench.leaderboard import checks
from seqbench.leaderboard.rerun import rerun
from seqbench.search.repeat import repeat
from seqbench.task import SeqbenchError
from seqbench.train.audit import CHECKS

RECORD = Path(__file__).parent / "records/jsb-gru-0eb914623e89.json"


def changed(record, **sections):
    """The run with other settings, under the name that they give it."""
    config = {key: section | sections.get(key, {}) for key, section in record.config.items()}
    run_id = rec.run_id(record.task, record.cell.name, config)
    return dataclasses.replace(record, config=config, run_id=run_id)


def test_classes_of_the_libraries_are_named_without_modules():
    record = rec.load(RECORD)
    for optimizer in ("SGD", "Adam", "ChungRMSProp"):
        for schedule in ("CosineAnnealingLR", "ReduceLROnPlateau", "StepLR"):
            model = {"optimizer": {"class_path": optimizer}, "schedule": {"class_path": schedule}}
            callbacks = [{"class_path": "StochasticWeightAveraging", "init_args": {"swa_lrs": 0.1}}]
            assert list(checks.problems(changed(record, model=model, trainer={"callbacks": callbacks}), CHECKS)) == []


@pytest.mark.parametrize(
    ("section", "value"), [("model", {"budget": 10**400}), ("model", {"layers": "two"}), ("data", {"init_args": [1]})]
)
def test_a_config_that_cannot_be_is_a_problem_and_no_error(section, value):
    fields = [field for field, _ in checks.problems(changed(rec.load(RECORD), **{section: value}), CHECKS)]
    assert fields in (["config (sizes)"], ["config (classes)", "config (task)"])


def test_a_run_whose_defaults_have_changed_is_told_from_one_that_failed(monkeypatch):
    """Its config is another run now: the record that training leaves has another name."""

    def train(command, **_):
        folder = Path(command[command.index("--run.dir") + 1])
        other = dataclasses.replace(rec.load(RECORD), run_id="jsb-gru-000000000000")
        rec.save(other, folder / other.run_id / "record.json")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", train)
    with pytest.raises(SeqbenchError, match="its config is run jsb-gru-000000000000 now: a default has changed"):
        rerun(RECORD.parent, RECORD.stem, CHECKS, repeat)


def test_a_given_hidden_size_has_no_budget():
    record = changed(rec.load(RECORD), model={"hidden": 48})
    given = dataclasses.replace(record, cell=dataclasses.replace(record.cell, budget=None, count=None))
    assert list(checks.problems(given, CHECKS)) == []
    other = dataclasses.replace(given, cell=dataclasses.replace(given.cell, hidden=47))
    assert "cell.hidden" in {field for field, _ in checks.problems(other, CHECKS)}


@pytest.mark.parametrize(
    ("longest", "every", "entries", "patience", "best", "sound"),
    [
        (40, 1, 40, None, 39, True),
        (40, 1, 39, None, 38, False),  # ended too early
        (40, 1, 41, None, 3, False),
        (45, 10, 4, None, 39, True),  # the last validation is that of epoch 40
        (50, 10, 4, None, 39, False),
        (100, 1, 30, 10, 19, True),
        (100, 1, 30, 11, 19, False),
        (100, 1, 30, 5, 19, False),  # it went on for longer than its patience
        (100, 10, 5, 15, 29, True),  # 10 epochs after the best are too few, 20 are the first that are enough
        (100, 10, 5, 25, 29, False),
    ],
)
def test_a_finished_run_was_long_enough_or_lost_its_patience(factory, longest, every, entries, patience, best, sound):
    run = factory.make(epochs=entries)
    run = changed(run, trainer={"max_epochs": longest}, run={"patience": patience})
    run = dataclasses.replace(run, curve=dataclasses.replace(run.curve, every=every), best_epoch=best)
    assert [field for field, _ in checks.end(run)] == ([] if sound else ["curve"])


def test_the_epoch_in_which_a_run_diverged_is_none_to_choose_from(factory):
    curve = dataclasses.replace(factory.make().curve, seconds=[0.1, 0.2], train=[286.5, 480.8], valid=[666.3, 495.4])
    run = factory.make(status="diverged", curve=curve, best_epoch=0, best_valid=666.3)
    assert list(checks.curve(run)) == []
    assert [field for field, _ in checks.curve(dataclasses.replace(run, status="finished"))] == ["best_epoch"]


def test_files_of_ones_own_are_neither_looked_for_nor_trained_on_again(tmp_path):
    record = rec.load(RECORD)
    own = changed(record, data={"class_path": "WavFolder", "init_args": {"batch_size": 32}})
    own = dataclasses.replace(own, task=dataclasses.replace(own.task, digest="0" * 64))
    own = dataclasses.replace(own, run_id=rec.run_id(own.task, own.cell.name, own.config))
    assert list(checks.problems(own, CHECKS)) == []
    rec.save(own, tmp_path / "own" / f"{own.run_id}.json")
    with pytest.raises(SeqbenchError, match=r"files of one's own; its command: seqbench fit"):
        rerun(tmp_path / "own", own.run_id, CHECKS, repeat)
