"""Every verb of a connection, and every stream, with a script in the kernel's place."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from enum import IntEnum
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
from support.codec_cases import TCP4, TCP4_REPLY, expectation, flow

from conntrack_aio import Connection, Match, Status
from conntrack_aio.codec.decoder import Decoder
from conntrack_aio.codec.messages import decode_event, decode_expect_event
from conntrack_aio.errors import (
    ConntrackError,
    DecodeError,
    DumpInterrupted,
    EncodeError,
    EventsLost,
    KernelError,
    NoReply,
)
from conntrack_aio.model.flow import SynProxy
from conntrack_aio.model.helpers import ExpectPolicy, UserspaceHelper
from conntrack_aio.model.timeouts import TCPTimeouts, TimeoutPolicy
from conntrack_aio.netlink import namespaces
from conntrack_aio.netlink.requester import Requester
from conntrack_aio.netlink.socket import RECEIVE_SIZE, _too_large
from conntrack_aio.netlink.threads import Threads
from conntrack_aio.session import Session
from conntrack_aio.streams.events import EventStream
from conntrack_aio.streams.subscription import Buffer

from . import socket_script
from .harnesses import comparable, decode_by_layouts
from .socket_script import (
    LOST_PER_OVERRUN,
    Script,
    ScriptedSocket,
    ScriptedSocketFactory,
    ScriptExhausted,
    StepKind,
)

DOCUMENTED_ERRORS = (DecodeError, DumpInterrupted, EventsLost, KernelError, NoReply)
"""What the public docstrings say that the kernel's answers may raise."""

Operation = Callable[[Connection], Awaitable[object]]

_FLOW = flow(timeout=60, mark=1)
_FLOW_WITH_ID = attrs.evolve(_FLOW, id=5)
_EXPECTED = expectation(timeout=30)
_POLICY = TimeoutPolicy(name="a", family=2, proto=6, timeouts=TCPTimeouts(established=5))
_HELPER = UserspaceHelper(
    name="a",
    family=2,
    proto=6,
    policies=(ExpectPolicy(name="a", expect_max=1, expect_timeout=2),),
)
_KEY = ("a", 2, 6)


async def _read_items(items: Any) -> None:
    """All of a dump's, with one error after the other."""
    async with items:
        for _ in range(1 << 20):
            try:
                await anext(items)
            except StopAsyncIteration:
                return
            except (DecodeError, NoReply) as error:
                str(error)
                if items.closed:
                    return
    raise AssertionError("a dump without end")


async def _read_batches(items: Any) -> None:
    async with items:
        async for batch in items.batches():
            assert batch


async def _check_outcomes(bulk: Any) -> None:
    for outcome in await bulk:
        if outcome.error is not None:
            assert isinstance(outcome.error, DOCUMENTED_ERRORS), repr(outcome.error)
            str(outcome.error)


async def _ignoring_encode_error(verb: Awaitable[object]) -> None:
    """One that asks about what the kernel told, which may not be such as can be asked about."""
    try:
        await verb
    except EncodeError as error:
        str(error)


