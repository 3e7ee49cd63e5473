"""Sequences of unequal length on a CPU: what is left out behind their ends, and that nothing else changes by a bit."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from seqbench.cells import cells, find
from seqbench.datamodules.synthetic import Synthetic
from seqbench.kernels.cpu import output
from seqbench.kernels.cpu.arguments import address, arguments
from seqbench.kernels.cpu.lengths import cut_in_time, longest_first, piece_ends, summed
from seqbench.kernels.sequence import decide
from seqbench.model.heads import Bernoulli, GaussianMixture
from seqbench.model.recurrence import run_layer
from seqbench.train.module import SequenceModel

T, I, H = 300, 5, 7  # more steps than have their derivatives together, whatever the tile
# What is compiled for a CPU; others are scanned, or run in the loop.
CELLS = {name: kind() for name, kind in cells().items() if decide(kind(), 1, torch.empty(1)).name == "numba"}
SIZES = [(1, 1), (3, 1), (1, 3), (3, 3), (1, 17), (3, 17)]  # R, B


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / 2


def lengths(R: int, B: int) -> torch.Tensor:
    """[R, B], 0, 1 and T among them where there is room, 0 for a whole tile where there are two."""
    g = torch.Generator().manual_seed(R + 10 * B)
    steps = torch.randint(2, T, (R, B), generator=g)
    steps.view(-1)[: min(3, R * B)] = torch.tensor([T if R * B > 1 else T - 43, 1, 0])[: min(3, R * B)]
    if B > 16:
        steps[-1, 16:] = 0
    return steps


def present(steps: torch.Tensor) -> torch.Tensor:
    """[T, R, B] bool."""
    return torch.arange(T)[:, None, None] < steps


def run_by_tiles(steps: torch.Tensor) -> torch.Tensor:
    """[R, B]: the steps of each sequence's tile."""
    return torch.cat([part.amax(1, keepdim=True).expand_as(part) for part in steps.split(16, 1)], 1)


def layer_of(cell, R: int, B: int) -> tuple[list[torch.Tensor], list[str]]:
    """x, weights and first state, float32 leaves."""
    w = {name: drawn(R, *weight.shape, seed=1) / 2 for name, weight in cell.layer(I, H).items()}
    state = [0.5 + drawn(R, B, H, seed=2).abs() for _ in range(cell.states)]  # a normaliser is positive
    return [t.requires_grad_() for t in (drawn(T, R, B, I), *w.values(), *state)], list(w)


def outcome(cell, name, leaves, names, steps=None, scored=None):
    """h, last state, and the gradients by all leaves of a sum over the frames that are scored."""
    x, *rest = leaves
    w, state = SimpleNamespace(**dict(zip(names, rest, strict=False))), tuple(rest[len(names) :])
    h, last = run_layer(cell, x, w, decide(cell, H, x, name), state, steps)
    dh = drawn(*h.shape, seed=3).to(h.dtype).where(scored[..., None], 0.0)
    grads = torch.autograd.grad(h, leaves, dh, allow_unused=True)
    return h, last, [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(grads, leaves, strict=True)]


@pytest.mark.parametrize("name", CELLS)
def test_a_layer_gives_the_bits_that_it_gives_without_lengths(name):
    cell = CELLS[name]
    for R, B in SIZES:
        steps = lengths(R, B)
        leaves, names = layer_of(cell, R, B)
        scored, run = present(steps), present(run_by_tiles(steps))
        h, last, grads = outcome(cell, "numba", leaves, names, steps, scored)
        whole, _, expected = outcome(cell, "numba", leaves, names, None, scored)
        assert torch.equal(h[run], whole[run])
        assert not h[~run].any()
        for ours, theirs in zip(grads, expected, strict=True):
            assert torch.equal(ours, theirs)
        assert not grads[0][~scored].any()
        ends = run_by_tiles(steps).sub(1).clamp_min(0)[None, ..., None].expand(1, R, B, H)
        first = leaves[1 + len(names)]
        assert torch.equal(last[0], whole.gather(0, ends)[0].where(run_by_tiles(steps)[..., None] > 0, first))


