"""What a README beside the board asks for by comments: the first look at the board, or one of its tables by its slug.

<!-- board -->
what stands here is replaced
<!-- end -->
<!-- table jsb-chung2014 -->
and here
<!-- end -->
"""

from __future__ import annotations

import re

from seqbench.leaderboard.columns import narrow
from seqbench.leaderboard.markdown import escaped, first_look, grid
from seqbench.leaderboard.rows import Board, Table
from seqbench.task import SeqbenchError

PLACE = re.compile(r"(<!-- (?:board|table ([a-z0-9-]+)) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_board(text: str, board: Board, to: str) -> str:
    """The README with its places filled as the board has it.

    Args:
        text: the README.
        board: all tables.
        to: the file of all tables, as seen from the README.

    Raises:
        SeqbenchError: it asks for a table that is not on the board.
    """
    tables = {table.slug: table for table in board.tables}

    def cut(match: re.Match[str]) -> str:
        if match[2] is None:
            return f"{match[1]}{first_look(board, to)}\n\n{match[3]}"
        if match[2] not in tables:
            raise SeqbenchError(f"README.md asks for the table {match[2]}: give one of {', '.join(tables)}")
        return f"{match[1]}{short(tables[match[2]])}\n{match[3]}"

    return PLACE.sub(cut, text)


def short(table: Table) -> str:
    """Units and floors, with the columns that a first look needs."""
    rows = [row for row in table.rows if row.kind != "published"]
    caption = (
        f"{table.heading}; test NLL in {table.task.unit}, mean ± 95% interval over seeds; {table.search}, the same for "
        "all units. Units that share a letter cannot be told apart."
    )
    return f"{escaped(caption)}\n\n{grid(narrow(rows), rows)}\n"
