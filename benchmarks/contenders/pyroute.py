"""Time pyroute2's ``NFCTSocket.dump()``, the faster of its two methods to dump the table."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any, Final

from ..timing import Contender, Observation, Stopwatch, Timing
from .ours import digest_of

NAME: Final = "pyroute2"


def dump() -> Contender:
    """Time a dump of all IPv4 flows. The consumer reads the same fields as that of this library."""

    def run() -> Timing:
        with _socket() as sock:
            watch = Stopwatch()
            count = sum(1 for _ in _read(sock))
            return watch.stop(count)

    def check() -> Observation:
        with _socket() as sock:
            digests = [digest_of(*values) for values in _read(sock)]
        return Observation(len(digests), sum(digests) & (1 << 64) - 1)

    return Contender(NAME, run, check)


def _socket() -> Any:
    # pyroute2 has no type hints, and need not be installed for the type checkers.
    return importlib.import_module("pyroute2.netlink.nfnetlink.nfctsocket").NFCTSocket()


def _read(sock: Any) -> Iterator[tuple[int, int, int, int]]:
    """Yield the source address, destination port, mark and status of each flow."""
    for message in sock.dump():
        orig = message.get_attr("CTA_TUPLE_ORIG")
        yield (
            int(IPv4Address(orig.get_attr("CTA_TUPLE_IP").get_attr("CTA_IP_V4_SRC"))),
            orig.get_attr("CTA_TUPLE_PROTO").get_attr("CTA_PROTO_DST_PORT"),
            message.get_attr("CTA_MARK"),
            message.get_attr("CTA_STATUS"),
        )
