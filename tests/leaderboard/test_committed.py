"""The committed leaderboard is what the committed records give, byte for byte; the README's table is cut from it."""

import re
from pathlib import Path

import pytest

from seqbench.leaderboard.build import build
from seqbench.leaderboard.verify import SUMS, verify
from seqbench.train.audit import CHECKS

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "leaderboard"
pytestmark = pytest.mark.skipif(
    not any((BOARD / "records").glob("*.json")), reason="leaderboard/records is empty: the board is being made anew"
)


def test_the_committed_files_follow_from_the_records():
    build(BOARD / "records", BOARD, check=True)


def test_the_committed_records_can_be_believed():
    assert [str(finding) for finding in verify(BOARD / "records", CHECKS) if not finding.note] == []
    assert (BOARD / "records" / SUMS).is_file()


def test_the_readmes_first_table_is_the_boards():
    board = build(BOARD / "records", BOARD, check=True)
    table = next(t for t in board.tables if t.slug == "jsb-chung2014")
    text = (ROOT / "README.md").read_text()
    pattern = r"^\| (\d+) \| (\w+) \| ([\d.]+) ± ([\d.]+) \|.* (\d+) \| ([\d,]+) \|$"
    rows = re.findall(pattern, text, re.MULTILINE)
    assert [row[1] for row in rows] == [row.name for row in table.ranked]
    for (rank, _, mean, interval, hidden, parameters), row in zip(rows, table.ranked, strict=True):
        assert int(rank) == row.rank
        assert int(hidden) == row.runs[0].cell.hidden
        assert int(parameters.replace(",", "")) == row.runs[0].parameters.recurrent
        assert (float(mean), float(interval)) == (round(row.test.mean, 3), round(row.test.interval, 3))
