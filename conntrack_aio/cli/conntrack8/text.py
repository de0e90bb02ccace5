"""Write flows and events as the lines of text that conntrack(8) prints.

A line has the attributes of the kernel's message, in a fixed order. An absent attribute is left
out, with one exception: ports, keys and ICMP fields are printed as 0.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Final

from ...model.enums import Status
from ...model.flow import Counters, Flow, Timestamp
from ...model.labels import LabelNames
from ...model.protocols import DCCP, GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE
from ...model.protoinfo import DCCPInfo, ProtoInfo, SCTPInfo, TCPInfo
from ...model.tuples import IPAddress, Tuple
from .output_options import OutputOptions

PROTOCOL_NAMES: Final[Mapping[int, str]] = {
    ICMP: "icmp",
    TCP: "tcp",
    UDP: "udp",
    DCCP: "dccp",
    GRE: "gre",
    ICMPV6: "icmpv6",
    SCTP: "sctp",
    UDPLITE: "udplite",
}
"""The protocols that conntrack(8) knows by name. It calls all others ``unknown``."""

TCP_STATES: Final = (
    *("NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT"),
    *("CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"),
)
SCTP_STATES: Final = (
    *("NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED"),
    *("SHUTDOWN_SENT", "SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT", "HEARTBEAT_ACKED"),
)
DCCP_STATES: Final = (
    *("NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN"),
    *("CLOSEREQ", "CLOSING", "TIMEWAIT", "IGNORE", "INVALID"),
)
STATES: Final[Mapping[type[ProtoInfo], tuple[str, ...]]] = {
    TCPInfo: TCP_STATES,
    SCTPInfo: SCTP_STATES,
    DCCPInfo: DCCP_STATES,
}
"""The names of the states of connections, by their numbers."""

PORTED: Final = frozenset({TCP, UDP, UDPLITE, SCTP, DCCP})
"""The protocols with ports."""
NANOSECONDS: Final = 1_000_000_000
_ALL_LABELS: Final = (1 << 128) - 1
ALL_ONES: Final = (1 << 64) - 1


def flow_text(flow: Flow, output: OutputOptions, names: Mapping[int, str]) -> str:
    """Return the line of a flow, without its newline.

    :param flow: the flow.
    :param output: the output options.
    :param names: the names of the labels, by their bits; none if there is no file of names.
    """
    orig, reply = flow.orig, flow.reply
    parts = [family_text(orig)] if output & OutputOptions.EXTENDED else []
    parts.append(protocol_text(orig.proto))
    if flow.timeout is not None:
        parts.append(f"{flow.timeout:d}")
    state = state_of(flow.protoinfo)
    if state is not None:
        parts.append(state)
    status = None if flow.status is None else int(flow.status)
    add_direction(parts, orig)
    if orig.zone is not None:
        parts.append(f"zone-orig={orig.zone:d}")
    _add_counters(parts, flow.counters_orig)
    if status is not None and not status & Status.SEEN_REPLY:
        parts.append("[UNREPLIED]")
    add_direction(parts, reply)
    if reply.zone is not None:
        parts.append(f"zone-reply={reply.zone:d}")
    _add_counters(parts, flow.counters_reply)
    if status is not None:
        _add_protection(parts, status)
    if flow.mark is not None:
        parts.append(f"mark={flow.mark:d}")
    if flow.secctx is not None:
        parts.append(f"secctx={flow.secctx}")
    if flow.zone is not None:
        parts.append(f"zone={flow.zone:d}")
    if flow.timestamp is not None:
        _add_times(parts, flow.timestamp, output)
    if flow.helper is not None and flow.helper.name is not None:
        parts.append(f"helper={flow.helper.name}")
    if flow.use is not None:
        parts.append(f"use={flow.use:d}")
    if output & OutputOptions.ID and flow.id is not None:
        parts.append(f"id={flow.id:d}")
    if output & OutputOptions.LABELS and flow.labels is not None and names:
        parts.append(labels_text(flow.labels, names))
    return " ".join(parts)


# -- the beginning of a line -----------------------------------------------------------------------


def family_text(tuple_: Tuple) -> str:
    """Return the name and the number of the address family of a tuple."""
    return f"{'ipv4':<8} {AF_INET}" if tuple_.src.version == 4 else f"{'ipv6':<8} {AF_INET6}"


@lru_cache(256)
def protocol_text(proto: int) -> str:
    """Return the name and the number of a protocol."""
    return f"{PROTOCOL_NAMES.get(proto, 'unknown'):<8} {proto}"


def state_of(protoinfo: ProtoInfo | None) -> str | None:
    """Return the name of the state of a connection, which is ``NONE`` if it is unknown."""
    if protoinfo is None or protoinfo.state is None:
        return None
    names, state = STATES[type(protoinfo)], int(protoinfo.state)
    return names[state] if state < len(names) else names[0]


# -- directions ------------------------------------------------------------------------------------


def address_text(address: IPAddress) -> str:
    """Return the text of an address, as the C library writes it.

    That of :class:`str` differs for IPv6 addresses whose first 96 bits are zero.
    """
    return inet_ntop(AF_INET if address.version == 4 else AF_INET6, address.packed)


def add_direction(parts: list[str], tuple_: Tuple, prefix: str = "") -> None:
    """Add the addresses of a tuple, and the fields of its protocol.

    :param parts: where to add them.
    :param tuple_: the tuple.
    :param prefix: what precedes the names of the addresses.
    """
    parts.append(f"{prefix}src={address_text(tuple_.src)} {prefix}dst={address_text(tuple_.dst)}")
    if tuple_.proto in PORTED:
        parts.append(f"sport={tuple_.sport or 0:d} dport={tuple_.dport or 0:d}")
    elif tuple_.proto == GRE:
        parts.append(f"srckey={tuple_.sport or 0:#x} dstkey={tuple_.dport or 0:#x}")
    elif tuple_.proto in (ICMP, ICMPV6):
        type_, code, id_ = tuple_.icmp_type or 0, tuple_.icmp_code or 0, tuple_.icmp_id or 0
        parts.append(f"type={type_:d} code={code:d} id={id_:d}")


def _add_counters(parts: list[str], counters: Counters | None) -> None:
    if counters is not None and counters.packets is not None and counters.bytes is not None:
        parts.append(f"packets={counters.packets:d} bytes={counters.bytes:d}")


def _add_protection(parts: list[str], status: int) -> None:
    """Add why the kernel keeps the entry. Only the first reason is printed."""
    for bit in (Status.HW_OFFLOAD, Status.OFFLOAD, Status.ASSURED):
        if status & bit:
            parts.append(f"[{bit.name}]")
            return


# -- times -----------------------------------------------------------------------------------------


def _add_times(parts: list[str], timestamp: Timestamp, output: OutputOptions) -> None:
    if timestamp.start is not None:
        parts.append(f"delta-time={age(timestamp.start, timestamp.stop):d}")
    if output & OutputOptions.KTIMESTAMP:
        for name, value in (("start", timestamp.start), ("stop", timestamp.stop)):
            if value is not None:
                parts.append(f"[{name}={_calendar_text(value // NANOSECONDS)}]")


def age(start: int, stop: int | None) -> int:
    """Return the age of an entry in whole seconds, modulo 2 to the power of 64.

    It is negative, and so very large here, after the clock was set back. An entry that has not
    ended may have an end of 0.
    """
    end = stop // NANOSECONDS if stop else int(time.time())
    return end - start // NANOSECONDS & ALL_ONES


@lru_cache(1024)
def _calendar_text(seconds: int) -> str:
    """Return a time in the local time zone, as ``ctime()`` writes it."""
    return time.ctime(seconds)


# -- labels ----------------------------------------------------------------------------------------


def names_by_bit(labels: LabelNames) -> dict[int, str]:
    """Return the names of labels by their bits."""
    all_labels = enumerate(labels.names(_ALL_LABELS))
    return {bit: label for bit, label in all_labels if isinstance(label, str)}


def label_names(labels: int, names: Mapping[int, str]) -> list[str]:
    """Return the names of labels. Labels without a name are left out."""
    return [names[bit] for bit in range(labels.bit_length()) if labels >> bit & 1 and bit in names]


def labels_text(labels: int, names: Mapping[int, str]) -> str:
    """Return the labels. If none of them has a name, the value is missing, and also the ``=``."""
    found = label_names(labels, names)
    return f"labels={','.join(found)}" if found else "labels"
