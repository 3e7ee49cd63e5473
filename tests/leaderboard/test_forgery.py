"""Records made up in ways that a reader could not see, each told by `verify`; honest ones are told of by nothing.

The honest ones are the published records of JSB: 66 runs of one table.
"""

import dataclasses
import random
import re
import subprocess
from pathlib import Path

import pytest

from seqbench import record as rec
from seqbench.leaderboard import agreement, history
from seqbench.leaderboard.agreement import disagreements, envelope, settings
from seqbench.leaderboard.board import assemble
from seqbench.leaderboard.checks import problems
from seqbench.leaderboard.history import SUMS
from seqbench.leaderboard.rerun import spot
from seqbench.leaderboard.submit import submit
from seqbench.leaderboard.verify import add_sums, verify
from seqbench.task import SeqbenchError

PUBLISHED = Path(__file__).parents[2] / "leaderboard/records"
OLDER = "jsb-gru-0626125d5b07.json"  # trained at an earlier commit than units of today
FIXTURE = Path(__file__).parent / "records"
pytestmark = pytest.mark.skipif(not any(PUBLISHED.glob("jsb-*.json")), reason="JSB is not published: nothing to forge")


@pytest.fixture(scope="module")
def honest():
    found = [(path.name, rec.load(path)) for path in sorted(PUBLISHED.glob("jsb-*.json"))]
    return [(name, run) for name, run in found if run.cell.count == "recurrent"]


def one_of(honest, cell="GRU", status="finished"):
    """A run at the unit's best rate."""
    (table,) = assemble(honest).tables
    row = next(row for row in table.units if row.name == cell)
    return next(run for run in row.runs if run.status == status)


def told(sources):
    return {(name, field) for name, field, _ in [*disagreements(sources), *settings(sources)]}


def with_nats(run, change):
    nats = [change(n, f) for n, f in zip(run.test.nats, run.test.frames, strict=True)]
    return dataclasses.replace(run, test=rec.score_from_parts(nats, run.test.frames, run.test.first))


def renamed(run, **changes):
    """The run as another one, under the id that its config gives."""
    run = dataclasses.replace(run, **changes)
    return dataclasses.replace(run, run_id=rec.run_id(run.task, run.cell.name, run.config))


def test_honest_records_agree(honest):
    assert told(honest) == set()


@pytest.mark.parametrize(("shift", "noise"), [(0.0, 0.0), (-0.05, 0.0), (-0.05, 0.005)])
def test_a_unit_made_up_from_anothers_records(honest, shift, noise):
    run, draw = one_of(honest), random.Random(0)
    config = run.config | {"model": run.config["model"] | {"cell": {"class_path": "MinGRU"}}}
    forged = renamed(run, cell=dataclasses.replace(run.cell, name="MinGRU"), config=config)
    forged = with_nats(forged, lambda n, f: n + (shift + draw.gauss(0, noise)) * f)
    found = told([*honest, ("forged", forged)])
    assert ("forged", "test.nats") in found
    assert {name for name, _ in found} == {"forged"}


def test_runs_that_learnt_nothing_are_alike_and_no_copies(honest):
    """Two that stay at the unigram's figure, of a unit each, as a GRU and an LSTM did on MuseData at low rates."""
    run = one_of(honest)
    floor = min(score.nll for score in run.floors.values())
    config = run.config | {"model": run.config["model"] | {"cell": {"class_path": "MinGRU"}}}
    other = renamed(run, cell=dataclasses.replace(run.cell, name="MinGRU"), config=config)
    for above, found in ((0.01, False), (-0.01, True)):
        shift = floor + above - run.test.nll
        pair = [(str(k), with_nats(one, lambda n, f, by=shift: n + by * f)) for k, one in enumerate((run, other))]
        assert bool(list(agreement.copies(pair))) == found


def test_one_seeds_numbers_under_another_seed(honest):
    run = one_of(honest)
    forged = renamed(run, seed=9, config=run.config | {"model": run.config["model"] | {"seed": 9}})
    assert told([*honest, ("forged", forged)]) == {("forged", "test.nats"), ("forged", "curve")}


