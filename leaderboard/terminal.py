"""The board in a terminal, and as JSON for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leaderboard.board import Board, Row, Table
from leaderboard.columns import MAIN, Column, filled
from leaderboard.page import entries

if TYPE_CHECKING:
    from rich.console import Console

NAME_WIDTH = 18  # characters that a unit's name keeps in a narrow terminal


def print_board(board: Board, console: Console) -> None:
    """Prints one table a data set, floors and published rows dimmed.

    A terminal gets as many columns as fit into it, from the left; a pipe gets whole lines, however long.
    """
    for table in board.tables:
        columns = filled(MAIN, table.rows)
        while console.is_terminal and len(columns) > 2 and _width(table, columns, console) > console.width:
            columns.pop()
        console.width = max(console.width, _width(table, columns, console))
        console.print(_grid(table, columns))


def _width(table: Table, columns: list[Column], console: Console) -> int:
    measured = console.measure(_grid(table, columns), options=console.options.update(width=10_000))
    return measured.minimum if console.is_terminal else measured.maximum


def as_json(board: Board) -> dict[str, Any]:
    """`{"tables": [{"dataset", "digest", "nll_unit", "rows": [...]}]}`, each row with all columns, unrounded."""
    return {
        "tables": [
            {
                "dataset": table.task.name,
                "digest": table.task.digest,
                "nll_unit": table.task.unit,
                "rows": entries(table),
            }
            for table in board.tables
        ]
    }


def _grid(table: Table, columns: list[Column]) -> Any:
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    title = Text(f"{table.title}, NLL in {table.task.unit}", style="bold")
    grid = Grid(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    lines = [[_cell(row, column) for column in columns] for row in table.rows]
    for i, column in enumerate(columns):
        # of all cells only a name may break: a published one has its source behind it
        least = NAME_WIDTH if column.name == "unit" else max(len(line[i]) for line in lines)
        header = Text(column.header.replace(" ", "\n"))
        grid.add_column(header, justify="left" if column.words else "right", min_width=least)
    for row, line in zip(table.rows, lines, strict=True):
        grid.add_row(*map(Text, line), style=_style(row))
    return grid


def _cell(row: Row, column: Column) -> str:
    text = column.show(row)
    return f"{text} ({row.tag})" if column.name == "unit" and row.tag else text


def _style(row: Row) -> str:
    return "dim" if row.kind != "unit" or row.rank is None else ""
