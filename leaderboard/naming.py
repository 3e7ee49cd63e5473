"""What rows and tables are called: by the names people say, and by what tells them apart."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from seqbench.leaderboard import lags
from seqbench.leaderboard.protocols import PROTOCOLS, Settings, departures, settings
from seqbench.leaderboard.rows import clean
from seqbench.record import Record
from seqbench.solving import options

GIVEN, TOTAL = "hidden sizes as given", "in all, output layer included"
SETS = {  # in the order of the board; others come after them, by their names
    "jsb": "JSB Chorales",
    "nottingham": "Nottingham",
    "musedata": "MuseData",
    "piano_midi": "Piano-midi.de",
    "bach": "Bach chorales",
    "fsdd": "FSDD",
    "yesno": "YESNO",
    "speech_commands": "Speech Commands",
    "ljspeech": "LJSpeech",
    "cmu_arctic": "CMU ARCTIC",
    "librispeech": "LibriSpeech",
    "ptb": "Penn Treebank, words",
    "ptb_chars": "Penn Treebank, characters",
    "ewt": "UD English EWT",
    "reber": "Embedded Reber grammar",
    "continual_reber": "Continual embedded Reber grammar",
    "two_sequences": "Two sequences",
    "adding": "Adding problem",
    "multiplication": "Multiplication problem",
    "temporal_order": "Temporal order",
    "copying": "Copying",
    "spike_delays": "Measuring spike delays",
}
USUAL = ("chung2014", "chung2014_speech")  # what a heading need not say
OURS = {"lags_today": "trained as today", "lags_1997": "trained as in 1997"}  # of no one paper


def set_name(task: str) -> str:
    """JSB Chorales, FSDD-A; a data set that is not known here by its own name."""
    if task.partition(" ")[0] in SETS:
        name, _, options = task.partition(" ")
        return clean(f"{SETS[name]} {options}".strip())
    stem, mark, part = task.rpartition("_")
    return f"{SETS[stem]}-{part.upper()}" if mark and stem in SETS and part in "ab" else clean(task)


def task_name(run: Record) -> str:
    """The data set's own name, after it the options that decide a task that can be solved: two_sequences (lag 1000)."""
    if not run.task.solved:
        return run.task.name
    chosen = {**lags.usual(run.task.name), **options(run)}
    told = ", ".join(f"{name} {value}" for name, value in sorted(chosen.items()))
    return f"{run.task.name} ({told})" if told else run.task.name


def set_order(task: str) -> tuple[int, str]:
    """JSB first."""
    known = list(SETS)
    stem = task if task in SETS else task.rpartition("_")[0]
    return (known.index(stem) if stem in SETS else len(known), task)


def matching(run: Record) -> str:
    """How sizes were chosen, e.g. "20,000 parameters in the recurrent layer"; units of one table have it in common."""
    if run.cell.budget is None:
        return GIVEN
    return f"{run.cell.budget:,} parameters {TOTAL if run.cell.count == 'total' else 'in the recurrent layer'}"


def heading(task: str, protocol: str, how: str) -> str:
    """JSB Chorales, 20k in the recurrent layer; with the protocol where it is not Chung et al.'s, and then without the
    sizes where they were given: the protocol does so.
    """
    size = re.sub(r",000 parameters", "k", how).removesuffix(", output layer included")
    whose = "" if protocol in USUAL else (PROTOCOLS | OURS).get(protocol, clean(protocol))
    size = "" if whose and how == GIVEN else size
    return ", ".join(part for part in (set_name(task), size, whose) if part)


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


def row_names(runs: Mapping[str, Record], expected: Settings) -> dict[str, str]:
    """Group -> unit and options, and what its settings differ by from those expected of its table; and where that is
    not unique, also the settings in which the namesakes differ.
    """
    names = {key: _told(unit_name(run), _departing(run, expected)) for key, run in runs.items()}
    namesakes: dict[str, list[str]] = defaultdict(list)
    for key, name in names.items():
        namesakes[name].append(key)
    for name, keys in namesakes.items():
        if len(keys) == 1:
            continue
        had = {key: settings(runs[key]) for key in keys}
        differing = sorted({p for found in had.values() for p in found if len({o.get(p) for o in had.values()}) > 1})
        told = {key: _told(name, [(p, had[key].get(p, "unset")) for p in differing]) for key in keys}
        repeated = Counter(told.values())
        for key in keys:
            names[key] = told[key] if repeated[told[key]] == 1 else f"{told[key]} [{key[:6]}]"
    return names


def _departing(run: Record, expected: Settings) -> list[tuple[str, str]]:
    return [(name, has) for name, (_, has) in departures(run, expected).items()]


def _told(name: str, found: Sequence[tuple[str, str]]) -> str:
    """GRU [max_epochs=80, class_path=Adam]: the first three."""
    said = ", ".join(f"{path.rpartition('.')[2]}={value.strip(chr(34)):.24}" for path, value in found[:3])
    return clean(f"{name} [{said}]" if said else name)
