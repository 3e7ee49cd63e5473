"""The board for other programs: CSV and JSON, numbers unrounded."""

from __future__ import annotations

import csv
import io
from typing import Any

from seqbench.leaderboard.columns import COLUMNS, Plain
from seqbench.leaderboard.rows import Board, Table, clean


def entries(table: Table) -> list[dict[str, Plain]]:
    """One mapping a row: the data set and how its units are matched, then all columns by name."""
    task = table.task
    common = {"dataset": clean(task.name), "digest": clean(task.digest), "nll_unit": clean(task.unit)}
    common |= {"protocol": clean(table.protocol), "matching": table.matching}
    rows = []
    for row in table.rows:
        cells: dict[str, Plain] = dict(common)
        for column in COLUMNS:
            cells |= column.plain(row)
        rows.append(cells)
    return rows


def csv_text(board: Board) -> str:
    """All tables under one header."""
    rows = [row for table in board.tables for row in entries(table)]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _no_formula(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _no_formula(value: Plain) -> Plain:
    """A spreadsheet would run text that starts like a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def as_json(board: Board) -> dict[str, Any]:
    """`{"tables": [{"rows": [...], "comparisons": [...]}]}`: each row with all columns; each pair of ranked units with
    its simultaneous interval and its p-value, alone and corrected for their number.
    """
    return {
        "tables": [
            {
                "dataset": table.task.name,
                "digest": table.task.digest,
                "nll_unit": table.task.unit,
                "protocol": table.protocol,
                "matching": table.matching,
                "rows": entries(table),
                "comparisons": [
                    {
                        "first": table.ranked[c.first].name,
                        "second": table.ranked[c.second].name,
                        "difference": c.difference,
                        "interval": c.interval,
                        "p": c.p,
                        "corrected": c.corrected,
                    }
                    for c in table.comparisons
                ],
            }
            for table in board.tables
        ]
    }
