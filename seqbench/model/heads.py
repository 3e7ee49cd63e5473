"""Heads that see one step at a time: from hidden states to negative log-likelihoods in nats.

T time, R replicas, B batch, H hidden, K targets, M components of a mixture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from seqbench.model.affine import project
from seqbench.model.biaffine import Biaffine
from seqbench.model.head import Head, StepHead, at_least_float32
from seqbench.task import SIGMA, Task


class Bernoulli(StepHead):
    """Independent on/off targets, from logits: -sum_k [y_k ln s(o_k) + (1 - y_k) ln(1 - s(o_k))], on AND off terms."""

    @property
    def outputs(self) -> int:
        """One logit a target."""
        return self.target_size

    def nats(self, out: Tensor, y: Tensor) -> Tensor:
        """[T, R, B]; summed over the K targets, computed from logits, so exact however large they are."""
        out = at_least_float32(out)
        y = y.to(out.dtype).expand_as(out)
        return F.binary_cross_entropy_with_logits(out, y, reduction="none").sum(-1)

    def nats_of(
        self, h: Tensor, w: SimpleNamespace, y: Tensor, steps: Tensor | None = None, compiled: bool = False
    ) -> Tensor:
        """[T, R, B]; compiled, the logits never leave the CPU's cache."""
        if not compiled:
            return super().nats_of(h, w, y)
        from seqbench.kernels.cpu.output import bernoulli_nats

        return bernoulli_nats(h, w.V, w.c, y.float(), steps)

    def mean(self, out: Tensor) -> Tensor:
        """Probability of "on"."""
        return torch.sigmoid(out)

    @property
    def draws(self) -> int:
        """One a target."""
        return self.target_size

    def draw(self, out: Tensor, uniforms: Tensor, temperature: float = 1.0) -> Tensor:
        """Zeros and ones; the logits are divided by the temperature."""
        return (uniforms < torch.sigmoid(out.double() / temperature)).to(at_least_float32(out).dtype)


