"""What the board says beside its numbers, the same in Markdown and on the page."""

from __future__ import annotations

from collections.abc import Container

from seqbench.leaderboard.claims import LITTLE
from seqbench.leaderboard.curves import MOST_CURVES
from seqbench.leaderboard.drawings import MOST_TOGETHER, baseline
from seqbench.leaderboard.rows import Table, clean, many, score_name
from seqbench.leaderboard.statistics import LEVEL, Comparison
from seqbench.record import most_sequences

MOST_NAMED = 12  # incomplete units
MOST_PAIRED = 20  # units in the page's matrix

WHAT = (
    "Recurrent units compared by one protocol a table: on music and speech at matched parameter counts and by the same "
    "search, on text and long lags at one hidden size. Every number of a unit is computed from its run records."
)
CONVENTION = (
    "NLL is the negative log-likelihood of the test split: total nats (natural logarithm) over all frames scored; "
    "a first frame that nothing precedes is not scored. Lower is better. Train, validation and test NLL are of the "
    "same weights, those of the best epoch by validation, without weight noise. "
    "± is half the 95% t-interval of the mean over seeds, on these test sequences."
)
ORDER = (
    "Rows are ordered by test NLL, unless a table says otherwise. Units that share a letter cannot be told apart by "
    "more than chance, in seeds and in test sequences; with one seed, in test sequences alone. Only complete units "
    "run here have letters: with all rates and seeds that the table's plan has, none of them lost. The best rate is "
    "that with the lowest mean validation NLL of those with the most seeds, of long lags first that with most runs "
    "that solve the validation split; a run that diverged counts with the weights of its best epoch before, as early "
    "stopping has it, and is marked. Floors need no model; published rows come from papers, under conventions of their "
    "own."
)
FLAWS = {  # of the sets themselves, as counted over their files
    "jsb": "Of the 77 test chorales 41 share sixteen steps of the melody, in whatever key, with a training chorale; "
    "they cost 0.2 to 0.4 nats/frame less, by the unit.",
    "nottingham": "One test tune is in the training set too.",
}
COUNTED = (
    "Held where Fisher's exact test tells the two counts of runs apart, not held where most runs of the unit fail for "
    "certain or the other one is ahead, undecided otherwise. Behind each count the exact 95% interval of its share "
    "(Clopper and Pearson)."
)


def judged(table: Table) -> str:
    """How the table's findings are judged."""
    if table.task.solved:
        return COUNTED
    measure, of = (f", {table.measure},", "wrong guesses") if table.task.score else ("", "NLL")
    return (
        f"Held, not held or undecided by the comparison of the matrix: the difference{measure} with its simultaneous "
        f"interval; a loss of less than {LITTLE:.0%} of the baseline's {of} is taken for none."
    )


def compared(table: Table) -> str:
    """What the matrix has: Test NLL in nats/frame of the row less that of the column."""
    what = table.measure[0].upper() + table.measure[1:] if table.task.score else f"Test NLL in {table.measure}"
    return f"{what}, of the row less that of the column, where the two are told apart; ≈ where they are not."


def facts(table: Table) -> str:
    """One line about the data set."""
    task = table.task
    shape = f"{many(task.input_size, 'input')}, {many(task.target_size, 'target')}"
    if task.vocabulary:
        shape = f"ids below {task.vocabulary:,} by an embedding, {task.target_size:,} classes"
    carried = ", states carried from window to window, which count as sequences" if task.carried else ""
    ahead = ", all of a sequence read before anything of it is guessed" if task.looks_ahead else ""
    ranked = f"; ordered by {score_name(task)}, higher is better" if task.score else ""
    line = clean(f"{shape}, {task.head}{carried}{ahead}, NLL in {task.unit}, data digest {task.digest[:12]}{ranked}")
    return f"{line}. {FLAWS[task.name]}" if task.name in FLAWS else line


