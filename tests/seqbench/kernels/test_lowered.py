"""A plan run in torch, and compiled for the CPU, against the loop with autograd in float64."""

import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch

from seqbench.cells import Cell, Weight, cells, find
from seqbench.kernels.compiler import proof
from seqbench.kernels.cpu import layer as cpu
from seqbench.kernels.cpu import pool, threads
from seqbench.kernels.cpu.output import bernoulli_nats
from seqbench.kernels.sequence import decide, planned, unroll
from seqbench.model.affine import project
from seqbench.model.recurrence import run_layer


class Odd(Cell):
    """Made up: two inputs of a product, a product of a product, exp, a gradient at a kink, and division."""

    gates, states = 3, 2
    paper = "none"

    def weights(self, hidden):
        return {
            "U": Weight((2 * hidden, 3 * hidden), "uniform"),
            "V": Weight((hidden, hidden), "orthogonal"),
            "q": Weight((1, hidden), "zeros", noisy=False),
        }

    def step(self, a, state, w):
        h, s = state
        i, f, n = torch.baddbmm(a, torch.cat([h, s], -1), w.U).chunk(3, -1)
        m = torch.tanh((torch.sigmoid(f) * h) @ w.V + w.q)
        e = torch.exp(-torch.relu(i))
        s = e * s + (1 - e) * torch.nn.functional.silu(n) * torch.maximum(m, h)
        return torch.tanh(s) / (1 + m * m), s


class Constant(Cell):
    """A state that does not change, one that is a leaf, a gate that nothing is multiplied with, constants."""

    gates, states = 2, 3
    paper = "none"

    def weights(self, hidden):
        return {"U": Weight((hidden, hidden), "orthogonal")}

    def step(self, a, state, w):
        h, old, _ = state
        x, y = a.chunk(2, -1)
        return torch.tanh(x + h @ w.U) + old * torch.ones_like(old), old, y + torch.zeros_like(y)


class ProductOfInput(Cell):
    """A product whose left operand is a projected input, which no pass reads."""

    gates = 2
    paper = "none"

    def weights(self, hidden):
        square = Weight((hidden, hidden), "orthogonal")
        return {"U": square, "V": square}

    def step(self, a, state, w):
        (h,) = state
        x, y = a.chunk(2, -1)
        z = torch.sigmoid(y + h @ w.U)
        return (torch.lerp(h, torch.tanh(x @ w.V), z),)


class Shared(Cell):
    """A matrix used twice, and one of which only a half is used."""

    gates, states = 1, 2
    paper = "none"

    def weights(self, hidden):
        return {"U": Weight((hidden, hidden), "orthogonal"), "V": Weight((hidden, 2 * hidden), "orthogonal")}

    def step(self, a, state, w):
        h, c = state
        c = torch.tanh(a + h @ w.U + c @ w.V.chunk(2, -1)[1])
        return torch.sigmoid(c @ w.U), c


class Held(Cell):
    """States through which no gradient goes, in products and elementwise, beside some through which it does."""

    gates, states = 1, 2
    paper = "none"

    def weights(self, hidden):
        square = Weight((hidden, hidden), "orthogonal")
        return {"U": square, "V": square, "Q": square, "p": Weight((1, hidden), "uniform")}

    def step(self, a, state, w):
        h, c = state
        left = torch.tanh(h.detach()) * c.detach()
        c = torch.tanh(a + h.detach() @ w.U + h @ w.U + h @ w.V + left @ w.Q + w.p * c.detach()) + 0.5 * c
        return torch.sigmoid(c) * h.detach(), c


# What is compiled for a CPU; others are scanned, or run in the loop.
CELLS = {name: kind() for name, kind in cells().items() if decide(kind(), 1, torch.empty(1)).name == "numba"}
CELLS |= {"LSTM without peepholes": find("LSTM")(peepholes=False), "GRU without biases": find("GRU")(bias=False)}
CELLS |= {"Odd": Odd(), "Constant": Constant(), "ProductOfInput": ProductOfInput(), "Shared": Shared()}
CELLS |= {"Held": Held(), "truncated LSTM1997": find("LSTM1997")(truncated=True)}
SIZES = [(9, 1, 13, 7, 11), (9, 3, 13, 7, 11), (1, 1, 1, 1, 1), (20, 2, 33, 5, 20)]  # T, R, B, I, H


