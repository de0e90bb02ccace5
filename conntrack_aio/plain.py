"""Normalize values that users pass to plain built-in objects.

A subclass of ``int`` or ``str`` may print, compare and hash as it likes. So what a user passes is
replaced by the plain object of the same value before it is stored, packed, remembered or compared:
members of enums, NumPy integers, ``bool`` and subclasses of the :mod:`ipaddress` classes.
"""

from __future__ import annotations

import operator
from ipaddress import IPv4Address, IPv6Address
from typing import Final, cast

LONGEST: Final = 200
"""The characters of a value that an error message shows."""


def as_int(value: object) -> int:
    """Return the plain ``int`` of an integer: of a subclass, or of what has ``__index__``.

    :raises TypeError: when the value is not an integer.
    """
    if type(value) is int:
        return value
    # The class itself is asked: what __class__ says may be another one.
    if not issubclass(type(value), int):
        try:
            value = operator.index(value)  # type: ignore[arg-type]
        except Exception as error:
            raise TypeError(f"{type(value).__name__} is not an integer") from error
    # The method of int itself: a subclass may have another one.
    return int.__index__(cast("int", value))


def as_str(value: object) -> str:
    """Return the plain ``str`` of a text, which may be of a subclass.

    :raises TypeError: when the value is not text.
    """
    if type(value) is str:
        return value
    if not issubclass(type(value), str):
        raise TypeError(f"{type(value).__name__} is not text")
    return str.__str__(cast("str", value))


def as_bytes(value: object) -> bytes:
    """Return the plain ``bytes`` of a bytes-like object.

    :raises TypeError: when the value is not bytes-like.
    """
    if type(value) is bytes:
        return value
    try:
        return memoryview(value).tobytes()  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{type(value).__name__} is not bytes") from None


def as_address(value: object) -> IPv4Address | IPv6Address:
    """Return the plain address object of an address object, which may be of a subclass.

    A scope is kept: refusing one is up to the caller. A mapped address is kept, too; see
    :func:`unmapped`.

    :raises TypeError: when the value is not an address object.
    """
    if issubclass(type(value), IPv4Address):
        # An address keeps the number that it was made of as it is, of whatever subclass.
        number = IPv4Address.__int__(cast("IPv4Address", value))
        if type(value) is IPv4Address and type(number) is int:
            return value
        return IPv4Address(as_int(number))
    if not issubclass(type(value), IPv6Address):
        raise TypeError(f"{type(value).__name__} is not an address")
    number = IPv6Address.__int__(cast("IPv6Address", value))
    if type(value) is IPv6Address and type(number) is int:
        return value
    plain = IPv6Address(as_int(number))
    scope = cast("IPv6Address", value).scope_id
    return plain if scope is None else IPv6Address(f"{plain}%{scope}")


def unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address inside an IPv4-mapped IPv6 address, or the address as it is.

    A dual-stack socket names its IPv4 peers by mapped addresses (``::ffff:10.0.0.1``), while the
    kernel's table has them as IPv4 (RFC 4291, section 2.5.5.2).
    """
    if type(address) is IPv6Address and address.scope_id is None:
        four = address.ipv4_mapped
        return address if four is None else four
    return address


def describe_value(value: object) -> str:
    """Return the value as an error message shows it. Never raises.

    An object's own ``__repr__`` may raise, and Python refuses to print an integer of thousands
    of digits.
    """
    try:
        text = as_str(repr(value))
    except Exception:
        return f"an object of type {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def describe_number(value: int) -> str:
    """Return a plain ``int`` as an error message shows it: Python refuses to print thousands of
    digits."""
    bits = value.bit_length()
    return str(value) if bits <= 128 else f"a number of {bits} bits"
