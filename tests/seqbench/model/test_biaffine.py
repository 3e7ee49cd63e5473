"""The parser's head: its nats by the paper's equations in float64, what its guesses are, and padding and replicas."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from seqbench.model.affine import project
from seqbench.model.heads import head_for
from seqbench.task import Task

T, R, B, H, K = 9, 2, 4, 7, 5
STEPS = torch.tensor([[9, 5, 1, 0], [3, 8, 7, 2]])  # of each replica's sequences; 0: an empty slot
HEAD = head_for(Task("made up", 2, K, "Biaffine", "nats/word", ""))


def made(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, SimpleNamespace, torch.Tensor]:
    """Hidden states, weights and targets, all of them not zero."""
    g = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.randn(R, *weight.shape, generator=g, dtype=torch.float64).to(dtype) * 0.3
        for name, weight in HEAD.weights(H).items()
    }
    h = torch.randn(T, R, B, H, generator=g, dtype=torch.float64).to(dtype)
    y = torch.stack([torch.randint(n, (T, R, B), generator=g) for n in (100, K, 4)], -1)
    y[..., 0] %= STEPS.clamp_min(1)
    return h, SimpleNamespace(**weights), y


def by_equations(h, w, k: int, b: int) -> tuple[torch.Tensor, torch.Tensor]:
    """ln p(j | i) [n, n] and ln p(relation | i, j) [n, n, K] of a sentence, one number after the other."""
    n, A, L = int(STEPS[k, b]), HEAD.ARC, HEAD.RELATION
    out = h[:n, k, b] @ w.V[k] + w.c[k, 0]
    out = torch.where(out > 0, out, 0.1 * out)
    d, e, r, s = out[:, :A], out[:, A : 2 * A], out[:, 2 * A : 2 * A + L], out[:, 2 * A + L :]
    U, u = w.arc[k, :A], w.arc[k, A]
    arcs = torch.stack([torch.stack([d[i] @ U @ e[j] + u @ e[j] for j in range(n)]) for i in range(n)])
    blocks = w.relation[k].view(L + 1, K, L + 1).transpose(0, 1)
    one = torch.ones(1, dtype=h.dtype)
    of = [
        torch.stack([torch.cat([r[i], one]) @ block @ torch.cat([s[j], one]) for block in blocks])
        for i, j in itertools.product(range(n), repeat=2)
    ]
    return arcs.log_softmax(-1), torch.stack(of).view(n, n, K).log_softmax(-1)


@pytest.mark.parametrize(("dtype", "compiled", "within"), [(torch.float64, False, 1e-9), (torch.float32, True, 1e-4)])
def test_nats_and_guesses_are_those_of_the_equations(dtype, compiled, within):
    h, w, y = made(dtype=dtype)
    nats = HEAD.nats_of(h, w, y, STEPS, compiled)
    counted = dict(zip(HEAD.counts, HEAD.guesses(h, w, y, STEPS), strict=True))
    means = HEAD.mean_of(h, w, STEPS, compiled)
    assert nats.isfinite().all()
    for k, b in itertools.product(range(R), range(B)):
        n = int(STEPS[k, b])
        if not n:
            continue
        arcs, relations = by_equations(h, w, k, b)
        for i in range(n):
            head, relation, bits = y[i, k, b].tolist()
            wanted = -(arcs[i, head] + relations[i, head, relation])
            torch.testing.assert_close(nats[i, k, b], wanted, rtol=within, atol=within)
            guess = int(arcs[i].argmax())
            label = int(relations[i, guess].argmax())
            assert means[i, k, b].tolist() == [guess, label]
            for name, (right, of) in counted.items():
                labelled = "labelled" in name
                assert bool(right[i, k, b]) == (guess == head and (not labelled or label == relation)), name
                left_out = {"all": 0, "no PUNCT": 2}.get(name.partition(", ")[2], 1)
                assert bool(of[i, k, b]) == (not bits & left_out), name


def test_what_lies_behind_a_sentence_changes_nothing():
    h, w, y = made()
    wanted = HEAD.nats_of(h, w, y, STEPS)
    present = torch.arange(T)[:, None, None] < STEPS
    other = torch.where(present[..., None], h, 100.0)
    found = HEAD.nats_of(other, w, y, STEPS)
    assert torch.equal(found[present], wanted[present])
    assert (HEAD.mean_of(other, w, STEPS)[..., 0] < STEPS.clamp_min(1)).all()
    shorter = HEAD.nats_of(h[:5, :1, 1:2], SimpleNamespace(**{n: v[:1] for n, v in vars(w).items()}), y[:5, :1, 1:2])
    torch.testing.assert_close(shorter[:, 0, 0], wanted[:5, 0, 1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_replica_is_scored_as_alone_to_the_bit(compiled):
    """Though the other one's sentences are longer; gradients too."""
    h, w, y = made(dtype=torch.float32)
    present = torch.arange(T)[:, None, None] < STEPS
    h.requires_grad_()
    for weight in vars(w).values():
        weight.requires_grad_()
    nats = HEAD.nats_of(h, w, y, STEPS, compiled).where(present, 0.0)
    together = torch.autograd.grad(nats.sum(), [h, *vars(w).values()])
    alone = SimpleNamespace(**{name: weight[1:] for name, weight in vars(w).items()})
    solo = HEAD.nats_of(h[:8, 1:], alone, y[:8, 1:], STEPS[1:], compiled).where(present[:8, 1:], 0.0)
    assert torch.equal(solo[:, 0], nats[:8, 1])
    gradients = torch.autograd.grad(solo.sum(), [h, *vars(w).values()])
    assert torch.equal(gradients[0][:8, 1], together[0][:8, 1])
    for one, both in zip(gradients[1:], together[1:], strict=True):
        assert torch.equal(one[1], both[1])


def test_half_precision_is_widened_before_the_scores():
    h, w, y = made(dtype=torch.bfloat16)
    nats = HEAD.nats_of(h, w, y, STEPS)
    wide = SimpleNamespace(**{name: weight.float() for name, weight in vars(w).items()})
    wide.V, wide.c = torch.eye(HEAD.outputs).expand(R, -1, -1), torch.zeros(R, 1, HEAD.outputs)
    assert nats.dtype == torch.float32
    torch.testing.assert_close(nats, HEAD.nats_of(project(h, w.V, w.c).float(), wide, y, STEPS), rtol=1e-5, atol=1e-5)


def test_first_nats_are_those_of_one_who_knows_nothing_about_relations():
    """L begins with zeros: ln K of a relation whatever the words are."""
    h, w, y = made()
    w.relation.zero_()
    w.arc.zero_()
    nats = HEAD.nats_of(h, w, y, STEPS)
    present = torch.arange(T)[:, None, None] < STEPS
    wanted = (math.log(K) + STEPS.clamp_min(1).double().log()).expand(T, R, B)
    torch.testing.assert_close(nats[present], wanted[present])
    assert HEAD.weights(H)["relation"].init == "zeros"