def problem(cell, T, R, B, I, H, dtype=torch.float32, shared=False):
    """x, weights, first state; drawn in float64."""
    g = torch.Generator().manual_seed(T + 10 * H)
    x = torch.randn(T, 1 if shared else R, B, I, generator=g, dtype=torch.float64)
    scale = (I + H) ** -0.5
    w = {n: scale * torch.randn(R, *v.shape, generator=g, dtype=torch.float64) for n, v in cell.layer(I, H).items()}
    # Positive: a normaliser is one of the states.
    state = [0.5 + torch.rand(R, B, H, generator=g, dtype=torch.float64) for _ in range(cell.states)]
    return tuple(t.to(dtype).requires_grad_() for t in [x, *w.values(), *state]), list(w)


def layer(cell, name, x, w, state=None):
    """`run_layer` by a recurrence's name, or by "proof": the plan in torch."""
    if name != "proof":
        return run_layer(cell, x, w, decide(cell, w.W.shape[-1] // cell.gates, w.W, name), state)
    own = {n: v for n, v in vars(w).items() if n not in ("W", "b")}
    return unroll(proof, planned(cell), project(x, w.W, getattr(w, "b", None)), own, state)


def outcome(cell, name, leaves, names, with_state=True):
    """h, last states, and all gradients of a sum with random weights."""
    x, *rest = leaves
    w, state = SimpleNamespace(**dict(zip(names, rest, strict=False))), tuple(rest[len(names) :])
    h, last = layer(cell, name, x, w, state if with_state else None)
    g = torch.Generator().manual_seed(7)
    weights = [torch.randn(t.shape, generator=g, dtype=torch.float64).to(t.dtype) for t in (h, *last)]
    wanted = leaves if with_state else leaves[: 1 + len(names)]
    traced = [(t, weight) for t, weight in zip((h, *last), weights, strict=True) if t.requires_grad]
    outputs, weights = zip(*traced, strict=True)
    return [h, *last, *torch.autograd.grad(outputs, wanted, weights, allow_unused=True)]


def assert_close(ours, expected, tolerance):
    for a, b in zip(ours, expected, strict=True):
        if b is None:
            assert a is None or not a.any()
        else:
            assert (a - b).abs().max() <= tolerance * b.abs().max().clamp_min(1e-2)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", CELLS)
def test_plan_in_torch_equals_the_loop_in_float64(name, sizes):
    leaves, names = problem(CELLS[name], *sizes, dtype=torch.float64)
    assert_close(outcome(CELLS[name], "proof", leaves, names), outcome(CELLS[name], "loop", leaves, names), 1e-10)


@pytest.mark.parametrize("name", CELLS)
def test_compiled_equals_the_loop_in_float64(name):
    cell = CELLS[name]
    for sizes in SIZES:
        for shared, with_state in ((False, True), (True, False)):
            leaves, names = problem(cell, *sizes, shared=shared)
            exact = tuple(t.detach().double().requires_grad_() for t in leaves)
            ours = outcome(cell, "numba", leaves, names, with_state)
            assert_close(ours, outcome(cell, "loop", exact, names, with_state), 1e-5)


@pytest.mark.parametrize("name", ["Tanh", "GRU", "LSTM", "FGR", "Odd"])
def test_a_replica_and_the_number_of_threads_change_no_bit(name, monkeypatch):
    cell = CELLS[name]
    leaves, names = problem(cell, 20, 3, 33, 5, 17)
    group = outcome(cell, "numba", leaves, names)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    for ours, expected in zip(outcome(cell, "numba", leaves, names), group, strict=True):
        assert torch.equal(ours, expected)
    x, *rest = leaves
    for k in range(3):
        alone = (x[:, k : k + 1].detach().requires_grad_(), *(t[k : k + 1].detach().requires_grad_() for t in rest))
        h, *others = outcome_like(cell, alone, names, group, k)
        assert torch.equal(h, group[0][:, k : k + 1])
        assert all(
            torch.equal(a, b[:, k : k + 1] if b.shape == x.shape else b[k : k + 1])
            for a, b in zip(others, group[1:], strict=True)
        )


def outcome_like(cell, leaves, names, group, k):
    """As `outcome`, of replica k alone, with that replica's part of the random weights."""
    x, *rest = leaves
    w, state = SimpleNamespace(**dict(zip(names, rest, strict=False))), tuple(rest[len(names) :])
    h, last = layer(cell, "numba", x, w, state)
    g = torch.Generator().manual_seed(7)
    whole = [torch.randn(t.shape, generator=g, dtype=torch.float64).float() for t in group[: 1 + len(last)]]
    weights = [whole[0][:, k : k + 1], *(t[k : k + 1] for t in whole[1:])]
    return [h, *last, *torch.autograd.grad([h, *last], leaves, weights)]


def test_nothing_outside_of_a_buffer_is_read_or_written(monkeypatch):
    """NaN before and behind every buffer: read, it would show in a figure; written, it would be gone."""
    guarded = []

    def between(size):
        whole = torch.full((size + 128,), float("nan"))
        guarded.append((whole, size))
        return whole[64 : 64 + size]

    def take(*shape, dtype=torch.float32):
        assert dtype == torch.float32
        return between(torch.Size(shape).numel()).view(shape)

    def padded(matrix):
        out = original(matrix)
        return between(out.numel()).view(out.shape).copy_(out)

    class Guarded:
        def __getattr__(self, name):
            return getattr(torch, name)

        def zeros(self, *shape, dtype):
            return take(*shape, dtype=dtype).zero_()

        empty = staticmethod(take)

    original = cpu.aligned
    monkeypatch.setattr(cpu, "torch", Guarded())
    monkeypatch.setattr(cpu, "aligned", padded)
    monkeypatch.setattr(pool, "take", take)
    monkeypatch.setattr(pool, "give", lambda *tensors: None)
    for name in ("LSTM", "GRU", "FGR", "Odd"):
        leaves, names = problem(CELLS[name], 9, 2, 13, 7, 11)
        for tensor in outcome(CELLS[name], "numba", leaves, names):
            assert tensor.isfinite().all()
    assert len(guarded) > 40
    for whole, size in guarded:
        assert whole[:64].isnan().all()
        assert whole[64 + size :].isnan().all()


def test_backward_twice_and_buffers_used_again():
    cell = CELLS["LSTM"]
    (x, *rest), names = problem(cell, 9, 2, 13, 7, 11)
    w, state = SimpleNamespace(**dict(zip(names, rest, strict=False))), tuple(rest[len(names) :])
    h, _ = layer(cell, "numba", x, w, state)
    first = torch.autograd.grad(h.sum(), rest, retain_graph=True, allow_unused=True)
    other, _ = layer(cell, "numba", x + 1, w, state)
    torch.autograd.grad(other.sum(), rest, allow_unused=True)
    second = torch.autograd.grad(h.sum(), rest, allow_unused=True)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_without_gradients_the_same_figures_in_less_memory():
    cell = CELLS["FGR"]
    (x, *rest), names = problem(cell, 9, 2, 13, 7, 11)
    w, state = SimpleNamespace(**dict(zip(names, rest, strict=False))), tuple(rest[len(names) :])
    h, last = layer(cell, "numba", x, w, state)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            again, last_again = layer(cell, "numba", x, w, state)
        assert torch.equal(again, h)
        assert all(torch.equal(a, b) for a, b in zip(last_again, last, strict=True))


def test_project_equals_torch_in_float64():
    g = torch.Generator().manual_seed(0)
    for T, Rx, R, B, K, N in ((7, 1, 3, 5, 11, 19), (40, 2, 2, 33, 6, 88), (1, 1, 1, 1, 1, 1)):
        x, W, b = (torch.randn(*s, generator=g).requires_grad_() for s in ((T, Rx, B, K), (R, K, N), (R, 1, N)))
        exact = [t.detach().double().requires_grad_() for t in (x, W, b)]
        out, expected = project(x, W, b, compiled=True), project(*exact)
        weight = torch.randn(out.shape, generator=g)
        ours = [out, *torch.autograd.grad(out, [x, W, b], weight)]
        assert_close(ours, [expected, *torch.autograd.grad(expected, exact, weight.double())], 1e-6)


@pytest.mark.parametrize(
    ("T", "R", "B", "H", "shared"), [(1, 1, 1, 1, False), (300, 3, 5, 7, True), (70, 2, 17, 20, False)]
)
def test_bernoulli_nats_and_gradients_equal_torch_in_float64(T, R, B, H, shared):
    for K in (88, 13):
        g = torch.Generator().manual_seed(0)
        h, V, c = (torch.randn(*s, generator=g).requires_grad_() for s in ((T, R, B, H), (R, H, K), (R, 1, K)))
        y = (torch.rand(T, 1 if shared else R, B, K, generator=g) < 0.3).float()
        exact = [leaf.detach().double().requires_grad_() for leaf in (h, V, c)]
        logits = torch.einsum("trbh,rhk->trbk", *exact[:2]) + exact[2]
        expected = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, y.double().expand_as(logits), reduction="none"
        ).sum(-1)
        nats = bernoulli_nats(h, V, c, y)
        weight = torch.randn(nats.shape, generator=g)
        ours = [nats, *torch.autograd.grad(nats, [h, V, c], weight, retain_graph=True)]
        assert_close(ours, [expected, *torch.autograd.grad(expected, exact, weight.double())], 1e-6)
        assert torch.equal(torch.autograd.grad(nats, [V], weight)[0], ours[2])  # what is kept was not used up
        alone = bernoulli_nats(h[:, :1], V[:1], c[:1], y[:, :1])
        assert torch.equal(alone, nats[:, :1])


@pytest.mark.parametrize(("T", "R", "shared"), [(1, 1, False), (300, 3, True), (300, 3, False)])
def test_bernoulli_nats_of_given_logits_equal_torch_in_float64(T, R, shared):
    g = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(T, R, 5, 88, generator=g)).requires_grad_()
    targets = (torch.rand(T, 1 if shared else R, 5, 88, generator=g) < 0.3).float()
    exact = logits.detach().double().requires_grad_()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        exact, targets.double().expand_as(exact), reduction="none"
    ).sum(-1)
    ours = bernoulli_nats(logits, torch.eye(88).expand(R, 88, 88), torch.zeros(R, 1, 88), targets)  # h is the logits
    weight = torch.randn(ours.shape, generator=g)
    grads = [
        torch.autograd.grad(out, z, w)[0] for out, z, w in ((ours, logits, weight), (expected, exact, weight.double()))
    ]
    torch.testing.assert_close(ours.double(), expected, rtol=3e-7, atol=1e-6)
    torch.testing.assert_close(grads[0].double(), grads[1], rtol=1e-6, atol=1e-6)


