"""Fuzz the live table with a script instead of a kernel and a user.

The script has separate steps for events, dumps, replies and user actions (:attr:`Step.to`).
``NOTHING`` separates parts: the events of the next part arrive when a user action releases them,
and each dump is one part.
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
from conntrack_aio.streams.buffer_sizes import BufferSizes
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
"""The seconds after which a caller that waits for the table is considered to hang."""

_FAILURES = (DecodeError, KernelError, NoReply)
"""The exceptions with which a table may fail."""


class StepQueue(IntEnum):
    """The queue that a step belongs to."""

    EVENTS = 0
    DUMPS = 1
    REPLIES = 2
    USER = 3


class UserAction(IntEnum):
    """What the user does; the first byte of a step."""

    RELEASE = 0
    """Let the next part of the events arrive."""
    SYNC = 1
    RECONCILE = 2
    READ = 3
    OPEN_READER = 4
    CLOSE_READER = 5
    LOOK_UP = 6
    YIELD = 7
    """Let the other tasks run."""
    CANCEL = 8
    """Wait, and cancel that at once."""
    SYNC_AND_RECONCILE = 9
    """Wait for both, while more events arrive."""
    CLOSE_TABLE = 10
    CLOSE_CONNECTION = 11


class _Option(IntEnum):
    """Bits of the script's option."""

    SILENT = 1
    """The kernel sends no reply when the script has none."""
    MATCH = 2
    """The table has a match."""
    PREDICATE = 4
    """The table has a predicate, unless it has a match."""
    POLLED = 8
    """``nf_conntrack_events`` is 0."""
    VERBATIM = 16
    """Replies have the sequence numbers of the script, not those of the requests."""
    RELIABLE = 32
    GROW = 64
    """The receive buffer may grow."""
    RECONCILE = 128
    """The table is reconciled continually."""


OPTIONS = (0, 1, 2, 4, 8, 16, 32, 64, 96, 128, 129, 136)
"""The options of the seeds."""


class TableFailed(Exception):
    """The table failed with an exception with which it may fail."""


class _EventSocket(ScriptedSocket):
    """The socket of the events. It is readable while released steps are left."""

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
        self._dry = False  # events never end
        return super()._take()


class _DumpSocket(ScriptedSocket):
    """The socket of a dump. After its steps, it sends NLMSG_DONE unless the kernel is silent."""

    def __init__(self, steps: Iterable[Step], *, silent: bool) -> None:
        super().__init__(Script([], endless=False), deque(steps), endless=False)
        if not silent:
            self._queue.append(Step(StepKind.DATAGRAM, done()))


class _ReplySocket(ScriptedSocket):
    """A socket that replies to each request with the next step.

    After the last step it replies with ENOENT, or not at all if the kernel is silent.
    """

    def __init__(self, steps: Iterable[Step], *, silent: bool, verbatim: bool) -> None:
        super().__init__(Script([], endless=False), deque(steps), endless=False)
        self._request_seqs: deque[int] = deque()
        self._silent, self._verbatim = silent, verbatim

    def sendto(self, data: bytes, address: tuple[int, int], /) -> int:
        self._request_seqs += [int.from_bytes(each[8:12], "little") for each in split(data)]
        return len(data)

    def _take(self) -> Step:
        if self._silent or self._queue or not self._request_seqs:
            step = super()._take()
        else:
            step = Step(StepKind.DATAGRAM, error_message(2))
        if not self._request_seqs:
            return step
        seq = self._request_seqs.popleft()
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
        if step.kind == StepKind.NOTHING:
            parts.append([])
        elif step.kind in (StepKind.NOTIFICATION, StepKind.RTNETLINK_REPLY):
            parts[-1].append(step._replace(kind=StepKind.DATAGRAM))
        else:
            parts[-1].append(step)
    return parts


