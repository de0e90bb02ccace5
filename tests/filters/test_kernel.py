"""Matches on this machine's kernel: dumps, deletes, events and tables select what matches."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import anyio
import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import match_strategies
from support.effort import examples
from support.event_storm import enable_labels, flow_pool
from support.kernel_release import RELEASE
from support.lab import Lab
from support.namespaces import new_network_namespace

from conntrack_aio import (
    Cause,
    ChangeType,
    Connection,
    EventStream,
    Flow,
    FlowEvent,
    Helper,
    Match,
    Status,
    TCPInfo,
    TCPState,
    UnsafeRequest,
    connect,
)
from conntrack_aio.proc_sys import set_sysctl
from conntrack_aio.sandbox import traffic
from conntrack_aio.testing import releases

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]


TUPLES = 320
FLOWS = [*flow_pool(TUPLES)]


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    """Return one namespace for all examples, whose flows have room for labels."""
    descriptor = new_network_namespace()
    lab = Lab(descriptor)
    lab.sysctl("nf_conntrack_events", 1)
    lab.sysctl("nf_conntrack_acct", 1)
    enable_labels(lab)
    yield lab
    os.close(descriptor)


async def fill(conn: Connection, numbers: Sequence[int]) -> None:
    """Create flows of all kinds, and then change some of them."""
    for number in numbers:
        flow, gateways = FLOWS[number]
        marked = attrs.evolve(flow, mark=match_strategies.MARKS[number % 6])
        await conn.create(marked, nat_src=gateways)
        if number % 3 == 0:
            await conn.update(flow, status=Status.ASSURED, labels=1 << number % 128)
        if number % 5 == 0:
            await conn.update(flow, mark=0, timeout=29)
        if number % 7 == 0 and flow.orig.proto == 6:
            await conn.update(flow, protoinfo=TCPInfo(state=TCPState.FIN_WAIT))
        if number % 11 == 0:
            await conn.delete(flow)


def all_events(stream: EventStream[FlowEvent]) -> list[FlowEvent]:
    """Return the events that have arrived."""
    events: list[FlowEvent] = []
    while batch := stream.receive_batch_nowait():
        events += batch
    return events


def key(flow: Flow) -> object:
    return flow.orig, flow.zone, flow.id


numbers = st.lists(st.integers(0, TUPLES - 1), min_size=1, max_size=25, unique=True)


def test_dumps_counts_events_and_deletes_select_what_matches(shared: Lab) -> None:
    async def check(tested: list[Match], created: list[int]) -> None:
        async with connect(netns=shared.netns) as conn:
            unfiltered = conn.events()
            streams = [conn.events(match=match) for match in tested]
            await fill(conn, created)
            events = all_events(unfiltered)
            flows = await conn.list()
            for match, stream in zip(tested, streams, strict=True):
                assert all_events(stream) == [e for e in events if match(e.flow)], match
                expected = {key(flow) for flow in flows if match(flow)}
                assert {key(flow) for flow in await conn.list(match)} == expected, match
                assert await conn.count(match) == len(expected), match
            remaining = {key(flow) for flow in flows}
            for match in tested:
                if match.always:
                    with pytest.raises(UnsafeRequest):
                        await conn.delete_matching(match)
                    continue
                deleted = {key(flow) for flow in flows if match(flow)} & remaining
                assert await conn.delete_matching(match) == len(deleted), match
                remaining -= deleted
                assert {key(flow) for flow in await conn.list()} == remaining, match
            await conn.flush()

    @settings(
        max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    @given(st.lists(match_strategies.matches("timeout"), min_size=1, max_size=8), numbers)
    def run(tested: list[Match], created: list[int]) -> None:
        anyio.run(check, tested, created)

    run()


def test_a_table_has_what_matches_after_any_changes(shared: Lab) -> None:
    """Matches on timeouts are left out, because timeouts differ from one dump to the next."""

    async def check(match: Match, before: list[int], later: list[int]) -> None:
        async with connect(netns=shared.netns) as conn:
            await fill(conn, before)
            async with conn.table(match) as table:
                await conn.update_matching(Match(proto="udp"), mark=0xCAFE)
                await fill(conn, [number for number in later if number not in before])
                # Events of living flows do not contain counters.
                counted = "packets" in str(match) or "bytes" in str(match)
                await (table.reconcile() if counted else table.synced())
                expected = {key(flow) for flow in await conn.list() if match(flow)}
                assert {key(flow) for flow in table} == expected
            await conn.flush()

    @settings(
        max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    @given(match_strategies.matches("timeout"), numbers, numbers)
    def run(match: Match, before: list[int], later: list[int]) -> None:
        anyio.run(check, match, before, later)

    run()


async def test_the_kernel_drops_all_events_outside_three_thousand_networks(
    lab: Lab, conn: Connection
) -> None:
    networks = [f"10.{n >> 4 & 255}.{(n & 15) << 4}.0/{20 + n % 13}" for n in range(3000)]
    match = Match(orig_src=networks)
    async with conn.events(match=match) as stream:
        expected = 0
        for n in (*range(0, 3000, 50), 2999):
            inside = f"10.{n >> 4 & 255}.{(n & 15) << 4}.0"
            outside = f"11.{n >> 4 & 255}.{(n & 15) << 4}.1"
            for number, source in enumerate((inside, outside)):
                flow = Flow.udp(source, 1000 + number, "192.0.2.1", 53, timeout=60)
                await conn.create(flow)
                expected += match(flow)
        assert len(all_events(stream)) == expected == 61
        statistics = stream.statistics()
        if stream.kernel_filter is not None and stream.kernel_filter.exact:
            assert statistics.datagrams_received == 61
        assert stream.kernel_filter is not None
        assert stream.kernel_filter.exact or not RELEASE.has(releases.LARGE_OPTMEM_MAX)


@pytest.mark.parametrize("memory", [20480, 4096, 100])
async def test_a_small_optmem_max_gets_a_shorter_program(
    lab: Lab, conn: Connection, memory: int
) -> None:
    """Kernels before 6.8 have 20 KiB. The library checks what the shorter program accepts."""
    try:
        lab.run(set_sysctl, "net.core.optmem_max", memory)
    except FileNotFoundError:
        pytest.skip("older kernels have one net.core.optmem_max for the whole machine")
    networks = [f"10.{n >> 4 & 255}.{(n & 15) << 4}.0/{20 + n % 13}" for n in range(3000)]
    match = Match(orig_src=networks)
    flows = [Flow.udp(f"10.{n}.16.9", 1000, "192.0.2.1", 53, timeout=60) for n in range(200)]
    async with conn.events(match=match) as stream, conn.events() as unfiltered:
        await conn.create_many(flows)
        expected = [event for event in all_events(unfiltered) if match(event.flow)]
        assert all_events(stream) == expected != []
        if memory > 100:
            assert stream.kernel_filter is not None
            assert not stream.kernel_filter.exact
            assert len(stream.kernel_filter.program) * 8 < memory
        else:
            assert stream.kernel_filter is None


async def test_dropped_events_take_no_receive_buffer(lab: Lab, conn: Connection) -> None:
    """Thousands of other events do not overrun a small buffer."""
    async with conn.events(match=Match(orig_dport=9), receive_buffer=4096) as stream:
        await conn.create_many(
            Flow.udp("10.0.0.1", number, "10.0.0.2", 53, timeout=60) for number in range(2000, 7000)
        )
        await conn.create(Flow.udp("10.0.0.1", 1, "10.0.0.2", 9, timeout=60))
        (event,) = all_events(stream)
        assert event.flow.orig.dport == 9
        assert stream.statistics().overruns == 0


FLOW = Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 80, timeout=600)
TOGGLES = {
    "mark 1": {"mark": 1},
    "mark 0x2/0x6": {"mark": 2, "mark_mask": 6},
    "status assured": {"status": Status.ASSURED},
    "label 3": {"labels": 1 << 3},
    "label 0x500000000/0x700000000": {"labels": 5 << 32},
    "state time_wait": {"protoinfo": TCPInfo(state=TCPState.TIME_WAIT)},
    "timeout >= 5000": {"timeout": 7200},
}


@pytest.mark.parametrize("text", TOGGLES)
@pytest.mark.parametrize("negated", [False, True], ids=["begins to match", "ceases to match"])
async def test_a_table_follows_flows_that_begin_or_cease_to_match(
    lab: Lab, conn: Connection, text: str, negated: bool
) -> None:
    enable_labels(lab)
    match = Match.parse(f"proto tcp and orig.dport 80 and {'not' if negated else ''} {text}")
    await conn.create(FLOW)
    async with conn.table(match) as table, table.changes() as changes:
        assert (FLOW.orig in {flow.orig for flow in table}) is negated
        if negated:
            assert (await anext(changes)).type is ChangeType.ADDED
        await conn.update(FLOW, **TOGGLES[text])  # type: ignore[arg-type]
        with anyio.fail_after(10):
            change = await anext(changes)
        if negated:
            assert (change.type, change.cause) == (ChangeType.REMOVED, Cause.UNMATCHED)
        else:
            assert change.type is ChangeType.ADDED
        await table.synced()
        assert len(table) == (0 if negated else 1)


async def test_a_table_follows_a_helper_that_is_detached(lab: Lab, conn: Connection) -> None:
    await conn.create(attrs.evolve(FLOW, helper=Helper(name="ftp")))
    ftp, not_ftp = Match(helper="ftp"), ~Match(helper="ftp")
    async with conn.table(ftp) as one, conn.table(not_ftp) as other:
        assert (len(one), len(other)) == (1, 0)
        await conn.update(FLOW, helper="")
        await one.synced()
        await other.synced()
        assert (len(one), len(other)) == (0, 1)


async def test_reconciling_finds_counters_that_were_reset(lab: Lab, conn: Connection) -> None:
    """The kernel emits no event for a reset."""
    lab.sysctl("nf_conntrack_acct", 1)
    lab.track()
    lab.run(traffic.udp_exchange, "127.0.0.1")
    async with conn.table(Match.parse("orig.packets > 0")) as table, table.changes() as changes:
        added = await anext(changes)
        await conn.get(added.flow, reset_counters=True)
        await table.reconcile()
        change = await anext(changes)
        assert (change.type, change.cause) == (ChangeType.REMOVED, Cause.UNMATCHED)
        assert len(table) == 0


async def test_flows_are_listed_by_helper_and_zone(lab: Lab, conn: Connection) -> None:
    ftp = attrs.evolve(FLOW, helper=Helper(name="ftp"), zone=7)
    await conn.create(ftp)
    await conn.create(FLOW)
    for match in (Match(helper="ftp"), Match(zone=7), Match(orig_zone=7), ~Match(zone=0)):
        assert [flow.zone for flow in await conn.list(match)] == [7]


async def test_labels_are_compared_as_a_value(lab: Lab, conn: Connection) -> None:
    """OVN stores a gateway's hardware address in the low 48 bits."""
    enable_labels(lab)
    mac, mask = 0x0A580A800102, (1 << 48) - 1
    match = Match(labels=mac, labels_mask=mask)
    labels_by_port = {1: mac, 2: mac | 1, 3: mac | 1 << 127, 4: mac >> 1, 5: 0}
    async with conn.events(match=match) as stream, conn.events() as unfiltered:
        for port, labels in labels_by_port.items():
            flow = Flow.udp("10.0.0.1", port, "10.0.0.2", 53, timeout=60)
            await conn.create(attrs.evolve(flow, labels=labels or None))
        for same in (match, Match(str(match))):
            assert sorted(flow.orig.sport or 0 for flow in await conn.list(same)) == [1, 3]
            assert await conn.count(same) == 2
        none = Match(labels=0, labels_mask=mask)
        assert [flow.orig.sport for flow in await conn.list(none)] == [5]
        expected = [event for event in all_events(unfiltered) if match(event.flow)]
        assert all_events(stream) == expected != []
        received = stream.statistics().datagrams_received
        assert received < unfiltered.statistics().datagrams_received
        assert await conn.delete_matching(match) == 2
        assert await conn.count() == 3


