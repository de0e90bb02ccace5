"""What is declared: every attribute of the kernel's header, once."""

from __future__ import annotations

from collections import Counter
from enum import IntEnum
from typing import cast

import attrs
import pytest
from support.strategies import messages as classes

from conntrack_aio import Flow, FlowEvent, Tuple
from conntrack_aio.codec.schema import Branch, Leaf, kernel_name, schema_of
from conntrack_aio.model.declare import PLACES, U16, U32, At, Nest, attribute, message
from conntrack_aio.model.requests import RequestOnly
from conntrack_aio.uapi import nfnetlink_conntrack
from conntrack_aio.uapi.nfnetlink_conntrack import CTA, CTA_COUNTERS, CTA_IP, CTA_TUPLE

OTHER_MESSAGES = {"CTA_EXPECT", "CTA_EXPECT_NAT", "CTA_STATS_EXP"}
"""Attributes of messages that the library does not speak."""

UNDECLARED = {
    CTA.SECMARK,  # obsolete
    CTA_COUNTERS.CTA_COUNTERS32_PACKETS,  # no kernel sends them
    CTA_COUNTERS.CTA_COUNTERS32_BYTES,
}


def places(cls: type) -> list[At[object]]:
    return [
        place
        for field in attrs.fields(cls)
        for place in cast("tuple[At[object], ...]", field.metadata.get(PLACES, ()))
    ]


def declared() -> Counter[tuple[str, str]]:
    """How often each attribute is declared as the place of a value, by enum and name."""
    return Counter(named(place.path[-1]) for cls in classes() for place in places(cls))


def named(number: int) -> tuple[str, str]:
    assert isinstance(number, IntEnum), f"{number} is not one of the kernel's numbers by name"
    return type(number).__name__, number.name


ENUMS = [
    enum
    for name, enum in vars(nfnetlink_conntrack).items()
    if name.startswith("CTA") and name not in OTHER_MESSAGES
]


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.__name__)
def test_every_attribute_is_declared_once(enum: type[IntEnum]) -> None:
    values = declared()
    nests = {named(number) for cls in classes() for at in places(cls) for number in at.path[:-1]}
    expected = {
        named(member)
        for member in enum
        if member.name not in ("UNSPEC", "PAD") and member not in map_of(enum)
    }
    assert {key for key in values | dict.fromkeys(nests) if key[0] == enum.__name__} == expected
    for key in expected:
        assert (values[key], key in nests) in ((1, False), (0, True)), key


def map_of(enum: type[IntEnum]) -> set[IntEnum]:
    return {member for member in UNDECLARED if type(member) is enum}


def test_the_enums_are_those_of_the_header() -> None:
    assert len(ENUMS) + len(OTHER_MESSAGES) == 22


def test_no_two_classes_of_a_flows_message_share_a_number() -> None:
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


def test_a_nest_is_not_also_a_value() -> None:
    @message
    class Torn:
        one: int | None = attribute(CTA.SECCTX, U32, default=None)
        other: int | None = attribute((CTA.SECCTX, 1), U16, default=None)

    with pytest.raises(AssertionError, match="CTA_SECCTX is a nest and a value"):
        schema_of(Torn)


def test_a_new_attribute_is_one_line() -> None:
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


def test_schema_is_made_once() -> None:
    assert schema_of(Flow) is schema_of(Flow)


def test_what_is_required() -> None:
    assert [f.name for f in schema_of(Flow).fields if f.required] == ["orig", "reply"]
    assert [f.name for f in schema_of(Tuple).fields if f.required] == ["src", "dst", "proto"]


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_slots_are_each_fields_own(cls: type) -> None:
    schema = schema_of(cls)
    slots = [field.slot for field in schema.fields]
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
        (99, "99"),
    ],
)
def test_kernel_name(number: int, name: str) -> None:
    assert kernel_name(number) == name
