"""Text on the board: perplexity, right guesses, ranks by a count where the task says so, and what verify finds."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from seqbench.leaderboard.checks import problems
from seqbench.leaderboard.summary import sentence
from seqbench.leaderboard.words import facts
from seqbench.record import Count, Record, Score, load, save, score_from_parts

FRAMES = [1000] * 30 + [429]
FLOORS = {"unigram": Score(6.46, 6.46, None), "bigram": Score(5.23, 5.23, None)}


def text_run(factory, cell: str, seed: int, nll: float, right: float, score: str = "") -> Record:
    """A run on words, with so many nats a word and such a share of right guesses, both not alike in all windows."""
    made = factory.make(cell, seed, nll, task="ptb")
    task = dataclasses.replace(
        made.task, input_size=1, target_size=10_000, head="Categorical", unit="nats/word", next_frame=False,
        vocabulary=10_000, carried=True, score=score,
    )  # fmt: skip
    moved = [0.05 * math.sin(n + seed) for n in range(len(FRAMES))]
    nats = [f * (nll + m) for f, m in zip(FRAMES, moved, strict=True)]
    counts = {"guesses": Count([round(f * (right - m / 10)) for f, m in zip(FRAMES, moved, strict=True)], FRAMES)}
    test = score_from_parts(nats, FRAMES, None, counts)
    plain = Score(made.valid.nll, made.valid.nll_sequence, None)
    return dataclasses.replace(made, task=task, test=test, train=plain, valid=plain, floors=FLOORS)


def test_a_table_of_text_has_perplexity_for_units_floors_and_papers(factory):
    (table,) = factory.board_of(text_run(factory, "LevyLSTM", 0, 4.75, 0.25)).tables
    shown = {row.name: factory.cells(row)["perplexity"] for row in table.rows if row.kind != "published"}
    test = next(row for row in table.units).test
    assert shown == {"LevyLSTM": f"{math.exp(test.mean):.2f}", "unigram": "639.06", "bigram": "186.79"}
    published = {factory.cells(row)["perplexity"] for row in table.rows if row.kind == "published"}
    assert {"114.50", "83.90", "140.90"} <= published
    assert float(factory.cells(table.units[0])["right"]) == pytest.approx(25, abs=0.1)
    assert "ids below 10,000" in facts(table)
    assert "states carried" in facts(table)


def test_characters_have_bits(factory):
    run = text_run(factory, "LevyLSTM", 0, math.log(2) * 1.5, 0.7)
    run = dataclasses.replace(run, task=dataclasses.replace(run.task, unit="nats/character", target_size=50))
    (table,) = factory.board_of(run).tables
    assert float(factory.cells(table.units[0])["bits_character"]) == pytest.approx(1.5, abs=0.03)


def test_music_has_neither(factory):
    (table,) = factory.board_of(factory.make("GRU")).tables
    for row in table.rows:
        shown = factory.cells(row)
        assert {shown["perplexity"], shown["bits_character"], shown["right"]} <= {"", "–"}


@pytest.mark.parametrize("ahead", [False, True])
def test_the_board_says_where_a_task_may_look_ahead(factory, ahead):
    run = factory.make("GRU")
    (table,) = factory.board_of(dataclasses.replace(run, task=dataclasses.replace(run.task, looks_ahead=ahead))).tables
    assert ("read before anything of it is guessed" in facts(table)) == ahead


@pytest.mark.parametrize(("score", "first"), [("", "GRU"), ("guesses", "LSTM")])
def test_units_are_ranked_by_the_tasks_own_score(factory, score, first):
    """The GRU has fewer nats, the LSTM more right guesses."""
    runs = [text_run(factory, "GRU", seed, 4.7, 0.22, score) for seed in (0, 1, 2)]
    runs += [text_run(factory, "LSTM", seed, 4.9, 0.26, score) for seed in (0, 1, 2)]
    (table,) = factory.board_of(*runs).tables
    assert {row.name: row.letters for row in table.units} == {first: "a", ({"GRU", "LSTM"} - {first}).pop(): "b"}
    assert next(row.name for row in table.units) == first
    (comparison,) = table.comparisons
    assert comparison.difference == pytest.approx(-4.0 if score else -0.2, abs=0.02)
    assert comparison.significant
    assert ("higher is better" in facts(table)) == bool(score)


def test_parsers_are_ranked_by_las_beside_floors_and_papers(factory):
    """The GRU has fewer nats, the LSTM more labelled arcs; a paper's LAS is no NLL."""

    def parsed(cell: str, seed: int, nll: float, right: float) -> Record:
        made = text_run(factory, cell, seed, nll, right)
        share = made.test.counts["guesses"]
        counts = {"labelled": share, "arcs": Count(share.of, share.of)}
        task = dataclasses.replace(
            made.task, name="ewt", input_size=2, target_size=47, head="Biaffine", carried=False, score="labelled",
            looks_ahead=True,
        )  # fmt: skip
        floors = {"parts of speech": Score(1.71, 1.35, None, right=56.22)}
        return dataclasses.replace(made, task=task, test=dataclasses.replace(made.test, counts=counts), floors=floors)

    runs = [parsed(*of) for seed in (0, 1, 2) for of in (("GRU", seed, 0.6, 0.78), ("LSTM", seed, 0.7, 0.82))]
    (table,) = factory.board_of(*runs).tables
    shown = {row.name: factory.cells(row) for row in table.rows}
    assert [row.name for row in table.rows][-3:] == ["LSTM", "GRU", "parts of speech"]
    assert shown["NoSRNN"]["las"] == "88.49"
    assert shown["NoSRNN"]["test"] == ""
    assert shown["parts of speech"]["las"] == "56.22"
    assert shown["LSTM"]["las"].startswith("82.0")
    assert shown["LSTM"]["uas"].startswith("100.00")
    assert {row.name: row.letters for row in table.units} == {"LSTM": "a", "GRU": "b"}
    assert re.search(r"LSTM is ahead at a LAS of 82\.0\d% \(.*LAS lost\); behind it GRU \(\+4\.0", sentence([table]))


def test_a_record_with_counts_is_read_as_it_was_written(factory, tmp_path):
    run = text_run(factory, "GRU", 0, 4.7, 0.22)
    save(run, tmp_path / "record.json")
    assert load(tmp_path / "record.json") == run


@pytest.mark.parametrize(
    ("right", "of"),
    [([1001, *FRAMES[1:]], FRAMES), ([-1, *FRAMES[1:]], FRAMES), (FRAMES[1:], FRAMES[1:]), ([0] * 31, [0] * 31),
     (FRAMES, [1001, *FRAMES[1:]])],
)  # fmt: skip
def test_counts_that_cannot_be_are_found(factory, right, of):
    run = text_run(factory, "GRU", 0, 4.7, 0.22)
    assert not [field for field, _ in problems(run, ()) if field.startswith("test")]
    wrong = dataclasses.replace(run, test=dataclasses.replace(run.test, counts={"guesses": Count(right, of)}))
    assert [field for field, _ in problems(wrong, ()) if field.startswith("test")] == ["test.counts.guesses"]


@pytest.mark.parametrize("nll", [2.0, 9.3])
def test_an_implausible_perplexity_is_found(factory, nll):
    """Better than half of the bigram's nats, or worse than one in 10,000."""
    assert "test.nll" in [field for field, _ in problems(text_run(factory, "GRU", 0, nll, 0.22), ())]
