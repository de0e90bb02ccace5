"""Normalize values that users pass to plain built-in objects.

A subclass of ``int`` or ``str`` may override how it prints, compares and hashes. So a user's value
is replaced by the plain object of the same value before it is stored, packed, cached or compared:
members of enums, NumPy integers, ``bool`` and subclasses of the :mod:`ipaddress` classes.
"""

from __future__ import annotations

import operator
from ipaddress import IPv4Address, IPv6Address
from typing import Final, cast

LONGEST: Final = 200
"""The number of characters of a value that an error message shows."""


def as_int(value: object) -> int:
    """Return the plain ``int`` of an integer, of a subclass, or of an object with ``__index__``.

    :raises TypeError: when the value is not an integer.
    """
    if type(value) is int:
        return value
    # type() returns the real class; __class__ may be overridden.
    if not issubclass(type(value), int):
        try:
            value = operator.index(value)  # type: ignore[arg-type]
        except Exception as error:
            raise TypeError(f"must be an integer; got {type(value).__name__}") from error
    # int.__index__(): a subclass may override the method.
    return int.__index__(cast("int", value))


def as_str(value: object) -> str:
    """Return the plain ``str`` of text, which may be of a subclass.

    :raises TypeError: when the value is not text.
    """
    if type(value) is str:
        return value
    if not issubclass(type(value), str):
        raise TypeError(f"must be text; got {type(value).__name__}")
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
        raise TypeError(f"must be bytes; got {type(value).__name__}") from None


def as_address(value: object) -> IPv4Address | IPv6Address:
    """Return the plain address object of an address object, which may be of a subclass.

    Scopes are kept: the caller may refuse them. IPv4-mapped addresses are kept, too; see
    :func:`unmapped`.

    :raises TypeError: when the value is not an address object.
    """
    if issubclass(type(value), IPv4Address):
        # An address stores the number that it was made of, even one of a subclass.
        number = IPv4Address.__int__(cast("IPv4Address", value))
        if type(value) is IPv4Address and type(number) is int:
            return value
        return IPv4Address(as_int(number))
    if not issubclass(type(value), IPv6Address):
        raise TypeError(f"must be an address object; got {type(value).__name__}")
    number = IPv6Address.__int__(cast("IPv6Address", value))
    if type(value) is IPv6Address and type(number) is int:
        return value
    plain = IPv6Address(as_int(number))
    scope = cast("IPv6Address", value).scope_id
    return plain if scope is None else IPv6Address(f"{plain}%{scope}")


def unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address of an IPv4-mapped IPv6 address, and any other address unchanged.

    Dual-stack sockets have IPv4-mapped addresses (``::ffff:10.0.0.1``) for IPv4 peers. The kernel's
    table has IPv4 addresses for them (RFC 4291, section 2.5.5.2).
    """
    if type(address) is IPv6Address and address.scope_id is None:
        four = address.ipv4_mapped
        return address if four is None else four
    return address


def describe_value(value: object) -> str:
    """Return a value as error messages show it. Never raises.

    An object's ``__repr__`` may raise, and Python refuses to convert an integer of thousands of
    digits to text.
    """
    try:
        text = as_str(repr(value))
    except Exception:
        return f"an object of type {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def describe_number(value: int) -> str:
    """Return a plain ``int`` as error messages show it: a very large one by its number of bits."""
    bits = value.bit_length()
    return str(value) if bits <= 128 else f"a number of {bits} bits"
