"""Encode netlink attributes without the library, for comparison with its encoder and decoder."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from copy import copy
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from conntrack_aio import EventType

T = TypeVar("T")


class Case(NamedTuple):
    """An object of the model and its encoded attributes."""

    name: str
    object: object
    data: bytes
    plain: Mapping[str, object] = MappingProxyType({})
    """Fields of the object that are not in an attribute."""


class Captured(NamedTuple):
    """A message that a real kernel sent, and the fields that it holds."""

    name: str
    event: EventType | None
    """The type of the event; ``None`` for an entry of a dump."""
    fields: dict[str, object]
    """Fields of the flow or expectation, by their dotted names."""
    data: bytes


def attr(number: int, payload: bytes, flags: int = 0) -> bytes:
    """Return an attribute: ``struct nlattr``, the payload and padding."""
    return struct.pack("=HH", 4 + len(payload), number | flags) + payload + bytes(-len(payload) % 4)


def nest(number: int, *attributes: bytes) -> bytes:
    return attr(number, b"".join(attributes), 0x8000)


def be8(number: int, value: int) -> bytes:
    return attr(number, struct.pack(">B", value))


def be16(number: int, value: int) -> bytes:
    return attr(number, struct.pack(">H", value))


def be32(number: int, value: int) -> bytes:
    return attr(number, struct.pack(">I", value))


def be64(number: int, value: int) -> bytes:
    return attr(number, struct.pack(">Q", value))


def host32(number: int, value: int) -> bytes:
    return attr(number, struct.pack("=I", value))


def with_values(obj: T, **values: object) -> T:
    """Return a copy of an object with these fields, without calling its checking constructor."""
    other = copy(obj)
    for name, value in values.items():
        object.__setattr__(other, name, value)
    return other
