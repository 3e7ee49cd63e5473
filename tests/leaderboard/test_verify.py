"""What verify finds in copies of sound records, each with one thing wrong; and what submit refuses."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seqbench import record as rec
from seqbench.leaderboard.diff import diff
from seqbench.leaderboard.history import SUMS
from seqbench.leaderboard.rerun import Rerun, rerun, scores
from seqbench.leaderboard.submit import submit, undo
from seqbench.leaderboard.verify import add_sums, read_sums, verify
from seqbench.search.repeat import repeat
from seqbench.task import SeqbenchError
from seqbench.train.audit import CHECKS
from seqbench.train.weights import best_weights, score

ROOT = Path(__file__).parents[2]
PUBLISHED = Path(__file__).parent / "records"


@pytest.fixture
def records(tmp_path):
    """Six records as 40 epochs left them: GRU and tanh on JSB, three seeds."""
    folder = tmp_path / "records"
    folder.mkdir()
    for path in PUBLISHED.glob("*.json"):
        shutil.copy(path, folder)
    return folder


def edit(path, *keys, value):
    """Sets one field of a record, as a text editor would."""
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner.setdefault(key, {}) if isinstance(inner, dict) else inner[key]
    inner[keys[-1]] = value(inner[keys[-1]]) if callable(value) else value
    path.write_text(json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n")


def one_digit(number):
    """The number with one digit changed: the last but one of it."""
    text = str(number)
    place = max(len(text) - 2, 0) if text[-2:-1] != "." else len(text) - 1
    return type(number)(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])


def seal(records):
    """Sums of all records, as who knows of them makes them anew."""
    add_sums(records, [path.name for path in records.glob("*.json")])


def wrong(records):
    """The findings that are no notes; where the folder has no sums, after somebody who knows of them made new ones."""
    sealed = (records / SUMS).is_file()
    if not sealed:
        seal(records)
    found = [finding for finding in verify(records, CHECKS) if not finding.note]
    if not sealed:
        (records / SUMS).unlink()
    return found


def told(records):
    return {(finding.file, finding.field) for finding in wrong(records)}


def test_sound_records_give_notes_alone(records):
    """One tanh was best in the last of its 40 epochs."""
    note = "note: Tanh of JSB Chorales, 20k in the recurrent layer: still learning in 1 of 3 runs"
    seal(records)
    assert len((records / SUMS).read_text().splitlines()) == 6
    assert [str(finding) for finding in verify(records, CHECKS)] == [note]


def test_a_rate_at_the_edge_is_a_note(factory, tmp_path):
    runs = [factory.make("GRU", 0, nll, rate=rate) for rate, nll in ((1e-3, 8.5), (1e-4, 8.6))]
    (note,) = (finding for finding in verify(factory.write(tmp_path, *runs), CHECKS) if finding.note)
    assert str(note) == "note: GRU of JSB Chorales, 20k in the recurrent layer: rate at the edge"


@pytest.mark.parametrize(
    ("keys", "field"),
    [
        (("test", "nll"), "test.nll"),
        (("test", "nll_sequence"), "test.nll_sequence"),
        (("test", "nll_first"), "test.nll_first"),
        (("test", "nats", 41), "test.nll"),
        (("test", "frames", 7), "test.nll"),
        (("test", "first", 3), "test.nll_first"),
        (("best_epoch",), "best_epoch"),
        (("curve", "valid", 17), "best_valid"),
        (("curve", "every"), "curve.every"),
        (("parameters", "recurrent"), "parameters.recurrent"),
        (("parameters", "total"), "parameters.total"),
        (("cell", "hidden"), "cell.hidden"),
        (("cell", "budget"), "cell.budget"),
        (("seed",), "seed"),
        (("rate",), "rate"),
        (("config", "model", "seed"), "run_id"),
        (("config", "model", "noise"), "run_id"),
        (("config", "trainer", "max_epochs"), "run_id"),
        (("task", "input_size"), "task.input_size"),
    ],
)
def test_one_digit_of_a_record_is_found_and_named(records, keys, field):
    path = records / "jsb-gru-0eb914623e89.json"  # best epoch 17
    edit(path, *keys, value=one_digit)
    findings = wrong(records)
    assert any(finding.field == field and path.name in str(finding) for finding in findings), list(map(str, findings))
    assert all("\n" not in str(finding) for finding in findings)


@pytest.mark.parametrize(
    "keys",
    [
        ("curve", "train", 5),
        ("curve", "valid", 9),
        ("curve", "steps"),
        ("curve", "gradient", 3),
        ("curve", "update", 3),
        ("curve", "floored", 3),
        ("train", "nll"),
        ("environment", "replicas"),
        ("curve", "seconds", 8),
        ("environment", "threads"),
    ],
)
def test_digits_that_nothing_depends_on_are_found_by_the_sums(records, keys):
    seal(records)
    path = sorted(records.glob("*.json"))[1]
    edit(path, *keys, value=one_digit)
    assert (path.name, "") in told(records)


@pytest.mark.parametrize(
    ("keys", "value", "field"),
    [
        (("test", "nll"), float("nan"), ""),
        (("seconds",), "12", "seconds"),
        (("schema",), 9, ""),
        (("best_valid",), lambda v: v + 0.0001, "best_valid"),
        (("valid", "nll"), lambda v: v + 0.0001, "valid.nll"),
        (("valid", "nll_first"), None, "valid.nll_first"),
        (("train",), None, "train"),
        (("cell", "count"), "total", "cell.count"),
        (("cell", "budget"), None, "cell.budget"),
        (("config", "model", "budget"), 40_000, "cell.budget"),
        (("config", "model", "hidden"), 48, "cell.budget"),
        (("run_id",), "../../outside", "run_id"),
        (("task", "name"), "../../jsb", "run_id"),
        (("cell", "name"), "<script>alert(1)</script>", "cell.name"),
        (("task", "digest"), "0" * 64, "task.digest"),
        (("config", "data", "class_path"), "os.system", "config.data.class_path"),
        (("config", "data", "class_path"), "datamodules.JSBChorales", "config.data.class_path"),
        (("config", "data", "extra"), 1, "config.data.extra"),
        (("config", "model", "optimizer", "class_path"), "os.system", "config.model.optimizer.class_path"),
        (("config", "model", "optimizer"), "os.system", "config.model.optimizer"),
        (("config", "model", "schedule", "class_path"), "Adam", "config.model.schedule.class_path"),
        (("config", "model", "cell"), "GRU", "config.model.cell"),
        (("config", "model", "cell", "class_path"), "Grue", "config.model.cell.class_path"),
        (("config", "model", "cell", "init_args", "a", "class_path"), "GRU",
         "config.model.cell.init_args.a.class_path"),
        (("config", "trainer", "callbacks"), [{"class_path": "ModelCheckpoint"}],
         "config.trainer.callbacks.0.class_path"),
        (("config", "trainer", "default_root_dir"), "/etc", "config.trainer.default_root_dir"),
        (("config", "run", "dir"), "/etc", "config.run.dir"),
        (("config", "ckpt_path"), "evil.ckpt", "config.ckpt_path"),
        (("config", "model", "noise"), float("inf"), ""),
        (("status",), "failed", "message"),
        (("status",), "stopped", "message"),
        (("test",), None, "test"),
        (("floors",), {}, "floors"),
        (("command",), lambda c: c.replace("--model.rate 0.0004", "--model.rate 0.004"), "command"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_found_and_named(records, keys, value, field):
    path = sorted(records.glob("*.json"))[0]
    edit(path, *keys, value=value)
    assert (path.name, field) in told(records)


def test_another_floor_names_both_files(records):
    path = sorted(records.glob("*.json"))[3]
    edit(path, "floors", "note unigram", "nll", value=lambda v: v + 0.001)
    (finding,) = wrong(records)
    assert finding.field == "floors"
    assert path.name in finding.problem


def test_scores_that_fit_each_other_but_no_floor(records):
    """Someone who knows how the parts add up, and overdoes it."""
    path = sorted(records.glob("*.json"))[0]
    for factor, names in ((0.3, {"test.nll"}), (9.0, {"test.nll"}), (-1.0, {"test", "test.nll", "test.nats"})):
        record = rec.load(path)
        forged = rec.score_from_parts([factor * n for n in record.test.nats], record.test.frames, record.test.first)
        rec.save(dataclasses.replace(record, test=forged), records / path.name)
        assert told(records) == {(path.name, name) for name in names}
        rec.save(record, path)


def test_a_missing_seed_and_a_missing_file(records):
    seal(records)
    path = sorted(records.glob("jsb-gru-*"))[0]
    seed = json.loads(path.read_text())["seed"]
    path.unlink()
    lines = list(map(str, wrong(records)))
    assert lines[0] == f"{path.name}: is gone, though {SUMS} has it"
    assert re.search(rf"GRU of JSB Chorales.*incomplete: no seed {seed}$", lines[1])
    assert len(lines) == 2


def test_the_same_run_twice_a_wrong_name_and_a_large_file(records):
    path = sorted(records.glob("*.json"))[0]
    shutil.copy(path, records / "again.json")
    assert {(field, file) for file, field in told(records)} == {("run_id", "again.json"), ("run_id", path.name)}
    (records / "again.json").unlink()
    path.write_text(path.read_text() + " " * 100_000)
    assert told(records) == {(path.name, "")}


def test_submit_copies_what_is_sound_and_says_what_changed(records, tmp_path):
    paths = sorted(records.glob("jsb-gru-*"))
    board = tmp_path / "board"
    board.mkdir()
    for path in records.glob("jsb-tanh-*"):
        shutil.copy(path, board)
    runs = tmp_path / "runs"
    for path in paths:
        (runs / path.stem).mkdir(parents=True)
        shutil.copy(path, runs / path.stem / "record.json")
    seal(board)
    (change,) = submit(runs / paths[0].stem, board, CHECKS)
    assert str(change).startswith("new: GRU of JSB Chorales, 20k in the recurrent layer: test NLL 8.4637")
    assert str(change).endswith("runs 1, group none, best rate 0.0004")
    changes = list(map(str, submit(runs, board, CHECKS)))
    assert re.search(r"changed: GRU .* test NLL 8\.4637 -> 8\.4643, runs 1 -> 3, group none -> a, best", changes[0])
    assert re.search(r"changed: Tanh .* test NLL 8\.5634, runs 3, group a -> b, best", changes[1])
    assert submit(runs, board, CHECKS) == []
    assert wrong(board) == []
    changes = list(map(str, undo(runs, board, {})))
    assert changes[-1].startswith("gone: GRU of JSB Chorales")
    assert sorted(read_sums(board)) == sorted(path.name for path in board.glob("*.json"))
    assert {path.name[:9] for path in board.glob("*.json")} == {"jsb-tanh-"}
    before = {path.name: path.read_bytes() for path in board.iterdir()}
    assert list(map(str, submit(runs, board, CHECKS, dry_run=True))) != []
    assert before == {path.name: path.read_bytes() for path in board.iterdir()}
    submit(runs, board, CHECKS)
    with pytest.raises(SeqbenchError, match=r"jsb-gru-\w+\.json is committed"):
        undo(runs, board, read_sums(board))
    assert sorted(p.read_bytes() for p in board.glob("*.json")) == sorted(
        p.read_bytes() for p in records.glob("*.json")
    )


@pytest.mark.parametrize(
    ("keys", "value", "refused"),
    [
        (("test", "nll"), 8.0, r"test\.nll: 8\.0, but"),
        (("run_id",), "../../outside", "is no name of a run"),
        (("environment", "commit"), "557421f7e788+", "uncommitted changes"),
        (("status",), "failed", "failed"),
        (("status",), "stopped", "stopped"),
        (("floors", "note unigram", "nll"), 11.0, "disagree about the floor"),
        (("seconds",), 1e6, "published already"),
    ],
)
def test_submit_refuses_what_verify_refuses_and_copies_nothing(records, tmp_path, keys, value, refused):
    path = sorted(records.glob("*.json"))[0]
    run = tmp_path / "run" / path.stem
    run.mkdir(parents=True)
    shutil.copy(path, run / "record.json")
    if refused != "published already":
        path.unlink()
    seal(records)
    edit(run / "record.json", *keys, value=value)
    before = {p.name for p in tmp_path.rglob("*")}
    with pytest.raises(SeqbenchError, match=refused):
        submit(run, records, CHECKS)
    assert {p.name for p in tmp_path.rglob("*")} == before


@pytest.mark.faults("A1")
@pytest.mark.parametrize("status", ["stopped", "interrupted", "failed"])
def test_submit_takes_nothing_that_did_not_come_to_its_end(records, tmp_path, status):
    record = rec.load(records / "jsb-gru-0eb914623e89.json")
    run = dataclasses.replace(record, status=status, message="after 30 of 40 epochs")
    rec.save(run, tmp_path / "run" / run.run_id / "record.json")
    with pytest.raises(SeqbenchError, match=f"status: {status}: a run is published when it came to its end"):
        submit(tmp_path / "run", tmp_path / "board", CHECKS)
    assert not (tmp_path / "board").exists()


def test_diff_says_what_another_folder_would_add(factory, tmp_path):
    old = [factory.make("GRU", seed, 8.5) for seed in range(2)]
    better = factory.make("GRU", 0, 8.3, rate=1e-3), factory.make("GRU", 1, 8.3, rate=1e-3)
    a = factory.write(tmp_path / "a", *old, factory.make("tanh", 0, 9.0))
    b = factory.write(tmp_path / "b", *better, factory.make("LSTM", 0, 8.4))
    lines = [str(change) for change in diff(a, b)]
    assert len(lines) == 2
    assert lines[0].startswith("changed: GRU of JSB Chorales, 20k in the recurrent layer: test NLL 8.5000 -> 8.3000")
    assert lines[0].endswith("best rate 0.0003 -> 0.001")
    assert lines[1].startswith("new: LSTM")
    assert diff(a, a) == []


@pytest.mark.slow
def test_a_run_trained_again_gives_the_recorded_score(tmp_path):
    """Two epochs on made-up chords."""
    flags = [
        "--model.cell",
        "GRU",
        "--trainer.max_epochs",
        "2",
        "--model.recurrence",
        "loop",
        "--run.protocol",
        "short",
        "--run.dir",
        tmp_path,
    ]
    seqbench("fit", "-c", ROOT / "configs/synthetic.yaml", "-c", ROOT / "configs/chung2014.yaml", *flags)
    (path,) = tmp_path.glob("*/record.json")
    assert wrong(tmp_path) == []
    again = seqbench("leaderboard", "verify", "--records", tmp_path, "--rerun", path.parent.name[:-4], "--json")
    (told,) = json.loads(again.stdout)
    assert again.returncode == 0
    assert told["agrees"]
    assert abs(told["difference"]) < 1e-6
    (spot,) = json.loads(
        seqbench("leaderboard", "verify", "--records", tmp_path, "--spot", path.parent.name, "--json").stdout
    )
    assert (spot["epochs"], spot["agrees"]) == (2, True)
    assert spot["difference"] < 1e-5
    weights_are_kept_and_tested_again(path, tmp_path / "board")
    with pytest.raises(SeqbenchError, match="there is no run nothing in"):
        rerun(tmp_path, "nothing", CHECKS, repeat)
    edit(path, "test", "nll", value=1.0)
    with pytest.raises(SeqbenchError, match=r"does not fit it: test\.nll: 1\.0, but"):
        rerun(tmp_path, path.parent.name, CHECKS, repeat)


def weights_are_kept_and_tested_again(path, board):
    """Of the run whose record lies at `path`: kept by `submit`, summed up, tested by `verify --score`."""
    edit(path, "environment", "commit", value="557421f7e788")  # the tree may have changes
    submit(path.parent, board, CHECKS, weights=best_weights)
    record = rec.load(path)
    (kept,) = board.glob("*.npy")
    assert kept.stem == record.run_id
    assert kept.stat().st_size == 128 + 4 * record.parameters.total
    assert set(read_sums(board)) == {kept.name, kept.with_suffix(".json").name}
    assert wrong(board) == []
    (told,) = scores(board, [], CHECKS, score)
    assert (told.run_id, told.recorded, told.agrees) == (record.run_id, record.test.nll, True)
    assert told.found == pytest.approx(record.test.nll, abs=1e-6)
    rows = np.load(kept)
    np.save(kept, 0.99 * rows)
    (told,) = scores(board, [record.run_id], CHECKS, score)
    assert not told.agrees
    assert [(finding.file, "another sha256" in finding.problem) for finding in wrong(board)] == [(kept.name, True)]
    np.save(kept, rows[1:])
    with pytest.raises(SeqbenchError, match=rf"are {len(rows) - 1}; the unit has {len(rows)}"):
        list(scores(board, [], CHECKS, score))
    undo(path.parent, board, {})
    assert [found.name for found in board.iterdir()] == [SUMS]


def test_weights_of_the_median_seed_are_kept_once_a_unit(records, tmp_path):
    """Only where they are small; a seed that comes later changes nothing."""
    runs, board, asked = tmp_path / "runs", tmp_path / "board", []
    for path in records.glob("*.json"):
        (runs / path.stem).mkdir(parents=True)
        shutil.copy(path, runs / path.stem / "record.json")

    def weights(run):
        asked.append(rec.load(run / "record.json"))
        return bytes(160_001 if asked[-1].cell.name == "Tanh" else 160_000)

    later = sorted(runs.glob("jsb-gru-*"))[0]
    later.rename(tmp_path / "later")
    submit(runs, board, CHECKS, weights=weights)
    kept = {path.stem for path in board.glob("*.npy")}
    assert {name.split("-")[1] for name in kept} == {run.cell.name.lower() for run in asked} - {"tanh"}
    for run in asked:
        same = [rec.load(path) for path in board.glob(f"jsb-{run.cell.name.lower()}-*.json")]
        ordered = sorted(one.test.nll for one in same if one.task == run.task)
        assert run.test.nll == ordered[(len(ordered) - 1) // 2]
    assert len(asked) == len({run.cell.name for run in asked})
    submit(tmp_path / "later", board, CHECKS, weights=weights)
    assert kept == {path.stem for path in board.glob("*.npy")}


def test_runs_that_are_published_without_weights_bring_theirs_later(records, tmp_path):
    runs, board = tmp_path / "runs", tmp_path / "board"
    for path in records.glob("*.json"):
        (runs / path.stem).mkdir(parents=True)
        shutil.copy(path, runs / path.stem / "record.json")
    submit(runs, board, CHECKS)
    before = {path.name: path.read_bytes() for path in board.glob("*.json")}
    told = submit(runs, board, CHECKS, weights=lambda run: bytes(96_000))
    assert [re.sub(r"-[0-9a-f]{12}", "", str(each)) for each in told] == [
        f"kept: the best weights of jsb-{unit}, 96 kB" for unit in ("gru", "tanh")
    ]
    assert {path.name: path.read_bytes() for path in board.glob("*.json")} == before
    kept = {path.name for path in board.glob("*.npy")}
    assert len(kept) == 2
    assert kept <= read_sums(board).keys()


def test_a_rerun_says_how_far_it_is_off():
    cpu, gpu = "cpu (x86_64) x 1", "cuda (NVIDIA H100) x 1"
    near = Rerun("a", 8.5, 8.5004, 4e-4, cpu, cpu, "abc", "def", True)
    far = Rerun("a", 8.5, 8.6, 0.1, cpu, cpu, "abc", "abc", False)
    later = Rerun("a", 8.5, 8.6, 0.1, cpu, cpu, "abc", "def", False)
    elsewhere = Rerun("a", 8.5, 8.6, 0.1, gpu, cpu, "abc", "def", False)
    assert str(near) == f"a: test NLL 8.500400, recorded 8.500000, difference +0.000400: agrees ({cpu})"
    assert str(far).endswith(f"difference +0.100000: differs ({cpu})")
    assert str(later).endswith(f"differs; its own commit may not: git checkout abc ({cpu})")
    assert str(elsewhere).endswith(f"differs, on another kind of device ({cpu}, recorded on {gpu})")


def test_the_command_line_exits_0_where_there_are_notes_alone(records):
    seal(records)
    found = seqbench("leaderboard", "verify", "--records", records, "--json")
    assert found.returncode == 0
    assert [f["note"] for f in json.loads(found.stdout)] == [True]


def test_the_command_line_exits_1_where_something_is_wrong(records):
    path = sorted(records.glob("*.json"))[0]
    edit(path, "test", "nll", value=8.0)
    seal(records)
    found = seqbench("leaderboard", "verify", "--records", records, "--json")
    assert found.returncode == 1
    told = [(f["file"], f["field"]) for f in json.loads(found.stdout) if not f["note"]]
    assert told == [(path.name, "test.nll")]


def seqbench(*arguments):
    command = [sys.executable, "-m", "seqbench.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
