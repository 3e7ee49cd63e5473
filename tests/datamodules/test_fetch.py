"""Mirror, cache and download, and every way they go wrong; the network is a server of our own on this machine."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from seqbench.datamodules import fetch
from seqbench.datamodules.fetch import Source
from seqbench.files import cache_folder
from seqbench.task import SeqbenchError

CONTENT = b"piano rolls" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """(folder, address) of a server."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@pytest.fixture
def closed():
    """An address that nobody answers."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def told(source: Source) -> str:
    """The one line of the error, after a look that nothing is left behind."""
    with pytest.raises(SeqbenchError) as caught:
        fetch.fetch(source)
    folder = cache_folder()
    assert not folder.is_dir() or not [p for p in folder.rglob("*") if p.is_file()]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_download_once_into_the_cache(alone, server):
    folder, address = server
    (folder / "a.mat").write_bytes(CONTENT)
    source = Source("sets/a.mat", f"{address}/a.mat", SHA256)
    assert fetch.location(source.file) == "no"
    assert fetch.fetch(source) == alone / "sets" / "a.mat"
    assert fetch.location(source.file) == "yes"
    (folder / "a.mat").unlink()
    assert fetch.fetch(source).read_bytes() == CONTENT
    assert os.listdir(alone / "sets") == ["a.mat"]


def test_a_file_that_nobody_pins_is_taken_as_it_is(alone, server):
    folder, address = server
    (folder / "a.tar.gz").write_bytes(CONTENT)
    source = Source("sets/a.tar.gz", f"{address}/a.tar.gz", None)
    assert fetch.fetch(source).read_bytes() == CONTENT
    (alone / "sets" / "a.tar.gz").write_bytes(b"packed anew")
    assert fetch.fetch(source).read_bytes() == b"packed anew"


def test_a_damaged_file_in_the_cache_is_replaced(alone, server):
    folder, address = server
    (folder / "a.mat").write_bytes(CONTENT)
    (alone / "sets").mkdir(parents=True)
    (alone / "sets" / "a.mat").write_bytes(b"half")
    assert fetch.fetch(Source("sets/a.mat", f"{address}/a.mat", SHA256)).read_bytes() == CONTENT


def test_mirror_folder_is_used_in_place(alone, closed, tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    (mirror / "sets").mkdir(parents=True)
    (mirror / "sets" / "a.mat").write_bytes(CONTENT)
    monkeypatch.setenv("SEQBENCH_MIRROR", str(mirror))
    source = Source("sets/a.mat", closed, SHA256)
    assert fetch.fetch(source) == mirror / "sets" / "a.mat"
    assert fetch.location(source.file) == "mirror"
    assert not alone.exists()
    (mirror / "sets" / "a.mat").write_bytes(b"other")
    message = told(source)
    assert str(mirror / "sets" / "a.mat") in message
    assert SHA256[:12] in message


@pytest.mark.faults("E12")
def test_a_mirror_may_be_a_file_url(alone, closed, tmp_path, monkeypatch):
    mirror = tmp_path / "my mirror"
    (mirror / "sets").mkdir(parents=True)
    (mirror / "sets" / "a.mat").write_bytes(CONTENT)
    monkeypatch.setenv("SEQBENCH_MIRROR", mirror.as_uri())
    assert fetch.fetch(Source("sets/a.mat", closed, SHA256)) == mirror / "sets" / "a.mat"
    monkeypatch.setenv("SEQBENCH_MIRROR", "file:///no/such/folder")
    assert "SEQBENCH_MIRROR is /no/such/folder, which is no folder" in told(Source("sets/a.mat", closed, SHA256))


def test_mirror_url_goes_before_the_origin(alone, server, monkeypatch):
    folder, address = server
    (folder / "sets").mkdir()
    (folder / "sets" / "a.mat").write_bytes(CONTENT)
    (folder / "origin.mat").write_bytes(CONTENT)
    asked = []
    monkeypatch.setattr(Quiet, "log_request", lambda handler, *_: asked.append(handler.path))
    monkeypatch.setenv("SEQBENCH_MIRROR", f"{address}/")
    source = Source("sets/a.mat", f"{address}/origin.mat", SHA256)
    assert fetch.fetch(source) == alone / "sets" / "a.mat"
    assert asked == ["/sets/a.mat"]


def test_origin_stands_in_for_a_mirror_url_that_lacks_the_file(alone, server, closed, monkeypatch):
    folder, address = server
    (folder / "a.mat").write_bytes(CONTENT)
    monkeypatch.setenv("SEQBENCH_MIRROR", closed)
    assert fetch.fetch(Source("sets/a.mat", f"{address}/a.mat", SHA256)).read_bytes() == CONTENT


def test_no_such_mirror(alone, closed, monkeypatch):
    monkeypatch.setenv("SEQBENCH_MIRROR", "/no/such/folder")
    message = told(Source("sets/a.mat", closed, SHA256))
    assert "SEQBENCH_MIRROR" in message
    assert "/no/such/folder" in message


def test_no_network_and_no_mirror(alone, closed):
    message = told(Source("sets/a.mat", f"{closed}/a.mat", SHA256))
    assert "set SEQBENCH_MIRROR" in message
    assert f"{closed}/a.mat" in message


def test_not_found_and_wrong_checksum_at_the_origin(alone, server):
    folder, address = server
    assert "HTTPError" in told(Source("sets/a.mat", f"{address}/a.mat", SHA256))
    (folder / "a.mat").write_bytes(b"other")
    assert "wrong checksum" in told(Source("sets/a.mat", f"{address}/a.mat", SHA256))


def test_unwritable_cache(alone, closed, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a file where the folder should be")
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path / "file" / "cache"))
    assert "SEQBENCH_CACHE" in told(Source("sets/a.mat", closed, SHA256))
