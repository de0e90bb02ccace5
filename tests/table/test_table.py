"""The live table, on this machine's kernel."""

from __future__ import annotations

import copy
import math
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv6Address
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from support import flows
from support.lab import Lab
from support.passed import INTEGERS, Hostile, LyingIPv4, LyingIPv6, member, named
from support.waiting import until
from support.wire import assigned

from conntrack_aio import (
    Cause,
    Change,
    Changes,
    ChangeType,
    Connection,
    EncodeError,
    Flow,
    FlowTable,
    Match,
    NATRange,
    Status,
    TableMode,
    TCPInfo,
    TCPState,
    Tuple,
    connect,
)
from conntrack_aio.sandbox import traffic
from conntrack_aio.table.keys import orig_key

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]


LABELS = """
table ip t {
    chain c {
        type filter hook output priority 0
        ct label set 5
    }
}
"""
"""Entries have room for labels only if a rule uses some."""


@pytest.fixture
async def table(conn: Connection) -> AsyncIterator[FlowTable]:
    async with conn.table(reconcile=None) as table:
        yield table


def essence(flow: Flow) -> Flow:
    """Without what no event tells of."""
    same = copy.copy(flow)
    same.timeout = same.use = same.counters_orig = same.counters_reply = same.timestamp = None
    same.mark = same.mark or 0
    return same


def by_tuple(found: object) -> dict[tuple[Tuple, int | None], Flow]:
    assert isinstance(found, FlowTable | list)
    return {(flow.orig, flow.zone): essence(flow) for flow in found}


async def check(conn: Connection, table: FlowTable) -> None:
    """The table is the kernel's."""
    await table.synced()
    assert by_tuple(table) == by_tuple(await conn.list())


async def read(changes: Changes, count: int) -> list[Change]:
    with anyio.fail_after(5):
        return [await anext(changes) for _ in range(count)]


