"""Every attribute in the kernel's headers is declared once."""

from __future__ import annotations

from collections import Counter
from enum import IntEnum
from typing import cast

import attrs
import pytest
from support.model_strategies import declared_classes as classes

from conntrack_aio import Flow, FlowEvent, Tuple
from conntrack_aio.codec.schema import Branch, Fork, Leaf, kernel_name, schema_of
from conntrack_aio.model.declare import attribute, message, sequence, variants
from conntrack_aio.model.helpers import UserspaceHelper
from conntrack_aio.model.requests import RequestOnly
from conntrack_aio.model.timeouts import TimeoutPolicy
from conntrack_aio.model.wire import PLACES, SEQUENCE, U8, U16, U32, At, Nest, SequencePlaces, at
from conntrack_aio.uapi import nfnetlink_conntrack, nfnetlink_cthelper, nfnetlink_cttimeout
from conntrack_aio.uapi.nfnetlink_conntrack import CTA, CTA_COUNTERS, CTA_IP, CTA_TUPLE
from conntrack_aio.uapi.nfnetlink_cthelper import NFCTH, NFCTH_POLICY, NFCTH_POLICY_SET
from conntrack_aio.uapi.nfnetlink_cttimeout import CTA_TIMEOUT, CTA_TIMEOUT_TCP

OTHER_MESSAGES = {"CTA_EXPECT", "CTA_EXPECT_NAT", "CTA_STATS_EXP"}
"""Enums of messages that the library does not read or write."""

SAME_AS_ANOTHER = {"CTA_TIMEOUT_UDPLITE"}
"""Enums whose attributes are declared with the numbers of another enum, that of UDP."""

UNDECLARED = {
    CTA.SECMARK,  # obsolete
    CTA_COUNTERS.CTA_COUNTERS32_PACKETS,  # no kernel sends them
    CTA_COUNTERS.CTA_COUNTERS32_BYTES,
}


def places(cls: type) -> list[list[At[object]]]:
    """Return the declared attributes of each field."""
    found: list[list[At[object]]] = []
    for field in attrs.fields(cls):
        found.append(list(cast("tuple[At[object], ...]", field.metadata.get(PLACES, ()))))
        sequence_ = cast("SequencePlaces[object] | None", field.metadata.get(SEQUENCE))
        if sequence_ is not None:
            found.append([sequence_.count, *sequence_.items])
    return found


def declared() -> Counter[tuple[str, str]]:
    """Return how many fields have their value in each attribute, by enum and name."""
    return Counter(
        name
        for cls in classes()
        for field in places(cls)
        for name in {name_of(place.path[-1]) for place in field}
    )


def name_of(number: int) -> tuple[str, str]:
    assert isinstance(number, IntEnum), f"{number} is not one of the kernel's numbers by name"
    return type(number).__name__, number.name


ENUMS = [
    enum
    for module in (nfnetlink_conntrack, nfnetlink_cttimeout, nfnetlink_cthelper)
    for name, enum in vars(module).items()
    if name.startswith(("CTA", "NFCTH")) and name not in OTHER_MESSAGES | SAME_AS_ANOTHER
]


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.__name__)
def test_every_attribute_is_declared_once(enum: type[IntEnum]) -> None:
    values = declared()
    nests = {
        name_of(number)
        for cls in classes()
        for field in places(cls)
        for place in field
        for number in place.path[:-1]
    }
    expected = {
        name_of(member)
        for member in enum
        if member.name not in ("UNSPEC", "PAD") and member not in undeclared_in(enum)
    }
    assert {key for key in values | dict.fromkeys(nests) if key[0] == enum.__name__} == expected
    for key in expected:
        assert (values[key], key in nests) in ((1, False), (0, True)), key


def undeclared_in(enum: type[IntEnum]) -> set[IntEnum]:
    return {member for member in UNDECLARED if type(member) is enum}


def test_every_enum_of_the_headers_is_checked() -> None:
    assert len(ENUMS) + len(OTHER_MESSAGES) + len(SAME_AS_ANOTHER) == 22 + 10 + 4


def test_the_classes_of_a_flow_message_share_no_number() -> None:
    numbers = Counter(
        number for cls in (Flow, RequestOnly) for number in schema_of(cls).root.children
    )
    assert max(numbers.values()) == 1
    assert set(schema_of(FlowEvent).root.children) - set(schema_of(Flow).root.children) == {
        CTA.TIMESTAMP_EVENT
    }


def test_a_number_declared_twice_is_refused() -> None:
    @message
    class Twice:
        one: int | None = attribute(CTA.MARK, U32, default=None)
        other: int | None = attribute(CTA.MARK, U16, default=None)

    with pytest.raises(AssertionError, match="CTA_MARK is declared twice"):
        schema_of(Twice)


def test_a_number_cannot_be_a_nest_and_a_value() -> None:
    @message
    class Inconsistent:
        one: int | None = attribute(CTA.SECCTX, U32, default=None)
        other: int | None = attribute((CTA.SECCTX, 1), U16, default=None)

    with pytest.raises(AssertionError, match="CTA_SECCTX is a nest and a value"):
        schema_of(Inconsistent)


