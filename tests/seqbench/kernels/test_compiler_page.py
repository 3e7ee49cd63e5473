"""docs/compiler.md is held against what its commands print; `seqbench show`."""

import doctest
import json
import re
import sys
import textwrap
from pathlib import Path

import pytest

from seqbench import cli

PAGE = Path(__file__).parents[3] / "docs" / "compiler.md"
COMMANDS = re.findall(r"```console\n\$ seqbench ([^\n]*)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def seqbench(monkeypatch, command):
    monkeypatch.setattr(sys, "argv", ["seqbench", *command.split()])
    cli.main()


def test_the_page_shows_every_stage_but_llvms():
    assert [command for command, _ in COMMANDS] == [
        "show GRU --as expressions", "show GRU", "show GRU --as numba", "show GRU --as triton",
    ]  # fmt: skip


@pytest.mark.parametrize(("command", "output"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_a_command_prints_what_the_page_says(command, output, monkeypatch, capsys):
    """A line of three dots stands for any lines."""
    seqbench(monkeypatch, command)
    parts = [re.escape(part) for part in re.split(r"^\.\.\.\n", output, flags=re.MULTILINE)]
    assert re.fullmatch(r"(?:.*\n)*".join(parts), capsys.readouterr().out)


def test_what_the_page_computes_comes_out_so():
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert not failed
    assert tried


def test_llvms_code_has_vectors(monkeypatch, capsys):
    seqbench(monkeypatch, "show Tanh --as llvm --json")
    shown = json.loads(capsys.readouterr().out)
    assert shown["unit"] == "Tanh"
    assert re.search(r"call .*<\d+ x float> @llvm\.fma", shown["llvm"])


def test_what_cannot_be_compiled_is_told(monkeypatch, capsys, tmp_path):
    unit = """
    from seqbench.cells import Tanh

    class Logged(Tanh):
        def step(self, a, state, w):
            (h,) = super().step(a, state, w)
            return (h.atan(),)
    """
    (tmp_path / "logged.py").write_text(textwrap.dedent(unit))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        seqbench(monkeypatch, "show logged.Logged")
    assert "It cannot be compiled: Logged.step, logged.py line 7: no rule for aten.atan" in capsys.readouterr().err
