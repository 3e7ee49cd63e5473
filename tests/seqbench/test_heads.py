"""The Gaussian mixture against torch.distributions, its scale, and its figures where numbers are extreme."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from seqbench.heads import GaussianMixture, head_for
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


def mixture(out: torch.Tensor) -> MixtureSameFamily:
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


def test_a_single_gaussian_by_hand(head):
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


def test_finite_values_and_gradients_at_the_extremes(head):
    """Silence, clipped samples and whatever a network in half precision may put out, logits of 6e4 included."""
    values = (-6e4, -20.0, 0.0, 20.0, 6e4)
    outs = [
        torch.cat([torch.linspace(-a, a, M), torch.full((M * K,), b), torch.full((M * K,), c)])
        for a, b, c in product(values, values, values)
    ]
    for sample in (0.0, -16.4, 16.4):
        out = torch.stack(outs)[:, None, None].requires_grad_()
        nats = head.nats(out, torch.full((len(outs), 1, 1, K), sample))
        assert nats.isfinite().all()
        assert torch.autograd.grad(nats.sum(), out)[0].isfinite().all()


def test_the_variance_floor_bounds_the_density(head):
    out = torch.cat([torch.zeros(M * (K + 1)), torch.full((M * K,), -1e3)]).view(1, 1, 1, -1)
    nats = head.nats(out, torch.zeros(1, 1, 1, K))
    assert nats.item() == pytest.approx(10 * (math.log(1e-5) + 0.5 * math.log(2 * math.pi)), rel=1e-6)
