"""Long short-term memory.  R replicas, B batch, H hidden."""

import torch

from seqbench.cells.base import Cell, Weight


class LSTM(Cell):
    """Long short-term memory with diagonal peepholes (Graves 2013; Chung et al. 2014, eq. 3-4).

    i_t = sigmoid(W_i x_t + U_i h_{t-1} + p_i * c_{t-1} + b_i)
    f_t = sigmoid(W_f x_t + U_f h_{t-1} + p_f * c_{t-1} + b_f)
    n_t = tanh(W_n x_t + U_n h_{t-1} + b_n)
    c_t = f_t * c_{t-1} + i_t * n_t
    o_t = sigmoid(W_o x_t + U_o h_{t-1} + p_o * c_t + b_o)
    h_t = o_t * tanh(c_t)
    """

    gates = 4
    states = 2
    paper = "Chung et al. 2014"

    def __init__(self, bias: bool = True, peepholes: bool = True) -> None:
        """Args: bias: whether gates and input have biases; peepholes: whether the gates see the memory cell."""
        super().__init__(bias)
        self.peepholes = peepholes

    def weights(self, hidden):
        matrix = {"U": Weight((hidden, 4 * hidden), "orthogonal")}
        peephole = Weight((1, hidden), "zeros", noisy=False)
        return matrix | ({"p_i": peephole, "p_f": peephole, "p_o": peephole} if self.peepholes else {})

    def step(self, a, state, w):
        h, c = state
        i, f, n, o = torch.baddbmm(a, h, w.U).chunk(4, -1)
        if self.peepholes:
            i, f = i + w.p_i * c, f + w.p_f * c
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(n)
        if self.peepholes:
            o = o + w.p_o * c
        return torch.sigmoid(o) * torch.tanh(c), c  # [R, B, H] each
