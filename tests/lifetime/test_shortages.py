"""Shortages: of descriptors, of threads, of the kernel's memory. What comes of them is one error,
and nothing that is known is lost."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Iterator

import anyio
import anyio.to_thread
import pytest
from support import flows
from support.connection_operations import OPERATIONS, check_connection, create_flows
from support.lab import Lab
from support.open_files import OpenFiles
from support.resource_limits import limit_descriptors, limit_threads

from conntrack_aio import Connection, NoReply, ResourceExhausted, connect
from conntrack_aio.netlink.socket import NetlinkSocket

pytestmark = [pytest.mark.kernel, pytest.mark.anyio]

# A table goes on trying: its tests have it meet shortages.
NAMES = [name for name in OPERATIONS if "table" not in name and "changes" not in name]


async def outcome_of(conn: Connection, name: str) -> bool:
    """Whether the verb was done; else it met the shortage, and says so."""
    with anyio.fail_after(20), contextlib.suppress(ResourceExhausted):
        await OPERATIONS[name](conn)
        return True
    return False


async def walk_through(
    lab: Lab, name: str, shortage: Callable[[int], contextlib.AbstractContextManager[object]]
) -> None:
    """Have the verb meet the shortage at each point where it can."""
    async with connect(netns=lab.netns) as conn:
        await create_flows(lab)
        await OPERATIONS[name](conn)
        files = OpenFiles()
        met = 0
        for spare in itertools.count():
            await conn.flush()
            await create_flows(lab)
            with shortage(spare):
                done = await outcome_of(conn, name)
            await files.closed()
            await check_connection(conn)
            await files.closed()
            if done:
                break
            met += 1
            assert spare < 50
        assert met or name in NEEDS_NOTHING


NEEDS_NOTHING = {"get", "update", "create and delete", "count", "expect", "a helper", "flush"}
"""Those that need no further descriptor."""


@pytest.mark.parametrize("name", NAMES)
async def test_descriptors(lab: Lab, name: str) -> None:
    await walk_through(lab, name, limit_descriptors)


@pytest.mark.parametrize("name", NAMES)
async def test_threads(lab: Lab, name: str) -> None:
    async def walk() -> None:
        async with connect(netns=lab.netns) as conn:
            await create_flows(lab)
        for spare in itertools.count():
            # A new connection has no threads yet; those of the event loop may be idle.
            async with connect(netns=lab.netns) as conn:
                await conn.flush()
                await create_flows(lab)
                with limit_threads(spare):
                    done = await outcome_of(conn, name)
                await check_connection(conn)
            if done:
                break
            assert spare < 50

    await walk()


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.ENOBUFS])
@pytest.mark.parametrize("name", NAMES)
async def test_memory_of_the_kernel(
    lab: Lab, name: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A send is refused: nothing of it was carried out."""
    send = NetlinkSocket.send
    left = 0

    def refused(self: NetlinkSocket, data: bytes) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(code, os.strerror(code))
        send(self, data)

    @contextlib.contextmanager
    def shortage(spare: int) -> Iterator[None]:
        nonlocal left
        left = spare + 1
        yield
        left = 0

    monkeypatch.setattr(NetlinkSocket, "send", refused)
    async with connect(netns=lab.netns) as conn:
        for spare in itertools.count():
            await conn.flush()
            await create_flows(lab)
            with shortage(spare):
                await outcome_of(conn, name)
                reached = left <= 0
            await check_connection(conn)
            if not reached:
                break
        assert spare or name == "idle stream"


# -- bulks --------------------------------------------------------------------------------------


async def test_no_outcome_of_a_bulk_is_lost(lab: Lab) -> None:
    """Whichever window can't be sent: its items say so, and all others are done."""
    for spare in range(4):
        async with connect(netns=lab.netns) as conn:
            await conn.flush()
            with limit_threads(spare):
                try:
                    outcomes = await conn.create_many(map(flows.tcp, range(1, 2000)))
                except ResourceExhausted:  # its socket is opened on a thread
                    assert await conn.count() == 0
                    continue
            assert len(outcomes) == 1999
            done = [outcome.item for outcome in outcomes if outcome.ok]
            assert {flow.orig for flow in await conn.list()} == {flow.orig for flow in done}
            for outcome in outcomes:
                assert outcome.ok or isinstance(outcome.error, ResourceExhausted)
            assert "thread" in str(outcomes[0].error) or outcomes[0].ok


async def test_a_bulk_without_a_descriptor_sends_nothing(conn: Connection) -> None:
    with limit_descriptors(0), pytest.raises(ResourceExhausted):
        await conn.create_many(map(flows.tcp, range(1, 600)))
    assert await conn.count() == 0


async def test_answers_that_cannot_be_read(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked may have been done: at once, and for whatever reason."""

    def refused(self: NetlinkSocket) -> int:
        raise OSError(errno.EPERM, "refused")

    with monkeypatch.context() as patch:
        patch.setattr(NetlinkSocket, "receive", refused)
        with anyio.fail_after(3):
            with pytest.raises(NoReply):
                await conn.count()
            outcomes = await conn.create_many(map(flows.tcp, range(1, 600)))
    assert [type(outcome.error) for outcome in outcomes] == [NoReply] * 599
    assert await conn.count() == 599
