"""Where a run happens and which code decides its numbers, as records tell it."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import inspect
import platform
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import lightning as L
import torch

import seqbench
from seqbench import record as rec
from seqbench.kernels.cpu.threads import count as kernel_threads
from seqbench.train.module import SequenceModel

VERSIONS = ("torch", "lightning", "numpy", "torchmetrics")
DECIDING = ("seqbench", "datamodules", "configs")  # folders of the checkout, untracked files counted


def environment(trainer: L.Trainer, model: SequenceModel, replicas: int) -> rec.Environment:
    """Where this process runs, and what."""
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    recurrence = model.recurrence.name if model.recurrence else ""
    versions = {package: importlib.metadata.version(package) for package in VERSIONS}
    return rec.Environment(
        commit=_commit(),
        versions=versions | {"python": platform.python_version(), "seqbench": seqbench.__version__},
        device=f"{device.type} ({name}) x {trainer.world_size}",
        recurrence=recurrence,
        precision=str(trainer.precision),
        threads=kernel_threads() if recurrence == "numba" else torch.get_num_threads(),
        replicas=replicas,
        sources={"suite": _suite(), "unit": _unit(type(model.cell))},
    )


def _digest(paths: Iterable[Path]) -> str:
    """Of files' content, in this order."""
    content = hashlib.sha256()
    for path in paths:
        content.update(path.read_bytes())
    return content.hexdigest()[:12]


def _unit(kind: type) -> str:
    """Of the file that a unit is in; "" where it is in none, as in a notebook."""
    try:
        return _digest([Path(inspect.getfile(kind))])
    except (TypeError, OSError):
        return ""


@functools.cache  # asked for by each replica's record
def _suite() -> str:
    """Of all code that decides a run's numbers, units of one's own apart."""
    package = Path(seqbench.__file__).parent
    # In a checkout the data sets' folder is linked into the package, and a walk does not follow links.
    paths = {*package.rglob("*.py"), *(package / "datamodules").rglob("*.py")}
    return _digest(sorted(path for path in paths if "leaderboard" not in path.relative_to(package).parts))


@functools.cache
def _commit() -> str:
    """The checkout's commit, "+" if what decides numbers has changed or is new; "" outside a checkout."""
    git = shutil.which("git")
    root = Path(seqbench.__file__).parent.parent
    if git is None or not (root / ".git").exists():
        return ""

    def output(*arguments: str) -> str:
        result = subprocess.run([git, *arguments], cwd=root, capture_output=True, text=True, check=False)
        return result.stdout.strip() if result.returncode == 0 else ""

    commit = output("rev-parse", "--short=12", "HEAD")
    return commit + "+" if commit and output("status", "--porcelain", "--", *DECIDING) else commit
