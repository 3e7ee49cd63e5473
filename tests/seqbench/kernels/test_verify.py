"""The verifier of plans: it finds nothing in a plan that was made, and each of many faults that are planted in one."""

import dataclasses

import pytest

from seqbench.cells import cells
from seqbench.kernels.compiler.expression import Expression, substitute
from seqbench.kernels.compiler.plan import Pass, Place, Plan, Product
from seqbench.kernels.compiler.planner import plan
from seqbench.kernels.compiler.trace import Unsupported
from seqbench.kernels.compiler.verify import faults


def plans() -> dict[str, Plan]:
    found = {}
    for name, kind in cells().items():
        try:
            found[name] = plan(kind())
        except Unsupported:
            continue
    return found


PLANS = plans()


@pytest.mark.parametrize("name", PLANS)
def test_nothing_is_wrong_with_the_plans_of_the_suite(name):
    assert faults(PLANS[name]) == []


def changed(of: Plan, part: str, number: int, **changes) -> Plan:
    """With some fields of one of its instructions changed."""
    instructions = list(getattr(of, part))
    instructions[number] = dataclasses.replace(instructions[number], **changes)
    return dataclasses.replace(of, **{part: tuple(instructions)})


def reading(of: Plan, part: str, number: int, old: Place, new: Place) -> Plan:
    """With a pass that reads another place."""
    outputs, memo = getattr(of, part)[number].outputs, {}
    known = {Expression("at", key=(old,)): Expression("at", key=(new,))}
    return changed(of, part, number, outputs=tuple((place, substitute(e, known, memo)) for place, e in outputs))


def without(of: Plan, part: str, number: int) -> Plan:
    kept = [op for k, op in enumerate(getattr(of, part)) if k != number]
    return dataclasses.replace(of, **{part: tuple(kept)})


def swapped(of: Plan, part: str, one: int, other: int) -> Plan:
    instructions = list(getattr(of, part))
    instructions[one], instructions[other] = instructions[other], instructions[one]
    return dataclasses.replace(of, **{part: tuple(instructions)})


def repeated(of: Plan, part: str, number: int) -> Plan:
    instructions = getattr(of, part)
    return dataclasses.replace(of, **{part: (*instructions, instructions[number])})


def gru() -> Plan:
    of = PLANS["GRU"]
    kinds = [[type(op).__name__ for op in part] for part in (of.forward, of.backward)]
    assert kinds == [["Product", "Pass", "Product", "Pass"], ["Pass", "Product", "Pass"]], str(of)
    return of


def writing_too(of: Plan, part: str, number: int, place: Place) -> Plan:
    """With a pass that puts its first value into another place as well."""
    outputs = getattr(of, part)[number].outputs
    return changed(of, part, number, outputs=(*outputs, (place, outputs[0][1])))


def unary_add() -> Expression:
    return Expression("add", (Expression("at", key=(Place("slot", 0),)),))