async def test_mapped_addresses_mean_ipv4_and_brackets_mean_ipv6(
    lab: Lab, conn: Connection
) -> None:
    """A program can create an entry that has a mapped address as IPv6."""
    v4 = Flow.udp("10.0.0.1", 1, "10.0.0.2", 53, timeout=60)
    await conn.create(v4)
    lab.program(
        *("conntrack", "-I", "-p", "udp", "-t", "60", "-s", "::ffff:10.0.0.1"),
        *("-d", "::ffff:10.0.0.2", "--sport", "2", "--dport", "53"),
    )
    for text, port in (
        ("orig.src ::ffff:10.0.0.1", 1),
        ("orig.src in ::ffff:0:0/96", 1),
        ("orig.src in ::/0", 2),
        ("orig.src in ::/64", 2),
        ("orig.src [::ffff:10.0.0.1]", 2),
    ):
        match = Match(text)
        async with conn.table(match) as table:
            assert [flow.orig.sport for flow in table] == [port], text
        assert [flow.orig.sport for flow in await conn.list(match)] == [port], text
        assert await conn.count(match) == 1
    assert await conn.delete_matching(Match(orig_src="::ffff:10.0.0.1")) == 1
    assert [flow.orig.sport for flow in await conn.list()] == [2]
    assert await conn.delete_matching(Match(orig_src="::/0")) == 1


