"""`seqbench solved`: how many runs of a folder solved their task, and after how many sequences, as papers count."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqbench import record as rec
from seqbench.solving import count, counted, options, span
from seqbench.task import SeqbenchError


def rows(folder: Path) -> list[dict[str, Any]]:
    """One row a task, unit, protocol, size and rate, papers' own below; intervals of 95%.

    share: of the runs that came to their end, in percent, with its exact interval.
    sequences: the median over the runs that solved it, with the interval that order statistics give.

    Raises:
        SeqbenchError: no run in the folder is of a task that can be solved.
    """
    found: dict[tuple[Any, ...], list[rec.Record]] = {}
    for run in rec.ended_below(folder):
        if run.task.solved:
            unit = json.dumps(run.cell.options, sort_keys=True)
            key = run.task.name, json.dumps(options(run)), run.cell.name, unit, rec.protocol(run)
            found.setdefault((*key, run.cell.hidden, run.rate), []).append(run)
    if not found:
        raise SeqbenchError(f"{folder} has no finished run of a task that can be solved: see docs/how-to/long-lags.md")
    made, last = [], None
    for key in sorted(found):
        if last not in (None, key[:2]):
            made += _papers(last)
        made.append(_row(key, found[key]))
        last = key[:2]
    return made + _papers(last)


def _row(key: tuple[Any, ...], runs: Sequence[rec.Record]) -> dict[str, Any]:
    task, task_options, unit, unit_options, protocol, hidden, rate = key
    found = count(runs)
    return {
        "task": _named(task, task_options),
        "unit": _named(unit, unit_options),
        "protocol": protocol,
        "hidden": hidden,
        "rate": rate,
        "solved": found.solved,
        "of": found.of,
        "share": span(found.share, "%"),
        "sequences": found.median,
        "interval": span(found.around),
    }


def _papers(key: tuple[str, str] | None) -> list[dict[str, Any]]:
    if key is None:
        return []
    return [
        {
            "task": _named(*key),
            "unit": f"{paper.unit} ({paper.source}, {paper.where})",
            "protocol": "",
            "hidden": None,
            "rate": None,
            "solved": paper.solved,
            "of": paper.of,
            "share": None,
            "sequences": paper.sequences,
            "interval": None,
        }
        for paper in counted(key[0], json.loads(key[1]))
    ]


def _named(name: str, options: str) -> str:
    told = ", ".join(f"{key} {value}" for key, value in json.loads(options).items())
    return f"{name} ({told})" if told else name
