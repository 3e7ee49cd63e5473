"""Each unit against its paper's equations, written out in float64: one sequence, one replica, one gate at a time.

Nothing here comes from the units' own code but the names and order of their weights.
T time, R replicas, B batch, I inputs, H hidden.
"""

from types import SimpleNamespace

import pytest
import torch

from seqbench.cells import Cell, find
from seqbench.kernels.sequence import Recurrence
from seqbench.model.affine import project
from seqbench.model.budget import count_parameters
from seqbench.model.heads import Bernoulli
from seqbench.model.recurrence import initial_state, loop, run_layer

T, R, B, I, H = 9, 2, 3, 4, 5


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def tanh(x):
    return (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x))


def linear(x):
    return x


def split(w, blocks, name):
    """Columns of a matrix, or parts of a bias, by gate."""
    return dict(zip(blocks, w[name].split(H, 1), strict=True))


def long_short_term(x, w, blocks="zifo", peepholes="ifo", g=tanh, h=tanh, coupled=False, full=False):
    """Greff et al. 2015, section II, with parts left out."""
    W, recurrent = split(w, blocks, "W"), split(w, blocks, "R")
    b = split(w, blocks, "b") if "b" in w else dict.fromkeys(blocks, torch.zeros(1, H))
    p = {k: w[f"p_{k}"][0] if k in peepholes else 0.0 for k in "ifo"}
    y = c = x.new_zeros(H)
    gates = dict.fromkeys("ifo", x.new_zeros(H))
    ys = []
    for x_t in x:
        s = {k: x_t @ W[k] + y @ recurrent[k] + b[k][0] for k in blocks}
        for n, k in enumerate("ifo"):
            for source in "ifo" if full else "":
                s[k] = s[k] + gates[source] @ w[f"R_{source}"][:, n * H : (n + 1) * H]
        i = sigmoid(s["i"] + p["i"] * c) if "i" in blocks else torch.ones(H)
        f = sigmoid(s["f"] + p["f"] * c) if "f" in blocks else torch.ones(H)
        c = g(s["z"]) * i + c * (1 - i if coupled else f)
        o = sigmoid(s["o"] + p["o"] * c) if "o" in blocks else torch.ones(H)
        y = h(c) * o
        gates = {"i": i, "f": f, "o": o}
        ys.append(y)
    return torch.stack(ys)


def variant(**parts):
    return lambda x, w: long_short_term(x, w, **parts)


def levy(x, w, srnn, out, hidden):
    """Levy et al. 2018, eq. 1-6, and their ablations; gates and content one by one."""
    columns, gates = w["W"].split(H, 1), 3 if out else 2
    b = w["b"][0].split(H) if "b" in w else [torch.zeros(H)] * 4
    U = w["U"].split(H, 1) if hidden else [torch.zeros(H, H, dtype=x.dtype)] * 4
    h = c = x.new_zeros(H)
    hs = []
    for x_t in x:
        i = sigmoid(x_t @ columns[0] + h @ U[0] + b[0])
        f = sigmoid(x_t @ columns[1] + h @ U[1] + b[1])
        o = sigmoid(x_t @ columns[2] + h @ U[2] + b[2]) if out else 1
        content = tanh(x_t @ columns[gates] + h @ U[gates] + b[gates]) if srnn else x_t @ columns[gates]
        c = i * content + f * c
        h = o * tanh(c)
        hs.append(h)
    return torch.stack(hs)


def ablation(srnn=False, out=True, hidden=True):
    return lambda x, w: levy(x, w, srnn, out, hidden)


def elementwise(f, recurrent):
    """h = f(W x + recurrent term + b)."""

    def equations(x, w):
        h, hs = x.new_zeros(H), []
        for x_t in x:
            h = f(x_t @ w["W"] + recurrent(h, w) + (w["b"][0] if "b" in w else 0))
            hs.append(h)
        return torch.stack(hs)

    return equations


def min_gru(x, w):
    """Feng et al. 2024, section 3.1."""
    (W_z, W_n), (b_z, b_n) = w["W"].split(H, 1), w["b"][0].split(H) if "b" in w else (0, 0)
    h, hs = x.new_zeros(H), []
    for x_t in x:
        z = sigmoid(x_t @ W_z + b_z)
        h = (1 - z) * h + z * (x_t @ W_n + b_n)
        hs.append(h)
    return torch.stack(hs)


