"""From a traced step to a plan.

Each projected input, together with the products added to it, is one *slot*, which the products accumulate; every other
product gets a slot of its own.  A pass computes all that can be computed at once, and one more pass is needed after
each product whose left operand is computed in the step itself.  Backward likewise: reverse mode over the expressions,
cut at the products' transposes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from seqbench.cells import Cell
from seqbench.kernels.compiler.expression import OPERATIONS, Expression, constant, in_order, substitute
from seqbench.kernels.compiler.plan import Block, Instruction, Pass, Place, Plan, Product, WeightGradient
from seqbench.kernels.compiler.trace import STATES, trace
from seqbench.kernels.compiler.verify import faults


def plan(cell: Cell) -> Plan:
    """The plan of a cell's step.

    Raises:
        seqbench.kernels.compiler.trace.Unsupported: the step cannot be compiled.
        AssertionError: the plan is wrong (verify.py), for which nothing but this package is to blame.
    """
    traced = trace(cell)
    made = _Planner(traced.outputs, cell.gates).plan(traced.blocks)
    if wrong := faults(made):
        raise AssertionError(f"a wrong plan for {type(cell).__name__}, please report it:\n" + "\n".join(wrong))
    return made


Term = tuple[Expression, str, int, int]  # left operand, weight, row and column of the block


class _Slots:
    """Puts projected inputs and products into slots."""

    def __init__(self, outputs: tuple[Expression, ...], gates: int) -> None:
        self.outputs = outputs
        self.onto: dict[Expression, list[Term]] = {Expression("slot", key=(k,)): [] for k in range(gates)}
        self.others: list[tuple[Expression, list[Term]]] = []  # slots that no input is put into
        self.memo: dict[Expression, Expression] = {}
        self.users: dict[Expression, int] = {}
        for used in [x for e in in_order(outputs) for x in e.args] + list(outputs):
            self.users[used] = self.users.get(used, 0) + 1

    def filled(self) -> tuple[tuple[Expression, ...], dict[Expression, list[Term]]]:
        """The outputs with slots for leaves, and the products that each slot accumulates."""
        outputs = [self.rewrite(e) for e in self.outputs]
        # Neighbouring columns of a weight go to neighbouring slots: one product fills them.
        self.others.sort(key=lambda pair: [term[1:] for term in pair[1]])
        gates = len(self.onto)
        number = {slot: Expression("slot", key=(gates + k,)) for k, (slot, _) in enumerate(self.others)}
        products = self.onto | {number[slot]: terms for slot, terms in self.others}
        memo: dict[Expression, Expression] = {}
        renamed = {
            slot: [(substitute(left, number, memo), weight, row, column) for left, weight, row, column in terms]
            for slot, terms in products.items()
        }
        return tuple(substitute(e, number, memo) for e in outputs), renamed

    def rewrite(self, e: Expression) -> Expression:
        if e not in self.memo:
            if e.op == "input":
                self.memo[e] = Expression("slot", key=e.key)
            elif e.op == "matmul":
                self.memo[e] = self.slot_of([e], None)
            elif e.op == "add":
                self.memo[e] = self.rewrite_sum(e)
            else:
                self.memo[e] = Expression(e.op, tuple(self.rewrite(x) for x in e.args), e.key)
        return self.memo[e]

    def rewrite_sum(self, e: Expression) -> Expression:
        """A sum: products that nobody else sees are accumulated onto a projected input that nobody else sees."""
        terms = list(self.terms(e, top=True))
        products = [x for x in terms if x.op == "matmul" and self.users[x] == 1]
        if not products:
            return Expression("add", tuple(self.rewrite(x) for x in e.args))
        gate = next((x for x in terms if x.op == "input" and self.users[x] == 1), None)
        total = self.slot_of(products, gate)
        for x in terms:
            if x not in products and x is not gate:
                total = total + self.rewrite(x)
        return total

    def terms(self, e: Expression, top: bool = False) -> Iterator[Expression]:
        """What a sum, and sums in it that nobody else sees, add up."""
        if e.op == "add" and (top or self.users[e] == 1):
            for x in e.args:
                yield from self.terms(x)
        else:
            yield e

    def slot_of(self, products: list[Expression], gate: Expression | None) -> Expression:
        terms: list[Term] = [(self.rewrite(x.args[0]), *x.key) for x in products]
        if gate is not None:
            slot = Expression("slot", key=gate.key)
            self.onto[slot] += terms
        else:
            slot = Expression("slot", key=("new", len(self.others)))
            self.others.append((slot, terms))
        return slot


class _Planner:
    """What follows from the outputs; each attribute from those above it."""

    def __init__(self, outputs: tuple[Expression, ...], gates: int) -> None:
        self.gates = gates
        self.outputs, self.products = _Slots(outputs, gates).filled()
        self.order = in_order([*self.outputs, *self.products], self.needs)  # all of the forward pass
        self.known = set(self.order)
        lefts = {left for terms in self.products.values() for left, *_ in terms}
        self.lefts = [e for e in self.order if e in lefts and e.op not in STATES]  # computed within the step
        # Of those that come of held states alone no derivative is asked for either.
        self.followed = [e for e in self.lefts if any(x.op in ("state", "slot", "row") for x in in_order([e]))]
        self.level: dict[Expression, int] = {}
        for e in self.order:
            after = self.ready if e.op == "slot" else self.level.__getitem__
            self.level[e] = max(map(after, self.needs(e)), default=0)
        self.dslot: dict[Expression, Expression] = {}
        self.drow: dict[Expression, Expression] = {}
        self.dstate = [constant(0.0) for _ in self.outputs]
        self.differentiate()
        self.back_level: dict[Expression, int] = {}
        self.saved: list[Expression] = []
        self.choose_saved()
        self.place = {e: Place("next", k) for k, e in enumerate(self.outputs) if not e.is_leaf}
        self.place |= {e: Place("saved", k) for k, e in enumerate(self.saved)}

    # Forward

    def needs(self, e: Expression) -> Iterable[Expression]:
        """What must be known before: operands, or the left operands of a slot's products."""
        return [left for left, *_ in self.products[e]] if e.op == "slot" else e.args

    def ready(self, left: Expression) -> int:
        """After how many passes a product with this left operand can be computed."""
        return 0 if left.op in STATES else self.level[left] + 1

    # Backward

    def differentiate(self) -> None:
        """Reverse mode: derivatives by slots, rows and states from those by outputs and left operands."""
        cotangent: dict[Expression, Expression] = {}

        def give(e: Expression, g: Expression | float) -> None:
            cotangent[e] = cotangent[e] + g if e in cotangent else constant(0.0) + g

        for k, e in enumerate(self.outputs):
            give(e, Expression("carry", key=(k,)))
        give(self.outputs[0], Expression("dh", key=(0,)))
        for e in reversed(self.order):
            if e in self.followed:
                give(e, Expression("back", key=(self.followed.index(e),)))
            g = cotangent.get(e, constant(0.0))
            if e.op == "slot":
                self.dslot[e] = g
            elif e.op == "row":
                self.drow[e] = g
            elif e.op == "state":
                self.dstate[e.key[0]] = g
            elif e.args and g.value != 0:
                for x, d in zip(e.args, OPERATIONS[e.op].derivative(e, g), strict=True):
                    give(x, d)

    def when(self, e: Expression) -> int:
        """The first backward pass that can compute an expression."""
        if e in self.known or (e.is_leaf and e.op != "back"):
            return 0
        if e not in self.back_level:
            if e.op == "back":
                left = self.followed[e.key[0]]
                slots = [slot for slot, terms in self.products.items() if left in [term[0] for term in terms]]
                self.back_level[e] = 1 + max(self.when(self.dslot[slot]) for slot in slots)
            else:
                self.back_level[e] = max(self.when(x) for x in e.args)
        return self.back_level[e]

    # What is saved

    def choose_saved(self) -> None:
        """Left operands, dear results that a later pass needs, and slots that a backward pass does.

        No slot outlives its step.  All else is computed again where it is needed.
        """
        self.saved += [left for left in self.lefts if left.op == "slot" or left not in self.outputs]
        before = -1
        while before < len(self.saved):
            before = len(self.saved)
            seen: set[Expression] = set()
            for e in [*self.dslot.values(), *self.drow.values(), *self.dstate]:
                self._read(e, None, seen)
            for level in range(max(self.level.values()) + 1):
                seen = set()
                for e in [*self.outputs, *self.lefts, *self.saved]:
                    if self.level[e] == level:
                        self._read(e, level, seen)

    def _read(self, e: Expression, by: int | None, seen: set[Expression]) -> None:
        """Saves what a pass has to load to compute an expression: forward pass `by`, or a backward one (None)."""
        if e in seen:
            return
        seen.add(e)
        if e.op == "slot" and by is None and e not in self.saved:
            self.saved.append(e)
        if e in self.known and not e.is_leaf and (by is None or self.level[e] < by):
            if e in self.outputs or e in self.saved:
                return
            # Of what is kept anyhow it is computed again: that takes less time than to write and read it.
            if OPERATIONS[e.op].dear and not all(x.op in STATES or x in self.outputs for x in e.args):
                self.saved.append(e)
                return
        for x in e.args:
            self._read(x, by, seen)

    # The plan

    def plan(self, blocks: dict[str, tuple[int, int]]) -> Plan:
        rows = tuple(sorted({e.key[0] for e in self.order if e.op == "row"}))
        forward = list(self.forward())
        backward, carry = self.backward()
        gradients = [
            WeightGradient(self.where(left), Place("dslot", into.plane), block)
            for left, into, block, _ in _merged([(*term[:5], True) for term in self.terms()])
        ]  # fmt: skip
        return Plan(
            gates=self.gates,
            states=len(self.outputs),
            slots=len(self.products),
            saved=len(self.saved),
            blocks=blocks,
            rows=rows,
            forward=tuple(forward),
            backs=len(self.followed),
            backward=tuple(backward),
            carry=tuple(carry),
            gradients=tuple(gradients),
        )

    def terms(self) -> list[tuple[Expression, int, str, int, int, bool]]:
        """All products: left operand, slot, weight, row, column, and whether the slot holds something before."""
        return [
            (left, slot.key[0], weight, row, column, slot.key[0] < self.gates or k > 0)
            for slot, terms in self.products.items()
            for k, (left, weight, row, column) in enumerate(sorted(terms, key=lambda term: self.ready(term[0])))
        ]

    def where(self, left: Expression) -> Place:
        """Where a left operand lies, then and when all steps are done."""
        return Place("state", left.key[0]) if left.op in STATES else self.place[left]

    def at(self, e: Expression, by: int | None, computed: dict[Expression, Place]) -> Place | None:
        """Where a pass finds a value, None if it computes it: forward pass `by`, or a backward one (None)."""
        if e in computed:
            return computed[e]
        if e.op == "row":
            return Place("row", e.key[1], e.key[0])
        if e.op in STATES:
            return Place("state", e.key[0])
        if e.op in ("carry", "dh", "back") or (e.op == "slot" and by is not None):
            return Place(e.op, e.key[0])
        if e in self.place and (by is None or self.level[e] < by):
            return self.place[e]
        return None

    def elementwise(
        self, roots: list[tuple[Place, Expression]], by: int | None, computed: dict[Expression, Place]
    ) -> Pass:
        known = {}
        for e in in_order([e for _, e in roots]):
            place = self.at(e, by, computed)
            if place is not None:
                known[e] = Expression("at", key=(place,))
        memo: dict[Expression, Expression] = {}
        return Pass(tuple((place, substitute(e, known, memo)) for place, e in roots))

    def forward(self) -> Iterator[Instruction]:
        for level in range(max(self.level.values()) + 1):
            ready = [term for term in self.terms() if self.ready(term[0]) == level]
            for left, into, block, add in _merged(ready):
                yield Product(self.where(left), block, into, add, held=left.op != "state" and left not in self.followed)
            roots = [(Place("next", k), e) for k, e in enumerate(self.outputs) if self.level[e] == level]
            roots += [(self.place[e], e) for e in self.saved if self.level[e] == level]
            if roots:
                yield self.elementwise(roots, level, {})

    def backward(self) -> tuple[list[Instruction], list[Product]]:
        direct = [term for term in self.terms() if term[0].op == "state"]
        with_products = {term[0].key[0] for term in direct}
        last = [(Place("drow", e.key[1], e.key[0]), g) for e, g in self.drow.items()]
        last += [(Place("carry", k), g) for k, g in enumerate(self.dstate) if g.value != 0 or k not in with_products]
        carried = {place.plane for place, _ in last if place.buffer == "carry"}
        passes = 1 + max(self.when(g) for g in [*self.dslot.values(), *self.drow.values(), *self.dstate])
        instructions: list[Instruction] = []
        computed: dict[Expression, Place] = {}
        for number in range(passes):
            roots = [(Place("dslot", s.key[0]), g) for s, g in self.dslot.items() if self.when(g) == number]
            written = roots + (last if number == passes - 1 else [])
            instructions.append(self.elementwise(written, None, dict(computed)))
            computed |= {g: place for place, g in roots if not g.is_leaf and g not in computed}
            for k, left in enumerate(self.followed):
                if self.when(Expression("back", key=(k,))) == number + 1:
                    terms = [term for term in self.terms() if term[0] is left]
                    instructions += _transposed(terms, Place("back", k), False)
        carry = []
        for k in sorted(with_products):
            carry += _transposed([term for term in direct if term[0].key[0] == k], Place("carry", k), k in carried)
        return instructions, carry


