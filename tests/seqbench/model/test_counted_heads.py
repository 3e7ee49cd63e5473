"""Grammars and numbers: their likelihoods by torch.distributions, and which guesses count as right."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch.distributions import Categorical, Normal

from seqbench.model.heads import head_for
from seqbench.task import Task

T, R, B = 4, 2, 3


def through(head, out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Which guesses are right, from outputs in place of hidden states."""
    w = SimpleNamespace(V=torch.eye(head.outputs).expand(R, -1, -1), c=torch.zeros(R, 1, head.outputs))
    ((right, counted),) = head.guesses(out, w, y)
    assert counted.all()
    return right


def test_a_grammar_is_scored_by_the_symbol_that_came_and_guessed_by_all_that_could():
    head = head_for(Task("made up", 5, 5, "Grammar", "nats/target", ""))
    out = torch.randn(T, R, B, 5, generator=torch.Generator().manual_seed(0))
    ids = torch.randint(5, (T, 1, B), generator=torch.Generator().manual_seed(1))
    others = torch.randint(5, (T, 1, B), generator=torch.Generator().manual_seed(2))
    y = torch.stack([ids, (1 << ids) | (1 << others)], -1).float()
    expected = -Categorical(logits=out.double()).log_prob(ids.expand(T, R, B))
    torch.testing.assert_close(head.nats(out, y).double(), expected, rtol=1e-5, atol=1e-5)
    right = through(head, out, y)
    for place in torch.cartesian_prod(*map(torch.arange, (T, R, B))).tolist():
        t, r, b = place
        legal = {int(ids[t, 0, b]), int(others[t, 0, b])}
        assert bool(right[t, r, b]) == (set(out[t, r, b].topk(len(legal)).indices.tolist()) == legal)
    assert right.any()
    assert not right.all()


def test_a_certain_guess_gives_the_right_class_three_quarters():
    head = head_for(Task("made up", 2, 2, "Certain", "nats/target", ""))
    odds = torch.tensor([2.9, 3.1, 100.0, 1 / 3.1])  # of class 0 against class 1
    out = torch.stack([odds.log(), torch.zeros(4)], -1)[:, None, None].expand(T, R, B, 2)
    zeros = torch.zeros(T, 1, B, 1)
    assert through(head, out, zeros)[:, 0, 0].tolist() == [False, True, True, False]
    assert through(head, out, zeros + 1)[:, 1, 2].tolist() == [False, False, False, True]


def test_numbers_are_gaussians_of_deviation_004_and_right_within_it():
    head = head_for(Task("made up", 2, 2, "Gaussian", "nats/target", ""))
    y = torch.rand(T, 1, B, 2, generator=torch.Generator().manual_seed(0))
    off = torch.tensor([0.0, 0.039, -0.039, 0.041])[:, None, None, None].expand(T, R, B, 2)
    expected = -Normal(y.double() + off, 0.04).log_prob(y.double()).sum(-1)
    torch.testing.assert_close(head.nats(y + off, y).double(), expected, rtol=1e-4, atol=1e-4)
    assert through(head, y + off, y)[:3].all()
    assert not through(head, y + off, y)[3].any()
    one_off = y + off * torch.tensor([0.0, 1.0])
    assert not through(head, one_off, y)[3].any()
