"""Large buffers used again: fresh ones cost more than what is computed in them, as each page is zeroed first."""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor

KEPT = 16  # as many as a deep stack's forward and backward hold at once
_free: list[Tensor] = []
_lock = threading.Lock()
_own = threading.local()


def take(*shape: int) -> Tensor:
    """A float32 tensor of that shape on the CPU, its values undefined."""
    size = math.prod(shape)
    with _lock:
        fitting = [k for k, buffer in enumerate(_free) if size <= buffer.numel() <= 2 * size + 4096]
        buffer = _free.pop(fitting[0]) if fitting else _new(size + size // 8 + 16)
    return buffer[:size].view(shape)


def _new(size: int) -> Tensor:
    # A tensor of inference mode could not be written outside of it.
    with torch.inference_mode(False):
        return torch.empty(size, dtype=torch.float32)


def give(*tensors: Tensor) -> None:
    """Takes buffers back that nobody uses any more."""
    with _lock:
        _free.extend(tensor if tensor._base is None else tensor._base for tensor in tensors)
        del _free[:-KEPT]


def own(size: int) -> Tensor:
    """At least so many floats, this thread's until it asks again: what was in a cache is in it still."""
    buffer: Tensor | None = getattr(_own, "buffer", None)
    if buffer is None or buffer.numel() < size:
        _own.buffer = buffer = _new(size)
    return buffer


class Lease:
    """Buffers that go back into the pool when autograd has forgotten them."""

    def __init__(self, *buffers: Tensor) -> None:
        self.buffers = buffers

    def __del__(self) -> None:
        give(*self.buffers)
