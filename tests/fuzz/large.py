"""Inputs of 64 KiB in which something is there very often, or nested very deep."""

from __future__ import annotations

import struct

from support.cases import BOTH, TCP4_INSIDE
from support.wire import attr, be8, be32, nest

from .seeds import DECODERS, message

_ROOM = 65000
_EMPTY = attr(99, b"")


def _often(part: bytes, before: bytes = b"") -> bytes:
    return before + part * ((_ROOM - len(before)) // len(part))


def _deep(kind: int) -> bytes:
    nested = b""
    while len(nested) < _ROOM - len(BOTH):
        nested = struct.pack("=HH", len(nested) + 4, kind) + nested
    return BOTH + nested


_PAYLOADS = (
    _often(_EMPTY, BOTH),
    _often(attr(99, b"abcd"), BOTH),
    _often(be32(8, 1), BOTH),
    _often(nest(1, TCP4_INSIDE))[: _ROOM - len(BOTH)] + BOTH,
    _often(nest(4, nest(1, be8(1, 3))), BOTH),
    _often(nest(4, nest(1, be8(99, 3))), BOTH),
    _often(nest(14, TCP4_INSIDE), BOTH),
    BOTH + nest(4, _often(_EMPTY)[:60000]),
    BOTH + nest(5, _often(attr(1, b"ftp"))[:60000]),
    BOTH + nest(14, TCP4_INSIDE, _often(attr(9, b"x"))[:60000]),
    BOTH + b"".join([attr(100 + number, b"") for number in range(15000)]),
    attr(1, b"a\0") + _often(nest(4, be32(1, 1))),
    _deep(0x8001),
    _deep(0x8004),
    _deep(0x8063),
    BOTH + attr(99, bytes(60000)),
    bytes(_ROOM),
)
_KINDS = ((0, 0x100), (2, 0x200), (5, 0x900))
"""Of flows, expectations and helpers: by their places among the decoders, and by their types."""

LARGE = [
    *(
        ("layouts", bytes([number]) + message(b"\2\0\0\0" + payload, kind))
        for payload in _PAYLOADS
        for number, kind in _KINDS
    ),
    *(("trace", b"\2" + message(b"\2\0\0\0" + payload, 0x100)) for payload in _PAYLOADS),
    *(
        ("layouts", bytes([number]) + known[0] * (_ROOM // len(known[0])))
        for number, (_, known) in enumerate(DECODERS)
    ),
]
"""Each with its target."""
