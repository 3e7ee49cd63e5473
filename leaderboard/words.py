"""What the board says beside its numbers, the same in Markdown and on the page."""

from __future__ import annotations

from seqbench.leaderboard.claims import CLAIMS, Claim
from seqbench.leaderboard.rows import Row, Table, clean
from seqbench.leaderboard.statistics import LEVEL, Comparison

WHAT = (
    "Recurrent units compared at matched size, on one protocol per data set. "
    "Every number of a unit is computed from its run records."
)
CONVENTION = (
    "NLL is the negative log-likelihood of the test split: total nats (natural logarithm) over all frames scored; "
    "a first frame that nothing precedes is not scored. Lower is better. Train, validation and test NLL are of the "
    "same weights, those of the best epoch by validation, without weight noise. "
    "± is half the 95% t-interval of the mean over seeds."
)
ORDER = (
    "Rows are ordered by test NLL. A unit's rank is one more than the number of units that are better by more than "
    "chance; those that cannot be told apart share it. Only complete units run here are ranked: with all rates that "
    "others of the table got, and all seeds at their own best rate, none of them lost. The best rate is that with the "
    "lowest mean validation NLL of those with the most seeds; a run that diverged counts with the weights of its best "
    "epoch before, as early stopping has it, and is marked. Floors need no model; published rows come from "
    "papers, under conventions of their own."
)


def facts(table: Table) -> str:
    """One line about the data set."""
    task = table.task
    shape = f"{task.input_size} inputs, {task.target_size} targets"
    if task.vocabulary:
        shape = f"ids below {task.vocabulary:,} by an embedding, {task.target_size:,} classes"
    carried = ", states carried from batch to batch" if task.carried else ""
    return clean(f"{shape}, {task.head}{carried}, NLL in {task.unit}, data digest {task.digest[:12]}")


def effort(table: Table) -> str:
    """One line about what was trained for each unit."""
    incomplete = [row.name for row in table.units if row.rank is None]
    told = f"Trained for each unit: {table.search}."
    return told + (f" Incomplete, so not ranked: {', '.join(incomplete)}." if incomplete else "")


def sources(table: Table) -> list[tuple[str, str, str]]:
    """Source, link and convention of the published rows, each once."""
    found = {}
    for row in table.rows:
        if row.published is not None:
            found[f"{row.published.source} ({row.published.known})", row.published.link, row.published.convention] = 0
    return sorted(found)


def outcomes(table: Table) -> list[tuple[Claim, str]]:
    """Each claim of the table's protocol with the differences that came out; those whose units are missing say so."""
    tests = {row.unit: row.test for row in table.units if row.test is not None}
    return [(claim, claim.outcome(tests)) for claim in CLAIMS.get(table.protocol, ())]


def verdict(table: Table) -> str:
    """Which test says who beats whom, and how many pairs it told apart."""
    apart = sum(c.significant for c in table.comparisons)
    pairs = len(table.comparisons)
    over = "over test sequences and seeds (Behrens-Fisher)"
    if len(table.search.seeds) == 1:
        over = "over test sequences alone: one seed says nothing about others"
    return (
        f"{apart} of {pairs} pair{'s' * (pairs > 1)} of units told apart: paired test {over}, p < {LEVEL} after Holm's "
        f"correction for {pairs} comparison{'s' * (pairs > 1)}."
    )


def against(table: Table, row: Row, other: Row) -> Comparison | None:
    """Two ranked units, the first held against the second; None for a unit and itself."""
    one, two = table.ranked.index(row), table.ranked.index(other)
    found = table.pairs.get((min(one, two), max(one, two)))
    if found is None or one < two:
        return found
    return Comparison(one, two, -found.difference, found.p, found.holm)


def told(comparison: Comparison | None) -> str:
    """−0.123 where the first is better by more than chance, +0.123 where it is worse, ≈ where nothing can be said."""
    if comparison is None:
        return ""
    return f"{comparison.difference:+.3f}".replace("-", "−") if comparison.significant else "≈"