def _merged(
    terms: list[tuple[Expression, int, str, int, int, bool]],
) -> Iterator[tuple[Expression, Place, Block, bool]]:
    """Products of one left operand with neighbouring columns into neighbouring slots, as one."""
    runs: list[tuple[Expression, int, str, int, int, bool, int]] = []
    number = {left: k for k, left in enumerate(dict.fromkeys(left for left, *_ in terms))}
    for left, slot, weight, row, column, add in sorted(
        terms, key=lambda term: (number[term[0]], term[2], term[3], term[5], term[1])
    ):
        if runs:
            *same, width = runs[-1]
            if same == [left, slot - width, weight, row, column - width, add]:
                runs[-1] = (left, slot - width, weight, row, column - width, add, width + 1)
                continue
        runs.append((left, slot, weight, row, column, add, 1))
    for left, slot, weight, row, column, add, width in runs:
        yield left, Place("slot", slot), Block(weight, row, column, width), add


def _transposed(terms: list[tuple[Expression, int, str, int, int, bool]], into: Place, add: bool) -> list[Product]:
    """The products that take the slots' derivatives back to one left operand."""
    anyhow = [(*term[:5], True) for term in terms]
    products = []
    for number, (_, slot, block, _) in enumerate(_merged(anyhow)):
        products.append(Product(Place("dslot", slot.plane), block, into, add or number > 0, transposed=True))
    return products
