"""Gated recurrent units: the reset gate before the recurrent product, or after it.  R replicas, B batch, H hidden."""

import torch

from seqbench.cells.base import Cell, Weight


class GRU(Cell):
    """Gated recurrent unit (Cho et al. 2014; Chung et al. 2014, eq. 5-8).

    z_t = sigmoid(W_z x_t + U_z h_{t-1} + b_z)
    r_t = sigmoid(W_r x_t + U_r h_{t-1} + b_r)
    n_t = tanh(W_n x_t + U_n (r_t * h_{t-1}) + b_n)
    h_t = (1 - z_t) * h_{t-1} + z_t * n_t
    """

    gates = 3
    paper = "Chung et al. 2014"

    def weights(self, hidden):
        return {
            "U_zr": Weight((hidden, 2 * hidden), "orthogonal"),
            "U_n": Weight((hidden, hidden), "orthogonal"),
        }

    def step(self, a, state, w):
        (h,) = state
        a_z, a_r, a_n = a.chunk(3, -1)
        u_z, u_r = (h @ w.U_zr).chunk(2, -1)
        z, r = torch.sigmoid(a_z + u_z), torch.sigmoid(a_r + u_r)
        n = torch.tanh(a_n + (r * h) @ w.U_n)
        return (torch.lerp(h, n, z),)  # [R, B, H]


class GRUResetAfter(Cell):
    """The gated recurrent unit of cuDNN and torch.nn.GRU, another unit than Chung's: reset after the product.

    z_t = sigmoid(W_z x_t + U_z h_{t-1} + b_z)
    r_t = sigmoid(W_r x_t + U_r h_{t-1} + b_r)
    n_t = tanh(W_n x_t + b_n + r_t * (U_n h_{t-1} + c_n))
    h_t = z_t * h_{t-1} + (1 - z_t) * n_t
    """

    gates = 3
    paper = "torch.nn.GRU"

    def weights(self, hidden):
        matrix = {"U": Weight((hidden, 3 * hidden), "orthogonal")}
        return matrix | ({"c_n": Weight((1, hidden), "zeros", noisy=False)} if self.bias else {})

    def step(self, a, state, w):
        (h,) = state
        a_z, a_r, a_n = a.chunk(3, -1)
        u_z, u_r, u_n = (h @ w.U).chunk(3, -1)
        z, r = torch.sigmoid(a_z + u_z), torch.sigmoid(a_r + u_r)
        n = torch.tanh(a_n + r * (u_n + w.c_n if self.bias else u_n))
        return (torch.lerp(n, h, z),)  # [R, B, H]
