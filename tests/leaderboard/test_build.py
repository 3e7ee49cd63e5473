"""Files: the same bytes from the same records, checked, escaped, self-contained."""

import csv
import dataclasses
import io
import json
import os
import random
import re
import subprocess
import sys
import urllib.parse
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from rich.console import Console

from seqbench import record as rec
from seqbench.leaderboard import bar
from seqbench.leaderboard import build as building
from seqbench.leaderboard.build import build
from seqbench.leaderboard.plain import as_json
from seqbench.leaderboard.terminal import print_board
from seqbench.task import SeqbenchError

SCRIPT = "<script>alert('x')</script>"
FILES = {"README.md", "index.html", "leaderboard.csv"}


@pytest.fixture(scope="module")
def runs(factory):
    """Three units x three seeds on two data sets, some runs lost."""
    levels = (("tanh", 9.05), ("GRU", 8.53), ("LSTM", 8.47))
    made = [
        factory.make(c, seed, nll, task, noise=0.02, epochs=40 + seed)
        for task in ("jsb", "bach")
        for c, nll in levels
        for seed in range(3)
    ]
    return [*made, factory.diverged("tanh", 3), factory.make("GRU", 3, status="failed", message="no room", test=None)]


@pytest.fixture(scope="module")
def built(runs, factory, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    board = build(factory.write(folder / "records", *runs), folder / "out")
    return folder, board


def contents(out):
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_files(built):
    folder, _ = built
    figures = {
        f"figures/{task}-{x}.svg" for task in ("jsb", "bach") for x in ("forest", "epoch", "seconds", "cost", "size")
    }
    made = contents(folder / "out")
    assert made.keys() == FILES | figures
    assert all(len(made[name]) < 200_000 for name in figures)
    assert str(folder).encode() not in b"".join(made.values())
    assert (folder / "out/index.html").stat().st_mode & 0o777 == 0o644


def test_the_same_bytes_from_other_names_another_order_and_another_process(built, runs, tmp_path, monkeypatch):
    folder, _ = built
    shuffled = random.Random(1).sample(runs, len(runs))
    for i, record in enumerate(shuffled):
        rec.save(record, tmp_path / "flat" / f"{i}.json")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    matplotlibrc = tmp_path / "matplotlibrc"
    matplotlibrc.write_text("font.size: 30\naxes.grid: True\nxtick.major.size: 9\nsvg.fonttype: path\n")
    code = (
        "import sys; from pathlib import Path; from seqbench.leaderboard.build import build; "
        "build(*map(Path, sys.argv[1:]))"
    )
    environment = os.environ | {"MATPLOTLIBRC": str(matplotlibrc), "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    command = [sys.executable, "-c", code, str(tmp_path / "flat"), str(tmp_path / "out")]
    subprocess.run(command, check=True, env=environment, timeout=120)
    made, expected = contents(tmp_path / "out"), contents(folder / "out")
    for files in (made, expected):  # a page links the records by their names
        files["index.html"] = re.sub(rb'href="[^"]*\.json"', b"", files["index.html"])
    assert made == expected


def test_nothing_is_touched_twice(built):
    folder, _ = built
    before = {p: p.stat().st_mtime_ns for p in (folder / "out").rglob("*")}
    build(folder / "records", folder / "out")
    assert before == {p: p.stat().st_mtime_ns for p in (folder / "out").rglob("*")}


def test_check_names_what_is_stale_missing_or_left_over(runs, factory, tmp_path):
    records, out = factory.write(tmp_path / "records", *runs[:3]), tmp_path / "out"
    build(records, out)
    build(records, out, check=True)

    page = out / "index.html"
    page.write_text(page.read_text().replace("9.0", "9.1", 1))
    (out / "leaderboard.csv").unlink()
    (out / "figures/gone-epoch.svg").write_text(building.MARK + "<svg/>")
    (out / "figures/mine.svg").write_text("<svg/>")
    before = contents(out)
    with pytest.raises(SeqbenchError, match=r": figures/gone-epoch.svg, index.html, leaderboard.csv;"):
        build(records, out, check=True)
    assert contents(out) == before
    build(records, out)
    build(records, out, check=True)
    assert {p.name for p in (out / "figures").iterdir()} == {"jsb-epoch.svg", "jsb-seconds.svg", "mine.svg"}


def test_one_digit_of_a_record_makes_the_board_stale(runs, factory, tmp_path):
    records, out = factory.write(tmp_path / "records", *runs[:3]), tmp_path / "out"
    build(records, out)
    test = dataclasses.replace(runs[0].test, nll=runs[0].test.nll + 0.001)
    factory.write(records, dataclasses.replace(runs[0], test=test))
    with pytest.raises(SeqbenchError, match=r"README.md, index.html, leaderboard.csv"):
        build(records, out, check=True)


def test_a_readme_beside_the_board_gets_what_it_asks_for(runs, factory, tmp_path):
    records, out, readme = factory.write(tmp_path / "records", *runs[:9]), tmp_path / "out", tmp_path / "README.md"
    readme.write_text("# Mine\n\n<!-- board -->\nold\n<!-- end -->\n<!-- papers -->\nstale\n<!-- end -->\n\nthe rest\n")
    with pytest.raises(SeqbenchError, match=r"\.\./README\.md"):
        build(records, out, check=True)
    build(records, out)
    build(records, out, check=True)
    text = readme.read_text()
    assert text.startswith(
        "# Mine\n\n<!-- board -->\nTest NLL, lower is better: the lowest of each column, and the others' gaps to it"
    )
    assert "\n\n| unit | [JSB Chorales, 20k in the recurrent layer](out/README.md#jsb) |" in text
    assert text.endswith("<!-- end -->\n\nthe rest\n")
    assert "stale" not in text
    ours = r"LSTM \| 8\.4\d+ ± 0\.\d+ \| 8\.4\d+ ± 0\.\d+"
    assert re.search(
        rf"^\| JSB Chorales, 20k in the recurrent layer \| {ours} \| 8\.67 \(recalled\) \| \d \| [a-z]+ \|$",
        text,
        re.MULTILINE,
    )
    assert "- JSB Chorales, 20k in the recurrent layer: LSTM " in text
    readme.write_text(text.replace("| 8.67 (", "| 8.65 (", 1))
    with pytest.raises(SeqbenchError, match=r": \.\./README\.md;"):
        build(records, out, check=True)


def test_what_takes_long_has_a_bar(monkeypatch, capsys):
    """On a terminal alone: a script that reads what is told gets nothing else, however slow the machine is."""
    monkeypatch.setattr(bar, "PATIENCE", 0.0)
    assert list(bar.with_progress([1, 2, 3], "reading records")) == [1, 2, 3]
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(bar.with_progress([1, 2, 3], "reading records")) == [1, 2, 3]
    assert "reading records" in capsys.readouterr().err
    monkeypatch.setattr(bar, "PATIENCE", 60.0)
    assert list(bar.with_progress([1, 2, 3], "reading records")) == [1, 2, 3]
    assert capsys.readouterr().err == ""


def test_check_writes_nothing_where_nothing_is(runs, factory, tmp_path):
    records = factory.write(tmp_path / "records", runs[0])
    with pytest.raises(SeqbenchError, match=r"README.md.*index.html"):
        build(records, tmp_path / "out", check=True)
    assert not (tmp_path / "out").exists()


def test_an_unwritable_place_is_one_line(factory, tmp_path):
    records = factory.write(tmp_path / "records", factory.make("GRU"))
    (tmp_path / "out").write_text("a file")
    with pytest.raises(SeqbenchError, match="--out"):
        build(records, tmp_path / "out")


class Page(HTMLParser):
    """Collects tags, references and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.ids, self.data = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
                self.links.append((tag, value))
            if name == "id":
                self.ids.append(value)
            assert not name.startswith("on"), f"{tag} has a handler {name}"

    def handle_data(self, data):
        self.data.append(data)


def test_the_page_fetches_nothing(built):
    folder, _ = built
    text = (folder / "out/index.html").read_text()
    page = Page(text)
    assert not {"link", "iframe", "img", "object", "base", "embed"} & set(page.tags)
    assert re.findall("<script[^>]*>", text) == ['<script type="application/json" id="curves">', "<script>"]
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-"
    assert f'http-equiv="Content-Security-Policy" content="{policy}' in text
    for tag, link in page.links:
        record = (folder / "out" / urllib.parse.unquote(link)).resolve()
        inside = record.is_file() and record.is_relative_to(folder / "records")
        assert (
            link.startswith("#")
            or link == "leaderboard.csv"
            or (tag == "a" and (inside or link.startswith("https://arxiv.org/")))
        ), (tag, link)
    assert {link[1:] for _, link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "@import" not in text
    (told,) = re.findall(r'id="curves">([^<]*)<', text)
    assert set(json.loads(told)) == {name.rpartition("-")[0] for name in re.findall(r'data-figure="([^"]*)"', text)}
    assert not [part for part in text.split("url(")[1:] if not part.startswith("#")]


def test_whatever_a_record_says_is_escaped(factory, tmp_path):
    run = factory.make(
        "GRU", command=f"seqbench fit {SCRIPT}", message=SCRIPT, floors={SCRIPT: rec.Score(11, 11, None)}
    )
    environment = rec.Environment(
        SCRIPT, {SCRIPT: SCRIPT}, f"cpu|{SCRIPT}", SCRIPT, SCRIPT, 2, 3, {"suite": SCRIPT, SCRIPT: SCRIPT}
    )
    run = dataclasses.replace(
        run,
        floors={SCRIPT: rec.Score(11, 11, None)},
        task=dataclasses.replace(run.task, name=f"../../{SCRIPT}\n|", unit=SCRIPT, digest=SCRIPT, head="a|b"),
        cell=rec.CellRecord(f"$\\frac${SCRIPT}\0[red]", {SCRIPT: SCRIPT}, 3, 20_000, "recurrent"),
        config=run.config | {"data": {SCRIPT: SCRIPT, "x": "</pre>"}},
        environment=environment,
        run_id=f"=1+1{SCRIPT}",
    )
    rec.save(run, tmp_path / "records/record.json")
    board = build(tmp_path / "records", tmp_path / "deep/er/out")
    made = contents(tmp_path)
    assert {name.split("/")[0] for name in made} == {"records", "deep"}
    for name, content in made.items():
        if not name.endswith((".json", ".csv")):
            assert b"<script>alert" not in content, name
            assert content.count(b"<script") == 2 * name.endswith(".html"), name
    figures = [name for name in made if name.endswith(".svg")]
    assert len(figures) == 2
    for name in figures:
        texts = [element.text or "" for element in ET.fromstring(made[name]).iter()]
        assert any(text.startswith("$\\frac$<script>") for text in texts)
    readme = made["deep/er/out/README.md"].decode().splitlines()
    header = next(i for i, line in enumerate(readme) if line.startswith("| group |"))
    pipes = [line.replace("\\|", "").count("|") for line in readme[header:] if line.startswith("|")][:3]
    assert len(set(pipes)) == 1
    page = Page(made["deep/er/out/index.html"].decode())
    assert SCRIPT in "".join(page.data)
    console = Console(file=io.StringIO(), width=300)
    print_board(board, console)
    assert "[red]" in console.file.getvalue()


def test_csv_and_json_hold_the_numbers_of_the_board(built):
    folder, board = built
    with (folder / "out/leaderboard.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected = [(table, row) for table in board.tables for row in table.rows]
    assert len(rows) == len(expected)
    machine = [
        row for table in json.loads(json.dumps(as_json(board), allow_nan=False))["tables"] for row in table["rows"]
    ]
    for got, parsed, (table, row) in zip(rows, machine, expected, strict=True):
        assert (got["dataset"], got["unit"], got["kind"]) == (table.task.name, row.name, row.kind)
        assert {k: "" if v is None else str(v) for k, v in parsed.items()} == got
        if row.test is None:
            assert got["test"] == ""
            continue
        assert float(got["test"]) == row.test.mean
        assert got["test_interval"] == ("" if row.test.interval is None else str(row.test.interval))
        if row.kind == "unit":
            assert int(got["n"]) == len(row.counted)
            assert int(got["diverged"]) == sum(run.status == "diverged" for run in row.all_runs)
            assert float(got["test_sequence"]) == row.score("nll_sequence").mean


def test_every_column_is_in_every_format(built):
    from seqbench.leaderboard.columns import COLUMNS, DETAIL, MAIN

    folder, board = built
    console = Console(file=io.StringIO(), width=400)
    print_board(board, console)
    terminal, page = console.file.getvalue(), (folder / "out/index.html").read_text()
    readme = (folder / "out/README.md").read_text().replace("\\", "")
    # Of speech alone, of text alone, of what was too short, of what lacks something, of long lags, of trees, of no run.
    apart = {"bits", "perplexity", "bits_character", "right", "marks", "incomplete"}
    apart |= {"interrupted", "stopped", "untested"}
    apart |= {
        "solved",
        "share",
        "sequences",
        "around",
        *(f"{kind}{rule}" for kind in ("las", "uas") for rule in ("", "_upos", "_all")),
    }
    music = [column for column in MAIN if column.name not in apart]
    for column in music:
        assert all(word in terminal for word in column.header.split())
    tables = re.findall(r"^\|[^\n]*\|$", readme, re.MULTILINE)
    assert max(line.count(" | ") for line in tables) <= 7, "eight columns"
    for header in ("group", "unit", "test NLL", "± with pieces", "n"):
        assert f"| {header} |" in readme
    for column in (*music, *(column for column in DETAIL if column.name not in apart)):
        assert f">{column.header}</th>" in page
    assert {column.name for column in COLUMNS} == {column.name for column in (*music, *DETAIL)} | apart
    best = board.tables[0].units[0]
    text = f"{best.test.mean:.3f} ± {best.test.interval:.3f}"
    assert text in terminal
    assert text in readme
    assert text in page


def test_marks_stand_in_every_format(factory, tmp_path):
    runs = [factory.make("GRU", 0, nll, rate=rate) for rate, nll in ((1e-3, 8.5), (1e-4, 8.6))]
    board = build(factory.write(tmp_path / "records", *runs), tmp_path / "out")
    console = Console(file=io.StringIO(), width=400)
    print_board(board, console)
    made = [path.read_text() for path in map((tmp_path / "out").joinpath, FILES)]
    for text in (console.file.getvalue(), *made):
        assert "rate at the edge" in text
        assert "marks" in text


def test_details_hold_config_command_versions_and_each_seed(built, runs):
    folder, _ = built
    text = "".join(Page((folder / "out/index.html").read_text()).data)
    for run in runs:
        assert run.run_id in text
        whole, seed = run.command.split(" --model.seed ")
        together = rf"{re.escape(whole)} --model.seed '\[(\d,)*{seed}(,\d)*\]'"
        assert re.search(together, text) or run.command in text or run.status != "finished"
        if run.status == "finished":
            assert f"{run.test.nll:.4f}" in text
            assert f"{run.best_valid:.4f}" in text
    for word in (
        "torch 2.11.0",
        "noise: 0.075",
        "code suite aaaaaaaaaaaa, unit bbbbbbbbbbbb",
        "failed: no room",
        "diverged: ",
        "commit 0123456789ab",
    ):
        assert word in text


def test_a_narrow_terminal_gets_whole_numbers(built):
    _, board = built
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    print_board(board, console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in console.file.getvalue()
    assert any(re.search(r"\ba +LSTM", line) and "±" in line for line in lines)


def test_one_record_makes_a_board(factory, tmp_path):
    board = build(factory.write(tmp_path / "records", factory.make("GRU", epochs=1)), tmp_path / "out")
    (table,) = board.tables
    assert table.units[0].letters == "a"
    assert (tmp_path / "out/figures/jsb-epoch.svg").exists()
    assert "±" not in (tmp_path / "out/leaderboard.csv").read_text()


def test_a_unit_that_only_diverged_is_shown_without_letter_or_figure(factory, tmp_path):
    board = build(factory.write(tmp_path / "records", factory.diverged("tanh")), tmp_path / "out")
    row = board.tables[0].units[0]
    assert (row.letters, row.test) == (None, None)
    assert contents(tmp_path / "out").keys() == FILES
    readme = (tmp_path / "out/README.md").read_text()
    assert "| *tanh* (diverged in every run) | *–* |" in readme
    assert "| *20,050* |" in readme
    assert "figures/" not in readme


def test_building_imports_no_torch_and_starting_no_plotting():
    code = (
        "import sys, seqbench.leaderboard.build, seqbench.leaderboard.terminal\n"
        "print(sorted({'torch', 'matplotlib', 'jinja2', 'scipy', 'pandas', 'rich'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]"


def test_a_page_says_first_who_is_ahead_and_by_how_much(built):
    folder, board = built
    text = (folder / "out/index.html").read_text()
    first = board.tables[0]
    assert first.task.name == "jsb"
    best, second = first.ranked[:2]
    found = first.against(second, best)
    visible = " ".join("".join(Page(text[text.index("<body>") :]).data).split())
    assert visible.startswith(f"seqbench leaderboard JSB Chorales, 20k in the recurrent layer: {best.name} ")
    assert f"{found.difference:+.3f} ± {found.interval:.3f}" in visible[:300]
    assert f"{best.test.mean:.3f} nats/frame" in visible[:300]
    assert '<p class="lead"><a href="#jsb">' in text
    assert re.findall(r'<li><a href="#([a-z-]+)">', text) == ["bach"]


def test_the_baseline_is_behind_every_panel_though_it_is_not_among_the_best(factory, tmp_path):
    units = ["V", "NIG", "NFG", "NOG", "NIAF", "NOAF", "NP", "CIFG", "FGR", "GRU", "LSTM", "MinGRU", "MinLSTM", "Tanh"]
    runs = [factory.make(unit, seed, 8.5 + n / 10, noise=0.01) for n, unit in enumerate(units) for seed in range(2)]
    build(factory.write(tmp_path / "records", *runs), tmp_path / "out")
    made = contents(tmp_path / "out")
    (panels,) = (text.decode() for name, text in made.items() if name.endswith("epoch.svg"))
    assert "each unit against Tanh in grey" in panels
    assert panels.count(">Tanh</text>") == 0
    assert ">NLL against epoch; dashed: training; grey: Tanh</text>" in panels
    page = made["index.html"].decode()
    assert "In grey: Tanh." in page
    assert "The matrix has the best 7;" in made["README.md"].decode()
    assert ">Click a unit" in page
    assert not re.search("Hover for values|bands span", page), "nothing is read off panels, and they have no bands"


def test_many_units_stand_in_small_multiples_and_the_page_stays_small(factory, tmp_path):
    units = ("V", "NIG", "NFG", "NOG", "NIAF", "NOAF", "NP", "CIFG", "FGR")
    runs = [factory.make(unit, seed, 8.5 + n / 10, noise=0.01) for n, unit in enumerate(units) for seed in range(3)]
    runs = [factory.with_config(run, "run", protocol="mine") for run in runs]
    build(factory.write(tmp_path / "records", *runs), tmp_path / "out")
    made = contents(tmp_path / "out")
    drawn = {name for name in made if name.endswith(".svg")}
    assert {name.rpartition("-")[2] for name in drawn} == {"forest.svg", "epoch.svg", "cost.svg", "size.svg"}
    (panels,) = (made[name].decode() for name in drawn if name.endswith("epoch.svg"))
    assert all(f">{unit}</text>" in panels for unit in units)
    grey = set(re.findall(r"\.(\w+)\{[^}]*stroke:#8f8d85", panels))
    assert sum(panels.count(f' class="{name}"') for name in grey) >= len(units), "the baseline is grey in every panel"
    (forest,) = (made[name].decode() for name in drawn if name.endswith("forest.svg"))
    assert all(f">{unit}</text>" in forest for unit in units[1:])
    assert 'class="ground"' in forest
    assert len(made["index.html"]) < 250_000
    assert re.findall(r'id="curves">([^<]*)<', made["index.html"].decode()) == ["{}"], "the script reads no panel"
