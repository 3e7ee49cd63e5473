"""Optimisers over a replica axis.  R replicas: every parameter is [R, ...] and has its own rate, clipping and norm."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from seqbench.kernels.cpu import cache
from seqbench.task import SeqbenchError

# Steps that are elementwise and linear in the rate; each is tested against a solo run at that rate.
LINEAR_IN_RATE = ("SGD", "RMSprop", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta")


def over_replicas(rate: Tensor, parameter: Tensor) -> Tensor:
    """rate [R] as [R, 1, ...], to multiply a parameter [R, ...]."""
    return rate.view(-1, *[1] * (parameter.ndim - 1))


def norms(rows: Tensor) -> Tensor:
    """[R] float64, of each replica's row of [R, P]."""
    # In float64, so that a replica's norm does not depend on how many are summed beside it.
    return torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)


class ChungRMSProp(Optimizer):
    """The update of the code that Chung et al. 2014 released (librnn, pylearn2): RMSProp with a floor and a held norm.

    v = rho v + (1 - rho) g^2;   m = momentum m - lr g / max(sqrt(v), floor);   p = p + m min(1, norm / |m|)

    |m| is over all parameters of a replica; m itself is kept as it is.  Not linear in the rate.

    Args:
        params: one tensor [R, P], a row a replica.
        lr: multiplies every replica's rate in `rates` [R], 1 unless set.
        rho: of the mean of squares.
        floor: the least divisor.
        momentum: of m.
        norm: the largest norm of an update.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1.0,
        rho: float = 0.95,
        floor: float = 1e-2,
        momentum: float = 0.9,
        norm: float = 1.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "floor": floor, "momentum": momentum, "norm": norm})
        if len(self.param_groups) != 1 or len(self.param_groups[0]["params"]) != 1:
            raise SeqbenchError("ChungRMSProp holds the norm of one tensor's update: give it one, a row a replica")
        self.parameter: Tensor = self.param_groups[0]["params"][0]
        self.rates = torch.ones(len(self.parameter), dtype=torch.float64, device=self.parameter.device)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step, each replica at its own rate."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        group, p, (v, m) = self.param_groups[0], self.parameter, self._averages()
        g = p.grad
        assert g is not None
        v.mul_(group["rho"]).addcmul_(g, g, value=1 - group["rho"])
        step = g / v.sqrt().clamp_min(group["floor"])
        m.mul_(group["momentum"]).sub_(over_replicas((group["lr"] * self.rates).to(p.dtype), p) * step)
        p.addcmul_(m, over_replicas((group["norm"] / norms(m).clamp_min(group["norm"])).to(p.dtype), p))
        return loss

    def floored(self) -> Tensor:
        """[R], the share of each replica's weights whose divisor was at the floor in the last step.

        Of those that a gradient has reached: an input that is never on leaves its weights where they are by any rule.
        """
        v, _ = self._averages()
        low = (v > 0) & (v.sqrt() <= self.param_groups[0]["floor"])
        return low.sum(1) / (v > 0).sum(1).clamp_min(1).double()

    @torch.no_grad()
    def step_compiled(self, alive: Tensor, clip: float, watched: Tensor) -> None:
        """One step of each replica that is alive [R], all in one compiled loop; as PerReplica.step."""
        loop, group, p = cache.own_module("loops").chung_rmsprop, self.param_groups[0], self.parameter
        assert p.grad is not None
        rows = [tensor.numpy() for tensor in (p.detach(), p.grad, *self._averages())]
        rules = group["rho"], group["floor"], group["momentum"], group["norm"]
        loop(*rows, (group["lr"] * self.rates).double().numpy(), alive.numpy(), clip, *rules, watched.numpy())

    def _averages(self) -> tuple[Tensor, Tensor]:
        state = self.state[self.parameter]
        if not state:
            state |= {"v": torch.zeros_like(self.parameter), "m": torch.zeros_like(self.parameter)}
        return state["v"], state["m"]


class PerReplica(Optimizer):
    """One optimiser for all replicas, each at its own rate and with its gradient clipped by its own norm.

    ChungRMSProp knows the rates itself; any other, one of LINEAR_IN_RATE, is stepped at rate 1 and its step scaled.
    A replica that is not alive keeps its weights whatever its gradients are: rate 0 would not do, as 0 * NaN is NaN.
    A learning-rate scheduler works on the optimiser's own rate, which multiplies every replica's.

    Attributes:
        watched: [3, R] float64, sums over `steps` steps: the gradient's norm before clipping, the update's norm over
            the weights', and the share of weights at the optimiser's floor; `watch` reads and clears them.
    """

    def __init__(
        self, base: Optimizer, rates: Tensor, alive: Tensor, clip: float | None = None, compiled: bool = False
    ) -> None:
        """Args: base: over one parameter [R, P]; rates: [R]; alive: [R] bool, read at every step, and set to False
        where a gradient is not finite; clip: the largest norm of a replica's gradient; compiled: whether ChungRMSProp
        takes its steps by code compiled for the CPU (`Recurrence.compiled`).

        Raises:
            SeqbenchError: the base's step is not linear in its rate, or a rate was given to it.
        """
        name = type(base).__name__
        self._chung = base if isinstance(base, ChungRMSProp) else None
        if not self._chung and name not in LINEAR_IN_RATE:
            raise SeqbenchError(
                f"{name} cannot train replicas at rates of their own; use one of: "
                f"ChungRMSProp, {', '.join(LINEAR_IN_RATE)}"
            )
        default = inspect.signature(type(base)).parameters["lr"].default
        if any(group["lr"] not in (default, 1.0) for group in base.param_groups):
            raise SeqbenchError(
                "The learning rate belongs to the replica: give it as --model.rate, not to the optimizer"
            )
        for group in base.param_groups:
            group["lr"] = 1.0
        self.base, self.alive, self.clip = base, alive, clip or math.inf
        self.parameter: Tensor = base.param_groups[0]["params"][0]
        super().__init__(base.param_groups, {})
        self._compiled = compiled
        if self._chung and self._compiled:
            cache.own_module("loops")  # here, not in a step that is timed
        # One set of groups and one state: schedulers, gradient scalers and checkpoints see the base's.
        self.param_groups, self.state = base.param_groups, base.state
        self._take(rates, alive)

    def _take(self, rates: Tensor, alive: Tensor) -> None:
        self.rates, self.alive = rates, alive
        if self._chung:
            self._chung.rates = rates
        self.steps, self.watched = 0, torch.zeros(3, len(rates), dtype=torch.float64, device=rates.device)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of every replica that is alive."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        self.steps += 1
        if self._chung and self._compiled:
            self._chung.step_compiled(self.alive, self.clip, self.watched)
            return loss
        p = self.parameter
        assert p.grad is not None
        gradient = norms(p.grad)
        self.alive.logical_and_(gradient < math.inf)
        if self.clip < math.inf:
            p.grad.mul_(over_replicas((self.clip / gradient.clamp_min(self.clip)).to(p.dtype), p))
        old = p.clone()
        self.base.step()
        moved = p if self._chung else torch.addcmul(old, p - old, over_replicas(self.rates, p).to(p.dtype))
        floored = self._chung.floored() if self._chung else torch.zeros_like(gradient)
        figures = torch.stack([gradient, norms(moved - old) / norms(old), floored])
        self.watched += torch.where(self.alive, figures, math.nan)
        torch.where(over_replicas(self.alive, p), moved, old, out=p)
        return loss

    # Else torch wraps it into a record for its profiler, which costs more than the step of a solo run.
    step.hooked = True  # type: ignore[attr-defined]

    def watch(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Means [R] over the steps since the last call, on the CPU.

        Returns:
            The gradient's norm, the update's over the weights', and the share of weights at the optimiser's floor, None
            where it has none.
        """
        gradient, update, floored = (self.watched / max(1, self.steps)).cpu()
        self.steps = 0
        self.watched.zero_()
        return gradient, update, floored if self._chung else None

    def keep(self, slots: Tensor, alive: Tensor) -> None:
        """Goes on with the replicas in `slots` alone, after their weights were cut; `alive` is theirs, [R']."""
        R = len(self.rates)
        for state in self.state.values():
            for name, value in state.items():
                if torch.is_tensor(value) and value.ndim > 0 and len(value) == R:
                    state[name] = value[slots]
        self._take(self.rates[slots], alive)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Into the base, then shared again."""
        self.base.load_state_dict(state_dict)
        self.param_groups, self.state = self.base.param_groups, self.base.state
