"""The board as Markdown. Whatever a record holds is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from seqbench.leaderboard.columns import MAIN, Column, filled
from seqbench.leaderboard.figures import AGAINST
from seqbench.leaderboard.rows import Board, Row, Table
from seqbench.leaderboard.words import CONVENTION, ORDER, WHAT, against, effort, facts, outcomes, sources, told, verdict

MOST_COMPARED = 12  # units in a matrix; the page has them all


def text(board: Board, figures: set[str]) -> str:
    """The tables for a README, with links to the figures."""
    parts = ["# Leaderboard", WHAT, CONVENTION, ORDER]
    for table in board.tables:
        parts += [f"## {escaped(table.heading)}", escaped(facts(table)), grid(filled(MAIN, table.rows), table.rows)]
        parts.append(escaped(effort(table)))
        notes = [f"- [{escaped(source)}]({link}): {escaped(convention)}" for source, link, convention in sources(table)]
        parts += ["\n".join(notes)] if notes else []
        if table.comparisons:
            parts += [escaped(verdict(table)), _matrix(table)]
        held = [f"- {escaped(c.text)} ({escaped(c.source)}) **Here:** {escaped(found)}" for c, found in outcomes(table)]
        parts += ["What the paper found, and what came out:", "\n".join(held)] if held else []
        images = [
            f'<img src="figures/{name}.svg" width="49%" alt="NLL against {x}">'
            for x in AGAINST
            if (name := f"{table.slug}-{x}") in figures
        ]
        parts += [" ".join(images)] if images else []
    parts.append("Settings, commands and every seed's numbers: `index.html`. All columns: `leaderboard.csv`.")
    return "\n\n".join(parts) + "\n"


def grid(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """A table; rows that are no units, or have no rank, in italics."""
    lines = [
        [escaped(column.header) for column in columns],
        [":--" if column.words else "--:" for column in columns],
    ]
    for row in rows:
        cells = [escaped(column.show(row)) for column in columns]
        if row.rank is None:
            cells = [f"*{cell}*" if cell else "" for cell in cells]
        name = [column.name for column in columns].index("unit")
        cells[name] += f" ({escaped(row.tag)})" if row.tag else ""
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _matrix(table: Table) -> str:
    """Each ranked unit against the others, as far as a matrix can be read."""
    shown = table.ranked[:MOST_COMPARED]
    lines = [["row less column", *(escaped(row.name) for row in shown)], [":--", *("--:" for _ in shown)]]
    for row in shown:
        lines.append([escaped(row.name), *(told(against(table, row, other)) for other in shown)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def escaped(text: str) -> str:
    """Text that Markdown and HTML leave as it is."""
    return re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", escape(text, quote=False))
