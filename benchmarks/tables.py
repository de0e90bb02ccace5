"""Fill the kernel's table quickly: a million flows take a few seconds.

- A create request is encoded once for each shape of flow. For each flow the address and port of its
  client are written over placeholders in a copy of that request.
- Each flow has its own client address, unless ``per_client`` flows share one.
- There are only a few servers, and each listens on a few ports.
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
from conntrack_aio.model.sysctl_names import CONNTRACK
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.attributes import pack_be32
from conntrack_aio.proc_sys import set_sysctl
from conntrack_aio.sandbox import rules
from conntrack_aio.uapi.netlink import NLM_F
from conntrack_aio.uapi.nf_tables import NF_INET, NFT_CT, NFT_REG_1, NFTA_CT

from .contenders.floor import REQUESTS_PER_DATAGRAM, error_codes, open_socket

_HOUR: Final = 3600
_SEEN: Final = Status.SEEN_REPLY | Status.ASSURED
_GATEWAYS: Final = NATRange(
    address_min=IPv4Address("192.0.2.1"), address_max=IPv4Address("192.0.2.254")
)

_CLIENT4: Final = "10.111.122.133"
"""The placeholder of an IPv4 client. No other part of a request contains its bytes."""
_CLIENT6: Final = "2001:db8:1111:2222:3333:4444:5555:6666"
"""The placeholder of an IPv6 client. Only its last 32 bits are replaced."""
_PORT: Final = 0xBEAD
"""The placeholder of the client's port. No other part of a request contains its bytes."""

FIRST_CLIENT: Final = IPv4Address("10.0.0.1")
"""The address of the first client."""
_FIRST4: Final = int(FIRST_CLIENT)
_FIRST_PORT, _PORTS = 1024, 64_000
_SERVICES: Final = ((443, 0), (80, 1), (22, 0x10), (5432, 0xCAFE))
"""The ports of the servers, and the marks of flows to them."""

RARE_PORT: Final = 8443
"""The destination port of the few flows that a filter matches."""

_write_address = struct.Struct("!I").pack_into
_write_port = struct.Struct("!H").pack_into


class NotFilled(Exception):
    """The kernel refused to create a flow."""


@attrs.frozen
class Shape:
    """A kind of flow: the request that creates it, and the offsets of the client in it."""

    request: bytes
    addresses: tuple[int, ...]
    """The offsets of the last 32 bits of the client's address."""
    ports: tuple[int, ...]
    """The offsets of the client's port or ICMP identifier."""

    @classmethod
    def of(
        cls,
        flow: Flow,
        *,
        nat_src: NATRange | str | None = None,
        nat_dst: NATRange | str | None = None,
    ) -> Shape:
        """Return the shape of a flow whose client has the address and port of the placeholders.

        :param flow: the flow.
        :param nat_src: the range to translate its source address to.
        :param nat_dst: the range to translate its destination address to.
        """
        request = requests.create(flow, nat_src, nat_dst)
        # Without NLM_F_ACK the kernel replies only to the requests that it refuses.
        flags = int(NLM_F.REQUEST | NLM_F.CREATE | NLM_F.EXCL)
        packed = messages.pack(request.type, flags, 0, request.payload)
        client = flow.orig.src.packed
        shape = cls(
            packed,
            tuple(offset + len(client) - 4 for offset in _offsets(packed, client)),
            _offsets(packed, _PORT.to_bytes(2, "big")),
        )
        # The client is in the original and in the reply tuple.
        assert len(shape.addresses) == len(shape.ports) == 2, shape
        return shape


def _offsets(request: bytes, placeholder: bytes) -> tuple[int, ...]:
    """Return where the request contains the placeholder."""
    return tuple(
        offset for offset in range(len(request)) if request.startswith(placeholder, offset)
    )


def tcp_shapes() -> list[Shape]:
    """Return shapes of IPv4 TCP flows to 16 servers."""
    return [
        Shape.of(Flow.tcp(_CLIENT4, _PORT, server, port, timeout=_HOUR, mark=mark, status=_SEEN))
        for server in (f"198.51.100.{number}" for number in range(1, 17))
        for port, mark in _SERVICES
    ]


def shapes_one_in(count: int) -> list[Shape]:
    """Return ``count`` shapes of IPv4 TCP flows, one of them to :data:`RARE_PORT`."""
    rare = Flow.tcp(_CLIENT4, _PORT, "198.51.100.1", RARE_PORT, timeout=_HOUR, status=_SEEN)
    return [*islice(cycle(tcp_shapes()), count - 1), Shape.of(rare)]


def mixed_shapes() -> list[Shape]:
    """Return shapes of TCP, UDP and ICMP flows of IPv4 and IPv6, some translated, some labeled."""
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
            *(Shape.of(_with_label(flow, port % 128)) for flow in (tcp4, udp6)),
            *(Shape.of(flow, nat_src=_GATEWAYS) for flow in (tcp4, udp4)),
            Shape.of(tcp4, nat_dst=inside),
        ]
    return shapes


def _with_label(flow: Flow, bit: int) -> Flow:
    flow = copy(flow)
    flow.labels = 1 << bit
    return flow


def enable_everything() -> None:
    """Give the flows that are created in this namespace from now on counters, times and labels.

    :raises KernelError: when the kernel has no nftables. An entry has room for labels only if a
        rule of its namespace uses labels.
    """
    for name in ("acct", "timestamp"):
        set_sysctl(f"{CONNTRACK}{name}", 1)
    # The rule writes the labels of a packet back unchanged.
    write_back = rules.expression(
        "ct", pack_be32(NFTA_CT.KEY, NFT_CT.LABELS), pack_be32(NFTA_CT.SREG, NFT_REG_1)
    )
    rules.commit(
        rules.new_table(rules.TABLE),
        rules.new_chain(rules.TABLE, "label", NF_INET.LOCAL_OUT),
        rules.new_rule(rules.TABLE, "label", rules.load_ct(NFT_CT.LABELS), write_back),
    )


def fill(shapes: Sequence[Shape], start: int, stop: int, per_client: int = 1) -> None:
    """Create the flows number ``start`` to ``stop - 1`` in the calling thread's network namespace.

    :param shapes: the shapes that the flows have in turn.
    :param per_client: how many flows share a source address.

    :raises NotFilled: when the kernel refuses a flow.
    """
    slots = list(shapes) * max(1, REQUESTS_PER_DATAGRAM // len(shapes))
    datagram = bytearray(b"".join([slot.request for slot in slots]))
    offsets: list[tuple[int, ...]] = []
    ends: list[int] = []
    end = 0
    for slot in slots:
        offsets.append(tuple(end + offset for offset in (*slot.addresses, *slot.ports)))
        end += len(slot.request)
        ends.append(end)
    with closing(open_socket()) as sock:
        for number in range(start, stop, len(slots)):
            count = min(len(slots), stop - number)
            for flow, (src, reply_dst, sport, reply_dport) in enumerate(offsets[:count], number):
                client = _FIRST4 + flow // per_client
                _write_address(datagram, src, client)
                _write_address(datagram, reply_dst, client)
                client_port = _FIRST_PORT + flow % _PORTS
                _write_port(datagram, sport, client_port)
                _write_port(datagram, reply_dport, client_port)
            sock.send(memoryview(datagram)[: ends[count - 1]])
            for code in error_codes(sock):
                raise NotFilled(
                    f"the kernel refused one of the flows from number {number} on: "
                    f"{os.strerror(code)}"
                )
