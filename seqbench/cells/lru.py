"""The linear recurrent unit.  R replicas, B batch, H hidden."""

import math

import torch

from seqbench.cells.base import LinearCell, Weight, between


class LRU(LinearCell):
    """A complex diagonal linear recurrence (Orvieto et al. 2023, arXiv 2303.06349, their layer without the block).

    s_t = lambda * s_{t-1} + gamma * (B x_t)        lambda = exp(-exp(nu) + i exp(theta)),  gamma = exp(log gamma)
    h_t = Re(C s_t) + D x_t

    Written with real numbers: s = re + i im.  Their first values: |lambda|^2 uniform in 0..1, the angle in 0..2 pi,
    gamma = sqrt(1 - |lambda|^2).  Here the |lambda|^2 are evenly spaced instead of drawn, so that gamma follows.  B, C
    and D begin as all matrices of the suite.  No bias, as in the paper.
    """

    gates = 3  # real and imaginary part of B x, and D x
    states = 3  # h, re, im
    paper = "Orvieto et al. 2023"

    def __init__(self) -> None:
        super().__init__(bias=False)

    def weights(self, hidden):
        row, matrix = (1, hidden), Weight((hidden, hidden), "orthogonal")
        return {
            "C_re": matrix,
            "C_im": matrix,
            "nu": Weight(row, lambda shape, _: (-0.5 * squared_radii(shape).log()).log(), noisy=False),
            "theta": Weight(row, lambda shape, g: between(1e-3, 2 * math.pi)(shape, g).log(), noisy=False),
            "log_gamma": Weight(row, lambda shape, _: (1 - squared_radii(shape)).sqrt().log(), noisy=False),
        }

    def coefficients(self, a, w):
        radius, angle, gamma = torch.exp(-torch.exp(w.nu)), torch.exp(w.theta), torch.exp(w.log_gamma)
        re, im, _ = a.chunk(3, -1)
        return (radius * torch.cos(angle), radius * torch.sin(angle)), (gamma * re, gamma * im)

    def read(self, a, memory, w):
        re, im = memory
        _, _, d = a.chunk(3, -1)
        return torch.baddbmm(d, re, w.C_re) - im @ w.C_im, re, im  # [R, B, H] each


def squared_radii(shape):
    """|lambda|^2 of H units: the middles of H equal parts of 0..1."""
    return ((torch.arange(shape[-1]) + 0.5) / shape[-1]).view(shape)