def test_bernoulli_nats_at_the_ends():
    logits = torch.tensor([0.0, 1e-30, 88, -88, -120, 1e30, -1e30, float("nan")])[:, None, None, None]
    one, zero = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)
    off, on = (bernoulli_nats(logits, one, zero, torch.full_like(logits, y)).flatten() for y in (0.0, 1.0))
    ln2 = 0.6931471805599453
    torch.testing.assert_close(off, torch.tensor([ln2, ln2, 88, 0, 0, 1e30, 0, float("nan")]), equal_nan=True)
    torch.testing.assert_close(on, torch.tensor([ln2, ln2, 0, 88, 120, 0, 1e30, float("nan")]), equal_nan=True)


def test_the_default_dtype_changes_no_figure():
    """Lightning sets it for a whole run in half precision: buffers made by it would be too small."""
    g = torch.Generator().manual_seed(0)
    x, W, c = torch.randn(9, 1, 5, 7, generator=g), torch.randn(1, 7, 88, generator=g), torch.zeros(1, 1, 88)
    y = (torch.rand(9, 1, 5, 88, generator=g) < 0.3).float()

    def figures() -> list[torch.Tensor]:
        w = W.clone().requires_grad_()
        nats = bernoulli_nats(x, w, c, y)
        return [project(x, W, c, compiled=True), nats, *torch.autograd.grad(nats.sum(), w)]

    expected = figures()
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = figures()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


