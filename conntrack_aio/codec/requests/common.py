"""Check the arguments that requests of several subsystems take."""

from __future__ import annotations

from socket import AF_INET, AF_INET6
from typing import Final, TypeVar, cast

from ...errors import EncodeError
from ...model.normalization import normalized
from ...model.values import describe_value, number_within, plain_number
from ...plain import as_str, describe_number

MAX_SECONDS: Final = ((1 << 31) - 1) // 1000
"""The longest timeout of a policy, in seconds: 2,147,483, about 24 days.

The kernel multiplies it by its ticks per second and keeps 32 bits. The kernel treats an entry that
has 2^31 or more ticks left as expired (``nf_ct_is_expired``). The number of ticks per second
depends on the kernel's configuration; 1000 is the most.
"""

T = TypeVar("T")


def wrong_kind(value: object, wanted: str) -> TypeError:
    """Return the error for an argument of the wrong type.

    The rule for all requests: an argument of a type that a request does not take is a
    :exc:`TypeError`, which says what it takes. A wrong value inside an argument is an
    :exc:`EncodeError` with its path.
    """
    return TypeError(f"{wanted}; got {describe_value(value)}")


def as_argument(value: object, cls: type[T], wanted: str) -> T:
    """Return an argument with plain values in every field.

    :raises TypeError: when the argument is of another class.
    :raises EncodeError: when the argument cannot be read.
    """
    if not issubclass(type(value), cls):
        raise wrong_kind(value, wanted)
    try:
        return normalized(cast("T", value))
    except Exception as error:
        raise EncodeError(f"it cannot be read: {describe_value(error)}") from error


def plain_id(value: object) -> int | None:
    """Return the plain id of an argument, which may have none.

    :raises EncodeError: when the value cannot be an id; otherwise the error would be "not found".
    """
    if value is None or (type(value) is int and 0 <= value <= 0xFFFFFFFF):
        return value
    return number_within(value, 0xFFFFFFFF, "id")


def plain_family(value: object, *more: int) -> int:
    """Return ``AF_INET`` or ``AF_INET6``, or one of ``more``.

    :raises EncodeError: when it is another value.
    """
    family = plain_number(value, "family")
    if family not in (AF_INET, AF_INET6, *more):
        also = " or AF_UNSPEC" if more else ""
        raise EncodeError(f"{family} is neither AF_INET nor AF_INET6{also}", ("family",))
    return family


def plain_name(value: object, what: str, *path: str) -> str:
    """Return the plain text of a name.

    :raises TypeError: when the value is not text.
    :raises EncodeError: when the text is empty.
    """
    if not issubclass(type(value), str):
        raise wrong_kind(value, f"the name of {what} must be text")
    name = as_str(value)
    if not name:
        raise EncodeError("a name must not be empty", path)
    return name


def check_seconds(value: object, path: tuple[str, ...]) -> None:
    """Check a number of seconds.

    :raises EncodeError: when the number is above :data:`MAX_SECONDS`.
    """
    seconds = 0 if value is None else plain_number(value, *path)
    if seconds > MAX_SECONDS:
        raise EncodeError(
            f"{describe_number(seconds)} seconds are more than {MAX_SECONDS}, the most that "
            "a kernel with 1000 ticks per second can count",
            path,
        )
