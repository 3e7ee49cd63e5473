"""Best weights beside a published record, and the test score that they have: without any training."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from seqbench.cells import cells
from seqbench.record import Count, PartedScore, Record, score_from_parts
from seqbench.task import SeqbenchError
from seqbench.train.audit import data_sets
from seqbench.train.callbacks import Replicas
from seqbench.train.loading import CLASSES
from seqbench.train.module import SequenceModel
from seqbench.train.quiet import quiet
from seqbench.train.recorder import read_checkpoint


def best_weights(run: Path) -> bytes | None:
    """A NumPy file with the weights of a run's best epoch, [P] float32; None where its folder has none.

    Raises:
        SeqbenchError: it has one that cannot be read.
    """
    path = run / "checkpoints" / "best.ckpt"
    if not path.is_file():
        return None
    rows = read_checkpoint(path)["callbacks"][Replicas().state_key]["weights"]
    content = io.BytesIO()
    np.save(content, rows[0].float().numpy())
    return content.getvalue()


def score(record: Record, content: bytes) -> PartedScore:
    """The test score of these weights, on the CPU in float32.

    Args:
        record: one that audit.py finds nothing wrong with.
        content: a NumPy file as `best_weights` makes it.

    Raises:
        SeqbenchError: no such file, or it is of another number of weights; the data set cannot be had.
    """
    config: dict[str, Any] = record.config
    data = data_sets()[config["data"]["class_path"]](**(config["data"].get("init_args") or {}))
    cell = config["model"]["cell"]
    options = {name: value for name, value in config["model"].items() if name not in CLASSES}
    model = SequenceModel(cells()[cell["class_path"]](**(cell.get("init_args") or {})), data.task, **options)
    try:
        rows = torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False))[None]
    except (ValueError, EOFError, TypeError) as error:
        raise SeqbenchError(f"the weights of {record.run_id} cannot be read: {error}") from error
    if rows.shape != model.rows.shape or rows.dtype != torch.float32:
        raise SeqbenchError(f"the weights of {record.run_id} are {rows.shape[-1]}; the unit has {model.rows.shape[1]}")
    model.restore(rows)
    with quiet():
        trainer = L.Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        trainer.test(model, data, verbose=False)
    nats, frames, first, *counted = (part[0].tolist() for part in model.tested())
    pairs = zip(model.head.counts, counted[::2], counted[1::2], strict=True)
    counts = {name: Count(right, of) for name, right, of in pairs}
    return score_from_parts(nats, frames, first if data.task.next_frame else None, counts)