OPERATIONS: tuple[Operation, ...] = (
    lambda conn: conn.get(TCP4),
    lambda conn: conn.get(_FLOW_WITH_ID, reset_counters=True),
    lambda conn: conn.create(_FLOW),
    lambda conn: conn.update(TCP4, mark=1),
    lambda conn: conn.update(_FLOW_WITH_ID, mark=1, mark_mask=3, status=Status.ASSURED),
    lambda conn: conn.update(_FLOW_WITH_ID, synproxy=SynProxy(isn=1, its=2, tsoff=3)),
    lambda conn: conn.delete(_FLOW_WITH_ID),
    lambda conn: conn.remove_labels(TCP4, 1),
    lambda conn: conn.flush(),
    lambda conn: conn.count(),
    lambda conn: conn.table_statistics(),
    lambda conn: conn.cpu_statistics(),
    lambda conn: conn.features(),
    lambda conn: conn.list(Match(mark=0)),
    lambda conn: _ignoring_encode_error(conn.delete_matching(Match(mark=0))),
    lambda conn: _read_items(conn.dump()),
    lambda conn: _read_batches(conn.dump()),
    lambda conn: _read_items(conn.dump(reset_counters=True)),
    lambda conn: _read_batches(conn.dying()),
    lambda conn: _check_outcomes(conn.create_many([_FLOW] * 5)),
    lambda conn: _check_outcomes(conn.update_many([_FLOW_WITH_ID, TCP4, TCP4_REPLY], mark=1)),
    lambda conn: _check_outcomes(conn.delete_many([_FLOW_WITH_ID, TCP4, TCP4_REPLY])),
    lambda conn: _read_items(conn.expectations.dump()),
    lambda conn: conn.expectations.get(_EXPECTED),
    lambda conn: conn.expectations.find(TCP4),
    lambda conn: _ignoring_encode_error(conn.expectations.create(_EXPECTED)),
    lambda conn: _ignoring_encode_error(conn.expectations.update(_EXPECTED, timeout=5)),
    lambda conn: _ignoring_encode_error(conn.expectations.delete(TCP4)),
    lambda conn: conn.expectations.cpu_statistics(),
    lambda conn: conn.timeouts.list(),
    lambda conn: conn.timeouts.create(_POLICY),
    lambda conn: _ignoring_encode_error(conn.timeouts.update("a", TCPTimeouts(close=5))),
    lambda conn: conn.timeouts.delete("a"),
    lambda conn: conn.timeouts.delete_unused(),
    lambda conn: conn.timeouts.get_defaults(TCPTimeouts),
    lambda conn: _read_items(conn.helpers.dump()),
    lambda conn: conn.helpers.create(_HELPER),
    lambda conn: conn.helpers.update(*_KEY, queue=1),
    lambda conn: conn.helpers.delete(*_KEY),
)


FIRST_THREADED = 5 * len(OPERATIONS)
"""From this option on a verb has real threads."""

OPTIONS = [
    *range(len(OPERATIONS)),
    *(FIRST_THREADED + number for number in range(13, 23)),  # dumps and bulk verbs
]


class InlineThreads(Threads):
    """Does the work at once, where a thread would cost more than it."""

    def start(self, work: Callable[[], object]) -> None:
        work()


def _connection(factory: ScriptedSocketFactory, *, inline: bool) -> Connection:
    requester = Requester(factory.open(), offload=False, reply_timeout=0)
    session = Session(factory, requester, Buffer(socket_script.RECEIVE_BUFFER, None), 0)
    if inline:
        session._threads = InlineThreads(1)
    return Connection(session)


def _check_closed(conn: Connection, factory: ScriptedSocketFactory, *, inline: bool) -> None:
    open_sockets = conn.client_statistics().open_dumps + conn.client_statistics().open_streams
    assert not open_sockets, "a dump or a stream was left open"
    conn.close()
    if inline:  # a thread may take a little longer
        assert all(socket.closed for socket in factory.sockets), "a socket was left open"


async def operations(data: bytes) -> None:
    """A verb, which the first byte chooses, ends as the public docstrings say."""
    option, steps = socket_script.unpack(data)
    verb, inline = OPERATIONS[option % len(OPERATIONS)], option < FIRST_THREADED
    factory = ScriptedSocketFactory(Script(steps, endless=False))
    conn = _connection(factory, inline=inline)
    try:
        await verb(conn)
    except DOCUMENTED_ERRORS as error:
        str(error)
    except ConntrackError as error:
        raise AssertionError(f"nobody told of {error!r}") from error
    _check_closed(conn, factory, inline=inline)


_named_directory = tempfile.mkdtemp(prefix="conntrack_aio_fuzz")
"""A directory with files to ask the kernel about, as ``ip netns`` has them."""
atexit.register(shutil.rmtree, _named_directory)
for _name in ("blue", "red"):
    Path(_named_directory, _name).touch()


class _Stream(IntEnum):
    """Bits of the number of a stream's script."""

    EXPECTATIONS = 1
    EVERYWHERE = 2
    """Of all namespaces: its names are looked for on a thread."""
    BATCHES = 4
    NOWAIT = 8
    """Without waiting, unless it is of all namespaces."""
    ITEMS = 16
    """Losses are items."""
    RELIABLE = 32
    GROW = 64
    MARKS = 128


STREAM_OPTIONS = (*range(10), 16, 20, 24, 40, 64, 72, 128, 132, 136, 152, 154, 176, 200, 201)
"""Numbers to begin with."""


