"""Report that TCP connections continue although their entries were deleted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..connection import Connection
from ..errors import ConntrackError
from ..model.enums import TCPState
from ..model.flow import Flow
from ..model.protocols import TCP
from .output import report

_ENDED: Final = frozenset({TCPState.TIME_WAIT, TCPState.CLOSE})
"""The states of TCP connections that have ended."""

_NEXT_PACKET: Final = {
    True: "nf_conntrack_tcp_loose is 1, so its next packet creates an entry again, unless a rule "
    "drops that packet: `tcp flags & (fin | syn | rst | ack) != syn ct state new drop`",
    False: "nf_conntrack_tcp_loose is 0, so its packets are invalid and pass, unless a rule drops "
    "them: `ct state invalid drop`",
}
"""What becomes of a connection without its entry, by ``nf_conntrack_tcp_loose``."""


def has_open_tcp(flows: Iterable[Flow]) -> bool:
    """Return whether one of the flows is a TCP connection that has not ended."""
    return any(
        flow.orig.proto == TCP and getattr(flow.protoinfo, "state", None) not in _ENDED
        for flow in flows
    )


async def report_open_tcp(conn: Connection) -> None:
    """Report what ends TCP connections whose entries were deleted, by the namespace's settings.

    The rules that end them are not looked for: the kernel has several places for them, some of
    which cannot be listed.

    :param conn: the connection that deleted the entries.
    """
    try:
        loose = (await conn.sysctls.read()).tcp_loose
    except ConntrackError:
        return
    if loose is not None:
        report(f"deleting its entry does not end a TCP connection: {_NEXT_PACKET[loose]}")
