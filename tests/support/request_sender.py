"""A program that sends datagrams of requests to ctnetlink as fast as the kernel accepts them.

It is a separate process, so that it shares no interpreter with the process that reads the events.
It does not import the library, so that it starts quickly.

Standard input begins with the number of datagrams, then the size and the bytes of each. All numbers
are unsigned 32-bit integers in network byte order. Each following line is a JSON list of the number
of rounds and the longest pause between two datagrams in seconds: the program sends all datagrams in
each round, and then writes one line of JSON, an object from errno to the number of refusals.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import sys
import time
from typing import BinaryIO

NETFILTER, SOL_NETLINK, CAP_ACK, ERROR = 12, 270, 10, 2
_NUMBER = struct.Struct("!I")
_FAILURE = struct.Struct("=4xH10xi")
"""The message type of a reply, and the negated errno of an NLMSG_ERROR."""


def _read_number(source: BinaryIO) -> int:
    return int(_NUMBER.unpack(source.read(4))[0])


def _open() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETFILTER)
    sock.bind((0, 0))
    sock.connect((0, 0))
    sock.setsockopt(SOL_NETLINK, CAP_ACK, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    return sock


def _count_refusals(sock: socket.socket, counts: dict[int, int]) -> None:
    """Read all waiting replies, and count them by errno. An overrun counts as ENOBUFS."""
    while True:
        try:
            answer = sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:  # ENOBUFS: the receive buffer was full, and replies were lost
            code = error.errno or 0
        else:
            kind, negative = _FAILURE.unpack_from(answer)
            assert kind == ERROR
            code = -negative
        counts[code] = counts.get(code, 0) + 1


def main() -> None:
    source = sys.stdin.buffer
    datagrams = [source.read(_read_number(source)) for _ in range(_read_number(source))]
    sock = _open()
    rng = random.Random(len(datagrams))
    while line := source.readline():
        rounds, pause = json.loads(line)
        counts: dict[int, int] = {}
        for _ in range(rounds):
            for datagram in datagrams:
                sock.send(datagram)
                _count_refusals(sock, counts)
                if pause:
                    time.sleep(rng.random() * pause)
        print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main()
