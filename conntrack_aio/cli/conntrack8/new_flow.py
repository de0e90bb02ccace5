"""Make the flow that ``-I`` and ``-A`` create."""

from __future__ import annotations

import sys

from ...bulk.new_flow import NewFlow
from ...errors import EncodeError
from ...model.enums import DCCPRole, DCCPState, SCTPState, Status, TCPState
from ...model.flow import Flow
from ...model.nat import NATRange
from ...model.protoinfo import DCCPInfo, ProtoInfo, SCTPInfo, TCPInfo
from ...model.tuples import Tuple
from .commands import Command, GivenNAT
from .named_entries import to_tuple
from .protocols import BY_NUMBER, DCCP, ICMP, ICMPV6, SCTP, TCP, UDP
from .tuple_values import TupleValues
from .values import IPAddress


def new_flow(command: Command) -> NewFlow:
    """Return the flow that a command creates, with its translation.

    :raises EncodeError: when the tuples are incomplete, or do not fit each other.
    """
    proto = command.proto or 0
    command = _with_one_zone(command)
    orig_values, reply_values = _both_directions(command)
    orig, reply = to_tuple(orig_values, proto), to_tuple(reply_values, proto)
    nat_src, nat_dst = _translation(command, orig)
    if nat_src is not None or nat_dst is not None:
        zone = reply.zone
        reply = orig.inverse
        reply.zone = zone
    flow = Flow(
        orig=orig,
        reply=reply,
        timeout=command.timeout,
        status=None if command.status is None else Status(command.status.bits),
        mark=None if command.mark is None else command.mark.value,
        zone=command.zone,
        labels=command.labels_added,
        protoinfo=protoinfo_of(command),
    )
    return NewFlow(flow, nat_src=nat_src, nat_dst=nat_dst)


def _with_one_zone(command: Command) -> Command:
    """Return a command without zones that are 0.

    :raises EncodeError: when another zone follows one that is not 0, as the kernel reads them.
    """
    orig, reply = command.orig, command.reply
    zones = [zone for zone in (command.zone, orig.zone, reply.zone) if zone is not None]
    if any(zones[:-1]):
        raise EncodeError("must have one zone", ("zone",))
    return command._replace(
        zone=command.zone or None,
        orig=orig._replace(zone=orig.zone or None),
        reply=reply._replace(zone=reply.zone or None),
    )


def protoinfo_of(command: Command) -> ProtoInfo | None:
    """Return the state of the protocol that a command gives; ``None`` if it gives none."""
    state = command.state
    if state is None:
        return None
    if command.proto == TCP:
        return TCPInfo(state=TCPState(state))
    if command.proto == SCTP:
        return SCTPInfo(
            state=SCTPState(state),
            vtag_orig=_sent_tag(command.orig_vtag),
            vtag_reply=_sent_tag(command.reply_vtag),
        )
    if command.proto == DCCP:
        role = None if command.role is None else DCCPRole(command.role)
        return DCCPInfo(state=DCCPState(state), role=role, handshake_seq=0)
    return None


def _sent_tag(tag: int | None) -> int | None:
    """Return the verification tag that the kernel gets.

    The program sends tags in the byte order of the machine, and prints them in the same order.
    """
    return None if tag is None else int.from_bytes(tag.to_bytes(4, sys.byteorder), "big")


def _both_directions(command: Command) -> tuple[TupleValues, TupleValues]:
    """Return the values of both directions. One without an address is the inverse of the other.

    :raises EncodeError: when the values of replies are to be inverted, and they lack the protocol.
    """
    orig, reply = command.orig, command.reply
    if not reply.has_address:
        return orig, orig.inverse._replace(zone=reply.zone)
    if not orig.has_address:
        proto = command.proto or 0
        if proto in (ICMP, ICMPV6) or (proto in BY_NUMBER and reply.proto is None):
            raise EncodeError("must have all values of the protocol", ("reply",))
        return reply._replace(proto=proto).inverse._replace(zone=orig.zone), reply
    return orig, reply


def _translation(command: Command, orig: Tuple) -> tuple[NATRange | None, NATRange | None]:
    """Return what the source and the destination are translated to.

    If one of them has an address to translate to, values of replies that were given and differ
    from the other direction are a translation, too: the kernel makes the tuple of replies itself.
    """
    src, dst = command.src_nat, command.dst_nat
    if not any(nat is not None and nat.address is not None for nat in (src, dst)):
        return None, None
    given = command.reply
    if orig.proto not in (TCP, UDP):  # the program sends the ports of these protocols only
        src, dst = _without_port(src), _without_port(dst)
    return (
        _range(src, orig.src, orig.sport, given.dst, given.dport),
        _range(dst, orig.dst, orig.dport, given.src, given.sport),
    )


def _without_port(nat: GivenNAT | None) -> GivenNAT | None:
    return None if nat is None else nat._replace(port=None)


def _range(
    nat: GivenNAT | None,
    before: IPAddress,
    port_before: int | None,
    address: IPAddress | None,
    port: int | None,
) -> NATRange | None:
    """Return the translation of one end.

    :param nat: the option that translates this end.
    :param before: the address of this end in the original direction.
    :param port_before: the port of this end in the original direction.
    :param address: the address of this end that was given for replies.
    :param port: the port of this end that was given for replies.
    """
    if port == port_before:
        port = None
    if nat is not None and nat.address is not None:
        return NATRange.of(nat.address, port if nat.port is None else nat.port)
    if address in (None, before) and port is None:
        return None
    return NATRange.of(before if address is None else address, port)