def min_lstm(x, w):
    """Feng et al. 2024, section 3.2."""
    (W_f, W_i, W_n), (b_f, b_i, b_n) = w["W"].split(H, 1), w["b"][0].split(H) if "b" in w else (0, 0, 0)
    h, hs = x.new_zeros(H), []
    for x_t in x:
        f, i = sigmoid(x_t @ W_f + b_f), sigmoid(x_t @ W_i + b_i)
        h = f / (f + i) * h + i / (f + i) * (x_t @ W_n + b_n)
        hs.append(h)
    return torch.stack(hs)


def lru(x, w):
    """Orvieto et al. 2023, eq. 1-2 and section 3.3-3.4, in complex numbers."""
    B_re, B_im, D = w["W"].split(H, 1)
    eigenvalue = torch.exp(-torch.exp(w["nu"][0]) + 1j * torch.exp(w["theta"][0]))
    s, hs = torch.zeros(H, dtype=torch.complex128), []
    for x_t in x:
        s = eigenvalue * s + torch.exp(w["log_gamma"][0]) * ((x_t + 0j) @ torch.complex(B_re, B_im))
        hs.append((s @ torch.complex(w["C_re"], w["C_im"])).real + x_t @ D)
    return torch.stack(hs)


def slstm(x, w):
    """Beck et al. 2024, eq. 8-14: without the stabiliser, which must change nothing."""
    W, recurrent = split(w, "zofi", "W"), split(w, "zofi", "R")
    b = dict(zip("zof", w["b"][0].split(H), strict=True)) if "b" in w else dict.fromkeys("zof", 0)
    h = c = n = x.new_zeros(H)
    hs = []
    for x_t in x:
        s = {k: x_t @ W[k] + h @ recurrent[k] + b.get(k, 0) for k in "zofi"}
        i, f = torch.exp(s["i"]), torch.exp(s["f"])
        c = f * c + i * tanh(s["z"])
        n = f * n + i
        h = sigmoid(s["o"]) * c / n
        hs.append(h)
    return torch.stack(hs)


# The reference, and the number of parameters with biases by hand. Tanh, the GRUs and Chung's LSTM: test_cells.py.
UNITS = {
    "V": (variant(), 4 * (I * H + H * H + H) + 3 * H),
    "NIG": (variant(blocks="zfo", peepholes="fo"), 3 * (I * H + H * H + H) + 2 * H),
    "NFG": (variant(blocks="zio", peepholes="io"), 3 * (I * H + H * H + H) + 2 * H),
    "NOG": (variant(blocks="zif", peepholes="if"), 3 * (I * H + H * H + H) + 2 * H),
    "NIAF": (variant(g=linear), 4 * (I * H + H * H + H) + 3 * H),
    "NOAF": (variant(h=linear), 4 * (I * H + H * H + H) + 3 * H),
    "NP": (variant(peepholes=""), 4 * (I * H + H * H + H)),
    "CIFG": (variant(blocks="zio", peepholes="io", coupled=True), 3 * (I * H + H * H + H) + 2 * H),
    "FGR": (variant(full=True), 4 * (I * H + H * H + H) + 3 * H + 9 * H * H),
    "LSTM1997": (
        variant(blocks="zio", peepholes="", g=lambda x: 4 * sigmoid(x) - 2, h=lambda x: 2 * sigmoid(x) - 1),
        3 * (I * H + H * H + H),
    ),
    "ForgetLSTM": (
        variant(peepholes="", g=lambda x: 4 * sigmoid(x) - 2, h=lambda x: 2 * sigmoid(x) - 1),
        4 * (I * H + H * H + H),
    ),
    "PeepholeLSTM": (variant(g=lambda x: 4 * sigmoid(x) - 2, h=linear), 4 * (I * H + H * H + H) + 3 * H),
    "LevyLSTM": (ablation(srnn=True), 4 * (I * H + H * H + H)),
    "NoSRNN": (ablation(), 3 * (I * H + H * H + H) + I * H),
    "NoSRNNOut": (ablation(out=False), 2 * (I * H + H * H + H) + I * H),
    "NoSRNNHidden": (ablation(hidden=False), 3 * (I * H + H) + I * H),
    "NoGates": (elementwise(tanh, lambda h, w: h @ w["U"]), I * H + H * H + H),
    "DiagonalRNN": (elementwise(tanh, lambda h, w: h @ torch.diag(w["u"][0])), I * H + 2 * H),
    "IndRNN": (elementwise(lambda x: x.clamp(min=0), lambda h, w: h @ torch.diag(w["u"][0])), I * H + 2 * H),
    "MinGRU": (min_gru, 2 * (I * H + H)),
    "MinLSTM": (min_lstm, 3 * (I * H + H)),
    "LRU": (lru, 3 * I * H + 2 * H * H + 3 * H),
    "SLSTM": (slstm, 4 * (I * H + H * H) + 3 * H),
}