def send_one_datagram() -> None:
    """A flow with one packet, which emits one event."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", ("127.0.0.1", 9))


# -- what it has --------------------------------------------------------------------------------


async def test_what_was_there_and_what_comes(lab: Lab) -> None:
    async with connect(netns=lab.netns) as conn:
        await flows.fill(conn, map(flows.tcp, range(300)))
        async with conn.table() as table:
            assert len(table) == 300
            await conn.create(flows.udp6(), nat_src="2001:db8:5::1")
            await conn.update(flows.tcp(3), mark=7, timeout=1000, status=Status.ASSURED)
            await conn.delete(flows.tcp(4))
            await conn.create(flows.tcp(301, mark=3))
            await check(conn, table)
            assert len(table) == 301
            await conn.flush()
            await check(conn, table)
            assert len(table) == 0


async def test_look_ups(conn: Connection, table: FlowTable) -> None:
    plain = await conn.create(flows.tcp(1))
    translated = await conn.create(flows.tcp(2), nat_src="192.0.2.1")
    ping = await conn.create(Flow.icmp("10.0.0.1", "10.0.0.2", id=7, timeout=30))
    zoned = await conn.create(Flow.udp("10.0.0.1", 1, "10.0.0.2", 2, timeout=30, zone=9))
    await table.synced()
    for made in (plain, translated, ping, zoned):
        assert made.id is not None
        found = table.by_orig(made.orig, zone=made.zone)
        assert found is not None
        assert found.id == made.id
        assert table.by_reply(made.reply, zone=made.zone) is found
        assert table.get(made.reply, zone=made.zone) is found
        assert table.by_id(made.id) == [found]
        assert made in table
        assert copy.copy(made) in table
    assert ping.orig in table
    assert zoned.orig not in table
    assert table.by_orig(zoned.orig, zone=8) is None
    assert table.by_reply(plain.orig) is None
    assert table.by_orig(plain.reply) is None
    assert table.by_reply(translated.orig.inverse) is None
    assert table.by_id(1) == []
    assert "tcp" not in table
    assert flows.tcp(5) not in table
    # A number out of range is no other tuple's.
    broken = Flow.tcp("10.1.0.1", 40000, "10.2.0.0", 80, timeout=600)
    broken.orig.sport = 40000 | 1 << 16  # an assignment is not looked at
    assert broken not in table
    other = copy.copy(plain)
    other.id = 1
    assert other not in table
    assert {flow.id for flow in table} == {flow.id for flow in await conn.list()}


async def test_translating(conn: Connection, table: FlowTable) -> None:
    client, router, server = "10.0.0.1", "192.0.2.1", "198.51.100.9"
    made = await conn.create(
        Flow.tcp(client, 4000, router, 80, timeout=60),
        nat_src=NATRange.of("203.0.113.5", 6000),
        nat_dst=NATRange.of(server, 8080),
    )
    await conn.create(Flow.udp(client, 1, server, 2, timeout=60))
    await table.synced()
    inside, outside = made.orig, Tuple.tcp("203.0.113.5", 6000, server, 8080)
    assert table.translate(inside) == outside
    assert table.translate(outside) == inside
    assert table.translate(outside.inverse) == inside.inverse
    assert table.translate(inside.inverse) == outside.inverse
    plain = Tuple.udp(client, 1, server, 2)
    assert table.translate(plain) == plain
    for packet in (inside, outside, inside.inverse, outside.inverse):
        found = table.find(packet)
        assert found is not None
        assert found.id == made.id
    assert table.find(Tuple.udp(client, 1, server, 3)) is None
    assert table.translate(plain.inverse) == plain.inverse
    assert table.translate(Tuple.udp(client, 1, server, 3)) is None
    assert table.translate(inside, zone=3) is None
    assert table.translate(Tuple.icmp(client, server, id=1, type=5)) is None


async def test_real_traffic(lab: Lab, conn: Connection, table: FlowTable) -> None:
    lab.track()
    await anyio.to_thread.run_sync(lab.run, traffic.tcp_exchange)
    await anyio.to_thread.run_sync(lab.run, traffic.udp_exchange, "::1")
    await anyio.to_thread.run_sync(lab.run, traffic.ping, "127.0.0.1", 7)
    await check(conn, table)
    states = [flow.protoinfo.state for flow in table if isinstance(flow.protoinfo, TCPInfo)]
    assert states == [TCPState.TIME_WAIT]
    assert len(table) == 3
    assert table.statistics().looked_up == 0


@pytest.mark.program("nft", "nftables")
async def test_labels_that_are_cleared(lab: Lab, conn: Connection, table: FlowTable) -> None:
    """No event tells of that."""
    lab.program("nft", "-f", "-", input=LABELS)
    made = await conn.create(flows.tcp())
    await conn.set_labels(made, 5)
    await table.synced()
    assert [flow.labels for flow in table] == [1 << 5]
    await conn.set_labels(made)
    await check(conn, table)
    assert [flow.labels or 0 for flow in table] == [0]


async def test_the_part_that_matches(conn: Connection) -> None:
    await flows.fill(conn, [flows.tcp(n, mark=n % 2) for n in range(100)])
    async with conn.table(Match(mark=1), reconcile=None) as table:
        assert len(table) == 50
        changes = table.changes()
        await read(changes, 50)
        await conn.update(flows.tcp(1), mark=2)
        await conn.update(flows.tcp(2), mark=1)
        await table.synced()  # what it has not seen is looked up, and may come behind later events
        await conn.create(flows.tcp(101, mark=1))
        await conn.create(flows.tcp(102, mark=2))
        await table.synced()
        assert {flow.mark for flow in table} == {1}
        assert by_tuple(table) == by_tuple(await conn.list(Match(mark=1)))
        left, came, new = await read(changes, 3)
        assert (left.type, left.cause) == (ChangeType.REMOVED, Cause.UNMATCHED)
        assert left.flow.mark == 2
        assert (came.type, came.flow.orig) == (ChangeType.ADDED, flows.tcp(2).orig)
        assert (new.type, new.cause) == (ChangeType.ADDED, Cause.EVENT)


@pytest.mark.parametrize("match", [Match(mark=0), lambda flow: flow.mark == 0])
async def test_flows_without_a_mark(
    lab: Lab, conn: Connection, match: Match | Callable[[Flow], bool]
) -> None:
    """No event tells of a mark that is 0."""
    lab.track()
    async with conn.table(match, reconcile=None) as table:
        lab.run(send_one_datagram)
        await table.synced()
        assert [flow.mark for flow in table] == [0]


async def test_synced_beside_a_comparison(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update of a flow that was not one to have: the comparison may tell of it."""
    await conn.create(flows.tcp())
    async with (
        conn.table(Match(mark=7), reconcile=None) as table,
        anyio.create_task_group() as tasks,
    ):
        comparing, go_on = anyio.Event(), anyio.Event()

        async def read_number(setting: str) -> int:
            if table._mirror._dump is not None:
                comparing.set()
                await go_on.wait()
            return 1

        monkeypatch.setattr(table._upstream, "read_number", read_number)
        tasks.start_soon(table.reconcile)
        await comparing.wait()
        await conn.update(flows.tcp(), mark=7)

        async def wait() -> None:
            await table.synced()
            assert len(table) == 1

        tasks.start_soon(wait)
        await until(lambda: table.statistics().events_applied == 1)
        await anyio.wait_all_tasks_blocked()
        go_on.set()


