"""A plan run on a GPU, in two kernels that Triton compiles: all steps forward, and all steps backward.

The interface and the memory are those of compiler/proof.py; numbers of the state are float32, whatever the inputs are.
The projection x W + b before and the weights' gradients after the steps are large products of torch's.

Without a GPU the kernels run in Triton's interpreter, slowly and for tests: TRITON_INTERPRET=1 before triton is first
imported.  T time, R replicas, B batch, H hidden, G gates, P slots.
"""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from seqbench.cells import State
from seqbench.kernels.compiler.plan import Pass, Plan, Product
from seqbench.kernels.compiler.proof import Memory
from seqbench.kernels.cpu.cache import source_module
from seqbench.kernels.gpu.source import scratch_planes, source

DTYPES = torch.float32, torch.bfloat16, torch.float16


def supported(device: torch.device, dtype: torch.dtype, H: int) -> str | None:
    """Why a layer cannot be run here; None if it can.

    Args: dtype: of the projected inputs and the weights.
    """
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if dtype not in DTYPES:
        return f"the GPU's kernels have no {dtype}"
    if H > 512:
        return f"a step at H = {H} does not fit the registers of the GPU's kernels (H <= 512)"
    if device.type == "cuda":
        old = torch.cuda.get_device_capability(device) < (8, 0)
        return "the GPU's kernels need compute capability 8.0" if old else None
    return None if device.type == "cpu" and interpreted() else f"Triton does not run on {device.type}"


def interpreted() -> bool:
    """Whether Triton runs its kernels in its interpreter."""
    import triton

    return bool(triton.knobs.runtime.interpret)