def test_an_attribute_may_depend_on_another() -> None:
    fork = schema_of(TimeoutPolicy).root.children[CTA_TIMEOUT.DATA]
    assert isinstance(fork, Fork)
    assert fork.name == "CTA_TIMEOUT_DATA"
    assert fork.leaves.keys() == {1, 6, 17, 33, 47, 58, 132, 136, 255}
    assert len({leaf.slot for leaf in fork.leaves.values()}) == 1


def test_all_meanings_of_an_attribute_depend_on_one_field() -> None:
    @message
    class Inconsistent:
        kind: int = attribute(1, U8)
        other: int = attribute(2, U8)
        one: int | None = variants(
            at(CTA.MARK, U16, when=("kind", 1)), at(CTA.MARK, U32, when=("other", 2)), default=None
        )

    @message
    class Same:
        kind: int = attribute(1, U8)
        one: int | None = variants(
            at(CTA.MARK, U16, when=("kind", 1)), at(CTA.MARK, U32, when=("kind", 1)), default=None
        )

    @message
    class Always:
        kind: int = attribute(1, U8)
        one: int | None = variants(
            at(CTA.MARK, U16, when=("kind", 1)), at(CTA.MARK, U32), default=None
        )

    @message
    class Fields:
        kind: int = attribute(1, U8)
        one: int | None = variants(at(CTA.MARK, U16, when=("kind", 1)), default=None)
        other: int | None = variants(at(CTA.MARK, U32, when=("kind", 2)), default=None)

    for cls in (Inconsistent, Same, Always, Fields):
        with pytest.raises(AssertionError, match="CTA_MARK is declared twice"):
            schema_of(cls)


def test_the_deciding_attribute_is_declared_before_in_the_same_nest() -> None:
    @message
    class Behind:
        one: int | None = variants(
            at(CTA.MARK, U16, when=("kind", 1)), at(CTA.MARK, U32, when=("kind", 2)), default=None
        )
        kind: int | None = attribute(1, U8, default=None)

    @message
    class Elsewhere:
        kind: int = attribute((1, 1), U8)
        one: int | None = variants(
            at(CTA.MARK, U16, when=("kind", 1)), at(CTA.MARK, U32, when=("kind", 2)), default=None
        )

    for cls in (Behind, Elsewhere):
        with pytest.raises(AssertionError, match=f"kind is not declared before, in {cls.__name__}"):
            schema_of(cls)


def test_a_sequence_has_an_attribute_for_each_item() -> None:
    schema = schema_of(UserspaceHelper)
    (sequence_,) = schema.sequences
    policies = schema.root.children[NFCTH.POLICY]
    assert isinstance(policies, Branch)
    assert list(policies.children) == [1, 2, 3, 4, 5]
    assert [policies.children[2 + i] for i in range(4)] == list(sequence_.leaves)
    assert policies.children[1] is sequence_.count

    @message
    class Twice:
        one: tuple[int, ...] = sequence(
            at(CTA.MARK, U32), at(CTA.MARK, U32), count=at(CTA.ID, U32), default=()
        )

    with pytest.raises(AssertionError, match="CTA_MARK is declared twice"):
        schema_of(Twice)


def test_a_new_attribute_needs_one_declaration() -> None:
    @message
    class Tomorrow:
        tuple_: Tuple | None = attribute((40, 1), Nest(Tuple), default=None)
        number: int | None = attribute((40, 2), U16, default=None)

    schema = schema_of(Tomorrow)
    branch = schema.root.children[40]
    assert isinstance(branch, Branch)
    assert [type(child) for child in branch.children.values()] == [Leaf, Leaf]
    assert schema.size == 2
    assert not schema.keeps_unknown


def test_a_schema_is_derived_once() -> None:
    assert schema_of(Flow) is schema_of(Flow)


def test_required_fields() -> None:
    assert [f.name for f in schema_of(Flow).fields if f.required] == ["orig", "reply"]
    assert [f.name for f in schema_of(Tuple).fields if f.required] == ["src", "dst", "proto"]


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_every_field_has_its_own_slots(cls: type) -> None:
    schema = schema_of(cls)
    slots = [field.slot for field in schema.fields]
    for sequence_ in schema.sequences:
        slots += [leaf.slot for leaf in (sequence_.count, *sequence_.leaves)]
    for inline in schema.inlines:
        slots += range(inline.offset, inline.offset + inline.schema.size)
    assert sorted(slots) == list(range(schema.size))


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (CTA.MARK, "CTA_MARK"),
        (CTA_TUPLE.IP, "CTA_TUPLE_IP"),
        (CTA_IP.V4_SRC, "CTA_IP_V4_SRC"),
        (CTA_COUNTERS.CTA_COUNTERS32_BYTES, "CTA_COUNTERS32_BYTES"),
        (CTA_TIMEOUT_TCP.SYN_SENT, "CTA_TIMEOUT_TCP_SYN_SENT"),
        (NFCTH.NAME, "NFCTH_NAME"),
        (NFCTH_POLICY.NAME, "NFCTH_POLICY_NAME"),
        (NFCTH_POLICY_SET.NUM, "NFCTH_POLICY_SET_NUM"),
        (NFCTH_POLICY_SET.NFCTH_POLICY_SET2, "NFCTH_POLICY_SET2"),
        (99, "99"),
    ],
)
def test_kernel_name(number: int, name: str) -> None:
    assert kernel_name(number) == name
