"""The gated memories found in the units' steps, against the units themselves and against equations written out."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from seqbench.cells import Cell, LinearCell, Weight, cells, find
from seqbench.cells.base import between
from seqbench.explain import explain
from seqbench.explain.gated import gated_memory
from seqbench.explain.memory import Memory, held, held_norms
from seqbench.explain.values import run_layers
from seqbench.model.stack import run_stack
from seqbench.task import SeqbenchError, Task
from seqbench.train.module import SequenceModel

T, I, H = 13, 6, 5
TASK = Task("made_up", I, I, "Bernoulli", "nats/frame", "", next_frame=True)
NONE = {"Tanh", "NoGates", "DiagonalRNN", "IndRNN"}  # whose state is a function of all that was
GATES = {
    "GRU": "write keep reset", "GRUResetAfter": "write keep reset", "MinGRU": "write keep", "MinLSTM": "write keep",
    "NIG": "keep read", "NFG": "write read", "NOG": "write keep", "LSTM1997": "write read", "NoSRNNOut": "write keep",
    "LRU": "",
}  # fmt: skip


def model_of(cell, hidden=H, replicas=1, scale=4.0, **options):
    """With weights large enough that gates open and shut."""
    model = SequenceModel(cell, TASK, seed=list(range(replicas)), hidden=hidden, recurrence="loop", **options)
    with torch.no_grad():
        model.rows.mul_(scale)
    return model


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).integers(0, 2, (T, I)).astype(np.float32)


@pytest.mark.parametrize("name", cells())
def test_the_weights_of_every_gated_memory_sum_to_it(name, x):
    """sum_j w_j^t content_j = c_t, to 1e-5; and the norms are those of these weights."""
    found = explain(model_of(cells()[name](), scale=1.0 if name == "LRU" else 4.0), x)
    assert (found.memory is None) == (name in NONE)
    if found.memory is None:
        return
    w = np.stack([found.memory.weights(unit) for unit in range(H)], -1)  # [T, T, H]
    assert np.abs(np.einsum("jth,jh->th", w, found.memory.content) - found.memory.value).max() < 1e-5
    assert np.abs(found.memory.value).max() > 0.1
    assert np.allclose(found.norms, np.linalg.norm(w, axis=-1), atol=1e-6)
    assert list(found.memory.gates) == GATES.get(name, "write keep read").split()
    assert all(gate.shape == (T, H) and (gate >= 0).all() for gate in found.memory.gates.values())


class Detached(Cell):
    """c_t = sigmoid(a) * c_{t-1} + (1 - sigmoid(a)) * tanh(a'), no gradient through c_{t-1}."""

    gates = 2
    paper = "none"

    def weights(self, hidden):
        return {}

    def step(self, a, state, w):
        k, content = a.chunk(2, -1)
        keep = torch.sigmoid(k)
        return (keep * state[0].detach() + (1 - keep) * torch.tanh(content),)


def test_where_no_gradient_goes_the_memory_is_the_same(x):
    """A state that the step detaches, in a product or as the memory itself, is read all the same."""
    whole, cut = (explain(model_of(find("LSTM1997")(truncated=cut)), x) for cut in (False, True))
    for name in ("content", "value"):
        assert np.array_equal(getattr(cut.memory, name), getattr(whole.memory, name))
    assert np.array_equal(cut.norms, whole.norms)
    assert list(explain(model_of(Detached()), x).memory.gates) == ["write", "keep"]


@pytest.mark.parametrize("name", ["LSTM", "LRU"])
def test_what_is_explained_is_what_the_network_computes(name, x):
    """What its head reads, by the model's own way over time: compiled, or the scan; of either replica, two layers."""
    model = SequenceModel(cells()[name](), TASK, seed=[0, 1], hidden=H, layers=2, layer_norm=True)
    frames, w = torch.from_numpy(x), SimpleNamespace(**model.w)
    read, _ = run_stack(model.cell, frames[:, None, None], w, model.decide(), 2, layer_norm=True)
    for replica in (0, 1):
        top = run_layers(model, frames, replica, 1)[0].states[0][1:]
        assert torch.allclose(torch.nn.functional.layer_norm(top, (H,)).float(), read[:, replica, 0], atol=1e-4)
        assert np.allclose(explain(model, x, replica).norms, explain(model, x, replica, layer=1).norms)
        if name == "LSTM":  # an LRU's layers forget alike, as they begin
            assert not np.allclose(explain(model, x, replica).norms, explain(model, x, replica, layer=0).norms)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_lstms_gates_are_those_of_its_equations(x):
    """Graves (2013), gate by gate, in plain numpy."""
    model = model_of(cells()["LSTM"](), scale=6.0)
    w = {name: value[0].detach().double().numpy() for name, value in model.w.items()}
    found = explain(model, x).memory
    h = c = np.zeros(H)
    for t in range(T):
        i, f, n, o = np.split(x[t] @ w["W"] + w["b"][0] + h @ w["U"], 4)
        i, f, n = sigmoid(i + w["p_i"][0] * c), sigmoid(f + w["p_f"][0] * c), np.tanh(n)
        c = f * c + i * n
        o = sigmoid(o + w["p_o"][0] * c)
        h = o * np.tanh(c)
        for name, expected in (("write", i), ("keep", f), ("read", o)):
            assert np.allclose(found.gates[name][t], expected, atol=1e-12), name
        assert np.allclose(found.content[t], n, atol=1e-12)


def test_the_grus_gates_are_those_of_its_equations(x):
    """Cho et al. (2014)."""
    model = model_of(cells()["GRU"](), scale=6.0)
    w = {name: value[0].detach().double().numpy() for name, value in model.w.items()}
    found = explain(model, x).memory
    h = np.zeros(H)
    for t in range(T):
        a_z, a_r, a_n = np.split(x[t] @ w["W"] + w["b"][0], 3)
        u_z, u_r = np.split(h @ w["U_zr"], 2)
        z, r = sigmoid(a_z + u_z), sigmoid(a_r + u_r)
        n = np.tanh(a_n + (r * h) @ w["U_n"])
        h = (1 - z) * h + z * n
        for name, expected in (("write", z), ("keep", 1 - z), ("reset", r)):
            assert np.allclose(found.gates[name][t], expected, atol=1e-12), name
        assert np.allclose(found.content[t], n, atol=1e-12)


def test_an_lstm_made_to_remember_exactly_eight_frames_shows_exactly_that_band():
    """Inputs tell the time modulo 8. At its own time a unit overwrites its memory, at all others it keeps it."""
    steps, hidden, open_ = 40, 8, 60.0
    task = Task("clock", 8, 8, "Bernoulli", "nats/frame", "", next_frame=True)
    model = SequenceModel(cells()["LSTM"](peepholes=False), task, hidden=hidden, recurrence="loop")
    with torch.no_grad():
        model.rows.zero_()
        i, f, n, o = model.w["W"][0].split(hidden, 1)
        i.copy_(open_ * (2 * torch.eye(8) - 1))
        f.copy_(-open_ * (2 * torch.eye(8) - 1))
        n.fill_(open_)
        o.fill_(open_)
    found = explain(model, np.eye(8, dtype=np.float32)[np.arange(steps) % 8])
    lag = np.arange(steps) - np.arange(steps)[:, None]
    assert np.abs(found.norms - ((lag >= 0) & (lag < 8))).max() < 1e-9
    assert np.abs(found.held.remaining[:8] - 1).max() < 1e-9
    assert np.abs(found.held.remaining[8:]).max() < 1e-9
    assert ((found.held.half_lives > 7) & (found.held.half_lives < 8)).all()
    late = found.held.ages[8:]
    assert np.allclose(late, (np.arange(8, steps)[:, None] - np.arange(8)) % 8)


def test_half_lives_of_constant_gates_are_those_of_their_powers():
    """0.5 is left after ln 2 / -ln f steps, however short the sequence; f = 1 forgets nothing, and 0 all at once."""
    factors = np.array([0.3, 0.9, 0.97, 1.0, 0.0])
    keep = np.tile(factors, (60, 1))
    found = held(Memory(keep, np.ones_like(keep), keep, keep, {}))
    expected = [math.log(2) / -math.log(f) for f in factors[:3]]
    assert found.half_lives[:3] == pytest.approx(expected)
    assert found.half_lives[3] == math.inf
    assert found.half_lives[4] == 0
    assert np.allclose(found.remaining, factors ** np.arange(60)[:, None])


def test_what_is_seen_but_for_a_while_counts_so_long():
    """A unit that writes at the end alone has forgotten nothing yet; one that never writes has no half-life."""
    keep, write = np.full((10, 2), 0.999), np.zeros((10, 2))
    write[9, 0] = 1
    norms, remaining = held_norms(keep, write)
    assert norms[9, 9] == 1
    assert np.isnan(remaining[:, 1]).all()
    assert np.isnan(held(Memory(keep, write, keep, keep, {})).half_lives[1])


class Leaky(Cell):
    """h' = (1 - s) h + s tanh(W x + U h + b), s = sigmoid(l): a unit of one's own, as the documentation has it."""

    gates = 1
    paper = "of my own"

    def weights(self, hidden):
        return {"U": Weight((hidden, hidden), "orthogonal"), "l": Weight((1, hidden), "zeros", noisy=False)}

    def step(self, a, state, w):
        (h,) = state
        return (torch.lerp(h, torch.tanh(torch.baddbmm(a, h, w.U)), torch.sigmoid(w.l)),)


class Branching(Leaky):
    """Its step cannot be traced."""

    def step(self, a, state, w):
        return super().step(a if a.sum() > 0 else a + 1, state, w)


def test_a_unit_of_ones_own_declares_nothing(x):
    found = explain(model_of(Leaky()), x)
    assert np.allclose(found.memory.keep, 0.5)
    assert np.allclose(found.memory.write, 0.5)
    assert gated_memory(Branching()) is None


class Turning(LinearCell):
    """m' = (A + i B) m + sigmoid(g) (x + i y), h = Re m: a memory of two tensors, written so that it can be traced."""

    gates, states = 3, 2
    paper = "of my own"

    def weights(self, hidden):
        row = Weight((1, hidden), between(-0.2, 0.2), noisy=False)
        return {"A": row, "B": row}

    def coefficients(self, a, w):
        g, x, y = a.chunk(3, -1)
        g = torch.sigmoid(g)
        return (w.A, w.B), (g * x, g * y)


def test_a_complex_memory_is_found_whole(x):
    model = model_of(Turning())
    found = explain(model, x).memory
    factor = (model.w["A"] + 1j * model.w["B"])[0].detach().numpy()
    assert np.allclose(found.keep, np.tile(factor, (T, 1)))
    assert list(found.gates) == ["write"]
    w = np.stack([found.weights(unit) for unit in range(H)], -1)
    assert np.abs(np.einsum("jth,jh->th", w, found.content) - found.value).max() < 1e-5
    assert np.abs(found.value.imag).max() > 0.01


def test_what_cannot_be_explained_is_refused(x):
    model = model_of(Leaky(), replicas=2)
    for options, told in (({"replica": 2}, "no replica 2: the model has 0 to 1"), ({"layer": -1}, "no layer -1")):
        with pytest.raises(SeqbenchError, match=told):
            explain(model, x, **options)
    for wrong in (x[:, :3], x[None], x[:0]):
        with pytest.raises(SeqbenchError, match="give one sequence"):
            explain(model, wrong)
