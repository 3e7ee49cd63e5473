"""What a README beside the board asks for by comments: the first look at the board, or its units beside the papers'.

<!-- board -->
what stands here is replaced
<!-- end -->
<!-- papers -->
and here
<!-- end -->
"""

from __future__ import annotations

import re

from seqbench.leaderboard.columns import COLUMNS
from seqbench.leaderboard.markdown import escaped, first_look, piped
from seqbench.leaderboard.published import REFERENCE
from seqbench.leaderboard.rows import Board

PLACE = re.compile(r"(<!-- (board|papers) -->\n).*?(<!-- end -->)", re.DOTALL)
SHOWN = {column.name: column.show for column in COLUMNS}


def with_board(text: str, board: Board, to: str) -> str:
    """The README with its places filled as the board has it.

    Args:
        text: the README.
        board: all tables.
        to: the file of all tables, as seen from the README.
    """

    def filled(match: re.Match[str]) -> str:
        found = first_look(board, to) if match[2] == "board" else beside_papers(board)
        return f"{match[1]}{found}\n\n{match[3]}"

    return PLACE.sub(filled, text)


def beside_papers(board: Board) -> str:
    """Each unit that has a published figure of its own, beside it."""
    lines = [["data set", "unit", "test NLL", "sequence-weighted", f"{REFERENCE}, test NLL", "n", "verdict"]]
    lines += [[":--", ":--", "--:", "--:", "--:", "--:", ":--"]]
    for table in board.tables:
        for row in table.units:
            if row.reference is None or row.reference.test is None or row.test is None:
                continue
            theirs = [f"{row.reference.test:.2f} ({row.reference.known})", SHOWN["n"](row), SHOWN["verdict"](row)]
            ours = [SHOWN[name](row) for name in ("unit", "test", "test_sequence")]
            lines.append([escaped(cell) for cell in (table.heading, *ours, *theirs)])
    told = (
        "In nats/frame, mean ± 95% interval over seeds: total nats over total frames, and the mean of the sequences' "
        "own means; which of them the paper took is not known. Beaten or missed where both differences are beyond the "
        "prediction interval of a single run."
    )
    return f"{piped(lines)}\n\n{escaped(told)}"
