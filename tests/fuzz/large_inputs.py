"""Inputs of 64 KiB in which a part is repeated very often or nested very deeply."""

from __future__ import annotations

import struct

from support.attribute_encoding import attr, be8, be32, nest
from support.codec_cases import BOTH_TUPLES, TCP4_PAYLOAD

from .seeds import DECODERS, message

_SIZE = 65000
_EMPTY = attr(99, b"")


def _repeat(part: bytes, before: bytes = b"") -> bytes:
    return before + part * ((_SIZE - len(before)) // len(part))


def _nest_deeply(kind: int) -> bytes:
    nested = b""
    while len(nested) < _SIZE - len(BOTH_TUPLES):
        nested = struct.pack("=HH", len(nested) + 4, kind) + nested
    return BOTH_TUPLES + nested


_PAYLOADS = (
    _repeat(_EMPTY, BOTH_TUPLES),
    _repeat(attr(99, b"abcd"), BOTH_TUPLES),
    _repeat(be32(8, 1), BOTH_TUPLES),
    _repeat(nest(1, TCP4_PAYLOAD))[: _SIZE - len(BOTH_TUPLES)] + BOTH_TUPLES,
    _repeat(nest(4, nest(1, be8(1, 3))), BOTH_TUPLES),
    _repeat(nest(4, nest(1, be8(99, 3))), BOTH_TUPLES),
    _repeat(nest(14, TCP4_PAYLOAD), BOTH_TUPLES),
    BOTH_TUPLES + nest(4, _repeat(_EMPTY)[:60000]),
    BOTH_TUPLES + nest(5, _repeat(attr(1, b"ftp"))[:60000]),
    BOTH_TUPLES + nest(14, TCP4_PAYLOAD, _repeat(attr(9, b"x"))[:60000]),
    BOTH_TUPLES + b"".join([attr(100 + number, b"") for number in range(15000)]),
    attr(1, b"a\0") + _repeat(nest(4, be32(1, 1))),
    _nest_deeply(0x8001),
    _nest_deeply(0x8004),
    _nest_deeply(0x8063),
    BOTH_TUPLES + attr(99, bytes(60000)),
    bytes(_SIZE),
)
_KINDS = ((0, 0x100), (2, 0x200), (5, 0x900))
"""The index in ``DECODERS`` and the message type of flows, expectations and helpers."""

LARGE_INPUTS = [
    *(
        ("layouts", bytes([number]) + message(b"\2\0\0\0" + payload, kind))
        for payload in _PAYLOADS
        for number, kind in _KINDS
    ),
    *(("trace", b"\2" + message(b"\2\0\0\0" + payload, 0x100)) for payload in _PAYLOADS),
    *(
        ("layouts", bytes([number]) + known[0] * (_SIZE // len(known[0])))
        for number, (_, known) in enumerate(DECODERS)
    ),
]
"""The inputs, each with its target."""
