"""Files by name: from a mirror, the cache, or the network, each checked against its sha256 where one is pinned.

`SEQBENCH_MIRROR` (a folder or a URL, the layout of the names below) is tried first; a folder's file is used in place.
Otherwise files are downloaded by pooch into the user's cache folder (`SEQBENCH_CACHE` overrides it), under a temporary
name until the checksum is right.
"""

from __future__ import annotations

import hashlib
import lzma
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pooch
import requests

from seqbench.files import cache_folder
from seqbench.task import SeqbenchError

LARGEST = 2**28  # bytes that a packed file may unpack to
TIMEOUT = (5, 30)  # seconds to connect, and between bytes


@dataclass(frozen=True)
class Source:
    """A published file.

    Attributes:
        file: Its name in a mirror and in the cache, e.g. "polyphonic/Nottingham.mat".
        url: Where it is published.
        sha256: Of its bytes; None where hosts pack it anew, so that what is in it has to be checked instead.
    """

    file: str
    url: str
    sha256: str | None


def writable_cache(folder: str = "") -> Path:
    """The cache folder, or one inside it, created.

    Raises:
        SeqbenchError: it cannot be created or written to.
    """
    path = cache_folder() / folder
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SeqbenchError(f"cannot write to {path} ({error.strerror}): set SEQBENCH_CACHE to a folder") from error
    return path


def mirror() -> Path | str | None:
    """What SEQBENCH_MIRROR gives: a folder, file://FOLDER too, or a URL without a slash at its end; None: not set.

    Raises:
        SeqbenchError: a folder that does not exist.
    """
    given = os.environ.get("SEQBENCH_MIRROR", "")
    if given.startswith("file://"):
        given = url2pathname(urlsplit(given).path)
    if not given or "://" in given:
        return given.rstrip("/") or None
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise SeqbenchError(f"SEQBENCH_MIRROR is {given}, which is no folder: correct it or unset it")
    return folder


def find(name: str) -> Path | None:
    """A file or folder where it lies, in the mirror's folder or else in the cache; None: nowhere. Checks no bytes."""
    given = mirror()
    folders = [given, cache_folder()] if isinstance(given, Path) else [cache_folder()]
    return next((folder / name for folder in folders if (folder / name).exists()), None)


def location(file: str) -> Literal["mirror", "yes", "no"]:
    """Whether a file is in the mirror's folder, in the cache, or nowhere, as listings tell it."""
    given, path = mirror(), find(file) or find(f"{file}.xz")
    if path is None:
        return "no"
    return "mirror" if isinstance(given, Path) and path.is_relative_to(given) else "yes"


def fetch(source: Source) -> Path:
    """The file's path, downloaded if need be.

    Raises:
        SeqbenchError: the mirror does not exist or has another file under this name, the file cannot be reached, the
            download is not what was pinned, or the cache cannot be written to.
    """
    path = find(source.file)
    if path and source.sha256 is None:
        return path
    if path and location(source.file) == "mirror":
        return _checked(path, source.sha256)
    if path and pooch.file_hash(path) == source.sha256:
        return path
    given = mirror()
    return _download(source, [f"{given}/{source.file}", source.url] if isinstance(given, str) else [source.url])


def content(source: Source) -> bytes:
    """A file's bytes, as `fetch`, or unpacked where it lies as FILE.xz.

    Raises:
        SeqbenchError: as `fetch`; or what is packed is not what was pinned.
    """
    packed = find(f"{source.file}.xz")
    if packed is None:
        return fetch(source).read_bytes()
    try:
        with lzma.open(packed) as file:
            found = file.read(LARGEST)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise SeqbenchError(f"cannot unpack {packed} ({error}): replace or delete it") from error
    if hashlib.sha256(found).hexdigest() != source.sha256:
        raise SeqbenchError(f"{packed} is not the published {Path(source.file).name}: replace or delete it")
    return found


def _checked(path: Path, sha256: str | None) -> Path:
    try:
        found = pooch.file_hash(path)
    except OSError as error:
        raise SeqbenchError(f"cannot read {path} ({error.strerror}): correct or unset SEQBENCH_MIRROR") from error
    if found != sha256:
        raise SeqbenchError(
            f"{path} (SEQBENCH_MIRROR) has sha256 {found:.12}..., not {sha256:.12}...: replace or delete it"
        )
    return path


def _download(source: Source, urls: list[str]) -> Path:
    """From the first address that answers, with the pinned bytes if any are."""
    folder = writable_cache(str(Path(source.file).parent))
    name = Path(source.file).name
    known = source.sha256 and f"sha256:{source.sha256}"
    pooch.get_logger().setLevel("WARNING")  # the progress bar says enough
    failures = []
    for url in urls:
        downloader = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)
        try:
            return Path(pooch.retrieve(url, known, fname=name, path=folder, downloader=downloader))
        except requests.RequestException as error:
            failures.append(f"{url}: {type(error).__name__}")
        except ValueError:
            failures.append(f"{url}: wrong checksum")
        except OSError as error:
            raise SeqbenchError(f"cannot store {name} in {folder} ({error}): set SEQBENCH_CACHE") from error
    raise SeqbenchError(
        f"cannot download {source.file} ({'; '.join(failures)}): set SEQBENCH_MIRROR to a folder with "
        f"{source.file}, fetched by hand from {source.url}"
    )
