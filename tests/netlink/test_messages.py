"""Messages, errors and the ends of dumps."""

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

CAPPED, TLVS = 0x100, 0x200
REQUEST = struct.pack("=IHHII", 25, 0x101, 5, 9, 0) + b"123456789"
"""25 bytes, three short of aligned."""
ECHOED = REQUEST + bytes(3)
WORDS = attr(1, b"bad mark\0") + attr(2, struct.pack("=I", 20))


def message(data: bytes) -> Message:
    (only,) = messages.walk(data, len(data))
    return only


def error(code: int, flags: int, *behind: bytes) -> bytes:
    payload = struct.pack("=i", code) + b"".join(behind)
    return struct.pack("=IHHII", 16 + len(payload), 2, flags, 9, 0) + payload


# Walking


@pytest.mark.parametrize("size", range(5))
def test_pack_and_walk(size: int) -> None:
    data = messages.pack(0x101, 0x305, 7, b"x" * size, port=3) + messages.pack(1, 2, 3, b"")
    assert len(data) == 32 + (size + 3) // 4 * 4
    first, second = messages.walk(data, len(data))
    assert first == Message(0x101, 0x305, 7, 3, 16, 16 + size)
    assert second == Message(1, 2, 3, 0, len(data), len(data))


def test_walk_sees_only_what_was_received() -> None:
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
def test_walk_yields_what_was_whole_before_an_error(tail: bytes) -> None:
    data = messages.pack(1, 0, 0, b"") + tail
    walked = messages.walk(data, len(data))
    assert next(walked).type == 1
    with pytest.raises(DecodeError):
        next(walked)


@given(st.binary(max_size=80))
def test_any_bytes_end(data: bytes) -> None:
    try:
        assert len(list(messages.walk(data, len(data)))) <= len(data) // 16
    except DecodeError:
        pass


# Errors and acknowledgements


@pytest.mark.parametrize(
    ("data", "completion"),
    [
        pytest.param(error(0, 0), Completion(0), id="the code alone"),
        pytest.param(error(-2, 0, ECHOED), Completion(2), id="with the request"),
        pytest.param(error(-2, CAPPED, REQUEST[:16]), Completion(2), id="with its header"),
        pytest.param(
            error(-34, CAPPED | TLVS, REQUEST[:16], WORDS),
            Completion(34, "bad mark", 20),
            id="capped",
        ),
        pytest.param(
            error(-34, TLVS, ECHOED, WORDS), Completion(34, "bad mark", 20), id="echoed, aligned"
        ),
        pytest.param(
            error(0, CAPPED | TLVS, REQUEST[:16], WORDS),
            Completion(0, "bad mark", 20),
            id="success",
        ),
        pytest.param(
            error(0, TLVS, REQUEST[:16], WORDS),
            Completion(0, "bad mark", 20),
            id="success is capped, said or not",
        ),
        pytest.param(
            error(-22, CAPPED | TLVS, REQUEST[:16], attr(2, struct.pack("=I", 4))),
            Completion(22, None, 4),
            id="the offset alone",
        ),
        pytest.param(
            error(-22, CAPPED | TLVS, REQUEST[:16], attr(4, bytes(8)), attr(1, b"no NUL")),
            Completion(22, "no NUL"),
            id="the policy before the words",
        ),
        pytest.param(
            error(-22, CAPPED | TLVS, REQUEST[:16], attr(1, b"\xff\0"), attr(2, b"\1")),
            Completion(22, "\ufffd"),
            id="neither text nor an offset",
        ),
        pytest.param(
            error(-22, CAPPED, REQUEST[:16], WORDS), Completion(22), id="words without the flag"
        ),
        pytest.param(
            error(-22, CAPPED | TLVS, REQUEST[:16], attr(1, b"x\0"), b"\0\0\0\0"),
            Completion(22, "x"),
            id="garbage behind the words",
        ),
        pytest.param(
            error(-22, TLVS, struct.pack("=IHHII", 0xFFFFFFFF, 0, 0, 0, 0), WORDS),
            Completion(22),
            id="a request larger than the answer",
        ),
        pytest.param(
            error(-22, TLVS, struct.pack("=IHHII", 3, 0, 0, 0, 0), WORDS),
            Completion(22, "bad mark", 20),
            id="a request smaller than a header",
        ),
        pytest.param(error(-22, TLVS, b"\0\0"), Completion(22), id="part of a header"),
    ],
)
def test_parse_error(data: bytes, completion: Completion) -> None:
    assert parse_error(data, message(data)) == completion


@pytest.mark.parametrize("size", [0, 3])
def test_an_error_has_a_code(size: int) -> None:
    data = messages.pack(2, 0, 0, bytes(size))
    with pytest.raises(DecodeError, match="code"):
        parse_error(data, message(data))


@pytest.mark.parametrize(
    ("payload", "flags", "completion"),
    [
        (b"", 0, Completion(0)),
        (bytes(4), 2, Completion(0)),
        (struct.pack("=i", -4), 2, Completion(4)),
        (struct.pack("=i", -34) + WORDS, 2 | TLVS, Completion(34, "bad mark", 20)),
        (struct.pack("=i", -34) + WORDS, 2, Completion(34)),
    ],
)
def test_parse_done(payload: bytes, flags: int, completion: Completion) -> None:
    data = messages.pack(3, flags, 9, payload)
    assert parse_done(data, message(data)) == completion


# The real one


@pytest.mark.kernel
@pytest.mark.parametrize("capped", [False, True])
def test_extended_acknowledgements(lab: Lab, capped: bool) -> None:
    """A mark of one byte, at the end and without padding: the echo is aligned by the kernel."""

    def ask() -> bytes:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as raw:
            raw.setsockopt(SOL_NETLINK, NETLINK_OPTION.EXT_ACK, 1)
            raw.setsockopt(SOL_NETLINK, NETLINK_OPTION.CAP_ACK, int(capped))
            raw.bind((0, 0))
            payload = bytes([2, 0, 0, 0]) + struct.pack("=HHB", 5, 8, 1)
            raw.send(struct.pack("=IHHII", 25, 0x101, 5, 9, 0) + payload)
            return raw.recv(4096)

    data = lab.run(ask)
    answer = message(data)
    assert bool(answer.flags & CAPPED) == capped
    completion = parse_error(data, answer)
    assert completion.errno == errno.ERANGE
    assert completion.detail is not None
    assert "policy" in completion.detail
    assert completion.offset == 20
