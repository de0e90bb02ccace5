"""Scripts: sequences of what the sockets of a connection receive, which can be packed as bytes."""

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
"""The receive buffer in bytes.

It is small, so that requests need several windows, and a gap ends after 24 datagrams.
"""

LOST_PER_OVERRUN = 3
"""The number of messages that each overrun loses."""

_COST = 1280
"""The bytes of the receive buffer that a message occupies."""

_STEP = struct.Struct("<BH")
_NSIDS = (-1, 0, 1, 2, 1 << 31 - 1)


class StepKind(IntEnum):
    """The result of a read."""

    DATAGRAM = 0
    OTHER_NETNS = 1
    """A datagram from another network namespace, whose id the first byte chooses."""
    FORGED = 2
    """A datagram from a sender other than the kernel."""
    OVERRUN = 3
    TOO_LARGE = 4
    NOTIFICATION = 5
    """A datagram for the socket that subscribes to rtnetlink's notifications."""
    RTNETLINK_REPLY = 6
    """A datagram for the socket that sends requests to rtnetlink."""
    NOTHING = 7
    """No datagram now; more may follow later."""


class Step(NamedTuple):
    """The result of one read of a socket."""

    kind: StepKind
    data: bytes = b""
    to: int = 0
    """The queue of the step, from 0 to 3, for harnesses with several queues."""


def pack(steps: Iterable[Step], option: int = 0) -> bytes:
    """Return a script as bytes, after a byte with an option for the harness."""
    parts = [bytes([option])]
    for kind, data, to in steps:
        parts.append(_STEP.pack(kind | to << 3, min(len(data), 0xFFFF)) + data[:0xFFFF])
    return b"".join(parts)


def unpack(data: bytes) -> tuple[int, list[Step]]:
    """Return the option and the steps of a packed script. Any bytes are a valid script."""
    steps: list[Step] = []
    at = 1
    while at + _STEP.size <= len(data):
        kind, size = _STEP.unpack_from(data, at)
        at += _STEP.size
        steps.append(Step(StepKind(kind & 7), data[at : at + size], kind >> 3 & 3))
        at += size
    return (data[0] if data else 0), steps


class ScriptExhausted(Exception):
    """The script has ended. This ends a stream, which would otherwise wait for more."""


class Script:
    """A script that is being read."""

    def __init__(self, steps: Iterable[Step], *, endless: bool) -> None:
        """Create a script from its steps.

        :param endless: whether a read after the end raises :exc:`ScriptExhausted`. That is for
            streams, which would wait forever.
        """
        self.endless = endless
        self.overruns = 0
        self.main: deque[Step] = deque()
        self.notifications: deque[Step] = deque()
        self.rtnetlink_replies: deque[Step] = deque()
        for step in steps:
            queues = {
                StepKind.NOTIFICATION: self.notifications,
                StepKind.RTNETLINK_REPLY: self.rtnetlink_replies,
            }
            queues.get(step.kind, self.main).append(step)


class ScriptedSocket:
    """A raw socket that reads from one queue of a script."""

    def __init__(self, script: Script, queue: deque[Step], *, endless: bool) -> None:
        self.closed = False
        self.steps = tuple(queue)
        """All steps that it will read."""
        self._script = script
        self._queue = queue
        self._endless = endless
        self._dry = False
        self._fd: int | None = None
        self._congested = False
        self._buffer = RECEIVE_BUFFER

    def fileno(self) -> int:
        """Return a descriptor that is always readable for a stream, and never otherwise."""
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
        kind, data, _ = self._take()
        if kind == StepKind.TOO_LARGE:
            return RECEIVE_SIZE + 1 + len(data), [], 0, (0, 0)
        buffers[0][: len(data)] = data
        control: list[tuple[int, int, bytes]] = []
        if kind == StepKind.OTHER_NETNS and ancbufsize and data:
            nsid = _NSIDS[data[0] % len(_NSIDS)]
            data_of_nsid = struct.pack("=i", nsid)
            control.append((SOL_NETLINK, int(NETLINK_OPTION.LISTEN_ALL_NSID), data_of_nsid))
        return len(data), control, 0, (4711 if kind == StepKind.FORGED else 0, 0)

    def _take(self) -> Step:
        if not self._queue:
            if self._endless and self._dry:
                raise ScriptExhausted
            self._dry = True
        step = self._queue.popleft() if self._queue else Step(StepKind.NOTHING)
        if step.kind == StepKind.NOTHING:
            self._congested = False
            raise BlockingIOError(errno.EAGAIN, "nothing waits")
        if step.kind == StepKind.OVERRUN:
            self._congested = True
            self._script.overruns += 1
            raise OSError(errno.ENOBUFS, "an overrun")
        return step

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        if option == SO_MEMINFO:
            waiting = _COST * len(self.waiting())
            return struct.pack("=9I", waiting, *bytes(7), self.drops)
        return struct.pack("=i", self._buffer)

    def _visible(self) -> list[Step]:
        """Return the steps that are in the receive buffer now.

        After an overrun, the kernel reports no other one until the buffer was empty
        (``NETLINK_S_CONGESTED``). Therefore the steps after a second overrun arrived later.
        """
        steps: list[Step] = []
        congested = self._congested
        for step in self._queue:
            if step.kind == StepKind.NOTHING or (congested and step.kind == StepKind.OVERRUN):
                break
            congested |= step.kind == StepKind.OVERRUN
            steps.append(step)
        return steps

    def waiting(self) -> list[Step]:
        """Return the messages that a reader would get until a read finds nothing."""
        return [step for step in self._visible() if step.kind != StepKind.OVERRUN]

    def until_nothing(self) -> int:
        """Return how many steps are read in total until a read finds nothing."""
        return len(self.steps) - len(self._queue) + len(self._visible())

    @property
    def drops(self) -> int:
        """The number of messages dropped so far.

        The kernel reports an overrun before all waiting messages.
        """
        now = self._visible()[:1]
        return LOST_PER_OVERRUN * (
            self._script.overruns + any(step.kind == StepKind.OVERRUN for step in now)
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
    """The sysctls of the kernel: ``nf_conntrack_events`` is 1, and the others do not exist."""

    def read(self, name: str, /) -> str:
        if name.endswith("_events"):
            return "1"
        raise FileNotFoundError(errno.ENOENT, name)

    def write(self, name: str, value: str | int, /) -> None: ...

    def check_writable(self, name: str, /) -> None: ...


class ScriptedSocketFactory:
    """A kernel that sends what is in the script, whichever socket reads."""

    def __init__(self, script: Script) -> None:
        self.sockets: list[ScriptedSocket] = []
        self.sysctls = Settings()
        self._script = script
        self._queues = [script.notifications, script.rtnetlink_replies]

    def open_first(self) -> NetlinkSocket:
        return self.open()

    def open(
        self, receive_buffer: int | None = None, protocol: int = NETLINK.NETFILTER
    ) -> NetlinkSocket:
        script, queue, endless = self._script, self._script.main, self._script.endless
        if protocol != NETLINK.NETFILTER:
            queue, endless = self._queues.pop(0), False
        raw = ScriptedSocket(script, queue, endless=endless)
        self.sockets.append(raw)
        return NetlinkSocket(raw)

    def run_in_namespace_of(self, first: NetlinkSocket, function: Callable[[], T]) -> T:
        return function()
