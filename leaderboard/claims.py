"""What papers found with a protocol of this suite, and whether it was found here. Typed by hand.

A finding is judged by the comparison that the matrix of the table shows, with its simultaneous interval, and by nothing
else: a unit less its baseline, in the table's unit; lower is better, so a positive difference means that the unit lost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from seqbench.leaderboard.rows import Row, Table
from seqbench.leaderboard.solved_claims import SOLVED_CLAIMS, SolvedClaim
from seqbench.leaderboard.statistics import Comparison

Verdict = Literal["held", "not held", "undecided"]
LITTLE = 0.01  # of the baseline's NLL, or its share of wrong guesses: a smaller loss is "nothing"


@dataclass(frozen=True)
class Claim:
    """One finding of a paper.

    Attributes:
        text: the finding, as a sentence.
        source: paper and how well it is known.
        baseline: the unit the others are held against.
        units: those that the finding is about, each of them.
        expects: what they are said to be beside the baseline.
        but: data sets on which the paper's own figures say otherwise, or nothing.
    """

    text: str
    source: str
    baseline: str
    units: tuple[str, ...]
    expects: Literal["better", "worse", "no better", "no worse"]
    but: tuple[str, ...] = ()

    def outcome(self, table: Table) -> str:
        """The verdict and the differences that it rests on, e.g. "held: NFG +0.213 ± 0.020 (n = 5), against V"."""
        rows = {row.unit: row for row in reversed(table.ranked)}
        missing = [unit for unit in (self.baseline, *self.units) if unit not in rows]
        if missing:
            return table.not_judged(missing)
        base = rows[self.baseline]
        found = [(unit, table.against(rows[unit], base)) for unit in self.units]
        verdicts = {self.judge(comparison, base) for _, comparison in found if comparison is not None}
        whole = "not held" if "not held" in verdicts else "undecided" if "undecided" in verdicts else "held"
        told = ", ".join(f"{unit} {_told(comparison)}" for unit, comparison in found if comparison is not None)
        return f"{whole}: {told}, against {self.baseline}"

    def judge(self, comparison: Comparison, base: Row) -> Verdict:
        """Of one unit, by the simultaneous interval of its difference to the baseline.

        Better or worse: held where 0 is left out on that side, not held where all of the interval is below LITTLE of
        the baseline's score on it. No better or no worse: the same two bounds the other way round.
        """
        if comparison.interval is None or base.own is None:
            return "undecided"
        sign = 1 if self.expects in ("worse", "no worse") else -1
        low, high = (sign * comparison.difference + side * comparison.interval for side in (-1, 1))
        there, little = low > 0, high < LITTLE * abs(base.own.mean)
        if self.expects.startswith("no "):
            return "held" if little else "not held" if there else "undecided"
        return "held" if there else "not held" if little else "undecided"


def _told(comparison: Comparison) -> str:
    """+0.213 ± 0.020 (n = 5)"""
    interval = "" if comparison.interval is None else f" ± {comparison.interval:.3f}"
    return f"{comparison.difference:+.3f}{interval} (n = {comparison.n})"


CHUNG, GREFF, LEVY = "Chung et al. 2014, recalled", "Greff et al. 2015, read", "Levy et al. 2018, read"
FENG = "Feng et al. 2024, recalled"
BASELINES = {  # of the forest plots
    "greff2015": "V", "levy2018": "LevyLSTM", "zaremba2014_small": "LevyLSTM", "dozat2017_small": "LevyLSTM",
}  # fmt: skip
BASELINE = "Tanh"  # of all other protocols

PARTS_OF_LEVY = (
    Claim(
        "Without the S-RNN in the memory cell little is lost.", LEVY, "LevyLSTM", ("NoSRNN", "NoSRNNOut"),
        "no worse",
    ),
    Claim(
        "Gates that see the input alone do nearly as well.", "Levy et al. 2018, recalled", "LevyLSTM",
        ("NoSRNNHidden",), "no worse", but=("ewt",),  # of the parser no figure of that unit is known
    ),
)  # fmt: skip
GATES_OF_LEVY = Claim("Without the gates most is lost.", LEVY, "LevyLSTM", ("NoGates",), "worse")
OF_LEVY = (*PARTS_OF_LEVY, GATES_OF_LEVY)
OF_GREFF = (
    Claim("The forget gate and the output activation matter most.", GREFF, "V", ("NFG", "NOAF"), "worse"),
    Claim(
        "Coupling input and forget gate, or dropping the peepholes, costs nothing.", GREFF, "V", ("CIFG", "NP"),
        "no worse",
    ),
    Claim(
        "Without input gate, output gate or input activation, music suffers nothing.", GREFF, "V",
        ("NIG", "NOG", "NIAF"), "no worse",
    ),
    Claim("Full gate recurrence brings nothing.", "Greff et al. 2015, recalled", "V", ("FGR",), "no better"),
)  # fmt: skip
CLAIMS: dict[str, tuple[Claim, ...]] = {
    "chung2014": (
        Claim("The GRU does better than the tanh unit.", CHUNG, "Tanh", ("GRU",), "better", but=("nottingham",)),
        Claim("The GRU does no worse than the LSTM on music.", CHUNG, "LSTM", ("GRU",), "no worse"),
        Claim(
            "A forget gate improves on the cell of 1997.", "Gers et al. 2000, recalled", "LSTM1997",
            ("ForgetLSTM", "PeepholeLSTM"), "better",
        ),
        Claim("Gates that see the input alone do for a GRU.", FENG, "GRU", ("MinGRU",), "no worse"),
        Claim("Gates that see the input alone do for an LSTM.", FENG, "LSTM", ("MinLSTM",), "no worse"),
        *PARTS_OF_LEVY,
        replace(GATES_OF_LEVY, units=("Tanh",)),  # NoGates by its other name, under which it has its row
        *OF_GREFF,
    ),
    "chung2014_speech": (
        Claim("Gated units do far better than the tanh unit on speech.", CHUNG, "Tanh", ("GRU", "LSTM"), "better"),
    ),
    "greff2015": OF_GREFF,
    **dict.fromkeys(("levy2018", "zaremba2014_small", "dozat2017_small"), OF_LEVY),
}  # fmt: skip
UNPUBLISHED = frozenset(("greff2015", "levy2018"))  # protocols under which the figures of published.py were not made


def outcomes(table: Table) -> list[tuple[Claim | SolvedClaim, str]]:
    """The claims of the table's protocol, or of its task, whose baseline and any of whose units were run; verdicts."""
    units = {row.unit for row in table.units}
    known = (claim for claim in CLAIMS.get(table.protocol, ()) if table.task.name not in claim.but)
    claims: list[Claim | SolvedClaim] = [claim for claim in known if units & {*claim.units}]
    claims += [claim for claim in SOLVED_CLAIMS if claim.of(table)]
    return [(claim, claim.outcome(table)) for claim in claims if claim.baseline in units]