async def test_a_function_as_match(conn: Connection) -> None:
    await flows.fill(conn, map(flows.tcp, range(10)))
    await flows.fill(conn, map(flows.udp6, range(10)))
    async with conn.table(lambda flow: flow.orig.src.version == 6) as table:
        assert len(table) == 10


# -- changes ------------------------------------------------------------------------------------


async def test_changes_with_their_reasons(conn: Connection, table: FlowTable) -> None:
    changes = table.changes()
    made = await conn.create(flows.tcp(mark=1))
    (appeared,) = await read(changes, 1)
    await conn.update(made, mark=2)
    (changed,) = await read(changes, 1)
    await conn.delete(made)
    (vanished,) = await read(changes, 1)
    assert [each.cause for each in (appeared, changed, vanished)] == [Cause.EVENT] * 3
    assert changed.fields == ("mark",)
    assert vanished.flow.mark == 2
    assert vanished.flow.status is not None
    assert vanished.flow.status & Status.DYING


@asynccontextmanager
async def silenced(lab: Lab) -> AsyncIterator[None]:
    """What is made inside emits no events."""
    lab.sysctl("nf_conntrack_events", 0)
    yield
    lab.sysctl("nf_conntrack_events", 1)


async def test_silent_flows_are_found_by_comparing(
    lab: Lab, conn: Connection, table: FlowTable
) -> None:
    changes = table.changes()
    async with silenced(lab):
        await conn.create(flows.tcp(1))
    await conn.create(flows.tcp(2))
    await read(changes, 1)
    await table.synced()
    assert len(table) == 1
    await table.reconcile()
    (appeared,) = await read(changes, 1)
    assert (appeared.type, appeared.cause) == (ChangeType.ADDED, Cause.RECONCILED)
    await conn.update(flows.tcp(1), mark=7)
    await table.reconcile()
    (changed,) = await read(changes, 1)
    assert (changed.type, changed.fields) == (ChangeType.CHANGED, ("mark",))
    await conn.delete(flows.tcp(1))
    await table.synced()
    assert flows.tcp(1).orig in table
    await table.reconcile()
    (vanished,) = await read(changes, 1)
    assert (vanished.type, vanished.cause) == (ChangeType.REMOVED, Cause.RECONCILED)
    await check(conn, table)


async def test_a_silent_flow_is_replaced_by_one_with_its_tuple(lab: Lab, conn: Connection) -> None:
    async with silenced(lab):
        await conn.create(flows.tcp(1, mark=5))
    async with conn.table(reconcile=None) as table:
        changes = table.changes()
        await read(changes, 1)
        await conn.delete(flows.tcp(1))
        await conn.create(flows.tcp(1, mark=6))
        vanished, appeared = await read(changes, 2)
        assert (vanished.cause, vanished.flow.mark) == (Cause.REPLACED, 5)
        assert (appeared.cause, appeared.flow.mark) == (Cause.EVENT, 6)
        assert table.statistics().unheard == 0


async def test_comparing_every_so_often(lab: Lab, conn: Connection) -> None:
    async with silenced(lab):
        await conn.create(flows.tcp(1))
        async with conn.table(reconcile=0.05) as table:
            changes = table.changes()
            await read(changes, 1)
            await conn.delete(flows.tcp(1))
            (vanished,) = await read(changes, 1)
            assert (vanished.type, vanished.cause) == (ChangeType.REMOVED, Cause.RECONCILED)


