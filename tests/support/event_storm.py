"""Event storms: random creates, updates and deletes, faster than a reader can process the events.

A seed determines all requests of a storm.
"""

from __future__ import annotations

import copy
import errno
import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio
import attrs

from conntrack_aio import Flow, NATRange, Status, TCPInfo, TCPState
from conntrack_aio.codec.requests import flows as requests
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.attributes import pack_be32
from conntrack_aio.netlink.exchange import Request
from conntrack_aio.sandbox import rules
from conntrack_aio.uapi.netlink import NLM_F
from conntrack_aio.uapi.nf_tables import NF_INET, NFT_CT, NFT_REG_1, NFTA_CT

from .effort import thorough_or_quick
from .lab import Lab

TUPLES: Final = 8_000
STEPS: Final = thorough_or_quick(8_000, 6_000)
SMALL_BUFFER: Final = 1 << 16
"""The size in bytes of a receive buffer that holds about a hundred events."""

_GATEWAYS = NATRange(address_min=IPv4Address("192.0.2.1"), address_max=IPv4Address("192.0.2.254"))
_GATEWAYS6 = NATRange(
    address_min=IPv6Address("2001:db8:2::1"), address_max=IPv6Address("2001:db8:2::ff")
)
_KEPT_STATUS = Status.CONFIRMED | Status.SEEN_REPLY
"""The status bits that an update must repeat: the kernel refuses to clear them."""

_EXPECTED_REFUSALS: Final = {errno.ENOENT, errno.EEXIST, errno.ENOBUFS}
"""Errors that a storm expects: it also deletes absent entries and creates existing ones."""

_UPDATES: Final[Sequence[Mapping[str, object]]] = (
    *({"mark": mark} for mark in (0, 1, 0xCAFE, 0xFFFFFFFF)),
    {"mark": 0x30, "mark_mask": 0xF0},
    {"mark": 0, "mark_mask": 0xFF},
    *({"timeout": timeout} for timeout in (600, 7200)),
    {"status": _KEPT_STATUS | Status.ASSURED},
    *({"labels": labels} for labels in (0, 1 << 3, 1 << 127 | 1)),
    {"labels": 1 << 64, "labels_mask": 1 << 64},
    {"mark": 7, "timeout": 900, "labels": 1 << 9},
)
_TCP_UPDATES: Final[Sequence[Mapping[str, object]]] = (
    {"protoinfo": TCPInfo(state=TCPState.FIN_WAIT)},
    {"protoinfo": TCPInfo(state=TCPState.ESTABLISHED), "mark": 0x22},
)


def flow_pool(count: int) -> Iterator[tuple[Flow, NATRange | None]]:
    """Return flows of all kinds, each with its source translation if it has one."""
    for number in range(count):
        port = 1024 + number // 16
        client, server = f"10.1.0.{number % 16 + 1}", "10.2.0.1"
        client6, server6 = f"2001:db8::{number % 16 + 1:x}", "2001:db8:1::1"
        kind = number % 16
        if kind in (0, 1, 2, 3):
            yield Flow.tcp(client, port, server, 443, timeout=3600), None
        elif kind in (4, 5):
            yield Flow.tcp(client6, port, server6, 443, timeout=3600), None
        elif kind in (6, 7):
            yield Flow.udp(client, port, server, 53, timeout=3600), None
        elif kind in (8, 9):
            yield Flow.udp(client6, port, server6, 53, timeout=3600), None
        elif kind == 10:
            yield Flow.tcp(client, port, server, 80, timeout=3600), _GATEWAYS
        elif kind == 11:
            yield Flow.udp(client6, port, server6, 53, timeout=3600), _GATEWAYS6
        elif kind in (12, 13, 14):  # equal tuples in several zones
            zone = (None, 1, 2)[kind - 12]
            yield Flow.udp("10.3.0.1", port, server, 53, timeout=3600, zone=zone), None
        else:  # a zone of the original direction only
            flow = Flow.udp("10.3.0.2", port, server, 53, timeout=3600)
            yield attrs.evolve(flow, orig=attrs.evolve(flow.orig, zone=3)), None


def _pack_without_ack(request: Request, flags: int = 0) -> bytes:
    """Return the message of a request without NLM_F_ACK: the kernel replies only if it fails."""
    return messages.pack(request.type, int(NLM_F.REQUEST) | flags, 0, request.payload)


class _Requests:
    """The requests of storms, each of which is encoded once."""

    def __init__(self, tuples: int) -> None:
        self._flows = list(flow_pool(tuples))
        self._builders = [
            [requests.update_of_many(values, None) for values in updates]
            for updates in (_UPDATES, (*_UPDATES, *_TCP_UPDATES))
        ]
        self.create = cache(self._create)
        self.update = cache(self._update)
        self.delete = cache(self._delete)

    def _create(self, number: int, mark: int | None) -> bytes:
        flow, gateways = self._flows[number]
        flow = copy.copy(flow)
        flow.mark = mark
        return _pack_without_ack(requests.create(flow, gateways), int(NLM_F.CREATE | NLM_F.EXCL))

    def _update(self, number: int, choice: float) -> bytes:
        flow, _ = self._flows[number]
        builders = self._builders[flow.orig.proto == 6]
        return _pack_without_ack(builders[int(choice * len(builders))](flow))

    def _delete(self, number: int) -> bytes:
        return _pack_without_ack(requests.delete(self._flows[number][0]))


