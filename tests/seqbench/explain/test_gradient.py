"""The norm of dh_t/dh_j against torch's own derivatives of the whole way from j to t."""

import numpy as np
import pytest
import torch

from seqbench.cells import cells
from seqbench.explain.gradient import gradient_norms
from seqbench.explain.values import run_layers
from seqbench.task import Task
from seqbench.train.module import SequenceModel

T, H = 6, 4
TASK = Task("made_up", 3, 3, "Bernoulli", "nats/frame", "", next_frame=True)


@pytest.mark.parametrize("name", ["Tanh", "IndRNN", "DiagonalRNN", "LSTM"])
def test_it_is_the_frobenius_norm_of_the_derivative(name, monkeypatch):
    """The LSTM, whose state is more than h, as a unit of several states without a gated memory would be."""
    monkeypatch.setattr("seqbench.explain.gradient.AT_ONCE", 3 * (2 * H) ** 2)  # several portions
    model = SequenceModel(cells()[name](), TASK, hidden=H, recurrence="loop")
    with torch.no_grad():
        model.rows.mul_(3)
    x = torch.rand(T, 3, generator=torch.Generator().manual_seed(0))
    (layer,) = run_layers(model, x, 0, 0)
    found = gradient_norms(layer)

    def later(h, j, t):
        state = (h, *(s[j + 1][None, None] for s in layer.states[1:]))
        for k in range(j + 1, t + 1):
            state = layer.cell.step(layer.a[k][None, None], state, layer.w)
        return state[0].flatten()

    for j in range(T):
        for t in range(T):
            expected = 0.0
            if t >= j:
                start = layer.states[0][j + 1][None, None]
                expected = torch.autograd.functional.jacobian(lambda h, j=j, t=t: later(h, j, t), start).norm().item()
            assert found[j, t] == pytest.approx(expected, rel=1e-5, abs=1e-7), (j, t)
    assert found.dtype == np.float32