def test_adam_with_5000_epochs_under_the_name_of_chung(honest):
    run = one_of(honest)
    model = {key: value for key, value in run.config["model"].items() if key != "schedule"}
    config = run.config | {"model": model | {"optimizer": {"class_path": "Adam"}}, "trainer": {"max_epochs": 5000}}
    found = told([(name, r) for name, r in honest if r is not run] + [("forged", renamed(run, config=config))])
    wanted = {"trainer.max_epochs", "model.optimizer.class_path", "model.schedule.class_path"}
    assert wanted <= {field.removeprefix("config.") for name, field in found if name == "forged"}
    assert {name for name, _ in found} == {"forged"}


def test_a_setting_left_out_of_a_protocol_is_told(honest):
    """The protocol has weight noise; a record without has none, as that is the default."""
    run = one_of(honest)
    model = {key: value for key, value in run.config["model"].items() if key != "noise"}
    assert told([("forged", renamed(run, config=run.config | {"model": model}))]) == {("forged", "config.model.noise")}


@pytest.mark.parametrize("shift", [-0.3, -1.0])
def test_a_test_figure_far_below_validation(honest, shift):
    run = one_of(honest)
    draw = random.Random(1)
    forged = with_nats(run, lambda n, f: n + (shift + draw.gauss(0, 0.2)) * f)
    sources = [(name, forged if r is run else r) for name, r in honest]
    (name,) = (name for name, r in honest if r is run)
    assert told(sources) == {(name, "test.nll")}


def test_a_smoothed_curve(honest):
    run = one_of(honest)
    valid = run.curve.valid
    smooth = [sum(valid[max(i - 3, 0) : i + 4]) / len(valid[max(i - 3, 0) : i + 4]) for i in range(len(valid))]
    forged = dataclasses.replace(run, curve=dataclasses.replace(run.curve, valid=smooth))
    (name,) = (name for name, r in honest if r is run)
    assert told([(n, forged if r is run else r) for n, r in honest]) == {(name, "curve.valid")}


def test_a_curve_without_its_beginning_is_noted(honest):
    """Of the published tables' curves none lies half as far below all others."""
    assert list(envelope([(path.name, rec.load(path)) for path in PUBLISHED.glob("*.json")])) == []
    run = one_of(honest)
    late = dataclasses.replace(run.curve, valid=[*run.curve.valid[20:], *run.curve.valid[-20:]])
    others = [source for source in honest if source[1] != run and source[1].cell.name in ("GRU", "LSTM", "Tanh")]
    ((name, field, what),) = envelope([*others, ("forged", dataclasses.replace(run, curve=late))])
    assert (name, field) == ("forged", "curve.valid")
    lowest = min(other.curve.valid[0] for _, other in others)
    assert what == f"is {lowest - late.valid[0]:.3f} below all other curves of its table in entry 1"
    assert list(envelope([*others[: agreement.ENOUGH - 1], ("forged", dataclasses.replace(run, curve=late))])) == []


def test_a_curve_cut_short(honest, tmp_path):
    """The entries after the best epoch are gone; the protocol has 500."""
    run = one_of(honest)
    keep = run.best_epoch + 1
    lists = ("seconds", "train", "valid", "gradient", "update", "floored")
    curve = dataclasses.replace(run.curve, **{key: getattr(run.curve, key)[:keep] for key in lists})
    rec.save(dataclasses.replace(run, curve=curve), tmp_path / run.run_id / "record.json")
    (problem,) = [f.problem for f in verify(tmp_path, ()) if f.field == "curve"]
    assert f"ends after {keep} of 500 epochs" in problem


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("scale", {"scale": 2000.0}),
        ("curve.steps", {}),
        ("environment.precision", {}),
        ("parameters", {"parameters": rec.Parameters(20_216, 24_000)}),
    ],
)
def test_what_a_table_has_in_common(factory, field, change):
    runs = [factory.make("GRU", seed, 20.0, "fsdd_a", scale=1000.0, floors={}) for seed in range(4)]
    forged = dataclasses.replace(runs[3], **change)
    if field == "curve.steps":
        forged = dataclasses.replace(forged, curve=dataclasses.replace(forged.curve, steps=16))
    if field == "environment.precision":
        forged = dataclasses.replace(forged, environment=dataclasses.replace(forged.environment, precision="16-mixed"))
    sources = [(f"file {seed}", run) for seed, run in enumerate([*runs[:3], forged])]
    assert told(sources[:3]) == set()
    assert told(sources) == {("file 3", field)}


