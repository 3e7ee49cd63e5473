"""The parallel scan over time against the loop.  T time, R replicas, B batch, I inputs, H hidden."""

from types import SimpleNamespace

import pytest
import torch

from seqbench.cells import LinearCell, cells, find
from seqbench.kernels.sequence import decide
from seqbench.model.affine import project
from seqbench.model.recurrence import LinearScan, loop, run_layer, scan

R, B, I, H = 2, 3, 4, 5
LINEAR = [name for name, kind in cells().items() if issubclass(kind, LinearCell)]


def problem(name: str, T: int, dtype: torch.dtype = torch.float64):
    """The unit, its projected input, weights and a first state, all leaves."""
    cell, g = find(name)(), torch.Generator().manual_seed(T)
    w = {n: torch.randn(R, *s.shape, generator=g, dtype=dtype) / 2 for n, s in cell.layer(I, H).items()}
    x = torch.randn(T, R, B, I, generator=g, dtype=dtype)
    a = project(x, w["W"], w.get("b")).contiguous().requires_grad_()
    state = tuple(torch.randn(R, B, H, generator=g, dtype=dtype).requires_grad_() for _ in range(cell.states))
    own = {n: w[n].requires_grad_() for n in cell.weights(H)}
    return cell, a, own, state


def outcome(way, cell, a, w, state):
    """h, last state, and gradients of a number made of both."""
    h, last = way(cell, a, SimpleNamespace(**w), state)
    leaves = [a, *w.values(), *state]
    number = h.sin().sum() + sum((k + 2) * s.cos().sum() for k, s in enumerate(last))
    return h, *last, *torch.autograd.grad(number, leaves, allow_unused=True)


def test_units_linear_in_their_state():
    assert {"NoSRNNHidden", "MinGRU", "MinLSTM", "LRU"} <= set(LINEAR)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("T", [1, 2, 15, 16, 17, 23, 100, 257, 1030])
def test_scan_equals_loop_in_outputs_and_all_gradients(name, T):
    case = problem(name, T)
    for ours, expected in zip(outcome(scan, *case), outcome(loop, *case), strict=True):
        if expected is None:  # h_0, which only is in the state because the head sees it
            assert ours is None or not ours.any()
        else:
            torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", LINEAR)
def test_a_layer_is_scanned(name, monkeypatch):
    cell = find(name)()
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, 3, 4, generator=g, dtype=torch.float64)
    w = SimpleNamespace(
        **{n: torch.randn(2, *v.shape, generator=g, dtype=torch.float64) for n, v in cell.layer(4, 5).items()}
    )
    expected = run_layer(cell, x, w, decide(cell, 5, x, "loop"))[0]
    monkeypatch.setattr(type(cell), "step", None)
    torch.testing.assert_close(run_layer(cell, x, w, decide(cell, 5, x))[0], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", LINEAR)
def test_the_future_changes_nothing_before_it(name):
    cell, a, w, state = problem(name, 100)
    h = scan(cell, a, SimpleNamespace(**w), state)[0]
    for t in (0, 3, 50, 87, 99):
        later = a.detach().clone()
        later[t:] += 1
        changed = scan(cell, later, SimpleNamespace(**w), state)[0]
        assert torch.equal(h[:t], changed[:t])
        assert (h[t] != changed[t]).all()


@pytest.mark.parametrize("name", LINEAR)
def test_sequences_and_replicas_do_not_mix(name):
    cell, a, w, state = problem(name, 60)
    h = scan(cell, a, SimpleNamespace(**w), state)[0]
    other = a.detach().clone()
    other[:, 1, 2] += 1
    different = (scan(cell, other, SimpleNamespace(**w), state)[0] != h).any(3).any(0)
    assert different.nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("steady", [False, True])
def test_gradients_of_the_scan(dtype, steady):
    g = torch.Generator().manual_seed(0)
    T = 18
    A = torch.randn(R, *((1, 1) if steady else (T, 2)), 3, generator=g, dtype=dtype)
    inputs = torch.randn(R, T, 2, 3, generator=g, dtype=dtype)
    first = torch.randn(R, 2, 3, generator=g, dtype=dtype)
    assert torch.autograd.gradcheck(LinearScan.apply, [t.requires_grad_() for t in (A * 0.7, inputs, first)])


@pytest.mark.parametrize("shrink", [0.0, 1e-30, 1e-3, 1.0])
def test_products_that_vanish_do_no_harm(shrink):
    """float32: over 1,000 steps the product of A is far below the smallest number."""
    g = torch.Generator().manual_seed(0)
    A = torch.full((1, 1000, 2, 3), shrink)
    inputs = torch.randn(1, 1000, 2, 3, generator=g)
    m = LinearScan.apply(A, inputs, torch.ones(1, 2, 3))
    expected, memory = [], torch.ones(2, 3, dtype=torch.float64)
    for t in range(1000):
        memory = shrink * memory + inputs[0, t].double()
        expected.append(memory)
    torch.testing.assert_close(m[0].double(), torch.stack(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LINEAR)
def test_float32_stays_near_float64_over_thousands_of_steps(name):
    cell, a, w, state = problem(name, 4096)
    if name == "LRU":  # close to the unit circle, as it begins
        w = {n: v.abs().neg() * 8 if n == "nu" else v for n, v in w.items()}
    exact = loop(cell, a, SimpleNamespace(**w), state)[0]
    single = {n: v.float() for n, v in w.items()}
    h = scan(cell, a.float(), SimpleNamespace(**single), tuple(s.float() for s in state))[0]
    torch.testing.assert_close(h.double(), exact, rtol=0, atol=1e-4 * exact.abs().max().item())
