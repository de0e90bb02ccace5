"""Messages, and what the kernel says of a request."""

from __future__ import annotations

import errno
import struct

import pytest

from conntrack_aio.errors import DecodeError
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.attributes import pack
from conntrack_aio.netlink.messages import Failure, Message

CAPPED, TLVS = 0x100, 0x200


def only(data: bytes) -> Message:
    (message,) = messages.walk(data, len(data))
    return message


def test_what_is_packed_is_walked() -> None:
    data = messages.pack(0x101, 5, 7, b"abc", port=9) + messages.pack(2, 0, 8, b"")
    first, second = messages.walk(data, len(data))
    assert first[:4] == (0x101, 5, 7, 9)
    assert data[first.start : first.end] == b"abc"
    assert second == Message(2, 0, 8, 0, 36, 36)


@pytest.mark.parametrize("size", [0, 15, 21, 0xFFFFFFFF])
def test_a_length_that_cannot_be(size: int) -> None:
    data = struct.pack("=IHHII", size, 1, 0, 0, 0) + bytes(4)
    with pytest.raises(DecodeError, match=f"claims {size} bytes"):
        list(messages.walk(data, 20))


def test_left_over_bytes() -> None:
    data = messages.pack(1, 0, 0, b"") + b"\0" * 7
    with pytest.raises(DecodeError, match="7 bytes are left over"):
        list(messages.walk(data, len(data)))


def error(
    code: int, flags: int, echoed: bytes, tlvs: bytes = b"", length: int | None = None
) -> bytes:
    size = 16 + len(echoed) if length is None else length
    header = struct.pack("=IHHII", size, 0x101, 5, 1, 0)
    return messages.pack(messages.ERROR, flags, 1, struct.pack("=i", code) + header + echoed + tlvs)


EXPLAINED = pack(1, b"reserved bit set\0") + pack(2, struct.pack("=I", 20))


@pytest.mark.parametrize(
    ("data", "failure"),
    [
        (error(0, CAPPED, b""), Failure(0)),
        (error(-errno.ENOENT, CAPPED, b""), Failure(errno.ENOENT)),
        (error(-errno.EINVAL, CAPPED | TLVS, b"", EXPLAINED),
         Failure(errno.EINVAL, "reserved bit set", 20)),
        # the whole request echoed, aligned, before the explanation
        (error(-errno.EINVAL, TLVS, b"echoes\0\0", EXPLAINED, length=22),
         Failure(errno.EINVAL, "reserved bit set", 20)),
        (error(-errno.EINVAL, 0, b"echoed"), Failure(errno.EINVAL)),
        # a success is capped without saying so, and may carry words
        (error(0, TLVS, b"", EXPLAINED, length=100), Failure(0, "reserved bit set", 20)),
        # garbled words do not hide the code
        (error(-errno.EINVAL, CAPPED | TLVS, b"", b"\1\0\0\0"), Failure(errno.EINVAL)),
        (error(-errno.EINVAL, TLVS, b"", b"", length=9999), Failure(errno.EINVAL)),
    ],
)  # fmt: skip
def test_errors(data: bytes, failure: Failure) -> None:
    assert messages.parse_error(data, only(data)) == failure


def test_an_error_without_a_code() -> None:
    data = messages.pack(messages.ERROR, 0, 1, b"\0")
    with pytest.raises(DecodeError, match="without a code"):
        messages.parse_error(data, only(data))


@pytest.mark.parametrize(
    ("payload", "code"), [(b"", 0), (bytes(4), 0), (struct.pack("=i", -errno.ENOMEM), errno.ENOMEM)]
)
def test_the_end_of_a_dump(payload: bytes, code: int) -> None:
    data = messages.pack(messages.DONE, 2, 1, payload)
    assert messages.parse_done(data, only(data)).errno == code