def effort(table: Table) -> str:
    """One line about what was trained for each unit."""
    incomplete = [row.name for row in table.units if not row.complete and not row.diverged]
    beyond = sum(row.complete for row in table.units) - len(table.ranked)
    by = "most runs that solve the validation split, then by the" if table.task.solved else "the"
    chosen = f"; the rate by {by} lowest mean validation NLL over these seeds" if len(table.search.rates) > 1 else ""
    told = f"Trained for each unit: {table.search}{chosen}."
    most = [n for row in table.ranked for run in row.runs if (n := most_sequences(run)) is not None]
    if most and table.task.solved:
        told += (
            f" Each until all of its guesses on the validation split were right, for at most {max(most):,} sequences."
        )
    if incomplete:
        more = f" and {len(incomplete) - MOST_NAMED} more" if len(incomplete) > MOST_NAMED else ""
        told += f" Incomplete, so not compared: {', '.join(incomplete[:MOST_NAMED])}{more}."
    return told + (
        f" Of the complete ones the best {len(table.ranked)} are compared, {beyond} are not." if beyond else ""
    )


def seen(table: Table, figures: Container[str]) -> str:
    """What the table's figures show."""
    seeds = any(len(row.counted) > 1 for row in table.units)
    noise = (
        ", weight noise on"
        if any(run.config["model"].get("noise") for row in table.units for run in row.counted)
        else ""
    )
    told = []
    if seeds:
        bands = "; the bands span all of them" if f"{table.slug}-seconds" in figures else ""
        told.append(f"Mean over the seeds that count, as far as the shortest of their runs{bands}.")
    told.append(
        f"The curves' training NLL is measured while training{noise}, that of the table by the best epoch's weights."
    )
    if f"{table.slug}-rate" in figures:
        means = "means over the seeds" if seeds else "one seed"
        told.append(f"Against the rate: {means}, each at its best epoch; a cross is a rate at which none has one.")
    if seeds and f"{table.slug}-cost" in figures:
        told.append("Bars of dots: 95% intervals over seeds.")
    return " ".join(told)


def drawn(table: Table, most: int = MOST_PAIRED) -> str:
    """Which units the figures leave out, and a matrix of so many."""
    found = []
    if sum(bool(row.counted) for row in table.units) > MOST_TOGETHER and (base := baseline(table)) is not None:
        found.append(f"In grey: {base.name}.")
    if len(table.ranked) > MOST_CURVES:
        found.append(f"Curves and dots are of the best {MOST_CURVES} units.")
    if len(table.ranked) > most:
        found.append(f"The matrix has the best {most}; `seqbench leaderboard build --json` tells all pairs.")
    return " ".join(found)


def sources(table: Table) -> list[tuple[str, str, str]]:
    """Source, link and convention of the published rows, each once."""
    found = {}
    for row in table.rows:
        if row.published is not None:
            found[f"{row.published.source} ({row.published.known})", row.published.link, row.published.convention] = 0
    return sorted(found)


def verdict(table: Table) -> str:
    """Which test says who beats whom, how many pairs it told apart, and what difference it could not have seen."""
    apart = sum(c.significant for c in table.comparisons)
    pairs = len(table.comparisons)
    over = "over test sequences and seeds (Behrens-Fisher)"
    if len(table.search.seeds) == 1:
        over = "over test sequences alone: one seed says nothing about others"
    return (
        f"{apart} of {many(pairs, 'pair')} of units told apart: test {over}, p < {LEVEL} after Bonferroni's "
        f"correction for {many(table.judged, 'comparison')}.{smallest(table)}"
    )


def smallest(table: Table) -> str:
    """The smallest difference that could have been seen: half the simultaneous intervals of the pairs."""
    halves = [c.interval for c in table.comparisons if c.interval is not None]
    if not halves:
        return ""
    low, high = f"{min(halves):.3f}", f"{max(halves):.3f}"
    told = low if low == high else f"{low} to {high}, by the pair,"
    return f" The smallest difference that could have been seen: {told} {table.measure}."


def told(comparison: Comparison | None) -> str:
    """−0.123 where the first is better by more than chance, +0.123 where it is worse, ≈ where nothing can be said."""
    if comparison is None:
        return ""
    return f"{comparison.difference:+.3f}".replace("-", "−") if comparison.significant else "≈"
