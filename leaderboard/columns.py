"""The leaderboard's columns. A new one is one line in COLUMNS: it appears in CSV, page, terminal and JSON, and, named in
FIRST, in Markdown.

A line says: name (CSV, JSON), header, value of a row, how the value reads, help. A column marked `detail` is left out
of the Markdown and terminal tables, and stands on the page among the further columns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from seqbench.leaderboard.curves import clock
from seqbench.leaderboard.published import REFERENCE, Published
from seqbench.leaderboard.rows import Convention, Row, best_epoch
from seqbench.leaderboard.statistics import DIGITS, Estimate
from seqbench.record import Record, bits_per_sample, still_learning
from seqbench.solving import Counted, Solved, span

Plain = str | int | float | None
AGAINST = ("reference", "reference_sequence", "verdict")  # what holds a unit against a published one
UNKNOWN = "their convention is not known"


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: in CSV and JSON.
        header: in tables.
        value: of a row; None where the row has none.
        text: how a value that is not None reads.
        help: one sentence for the reader.
        absent: how a unit without a value reads.
        detail: see the module's docstring.
        words: left-aligned.
        interval: the value is an Estimate whose interval is a CSV column of its own, `<name>_interval`.
    """

    name: str
    header: str
    value: Callable[[Row], Any]
    text: Callable[[Any], str]
    help: str
    absent: str = "–"
    detail: bool = False
    words: bool = False
    interval: bool = False

    def show(self, row: Row) -> str:
        """The cell as a reader sees it."""
        value = self.value(row)
        if value is None:
            return self.absent if row.kind == "unit" else ""
        return self.text(value)

    def plain(self, row: Row) -> dict[str, Plain]:
        """The cell for machines: unrounded, by name."""
        value = self.value(row)
        if not self.interval:
            return {self.name: value.mean if isinstance(value, Estimate) else value}
        mean, interval = (None, None) if value is None else (value.mean, value.interval)
        return {self.name: mean, f"{self.name}_interval": interval}


def whole(value: int) -> str:
    """12,345"""
    return f"{value:,}"


def nats(value: Estimate) -> str:
    """8.546, or 8.546 ± 0.012 over several runs."""
    return f"{value.mean:.3f}" if value.interval is None else f"{value.mean:.3f} ± {value.interval:.3f}"


def short_nats(value: Estimate) -> str:
    """8.546"""
    return f"{value.mean:.3f}"


def epochs(value: Estimate) -> str:
    """148, or 148.3 where a mean is not whole."""
    return f"{value.mean:.1f}" if value.mean % 1 else f"{value.mean:.0f}"


def short(value: Estimate) -> str:
    """9.3, 36.0, 1,234"""
    return f"{value.mean:.1f}" if value.mean < 100 else f"{value.mean:,.0f}"


def percent(value: Estimate) -> str:
    """82.31, or 82.31 ± 0.24 over several runs."""
    return f"{value.mean:.2f}" if value.interval is None else f"{value.mean:.2f} ± {value.interval:.2f}"


def rate(value: float) -> str:
    """0.0003"""
    return f"{value:.3g}"


def signed(value: Estimate) -> str:
    """-0.441 ± 0.020"""
    return f"{value.mean:+.3f}" if value.interval is None else f"{value.mean:+.3f} ± {value.interval:.3f}"


def _of_run(value: Callable[[Record], Any]) -> Callable[[Row], Any]:
    """What all runs of a row share."""
    return lambda row: value(row.runs[0]) if row.runs else None


def _of_published(value: Callable[[Published], Any]) -> Callable[[Row], Any]:
    return lambda row: None if row.published is None else value(row.published)


def _first(*values: Callable[[Row], Any]) -> Callable[[Row], Any]:
    """The first of these that a row has."""
    return lambda row: next((v for value in values if (v := value(row)) is not None), None)


HIDDEN = _first(_of_run(lambda run: run.cell.hidden), _of_published(lambda p: p.hidden))
RECURRENT = _first(_of_run(lambda run: run.parameters.recurrent), _of_published(lambda p: p.recurrent))


def near_best(run: Record) -> float | None:
    """Seconds until validation NLL was first within 1% of what it came to."""
    best = run.best_valid
    if best is None:
        return None
    bound = best + 0.01 * abs(best)
    reached = (s for s, v in zip(clock(run.curve), run.curve.valid, strict=True) if v is not None and v <= bound)
    return next(reached, None)


