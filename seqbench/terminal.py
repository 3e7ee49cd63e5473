"""Rows of values as a table, for a terminal of any width or a pipe; or as JSON."""

from __future__ import annotations

import json
import textwrap
from typing import Any

LEAST = 8  # characters that a narrow terminal leaves of a word's column
GAP = 2  # characters between columns


def print_rows(value: Any, as_json: bool) -> None:
    """A list of rows as a table, a single row as lines; or JSON."""
    if as_json:
        print(json.dumps(value, indent=1, allow_nan=False))
        return
    rows = value if isinstance(value, list) else [{"": name, "value": text} for name, text in value.items()]
    names = [name.replace("_", " ") for name in rows[0]]
    texts = [[_shown(cell) for cell in row.values()] for row in rows]
    numeric = [all(row[name] is None or isinstance(row[name], int | float) for row in rows) for name in rows[0]]
    _print_table(names, texts, numeric)


def _print_table(names: list[str], texts: list[list[str]], numeric: list[bool]) -> None:
    """A pipe gets whole lines. In a terminal words are cut short, then columns of words left out, never numbers."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    columns = list(range(len(names)))
    widths = [max(map(len, (name, *(row[n] for row in texts)))) for n, name in enumerate(names)]
    if console.is_terminal:
        columns, widths = _fitted(widths, numeric, console.width)
        if sum(widths[n] + GAP for n in columns) > console.width + GAP:
            for row in texts:
                told = ", ".join(f"{name} {text}" for name, text in zip(names[1:], row[1:], strict=True))
                print(textwrap.fill(f"{row[0]}: {told}", console.width, subsequent_indent="  "))
            return
    else:
        console.width = 10_000
    table = Table(box=None, header_style="bold", pad_edge=False)
    for n in columns:
        table.add_column(names[n], justify="right" if numeric[n] else "left", no_wrap=True)
    for row in texts:
        table.add_row(*(row[n] if len(row[n]) <= widths[n] else f"{row[n][: widths[n] - 2]}.." for n in columns))
    console.print(table)


def _fitted(widths: list[int], numeric: list[bool], most: int) -> tuple[list[int], list[int]]:
    """The columns that fit, and all widths: words beyond the first column give way, the widest first, then go."""
    columns, widths = list(range(len(widths))), list(widths)
    words = [n for n in columns[1:] if not numeric[n]]
    while words and sum(widths[n] + GAP for n in columns) > most + GAP:
        widest = max(words, key=lambda n: widths[n])
        if widths[widest] > LEAST:
            widths[widest] -= 1
        else:
            columns.remove(words.pop())
    return columns, widths


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 0.01 else f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)
