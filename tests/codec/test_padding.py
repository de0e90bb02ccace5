"""Kernels that align 64-bit values put an empty pad attribute before each: it is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.attribute_encoding import attr, be32, be64, nest
from support.codec_cases import BOTH_TUPLES
from support.model_strategies import declared_classes as message_classes

from conntrack_aio import Counters, Flow, Timestamp, UnknownAttribute
from conntrack_aio.codec.decoder import Decoder
from conntrack_aio.codec.event_messages import decode_event
from conntrack_aio.codec.messages import decode_flow
from conntrack_aio.codec.reference import decode, encode
from conntrack_aio.codec.schema import Branch, Fork, schema_of
from conntrack_aio.errors import EncodeError
from conntrack_aio.netlink import messages
from conntrack_aio.uapi import nfnetlink_conntrack as uapi


def padded_nests() -> set[type]:
    """Return the enums of the nests for which the kernel's headers have a pad attribute."""
    return {
        enum
        for enum in vars(uapi).values()
        if isinstance(enum, type) and hasattr(enum, "__members__") and "PAD" in enum.__members__
    }


def branches(branch: Branch) -> Iterator[Branch]:
    yield branch
    for child in branch.children.values():
        if isinstance(child, Branch):
            yield from branches(child)


def test_every_nest_with_a_pad_attribute_has_its_number() -> None:
    known = {
        (number, child.name)
        for cls in message_classes()
        for branch in branches(schema_of(cls).root)
        for number in branch.pads
        for child in branch.children.values()
        if not isinstance(child, (Branch, Fork))
    }
    for enum in padded_nests():
        assert any(name.startswith(enum.__name__) for _, name in known), enum
    assert {enum.__name__ for enum in padded_nests()} >= {"CTA_COUNTERS", "CTA_TIMESTAMP"}


def u64(number: int, value: int, pad: int, *, padded: bool) -> bytes:
    return (attr(pad, b"") if padded else b"") + be64(number, value)


def entry(*, padded: bool, number: int = 7) -> bytes:
    counters = [
        nest(
            number_of_nest,
            u64(1, number, 5, padded=padded) + u64(2, 100 * number, 5, padded=padded),
        )
        for number_of_nest in (9, 10)
    ]
    start = nest(20, u64(1, 10**18 + number, 3, padded=padded))
    return BOTH_TUPLES + be32(3, 14) + counters[0] + counters[1] + start


def flow_message(attributes: bytes, flags: int = 2) -> bytes:
    return messages.pack(0x100, flags, 1, b"\2\0\0\0" + attributes)


def test_padding_is_dropped() -> None:
    data = entry(padded=True)
    decoded = decode(Flow, data, 0, len(data))
    plain = entry(padded=False)
    assert decoded == decode(Flow, plain, 0, len(plain))
    assert decoded.counters_orig == Counters(packets=7, bytes=700)
    assert decoded.timestamp == Timestamp(start=10**18 + 7)
    assert decoded.unknown == ()
    assert encode(decoded) == plain


def test_layouts_read_padded_messages() -> None:
    decoder: Decoder[Any] = Decoder(
        decode_flow._cls,
        decode_flow._description,
        decode_flow._header_values,
        port_id_field=decode_flow._port_id_field,
    )
    for number in range(100):
        decoded = decoder.one(flow_message(entry(padded=True, number=number)))
        assert decoded == decoder.one(flow_message(entry(padded=False, number=number)))
        assert decoded.unknown == ()
    assert decoder.layouts == 2


def test_the_pad_of_an_event_timestamp_has_the_number_of_the_status() -> None:
    data = BOTH_TUPLES + be32(3, 14) + attr(3, b"") + be64(27, 10**18)
    for _ in range(2):
        event = decode_event.one(flow_message(data, 0x600))
        assert event.timestamp == 10**18
        assert event.flow.status == 14
        assert event.flow.unknown == ()
    # The status may come before or behind the padding: the last one that is not empty counts.
    status_last = BOTH_TUPLES + attr(3, b"") + be64(27, 10**18) + be32(3, 14)
    assert decode_event.one(flow_message(status_last, 0x600)) == event


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (nest(9, attr(5, b"x")), (9, 5)),  # it is not empty
        (nest(9, attr(6, b"")), (9, 6)),  # not the number
        (nest(5, attr(5, b"")), (5, 5)),  # not the nest
        (attr(5 + 95, b""), (100,)),
    ],
)
def test_other_empty_attributes_are_kept(data: bytes, path: tuple[int, ...]) -> None:
    """An empty attribute may be a flag of a newer kernel."""
    whole = BOTH_TUPLES + data
    (unknown,) = decode(Flow, whole, 0, len(whole)).unknown
    assert unknown.path == path


def test_an_empty_unknown_attribute_with_a_pad_number_is_refused() -> None:
    data = entry(padded=False)
    flow = decode(Flow, data, 0, len(data))
    flow.unknown = (UnknownAttribute((9, 5), b""),)
    with pytest.raises(EncodeError, match="padding"):
        encode(flow)
