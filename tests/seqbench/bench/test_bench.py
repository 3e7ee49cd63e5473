"""`seqbench bench` at small sizes: what it checks, times and prints."""

import json
import math
import sys
from types import SimpleNamespace

import pytest
import torch

from seqbench import cells, cli
from seqbench.bench import check as bench_check
from seqbench.bench import report as bench_report
from seqbench.bench import timing as bench
from seqbench.bench.check import Shape, check_odd, check_timed, fastest
from seqbench.kernels import sequence
from seqbench.kernels.cpu import layer as cpu
from seqbench.kernels.cpu import threads
from seqbench.model import recurrence
from seqbench.task import SeqbenchError

SMALL = Shape("small", B=3, T=5, I=4, hidden={"Tanh": 5, "GRU": 4, "LSTM": 3})
UNITS = ["LSTM", "GRU", "CIFG", "LRU"]


@pytest.fixture
def small(monkeypatch):
    """Small sizes, one thread."""
    monkeypatch.setattr(bench_report, "SHAPES", (SMALL,))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv(sequence.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "argv", ["seqbench", "bench", "--device", "cpu", "--cells", ",".join(UNITS).lower()])


def test_json_holds_ratios_and_errors(small, capsys):
    sys.argv.append("--json")
    cli.main()
    report = json.loads(capsys.readouterr().out)
    rows = {(row["unit"], row["replicas"]): row for row in report["rows"]}
    assert set(rows) == {("LSTM", 1), ("LSTM", 4), ("GRU", 1), ("GRU", 4), ("CIFG", 1), ("LRU", 1)}
    for (unit, R), row in rows.items():
        compared = unit in bench.TORCH
        assert [row[name] is not None for name in ("nn", "loop", "lstm", "one")] == [compared] * 2 + [
            not compared,
            R > 1,
        ]
        assert row["milliseconds"] > 0
        assert 0 <= row["error"] <= 1e-5
        assert row["share"] == pytest.approx(row["gflops"] / report["peaks"]["CPU, threads 1"], abs=1e-4)
    checks = {(check["unit"], check["recurrence"], check["shape"]) for check in report["checks"]}
    assert {
        ("GRU", "numba", "odd"),
        ("GRU", "numba", "small"),
        ("LRU", "scan", "odd"),
        ("LRU", "numba", "small"),
    } <= checks
    assert report["machine"]["torch"] == torch.__version__


def test_tables_and_the_place_in_a_readme(small, capsys, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- seqbench bench -->\nold\n<!-- end -->\nafter\n", encoding="utf-8")
    sys.argv += ["--into", str(readme)]
    cli.main()
    out = capsys.readouterr().out
    assert "small: batch 3, T 5, input 4; CPU, threads 1" in out
    (line,) = [line for line in out.splitlines() if line.startswith("CIFG")]
    assert line.split()[1:3] == ["numba", "4"]
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- seqbench bench -->\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "| CIFG | numba | 4 | 1 |" in text
    assert "old" not in text
    (tmp_path / "other.md").write_text("nothing", encoding="utf-8")
    with pytest.raises(SeqbenchError, match="has no place"):
        bench_report.bench([], None, False, tmp_path / "other.md")


@pytest.mark.parametrize("wrong", ["h", "gradient", "last", "nan"])
def test_a_wrong_kernel_is_not_timed(small, monkeypatch, capsys, wrong):
    right = cpu.sequence

    def planted(plan, x, W, b, w, state, steps=None):
        h, last = right(plan, x, W, b, w, state, steps)
        if wrong == "h":
            h = h + 1e-4
        if wrong == "nan":
            h = h * math.nan
        if wrong == "gradient":  # the figures stay, their derivative does not
            h = h + 1e-3 * (h - h.detach())
        if wrong == "last":
            last = (*last[:-1], last[-1] * 1.0001)
        return h, last

    monkeypatch.setattr(cpu, "sequence", planted)
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    told = capsys.readouterr()
    assert not told.out
    assert "LSTM run by numba on cpu differs from the loop" in told.err
    with pytest.raises(SeqbenchError, match="differs"):
        check_timed(cells.LSTM(), SMALL, "cpu", "numba")


def test_a_wrong_scan_shows_in_float64(monkeypatch):
    right = recurrence.scan

    def planted(*arguments):
        h, last = right(*arguments)
        return h * (1 + 1e-9), last

    monkeypatch.setattr(recurrence, "scan", planted)
    with pytest.raises(SeqbenchError, match=r"LRU run by scan on cpu differs from the loop by 1\.\de-09"):
        check_odd(cells.LRU(), "cpu")


def test_turns(monkeypatch):
    clock, calls, rounds = [0.0], [], []

    def run(name, seconds):
        clock[0] += seconds * (3 if calls[-1:] != [name] else 1)  # the first of a block finds its buffers evicted
        clock[0] += len(rounds) / 10  # and the machine gets slower
        calls.append(name)

    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: clock[0], sleep=lambda seconds: None))
    monkeypatch.setattr(bench, "SECONDS", 1e9)
    contestants = {"a": lambda: run("a", 0.5), "b": lambda: run("b", 2.0)}
    times = bench.take_turns(contestants, lambda: None, lambda: rounds.append(0))
    assert "".join(calls) == "ab" + ("a" * bench.BLOCK + "b" * bench.BLOCK) * bench.ROUNDS
    assert times["a"] == pytest.approx([1e3 * (0.5 + k / 10) for k in range(1, bench.ROUNDS + 1)])
    assert bench.ratio(times, "b", "a") == pytest.approx(2.4 / 0.9)
    monkeypatch.setattr(bench, "SECONDS", 0.0)
    assert len(bench.take_turns(contestants, lambda: None, lambda: None)["a"]) == bench.FEWEST


def test_sizes_have_the_lstms_parameters():
    music, single, speech = bench_check.SHAPES
    sizes = [[shape.size(cells.find(name)()) for name in ("Tanh", "GRU", "LSTM")] for shape in (music, single, speech)]
    assert sizes == [[100, 46, 36], [104, 48, 39], [400, 227, 195]]
    assert [speech.size(cells.find(name)()) for name in ("V", "FGR", "GRUResetAfter", "IndRNN")] == [195, 111, 227, 195]


def test_operations_are_those_of_the_products():
    T, B, I, H = SMALL.T, SMALL.B, SMALL.I, 4
    steps = T * B * (I * 3 * H + H * 3 * H)  # forward: multiply-adds of W x and U h
    gradients = T * B * (I * 3 * H + 2 * H * 3 * H)  # by W; by U and h
    assert bench.operations(cells.GRU(), SMALL) == 2 * (steps + gradients)


def test_threads_are_given_back(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    with bench.thread_count(2):
        assert (threads.count(), torch.get_num_threads()) == (2, 2)
    assert (threads.count(), torch.get_num_threads()) == (1, before)


def test_without_numba_there_is_no_peak_of_the_cpu(monkeypatch):
    monkeypatch.setattr(sequence, "installed", lambda name: None)
    assert bench.cpu_peak(1) is None
    assert fastest(cells.GRU(), SMALL, "cpu") == "loop"


def test_mistakes(monkeypatch):
    with pytest.raises(SeqbenchError, match="did you mean"):
        bench_report.bench(["cpu"], ["LSTN"], False, None)
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(is_available=lambda: False))
    with pytest.raises(SeqbenchError, match="no device cuda"):
        bench_report.bench(["cuda"], None, False, None)
