"""What the requests of all subsystems are made by."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from socket import AF_INET, AF_INET6, AF_UNSPEC
from types import MappingProxyType
from typing import Final, TypeVar, cast

from ...errors import EncodeError
from ...model.declare import normalized
from ...model.values import describe_value, number_within, plain_number
from ...netlink import nfnetlink
from ...netlink.exchange import Request
from ...plain import as_str, describe_number
from ...uapi.netlink import NLM_F
from ...uapi.nfnetlink import NFNL_SUBSYS

LONGEST: Final = ((1 << 31) - 1) // 1000
"""The longest time that a policy may say, in seconds: 2,147,483, some 24 days.

The kernel multiplies by its ticks a second and keeps 32 bits, and of an entry that has 2^31 ticks
or more to live it thinks that it has expired (``nf_ct_is_expired``). How many ticks a second has is
the kernel's own affair; with 1000, the most there are, this fits.
"""

T = TypeVar("T")

NO_HINTS: Mapping[int, str] = MappingProxyType({})
ABSENT: Mapping[int, int] = MappingProxyType({errno.EINVAL: errno.EOPNOTSUPP})


def request(
    verb: str,
    subject: object,
    subsystem: NFNL_SUBSYS,
    message: int,
    attributes: bytes = b"",
    *,
    flags: int = 0,
    family: int = AF_UNSPEC,
    hints: Mapping[int, str] = NO_HINTS,
) -> Request:
    """A request: ``verb`` and ``subject`` are its words in errors, ``hints`` what to do then."""
    kind = nfnetlink.message_type(subsystem, message)
    return Request(verb, subject, kind, flags, nfnetlink.pack(family) + attributes, hints)


def dump_all(
    subject: object, subsystem: NFNL_SUBSYS, message: int, hints: Mapping[int, str]
) -> Request:
    """The dump of a subsystem that the kernel may lack, without any attribute.

    EINVAL can mean nothing else then, and is read as EOPNOTSUPP. With another request it can't be
    told from a request that the subsystem refuses.
    """
    made = request("dump", subject, subsystem, message, flags=int(NLM_F.DUMP), hints=hints)
    return made._replace(meanings=ABSENT)


def wrong_kind(value: object, wanted: str) -> TypeError:
    """Return the error for an argument of a verb that is of the wrong kind altogether.

    The rule for all verbs: an argument that is not what the verb takes is a :exc:`TypeError`, which
    says what is. A value inside of it, or one that goes into an attribute, is an
    :exc:`EncodeError` with its path.
    """
    return TypeError(f"{wanted}, not {describe_value(value)}")


def as_argument(value: object, cls: type[T], wanted: str) -> T:
    """Return an argument with plain values in every field.

    Raises :exc:`TypeError` for one of another class, and :exc:`EncodeError` for one that can't be
    read.
    """
    if not issubclass(type(value), cls):
        raise wrong_kind(value, wanted)
    try:
        return normalized(cast("T", value))
    except Exception as error:
        raise EncodeError(f"it can't be read: {describe_value(error)}") from error


def plain_id(value: object) -> int | None:
    """Return the plain id of an object that was passed in, which may have none.

    Raises :exc:`EncodeError` for what no id can be. It must not end as "not found".
    """
    if value is None or (type(value) is int and 0 <= value <= 0xFFFFFFFF):
        return value
    return number_within(value, 0xFFFFFFFF, "id")


def plain_family(value: object, *more: int) -> int:
    """Return ``AF_INET`` or ``AF_INET6``, or one of ``more``. Raises :exc:`EncodeError`."""
    family = plain_number(value, "family")
    if family not in (AF_INET, AF_INET6, *more):
        also = " or AF_UNSPEC" if more else ""
        raise EncodeError(f"{family} is neither AF_INET nor AF_INET6{also}", ("family",))
    return family


def plain_name(value: object, what: str, *path: str) -> str:
    """Return the plain text of a name.

    Raises :exc:`TypeError` for what is no text, and :exc:`EncodeError` for an empty one.
    """
    if not issubclass(type(value), str):
        raise wrong_kind(value, f"{what} is named by text")
    name = as_str(value)
    if not name:
        raise EncodeError("it is empty", path)
    return name


def check_seconds(value: object, path: tuple[str, ...]) -> None:
    """Raises :exc:`EncodeError` for a time beyond :data:`LONGEST`."""
    seconds = 0 if value is None else plain_number(value, *path)
    if seconds > LONGEST:
        raise EncodeError(
            f"{describe_number(seconds)} seconds are more than {LONGEST}, and more than a kernel "
            "of 1000 ticks a second can count",
            path,
        )
