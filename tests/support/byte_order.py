"""Convert captured ctnetlink messages between byte orders.

The headers of netlink are in host byte order. So are labels, which are an array of ``unsigned
long``. Everything else in a message of ctnetlink is big-endian on every machine.
"""

from __future__ import annotations

import struct
import sys

from conntrack_aio.uapi.netlink import NLA_F_NESTED, NLA_TYPE_MASK
from conntrack_aio.uapi.nfnetlink import NFNL_SUBSYS
from conntrack_aio.uapi.nfnetlink_conntrack import CTA

_LABELS = (CTA.LABELS, CTA.LABELS_MASK)
"""The top-level attributes of a flow message that hold labels."""

_WORD_SIZE = 8


def to_host_byte_order(data: bytes, order: str = "little") -> bytes:
    """Return a ctnetlink message as a kernel of this machine's byte order would send it.

    :param data: a message that a 64-bit machine sent.
    :param order: the byte order of that machine, ``"little"`` or ``"big"``.
    """
    return data if order == sys.byteorder else swap_byte_order(data, order)


def attributes_to_host_byte_order(data: bytes) -> bytes:
    """Return attributes that a little-endian machine sent, in this machine's byte order."""
    return data if sys.byteorder == "little" else _swap_attributes(data, "<", ">", labels=False)


def nft_label(number: int) -> int:
    """Return the labels that nft sets for a label number.

    On a big-endian machine nft swaps the two 64-bit words of the labels.
    """
    return 1 << (number if sys.byteorder == "little" else number ^ 64)


def swap_byte_order(data: bytes, order: str = "little") -> bytes:
    """Return a message of this byte order as a machine of the other byte order would send it."""
    theirs, ours = "<>" if order == "little" else "><"
    header = struct.unpack_from(f"{theirs}IHHII", data)
    of_flows = header[1] >> 8 == NFNL_SUBSYS.CTNETLINK
    attributes = _swap_attributes(data[20:], theirs, ours, labels=of_flows)
    return struct.pack(f"{ours}IHHII", *header) + data[16:20] + attributes


def _swap_attributes(data: bytes, theirs: str, ours: str, *, labels: bool) -> bytes:
    result = b""
    while data:
        length, kind = struct.unpack_from(f"{theirs}HH", data)
        end = (length + 3) & ~3
        value, padding = data[4:length], data[length:end]
        if kind & NLA_F_NESTED:
            value = _swap_attributes(value, theirs, ours, labels=False)
        elif labels and kind & NLA_TYPE_MASK in _LABELS:
            value = b"".join(
                value[i : i + _WORD_SIZE][::-1] for i in range(0, len(value), _WORD_SIZE)
            )
        result += struct.pack(f"{ours}HH", length, kind) + value + padding
        data = data[end:]
    return result
