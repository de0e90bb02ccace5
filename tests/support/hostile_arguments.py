"""Values that users pass as a number, a text or an address, and objects whose methods fail.

The ``Overridden`` classes are subclasses of the expected type: the library must read such a value
without running any code of the subclass.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NoReturn

from conntrack_aio.plain import describe_value


def case_name(value: object) -> str:
    """Return a description of a value for the id of a test case.

    It has no memory address, so that all test processes collect the same ids.
    """
    return re.sub(" at 0x[0-9a-f]+", "", describe_value(value))


def _fail(*arguments: object) -> NoReturn:
    raise AssertionError("code of a value that was passed in ran")


class OverriddenInt(int):
    """An integer whose own methods all fail."""

    __str__ = __repr__ = __format__ = __int__ = __hash__ = _fail  # type: ignore[assignment]
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _fail  # type: ignore[assignment]
    __index__ = __and__ = __rand__ = __or__ = __ror__ = __bool__ = _fail  # type: ignore[assignment]
    to_bytes = bit_length = _fail  # type: ignore[assignment]


class OverriddenStr(str):
    """A text whose own methods fail."""

    __str__ = __repr__ = __format__ = __hash__ = __eq__ = __ne__ = _fail  # type: ignore[assignment]
    encode = lower = strip = split = _fail  # type: ignore[assignment]


class OverriddenBytes(bytes):
    """Bytes whose own methods fail."""

    __str__ = __repr__ = __hash__ = __eq__ = __ne__ = __bytes__ = _fail  # type: ignore[assignment]
    hex = _fail  # type: ignore[assignment]


class OverriddenIPv4(IPv4Address):
    """An IPv4 address whose own methods fail."""

    __str__ = __repr__ = __hash__ = __eq__ = __int__ = __lt__ = _fail  # type: ignore[assignment]
    packed = property(_fail)  # type: ignore[assignment]


class OverriddenIPv6(IPv6Address):
    """An IPv6 address whose own methods fail."""

    __str__ = __repr__ = __hash__ = __eq__ = __int__ = __lt__ = _fail  # type: ignore[assignment]
    packed = ipv4_mapped = property(_fail)  # type: ignore[assignment]


class Index:
    """An integer that is not an ``int`` but has ``__index__``, as in NumPy."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value

    __hash__ = __eq__ = _fail  # type: ignore[assignment]


def enum_member(value: int) -> Any:
    """Return a member of a plain ``Enum`` whose members are also integers."""
    return Enum("Mark", {"WEB": value}, type=int).WEB  # type: ignore[attr-defined]


def int_enum_member(value: int) -> Any:
    return IntEnum("Mark", {"WEB": value}).WEB  # type: ignore[attr-defined]


INTEGERS: dict[str, Callable[[int], Any]] = {
    "a member of an enum": enum_member,
    "a member of an IntEnum": int_enum_member,
    "an object with __index__": Index,
    "a subclass whose methods fail": OverriddenInt,
}


class RaisingObject:
    """An object whose every operation raises, with an error class that the test chooses."""

    def __init__(self, error: type[Exception]) -> None:
        object.__setattr__(self, "_error", error)

    def _raise(self, *arguments: object) -> NoReturn:
        raise object.__getattribute__(self, "_error")("hostile")

    __repr__ = __str__ = __index__ = __hash__ = __eq__ = __bool__ = __iter__ = _raise  # type: ignore[assignment]
    __getattr__ = __len__ = __int__ = __lt__ = __buffer__ = _raise  # type: ignore[assignment]
