"""Statistics, and the two special tables."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

import anyio
import anyio.to_thread
import pytest
from support import flows
from support.lab import Lab
from support.scripted_kernel import ScriptedKernel

from conntrack_aio import Connection, CPUStatistics, DecodeError, Match, NoReply
from conntrack_aio.netlink import messages
from conntrack_aio.sandbox import traffic
from conntrack_aio.testing import FakeSocket, ReceivedRequest
from conntrack_aio.uapi.netlink import AF_NETLINK, NETLINK, NETLINK_OPTION, SOL_NETLINK
from conntrack_aio.uapi.nfnetlink import NFNLGRP

pytestmark = [pytest.mark.kernels, pytest.mark.anyio]


@pytest.mark.kernel
async def test_global_statistics(lab: Lab, conn: Connection) -> None:
    await flows.fill(conn, map(flows.tcp, range(10)))
    told = await conn.table_statistics()
    assert told.entries == await conn.count() == 10
    assert told.max_entries == int(lab.read_sysctl("nf_conntrack_max"))


@pytest.mark.kernel
async def test_the_statistics_of_each_processor(lab: Lab, conn: Connection) -> None:
    lab.track()
    await flows.fill(conn, map(flows.tcp, range(10)))
    await flows.fill(conn, map(flows.tcp, range(3)))  # there already: not inserted
    await anyio.to_thread.run_sync(lab.run, traffic.udp_exchange)
    told = await conn.cpu_statistics()
    assert [each.cpu for each in told] == list(range(len(told)))
    assert sum(each.insert or 0 for each in told) == 10
    for each in told:
        assert (each.drop, each.early_drop) == (0, 0)
        assert (each.searched, each.new, each.ignore, each.delete) == (None,) * 4


ELSEWHERE = {"clashres": "clash_resolve", "chaintoolong": "chain_toolong"}
"""What conntrack(8) calls them."""


@pytest.mark.kernel
@pytest.mark.program("conntrack", "conntrack")
async def test_conntrack8_tells_the_same(lab: Lab, conn: Connection) -> None:
    lab.track()
    await flows.fill(conn, map(flows.tcp, range(10)))
    await anyio.to_thread.run_sync(lab.run, traffic.ping)
    printed = [
        dict(word.split("=") for word in line.split()[1:] if "=" in word)
        for line in lab.program("conntrack", "-S").splitlines()
    ]
    told = await conn.cpu_statistics()
    assert len(printed) == len(told)
    for theirs, ours in zip(printed, told, strict=True):
        for name, value in theirs.items():
            assert int(value) == getattr(ours, ELSEWHERE.get(name, name)), name


def cpu_message(seq: int, cpu: int, attributes: bytes, kind: int = 0x104) -> bytes:
    return messages.pack(kind, 2, seq, struct.pack("!BBH", 0, 0, cpu) + attributes)


async def test_a_counter_that_the_kernel_lacks_is_absent_and_not_zero() -> None:
    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        assert asked.type == 0x104
        assert asked.flags & 0x300 == 0x300  # without DUMP, no kernel tells anything
        found = struct.pack("=HH", 8, 2) + struct.pack("!I", 7)
        socket.deliver(cpu_message(asked.seq, 0, found) + cpu_message(asked.seq, 300, b""))
        socket.done(asked)

    async with ScriptedKernel(script).connect() as conn:
        assert await conn.cpu_statistics() == [
            CPUStatistics(cpu=0, found=7),
            CPUStatistics(cpu=300),
        ]


def acknowledge(socket: FakeSocket, asked: ReceivedRequest) -> bool:
    socket.ack(asked)
    return True


async def test_statistics_that_are_none() -> None:
    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.deliver(cpu_message(asked.seq, 0, b"", kind=0x100))
        socket.done(asked)

    kernel = ScriptedKernel(script)
    async with kernel.connect() as conn:
        with pytest.raises(DecodeError, match="not the statistics of a processor"):
            await conn.cpu_statistics()
        kernel.on_request = acknowledge
        with pytest.raises(NoReply, match="read the statistics"):
            await conn.table_statistics()


# -- dying and unconfirmed ----------------------------------------------------------------------


@pytest.fixture
def deaf(lab: Lab) -> Iterator[socket.socket]:
    """A listener that insists on destroy events and does not read them."""
    listener = lab.run(_listen)
    yield listener
    listener.close()


def _listen() -> socket.socket:
    listener = socket.socket(AF_NETLINK, socket.SOCK_RAW, NETLINK.NETFILTER)
    listener.bind((0, 0))  # one without an address is passed over
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    listener.setsockopt(SOL_NETLINK, NETLINK_OPTION.BROADCAST_ERROR, 1)
    listener.setsockopt(SOL_NETLINK, NETLINK_OPTION.ADD_MEMBERSHIP, NFNLGRP.CONNTRACK_DESTROY)
    return listener


@pytest.mark.kernel
async def test_dying_are_those_whose_end_could_not_be_told(
    conn: Connection, deaf: socket.socket
) -> None:
    await flows.fill(conn, (flows.tcp(number, mark=number % 2) for number in range(100)))
    await flows.fill(conn, map(flows.udp6, range(100)))
    assert [flow async for flow in conn.dying()] == []
    await conn.flush()
    dying = [flow async for flow in conn.dying()]
    assert 100 < len(dying) < 200
    # They are gone from the table, and still counted.
    assert await conn.list() == []
    assert await conn.count() == len(dying)
    odd = [flow async for flow in conn.dying(Match(mark=1))]
    # The kernel tries them again meanwhile, in turn; and their time runs on.
    assert {flow.key for flow in odd} == {flow.key for flow in dying if flow.mark == 1}
    with anyio.fail_after(10):
        while await conn.count():
            # Of the overrun; or all are told, and the kernel lets them go a moment later.
            with contextlib.suppress(OSError):
                deaf.recv(4096, socket.MSG_DONTWAIT)


@pytest.mark.kernel
async def test_unconfirmed_is_empty_since_5_19(conn: Connection) -> None:
    await flows.fill(conn, map(flows.tcp, range(10)))
    assert [flow async for flow in conn.unconfirmed()] == []


async def test_unconfirmed_of_an_older_kernel() -> None:
    def script(socket: FakeSocket, asked: ReceivedRequest) -> None:
        assert asked.type in {0x106, 0x107}
        assert asked.flags & 0x300 == 0x300
        socket.reply(asked, 0x100, flows.message_payload(flows.tcp(mark=1)))
        socket.done(asked)

    async with ScriptedKernel(script).connect() as conn:
        assert [flow async for flow in conn.unconfirmed()] == [flows.tcp(mark=1)]
        assert [flow async for flow in conn.dying(Match(mark=1))] == [flows.tcp(mark=1)]
        assert [flow async for flow in conn.unconfirmed(Match(mark=2))] == []
        with pytest.raises(TypeError):
            conn.dying("all")  # type: ignore[arg-type]
