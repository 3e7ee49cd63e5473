"""Layers that read from both ends, against torch.nn's on packed sequences, and what holds of any such layer.

T time, R replicas, B batch, I inputs, H hidden units a direction.
"""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import seqbench
from seqbench import cells

T, B, I, H = 11, 5, 4, 6
STEPS = torch.tensor([7, T, 1, 7, 3])
LSTM = cells.LSTM(peepholes=False)
KINDS = ("W", "U", "b")


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def suffixes(layers: int) -> list[tuple[str, str]]:
    """Ours and torch.nn's, forwards before backwards, lowest layer first."""
    ways = [(f"_l{n}" if n else "", f"_l{n}") for n in range(layers)]
    return [(ours + way, theirs + way) for ours, theirs in ways for way in ("", "_reverse")]


def of_torch(layer: torch.nn.LSTM, gradient: bool = False) -> dict[str, torch.Tensor]:
    """The weights of torch's layers, or their gradients, by our names; the two biases are one of ours."""
    found = {}
    for ours, theirs in suffixes(layer.num_layers):
        W, U, b, c = (getattr(layer, f"{part}{theirs}") for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        values = (W.grad.T, U.grad.T, b.grad[None]) if gradient else (W.T, U.T, (b + c)[None])
        found |= {kind + ours: v.detach() for kind, v in zip(KINDS, values, strict=True)}
    return found


def packed(layer: torch.nn.LSTM, x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """h [T, B, 2H] and the states of all layers in our order."""
    out, (h, c) = layer(pack_padded_sequence(x, STEPS, enforce_sorted=False))
    return pad_packed_sequence(out)[0], tuple(s for pair in zip(h, c, strict=True) for s in pair)


def loss(h: torch.Tensor, states: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return h.square().sum() + sum(s.sin().sum() for s in states)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=str)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("replicas", [None, 2])
def test_it_is_torchs_layer_on_packed_sequences(replicas, layers, dtype, tolerance):
    """Outputs, the states at the ends and all gradients, of sequences of unequal length, the longest not first."""
    theirs = [torch.nn.LSTM(I, H, layers, bidirectional=True).to(dtype) for _ in range(replicas or 1)]
    own = seqbench.Recurrent(LSTM, I, H, layers=layers, bidirectional=True, replicas=replicas).to(dtype)
    mapped = [of_torch(layer) for layer in theirs]
    own.w.load_state_dict({name: torch.stack([m[name] for m in mapped]).view(v.shape) for name, v in own.w.items()})
    x = drawn(T, B, I).to(dtype).requires_grad_()
    x_own = x.detach().clone().requires_grad_()
    h, last = own(x_own, steps=STEPS)
    loss(h, last).backward()
    for k, layer in enumerate(theirs):
        expected, states = packed(layer, x)
        loss(expected, states).backward()
        found = (h[:, k], tuple(s[k] for s in last)) if replicas else (h, last)
        torch.testing.assert_close(found, (expected, states), rtol=tolerance, atol=tolerance)
        for name, gradient in of_torch(layer, gradient=True).items():
            ours = own.w[name].grad[k] if replicas else own.w[name].grad
            torch.testing.assert_close(ours, gradient, rtol=10 * tolerance, atol=10 * tolerance)
    torch.testing.assert_close(x_own.grad, x.grad, rtol=10 * tolerance, atol=10 * tolerance)
