"""Files and folders that are there whole or not at all, whatever goes wrong while they are made."""

import os

import pytest

from seqbench.files import cache_folder, make_folder, write_file


def test_a_file_is_written_into_folders_that_are_made_and_others_may_read_it(tmp_path):
    path = tmp_path / "a" / "b" / "c.json"
    for content in (b"old", b"new"):
        write_file(path, content)
        assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(path.parent) == ["c.json"]


def test_what_cannot_be_written_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_file(path, b"old")

    def no_space(handle):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.faults("E12")
def test_the_cache_may_be_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SEQBENCH_CACHE", "~/kept")
    assert cache_folder() == tmp_path / "kept"


def test_a_folder_is_made_once_and_of_a_part_if_asked(tmp_path):
    def fill(folder):
        (folder / "corpus").mkdir()
        (folder / "corpus" / "a.wav").touch()
        (folder / "corpus.tar.gz").touch()

    make_folder(tmp_path / "v0.02", fill, "corpus")
    make_folder(tmp_path / "v0.02", lambda folder: pytest.fail("made again"))
    assert os.listdir(tmp_path / "v0.02") == ["a.wav"]
    assert {path.name for path in tmp_path.iterdir()} - {"v0.02.lock"} == {"v0.02"}


def test_a_folder_that_is_not_filled_is_not_there(tmp_path):
    def fill(folder):
        (folder / "half").touch()
        raise RuntimeError("killed")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="killed"):
            make_folder(tmp_path / "made", fill)
        assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]
    (tmp_path / "made.part").mkdir()
    (tmp_path / "made.part" / "left by a killed process").touch()
    make_folder(tmp_path / "made", lambda folder: (folder / "whole").touch())
    assert os.listdir(tmp_path / "made") == ["whole"]
