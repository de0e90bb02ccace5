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

from . import socket_script
from .mirror_programs import ReplayedTable, SharedReplies, check_mirror
from .mutation import join, split
from .scripted_operations import InlineThreads
from .seeds import done, error_message, with_seq
from .socket_script import Script, ScriptedSocket, Settings, Step, StepKind

T = TypeVar("T")

TIMEOUT = 10.0
"""Seconds after which who waits for the table is hanging."""


_FAILURES = (DecodeError, KernelError, NoReply)
"""What a table may fail for."""


class StepQueue(IntEnum):
    """Whose a step is."""

    EVENTS = 0
    DUMPS = 1
    ANSWERS = 2
    USER = 3


class UserAction(IntEnum):
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


class TableFailed(Exception):
    """The table failed for what it may fail for."""


class _EventSocket(ScriptedSocket):
    """Readable while something is left of what came so far."""

    def __init__(self, steps: Iterable[Step]) -> None:
        super().__init__(Script([], endless=False), deque(), endless=True)
        self.parts = _split_at_nothing(steps)
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


class _DumpSocket(ScriptedSocket):
    """What one dump finds; then that it is done, or nothing."""

    def __init__(self, steps: Iterable[Step], *, silent: bool) -> None:
        super().__init__(Script([], endless=False), deque(steps), endless=False)
        if not silent:
            self._queue.append(Step(StepKind.DATAGRAM, done()))


class _ReplySocket(ScriptedSocket):
    """Answers each request with the next step; then that there is no such entry, or not at all."""

    def __init__(self, steps: Iterable[Step], *, silent: bool, verbatim: bool) -> None:
        super().__init__(Script([], endless=False), deque(steps), endless=False)
        self._asked: deque[int] = deque()
        self._silent, self._verbatim = silent, verbatim

    def sendto(self, data: bytes, address: tuple[int, int], /) -> int:
        self._asked += [int.from_bytes(each[8:12], "little") for each in split(data)]
        return len(data)

    def _take(self) -> Step:
        if self._silent or self._queue or not self._asked:
            step = super()._take()
        else:
            step = Step(StepKind.DATAGRAM, error_message(2))
        if not self._asked:
            return step
        seq = self._asked.popleft()
        if self._verbatim:
            return step
        messages = [each if len(each) < 16 else with_seq(each, seq) for each in split(step.data)]
        return step._replace(data=join(messages))


class _ScriptedSettings(Settings):
    def __init__(self, events: str) -> None:
        self._events = events

    def read(self, name: str, /) -> str:
        return self._events if name.endswith("_events") else super().read(name)


def _split_at_nothing(steps: Iterable[Step]) -> deque[list[Step]]:
    parts: deque[list[Step]] = deque([[]])
    for step in steps:
        if step.what == StepKind.NOTHING:
            parts.append([])
        elif step.what in (StepKind.NOTICE, StepKind.ANSWER):
            parts[-1].append(step._replace(what=StepKind.DATAGRAM))
        else:
            parts[-1].append(step)
    return parts


