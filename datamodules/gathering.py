"""Sequences that lie end to end, side by side: by copies on a CPU, by an index on other devices.

T time, R replicas, B batch, I inputs, F frames, N sequences. Both functions take and return the same, to the bit.

Args: frames [F + 1, I], the last row zeros; starts [N] int64, each sequence's first row; lengths [N] int64, on the CPU;
index [R, B] int64, -1 an empty slot; at_least, the smallest T.

Returns: frames [T, R, B, I] float32, zeros after a sequence's end, T the longest of the batch; present [T, R, B] bool,
where its frames are; lengths [R, B] int64, on the CPU, 0 of an empty slot.

Raises: IndexError, an index points behind the last sequence.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def copied(
    frames: Tensor, starts: Tensor, lengths: Tensor, index: Tensor, at_least: int
) -> tuple[Tensor, Tensor, Tensor]:
    """For frames on a CPU: a sequence is copied in one piece, up to six times as fast as by an index."""
    rows, slots = frames.numpy(), index.numpy()
    counts = np.where(slots >= 0, lengths.numpy()[slots], 0)  # [R,B]
    T = max(int(counts.max()), at_least)
    out = np.zeros((T, slots.size, rows.shape[1]), np.float32)
    firsts = starts.numpy()[slots].ravel().tolist()
    for slot, (first, count) in enumerate(zip(firsts, counts.ravel().tolist(), strict=True)):
        out[:count, slot] = rows[first : first + count]
    present = np.arange(T)[:, None, None] < counts
    found = out.reshape(T, *slots.shape, -1)
    return torch.from_numpy(found), torch.from_numpy(present), torch.from_numpy(counts)


def indexed(
    frames: Tensor, starts: Tensor, lengths: Tensor, index: Tensor, at_least: int
) -> tuple[Tensor, Tensor, Tensor]:
    """For frames on any device: all rows at once; nothing waits for the device."""
    counts = lengths[index.cpu()].where(index.cpu() >= 0, 0)  # [R,B]
    steps = torch.arange(max(int(counts.max()), at_least), device=frames.device)[:, None, None]  # [T,1,1]
    present = steps < counts.to(frames.device, non_blocking=True)  # [T,R,B]
    rows = torch.where(present, starts[index.to(frames.device)] + steps, len(frames) - 1)  # [T,R,B]
    return frames.index_select(0, rows.flatten()).unflatten(0, rows.shape).float(), present, counts
