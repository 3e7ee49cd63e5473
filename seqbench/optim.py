"""Optimisers over a replica axis.  R replicas: every parameter is [R, ...] and has its own rate and clipping."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from seqbench.kernels import cache
from seqbench.kernels.sequence import no_numba
from seqbench.task import SeqbenchError

# Steps that are elementwise and linear in the rate; each is tested against a solo run at that rate.
LINEAR_IN_RATE = (
    "ChungRMSProp", "SGD", "RMSprop", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta",
)  # fmt: skip


def over_replicas(rate: Tensor, parameter: Tensor) -> Tensor:
    """rate [R] as [R, 1, ...], to multiply a parameter [R, ...]."""
    return rate.view(-1, *[1] * (parameter.ndim - 1))


class ChungRMSProp(Optimizer):
    """The RMSProp of Chung et al.'s released code; another rule than torch.optim.RMSprop.

    v = rho v + (1 - rho) g^2;   m = momentum m + g / max(sqrt(v), floor);   p = p - lr m
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1.0,
        rho: float = 0.95,
        floor: float = 1e-2,
        momentum: float = 0.9,
    ) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "floor": floor, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; parameters without a gradient stay."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group, p, g, v, m in self._parts():
            v.mul_(group["rho"]).addcmul_(g, g, value=1 - group["rho"])
            m.mul_(group["momentum"]).addcdiv_(g, v.sqrt().clamp_min_(group["floor"]))
            p.add_(m, alpha=-group["lr"])
        return loss

    @property
    def compiles(self) -> bool:
        """Whether all parameters are where a compiled loop can take a step: on a CPU, in float32."""
        return not any(no_numba(p) for group in self.param_groups for p in group["params"])

    @torch.no_grad()
    def step_compiled(self, rates: Tensor, alive: Tensor) -> None:
        """One step of each replica that is alive [R] at its own rate [R], all in one loop, where `compiles` says so."""
        loop = cache.own_module("loops").chung_rmsprop
        for group, *tensors in self._parts():
            rows = [tensor.view(len(rates), -1).numpy() for tensor in tensors]
            rules = group["rho"], group["floor"], group["momentum"]
            loop(*rows, (group["lr"] * rates).double().numpy(), alive.numpy(), *rules)

    def _parts(self) -> Iterator[tuple[dict[str, Any], Tensor, Tensor, Tensor, Tensor]]:
        """Each parameter that has a gradient: its group, itself, the gradient, v and m."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if not self.state[p]:
                    self.state[p] = {"v": torch.zeros_like(p), "m": torch.zeros_like(p)}
                yield group, p, p.grad, self.state[p]["v"], self.state[p]["m"]


class PerReplica(Optimizer):
    """Any optimiser of LINEAR_IN_RATE, stepped at rate 1, its step then scaled by each replica's own rate.

    A replica that is not alive keeps its weights whatever its gradients are: rate 0 would not do, as 0 * NaN is NaN.
    A learning-rate scheduler works on the optimiser's own rate, which multiplies every replica's.
    """

    def __init__(self, base: Optimizer, rates: Tensor, alive: Tensor) -> None:
        """Args: base: over parameters [R, ...]; rates: [R]; alive: [R] bool, read at every step.

        Raises:
            SeqbenchError: the base's step is not linear in its rate, or a rate was given to it.
        """
        name = type(base).__name__
        if name not in LINEAR_IN_RATE:
            raise SeqbenchError(
                f"{name} cannot train replicas at rates of their own; use one of: {', '.join(LINEAR_IN_RATE)}"
            )
        default = inspect.signature(type(base)).parameters["lr"].default
        if any(group["lr"] not in (default, 1.0) for group in base.param_groups):
            raise SeqbenchError(
                "The learning rate belongs to the replica: give it as --model.rate, not to the optimizer"
            )
        for group in base.param_groups:
            group["lr"] = 1.0
        self.base, self.rates, self.alive = base, rates, alive
        super().__init__(base.param_groups, {})
        self._chung = base if isinstance(base, ChungRMSProp) else None
        if self._chung and self._chung.compiles:
            cache.own_module("loops")  # here, not in a step that is timed
        # One set of groups and one state: schedulers, gradient scalers and checkpoints see the base's.
        self.param_groups, self.state = base.param_groups, base.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of every replica that is alive."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        if self._chung and self._chung.compiles:
            self._chung.step_compiled(self.rates, self.alive)
            return loss
        params = [p for group in self.param_groups for p in group["params"]]
        before = [p.clone() for p in params]
        self.base.step()
        for p, old in zip(params, before, strict=True):
            moved = torch.addcmul(old, p - old, over_replicas(self.rates, p).to(p.dtype))
            torch.where(over_replicas(self.alive, p), moved, old, out=p)
        return loss

    # Else torch wraps it into a record for its profiler, which costs more than the step of a solo run.
    step.hooked = True  # type: ignore[attr-defined]

    def keep(self, slots: Tensor, alive: Tensor) -> None:
        """Goes on with the replicas in `slots` alone, after their weights were cut; `alive` is theirs, [R']."""
        R = len(self.rates)
        for state in self.state.values():
            for name, value in state.items():
                if torch.is_tensor(value) and value.ndim > 0 and len(value) == R:
                    state[name] = value[slots]
        self.rates, self.alive = self.rates[slots], alive

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Into the base, then shared again."""
        self.base.load_state_dict(state_dict)
        self.param_groups, self.state = self.base.param_groups, self.base.state


@torch.no_grad()
def clip_per_replica(grad: Tensor, limit: float | None) -> Tensor:
    """Rescales each replica's gradient, a row of [R, P], to norm `limit` where it is larger.

    Returns:
        The norms before, [R] float64.
    """
    # In float64, so that a replica's norm does not depend on how many are summed beside it.
    norm = torch.linalg.vector_norm(grad, dim=1, dtype=torch.float64)
    if limit is not None:
        grad.mul_((limit / norm.clamp_min(limit)).to(grad.dtype)[:, None])
    return norm
