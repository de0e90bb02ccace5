"""Netfilter's layer: every message starts with ``struct nfgenmsg``; its type names a subsystem."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..errors import DecodeError
from .attributes import BytesLike
from .messages import Message

_NFGENMSG = struct.Struct("!BBH")
SIZE = _NFGENMSG.size


class Head(NamedTuple):
    """``struct nfgenmsg``: address family, version (0), and a number whose meaning varies."""

    family: int
    version: int
    resource: int


def pack(family: int, version: int = 0, resource: int = 0) -> bytes:
    """Return the four bytes before a message's attributes."""
    return _NFGENMSG.pack(family, version, resource)


def parse(buffer: BytesLike, message: Message) -> Head:
    """Read the four bytes before a message's attributes.

    :raises DecodeError: when the message is too short.
    """
    if message.end - message.start < SIZE:
        raise DecodeError(f"a message of {message.end - message.start} bytes has no nfgenmsg")
    return Head(*_NFGENMSG.unpack_from(buffer, message.start))


def message_type(subsystem: int, message: int) -> int:
    """Return the type of a subsystem's message: ``subsystem << 8 | message``."""
    return subsystem << 8 | message
