"""Fuzz all operations of a connection and all streams, with a script instead of a kernel."""

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
from conntrack_aio.codec.event_messages import decode_event
from conntrack_aio.codec.expectation_messages import decode_expect_event
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
from conntrack_aio.streams.options import BufferSizes

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
"""The exceptions that a reply of the kernel may raise, according to the public docstrings."""

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
    """Read all items of a dump, and continue after each error."""
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
    raise AssertionError("a dump does not end")


async def _read_batches(items: Any) -> None:
    async with items:
        async for batch in items.batches():
            assert batch


async def _check_outcomes(bulk: Any) -> None:
    for outcome in await bulk:
        if outcome.error is not None:
            assert isinstance(outcome.error, DOCUMENTED_ERRORS), repr(outcome.error)
            str(outcome.error)


async def _ignoring_encode_error(operation: Awaitable[object]) -> None:
    """Run an operation that encodes what it has read, which cannot always be encoded."""
    try:
        await operation
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
"""The first option for which an operation uses real threads."""

OPTIONS = [
    *range(len(OPERATIONS)),
    *(FIRST_THREADED + number for number in range(13, 23)),  # dumps and bulk operations
]


class InlineThreads(Threads):
    """Runs the work in the calling thread: for such small work, a thread would be slower."""

    def start(self, work: Callable[[], object]) -> None:
        work()


def _connection(factory: ScriptedSocketFactory, *, inline: bool) -> Connection:
    requester = Requester(factory.open(), offload=False, reply_timeout=0)
    session = Session(factory, requester, BufferSizes(socket_script.RECEIVE_BUFFER, None), 0)
    if inline:
        session._threads = InlineThreads(1)
    return Connection(session)


def _check_closed(conn: Connection, factory: ScriptedSocketFactory, *, inline: bool) -> None:
    open_sockets = conn.client_statistics().open_dumps + conn.client_statistics().open_streams
    assert not open_sockets, "a dump or a stream was left open"
    conn.close()
    if inline:  # a thread may not have closed its socket yet
        assert all(socket.closed for socket in factory.sockets), "a socket was left open"


async def operations(data: bytes) -> None:
    """Run an operation, which the first byte chooses: it may only raise documented exceptions."""
    option, steps = socket_script.unpack(data)
    operation, inline = OPERATIONS[option % len(OPERATIONS)], option < FIRST_THREADED
    factory = ScriptedSocketFactory(Script(steps, endless=False))
    conn = _connection(factory, inline=inline)
    try:
        await operation(conn)
    except DOCUMENTED_ERRORS as error:
        str(error)
    except ConntrackError as error:
        raise AssertionError(f"an undocumented exception: {error!r}") from error
    _check_closed(conn, factory, inline=inline)


_named_directory = tempfile.mkdtemp(prefix="conntrack_aio_fuzz")
"""A directory of named network namespaces, as ``ip netns`` has one. Its files are empty."""
atexit.register(shutil.rmtree, _named_directory)
for _name in ("blue", "red"):
    Path(_named_directory, _name).touch()


class _StreamOption(IntEnum):
    """Bits of the option of a stream's script."""

    EXPECTATIONS = 1
    """Read events of expectations, not of flows."""
    ALL_NETNS = 2
    """Read the events of all network namespaces. A thread looks for the names."""
    BATCHES = 4
    NOWAIT = 8
    """Read without waiting. Ignored with ALL_NETNS."""
    LOSS_ITEMS = 16
    """Read losses as items."""
    RELIABLE = 32
    GROW = 64
    """Let the receive buffer grow."""
    POSITIONS = 128
    """Take positions of the stream."""


STREAM_OPTIONS = (*range(10), 16, 20, 24, 40, 64, 72, 128, 132, 136, 152, 154, 176, 200, 201)
"""The options of the seeds."""


def _open_stream(conn: Connection, option: int) -> EventStream[Any]:
    on_loss: Any = "item" if option & _StreamOption.LOSS_ITEMS else "raise"
    largest = 5 * socket_script.RECEIVE_BUFFER if option & _StreamOption.GROW else None
    reliable = bool(option & _StreamOption.RELIABLE)
    if option & _StreamOption.EXPECTATIONS:
        return conn.expectations.events(on_loss=on_loss, receive_buffer_max=largest)
    with mock.patch.object(namespaces, "NAMES_DIRECTORY", _named_directory):
        return conn.events(
            all_netns=bool(option & _StreamOption.ALL_NETNS),
            on_loss=on_loss,
            receive_buffer_max=largest,
            reliable=reliable,
        )


