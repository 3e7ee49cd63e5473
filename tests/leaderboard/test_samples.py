"""Samples beside a board: whose they are, how large, and that the page plays them; they are made up here."""

import json
import re

import pytest
import soundfile
from matplotlib.image import imread

from seqbench.leaderboard import sampling
from seqbench.leaderboard.build import build
from seqbench.task import SeqbenchError


@pytest.fixture
def records(factory, tmp_path):
    """Two units with two seeds each; seed 1 validates best."""
    units = {"GRU": 8.5, "LSTM": 8.6}
    runs = [factory.make(unit, seed, nll - seed / 10) for unit, nll in units.items() for seed in (0, 1)]
    return factory.write(tmp_path / "records", *runs), runs


def players(out):
    return re.findall(r'<audio[^>]* src="([^"]*)"', (out / "index.html").read_text())


def test_a_row_links_to_the_sample_of_its_best_seed(records, factory, tmp_path):
    folder, runs = records
    out = tmp_path / "out"
    build(folder, out)
    assert players(out) == []
    assert "media-src" not in (out / "index.html").read_text()
    asked = []

    def make(run_id, what):
        asked.append((run_id, what))
        return factory.sample(run_id, what)

    told = sampling.sample(folder, out, make)
    best = {run.run_id for run in runs if run.seed == 1}
    assert {run_id for run_id, what in asked if what == "sample"} == best == {one.run_id for one in told}
    board = build(folder, out)
    page = (out / "index.html").read_text()
    assert "media-src 'self'" in page
    (table,) = board.tables
    anchors = {row.anchor for row in table.units}
    stems = {f"{table.slug}-prime", f"{table.slug}-truth", *anchors}
    assert set(players(out)) == {f"samples/{stem}.ogg" for stem in stems}
    for anchor in anchors:
        assert f'<a href="#{anchor}-sample"' in page
        assert f'id="{anchor}-sample"' in page
    for stem in stems:
        assert soundfile.info(out / f"samples/{stem}.ogg").frames == 22_050
        assert imread(out / f"samples/{stem}.png").shape[:2] == (4, 6)
    build(folder, out, check=True)


def test_a_sample_of_a_run_that_is_no_longer_the_best_is_not_played(records, factory, tmp_path):
    folder, _ = records
    out = tmp_path / "out"
    sampling.sample(folder, out, factory.sample)
    build(folder, out)
    before = set(players(out))
    better = factory.make("GRU", 2, 8.0)
    board = build(factory.write(folder, better), out)
    gone = {f"samples/{row.anchor}.ogg" for table in board.tables for row in table.units if row.unit == "GRU"}
    assert set(players(out)) == before - gone
    told = sampling.sample(
        folder, out, lambda run_id, what: {} if run_id == better.run_id else factory.sample(run_id, what)
    )
    (missing,) = (one for one in told if not one.bytes)
    assert str(missing) == f"GRU, {board.tables[0].slug}: {better.run_id}, no checkpoint"
    assert not gone & {f"samples/{path.name}" for path in (out / "samples").iterdir()}


def test_samples_of_runs_that_lie_elsewhere_stay(records, factory, tmp_path):
    """A folder at a time, as tables are trained; but not those of a run that is no longer its row's best."""
    folder, runs = records
    out = tmp_path / "out"
    one, other = (run.run_id for run in runs if run.seed == 1)
    sampling.sample(folder, out, lambda run_id, what: factory.sample(run_id, what) if run_id == one else {})
    before = {path.name: path.read_bytes() for path in (out / "samples").glob("*.ogg")}
    told = sampling.sample(folder, out, lambda run_id, what: factory.sample(run_id, what) if run_id == other else {})
    assert [str(each).partition(f"{each.run_id}, ")[2] for each in told if each.run_id == one] == ["kept as it is"]
    after = {path.name: path.read_bytes() for path in (out / "samples").glob("*.ogg")}
    units = [name for name in before if "prime" not in name and "truth" not in name]
    assert [before[name] for name in units] == [after[name] for name in units]
    assert before.keys() <= after.keys()
    assert len(after) == len(before) + 1
    build(folder, out)
    assert len(players(out)) == 4
    build(factory.write(folder, factory.make("GRU", 2, 8.0)), out)
    sampling.sample(folder, out, lambda run_id, what: factory.sample(run_id, what) if run_id == other else {})
    assert len(list((out / "samples").glob("*.ogg"))) == 3


def test_what_cannot_be_kept_is_refused(records, factory, tmp_path, monkeypatch):
    folder, _ = records
    with pytest.raises(SeqbenchError, match="has a checkpoint"):
        sampling.sample(folder, tmp_path / "out", lambda run_id, what: {})
    monkeypatch.setattr(sampling, "LARGEST", 10_000)
    with pytest.raises(SeqbenchError, match="fewer --seconds"):
        sampling.sample(folder, tmp_path / "out", factory.sample)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out/samples").mkdir(parents=True)
    (tmp_path / "out/samples/samples.json").write_text("{")
    with pytest.raises(SeqbenchError, match=r"samples\.json cannot be read"):
        build(folder, tmp_path / "out")


def test_the_index_names_tables_rows_and_runs(records, factory, tmp_path):
    folder, runs = records
    sampling.sample(folder, tmp_path / "out", factory.sample)
    (rows,) = json.loads((tmp_path / "out/samples/samples.json").read_text()).values()
    assert set(rows.values()) == {run.run_id for run in runs if run.seed == 1}


def test_of_text_the_page_shows_a_picture_and_what_was_written(records, factory, tmp_path):
    folder, _ = records
    out = tmp_path / "out"

    def make(run_id, what):
        files = factory.sample(run_id, what)
        return {"png": files["png"], "txt": b"the cat | sat & <unk>\n"} if what == "sample" else {}

    sampling.sample(folder, out, make)
    build(folder, out)
    page = (out / "index.html").read_text()
    assert players(out) == []
    assert len(re.findall(r'<img class="memory" src="samples/[^"]*\.png"', page)) == 2
    assert page.count("<blockquote>the cat | sat &amp; &lt;unk&gt;") == 2
    assert "-prime.png" not in page
    sampling.sample(folder, out, factory.sample)
    assert not list((out / "samples").glob("*.txt"))
