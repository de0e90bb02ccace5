"""Check how netlink messages, error messages and the ends of dumps are parsed."""

from __future__ import annotations

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.codec_cases import attr
from support.lab import Lab

from conntrack_aio import DecodeError
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.messages import Completion, Message, parse_done, parse_error
from conntrack_aio.uapi.netlink import NETLINK_OPTION, SOL_NETLINK

CAPPED, TLVS = 0x100, 0x200  # NLM_F_CAPPED, NLM_F_ACK_TLVS
REQUEST = struct.pack("=IHHII", 25, 0x101, 5, 9, 0) + b"123456789"
"""A request of 25 bytes, which lacks three bytes of padding."""
ECHOED = REQUEST + bytes(3)
"""The request with its padding, as the kernel echoes it in an error message."""
ACK_ATTRIBUTES = attr(1, b"bad mark\0") + attr(2, struct.pack("=I", 20))


def only_message(data: bytes) -> Message:
    """Return the single message in a datagram."""
    (message,) = messages.walk(data, len(data))
    return message


def pack_error(code: int, flags: int, *parts: bytes) -> bytes:
    """Return an error message: the code, followed by parts such as the echoed request."""
    payload = struct.pack("=i", code) + b"".join(parts)
    return struct.pack("=IHHII", 16 + len(payload), 2, flags, 9, 0) + payload


# Walking


@pytest.mark.parametrize("size", range(5))
def test_walking_returns_the_packed_messages(size: int) -> None:
    data = messages.pack(0x101, 0x305, 7, b"x" * size, port_id=3) + messages.pack(1, 2, 3, b"")
    assert len(data) == 32 + (size + 3) // 4 * 4
    first, second = messages.walk(data, len(data))
    assert first == Message(0x101, 0x305, 7, 3, 16, 16 + size)
    assert second == Message(1, 2, 3, 0, len(data), len(data))


def test_walking_stops_at_the_received_length() -> None:
    data = messages.pack(1, 0, 0, b"abcd")
    assert len(list(messages.walk(bytearray(data + b"\xff" * 100), len(data)))) == 1
    assert list(messages.walk(data, 0)) == []


@pytest.mark.parametrize(
    "tail",
    [
        b"\0",
        bytes(15),
        bytes(16),
        struct.pack("=IHHII", 15, 1, 0, 0, 0),
        struct.pack("=IHHII", 17, 1, 0, 0, 0),
        struct.pack("=IHHII", 0xFFFFFFFF, 1, 0, 0, 0),
    ],
)
def test_complete_messages_are_yielded_before_an_error(tail: bytes) -> None:
    data = messages.pack(1, 0, 0, b"") + tail
    walk = messages.walk(data, len(data))
    assert next(walk).type == 1
    with pytest.raises(DecodeError):
        next(walk)


@given(st.binary(max_size=80))
def test_walking_any_bytes_ends(data: bytes) -> None:
    try:
        assert len(list(messages.walk(data, len(data)))) <= len(data) // 16
    except DecodeError:
        pass


# Errors and acknowledgements


