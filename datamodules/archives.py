"""What a speech corpus lies in: an archive that is read as it is, or a folder, unpacked from a download if need be."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from seqbench.datamodules.audio import Recording
from seqbench.datamodules.fetch import find, writable_cache
from seqbench.files import make_folder
from seqbench.task import SeqbenchError, unknown_name


def members(path: Path, folder: str, suffix: str, most: int) -> dict[str, bytes]:
    """The files of one folder of a tar archive by name; nothing is written.

    Args:
        path: The archive.
        folder: The last folder of their paths.
        suffix: Of their names.
        most: Bytes that all files of the archive may have together.

    Raises:
        SeqbenchError: no such archive, or it unpacks to more.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                place = Path(member.name)
                most -= member.size
                if most < 0:  # all files count: what is skipped is unpacked too
                    raise SeqbenchError(f"{path} unpacks to more than this corpus has: replace it")
                if member.isfile() and place.suffix == suffix and place.parent.name == folder:
                    file = tar.extractfile(member)
                    assert file is not None, "a regular file has content"
                    found[place.name] = file.read()
    except (OSError, EOFError, ValueError, OverflowError, tarfile.TarError, zlib.error) as error:
        raise SeqbenchError(f"{path} is not a readable archive ({error}): replace it") from error
    return found


def check_content(path: Path, files: Mapping[str, bytes], digest: str) -> None:
    """Compares with the sha256 over the lines `<sha256 of file>  <file name>` of all files, sorted by name.

    Raises:
        SeqbenchError: other files than those pinned.
    """
    found = content_digest({name: hashlib.sha256(content).hexdigest() for name, content in files.items()})
    if found != digest:
        raise SeqbenchError(f"{path} has other content ({found[:12]}...) than pinned ({digest[:12]}...): replace it")


def content_digest(hashes: Mapping[str, str]) -> str:
    """From each file's sha256 by name; an archive's own bytes are not stable across hosts, its content is."""
    lines = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()


def unpacked(folder: str, download: Callable[[Path], object]) -> Path:
    """A corpus's folder: in the mirror's speech/, in the cache's, or downloaded there in one stroke.

    Args:
        folder: As torchaudio.datasets calls it, e.g. "LibriSpeech/dev-clean".
        download: Downloads, checks and unpacks into a given folder; a class of torchaudio.datasets.

    Raises:
        SeqbenchError: it cannot be had.
    """
    name = f"speech/{folder}"
    if path := find(name):
        return path
    home = writable_cache(str(Path(name).parent)) / Path(name).name
    try:
        make_folder(home, download, folder)
    except (OSError, RuntimeError, EOFError, tarfile.TarError, zlib.error) as error:
        raise SeqbenchError(
            f"cannot download {folder} ({error}): set SEQBENCH_MIRROR to a folder with {name}, unpacked"
        ) from error
    return home


def counted(recordings: Sequence[Recording], expected: int, path: Path) -> list[Recording]:
    """The recordings, if they are as many as the corpus has.

    Raises:
        SeqbenchError: they are not.
    """
    if len(recordings) != expected:
        raise SeqbenchError(f"{path} has {len(recordings)} recordings, not {expected}: unpack it again")
    return list(recordings)


def checksum(checksums: Mapping[str, str], archive: str) -> str:
    """The checksum that torchaudio.datasets pins for an archive, by the archive's name without its endings.

    Raises:
        SeqbenchError: it pins none.
    """
    known = {Path(url).name.partition(".tar")[0]: value for url, value in checksums.items()}
    if archive not in known:
        raise unknown_name("archive", archive, known)
    return known[archive]
