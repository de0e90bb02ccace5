"""Read the arguments of a match: one item or an iterable of items, and integers.

Every argument becomes a plain ``int`` or ``str`` (:mod:`conntrack_aio.plain`). How a subclass
prints, compares or hashes has no effect on a match.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, cast

from ..plain import as_int, describe_value

NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]{1,32}|[0-9]{1,40}")
"""The text of a number. Its length is bounded because long texts take long to convert."""

_SINGLE: Final = (str, int, range, IPv4Address, IPv6Address, IPv4Network, IPv6Network)
"""Types of one item, though some can be iterated: flags, ranges and networks, which may be huge."""


def parse_digits(text: str) -> int:
    """Return a decimal number, which may have leading zeros, or a hexadecimal one after ``0x``.

    :raises ValueError: when the text is anything else.
    """
    if not NUMBER.fullmatch(text):
        raise ValueError
    return int(text, 16 if text[:2] in ("0x", "0X") else 10)


def parse_integer(name: str, accepted: str, value: object) -> int:
    """Return an integer.

    :param name: the name of the parameter, for the error message.
    :param accepted: what the parameter accepts, for the error message.
    :param value: the argument.

    :raises TypeError: when the value is not an integer.
    """
    try:
        return as_int(value)
    except TypeError:
        raise TypeError(f"{name} must be {accepted}; got {describe_value(value)}") from None


def parse_items(name: str, accepted: str, given: object) -> list[object]:
    """Return the items of an iterable, or a list of the one item that was passed.

    :param name: the name of the parameter, for the error message.
    :param accepted: what the parameter accepts, for the error message.
    :param given: the argument.

    :raises TypeError: when the value is neither an item nor an iterable, and when it is bytes.
    """
    if isinstance(given, _SINGLE):
        return [given]
    if hasattr(type(given), "__index__") and not hasattr(given, "__len__"):
        return [given]
    # Bytes are rejected: iterating over them would yield numbers.
    binary = issubclass(type(given), (bytes, bytearray, memoryview))
    if issubclass(type(given), Iterable) and not binary:
        try:
            items = iter(cast("Iterable[object]", given))
        except TypeError:  # for example a NumPy array without dimensions
            if hasattr(type(given), "__index__"):
                return [given]
        else:
            return list(items)
    raise TypeError(f"{name} must be {accepted}; got {describe_value(given)}")
