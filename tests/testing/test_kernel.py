"""The fake kernel has a table that tests change, and emits the events of the changes."""

from __future__ import annotations

import threading

import anyio
import attrs
import pytest
from support import flows

import conntrack_aio
from conntrack_aio import (
    Counters,
    DecodeError,
    EventsLost,
    EventStream,
    EventType,
    ExpectPolicy,
    Flow,
    FlowEvent,
    Helper,
    SeqAdj,
    Status,
    SynProxy,
    TCPInfo,
    TCPState,
    Timestamp,
    Tuple,
    UnknownAttribute,
    UserspaceHelper,
)
from conntrack_aio.testing import FakeKernel
from conntrack_aio.uapi.nfnetlink import NFNLGRP

pytestmark = pytest.mark.anyio

C = Status.CONFIRMED
ALWAYS = {"nf_conntrack_events": 1}


async def take(stream: EventStream[FlowEvent], count: int = 1) -> list[FlowEvent]:
    with anyio.fail_after(5):
        return [await anext(stream) for _ in range(count)]


# -- the table --------------------------------------------------------------------------------


async def test_flows_are_those_of_a_dump() -> None:
    kernel = FakeKernel(flows=map(flows.tcp, range(200)), sysctls={"nf_conntrack_acct": 1})
    async with kernel.connect() as conn:
        assert await conn.list() == kernel.flows
        assert await conn.count() == 200
        await conn.delete(kernel.flows[17])
        created = await conn.create(flows.udp6())
        assert len(kernel.flows) == 200
        assert attrs.evolve(created, use=1) in kernel.flows


def test_the_order_of_the_table_is_scattered_and_reproducible() -> None:
    first, second = (FakeKernel(flows=map(flows.tcp, range(50))).flows for _ in range(2))
    assert first == second
    assert [flow.orig for flow in first] != [flows.tcp(number).orig for number in range(50)]


def test_an_added_flow_keeps_its_fields() -> None:
    flow = Flow.tcp("10.0.0.1", 1, "10.0.0.2", 2, timeout=77, mark=5, zone=9)
    flow.counters_orig = Counters(packets=3, bytes=180)
    flow.labels = 1 << 100
    flow.helper = Helper(name="custom", info=b"data")
    flow.seqadj_reply = SeqAdj(correction_pos=1, offset_before=-1, offset_after=2)
    flow.synproxy = SynProxy(isn=1, its=2, tsoff=3)
    flow.timestamp = Timestamp(start=1_700_000_000_000_000_000)
    flow.id = 0xABCDEF
    flow.unknown = (UnknownAttribute((99,), b"newer"),)
    added = FakeKernel().add(flow)
    assert (added.timeout, added.mark, added.zone, added.id) == (77, 5, 9, 0xABCDEF)
    assert added.counters_orig == flow.counters_orig
    assert added.counters_reply == Counters(packets=0, bytes=0)
    assert (added.labels, added.helper, added.synproxy) == (1 << 100, flow.helper, flow.synproxy)
    assert added.seqadj_reply == flow.seqadj_reply
    assert (added.timestamp, added.unknown) == (flow.timestamp, flow.unknown)
    assert added.status == C | Status.SEQ_ADJUST
    assert isinstance(added.protoinfo, TCPInfo)
    assert added.protoinfo.state is TCPState.ESTABLISHED


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Tuple.udp("10.0.0.2", 2, "10.0.0.1", 1), C),
        (Tuple.udp("10.0.0.2", 2, "9.9.9.9", 1), C | Status.SRC_NAT | Status.NAT_DONE_MASK),
        (Tuple.udp("10.0.0.2", 7, "10.0.0.1", 1), C | Status.DST_NAT | Status.NAT_DONE_MASK),
    ],
)
def test_the_status_of_an_added_flow_follows_its_tuples(reply: Tuple, status: Status) -> None:
    orig = Tuple.udp("10.0.0.1", 1, "10.0.0.2", 2)
    assert FakeKernel().add(Flow(orig=orig, reply=reply)).status == status


