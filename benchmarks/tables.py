"""Filling the kernel's table, fast: a million flows in some seconds.

A request is encoded once for each shape of flow. A flow is its copy, with another client's address
and port written over the placeholders. The address of every client is another, unless
``per_client`` flows are to share one; servers are few, as the ports that they listen on.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from contextlib import closing
from copy import copy
from ipaddress import IPv4Address
from itertools import cycle, islice
from typing import Final

import attrs

from conntrack_aio import Flow, NATRange, Status
from conntrack_aio.codec.requests import flows as requests
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.attributes import pack_be32
from conntrack_aio.proc_sys import CONNTRACK, set_sysctl
from conntrack_aio.sandbox import rules
from conntrack_aio.uapi.netlink import NLM_F
from conntrack_aio.uapi.nf_tables import NF_INET, NFT_CT, NFT_REG_1, NFTA_CT

from .contenders.floor import WINDOW, codes, open_socket

_HOUR: Final = 3600
_SEEN: Final = Status.SEEN_REPLY | Status.ASSURED
_GATEWAYS: Final = NATRange(
    address_min=IPv4Address("192.0.2.1"), address_max=IPv4Address("192.0.2.254")
)

_CLIENT4: Final = "10.111.122.133"
_CLIENT6: Final = "2001:db8:1111:2222:3333:4444:5555:6666"
_PORT: Final = 0xBEAD
"""Placeholders, which stand for nothing else in a request."""

FIRST_CLIENT: Final = IPv4Address("10.0.0.1")
_FIRST4: Final = int(FIRST_CLIENT)
_FIRST_PORT, _PORTS = 1024, 64_000
_SERVICES: Final = ((443, 0), (80, 1), (22, 0x10), (5432, 0xCAFE))
"""Ports of servers, and marks that go with them."""

RARE_PORT: Final = 8443
"""Of a server that few flows are to."""

_write_address = struct.Struct("!I").pack_into
_write_port = struct.Struct("!H").pack_into


class Unfilled(Exception):
    """The kernel refused a flow that a table was to be filled with."""


@attrs.frozen
class Shape:
    """A kind of flow: the request that makes one, and where in it the client stands."""

    request: bytes
    addresses: tuple[int, ...]
    """Of the last 32 bits of its address."""
    ports: tuple[int, ...]
    """Of its port, or of the identifier of its ICMP."""

    @classmethod
    def of(
        cls,
        flow: Flow,
        *,
        nat_src: NATRange | str | None = None,
        nat_dst: NATRange | str | None = None,
    ) -> Shape:
        request = requests.create(flow, nat_src, nat_dst)
        # Without ACK the kernel answers those alone that it refuses.
        flags = int(NLM_F.REQUEST | NLM_F.CREATE | NLM_F.EXCL)
        packed = messages.pack(request.type, flags, 0, request.payload)
        client = flow.orig.src.packed
        shape = cls(
            packed,
            tuple(place + len(client) - 4 for place in _places(packed, client)),
            _places(packed, _PORT.to_bytes(2, "big")),
        )
        # Where the client sends, and where it is answered.
        assert len(shape.addresses) == len(shape.ports) == 2, shape
        return shape


def _places(request: bytes, placeholder: bytes) -> tuple[int, ...]:
    return tuple(place for place in range(len(request)) if request.startswith(placeholder, place))


def tcp_shapes() -> list[Shape]:
    """IPv4 TCP flows to some servers."""
    return [
        Shape.of(Flow.tcp(_CLIENT4, _PORT, server, port, timeout=_HOUR, mark=mark, status=_SEEN))
        for server in (f"198.51.100.{number}" for number in range(1, 17))
        for port, mark in _SERVICES
    ]


def shapes_one_in(many: int) -> list[Shape]:
    """The same, but for one in so many, which is to the rare port."""
    rare = Flow.tcp(_CLIENT4, _PORT, "198.51.100.1", RARE_PORT, timeout=_HOUR, status=_SEEN)
    return [*islice(cycle(tcp_shapes()), many - 1), Shape.of(rare)]


def mixed_shapes() -> list[Shape]:
    """TCP, UDP and ICMP, of IPv4 and IPv6; some of them translated, some with a label."""
    shapes: list[Shape] = []
    for number, (port, mark) in enumerate(_SERVICES):
        server4, server6 = f"198.51.100.{number + 1}", f"2001:db8:ffff::{number + 1}"
        inside = f"172.16.0.{number + 1}"
        tcp4 = Flow.tcp(_CLIENT4, _PORT, server4, port, timeout=_HOUR, mark=mark, status=_SEEN)
        tcp6 = Flow.tcp(_CLIENT6, _PORT, server6, port, timeout=_HOUR, mark=mark, status=_SEEN)
        udp4 = Flow.udp(_CLIENT4, _PORT, server4, port, timeout=_HOUR, mark=mark)
        udp6 = Flow.udp(_CLIENT6, _PORT, server6, port, timeout=_HOUR, status=_SEEN)
        ping4 = Flow.icmp(_CLIENT4, server4, id=_PORT, timeout=_HOUR, mark=mark)
        ping6 = Flow.icmp(_CLIENT6, server6, id=_PORT, timeout=_HOUR)
        shapes += [
            *(Shape.of(flow) for flow in (tcp4, tcp6, udp4, udp6, ping4, ping6)),
            *(Shape.of(_labelled(flow, port % 128)) for flow in (tcp4, udp6)),
            *(Shape.of(flow, nat_src=_GATEWAYS) for flow in (tcp4, udp4)),
            Shape.of(tcp4, nat_dst=inside),
        ]
    return shapes


def _labelled(flow: Flow, bit: int) -> Flow:
    flow = copy(flow)
    flow.labels = 1 << bit
    return flow


def use_everything() -> None:
    """Have the namespace's flows carry counters, times and labels, from now on.

    Raises :exc:`KernelError` where the kernel has no nftables for a rule about labels, without
    which flows have no room for any.
    """
    for name in ("acct", "timestamp"):
        set_sysctl(f"{CONNTRACK}{name}", 1)
    # It writes a packet's labels back as they are.
    write_back = rules.expression(
        "ct", pack_be32(NFTA_CT.KEY, NFT_CT.LABELS), pack_be32(NFTA_CT.SREG, NFT_REG_1)
    )
    rules.commit(
        rules.new_table(rules.TABLE),
        rules.new_chain(rules.TABLE, "label", NF_INET.LOCAL_OUT),
        rules.new_rule(rules.TABLE, "label", rules.load_ct(NFT_CT.LABELS), write_back),
    )


def fill(shapes: Sequence[Shape], start: int, stop: int, per_client: int = 1) -> None:
    """Make the flows from number ``start`` to ``stop``, of all shapes in turn.

    In the calling thread's network namespace. Raises :exc:`Unfilled`.
    """
    slots = list(shapes) * max(1, WINDOW // len(shapes))
    datagram = bytearray(b"".join([slot.request for slot in slots]))
    places: list[tuple[int, ...]] = []
    ends: list[int] = []
    end = 0
    for slot in slots:
        places.append(tuple(end + place for place in (*slot.addresses, *slot.ports)))
        end += len(slot.request)
        ends.append(end)
    with closing(open_socket()) as sock:
        for number in range(start, stop, len(slots)):
            count = min(len(slots), stop - number)
            for flow, (source, replied, port, answered) in enumerate(places[:count], number):
                client = _FIRST4 + flow // per_client
                _write_address(datagram, source, client)
                _write_address(datagram, replied, client)
                client_port = _FIRST_PORT + flow % _PORTS
                _write_port(datagram, port, client_port)
                _write_port(datagram, answered, client_port)
            sock.send(memoryview(datagram)[: ends[count - 1]])
            for code in codes(sock):
                raise Unfilled(f"a flow from number {number} on: {os.strerror(code)}")
