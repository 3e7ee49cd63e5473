"""Nothing of a run is lost or spoilt: checkpoints are whole and what was saved, and a run is one process's."""

from __future__ import annotations

import errno
import fcntl
import io
import struct
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from seqbench.files import write_file
from seqbench.task import SeqbenchError

# What a user can mend; any other error of the system is a fault of ours.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)


class WholeCheckpoints(TorchCheckpointIO):
    """Written in one stroke. Lightning's own writes to /tmp and copies from there, which may end half-way."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_file(Path(path), content.getvalue())


def is_whole(path: Path) -> bool:
    """Whether a checkpoint holds what was saved, by the digests in it, which torch does not check.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError):
        return False


def claim(folders: Iterable[Path]) -> ExitStack:
    """Holds runs' folders until it is closed, or the process ends in whatever way.

    Raises:
        SeqbenchError: another process trains one of them.
        OSError: a folder cannot be written.
    """
    with ExitStack() as held:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            file = held.enter_context((folder / "lock").open("a"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise SeqbenchError(f"{folder} is being trained by another process: wait for its end") from error
        return held.pop_all()


def no_room(error: OSError) -> SeqbenchError | None:
    """What to tell where a disk is full or must not be written; None where it is something else."""
    if error.errno not in NO_ROOM:
        return None
    what = f" {error.filename}" if error.filename else ""
    remedy = "choose another place" if error.errno in (errno.ENOTDIR, errno.EEXIST) else "make room"
    return SeqbenchError(f"Cannot write{what} ({error.strerror}): {remedy}; a run goes on with --ckpt_path")