async def test_no_comparing_where_all_are_heard_of(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conntrack_aio.table.synchronizer._AUTO_INTERVAL", 0.001)
    async with conn.table() as table:
        await conn.create(flows.tcp(1))
        await table.synced()
        done = table.statistics().comparisons
        for _ in range(20):
            await anyio.sleep(0.001)
        assert table.statistics().comparisons == done


# -- events that rules keep back, and tuples that two entries have --------------------------------


@pytest.mark.program("nft", "nftables")
@pytest.mark.parametrize("reconcile", [0.2, None])
@pytest.mark.long
async def test_rules_that_keep_events_back(
    lab: Lab, conn: Connection, reconcile: float | None
) -> None:
    """A comparison finds what they hide; without one, what has ended goes after its timeout."""
    lab.program("nft", "-f", "-", input=MASK)
    lab.sysctl("nf_conntrack_udp_timeout", 1)
    async with conn.table(reconcile=reconcile) as table:
        changes = table.changes()
        lab.run(send_one_datagram)
        (appeared,) = await read(changes, 1)
        assert (appeared.type, appeared.cause) == (ChangeType.ADDED, Cause.EVENT)
        assert table.mode is TableMode.FOLLOWED
        with anyio.fail_after(20):
            vanished = await anext(changes)
        assert (vanished.type, vanished.cause) == (ChangeType.REMOVED, Cause.RECONCILED)
        with anyio.fail_after(20):
            while table.mode is TableMode.FOLLOWED:  # noqa: ASYNC110
                await anyio.sleep(0.05)
        assert table.mode is TableMode.PARTIAL
        assert table.statistics().unreported_changes == 1
        assert (table.statistics().comparisons == 1) == (reconcile is None)


MASK = """
table inet masks {
    chain out {
        type filter hook output priority -150
        ct state new ct event set new
    }
}
"""


@pytest.mark.parametrize("first", [0, 1])
async def test_two_entries_with_the_same_tuples(conn: Connection, first: int) -> None:
    """With a zone of one direction alone, the original tuple of each is the other's reply tuple.

    An update of one that the table does not have is looked up, and what is found is that one.
    """
    there = Tuple.udp("10.0.0.1", 1000, "10.0.0.2", 53)
    zoned = copy.copy(there)
    zoned.zone = 1
    pair = [
        Flow(orig=zoned, reply=there.inverse, timeout=600),
        Flow(orig=there.inverse, reply=zoned, timeout=600),
    ]
    async with conn.table(Match(mark=7), reconcile=None) as table:
        await flows.fill(conn, [pair[first], pair[1 - first]])
        # The one that was made last is found by either tuple.
        await conn.update(pair[1 - first].orig, mark=7)
        await check_marked(conn, table, 1)
        younger = next(iter(table))
        older = next(each for each in await conn.list() if each.id != younger.id)
        strangers = {1: older, 2: younger}
        found = await table._upstream.look_up({orig_key(each): each for each in strangers.values()})
        assert [each and each.id for each in found.values()] == [older.id, younger.id]


async def check_marked(conn: Connection, table: FlowTable, count: int) -> None:
    await table.synced()
    assert by_tuple(table) == by_tuple(await conn.list(Match(mark=7)))
    assert len(table) == count


# -- how far it can be trusted ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "mode", "later"),
    [
        (0, TableMode.POLLED, TableMode.POLLED),
        (1, TableMode.FOLLOWED, TableMode.FOLLOWED),
        (2, TableMode.PARTIAL, TableMode.FOLLOWED),
    ],
)
async def test_mode(
    lab: Lab, conn: Connection, setting: int, mode: TableMode, later: TableMode
) -> None:
    lab.sysctl("nf_conntrack_events", setting)
    await conn.create(flows.tcp(1))
    async with conn.table() as table:
        assert table.mode is mode
        assert table.statistics().unheard == 1
        await conn.delete(flows.tcp(1))
        await table.reconcile()
        assert table.mode is later


async def test_what_was_made_without_events_stays_silent(
    lab: Lab, conn: Connection, table: FlowTable
) -> None:
    assert table.mode is TableMode.FOLLOWED
    lab.sysctl("nf_conntrack_events", 0)
    await conn.create(flows.tcp())
    await table.reconcile()
    assert table.mode is TableMode.POLLED
    lab.sysctl("nf_conntrack_events", 1)
    await table.reconcile()
    assert table.mode is TableMode.PARTIAL
    await conn.delete(flows.tcp())
    await table.reconcile()
    assert table.mode is TableMode.FOLLOWED


async def test_events_are_enabled_when_asked_for(lab: Lab, conn: Connection) -> None:
    lab.sysctl("nf_conntrack_events", 0)
    await conn.create(flows.tcp(1))
    async with conn.table(enable_events=True) as table:
        assert lab.read_sysctl("nf_conntrack_events") == "1"
        assert table.mode is TableMode.PARTIAL, "the older flow is silent"
        await conn.create(flows.tcp(2))
        await table.synced()
        assert len(table) == 2
    assert lab.read_sysctl("nf_conntrack_events") == "1"


