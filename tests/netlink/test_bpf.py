"""Check the BPF assembler, above all that jumps reach their targets at any distance."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.effort import examples

from conntrack_aio.netlink.bpf import MAX_INSTRUCTIONS, Assembler, ProgramTooLong
from conntrack_aio.testing import bpf

Tree = int | tuple[str, int, "Tree", "Tree"]
"""A decision tree: a value to return, or a comparison, its operand and the two branches."""


def build(code: Assembler, tree: Tree, leaves: dict[int, int]) -> int:
    """Add a program that evaluates a tree, and return the label of its start.

    :param leaves: the label of each value that the program already returns.
    """
    if isinstance(tree, int):
        if tree not in leaves:
            leaves[tree] = code.ret(tree)
        return leaves[tree]
    test, k, then, other = tree
    then_label = build(code, then, leaves)
    other_label = build(code, other, leaves)
    jump = {
        "=": code.jump_equal,
        ">=": code.jump_at_least,
        ">": code.jump_above,
        "&": code.jump_any,
    }[test]
    return jump(k, then_label, other_label)


def walk(tree: Tree, a: int) -> int:
    """Return the value of a tree for the value ``a`` of the accumulator."""
    while not isinstance(tree, int):
        test, k, then, other = tree
        is_true = {"=": a == k, ">=": a >= k, ">": a > k, "&": bool(a & k)}[test]
        tree = then if is_true else other
    return tree


def run(code: Assembler, start: int, a: int) -> int:
    """Run the program at a label with the value ``a`` in the accumulator."""
    program = code.program(code.load_absolute(4, 0, start))
    return bpf.run(bpf.parse(program.pack()), a.to_bytes(4, "big"))


def trees() -> st.SearchStrategy[Tree]:
    return st.recursive(
        st.integers(0, 3),
        lambda inner: st.tuples(
            st.sampled_from(["=", ">=", ">", "&"]), st.integers(0, 15), inner, inner
        ),
        max_leaves=40,
    )


@settings(max_examples=examples(150), deadline=None)
@given(trees(), st.integers(0, 16))
def test_a_program_takes_the_same_branches_as_its_tree(tree: Tree, a: int) -> None:
    code = Assembler()
    start = build(code, tree, {})
    if start != len(code):
        return  # both branches are equal: no instruction was added for the root
    assert run(code, start, a) == walk(tree, a)


@pytest.mark.parametrize("count", [1, 253, 254, 255, 256, 257, 510, 511, 512, 1000, 4000])
def test_a_jump_reaches_its_target_at_any_distance(count: int) -> None:
    code = Assembler()
    accept, drop = code.ret(1), code.ret(2)
    label = drop
    for number in reversed(range(count)):
        label = code.jump_equal(number, accept, label)
    program = bpf.parse(assemble(code, label))
    for a in {0, count // 2, count - 1}:
        assert bpf.run(program, a.to_bytes(4, "big")) == 1
    assert bpf.run(program, count.to_bytes(4, "big")) == 2
    assert len(code) <= count + 2 + 2 * (count // 250) + 12


def assemble(code: Assembler, start: int) -> bytes:
    return code.program(code.load_absolute(4, 0, start)).pack()


def test_far_jumps_reach_random_targets() -> None:
    """There are many targets, each of them far from some of the jumps to it."""
    rng = random.Random(1)
    code = Assembler()
    labels = [(code.ret(number + 1), number + 1) for number in range(20)]
    for number in range(1500):
        (then, value), (other, other_value) = rng.choice(labels), rng.choice(labels)
        label = code.jump_equal(number, then, other)
        labels.append((label, -number))
        if label == len(code) and number % 100 == 0:
            for a in (number, number + 1):
                end = bpf.run(
                    bpf.parse(assemble(copy_assembler(code), label)), a.to_bytes(4, "big")
                )
                assert 1 <= end <= 20
                if a == number and value > 0:
                    assert end == value
                if a != number and other_value > 0:
                    assert end == other_value


def copy_assembler(code: Assembler) -> Assembler:
    other = Assembler()
    other.__dict__.update(code.__dict__)
    other.__dict__["_code"] = list(code.__dict__["_code"])
    return other


def test_a_program_with_too_many_instructions_is_an_error() -> None:
    code = Assembler()
    label = code.ret(0)
    for number in range(1000):
        label = code.jump_equal(number, code.ret(1), label)
    with pytest.raises(ProgramTooLong, match="4096"):
        [code.ret(1) for _ in range(MAX_INSTRUCTIONS)]


def test_a_listing_has_one_line_per_instruction() -> None:
    code = Assembler()
    accept, drop = code.ret(0xFFFFFFFF), code.ret(0)
    test = code.mask(0xFF, code.jump_equal(6, accept, drop))
    value = code.to_index(code.load_relative(1, 4, test))
    start = code.load_absolute(1, 16, code.jump_any(2, code.find(20, [1, 2], value, drop), drop))
    assert str(code.program(start)).splitlines() == [
        "   0: A = 1 byte at 16",
        "   1: if A & 0x2 go to 2, else to 13",
        "   2: A = 0x14",
        "   3: X = 1",
        "   4: A = position of attribute X, searching from A",
        "   5: if A = 0x0 go to 13, else to 6",
        "   6: X = 2",
        "   7: A = position of attribute X in the nest at A",
        "   8: if A = 0x0 go to 13, else to 9",
        "   9: X = A",
        "  10: A = 1 byte at X + 4",
        "  11: A = A & 0xff",
        "  12: if A = 0x6 go to 14, else to 13",
        "  13: drop",
        "  14: accept",
    ]
