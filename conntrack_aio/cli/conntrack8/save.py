"""Write flows and events as options that ``conntrack -R`` accepts, to restore a saved table.

The options of conntrack(8) alone do not restore the table. So this module adds options where they
are needed, all of which conntrack(8) 1.4.7 accepts as well:

- ``-m`` with the mark, unless it is 0 in a new entry.
- ``--label-add`` with the names of the labels. conntrack(8) has no option for a label without a
  name, so that such a label is lost.
- The port of ``--src-nat`` and ``--dst-nat`` of TCP and UDP, if the translation changes it. Without
  it, an entry with both translations would be restored with its original ports. If only the port is
  translated, conntrack(8) would write an entry without a translation. For other protocols, it
  ignores the port in these options.
- ``-t`` for an offloaded flow, which has no timeout. conntrack(8) requires one. The kernel keeps
  such a flow for a day (``nf_ct_offload_timeout``).

``EXPECTED`` is left out of the status of a new entry: the kernel refuses to set it, and reading the
file would stop there.

These added options come last, but for the port. A helper is lost, and so are a master, a changed
ICMP id, counters, the id and the start time: conntrack(8) has no option for them. The line of a
destroy event has no added options. It only names the entry.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

from ...model.enums import Status
from ...model.flow import Flow
from ...model.protocols import GRE, ICMP, ICMPV6, TCP, UDP
from ...model.protoinfo import DCCPInfo, ProtoInfo, SCTPInfo
from ...model.tuples import Tuple
from .text import (
    PORTED,
    PROTOCOL_NAMES,
    address_text,
    label_names,
    state_names,
)

_STATUS: Final = (Status.EXPECTED, Status.SEEN_REPLY, Status.ASSURED, Status.FIXED_TIMEOUT)
_SRC_NAT: Final = (Status.SRC_NAT, Status.SRC_NAT_DONE)
_DST_NAT: Final = (Status.DST_NAT, Status.DST_NAT_DONE)
_ALL_DONE: Final = Status.SRC_NAT_DONE | Status.DST_NAT_DONE
_OFFLOAD_TIMEOUT: Final = 86_400


def flow_options(flow: Flow, command: str, names: Mapping[int, str]) -> str:
    """Return the options of a flow, with a command before them.

    :param flow: the flow.
    :param command: the command: ``-A`` to add, ``-U`` to update or ``-D`` to delete the entry.
    :param names: the names of the labels, by their bits.
    """
    parts = [command]
    if flow.timeout is not None:
        parts.append(f"-t {flow.timeout:d}")
    elif command == "-A":
        parts.append(f"-t {_OFFLOAD_TIMEOUT}")
    if flow.status is not None:
        parts.append(f"-u {_status_text(flow.status, command)}")
    for option, zone in (
        ("-w", flow.zone),
        ("--orig-zone", flow.orig.zone),
        ("--reply-zone", flow.reply.zone),
    ):
        if zone is not None:
            parts.append(f"{option} {zone:d}")
    parts.append(f"-s {address_text(flow.orig.src)} -d {address_text(flow.orig.dst)}")
    _add_reply_addresses(parts, flow, command)
    proto = flow.orig.proto
    parts.append(f"-p {PROTOCOL_NAMES.get(proto, proto)}")
    _add_protocol_fields(parts, flow.orig, flow.reply)
    _add_state(parts, flow.protoinfo)
    if command != "-D":
        if flow.mark is not None and (flow.mark or command == "-U"):
            parts.append(f"-m {flow.mark:d}")
        labels = label_names(flow.labels or 0, names)
        if labels:
            parts.append(f"--label-add {','.join(labels)}")
    return " ".join(parts)


def _status_text(status: int, command: str) -> str:
    settable = status & ~Status.EXPECTED if command == "-A" else status
    return ",".join([str(bit.name) for bit in _STATUS if settable & bit]) or "UNSET"


def _add_reply_addresses(parts: list[str], flow: Flow, command: str) -> None:
    """Add the addresses of the reply direction, as translations where the kernel translates them.

    Without a status, a different address is a translation.
    """
    orig, reply = flow.orig, flow.reply
    status = _ALL_DONE if flow.status is None else flow.status
    restorable = command == "-A" and orig.proto in (TCP, UDP)
    for plain, translated, address, original, port, original_port, bit, done in (
        ("-r", "-g", reply.src, orig.dst, reply.sport, orig.dport, *_DST_NAT),
        ("-q", "-n", reply.dst, orig.src, reply.dport, orig.sport, *_SRC_NAT),
    ):
        text = address_text(address)
        other_port = restorable and port is not None and port != original_port
        if not ((status & done and address != original) or (status & bit and other_port)):
            parts.append(f"{plain} {text}")
        elif other_port:
            parts.append(f"{translated} {f'[{text}]' if address.version == 6 else text}:{port:d}")
        else:
            parts.append(f"{translated} {text}")


def _add_protocol_fields(parts: list[str], orig: Tuple, reply: Tuple) -> None:
    """Add the ports, keys or ICMP fields, as far as they are present."""
    if orig.proto in PORTED:
        names = ("--sport", "--dport", "--reply-port-src", "--reply-port-dst")
    elif orig.proto == GRE:
        names = ("--srckey", "--dstkey", "--reply-key-src", "--reply-key-dst")
    elif orig.proto in (ICMP, ICMPV6):
        name = PROTOCOL_NAMES[orig.proto]
        for field, value in (
            ("type", orig.icmp_type),
            ("code", orig.icmp_code),
            ("id", orig.icmp_id),
        ):
            parts.append(f"--{name}-{field} {value or 0:d}")
        return
    else:
        return
    ports = (orig.sport, orig.dport, reply.sport, reply.dport)
    parts += [
        f"{name} {port:d}" for name, port in zip(names, ports, strict=True) if port is not None
    ]


def _add_state(parts: list[str], protoinfo: ProtoInfo | None) -> None:
    """Add the state of the connection. A state without a name is left out.

    conntrack(8) cannot restore the state HEARTBEAT_SENT of SCTP, and prints ``(null)`` instead.
    """
    if protoinfo is None:
        return
    names = state_names(type(protoinfo))
    if protoinfo.state is not None and protoinfo.state < len(names):
        parts.append(f"--state {names[protoinfo.state]}")
    if isinstance(protoinfo, SCTPInfo):
        for option, vtag in (
            ("--orig-vtag", protoinfo.vtag_orig),
            ("--reply-vtag", protoinfo.vtag_reply),
        ):
            if vtag is not None:
                parts.append(f"{option} {_vtag(vtag)}")
    elif isinstance(protoinfo, DCCPInfo) and protoinfo.role is not None and protoinfo.role < 2:
        parts.append(f"--role {('client', 'server')[protoinfo.role]}")


def _vtag(vtag: int) -> int:
    """Return a verification tag as conntrack(8) has it: with its bytes in the machine's order."""
    return int.from_bytes(vtag.to_bytes(4, "big"), sys.byteorder)
