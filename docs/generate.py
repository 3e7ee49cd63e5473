"""What the site takes from the code at build time; a hook of MkDocs, named in mkdocs.yml.

A page asks for a part by a comment, `<!-- generated: NAME -->`; the parts are the keys of PARTS. The board and the
timings, which are generated and committed elsewhere, become pages of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import io
import os
import re
import subprocess
import sys
import tokenize
import tomllib
import typing
import warnings
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from types import FunctionType
from typing import Any

import yaml
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PLACE = re.compile(r"<!-- generated: ([a-z ]+) -->")
LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=\"?(?:https?:)?//[^>]*>")
BOARD = "leaderboard/index.html"
ELSEWHERE = {"benchmarks.md": "benchmarks/README.md"}
REMOTE = r"(?:https://|(?:ssh://)?git@)([\w.-]+)[:/]([\w./-]+?)(?:\.git)?"  # host, path


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are kept outside docs/."""
    samples = {f"leaderboard/samples/{path.name}": path for path in (ROOT / "leaderboard/samples").glob("*.*")}
    for place, source in (ELSEWHERE | samples).items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    page = (ROOT / BOARD).read_text(encoding="utf-8")
    files.append(File.generated(config, BOARD, content=page.replace("</footer>", f"{made(config.repo_url)}</footer>")))
    return files


def made(repository: str | None) -> str:
    """What the site's board was made of: repository, commit, date, licence; not in the board's own file, which is
    committed with what it would name. "" outside a repository.

    Args:
        repository: its address, the repo_url of mkdocs.yml; where it has none it is that of the remote `origin`, if
            that is one of the web.
    """
    commit, _, date = _git("log", "-1", "--format=%H %cs").partition(" ")
    if not commit:
        return ""
    remote = re.fullmatch(REMOTE, _git("remote", "get-url", "origin"))
    address = repository or (f"https://{remote[1]}/{remote[2]}" if remote else "")
    what = f'<a href="{escape(address)}">{escape(address)}</a>' if address else "the repository"
    licence = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["license"]
    return f"<p>From {what} at commit <code>{commit[:12]}</code> of {date}, under the licence {licence}.</p>\n"


def _git(*words: str) -> str:
    """What git says of the repository; "" where it says nothing or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def on_page_markdown(markdown: str, **context: Any) -> str:
    """Fills a page's places."""
    return PLACE.sub(lambda match: PARTS[match[1]](), markdown)


def on_post_page(output: str, page: Any, **context: Any) -> str:
    """A page loads nothing from another host.

    Raises:
        PluginError: it does.
    """
    if found := LOADED.search(re.sub(r'<link rel="canonical"[^>]*>', "", output)):
        raise PluginError(f"{page.file.src_uri} loads from elsewhere: {found[0]}")
    return output