def _epochs(run: Record) -> int:
    return run.curve.every * len(run.curve.valid)


def _seconds(run: Record) -> float:
    return clock(run.curve)[-1] if run.curve.seconds else 0.0


def _throughput(run: Record) -> float | None:
    return run.curve.step[-1] / seconds if (seconds := _seconds(run)) else None


def _less_reference(row: Row, convention: Convention) -> Estimate | None:
    """With the prediction interval: what single runs of ours are as far from their mean as the paper's one may be."""
    test = row.score(convention)
    if row.reference is None or row.reference.test is None or test is None:
        return None
    return Estimate(round(test.mean - row.reference.test, DIGITS), row.single(convention), test.n)


def _verdict(row: Row) -> str | None:
    """Of both conventions, as the paper's is not known; a run that had not learnt all it could, or that was not trained
    by the protocol, beats or misses nobody.
    """
    differences = _less_reference(row, "nll"), _less_reference(row, "nll_sequence")
    if None in differences:
        return None
    if row.cut:
        return "none: cut short"
    if row.departs:
        return "none: other settings"
    if any(map(still_learning, row.counted)):
        return "none: still learning"
    verdicts = {_told(difference) for difference in differences if difference is not None}
    return None if not verdicts else verdicts.pop() if len(verdicts) == 1 else "undecided"


def _told(difference: Estimate) -> str:
    if difference.interval is None or abs(difference.mean) <= difference.interval:
        return "undecided"
    return "beaten" if difference.mean < 0 else "missed"


def _bits(row: Row) -> float | None:
    if not row.runs or row.test is None or (scale := row.runs[0].scale) is None:
        return None
    return bits_per_sample(row.test.mean, row.runs[0].task.target_size, scale)


def perplexity(row: Row) -> float | None:
    """Of a token: exp of its mean nats; over seeds, of the mean of these."""
    if row.task is None or row.task.head != "Categorical" or row.test is None:
        return None
    return math.exp(row.test.mean)


def _bits_of_character(row: Row) -> float | None:
    known = row.task is not None and row.task.unit == "nats/character"
    return row.test.mean / math.log(2) if known and row.test is not None else None


def _solved(row: Row) -> str | None:
    """10 of 10"""
    counted: Solved | Counted | None = row.solved
    if row.published is not None:
        counted = row.published.counted
    return None if counted is None or counted.solved is None else f"{counted.solved} of {counted.of}"


def _sequences(row: Row) -> int | None:
    if row.solved is not None:
        return row.solved.median
    return row.published.counted.sequences if row.published and row.published.counted else None


def _commit(row: Row) -> str | None:
    return row.common(lambda run: re.sub(r"^(\w{12})\w*", r"\1", run.environment.commit)) or None


def _lost(row: Row) -> str | None:
    return ", ".join(f"{n} {reason}" for reason, n in row.lost.items()) or None


def _count(reason: str) -> Callable[[Row], int | None]:
    return lambda row: row.lost.get(reason, 0) if row.runs else None


def _place(value: Callable[[Record], object]) -> Callable[[Row], str | None]:
    return lambda row: row.common(value) or None


