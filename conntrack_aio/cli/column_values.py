"""The values of the columns of flows, and their texts."""

from __future__ import annotations

import time
from functools import cache
from socket import AF_INET, AF_INET6, inet_aton, inet_pton
from typing import Final, NamedTuple

from ..codec.json_values import JSON
from ..model.enums import Status
from ..model.protocols import DCCP, PROTOCOL_NAMES, SCTP, TCP
from ..model.protoinfo import STATE_TYPES
from ..model.text import label_parts, status_parts
from ..model.times import as_datetime
from .terminal import service_name

ABSENT: Final = "-"
"""The text of an absent value."""

_GREEN, _YELLOW, _DIM = "32", "33", "2"


class Port(NamedTuple):
    """A port, and the protocol that says what its name is."""

    port: int
    proto: int


class End(NamedTuple):
    """The address and port of one end."""

    address: str
    port: int | None
    proto: int


Value = int | str | Port | End | None
"""A value of a column. ``None`` if a flow has none."""


def first_value(value: Value, *_: Value) -> Value:
    return value


def sum_of(one: int | None, other: int | None) -> Value:
    if one is None or other is None:
        return one if other is None else other
    return one + other


def zone_of(own: int | None, common: int | None) -> Value:
    """Return the zone of a direction: its own, that of both directions, or 0."""
    return (common or 0) if own is None else own


def state_of(tcp: int | None, sctp: int | None, dccp: int | None) -> Value:
    for proto, number in ((TCP, tcp), (SCTP, sctp), (DCCP, dccp)):
        if number is not None:
            return _state_name(proto, number)
    return None


@cache
def _state_name(proto: int, number: int) -> str:
    try:
        return STATE_TYPES[proto](number).name
    except ValueError:
        return f"state-{number}"


def family_of(number: int) -> Value:
    return "ipv4" if number == AF_INET else "ipv6"


def protocol_text(number: int) -> str:
    return PROTOCOL_NAMES.get(number) or f"proto-{number}"


def port_of(port: int | None, proto: int) -> Value:
    return None if port is None else Port(port, proto)


def port_name(value: Port) -> str:
    return service_name(value.port, protocol_text(value.proto)) or str(value.port)


def end_text(address: str, port: int | str | None) -> str:
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def end_name(value: End) -> str:
    address, port, proto = value
    return end_text(address, None if port is None else port_name(Port(port, proto)))


def address_key(text: str) -> tuple[int, bytes]:
    return (6, inet_pton(AF_INET6, text)) if ":" in text else (4, inet_aton(text))


def end_key(value: End) -> tuple[tuple[int, bytes], int]:
    return address_key(value.address), -1 if value.port is None else value.port


def translations_of(
    status: int | None,
    orig_src: str,
    orig_sport: int | None,
    orig_dst: str,
    orig_dport: int | None,
    orig_id: int | None,
    reply_src: str,
    reply_sport: int | None,
    reply_dst: str,
    reply_dport: int | None,
    reply_id: int | None,
) -> Value:
    """Return the translations as in :attr:`Flow.nat`: ``snat=192.0.2.1:61000``."""
    if not (status or 0) & (Status.SRC_NAT | Status.DST_NAT):
        return None
    assert status is not None
    parts: list[str] = []
    # The identifier of ICMP belongs to the source.
    before = orig_src, orig_sport if orig_id is None else orig_id
    after = reply_dst, reply_dport if reply_id is None else reply_id
    if status & Status.SRC_NAT and before != after:
        parts.append(f"snat={end_text(*after)}")
    before, after = (orig_dst, orig_dport), (reply_src, reply_sport)
    if status & Status.DST_NAT and before != after:
        parts.append(f"dnat={end_text(*after)}")
    return ",".join(parts) or None


def details_of(
    status: int | None,
    icmp_type: int | None,
    icmp_code: int | None,
    icmp_id: int | None,
    mark: int | None,
    zone: int | None,
    orig_zone: int | None,
    reply_zone: int | None,
    labels: int | None,
    helper: str | None,
) -> Value:
    """Return what a flow has beside its ends, as in the lines of flows."""
    parts = status_parts(status)
    if icmp_type is not None:
        parts.append(f"type={icmp_type} code={icmp_code} id={icmp_id}")
    if mark:
        parts.append(f"mark={mark:#x}")
    for name, number in (("zone", zone), ("orig.zone", orig_zone), ("reply.zone", reply_zone)):
        if number is not None:
            parts.append(f"{name}={number}")
    parts += label_parts(labels)
    if helper is not None:
        parts.append(f"helper={helper}")
    return " ".join(parts) or None


def status_text(value: int) -> str:
    return ",".join(part.strip("[]") for part in status_parts(value)) or ABSENT


def status_names(value: int) -> list[JSON]:
    """Return the names of status bits, and a number for those without a name, as in JSON."""
    named = [bit for bit in Status if bit & value]
    rest = value & ~sum(named)
    return [*(bit.name for bit in named), *([rest] if rest else [])]


def label_numbers(value: int) -> list[JSON]:
    return [bit for bit in range(value.bit_length()) if value >> bit & 1]


def time_text(value: int) -> str:
    found = as_datetime(value)
    return ABSENT if found is None else f"{found:%Y-%m-%dT%H:%M:%SZ}"


def age_of(start: int | None) -> Value:
    return None if start is None else max(0, time.time_ns() - start) // 1_000_000_000


_STARTING: Final = {"SYN_SENT", "SYN_RECV", "SYN_SENT2", "COOKIE_WAIT", "COOKIE_ECHOED"}


def state_style(value: str) -> str:
    if value == "ESTABLISHED":
        return _GREEN
    return _YELLOW if value in _STARTING else _DIM


def unreplied_style(value: str) -> str:
    return _YELLOW if "[UNREPLIED]" in value else ""


def status_style(value: int) -> str:
    return "" if value & Status.SEEN_REPLY else _YELLOW
