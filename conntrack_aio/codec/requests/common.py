"""What the requests of all subsystems are made by."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from socket import AF_UNSPEC
from types import MappingProxyType

from ...netlink import nfnetlink
from ...netlink.exchange import Request
from ...uapi.netlink import NLM_F
from ...uapi.nfnetlink import NFNL_SUBSYS

NO_HINTS: Mapping[int, str] = MappingProxyType({})
_ABSENT: Mapping[int, int] = MappingProxyType({errno.EINVAL: errno.EOPNOTSUPP})


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
    return made._replace(meanings=_ABSENT)
