"""The board as Markdown. Whatever a record holds is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from seqbench.leaderboard.claims import outcomes
from seqbench.leaderboard.columns import Column, narrow
from seqbench.leaderboard.figures import AGAINST
from seqbench.leaderboard.rows import Board, Row, Table
from seqbench.leaderboard.summary import KEY, sentences
from seqbench.leaderboard.summary import grid as summary
from seqbench.leaderboard.words import (
    CONVENTION,
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

MOST_COMPARED = 7  # units in a matrix, which has eight columns then; the page has them all


def text(board: Board, figures: set[str]) -> str:
    """The tables for a README, with links to the figures."""
    parts = ["# Leaderboard", WHAT, first_look(board), CONVENTION, ORDER]
    for table in board.tables:
        parts.append(f'<a id="{table.slug}"></a>\n\n## {escaped(table.heading)}')
        parts += [escaped(facts(table)), _with_help(narrow(table.rows), table.rows)]
        parts.append(escaped(effort(table)))
        notes = [f"- [{escaped(source)}]({link}): {escaped(convention)}" for source, link, convention in sources(table)]
        parts += ["\n".join(notes)] if notes else []
        if table.comparisons:
            parts += [escaped(f"{verdict(table)} {compared(table)}"), _matrix(table)]
        held = [f"- {escaped(c.text)} ({escaped(c.source)}) **Here:** {escaped(found)}" for c, found in outcomes(table)]
        parts += [f"What papers found, and what came out. {judged(table)}", "\n".join(held)] if held else []
        images = [
            f'<img src="figures/{name}.svg" width="49%" alt="{escape(what)}">'
            for x, what in AGAINST.items()
            if (name := f"{table.slug}-{x}") in figures
        ]
        parts += [" ".join(images)] if images else []
        if f"{table.slug}-epoch" in figures:
            parts.append(escaped(f"{seen(table, figures)} {drawn(table, MOST_COMPARED)}".strip()))
    parts.append("Settings, commands and every seed's numbers: `index.html`. All columns: `leaderboard.csv`.")
    return "\n\n".join(parts) + "\n"


def first_look(board: Board, to: str = "") -> str:
    """The grid of units against data sets, and a sentence a table.

    Args:
        board: all tables.
        to: the file that has the tables, as seen from where this stands.
    """
    found = summary(board)
    header = ["unit", *(f"[{escaped(table.heading)}]({to}#{table.slug})" for table in found.tables)]
    lines = [header, [":--", *("--:" for _ in found.tables)]]
    for unit, cells in found.lines:
        lines.append([escaped(unit), *("" if cell is None else escaped(str(cell)) for cell in cells)])
    told = [f"- {escaped(told)}" for _, told in sentences(board)]
    parts = [escaped(KEY), piped(lines), escaped(found.legend), "\n".join(told)]
    return "\n\n".join(part for part in parts if part)


def _with_help(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """The table, and below it what its columns say."""
    told = "; ".join(f"**{escaped(column.header)}**: {escaped(column.help)}" for column in columns)
    return f"{grid(columns, rows)}\n\n<details><summary>What the columns say</summary>\n\n{told}.\n\n</details>"


def grid(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """A table; rows that are no units, or are incomplete, in italics."""
    lines = [
        [escaped(column.header) for column in columns],
        [":--" if column.words else "--:" for column in columns],
    ]
    for row in rows:
        cells = [escaped(column.show(row)) for column in columns]
        if row.letters is None:
            cells = [f"*{cell}*" if cell else "" for cell in cells]
        name = [column.name for column in columns].index("unit")
        cells[name] += f" ({escaped(row.tag)})" if row.tag else ""
        lines.append(cells)
    return piped(lines)


def _matrix(table: Table) -> str:
    """Each ranked unit against the others, as far as a matrix can be read."""
    shown = table.ranked[:MOST_COMPARED]
    lines = [["row less column", *(escaped(row.name) for row in shown)], [":--", *("--:" for _ in shown)]]
    for row in shown:
        lines.append([escaped(row.name), *(told(table.against(row, other)) for other in shown)])
    return piped(lines)


def piped(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells, the second of them the columns' alignment, as a table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def escaped(text: str) -> str:
    """Text that Markdown and HTML leave as it is."""
    return re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", escape(text, quote=False))
