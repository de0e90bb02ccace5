"""A program that sends datagrams of requests to ctnetlink as fast as the kernel takes them.

It runs in a process of its own, so that no interpreter is shared with who is to keep up, and
imports nothing of the library, so that it starts at once. Its input: the number of datagrams, then
the size and the bytes of each, all numbers of 32 bits; after that a line of JSON each time that
all are to be sent: how many times over, and how many seconds to wait at most between two. It is
answered by a line with what the kernel refused, as JSON: how often each errno.
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
"""The type of a message, and the code of an error."""


def _number(source: BinaryIO) -> int:
    return int(_NUMBER.unpack(source.read(4))[0])


def _open() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETFILTER)
    sock.bind((0, 0))
    sock.connect((0, 0))
    sock.setsockopt(SOL_NETLINK, CAP_ACK, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    return sock


def _refused(sock: socket.socket, counts: dict[int, int]) -> None:
    """Count the refusals that wait."""
    while True:
        try:
            answer = sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:  # of so many, some were lost
            code = error.errno or 0
        else:
            kind, negative = _FAILURE.unpack_from(answer)
            assert kind == ERROR
            code = -negative
        counts[code] = counts.get(code, 0) + 1


def main() -> None:
    source = sys.stdin.buffer
    datagrams = [source.read(_number(source)) for _ in range(_number(source))]
    sock = _open()
    rng = random.Random(len(datagrams))
    while line := source.readline():
        rounds, pause = json.loads(line)
        counts: dict[int, int] = {}
        for _ in range(rounds):
            for datagram in datagrams:
                sock.send(datagram)
                _refused(sock, counts)
                if pause:
                    time.sleep(rng.random() * pause)
        print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main()
