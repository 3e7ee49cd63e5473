"""The groups of a sweep as tasks of a Ray cluster."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import tarfile
import tempfile
import traceback
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seqbench.files import write_file
from seqbench.search.design import Design, Group
from seqbench.search.engines import End, Watch, carry_out, log_path, reason
from seqbench.task import SeqbenchError

TOKEN = "token"  # a file that a worker can read where it sees the sweep's folder
GOODBYE_SECONDS = 20.0


def ray(
    groups: Sequence[Group], design: Design, out: Path, watch: Watch, cpus: int = 1, gpus: float | None = None
) -> None:
    """Each group a task of the Ray cluster that RAY_ADDRESS names, or of a local one that is started for the sweep.

    Args:
        groups: What is to be run.
        design: Of the sweep.
        out: Its folder; workers that see it write there.
        watch: Is told what happens.
        cpus: Cores that a group asks for.
        gpus: Likewise, parts of one allowed; None: one where the cluster has any.

    Raises:
        SeqbenchError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray as cluster
    except ImportError as error:
        raise SeqbenchError("The Ray engine needs Ray: pip install 'seqbench[ray]'") from error
    before = signal.getsignal(signal.SIGTERM)
    try:
        _connect(cluster)
        carry_out(groups, design, out, Tasks(cluster, design, out, cpus, gpus), watch)
    finally:
        # Ray's own, which ends a process with status 15, would outlive the sweep.
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _connect(cluster: Any) -> None:
    quiet = {"log_to_driver": False, "logging_level": "error"}
    try:
        if os.environ.get("RAY_ADDRESS"):
            cluster.init(**quiet)
        else:
            cluster.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SeqbenchError(f"No Ray cluster at RAY_ADDRESS={os.environ.get('RAY_ADDRESS')}: {error}") from error


@dataclass(frozen=True)
class Work:
    """All that a worker needs to train a group.

    Attributes:
        group: what to train.
        design: of the sweep.
        out: the sweep's folder.
        token: what stands in its file TOKEN, for who sees it.
        configs: the user's config files by the names that the design's command uses: a worker may not see them.
        checkpoint: what to go on from, for a worker that does not see the folder.
    """

    group: Group
    design: Design
    out: Path
    token: str
    configs: dict[str, str]
    checkpoint: bytes | None


class Tasks:
    """Tasks of a cluster that is connected to."""

    def __init__(self, cluster: Any, design: Design, out: Path, cpus: int, gpus: float | None) -> None:
        self.cluster, self.design, self.out = cluster, design, out
        if gpus is None:
            gpus = 1 if cluster.cluster_resources().get("GPU") else 0
        self.needs = {"CPU": cpus, "GPU": gpus}
        # Ray's own retries would not tell that a worker died.
        self._task = cluster.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(train_packed)
        self._configs, self._token = config_texts(design.command), uuid.uuid4().hex
        write_file(out / TOKEN, self._token.encode())
        self._pending: dict[Any, Group] = {}

    def room(self) -> bool:
        """One more than fits is handed in, so that a cluster that grows by need sees one."""
        there = self.cluster.cluster_resources()
        fitting = min(int(there.get(name, 0) / need) for name, need in self.needs.items() if need)
        return len(self._pending) <= fitting

    def start(self, group: Group) -> None:
        path = group.checkpoint(self.out)
        checkpoint = path.read_bytes() if path.exists() else None
        work = Work(group, self.design, self.out, self._token, self._configs, checkpoint)
        self._pending[self._task.remote(work)] = group

    def ended(self) -> list[tuple[Group, End]]:
        done, _ = self.cluster.wait(list(self._pending), num_returns=1, timeout=1.0)
        return [(self._pending.pop(task), self._end(task)) for task in done]

    def _end(self, task: Any) -> End:
        errors = self.cluster.exceptions
        try:
            packed, end = self.cluster.get(task)
        except errors.OutOfMemoryError:
            return End("out of memory: Ray has ended its worker", killed=True)
        except errors.RayTaskError as error:
            return End(reason(str(error).encode()))
        except errors.RayError as error:
            return End(f"its worker died ({type(error).__name__})", killed=True)
        if packed:
            _unpack(packed, self.out)
        ended: End = end
        return ended

    def close(self) -> None:
        for task in self._pending:
            self.cluster.cancel(task)  # ^C in its worker
        if self._pending:
            tasks = list(self._pending)
            self.cluster.wait(tasks, num_returns=len(tasks), timeout=GOODBYE_SECONDS)
        self.cluster.shutdown()


def config_texts(arguments: list[str]) -> dict[str, str]:
    """The user's config files that a command names, by the names it uses: a worker may not see this machine's."""
    from seqbench.train.arguments import config_files

    return {name: Path(name).read_text(encoding="utf-8") for name in config_files(arguments)}


def train_packed(work: Work) -> tuple[bytes, End]:
    """Trains a group in this process; returns what it has written where the sweep's folder is not seen, and its end.

    Not in a child process: when Ray's worker dies, the training must die with it.
    """
    from seqbench.train.arguments import with_configs

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        configs = folder / "configs"
        configs.mkdir()
        missing = [config for config in work.configs if not Path(config).exists()]
        sent = {config: configs / f"{number}.yaml" for number, config in enumerate(missing)}
        for config, path in sent.items():
            path.write_text(work.configs[config], encoding="utf-8")
        design = replace(work.design, command=with_configs(work.design.command, sent))
        token = work.out / TOKEN
        if token.exists() and token.read_text() == work.token:
            return b"", _train(work.group, design, work.out)
        out = folder / "out"
        out.mkdir()
        if work.checkpoint is not None:
            write_file(work.group.checkpoint(out), work.checkpoint)
        end = _train(work.group, design, out)
        return _pack(out), end


def _train(group: Group, design: Design, out: Path) -> End:
    from seqbench.train.fitting import run

    path = log_path(out, group)
    path.parent.mkdir(exist_ok=True)
    failed, start = True, path.stat().st_size if path.exists() else 0
    with path.open("a", encoding="utf-8") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            run(group.command(design, out))
            failed = False
        except SeqbenchError as error:
            print(f"seqbench: error: {error}")
        except SystemExit as error:
            print(f"ended with status {error.code}")
        except Exception:  # noqa: BLE001  a unit of the user's may raise anything
            traceback.print_exc()
    return End(reason(path.read_bytes()[start:])) if failed else End()


def _pack(out: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        # A record comes last: what it speaks of is there.
        for path in sorted(out.rglob("*"), key=lambda path: (path.name == "record.json", path)):
            if path.is_file():
                archive.add(path, path.relative_to(out))
    return packed.getvalue()


def _unpack(packed: bytes, out: Path) -> None:
    """Each file in one stroke: a sweep may be killed at any moment."""
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            file = archive.extractfile(tarfile.data_filter(member, str(out)))
            if file is not None:
                write_file(out / member.name, file.read())
