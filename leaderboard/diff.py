"""`seqbench leaderboard diff A B`: what the records of B add to, and change on, the board of A."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seqbench.leaderboard.board import assemble
from seqbench.leaderboard.build import read
from seqbench.leaderboard.rows import Board, Row
from seqbench.record import family_id


@dataclass(frozen=True)
class State:
    """What a board says of a unit.

    Attributes:
        table: the heading of its table.
        unit: its name.
        nll: mean test NLL; None where no run counts.
        runs: how many count.
        letters: of its groups; None where it is incomplete.
        rate: the best.
    """

    table: str
    unit: str
    nll: float | None
    runs: int
    letters: str | None
    rate: float


@dataclass(frozen=True)
class Change:
    """A row that is new (nothing before), gone (nothing after) or changed."""

    before: State | None
    after: State | None

    def __str__(self) -> str:
        state = self.after or self.before
        assert state is not None
        what = "gone" if self.after is None else "new" if self.before is None else "changed"
        parts = [
            self._part("test NLL", lambda s: "none" if s.nll is None else f"{s.nll:.4f}"),
            self._part("runs", lambda s: str(s.runs)),
            self._part("group", lambda s: s.letters or "none"),
            self._part("best rate", lambda s: f"{s.rate:.4g}"),
        ]
        return f"{what}: {state.unit} of {state.table}: {', '.join(parts)}"

    def _part(self, label: str, form: Callable[[State], str]) -> str:
        texts = [form(state) for state in (self.before, self.after) if state is not None]
        return f"{label} {' -> '.join(dict.fromkeys(texts))}"


def diff(a: Path, b: Path) -> list[Change]:
    """What changes when the records of B are added to those of A.

    Raises:
        SeqbenchError: one of them has no records, or cannot be read; a run is in both, and differs.
    """
    first = read(a)
    return changes(assemble(first), assemble([*first, *((f"{b}/{name}", record) for name, record in read(b))]))


def changes(before: Board, after: Board) -> list[Change]:
    """Rows that are new or changed, in the order of tables, then those that are gone."""
    old, new = _states(before), _states(after)
    found = [Change(old.get(key), state) for key, state in new.items() if old.get(key) != state]
    return found + [Change(state, None) for key, state in old.items() if key not in new]


def _states(board: Board) -> dict[str, State]:
    return {family_id(row.runs[0]): _state(table.heading, row) for table in board.tables for row in table.units}


def _state(table: str, row: Row) -> State:
    nll = None if row.test is None else row.test.mean
    return State(table, row.name, nll, len(row.counted), row.letters, row.runs[0].rate)
