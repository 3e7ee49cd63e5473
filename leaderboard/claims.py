"""What papers found with a protocol of this suite, to stand beside what came out here. Typed by hand.

A difference is of mean test NLLs, in the table's unit; lower is better, so a positive one means that the unit lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from seqbench.leaderboard.statistics import Estimate


@dataclass(frozen=True)
class Claim:
    """One finding of a paper.

    Attributes:
        text: the finding, as a sentence.
        source: paper and how well it is known.
        baseline: the unit the others are held against.
        units: those that the finding is about.
    """

    text: str
    source: str
    baseline: str
    units: tuple[str, ...]

    def outcome(self, tests: Mapping[str, Estimate]) -> str:
        """The differences to the baseline that came out, e.g. "NFG +0.213 ± 0.020, against V"."""
        missing = [unit for unit in (self.baseline, *self.units) if unit not in tests]
        if missing:
            return f"not run: {', '.join(missing)}"
        base = tests[self.baseline]
        return (
            ", ".join(f"{unit} {_difference(tests[unit], base)}" for unit in self.units) + f", against {self.baseline}"
        )


def _difference(test: Estimate, base: Estimate) -> str:
    """+0.213 ± 0.020; the interval is that of the difference of two independent means, where both have one."""
    difference = f"{test.mean - base.mean:+.3f}"
    if test.interval is None or base.interval is None:
        return difference
    return f"{difference} ± {(test.interval**2 + base.interval**2) ** 0.5:.3f}"


GREFF, LEVY = "Greff et al. 2015, read", "Levy et al. 2018, read"

CLAIMS: dict[str, tuple[Claim, ...]] = {
    "greff2015": (
        Claim("The forget gate and the output activation matter most.", GREFF, "V", ("NFG", "NOAF")),
        Claim("Coupling input and forget gate, or dropping the peepholes, costs nothing.", GREFF, "V", ("CIFG", "NP")),
        Claim(
            "Without input gate, output gate or input activation, music suffers nothing.", GREFF, "V",
            ("NIG", "NOG", "NIAF"),
        ),
        Claim("Full gate recurrence brings nothing.", "Greff et al. 2015, recalled", "V", ("FGR",)),
    ),
    "levy2018": (
        Claim("Without the S-RNN in the memory cell little is lost.", LEVY, "LevyLSTM", ("NoSRNN", "NoSRNNOut")),
        Claim("Gates that see the input alone do nearly as well.", LEVY, "LevyLSTM", ("NoSRNNHidden",)),
        Claim("Without the gates most is lost.", LEVY, "LevyLSTM", ("NoGates",)),
    ),
}  # fmt: skip
