"""The board as Markdown, CSV and one self-contained HTML page. Whatever a record holds is escaped."""

from __future__ import annotations

import csv
import io
import json
import re
from html import escape
from pathlib import Path

from leaderboard.board import Board, Row, Table, best_epoch, clean, outcome
from leaderboard.claims import CLAIMS, Claim
from leaderboard.columns import COLUMNS, DETAIL, MAIN, Plain, filled
from seqbench.record import Record

WHAT = (
    "Recurrent units compared at matched size, on one protocol per data set. "
    "Every number of a unit is computed from its run records."
)
CONVENTION = (
    "NLL is the negative log-likelihood of the test split: total nats (natural logarithm) over all frames scored; "
    "a first frame that nothing precedes is not scored. Lower is better. "
    "± is half the 95% t-interval of the mean over seeds."
)
ORDER = (
    "Rows are ordered by test NLL and only units run here have a rank. "
    "Floors need no model; published rows come from papers, under conventions of their own."
)


def entries(table: Table) -> list[dict[str, Plain]]:
    """One mapping a row: the data set, then all columns by name, unrounded."""
    task = {"dataset": clean(table.task.name), "digest": clean(table.task.digest), "nll_unit": clean(table.task.unit)}
    rows = []
    for row in table.rows:
        cells: dict[str, Plain] = dict(task)
        for column in COLUMNS:
            cells |= column.plain(row)
        rows.append(cells)
    return rows


def csv_text(board: Board) -> str:
    """All tables under one header, numbers unrounded."""
    rows = [row for table in board.tables for row in entries(table)]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _no_formula(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _no_formula(value: Plain) -> Plain:
    """A spreadsheet would run text that starts like a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def markdown(board: Board, figures: set[str]) -> str:
    """The tables for a README, with links to the figures."""
    parts = ["# Leaderboard", WHAT, CONVENTION, ORDER]
    for table in board.tables:
        parts += [f"## {_md(table.title)}", _md(facts(table)), _md_table(table)]
        notes = [f"- [{_md(source)}]({link}): {_md(convention)}" for source, link, convention in sources(table)]
        parts += ["\n".join(notes)] if notes else []
        held = [f"- {_md(c.text)} ({_md(c.source)}) **Here:** {_md(found)}" for c, found in outcomes(table)]
        parts += ["What the paper found, and what came out:", "\n".join(held)] if held else []
        images = [
            f'<img src="figures/{name}.svg" width="49%" alt="NLL against {against}">'
            for against in ("epoch", "seconds")
            if (name := f"{table.slug}-{against}") in figures
        ]
        parts += [" ".join(images)] if images else []
    parts.append("Settings, commands and every seed's numbers: `index.html`. All columns: `leaderboard.csv`.")
    return "\n\n".join(parts) + "\n"


def _md_table(table: Table) -> str:
    columns = filled(MAIN, table.rows)
    lines = [
        [_md(column.header) for column in columns],
        [":--" if column.words else "--:" for column in columns],
    ]
    for row in table.rows:
        cells = [_md(column.show(row)) for column in columns]
        if row.kind != "unit":
            cells = [f"*{cell}*" if cell else "" for cell in cells]
        name = [column.name for column in columns].index("unit")
        cells[name] += f" ({_md(row.tag)})" if row.tag else ""
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _md(text: str) -> str:
    return re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", escape(text, quote=False))


def facts(table: Table) -> str:
    """One line about the data set."""
    task = table.task
    return clean(
        f"{task.input_size} inputs, {task.target_size} targets, {task.head}, NLL in {task.unit}, "
        f"data digest {task.digest[:12]}"
    )


def sources(table: Table) -> list[tuple[str, str, str]]:
    """Source, link and convention of the published rows, each once."""
    found = {}
    for row in table.rows:
        if row.published is not None:
            found[f"{row.published.source} ({row.published.known})", row.published.link, row.published.convention] = 0
    return sorted(found)


def outcomes(table: Table) -> list[tuple[Claim, str]]:
    """Each claim of the table's protocol with the differences that came out; those whose units are missing say so."""
    tests = {row.unit: row.test for row in table.units if row.test is not None}
    return [(claim, claim.outcome(tests)) for claim in CLAIMS.get(table.protocol, ())]


def html(board: Board, figures: dict[str, str]) -> str:
    """The page: inline style and figures, no script, nothing fetched."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals |= {
        "facts": facts, "sources": sources, "outcomes": outcomes, "filled": filled, "settings": settings,
        "outcome": outcome, "environments": environments, "commands": commands, "clean": clean,
        "best_epoch": best_epoch, "number": number,
    }  # fmt: skip
    return environment.get_template("page.html.j2").render(
        board=board,
        what=WHAT,
        convention=CONVENTION,
        order=ORDER,
        main=MAIN,
        detail=DETAIL,
        columns=COLUMNS,
        figures={name: Markup(svg) for name, svg in figures.items()},
        css=Markup((here / "page.css").read_text(encoding="utf-8")),
    )


def number(value: float | None, digits: int = 3) -> str:
    """A run's own figure; "–" where it has none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def settings(row: Row) -> str:
    """The resolved config of a row's first run, as JSON, which YAML readers take too."""
    return json.dumps(row.runs[0].config, indent=2, sort_keys=True, ensure_ascii=False)


def commands(row: Row) -> list[str]:
    """The distinct commands that gave a row its runs, in the order of seeds."""
    return list(dict.fromkeys(run.command for run in row.runs))


def environments(row: Row) -> list[tuple[str, str]]:
    """Each distinct environment of a row's runs, and the seeds run there."""
    found: dict[str, list[Record]] = {}
    for run in row.runs:
        found.setdefault(_environment(run), []).append(run)
    return [(text, ", ".join(str(run.seed) for run in runs)) for text, runs in found.items()]


def _environment(run: Record) -> str:
    where = run.environment
    versions = ", ".join(f"{name} {version}" for name, version in sorted(where.versions.items()))
    commit = f"commit {where.commit}" if where.commit else "no commit known"
    return clean(f"{where.device}, {where.precision}, threads: {where.threads}; {commit}; {versions}")