def repository(folder):
    """Two records of the fixture, published in the first commit of a repository; and that commit."""
    records = folder / "records"
    records.mkdir()

    def git(*words):
        done = subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    git("-c", "user.name=A", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "code")
    commit = git("rev-parse", "--short=12", "HEAD")
    for path in sorted(FIXTURE.glob("jsb-gru-*.json"))[:2]:
        run = rec.load(path)
        environment = dataclasses.replace(run.environment, commit=commit)
        rec.save(dataclasses.replace(run, environment=environment), records / path.name)
    seal(records)
    git("add", "-A")
    git("-c", "user.name=A", "-c", "user.email=a@b", "commit", "-q", "-m", "records")
    return records, git("rev-parse", "HEAD")


def seal(records):
    """Sums of all records, as who knows of them makes them anew."""
    add_sums(records, [path.name for path in records.glob("*.json")])


def wrong(records, since=None):
    return [str(finding) for finding in verify(records, (), since) if not finding.note]


def test_records_are_only_added(tmp_path):
    records, published = repository(tmp_path)
    assert wrong(records, published) == []
    first, second = sorted(records.glob("*.json"))
    run = rec.load(first)
    rec.save(dataclasses.replace(run, seconds=run.seconds + 1), first)
    second.unlink()
    (records / SUMS).unlink()
    seal(records)
    assert wrong(records) == [], "whoever makes the sums anew contradicts nothing but history"
    assert wrong(records, published) == [
        f"{first.name}: was published at {published} with other contents: records are only added",
        f"{second.name}: was published at {published} and is gone: records are only added",
    ]
    with pytest.raises(SeqbenchError, match=r"^nowhere is no commit of the repository of .*--since$"):
        verify(records, (), "nowhere")


def test_sums_that_are_gone(tmp_path):
    records, _ = repository(tmp_path)
    (records / SUMS).unlink()
    assert wrong(records) == ["SHA256SUMS: is missing: restore it, no record was published without it"]


@pytest.mark.parametrize("commit", ["f" * 12, "", "no commit at all", "HEAD\nHEAD", "--help"])
def test_a_commit_that_nobody_knows(tmp_path, commit):
    records, _ = repository(tmp_path)
    path = min(records.glob("*.json"))
    run = rec.load(path)
    rec.save(dataclasses.replace(run, environment=dataclasses.replace(run.environment, commit=commit)), path)
    add_sums(records, [path.name])
    line, *others = wrong(records)
    assert line.startswith(f"{path.name}: environment.commit: {commit!r} is no commit of this repository")
    assert others == [f"{path.name}: environment.commit: is not known: train within a clone of the repository"] * (
        commit == ""
    )


def test_a_record_in_a_folder_of_its_own_is_published_too(tmp_path):
    """As a run leaves it, `<run_id>/record.json`: what is asked of public records is asked of it."""
    records, _ = repository(tmp_path)
    path = min(records.glob("*.json"))
    run = rec.load(path)
    config = run.config | {"model": run.config["model"] | {"optimizer": {"class_path": "Adam"}}}
    config |= {"run": {"protocol": "chung2014"}}
    forged = renamed(run, config=config, environment=dataclasses.replace(run.environment, commit="deadbeefcafe"))
    name = f"{forged.run_id}/record.json"
    rec.save(forged, records / name)
    add_sums(records, [name])
    lines = wrong(records)
    assert f"{name}: environment.commit: 'deadbeefcafe' is no commit of this repository" in lines
    assert any(line.startswith(f"{name}: config.model.optimizer.class_path: ") for line in lines)


