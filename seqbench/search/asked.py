"""What the options of `seqbench sweep` ask for."""

from __future__ import annotations

import argparse
import functools
import math
from typing import TYPE_CHECKING

from seqbench.decoding import LARGEST
from seqbench.search.design import DESIGN, EXPONENTS, STAGES, Design, Shard, draw_rates, load_design
from seqbench.task import SeqbenchError

if TYPE_CHECKING:
    from seqbench.search.sweep import Engine

TOGETHER = 10  # trials of a group, where nothing is asked for
RATES = "10"  # of a search, likewise
SEEDS = 5  # of its best rates
OWN = {"--model.cell": "--cells", "--model.rate": "--rates", "--model.seed": "--seeds", "--run.dir": "--out"}  # of fit


def share(text: str) -> float:
    """GPUs of a group, as Ray has it."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 <= value <= 1 or (value < math.inf and value.is_integer())) or value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a part of one nor a whole number")
    return value


def shard(text: str) -> Shard:
    """One of N shares, as 2/4."""
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise argparse.ArgumentTypeError(f"{text!r} is not one of N shares, as 1/4 to 4/4")
    return Shard(int(number), int(of))


def design(options: argparse.Namespace) -> Design:
    """The sweep that is asked for.

    Raises:
        SeqbenchError: names the option that is wrong.
    """
    units = _units(options.cells)
    for flag, instead in OWN.items():
        if any(argument.partition("=")[0] == flag for argument in options.rest):
            raise SeqbenchError(f"{flag} is the sweep's own: give {instead}")
    if options.trials:
        if options.rates != RATES:
            raise SeqbenchError("--trials draws rates of its own: leave out --rates")
        if options.seeds != SEEDS or options.stages != ",".join(STAGES):
            raise SeqbenchError("--trials are a stage of their own, each of one seed: leave out --seeds and --stages")
        size = options.group_size or TOGETHER
        return Design(options.rest, units, [], 0, ["trials"], size, options.trials, options.sweep_seed)
    stages = options.stages.split(",")
    if sorted(set(stages)) != sorted(stages) or not set(stages) <= set(STAGES):
        raise SeqbenchError(f"--stages {options.stages}: give search, report or search,report")
    if not (options.out / DESIGN).exists():
        _refuse_range(options.rates, options.rest)
    rates = _rates(options.rates, options.sweep_seed)
    runs = len(rates) if "search" in stages else len(rates) * options.seeds
    size = _group_size(options, units, runs)
    return Design(options.rest, units, rates, options.seeds, [stage for stage in STAGES if stage in stages], size)


def engine(options: argparse.Namespace) -> Engine:
    """Where the groups run.

    Raises:
        SeqbenchError: an option is for the other engine.
    """
    from seqbench.search import cluster, engines

    if options.engine == "local":
        if options.cpus or options.gpus is not None:
            raise SeqbenchError("--cpus and --gpus are told to Ray: add --engine ray, or give --jobs")
        return functools.partial(engines.local, jobs=options.jobs)
    if options.jobs:
        raise SeqbenchError("--jobs is for this machine: with --engine ray give --cpus or --gpus of a group")
    return functools.partial(cluster.ray, cpus=options.cpus or 1, gpus=options.gpus)


def _group_size(options: argparse.Namespace, units: list[str], runs: int) -> int:
    """As given; else what the sweep was begun with, as another machine has other cores and memory."""
    from seqbench.search import engines

    if options.group_size:
        return int(options.group_size)
    if (options.out / DESIGN).exists():
        return load_design(options.out).group_size
    if options.shard:
        raise SeqbenchError("--shard needs --group-size: each machine would choose another")
    return engines.group_size(options.rest, units, runs, options.out, options.jobs)


def _units(text: str) -> list[str]:
    """Class names, but import paths where a unit is neither of the suite nor offered by an installed package."""
    from seqbench.cells import cells, find

    found = {name: find(name) for name in text.split(",")}
    short = [kind.__name__ for kind in found.values()]
    if len(set(short)) < len(text.split(",")):
        raise SeqbenchError(f"--cells {text}: give each unit once")
    by_path = ("." in name and kind not in cells().values() for name, kind in found.items())
    return [name if own else kind for name, kind, own in zip(found, short, by_path, strict=True)]


def _refuse_range(rates: str, command: list[str]) -> None:
    """Rates are drawn for Chung et al.'s rule: another one's, as SGD's at 1, would be far off."""
    from seqbench.train.arguments import configured_rate

    if not _are_drawn(rates):
        return
    own, (low, high) = configured_rate(command), map(math.exp, EXPONENTS)
    if own is not None and not low <= own <= high:
        some = ",".join(f"{own * by:g}" for by in (3, 1, 0.3))
        raise SeqbenchError(
            f"--rates {rates} draws from {low:.1e} to {high:.1e}, and the config's own rate is {own:g}: "
            f"give rates that suit its optimizer, as --rates {some}"
        )


def _are_drawn(rates: str) -> bool:
    return rates.isdecimal() and int(rates) > 0


def _rates(text: str, seed: int) -> list[float]:
    if _are_drawn(text):
        return draw_rates(int(text), seed)
    try:
        rates = [float(rate) for rate in text.split(",")]
    except ValueError:
        rates = []
    if not rates or not all(0 < rate < LARGEST for rate in rates) or len(set(rates)) < len(rates):
        raise SeqbenchError(f"--rates {text}: give how many to draw, or different positive rates, e.g. 1e-3,3e-4")
    return rates
