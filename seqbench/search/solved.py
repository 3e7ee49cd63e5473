"""`seqbench solved`: how many runs solved their task, and after how many sequences, as papers count.

A run has solved its task where enough of its guesses on the test split are right (`Task.solved`). It stops once all on
the validation split are, so its sequences are those that it was trained on until then.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqbench import record as rec
from seqbench.task import SeqbenchError

# What of a data set's options decides no task: who is trained how.
TRAINING = ("batch_size", "order", "sequences", "test_sequences", "data_seed")
LEAST = 6  # values that a 95% interval of a median needs


@dataclass(frozen=True)
class Published:
    """What a paper counted, all from memory of it.

    Attributes:
        unit: as the paper names it.
        solved: trials that solved it; None where the paper gives a mean over all alone.
        of: all trials.
        sequences: mean over the trials that solved it.
        source: who, when and where.
    """

    unit: str
    solved: int | None
    of: int | None
    sequences: int | None
    source: str


def _1997(sequences: int | None, where: str, solved: int | None = None, unit: str = "LSTM") -> Published:
    return Published(unit, solved, solved, sequences, f"Hochreiter & Schmidhuber 1997, {where}")


# By task and the options that differ from the data set's defaults.
PUBLISHED: dict[tuple[str, str], list[Published]] = {
    ("reber", "{}"): [Published("LSTM", 148, 150, None, "Hochreiter & Schmidhuber 1997, table 1, all five settings")],
    ("two_sequences", "{}"): [
        _1997(5040, "table 2", 18),
        Published("BPTT", 0, 18, None, "Hochreiter & Schmidhuber 1997, table 2"),
    ],
    ("two_sequences", '{"noise": "lags"}'): [_1997(31_000, "table 3")],
    ("two_sequences", '{"lag": 1000, "noise": "lags"}'): [_1997(49_000, "table 3")],
    ("adding", "{}"): [_1997(74_000, "table 7")],
    ("adding", '{"length": 500}'): [_1997(209_000, "table 7")],
    ("adding", '{"length": 1000}'): [_1997(853_000, "table 7")],
    ("temporal_order", "{}"): [_1997(31_390, "table 9")],
    ("temporal_order", '{"marks": 3}'): [_1997(571_100, "table 9")],
}


def rows(folder: Path) -> list[dict[str, Any]]:
    """One row a task, unit, protocol, size and rate, papers' own below; intervals of 95%.

    share: of the runs that came to their end, in percent, with Wilson's interval.
    sequences: the median over the runs that solved it, with the interval that order statistics give.

    Raises:
        SeqbenchError: no run in the folder is of a task that can be solved.
    """
    runs = [rec.load(path) for path in sorted(folder.glob("**/record.json"))]
    found: dict[tuple[Any, ...], list[rec.Record]] = {}
    for run in runs:
        if run.task.solved and rec.came_to_its_end(run):
            options = run.config["data"].get("init_args") or {}
            task = json.dumps({k: v for k, v in sorted(options.items()) if k not in TRAINING})
            unit = json.dumps(run.cell.options, sort_keys=True)
            key = (run.task.name, task, run.cell.name, unit, rec.protocol(run), run.cell.hidden, run.rate)
            found.setdefault(key, []).append(run)
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
    task, options, unit, unit_options, protocol, hidden, rate = key
    solved = [run for run in runs if rec.solved(run)]
    taken = sorted(n for run in solved if (n := rec.sequences(run)) is not None)
    return {
        "task": _named(task, options),
        "unit": _named(unit, unit_options),
        "protocol": protocol,
        "hidden": hidden,
        "rate": rate,
        "solved": len(solved),
        "of": len(runs),
        "share": _span(_wilson(len(solved), len(runs)), "%"),
        "sequences": int(statistics.median(taken)) if taken else None,
        "interval": _span(_of_median(taken)),
    }


def _papers(key: tuple[str, str] | None) -> list[dict[str, Any]]:
    if key is None:
        return []
    return [
        {
            "task": _named(*key),
            "unit": f"{paper.unit} ({paper.source})",
            "protocol": "",
            "hidden": None,
            "rate": None,
            "solved": paper.solved,
            "of": paper.of,
            "share": "-",
            "sequences": paper.sequences,
            "interval": "-",
        }
        for paper in PUBLISHED.get(key, [])
    ]


def _named(name: str, options: str) -> str:
    told = ", ".join(f"{key} {value}" for key, value in json.loads(options).items())
    return f"{name} ({told})" if told else name


def _wilson(solved: int, of: int) -> tuple[float, float]:
    """In percent."""
    from scipy.stats import binomtest

    interval = binomtest(solved, of).proportion_ci(method="wilson")
    return 100 * interval.low, 100 * interval.high


def _of_median(values: Sequence[int]) -> tuple[float, float] | None:
    if len(values) < LEAST:
        return None
    from scipy.stats import quantile_test

    interval = quantile_test(values, q=statistics.median(values), p=0.5).confidence_interval()
    return interval.low, interval.high


def _span(interval: tuple[float, float] | None, unit: str = "") -> str:
    return "-" if interval is None else f"{interval[0]:,.0f} to {interval[1]:,.0f}{unit}"