@cache
def _cached_requests(tuples: int) -> _Requests:
    return _Requests(tuples)


def plan_storm(seed: int, *, tuples: int = TUPLES, steps: int = STEPS) -> list[bytes]:
    """Return the datagrams of a storm. The kernel accepts most of the requests, not all."""
    rng = random.Random(seed)
    requests_of_storm = _cached_requests(tuples)
    alive = bytearray(tuples)
    datagrams: list[bytes] = []
    while steps > 0:
        size = min(steps, rng.randint(20, 250))
        steps -= size
        if rng.random() < 0.3:  # the same few flows again and again
            hot = [rng.randrange(tuples) for _ in range(10)]
            numbers = rng.choices(hot, k=size)
        else:
            numbers = rng.choices(range(tuples), k=size)
        deletes = rng.choice((0.02, 0.2, 0.7))
        datagrams.append(
            b"".join(
                [
                    _random_request(rng, requests_of_storm, alive, number, deletes)
                    for number in numbers
                ]
            )
        )
    return datagrams


def _random_request(
    rng: random.Random, requests_of_storm: _Requests, alive: bytearray, number: int, deletes: float
) -> bytes:
    # A few requests create an entry that exists, or change or delete an absent one.
    exists = alive[number] != (rng.random() < 0.02)
    if not exists:
        alive[number] = 1
        return requests_of_storm.create(number, rng.choice((None, 1, 0xCAFE)))
    if rng.random() < deletes:
        alive[number] = 0
        return requests_of_storm.delete(number)
    return requests_of_storm.update(number, rng.randrange(16) / 16)


class Storm:
    """A process in the lab that sends datagrams at full speed.

    Use it as a context manager. :meth:`begin` starts sending, and :meth:`ended` waits for the end.
    After that, the datagrams can be sent again.
    """

    def __init__(self, lab: Lab, datagrams: Sequence[bytes]) -> None:
        command = (sys.executable, "-I", "-S", str(Path(__file__).with_name("request_sender.py")))
        pipe = subprocess.PIPE
        self._process = lab.run(partial(subprocess.Popen, command, stdin=pipe, stdout=pipe))
        self._output = b""
        sized = [struct.pack("!I", len(each)) + each for each in datagrams]
        self._write(struct.pack("!I", len(datagrams)) + b"".join(sized))

    def begin(self, rounds: int = 1, *, pause: float = 0.0) -> None:
        """Start sending all datagrams, several times over.

        A second round changes nearly as much: its creates fail, and its updates succeed.

        :param pause: the longest time in seconds between two datagrams.
        """
        self._write(json.dumps([rounds, pause]).encode() + b"\n")

    async def ended(self) -> None:
        """Wait until all datagrams are sent.

        :raises AssertionError: when a request failed with an unexpected error.
        """
        stdout = self._process.stdout
        assert stdout is not None
        with anyio.fail_after(90):
            # Two storms may have ended. A file object would read both lines into its buffer, and
            # the descriptor would not become readable again for the second line.
            while b"\n" not in self._output:
                await anyio.wait_readable(stdout)
                chunk = os.read(stdout.fileno(), 4096)
                assert chunk, "the sending process has died"
                self._output += chunk
        line, _, self._output = self._output.partition(b"\n")
        refused = {int(code): count for code, count in json.loads(line).items()}
        unexpected = {os.strerror(code): refused[code] for code in {*refused} - _EXPECTED_REFUSALS}
        assert not unexpected, unexpected

    async def run(self, rounds: int = 1, *, pause: float = 0.0) -> None:
        """Send all datagrams, and wait until they are sent. See :meth:`begin`."""
        self.begin(rounds, pause=pause)
        await self.ended()

    def _write(self, data: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(data)
        stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        with self._process:  # close its pipes, and wait
            pass


def enable_labels(lab: Lab) -> None:
    """Make the kernel allocate labels for new entries in the lab.

    It does so while any rule sets labels; no packet reaches this rule.
    """
    load = rules.load_ct(NFT_CT.LABELS)
    store = rules.expression(
        "ct", pack_be32(NFTA_CT.KEY, NFT_CT.LABELS), pack_be32(NFTA_CT.SREG, NFT_REG_1)
    )
    changes = (
        rules.new_table("labels"),
        rules.new_chain("labels", "label", NF_INET.LOCAL_OUT),
        rules.new_rule("labels", "label", load, store),
    )
    lab.run(rules.commit, *changes)
