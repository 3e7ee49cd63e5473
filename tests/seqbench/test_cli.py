"""Listings and mistakes on the command line."""

import json
import resource
import subprocess
import sys

import pytest

from seqbench import cli


def seqbench(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["seqbench", *arguments])
    cli.main()


def test_cells_gives_the_sizes_of_chung_table_1(monkeypatch, capsys):
    seqbench(monkeypatch, "cells", "--input-size", "20", "--budget", "169000", "--json")
    rows = {row["unit"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["LSTM"]["hidden"], rows["LSTM"]["recurrent"]) == (195, 169_065)
    assert (rows["GRU"]["hidden"], rows["GRU"]["recurrent"]) == (227, 168_888)
    assert (rows["Tanh"]["hidden"], rows["Tanh"]["recurrent"]) == (400, 168_400)
    assert rows["GRU"]["gates"] == 3


def test_listings_are_tables_without_json(monkeypatch, capsys):
    seqbench(monkeypatch, "cells")
    assert "19,728" in capsys.readouterr().out
    seqbench(monkeypatch, "data", "list")
    assert "nottingham" in capsys.readouterr().out
    seqbench(monkeypatch, "data", "floors", "synthetic")
    assert "per-key Markov" in capsys.readouterr().out


def test_data_prepare_counts(monkeypatch, capsys):
    seqbench(monkeypatch, "data", "prepare", "synthetic", "--json")
    assert json.loads(capsys.readouterr().out)["train"]["sequences"] == 48


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["cells", "--budget", "-3"], "'-3' is not a positive whole number"),
        (["cells", "--budget", "3"], "too small"),
        (["data", "floors", "jbs"], "did you mean jsb"),
        (["leaderboard", "build", "--records", "nowhere"], "there is no folder nowhere"),
        (["cells", "--js"], "unrecognized arguments: --js"),
        (["sweep", "-c", "bach", "--cells", "GRU", "--rates", "1", "--out", "o", "--seed", "5"], "arguments: --seed 5"),
        ([], "required"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, tmp_path, arguments, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        seqbench(monkeypatch, *arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("seqbench: error: ")
    assert told in line


@pytest.mark.parametrize("arguments", [["cells"], ["fit", "-c", "configs/synthetic.yaml"]])
def test_windows_is_refused_in_one_line(monkeypatch, capsys, arguments):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as stop:
        seqbench(monkeypatch, *arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "seqbench: error: Windows is not supported: use Linux or macOS, or Linux within Windows (WSL)"


@pytest.mark.parametrize("arguments", [["--help"], ["data", "list"], ["cells"]])
def test_listings_start_within_three_seconds(arguments):
    """Of the processor's time, the best of three: a busy machine does not count."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "seqbench.cli", *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(seconds) < 3
