"""The board in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqbench.leaderboard.columns import MAIN, Column, filled
from seqbench.leaderboard.rows import Board, Row, Table

if TYPE_CHECKING:
    from rich.console import Console

NAME_WIDTH = 18  # characters that a unit's name keeps in a narrow terminal
# What a narrow terminal keeps longest; the rest goes first, from the right.
FIRST = (
    "unit", "solved", "sequences", "test", "letters", "n", "planned", "lost", "marks", "valid", "rate", "recurrent",
    "verdict", "bits", "perplexity", "bits_character", "right", "seconds",
)  # fmt: skip


def print_board(board: Board, console: Console) -> None:
    """Prints one table a data set, floors and published rows dimmed.

    A terminal gets the columns that fit into it, the most telling first; a pipe gets whole lines, however long.
    """
    for table in board.tables:
        columns = filled(MAIN, table.rows)
        while console.is_terminal and len(columns) > 2 and _width(table, columns, console) > console.width:
            columns.remove(_least(columns))
        console.width = max(console.width, _width(table, columns, console))
        console.print(_grid(table, columns))


def _least(columns: list[Column]) -> Column:
    """The one that is missed least."""
    by_weight = {name: i for i, name in enumerate(FIRST)}
    return max(enumerate(columns), key=lambda item: (by_weight.get(item[1].name, len(FIRST)), item[0]))[1]


def _width(table: Table, columns: list[Column], console: Console) -> int:
    measured = console.measure(_grid(table, columns), options=console.options.update(width=10_000))
    return measured.minimum if console.is_terminal else measured.maximum


def _grid(table: Table, columns: list[Column]) -> Any:
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    title = Text(f"{table.heading}, NLL in {table.task.unit}", style="bold")
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
    return "dim" if row.kind != "unit" or row.letters is None else ""