@dataclass(frozen=True)
class Launch:
    """How a plan is run at one size.

    Attributes:
        resident: whether the weights are.
        tile: rows of the batch in a program.
    """

    resident: bool
    tile: int

    def warps(self, H: int) -> int:
        """Of 32 threads, in a program: each thread has one column of four rows."""
        # As tl.dot spreads it, fewer threads spill their registers, and more read each weight more often.
        return min(max(padded(H) * self.tile // 128, 4), 16)


def padded(H: int) -> int:
    """Columns of a plane in a kernel: a power of two, and no fewer than tl.dot takes."""
    return max(16, 1 << (H - 1).bit_length())


@dataclass(frozen=True)
class _Gpu:
    """What a GPU has: multiprocessors, and bytes of shared memory that one program may take."""

    multiprocessors: int
    shared: int


@functools.cache
def _gpu(device: torch.device) -> _Gpu:
    if device.type != "cuda":
        return _Gpu(132, 232448)  # an H100's
    properties: Any = torch.cuda.get_device_properties(device)  # torch's stub lacks the second one
    return _Gpu(properties.multi_processor_count, properties.shared_memory_per_block_optin)


def choose(plan: Plan, R: int, B: int, H: int, dtype: torch.dtype, device: torch.device) -> Launch:
    """Small tiles as long as the GPU has a multiprocessor for each; weights resident where they fit."""
    gpu = _gpu(device)
    resident = _shared_bytes(plan, Launch(True, 4), H, dtype) <= gpu.shared
    launch = Launch(resident, 4)
    while R * -(-B // launch.tile) > gpu.multiprocessors and launch.tile < 16:
        larger = Launch(resident, 2 * launch.tile)
        if padded(H) * larger.tile > 2048 or (resident and _shared_bytes(plan, larger, H, dtype) > gpu.shared):
            break
        launch = larger
    return launch


def _shared_bytes(plan: Plan, launch: Launch, H: int, dtype: torch.dtype) -> int:
    """Shared memory that a kernel takes where weights are resident: tl.dot has its operands there."""
    used = {
        (op.block.weight, op.block.row, op.block.column + j)
        for op in plan.forward
        if isinstance(op, Product)
        for j in range(op.block.width)
    }
    read = {place for op in plan.backward if isinstance(op, Pass) for place in op.inputs()}
    loaded = sum(place.buffer in ("saved", "state", "next", "dh") for place in read)
    # The next step's planes, a product's left operands, and one more for what is laid out anew.
    planes = max(loaded, plan.gates) + scratch_planes(plan) + 1
    return len(used) * padded(H) ** 2 * dtype.itemsize + planes * launch.tile * padded(H) * 4


@functools.lru_cache(maxsize=128)
def _module(plan: Plan, resident: bool) -> ModuleType:
    return source_module("triton_kernels", source(plan, resident, interpreted()))


def _empty(device: torch.device, *shape: int) -> Tensor:
    return torch.empty(shape, device=device)


def forward(plan: Plan, a: Tensor, w: dict[str, Tensor], state: State, launch: Launch | None = None) -> Memory:
    """All steps; the hidden states are states[0][1:], in float32.

    Args:
        a: [T, R, B, G*H] projected inputs, in float32, bfloat16 or float16.
        w: the cell's weights, each [R, ...], in one of these; products are of numbers of their dtype.
        state: each [R, B, H].
        launch: for tests; what `choose` says if None.
    """
    T, R, B, _ = a.shape
    H = state[0].shape[-1]
    empty = functools.partial(_empty, a.device)
    memory = Memory.begun(plan, empty(T, R, B, plan.saved * H), w, state)
    weights = *memory.rows.values(), *memory.matrices.values()
    tensors = a.contiguous(), memory.saved, *memory.states, *weights
    _run("forward", plan, memory, tensors, launch or _chosen(plan, memory))
    return memory


def backward(
    plan: Plan, memory: Memory, dh: Tensor, dlast: list[Tensor], launch: Launch | None = None
) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
    """Derivatives by the projected inputs [T, R, B, G*H], by each weight [R, n*H, m*H] and by the first state: float32.

    Args: dh: [T, R, B, H] by the hidden states; dlast: by the last state, each [R, B, H]; launch: as in `forward`.
    """
    T, R, B, H = dh.shape
    launch = launch or _chosen(plan, memory)
    empty = functools.partial(_empty, dh.device)
    dslots = empty(T, R, B, plan.slots * H)
    carries = [empty(R, B, H).copy_(d) for d in dlast]
    drows = {name: empty(R, -(-B // launch.tile), row.shape[-1]) for name, row in memory.rows.items()}
    transposed = [matrix.mT.contiguous() for matrix in memory.matrices.values()]
    given = *memory.states, dh.float().contiguous()
    made = *carries, dslots, *drows.values()
    tensors = memory.saved, *given, *made, *memory.rows.values(), *transposed
    _run("backward", plan, memory, tensors, launch)
    dw = {name: parts.sum(1, keepdim=True) for name, parts in drows.items()}
    dw |= {name: torch.zeros_like(matrix, dtype=torch.float32) for name, matrix in memory.matrices.items()}
    memory.add_gradients(plan, dslots, dw)
    return dslots[..., : plan.gates * H], dw, carries


def _chosen(plan: Plan, memory: Memory) -> Launch:
    _, R, B, H = memory.states[0].shape
    weights = [*memory.matrices.values(), memory.states[0]]
    return choose(plan, R, B, H, weights[0].dtype, weights[0].device)


def _run(name: str, plan: Plan, memory: Memory, tensors: tuple[Tensor, ...], launch: Launch) -> None:
    steps, R, B, H = memory.states[0].shape
    tiles = -(-B // launch.tile)
    planes = 0 if launch.resident else R * tiles * scratch_planes(plan)
    scratch = _empty(memory.states[0].device, planes, launch.tile, padded(H))
    sizes: dict[str, Any] = {"H": H, "PADDED": padded(H), "TILE": launch.tile, "num_warps": launch.warps(H)}
    kernel = getattr(_module(plan, launch.resident), name)
    with torch.cuda.device_of(scratch):  # Triton would take the current one
        kernel[R, tiles](*tensors, scratch, steps - 1, R, B, **sizes)
