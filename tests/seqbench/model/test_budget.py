"""Sizes from budgets against the counts in the papers."""

import pytest

from seqbench.cells import cells, find
from seqbench.model.budget import count_parameters, hidden_for_budget
from seqbench.model.heads import Bernoulli
from seqbench.task import SeqbenchError


@pytest.mark.parametrize(
    ("name", "hidden", "count"), [("LSTM", 195, 169_065), ("GRU", 227, 168_888), ("Tanh", 400, 168_400)]
)
def test_speech_sizes_of_chung_table_1(name, hidden, count):
    """Their 169.1k, 168.9k and 168.4k, with biases at 20 inputs."""
    cell = find(name)()
    assert hidden_for_budget(cell, 20, Bernoulli(20), 169_000, "recurrent") == hidden
    assert count_parameters(cell, 20, hidden, Bernoulli(20)).recurrent == count


@pytest.mark.parametrize(
    ("name", "hidden", "count"), [("LSTM", 36, 19_764), ("GRU", 46, 20_217), ("Tanh", 100, 20_050)]
)
def test_music_counts_of_chung_table_1(name, hidden, count):
    """Their 19.8k, 20.2k and 20.1k: no biases, input 100.5, the mean of their four column counts."""
    counts = [
        count_parameters(find(name)(bias=False), inputs, hidden, Bernoulli(inputs)).recurrent
        for inputs in (93, 96, 105, 108)
    ]
    assert sum(counts) / 4 == count


@pytest.mark.parametrize(("count", "sizes"), [("recurrent", (39, 48, 104)), ("total", (34, 42, 78))])
def test_sizes_at_20k_and_88_inputs(count, sizes):
    found = tuple(hidden_for_budget(find(n)(), 88, Bernoulli(88), 20_000, count) for n in ("LSTM", "GRU", "Tanh"))
    assert found == sizes


@pytest.mark.parametrize("kind", cells().values(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("budget", [2_000, 20_000, 169_000, 1_000_000])
@pytest.mark.parametrize("count", ["recurrent", "total"])
def test_the_size_is_the_nearest_or_within_half_a_percent(kind, budget, count):
    def parameters(hidden):
        return getattr(count_parameters(kind(), 20, hidden, Bernoulli(20)), count)

    hidden = hidden_for_budget(kind(), 20, Bernoulli(20), budget, count)
    miss = abs(parameters(hidden) - budget)
    nearest = min(abs(parameters(h) - budget) for h in (hidden - 1, hidden, hidden + 1) if h > 0)
    assert miss == nearest or miss <= 0.005 * budget
    assert hidden == 1 or parameters(hidden - 1) < 0.995 * budget


def test_too_small_a_budget_is_refused():
    with pytest.raises(SeqbenchError, match="too small"):
        hidden_for_budget(find("LSTM")(), 88, Bernoulli(88), 100, "recurrent")
