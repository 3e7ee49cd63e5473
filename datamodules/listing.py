"""What the command line tells about data sets: plain functions, plain values.

`rows` reads the facts that each data set's file states as literals, without importing it: a listing that imported
torch would take seconds.
"""

from __future__ import annotations

import ast
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqbench import datamodules
from seqbench.datamodules.fetch import location
from seqbench.datamodules.protocols import PROTOCOLS
from seqbench.task import unknown_name

if TYPE_CHECKING:
    from seqbench.datamodules.base import SequenceData

FACTS = {"name", "title", "origin", "counts", "longest", "input_size", "file", "fewer"}


def rows() -> list[dict[str, Any]]:
    """One row a data set, by name: name, title, train, valid, test (sequences), longest (frames), input_size, origin,
    and cached: "mirror", "yes", "no", or "built in" where no download is needed. A speech corpus has two, one for each
    protocol.
    """
    return [
        {
            "name": name,
            "title": facts["title"],
            **facts["counts"],
            "longest": facts["longest"],
            "input_size": facts["input_size"],
            "cached": location(facts["file"]) if "file" in facts else "built in",
            "origin": facts["origin"],
        }
        for name, facts in sorted(_listed().items())
    ]


def dataset(name: str, **options: Any) -> SequenceData:
    """A data set by the name that `rows` gives it, e.g. "jsb" or "fsdd_b", made with these options.

    Raises:
        SeqbenchError: no such data set; the line lists those there are.
    """
    listed = _listed()
    if name not in listed:
        raise unknown_name("data set", name, listed)
    facts = listed[name]
    return datamodules.datasets()[facts["name"]](**facts["protocol"], **options)


def prepare(name: str) -> dict[str, Any]:
    """Downloads or parses what is missing, loads and checks it.

    Returns:
        name, digest, and per split its sequences, frames and longest.

    Raises:
        SeqbenchError: an unknown name, or what `SequenceData.store` raises.
    """
    data = _loaded(name)
    splits: dict[str, Any] = {
        split: {
            "sequences": len(sequences.lengths),
            "frames": int(sequences.lengths.sum()),
            "longest": int(sequences.lengths.max()),
        }
        for split, sequences in data.splits.items()
    }
    return {"name": name, "digest": data.task.digest, **splits}


def floors(name: str) -> dict[str, dict[str, float | None]]:
    """The floors of a data set's test split, in the task's unit: per floor nll, nll_sequence and nll_first.

    Raises:
        SeqbenchError: an unknown name, or what `SequenceData.store` raises.
    """
    scores = _loaded(name).floors()
    return {
        floor: {"nll": score.nll, "nll_sequence": score.nll_sequence, "nll_first": score.nll_first}
        for floor, score in scores.items()
    }


def _loaded(name: str) -> SequenceData:
    data = dataset(name)
    data.prepare_data()
    data.setup()
    return data


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
    """The facts of every class that states a name, those of its bases included."""
    classes: dict[str, ast.ClassDef] = {}
    for info in pkgutil.iter_modules(datamodules.__path__):
        text = (Path(datamodules.__path__[0]) / f"{info.name}.py").read_text(encoding="utf-8")
        classes |= {node.name: node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}

    def facts(name: str) -> dict[str, Any]:
        if name not in classes:
            return {}
        inherited = [facts(base.id) for base in classes[name].bases if isinstance(base, ast.Name)]
        return {k: v for values in [*inherited, _literals(classes[name])] for k, v in values.items()}

    return [facts(name) for name, node in classes.items() if "name" in _literals(node)]


def _literals(node: ast.ClassDef) -> dict[str, Any]:
    """What a class body assigns to the facts."""
    found = {}
    for line in node.body:
        if isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None:
            target = line.targets[0] if isinstance(line, ast.Assign) else line.target
            if isinstance(target, ast.Name) and target.id in FACTS:
                found[target.id] = ast.literal_eval(line.value)
    return found
