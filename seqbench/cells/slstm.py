"""The xLSTM's scalar-memory unit.  R replicas, B batch, H hidden."""

import torch

from seqbench.cells.base import Cell, Weight


class SLSTM(Cell):
    """sLSTM: exponential gates, a normaliser n and a stabiliser m (Beck et al. 2024, arXiv 2405.04517, eq. 8-17).

    z_t = tanh(W_z x_t + R_z h_{t-1} + b_z);   o_t = sigmoid(W_o x_t + R_o h_{t-1} + b_o)
    f~ = W_f x_t + R_f h_{t-1} + b_f;   i~ = W_i x_t + R_i h_{t-1};   m_t = max(f~ + m_{t-1}, i~)
    f_t = exp(f~ + m_{t-1} - m_t);   i_t = exp(i~ - m_t)
    c_t = f_t * c_{t-1} + i_t * z_t;   n_t = f_t * n_{t-1} + i_t;   h_t = o_t * c_t / n_t

    Of the paper's choices: the forget gate is exp (not sigmoid), R is one full head (not block-diagonal), and the block
    around the unit is left out.  A constant added to every i~ cancels in c / n: so the paper's b_i would be a dead
    weight, and is left out; and m_0 = 0 is as good as any, as long as no first i~ is below -87 (float32).
    """

    gates, states = 4, 4  # states: h, c, n, m
    biased = 3
    paper = "Beck et al. 2024"

    def weights(self, hidden):
        return {"R": Weight((hidden, 4 * hidden), "orthogonal")}

    def step(self, a, state, w):
        h, c, n, m = state
        z, o, f, i = torch.baddbmm(a, h, w.R).chunk(4, -1)
        kept = f + m
        m = torch.maximum(kept, i)
        i, f = torch.exp(i - m), torch.exp(kept - m)
        c, n = f * c + i * torch.tanh(z), f * n + i
        return torch.sigmoid(o) * c / n, c, n, m  # [R, B, H] each