@pytest.mark.parametrize(
    ("data", "completion"),
    [
        pytest.param(pack_error(0, 0), Completion(0), id="only the code"),
        pytest.param(pack_error(-2, 0, ECHOED), Completion(2), id="the echoed request"),
        pytest.param(
            pack_error(-2, CAPPED, REQUEST[:16]), Completion(2), id="only the header of the request"
        ),
        pytest.param(
            pack_error(-34, CAPPED | TLVS, REQUEST[:16], ACK_ATTRIBUTES),
            Completion(34, "bad mark", 20),
            id="attributes after the header",
        ),
        pytest.param(
            pack_error(-34, TLVS, ECHOED, ACK_ATTRIBUTES),
            Completion(34, "bad mark", 20),
            id="attributes after the request and its padding",
        ),
        pytest.param(
            pack_error(0, CAPPED | TLVS, REQUEST[:16], ACK_ATTRIBUTES),
            Completion(0, "bad mark", 20),
            id="an acknowledgement with attributes",
        ),
        pytest.param(
            pack_error(0, TLVS, REQUEST[:16], ACK_ATTRIBUTES),
            Completion(0, "bad mark", 20),
            id="an acknowledgement is capped even without the flag",
        ),
        pytest.param(
            pack_error(-22, CAPPED | TLVS, REQUEST[:16], attr(2, struct.pack("=I", 4))),
            Completion(22, None, 4),
            id="only the offset",
        ),
        pytest.param(
            pack_error(-22, CAPPED | TLVS, REQUEST[:16], attr(4, bytes(8)), attr(1, b"no NUL")),
            Completion(22, "no NUL"),
            id="the policy before a text without NUL",
        ),
        pytest.param(
            pack_error(-22, CAPPED | TLVS, REQUEST[:16], attr(1, b"\xff\0"), attr(2, b"\1")),
            Completion(22, "\ufffd"),
            id="an invalid text and an invalid offset",
        ),
        pytest.param(
            pack_error(-22, CAPPED, REQUEST[:16], ACK_ATTRIBUTES),
            Completion(22),
            id="attributes without the flag",
        ),
        pytest.param(
            pack_error(-22, CAPPED | TLVS, REQUEST[:16], attr(1, b"x\0"), b"\0\0\0\0"),
            Completion(22, "x"),
            id="malformed data after the text",
        ),
        pytest.param(
            pack_error(-22, TLVS, struct.pack("=IHHII", 0xFFFFFFFF, 0, 0, 0, 0), ACK_ATTRIBUTES),
            Completion(22),
            id="a request larger than the message",
        ),
        pytest.param(
            pack_error(-22, TLVS, struct.pack("=IHHII", 3, 0, 0, 0, 0), ACK_ATTRIBUTES),
            Completion(22, "bad mark", 20),
            id="a request smaller than a header",
        ),
        pytest.param(pack_error(-22, TLVS, b"\0\0"), Completion(22), id="part of a header"),
    ],
)
def test_the_failure_in_an_error_message_is_parsed(data: bytes, completion: Completion) -> None:
    assert parse_error(data, only_message(data)) == completion


@pytest.mark.parametrize("size", [0, 3])
def test_an_error_message_without_a_code_is_malformed(size: int) -> None:
    data = messages.pack(2, 0, 0, bytes(size))
    with pytest.raises(DecodeError, match="code"):
        parse_error(data, only_message(data))


@pytest.mark.parametrize(
    ("payload", "flags", "completion"),
    [
        (b"", 0, Completion(0)),
        (bytes(4), 2, Completion(0)),
        (struct.pack("=i", -4), 2, Completion(4)),
        (struct.pack("=i", -34) + ACK_ATTRIBUTES, 2 | TLVS, Completion(34, "bad mark", 20)),
        (struct.pack("=i", -34) + ACK_ATTRIBUTES, 2, Completion(34)),
    ],
)
def test_the_failure_in_a_done_message_is_parsed(
    payload: bytes, flags: int, completion: Completion
) -> None:
    data = messages.pack(3, flags, 9, payload)
    assert parse_done(data, only_message(data)) == completion


# The kernel's own messages


@pytest.mark.kernel
@pytest.mark.parametrize("capped", [False, True])
def test_extended_acknowledgements_of_the_kernel_are_parsed(lab: Lab, capped: bool) -> None:
    """The request ends with a mark of one byte. The kernel adds the padding to the echo."""

    def send_request() -> bytes:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as raw:
            raw.setsockopt(SOL_NETLINK, NETLINK_OPTION.EXT_ACK, 1)
            raw.setsockopt(SOL_NETLINK, NETLINK_OPTION.CAP_ACK, int(capped))
            raw.bind((0, 0))
            payload = bytes([2, 0, 0, 0]) + struct.pack("=HHB", 5, 8, 1)
            raw.send(struct.pack("=IHHII", 25, 0x101, 5, 9, 0) + payload)
            return raw.recv(4096)

    data = lab.run(send_request)
    answer = only_message(data)
    assert bool(answer.flags & CAPPED) == capped
    completion = parse_error(data, answer)
    assert completion.errno == errno.ERANGE
    assert completion.detail is not None
    assert "policy" in completion.detail
    assert completion.offset == 20
