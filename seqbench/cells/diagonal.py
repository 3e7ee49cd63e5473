"""Units whose hidden units see of the last state only their own.  R replicas, B batch, H hidden.

Recurrent weights are vectors u [1, H], the diagonals of matrices.
"""

import torch

from seqbench.cells.base import Cell, Weight, between


class DiagonalRNN(Cell):
    """h_t = tanh(W x_t + u * h_{t-1} + b)   (Subakan & Smaragdis 2017, arXiv 1704.05420).

    First u uniform in -1..1, the eigenvalues that neither vanish nor explode.
    """

    gates = 1
    paper = "Subakan & Smaragdis 2017"

    def weights(self, hidden):
        return {"u": Weight((1, hidden), between(-1, 1), noisy=False)}

    def step(self, a, state, w):
        (h,) = state
        return (torch.tanh(a + w.u * h),)  # [R, B, H]


class IndRNN(Cell):
    """h_t = relu(W x_t + u * h_{t-1} + b)   (Li et al. 2018, arXiv 1803.04831).

    First u uniform in 0..1.  The paper keeps |u| below 2^(1/T) by clipping it in training; here gradients are clipped.
    """

    gates = 1
    paper = "Li et al. 2018"

    def weights(self, hidden):
        return {"u": Weight((1, hidden), between(0, 1), noisy=False)}

    def step(self, a, state, w):
        (h,) = state
        return (torch.relu(a + w.u * h),)  # [R, B, H]