def _open_stream(conn: Connection, option: int) -> EventStream[Any]:
    on_loss: Any = "item" if option & _Stream.ITEMS else "raise"
    largest = 5 * socket_script.RECEIVE_BUFFER if option & _Stream.GROW else None
    reliable = bool(option & _Stream.RELIABLE)
    if option & _Stream.EXPECTATIONS:
        return conn.expectations.events(on_loss=on_loss, receive_buffer_max=largest)
    with mock.patch.object(namespaces, "NAMED", _named_directory):
        return conn.events(
            all_netns=bool(option & _Stream.EVERYWHERE),
            on_loss=on_loss,
            receive_buffer_max=largest,
            reliable=reliable,
        )


class _StreamCheck:
    """What a stream has told, beside what it was to tell by then."""

    def __init__(
        self, stream: EventStream[Any], raw: ScriptedSocket, decoder: Decoder[Any]
    ) -> None:
        self.lost = self.gaps = 0
        self.items: list[Any] = []
        self._stream, self._raw = stream, raw
        self._wanted: list[Any] = []
        self._ends = [0]
        """How many items the first steps have."""
        for step in raw.steps:
            self._wanted += _items_of(step, decoder)
            self._ends.append(len(self._wanted))
        self._marks: list[tuple[int, int, int]] = []

    def take(self, items: Iterable[Any]) -> None:
        for item in items:
            if isinstance(item, EventsLost):
                self.gaps += 1
                self.lost += item.lost or 0
            else:
                if not isinstance(item, DecodeError):
                    item.nsid = item.netns = None  # what is wanted was not heard from elsewhere
                self.items.append(item)

    def mark(self) -> None:
        """What waits by now, and what is in its hands, is to be told when this has passed."""
        raw = self._raw
        waits = self._ends[raw.until_nothing()]
        self._marks.append((self._stream.position(), waits, raw.drops))

    def look(self, *, reliable: bool) -> None:
        """At which marks have passed."""
        for mark in self._marks[:]:
            number, waits, drops = mark
            if self._stream.has_passed(number):
                self._marks.remove(mark)
                assert len(self.items) >= waits, "passed, and not all was told"
                assert self.lost >= drops or reliable, "passed, and a loss was not told"

    def check(self, *, reliable: bool) -> None:
        """All was told, in order; and every mark has passed."""
        assert comparable(self.items) == comparable(self._wanted)
        self.look(reliable=reliable)
        assert not self._marks, "a mark that does not pass"


def _items_of(step: socket_script.Step, decoder: Decoder[Any]) -> list[Any]:
    if step.what == StepKind.TOO_LARGE:
        return [_too_large(RECEIVE_SIZE + 1 + len(step.data))]
    if step.what in (StepKind.DATAGRAM, StepKind.ELSEWHERE):
        return decode_by_layouts(decoder, step.data, None)
    return []


async def _read(stream: EventStream[Any], option: int) -> list[Any]:
    """Some items; an error is one."""
    try:
        if option & _Stream.NOWAIT and not option & _Stream.EVERYWHERE:
            return stream.receive_batch_nowait()
        if option & _Stream.BATCHES:
            batch = await stream.receive_batch()
            assert batch
            return batch
        return [await anext(stream)]
    except (EventsLost, DecodeError) as error:
        str(error)
        if isinstance(error, EventsLost) and option & _Stream.ITEMS:
            raise AssertionError("a loss is raised that should be an item") from error
        return [error]


async def streams(data: bytes) -> None:
    """A stream tells whatever comes, in order, until the script is at its end.

    The first byte chooses what kind of events, from all namespaces or one, and how it is read.
    """
    option, steps = socket_script.unpack(data)
    if option & _Stream.EXPECTATIONS:
        option &= ~(_Stream.EVERYWHERE | _Stream.RELIABLE)
    reliable = bool(option & _Stream.RELIABLE)
    factory = ScriptedSocketFactory(Script(steps, endless=True))
    conn = _connection(factory, inline=True)
    stream = _open_stream(conn, option)
    decoder = decode_expect_event if option & _Stream.EXPECTATIONS else decode_event
    told = _StreamCheck(stream, factory.sockets[1], decoder)
    async with stream:
        for turn in range(1 << 20):
            if option & _Stream.MARKS and turn % 3 == 0:
                told.mark()
            try:
                told.take(await _read(stream, option))
            except ScriptExhausted:
                break
            told.look(reliable=reliable)
        else:
            raise AssertionError("a stream without end")
        told.check(reliable=reliable)
        str(stream.statistics())
    counted = conn.client_statistics()
    assert told.lost == counted.events_lost <= LOST_PER_OVERRUN * counted.overruns
    assert told.gaps == counted.overruns
    _check_closed(conn, factory, inline=True)
