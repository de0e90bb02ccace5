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

_ENDING_RULES: Final = {
    True: "`tcp flags & (fin | syn | rst | ack) != syn ct state new drop`",
    False: "`ct state invalid drop`",
}
"""The rule of nftables that ends a connection without an entry, by ``nf_conntrack_tcp_loose``."""

_NEXT_PACKET: Final = {
    True: "creates an entry again",
    False: "is invalid and passes",
}
"""What becomes of the next packet without such a rule, by ``nf_conntrack_tcp_loose``."""


def has_open_tcp(flows: Iterable[Flow]) -> bool:
    """Return whether one of the flows is a TCP connection that has not ended."""
    return any(
        flow.orig.proto == TCP and getattr(flow.protoinfo, "state", None) not in _ENDED
        for flow in flows
    )


async def report_open_tcp(conn: Connection) -> None:
    """Report what ends TCP connections whose entries were deleted, by the namespace's settings.

    Whether there is a rule that ends them is known only if no rule uses connection tracking. The
    library does not read what rules drop, and the kernel cannot list those of the legacy iptables.

    :param conn: the connection that deleted the entries.
    """
    try:
        loose = (await conn.sysctls.read()).tcp_loose
        tracking = await conn.sysctls.tracking()
    except ConntrackError:
        return
    if loose is None:
        return
    rule = _ENDING_RULES[loose]
    if tracking is False:
        outcome = (
            "no firewall rule was found here that uses connection tracking, so its packets pass; "
            f"what ends it while nf_conntrack_tcp_loose is {loose:d}: {rule}"
        )
    else:
        outcome = (
            f"nf_conntrack_tcp_loose is {loose:d}, so its next packet {_NEXT_PACKET[loose]}, "
            f"unless a rule drops it: {rule}"
        )
    report(f"deleting its entry does not end a TCP connection: {outcome}")
