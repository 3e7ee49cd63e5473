"""What a terminal gets: narrow ones, ASCII, and one line for whatever breaks (E12)."""

import errno
import io
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

from seqbench import cli, commands
from seqbench.train import callbacks

pytestmark = pytest.mark.faults("E12")
QUICK = ["-c", "synthetic", "-c", "chung2014", "--model.hidden", "4", "--model.cell", "Tanh"]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch):
    """A function that makes the output a terminal of so many columns."""

    def make(columns: int) -> None:
        for name, value in {"COLUMNS": columns, "LINES": 25, "TTY_COMPATIBLE": 1}.items():
            monkeypatch.setenv(name, str(value))

    return make


@pytest.mark.parametrize(
    ("columns", "command", "numbers"),
    [
        (80, ["data", "list"], ["229", "76", "77", "160"]),
        (40, ["data", "list"], ["229", "76", "77", "160"]),
        (80, ["cells"], ["19,728", "23,605"]),
        (40, ["cells"], ["19,728", "23,605"]),
        (24, ["cells"], ["19,728", "23,605"]),
    ],
)
def test_a_narrow_terminal_gets_every_number(seqbench, narrow, capsys, columns, command, numbers):
    narrow(columns)
    seqbench(*command)
    told = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert all(len(line) <= columns for line in told.splitlines())
    assert all(number in told for number in numbers)
    assert "…" not in told


def test_a_wide_terminal_gets_the_words_too(seqbench, narrow, capsys):
    narrow(200)
    seqbench("cells")
    assert "Chung et al. 2014" in capsys.readouterr().out


@pytest.mark.parametrize("columns", [40, 80])
def test_a_progress_bar_keeps_its_epoch_and_the_time_left(fit, monkeypatch, columns):
    seen = io.StringIO()
    console = Console(file=seen, force_terminal=True, width=columns, color_system=None)
    monkeypatch.setattr(callbacks, "Console", lambda stderr: console)
    fit("--model.seed", "[0, 1]", epochs=2)
    told = seen.getvalue()
    assert re.search(r"2/2 +epochs +0:\d\d:\d\d +< +0:00:00", told)
    assert ("valid" in told) == (columns == 80)


def test_an_ascii_terminal_gets_question_marks(monkeypatch, seqbench):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(commands, "data_list", lambda options: print("Schäfer…"))
    seqbench("data", "list")
    sys.stdout.flush()
    assert written.getvalue() == b"Sch?fer?\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("model: {cell: GRU}".encode("utf-16"), "mine.yaml is not in UTF-8"),
        (b"", "mine.yaml is empty"),
        (b'trainer: {precision: "a\\0b"}\n', "mine.yaml has a NUL character in 'a\\x00b'"),
        (b"# nothing yet\n", "mine.yaml is empty"),
        (b"GRU", "mine.yaml has no sections"),
        (b"run: 5", "mine.yaml: run is '5': write its options below it"),
        (b"- GRU", "mine.yaml has no sections"),
        (b"model: {cell: GRU", "mine.yaml is no YAML"),
        (b"model:\n\tcell: GRU", "mine.yaml is no YAML"),
        (b"[" * 5000, "mine.yaml is no YAML"),
        (b"model: &a {cell: *a}", "refers to itself"),
        (b"a: &a [0,0,0,0,0,0,0,0,0,0]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
         b"c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n", "refers to itself"),
    ],
)  # fmt: skip
def test_a_config_that_cannot_be_read_is_told_in_one_line(refusal, folder, content, told):
    Path("mine.yaml").write_bytes(content)
    assert told in refusal("fit", *QUICK, "-c", "mine.yaml")


def broken(capsys, monkeypatch, error, *flags):
    """Exit code and lines of a command in which this error is raised."""

    def fail(options):
        raise error

    monkeypatch.setattr(commands, "data_list", fail)
    monkeypatch.setattr(sys, "argv", ["seqbench", "data", "list", *flags])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code, capsys.readouterr().err.splitlines()


def test_what_breaks_is_one_line_and_exit_1(capsys, monkeypatch):
    code, (line,) = broken(capsys, monkeypatch, ZeroDivisionError("by\nzero"))
    assert code == 1
    assert line == "seqbench: internal error: ZeroDivisionError: by zero (--debug shows where; please report)"


@pytest.mark.parametrize("flags", [["--debug"], []])
def test_debug_shows_where(capsys, monkeypatch, flags):
    monkeypatch.setenv("SEQBENCH_DEBUG", "0" if flags else "1")
    code, lines = broken(capsys, monkeypatch, ZeroDivisionError("by zero"), *flags)
    assert code == 1
    assert lines[0] == "Traceback (most recent call last):"
    assert any("in fail" in line for line in lines)


def test_a_full_disk_is_no_fault_of_ours(capsys, monkeypatch):
    code, (line,) = broken(capsys, monkeypatch, OSError(errno.ENOSPC, "No space left on device", "a.json"))
    assert code == 2
    assert line == "seqbench: error: the disk is full (a.json): free some space, or write elsewhere"


@pytest.mark.parametrize("command", [["fit", *QUICK], ["sweep", *QUICK[:-2], "--cells", "GRU"], ["show", "GRU"]])
def test_numba_switched_off_is_told(refusal, folder, monkeypatch, command):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert "NUMBA_DISABLE_JIT is set" in refusal(*command)
