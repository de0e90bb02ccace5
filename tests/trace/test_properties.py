"""Test that rendering any bytes terminates, raises nothing, and shows exactly these bytes."""

from __future__ import annotations

import struct
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.captured import CAPTURED
from support.codec_cases import CASES
from support.effort import GUEST_STRIDE, examples
from support.hexdumps import parse_hexdump

from conntrack_aio.netlink.messages import HEADER_SIZE
from conntrack_aio.trace.message import render
from conntrack_aio.uapi.netlink import NETLINK

bounded = settings(deadline=timedelta(seconds=5))
"""A deadline that fails for a hang, but not on a busy machine."""

TYPES = st.sampled_from(
    [
        *(0x2, 0x3, 0x10, 0xA06),
        *(0x100 * subsystem + message for subsystem in (1, 2, 8, 9) for message in range(8)),
    ]
)
PROTOCOLS = st.sampled_from([NETLINK.NETFILTER, NETLINK.NETFILTER, NETLINK.ROUTE])


def check(data: bytes, protocol: int, from_kernel: bool) -> None:
    """Check that the text has all bytes of a datagram, except the padding between messages."""
    texts = list(render("recv port=1", data, protocol, from_kernel=from_kernel))
    assert texts
    rest = data
    for text in texts:
        assert text.startswith("recv port=1 ")
        text.encode()  # raises nothing: a terminal can display the text
        dumped = parse_hexdump(text.split("\n"))
        assert rest.startswith(dumped)
        rest = rest[(len(dumped) + 3) & ~3 :]
    assert not rest


@bounded
@given(st.binary(max_size=300), PROTOCOLS, st.booleans())
def test_any_bytes_are_shown(data: bytes, protocol: int, from_kernel: bool) -> None:
    check(data, protocol, from_kernel)


@settings(bounded, max_examples=examples(200))
@given(
    TYPES,
    st.integers(0, 0xFFFF),
    st.binary(max_size=200) | st.sampled_from([case.data for case in CASES]),
    PROTOCOLS,
    st.booleans(),
)
def test_any_payload_is_shown(
    kind: int, flags: int, payload: bytes, protocol: int, from_kernel: bool
) -> None:
    size = HEADER_SIZE + 4 + len(payload)
    check(struct.pack("=IHHIII", size, kind, flags, 1, 0, 0) + payload, protocol, from_kernel)


@st.composite
def edited(draw: st.DrawFn) -> bytes:
    """Return a message of the kernel with a few bytes replaced, removed or inserted."""
    data = bytearray(draw(st.sampled_from([capture.data for capture in CAPTURED])))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        data[start : start + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(data)


@settings(bounded, max_examples=examples(200))
@given(edited(), st.booleans())
def test_edited_messages_are_shown(data: bytes, from_kernel: bool) -> None:
    check(data, NETLINK.NETFILTER, from_kernel)


@pytest.mark.parametrize("capture", CAPTURED, ids=lambda capture: capture.name)
def test_truncated_messages_are_shown(capture: object) -> None:
    data: bytes = capture.data  # type: ignore[attr-defined]
    for end in range(0, len(data), GUEST_STRIDE):
        check(data[:end], NETLINK.NETFILTER, True)
        if end >= HEADER_SIZE:  # with the header's length adjusted
            check(struct.pack("=I", end) + data[4:end], NETLINK.NETFILTER, True)


def test_many_empty_attributes_are_rendered_in_time() -> None:
    for kind, number in ((0x100, 99), (0x800, 4)):
        empty = struct.pack("=HH", 4, number) * 16000
        size = HEADER_SIZE + 4 + len(empty)
        check(struct.pack("=IHHIII", size, kind, 0, 1, 0, 0) + empty, NETLINK.NETFILTER, True)
