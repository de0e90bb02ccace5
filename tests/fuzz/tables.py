"""The live table, with a script in the kernel's place: of events, dumps, answers, and its user.

Each of these has its own steps (:attr:`Step.to`). ``NOTHING`` divides them: events come up to it,
and more when the user says so; a dump ends there.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import TypeVar
from unittest import mock

import anyio
import anyio.lowlevel
from anyio.abc import TaskStatus

from conntrack_aio import Connection, Flow, FlowTable, Match
from conntrack_aio.errors import DecodeError, KernelError, NoReply
from conntrack_aio.model.table import Change
from conntrack_aio.netlink.requester import Requester
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.session import Session
from conntrack_aio.streams.subscription import Buffer
from conntrack_aio.table.changes import Changes
from conntrack_aio.uapi.netlink import NETLINK

from . import script
from .conversations import Inline
from .mirrors import Account, Replies, check
from .mutation import join, split
from .script import FedSocket, Feed, Settings, Step, What
from .seeds import done, numbered, verdict

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds after which who waits for the table is hanging."""


_FAILURES = (DecodeError, KernelError, NoReply)
"""What a table may fail for."""


class To(IntEnum):
    """Whose a step is."""

    EVENTS = 0
    DUMPS = 1
    ANSWERS = 2
    USER = 3


class Act(IntEnum):
    """What the user does, by the first byte of a step."""

    RELEASE = 0
    SYNCED = 1
    RECONCILE = 2
    READ = 3
    OPEN = 4
    SHUT = 5
    LOOK_UP = 6
    TURN = 7
    HURRY = 8
    """Give up waiting."""
    BOTH = 9
    """Wait for both, while more comes."""
    CLOSE = 10
    HANG_UP = 11
    """Close the connection."""


class _Option(IntEnum):
    """Bits of the script's number."""

    SILENT = 1
    """The kernel does not answer what the script has no answer for."""
    MATCH = 2
    CHOOSE = 4
    """By a function."""
    POLLED = 8
    """``nf_conntrack_events`` is 0."""
    VERBATIM = 16
    """Answers have the sequence numbers that the script has."""
    RELIABLE = 32
    GROW = 64
    OFTEN = 128
    """It is compared all the time."""


OPTIONS = (0, 1, 2, 4, 8, 16, 32, 64, 96, 128, 129, 136)
"""Numbers to begin with."""


class Refused(Exception):
    """The table failed for what it may fail for."""


class _Events(FedSocket):
    """Readable while something is left of what came so far."""

    def __init__(self, steps: Iterable[Step]) -> None:
        super().__init__(Feed([], endless=False), deque(), endless=True)
        self.parts = _parts(steps)
        self.release()

    def release(self) -> None:
        if self.parts and not self.closed:
            self._queue += self.parts.popleft()
            os.eventfd_write(self.fileno(), 1)

    def _take(self) -> Step:
        if len(self._queue) <= 1:
            fd = self.fileno()
            os.eventfd_write(fd, 1)
            os.eventfd_read(fd)
        self._dry = False  # it never ends
        return super()._take()


class _Dump(FedSocket):
    """What one dump finds; then that it is done, or nothing."""

    def __init__(self, steps: Iterable[Step], *, silent: bool) -> None:
        super().__init__(Feed([], endless=False), deque(steps), endless=False)
        if not silent:
            self._queue.append(Step(What.DATAGRAM, done()))


class _Answers(FedSocket):
    """Answers each request with the next step; then that there is no such entry, or not at all."""

    def __init__(self, steps: Iterable[Step], *, silent: bool, verbatim: bool) -> None:
        super().__init__(Feed([], endless=False), deque(steps), endless=False)
        self._asked: deque[int] = deque()
        self._silent, self._verbatim = silent, verbatim

    def sendto(self, data: bytes, address: tuple[int, int], /) -> int:
        self._asked += [int.from_bytes(each[8:12], "little") for each in split(data)]
        return len(data)

    def _take(self) -> Step:
        if self._silent or self._queue or not self._asked:
            step = super()._take()
        else:
            step = Step(What.DATAGRAM, verdict(2))
        if not self._asked:
            return step
        seq = self._asked.popleft()
        if self._verbatim:
            return step
        messages = [each if len(each) < 16 else numbered(each, seq) for each in split(step.data)]
        return step._replace(data=join(messages))


