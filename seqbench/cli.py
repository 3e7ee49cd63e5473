"""The command line: what can be asked for. What is done then is in commands.py."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from seqbench import commands
from seqbench.files import at_home
from seqbench.task import SeqbenchError

FULL = (errno.ENOSPC, errno.EDQUOT)
LIGHTNING = ("fit", "validate", "test", "predict")
COMPILING = (*LIGHTNING, "sweep", "bench", "show")


def _path(text: str) -> Path:
    return at_home(Path(text))


class _Parser(argparse.ArgumentParser):
    def __init__(self, *args: Any, **options: Any) -> None:
        # A sweep's --seed 5 would be its --seeds, and hide a flag of `fit`.
        super().__init__(*args, **(options | {"allow_abbrev": False}))

    def error(self, message: str) -> NoReturn:
        raise SeqbenchError(f"{message} (see {self.prog} --help)")


def main() -> None:
    """The console script; exits 0, or 2 after a user's mistake, 130 after ^C, 143 after SIGTERM.

    1 where something of ours broke. A traceback is shown with --debug or SEQBENCH_DEBUG=1 alone.
    """
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1 or os.environ.get("SEQBENCH_DEBUG", "") not in ("", "0")
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # names that an ASCII terminal cannot show
    try:
        if sys.platform == "win32":
            raise SeqbenchError("Windows is not supported: use Linux or macOS, or Linux within Windows (WSL)")
        _run(arguments)
    except SeqbenchError as error:
        _exit(f"seqbench: error: {_one_line(error)}", 2, debug)
    except KeyboardInterrupt:
        _exit("seqbench: interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader has what it wanted, as in `seqbench cells | head`
    except Exception as error:  # noqa: BLE001  # whatever it is: a traceback tells a user nothing
        if isinstance(error, OSError) and error.errno in FULL:
            where = f" ({error.filename})" if error.filename else ""
            _exit(f"seqbench: error: the disk is full{where}: free some space, or write elsewhere", 2, debug)
        told = f"{type(error).__name__}: {_one_line(error)}"
        if isinstance(error, MemoryError) or re.search("allocate memory|out of memory", told):
            _exit(
                f"seqbench: error: not enough memory, give smaller sizes, batches or fewer replicas: {told}", 2, debug
            )
        _exit(f"seqbench: internal error: {told} (--debug shows where; please report)", 1, debug)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:1000]


def _exit(message: str, status: int, debug: bool = False) -> NoReturn:
    if debug:
        traceback.print_exc()
    print(message, file=sys.stderr)
    sys.exit(status)


def _run(arguments: list[str]) -> None:
    if arguments[:1] and arguments[0] in COMPILING and os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        raise SeqbenchError("NUMBA_DISABLE_JIT is set, so nothing can be compiled: unset it")
    if arguments and arguments[0] in LIGHTNING:
        from seqbench.train.fitting import run

        run(arguments)
        return
    if arguments[:2] == ["sweep", "status"]:
        options = _status_parser().parse_args(arguments[2:])
    else:
        options, rest = _parser().parse_known_args(arguments)
        if rest and not hasattr(options, "passes_on"):
            raise SeqbenchError(f"unrecognized arguments: {' '.join(rest)} (see seqbench {arguments[0]} --help)")
        options.rest = rest
    options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "seqbench", description="Recurrent units compared fairly on music, raw speech, text and long lags."
    )
    parser.epilog = "After an error --debug (or SEQBENCH_DEBUG=1) shows where it comes from."
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    helps = {
        "fit": "train, then test the best weights: seqbench fit -c jsb -c chung2014 --model.cell GRU",
        "validate": "score a checkpoint on the validation split",
        "test": "score a checkpoint on the test split",
        "predict": "write what a checkpoint expects of the test split",
    }
    for name in LIGHTNING:
        subparsers.add_parser(name, help=helps[name], add_help=False)

    cells = _command(subparsers, "cells", commands.cells, "units, their sizes and parameter counts at a budget")
    cells.add_argument("--input-size", type=_positive, default=88, metavar="I", help="inputs a step (default 88)")
    cells.add_argument("--budget", type=_positive, default=20_000, metavar="N", help="parameters (default 20000)")
    cells.add_argument(
        "--count", choices=["recurrent", "total"], default="recurrent",
        help="the recurrent layer's parameters, or the output layer's too (default recurrent)",
    )  # fmt: skip
    cells.add_argument("--outputs", type=_positive, metavar="K", help="outputs of the head (default: as inputs)")
    cells.add_argument(
        "--bidirectional", action="store_true",
        help="of a layer that reads from both ends; the hidden size is a direction's, the budget for both",
    )  # fmt: skip

    show = _command(
        subparsers, "show", commands.show, "what a unit's step is compiled to, stage by stage (docs/compiler.md)"
    )
    show.add_argument("unit")
    show.add_argument("--as", dest="stage", choices=["expressions", "plan", "numba", "llvm", "triton"], default="plan")

    _sweep_options(subparsers)

    solved = _command(
        subparsers, "solved", commands.solved, "long lags: how many runs solved their task, after how many sequences"
    )
    solved.add_argument("dir", type=_path, metavar="DIR", help="a folder of runs")

    importance = _command(
        subparsers, "importance", commands.importance, "which hyper-parameter matters: functional ANOVA of trials"
    )
    importance.add_argument("dir", type=_path, metavar="DIR", help="a sweep with --trials")
    importance.add_argument("--into", type=_path, metavar="FILE", help="draw marginals and maps into FILE, an SVG")

    extract = _command(subparsers, "extract", commands.extract, "a solo checkpoint of one replica of a group's")
    extract.add_argument("checkpoint", type=_path)
    extract.add_argument("--replica", type=int, required=True, metavar="K", help="counted from 0, as the group began")
    extract.add_argument("--run-dir", type=_path, default=Path("runs"), metavar="DIR", help="where runs are kept")

    _sample_options(subparsers)
    _explain_options(subparsers)

    data = subparsers.add_parser("data", help="data sets: list, prepare, floors")
    actions = data.add_subparsers(required=True, metavar="list|prepare|floors")
    _command(actions, "list", commands.data_list, "the data sets")
    for action in (
        _command(actions, "prepare", commands.data_prepare, "fetch, parse and check one"),
        _command(actions, "floors", commands.data_floors, "what no model is needed for"),
    ):
        action.add_argument("name")
        action.set_defaults(passes_on=True)
        action.usage = f"{action.prog} NAME [--json] [the data set's own flags, as --data.root DIR]"

    bench = _command(subparsers, "bench", commands.bench, "check and time every way to run a layer: about 3 minutes")
    bench.add_argument("--cells", metavar="A,B", help="units (default: all)")
    bench.add_argument("--device", choices=["cpu", "cuda"], help="default: all there are")
    bench.add_argument("--into", type=_path, metavar="FILE", help="write the tables into a Markdown file too")

    board = subparsers.add_parser("leaderboard", help="tables and curves from records")
    _leaderboard(board.add_subparsers(required=True, metavar="build|verify|submit|sample|diff"))
    return parser


def _sample_options(subparsers: Any) -> None:
    sample = _command(subparsers, "sample", commands.sample, "hear what a trained model makes: MIDI and audio files")
    sample.add_argument("checkpoint", type=_path)
    sample.add_argument("--replica", type=int, metavar="K", help="of a group, counted from 0 (default: each)")
    sample.add_argument("--length", type=_positive, metavar="N", help="frames or steps to draw (default: 20 seconds)")
    sample.add_argument("--prime", type=int, metavar="N", help="begin with the beginning of test sequence N")
    sample.add_argument(
        "--prime-length", type=_positive, metavar="N", help="how much of it (default: 5 seconds, half of it at most)"
    )
    sample.add_argument("--temperature", type=float, default=1.0, metavar="X", help="1 is the model itself (default)")
    sample.add_argument("--seed", type=int, default=0, metavar="S", help="of the drawing (default 0)")
    sample.add_argument("--format", choices=["wav", "ogg"], default="wav", help="of the audio (default wav)")
    sample.add_argument("--out", type=_path, metavar="DIR", help="default: samples, in the run's folder")


def _sweep_options(subparsers: Any) -> None:
    from seqbench.search.asked import RATES, SEEDS, shard, share
    from seqbench.search.design import STAGES

    sweep = _command(
        subparsers, "sweep", commands.sweep, "the same search for every unit; status DIR tells how far one is"
    )
    sweep.usage = "seqbench sweep -c DATA -c PROTOCOL --cells A,B [options] [any flag of fit]"
    sweep.epilog = "seqbench sweep status DIR [--json]: for each unit and rate what is done, epoch, best, time left."
    sweep.add_argument("--cells", required=True, metavar="A,B", help="units, e.g. tanh,gru,mypackage.MyUnit")
    sweep.add_argument(
        "--rates", default=RATES, metavar="N|A,B",
        help="how many to draw from exp(U(-12,-6)), one in each of N equal stretches, or the rates (default 10)",
    )  # fmt: skip
    sweep.add_argument(
        "--seeds", type=_positive, default=SEEDS, metavar="N", help="seeds 0..N-1 at the three best rates"
    )
    sweep.add_argument("--stages", default=",".join(STAGES), help="search, report or both (default both)")
    sweep.add_argument(
        "--trials", type=_positive, metavar="N",
        help="instead a random search of N trials a unit: hidden size, rate, momentum and input noise (Greff et al.)",
    )  # fmt: skip
    sweep.add_argument("--out", type=_path, default=Path("runs/sweep"), metavar="DIR", help="default runs/sweep")
    sweep.add_argument("--group-size", type=_positive, metavar="R", help="most runs trained together")
    sweep.add_argument("--sweep-seed", type=int, default=0, metavar="S", help="of the drawn rates (default 0)")
    sweep.add_argument(
        "--shard",
        type=shard,
        metavar="I/N",
        help="the I-th of N shares alone, counted from 1; others may run beside it",
    )
    sweep.add_argument("--engine", choices=["local", "ray"], default="local")
    sweep.add_argument("--jobs", type=_positive, metavar="N", help="groups at once (default: one a GPU, or one a core)")
    sweep.add_argument("--cpus", type=_positive, metavar="N", help="with Ray: cores of a group (default 1)")
    sweep.add_argument("--gpus", type=share, metavar="X", help="with Ray: GPUs of a group, or a part (default 1 or 0)")
    sweep.set_defaults(passes_on=True)


def _explain_options(subparsers: Any) -> None:
    text = "what a checkpoint's unit holds of each moment, and how long: pictures and a page"
    explain = _command(subparsers, "explain", commands.explain, text)
    explain.add_argument("checkpoint", type=_path)
    explain.add_argument("--sequence", type=int, default=0, metavar="N", help="of the test split (default 0)")
    explain.add_argument(
        "--steps", type=_span, metavar="A:B", help="a part of it, B left out (default: all, or a text's first 40)"
    )
    explain.add_argument("--out", type=_path, required=True, metavar="DIR", help="where the files go")
    explain.add_argument("--replica", type=int, metavar="K", help="of a group, counted from 0")
    explain.add_argument("--layer", type=int, metavar="L", help="counted from 0 (default: the highest)")
    explain.add_argument("--cell", metavar="UNIT", help="the unit's import path, where it is not of the suite")


def _leaderboard(actions: Any) -> None:
    records: Any = {"type": _path, "default": Path("leaderboard/records"), "metavar": "DIR"}
    records["help"] = "default leaderboard/records"
    build = _command(actions, "build", commands.leaderboard_build, "write README.md, CSV, figures and index.html")
    build.add_argument("--records", **records)
    build.add_argument("--out", type=_path, default=Path("leaderboard"), metavar="DIR", help="default leaderboard")
    build.add_argument("--check", action="store_true", help="write nothing; fail if a file is stale")
    verify = _command(actions, "verify", commands.leaderboard_verify, "check that records can be believed; 1 if not")
    verify.add_argument("--records", **records)
    verify.add_argument(
        "--since", metavar="COMMIT", help="what was published there must be as it was, e.g. origin/main"
    )
    again = verify.add_mutually_exclusive_group()
    again.add_argument("--rerun", metavar="ID", help="train a run again by its config and compare")
    again.add_argument(
        "--spot", nargs="*", metavar="ID",
        help="train the first three epochs of runs again and compare; without ID of all that are new since --since",
    )  # fmt: skip
    again.add_argument(
        "--score", nargs="*", metavar="ID",
        help="test the weights kept beside records and compare; without ID all that are kept",
    )  # fmt: skip
    submit = _command(actions, "submit", commands.leaderboard_submit, "publish a run's record, or all of a sweep")
    submit.add_argument("run_dir", type=_path, metavar="RUN_DIR")
    how = submit.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="say what would change, and write nothing")
    how.add_argument(
        "--undo", action="store_true", help="take back what was submitted from RUN_DIR and is not committed"
    )
    submit.add_argument("--records", **records)
    sample = _command(
        actions, "sample", commands.leaderboard_sample, "what units sound like, or write, for the page to show"
    )
    sample.add_argument("runs", type=_path, metavar="RUNS", help="the folder that the records' runs were trained in")
    sample.add_argument("--records", **records)
    sample.add_argument("--out", type=_path, default=Path("leaderboard"), metavar="DIR", help="default leaderboard")
    sample.add_argument("--sequence", type=int, default=0, metavar="N", help="of the test split (default 0)")
    sample.add_argument("--seconds", type=float, default=10.0, metavar="X", help="drawn after its start (default 10)")
    diff = _command(actions, "diff", commands.leaderboard_diff, "what the records of B add to the board of A")
    diff.add_argument("a", type=_path, metavar="A", help="a folder of records")
    diff.add_argument("b", type=_path, metavar="B", help="another one")


def _status_parser() -> argparse.ArgumentParser:
    parser = _Parser("seqbench sweep status", description="How far a sweep is.")
    parser.add_argument("dir", type=_path)
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.set_defaults(run=commands.sweep_status)
    return parser


def _command(
    subparsers: Any, name: str, run: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=text, description=text)
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.set_defaults(run=run)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _span(text: str) -> tuple[int, int]:
    first, colon, end = text.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise argparse.ArgumentTypeError(f"{text!r} is no span of steps: give A:B, as 0:40")
    return int(first), int(end)


if __name__ == "__main__":
    main()
