"""Archives from elsewhere: nothing is written, whatever they hold, and not more is unpacked than a corpus has."""

import io
import tarfile

import pytest

from seqbench.datamodules.archives import members
from seqbench.task import SeqbenchError

pytestmark = pytest.mark.faults("F15")


@pytest.fixture
def pack(tmp_path):
    """A function that makes an archive of entries: name, content, and the kind of entry with where it points."""

    def make(*entries):
        path = tmp_path / "a.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            for name, content, *link in entries:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                if link:
                    info.type, info.linkname = link
                tar.addfile(info, io.BytesIO(content))
        return path

    return make


def test_links_and_paths_out_of_the_archive_write_nothing(pack, tmp_path):
    path = pack(
        ("corpus/recordings/good.wav", b"good"),
        ("/absolute/recordings/root.wav", b"root"),
        ("../../recordings/up.wav", b"up"),
        ("corpus/recordings/soft.wav", b"", tarfile.SYMTYPE, "/etc/passwd"),
        ("corpus/recordings/hard.wav", b"", tarfile.LNKTYPE, "corpus/recordings/good.wav"),
        ("corpus/recordings/pipe.wav", b"", tarfile.FIFOTYPE, ""),
    )
    before = sorted(tmp_path.rglob("*"))
    assert members(path, "recordings", ".wav", 100) == {"good.wav": b"good", "root.wav": b"root", "up.wav": b"up"}
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["corpus/recordings/a.wav", "corpus/elsewhere.bin"])
def test_a_bomb_is_refused_before_it_is_unpacked(pack, name):
    path = pack((name, bytes(2**22)))
    assert path.stat().st_size < 2**14
    with pytest.raises(SeqbenchError, match=r"a\.tar\.gz unpacks to more than this corpus has"):
        members(path, "recordings", ".wav", 2**20)


def test_what_is_cut_short_or_no_archive_is_told_by_name(pack, tmp_path):
    path = pack(("corpus/recordings/a.wav", bytes(range(256)) * 99))
    content, whole = path.read_bytes(), members(path, "recordings", ".wav", 2**20)
    told = []
    for end in range(len(content)):
        (tmp_path / "cut.tar.gz").write_bytes(content[:end])
        try:
            assert members(tmp_path / "cut.tar.gz", "recordings", ".wav", 2**20) == whole  # zeros alone are lost
        except SeqbenchError as error:
            told.append(str(error))
    assert all("cut.tar.gz is not a readable archive" in line for line in told)
    assert len(told) > 0.9 * len(content)
