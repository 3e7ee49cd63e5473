"""The table that a README beside the board asks for, by a comment with the slug of a table of the board:

<!-- table jsb-chung2014 -->
what stands here is replaced
<!-- end -->
"""

from __future__ import annotations

import re

from seqbench.leaderboard.columns import AGAINST, COLUMNS, filled
from seqbench.leaderboard.markdown import escaped, grid
from seqbench.leaderboard.rows import Board, Table
from seqbench.task import SeqbenchError

PLACE = re.compile(r"(<!-- table ([a-z0-9-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
SHOWN = ("rank", "unit", "hidden", "recurrent", "test", "n", "planned", "marks", *AGAINST)
NEEDED = {"rank", "unit", "test"}


def with_table(text: str, board: Board) -> str:
    """The README with its tables as the board has them.

    Raises:
        SeqbenchError: it asks for a table that is not on the board.
    """
    tables = {table.slug: table for table in board.tables}

    def cut(match: re.Match[str]) -> str:
        if match[2] not in tables:
            raise SeqbenchError(f"README.md asks for the table {match[2]}: give one of {', '.join(tables)}")
        return f"{match[1]}{short(tables[match[2]])}\n{match[3]}"

    return PLACE.sub(cut, text)


def short(table: Table) -> str:
    """Units and floors, with the columns that a first look needs."""
    rows = [row for row in table.rows if row.kind != "published"]
    columns = [column for column in COLUMNS if column.name in SHOWN]
    told = filled(columns, rows)
    columns = [column for column in columns if column in told or column.name in NEEDED]
    caption = (
        f"{table.heading}; test NLL in {table.task.unit}, mean ± 95% interval over seeds; {table.search}, the same for "
        "all units. Units that cannot be told apart share a rank."
    )
    return f"{escaped(caption)}\n\n{grid(columns, rows)}\n"
