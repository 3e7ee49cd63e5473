"""How a batch is cut into pieces of work for compiled sequences on a CPU, and what each piece is given.

A batch is cut into tiles of TILE sequences; a replica's tile is one piece of work, whatever else there is.  So the
figures of a replica do not depend on how many there are, nor on the number of threads, nor on how long the others'
sequences are, by a bit.

T time, R replicas, B batch, I inputs, H hidden, G gates.  Strides are in floats, addresses in bytes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from seqbench.kernels.compiler.plan import Plan
from seqbench.kernels.cpu.arguments import by_field
from seqbench.kernels.cpu.dense import rounded
from seqbench.kernels.cpu.lowering import AHEAD, Fields, backward_fields, forward_fields

TILE = 16  # sequences: enough for two threads at the usual 32, and no less than a tile of the product needs
CHUNK = 256  # rows of derivatives that stay in the second cache until they go into the weights'

# A number, or what 1, the replica, its first row, the number of rows and the piece's number are multiplied by.
Entry = int | tuple[int, int, int, int, int]


def _strides(replica: int = 0, row: int = 0, piece: int = 0) -> Entry:
    """How much further a piece's part begins for each replica, row and piece."""
    return 0, 4 * replica, 4 * row, 0, 4 * piece


@dataclass(frozen=True)
class Tiles:
    """Sizes, and what follows from them alone; made once by `tiles`.

    Attributes:
        shared: whether all replicas read the same x.
        keep: whether a backward pass will follow.
        to_x: whether it goes on to x.
    """

    plan: Plan
    T: int
    R: int
    B: int
    I: int
    H: int
    shared: bool
    keep: bool
    to_x: bool

    @functools.cached_property
    def pieces(self) -> list[tuple[int, int, int]]:
        """(replica, first row, rows) of each."""
        return [(r, b, min(TILE, self.B - b)) for r in range(self.R) for b in range(0, self.B, TILE)]

    @functools.cached_property
    def height(self) -> int:
        """Rows of a tile; the last of a replica may have fewer, in as much room."""
        return min(TILE, self.B)

    @functools.cached_property
    def chunk(self) -> int:
        """Steps whose derivatives are held together."""
        return max(1, min(self.T, CHUNK // self.height))

    @functools.cached_property
    def ld(self) -> int:
        """From row to row of slots."""
        width = self.plan.slots * self.H
        return width if self.plan.slots == 1 else rounded(width)

    @functools.cached_property
    def room(self) -> tuple[int, int]:
        """Steps that there is room for: of slots, of what is saved."""
        return min(self.T, AHEAD), self.T if self.keep else 1

    @functools.cached_property
    def counts(self) -> tuple[int, ...]:
        """[R], pieces of each replica."""
        return (len(self.pieces) // self.R,) * self.R

    def cut(self, rows: Tensor) -> Tensor:
        """[R, B, H] as [pieces, height, H]."""
        missing = -self.B % self.height
        whole = F.pad(rows, (0, 0, 0, missing)) if missing else rows
        return whole.reshape(-1, self.height, self.H)

    def together(self, parts: Tensor) -> Tensor:
        """[pieces, height, H] as [R, B, H], in memory of its own."""
        return parts.clone().view(self.R, -1, self.H)[:, : self.B]

    @functools.cached_property
    def weights(self) -> dict[str, tuple[int, int, int]]:
        """Of each weight's derivative in a row of all: where it begins, its rows, from row to row."""
        plan, H = self.plan, self.H
        sizes = {"dW": (self.I, plan.gates * H), "db": (1, plan.gates * H)}
        sizes |= {f"dU_{name}": (plan.blocks[name][0] * H, plan.blocks[name][1] * H) for name in plan.matrices}
        sizes |= {f"drow_{name}": (1, plan.blocks[name][1] * H) for name in plan.rows}
        places, start = {}, 0
        for name, (rows, columns) in sizes.items():
            places[name] = start, rows, rounded(columns)
            start += rows * rounded(columns)
        return places

    @functools.cached_property
    def width(self) -> int:
        """Floats of a row of all weights' derivatives."""
        return sum(rows * ld for _, rows, ld in self.weights.values())

    @functools.cached_property
    def forward(self) -> Any:
        """Forward arguments, addresses left out: int64 [pieces, fields]"""
        plan, R, B, I, H, height = self.plan, self.R, self.B, self.I, self.H, self.height
        slot_steps, saved_steps = self.room
        ldw, tile = rounded(plan.gates * H), height * H
        entries: dict[str, Entry] = {
            "T": self.T, "B": (0, 0, 0, 1, 0), "I": I, "H": H, "tile": height,
            "first": (0, B * H, H, 0, 0), "step": R * B * H,
            "x": _strides(replica=0 if self.shared else B * I, row=I), "x_step": (1 if self.shared else R) * B * I,
            "W": _strides(replica=I * ldw), "b": _strides(replica=ldw), "ldw": ldw,
            "slots": _strides(piece=slot_steps * height * self.ld), "ld": self.ld,
            "slot_step": height * self.ld,
            "saved": _strides(piece=saved_steps * tile), "saved_step": tile if saved_steps > 1 else 0,
            "saved_plane": len(self.pieces) * saved_steps * tile, "product": 0, "state0": 0,
        }  # fmt: skip
        entries |= {f"state{k}": _strides(piece=(self.T + 1) * tile) for k in range(1, plan.states)}
        for name in plan.matrices:
            _, rows, ld = self.weights[f"dU_{name}"]
            entries |= {f"U_{name}": _strides(replica=rows * ld), f"ld_{name}": ld}
        entries |= {f"row_{name}": _strides(replica=plan.blocks[name][1] * H) for name in plan.rows}
        return self._table(forward_fields(plan), entries)

    @functools.cached_property
    def backward(self) -> Any:
        """What `backward` is given besides, likewise."""
        plan, H, tile = self.plan, self.H, self.height * self.H
        ldw_T = rounded(self.I)
        entries: dict[str, Entry] = {
            "chunk": self.chunk, "dslots": _strides(piece=self.chunk * self.height * self.ld),
            "carry": _strides(piece=plan.states * tile), "back": _strides(piece=max(1, plan.backs) * tile),
            "wants_first": 0, "dh": 0, "ones": 0, "ldw_T": ldw_T, "dx_step": self.R * self.B * self.I,
            # Without dx there is neither of the two.
            "W_T": _strides(replica=plan.gates * H * ldw_T) if self.to_x else 0,
            "dx": _strides(replica=self.B * self.I, row=self.I) if self.to_x else 0,
        }  # fmt: skip
        entries |= {name: (4 * start, 0, 0, 0, 4 * self.width) for name, (start, _, _) in self.weights.items()}
        for name in plan.matrices:
            rows, columns = (n * H for n in plan.blocks[name])
            entries |= {f"UT_{name}": _strides(replica=columns * rounded(rows)), f"ldt_{name}": rounded(rows)}
        return self._table(backward_fields(plan), entries)

    def _table(self, fields: Fields, entries: dict[str, Entry]) -> Any:
        row = by_field(fields.all, entries)
        factors = np.array([(e, 0, 0, 0, 0) if isinstance(e, int) else e for e in row], dtype=np.int64)
        pieces = np.array([(1, *tile, piece) for piece, tile in enumerate(self.pieces)], dtype=np.int64)
        return pieces @ factors.T


# Sequences of a few hundred lengths come again every epoch.
tiles = functools.lru_cache(512)(Tiles)
