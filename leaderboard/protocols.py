"""What a run's settings differ by from its protocol, which configs/ has: a row's name says it, `verify` tells it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from seqbench.record import Record, protocol, without_replica

Settings = dict[str, str]  # dotted name -> JSON
CONFIGS = Path(__file__).parents[1] / "configs"
PROTOCOLS = {  # those of papers, with a config of the same name that has all of it, and what people call them
    "chung2014": "Chung et al. 2014",
    "chung2014_speech": "Chung et al. 2014, speech",
    "greff2015": "Greff et al. 2015",
    "levy2018": "Levy et al. 2018",
    "zaremba2014_small": "the small network of Zaremba et al. 2014",
    "dozat2017_small": "a small parser of Dozat and Manning 2017",
}
# A record leaves defaults out; these are those that a protocol states or that a run may go back to. A test holds them.
DEFAULTS: Settings = {
    "data.init_args.batch_size": "16",
    "data.init_args.order": '"bucketed"',
    "model.noise": "0.0",
    "trainer.precision": '"32-true"',
}
OF_TEXT: Settings = {"data.init_args.batch_size": "20", "data.init_args.window": "20"}  # likewise, of streams
# Told by a table's heading, or by its data's digest; of the unit a row's name tells the options.
ELSEWHERE = ("model.cell", "model.hidden", "model.budget", "model.count", "run.protocol", "data.class_path")


def settings(record: Record) -> Settings:
    """A record's config by dotted names, without unit, sizes, seed and rate."""
    flat = _flat("", without_replica(record.config))
    return {key: value for key, value in flat.items() if not key.startswith(ELSEWHERE)}


def meant(name: str) -> str | None:
    """The paper's protocol that a reader takes a name for: its own, or as the paper is cited."""
    return next((own for own, told in PROTOCOLS.items() if _bare(name) in (_bare(own), _bare(told))), None)


def _bare(name: str) -> str:
    return re.sub(r"\bet al\b|[^a-z0-9]", "", name.lower())


@cache
def stated(name: str) -> Settings | None:
    """The settings of a paper's protocol, as its config has them; None for any other."""
    if name not in PROTOCOLS:
        return None
    import yaml

    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    flat = {
        key: json.dumps(json.loads(value).rpartition(".")[2]) if key.endswith("class_path") else value
        for key, value in _flat("", config).items()
    }
    return {key: value for key, value in flat.items() if not key.startswith((*ELSEWHERE, "model.rate"))}


def usual(runs: Iterable[Record]) -> Settings:
    """What the runs of a table, one of each unit, are held against: its protocol, or else what most of them have."""
    runs = list(runs)
    found = stated(protocol(runs[0]))
    if found is not None:
        return found
    counts = Counter(tuple(sorted(settings(run).items())) for run in runs)
    common, _ = min(counts.items(), key=lambda found: (-found[1], found[0]))
    return dict(common)


def departures(record: Record, expected: Settings) -> dict[str, tuple[str, str]]:
    """Dotted name -> what is expected and what the run has; "unset" where neither a record nor DEFAULTS says it.

    What a protocol leaves to the data set (init_args of its own) is none.
    """
    found, defaults = settings(record), DEFAULTS | (OF_TEXT if record.task.carried else {})
    names = {key for key in found.keys() | expected.keys() if not key.startswith("data.") or key in expected}
    pairs = {
        key: (expected.get(key, defaults.get(key, "unset")), found.get(key, defaults.get(key, "unset")))
        for key in sorted(names)
    }
    return {key: (a, b) for key, (a, b) in pairs.items() if not _equal(a, b)}


def _equal(a: str, b: str) -> bool:
    return a == b or ("unset" not in (a, b) and bool(json.loads(a) == json.loads(b)))


def _flat(path: str, value: Any) -> Settings:
    if isinstance(value, dict):
        return {
            key: leaf
            for name, inner in value.items()
            for key, leaf in _flat(f"{path}.{name}".strip("."), inner).items()
        }
    return {path: json.dumps(value, sort_keys=True)}