FAULTS = {
    "a slot is read before its product": (lambda p: swapped(p, "forward", 0, 1), "is added to|written after"),
    "a pass runs before one that it needs": (lambda p: swapped(p, "forward", 1, 3), "read before it is written"),
    "a backward pass runs before one that it needs": (lambda p: swapped(p, "backward", 0, 2), "read before"),
    "a plane that nobody wrote is read": (
        lambda p: dataclasses.replace(reading(p, "backward", 0, Place("saved", 1), Place("saved", 4)), saved=5),
        "read before it is written",
    ),
    "a saved plane is overwritten": (lambda p: writing_too(p, "forward", 3, Place("saved", 0)), "written twice"),
    "a saved plane is overwritten on the way back": (
        lambda p: writing_too(p, "backward", 0, Place("saved", 0)), "no place to be written",
    ),
    "a slot is added to after it was read": (lambda p: repeated(p, "forward", 0), "written after it was read"),
    "a product forgets what is there": (lambda p: changed(p, "forward", 0, add=False), "written twice"),
    "a product adds to nothing": (lambda p: changed(p, "backward", 1, add=True), "is added to before"),
    "a slot out of range": (
        lambda p: changed(p, "forward", 0, into=Place("slot", p.slots - 1)), "is out of range",
    ),
    "a saved plane out of range": (lambda p: dataclasses.replace(p, saved=p.saved - 1), "out of range"),
    "a state out of range": (lambda p: reading(p, "forward", 3, Place("state", 0), Place("state", 1)), "out of range"),
    "a block out of range": (
        lambda p: changed(p, "forward", 0, block=dataclasses.replace(p.forward[0].block, column=1)), "out of range",
    ),
    "a block of no weight": (
        lambda p: changed(p, "forward", 0, block=dataclasses.replace(p.forward[0].block, weight="X")), "out of range",
    ),
    "an operation with an operand too few": (
        lambda p: changed(p, "forward", 3, outputs=((Place("next"), unary_add()),)), "add of 1 operands",
    ),
    "the new state is not written": (lambda p: without(p, "forward", 3), r"next\[0\] is never written"),
    "a derivative by a slot is not written": (
        lambda p: changed(p, "backward", 2, outputs=p.backward[2].outputs[1:]), r"dslot\[\d\] is never written",
    ),
    "a derivative by a slot is written twice": (
        lambda p: writing_too(p, "backward", 2, Place("dslot", 2)), "written twice",
    ),
    "the derivative by the state before is lost": (
        lambda p: dataclasses.replace(changed(p, "backward", 2, outputs=p.backward[2].outputs[:1]), carry=()),
        r"carry\[0\] is never written",
    ),
    "the derivative by the state after is read too late": (
        lambda p: dataclasses.replace(p, backward=(*p.backward, p.backward[0])), "read after it was overwritten",
    ),
    "what goes back is of another product": (
        lambda p: changed(p, "backward", 1, left=Place("dslot", 1)), "goes back to products' left operands",
    ),
    "a product does not go back": (lambda p: without(p, "carry", 0), "goes back to the states"),
    "a state is held that has a derivative": (lambda p: changed(p, "forward", 0, held=True), "goes back to the states"),
    "a left operand is held that has one": (lambda p: changed(p, "forward", 2, held=True), "goes back to products'"),
    "what goes back is held": (lambda p: changed(p, "backward", 1, held=True), "what goes back is held"),
    "a weight has no gradient": (lambda p: without(p, "gradients", 0), "gradients are not those"),
    "a weight has its gradient twice": (lambda p: repeated(p, "gradients", 0), "gradients are not those"),
    "a weight's gradient is of another slot": (
        lambda p: changed(p, "gradients", -1, right=Place("dslot", 0)), "gradients are not those",
    ),
    "a plane is saved for nobody": (
        lambda p: dataclasses.replace(writing_too(p, "forward", 3, Place("saved", p.saved)), saved=p.saved + 1),
        "is never read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault):
    plant, expected = FAULTS[fault]
    found = faults(plant(gru()))
    assert found
    with pytest.raises(AssertionError, match=expected):
        raise AssertionError("\n".join(found))


def test_a_row_without_its_derivative_is_found():
    of = PLANS["PeepholeLSTM"]
    number = next(k for k, op in enumerate(of.backward) if isinstance(op, Pass) and _drows(op))
    outputs = tuple((place, e) for place, e in of.backward[number].outputs if place not in _drows(of.backward[number]))
    assert any("is never written" in line for line in faults(changed(of, "backward", number, outputs=outputs)))


def _drows(op: Pass) -> list[Place]:
    return [place for place, _ in op.outputs if place.buffer == "drow"]


def test_no_product_can_be_left_out_of_any_plan():
    """Nor any pass: each does something that another one, or the derivative, needs."""
    for of in PLANS.values():
        for part in ("forward", "backward", "carry", "gradients"):
            for number in range(len(getattr(of, part))):
                assert faults(without(of, part, number)), f"{part} {number} of\n{of}"


def test_the_order_of_a_plan_matters():
    """A product and the pass behind it, in every plan."""
    for of in PLANS.values():
        for number, (one, other) in enumerate(zip(of.forward, of.forward[1:], strict=False)):
            if isinstance(one, Product) and isinstance(other, Pass) and one.into in other.inputs():
                assert faults(swapped(of, "forward", number, number + 1))
