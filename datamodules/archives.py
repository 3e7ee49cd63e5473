"""Where a speech corpus lies: unpacked or packed, in the mirror or the cache; downloaded if nowhere."""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pooch
import requests

from seqbench.datamodules.audio import Recording
from seqbench.datamodules.fetch import TIMEOUT, cache_folder, writable_cache
from seqbench.task import SeqbenchError


def archive(file: str, url: str) -> Path:
    """A file whose bytes nobody pins, because hosts pack it anew: what is in it has to be checked by `check_content`.

    Args:
        file: Its name in a mirror and in the cache.
        url: Where it is published.

    Raises:
        SeqbenchError: it cannot be had.
    """
    mirror = os.environ.get("SEQBENCH_MIRROR", "")
    remote = "://" in mirror
    for folder in [cache_folder()] if remote or not mirror else [Path(mirror).expanduser(), cache_folder()]:
        if (folder / file).is_file():
            return folder / file
    folder = writable_cache(str(Path(file).parent))
    pooch.get_logger().setLevel("WARNING")  # the progress bar says enough
    failures = []
    for address in [f"{mirror.rstrip('/')}/{file}", url] if remote else [url]:
        downloader = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)
        try:
            return Path(pooch.retrieve(address, None, fname=Path(file).name, path=folder, downloader=downloader))
        except requests.RequestException as error:
            failures.append(f"{address}: {type(error).__name__}")
    raise SeqbenchError(
        f"cannot download {file} ({'; '.join(failures)}): set SEQBENCH_MIRROR to a folder with {file}, "
        f"fetched by hand from {url}"
    )


def members(path: Path, folder: str, suffix: str, most: int) -> dict[str, bytes]:
    """The files of one folder of a tar archive by name; nothing is written.

    Args:
        path: The archive.
        folder: The last folder of their paths.
        suffix: Of their names.
        most: Bytes that they may have together.

    Raises:
        SeqbenchError: no such archive, or it unpacks to more.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                place = Path(member.name)
                if member.isfile() and place.suffix == suffix and place.parent.name == folder:
                    most -= member.size
                    if most < 0:
                        raise SeqbenchError(f"{path} unpacks to more than this corpus has: replace it")
                    file = tar.extractfile(member)
                    assert file is not None, "a regular file has content"
                    found[place.name] = file.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
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


def unpacked(folder: str, download: Callable[[str], object]) -> Path:
    """A corpus's folder: in the mirror's speech/, in the cache's, or downloaded there in one stroke.

    Args:
        folder: As torchaudio.datasets calls it, e.g. "LibriSpeech/dev-clean".
        download: Downloads, checks and unpacks into a given folder; a class of torchaudio.datasets.

    Raises:
        SeqbenchError: it cannot be had.
    """
    mirror = os.environ.get("SEQBENCH_MIRROR", "")
    for root in [cache_folder()] if "://" in mirror or not mirror else [Path(mirror).expanduser(), cache_folder()]:
        if (root / "speech" / folder).is_dir():
            return root / "speech" / folder
    home = writable_cache(str(Path("speech") / Path(folder).parent)) / Path(folder).name
    # A folder that is there counts as whole, so a part never has its name.
    with tempfile.TemporaryDirectory(dir=writable_cache("speech"), prefix=".unpacking-") as part:
        try:
            download(part)
            if not home.is_dir():  # another process may have been first
                os.replace(Path(part) / folder, home)
        except (OSError, RuntimeError, EOFError, tarfile.TarError, zlib.error) as error:
            raise SeqbenchError(
                f"cannot download {folder} ({error}): set SEQBENCH_MIRROR to a folder with speech/{folder}, unpacked"
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


def checksum(checksums: Mapping[str, str], part: str) -> str:
    """The checksum that torchaudio.datasets pins for the address which has `part` in it.

    Raises:
        SeqbenchError: there is none.
    """
    found = [value for url, value in checksums.items() if f"/{part}." in url]
    if len(found) != 1:
        raise SeqbenchError(f"there is no {part}: known are {', '.join(Path(url).name for url in checksums)}")
    return found[0]
