"""What the documentation shows works: its commands parse, the marked ones run, and so does the marked Python.

A comment on the line before a block says what is done with it:

    <!-- file: NAME -->   it is written into the folder that the page's commands and code run in
    <!-- run -->          it is run there: commands of seqbench with a few batches of a few epochs, Python as it is

All commands in blocks of `sh`, and in indented ones, are parsed by the command line's own parsers, run or not.
"""

import os
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from lightning.pytorch.cli import LightningCLI

from seqbench import cli
from seqbench.datamodules import listing
from seqbench.search.design import with_unit
from seqbench.task import SeqbenchError
from seqbench.train.arguments import resolve
from seqbench.train.fitting import SeqbenchCLI

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), ROOT / "benchmarks/README.md", ROOT / "tests/README.md", *ROOT.glob("docs/**/*.md")]
BLOCK = re.compile(r"^( *)(?:<!-- (\w+)(?:: (\S+))? -->\n *)?```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SMALL = ["--trainer.max_epochs", "2", "--trainer.limit_train_batches", "5"]
SHORT = ["--stages", "search", "--rates", "2", "--group-size", "2"]
STAND_IN = "data: {class_path: Synthetic}\nmodel: {cell: GRU}\n"  # for the config of a run that a page speaks of
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


class Block(NamedTuple):
    """A fenced block: what its comment says ("run", "file" or ""), the file's name, language, and text."""

    mark: str
    file: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    fenced = [Block(mark, file, what, textwrap.dedent(inner)) for _, mark, file, what, inner in BLOCK.findall(text)]
    indented = "\n".join(re.findall(r"^ {4}(\S.*)$", BLOCK.sub("", text), re.MULTILINE))
    return [*fenced, Block("", "", "sh", indented)]


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command line, without comments and variables set in front of it."""
    for line in text.replace("\\\n", " ").replace("$SHARD", "1/4").splitlines():
        if re.match(r"\s*(exec +|\w+=\S+ +)*(seqbench|make|\.venv/bin/seqbench) ", line):
            words = shlex.split(line, comments=True)
            yield words[next(n for n, word in enumerate(words) if "=" not in word and word != "exec") :]


class Whole(SeqbenchCLI):
    """Makes the parsers of all commands, where the command line makes that of the one which is called."""

    subcommands = staticmethod(LightningCLI.subcommands)


@pytest.fixture(scope="module")
def lightning(tmp_path_factory):
    """The parser of Lightning's commands, which takes seconds to make."""
    folder = str(tmp_path_factory.mktemp("parser"))
    return Whole(["fit", "-c", "synthetic", "--model.cell", "Tanh", "--run.dir", folder], execute=False).parser


@pytest.fixture
def parse(lightning):
    """Parses a command's words; raises as the command line does."""

    def parsed(program: str, *words: str) -> None:
        if program == "make":
            assert {word for word in words if "=" not in word} <= TARGETS, words
        elif words[0] in cli.LIGHTNING:
            lightning.parse_args(resolve([word for word in words if word != "--print_config"]))
        elif words[:2] == ("sweep", "status"):
            cli._status_parser().parse_args(words[2:])
        elif words[0] == "sweep":
            options, rest = cli._parser().parse_known_args(words)
            for unit in options.cells.split(","):
                parsed(program, "fit", *with_unit(rest, unit))
        elif words[:2] in (("data", "prepare"), ("data", "floors")):
            options, rest = cli._parser().parse_known_args(words)
            listing.parsed(options.name, rest)
        else:
            cli._parser().parse_args(words)

    return parsed


def run(monkeypatch, words: list[str]) -> None:
    small = {"fit": SMALL, "sweep": [*SMALL, *SHORT] * (words[2:3] != ["status"])}.get(words[1], [])
    monkeypatch.setattr(sys, "argv", [*words, *small])
    cli.main()


@pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in PAGES])
def test_what_a_page_shows_works(page, parse, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "runs/RUN").mkdir(parents=True)
    (tmp_path / "runs/RUN/config.yaml").write_text(STAND_IN)
    for block in blocks(page):
        if block.mark == "file":
            (tmp_path / block.file).write_text(block.text)
            sys.modules.pop(Path(block.file).stem, None)  # two pages may have a my_units.py
    names = {}
    for block in blocks(page):
        for words in commands(block.text) if block.language == "sh" else ():
            parse(*words)
            if block.mark == "run":
                run(monkeypatch, words)
        if block.language == "python" and block.mark == "run":
            exec(compile(block.text, page.name, "exec"), names)


@pytest.mark.parametrize(
    "command",
    [
        "seqbench fit -c jsb -c chung2014 --model.sell GRU",
        "seqbench fit -c jsp --model.cell GRU",
        "seqbench sweep -c jsb -c chung2014 --cells GRU --trainer.max_epocs 3",
        "seqbench leaderboard bulid",
        "seqbench data floors",
        "make tset",
    ],
)
def test_a_command_that_does_not_parse_is_found(command, parse):
    (words,) = commands(command)
    with pytest.raises((SeqbenchError, AssertionError)):
        parse(*words)


def test_the_pages_show_commands_in_plenty():
    """Else a change of the pages' form would let all of them pass."""
    shown = [words for page in PAGES for b in blocks(page) if b.language == "sh" for words in commands(b.text)]
    assert len(shown) > 40
    assert {words[1] for words in shown if words[0] == "seqbench"} >= {"fit", "sweep", "cells", "data", "leaderboard"}
    assert len([b for page in PAGES for b in blocks(page) if b.mark == "run"]) >= 6


@pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in PAGES])
def test_commands_within_the_text_are_those_there_are(page, lightning):
    """Their first words and their flags; what stands for something else, as DIR or ..., is left alone."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for command in re.findall(r"`((?:seqbench|make) [^`]*)`", text):
        program, *words = command.split()
        if program == "make":
            assert {word for word in words if "=" not in word} <= TARGETS, command
            continue
        parser = lightning._subcommands_action.choices[words.pop(0)] if words[0] in cli.LIGHTNING else cli._parser()
        for word in words:
            inner = next((a.choices for a in parser._actions if isinstance(a.choices, dict)), {})
            if not inner:
                break
            assert word in inner, command
            parser = inner[word]
        flags = [word.partition("=")[0] for word in words if word.startswith("--")]
        known = set(parser._option_string_actions) | set(cli._status_parser()._option_string_actions)
        assert {flag for flag in flags if flag not in known} == set(), command


def test_the_tests_that_a_promise_names_are_there():
    """Those of docs/reliability.md; each line of its tables names one."""
    page = (ROOT / "docs/reliability.md").read_text()
    lines = [line for line in page.splitlines() if re.match(r"\| (?!promise|---)", line)]
    assert len(lines) > 30
    for line in lines:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", line)
        assert named, line
        for path, test in named:
            assert f"def {test}(" in (ROOT / path).read_text() if test else (ROOT / path).exists(), line


@pytest.mark.parametrize("page", [pytest.param(p, id=p.name) for p in ROOT.glob("*.md")])
def test_links_beside_the_site_lead_somewhere(page):
    """The site's own are checked when it is built."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert os.path.exists(page.parent / target), target