def draw(cell: Cell, scale: float = 0.6) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    spec = cell.layer(I, H)
    return {n: scale * torch.randn(R, *w.shape, generator=g, dtype=torch.float64) for n, w in spec.items()}


def inputs() -> torch.Tensor:
    return torch.randn(T, R, B, I, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def run(cell: Cell, x: torch.Tensor, w: dict[str, torch.Tensor]) -> torch.Tensor:
    return run_layer(cell, x, SimpleNamespace(**w), Recurrence("loop", compiled=False))[0]


def variants() -> list[tuple[str, Cell]]:
    return [
        (name, find(name)(**({} if bias or name == "LRU" else {"bias": False}))) for bias in (1, 0) for name in UNITS
    ]


@pytest.mark.parametrize(("name", "cell"), variants(), ids=lambda v: v if isinstance(v, str) else str(v.bias))
def test_unit_equals_its_papers_equations(name, cell):
    equations, _ = UNITS[name]
    x, w = inputs().requires_grad_(), {n: v.requires_grad_() for n, v in draw(cell).items()}
    h = run(cell, x, w)
    per_replica = [{n: v[k] for n, v in w.items()} for k in range(R)]
    expected = torch.stack(
        [torch.stack([equations(x[:, k, j], per_replica[k]) for j in range(B)], 1) for k in range(R)], 1
    )
    torch.testing.assert_close(h, expected, rtol=0, atol=1e-12)
    leaves = [x, *w.values()]
    ours, theirs = (torch.autograd.grad(out.sin().sum(), leaves) for out in (h, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["LSTM1997", "ForgetLSTM"])
def test_the_truncated_gradient_is_that_of_the_papers(name):
    """Hochreiter & Schmidhuber 1997, appendix A.1, and Gers et al. 2000, section 3.2: forward in time, with what each
    weight's memory cell changes by, dc = f dc + ..., and nothing that goes through y_{t-1}.
    """
    cell = find(name)(truncated=True)
    x, w = inputs(), draw(cell)
    leaves = {n: w[n].requires_grad_() for n in ("W", "R", "b")}
    found = torch.autograd.grad(run(cell, x, leaves)[:, :1, :1].sin().sum(), list(leaves.values()))
    blocks = "zifo" if name == "ForgetLSTM" else "zio"
    weights = torch.cat([leaves[n][0].detach() for n in ("W", "R", "b")])  # [I+H+1, G*H]
    y = c = torch.zeros(H, dtype=torch.float64)
    dc = {k: torch.zeros(I + H + 1, H, dtype=torch.float64) for k in "zif"}
    total = {k: torch.zeros(I + H + 1, H, dtype=torch.float64) for k in blocks}
    for x_t in x[:, 0, 0]:
        source = torch.cat([x_t, y, torch.ones(1, dtype=torch.float64)])
        s = dict(zip(blocks, (source @ weights).split(H), strict=True))
        i, o = sigmoid(s["i"]), sigmoid(s["o"])
        f = sigmoid(s["f"]) if "f" in s else torch.ones(H)
        z, squashed = 4 * sigmoid(s["z"]) - 2, lambda c: 2 * sigmoid(c) - 1
        slope = {"z": (z + 2) * (2 - z) / 4 * i, "i": z * i * (1 - i), "f": c * f * (1 - f)}
        dc = {k: f * dc[k] + source[:, None] * slope[k] for k in "zif"}
        c = f * c + z * i
        y = squashed(c) * o
        error = y.cos()
        for k in total:
            through = error * o * 2 * sigmoid(c) * (1 - sigmoid(c))
            gate = source[:, None] * (error * squashed(c) * o * (1 - o))
            total[k] += gate if k == "o" else through * dc[k]
    expected = torch.cat([total[k] for k in blocks], 1)
    torch.testing.assert_close(torch.cat([g[0] for g in found]), expected, rtol=0, atol=1e-12)
    full = torch.autograd.grad(run(find(name)(), x, leaves)[:, :1, :1].sin().sum(), list(leaves.values()))
    assert (torch.cat([g[0] for g in full]) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("name", UNITS)
def test_parameters_are_counted_after_the_removal(name):
    assert count_parameters(find(name)(), I, H, Bernoulli(7)).recurrent == UNITS[name][1]


# One removal at a time, from V's own weights.


def closed(w: dict[str, torch.Tensor], gate: int, value: float) -> dict[str, torch.Tensor]:
    """V's weights with one gate (1 i, 2 f, 3 o) held at sigmoid(value)."""
    w = {n: v.clone() for n, v in w.items()}
    columns = slice(gate * H, (gate + 1) * H)
    w["W"][..., columns], w["R"][..., columns], w["b"][..., columns] = 0, 0, value
    w[f"p_{'zifo'[gate]}"].zero_()
    return w


def without(w: dict[str, torch.Tensor], gate: int) -> dict[str, torch.Tensor]:
    """V's weights without those of one gate."""
    kept = [k for k in range(4) if k != gate]
    out = {n: torch.cat([w[n].split(H, -1)[k] for k in kept], -1) for n in ("W", "R", "b")}
    return out | {n: v for n, v in w.items() if n.startswith("p_") and n != f"p_{'zifo'[gate]}"}


@pytest.mark.parametrize(("name", "gate"), [("NIG", 1), ("NFG", 2), ("NOG", 3)])
def test_v_with_a_gate_held_open_is_v_without_it(name, gate):
    w, x = draw(find("V")()), inputs()
    cell = find(name)()
    assert {n: tuple(v.shape[1:]) for n, v in without(w, gate).items()} == {
        n: v.shape for n, v in cell.layer(I, H).items()
    }
    held, removed = run(find("V")(), x, closed(w, gate, 1e3)), run(cell, x, without(w, gate))
    torch.testing.assert_close(held, removed, rtol=0, atol=1e-13)


def test_v_whose_forget_gate_mirrors_its_input_gate_is_cifg():
    w, x = draw(find("V")()), inputs()
    mirrored = {n: v.clone() for n, v in w.items()}
    for name in ("W", "R", "b"):
        mirrored[name][..., 2 * H : 3 * H] = -w[name][..., H : 2 * H]
    mirrored["p_f"] = -w["p_i"]
    torch.testing.assert_close(run(find("V")(), x, mirrored), run(find("CIFG")(), x, without(w, 2)), rtol=0, atol=1e-13)


@pytest.mark.parametrize("other", ["LSTM", "LevyLSTM"])
def test_np_is_the_lstm_without_peepholes(other):
    cell = find("LSTM")(peepholes=False) if other == "LSTM" else find(other)()
    order = {"LSTM": (1, 2, 0, 3), "LevyLSTM": (1, 2, 3, 0)}[other]  # from z, i, f, o
    w, x = draw(find("NP")()), inputs()
    W, U, b = (torch.cat([w[n].split(H, -1)[k] for k in order], -1) for n in ("W", "R", "b"))
    torch.testing.assert_close(run(cell, x, {"W": W, "U": U, "b": b}), run(find("NP")(), x, w), rtol=0, atol=1e-13)


def test_v_is_chungs_lstm_and_np_is_v_with_closed_peepholes():
    w, x = draw(find("V")()), inputs()
    moved = {
        n: torch.cat([w[m].split(H, -1)[k] for k in (1, 2, 0, 3)], -1) for n, m in (("W", "W"), ("U", "R"), ("b", "b"))
    }
    peepholes = {n: v for n, v in w.items() if n.startswith("p_")}
    torch.testing.assert_close(run(find("LSTM")(), x, moved | peepholes), run(find("V")(), x, w), rtol=0, atol=1e-13)
    none = w | {n: torch.zeros_like(v) for n, v in peepholes.items()}
    torch.testing.assert_close(run(find("V")(), x, none), run(find("NP")(), x, w), rtol=0, atol=1e-13)


def test_fgr_without_its_nine_matrices_is_v():
    w, x = draw(find("FGR")()), inputs()
    off = w | {n: torch.zeros_like(w[n]) for n in ("R_i", "R_f", "R_o")}
    torch.testing.assert_close(run(find("FGR")(), x, off), run(find("V")(), x, w), rtol=0, atol=1e-13)
    assert not torch.allclose(run(find("FGR")(), x, w), run(find("V")(), x, w))


def test_the_activation_functions_are_felt():
    w, x = draw(find("V")()), inputs()
    outcomes = [run(find(name)(), x, w) for name in ("V", "NIAF", "NOAF")]
    small = [run(find(name)(), x * 1e-4, {n: v * 1e-2 for n, v in w.items()}) for name in ("V", "NIAF", "NOAF")]
    for one in outcomes[1:]:
        assert (one - outcomes[0]).abs().max() > 1e-2
    for one in small[1:]:  # tanh(x) is x where x is small
        torch.testing.assert_close(one, small[0], rtol=1e-3, atol=1e-9)


# The memory as a weighted sum.


@pytest.mark.parametrize("name", ["LevyLSTM", "NoSRNN", "NoSRNNOut", "NoSRNNHidden"])
def test_the_memory_is_the_weighted_sum_of_contents(name):
    """Levy et al. 2018, eq. 7-8: c_t = sum_j w_j^t * n_j with w_j^t = i_j * prod_{k=j+1..t} f_k."""
    cell = find(name)()
    w, x = draw(cell), inputs()
    space, a = SimpleNamespace(**w), project(x, w["W"], w["b"])
    state, i, f, contents = initial_state(cell, a), [], [], []
    gates = 0 if name == "NoSRNNHidden" else w["U"].shape[-1] // H
    for t in range(T):
        s = list(a[t].split(H, -1))
        recurrent = (state[0] @ w["U"]).split(H, -1) if gates else ()
        for k, u in enumerate(recurrent):
            s[k] = s[k] + u
        i, f = [*i, sigmoid(s[0])], [*f, sigmoid(s[1])]
        contents.append(torch.tanh(s[-1]) if name == "LevyLSTM" else s[-1])
        state = cell.step(a[t], state, space)
        total = torch.zeros(R, B, H, dtype=torch.float64)
        for j in range(t + 1):
            weight = i[j]
            for k in range(j + 1, t + 1):
                weight = weight * f[k]
            total = total + weight * contents[j]
        torch.testing.assert_close(state[1], total, rtol=0, atol=1e-10)


# What is particular to one unit.


def test_slstm_is_stable_where_its_exponentials_are_not():
    cell = find("SLSTM")()
    w = draw(cell)
    a = project(inputs(), w["W"], w["b"])

    def run_shifted(f: float, i: float, dtype: torch.dtype) -> torch.Tensor:
        one = (a + torch.tensor([0.0, 0.0, f, i]).repeat_interleave(H)).to(dtype)
        return loop(cell, one, SimpleNamespace(**{n: v.to(dtype) for n, v in w.items()}), initial_state(cell, one))[0]

    h = run_shifted(0, 0, torch.float64)
    for i in (-60, 5, 300):  # a constant on i~ cancels
        torch.testing.assert_close(run_shifted(0, i, torch.float64), h, rtol=0, atol=1e-10)
        torch.testing.assert_close(run_shifted(0, i, torch.float32).double(), h, rtol=0, atol=1e-4)
    for f in (-300, 300):
        far = run_shifted(f, 300, torch.float32)
        assert torch.exp(torch.tensor(300.0)).isinf()
        assert far.isfinite().all()
        assert far.abs().max() <= 1


def test_lrus_first_values_are_the_papers_law():
    from seqbench.model.weights import initial_weights

    spec = find("LRU")().layer(I, 400)
    w = {n: v.double() for n, v in initial_weights(spec, [0, 1]).items()}
    radius = torch.exp(-torch.exp(w["nu"]))
    assert (radius < 1).all()
    torch.testing.assert_close(torch.exp(2 * w["log_gamma"]), 1 - radius**2, rtol=1e-3, atol=1e-6)
    assert (radius**2).mean().item() == pytest.approx(0.5, abs=1e-3)  # uniform in 0..1
    angle = torch.exp(w["theta"])
    assert angle.min() > 0
    assert angle.max() < 2 * torch.pi
    assert angle.mean().item() == pytest.approx(torch.pi, rel=0.1)
    assert not torch.equal(angle[0], angle[1])
