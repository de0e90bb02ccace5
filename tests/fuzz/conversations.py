"""Every verb of a connection, and every stream, with a script in the kernel's place."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
from support.cases import TCP4, TCP4_BACK, expectation, flow

from conntrack_aio import Connection, Match, Status
from conntrack_aio.errors import (
    ConntrackError,
    DecodeError,
    DumpInterrupted,
    EncodeError,
    EventsLost,
    KernelError,
    NoReply,
)
from conntrack_aio.events import EventStream
from conntrack_aio.model.flow import SynProxy
from conntrack_aio.model.helpers import ExpectPolicy, UserspaceHelper
from conntrack_aio.model.timeouts import TCPTimeouts, TimeoutPolicy
from conntrack_aio.netlink import namespaces
from conntrack_aio.netlink.requester import Requester
from conntrack_aio.netlink.threads import Threads
from conntrack_aio.session import Session
from conntrack_aio.subscriptions import Buffer

from . import script
from .script import Exhausted, FedEndpoint, Feed

TOLD = (DecodeError, DumpInterrupted, EventsLost, KernelError, NoReply)
"""What the public docstrings say that the kernel's answers may raise."""

Verb = Callable[[Connection], Awaitable[object]]

_FLOW = flow(timeout=60, mark=1)
_KNOWN = attrs.evolve(_FLOW, id=5)
_EXPECTED = expectation(timeout=30)
_POLICY = TimeoutPolicy(name="a", family=2, protocol=6, timeouts=TCPTimeouts(established=5))
_HELPER = UserspaceHelper(
    name="a",
    family=2,
    protocol=6,
    policies=(ExpectPolicy(name="a", expect_max=1, expect_timeout=2),),
)
_KEY = ("a", 2, 6)


async def _told(items: Any) -> None:
    """All of a dump's, with one error after the other."""
    async with items:
        for _ in range(1 << 20):
            try:
                await anext(items)
            except StopAsyncIteration:
                return
            except (DecodeError, NoReply) as error:
                str(error)
                if items.walk.closed:
                    return
    raise AssertionError("a dump without end")


async def _batches(items: Any) -> None:
    async with items:
        async for batch in items.batches():
            assert batch


async def _outcomes(bulk: Any) -> None:
    for outcome in await bulk:
        if outcome.error is not None:
            assert isinstance(outcome.error, TOLD), repr(outcome.error)
            str(outcome.error)


async def _asking(verb: Awaitable[object]) -> None:
    """One that asks about what the kernel told, which may not be such as can be asked about."""
    try:
        await verb
    except EncodeError as error:
        str(error)


VERBS: tuple[Verb, ...] = (
    lambda conn: conn.get(TCP4),
    lambda conn: conn.get(_KNOWN, zero_counters=True),
    lambda conn: conn.create(_FLOW),
    lambda conn: conn.update(TCP4, mark=1),
    lambda conn: conn.update(_KNOWN, mark=1, mark_mask=3, status=Status.ASSURED),
    lambda conn: conn.update(_KNOWN, synproxy=SynProxy(isn=1, its=2, tsoff=3)),
    lambda conn: conn.delete(_KNOWN),
    lambda conn: conn.remove_labels(TCP4, 1),
    lambda conn: conn.flush(),
    lambda conn: conn.count(),
    lambda conn: conn.global_statistics(),
    lambda conn: conn.cpu_statistics(),
    lambda conn: conn.features(),
    lambda conn: conn.list(Match(mark=0)),
    lambda conn: _asking(conn.delete_matching(Match(mark=0))),
    lambda conn: _told(conn.dump()),
    lambda conn: _batches(conn.dump()),
    lambda conn: _told(conn.dump(zero_counters=True)),
    lambda conn: _batches(conn.dying()),
    lambda conn: _outcomes(conn.create_many([_FLOW] * 5)),
    lambda conn: _outcomes(conn.update_many([_KNOWN, TCP4, TCP4_BACK], mark=1)),
    lambda conn: _outcomes(conn.delete_many([_KNOWN, TCP4, TCP4_BACK])),
    lambda conn: _told(conn.expectations.dump()),
    lambda conn: conn.expectations.get(_EXPECTED),
    lambda conn: conn.expectations.find(TCP4),
    lambda conn: _asking(conn.expectations.create(_EXPECTED)),
    lambda conn: _asking(conn.expectations.update(_EXPECTED, timeout=5)),
    lambda conn: _asking(conn.expectations.delete(TCP4)),
    lambda conn: conn.expectations.cpu_statistics(),
    lambda conn: conn.timeouts.list(),
    lambda conn: conn.timeouts.create(_POLICY),
    lambda conn: _asking(conn.timeouts.update("a", TCPTimeouts(close=5))),
    lambda conn: conn.timeouts.delete("a"),
    lambda conn: conn.timeouts.delete_unused(),
    lambda conn: conn.timeouts.get_defaults(TCPTimeouts),
    lambda conn: _told(conn.helpers.dump()),
    lambda conn: conn.helpers.create(_HELPER),
    lambda conn: conn.helpers.update(*_KEY, queue=1),
    lambda conn: conn.helpers.delete(*_KEY),
)


