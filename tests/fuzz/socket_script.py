"""What comes, one thing after the other, to the sockets of a connection; as bytes, for a fuzzer."""

from __future__ import annotations

import errno
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import NamedTuple, TypeVar

from conntrack_aio.netlink.socket import RECEIVE_SIZE, NetlinkSocket
from conntrack_aio.uapi.netlink import NETLINK, NETLINK_OPTION, SOL_NETLINK
from conntrack_aio.uapi.socket import SO_MEMINFO, SO_RCVBUFFORCE

T = TypeVar("T")

RECEIVE_BUFFER = 12288
"""Small, so that requests go in several windows, and a gap ends after 24 datagrams."""

LOST_PER_OVERRUN = 3
"""Messages that are lost by an overrun."""

_COST = 1280
"""What a message takes of the buffer."""

_STEP = struct.Struct("<BH")
_NSIDS = (-1, 0, 1, 2, 1 << 31 - 1)


class StepKind(IntEnum):
    """What a read finds."""

    DATAGRAM = 0
    ELSEWHERE = 1
    """A datagram from another namespace, whose id the first byte chooses."""
    FORGED = 2
    OVERRUN = 3
    TOO_LARGE = 4
    NOTICE = 5
    """A datagram for the socket of rtnetlink's notices."""
    ANSWER = 6
    """A datagram for the socket that asks rtnetlink."""
    NOTHING = 7
    """Nothing now, though more comes later."""


class Step(NamedTuple):
    what: StepKind
    data: bytes = b""
    to: int = 0
    """Whose it is, where several have scripts of their own; up to 3."""


def pack(steps: Iterable[Step], option: int = 0) -> bytes:
    """A script as bytes, behind a number for its reader."""
    parts = [bytes([option])]
    for what, data, to in steps:
        parts.append(_STEP.pack(what | to << 3, min(len(data), 0xFFFF)) + data[:0xFFFF])
    return b"".join(parts)


def unpack(data: bytes) -> tuple[int, list[Step]]:
    """The inverse of :func:`pack`; any bytes are a script."""
    steps: list[Step] = []
    at = 1
    while at + _STEP.size <= len(data):
        what, size = _STEP.unpack_from(data, at)
        at += _STEP.size
        steps.append(Step(StepKind(what & 7), data[at : at + size], what >> 3 & 3))
        at += size
    return (data[0] if data else 0), steps


class ScriptExhausted(Exception):
    """The script is at its end: how a harness gets out of a stream that would wait for more."""


class Script:
    """A script as it is read."""

    def __init__(self, steps: Iterable[Step], *, endless: bool) -> None:
        """``endless`` is for a stream, which waits for ever: it is told that it is exhausted."""
        self.endless = endless
        self.overruns = 0
        self.main: deque[Step] = deque()
        self.notices: deque[Step] = deque()
        self.answers: deque[Step] = deque()
        for step in steps:
            queues = {StepKind.NOTICE: self.notices, StepKind.ANSWER: self.answers}
            queues.get(step.what, self.main).append(step)


