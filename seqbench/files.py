"""Files that are there whole or not at all, and the folder that what is made once is kept in.

Imports nothing else of the suite.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs
from filelock import FileLock


def cache_folder() -> Path:
    """Where downloads, parsed sets and compiled code are kept: SEQBENCH_CACHE, or the user's own; not made here."""
    return Path(os.environ.get("SEQBENCH_CACHE") or platformdirs.user_cache_dir("seqbench")).expanduser()


def at_home(path: Path) -> Path:
    """With ~ as the home folder, which the shell leaves as it is in --out=~/DIR; as it is where nobody is called so."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def write_file(path: Path, content: bytes) -> None:
    """Writes in one stroke: a reader sees the old file or the new one, never a part. Makes the folder.

    Raises:
        OSError: it cannot be written; what was begun is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(handle)  # or a power cut may leave an empty file under the new name
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def make_folder(path: Path, fill: Callable[[Path], object], part: str = "") -> None:
    """Makes a folder in one stroke, so one that is there counts as whole; nothing happens then.

    Several processes may do so at once: one fills it, the others wait. What a killed process has left is removed.

    Args:
        path: Of the folder.
        fill: Writes into a folder that it is given.
        part: Which folder of what is written becomes the one at `path`; the rest is removed. "": all of it.

    Raises:
        OSError: it cannot be written; what was begun is removed, as with every other error that `fill` raises.
    """
    begun = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        if path.exists():
            return
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir()
        try:
            fill(begun)
            os.replace(begun / part, path)
        finally:
            shutil.rmtree(begun, ignore_errors=True)