def test_invalid_flows_and_arguments_are_refused() -> None:
    kernel = FakeKernel(flows=[flows.tcp(1)])
    with pytest.raises(ValueError, match="has the tuple"):
        kernel.add(flows.tcp(1))
    with pytest.raises(ValueError, match="master"):
        kernel.add(attrs.evolve(flows.tcp(2), master=flows.tcp(3).orig))
    with pytest.raises(ValueError, match="must be that of protocol 17"):
        kernel.add(attrs.evolve(flows.udp6(), protoinfo=TCPInfo(state=1)))
    assert len(kernel.flows) == 1
    for call in (kernel.remove, kernel.change):
        with pytest.raises(LookupError):
            call(flows.tcp(9))
    with pytest.raises(ValueError, match="unknown names"):
        FakeKernel(without=["no such part"])  # type: ignore[list-item]


def test_flows_are_found_by_zone_and_direction() -> None:
    kernel = FakeKernel(flows=[flows.tcp(1)])
    zoned = kernel.add(attrs.evolve(flows.tcp(1), zone=5))
    plain = flows.tcp(2)
    one_direction = kernel.add(attrs.evolve(plain, orig=attrs.evolve(plain.orig, zone=6)))
    assert one_direction.orig.zone == 6
    kernel.remove(zoned)
    kernel.change(plain.reply, mark=3)
    kernel.remove(one_direction)
    assert [flow.zone for flow in kernel.flows] == [None]


# -- events of packets ------------------------------------------------------------------------


async def test_changes_by_packets_emit_events() -> None:
    """The sequence is that of a TCP connection, as observed on Linux."""
    kernel = FakeKernel(sysctls={"nf_conntrack_acct": 1})
    async with kernel.connect() as conn, conn.events() as stream:
        flow = kernel.add(flows.tcp(1, timeout=120))
        kernel.change(flow, protoinfo=TCPInfo(state=2), status=Status.SEEN_REPLY, timeout=60)
        kernel.change(flow, counters_orig=Counters(packets=2, bytes=120))  # emits no event
        kernel.change(flow, timeout=432000)  # emits no event
        kernel.change(flow, status=Status.SEEN_REPLY | Status.ASSURED)
        kernel.change(flow, mark=7)
        kernel.remove(flow)
        new, reply, assured, mark, destroy = await take(stream, 5)
    assert {event.port_id for event in (new, reply, assured, mark, destroy)} == {0}
    assert isinstance(new.flow.protoinfo, TCPInfo)
    assert new.flow.protoinfo.state is TCPState.ESTABLISHED
    assert new.flow.mark is None
    assert isinstance(reply.flow.protoinfo, TCPInfo)
    assert reply.flow.protoinfo.state is TCPState.SYN_RECV
    assert (assured.flow.protoinfo, assured.flow.timeout) == (None, 432000)
    assert assured.flow.status == C | Status.SEEN_REPLY | Status.ASSURED
    assert (mark.flow.mark, mark.flow.counters_orig) == (7, None)
    assert (destroy.flow.mark, destroy.flow.protoinfo) == (7, TCPInfo(state=2))
    assert destroy.flow.counters_orig == Counters(packets=2, bytes=120)


async def test_a_flow_with_a_master_emits_a_new_event() -> None:
    kernel = FakeKernel(flows=[flows.tcp(1)])
    async with kernel.connect() as conn, conn.events() as stream:
        child = kernel.add(attrs.evolve(flows.tcp(2), master=flows.tcp(1).orig))
        (event,) = await take(stream)
    assert (event.type, event.flow.master) == (EventType.NEW, flows.tcp(1).orig)
    assert child.status == C | Status.EXPECTED


