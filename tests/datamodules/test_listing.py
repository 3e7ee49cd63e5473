"""The listing's facts against the classes', without torch; names, and what prepare and floors give."""

from __future__ import annotations

import subprocess
import sys

import pytest

from seqbench import datamodules
from seqbench.datamodules import listing
from seqbench.datamodules.speech import Speech
from seqbench.task import SeqbenchError


def test_rows_state_what_the_classes_state():
    found = []
    for row in listing.rows():
        data = listing.dataset(row["name"])
        assert row["title"].startswith(data.title)
        assert (row["origin"], row["input_size"]) == (data.origin, data.input_size)
        found.append(data.name)
        if data.name == "midi_folder":  # nothing is known without a folder
            assert {row[key] for key in ("train", "valid", "test", "longest")} == {None}
            continue
        if not data.places:  # else it has no task without a folder
            assert (row["name"], row["input_size"]) == (data.task.name, data.task.input_size)
        assert row["longest"] == data.longest
        if not isinstance(data, Speech):  # its counts are the protocols'
            counts = {split: row[split] for split in ("train", "valid", "test")}
            assert counts == getattr(data, "counts", listing.UNKNOWN)
        assert (row["cached"] in ("built in", "your own")) == (not hasattr(data, "file"))
        assert (row["cached"] == "your own") == hasattr(data, "root")
    assert found == sorted(found)
    assert set(found) == set(datamodules.datasets())


def test_speech_is_listed_under_both_protocols():
    """Chung et al. 2014: 7,230 sequences of 500 samples and 800 of 8,000."""
    rows = {row["name"]: row for row in listing.rows()}
    for name in ("fsdd", "wav_folder"):
        short, long = rows[f"{name}_a"], rows[f"{name}_b"]
        assert (short["title"][-10:], long["title"][-10:]) == ("protocol A", "protocol B")
        assert [sum(row[split] for split in ("train", "valid", "test")) for row in (short, long)] == [7230, 800]
        assert (short["longest"], long["longest"]) == ((500 - 20) // 10, (8000 - 20) // 10)
    data = listing.dataset("fsdd_b", batch_size=3)
    assert (type(data).__name__, data.length, data.batch_size) == ("FSDD", 8000, 3)
    assert listing.dataset("fsdd").task == listing.dataset("fsdd_a").task
    assert listing.dataset("fsdd", protocol="B").task == data.task


def test_listing_imports_no_torch():
    code = "import sys; from seqbench.datamodules import listing; listing.rows(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_cached_tells_where_the_file_is(alone):
    assert {row["name"]: row["cached"] for row in listing.rows()}["jsb"] == "no"
    (alone / "polyphonic").mkdir(parents=True)
    (alone / "polyphonic" / "JSB_Chorales.mat").touch()
    assert {row["name"]: row["cached"] for row in listing.rows()}["jsb"] == "yes"


def test_unknown_name():
    with pytest.raises(SeqbenchError, match="did you mean nottingham") as caught:
        listing.prepare("notingham")
    for row in listing.rows():
        assert row["name"] in str(caught.value)
    with pytest.raises(SeqbenchError, match=r"did you mean fsdd_[ab]"):
        listing.floors("fsddb")


def test_prepare_and_floors():
    prepared = listing.prepare("synthetic")
    assert prepared["digest"] == datamodules.Synthetic().task.digest
    assert {k: prepared[k]["sequences"] for k in ("train", "valid", "test")} == {"train": 48, "valid": 16, "test": 16}
    floors = listing.floors("synthetic")
    assert list(floors) == ["note unigram", "per-key Markov"]
    assert floors["per-key Markov"]["nll"] < floors["note unigram"]["nll"]
    assert set(floors["note unigram"]) == {"nll", "nll_sequence", "nll_first"}
