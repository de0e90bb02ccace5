"""Create a NAT clash: two packets of one UDP socket get different translations.

Both packets are translated before either entry is confirmed. The kernel keeps both entries
(``nf_ct_resolve_clash_harder``). The entry that is confirmed second can be looked up only by its
reply tuple, has ``IPS_NAT_CLASH``, and expires after one second. An NFQUEUE holds both packets back
between translation and confirmation.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from conntrack_aio import Tuple
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.attributes import pack, walk
from conntrack_aio.uapi.netlink import NETLINK

from .lab import Lab

CLIENT, SERVICE, SERVERS = "127.0.0.1", "127.0.0.9", ("127.0.0.2", "127.0.0.3")
ROUND_ROBIN = f"numgen inc mod 2 map {{ 0: {SERVERS[0]}, 1: {SERVERS[1]} }}"

RULES = f"""
table ip raced {{
  chain out {{
    type nat hook output priority -100
    ip daddr {SERVICE} udp dport 53 dnat to {ROUND_ROBIN}
  }}
}}
"""

_QUEUE = 7
_SUBSYSTEM = 3 << 8  # NFNL_SUBSYS_QUEUE of linux/netfilter/nfnetlink.h
# The numbers of linux/netfilter/nfnetlink_queue.h.
_VERDICT, _CONFIG = 1, 2
_PACKET_HDR, _VERDICT_HDR = 1, 2
_BIND, _COPY_META = struct.pack("!BxH", 1, 2), struct.pack("!IB", 0, 1)
_ACCEPT = 1


def prepare_namespace(lab: Lab) -> None:
    """Load rules that translate, and then queue, all packets to the service."""
    lab.program("nft", "-f", "-", input=RULES)
    queue = ("-j", "NFQUEUE", "--queue-num", str(_QUEUE))
    lab.program("iptables-legacy", "-A", "OUTPUT", "-p", "udp", "--dport", "53", *queue)


@contextmanager
def clashing_entries(lab: Lab, port: int = 4444) -> Generator[tuple[Tuple, Tuple]]:
    """Create two clashing entries for a client with this source port.

    :returns: the reply tuples of the entry that is confirmed first and of the clashing entry.
    """
    with ExitStack() as stack:
        lab.run(_send_racing_packets, stack, port)
        winner, loser = (Tuple.udp(server, 53, CLIENT, port) for server in SERVERS)
        yield winner, loser


def _send_racing_packets(stack: ExitStack, port: int) -> None:
    def open_udp(address: str, port: int) -> socket.socket:
        sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.bind((address, port))
        return sock

    for server in SERVERS:
        open_udp(server, 53)
    client = open_udp(CLIENT, port)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK.NETFILTER) as queue:
        queue.settimeout(10)
        queue.bind((0, 0))
        for number, value in ((1, _BIND), (2, _COPY_META)):
            queue.send(_message(_CONFIG, 5, pack(number, value)))
            assert struct.unpack_from("i", queue.recv(4096), 16) == (0,)
        queued = []
        for _ in SERVERS:
            client.sendto(b"", (SERVICE, 53))
            queued.append(_packet_id(queue.recv(4096)))
        for packet in queued:
            verdict = pack(_VERDICT_HDR, struct.pack("!II", _ACCEPT, packet))
            queue.send(_message(_VERDICT, 1, verdict))


def _message(kind: int, flags: int, attribute: bytes) -> bytes:
    return messages.pack(_SUBSYSTEM | kind, flags, 1, struct.pack("!BBH", 0, 0, _QUEUE) + attribute)


def _packet_id(data: bytes) -> int:
    for number, _, start, _ in walk(data, 20, len(data)):
        if number == _PACKET_HDR:
            return int.from_bytes(data[start : start + 4], "big")
    raise AssertionError(data)
