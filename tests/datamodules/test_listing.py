"""The listing's facts against the classes', without torch; names, and what prepare and floors give."""

from __future__ import annotations

import subprocess
import sys

import pytest

from seqbench import datamodules
from seqbench.datamodules import listing
from seqbench.task import SeqbenchError


def test_rows_state_what_the_classes_state():
    rows = {row["name"]: row for row in listing.rows()}
    assert list(rows) == sorted(datamodules.datasets())
    for name, cls in datamodules.datasets().items():
        row = rows[name]
        assert (row["title"], row["origin"], row["longest"]) == (cls.title, cls.origin, cls.longest)
        assert row["input_size"] == cls.input_size
        if name != "wav_folder":  # which has no task without a folder
            assert row["input_size"] == cls().task.input_size
        assert {split: row[split] for split in ("train", "valid", "test")} == cls.counts
        assert (row["cached"] == "built in") == (not hasattr(cls, "file"))


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
    for name in datamodules.datasets():
        assert name in str(caught.value)


def test_prepare_and_floors():
    prepared = listing.prepare("synthetic")
    assert prepared["digest"] == datamodules.Synthetic().task.digest
    assert {k: prepared[k]["sequences"] for k in ("train", "valid", "test")} == {"train": 48, "valid": 16, "test": 16}
    floors = listing.floors("synthetic")
    assert list(floors) == ["note unigram", "per-key Markov"]
    assert floors["per-key Markov"]["nll"] < floors["note unigram"]["nll"]
    assert set(floors["note unigram"]) == {"nll", "nll_sequence", "nll_first"}
