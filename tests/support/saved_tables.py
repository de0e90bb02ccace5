"""Compare flows in the fields that the kernel lets be set."""

from __future__ import annotations

from copy import copy
from typing import Final

import anyio

from conntrack_aio import Connection, Flow, Status, SynProxy, TCPFlags, TCPInfo, TCPState
from conntrack_aio.cli.saved_tables import first_line, last_line
from conntrack_aio.codec.json_lines import json_lines

from .processes import TIMEOUT

READ_ONLY: Final = ("id", "use", "counters_orig", "counters_reply", "timestamp", "secctx")
"""The fields that no request sets."""

_ADDED_FLAGS: Final = TCPFlags.BE_LIBERAL | TCPFlags.SACK_PERM
"""The flags that every TCP flow gets that a program creates, because it has no window."""


def saved_text(*flows: Flow, time: int = 0) -> str:
    """Return the text of a file with these flows."""
    return first_line(time) + json_lines(flows) + last_line(len(flows), 0)


def settable(flow: Flow) -> Flow:
    """Return a copy with the fields that a restored flow has in common with the saved one.

    The timeout, which decreases while a test runs, is left out.
    """
    kept = copy(flow)
    for name in READ_ONLY:
        setattr(kept, name, None)
    kept.timeout = None
    kept.status = Status(flow.status or 0) & ~(Status.OFFLOAD | Status.HW_OFFLOAD)
    if isinstance(flow.protoinfo, TCPInfo):
        closing = flow.protoinfo.state is not None and flow.protoinfo.state >= TCPState.TIME_WAIT
        added = _ADDED_FLAGS | TCPFlags.CLOSE_INIT if closing else _ADDED_FLAGS
        kept.protoinfo = TCPInfo(
            state=flow.protoinfo.state,
            wscale_orig=flow.protoinfo.wscale_orig,
            wscale_reply=flow.protoinfo.wscale_reply,
            flags_orig=TCPFlags(flow.protoinfo.flags_orig or 0) | added,
            flags_reply=TCPFlags(flow.protoinfo.flags_reply or 0) | added,
        )
    # Every flow that a program creates has these, with zeros.
    kept.synproxy = flow.synproxy or SynProxy(isn=0, its=0, tsoff=0)
    return kept


def in_order(flows: list[Flow]) -> list[Flow]:
    """Return the settable fields of flows, in an order that does not depend on the kernel's."""
    return sorted(map(settable, flows), key=lambda flow: (str(flow.orig), str(flow.reply)))


async def list_at_rest(conn: Connection) -> list[Flow]:
    """Wait until no packet is on its way, as a delayed acknowledgement may be; return the flows."""
    with anyio.fail_after(TIMEOUT):
        while True:
            flows = await conn.list()
            if all(_is_at_rest(flow.protoinfo) for flow in flows):
                return flows


def _is_at_rest(info: object) -> bool:
    if not isinstance(info, TCPInfo):
        return True
    flags = TCPFlags(info.flags_orig or 0) | TCPFlags(info.flags_reply or 0)
    settled = info.state in (TCPState.ESTABLISHED, TCPState.TIME_WAIT)
    return settled and not flags & TCPFlags.DATA_UNACKNOWLEDGED
