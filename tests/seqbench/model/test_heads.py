"""The mixture and the classes against torch.distributions, their scale, and their figures where numbers are extreme."""

from __future__ import annotations

import math
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from seqbench.model import heads
from seqbench.model.heads import GaussianMixture, head_for
from seqbench.task import Task

TASK = Task("made up", 20, 10, "GaussianMixture", "nats/step", "")
T, R, B, M, K = 3, 2, 4, 20, 10


@pytest.fixture
def head() -> GaussianMixture:
    head = head_for(TASK)
    assert isinstance(head, GaussianMixture)
    return head


def drawn(dtype: torch.dtype = torch.float64, size: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    out = size * torch.randn(T, R, B, M * (1 + 2 * K), dtype=dtype, generator=g)
    return out.requires_grad_(), torch.randn(T, 1, B, K, dtype=dtype, generator=g)


def mixture(out: torch.Tensor, M: int = M, K: int = K) -> MixtureSameFamily:
    logits, mean, log_sigma = out[..., :M], out[..., M : M * (K + 1)], out[..., M * (K + 1) :]
    shape = (*out.shape[:-1], M, K)
    return MixtureSameFamily(
        Categorical(logits=logits), Independent(Normal(mean.reshape(shape), log_sigma.exp().reshape(shape)), 1)
    )


@pytest.mark.parametrize("size", [0.1, 1.0, 3.0])
def test_values_and_gradients_are_those_of_torch_distributions(head, size):
    assert head.outputs == 420
    out, y = drawn(size=size)
    y.requires_grad_()
    nats = head.nats(out, y)
    expected = -mixture(out).log_prob(y)
    assert nats.shape == (T, R, B)
    torch.testing.assert_close(nats, expected, rtol=1e-10, atol=1e-10)
    weights = torch.linspace(-1, 1, nats.numel(), dtype=torch.float64).view_as(nats)
    ours = torch.autograd.grad((nats * weights).sum(), (out, y))
    theirs = torch.autograd.grad((expected * weights).sum(), (out, y))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(head.mean(out), mixture(out).mean, rtol=1e-10, atol=1e-10)


def compiled(head: GaussianMixture, out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`nats` by the way that takes hidden states, which are the outputs here."""
    O = out.shape[-1]
    w = SimpleNamespace(V=torch.eye(O).expand(out.shape[1], O, O), c=torch.zeros(out.shape[1], 1, O))
    return head.nats_of(out, w, y, compiled=True)


class Few(GaussianMixture):
    COMPONENTS = 3


class Many(GaussianMixture):
    COMPONENTS = 37


@pytest.mark.parametrize("kind", [GaussianMixture, Few, Many])
@pytest.mark.parametrize(("T", "R", "B", "H", "K", "shared"), [(1, 1, 1, 1, 1, False), (40, 3, 17, 23, 7, True)])
def test_compiled_values_and_gradients_are_those_of_torch_distributions(kind, T, R, B, H, K, shared, monkeypatch):
    head = kind(K)
    M, g = head.COMPONENTS, torch.Generator().manual_seed(0)
    sizes = ((T, R, B, H), (R, H, head.outputs), (R, 1, head.outputs))
    h, V, c = (torch.randn(*size, generator=g).mul_(0.5).requires_grad_() for size in sizes)
    y = torch.randn(T, 1 if shared else R, B, K, generator=g)
    exact = [leaf.detach().double().requires_grad_() for leaf in (h, V, c)]
    out = torch.einsum("trbh,rho->trbo", *exact[:2]) + exact[2]
    monkeypatch.setattr("seqbench.model.heads.project", None)  # not by the plain way
    nats = head.nats_of(h, SimpleNamespace(V=V, c=c), y, compiled=True)
    expected = -mixture(out, M, K).log_prob(y.double())
    weights = torch.randn(nats.shape, generator=g)
    ours = [nats, *torch.autograd.grad(nats, (h, V, c), weights)]
    theirs = [expected, *torch.autograd.grad(expected, exact, weights.double())]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=3e-5 * float(b.detach().abs().max()))
    assert torch.equal(head.nats_of(h[:, :1], SimpleNamespace(V=V[:1], c=c[:1]), y[:, :1], compiled=True), nats[:, :1])


def test_a_compiled_log_sigma_below_the_floor_has_no_gradient(head):
    out, y = drawn(torch.float32)
    out = torch.cat([out.detach()[..., : M * (K + 1)], torch.full((T, R, B, M * K), -12.0)], -1).requires_grad_()
    (ours,) = torch.autograd.grad(compiled(head, out, y).sum(), out)
    (plain,) = torch.autograd.grad(head.nats(out, y).sum(), out)
    assert not ours[..., M * (K + 1) :].any()
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))


@pytest.mark.parametrize("column", [3, 50, 300])
def test_a_compiled_nan_spoils_its_row_and_no_other(head, column):
    out, y = (v.detach() for v in drawn(torch.float32))
    clean, spoilt = compiled(head, out, y), out.clone()
    spoilt[1, 1, 2, column] = math.nan
    nats = compiled(head, spoilt, y)
    assert nats[1, 1, 2].isnan()
    nats[1, 1, 2] = clean[1, 1, 2]
    assert torch.equal(nats, clean)


@pytest.mark.parametrize("way", [GaussianMixture.nats, compiled])
def test_a_single_gaussian_by_hand(head, way):
    """All components alike: 10 times -ln N(1.5; 1, 0.5^2)."""
    out = torch.cat([torch.zeros(M), torch.full((M * K,), 1.0), torch.full((M * K,), math.log(0.5))]).view(1, 1, 1, -1)
    nats = head.nats(out, torch.full((1, 1, 1, K), 1.5))
    assert nats.item() == pytest.approx(10 * (0.5 + math.log(0.5) + 0.5 * math.log(2 * math.pi)), rel=1e-6)


@pytest.mark.parametrize("scale", [0.01, 7.0, 2000.0])
def test_scaling_all_samples_shifts_by_ten_log_scale(head, scale):
    out, y = drawn()
    logits, mean, log_sigma = out.detach().split([M, M * K, M * K], -1)
    scaled = torch.cat([logits, scale * mean, log_sigma + math.log(scale)], -1)
    shift = head.nats(scaled, scale * y) - head.nats(out, y)
    torch.testing.assert_close(shift, torch.full_like(shift, 10 * math.log(scale)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_and_autocast_leave_the_density_in_float32(head, dtype):
    out, y = (v.detach() for v in drawn(torch.float32))
    expected = -mixture(out.to(dtype).float()).log_prob(y)
    with torch.autocast("cpu", dtype=dtype):
        nats = head.nats(out.to(dtype), y)
        assert head.mean(out.to(dtype)).dtype == torch.float32
    assert nats.dtype == torch.float32
    torch.testing.assert_close(nats, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("way", [GaussianMixture.nats, compiled])
def test_finite_values_and_gradients_at_the_extremes(head, way):
    """Silence, clipped samples and whatever a network in half precision may put out, logits of 6e4 included."""
    values = (-6e4, -20.0, 0.0, 20.0, 6e4)
    outs = [
        torch.cat([torch.linspace(-a, a, M), torch.full((M * K,), b), torch.full((M * K,), c)])
        for a, b, c in product(values, values, values)
    ]
    for sample in (0.0, -16.4, 16.4):
        out = torch.stack(outs)[:, None, None].requires_grad_()
        nats = way(head, out, torch.full((len(outs), 1, 1, K), sample))
        assert nats.isfinite().all()
        assert torch.autograd.grad(nats.sum(), out)[0].isfinite().all()


@pytest.mark.parametrize("way", [GaussianMixture.nats, compiled])
def test_the_variance_floor_bounds_the_density(head, way):
    out = torch.cat([torch.zeros(M * (K + 1)), torch.full((M * K,), -1e3)]).view(1, 1, 1, -1)
    nats = way(head, out, torch.zeros(1, 1, 1, K))
    assert nats.item() == pytest.approx(10 * (math.log(1e-5) + 0.5 * math.log(2 * math.pi)), rel=1e-6)


WORDS = Task("made up", 1, 37, "Categorical", "nats/word", "", vocabulary=37, carried=True)


def of_classes(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, SimpleNamespace, torch.Tensor]:
    """h, V and c, y for 11 steps of 2 replicas."""
    g = torch.Generator().manual_seed(0)
    sizes = ((11, 2, 3, 5), (2, 5, 37), (2, 1, 37))
    h, V, c = (torch.randn(*size, dtype=dtype, generator=g).requires_grad_() for size in sizes)
    return h, SimpleNamespace(V=V, c=c), torch.randint(37, (11, 1, 3, 1), generator=g)


@pytest.mark.parametrize(("dtype", "compiled", "close"), [(torch.float64, False, 1e-12), (torch.float32, True, 2e-5)])
def test_classes_are_those_of_torch_distributions(dtype, compiled, close):
    head = head_for(WORDS)
    h, w, y = of_classes(dtype)
    exact = [leaf.detach().double().requires_grad_() for leaf in (h, w.V, w.c)]
    out = torch.einsum("trbh,rho->trbo", *exact[:2]) + exact[2]
    expected = -Categorical(logits=out).log_prob(y[..., 0])
    nats = head.nats_of(h, w, y, compiled=compiled)
    ours, theirs = torch.autograd.grad(nats.sum(), (h, w.V, w.c)), torch.autograd.grad(expected.sum(), exact)
    for a, b in zip([nats, *ours], [expected, *theirs], strict=True):
        torch.testing.assert_close(a.double(), b, rtol=close, atol=close)


def test_classes_in_pieces_of_time_are_the_same(monkeypatch):
    head = head_for(WORDS)
    h, w, y = of_classes()
    whole = head.nats_of(h, w, y)
    monkeypatch.setattr(heads.Categorical, "PIECE", 3 * 2 * 3 * 37)
    made = []
    monkeypatch.setattr(heads, "project", lambda h, *rest, plain=heads.project: made.append(len(h)) or plain(h, *rest))
    with torch.no_grad():
        torch.testing.assert_close(head.nats_of(h, w, y), whole.detach(), rtol=1e-12, atol=1e-12)
    assert made == [3, 3, 3, 2]
    ((right, of),) = head.guesses(h, w, y)
    guessed = (torch.einsum("trbh,rho->trbo", h, w.V) + w.c).argmax(-1)
    assert torch.equal(right, guessed == y[..., 0])
    assert of.all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_classes_in_half_precision_and_under_autocast_are_summed_in_float32(dtype):
    """A sum of 37 in bfloat16 would have an error of a tenth of a nat."""
    head = head_for(WORDS)
    out = torch.randn(11, 2, 3, 37, generator=torch.Generator().manual_seed(0)).to(dtype)
    y = torch.randint(37, (11, 1, 3, 1), generator=torch.Generator().manual_seed(1))
    expected = -Categorical(logits=out.double()).log_prob(y[..., 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        nats = head.nats(out, y)
    assert nats.dtype == torch.float32
    torch.testing.assert_close(nats.double(), expected, rtol=1e-5, atol=1e-5)


def test_classes_at_the_extremes():
    """Far from right costs as many nats as logits lie apart, and no more; a model that knows nothing costs ln K."""
    head = head_for(WORDS)
    out = torch.zeros(2, 1, 1, 37)
    out[1, ..., 5] = 6e4
    assert head.nats(out, torch.full((2, 1, 1, 1), 7)).flatten().tolist() == pytest.approx([math.log(37), 6e4])
    assert head.uniform == pytest.approx(math.log(37))
    assert head.mean(out[1:]).item() == 5