async def test_update_matching_changes_what_matches(lab: Lab, conn: Connection) -> None:
    await conn.create_many(FLOWS[number][0] for number in range(12))
    udp = await conn.count(Match(proto="udp"))
    assert await conn.update_matching(Match(proto="udp"), mark=99) == udp > 0
    assert {flow.orig.proto for flow in await conn.list(Match(mark=99))} == {17}
    assert await conn.update_matching(Match(mark=98), mark=99) == 0


@pytest.mark.parametrize("match", [Match(proto="tcp", family=2), Match(proto="udp")], ids=str)
async def test_counters_of_what_matches_are_reset(lab: Lab, conn: Connection, match: Match) -> None:
    await conn.create_many(FLOWS[number][0] for number in range(12))
    assert len(await conn.list(match, reset_counters=True)) == await conn.count(match) > 0


async def test_a_table_receives_no_events_of_flows_that_can_never_match(
    lab: Lab, conn: Connection
) -> None:
    """The kernel drops them before they are queued."""
    async with conn.table(Match(orig_dport=80, mark=1)) as table:
        await conn.create_many(
            Flow.udp("10.0.0.1", number, "10.0.0.2", 53, timeout=60) for number in range(2000, 2500)
        )
        await conn.create(attrs.evolve(FLOW, mark=1))
        await table.synced()
        assert [flow.orig for flow in table] == [FLOW.orig]
        assert table.statistics().events_applied == 1


async def test_an_argument_that_is_not_a_match_is_refused(conn: Connection) -> None:
    with pytest.raises(TypeError, match="match must be a Match; got 'proto tcp'"):
        conn.events(match="proto tcp")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="match must be a Match; got 'proto tcp'"):
        await conn.count("proto tcp")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="match must be a Match; got 'proto tcp'"):
        await conn.update_matching("proto tcp", mark=1)  # type: ignore[arg-type]