TRAIN = """
import sys, torch
from types import SimpleNamespace
from seqbench.cells import find
from seqbench.kernels.sequence import decide
from seqbench.model.recurrence import run_layer
torch.manual_seed(0)
for name in sys.argv[1:]:
    cell = find(name)()
    w = {n: (0.3 * torch.randn(2, *v.shape)).requires_grad_() for n, v in cell.layer(7, 11).items()}
    x = torch.randn(9, 2, 13, 7)
    found = []
    for recurrence in ("numba", "loop"):
        h, _ = run_layer(cell, x, SimpleNamespace(**w), decide(cell, 11, x, recurrence))
        found.append([h, *torch.autograd.grad(h.square().sum(), list(w.values()))])
    assert all((a - b).abs().max() <= 1e-5 * b.abs().max() for a, b in zip(*found)), name
"""


def test_cells_compiled_in_separate_processes_and_loaded_in_one(tmp_path):
    environment = os.environ | {"SEQBENCH_CACHE": str(tmp_path)}
    for names in (["Tanh"], ["GRU"], ["LSTM"], ["LSTM", "Tanh", "GRU"]):
        subprocess.run([sys.executable, "-c", TRAIN, *names], env=environment, check=True, timeout=120)


STEP = """
import hashlib, torch
from seqbench.train.optim import ChungRMSProp, PerReplica
g = torch.Generator().manual_seed(0)
p = torch.nn.Parameter(torch.randn(2, 1001, generator=g))
optimizer = PerReplica(ChungRMSProp([p]), torch.tensor([0.01, 0.1]).double(), torch.ones(2).bool(), 1.0, compiled=True)
for _ in range(3):
    p.grad = torch.randn(p.shape, generator=g)
    optimizer.step()
print(hashlib.sha256(p.detach().numpy().tobytes()).hexdigest())
"""


