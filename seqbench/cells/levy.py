"""The LSTM and what is left of it without its simple RNN, or without its gates (Levy et al. 2018, arXiv 1805.03716).

    i, f, o = sigmoid(W x_t + U h_{t-1} + b)      n = tanh(W x_t + U h_{t-1} + b)      the S-RNN
    c_t = f * c_{t-1} + i * n                      h_t = o * tanh(c_t)

R replicas, B batch, H hidden.  Blocks stand in the order i, f, o, n, those that are there.
"""

import torch

from seqbench.cells.base import Cell, LinearCell, Weight
from seqbench.cells.tanh import Tanh


class LevyLSTM(Cell):
    """The paper's LSTM, without peepholes: the equations above."""

    paper = "Levy et al. 2018"
    gates, states = 4, 2

    def weights(self, hidden):
        return {"U": Weight((hidden, 4 * hidden), "orthogonal")}

    def parts(self, a, h, w):
        """i, f, o and n, [R, B, H] each; 1 for a gate that is missing."""
        i, f, o, n = torch.baddbmm(a, h, w.U).chunk(4, -1)
        return torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o), torch.tanh(n)

    def step(self, a, state, w):
        h, c = state
        i, f, o, n = self.parts(a, h, w)
        c = f * c + i * n
        return o * torch.tanh(c), c


class NoSRNN(LevyLSTM):
    """LSTM - S-RNN: n = W x_t, linear and without bias."""

    biased = 3

    def weights(self, hidden):
        return {"U": Weight((hidden, 3 * hidden), "orthogonal")}

    def parts(self, a, h, w):
        a_i, a_f, a_o, n = a.chunk(4, -1)
        u_i, u_f, u_o = (h @ w.U).chunk(3, -1)
        return torch.sigmoid(a_i + u_i), torch.sigmoid(a_f + u_f), torch.sigmoid(a_o + u_o), n


class NoSRNNOut(NoSRNN):
    """LSTM - S-RNN - OUT: also no output gate, h_t = tanh(c_t)."""

    gates, biased = 3, 2

    def weights(self, hidden):
        return {"U": Weight((hidden, 2 * hidden), "orthogonal")}

    def parts(self, a, h, w):
        a_i, a_f, n = a.chunk(3, -1)
        u_i, u_f = (h @ w.U).chunk(2, -1)
        return torch.sigmoid(a_i + u_i), torch.sigmoid(a_f + u_f), 1.0, n


class NoSRNNHidden(LinearCell):
    """LSTM - S-RNN - HIDDEN: n = W x_t, and the gates see x_t only: i, f, o = sigmoid(W x_t + b)."""

    paper = LevyLSTM.paper
    gates, states, biased = 4, 2, 3

    def weights(self, hidden):
        return {}

    def coefficients(self, a, w):
        i, f, _, n = a.chunk(4, -1)
        return (torch.sigmoid(f),), (torch.sigmoid(i) * n,)

    def read(self, a, memory, w):
        (c,) = memory
        _, _, o, _ = a.chunk(4, -1)
        return torch.sigmoid(o) * torch.tanh(c), c


class NoGates(Tanh):
    """LSTM - GATES: the S-RNN alone, h_t = tanh(W x_t + U h_{t-1} + b)."""

    paper = LevyLSTM.paper