async def test_advancing_the_clock_ends_expired_flows() -> None:
    kernel = FakeKernel(flows=[flows.tcp(1, timeout=10), flows.tcp(2, timeout=20)], sysctls=ALWAYS)
    async with kernel.connect() as conn, conn.events() as stream:
        kernel.advance(9.5)
        assert sorted(flow.timeout or 0 for flow in kernel.flows) == [0, 10]
        kernel.advance(0.5)
        (event,) = await take(stream)
        assert [flow.orig for flow in kernel.flows] == [flows.tcp(2).orig]
    assert (event.type, event.flow.orig) == (EventType.DESTROY, flows.tcp(1).orig)
    assert (event.flow.timeout, event.port_id) == (None, 0)
    with pytest.raises(ValueError, match="must not be negative"):
        kernel.advance(-1)


async def test_labels_can_be_set_if_a_rule_uses_them() -> None:
    kernel = FakeKernel()
    async with kernel.connect() as conn:
        kernel.labels_used = True
        flow = await conn.create(flows.tcp())
        await conn.update(flow, labels=0b101, labels_mask=0b111)
        assert kernel.labels_used
        assert kernel.flows[0].labels == 0b101


async def test_counters_are_reset_when_read() -> None:
    flow = flows.tcp()
    flow.counters_orig = Counters(packets=3, bytes=180)
    kernel = FakeKernel(flows=[flow])
    async with kernel.connect() as conn:
        before = await conn.get(flow.orig, reset_counters=True)
        after = await conn.get(flow.orig)
    assert before.counters_orig == flow.counters_orig
    assert after.counters_orig == Counters(packets=0, bytes=0)
    verbs = [request.verb for request in kernel.requests]
    assert verbs == ["count", "get and reset", "get"]


async def test_a_flow_may_have_a_user_space_helper() -> None:
    kernel = FakeKernel()
    policy = ExpectPolicy(name="x", expect_max=1, expect_timeout=60)
    helper = UserspaceHelper(name="custom", family=2, proto=6, policies=(policy,))
    async with kernel.connect() as conn:
        with pytest.raises(conntrack_aio.NotSupported):
            await conn.create(attrs.evolve(flows.tcp(), helper=Helper(name="custom")))
        await conn.helpers.create(helper)
        await conn.create(attrs.evolve(flows.tcp(), helper=Helper(name="custom")))
        assert [listed.key for listed in kernel.helpers] == [helper.key]
        kernel.helpers_in_use.add(helper.key)
        with pytest.raises(conntrack_aio.ResourceBusy):
            await conn.helpers.delete(*helper.key)
    verbs = [request.verb for request in kernel.requests]
    assert "create helper" in verbs
    assert kernel.requests[-1].attributes["name"] == "custom"
    without_helpers = FakeKernel(without=["cthelper"])
    async with without_helpers.connect() as conn:
        with pytest.raises(conntrack_aio.NotSupported):
            await conn.helpers.list()


async def test_a_rule_selects_the_events_of_new_flows() -> None:
    """Such flows emit events even if ``nf_conntrack_events`` is 0."""
    kernel = FakeKernel(sysctls={"nf_conntrack_events": 0})
    assert kernel.event_mask is None
    kernel.event_mask = ["destroy", "mark"]
    assert kernel.event_mask == {"destroy", "mark"}
    with pytest.raises(ValueError, match="'end'"):
        kernel.event_mask = ["end"]
    async with kernel.connect() as conn:
        stream = conn.events()
        kernel.add(flows.tcp(1))
        kernel.change(flows.tcp(1).orig, status=Status.CONFIRMED | Status.SEEN_REPLY)
        kernel.change(flows.tcp(1).orig, mark=7)
        kernel.event_mask = None
        kernel.add(flows.tcp(2))
        kernel.remove(flows.tcp(2).orig)
        kernel.remove(flows.tcp(1).orig)
        events = [await anext(stream) for _ in range(2)]
    assert [event.type for event in events] == [EventType.UPDATE, EventType.DESTROY]
    assert {event.flow.orig for event in events} == {flows.tcp(1).orig}


