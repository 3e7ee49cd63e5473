"""What the command line tells about data sets: plain functions, plain values.

`rows` reads the facts that each data set's file states as literals, without importing it: a listing that imported
torch would take seconds.
"""

from __future__ import annotations

import ast
import pkgutil
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqbench import datamodules, plugins
from seqbench.datamodules.fetch import location
from seqbench.datamodules.protocols import PROTOCOLS
from seqbench.task import SeqbenchError, unknown_name

if TYPE_CHECKING:
    from seqbench.datamodules.base import SequenceData

UNKNOWN = {"train": None, "valid": None, "test": None}
FACTS = {"name", "title", "origin", "counts", "longest", "input_size", "file", "fewer"}


def rows() -> list[dict[str, Any]]:
    """One row a data set, by name: name, title, train, valid, test (sequences), longest (frames), input_size, origin,
    and cached: "mirror", "yes", "no", "built in" where no download is needed, or "your own". A speech corpus has two,
    one for each protocol. Of a folder of the user's own music or texts counts are None, of music longest too.
    """
    return [
        {
            "name": name,
            "title": facts["title"],
            **facts.get("counts", UNKNOWN),
            "longest": facts.get("longest"),
            "input_size": facts["input_size"],
            "cached": location(facts["file"]) if "file" in facts else _without_files(facts["origin"]),
            "origin": facts["origin"],
        }
        for name, facts in sorted(_listed().items())
    ]


def _without_files(origin: str) -> str:
    return "your own" if origin.startswith("your own") else "built in"


def dataset(name: str, **options: Any) -> SequenceData:
    """A data set by the name that `rows` gives it, "jsb" or "fsdd_b", or a corpus of speech by its own, "fsdd".

    Args:
        **options: its constructor's.

    Raises:
        SeqbenchError: no such data set; the line lists those there are.
    """
    listed = _listed()
    if name in listed:
        facts = listed[name]
        return datamodules.find(facts["class"])(**facts["protocol"] | options)
    corpora = {facts["name"]: facts["class"] for facts in listed.values()}
    if name not in corpora:
        raise unknown_name("data set", name, listed)
    return datamodules.find(corpora[name])(**options)


def prepare(name: str, **options: Any) -> dict[str, Any]:
    """Downloads or parses what is missing, loads and checks it.

    Args:
        **options: The data set's own.

    Returns:
        name, digest, per split its sequences, frames and longest, and the data set's report.

    Raises:
        SeqbenchError: an unknown name, or what `SequenceData.store` raises.
    """
    data = loaded(name, **options)
    splits: dict[str, Any] = {
        split: {
            "sequences": len(sequences.lengths),
            "frames": int(sequences.lengths.sum()),
            "longest": int(sequences.lengths.max()),
        }
        for split, sequences in data.splits.items()
    }
    return {"name": name, "digest": data.task.digest, **splits, **data.report()}


def floors(name: str, **options: Any) -> dict[str, dict[str, float | None]]:
    """The floors of a data set's test split, in the task's unit: per floor nll, nll_sequence and nll_first, and where
    the task ranks by right guesses, right, in percent.

    Args:
        **options: The data set's own.

    Raises:
        SeqbenchError: an unknown name, or what `SequenceData.store` raises.
    """
    scores = loaded(name, **options).floors()
    return {
        floor: {"nll": score.nll, "nll_sequence": score.nll_sequence, "nll_first": score.nll_first}
        | ({} if score.right is None else {"right": score.right})
        for floor, score in scores.items()
    }


