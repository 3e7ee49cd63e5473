"""Where the groups of a sweep run: side by side on this machine, or on a Ray cluster.

A group is one `seqbench fit`.  Records land in one folder whatever the engine, and do not tell which it was.
"""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seqbench.search.design import Design, Group, fit_command, with_unit
from seqbench.task import SeqbenchError

MEMORY_SHARE = 0.6
KEPT_PER_STATE = 4  # values that autograd keeps of each gate and state, counted on GRU and LSTM
KEPT_PER_OUTPUT = 4  # logits, targets, their products and the gradient
Finished = Callable[[Group, str], None]  # told the group and "" or what went wrong


def slots() -> list[dict[str, str]]:
    """One environment for each group that can run here at once: a GPU each, or a core each."""
    import torch

    if torch.cuda.is_available():
        return [{"CUDA_VISIBLE_DEVICES": str(n)} for n in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [{"OMP_NUM_THREADS": "1"}] * cores


def group_size(command: list[str], units: list[str], rates: list[float], out: Path) -> int:
    """How many runs to train together: each unit's search split over what runs side by side, as far as memory goes."""
    from seqbench.train.fitting import SeqbenchCLI

    at_once = len(slots())
    alone = ["--model.seed", "0", "--run.dir", str(out)]
    commands = (["fit", *with_unit(command, unit), *alone] for unit in units)
    replica = max(replica_bytes(SeqbenchCLI(arguments, execute=False)) for arguments in commands)
    return max(1, min(math.ceil(len(rates) / at_once), int(MEMORY_SHARE * _memory() / at_once / replica)))


def replica_bytes(cli: Any) -> int:
    """What one replica's longest training batch takes, about: what autograd keeps of each step, in float32."""
    model, data = cli.model, cli.datamodule
    per_frame = KEPT_PER_STATE * (model.cell.gates + model.cell.states) * model.hidden * model.layers
    per_frame += KEPT_PER_OUTPUT * model.head.outputs + 2 * model.task.input_size
    return 4 * data.longest * data.batch_size * per_frame


def _memory() -> int:
    """Bytes of memory that are free: of the smallest GPU, or of this machine."""
    import torch

    if torch.cuda.is_available():
        return min(torch.cuda.mem_get_info(n)[0] for n in range(torch.cuda.device_count()))
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"  # macOS: all there are
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")


def local(groups: Sequence[Group], design: Design, out: Path, finished: Finished) -> None:
    """Each group in a process of its own, as many at once as there are GPUs or cores; a log beside the records."""
    waiting, free = list(groups), slots()
    running: list[tuple[subprocess.Popen[bytes], Group, dict[str, str]]] = []
    (out / "logs").mkdir(exist_ok=True)
    try:
        while waiting or running:
            while waiting and free:
                group, slot = waiting.pop(0), free.pop()
                command = [sys.executable, "-P", "-m", "seqbench.search.child", *group.command(design, out)]
                with log_path(out, group).open("ab") as log:
                    environment = os.environ | slot
                    running.append((subprocess.Popen(command, stdout=log, stderr=log, env=environment), group, slot))
            time.sleep(0.1)
            for entry in [entry for entry in running if entry[0].poll() is not None]:
                running.remove(entry)
                process, group, slot = entry
                free.append(slot)
                finished(group, "" if process.returncode == 0 else _last_line(log_path(out, group)))
    finally:
        for process, _, _ in running:
            process.terminate()
        for process, _, _ in running:
            process.wait()


def log_path(out: Path, group: Group) -> Path:
    """What a group printed."""
    return out / "logs" / f"{group.name}.log"


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "ended without a word"


def ray(groups: Sequence[Group], design: Design, out: Path, finished: Finished) -> None:
    """Each group a task of the Ray cluster that RAY_ADDRESS names, or of a local one that is started for the sweep.

    A task whose worker dies is tried again, twice at most.

    Raises:
        SeqbenchError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray as cluster
    except ImportError as error:
        raise SeqbenchError("The Ray engine needs Ray: pip install 'seqbench[ray]'") from error
    _connect(cluster)
    try:
        gpus = 1 if cluster.cluster_resources().get("GPU") else 0
        task = cluster.remote(num_cpus=1, num_gpus=gpus, max_retries=2)(train_packed)
        configs = config_texts(design.command)
        commands = [fit_command(design, out, group.unit, group.seeds, group.rates) for group in groups]
        pending = {task.remote(command, configs): group for command, group in zip(commands, groups, strict=True)}
        while pending:
            (done,), _ = cluster.wait(list(pending), num_returns=1)
            group = pending.pop(done)
            try:
                packed, problem = cluster.get(done)
            except cluster.exceptions.RayError as error:
                finished(group, str(error).strip().splitlines()[0])
                continue
            _unpack(packed, out)
            finished(group, problem)
    finally:
        cluster.shutdown()


def _connect(cluster: Any) -> None:
    quiet = {"log_to_driver": False, "logging_level": "error"}
    try:
        if os.environ.get("RAY_ADDRESS"):
            cluster.init(**quiet)
        else:
            cluster.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SeqbenchError(f"No Ray cluster at RAY_ADDRESS={os.environ.get('RAY_ADDRESS')}: {error}") from error


def config_texts(arguments: list[str]) -> dict[str, str]:
    """The user's config files that a command names, by the names it uses: a worker may not see this machine's."""
    from seqbench.train.arguments import config_files

    return {name: Path(name).read_text(encoding="utf-8") for name in config_files(arguments)}


def train_packed(arguments: list[str], configs: dict[str, str]) -> tuple[bytes, str]:
    """Trains a group in this process, in a folder of its own; returns its run folders, and what went wrong or "".

    Not in a child process: when Ray's worker dies, the training must die with it.
    """
    from seqbench.train.fitting import run

    problem, packed = "", io.BytesIO()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, (config, text) in enumerate(configs.items()):
            if not Path(config).exists():
                (folder / f"{number}.yaml").write_text(text, encoding="utf-8")
                arguments = [str(folder / f"{number}.yaml") if a == config else a for a in arguments]
        try:
            run([*arguments, "--run.dir", str(folder / "runs")])
        except (SeqbenchError, SystemExit) as error:
            problem = f"{type(error).__name__}: {error}"
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path in sorted((folder / "runs").rglob("*")):
                if path.is_file() and path.parent.name != "checkpoints":
                    archive.add(path, path.relative_to(folder / "runs"))
    return packed.getvalue(), problem


def _unpack(packed: bytes, out: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(out, filter="data")
