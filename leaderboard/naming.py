"""What rows and tables are called: by what tells them apart."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from typing import Any

from seqbench.leaderboard.rows import clean
from seqbench.record import Record, without_replica

GIVEN, TOTAL = "hidden sizes as given", "in all, output layer included"


def matching(run: Record) -> str:
    """How sizes were chosen, e.g. "20,000 parameters in the recurrent layer"; units of one table have it in common."""
    if run.cell.budget is None:
        return GIVEN
    return f"{run.cell.budget:,} parameters {TOTAL if run.cell.count == 'total' else 'in the recurrent layer'}"


def table_slug(task: str, protocol: str, how: str) -> str:
    """For file names and anchors: small letters, digits, hyphens."""
    ending = "sizes given" if how == GIVEN else "total" if how.endswith(TOTAL) else ""
    return slug(f"{task} {protocol} {ending}")


def slug(text: str) -> str:
    """Small letters, digits, hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"


def unit_name(run: Record) -> str:
    """The unit, and its options where they differ from its defaults."""
    options = ", ".join(f"{name}={value}" for name, value in sorted(run.cell.options.items()))
    return clean(f"{run.cell.name}({options})" if options else run.cell.name)


def row_names(runs: dict[str, Record]) -> dict[str, str]:
    """Group -> unit and options; where that is not unique, also the settings in which the namesakes differ."""
    short = {key: unit_name(run) for key, run in runs.items()}
    namesakes: dict[str, list[str]] = defaultdict(list)
    for key, name in short.items():
        namesakes[name].append(key)
    names = {}
    for name, keys in namesakes.items():
        if len(keys) == 1:
            names[keys[0]] = name
            continue
        settings = {key: _settings(runs[key]) for key in keys}
        all_settings = sorted({path for values in settings.values() for path in values})
        differing = [p for p in all_settings if len({settings[key].get(p) for key in keys}) > 1]
        told = {
            key: ", ".join(f"{p.rpartition('.')[2]}={settings[key].get(p, 'unset'):.24}" for p in differing[:3])
            for key in keys
        }
        repeated = Counter(told.values())
        for key in keys:
            mark = f", {key[:6]}" if repeated[told[key]] > 1 else ""
            names[key] = clean(f"{name} [{told[key]}{mark}]")
    return names


def _settings(run: Record) -> dict[str, str]:
    """A config's leaves, by dotted path, without seed and rate."""
    flat: dict[str, str] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                walk(f"{path}.{name}" if path else name, inner)
        else:
            flat[path] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)

    walk("", without_replica(run.config))
    return flat
