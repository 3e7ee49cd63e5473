"""Sweeps as a user runs them: two units, few rates, on the made-up data set."""

import dataclasses
import json
import math
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from seqbench import cli, record
from seqbench.search import cluster, engines, sweep
from seqbench.search.design import STAGES, Design, draw_rates, fit_command, groups, load_design, records, with_unit
from seqbench.search.status import status
from seqbench.task import SeqbenchError
from seqbench.train.extract import extract
from seqbench.train.fitting import run

CONFIGS = Path(__file__).parents[3] / "configs"
FLAGS = ["-c", str(CONFIGS / "synthetic.yaml"), "-c", str(CONFIGS / "chung2014.yaml"), "--model.hidden", "5"]
SHORT = [*FLAGS, "--trainer.max_epochs", "4"]


def design(units=("Tanh", "GRU"), rates=(1e-2, 1e-3, 1e-7, 1e-1), seeds=3, size=2, command=SHORT, stages=STAGES):
    return Design(list(command), list(units), list(rates), seeds, list(stages), size)


def without_times(found: dict[str, record.Record]) -> dict[str, record.Record]:
    """Records but for seconds, which no two runs share, and threads and commit."""
    return {
        run_id: dataclasses.replace(r, seconds=0.0, curve=dataclasses.replace(r.curve, seconds=[]), environment=None)
        for run_id, r in found.items()
    }