class _StreamCheck:
    """Compares the items that a stream returned with those that it must have returned by then."""

    def __init__(
        self, stream: EventStream[Any], raw: ScriptedSocket, decoder: Decoder[Any]
    ) -> None:
        self.lost = self.gaps = 0
        self.items: list[Any] = []
        self._stream, self._raw = stream, raw
        self._wanted: list[Any] = []
        self._ends = [0]
        """The number of items in the first 0, 1, 2 … steps."""
        for step in raw.steps:
            self._wanted += _items_of(step, decoder)
            self._ends.append(len(self._wanted))
        self._positions: list[tuple[int, int, int]] = []
        """Positions of the stream, each with the items and losses that are due before it."""

    def take(self, items: Iterable[Any]) -> None:
        for item in items:
            if isinstance(item, EventsLost):
                self.gaps += 1
                self.lost += item.lost or 0
            else:
                if not isinstance(item, DecodeError):
                    item.nsid = item.netns = None  # the wanted items have no namespace
                self.items.append(item)

    def take_position(self) -> None:
        """Take a position, before which all waiting and pending items are due."""
        raw = self._raw
        due = self._ends[raw.until_nothing()]
        self._positions.append((self._stream.position(), due, raw.drops))

    def check_positions(self, *, reliable: bool) -> None:
        """Check that everything due was returned before the positions that have been passed."""
        for position in self._positions[:]:
            number, due, drops = position
            if self._stream.has_passed(number):
                self._positions.remove(position)
                assert len(self.items) >= due, "a position was passed before all of its items"
                assert self.lost >= drops or reliable, "a position was passed before a loss"

    def check_end(self, *, reliable: bool) -> None:
        """Check that all items were returned in order, and that all positions were passed."""
        assert comparable(self.items) == comparable(self._wanted)
        self.check_positions(reliable=reliable)
        assert not self._positions, "a position was not passed"


def _items_of(step: socket_script.Step, decoder: Decoder[Any]) -> list[Any]:
    if step.kind == StepKind.TOO_LARGE:
        return [_too_large(RECEIVE_SIZE + 1 + len(step.data))]
    if step.kind in (StepKind.DATAGRAM, StepKind.OTHER_NETNS):
        return decode_by_layouts(decoder, step.data, None)
    return []


async def _read(stream: EventStream[Any], option: int) -> list[Any]:
    """Read some items. An error counts as an item."""
    try:
        if option & _StreamOption.NOWAIT and not option & _StreamOption.ALL_NETNS:
            return stream.receive_batch_nowait()
        if option & _StreamOption.BATCHES:
            batch = await stream.receive_batch()
            assert batch
            return batch
        return [await anext(stream)]
    except (EventsLost, DecodeError) as error:
        str(error)
        if isinstance(error, EventsLost) and option & _StreamOption.LOSS_ITEMS:
            raise AssertionError("a loss is raised that should be an item") from error
        return [error]


async def streams(data: bytes) -> None:
    """Read a stream to the end of the script: it must return everything in order.

    The first byte is a :class:`_StreamOption`.
    """
    option, steps = socket_script.unpack(data)
    if option & _StreamOption.EXPECTATIONS:
        option &= ~(_StreamOption.ALL_NETNS | _StreamOption.RELIABLE)
    reliable = bool(option & _StreamOption.RELIABLE)
    factory = ScriptedSocketFactory(Script(steps, endless=True))
    conn = _connection(factory, inline=True)
    stream = _open_stream(conn, option)
    decoder = decode_expect_event if option & _StreamOption.EXPECTATIONS else decode_event
    stream_check = _StreamCheck(stream, factory.sockets[1], decoder)
    async with stream:
        for turn in range(1 << 20):
            if option & _StreamOption.POSITIONS and turn % 3 == 0:
                stream_check.take_position()
            try:
                stream_check.take(await _read(stream, option))
            except ScriptExhausted:
                break
            stream_check.check_positions(reliable=reliable)
        else:
            raise AssertionError("a stream does not end")
        stream_check.check_end(reliable=reliable)
        str(stream.statistics())
    counted = conn.client_statistics()
    assert stream_check.lost == counted.events_lost <= LOST_PER_OVERRUN * counted.overruns
    assert stream_check.gaps == counted.overruns
    _check_closed(conn, factory, inline=True)