def table(header: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    value = "" if value is None else value
    text = re.sub(r"\s+", " ", f"{value:,}" if isinstance(value, int) else str(value)).strip()
    return text if text.startswith("`") else text.replace("|", "\\|")  # code keeps its bars


def fenced(text: str, language: str = "text") -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def grid() -> str:
    """The README's table of units beside the paper's, which is cut from the board."""
    found = re.search(r"<!-- papers -->\n(.*?)<!-- end -->", (ROOT / "README.md").read_text(), re.DOTALL)
    if not found:
        raise PluginError("README.md has no table")
    return found[1]


def commands() -> str:
    """The help of every command but Lightning's four."""
    from seqbench import cli

    with _as_seqbench():
        return "\n\n".join(
            f"## {parser.prog}\n\n{fenced(parser.format_help())}"
            for parser in (*_leaves(cli._parser()), cli._status_parser())
            if parser.prog.split()[1] not in cli.LIGHTNING
        )


@contextlib.contextmanager
def _as_seqbench() -> Iterator[None]:
    """Help texts are as wide as the terminal, and name the program that runs."""
    program, width = sys.argv[0], os.environ.get("COLUMNS")
    sys.argv[0], os.environ["COLUMNS"] = "seqbench", "100"
    try:
        yield
    finally:
        sys.argv[0] = program
        os.environ.pop("COLUMNS")
        if width is not None:
            os.environ["COLUMNS"] = width


def _leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield parser
    for action in inner:
        for sub in action.choices.values():
            yield from _leaves(sub)


def flags() -> str:
    """The flags of `fit` that are ours, from its parser."""
    from seqbench.train.fitting import SeqbenchCLI

    needed = ["fit", "-c", str(ROOT / "configs/synthetic.yaml"), "--model.cell", "Tanh", "--run.dir", os.devnull]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning uses jsonargparse's old names
        parser = SeqbenchCLI(needed, execute=False)._parser("fit")
    rows = []
    for action in parser._actions:
        flag = next((option for option in action.option_strings if re.match(r"--(model|run)\.\w+$", option)), None)
        if flag:
            default = "" if action.default in (None, argparse.SUPPRESS) else f"`{action.default}`"
            rows.append([f"`{flag}`", default, action.help])
    return table(["flag", "default", "meaning"], rows)


def data() -> str:
    """The data sets as `seqbench data list` has them, without what depends on the machine."""
    from seqbench.datamodules import listing

    rows = [{k: "-" if v is None else v for k, v in row.items() if k != "cached"} for row in listing.rows()]
    return table([name.replace("_", " ") for name in rows[0]], [list(row.values()) for row in rows])


def units() -> str:
    """Each unit with its paper and equations, in families: files of seqbench/cells, told by their docstrings."""
    from seqbench.cells import cells

    families: dict[str, list[type]] = {}
    for kind in sorted(cells().values(), key=lambda kind: inspect.getsourcelines(kind)[1]):
        families.setdefault(kind.__module__, []).append(kind)
    parts = []
    for module, kinds in sorted(families.items()):
        title, _, told = (inspect.getdoc(sys.modules[module]) or "").partition("\n\n")
        parts += [f"## {title.partition('.  R replicas')[0].rstrip('.')}", fenced(told) if told else ""]
        parts += map(_unit, kinds)
    return "\n\n".join(parts)


def _unit(kind: Any) -> str:
    options = ", ".join(f"`{name}`" for name in inspect.signature(kind).parameters if name != "bias")
    told = f"{kind.paper}; options besides `bias`: {options}." if options else f"{kind.paper}."
    return f"### {kind.__name__}\n\n{told}\n\n{fenced(inspect.getdoc(kind) or '')}"


def configs() -> str:
    """The shipped configs: data sets in a table, the others whole."""
    texts = {path.stem: path.read_text() for path in sorted((ROOT / "configs").glob("*.yaml"))}
    read = {name: yaml.safe_load(text) for name, text in texts.items()}
    sets = [name for name, config in read.items() if list(config) == ["data"]]
    rows = [[f"`{name}`", f"`{read[name]['data']['class_path']}`"] for name in sets]
    whole = [f"## {name}\n\n{fenced(text, 'yaml')}" for name, text in texts.items() if name not in sets]
    return table(["config", "data set"], rows) + "\n\n" + "\n\n".join(whole)


def record() -> str:
    """Every dataclass of a record: its fields, their types, and the comments beside them."""
    from seqbench.record import Record

    return "\n\n".join(
        f"## {kind.__name__}\n\n{inspect.getdoc(kind)}\n\n"
        + table(["field", "type", "meaning"], [[f"`{name}`", f"`{hint}`", told] for name, hint, told in _fields(kind)])
        for kind in _within(Record)
    )


def _within(kind: type) -> list[type]:
    """A dataclass and those that its fields hold, each once."""
    found = [kind]
    for hint in typing.get_type_hints(kind).values():
        for inner in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(inner) and isinstance(inner, type):
                found += [one for one in _within(inner) if one not in found]
    return found


def _fields(kind: type) -> Iterator[tuple[str, str, str]]:
    """Name, type and comment of each field, those of its bases first."""
    comments: dict[str, str] = {}
    hints: dict[str, str] = {}
    for base in reversed([base for base in kind.__mro__ if dataclasses.is_dataclass(base)]):
        source = inspect.getsource(base)
        lines = source.splitlines()
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT and (field := re.match(r"\s+(\w+):", lines[token.start[0] - 1])):
                comments[field[1]] = token.string.lstrip("# ")
        resolved = typing.get_type_hints(base)
        hints |= {field.name: _spelt(field.type, resolved[field.name]) for field in dataclasses.fields(base)}
    return ((name, hint, comments.get(name, "")) for name, hint in hints.items())


def _spelt(written: Any, resolved: Any) -> str:
    """A field's type as it is written, but the values of a Literal that has a name."""
    values = typing.get_args(resolved) if typing.get_origin(resolved) is typing.Literal else ()
    return ", ".join(map(repr, values)) or str(written)


def api() -> str:
    """A reference to each class and function that the package exports, for mkdocstrings."""
    import seqbench

    shown = [name for name in seqbench.__all__ if isinstance(getattr(seqbench, name), type | FunctionType)]
    return "\n\n".join(f"::: seqbench.{name}" for name in shown)


PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part for part in (grid, commands, flags, data, units, configs, record, api)
}
