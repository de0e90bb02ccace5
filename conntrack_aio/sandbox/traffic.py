"""Simple traffic for the kernel to track, within the calling thread's network namespace.

The addresses are IPv4 or IPv6 addresses of that namespace; :func:`ping` takes any reachable one.
Functions raise :exc:`TimeoutError` after :data:`TIMEOUT` seconds, and another :exc:`OSError` when
the network refuses something.
"""

from __future__ import annotations

import socket
import struct
import time

TIMEOUT = 2.0
"""The seconds that a function waits for a packet."""

_ECHO = struct.Struct("!BBHHH")
_ICMP_ECHO_REPLY, _ICMP_ECHO = 0, 8
_ICMPV6_ECHO_REQUEST, _ICMPV6_ECHO_REPLY = 128, 129


def tcp_exchange(address: str = "127.0.0.1") -> tuple[int, int]:
    """Open a TCP connection, send a line each way, and close it from the client's side.

    :returns: the client's port and the server's.
    """
    family = _family(address)
    with (
        socket.create_server((address, 0), family=family) as listener,
        socket.socket(family, socket.SOCK_STREAM) as client,
    ):
        for sock in (listener, client):
            sock.settimeout(TIMEOUT)
        # The kernel completes the connection before the server accepts it.
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
    """Send one UDP datagram each way.

    :returns: the client's port, which sends first, and the server's.
    """
    family = _family(address)
    with (
        socket.socket(family, socket.SOCK_DGRAM) as server,
        socket.socket(family, socket.SOCK_DGRAM) as client,
    ):
        for sock in (server, client):
            sock.settimeout(TIMEOUT)
        server.bind((address, 0))
        client.connect(server.getsockname())
        client.send(b"ping")
        _, sender = server.recvfrom(64)
        server.sendto(b"pong", sender)
        client.recv(64)
        return _port(client), _port(server)


def ping(address: str = "127.0.0.1", id: int = 1) -> None:
    """Send an ICMP or ICMPv6 echo request and wait for its reply. This needs CAP_NET_RAW.

    :param address: the destination.
    :param id: the identifier, 0 to 65535.
    """
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
            # On loopback, the raw socket receives the request first.
            raw.settimeout(max(deadline - time.monotonic(), 0.001))


def _echo(type: int, id: int) -> bytes:
    """Return an echo message without data. The kernel computes the checksum of ICMPv6."""
    words = type << 8, id, 1
    total = sum(words)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return _ECHO.pack(type, 0, checksum, id, 1)


def _is_echo(family: int, packet: bytes, type: int, id: int) -> bool:
    # A raw socket receives IPv4 packets with their header and IPv6 packets without.
    start = (packet[0] & 0x0F) * 4 if family == socket.AF_INET else 0
    if len(packet) < start + _ECHO.size:
        return False
    packet_type, _, _, packet_id, _ = _ECHO.unpack_from(packet, start)
    return (packet_type, packet_id) == (type, id)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _port(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port
