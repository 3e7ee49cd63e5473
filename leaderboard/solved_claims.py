"""What papers found with tasks that can be solved, and whether it was found here. Typed by hand.

A finding is of a unit that solves a task where another one does not; it is judged by Fisher's exact test of the two
counts of runs, and by nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from seqbench.leaderboard.rows import Table
from seqbench.leaderboard.statistics import LEVEL
from seqbench.solving import Solved, span

HALF = 50.0  # percent: a unit of which fewer runs solve a task does not solve it


@dataclass(frozen=True)
class SolvedClaim:
    """One finding of a paper.

    Attributes:
        text: the finding, as a sentence.
        source: paper and how well it is known.
        task: the data set.
        unit: solves it.
        baseline: does not.
        least: options of the data, and what they are at least.
    """

    text: str
    source: str
    task: str
    unit: str
    baseline: str
    least: dict[str, int] = field(default_factory=dict)

    def of(self, table: Table) -> bool:
        """Whether the table is of this task."""
        reached = (int(table.options.get(name, 0)) >= value for name, value in self.least.items())
        return table.task.name == self.task and all(reached)

    def outcome(self, table: Table) -> str:
        """The verdict and the counts that it rests on."""
        rows = {row.unit: row.solved for row in reversed(table.ranked)}
        unit, base = rows.get(self.unit), rows.get(self.baseline)
        missing = [name for name in (self.unit, self.baseline) if rows.get(name) is None]
        if unit is None or base is None:
            return table.not_judged(missing)
        told = ", ".join(
            f"{name} {one.solved} of {one.of} ({span(one.share, '%')})"
            for name, one in ((self.unit, unit), (self.baseline, base))
        )
        return f"{verdict(unit, base)}: {told}, p = {fisher(unit, base):.2g}"


def fisher(one: Solved, other: Solved) -> float:
    """p of counts as far apart by chance, on either side."""
    from scipy.stats import fisher_exact

    table = [[count.solved, count.of - count.solved] for count in (one, other)]
    return float(fisher_exact(table).pvalue)


def verdict(unit: Solved, base: Solved) -> str:
    """Held where the unit solves it more often than the baseline by more than chance, and where its interval does not
    say that most of its runs fail; not held where it says so, or where the baseline is ahead by more than chance.
    """
    apart = fisher(unit, base) < LEVEL
    ahead = unit.solved * base.of > base.solved * unit.of
    if unit.share[1] < HALF or (apart and not ahead):
        return "not held"
    return "held" if apart else "undecided"


LSTM, GERS = "Hochreiter & Schmidhuber 1997, recalled", "Gers et al. 2000, recalled"
SOLVED_CLAIMS = (
    SolvedClaim(
        "An LSTM bridges 1,000 steps, where a tanh unit does not.", LSTM, "two_sequences", "LSTM1997", "Tanh",
        {"lag": 1000},
    ),
    SolvedClaim(
        "An LSTM learns in which order marks came, a tanh unit does not.", LSTM, "temporal_order", "LSTM1997", "Tanh"
    ),
    SolvedClaim("An LSTM learns to add numbers far apart, a tanh unit does not.", LSTM, "adding", "LSTM1997", "Tanh"),
    SolvedClaim(
        "The forget gate makes tasks without an end learnable, by the gradient of the time.", GERS, "continual_reber",
        "ForgetLSTM(truncated=True)", "LSTM1997(truncated=True)",
    ),
    SolvedClaim(
        "Peepholes measure delays, gates without them do not.", "Gers et al. 2002, recalled", "spike_delays",
        "PeepholeLSTM", "ForgetLSTM",
    ),
)  # fmt: skip