def test_a_step_is_the_same_bits_compiled_and_loaded_from_the_cache(tmp_path):
    command, environment = [sys.executable, "-c", STEP], os.environ | {"SEQBENCH_CACHE": str(tmp_path)}
    compiled, loaded = (
        subprocess.run(command, env=environment, check=True, timeout=120, stdout=subprocess.PIPE).stdout
        for _ in range(2)
    )
    assert compiled == loaded


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # Python 3.12's, and the point
def test_after_a_fork_and_from_several_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    torch.set_num_threads(1)  # libgomp's own threads are gone in the child, which would wait for them
    cell = CELLS["GRU"]
    leaves, names = problem(cell, 20, 3, 33, 5, 17)
    expected = outcome(cell, "numba", leaves, names)
    child = os.fork()
    if not child:
        same = all(torch.equal(a, b) for a, b in zip(outcome(cell, "numba", leaves, names), expected, strict=True))
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    wrong = []

    def train():
        for _ in range(5):
            found = outcome(cell, "numba", leaves, names)
            wrong.extend(name for name, a, b in zip(range(99), found, expected, strict=False) if not torch.equal(a, b))

    trainers = [threading.Thread(target=train) for _ in range(3)]
    for trainer in trainers:
        trainer.start()
    for trainer in trainers:
        trainer.join()
    assert not wrong


def test_threads_do_each_piece_once_and_pass_on_what_goes_wrong():
    done = []
    threads.run(done.append, 100, 2)
    assert sorted(done) == list(range(100))
    with pytest.raises(ZeroDivisionError):
        threads.run(lambda piece: 1 / (piece - 7), 10, 2)


@pytest.mark.parametrize(("wanted", "threads_wanted"), [("3", 3), ("", None), ("0", None), ("many", None)])
def test_as_many_threads_as_omp_num_threads_says(wanted, threads_wanted, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert threads.count() == (threads_wanted or len(os.sched_getaffinity(0)))
