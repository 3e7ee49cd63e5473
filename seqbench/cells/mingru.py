"""Gated units whose gates see the input only (Feng et al. 2024, "Were RNNs All We Needed?", arXiv 2410.01201).

R replicas, B batch, H hidden.  Their plain form, without the logarithms that their own scan needs.
"""

import torch

from seqbench.cells.base import LinearCell


class MinGRU(LinearCell):
    """z_t = sigmoid(W_z x_t + b_z);  n_t = W_n x_t + b_n;  h_t = (1 - z_t) * h_{t-1} + z_t * n_t."""

    gates = 2
    paper = "Feng et al. 2024"

    def weights(self, hidden):
        return {}

    def coefficients(self, a, w):
        z, n = a.chunk(2, -1)
        # sigmoid(-z) is 1 - sigmoid(z) without its rounding
        return (torch.sigmoid(-z),), (torch.sigmoid(z) * n,)


class MinLSTM(LinearCell):
    """The gates divided by their sum, so that the scale of h does not depend on time.

    f_t = sigmoid(W_f x_t + b_f);   i_t = sigmoid(W_i x_t + b_i);   n_t = W_n x_t + b_n
    h_t = f_t / (f_t + i_t) * h_{t-1} + i_t / (f_t + i_t) * n_t
    """

    gates = 3
    paper = "Feng et al. 2024"

    def weights(self, hidden):
        return {}

    def coefficients(self, a, w):
        f, i, n = a.chunk(3, -1)
        f, i = torch.sigmoid(f), torch.sigmoid(i)
        return (f / (f + i),), (i / (f + i) * n,)