@pytest.fixture
def traced(honest):
    """A published run, and its name, whose code the history has."""
    name, run = next(source for source in honest if source[1].cell.name == "IndRNN")
    if not list(history.commits(PUBLISHED, [(name, with_code(run, commit="f" * 12))])):
        pytest.skip("a shallow clone has no history")
    assert list(history.sources(PUBLISHED, [(name, run)])) == []
    return name, run


def test_a_run_by_other_code_than_its_commits(traced):
    """The digests are those of files in the history: nobody has to be believed."""
    name, run = traced
    forged = with_code(run, sources={"suite": "0" * 12, "unit": "0" * 12})
    assert [field for _, field, _ in history.sources(PUBLISHED, [(name, forged)])] == [
        "environment.sources.suite",
        "environment.sources.unit",
    ]
    (moved,) = history.sources(
        PUBLISHED, [(name, with_code(run, commit=rec.load(PUBLISHED / OLDER).environment.commit))]
    )
    assert moved[1] == "environment.sources.suite"


def test_submit_asks_for_the_code_of_the_commit(traced, tmp_path):
    _, run = traced
    forged = with_code(run, sources={"suite": "0" * 12, "unit": run.environment.sources["unit"]})
    forged = renamed(forged, seed=9, config=run.config | {"model": run.config["model"] | {"seed": 9}})
    words = re.sub(r"--model.seed \d+", "--model.seed 9", forged.command)
    rec.save(dataclasses.replace(forged, command=words), tmp_path / "run/record.json")
    with pytest.raises(SeqbenchError, match=r"environment\.sources\.suite: 000000000000, but the code of"):
        submit(tmp_path / "run", PUBLISHED, (), dry_run=True)


def with_code(run, **changes):
    return dataclasses.replace(run, environment=dataclasses.replace(run.environment, **changes))


@pytest.mark.parametrize("status", ["interrupted", "stopped", "failed"])
def test_a_run_without_an_end_that_was_put_there_by_hand(tmp_path, status):
    records, _ = repository(tmp_path)
    path = min(records.glob("*.json"))
    rec.save(dataclasses.replace(rec.load(path), status=status, message="after 80 of 500 epochs"), path)
    add_sums(records, [path.name])
    assert f"{path.name}: status: {status}: a run is published when it came to its end, well or badly" in wrong(records)


def test_what_submit_asks_of_the_folder_and_of_the_commit(tmp_path):
    records, _ = repository(tmp_path)
    path = max(records.glob("*.json"))
    run = rec.load(path)
    path.unlink()
    seal(records)
    rec.save(run, tmp_path / "run/record.json")
    assert [str(change)[:8] for change in submit(tmp_path / "run", records, (), dry_run=True)] == ["changed:"]
    forged = dataclasses.replace(run, environment=dataclasses.replace(run.environment, commit="deadbeefcafe"))
    rec.save(forged, tmp_path / "run/record.json")
    with pytest.raises(SeqbenchError, match=r"'deadbeefcafe' is no commit of this repository$"):
        submit(tmp_path / "run", records, (), dry_run=True)
    (records / SUMS).unlink()
    with pytest.raises(SeqbenchError, match="SHA256SUMS is missing: restore it"):
        submit(tmp_path / "run", records, (), dry_run=True)


@pytest.mark.parametrize("name", ["chung2014 ", "Chung2014", "Chung et al. 2014", "chung-2014"])
def test_a_papers_name_spelt_otherwise(honest, name):
    run = one_of(honest)
    forged = renamed(run, config=run.config | {"run": {"protocol": name}})
    assert told([("forged", forged)]) == {("forged", "config.run.protocol")}
    assert told([("mine", renamed(run, config=run.config | {"run": {"protocol": "chung2014_long"}}))]) == set()


