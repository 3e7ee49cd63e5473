"""Records that are refused when they are read, each by its name."""

import dataclasses
import os
import re

import pytest

from seqbench.leaderboard.build import build
from seqbench.leaderboard.verify import verify
from seqbench.task import SeqbenchError


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("")])
def test_no_records(make, tmp_path):
    make(tmp_path / "records")
    with pytest.raises(SeqbenchError, match=r"no records in|no folder"):
        build(tmp_path / "records", tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new"),
    [('"seconds":24.6', '"seconds":NaN'), ('"schema":3', '"schema":99'), ('"status":', '"state":'), ("{", "")],
)
def test_a_bad_record_is_told_by_name_and_the_others_make_a_board(old, new, factory, tmp_path):
    folder = factory.write(tmp_path / "records", factory.make("LSTM"), factory.make("GRU", epochs=41))
    path = next(folder.glob("jsb-gru*/record.json"))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SeqbenchError, match=r"1 of 2 records left out: .*jsb-gru-\w+/record\.json: "):
        build(folder, tmp_path / "out")
    path.unlink()
    build(folder, tmp_path / "out", check=True)


def test_parts_that_do_not_fit_are_refused_by_name(factory, tmp_path):
    run = factory.make("GRU")
    lists = ("seconds", "train", "valid", "gradient", "update", "floored")
    short = [dataclasses.replace(run.curve, **{name: getattr(run.curve, name)[:-1]}) for name in lists]
    wrong = [dataclasses.replace(run, curve=curve) for curve in short]
    wrong += [dataclasses.replace(run, best_epoch=1000)]
    wrong += [dataclasses.replace(run, curve=dataclasses.replace(run.curve, every=0), best_epoch=-1)]
    for one in wrong:
        with pytest.raises(SeqbenchError, match=r"record\.json.*curve"):
            build(factory.write(tmp_path, one), tmp_path / "out")
    none = dataclasses.replace(run, curve=dataclasses.replace(run.curve, floored=[]))
    build(factory.write(tmp_path, none), tmp_path / "out")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "1" + 400 * "0", "[" * 99_999])
@pytest.mark.parametrize("field", ["noise", "seconds", "valid", "peepholes"])
def test_a_number_that_is_not_finite_is_refused_wherever_it_stands(number, field, factory, tmp_path):
    run = factory.make("GRU", epochs=1)
    run = dataclasses.replace(run, cell=dataclasses.replace(run.cell, options={"peepholes": 1}))
    (path,) = factory.write(tmp_path / "records", run).rglob("record.json")
    text, n = re.subn(rf'("{field}":\[?)[\d.]+', rf"\g<1>{number}", path.read_text(), count=1)
    assert n == 1
    path.write_text(text)
    with pytest.raises(SeqbenchError, match=r"record\.json"):
        build(tmp_path / "records", tmp_path / "out")


def test_links_are_not_followed_out_of_the_folder(factory, tmp_path):
    outside = factory.write(tmp_path / "outside", factory.make("GRU"))
    records = factory.write(tmp_path / "records", factory.make("LSTM"))
    (records / "linked").symlink_to(outside, target_is_directory=True)
    (table,) = build(records, tmp_path / "out").tables
    assert [row.name for row in table.units] == ["LSTM"]
    (records / "sly.json").symlink_to(next(outside.rglob("record.json")))
    with pytest.raises(SeqbenchError, match=r"sly\.json is a link out"):
        build(records, tmp_path / "out")


@pytest.mark.faults("F15")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace('"seed":0', '"seed":0,"seed":1'), "'seed' is there twice"),
        (lambda text: text.replace('"noise":0.075', '"noise":' + 40 * "[" + 40 * "]"), "within each other"),
        (lambda text: text.replace('"noise":0.075', '"noise":' + 900 * "[" + 900 * "]"), "within each other"),
        (lambda text: text.replace('"noise":0.075', '"noise":' + "9" * 5000), "not a readable record"),
        (lambda text: text.replace('"noise":0.075', r'"noise":"\ud800"'), "is no text"),
        (lambda text: text.replace('"device":"', r'"device":"\udfff'), "is no text"),
        (lambda text: text.replace('"seed":0', '"seed":' + "9" * 30), "more than 64 bits"),
        (lambda text: text.replace('"nats":[', '"nats":[1.0,'), "not of the same sequences"),
        (lambda text: text.encode("utf-16"), "not a readable record"),
        (lambda text: text[:-200], "not a readable record"),
        (lambda text: "[" + text + "]", "schema 'list'"),
    ],
)
def test_a_strangers_record_is_refused_before_it_is_believed(change, told, factory, tmp_path):
    (path,) = factory.write(tmp_path / "records", factory.make("GRU", epochs=1)).rglob("record.json")
    text = path.read_text()
    changed = change(text)
    assert changed != text
    path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    (finding,) = verify(tmp_path / "records", ())[:1]
    assert told in str(finding)
    assert finding.file == str(path.relative_to(tmp_path / "records"))


@pytest.mark.faults("F15")
def test_a_huge_record_a_pipe_and_a_device_are_not_read(factory, tmp_path):
    records = factory.write(tmp_path / "records", factory.make("LSTM"))
    with (records / "huge.json").open("wb") as file:
        file.truncate(100 * 2**20)
    os.mkfifo(records / "pipe.json")
    (records / "zero.json").symlink_to("/dev/zero")
    (records / "up.json").symlink_to("../elsewhere.json")
    (records / "folder.json").mkdir()
    told = {finding.file: finding.problem for finding in verify(records, ()) if not finding.note and finding.file}
    assert "it has 104,857,600 bytes" in told["huge.json"]
    assert "it is no file" in told["pipe.json"]
    assert "it is no file" in told["folder.json"]
    assert "is a link out of" in told["zero.json"]
    assert "is a link out of" in told["up.json"]
    with pytest.raises(SeqbenchError, match="5 of 6 records left out"):
        build(records, tmp_path / "out")
    assert "LSTM" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.faults("F15")
def test_the_names_of_a_record_write_nothing_out_of_the_folder(factory, tmp_path):
    run = factory.make("GRU", epochs=2)
    task = dataclasses.replace(run.task, name="../../../up")
    sly = dataclasses.replace(run, task=task, run_id="../../../up")
    factory.write(tmp_path / "a" / "records" / "x" / "y", dataclasses.replace(sly, run_id="run"))
    build(tmp_path / "a" / "records", tmp_path / "a" / "b" / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"a"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"records", "b"}
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"out"}
