"""What the requests of all subsystems are made by."""

from __future__ import annotations

from collections.abc import Mapping
from socket import AF_UNSPEC
from types import MappingProxyType

from ...netlink import nfnetlink
from ...netlink.exchange import Request
from ...uapi.nfnetlink import NFNL_SUBSYS

NO_HINTS: Mapping[int, str] = MappingProxyType({})


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
