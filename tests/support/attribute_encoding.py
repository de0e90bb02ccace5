"""Attributes, made without the library's help, and what is compared with them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from copy import copy
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from conntrack_aio import EventType

T = TypeVar("T")


class Case(NamedTuple):
    name: str
    object: object
    data: bytes
    plain: Mapping[str, object] = MappingProxyType({})
    """Fields of the object that no attribute holds."""


class Captured(NamedTuple):
    """A message, and what it tells: fields of the flow or expectation, by their dotted names."""

    name: str
    event: EventType | None
    """``None`` is an entry of a dump."""
    told: dict[str, object]
    data: bytes


def attr(number: int, payload: bytes, flags: int = 0) -> bytes:
    """``struct nlattr``, payload and padding."""
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
    """A copy of an object with fields assigned: the constructor, which checks, is not called."""
    other = copy(obj)
    for name, value in values.items():
        object.__setattr__(other, name, value)
    return other
