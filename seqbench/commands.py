"""What each command of the command line does: it calls a function of another room and prints what comes back.

Everything is imported by the command that needs it, so that the others start fast.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import sys
from importlib.util import find_spec
from typing import Any

from seqbench.task import SeqbenchError
from seqbench.terminal import print_rows


def cells(options: argparse.Namespace) -> None:
    from seqbench.cells import cells, installed
    from seqbench.model.budget import count_parameters, hidden_for_budget
    from seqbench.model.heads import Bernoulli

    rows = []
    head, shape = Bernoulli(options.outputs or options.input_size), {"bidirectional": options.bidirectional}
    for name, kind in (cells() | installed()).items():
        cell = kind()
        hidden = hidden_for_budget(cell, options.input_size, head, options.budget, options.count, **shape)
        counts = count_parameters(cell, options.input_size, hidden, head, **shape)
        rows.append({"unit": name, "gates": cell.gates, "hidden": hidden, **vars(counts), "paper": cell.paper})
    print_rows(rows, options.json)


def show(options: argparse.Namespace) -> None:
    from seqbench.cells import find
    from seqbench.kernels.show import shown

    text = shown(find(options.unit)(), options.stage)
    print(json.dumps({"unit": options.unit, options.stage: text}) if options.json else text)


def sweep(options: argparse.Namespace) -> None:
    from seqbench.search import asked, sweep
    from seqbench.search.status import status

    engine, plan = asked.engine(options), asked.design(options)
    complete = sweep.sweep(plan, options.out, engine, options.shard)
    print_rows(sweep.results(options.out), options.json)
    if not complete:
        raise SeqbenchError(f"Some runs are missing: {options.out}/logs tell why; the same command tries them again")
    state = status(options.out)
    if left := state["planned"] - state["done"] - state["diverged"]:
        print(f"{left} runs are other shards', or wait for them: give the same command after them", file=sys.stderr)


def sweep_status(options: argparse.Namespace) -> None:
    from seqbench.search.status import STATES, status

    state = status(options.dir)
    if options.json:
        print_rows(state, True)
        return

    def counts(row: dict[str, Any]) -> str:
        return ", ".join(f"{row[name]} {name}" for name in STATES if row[name])

    print_rows([_status_row(row, counts(row)) for row in state["runs"]], False)
    print(f"{state['planned']} runs: {counts(state)}")


def _status_row(row: dict[str, Any], counts: str) -> dict[str, Any]:
    left = row["seconds_left"]
    return {
        "unit": row["unit"],
        "rate": "best" if row["rate"] is None else f"{row['rate']:.4g}",
        "runs": counts,
        "epoch": "-" if row["epoch"] is None else f"{row['epoch']}/{row['of'] or '?'}",
        "best valid": "-" if row["best"] is None else row["best"],
        "left": "-" if left is None else str(datetime.timedelta(seconds=left)),
    }


def solved(options: argparse.Namespace) -> None:
    from seqbench.search.solved import rows

    print_rows(rows(options.dir), options.json)


def importance(options: argparse.Namespace) -> None:
    from seqbench.search.importance import effects, measured, verdicts

    found = measured(options.dir)
    if options.into:
        from seqbench.search.marginals import draw

        draw(found, options.into)
    print_rows([dataclasses.asdict(one) for one in found] if options.json else effects(found), options.json)
    if not options.json:
        print("\n".join(verdicts(found)))


def extract(options: argparse.Namespace) -> None:
    from seqbench.train.extract import extract

    path = extract(options.checkpoint, options.replica, options.run_dir)
    print_rows({"checkpoint": str(path), "config": str(path.parent.parent / "config.yaml")}, options.json)


def sample(options: argparse.Namespace) -> None:
    from seqbench.train.sampling import sample

    rows = sample(
        options.checkpoint, options.out, replica=options.replica, length=options.length, prime_with=options.prime,
        prime_length=options.prime_length, temperature=options.temperature, seed=options.seed, kind=options.format,
    )  # fmt: skip
    print_rows(rows, options.json)


def explain(options: argparse.Namespace) -> None:
    from seqbench.explain.command import write_explained

    where = options.checkpoint, options.sequence, options.out
    print_rows(write_explained(*where, options.replica, options.layer, options.cell, options.steps), options.json)


def data_list(options: argparse.Namespace) -> None:
    from seqbench.datamodules import listing

    print_rows(listing.rows(), options.json)


def data_prepare(options: argparse.Namespace) -> None:
    from seqbench.datamodules import listing

    print_rows(listing.prepare(options.name, **listing.parsed(options.name, options.rest)), options.json)


def data_floors(options: argparse.Namespace) -> None:
    from seqbench.datamodules import listing

    floors = listing.floors(options.name, **listing.parsed(options.name, options.rest))
    print_rows(floors if options.json else [{"floor": name, **score} for name, score in floors.items()], options.json)


def bench(options: argparse.Namespace) -> None:
    from seqbench.bench.report import bench

    devices = [options.device] if options.device else []
    names = options.cells.split(",") if options.cells else None
    bench(devices, names, options.json, options.into)


def leaderboard_build(options: argparse.Namespace) -> None:
    from rich.console import Console

    from seqbench.leaderboard.build import build
    from seqbench.leaderboard.plain import as_json
    from seqbench.leaderboard.terminal import print_board

    board = build(options.records, options.out, options.check)
    if options.json:
        print_rows(as_json(board), True)
    else:
        print_board(board, Console())
        print("up to date" if options.check else options.out / "index.html")


def leaderboard_verify(options: argparse.Namespace) -> None:
    audit = _audit(needed=bool(options.rerun) or options.spot is not None or options.score is not None)
    if options.spot is not None:
        _leaderboard_spot(options, audit)
    if options.score is not None:
        from seqbench.leaderboard.rerun import scores
        from seqbench.train.weights import score

        scored = list(scores(options.records, options.score, audit, score))
        _tell(scored, options.json, "no weights are kept")
        sys.exit(not all(one.agrees for one in scored))
    if options.rerun:
        from seqbench.leaderboard.rerun import rerun
        from seqbench.search.repeat import repeat

        result = rerun(options.records, options.rerun, audit, repeat)
        _tell([result], options.json)
        sys.exit(not result.agrees)
    from seqbench.leaderboard.verify import verify

    findings = verify(options.records, audit, options.since)
    _tell(findings, options.json, "no findings")
    sys.exit(not all(finding.note for finding in findings))


def _leaderboard_spot(options: argparse.Namespace, audit: tuple[Any, ...]) -> None:
    from seqbench.leaderboard.history import published
    from seqbench.leaderboard.rerun import spot
    from seqbench.record import below
    from seqbench.search.repeat import repeat

    before = published(options.records, options.since) if options.since else {}
    known = {name.removesuffix(".json") for name in before}
    there = [path.parent.name if path.name == "record.json" else path.stem for path in below(options.records)]
    runs = options.spot or [run for run in there if run not in known]
    found = list(spot(options.records, runs, audit, repeat))
    _tell(found, options.json, "nothing new")
    sys.exit(not all(one.agrees for one in found))


def _audit(needed: bool = True) -> tuple[Any, ...]:
    """The checks of records against the code of units and data; none where torch is missing and they can be spared."""
    if find_spec("torch") is not None:
        from seqbench.train.audit import CHECKS

        return CHECKS
    if needed:
        raise SeqbenchError("Records are held against units and data here, which need torch: pip install torch")
    return ()


def leaderboard_submit(options: argparse.Namespace) -> None:
    from seqbench.leaderboard.history import committed
    from seqbench.leaderboard.submit import submit, undo

    changes: list[Any]
    if options.undo:
        changes = undo(options.run_dir, options.records, committed(options.records))
    else:
        audit = _audit()  # refuses where torch is missing
        from seqbench.train.weights import best_weights

        changes = submit(options.run_dir, options.records, audit, options.dry_run, best_weights)
    _tell(changes, options.json, "nothing new")


def leaderboard_sample(options: argparse.Namespace) -> None:
    from seqbench.explain.excerpts import Excerpts
    from seqbench.leaderboard.sampling import sample

    make = Excerpts(options.runs, options.sequence, options.seconds)
    _tell(sample(options.records, options.out, make), options.json)
    print("now give seqbench leaderboard build", file=sys.stderr)


def leaderboard_diff(options: argparse.Namespace) -> None:
    from seqbench.leaderboard.diff import diff

    _tell(diff(options.a, options.b), options.json, "no differences")


def _tell(items: list[Any], as_json: bool, nothing: str = "") -> None:
    """Dataclasses, a line each; or JSON."""
    if as_json:
        print_rows([dataclasses.asdict(item) for item in items], True)
    else:
        print("\n".join(map(str, items)) or nothing)