THREADED = 5 * len(VERBS)
"""From this option on a verb has real threads."""

OPTIONS = [
    *range(len(VERBS)),
    *(THREADED + number for number in range(13, 23)),  # dumps and bulk verbs
]


class _Inline(Threads):
    """Does the work at once, where a thread would cost more than it."""

    def start(self, work: Callable[[], object]) -> None:
        work()


def _connection(endpoint: FedEndpoint, *, inline: bool) -> Connection:
    requester = Requester(endpoint.open(), offload=False, reply_timeout=0)
    session = Session(endpoint, requester, Buffer(script.RECEIVE_BUFFER, None), 0)
    if inline:
        session._threads = _Inline(1)
    return Connection(session)


def _end(conn: Connection, endpoint: FedEndpoint, *, inline: bool) -> None:
    open_sockets = conn.statistics().open_dumps + conn.statistics().open_streams
    assert not open_sockets, "a dump or a stream was left open"
    conn.close()
    if inline:  # a thread may take a little longer
        assert all(socket.closed for socket in endpoint.sockets), "a socket was left open"


async def verbs(data: bytes) -> None:
    """A verb, which the first byte chooses, ends as the public docstrings say."""
    option, steps = script.unpack(data)
    verb, inline = VERBS[option % len(VERBS)], option < THREADED
    endpoint = FedEndpoint(Feed(steps, endless=False))
    conn = _connection(endpoint, inline=inline)
    try:
        await verb(conn)
    except TOLD as error:
        str(error)
    except ConntrackError as error:
        raise AssertionError(f"nobody told of {error!r}") from error
    _end(conn, endpoint, inline=inline)


_named = tempfile.mkdtemp(prefix="conntrack_aio_fuzz")
"""A directory with files to ask the kernel about, as ``ip netns`` has them."""
atexit.register(shutil.rmtree, _named)
for _name in ("blue", "red"):
    Path(_named, _name).touch()


async def streams(data: bytes) -> None:
    """A stream tells whatever comes, in order, until the script is at its end.

    The first byte chooses what kind of events, from all namespaces or one, and how it is read.
    """
    option, steps = script.unpack(data)
    endpoint = FedEndpoint(Feed(steps, endless=True))
    conn = _connection(endpoint, inline=True)
    everywhere = bool(option & 2) and option < 64  # its names are looked for on a thread
    with mock.patch.object(namespaces, "NAMED", _named):
        stream: EventStream[Any] = (
            conn.expectations.events() if option & 1 else conn.events(all_netns=everywhere)
        )
    read = stream.next_batch if option & 4 else stream.__anext__
    lost = 0
    async with stream:
        for _ in range(1 << 20):
            try:
                assert await read()
            except Exhausted:
                break
            except EventsLost as error:
                lost += error.lost or 0
            except DecodeError as error:
                str(error)
        else:
            raise AssertionError("a stream without end")
    counted = conn.statistics()
    assert lost == counted.events_lost <= 3 * counted.overruns
    _end(conn, endpoint, inline=True)
