"""Build the requests of all subsystems from attributes.

This module imports no class of the model, because a request without attributes needs none.
"""

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
    """Return a request.

    :param verb: what is done, for errors.
    :param subject: what it is done to, for errors.
    :param subsystem: the subsystem of nfnetlink.
    :param message: the number of the message in the subsystem.
    :param attributes: the attributes.
    :param flags: the flags of the header besides ``NLM_F_REQUEST``.
    :param family: the address family in the nfgenmsg.
    :param hints: what to do about an errno, for errors.
    """
    kind = nfnetlink.message_type(subsystem, message)
    return Request(verb, subject, kind, flags, nfnetlink.pack(family) + attributes, hints)


def dump_all(
    subject: object, subsystem: NFNL_SUBSYS, message: int, hints: Mapping[int, str]
) -> Request:
    """Return the dump of a subsystem that the kernel may lack.

    Without attributes EINVAL can only mean that the subsystem is missing, so it is read as
    EOPNOTSUPP. With other requests it may also mean that the subsystem refuses the request.
    """
    encoded = request("dump", subject, subsystem, message, flags=int(NLM_F.DUMP), hints=hints)
    return encoded._replace(meanings=ABSENT)