@pytest.mark.parametrize("name", ["Tanh", "GRU", "LSTM", "FGR", "SLSTM", "MinGRU"])
def test_gradients_are_those_of_the_loop_in_float64(name):
    cell, steps = CELLS[name], lengths(3, 17)
    leaves, names = layer_of(cell, 3, 17)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    _, _, grads = outcome(cell, "numba", leaves, names, steps, present(steps))
    _, _, expected = outcome(cell, "loop", exact, names, None, present(steps))
    for ours, theirs in zip(grads, expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_the_last_state_goes_back_from_each_tiles_own_end():
    """Against each replica alone, cut to its length."""
    cell, steps = CELLS["LSTM"], torch.tensor([[40], [T], [3]])
    (x, *rest), names = layer_of(cell, 3, 1)

    def state_grads(x, rest, steps):
        w, state = SimpleNamespace(**dict(zip(names, rest, strict=False))), tuple(rest[len(names) :])
        _, last = run_layer(cell, x, w, decide(cell, H, x, "numba"), state, steps)
        return [*last, *torch.autograd.grad(last, rest, [torch.ones_like(s) for s in last])]

    group = state_grads(x, rest, steps)
    for r, count in enumerate(steps.flatten().tolist()):
        alone = state_grads(x[:count, r : r + 1].detach(), [t[r : r + 1].detach().requires_grad_() for t in rest], None)
        assert all(torch.equal(a[r : r + 1], b) for a, b in zip(group, alone, strict=True))


def test_no_input_behind_a_tiles_end_is_read():
    steps = torch.tensor([[40], [T], [0]])
    (x, *rest), names = layer_of(CELLS["GRU"], 3, 1)
    spoilt = x.detach().where(present(steps)[..., None], float("nan")).requires_grad_()
    h, last, grads = outcome(CELLS["GRU"], "numba", [spoilt, *rest], names, steps, present(steps))
    assert all(t.isfinite().all() for t in (h, *last, *grads))


@pytest.mark.parametrize("kind", [Bernoulli, GaussianMixture])
@pytest.mark.parametrize("shared", [False, True])
def test_a_head_gives_the_bits_that_it_gives_without_lengths(kind, shared, monkeypatch):
    monkeypatch.setattr(output, "ROWS", 60)  # several pieces of work in time
    K = 4
    head = kind(K)
    for R, B in SIZES:
        steps = lengths(1, B) if shared else lengths(R, B)
        scored, run = present(steps), present(steps.amax(1, keepdim=True).expand_as(steps)).expand(-1, R, -1)
        h, V, c = (
            drawn(*size, seed=seed).requires_grad_()
            for seed, size in enumerate(((T, R, B, H), (R, H, head.outputs), (R, 1, head.outputs)))
        )
        y = drawn(T, 1 if shared else R, B, K) if kind is GaussianMixture else (drawn(T, 1, B, K) > 0).float()
        g = drawn(T, R, B, seed=4).where(scored, 0.0)
        whole = head.nats_of(h, SimpleNamespace(V=V, c=c), y, compiled=True)
        expected = torch.autograd.grad(whole, (h, V, c), g)
        nats = head.nats_of(h, SimpleNamespace(V=V, c=c), y, steps, compiled=True)
        grads = torch.autograd.grad(nats, (h, V, c), g)
        assert torch.equal(nats[run], whole[run])
        assert not nats[~run].any()
        assert all(torch.equal(a, b) for a, b in zip(grads, expected, strict=True))
        assert not grads[0][~scored.expand(-1, R, -1)].any()


@pytest.mark.parametrize("options", [{}, {"layers": 2}, {"layers": 2, "layer_norm": True}], ids=str)
@pytest.mark.parametrize("batch_size", [1, 3, 17])
def test_a_model_gives_the_bits_that_it_gives_without_lengths(options, batch_size):
    data = Synthetic(batch_size, "shuffled", [0, 1, 2], shortest=2, longest_length=90)
    data.setup()
    model = SequenceModel(find("GRU")(), data.task, [0, 1, 2], hidden=H, **options)
    *_, rest = data.train_dataloader()
    for index in (next(iter(data.train_dataloader())), rest, torch.tensor([[3, -1], [-1, -1], [2, 5]])):
        batch = data.gather("train", index)
        found = []
        for one in (batch, dataclasses.replace(batch, steps=None)):
            nats, frames = model.sequence_nats(one)
            found.append((nats, frames, *torch.autograd.grad(nats.sum(), model.rows)))
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_pieces_of_work():
    steps = torch.tensor([[3, 9, 0, 1], [0, 0, 12, 0]])
    assert piece_ends(steps, 9, 2, 4, 2).tolist() == [9, 1, 0, 9]  # no more than there are
    assert piece_ends(steps[:1], 9, 2, 4, 2).tolist() == [9, 1, 9, 1]
    assert piece_ends(steps, 9, 2, 4, 4) is None
    assert piece_ends(None, 9, 2, 4, 2) is None
    with pytest.raises(ValueError, match="shape"):
        piece_ends(steps, 9, 3, 4, 2)
    ends = piece_ends(torch.tensor([[7], [0], [3]]), 9, 3, 1, 1)
    assert longest_first(ends).tolist() == [0, 2, 1]
    about = np.array([8, 1, 9, 0, 7])
    assert longest_first(about).tolist() == [0, 2, 4, 1, 3]
    assert longest_first(about, backward=True).tolist() == [4, 2, 0, 3, 1]
    assert longest_first(np.array([0, 0])).tolist() == [0, 1]
    replica, first, count, counts = cut_in_time((7, 0, 3), 2, 6)
    assert [part.tolist() for part in (replica, first, count)] == [[0, 0, 0, 1, 2], [0, 3, 6, 0, 0], [3, 3, 1, 0, 3]]
    assert counts == (3, 1, 1)


@pytest.mark.parametrize("counts", [(1, 1), (3, 3), (3, 1, 2), (5,)])
def test_pieces_are_summed_in_order(counts):
    parts = drawn(sum(counts), 2, 3)
    expected = []
    for share in parts.split(counts):
        total = share[0].clone()
        for part in share[1:]:
            total += part
        expected.append(total)
    assert torch.equal(summed(counts, parts), torch.stack(expected))


def test_an_argument_too_few_or_too_many_is_refused():
    assert arguments(("a", "b"), 2, b=np.array([3, 4]), a=1).tolist() == [[1, 3], [1, 4]]
    with pytest.raises(TypeError, match=r"missing \['b'\], unknown \['c'\]"):
        arguments(("a", "b"), 1, a=1, c=2)
    with pytest.raises(TypeError, match=r"missing \[\], unknown \['c'\]"):
        arguments(("a", "b"), 1, a=1, b=2, c=2)
    with pytest.raises(TypeError, match=r"float32 on the CPU, not torch\.float64"):
        address(torch.zeros(1, dtype=torch.float64))
