"""Long short-term memory as it came into being, in the notation of greff.py.  R replicas, B batch, H hidden.

Memory blocks of one cell each. They are trained, as all units here, by the full gradient, or by the papers' own:
truncated, it ends at y_{t-1}, so that errors go back in time through the memory c alone.
"""

import torch

from seqbench.cells.greff import V


class LSTM1997(V):
    """The first one: no forget gate, no peepholes, and logistic squashing functions.

    z_t = 4 sigmoid(W_z x_t + R_z y_{t-1} + b_z) - 2
    i_t = sigmoid(W_i x_t + R_i y_{t-1} + b_i)
    c_t = c_{t-1} + z_t * i_t
    o_t = sigmoid(W_o x_t + R_o y_{t-1} + b_o)
    y_t = (2 sigmoid(c_t) - 1) * o_t
    """

    paper = "Hochreiter & Schmidhuber 1997"
    gated = "io"
    peepholes = False

    def __init__(self, bias: bool = True, truncated: bool = False) -> None:
        """Args: bias: whether block input and gates have biases; truncated: whether gradients end at y_{t-1}."""
        super().__init__(bias)
        self.truncated = truncated

    def step(self, a, state, w):
        y, c = state
        return super().step(a, (y.detach() if self.truncated else y, c), w)

    def g(self, x):
        return 4 * torch.sigmoid(x) - 2

    def h(self, x):
        return 2 * torch.sigmoid(x) - 1


class ForgetLSTM(LSTM1997):
    """With a forget gate: c_t = c_{t-1} * f_t + z_t * i_t."""

    paper = "Gers et al. 2000"
    gated = "ifo"


class PeepholeLSTM(ForgetLSTM):
    """With peepholes too: i and f see c_{t-1}, o sees c_t; and without the output's squashing, y_t = c_t * o_t."""

    paper = "Gers & Schmidhuber 2000"
    peepholes = True

    def h(self, x):
        return x