class _ScriptedSocketFactory:
    """A kernel that says what is in the script, to each socket what is for it."""

    def __init__(self, steps: Sequence[Step], option: int) -> None:
        by = {to: [step for step in steps if step.to == to] for to in StepQueue}
        self.sysctls = _ScriptedSettings("0" if option & _Option.POLLED else "12"[option >> 5 & 1])
        self.events = _EventSocket(by[StepQueue.EVENTS])
        self.sockets: list[ScriptedSocket] = [self.events]
        self._silent = bool(option & _Option.SILENT)
        self._dumps = _split_at_nothing(by[StepQueue.DUMPS])
        self._first = _ReplySocket(
            by[StepQueue.ANSWERS], silent=self._silent, verbatim=bool(option & _Option.VERBATIM)
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
        raw = _DumpSocket(steps, silent=self._silent)
        self.sockets.append(raw)
        return NetlinkSocket(raw)

    def run_in_namespace_of(self, first: NetlinkSocket, function: Callable[[], T]) -> T:
        return function()


class _InlineSession(Session):
    """Does at once what would take a thread."""

    async def run_on_thread(self, function: Callable[[], T]) -> T:
        await anyio.lowlevel.checkpoint()
        return self.run_in_namespace(function)


def _connection(factory: _ScriptedSocketFactory) -> Connection:
    requester = Requester(factory.open_first(), offload=False, reply_timeout=0)
    session = _InlineSession(factory, requester, Buffer(socket_script.RECEIVE_BUFFER, None), 0)
    session._threads = InlineThreads(1)
    return Connection(session)


class _ChangesReader:
    """One that reads when it is told to."""

    def __init__(self, table: FlowTable) -> None:
        self.changes = table.changes()
        self.account = ReplayedTable()

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
        self,
        conn: Connection,
        table: FlowTable,
        factory: _ScriptedSocketFactory,
        replies: SharedReplies,
    ) -> None:
        self.conn, self.table, self.events = conn, table, factory.events
        self.replies = replies
        self.readers = [_ChangesReader(table)]
        self.closed = False

    async def do(self, act: int, number: int) -> None:
        table = self.table
        reader = self.readers[number % len(self.readers)] if self.readers else None
        match act % len(UserAction):
            case UserAction.RELEASE:
                self.events.release()
            case UserAction.SYNCED:
                await self.sync()
                assert not self.closed
            case UserAction.RECONCILE:
                await table.reconcile()
            case UserAction.READ if reader is not None:
                await reader.read(number)
            case UserAction.OPEN if len(self.readers) < 4:
                self.readers.append(_ChangesReader(table))
            case UserAction.SHUT if reader is not None:
                self.readers.remove(reader)
                await reader.changes.aclose()
            case UserAction.LOOK_UP:
                self.look_up()
            case UserAction.TURN:
                await anyio.lowlevel.checkpoint()
            case UserAction.HURRY:
                with anyio.move_on_after(0):
                    await (table.reconcile() if number & 1 else table.synced())
            case UserAction.BOTH:
                await self.both()
            case UserAction.CLOSE:
                await table.aclose()
                self.closed = True
            case UserAction.HANG_UP:
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
        check_mirror(table._mirror, self.replies.shared)
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


def _has_no_mark(flow: Flow) -> bool:
    return not flow.mark


async def tables(data: bytes) -> None:
    """A table follows whatever comes, or fails as it may; who waits for it always returns.

    One that can't be compared goes on, and who waits for that is refused."""
    option, steps = socket_script.unpack(data)
    factory = _ScriptedSocketFactory(steps, option)
    conn = _connection(factory)
    chosen = (
        Match(mark=0)
        if option & _Option.MATCH
        else _has_no_mark
        if option & _Option.CHOOSE
        else None
    )
    table = conn.table(
        chosen,
        reconcile=1e-6 if option & _Option.OFTEN else None,
        reliable=bool(option & _Option.RELIABLE),
        receive_buffer_max=5 * socket_script.RECEIVE_BUFFER if option & _Option.GROW else None,
    )
    acts = [step.data for step in steps if step.to == StepQueue.USER and step.data]
    with (
        anyio.fail_after(TIMEOUT),
        mock.patch("conntrack_aio.table.attempts._RETRY_DELAY", 0),
        mock.patch("conntrack_aio.table.synchronizer._READ_RETRY_DELAY", 0),
    ):
        try:
            await _use_table(conn, table, factory, acts)
        except TableFailed:
            pass
        await table.aclose()
        if not conn._session.closed:
            _check_statistics(conn)
        conn.close()
    factory.events.close()
    assert all(socket.closed for socket in factory.sockets), "a socket was left open"


def _check_statistics(conn: Connection) -> None:
    books = conn.client_statistics()
    assert not books.open_tables, "a table was left open"
    assert not books.open_streams + books.open_dumps, "a dump or a stream was left open"


async def _use_table(
    conn: Connection, table: FlowTable, factory: _ScriptedSocketFactory, acts: Sequence[bytes]
) -> None:
    """Raises :exc:`Refused`."""
    replies = SharedReplies(table._entries)
    try:
        await table.__aenter__()
    except _FAILURES as error:
        str(error)
        raise TableFailed from error
    user = _User(conn, table, factory, replies)
    follower = ReplayedTable()
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(_follow_changes, table, follower)
            try:
                for act in acts:
                    await user.do(act[0], act[-1])
                await user.finish()
            finally:
                with anyio.CancelScope(shield=True):
                    await table.aclose()
    except* anyio.ClosedResourceError:
        assert user.closed
        raise TableFailed from None
    except* _FAILURES:
        # It may have been only the comparison that somebody waited for, which is tried again.
        assert table._failure is not None or table.statistics().failures
        raise TableFailed from None


async def _follow_changes(
    table: FlowTable,
    account: ReplayedTable,
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
