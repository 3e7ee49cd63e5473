"""The board as one HTML page: inline style, figures and script, all escaped; only samples are fetched, from beside it.

The page is whole without its script, which only lets a reader look closer: hover reads values, a click on a unit's name
hides it in all figures. A content security policy lets no other script run, whatever a record might smuggle in.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from seqbench.leaderboard.claims import outcomes
from seqbench.leaderboard.columns import COLUMNS, DETAIL, MAIN, filled
from seqbench.leaderboard.curves import lines, sensitivities
from seqbench.leaderboard.figures import AGAINST, looks
from seqbench.leaderboard.rows import Board, Row, best_epoch, clean, outcome
from seqbench.leaderboard.samples import Sample
from seqbench.leaderboard.summary import KEY, grid, sentences
from seqbench.leaderboard.words import (
    CONVENTION,
    MOST_PAIRED,
    ORDER,
    WHAT,
    compared,
    drawn,
    effort,
    facts,
    judged,
    seen,
    sources,
    told,
    verdict,
)
from seqbench.record import Record
from seqbench.webpage import render


def html(board: Board, figures: dict[str, str], links: dict[str, str], heard: dict[str, list[Sample]]) -> str:
    """The page.

    Args:
        board: the tables.
        figures: `<svg>` elements by name.
        links: run id -> its record's address.
        heard: by table what is played or shown.
    """
    from markupsafe import Markup

    functions = {
        "facts": facts, "sources": sources, "outcomes": outcomes, "filled": filled, "settings": settings,
        "outcome": outcome, "environments": environments, "commands": commands, "clean": clean, "verdict": verdict,
        "best_epoch": best_epoch, "number": number, "effort": effort, "told": told, "compared": compared,
        "kinds": tuple(AGAINST), "drawn": drawn, "seen": seen, "most_paired": MOST_PAIRED, "judged": judged,
        "probability": probability, "heard": heard,
        "sampled": {one.stem for played in heard.values() for one in played},
    }  # fmt: skip
    return render(
        Path(__file__).parent,
        curves(board, figures),
        functions,
        board=board,
        key=KEY,
        summary=grid(board),
        sentences=sentences(board),
        what=WHAT,
        convention=CONVENTION,
        order=ORDER,
        main=MAIN,
        detail=DETAIL,
        columns=COLUMNS,
        explained=filled(COLUMNS, [row for table in board.tables for row in table.rows]),
        links=links,
        figures={name: Markup(svg) for name, svg in figures.items()},
    )


def curves(board: Board, figures: dict[str, str]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """What the script reads out: by table, the points of its figures, each unit with name and colour. Small multiples
    are not read.
    """
    colours = looks(board)
    read = {name for name, svg in figures.items() if "data-figure" in svg}
    return {
        table.slug: {
            "curves": [
                {
                    "unit": line.row.name,
                    "colour": colours[line.row.anchor][0],
                    "epoch": _numbers(line.epoch),
                    "seconds": _numbers(line.seconds, 2),
                    "validation": _numbers(line.valid, 3),
                    "training": _numbers(line.train, 3),
                }
                for line in (lines(table) if f"{table.slug}-epoch" in read else ())
            ],
            "rates": [
                {
                    "unit": one.row.name,
                    "colour": colours[one.row.anchor][0],
                    "rate": one.rate,
                    "validation": _numbers(one.valid),
                }
                for one in (sensitivities(table) if f"{table.slug}-rate" in read else ())
            ],
        }
        for table in board.tables
        if {f"{table.slug}-epoch", f"{table.slug}-rate"} & read
    }


def _numbers(values: Sequence[float], digits: int = 4) -> list[float | None]:
    return [None if math.isnan(v) else int(v) if v == int(v) else round(v, digits) for v in values]


def number(value: float | None, digits: int = 3) -> str:
    """A run's own figure; "–" where it has none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def probability(p: float | None) -> str:
    """p = 0.012"""
    return "no test" if p is None else "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def settings(row: Row) -> str:
    """The config of a row's first run, as a file for `-c` has it."""
    return yaml.safe_dump(row.runs[0].config, allow_unicode=True)


def commands(row: Row) -> list[str]:
    """What to type for a row's runs: those that differ by their seeds alone are one command, which trains them at once
    and each as its own would.
    """
    alike = {_without_seed(run.command) for run in row.runs}
    if len(alike) == 1 < len(row.runs):
        return [f"{alike.pop()} --model.seed '[{','.join(str(run.seed) for run in row.runs)}]'"]
    return list(dict.fromkeys(run.command for run in row.runs))


def _without_seed(command: str) -> str:
    words = shlex.split(command)
    at = words.index("--model.seed") if "--model.seed" in words else len(words)
    return shlex.join(words[:at] + words[at + 2 :])


def environments(row: Row) -> list[tuple[str, str]]:
    """Each distinct environment of a row's runs, and the seeds run there."""
    found: dict[str, list[Record]] = {}
    for run in row.runs:
        found.setdefault(_environment(run), []).append(run)
    return [(text, ", ".join(str(run.seed) for run in runs)) for text, runs in found.items()]


def _environment(run: Record) -> str:
    where = dict(vars(run.environment))
    versions = ", ".join(f"{name} {version}" for name, version in sorted(where.pop("versions").items()))
    sources = ", ".join(f"{name} {digest}" for name, digest in sorted(where.pop("sources").items()))
    commit = where.pop("commit")
    told = [f"{where.pop('device')}, {where.pop('precision')}", *(f"{name}: {value}" for name, value in where.items())]
    return clean(
        f"{', '.join(told)}; {f'commit {commit}' if commit else 'no commit known'}; code {sources}; {versions}"
    )
