"""What `seqbench bench` does before it times: each recurrence of a layer is compared with the loop in float64.

On outputs, last state and all gradients.  T time, R replicas, B batch, I inputs, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import get_args

import torch
from torch import Tensor

from seqbench import cells
from seqbench.cells import Cell
from seqbench.cells.rules import check_step
from seqbench.kernels import sequence
from seqbench.kernels.sequence import Recurrence, RecurrenceName, decide
from seqbench.model.budget import count_parameters, hidden_for_budget
from seqbench.model.heads import Bernoulli
from seqbench.model.recurrence import run_layer
from seqbench.model.stack import recurrent_matrices
from seqbench.model.weights import initial_weights
from seqbench.task import SeqbenchError

COMPILED: tuple[RecurrenceName, ...] = ("numba", "triton")


@dataclass(frozen=True)
class Shape:
    """A batch, and the hidden sizes of Chung et al. 2014 for it.

    Attributes:
        hidden: by unit: Tanh, GRU and LSTM.
        replicas: timed together beside one alone; None: what suits the device.
    """

    name: str
    B: int
    T: int
    I: int
    hidden: dict[str, int] = field(hash=False)
    replicas: int | None = None

    def size(self, cell: Cell) -> int:
        """H with as many parameters as the LSTM has; the LSTM's own for units without recurrent matrices.

        Their parameters grow with H, not with its square: at 20 inputs they would have thousands of hidden units.
        """
        name, lstm = type(cell).__name__, cells.find("LSTM")()
        if name in self.hidden:
            return self.hidden[name]
        if not recurrent_matrices(cell, 1, 1):
            return self.hidden["LSTM"]
        budget = count_parameters(lstm, self.I, self.hidden["LSTM"], Bernoulli(1)).recurrent
        return hidden_for_budget(cell, self.I, Bernoulli(1), budget, "recurrent")

    def __str__(self) -> str:
        return f"{self.name}: batch {self.B}, T {self.T}, input {self.I}"


ODD = Shape("odd", B=13, T=9, I=7, hidden={"Tanh": 11, "GRU": 11, "LSTM": 11})
SHAPES = (
    Shape("music", B=32, T=256, I=88, hidden={"Tanh": 100, "GRU": 46, "LSTM": 36}),
    # One sequence a step, as their code trains, of MuseData's mean length; ten rates of a search together.
    Shape("music, one by one", B=1, T=468, I=88, hidden={"Tanh": 104, "GRU": 48, "LSTM": 39}, replicas=10),
    Shape("speech", B=64, T=50, I=20, hidden={"Tanh": 400, "GRU": 227, "LSTM": 195}),
)


@dataclass(frozen=True)
class Check:
    """A recurrence against the loop in float64.

    Attributes:
        error: the largest |difference| over the largest |value|, of all tensors.
        rounding: that of the loop in float32, where it was asked for.
    """

    device: str
    unit: str
    recurrence: RecurrenceName
    shape: str
    dtype: str
    error: float
    rounding: float | None = None


@dataclass(frozen=True)
class Layer:
    """A unit's layer with its inputs, all drawn."""

    cell: Cell
    x: Tensor  # [T, R, B, I]
    w: dict[str, Tensor]
    state: tuple[Tensor, ...]

    @classmethod
    def drawn(cls, cell: Cell, shape: Shape, R: int) -> Layer:
        """From a fixed seed, float32; no weight is zero, and first states are positive, as sLSTM's normaliser is."""
        g, H = torch.Generator().manual_seed(0), shape.size(cell)
        check_step(cell, H)
        initial = initial_weights(cell.layer(shape.I, H), list(range(R)))
        w = {name: p + torch.randn(p.shape, generator=g) / 20 for name, p in initial.items()}
        state = tuple(torch.rand(R, shape.B, H, generator=g) + 0.5 for _ in range(cell.states))
        return cls(cell, torch.randn(shape.T, R, shape.B, shape.I, generator=g), w, state)

    def to(self, device: str, dtype: torch.dtype) -> Layer:
        w = {name: p.to(device, dtype) for name, p in self.w.items()}
        return replace(self, x=self.x.to(device, dtype), w=w, state=tuple(s.to(device, dtype) for s in self.state))

    def decided(self, wanted: RecurrenceName | None = None) -> Recurrence:
        hidden = self.w["W"].shape[-1] // self.cell.gates
        return decide(self.cell, hidden, self.w["W"], wanted)

    def outcome(self, wanted: RecurrenceName) -> list[Tensor]:
        """h, last state, and the gradients by x, weights and first state of a number made of all of them."""
        leaves = [p.clone().requires_grad_() for p in (self.x, *self.w.values(), *self.state)]
        x, *rest = leaves
        w = SimpleNamespace(**dict(zip(self.w, rest, strict=False)))
        h, last = run_layer(self.cell, x, w, self.decided(wanted), tuple(rest[len(self.w) :]))
        g = torch.Generator().manual_seed(1)
        number = sum(((out * torch.randn(out.shape, generator=g).to(out)).sum() for out in (h, *last)), h.new_zeros(()))
        grads = torch.autograd.grad(number, leaves, materialize_grads=True)
        return [tensor.detach() for tensor in (h, *last, *grads)]