def parsed(name: str, flags: list[str]) -> dict[str, Any]:
    """A data set's options from flags of the command line, `--data.root DIR`, as `seqbench fit` takes them.

    Raises:
        SeqbenchError: an unknown name, a flag that it does not have, or a value that is none.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    kind = type(dataset(name))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "data", sub_configs=False)
    try:
        found = parser.parse_args(flags, defaults=False)
    except ArgumentError as error:
        told = " ".join(line.strip(" -") for line in str(error).splitlines())[:400].rstrip(":")
        raise SeqbenchError(f"{told} (options of {name} are flags --data.OPTION VALUE)") from error
    options: dict[str, Any] = found.as_dict().get("data") or {}
    return options


def loaded(name: str, **options: Any) -> SequenceData:
    """As `dataset`, downloaded if need be, its splits in memory.

    Raises:
        SeqbenchError: an unknown name, or what `SequenceData.store` raises.
    """
    return dataset(name, **options).ready()


def _listed() -> dict[str, dict[str, Any]]:
    """The facts of each data set by the name it is listed by, and `protocol`, the option that the name stands for."""
    listed = {}
    for facts in _facts():
        if "fewer" not in facts:
            listed[facts["name"]] = facts | {"protocol": {}}
            continue
        for letter, protocol in PROTOCOLS.items():
            listed[protocol.named(facts["name"])] = facts | {
                "title": f"{facts['title']}, protocol {letter}",
                "counts": facts["fewer"].get(letter, protocol.counts),
                "longest": protocol.longest,
                "protocol": {"protocol": letter},
            }
    return listed


def _facts() -> list[dict[str, Any]]:
    """The facts of every class that states a name, those of its bases included, and the class's own name.

    Raises:
        SeqbenchError: two data sets have one name.
    """
    ours: dict[str, ast.ClassDef] = {}
    for info in pkgutil.iter_modules(datamodules.__path__):
        ours |= _classes(Path(datamodules.__path__[0]) / f"{info.name}.py")
    found = [_facts_of(name, ours) for name, node in ours.items() if "name" in _literals(node)]
    known = {facts["class"] for facts in found}
    offered = plugins.offers(plugins.DATA)
    for entry in offered:
        plugins.refuse_namesakes(plugins.DATA, entry.name, offered, known)
        try:
            found.append(_offered(entry, ours))
        except SeqbenchError as error:
            plugins.leave_out(entry, str(error))
    first: dict[str, str] = {}
    for facts in found:
        if (other := first.setdefault(facts["name"], facts["class"])) != facts["class"]:
            raise SeqbenchError(f"{other} and {facts['class']} are both the data set {facts['name']}: uninstall one")
    return found


def _offered(entry: EntryPoint, ours: dict[str, ast.ClassDef]) -> dict[str, Any]:
    path = plugins.source(entry)
    if path is None:
        raise SeqbenchError("its module is not installed")
    facts = _facts_of(entry.name, ours | _classes(path))
    # A speech corpus states no counts: its protocols do.
    needless = {"file", "fewer"} | ({"counts", "longest"} if "fewer" in facts else set())
    if missing := FACTS - needless - facts.keys():
        raise SeqbenchError(f"{path.name} does not state {', '.join(sorted(missing))} of it as literals")
    return facts


def _classes(path: Path) -> dict[str, ast.ClassDef]:
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (OSError, ValueError, SyntaxError) as error:
        raise SeqbenchError(f"{path.name} cannot be read: {error}") from error
    return {node.name: node for node in body if isinstance(node, ast.ClassDef)}


def _facts_of(name: str, classes: dict[str, ast.ClassDef]) -> dict[str, Any]:
    if name not in classes:
        return {}
    inherited = [_facts_of(base.id, classes) for base in classes[name].bases if isinstance(base, ast.Name)]
    return {k: v for values in [*inherited, _literals(classes[name])] for k, v in values.items()} | {"class": name}


def _literals(node: ast.ClassDef) -> dict[str, Any]:
    """What a class body assigns to the facts."""
    found = {}
    for line in node.body:
        if isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None:
            target = line.targets[0] if isinstance(line, ast.Assign) else line.target
            if isinstance(target, ast.Name) and target.id in FACTS:
                found[target.id] = ast.literal_eval(line.value)
    return found