# -- emitted events ---------------------------------------------------------------------------


async def test_emitted_events_are_received_unchanged() -> None:
    kernel = FakeKernel()
    events = [
        FlowEvent(type=kind, flow=flows.tcp(number), port_id=number, timestamp=number)
        for number, kind in enumerate(EventType, 1)
    ]
    async with kernel.connect() as conn, conn.events() as stream:
        for event in events:
            kernel.emit(event)
        assert await take(stream, 3) == events
    with pytest.raises(ValueError, match="group"):
        kernel.emit(b"")


async def test_a_forged_event_is_ignored_and_counted() -> None:
    kernel = FakeKernel()
    async with kernel.connect() as conn, conn.events() as stream:
        forged = FlowEvent(type=EventType.NEW, flow=flows.tcp(1))
        kernel.emit(forged, sender=4711)
        kernel.emit(flows.new_event(flows.tcp(2)), group=NFNLGRP.CONNTRACK_NEW)
        (event,) = await take(stream)
        assert event.flow.orig == flows.tcp(2).orig
        assert conn.client_statistics().forged == 1


async def test_only_streams_of_all_namespaces_get_events_of_others() -> None:
    kernel = FakeKernel()
    async with (
        kernel.connect() as conn,
        conn.events() as own_stream,
        conn.events(all_netns=True) as all_stream,
    ):
        kernel.emit(FlowEvent(type=EventType.NEW, flow=flows.tcp(1)), nsid=5)
        kernel.emit(FlowEvent(type=EventType.NEW, flow=flows.tcp(2)))
        foreign, own = await take(all_stream, 2)
        (only,) = await take(own_stream)
    assert [(event.nsid, event.netns) for event in (foreign, own)] == [(5, None), (None, None)]
    assert foreign.flow.orig == flows.tcp(1).orig
    assert own.flow == only.flow


async def test_only_members_of_a_group_get_its_events() -> None:
    kernel = FakeKernel(sysctls=ALWAYS)
    async with kernel.connect() as conn, conn.events(EventType.DESTROY) as stream:
        kernel.remove(kernel.add(flows.tcp()))
        kernel.emit(b"\1", group=NFNLGRP.CONNTRACK_DESTROY)
        (event,) = await take(stream)
        assert event.type is EventType.DESTROY
        with pytest.raises(DecodeError):
            await anext(stream)


async def test_an_overrun_drops_events_until_the_queue_is_empty() -> None:
    kernel = FakeKernel()
    async with kernel.connect() as conn, conn.events() as stream:
        kernel.add(flows.tcp(1))
        kernel.overrun(lost=3)
        kernel.add(flows.tcp(2))  # dropped too, since an event is queued
        (event,) = await take(stream)
        assert event.flow.orig == flows.tcp(1).orig
        with pytest.raises(EventsLost) as loss:
            await anext(stream)
        kernel.add(flows.tcp(3))
        (event,) = await take(stream)
        assert event.flow.orig == flows.tcp(3).orig
    assert loss.value.lost == 4


async def test_events_beyond_the_receive_buffer_are_dropped() -> None:
    kernel = FakeKernel()
    async with kernel.connect(receive_buffer=6400) as conn, conn.events() as stream:
        for number in range(25):
            kernel.add(flows.tcp(number))
        assert len(await take(stream, 10)) == 10
        with pytest.raises(EventsLost, match="15 events"):
            await anext(stream)


async def test_an_event_from_another_thread_wakes_a_waiting_task() -> None:
    """The event loop waits for the descriptor of the fake socket."""
    kernel = FakeKernel()
    async with (
        kernel.connect() as conn,
        conn.events() as stream,
        anyio.create_task_group() as tasks,
    ):
        seen: list[FlowEvent] = []

        async def wait() -> None:
            seen.extend(await take(stream))

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        thread = threading.Thread(target=kernel.add, args=(flows.tcp(),))
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
    assert len(seen) == 1