FINISHED = record.Record(
    schema=record.SCHEMA, run_id="", status="finished", message="", seed=0, cell=None, parameters=None,
    task=record.TaskRecord("jsb", 88, 88, "Bernoulli", "nats/frame", "", next_frame=True), rate=1.0, config={},
    command="", environment=None, seconds=0.0, curve=None, best_epoch=0, best_valid=0.0, train=None, valid=None,
    test=None, floors={}, scale=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    assert sweep.sweep(design(size=4), out, engines.local)
    return out


def test_two_stages_and_nothing_twice(undisturbed):
    found = records(undisturbed)
    assert len(found) == 2 * (4 + 3 * 2)
    assert all(r.status == "finished" for r in found.values())
    for unit in ("Tanh", "GRU"):
        mine = [r for r in found.values() if r.cell.name == unit]
        searched = {r.rate: r.best_valid for r in mine if r.seed == 0}
        finalists = sorted(searched, key=searched.get)[:3]
        assert sorted(searched) == [1e-7, 1e-3, 1e-2, 1e-1]
        assert {(r.seed, r.rate) for r in mine if r.seed} == {(seed, rate) for seed in (1, 2) for rate in finalists}
    state = status(undisturbed)
    assert (state["planned"], state["done"]) == (20, 20)


def test_a_report_alone_takes_the_one_rate_there_is(tmp_path):
    one = design(units=["GRU"], rates=[1e-2], stages=["report"], size=3)
    (group,) = groups(one, "report", tmp_path, {})
    assert (group.seeds, group.rates) == ([0, 1, 2], [1e-2] * 3)


def test_results_are_the_records_means(undisturbed):
    """The rate is the one whose validation NLL, in the mean over all seeds, is lowest."""
    found = records(undisturbed)
    for row in sweep.results(undisturbed):
        valid = defaultdict(list)
        for r in found.values():
            if r.cell.name == row["unit"]:
                valid[r.rate].append(r.best_valid)
        means = {rate: sum(values) / 3 for rate, values in valid.items() if len(values) == 3}
        assert len(means) == 3
        assert row["best rate"] == min(means, key=means.get)
        assert ("rate at the edge" in row["marks"]) == (row["best rate"] in (1e-7, 1e-1))
        runs = [r for r in found.values() if r.cell.name == row["unit"] and r.rate == row["best rate"]]
        assert row["seeds"] == len(runs) == 3
        assert row["test NLL"] == pytest.approx(sum(r.test.nll for r in runs) / 3)


def test_each_record_has_the_command_that_trains_it_alone(undisturbed, tmp_path):
    found = next(iter(records(undisturbed).values()))
    assert "--run.dir" not in found.command
    command = [sys.executable, "-m", "seqbench.cli", *found.command.split()[1:], "--run.dir", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    alone = record.load(tmp_path / found.run_id / "record.json")
    assert alone.command == found.command
    assert alone.test.nll == pytest.approx(found.test.nll, abs=1e-6)


def test_a_sweep_begun_before_can_be_gone_on_with(undisturbed):
    """What stands in its file, and the command that a group's runs are named by, are what they were."""
    kept = json.loads((undisturbed / "sweep.json").read_text())
    assert kept == {
        "command": SHORT, "units": ["Tanh", "GRU"], "rates": [1e-2, 1e-3, 1e-7, 1e-1], "seeds": 3,
        "stages": ["search", "report"], "group_size": 4,
    }  # fmt: skip
    command = fit_command(load_design(undisturbed), Path("out"), "GRU", [0, 0], [1e-2, 1e-3])
    replicas = ["--model.seed", "[0, 0]", "--model.rate", "[0.01, 0.001]"]
    assert command == ["fit", *SHORT, "--model.cell", "GRU", *replicas, "--run.dir", "out"]


def test_a_units_own_options_come_after_it():
    command = ["-c", "jsb", "--model.cell.peepholes", "false", "--model.noise", "0"]
    assert with_unit(command, "LSTM") == [*command[:2], "--model.cell", "LSTM", *command[2:]]


def test_a_finished_sweep_trains_nothing_again(undisturbed):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.glob("*/record.json")}
    assert sweep.sweep(design(size=4), undisturbed, engines.local)
    assert {path: path.stat().st_mtime_ns for path in undisturbed.glob("*/record.json")} == before


def test_another_sweep_in_the_same_folder_is_refused(undisturbed):
    with pytest.raises(SeqbenchError, match="rates, seeds differ"):
        sweep.sweep(design(rates=[1e-4], seeds=1, size=4), undisturbed, engines.local)


@pytest.mark.faults("C11")
def test_killed_and_called_again_gives_what_an_undisturbed_sweep_gives(tmp_path):
    """kill -9 when the groups of the search are half-way."""
    flags = [*FLAGS, "--trainer.max_epochs", "40", "--run.patience", "10"]
    arguments = ["sweep", *flags, "--cells", "gru", "--rates", "3e-2,1e-2,3e-3", "--seeds", "1", "--stages", "search"]
    command = [sys.executable, "-m", "seqbench.cli", *arguments, "--group-size", "2", "--out"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    process = subprocess.Popen(
        [*command, str(tmp_path / "killed")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 300  # a busy machine takes its time
        while len(list(tmp_path.glob("killed/*/checkpoints/last.ckpt"))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
    process.wait()
    while subprocess.run(["pgrep", "-f", str(tmp_path / "killed")], capture_output=True, check=False).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    state = status(tmp_path / "killed")
    assert state["running"] == 0
    assert state["waiting"] > 0
    subprocess.run([*command, str(tmp_path / "killed")], check=True, capture_output=True)
    assert without_times(records(tmp_path / "killed")) == without_times(records(tmp_path / "whole"))


def test_a_failing_group_does_not_stop_the_others(tmp_path, monkeypatch):
    """A unit's folder that cannot be written: its runs are missing, the other unit's are there."""
    first = groups(design(stages=["search"], size=4), "search", tmp_path, {})[0]
    (tmp_path / first.name).write_text("in the way")
    assert not sweep.sweep(design(stages=["search"], size=4), tmp_path, engines.local)
    found = records(tmp_path)
    assert len(found) == 8 - len(first.run_ids)
    assert status(tmp_path)["waiting"] == len(first.run_ids)


def test_a_sweep_is_complete_where_fewer_rates_than_three_come_to_their_end(tmp_path):
    """By SGD at such rates all but the last diverge; the report has that one's seeds."""
    wild = design(units=["GRU"], rates=[1e5, 1e4, 1e3, 1e-3], command=[*SHORT, "--model.optimizer", "SGD"])
    assert sweep.sweep(wild, tmp_path, engines.local)
    state = status(tmp_path)
    assert (state["planned"], state["done"], state["diverged"]) == (6, 3, 3)


def test_two_sweeps_at_once_are_refused(tmp_path):
    def engine(todo, design_, out, watch):
        for group in todo:
            watch.started(group)
        assert status(tmp_path)["running"] == 8
        with pytest.raises(SeqbenchError, match="running"):
            sweep.sweep(design(stages=["search"]), tmp_path, engines.local)

    assert not sweep.sweep(design(stages=["search"]), tmp_path, engine)


@pytest.mark.parametrize("n", [1, 2, 10, 100])
def test_one_rate_is_drawn_from_each_stretch_of_chungs_range(n):
    rates = draw_rates(n, 0)
    stretches = [int((-6 - math.log(rate)) * n / 6 * (1 - 1e-9)) for rate in rates]
    assert stretches == list(range(n))
    assert draw_rates(n, 0) == rates != draw_rates(n, 1)


def test_a_run_beside_those_of_the_sweep_changes_nothing(undisturbed, tmp_path):
    """One that a single fit left in the folder, of other settings and with the lowest validation NLL of all."""
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    told, state = sweep.results(tmp_path), status(tmp_path)
    path = min(tmp_path.glob("*/record.json"))
    other = dataclasses.replace(record.load(path), run_id="synthetic-tanh-0123456789ab", best_valid=0.0, seed=0)
    record.save(other, tmp_path / other.run_id / "record.json")
    assert sweep.results(tmp_path) == told
    assert status(tmp_path) == state
    assert sweep.sweep(design(size=4), tmp_path, None)  # nothing is left to train
    (tmp_path / "runs.json").write_text("{")
    with pytest.raises(SeqbenchError, match=r"runs\.json cannot be read .*: remove it and call the sweep again"):
        status(tmp_path)


def test_a_lucky_seed_chooses_no_rate():
    """Of equally good rates the one that seed 0 liked is not the best, but one of three that get all seeds."""

    def made(rate, seed, valid):
        return dataclasses.replace(FINISHED, rate=rate, seed=seed, best_valid=valid)

    searched = [made(rate, 0, valid) for rate, valid in ((1.0, 8.0), (2.0, 8.5), (3.0, 8.6), (4.0, 9.0))]
    assert record.best_rate(searched) == 1.0
    assert record.best_rates(searched)[:3] == [1.0, 2.0, 3.0]
    report = [made(1.0, 1, 9.2), made(2.0, 1, 8.5), made(3.0, 1, 8.5)]
    assert record.best_rate(searched + report) == 2.0  # means 8.6, 8.5 and 8.55 over two seeds
    late = dataclasses.replace(report[1], status="diverged")
    assert record.best_rate([*searched, report[0], late, report[2]]) == 2.0  # after its best epoch
    lost = dataclasses.replace(late, best_valid=None)
    assert record.best_rate([*searched, report[0], lost, report[2]]) == 3.0  # 2.0 has one seed only


def test_extracted_replica_goes_on_as_the_solo_run_would(tmp_path):
    flags = [*FLAGS, "--model.cell", "GRU", "--run.patience", "50", "--model.schedule", "null"]
    group = ["--model.seed", "[0,7,2]", "--model.rate", "[1e-2,3e-3,1e-3]", "--run.dir", str(tmp_path / "group")]
    solo = ["--model.seed", "7", "--model.rate", "3e-3"]
    run(["fit", *flags, *group, "--trainer.max_epochs", "5"])
    (checkpoint,) = tmp_path.glob("group/group-*/checkpoints/last.ckpt")
    path = extract(checkpoint, 1, tmp_path / "extracted")
    run(
        [
            "fit",
            *flags,
            *solo,
            "--run.dir",
            str(tmp_path / "on"),
            "--trainer.max_epochs",
            "10",
            "--ckpt_path",
            str(path),
        ]
    )
    run(["fit", *flags, *solo, "--run.dir", str(tmp_path / "alone"), "--trainer.max_epochs", "10"])
    on, alone = (record.load(next(tmp_path.glob(f"{name}/*/record.json"))) for name in ("on", "alone"))
    assert on.run_id == alone.run_id
    assert on.curve.valid == pytest.approx(alone.curve.valid, abs=1e-5)
    assert on.best_epoch == alone.best_epoch
    assert on.test.nll == pytest.approx(alone.test.nll, abs=1e-6)
    run(["fit", "-c", str(path.parents[1] / "config.yaml"), "--ckpt_path", str(path), "--run.overwrite", "true"])
    with pytest.raises(SeqbenchError, match="0 to 2"):
        extract(checkpoint, 3, tmp_path / "extracted")
    with pytest.raises(SeqbenchError, match="there already"):
        extract(checkpoint, 1, tmp_path / "extracted")
    with pytest.raises(SeqbenchError, match="not a checkpoint"):
        extract(CONFIGS / "jsb.yaml", 1, tmp_path)


def test_a_worker_is_sent_files_and_knows_the_suites_configs_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("run: {patience: 3}")
    Path("quick").write_text("run: {patience: 4}")  # a file, though one of the suite's has its name
    command = ["-c", "jsb", "-c", "mine.yaml", "--config", "quick", "--model.noise", "0"]
    assert cluster.config_texts(command) == {"mine.yaml": "run: {patience: 3}", "quick": "run: {patience: 4}"}
    for one in (["-cmine.yaml"], ["-c=mine.yaml"], ["--config=mine.yaml"]):
        assert cluster.config_texts(one) == {"mine.yaml": "run: {patience: 3}"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--cells", "tanh,grx"], "did you mean"),
        (["--cells", "tanh", "--rates", "0,1"], "--rates 0,1"),
        (["--cells", "tanh", "--rates", "1e-3,1e-3"], "different positive rates"),
        (["--cells", "tanh", "--stages", "all"], "--stages all"),
        (["--cells", "tanh,Tanh"], "each unit once"),
        (["--cells", "tanh", "--trials", "2", "--seeds", "7"], "leave out --seeds and --stages"),
        (["--cells", "tanh", "--run.dir", "runs"], "--run.dir is the sweep's own: give --out"),
        (["--cells", "tanh", "--modle.layers", "2", "--group-size", "1"], "--modle.layers"),
        (["--cells", "tanh", "-c", "lags_1997"], "the config's own rate is 0.01: give rates that suit its optimizer"),
        ([], "--cells"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, tmp_path, arguments, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["seqbench", "sweep", *SHORT, *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line
    assert not list(tmp_path.iterdir())


def test_status_of_no_sweep(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["seqbench", "sweep", "status", str(tmp_path)])
    with pytest.raises(SystemExit):
        cli.main()
    assert "holds no sweep" in capsys.readouterr().err


def test_status_as_json(undisturbed, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["seqbench", "sweep", "status", str(undisturbed), "--json"])
    cli.main()
    assert json.loads(capsys.readouterr().out)["done"] == 20


class TestRay:
    """A real local Ray; skipped where the extra is not installed."""

    @pytest.fixture(autouse=True)
    def installed(self, monkeypatch):
        pytest.importorskip("ray", reason="the extra [ray] is not installed")
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def test_the_same_records_but_for_times_and_signals_as_before(self, undisturbed, tmp_path):
        before = signal.getsignal(signal.SIGTERM)
        assert sweep.sweep(design(size=4), tmp_path, cluster.ray)
        assert signal.getsignal(signal.SIGTERM) == before
        assert without_times(records(tmp_path)) == without_times(records(undisturbed))
        assert list(tmp_path.glob("*/*/events.out.tfevents.*"))

    def test_a_killed_worker_loses_no_run(self, tmp_path):
        """Kills Ray's workers with SIGKILL, once, while they train: they go on from their checkpoints."""
        long = design(units=["GRU"], stages=["search"], command=[*FLAGS, "--trainer.max_epochs", "150"])
        command = [sys.executable, "-c", KILLED_RAY, str(tmp_path), json.dumps(dataclasses.asdict(long))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
        assert "killed ['" in done.stdout, done.stderr[-2000:]
        assert done.returncode == 0, done.stderr[-2000:]
        assert "goes on from its checkpoint" in done.stderr
        found = records(tmp_path)
        assert len(found) == 4
        assert all(r.status == "finished" for r in found.values())


KILLED_RAY = """
import json, os, signal, subprocess, sys, threading, time
from pathlib import Path
from seqbench.search import cluster, sweep
from seqbench.search.design import Design

def kill_workers():
    while not list(Path(sys.argv[1]).glob("*/checkpoints/last.ckpt")):
        time.sleep(0.1)
    told = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True).stdout.splitlines()
    parents = dict(line.split() for line in told)

    def own(pid):
        return pid == str(os.getpid()) or (pid in parents and own(parents[pid]))

    training = subprocess.run(["pgrep", "-f", "^ray::train_packed"], capture_output=True, text=True).stdout.split()
    found = [pid for pid in training if own(pid)]  # another test may have a Ray too
    for pid in found:
        os.kill(int(pid), signal.SIGKILL)
    print("killed", found, flush=True)

threading.Thread(target=kill_workers, daemon=True).start()
whole = Design(**json.loads(sys.argv[2]))
sys.exit(0 if sweep.sweep(whole, Path(sys.argv[1]), cluster.ray) else 1)
"""
