"""What the requests of all subsystems are made by."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from socket import AF_UNSPEC
from types import MappingProxyType
from typing import Final

from ...errors import EncodeError
from ...netlink import nfnetlink
from ...netlink.exchange import Request
from ...uapi.netlink import NLM_F
from ...uapi.nfnetlink import NFNL_SUBSYS

LONGEST: Final = ((1 << 31) - 1) // 1000
"""The longest time that a policy may say, in seconds: 2,147,483, some 24 days.

The kernel multiplies by its ticks a second and keeps 32 bits, and of an entry that has 2^31 ticks
or more to live it thinks that it has expired (``nf_ct_is_expired``). How many ticks a second has is
the kernel's own affair; with 1000, the most there are, this fits.
"""

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


def check_seconds(value: object, path: tuple[str, ...]) -> None:
    """Raises :exc:`EncodeError` for a time beyond :data:`LONGEST`."""
    if isinstance(value, int) and value > LONGEST:
        raise EncodeError(
            f"{value} seconds are more than {LONGEST}, and more than a kernel of 1000 ticks a "
            "second can count",
            path,
        )
