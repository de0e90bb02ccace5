"""Plain traffic for the kernel to track, within the calling thread's network namespace.

The addresses are IPv4 or IPv6 ones of that namespace, or for :func:`ping` any that can be reached.
Every wait ends after :data:`TIMEOUT` seconds with :exc:`TimeoutError`; what the network refuses is
another :exc:`OSError`.
"""

from __future__ import annotations

import socket
import struct
import time

TIMEOUT = 2.0

_ECHO = struct.Struct("!BBHHH")
_ICMP_ECHO_REPLY, _ICMP_ECHO = 0, 8
_ICMPV6_ECHO_REQUEST, _ICMPV6_ECHO_REPLY = 128, 129


def tcp_exchange(address: str = "127.0.0.1") -> tuple[int, int]:
    """Connect, send a line each way, close from the client's side: its port and the server's."""
    family = _family(address)
    with (
        socket.create_server((address, 0), family=family) as listener,
        socket.socket(family, socket.SOCK_STREAM) as client,
    ):
        for end in (listener, client):
            end.settimeout(TIMEOUT)
        # The kernel completes the connection before anybody accepts it.
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        with server:
            server.settimeout(TIMEOUT)
            client.sendall(b"ping\n")
            server.recv(64)
            server.sendall(b"pong\n")
            client.recv(64)
            client.shutdown(socket.SHUT_WR)
            server.recv(64)
            return _port(client), _port(server)


def udp_exchange(address: str = "127.0.0.1") -> tuple[int, int]:
    """One datagram each way: the port of who sent first, and the other's."""
    family = _family(address)
    with (
        socket.socket(family, socket.SOCK_DGRAM) as server,
        socket.socket(family, socket.SOCK_DGRAM) as client,
    ):
        for end in (server, client):
            end.settimeout(TIMEOUT)
        server.bind((address, 0))
        client.connect(server.getsockname())
        client.send(b"ping")
        _, sender = server.recvfrom(64)
        server.sendto(b"pong", sender)
        client.recv(64)
        return _port(client), _port(server)


def ping(address: str = "127.0.0.1", id: int = 1) -> None:
    """An echo request with this identifier, 0 to 65535, and its reply. Needs CAP_NET_RAW."""
    family = _family(address)
    if family == socket.AF_INET:
        protocol, request, reply = socket.IPPROTO_ICMP, _ICMP_ECHO, _ICMP_ECHO_REPLY
    else:
        protocol, request, reply = socket.IPPROTO_ICMPV6, _ICMPV6_ECHO_REQUEST, _ICMPV6_ECHO_REPLY
    deadline = time.monotonic() + TIMEOUT
    with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
        raw.settimeout(TIMEOUT)
        raw.connect((address, 0))
        raw.send(_echo(request, id))
        while not _is_echo(family, raw.recv(2048), reply, id):
            # On the loopback, one's own request comes by first.
            raw.settimeout(max(deadline - time.monotonic(), 0.001))


def _echo(kind: int, id: int) -> bytes:
    """An echo message without data. The kernel itself fills in ICMPv6's checksum."""
    words = kind << 8, id, 1
    total = sum(words)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return _ECHO.pack(kind, 0, checksum, id, 1)


def _is_echo(family: int, packet: bytes, kind: int, id: int) -> bool:
    # A raw socket gives IPv4 packets with their header, and IPv6 ones without.
    start = (packet[0] & 0x0F) * 4 if family == socket.AF_INET else 0
    if len(packet) < start + _ECHO.size:
        return False
    got_kind, _, _, got_id, _ = _ECHO.unpack_from(packet, start)
    return (got_kind, got_id) == (kind, id)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _port(end: socket.socket) -> int:
    port: int = end.getsockname()[1]
    return port
