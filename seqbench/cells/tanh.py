"""The traditional unit.  R replicas, B batch, H hidden."""

import torch

from seqbench.cells.base import Cell, Weight


class Tanh(Cell):
    """h_t = tanh(W x_t + U h_{t-1} + b)   (Elman 1990; Chung et al. 2014, eq. 2)."""

    gates = 1
    paper = "Elman 1990"

    def weights(self, hidden):
        return {"U": Weight((hidden, hidden), "orthogonal")}

    def step(self, a, state, w):
        (h,) = state
        return (torch.tanh(torch.baddbmm(a, h, w.U)),)  # [R, B, H]
