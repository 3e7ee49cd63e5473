"""The committed leaderboard is what the committed records give, byte for byte; the README's table is cut from it."""

import re
from pathlib import Path

from leaderboard.build import build, find
from seqbench.record import load, run_id

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "leaderboard"


def test_the_committed_files_follow_from_the_records():
    build(BOARD / "records", BOARD, check=True)


def test_every_record_is_the_run_that_it_says_it_is():
    for path in find(BOARD / "records"):
        record = load(path)
        assert record.run_id == path.stem == run_id(record.task, record.cell.name, record.config)
        assert path.stat().st_size < 20_000


def test_the_readmes_first_table_is_the_boards():
    board = next(t for t in build(BOARD / "records", BOARD, check=True).tables if t.title == "jsb, chung2014")
    rows = re.findall(
        r"^\| (\w+) \| (\d+) \| ([\d,]+) \| ([\d.]+) ± ([\d.]+) \|", (ROOT / "README.md").read_text(), re.M
    )
    assert [row[0].lower() for row in rows] == [row.unit.lower() for row in board.units]
    for (_, hidden, parameters, mean, interval), row in zip(rows, board.units, strict=True):
        assert int(hidden) == row.runs[0].cell.hidden
        assert int(parameters.replace(",", "")) == row.runs[0].parameters.recurrent
        assert (float(mean), float(interval)) == (round(row.test.mean, 3), round(row.test.interval, 3))