def test_a_unit_that_solves_a_task_by_anothers_records():
    """Whose runs on the test split are all alike, so that only the curves tell."""
    found = [(path.name, rec.load(path)) for path in sorted(PUBLISHED.glob("two_sequences-lstm1997-*.json"))]
    assert told(found) == set()
    name, run = next(source for source in found if rec.solved(source[1]))
    config = run.config | {"model": run.config["model"] | {"cell": {"class_path": "MinGRU"}}}
    forged = renamed(run, cell=dataclasses.replace(run.cell, name="MinGRU"), config=config)
    lines = [line for line in disagreements([*found, ("forged", forged)]) if line[1] == "curve"]
    assert lines == [("forged", "curve", f"is that of {name}: one is a copy")]


@pytest.mark.parametrize(
    ("pattern", "change", "field", "told"),
    [
        ("jsb-gru", lambda r: {"command": r.command + " --trainer.max_epochs 5000"}, "command", "max_epochs is 500"),
        ("jsb-gru", lambda r: {"command": r.command.replace("cell GRU", "cell NP")}, "command", "model.cell is GRU"),
        ("jsb-gru", lambda r: {"train": dataclasses.replace(r.train, nll=-9.0)}, "train", "more probable than certain"),
        ("two_sequences-gru", lambda r: {"test": all_right(r.test)}, "test.counts", "is that of guessing"),
    ],
)
def test_one_record_that_contradicts_itself(pattern, change, field, told):
    runs = [rec.load(path) for path in sorted(PUBLISHED.glob(f"{pattern}-*.json"))]
    guessed = [r for r in runs if r.task.solved and r.test.nll >= min(floor.nll for floor in r.floors.values())]
    run = (guessed or runs)[0]
    assert [*problems(run, ())] == []
    found = [where for where, what in problems(dataclasses.replace(run, **change(run)), ()) if told in what]
    assert found == [field]


def all_right(test):
    """Every guess of every sequence, at the likelihoods that it has."""
    return dataclasses.replace(test, counts={k: dataclasses.replace(c, right=c.of) for k, c in test.counts.items()})


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_a_number_without_bounds(tmp_path, number):
    records, _ = repository(tmp_path)
    path = min(records.glob("*.json"))
    path.write_text(re.sub(r'"seconds":[\d.]+', f'"seconds":{number}', path.read_text()))
    add_sums(records, [path.name])
    (line,) = wrong(records)
    assert line.startswith(f"{path.name}: seconds: a number is not finite")


def test_what_submit_says_of_a_forged_record(tmp_path, honest):
    run = one_of(honest)
    forged = renamed(run, seed=9, config=run.config | {"model": run.config["model"] | {"seed": 9}})
    words = re.sub(r"--model.seed \d+", "--model.seed 9", forged.command)
    rec.save(dataclasses.replace(forged, command=words), tmp_path / "run" / forged.run_id / "record.json")
    with pytest.raises(
        SeqbenchError, match=r"not submitted: .*curve: is that of jsb-gru-\w+\.json: one is a copy \(1 more findings\)$"
    ):
        submit(tmp_path / "run", PUBLISHED, (), dry_run=True)


@pytest.mark.parametrize(("change", "agrees"), [(0.0, True), (5e-4, True), (0.02, False), (None, False)])
def test_a_spot_check_tells_a_made_up_beginning(honest, change, agrees):
    """Trained again by a stand-in that gives the recorded curve."""
    run = one_of(honest)

    def again(record, epochs):
        assert epochs == 3
        valid = [v if change is None else v + change for v in record.curve.valid[:3]]
        return dataclasses.replace(
            record, curve=dataclasses.replace(record.curve, valid=valid[: 2 if change is None else 3])
        )

    (found,) = spot(PUBLISHED, [run.run_id], (), again)
    assert found.agrees == agrees
    assert ("agree" in str(found)) == agrees or "differ" in str(found)


def test_what_is_usual_cannot_be_said_of_a_few_runs(honest):
    few = honest[: agreement.ENOUGH - 1]
    assert list(agreement.gaps(few)) == list(agreement.curves(few)) == []