class GaussianMixture(StepHead):
    """A mixture of 20 Gaussians, each diagonal, each a density of all K targets jointly (Chung et al. 2014, speech).

    p(y) = sum_m pi_m prod_k N(y_k; mu_mk, sigma_mk^2), from 20 (1 + 2 K) numbers: the mixture's logits, then all means,
    then all ln sigma. Variances do not fall below MIN_SIGMA^2, which bounds the density on samples that do not vary;
    where ln sigma is below the bound, its gradient is 0. Finite, with finite gradients, for outputs up to 1e13.
    """

    COMPONENTS = 20
    # Far below what dequantised speech asks for: 16-bit samples have a uniform noise of one step, whose deviation is
    # 1e-4 to 2e-4 where the samples' own is 1.
    MIN_SIGMA = 1e-5

    @property
    def outputs(self) -> int:
        """A logit, K means and K logarithms of a deviation for each component."""
        return self.COMPONENTS * (1 + 2 * self.target_size)

    def nats(self, out: Tensor, y: Tensor) -> Tensor:
        """[T, R, B]; in float32 or better whatever autocast says."""
        with torch.autocast(out.device.type, enabled=False):
            logits, mean, log_sigma = self._parts(at_least_float32(out))
            log_sigma = log_sigma.clamp_min(math.log(self.MIN_SIGMA))
            z = (y.to(mean.dtype).unsqueeze(-2) - mean) * torch.exp(-log_sigma)  # [T,R,B,M,K]
            log_density = -(0.5 * z.square() + log_sigma).sum(-1)  # [T,R,B,M]
            mixed = torch.logsumexp(logits + log_density, -1) - torch.logsumexp(logits, -1)
            return 0.5 * self.target_size * math.log(2 * math.pi) - mixed

    def nats_of(
        self, h: Tensor, w: SimpleNamespace, y: Tensor, steps: Tensor | None = None, compiled: bool = False
    ) -> Tensor:
        """[T, R, B]; compiled, in one pass over the outputs, which torch takes a dozen for."""
        if not compiled:
            return super().nats_of(h, w, y)
        from seqbench.kernels.cpu.output import mixture_nats

        return mixture_nats(h, w.V, w.c, y.float(), self.COMPONENTS, math.log(self.MIN_SIGMA), steps)

    def mean(self, out: Tensor) -> Tensor:
        """sum_m pi_m mu_m."""
        logits, mean, _ = self._parts(at_least_float32(out))
        return (torch.softmax(logits, -1).unsqueeze(-1) * mean).sum(-2)

    @property
    def draws(self) -> int:
        """One for the component, and one a target."""
        return 1 + self.target_size

    def draw(self, out: Tensor, uniforms: Tensor, temperature: float = 1.0) -> Tensor:
        """A component, then a Gaussian number for each target of it.

        The logits and each component's variances are taken by the temperature: pi^(1/t) and t sigma^2, as each
        Gaussian's density to the power of 1/t has.
        """
        logits, mean, log_sigma = self._parts(out.double())
        below = torch.softmax(logits / temperature, -1).cumsum(-1) < uniforms[..., :1]
        chosen = below.sum(-1).clamp_max(self.COMPONENTS - 1)[..., None, None]  # the last may miss 1 by rounding
        mean, log_sigma = (part.take_along_dim(chosen, -2).squeeze(-2) for part in (mean, log_sigma))
        sigma = math.sqrt(temperature) * log_sigma.clamp_min(math.log(self.MIN_SIGMA)).exp()
        return (mean + sigma * torch.special.ndtri(uniforms[..., 1:])).to(at_least_float32(out).dtype)

    def _parts(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [T, R, B, M], means and ln sigma [T, R, B, M, K]."""
        M, K = self.COMPONENTS, self.target_size
        logits, mean, log_sigma = out.split([M, M * K, M * K], -1)
        return logits, mean.unflatten(-1, (M, K)), log_sigma.unflatten(-1, (M, K))


class Categorical(StepHead):
    """One of K classes, from logits: ln sum_k exp(o_k) - o_y, over all classes; y [T, R or 1, B, 1] are ids."""

    # Logits at a time where no gradient is asked for: they stay in a CPU's cache.
    PIECE = 2**20
    counts = ("guesses",)

    @property
    def outputs(self) -> int:
        """One logit a class."""
        return self.target_size

    @property
    def uniform(self) -> float:
        """ln K: all classes alike."""
        return math.log(self.target_size)

    def nats(self, out: Tensor, y: Tensor) -> Tensor:
        """[T, R, B]; in float32 or better whatever autocast says."""
        with torch.autocast(out.device.type, enabled=False):
            out = at_least_float32(out)
            ids = y.long().expand(*out.shape[:3], 1).flatten()
            return F.cross_entropy(out.flatten(0, 2), ids, reduction="none").view(out.shape[:3])

    def nats_of(
        self, h: Tensor, w: SimpleNamespace, y: Tensor, steps: Tensor | None = None, compiled: bool = False
    ) -> Tensor:
        """[T, R, B]; for the whole of time at once only where gradients are wanted."""
        if torch.is_grad_enabled():
            return self.nats(project(h, w.V, w.c, compiled), y)
        return torch.cat([self.nats(out, part) for out, part in self._pieces(h, w, y, compiled)])

    def guesses(
        self, h: Tensor, w: SimpleNamespace, y: Tensor, steps: Tensor | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """Whether the likeliest class is the right one; all steps count."""
        right = torch.cat([out.argmax(-1) == part[..., 0] for out, part in self._pieces(h, w, y)])
        return [(right, torch.ones_like(right))]

    def _pieces(
        self, h: Tensor, w: SimpleNamespace, y: Tensor, compiled: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits and targets of some steps after the other."""
        steps = max(1, self.PIECE // (h.shape[1] * h.shape[2] * self.outputs))
        for part, targets in zip(h.split(steps), y.split(steps), strict=True):
            yield project(part, w.V, w.c, compiled), targets

    @property
    def draws(self) -> int:
        """One for the class."""
        return 1

    def draw(self, out: Tensor, uniforms: Tensor, temperature: float = 1.0) -> Tensor:
        """A class's id, [..., 1]; the logits are divided by the temperature."""
        p = torch.softmax(out.double() / temperature, -1).cumsum(-1)
        id_ = torch.searchsorted(p, uniforms.contiguous(), right=True)
        return id_.clamp_max(self.target_size - 1).to(at_least_float32(out).dtype)

    def mean(self, out: Tensor) -> Tensor:
        """The likeliest class's id, [T, R, B, 1], as classes have no mean."""
        return out.argmax(-1, keepdim=True)


class Certain(Categorical):
    """One of K classes, of which a guess is right only where the right class has a probability of 0.75 at least.

    All errors of the outputs are below 0.25 then (Hochreiter & Schmidhuber 1997, experiment 2; 0.3 in experiment 6).
    """

    BOUND = 0.75

    def guesses(
        self, h: Tensor, w: SimpleNamespace, y: Tensor, steps: Tensor | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """Whether the right class is as probable as that; all steps count."""
        least = -math.log(self.BOUND)
        right = torch.cat([self.nats(out, part) <= least for out, part in self._pieces(h, w, y)])
        return [(right, torch.ones_like(right))]


class Grammar(Categorical):
    """The next of K symbols where several are legal: y [T, R or 1, B, 2] has its id, and the legal ones as bits 2^k.

    Nats are those of the symbol that came.  A guess is right where all legal symbols are likelier than all others
    (Hochreiter & Schmidhuber 1997, experiment 1: they are the most active ones).
    """

    def nats(self, out: Tensor, y: Tensor) -> Tensor:
        """[T, R, B]; of the symbol that came."""
        return super().nats(out, y[..., :1])

    def guesses(
        self, h: Tensor, w: SimpleNamespace, y: Tensor, steps: Tensor | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """Whether the legal symbols are the likeliest; all steps count."""
        bits = torch.arange(self.outputs, device=y.device)
        right = []
        for out, part in self._pieces(h, w, y):
            legal = (part[..., 1:].long() >> bits & 1).bool()
            least, most = out.masked_fill(~legal, math.inf).amin(-1), out.masked_fill(legal, -math.inf).amax(-1)
            right.append(least > most)
        found = torch.cat(right)
        return [(found, torch.ones_like(found))]


class Gaussian(StepHead):
    """K numbers, each a Gaussian of deviation 0.04 around its output: the squared error, in nats.

    A guess is right where no output is off by more than 0.04 (Hochreiter & Schmidhuber 1997, experiments 4 and 5). The
    gradient is 1 / 0.04^2 = 625 times that of half the squared error.
    """

    counts = ("guesses",)

    @property
    def outputs(self) -> int:
        """A mean each."""
        return self.target_size

    @property
    def uniform(self) -> float:
        """As if each output were off by 1."""
        return self.target_size * (0.5 / SIGMA**2 + math.log(SIGMA * math.sqrt(2 * math.pi)))

    def nats(self, out: Tensor, y: Tensor) -> Tensor:
        """[T, R, B]; in float32 or better."""
        z = (y - at_least_float32(out)) / SIGMA
        return (0.5 * z.square() + math.log(SIGMA * math.sqrt(2 * math.pi))).sum(-1)

    def guesses(
        self, h: Tensor, w: SimpleNamespace, y: Tensor, steps: Tensor | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """Whether all outputs are within the bound; all steps count."""
        right = ((at_least_float32(project(h, w.V, w.c)) - y).abs() <= SIGMA).all(-1)
        return [(right, torch.ones_like(right))]

    @property
    def draws(self) -> int:
        """One a target."""
        return self.target_size

    def draw(self, out: Tensor, uniforms: Tensor, temperature: float = 1.0) -> Tensor:
        """Normal numbers around the outputs; the variance is multiplied by the temperature."""
        z = torch.special.ndtri(uniforms) * SIGMA * math.sqrt(temperature)
        return (out.double() + z).to(at_least_float32(out).dtype)

    def mean(self, out: Tensor) -> Tensor:
        """The output itself."""
        return out


def head_for(task: Task) -> Head:
    """The head that a task names."""
    return HEADS[task.head](task.target_size)


KINDS = (Bernoulli, GaussianMixture, Categorical, Certain, Grammar, Gaussian, Biaffine)
HEADS: dict[str, type[Head]] = {kind.__name__: kind for kind in KINDS}
