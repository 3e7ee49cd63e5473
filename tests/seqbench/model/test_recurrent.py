"""`seqbench.Recurrent`: torch.nn's layers by the suite's way; replicas against solo layers; what a module must do."""

import copy
import io
import subprocess
import sys

import pytest
import torch

import seqbench
from seqbench import cells
from seqbench.datamodules import Synthetic
from seqbench.train.module import SequenceModel

T, B, I, H = 11, 4, 5, 6


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def reset_after_of_torch(layer: torch.nn.GRU, n: int) -> dict[str, torch.Tensor]:
    """The weights of torch's layer n as GRUResetAfter has them: theirs stand as r, z, n, ours as z, r, n."""
    W, U, b, c = (p.detach() for p in (getattr(layer, f"{name}_l{n}") for name in NAMES))
    (b_r, b_z, b_n), (c_r, c_z, c_n) = b.chunk(3), c.chunk(3)
    return {
        "W": torch.cat([W.chunk(3)[k] for k in (1, 0, 2)]).T,
        "U": torch.cat([U.chunk(3)[k] for k in (1, 0, 2)]).T,
        "b": torch.cat([b_z + c_z, b_r + c_r, b_n])[None],
        "c_n": c_n[None],
    }


def lstm_of_torch(layer: torch.nn.LSTM, n: int) -> dict[str, torch.Tensor]:
    W, U, b, c = (p.detach() for p in (getattr(layer, f"{name}_l{n}") for name in NAMES))
    return {"W": W.T, "U": U.T, "b": (b + c)[None]}


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
PAIRS = {
    "GRU": (torch.nn.GRU, cells.GRUResetAfter(), reset_after_of_torch),
    "LSTM": (torch.nn.LSTM, cells.LSTM(peepholes=False), lstm_of_torch),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", PAIRS)
def test_it_is_torchs_layer(name, layers, dtype):
    """Outputs, both states and all gradients, after the weights are copied."""
    kind, cell, mapped = PAIRS[name]
    theirs = kind(I, H, layers).to(dtype)
    own = seqbench.Recurrent(cell, I, H, layers=layers).to(dtype)
    weights = {key + (f"_l{n}" if n else ""): v for n in range(layers) for key, v in mapped(theirs, n).items()}
    own.w.load_state_dict(weights)
    x, x_own = (drawn(T, B, I).to(dtype).requires_grad_() for _ in range(2))
    first = [drawn(layers, B, H).to(dtype) * (n + 1) for n in range(cell.states)]
    h, last = theirs(x, tuple(first) if cell.states > 1 else first[0])
    last = last if isinstance(last, tuple) else (last,)
    h_own, last_own = own(x_own, tuple(s[n] for n in range(layers) for s in first))
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(h_own, h, **tolerance)
    torch.testing.assert_close(last_own, tuple(s[n] for n in range(layers) for s in last), **tolerance)
    for out, state in ((h, last), (h_own, last_own)):
        (out.square().sum() + sum(s.sin().sum() for s in state)).backward()
    torch.testing.assert_close(x_own.grad, x.grad, **tolerance)
    for n in range(layers):
        W, U, b, c = (getattr(theirs, f"{part}_l{n}").grad for part in NAMES)
        order = (1, 0, 2) if name == "GRU" else (0, 1, 2, 3)
        expected = {
            key: torch.cat([g.chunk(len(order))[k] for k in order]) for key, g in zip("WUb", (W, U, b), strict=True)
        }
        expected |= {"c_n": c.chunk(3)[2]} if name == "GRU" else {}
        for key, gradient in expected.items():
            found = own.w[key + (f"_l{n}" if n else "")].grad
            torch.testing.assert_close(found, gradient.T if gradient.ndim > 1 else gradient[None], **tolerance)


@pytest.mark.parametrize("unit", ["LSTM", "GRU", "LRU"])
@pytest.mark.parametrize("shared", [True, False])
def test_replicas_are_the_layers_that_they_are_alone(unit, shared):
    together = seqbench.Recurrent(unit, I, H, layers=2, replicas=3, seed=5)
    x = drawn(T, B, I) if shared else drawn(T, 3, B, I)
    h, state = together(x)
    h.sum().backward()
    for k in range(3):
        alone = seqbench.Recurrent(unit, I, H, layers=2, seed=5 + k)
        h_alone, state_alone = alone(x if shared else x[:, k])
        h_alone.sum().backward()
        torch.testing.assert_close(h[:, k], h_alone)
        torch.testing.assert_close(tuple(s[k] for s in state), state_alone)
        for name, weight in alone.w.items():
            torch.testing.assert_close(together.w[name].grad[k], weight.grad)


@pytest.mark.parametrize("unit", cells.cells())
def test_the_compiled_way_in_float32_against_the_loop_in_float64(unit):
    fast = seqbench.Recurrent(unit, I, H, layers=2, layer_norm=True)
    exact = seqbench.Recurrent(unit, I, H, layers=2, layer_norm=True, recurrence="loop").double()
    x = drawn(T, B, I)
    h, state = fast(x)
    h_exact, state_exact = exact(x.double())
    torch.testing.assert_close(h.double(), h_exact, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tuple(s.double() for s in state), state_exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("unit", ["LSTM", "LRU"])
@pytest.mark.parametrize("replicas", [None, 2])
def test_steps_give_each_sequence_what_it_gets_alone(unit, replicas):
    layer = seqbench.Recurrent(unit, I, H, layers=2, replicas=replicas)
    x, steps = drawn(T, B, I).requires_grad_(), [3, T, 0, 3]
    _, first = layer(drawn(2, B, I))
    first = tuple(s.detach() for s in first)
    h, last = layer(x, first, torch.tensor(steps))
    gradient = torch.autograd.grad(h.sum() + sum(s.sum() for s in last), x)[0]
    for n, length in enumerate(steps):
        one = slice(n, n + 1)
        assert not h[length:, ..., one, :].any()
        assert not gradient[length:, one].any()
        if not length:
            assert all(torch.equal(new[..., one, :], old[..., one, :]) for new, old in zip(last, first, strict=True))
            continue
        alone = x[:length, one].detach().requires_grad_()
        h_alone, last_alone = layer(alone, tuple(s[..., one, :] for s in first))
        torch.testing.assert_close(h[:length, ..., one, :], h_alone)
        torch.testing.assert_close(tuple(s[..., one, :] for s in last), last_alone)
        (expected,) = torch.autograd.grad(h_alone.sum() + sum(s.sum() for s in last_alone), alone)
        torch.testing.assert_close(gradient[:length, one], expected)


def test_a_sequence_in_two_parts_is_the_whole():
    layer, x = seqbench.Recurrent("LSTM", I, H), drawn(T, B, I)
    h, last = layer(x)
    first, state = layer(x[:4])
    second, end = layer(x[4:], state)
    torch.testing.assert_close(torch.cat([first, second]), h)
    torch.testing.assert_close(end, last)


def test_it_begins_with_the_weights_of_a_run_of_its_seed():
    layer = seqbench.Recurrent("LSTM", 88, H, layers=2, seed=3)
    model = SequenceModel(cells.LSTM(), Synthetic().task, seed=3, hidden=H, layers=2)
    for name, weight in layer.w.items():
        assert torch.equal(model.w[name][0], weight)


def test_copied_saved_and_loaded_it_gives_the_same():
    layer, x = seqbench.Recurrent(cells.LSTM(peepholes=False), I, H, seed=1), drawn(T, B, I)
    expected = layer(x)[0]
    saved = io.BytesIO()
    torch.save(layer, saved)
    saved.seek(0)
    other = seqbench.Recurrent(cells.LSTM(peepholes=False), I, H, seed=2)
    assert not torch.equal(other(x)[0], expected)
    other.load_state_dict(layer.state_dict())
    for same in (copy.deepcopy(layer), torch.load(saved, weights_only=False), other):
        assert torch.equal(same(x)[0], expected)


def test_it_learns_within_a_model_of_ones_own():
    """To tell the sign of the sum of what it has seen."""
    model = torch.nn.ModuleDict({"layer": seqbench.Recurrent("GRU", 1, 8), "out": torch.nn.Linear(8, 1)})
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    x = drawn(20, 64, 1)
    y = (x.cumsum(0) > 0).float()
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model["out"](model["layer"](x)[0]), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("made", "called", "told"),
    [
        (("GRUU", I, H), (), "did you mean GRU"),
        (("GRU", 0, H), (), "must be positive"),
        (("GRU", I, H), (drawn(T, B, I + 1),), "I = 5"),
        (("GRU", I, H), (drawn(T, 2, B, I),), r"\[T, B, I\]"),
        (("LSTM", I, H), (drawn(T, B, I), (torch.zeros(B, H),)), "2 tensors"),
        (("GRU", I, H), (drawn(T, B, I), None, torch.full((B,), T + 1)), "from 0 to T = 11"),
    ],
)
def test_mistakes(made, called, told):
    with pytest.raises(seqbench.SeqbenchError, match=told):
        seqbench.Recurrent(*made)(*called)


def test_importing_the_package_imports_no_torch():
    code = "import sys, seqbench; seqbench.SeqbenchError; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    assert set(dir(seqbench)) >= set(seqbench.__all__)
    for name in seqbench.__all__:
        assert getattr(seqbench, name).__name__
    with pytest.raises(AttributeError):
        seqbench.Recurent  # noqa: B018
