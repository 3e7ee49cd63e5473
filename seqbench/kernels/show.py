"""What becomes of a unit's step, stage by stage, to be read: `seqbench show UNIT --as STAGE` (docs/compiler.md)."""

from __future__ import annotations

from collections.abc import Callable

from seqbench.cells import Cell
from seqbench.kernels.compiler.plan import Plan
from seqbench.kernels.compiler.planner import plan
from seqbench.kernels.compiler.trace import Traced, Unsupported, trace
from seqbench.task import SeqbenchError


def shown(cell: Cell, stage: str) -> str:
    """The text of a stage: expressions, plan, numba, llvm or triton.

    Raises:
        SeqbenchError: the step cannot be compiled.
    """
    try:
        if stage == "expressions":
            return _expressions(trace(cell))
        stages: dict[str, Callable[[Plan], str]] = {"plan": str, "numba": _numba, "llvm": _llvm, "triton": _triton}
        return stages[stage](plan(cell))
    except Unsupported as reason:
        raise SeqbenchError(f"It cannot be compiled: {reason}") from None


def _expressions(traced: Traced) -> str:
    states = [f"state {k} becomes {e}" for k, e in enumerate(traced.outputs)]
    weights = [f"{name}: {rows} x {columns} blocks" for name, (rows, columns) in traced.blocks.items()]
    return "\n".join(states + weights)


def _numba(of: Plan) -> str:
    from seqbench.kernels.cpu.lowering import source

    return source(of)


def _llvm(of: Plan) -> str:
    """Optimised for this processor; compiled anew, as what numba loads from its cache cannot be looked at."""
    from seqbench.kernels.cpu import cache

    code = cache.numba_module("show", _numba(of).replace("cache=True", "cache=False"))
    for function in (code.forward, code.backward):
        function.compile("(int64[::1],)")
    return "\n".join(text for function in (code.forward, code.backward) for text in function.inspect_llvm().values())


def _triton(of: Plan) -> str:
    """With resident weights; streamed ones differ in how a product's right operand is read."""
    from seqbench.kernels.gpu.source import source

    return source(of, resident=True, interpreted=False)