class _Settings(Settings):
    def __init__(self, events: str) -> None:
        self._events = events

    def read(self, name: str, /) -> str:
        return self._events if name.endswith("_events") else super().read(name)


def _parts(steps: Iterable[Step]) -> deque[list[Step]]:
    parts: deque[list[Step]] = deque([[]])
    for step in steps:
        if step.what == What.NOTHING:
            parts.append([])
        elif step.what in (What.NOTICE, What.ANSWER):
            parts[-1].append(step._replace(what=What.DATAGRAM))
        else:
            parts[-1].append(step)
    return parts


class _ScriptedSocketFactory:
    """A kernel that says what is in the script, to each socket what is for it."""

    def __init__(self, steps: Sequence[Step], option: int) -> None:
        by = {to: [step for step in steps if step.to == to] for to in To}
        self.sysctls = _Settings("0" if option & _Option.POLLED else "12"[option >> 5 & 1])
        self.events = _Events(by[To.EVENTS])
        self.sockets: list[FedSocket] = [self.events]
        self._silent = bool(option & _Option.SILENT)
        self._dumps = _parts(by[To.DUMPS])
        self._first = _Answers(
            by[To.ANSWERS], silent=self._silent, verbatim=bool(option & _Option.VERBATIM)
        )

    def open_first(self) -> NetlinkSocket:
        self.sockets.append(self._first)
        return NetlinkSocket(self._first)

    def open(
        self, receive_buffer: int | None = None, protocol: int = NETLINK.NETFILTER
    ) -> NetlinkSocket:
        if receive_buffer is not None:
            return NetlinkSocket(self.events)
        steps = self._dumps.popleft() if self._dumps else []
        raw = _Dump(steps, silent=self._silent)
        self.sockets.append(raw)
        return NetlinkSocket(raw)

    def run_in_namespace_of(self, first: NetlinkSocket, function: Callable[[], T]) -> T:
        return function()


class _Session(Session):
    """Does at once what would take a thread."""

    async def run_on_thread(self, function: Callable[[], T]) -> T:
        await anyio.lowlevel.checkpoint()
        return self.run_in_namespace(function)


def _connection(factory: _ScriptedSocketFactory) -> Connection:
    requester = Requester(factory.open_first(), offload=False, reply_timeout=0)
    session = _Session(factory, requester, Buffer(script.RECEIVE_BUFFER, None), 0)
    session._threads = Inline(1)
    return Connection(session)


class _Reader:
    """One that reads when it is told to."""

    def __init__(self, table: FlowTable) -> None:
        self.changes = table.changes()
        self.account = Account()

    async def read(self, most: float) -> None:
        """So many batches at most of what waits."""
        changes = self.changes
        while most > 0 and (changes._is_ready() or changes.waiting):
            most -= 1
            if changes._is_ready():
                self.apply(await changes.receive_batch())
            else:
                changes._left = 256  # as a reader who waits would have it

    def apply(self, batch: Iterable[Change]) -> None:
        for change in batch:
            str(change)
            self.account.apply(change)


