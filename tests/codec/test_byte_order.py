"""Convert captured messages to another byte order."""

from __future__ import annotations

import struct
import sys

from support.byte_order import swap_byte_order, to_host_byte_order
from support.captured import CAPTURED, EXPECTATIONS

LABELS = bytes(range(16))


def message(order: str, labels: bytes, *, message_type: int = 0x100) -> bytes:
    """Return a message with a mark in a nest, a payload of three bytes, and labels."""
    inner = struct.pack(f"{order}HH", 8, 8) + b"\0\0\0\x2a"
    nest = struct.pack(f"{order}HH", 4 + len(inner), 0x8001) + inner
    odd = struct.pack(f"{order}HH", 7, 3) + b"abc\0"
    body = b"\x02\0\0\0" + nest + odd + struct.pack(f"{order}HH", 20, 22) + labels
    return struct.pack(f"{order}IHHII", 16 + len(body), message_type, 2, 7, 9) + body


def test_headers_and_labels_are_in_host_byte_order() -> None:
    words = LABELS[:8][::-1] + LABELS[8:][::-1]
    assert swap_byte_order(message("<", LABELS)) == message(">", words)
    assert swap_byte_order(message(">", words), "big") == message("<", LABELS)
    expected = message("<", LABELS, message_type=0x200)
    assert swap_byte_order(expected) == message(">", LABELS, message_type=0x200)


def test_captured_messages_are_in_the_byte_order_of_this_machine() -> None:
    for capture in [*CAPTURED, *EXPECTATIONS]:
        length, message_type = struct.unpack_from("=IH", capture.data)
        assert (length, message_type >> 8 in (1, 2)) == (len(capture.data), True)
    assert to_host_byte_order(message("=", LABELS), sys.byteorder) == message("=", LABELS)