async def test_losses_are_repaired(conn: Connection) -> None:
    async with conn.table(receive_buffer=4096, reconcile=None) as table:
        changes = table.changes()
        for start in range(0, 2000, 200):
            await flows.fill(conn, map(flows.tcp, range(start, start + 200)))
            await conn.update_many([flows.tcp(start)], mark=9)
        await check(conn, table)
        told = table.statistics()
        assert told.resyncs > 0
        assert told.stream.events_lost > 0
        assert conn.client_statistics().resyncs == told.resyncs
        assert not table.behind
        await conn.flush()
        await check(conn, table)
        assert len(table) == 0
        assert changes.waiting == 0, "nobody read, so there is nothing left to tell"


# -- its life -----------------------------------------------------------------------------------


async def test_what_the_body_raises_leaves_as_it_is(conn: Connection) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        async with conn.table():
            raise ZeroDivisionError
    assert raised.value.__context__ is None
    assert conn.client_statistics().open_tables == conn.client_statistics().open_streams == 0


@pytest.mark.parametrize("error", [KeyError("mine"), ExceptionGroup("mine", [KeyError()])])
async def test_what_a_function_raises_leaves_as_it_is(conn: Connection, error: Exception) -> None:
    def match(flow: Flow) -> bool:
        raise error

    async with conn.table(match) as table:
        await conn.create(flows.tcp())
        with pytest.raises(type(error)) as raised:
            await anext(table.changes())
        assert raised.value.args == error.args


async def test_a_cancelled_body(conn: Connection) -> None:
    with anyio.CancelScope() as scope:
        async with conn.table() as table:
            scope.cancel()
            await table.changes().receive_batch()
    assert scope.cancelled_caught
    assert conn.client_statistics().open_tables == conn.client_statistics().open_streams == 0


async def test_any_task_may_close_it(conn: Connection) -> None:
    table = await conn.table().__aenter__()
    waiting: list[str] = []

    async def wait(name: str) -> None:
        waiting.append(name)
        with pytest.raises(anyio.ClosedResourceError):
            await anext(table.changes())
        waiting.remove(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, "one")
        tasks.start_soon(wait, "other")
        await anyio.wait_all_tasks_blocked()
        await table.aclose()
    assert not waiting
    await table.aclose()


async def test_used_before_and_after(conn: Connection) -> None:
    table = conn.table()
    with pytest.raises(anyio.ClosedResourceError, match="async with"):
        len(table)
    async with table:
        changes = table.changes()
        with pytest.raises(RuntimeError, match="entered before"):
            await table.__aenter__()
        assert len(table) == 0
    for use in (
        lambda: len(table),
        lambda: list(table),
        lambda: table.by_id(1),
        lambda: table.get(flows.tcp().orig),
        lambda: flows.tcp() in table,
        lambda: table.translate(flows.tcp().orig),
        lambda: table.mode,
        lambda: table.behind,
        lambda: table.changes(),
    ):
        with pytest.raises(anyio.ClosedResourceError, match="the table is closed"):
            use()
    for wait in (table.synced, table.reconcile, changes.receive_batch):
        with pytest.raises(anyio.ClosedResourceError, match="the table is closed"):
            await wait()
    assert table.statistics().entries == 0


async def test_it_ends_with_the_connection(lab: Lab) -> None:
    async with connect(netns=lab.netns) as conn, conn.table() as table:
        await conn.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            len(table)
    with pytest.raises(anyio.ClosedResourceError):
        conn.table()


