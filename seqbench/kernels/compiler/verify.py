"""What must hold of any plan, whatever the unit: all that compiled code, which checks nothing, relies on.

Each place is written before it is read, and left alone once it has been read; every operand is in range; every product
of the forward pass has its share in the derivative by its left operand and by its weight, once each.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from seqbench.kernels.compiler.expression import OPERATIONS, in_order
from seqbench.kernels.compiler.plan import Pass, Place, Plan, Product, WeightGradient

Share = tuple[str, int, int, int]  # one block's part in a product: weight, row, column, slot


def faults(plan: Plan) -> list[str]:
    """What is wrong with a plan, a line each; empty if nothing is."""
    return [*_ranges(plan), *_Order(plan).faults(), *_derivatives(plan)]


def _planes(place: Place, width: int) -> list[Place]:
    return [Place(place.buffer, place.plane + j, place.weight) for j in range(width)]


def _read(op: Pass | Product | WeightGradient) -> list[Place]:
    if isinstance(op, Pass):
        return op.inputs()
    if isinstance(op, WeightGradient):
        return [op.left, *_planes(op.right, op.block.width)]
    return _planes(op.left, op.block.width) if op.transposed else [op.left]


def _written(op: Pass | Product | WeightGradient) -> list[Place]:
    if isinstance(op, Pass):
        return [place for place, _ in op.outputs]
    if isinstance(op, WeightGradient):
        return []
    return [op.into] if op.transposed else _planes(op.into, op.block.width)


def _ranges(plan: Plan) -> Iterator[str]:
    """Places and blocks lie within what there is of them, and operations have their operands."""
    counts = {"slot": plan.slots, "dslot": plan.slots, "saved": plan.saved, "back": plan.backs, "dh": 1}
    counts |= dict.fromkeys(("state", "next", "carry"), plan.states)
    rows = {name: plan.blocks[name][1] for name in plan.rows}
    for op in (*plan.forward, *plan.backward, *plan.carry, *plan.gradients):
        for place in (*_read(op), *_written(op)):
            count = rows.get(place.weight, 0) if place.buffer in ("row", "drow") else counts.get(place.buffer, 0)
            if not 0 <= place.plane < count:
                yield f"{place} is out of range in: {op}"
        if not isinstance(op, Pass):
            block, (height, width) = op.block, plan.blocks.get(op.block.weight, (0, 0))
            if not (0 <= block.row < height and 0 <= block.column < block.column + block.width <= width):
                yield f"{block} is out of range in: {op}"
            continue
        for e in in_order(e for _, e in op.outputs):
            if e.args and (e.op not in OPERATIONS or len(e.args) != OPERATIONS[e.op].operands):
                yield f"{e.op} of {len(e.args)} operands is no operation in: {op}"


class _Order:
    """A step forward and one backward, gone through: which places have been written, which have been read since."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.written = {Place("slot", k) for k in range(plan.gates)} | {Place("dh")}
        self.written |= {Place("state", k) for k in range(plan.states)}
        self.written |= {Place("row", k, name) for name in plan.rows for k in range(plan.blocks[name][1])}
        self.old = {Place("carry", k) for k in range(plan.states)}  # by the state after the step, not yet before it
        self.read: set[Place] = set()

    def faults(self) -> Iterator[str]:
        plan = self.plan
        for op in plan.forward:
            yield from self.step(op, ("slot", "next", "saved"))
        yield from self.missing({"slot": plan.slots, "next": plan.states, "saved": plan.saved})
        self.written -= {Place("slot", k) for k in range(plan.slots)}  # gone with the step
        for op in (*plan.backward, *plan.carry):
            yield from self.step(op, ("dslot", "drow", "back", "carry"))
        for gradient in plan.gradients:
            yield from self.step(gradient, ())
        yield from self.missing({"dslot": plan.slots, "back": plan.backs, "carry": plan.states})
        drows = {Place("drow", e.plane, e.weight) for e in self.read if e.buffer == "row"}
        yield from (f"{place} is never written" for place in sorted(drows - self.written))
        unread = {place for place in self.written - self.read if place.buffer in ("saved", "back")}
        yield from (f"{place} is never read" for place in sorted(unread))

    def step(self, op: Pass | Product | WeightGradient, kinds: tuple[str, ...]) -> Iterator[str]:
        """Args: kinds: what may be written at this time."""
        for place in _read(op):
            if place not in self.written and place not in self.old:
                yield f"{place} is read before it is written in: {op}"
            if place.buffer == "carry" and place not in self.old:
                yield f"{place} is read after it was overwritten in: {op}"
            self.read.add(place)
        for place in _written(op):
            again = place in self.written
            if place.buffer not in kinds:
                yield f"{place} is no place to be written in: {op}"
            elif isinstance(op, Product) and op.add and not again:
                yield f"{place} is added to before it is written in: {op}"
            elif again and not (isinstance(op, Product) and op.add):
                yield f"{place} is written twice in: {op}"
            elif place in self.read and place not in self.old:
                yield f"{place} is written after it was read in: {op}"
            if place in self.old:  # read until now, as what it was
                self.old.discard(place)
                self.read.discard(place)
            self.written.add(place)

    def missing(self, counts: dict[str, int]) -> Iterator[str]:
        """Places that should have been written by now; counts: how many there are of a kind."""
        wanted = {Place(buffer, k) for buffer, count in counts.items() for k in range(count)}
        yield from (f"{place} is never written" for place in sorted(wanted - self.written))


def _derivatives(plan: Plan) -> Iterator[str]:
    """Each product once in the weights' gradients, and once in what goes back to its left operand."""
    forward: dict[Place, Counter[Share]] = defaultdict(Counter)
    by_weight: dict[Place, Counter[Share]] = defaultdict(Counter)
    back: dict[Place, Counter[Share]] = defaultdict(Counter)
    followed: dict[Place, Counter[Share]] = defaultdict(Counter)  # forward, but for what is held
    for op in (*plan.forward, *plan.backward, *plan.carry):
        if isinstance(op, Product) and op.transposed:
            back[op.into].update(_shares(op, op.left))
            if op.held:
                yield f"what goes back is held in: {op}"
        elif isinstance(op, Product):
            forward[op.left].update(_shares(op, op.into))
            if not op.held:
                followed[op.left].update(_shares(op, op.into))
    for gradient in plan.gradients:
        by_weight[gradient.left].update(_shares(gradient, gradient.right))
    if by_weight != forward:
        yield "the weights' gradients are not those of the products"
    states = {Place("carry", left.plane): group for left, group in followed.items() if left.buffer == "state"}
    if {into: group for into, group in back.items() if into.buffer == "carry"} != states:
        yield "what goes back to the states is not by their products"
    inner = sorted(sorted(group.items()) for left, group in followed.items() if left.buffer != "state")
    if sorted(sorted(group.items()) for into, group in back.items() if into.buffer == "back") != inner:
        yield "what goes back to products' left operands is not by their products"


def _shares(op: Product | WeightGradient, slot: Place) -> list[Share]:
    block = op.block
    return [(block.weight, block.row, block.column + j, slot.plane + j) for j in range(block.width)]
