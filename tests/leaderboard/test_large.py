"""Tables of many units: what is compared and drawn has a bound, and so has the time (10,000: benchmarks/board.py)."""

import itertools
import re
from pathlib import Path

import pytest

from seqbench.leaderboard.board import MOST_RANKED
from seqbench.leaderboard.build import build
from seqbench.train.audit import CHECKS

ROOT = Path(__file__).parents[2]


def test_hundreds_of_units_are_counted_and_the_best_are_shown(factory, tmp_path, steps):
    """Pairs grow with the square of units, letters faster: without a bound 90 units take minutes and 10 MB."""
    runs = [factory.make(f"Unit{n:02}", seed, 8.5 + n / 100, noise=0.02) for n in range(90) for seed in range(3)]
    records = factory.write(tmp_path / "records", *runs)
    boards = []
    assert steps(lambda: boards.append(build(records, tmp_path / "out")), 100) < 100  # about three seconds
    (table,) = boards[-1].tables
    assert (len(table.units), len(table.ranked), table.judged) == (90, MOST_RANKED, 90 * 89 // 2)
    assert table.ranked == table.units[:MOST_RANKED]
    assert [c.corrected for c in table.comparisons] == pytest.approx(
        [min(1, c.p * table.judged) for c in table.comparisons], rel=0.01
    )
    page = (tmp_path / "out/index.html").read_text()
    assert len(page) < 1_500_000
    assert "Of the complete ones the best 40 are compared, 50 are not." in page
    assert "60 more units stand in the tables." in page
    matrix = page[page.index('<table class="matrix">') :]
    assert matrix[: matrix.index("</table>")].count('<th scope="row">') == 20
    assert all(f'<a href="#{row.anchor}">{row.name}</a>' in page for row in table.units), "all stand in the table"
    figures = {path.name: path.read_text() for path in (tmp_path / "out/figures").iterdir()}
    assert max(len(set(re.findall(r">(Unit\d\d)</text>", text))) for text in figures.values()) == 39, "the forest's"
    assert max(map(len, figures.values())) < 120_000


def test_the_benchmarks_records_are_what_their_configs_make(monkeypatch):
    """Of JSB's 21 units under three names: other hidden sizes, other likelihoods, as this code counts them."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from board import made

    runs = list(itertools.islice(made(3), 60))
    assert {run.cell.budget for run in runs} == {20_000}
    assert len({run.cell.name for run in runs}) == 3
    assert [problem for run in runs for check in CHECKS for problem in check(run)] == []
