"""Write flows as the lines of text that conntrack(8) prints.

A line has the attributes of the kernel's message, in a fixed order. An absent attribute is left
out, with one exception: ports, keys and ICMP fields are printed as 0.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop
from typing import TYPE_CHECKING, Final

from ...model.address_text import ipv4_texts
from ...model.enums import Status
from ...model.flow import Counters, Flow, Timestamp
from ...model.protocols import DCCP, GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE
from ...model.protoinfo import DCCPInfo, ProtoInfo, SCTPInfo, TCPInfo
from ...model.tuples import IPAddress, Tuple
from .output_options import OutputOptions

if TYPE_CHECKING:
    from ...model.labels import LabelNames

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
_SCTP_STATES: Final = (
    *("NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED"),
    *("SHUTDOWN_SENT", "SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT", "HEARTBEAT_ACKED"),
)
_DCCP_STATES: Final = (
    *("NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN"),
    *("CLOSEREQ", "CLOSING", "TIMEWAIT", "IGNORE", "INVALID"),
)
_STATES: Final[Mapping[type, tuple[str, ...]]] = {
    TCPInfo: TCP_STATES,
    SCTPInfo: _SCTP_STATES,
    DCCPInfo: _DCCP_STATES,
}

PORTED: Final = frozenset({TCP, UDP, UDPLITE, SCTP, DCCP})
"""The protocols with ports."""
NANOSECONDS: Final = 1_000_000_000
ALL_ONES: Final = (1 << 64) - 1
"""The largest number of seconds or nanoseconds that conntrack(8) prints."""
# Plain numbers: an operation of enums takes as long as writing a field.
_EXTENDED: Final = OutputOptions.EXTENDED.value
_KTIMESTAMP: Final = OutputOptions.KTIMESTAMP.value
_ID: Final = OutputOptions.ID.value
_LABELS: Final = OutputOptions.LABELS.value
_ALL_LABELS: Final = (1 << 128) - 1


def flow_text(flow: Flow, output: OutputOptions, names: Mapping[int, str]) -> str:
    """Return the line of a flow, without its newline.

    :param flow: the flow.
    :param output: the output options.
    :param names: the names of the labels, by their bits; none if there is no file of names.
    """
    orig, reply = flow.orig, flow.reply
    shown: int = output.value
    parts = [f"{family_name(orig.src.version)} "] if shown & _EXTENDED else []
    parts.append(protocol_text(orig.proto))
    if flow.timeout is not None:
        parts.append(f" {flow.timeout:d}")
    state = state_of(flow.protoinfo)
    if state is not None:
        parts.append(f" {state}")
    parts.append(f" {direction_text(orig)}")
    if orig.zone is not None:
        parts.append(f" zone-orig={orig.zone:d}")
    parts.append(_counters_text(flow.counters_orig))
    if flow.status is not None:
        parts.append(reply_text(flow.status))
    parts.append(f" {direction_text(reply)}")
    if reply.zone is not None:
        parts.append(f" zone-reply={reply.zone:d}")
    parts.append(_counters_text(flow.counters_reply))
    if flow.status is not None:
        parts.append(protection_text(flow.status))
    if flow.mark is not None:
        parts.append(f" mark={flow.mark:d}")
    if flow.secctx is not None:
        parts.append(f" secctx={flow.secctx}")
    if flow.zone is not None:
        parts.append(f" zone={flow.zone:d}")
    if flow.timestamp is not None:
        parts.append(_times_text(flow.timestamp, bool(shown & _KTIMESTAMP)))
    if flow.helper is not None and flow.helper.name is not None:
        parts.append(f" helper={flow.helper.name}")
    if flow.use is not None:
        parts.append(f" use={flow.use:d}")
    if shown & _ID and flow.id is not None:
        parts.append(f" id={flow.id:d}")
    if shown & _LABELS and flow.labels is not None and names:
        parts.append(f" {labels_text(flow.labels, names)}")
    return "".join(parts)


# -- the beginning of a line -----------------------------------------------------------------------


def family_name(version: int) -> str:
    """Return the name and the number of the address family of a version of IP."""
    return f"{'ipv4':<8} {AF_INET:d}" if version == 4 else f"{'ipv6':<8} {AF_INET6:d}"


@lru_cache(256)
def protocol_text(proto: int) -> str:
    """Return the name and the number of a protocol."""
    return f"{PROTOCOL_NAMES.get(proto, 'unknown'):<8} {proto:d}"


def state_of(protoinfo: ProtoInfo | None) -> str | None:
    """Return the name of the state of a connection."""
    if protoinfo is None or protoinfo.state is None:
        return None
    return state_name(state_names(type(protoinfo)), protoinfo.state)


def state_names(cls: type) -> tuple[str, ...]:
    """Return the names of the states of a class of :attr:`Flow.protoinfo`, by their numbers."""
    return _STATES[cls]


def state_name(names: Sequence[str], state: int) -> str:
    """Return the name of a state, which is ``NONE`` if the state is unknown."""
    return names[state] if state < len(names) else names[0]


# -- directions ------------------------------------------------------------------------------------


def address_text(address: IPAddress) -> str:
    """Return the text of an address, as the C library writes it.

    That of :class:`str` differs for IPv6 addresses whose first 96 bits are zero.
    """
    if address.version == 4:
        text: str = ipv4_texts[int(address)]
        return text
    return inet_ntop(AF_INET6, address.packed)


def direction_text(tuple_: Tuple, prefix: str = "") -> str:
    """Return the addresses of a tuple and the fields of its protocol.

    :param tuple_: the tuple.
    :param prefix: what precedes the names of the addresses.
    """
    source, target = address_text(tuple_.src), address_text(tuple_.dst)
    addresses = f"{prefix}src={source} {prefix}dst={target}"
    if tuple_.proto in PORTED:
        return f"{addresses} sport={tuple_.sport or 0:d} dport={tuple_.dport or 0:d}"
    if tuple_.proto == GRE:
        return f"{addresses} srckey={tuple_.sport or 0:#x} dstkey={tuple_.dport or 0:#x}"
    if tuple_.proto in (ICMP, ICMPV6):
        type_, code, id_ = tuple_.icmp_type or 0, tuple_.icmp_code or 0, tuple_.icmp_id or 0
        return f"{addresses} type={type_:d} code={code:d} id={id_:d}"
    return addresses


def _counters_text(counters: Counters | None) -> str:
    if counters is None or counters.packets is None or counters.bytes is None:
        return ""
    return f" packets={counters.packets:d} bytes={counters.bytes:d}"


@lru_cache(1024)
def reply_text(status: int) -> str:
    """Return the mark of an entry without a reply, after a space; empty if there was a reply."""
    return "" if status & Status.SEEN_REPLY else " [UNREPLIED]"


@lru_cache(1024)
def protection_text(status: int) -> str:
    """Return why the kernel keeps an entry, after a space. Only one reason is printed."""
    for bit in (Status.HW_OFFLOAD, Status.OFFLOAD, Status.ASSURED):
        if status & bit:
            return f" [{bit.name}]"
    return ""


# -- times -----------------------------------------------------------------------------------------


def _times_text(timestamp: Timestamp, shown: bool) -> str:
    """Return the age of an entry and, if they are shown, its times."""
    start, stop = timestamp.start, timestamp.stop
    text = "" if start is None else f" delta-time={age(start, stop):d}"
    if shown and start is not None:
        text += f" [start={moment_text(start)}]"
    if shown and stop is not None:
        text += f" [stop={moment_text(stop)}]"
    return text


def age(start: int, stop: int | None) -> int:
    """Return the age of an entry in whole seconds, modulo 2 to the power of 64.

    It is negative, and so very large here, after the clock was set back. An entry that has not
    ended may have an end of 0.
    """
    end = stop // NANOSECONDS if stop else int(time.time())
    return end - start // NANOSECONDS & ALL_ONES


def moment_text(nanoseconds: int) -> str:
    """Return a time in the local time zone, as ``ctime()`` writes it."""
    return _second_text(nanoseconds // NANOSECONDS)


@lru_cache(4096)
def _second_text(second: int) -> str:
    return time.ctime(second)


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
