"""The vanilla LSTM and what becomes of it when one part is taken away (Greff et al. 2015, arXiv 1503.04069).

R replicas, B batch, H hidden.  What is taken away takes its weights with it: columns of W, R and b, and peepholes.
"""

import torch

from seqbench.cells.base import Cell, Weight


class V(Cell):
    """Vanilla LSTM.

    z_t = g(W_z x_t + R_z y_{t-1} + b_z)                            g = tanh
    i_t = sigmoid(W_i x_t + R_i y_{t-1} + p_i * c_{t-1} + b_i)
    f_t = sigmoid(W_f x_t + R_f y_{t-1} + p_f * c_{t-1} + b_f)
    c_t = z_t * i_t + c_{t-1} * f_t
    o_t = sigmoid(W_o x_t + R_o y_{t-1} + p_o * c_t + b_o)
    y_t = h(c_t) * o_t                                              h = tanh
    """

    paper = "Greff et al. 2015"
    states = 2
    gated = "ifo"  # a gate that is missing stands open: it is 1
    peepholes = True

    def __init__(self, bias: bool = True) -> None:
        """Args: bias: whether block input and gates have biases."""
        super().__init__(bias)
        self.gates = 1 + len(self.gated)

    def weights(self, hidden):
        peephole = Weight((1, hidden), "zeros", noisy=False)
        peepholes = {f"p_{name}": peephole for name in self.gated if self.peepholes}
        return {"R": Weight((hidden, self.gates * hidden), "orthogonal")} | peepholes

    def g(self, x):
        return torch.tanh(x)

    def h(self, x):
        return torch.tanh(x)

    def step(self, a, state, w):
        return self.block(a, state[0], state[1], w)[:2]

    def block(self, a, y, c, w):
        """The next y and c, and the gates i, f, o; [R, B, H] each."""
        z, *gates = torch.baddbmm(a, y, w.R).chunk(self.gates, -1)
        before = dict(zip(self.gated, gates, strict=True))
        i = self.gate("i", before, c, w)
        f = self.forget_gate(i, before, c, w)
        c = self.g(z) * i + c * f
        o = self.gate("o", before, c, w)
        return self.h(c) * o, c, i, f, o

    def gate(self, name, before, c, w):
        """sigmoid(W x + R y + b + p * c) of a gate, W x + R y + b being `before` by name; 1 if it is missing."""
        if name not in before:
            return 1.0
        return torch.sigmoid(before[name] + getattr(w, f"p_{name}") * c if self.peepholes else before[name])

    def forget_gate(self, i, before, c, w):
        """f from the input gate and what all gates see."""
        return self.gate("f", before, c, w)


class NIG(V):
    """No input gate: i = 1."""

    gated = "fo"


class NFG(V):
    """No forget gate: f = 1."""

    gated = "io"


class NOG(V):
    """No output gate: o = 1."""

    gated = "if"


class NIAF(V):
    """No input activation function: g(x) = x."""

    def g(self, x):
        return x


class NOAF(V):
    """No output activation function: h(x) = x."""

    def h(self, x):
        return x


class NP(V):
    """No peepholes: p = 0."""

    peepholes = False


class CIFG(V):
    """Coupled input and forget gate: f = 1 - i."""

    gated = "io"

    def forget_gate(self, i, before, c, w):
        return 1 - i


class FGR(V):
    """Full gate recurrence: all gates see all gates of the step before, through nine more H x H matrices.

    Each gate's sum has also R_i i_{t-1} + R_f f_{t-1} + R_o o_{t-1}; these gates are zero before the first step.
    """

    states = 5

    def weights(self, hidden):
        matrix = Weight((hidden, 3 * hidden), "orthogonal")
        return super().weights(hidden) | {"R_i": matrix, "R_f": matrix, "R_o": matrix}

    def step(self, a, state, w):
        y, c, i, f, o = state
        a_z, *a_gates = a.chunk(4, -1)
        seen = i @ w.R_i + f @ w.R_f + o @ w.R_o
        return self.block(torch.cat([a_z, torch.cat(a_gates, -1) + seen], -1), y, c, w)