async def test_closed_while_it_is_entered(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it has subscribed: nothing may stay open."""
    table = conn.table()

    async def read_number(setting: str) -> None:
        table.close()

    monkeypatch.setattr(table._upstream, "read_number", read_number)
    with pytest.raises(anyio.ClosedResourceError):
        await table.__aenter__()
    assert conn.client_statistics().open_streams == 0


async def asynchronous(flow: Flow) -> bool:
    return True


async def test_bad_parameters(conn: Connection) -> None:
    for wrong, error in (
        ({"match": 7}, TypeError),
        ({"match": asynchronous}, TypeError),
        ({"reconcile": "60"}, TypeError),
        ({"reconcile": "Auto"}, TypeError),
        ({"reconcile": math.nan}, ValueError),
        ({"reconcile": math.inf}, ValueError),
        ({"reconcile": 10**400}, ValueError),
        ({"reconcile": 0}, ValueError),
        ({"reconcile": -1.0}, ValueError),
        ({"receive_buffer": 0}, ValueError),
    ):
        with pytest.raises(error):
            conn.table(**wrong)  # type: ignore[arg-type]
    async with conn.table() as table:
        for look_up in (table.by_orig, table.by_reply, table.get, table.translate):
            with pytest.raises(TypeError, match="Tuple"):
                look_up("10.0.0.1")  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="pass its orig"):
                look_up(flows.tcp())  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="zone"):
                look_up(flows.tcp().orig, zone="a")  # type: ignore[arg-type]


WAYS = ("by_orig", "by_reply", "get", "find", "translate")


@pytest.mark.parametrize("make", [*INTEGERS.values()], ids=[*INTEGERS])
async def test_look_ups_by_any_kind_of_value(
    conn: Connection, table: FlowTable, make: Callable[[int], Any]
) -> None:
    made = await conn.create(Flow.udp("10.0.0.1", 1, "10.0.0.2", 2, timeout=30, zone=9))
    six = await conn.create(Flow.udp("fd00::1", 1, "fd00::2", 2, timeout=30, zone=9))
    await table.synced()
    for flow, lie in ((made, LyingIPv4), (six, LyingIPv6)):
        assert flow.id is not None
        assert [each.id for each in table.by_id(make(flow.id))] == [flow.id]
        for values in (
            {"sport": make(flow.orig.sport or 0)},
            {"dport": make(flow.orig.dport or 0), "proto": make(17)},
            {"src": lie(str(flow.orig.src)), "dst": lie(str(flow.orig.dst))},
            {"src": type(flow.orig.src)(member(int(flow.orig.src)))},
        ):
            odd = assigned(flow.orig, **values)
            reply = assigned(flow.reply, sport=make(flow.reply.sport or 0))
            for zone in (9, make(9)):
                found = table.by_orig(odd, zone=zone)
                assert found is not None
                assert found.id == flow.id
                assert table.by_reply(reply, zone=zone) is found
                assert table.get(odd, zone=zone) is table.find(odd, zone=zone) is found
                assert table.get(reply, zone=zone) is found
                assert table.translate(odd, zone=zone) == flow.orig
            within = assigned(odd, zone=make(9))
            assert table.by_orig(within) is found
            assert within in table
            assert assigned(flow, orig=odd, zone=make(9)) in table
            assert table.by_orig(odd, zone=make(8)) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("src", "10.0.0.1"),
        ("src", None),
        ("src", IPv6Address("::1")),
        ("src", Hostile(KeyError)),
        ("proto", "udp"),
        ("proto", None),
        *[
            (field, value)
            for field in ("proto", "sport", "dport", "zone", "icmp_id", "icmp_type", "icmp_code")
            for value in ("1", 1.0, -1, 1 << 16, 10**5000, Hostile(RecursionError), object())
        ],
    ],
    ids=named,
)
async def test_look_ups_by_what_can_not_be(table: FlowTable, field: str, value: object) -> None:
    broken = assigned(Tuple.icmp("10.0.0.1", "10.0.0.2", id=1), **{field: value})
    for way in WAYS:
        with pytest.raises(EncodeError) as caught:
            getattr(table, way)(broken)
        assert caught.value.path
    assert broken not in table
    assert Flow(orig=broken, reply=broken) not in table


async def test_look_ups_by_other_things(table: FlowTable) -> None:
    tuple_ = flows.tcp().orig
    for wrong in ("1", 1.0, b"1", Hostile(KeyError), object()):
        for way in WAYS:
            with pytest.raises(TypeError, match="zone must be a number"):
                getattr(table, way)(tuple_, zone=wrong)
            with pytest.raises(TypeError, match="look-up takes a Tuple"):
                getattr(table, way)(wrong)
        with pytest.raises(TypeError, match="id must be a number"):
            table.by_id(wrong)  # type: ignore[arg-type]
        assert wrong not in table
    for zone in (-1, 1 << 16, 10**5000):
        for way in WAYS:
            with pytest.raises(EncodeError, match="zone"):
                getattr(table, way)(tuple_, zone=zone)
    for id in (-1, 1 << 32, 10**5000):
        assert table.by_id(id) == []


async def test_nothing_is_left(conn: Connection) -> None:
    await conn.create(flows.tcp(1))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        async with conn.table() as table:
            await table.reconcile()
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before)  # an older one may close, too
