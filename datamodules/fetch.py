"""Files by name: from a mirror, the cache, or the network, each checked against its pinned sha256.

`SEQBENCH_MIRROR` (a folder or a URL, the layout of the names below) is tried first; a folder's file is used
in place. Otherwise files are downloaded by pooch into the user's cache folder (`SEQBENCH_CACHE` overrides
it), under a temporary name until the checksum is right.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pooch
import requests

from seqbench.task import SeqbenchError

TIMEOUT = (5, 30)  # seconds to connect, and between bytes


@dataclass(frozen=True)
class Source:
    """A pinned file.

    Attributes:
        file: Its name in a mirror and in the cache, e.g. "polyphonic/Nottingham.mat".
        url: Where it is published.
        sha256: Of its bytes.
    """

    file: str
    url: str
    sha256: str


def cache_folder() -> Path:
    """Where downloads and parsed sets are kept; not created here."""
    return Path(os.environ.get("SEQBENCH_CACHE") or pooch.os_cache("seqbench")).expanduser()


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


def location(file: str) -> Literal["mirror", "yes", "no"]:
    """Whether `fetch` would find this file in the mirror's folder, in the cache, or nowhere; checks no bytes."""
    mirror = os.environ.get("SEQBENCH_MIRROR", "")
    if mirror and "://" not in mirror and (Path(mirror).expanduser() / file).is_file():
        return "mirror"
    return "yes" if (cache_folder() / file).is_file() else "no"


def fetch(source: Source) -> Path:
    """The file's path, downloaded if need be.

    Raises:
        SeqbenchError: the mirror does not exist or has another file under this name, the file cannot be reached,
            the download is not what was pinned, or the cache cannot be written to.
    """
    mirror = os.environ.get("SEQBENCH_MIRROR", "")
    if mirror and "://" not in mirror:
        folder = Path(mirror).expanduser()
        if not folder.is_dir():
            raise SeqbenchError(f"SEQBENCH_MIRROR is {mirror}, which is no folder: correct it or unset it")
        if (folder / source.file).is_file():
            return _checked(folder / source.file, source)
    cached = cache_folder() / source.file
    if cached.is_file() and pooch.file_hash(cached) == source.sha256:
        return cached
    urls = [source.url]
    if "://" in mirror:
        urls.insert(0, f"{mirror.rstrip('/')}/{source.file}")
    return _download(source, urls)


def _checked(path: Path, source: Source) -> Path:
    try:
        found = pooch.file_hash(path)
    except OSError as error:
        raise SeqbenchError(f"cannot read {path} ({error.strerror}): correct or unset SEQBENCH_MIRROR") from error
    if found != source.sha256:
        expected = source.sha256[:12]
        raise SeqbenchError(
            f"{path} (SEQBENCH_MIRROR) has sha256 {found[:12]}..., not {expected}...: replace or delete it"
        )
    return path


def _download(source: Source, urls: list[str]) -> Path:
    """From the first address that answers with the pinned bytes."""
    folder = writable_cache(str(Path(source.file).parent))
    name = Path(source.file).name
    pooch.get_logger().setLevel("WARNING")  # the progress bar says enough
    failures = []
    for url in urls:
        downloader = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)
        try:
            got = pooch.retrieve(url, f"sha256:{source.sha256}", fname=name, path=folder, downloader=downloader)
            return Path(got)
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
