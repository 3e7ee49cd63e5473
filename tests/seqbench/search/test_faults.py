"""Sweeps whose units fail, are killed, want too much memory; shares of a sweep; what its status tells."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from seqbench import cli, record
from seqbench.search import asked, cluster, engines, sweep
from seqbench.search.design import Design, Shard, begin, groups, records
from seqbench.search.status import STATES, status
from seqbench.task import SeqbenchError
from seqbench.train.callbacks import Replicas
from seqbench.train.fitting import run

SHORT = ["-c", "synthetic", "-c", "chung2014", "--model.hidden", "3", "--trainer.max_epochs", "2"]
FAULTY = '''
import os, signal
from pathlib import Path

from seqbench.cells import GRU


class Raises(GRU):
    """In training alone, or the sweep would refuse it."""

    def step(self, a, state, w):
        if a.requires_grad:
            raise RuntimeError("this unit has no gate")
        return super().step(a, state, w)


class Killed(GRU):
    """Once, after its first checkpoint."""

    def step(self, a, state, w):
        left = Path(os.environ["FAULTY"]) / "killed"
        if not left.exists() and list(left.parent.glob("*-killed-*/checkpoints/last.ckpt")):
            left.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(a, state, w)


class Hungry(GRU):
    def step(self, a, state, w):
        if a.shape[0] > 1 and a.requires_grad:
            raise MemoryError("unable to allocate two replicas")
        return super().step(a, state, w)
'''


def design(units=("GRU", "Tanh"), rates=(1e-2, 1e-3, 3e-3), seeds=1, size=1, command=SHORT, stages=("search",)):
    return Design(list(command), list(units), list(rates), seeds, list(stages), size)


@pytest.mark.faults("C9")
@pytest.mark.parametrize("name", ["local", "ray"])
def test_units_that_raise_are_killed_or_want_too_much_memory(name, folder, monkeypatch, capsys):
    """Whatever the engine: each is told in one line, what can be done is done, and nothing else is harmed."""
    if name == "ray":
        pytest.importorskip("ray", reason="the extra [ray] is not installed")
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    engine = {"local": engines.local, "ray": cluster.ray}[name]
    out = folder / "out"
    (folder / "faulty.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))
    monkeypatch.setenv("FAULTY", str(out))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    few = [*SHORT, "--trainer.limit_train_batches", "2", "--model.recurrence", "loop"]
    units = ["faulty.Raises", "faulty.Killed", "faulty.Hungry"]
    assert not sweep.sweep(design(units, [1e-2, 1e-3], size=2, command=few), out, engine)
    told = capsys.readouterr().err
    (raised,) = [line for line in told.splitlines() if "failed" in line]
    assert "faulty.Raises: 2 runs, failed: RuntimeError: this unit has no gate" in raised
    assert str(out / "logs") in raised
    assert "goes on from its checkpoint" in told
    assert "unable to allocate two replicas; begins anew as 2 groups" in told
    found = records(out).values()
    assert {(r.cell.name, r.status) for r in found} == {
        ("Raises", "failed"), ("Killed", "finished"), ("Hungry", "finished")
    }  # fmt: skip
    assert {r.message for r in found if r.status == "failed"} == {"RuntimeError: this unit has no gate"}
    assert all(r.environment.replicas == (1 if r.cell.name == "Hungry" else 2) for r in found)
    assert len(list(out.glob("*-hungry-*/checkpoints/last.ckpt"))) == 2
    state = status(out)
    assert (state["planned"], state["done"], state["failed"]) == (6, 4, 2)


@pytest.mark.faults("C9")
@pytest.mark.parametrize("interrupted", [False, True])
def test_a_worker_that_does_not_see_the_folder_sends_all_back(tmp_path, monkeypatch, interrupted):
    """Checkpoints too, from which it goes on when it is sent them."""
    out = tmp_path / "out"
    small = design(["GRU"], [1e-2, 1e-3], size=2)
    begin(small, out)
    (group,) = groups(small, "search", out, {})
    work = cluster.Work(group, small, out, "token", {}, None)
    if interrupted:
        with monkeypatch.context() as patch:
            patch.setattr(Replicas, "on_train_epoch_end", lambda _, trainer, __: setattr(trainer, "should_stop", True))
            run(group.command(small, tmp_path / "first"))
        work = cluster.Work(group, small, out, "token", {}, group.checkpoint(tmp_path / "first").read_bytes())
    packed, end = cluster.train_packed(work)
    assert end == engines.End()
    assert not records(out)
    cluster._unpack(packed, out)
    assert [records(out)[run_id].status for run_id in group.run_ids] == ["finished"] * 2
    assert group.checkpoint(out).exists()
    (out / cluster.TOKEN).write_text("token")
    assert cluster.train_packed(work) == (b"", engines.End())


@pytest.mark.faults("C10")
@pytest.mark.parametrize(
    ("visible", "count", "jobs", "expected"),
    [
        (None, 2, None, ["0", "1"]),
        ("2,5", 2, None, ["2", "5"]),
        ("GPU-8e1, GPU-77c", 2, 3, ["GPU-8e1", "GPU-77c", "GPU-8e1"]),
        ("3,9,1", 1, None, ["3"]),  # there is no 9, where CUDA stops counting
        ("", 0, 2, [None, None]),
    ],
)
def test_groups_are_given_the_gpus_that_the_sweep_was_given(monkeypatch, visible, count, jobs, expected):
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert [slot.get("CUDA_VISIBLE_DEVICES") for slot in engines.slots(jobs)] == expected


@pytest.mark.faults("C10")
def test_shards_share_all_groups_and_run_side_by_side(tmp_path):
    whole = design()
    cut = groups(whole, "search", tmp_path, {})
    shared = [[g.name for g in groups(whole, "search", tmp_path, {}, Shard(n, 4))] for n in (1, 2, 3, 4)]
    assert sorted(name for names in shared for name in names) == sorted(group.name for group in cut)
    assert {len(names) for names in shared} <= {1, 2}
    taken = []

    def inner(todo, *rest):
        taken.append([group.name for group in todo])
        with pytest.raises(SeqbenchError, match="running"):
            sweep.sweep(whole, tmp_path, inner)

    def outer(todo, design_, out, watch):
        inner(todo)
        watch.started(todo[0])
        assert status(tmp_path)["running"] == 1
        with pytest.raises(SeqbenchError, match="running"):
            sweep.sweep(whole, tmp_path, inner, Shard(1, 4))
        sweep.sweep(whole, tmp_path, inner, Shard(2, 4))

    assert not sweep.sweep(whole, tmp_path, outer, Shard(1, 4))
    assert taken == shared[:2]
    assert status(tmp_path)["running"] == 0


@pytest.mark.faults("C10")
def test_a_sweep_gone_on_with_elsewhere_keeps_its_group_size(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "group_size", lambda *arguments: 7)
    arguments = ["sweep", "--cells", "gru", "--rates", "1e-2,1e-3", "--out", str(tmp_path)]

    def asked_for(*more):
        options, options_rest = cli._parser().parse_known_args([*arguments, *more])
        options.rest = options_rest
        return asked.design(options)

    with pytest.raises(SeqbenchError, match="--group-size"):
        asked_for("--shard", "1/2")
    begun = asked_for()
    assert begun.group_size == 7
    begin(begun, tmp_path)
    monkeypatch.setattr(engines, "group_size", lambda *arguments: 2)
    assert asked_for("--shard", "1/2") == asked_for() == begun
    assert asked_for("--group-size", "3").group_size == 3


@pytest.mark.parametrize(("stages", "together"), [("report", 5), ("search,report", 1), ("search", 1)])
def test_all_seeds_of_a_report_alone_train_side_by_side(stages, together, tmp_path, monkeypatch):
    """Of one rate with ten seeds, where two groups run at once; a search has one run."""
    monkeypatch.setattr(engines, "slots", lambda jobs: [{}] * 2)
    monkeypatch.setattr(engines, "_memory", lambda: 1 << 40)
    words = ["sweep", "--cells", "gru", "--rates", "1e-2", "--seeds", "10", "--stages", stages, "--out", str(tmp_path)]
    options, _ = cli._parser().parse_known_args(words)
    options.rest = ["-c", "synthetic"]
    assert asked.design(options).group_size == together


@pytest.mark.faults("C10")
def test_status_tells_epoch_best_and_time_left_of_each_rate_and_adds_up(tmp_path, seqbench, capsys):
    """Of a group under way, by its checkpoint."""
    whole = design(["GRU"], [1e-2, 1e-3, 3e-3], seeds=2, size=2, stages=("search", "report"))

    def engine(todo, design_, out, watch):
        watch.started(todo[0])
        run(todo[0].command(design_, out))
        for run_id in todo[0].run_ids:
            best[record.load(out / run_id / "record.json").rate] = records(out)[run_id].best_valid
            (out / run_id / "record.json").unlink()
        state.update(status(out))
        capsys.readouterr()
        seqbench("sweep", "status", str(out))

    state, best = {}, {}
    assert not sweep.sweep(whole, tmp_path, engine)
    assert (state["planned"], state["running"], state["waiting"]) == (6, 2, 4)
    assert sum(state[name] for name in STATES) == state["planned"]
    for row in state["runs"]:
        assert sum(row[name] for name in STATES) == (3 if row["rate"] is None else 1)
        if row["running"]:
            assert (row["epoch"], row["of"], row["seconds_left"]) == (2, 2, 0)
            assert row["best"] == pytest.approx(best[row["rate"]], abs=1e-8)
    shown = capsys.readouterr().out
    assert "6 runs: 2 running, 4 waiting" in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.faults("C10")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("told")
def test_a_sweep_that_is_told_to_end_ends_its_groups(tmp_path, number):
    """They write that they were interrupted, and nothing trains on."""
    command = [sys.executable, "-m", "seqbench.cli", "sweep", *SHORT[:-1], "100000", "--cells", "gru", "--rates", "2"]
    more = ["--group-size", "2", "--out", str(tmp_path)]
    process = subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not list(Path(tmp_path).glob("*/checkpoints/last.ckpt")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(number)
        assert process.wait(300) == 143
    finally:
        process.kill()  # or it trains on where this fails
    state = status(tmp_path)
    assert (state["interrupted"], state["running"]) == (2, 0)