# fmt: off
# ruff: noqa: E501  one line a column reads better than any wrapping of it
COLUMNS = (
    Column("letters", "group", lambda row: row.letters, str, "units that share a letter cannot be told apart; a: not told apart from the best; incomplete units have none", words=True),
    Column("unit", "unit", lambda row: row.name, str, "the unit, and its options where they differ from its defaults", words=True),
    Column("solved", "solved", _solved, str, "long lags: runs that solve the task, by enough right guesses on the test split", absent="", words=True),
    Column("share", "share", lambda row: span(row.solved.share, "%") if row.solved else None, str, "long lags: 95% interval of the share of runs that solve it (Clopper and Pearson)", absent="", words=True),
    Column("sequences", "sequences", _sequences, whole, "long lags: trained on until the task was solved, of the runs that solved it; the median, of papers the mean"),
    Column("around", "median within", lambda row: span(row.solved.around) if row.solved and row.solved.around else None, str, "long lags: the median's 95% interval, by order statistics, from six runs on", absent="", words=True),
    Column("test", "test NLL", lambda row: row.test, nats, "mean over seeds ± its 95% t-interval, on these test sequences", interval=True),
    Column("pieces", "± with pieces", lambda row: row.pieces, lambda value: f"± {value:.3f}", "the same interval where test sequences are random too: what is known of other ones", absent=""),
    Column("bits", "bits/sample", _bits, lambda value: f"{value:.3f}", "speech: test NLL as bits for each 16-bit sample"),
    Column("perplexity", "perplexity", perplexity, lambda value: f"{value:.2f}", "text: exp of test NLL, so of a token by its likelihood"),
    Column("bits_character", "bits/character", _bits_of_character, lambda value: f"{value:.3f}", "text by characters: test NLL in bits"),
    Column("right", "right, %", lambda row: row.share("guesses"), nats, "text and long lags: guesses that are right, of all that count, higher is better; mean over seeds", absent="", interval=True),
    Column("las", "LAS, %", lambda row: row.share("labelled"), percent, "dependencies: words whose head and relation are right, words that are all punctuation left out (CoNLL's eval.pl), higher is better; mean over seeds", absent="", interval=True),
    Column("uas", "UAS, %", lambda row: row.share("arcs"), percent, "dependencies: words whose head is right, likewise", absent="", interval=True),
    Column("train", "train NLL", lambda row: row.score("nll", "train"), short_nats, "training NLL of the best epoch's weights, without weight noise, mean over seeds", interval=True),
    Column("valid", "valid NLL", lambda row: row.score("nll", "valid"), short_nats, "validation NLL of the same weights, mean over seeds", interval=True),
    Column("reference", f"minus {REFERENCE}, frame-weighted", lambda row: _less_reference(row, "nll"), signed, f"test NLL less the published one of the same unit at the same budget, frame-weighted, ± the 95% prediction interval of a single run, as theirs is; {UNKNOWN}", absent="", interval=True),
    Column("reference_sequence", f"minus {REFERENCE}, sequence-weighted", lambda row: _less_reference(row, "nll_sequence"), signed, f"the same, with ours sequence-weighted; {UNKNOWN}", absent="", interval=True),
    Column("verdict", f"against {REFERENCE}", _verdict, str, f"{UNKNOWN}: beaten or missed where both differences are beyond their intervals, undecided otherwise; none where a run was cut short of the protocol, trained by other settings, or still learning at its last epoch", absent="", words=True),
    Column("n", "n", lambda row: len(row.counted) if row.runs else None, whole, "runs that count in the means: they were tested, by the weights of their best epoch, though they may have diverged after it; they differ by their seed only"),
    Column("planned", "of", lambda row: len(row.search.seeds) if row.search else None, lambda value: f"of {value}", "runs planned at the best rate, as for all complete units of the table", words=True),
    Column("lost", "not counted", _lost, str, "runs, at any rate, that diverged without a best epoch, failed, were interrupted or stopped before their end", absent="", words=True),
    Column("marks", "marks", lambda row: ", ".join(row.marks) or None, str, "cut short: fewer epochs than the protocol has; rate at the edge: the best is the lowest or highest of those tried, a better one may lie beyond; still learning: runs whose best epoch is in the last 2% of all they had; diverged after the best epoch: they count, with that epoch's weights; no better than a floor: no model is needed to do as well", absent="", words=True),
    Column("hidden", "hidden", HIDDEN, whole, "hidden size"),
    Column("recurrent", "recurrent", RECURRENT, whole, "parameters of the recurrent layer alone"),
    Column("total", "total", _of_run(lambda run: run.parameters.total), whole, "parameters with the output layer"),
    Column("rate", "best rate", _of_run(lambda run: run.rate), rate, "learning rate: of those with the most seeds the one with the lowest mean validation NLL; of long lags first that with most runs that solve the validation split"),
    Column("epochs", "epochs", lambda row: row.mean(_epochs), epochs, "trained until the run stopped, mean over seeds"),
    Column("near_best", "seconds to 1%", lambda row: row.mean(near_best), short, "until validation NLL was first within 1% of its best, mean over seeds"),
    Column("seconds", "seconds", lambda row: row.mean(_seconds), short, "of training and validation, to a run's last epoch, mean over seeds; an epoch counts for at most three times the run's median, as a machine that stands still trains nothing; else as the machine had it, whatever it did besides; runs trained together share the clock"),
    Column("throughput", "steps/s", lambda row: row.mean(_throughput), short, "optimiser steps a second, validation included; runs trained together share the clock"),
    Column("device", "device", _place(lambda run: run.environment.device.removesuffix(" x 1")), str, "where the runs were trained", words=True),
    Column("precision", "precision", _place(lambda run: run.environment.precision), str, "effective precision", words=True),
    Column("commit", "commit", _commit, str, "of the code; + where the tree had changes", words=True),
    Column("best_epoch", "best epoch", lambda row: row.mean(best_epoch), epochs, "epoch with the lowest validation NLL, counted from 1, mean over seeds", detail=True),
    Column("rates", "rates tried", lambda row: len(row.tried) or None, whole, "learning rates the best was chosen from", detail=True),
    Column("train_sequence", "train NLL, sequence-weighted", lambda row: row.score("nll_sequence", "train"), nats, "of the same weights, mean of the sequences' own means", detail=True, interval=True),
    Column("valid_sequence", "valid NLL, sequence-weighted", lambda row: row.score("nll_sequence", "valid"), nats, "of the same weights, mean of the sequences' own means", detail=True, interval=True),
    Column("test_sequence", "test NLL, sequence-weighted", lambda row: row.score("nll_sequence"), nats, "mean of the sequences' own means", detail=True, interval=True),
    Column("las_upos", "LAS without PUNCT, %", lambda row: row.share("labelled, no PUNCT"), percent, "dependencies: LAS without words whose part of speech is PUNCT", absent="", detail=True, interval=True),
    Column("uas_upos", "UAS without PUNCT, %", lambda row: row.share("arcs, no PUNCT"), percent, "dependencies: UAS, likewise", absent="", detail=True, interval=True),
    Column("las_all", "LAS of all words, %", lambda row: row.share("labelled, all"), percent, "dependencies: LAS with punctuation", absent="", detail=True, interval=True),
    Column("uas_all", "UAS of all words, %", lambda row: row.share("arcs, all"), percent, "dependencies: UAS, likewise", absent="", detail=True, interval=True),
    Column("runs", "runs", lambda row: len(row.all_runs) or None, whole, "all runs, at all rates, counted in the means or not", detail=True),
    Column("beyond", "beyond the plan", lambda row: len(row.beyond) or None, whole, "runs at rates or seeds that the table's plan does not have: listed, and counted nowhere", detail=True),
    Column("diverged", "diverged", _count("diverged"), whole, "runs whose loss or gradient was no longer finite, or far too large", detail=True),
    Column("failed", "failed", _count("failed"), whole, "runs that ended in an error", detail=True),
    Column("interrupted", "interrupted", _count("interrupted"), whole, "runs that were ended from outside", detail=True),
    Column("stopped", "stopped", _count("stopped"), whole, "runs that ended before their protocol's end and may go on", detail=True),
    Column("untested", "untested", _count("untested"), whole, "runs that finished training and were not tested", detail=True),
    Column("incomplete", "incomplete", lambda row: ", ".join(row.lacks) or None, str, "what a unit lacks of what others of its table have; it is not ranked then", absent="", detail=True, words=True),
    Column("kind", "kind", lambda row: row.kind, str, "unit: run here; floor: no model needed; published: from a paper", detail=True, words=True),
    Column("source", "source", _of_published(lambda p: f"{p.source} ({p.known})"), str, "of a published result, and whether it was read there or recalled", absent="", detail=True, words=True),
    Column("convention", "convention", _of_published(lambda p: p.convention), str, "of a published result", absent="", detail=True, words=True),
)
# fmt: on

MAIN = tuple(column for column in COLUMNS if not column.detail)
DETAIL = tuple(column for column in COLUMNS if column.detail)

# What a table of eight columns shows, the most telling first.
FIRST = (
    "unit", "solved", "share", "sequences", "test", "marks", "las", "perplexity", "letters", "around", "pieces", "verdict",
    "reference", "reference_sequence", "n", "recurrent", "valid", "train", "rate", "seconds",
)  # fmt: skip


def narrow(rows: Sequence[Row], most: int = 8) -> list[Column]:
    """The columns that have a value in any of these rows, as many as a page of GitHub shows without scrolling."""
    told = {column.name for column in filled(MAIN, rows)} | {"unit", "test"}
    kept = [name for name in FIRST if name in told][:most]
    return [column for column in MAIN if column.name in kept]


def filled(columns: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    """The columns that say something of any of these rows: a count of none for all of them does not."""
    return [column for column in columns if any(column.value(row) not in (None, 0) for row in rows)]