class _User:
    """Uses a table as the script says."""

    def __init__(
        self, conn: Connection, table: FlowTable, factory: _ScriptedSocketFactory, replies: Replies
    ) -> None:
        self.conn, self.table, self.events = conn, table, factory.events
        self.replies = replies
        self.readers = [_Reader(table)]
        self.closed = False

    async def do(self, act: int, number: int) -> None:
        table = self.table
        reader = self.readers[number % len(self.readers)] if self.readers else None
        match act % len(Act):
            case Act.RELEASE:
                self.events.release()
            case Act.SYNCED:
                await self.sync()
                assert not self.closed
            case Act.RECONCILE:
                await table.reconcile()
            case Act.READ if reader is not None:
                await reader.read(number)
            case Act.OPEN if len(self.readers) < 4:
                self.readers.append(_Reader(table))
            case Act.SHUT if reader is not None:
                self.readers.remove(reader)
                await reader.changes.aclose()
            case Act.LOOK_UP:
                self.look_up()
            case Act.TURN:
                await anyio.lowlevel.checkpoint()
            case Act.HURRY:
                with anyio.move_on_after(0):
                    await (table.reconcile() if number & 1 else table.synced())
            case Act.BOTH:
                await self.both()
            case Act.CLOSE:
                await table.aclose()
                self.closed = True
            case Act.HANG_UP:
                self.conn.close()
                self.closed = True
            case _:
                pass

    async def both(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.table.synced)
            tasks.start_soon(self.table.reconcile)
            await anyio.lowlevel.checkpoint()
            self.events.release()

    def look_up(self) -> None:
        """All that it has, by all that there is; what it answers, :func:`check` knows."""
        table = self.table
        str(table.statistics())
        assert len(table) == len(list(table))
        for flow in table:
            assert flow in table
            for tuple_ in (flow.orig, flow.reply):
                table.get(tuple_, zone=flow.zone)
                table.translate(tuple_, zone=flow.zone)
            table.by_id(flow.id or 0)
        check(table._mirror, self.replies.shared)
        assert table.mode is not None
        assert table.behind in (False, True)

    async def sync(self) -> None:
        due = self.events.waiting()
        await self.table.synced()
        left = self.events.waiting()
        assert not {*map(id, due)} & {*map(id, left)}, "synced, and something waits"

    async def finish(self) -> None:
        """Have all applied that there is to come; then readers have what the table has."""
        while self.events.parts:
            self.events.release()
            await self.sync()
        await self.sync()
        while self.events.waiting():  # behind a second overrun, and so not there before
            await self.sync()
        while self.table.behind:  # by what was found when it was synced
            await self.table.reconcile()
        self.look_up()
        for reader in self.readers:
            await reader.read(math.inf)
            reader.account.check(self.table._entries)


def _few(flow: Flow) -> bool:
    return not flow.mark


async def tables(data: bytes) -> None:
    """A table follows whatever comes, or fails as it may; who waits for it always returns.

    One that can't be compared goes on, and who waits for that is refused."""
    option, steps = script.unpack(data)
    factory = _ScriptedSocketFactory(steps, option)
    conn = _connection(factory)
    chosen = Match(mark=0) if option & _Option.MATCH else _few if option & _Option.CHOOSE else None
    table = conn.table(
        chosen,
        reconcile=1e-6 if option & _Option.OFTEN else None,
        reliable=bool(option & _Option.RELIABLE),
        receive_buffer_max=5 * script.RECEIVE_BUFFER if option & _Option.GROW else None,
    )
    acts = [step.data for step in steps if step.to == To.USER and step.data]
    with (
        anyio.fail_after(PATIENCE),
        mock.patch("conntrack_aio.table.attempts._RETRY_DELAY", 0),
        mock.patch("conntrack_aio.table.synchronizer._READ_RETRY_DELAY", 0),
    ):
        try:
            await _use(conn, table, factory, acts)
        except Refused:
            pass
        await table.aclose()
        if not conn._session.closed:
            _check_books(conn)
        conn.close()
    factory.events.close()
    assert all(socket.closed for socket in factory.sockets), "a socket was left open"


def _check_books(conn: Connection) -> None:
    books = conn.client_statistics()
    assert not books.open_tables, "a table was left open"
    assert not books.open_streams + books.open_dumps, "a dump or a stream was left open"


async def _use(
    conn: Connection, table: FlowTable, factory: _ScriptedSocketFactory, acts: Sequence[bytes]
) -> None:
    """Raises :exc:`Refused`."""
    replies = Replies(table._entries)
    try:
        await table.__aenter__()
    except _FAILURES as error:
        str(error)
        raise Refused from error
    user = _User(conn, table, factory, replies)
    follower = Account()
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(_follow, table, follower)
            try:
                for act in acts:
                    await user.do(act[0], act[-1])
                await user.finish()
            finally:
                with anyio.CancelScope(shield=True):
                    await table.aclose()
    except* anyio.ClosedResourceError:
        assert user.closed
        raise Refused from None
    except* _FAILURES:
        # It may have been only the comparison that somebody waited for, which is tried again.
        assert table._failure is not None or table.statistics().failures
        raise Refused from None


async def _follow(
    table: FlowTable,
    account: Account,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Until the table ends, which it is told of."""
    changes: Changes = table.changes()
    task_status.started()
    try:
        async for change in changes:
            account.apply(change)
    except (anyio.ClosedResourceError, *_FAILURES):
        await changes.aclose()
        return
    raise AssertionError("changes without end")