def check_odd(cell: Cell, device: str) -> list[Check]:
    """Each recurrence at odd sizes with three replicas: compiled kernels in float32, the others in float64.

    Raises:
        SeqbenchError: an error above 1e-5 in float32, 1e-10 in float64.
    """
    layer = Layer.drawn(cell, ODD, 3)
    exact = layer.to("cpu", torch.float64).outcome("loop")
    checks = []
    for name in possible(cell, device):
        dtype, limit = (torch.float32, 1e-5) if name in COMPILED else (torch.float64, 1e-10)
        error = _error(layer.to(device, dtype).outcome(name), exact)
        precision = str(dtype).removeprefix("torch.")
        checks.append(_right(Check(device, type(cell).__name__, name, ODD.name, precision, error), limit))
    return checks


def check_timed(cell: Cell, shape: Shape, device: str, name: RecurrenceName) -> Check:
    """What will be timed, in float32.

    Raises:
        SeqbenchError: an error above 1e-5 and ten times the loop's own in float32: a memory that nothing is forgotten
            from carries roundings through hundreds of steps, the loop's as well.
    """
    layer = Layer.drawn(cell, shape, 1)
    exact = layer.to("cpu", torch.float64).outcome("loop")
    error, rounding = (
        _error(layer.to(where, torch.float32).outcome(n), exact) for where, n in ((device, name), ("cpu", "loop"))
    )
    check = Check(device, type(cell).__name__, name, shape.name, "float32", error, rounding)
    return _right(check, max(1e-5, 10 * rounding))


def _right(check: Check, limit: float) -> Check:
    if not check.error <= limit:
        raise SeqbenchError(
            f"{check.unit} run by {check.recurrence} on {check.device} differs from the loop by {check.error:.1e} of "
            f"its figures (sizes {check.shape}, {check.dtype}; at most {limit:.0e}): nothing was timed. Force another "
            f"by {sequence.VARIABLE}, and report it"
        )
    return check


def _error(outcome: list[Tensor], exact: list[Tensor]) -> float:
    errors = [torch.zeros((), dtype=torch.float64)]
    for ours, expected in zip(outcome, exact, strict=True):
        difference, largest = (ours.cpu().double() - expected).abs().max(), expected.abs().max()
        errors.append(difference / largest.clamp_min(torch.finfo(torch.float32).tiny))
    return torch.stack(errors).max().item()  # NaN where there is one


def possible(cell: Cell, device: str) -> list[RecurrenceName]:
    """What a cell can run by there, the loop left out."""
    names: list[RecurrenceName] = []
    for name in get_args(RecurrenceName):
        dtype = torch.float32 if name in COMPILED else torch.float64
        try:
            if name != "loop":
                names.append(decide(cell, 1, torch.empty(0, device=device, dtype=dtype), name).name)
        except SeqbenchError:
            continue
    return names


def fastest(cell: Cell, shape: Shape, device: str) -> RecurrenceName:
    """What a layer in float32 runs by there."""
    return decide(cell, shape.size(cell), torch.empty(0, device=device)).name
