"""Test that shortages of descriptors, threads and memory raise one error and lose no result."""

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

# A table retries after a shortage, which its own tests cover.
NAMES = [name for name in OPERATIONS if "table" not in name and "changes" not in name]


async def succeeds(conn: Connection, name: str) -> bool:
    """Return whether the method succeeded, instead of raising :exc:`ResourceExhausted`."""
    with anyio.fail_after(20), contextlib.suppress(ResourceExhausted):
        await OPERATIONS[name](conn)
        return True
    return False


async def shorten_at_each_point(
    lab: Lab, name: str, shortage: Callable[[int], contextlib.AbstractContextManager[object]]
) -> None:
    """Let the method run out of the resource at each point where it needs more of it."""
    async with connect(netns=lab.netns) as conn:
        await create_flows(lab)
        await OPERATIONS[name](conn)
        files = OpenFiles()
        failures = 0
        for spare in itertools.count():
            await conn.flush()
            await create_flows(lab)
            with shortage(spare):
                succeeded = await succeeds(conn, name)
            await files.closed()
            await check_connection(conn)
            await files.closed()
            if succeeded:
                break
            failures += 1
            assert spare < 50
        assert failures or name in NEED_NO_DESCRIPTOR


NEED_NO_DESCRIPTOR = {"get", "update", "create and delete", "count", "expect", "a helper", "flush"}
"""The methods that open no descriptor."""


@pytest.mark.parametrize("name", NAMES)
async def test_methods_without_descriptors_raise_resource_exhausted(lab: Lab, name: str) -> None:
    await shorten_at_each_point(lab, name, limit_descriptors)


@pytest.mark.parametrize("name", NAMES)
async def test_methods_without_threads_raise_resource_exhausted(lab: Lab, name: str) -> None:
    async def try_each_number() -> None:
        async with connect(netns=lab.netns) as conn:
            await create_flows(lab)
        for spare in itertools.count():
            # A new connection has no threads yet. Threads of the event loop may be idle.
            async with connect(netns=lab.netns) as conn:
                await conn.flush()
                await create_flows(lab)
                with limit_threads(spare):
                    succeeded = await succeeds(conn, name)
                await check_connection(conn)
            if succeeded:
                break
            assert spare < 50

    await try_each_number()


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.ENOBUFS])
@pytest.mark.parametrize("name", NAMES)
async def test_methods_without_kernel_memory_raise_resource_exhausted(
    lab: Lab, name: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses a send and carries out nothing of it."""
    send = NetlinkSocket.send
    sends_left = 0

    def send_or_refuse(self: NetlinkSocket, data: bytes) -> None:
        nonlocal sends_left
        sends_left -= 1
        if sends_left == 0:
            raise OSError(code, os.strerror(code))
        send(self, data)

    @contextlib.contextmanager
    def shortage(spare: int) -> Iterator[None]:
        nonlocal sends_left
        sends_left = spare + 1
        yield
        sends_left = 0

    monkeypatch.setattr(NetlinkSocket, "send", send_or_refuse)
    async with connect(netns=lab.netns) as conn:
        for spare in itertools.count():
            await conn.flush()
            await create_flows(lab)
            with shortage(spare):
                await succeeds(conn, name)
                reached = sends_left <= 0
            await check_connection(conn)
            if not reached:
                break
        assert spare or name == "idle stream"


# -- bulk operations ----------------------------------------------------------------------------


async def test_a_bulk_operation_without_threads_has_all_outcomes(lab: Lab) -> None:
    """Items of a window that cannot be sent fail. All other items succeed."""
    for spare in range(4):
        async with connect(netns=lab.netns) as conn:
            await conn.flush()
            with limit_threads(spare):
                try:
                    outcomes = await conn.create_many(map(flows.tcp, range(1, 2000)))
                except ResourceExhausted:  # the socket of the operation is opened on a thread
                    assert await conn.count() == 0
                    continue
            assert len(outcomes) == 1999
            created = [outcome.item for outcome in outcomes if outcome.ok]
            assert {flow.orig for flow in await conn.list()} == {flow.orig for flow in created}
            for outcome in outcomes:
                assert outcome.ok or isinstance(outcome.error, ResourceExhausted)
            assert "thread" in str(outcomes[0].error) or outcomes[0].ok


async def test_a_bulk_operation_without_a_descriptor_sends_nothing(conn: Connection) -> None:
    with limit_descriptors(0), pytest.raises(ResourceExhausted):
        await conn.create_many(map(flows.tcp, range(1, 600)))
    assert await conn.count() == 0


async def test_replies_that_cannot_be_read_raise_no_reply_at_once(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requests may have been carried out. The error does not wait for the reply timeout."""

    def refused(self: NetlinkSocket, *arguments: object) -> int:
        raise OSError(errno.EPERM, "refused")

    with monkeypatch.context() as patch:
        patch.setattr(NetlinkSocket, "receive", refused)
        patch.setattr(NetlinkSocket, "fill", refused)
        with anyio.fail_after(3):
            with pytest.raises(NoReply):
                await conn.count()
            outcomes = await conn.create_many(map(flows.tcp, range(1, 600)))
    assert [type(outcome.error) for outcome in outcomes] == [NoReply] * 599
    assert await conn.count() == 599