class ScriptedSocket:
    """A raw socket that reads from one queue of a feed."""

    def __init__(self, feed: Script, queue: deque[Step], *, endless: bool) -> None:
        self.closed = False
        self.steps = tuple(queue)
        """All that it ever reads."""
        self._feed = feed
        self._queue = queue
        self._endless = endless
        self._dry = False
        self._fd: int | None = None
        self._congested = False
        self._buffer = RECEIVE_BUFFER

    def fileno(self) -> int:
        """Always readable for a stream, else never."""
        if self.closed:
            return -1
        if self._fd is None:
            self._fd = os.eventfd(int(self._endless), os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return self._fd

    def sendto(self, data: bytes, address: tuple[int, int], /) -> int:
        return len(data)

    def recvfrom_into(
        self, buffer: memoryview, nbytes: int, flags: int, /
    ) -> tuple[int, tuple[int, int]]:
        size, _, _, sender = self.recvmsg_into([buffer], 0, flags)
        return size, sender

    def recvmsg_into(
        self, buffers: list[memoryview], ancbufsize: int, flags: int, /
    ) -> tuple[int, list[tuple[int, int, bytes]], int, tuple[int, int]]:
        assert not self.closed
        what, data, _ = self._take()
        if what == StepKind.TOO_LARGE:
            return RECEIVE_SIZE + 1 + len(data), [], 0, (0, 0)
        buffers[0][: len(data)] = data
        control: list[tuple[int, int, bytes]] = []
        if what == StepKind.ELSEWHERE and ancbufsize and data:
            nsid = _NSIDS[data[0] % len(_NSIDS)]
            told = struct.pack("=i", nsid)
            control.append((SOL_NETLINK, int(NETLINK_OPTION.LISTEN_ALL_NSID), told))
        return len(data), control, 0, (4711 if what == StepKind.FORGED else 0, 0)

    def _take(self) -> Step:
        if not self._queue:
            if self._endless and self._dry:
                raise ScriptExhausted
            self._dry = True
        step = self._queue.popleft() if self._queue else Step(StepKind.NOTHING)
        if step.what == StepKind.NOTHING:
            self._congested = False
            raise BlockingIOError(errno.EAGAIN, "nothing waits")
        if step.what == StepKind.OVERRUN:
            self._congested = True
            self._feed.overruns += 1
            raise OSError(errno.ENOBUFS, "an overrun")
        return step

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        if option == SO_MEMINFO:
            waiting = _COST * len(self.waiting())
            return struct.pack("=9I", waiting, *bytes(7), self.drops)
        return struct.pack("=i", self._buffer)

    def _visible(self) -> list[Step]:
        """What lies before it now. Once it has run over, it only does so again after it was empty
        (``NETLINK_S_CONGESTED``): what stands behind such an overrun came later."""
        steps: list[Step] = []
        congested = self._congested
        for step in self._queue:
            if step.what == StepKind.NOTHING or (congested and step.what == StepKind.OVERRUN):
                break
            congested |= step.what == StepKind.OVERRUN
            steps.append(step)
        return steps

    def waiting(self) -> list[Step]:
        """The messages that it would read before it found nothing."""
        return [step for step in self._visible() if step.what != StepKind.OVERRUN]

    def until_nothing(self) -> int:
        """How many of its steps are read before it finds nothing."""
        return len(self.steps) - len(self._queue) + len(self._visible())

    @property
    def drops(self) -> int:
        """Messages dropped so far. An overrun is told before all that waits."""
        now = self._visible()[:1]
        return LOST_PER_OVERRUN * (
            self._feed.overruns + any(step.what == StepKind.OVERRUN for step in now)
        )

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        if option == SO_RCVBUFFORCE:
            self._buffer = 2 * value

    def close(self) -> None:
        self.closed = True
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Settings:
    """Of the kernel: one is known, the others are missing."""

    def read(self, name: str, /) -> str:
        if name.endswith("_events"):
            return "1"
        raise FileNotFoundError(errno.ENOENT, name)

    def write(self, name: str, value: str | int, /) -> None: ...


class ScriptedSocketFactory:
    """A kernel that says what is in the script, whichever socket reads."""

    def __init__(self, feed: Script) -> None:
        self.sockets: list[ScriptedSocket] = []
        self.sysctls = Settings()
        self._feed = feed
        self._queues = [feed.notices, feed.answers]

    def open_first(self) -> NetlinkSocket:
        return self.open()

    def open(
        self, receive_buffer: int | None = None, protocol: int = NETLINK.NETFILTER
    ) -> NetlinkSocket:
        feed, queue, endless = self._feed, self._feed.main, self._feed.endless
        if protocol != NETLINK.NETFILTER:
            queue, endless = self._queues.pop(0), False
        raw = ScriptedSocket(feed, queue, endless=endless)
        self.sockets.append(raw)
        return NetlinkSocket(raw)

    def run_in_namespace_of(self, first: NetlinkSocket, function: Callable[[], T]) -> T:
        return function()
