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


def test_the_page_is_small_and_the_tables_of_readmes_have_eight_columns():
    assert (BOARD / "index.html").stat().st_size < 1_500_000
    for path in (BOARD / "README.md", ROOT / "README.md"):
        rows = re.findall(r"^\|[^\n]*\|$", path.read_text(), re.MULTILINE)
        assert rows
        assert max(row.count(" | ") for row in rows) <= 7
