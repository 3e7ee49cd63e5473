"""Records as runs would leave them, made up: smooth curves, numbers drawn from the seed."""

from __future__ import annotations

import dataclasses
import io
import math
import random
from pathlib import Path
from typing import Any

from seqbench import record as R
from seqbench.leaderboard.board import assemble
from seqbench.leaderboard.columns import COLUMNS
from seqbench.leaderboard.rows import Board, Row

FLOORS = {
    "jsb": {"note unigram": R.Score(11.091, 11.08, 11.06), "per-key Markov": R.Score(10.48, 10.47, 10.5)},
    "bach": {"note unigram": R.Score(12.2, 12.1, 12.15), "per-key Markov": R.Score(11.4, 11.3, 11.5)},
}
SIZES = {"tanh": (100, 20_050), "GRU": (46, 20_217), "LSTM": (36, 19_764)}


def make(
    cell: str = "GRU",
    seed: int = 0,
    nll: float = 8.5,
    task: str = "jsb",
    *,
    rate: float = 3e-4,
    epochs: int = 60,
    epoch_seconds: float = 0.6,
    noise: float = 0.0,
    **changes: Any,
) -> R.Record:
    """A finished run whose test NLL is `nll`, or close to it with noise; `changes` replace fields of the record."""
    draw = random.Random(f"{cell}/{seed}/{task}/{rate}")
    level = nll + draw.gauss(0, noise)
    hidden, recurrent = SIZES.get(cell, (50, 20_000))
    lengths = random.Random(task)
    frames = [lengths.randrange(30, 90) for _ in range(7)]
    nats = [f * (level + draw.gauss(0, 0.3)) for f in frames]
    shift = (level * sum(frames) - sum(nats)) / sum(frames)
    nats = [n + shift * f for n, f in zip(nats, frames, strict=True)]
    valid = [level + 2.8 * math.exp(-e / 9) + 4 * math.exp(-e) + draw.gauss(0, 0.02) for e in range(1, epochs + 1)]
    train = [v + 0.25 - 0.012 * e for e, v in enumerate(valid, 1)]
    best = min(range(epochs), key=valid.__getitem__)
    task_record = R.TaskRecord(task, 88, 88, "Bernoulli", "nats/frame", f"{len(task):x}" * 64, True)
    config = {
        "data": {"class_path": task, "init_args": {"batch_size": 1}},
        "model": {"cell": {"class_path": cell}, "seed": seed, "rate": rate, "noise": 0.075},
        "trainer": {"max_epochs": 500},
        "run": {},
    }
    made = R.Record(
        schema=R.SCHEMA,
        run_id="",
        status="finished",
        message="",
        task=task_record,
        cell=R.CellRecord(cell, {}, hidden, 20_000, "recurrent"),
        parameters=R.Parameters(recurrent, recurrent + 88 * hidden + 88),
        seed=seed,
        rate=rate,
        config=config,
        command=f"seqbench fit -c configs/{task}.yaml --model.cell {cell} --model.seed {seed}",
        environment=R.Environment(
            commit="0123456789abcdef0123",
            versions={"torch": "2.11.0", "seqbench": "0.1.0"},
            device="cpu (x86_64) x 1",
            recurrence="loop",
            precision="32-true",
            threads=1,
            replicas=5,
            sources={"suite": "a" * 12, "unit": "b" * 12},
        ),
        seconds=round(epochs * epoch_seconds, 3),
        curve=R.Curve(
            steps=15,
            every=1,
            seconds=[round(epoch_seconds * e, 3) for e in range(1, epochs + 1)],
            train=[round(v, 6) for v in train],
            valid=[round(v, 6) for v in valid],
            gradient=[3.0] * epochs,
            update=[0.01] * epochs,
            floored=[0.2] * epochs,
        ),
        best_epoch=best,
        best_valid=round(valid[best], 6),
        train=R.Score(round(train[best] - 0.3, 6), round(train[best] - 0.4, 6), round(train[best] - 0.2, 6)),
        valid=R.Score(round(valid[best], 6), round(valid[best] - 0.1, 6), round(valid[best] + 0.1, 6)),
        test=R.score_from_parts(nats, frames, [f / 8 for f in frames]),
        floors=FLOORS.get(task, {}),
        scale=None,
    )
    if "best_valid" in changes:
        level = changes["best_valid"]
        made = dataclasses.replace(made, valid=R.Score(level, level - 0.1, level + 0.1))
    made = dataclasses.replace(made, **changes)
    return dataclasses.replace(made, run_id=changes.get("run_id", R.run_id(made.task, made.cell.name, made.config)))


def diverged(cell: str = "tanh", seed: int = 0, **changes: Any) -> R.Record:
    """A run whose loss was no longer finite in epoch 2."""
    curve = R.Curve(15, 1, [0.5, 1.0], [11.0, None], [10.0, None], [3.0, None], [0.01, None], [])
    message = "training loss not finite in epoch 2"
    return make(cell, seed, status="diverged", message=message, test=None, curve=curve, best_epoch=0, **changes)


def write(folder: Path, *records: R.Record) -> Path:
    """Saves each as a run does, `<run_id>/record.json`."""
    for record in records:
        R.save(record, folder / record.run_id / "record.json")
    return folder


def board_of(*records: R.Record) -> Board:
    """The board of these, as if each lay in a file of its own: file 0, file 1, ..."""
    return assemble([(f"file {i}", record) for i, record in enumerate(records)])


def with_config(record: R.Record, section: str, **settings: Any) -> R.Record:
    """The record of the run with other settings, under its own name."""
    config = record.config | {section: record.config[section] | settings}
    changed = dataclasses.replace(record, config=config)
    return dataclasses.replace(changed, run_id=R.run_id(changed.task, changed.cell.name, config))


def as_chung(record: R.Record) -> R.Record:
    """The run under the settings and the name of Chung et al.'s protocol."""
    schedule = {"class_path": "LinearLR", "init_args": {"end_factor": 0.01, "start_factor": 1.0, "total_iters": -1}}
    record = with_config(record, "data", init_args={"batch_size": 1, "order": "shuffled"})
    return with_config(with_config(record, "model", schedule=schedule), "run", protocol="chung2014")


def with_size(record: R.Record, size: tuple[int | None, Any], **settings: Any) -> R.Record:
    """The run with other settings of the model that give this budget and what it counts."""
    changed = with_config(record, "model", **settings)
    budget, count = size
    return dataclasses.replace(changed, cell=dataclasses.replace(changed.cell, budget=budget, count=count))


def cells(row: Row) -> dict[str, str]:
    """A row as a reader sees it, by the columns' names."""
    return {column.name: column.show(row) for column in COLUMNS}


def sample(run_id: str, what: str) -> dict[str, bytes]:
    """A second of a tone in OGG and a picture in PNG, as a run's sample is."""
    import numpy as np
    import soundfile
    from matplotlib.image import imsave

    sound, picture = io.BytesIO(), io.BytesIO()
    soundfile.write(sound, 0.5 * np.sin(np.arange(22_050) / 10), 22_050, format="OGG")
    imsave(picture, np.full((4, 6, 3), len(what), np.uint8), format="png")
    return {"ogg": sound.getvalue(), "png": picture.getvalue()}
