"""Find out why a flow has ended, as far as its event shows it."""

from __future__ import annotations

from typing import Final

from conntrack_aio import (
    DCCPInfo,
    DCCPState,
    FlowEvent,
    SCTPInfo,
    SCTPState,
    TCPInfo,
    TCPState,
)

from .records import EndReason

_CLOSED: Final[dict[type, frozenset[int]]] = {
    TCPInfo: frozenset(
        (
            *(TCPState.FIN_WAIT, TCPState.CLOSE_WAIT, TCPState.LAST_ACK),
            *(TCPState.TIME_WAIT, TCPState.CLOSE),
        )
    ),
    SCTPInfo: frozenset(
        (
            *(SCTPState.CLOSED, SCTPState.SHUTDOWN_SENT),
            *(SCTPState.SHUTDOWN_RECD, SCTPState.SHUTDOWN_ACK_SENT),
        )
    ),
    DCCPInfo: frozenset((DCCPState.CLOSEREQ, DCCPState.CLOSING, DCCPState.TIMEWAIT)),
}
"""The states in which a side has closed the connection."""


def end_reason(event: FlowEvent) -> EndReason:
    """Return why a flow has ended.

    :param event: its event of the type DESTROY. A program that deleted the entry is in it. The
        timeout is in it if there was one left: the kernel leaves out a timeout of 0
        (``ctnetlink_dump_timeout``).
    """
    flow = event.flow
    if event.port_id:
        return EndReason.FORCED
    closed = _CLOSED.get(type(flow.protoinfo), frozenset())
    if flow.protoinfo is not None and flow.protoinfo.state in closed:
        return EndReason.END
    return EndReason.UNKNOWN if flow.timeout else EndReason.IDLE