class _ScriptedSocketFactory:
    """A kernel that sends to each socket the steps of its queue."""

    def __init__(self, steps: Sequence[Step], option: int) -> None:
        by = {to: [step for step in steps if step.to == to] for to in StepQueue}
        self.sysctls = _ScriptedSettings("0" if option & _Option.POLLED else "12"[option >> 5 & 1])
        self.events = _EventSocket(by[StepQueue.EVENTS])
        self.sockets: list[ScriptedSocket] = [self.events]
        self._silent = bool(option & _Option.SILENT)
        self._dumps = _split_at_nothing(by[StepQueue.DUMPS])
        self._first = _ReplySocket(
            by[StepQueue.REPLIES], silent=self._silent, verbatim=bool(option & _Option.VERBATIM)
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
    """A session that runs in the event loop what would need a thread."""

    async def run_on_thread(self, function: Callable[[], T]) -> T:
        await anyio.lowlevel.checkpoint()
        return self.run_in_namespace(function)


def _connection(factory: _ScriptedSocketFactory) -> Connection:
    requester = Requester(factory.open_first(), offload=False, reply_timeout=0)
    session = _InlineSession(factory, requester, BufferSizes(socket_script.RECEIVE_BUFFER, None), 0)
    session._threads = InlineThreads(1)
    return Connection(session)


class _ChangesReader:
    """A reader of changes that reads when the script says so."""

    def __init__(self, table: FlowTable) -> None:
        self.changes = table.changes()
        self.replayed = ReplayedTable()

    async def read(self, max_batches: float) -> None:
        """Read at most this many of the waiting batches."""
        changes = self.changes
        while max_batches > 0 and (changes._is_ready() or changes.waiting):
            max_batches -= 1
            if changes._is_ready():
                self.apply(await changes.receive_batch())
            else:
                changes._left = 256  # as receive_batch() sets it when it waits

    def apply(self, batch: Iterable[Change]) -> None:
        for change in batch:
            str(change)
            self.replayed.apply(change)


class _User:
    """Performs the user actions of the script on a table."""

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

    async def perform(self, action: int, number: int) -> None:
        table = self.table
        reader = self.readers[number % len(self.readers)] if self.readers else None
        match action % len(UserAction):
            case UserAction.RELEASE:
                self.events.release()
            case UserAction.SYNC:
                await self.sync()
                assert not self.closed
            case UserAction.RECONCILE:
                await table.reconcile()
            case UserAction.READ if reader is not None:
                await reader.read(number)
            case UserAction.OPEN_READER if len(self.readers) < 4:
                self.readers.append(_ChangesReader(table))
            case UserAction.CLOSE_READER if reader is not None:
                self.readers.remove(reader)
                await reader.changes.aclose()
            case UserAction.LOOK_UP:
                self.look_up()
            case UserAction.YIELD:
                await anyio.lowlevel.checkpoint()
            case UserAction.CANCEL:
                with anyio.move_on_after(0):
                    await (table.reconcile() if number & 1 else table.synced())
            case UserAction.SYNC_AND_RECONCILE:
                await self.sync_and_reconcile()
            case UserAction.CLOSE_TABLE:
                await table.aclose()
                self.closed = True
            case UserAction.CLOSE_CONNECTION:
                self.conn.close()
                self.closed = True
            case _:
                pass

    async def sync_and_reconcile(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.table.synced)
            tasks.start_soon(self.table.reconcile)
            await anyio.lowlevel.checkpoint()
            self.events.release()

    def look_up(self) -> None:
        """Look up all flows in every way, and check the mirror of the table."""
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
        """Check that ``synced()`` waits until all events that are waiting now are applied."""
        due = self.events.waiting()
        await self.table.synced()
        left = self.events.waiting()
        assert not {*map(id, due)} & {*map(id, left)}, "synced, but an event is not applied"

    async def finish(self) -> None:
        """Let all events arrive and be applied; then check that readers have what the table has."""
        while self.events.parts:
            self.events.release()
            await self.sync()
        await self.sync()
        while self.events.waiting():  # after a second overrun, which arrived later
            await self.sync()
        while self.table.behind:  # synchronization has found a discrepancy
            await self.table.reconcile()
        self.look_up()
        for reader in self.readers:
            await reader.read(math.inf)
            reader.replayed.check(self.table._entries)


def _has_no_mark(flow: Flow) -> bool:
    return not flow.mark


async def tables(data: bytes) -> None:
    """Run a table on a script: it must follow the events, or fail with a documented exception.

    Every call that waits for the table returns. If reconciliation fails, the table goes on, and the
    calls that wait for the reconciliation raise.
    """
    option, steps = socket_script.unpack(data)
    factory = _ScriptedSocketFactory(steps, option)
    conn = _connection(factory)
    selection = (
        Match(mark=0)
        if option & _Option.MATCH
        else _has_no_mark
        if option & _Option.PREDICATE
        else None
    )
    table = conn.table(
        selection,
        reconcile=1e-6 if option & _Option.RECONCILE else None,
        reliable=bool(option & _Option.RELIABLE),
        receive_buffer_max=5 * socket_script.RECEIVE_BUFFER if option & _Option.GROW else None,
    )
    actions = [step.data for step in steps if step.to == StepQueue.USER and step.data]
    with (
        anyio.fail_after(TIMEOUT),
        mock.patch("conntrack_aio.table.failures._RETRY_DELAY", 0),
        mock.patch("conntrack_aio.table.event_follower._READ_RETRY_DELAY", 0),
    ):
        try:
            await _use_table(conn, table, factory, actions)
        except TableFailed:
            pass
        await table.aclose()
        if not conn._session.closed:
            _check_statistics(conn)
        conn.close()
    factory.events.close()
    assert all(socket.closed for socket in factory.sockets), "a socket was left open"


def _check_statistics(conn: Connection) -> None:
    statistics = conn.client_statistics()
    assert not statistics.open_tables, "a table was left open"
    assert not statistics.open_streams + statistics.open_dumps, "a dump or a stream was left open"


async def _use_table(
    conn: Connection, table: FlowTable, factory: _ScriptedSocketFactory, actions: Sequence[bytes]
) -> None:
    """Perform the user actions on a table while a task follows its changes.

    :raises TableFailed: when the table fails with an exception with which it may fail.
    """
    replies = SharedReplies(table._entries)
    try:
        await table.__aenter__()
    except _FAILURES as error:
        str(error)
        raise TableFailed from error
    user = _User(conn, table, factory, replies)
    followed = ReplayedTable()
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(_follow_changes, table, followed)
            try:
                for action in actions:
                    await user.perform(action[0], action[-1])
                await user.finish()
            finally:
                with anyio.CancelScope(shield=True):
                    await table.aclose()
    except* anyio.ClosedResourceError:
        assert user.closed
        raise TableFailed from None
    except* _FAILURES:
        # Only a reconciliation may have failed, which the table tries again.
        assert table._failure is not None or table.statistics().failures
        raise TableFailed from None


async def _follow_changes(
    table: FlowTable,
    replayed: ReplayedTable,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Apply the changes of a table until the table is closed or fails."""
    changes: Changes = table.changes()
    task_status.started()
    try:
        async for change in changes:
            replayed.apply(change)
    except (anyio.ClosedResourceError, *_FAILURES):
        await changes.aclose()
        return
    raise AssertionError("the changes ended without an exception")
