"""A message that another machine's kernel sent, as one of this machine's byte order sends it.

Netlink's own headers are in host byte order, and so are labels, whose words are those of the
kernel. All the rest of ctnetlink's messages is big-endian on every machine.
"""

from __future__ import annotations

import struct
import sys

_NESTED, _TYPE = 0x8000, 0x3FFF
_LABELS = (22, 23)
"""``CTA_LABELS`` and ``CTA_LABELS_MASK``, at the top of a message about flows."""

_WORD = 8


def of_this_machine(data: bytes) -> bytes:
    """A message of ctnetlink about flows that a little-endian machine of 64 bits sent."""
    return data if sys.byteorder == "little" else swapped(data, labels=data[5] == 1)


def swapped(data: bytes, *, labels: bool = True) -> bytes:
    """A little-endian message as a big-endian machine has it; ``labels``: it is about flows."""
    header = struct.pack(">IHHII", *struct.unpack_from("<IHHII", data))
    return header + data[16:20] + _attributes(data[20:], labels=labels)


def _attributes(data: bytes, *, labels: bool) -> bytes:
    result = b""
    while data:
        length, kind = struct.unpack_from("<HH", data)
        end = (length + 3) & ~3
        value, padding = data[4:length], data[length:end]
        if kind & _NESTED:
            value = _attributes(value, labels=False)
        elif labels and kind & _TYPE in _LABELS:
            value = b"".join(value[i : i + _WORD][::-1] for i in range(0, len(value), _WORD))
        result += struct.pack(">HH", length, kind) + value + padding
        data = data[end:]
    return result
