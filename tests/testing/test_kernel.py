"""The fake kernel as a test uses it: the table, events by hand, connecting, what was asked."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading

import anyio
import attrs
import pytest
from support import flows
from support.lab import Lab
from support.release import release_text
from support.waiting import until

import conntrack_aio
from conntrack_aio import (
    Counters,
    DecodeError,
    EventMode,
    EventsLost,
    EventStream,
    EventType,
    ExpectPolicy,
    Flow,
    FlowEvent,
    Helper,
    Match,
    NATRange,
    NetNS,
    PermissionDenied,
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
from conntrack_aio.testing import FakeKernel, FakeSocket, ReceivedRequest
from conntrack_aio.uapi.nfnetlink import NFNLGRP

pytestmark = pytest.mark.anyio

C = Status.CONFIRMED
ALWAYS = {"nf_conntrack_events": 1}


async def take(stream: EventStream[FlowEvent], count: int = 1) -> list[FlowEvent]:
    with anyio.fail_after(5):
        return [await anext(stream) for _ in range(count)]


# -- the table --------------------------------------------------------------------------------


async def test_the_table_is_what_a_dump_tells() -> None:
    kernel = FakeKernel(flows=map(flows.tcp, range(200)), sysctls={"nf_conntrack_acct": 1})
    async with kernel.connect() as conn:
        assert await conn.list() == kernel.flows
        assert await conn.count() == 200
        await conn.delete(kernel.flows[17])
        made = await conn.create(flows.udp6())
        assert len(kernel.flows) == 200
        assert attrs.evolve(made, use=1) in kernel.flows


def test_the_order_is_not_that_of_making_and_always_the_same() -> None:
    one, two = (FakeKernel(flows=map(flows.tcp, range(50))).flows for _ in range(2))
    assert one == two
    assert [flow.orig for flow in one] != [flows.tcp(number).orig for number in range(50)]


def test_a_flow_is_as_it_was_given() -> None:
    given = Flow.tcp("10.0.0.1", 1, "10.0.0.2", 2, timeout=77, mark=5, zone=9)
    given.counters_orig = Counters(packets=3, bytes=180)
    given.labels = 1 << 100
    given.helper = Helper(name="own", info=b"data")
    given.seqadj_reply = SeqAdj(correction_pos=1, offset_before=-1, offset_after=2)
    given.synproxy = SynProxy(isn=1, its=2, tsoff=3)
    given.timestamp = Timestamp(start=1_700_000_000_000_000_000)
    given.id = 0xABCDEF
    given.unknown = (UnknownAttribute((99,), b"newer"),)
    told = FakeKernel().add(given)
    assert (told.timeout, told.mark, told.zone, told.id) == (77, 5, 9, 0xABCDEF)
    assert told.counters_orig == given.counters_orig
    assert told.counters_reply == Counters(packets=0, bytes=0)
    assert (told.labels, told.helper, told.synproxy) == (1 << 100, given.helper, given.synproxy)
    assert told.seqadj_reply == given.seqadj_reply
    assert (told.timestamp, told.unknown) == (given.timestamp, given.unknown)
    assert told.status == C | Status.SEQ_ADJUST
    assert isinstance(told.protoinfo, TCPInfo)
    assert told.protoinfo.state is TCPState.ESTABLISHED


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Tuple.udp("10.0.0.2", 2, "10.0.0.1", 1), C),
        (Tuple.udp("10.0.0.2", 2, "9.9.9.9", 1), C | Status.SRC_NAT | Status.NAT_DONE_MASK),
        (Tuple.udp("10.0.0.2", 7, "10.0.0.1", 1), C | Status.DST_NAT | Status.NAT_DONE_MASK),
    ],
)
def test_a_status_that_fits_the_tuples(reply: Tuple, status: Status) -> None:
    orig = Tuple.udp("10.0.0.1", 1, "10.0.0.2", 2)
    assert FakeKernel().add(Flow(orig=orig, reply=reply)).status == status


def test_flows_that_can_not_be() -> None:
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
        FakeKernel(without=["gravity"])  # type: ignore[list-item]


def test_zones_and_directions_find_a_flow() -> None:
    kernel = FakeKernel(flows=[flows.tcp(1)])
    here = attrs.evolve(flows.tcp(1), zone=5)
    one = kernel.add(here)
    sided = flows.tcp(2)
    two = kernel.add(attrs.evolve(sided, orig=attrs.evolve(sided.orig, zone=6)))
    assert two.orig.zone == 6
    kernel.remove(one)
    kernel.change(sided.reply, mark=3)
    kernel.remove(two)
    assert [flow.zone for flow in kernel.flows] == [None]


# -- events of packets ------------------------------------------------------------------------


async def test_what_packets_do() -> None:
    """The states of a connection, as they were observed."""
    kernel = FakeKernel(sysctls={"nf_conntrack_acct": 1})
    async with kernel.connect() as conn, conn.events() as stream:
        flow = kernel.add(flows.tcp(1, timeout=120))
        kernel.change(flow, protoinfo=TCPInfo(state=2), status=Status.SEEN_REPLY, timeout=60)
        kernel.change(flow, counters_orig=Counters(packets=2, bytes=120))  # tells nothing
        kernel.change(flow, timeout=432000)  # nor does this
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


async def test_a_related_flow() -> None:
    kernel = FakeKernel(flows=[flows.tcp(1)])
    async with kernel.connect() as conn, conn.events() as stream:
        child = kernel.add(attrs.evolve(flows.tcp(2), master=flows.tcp(1).orig))
        (event,) = await take(stream)
    assert (event.type, event.flow.master) == (EventType.NEW, flows.tcp(1).orig)
    assert child.status == C | Status.EXPECTED


async def test_time() -> None:
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


async def test_labels_need_a_rule_that_uses_them() -> None:
    kernel = FakeKernel()
    async with kernel.connect() as conn:
        kernel.labels_used = True
        flow = await conn.create(flows.tcp())
        await conn.update(flow, labels=0b101, labels_mask=0b111)
        assert kernel.labels_used
        assert kernel.flows[0].labels == 0b101


async def test_counters_are_read_and_reset() -> None:
    flow = flows.tcp()
    flow.counters_orig = Counters(packets=3, bytes=180)
    kernel = FakeKernel(flows=[flow])
    async with kernel.connect() as conn:
        read = await conn.get(flow.orig, reset_counters=True)
        again = await conn.get(flow.orig)
    assert read.counters_orig == flow.counters_orig
    assert again.counters_orig == Counters(packets=0, bytes=0)
    verbs = [asked.verb for asked in kernel.requests]
    assert verbs == ["count", "get and reset", "get"]


async def test_a_flow_with_a_helper_that_is_a_program() -> None:
    kernel = FakeKernel()
    policy = ExpectPolicy(name="x", expect_max=1, expect_timeout=60)
    mine = UserspaceHelper(name="mine", family=2, proto=6, policies=(policy,))
    async with kernel.connect() as conn:
        with pytest.raises(conntrack_aio.NotSupported):
            await conn.create(attrs.evolve(flows.tcp(), helper=Helper(name="mine")))
        await conn.helpers.create(mine)
        await conn.create(attrs.evolve(flows.tcp(), helper=Helper(name="mine")))
        assert [helper.key for helper in kernel.helpers] == [mine.key]
        kernel.helpers_in_use.add(mine.key)
        with pytest.raises(conntrack_aio.ResourceBusy):
            await conn.helpers.delete(*mine.key)
    verbs = [asked.verb for asked in kernel.requests]
    assert "create helper" in verbs
    assert kernel.requests[-1].attributes["name"] == "mine"
    lacking = FakeKernel(without=["cthelper"])
    async with lacking.connect() as conn:
        with pytest.raises(conntrack_aio.NotSupported):
            await conn.helpers.list()


# -- events by hand ---------------------------------------------------------------------------


async def test_any_event() -> None:
    kernel = FakeKernel()
    told = [
        FlowEvent(type=kind, flow=flows.tcp(number), port_id=number, timestamp=number)
        for number, kind in enumerate(EventType, 1)
    ]
    async with kernel.connect() as conn, conn.events() as stream:
        for event in told:
            kernel.emit(event)
        assert await take(stream, 3) == told
    with pytest.raises(ValueError, match="group"):
        kernel.emit(b"")


async def test_a_forger_is_not_believed() -> None:
    kernel = FakeKernel()
    async with kernel.connect() as conn, conn.events() as stream:
        forged = FlowEvent(type=EventType.NEW, flow=flows.tcp(1))
        kernel.emit(forged, sender=4711)
        kernel.emit(flows.new_event(flows.tcp(2)), group=NFNLGRP.CONNTRACK_NEW)
        (event,) = await take(stream)
        assert event.flow.orig == flows.tcp(2).orig
        assert conn.client_statistics().forged == 1


async def test_events_of_other_namespaces() -> None:
    kernel = FakeKernel()
    async with (
        kernel.connect() as conn,
        conn.events() as own,
        conn.events(all_netns=True) as everywhere,
    ):
        kernel.emit(FlowEvent(type=EventType.NEW, flow=flows.tcp(1)), nsid=5)
        kernel.emit(FlowEvent(type=EventType.NEW, flow=flows.tcp(2)))
        there, here = await take(everywhere, 2)
        (only,) = await take(own)
    assert [(event.nsid, event.netns) for event in (there, here)] == [(5, None), (None, None)]
    assert there.flow.orig == flows.tcp(1).orig
    assert here.flow == only.flow


async def test_only_members_of_a_group_hear() -> None:
    kernel = FakeKernel(sysctls=ALWAYS)
    async with kernel.connect() as conn, conn.events(EventType.DESTROY) as stream:
        kernel.remove(kernel.add(flows.tcp()))
        kernel.emit(b"\1", group=NFNLGRP.CONNTRACK_DESTROY)
        (event,) = await take(stream)
        assert event.type is EventType.DESTROY
        with pytest.raises(DecodeError):
            await anext(stream)


async def test_an_overrun() -> None:
    kernel = FakeKernel()
    async with kernel.connect() as conn, conn.events() as stream:
        kernel.add(flows.tcp(1))
        kernel.overrun(lost=3)
        kernel.add(flows.tcp(2))  # lost too: one still waits
        (event,) = await take(stream)
        assert event.flow.orig == flows.tcp(1).orig
        with pytest.raises(EventsLost) as loss:
            await anext(stream)
        kernel.add(flows.tcp(3))
        (event,) = await take(stream)
        assert event.flow.orig == flows.tcp(3).orig
    assert loss.value.lost == 4


async def test_more_events_than_the_buffer_holds() -> None:
    kernel = FakeKernel()
    async with kernel.connect(receive_buffer=6400) as conn, conn.events() as stream:
        for number in range(25):
            kernel.add(flows.tcp(number))
        assert len(await take(stream, 10)) == 10
        with pytest.raises(EventsLost, match="15 events"):
            await anext(stream)


async def test_a_waiting_task_is_woken() -> None:
    """By the event loop's own readiness, from another thread."""
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


# -- connecting -------------------------------------------------------------------------------


def test_it_takes_what_connect_takes() -> None:
    real = dict(inspect.signature(conntrack_aio.connect).parameters)
    fake = dict(inspect.signature(FakeKernel.connect).parameters)
    del real["netns"], fake["self"]
    assert fake == real


async def test_installed() -> None:
    kernel, blue = FakeKernel(flows=[flows.tcp()]), FakeKernel()
    with kernel.installed({"blue": blue}) as same:
        assert same is kernel
        for netns, count in ((None, 1), ("green", 1), ("blue", 0), ("/run/netns/blue", 1)):
            async with conntrack_aio.connect(netns=netns) as conn:
                assert await conn.count() == count
    assert kernel.requested_namespaces == [
        None,
        NetNS.from_name("green"),
        NetNS.from_name("blue"),
        NetNS.from_path("/run/netns/blue"),
    ]
    assert (len(kernel.requests), len(blue.requests)) == (6, 2)


async def test_installed_inside_another() -> None:
    one, two = FakeKernel(), FakeKernel()
    with one.installed():
        with two.installed():
            await (await conntrack_aio.connect()).aclose()
        await (await conntrack_aio.connect()).aclose()
    assert len(one.requests) == len(two.requests) == 1


async def test_it_is_installed_for_the_tasks_that_are_started_inside() -> None:
    kernel = FakeKernel()

    async def program() -> None:
        async with conntrack_aio.connect() as conn:
            await conn.flush()

    async with anyio.create_task_group() as tasks:
        with kernel.installed():
            tasks.start_soon(program)
    assert [asked.verb for asked in kernel.requests] == ["count", "flush"]


def test_concurrent_tests_do_not_meet() -> None:
    async def program(kernel: FakeKernel) -> None:
        with kernel.installed():
            await asyncio.sleep(0)
            async with conntrack_aio.connect() as conn:
                await asyncio.sleep(0)
                await conn.create(flows.tcp())

    async def main() -> None:
        kernels = [FakeKernel() for _ in range(3)]
        await asyncio.gather(*map(program, kernels))
        assert [len(kernel.flows) for kernel in kernels] == [1, 1, 1]

    asyncio.run(main())


async def test_nothing_stays_open() -> None:
    kernel = FakeKernel(flows=map(flows.tcp, range(300)))
    async with kernel.connect() as conn, conn.events():
        async for _ in conn.dump():
            break
    assert len(kernel.sockets) == 3
    await until(lambda: all(socket.closed for socket in kernel.sockets))
    assert kernel.sockets[0].fileno() == -1
    assert "closed" in repr(kernel.sockets[0])
    assert repr(kernel) == "<FakeKernel 6.18, 300 flows>"


# -- rights and settings ----------------------------------------------------------------------


async def test_without_rights() -> None:
    kernel = FakeKernel()
    async with kernel.connect() as conn:
        kernel = FakeKernel(without=["CAP_NET_ADMIN"])
        with pytest.raises(PermissionDenied):
            await kernel.connect()
        assert await conn.count() == 0


async def test_without_translations() -> None:
    async with FakeKernel(without=["nat"]).connect() as conn:
        with pytest.raises(conntrack_aio.NotSupported):
            await conn.create(flows.tcp(), nat_src="192.0.2.1")


async def test_settings() -> None:
    kernel = FakeKernel(sysctls={"nf_conntrack_max": 2})
    settings = kernel._endpoint.sysctls
    name = "net.netfilter.nf_conntrack_"
    async with kernel.connect() as conn:
        for number in range(2):
            await conn.create(flows.tcp(number))
        with pytest.raises(conntrack_aio.ResourceExhausted):
            await conn.create(flows.tcp(3))
    assert (settings.read(name + "count"), settings.read(name + "max")) == ("2", "2")
    settings.write(name + "acct", 1)
    assert kernel.sysctls["nf_conntrack_acct"] == 1
    assert settings.read("net.core.rmem_max") == "4194304"
    for bad in ("net.ipv4.ip_forward", name + "nothing"):
        with pytest.raises(FileNotFoundError):
            settings.read(bad)
    for setting, value in (("acct", "many"), ("events", 3)):
        with pytest.raises(OSError, match="Invalid argument"):
            settings.write(name + setting, value)
    with pytest.raises(PermissionError):
        settings.write(name + "count", 1)


@pytest.mark.kernel
def test_the_settings_are_those_of_this_kernel(lab: Lab) -> None:
    """A kernel may be built without some; others than these there are not."""
    there = lab.run(os.listdir, "/proc/sys/net/netfilter")
    mine = FakeKernel(release_text()).sysctls.keys() | {"nf_conntrack_count"}
    assert {name for name in there if name.startswith("nf_conntrack")} <= mine
    assert len(mine & set(there)) > 30


async def test_settings_come_and_go_with_the_kernels() -> None:
    async with FakeKernel("6.18").connect() as new, FakeKernel("4.19").connect() as old:
        one, two = await new.sysctls.read(), await old.sysctls.read()
        assert (one.events, two.events) == (EventMode.AUTO, EventMode.ALWAYS)
        assert (one.helper, two.helper) == (None, False)
        assert (one.dccp_loose, two.dccp_loose) == (None, True)
        assert (one.gre_timeout, two.gre_timeout) == (30, None)
        await new.sysctls.set(acct=True)
        assert (await new.sysctls.read()).acct
        with pytest.raises(conntrack_aio.InvalidRequest):
            await old.sysctls.set(events=EventMode.AUTO)


async def test_statistics_of_processors() -> None:
    kernel = FakeKernel()
    async with kernel.connect() as conn:
        await conn.create(flows.tcp())
        kernel.cpu_counters.append({"drop": 4})
        told = await conn.cpu_statistics()
    assert [(cpu.cpu, cpu.insert, cpu.drop) for cpu in told] == [(0, 1, 0), (1, 0, 0), (2, 0, 4)]


# -- what was asked ---------------------------------------------------------------------------


async def test_what_was_asked() -> None:
    kernel = FakeKernel()
    async with kernel.connect() as conn:
        await conn.create(flows.tcp(mark=3), nat_src=NATRange.of("192.0.2.1", 99))
        await conn.update(flows.tcp().orig, mark=1, mark_mask=0xF, protoinfo=TCPInfo(state=4))
        await conn.list(Match(mark=1))
        await conn.delete(flows.tcp().orig)
        await conn.flush()
    by_verb = {asked.verb: asked for asked in kernel.requests}
    verbs = ("create", "update", "dump", "delete", "flush")
    create, update, dump, delete, flush = (by_verb[verb] for verb in verbs)
    assert [asked.verb for asked in kernel.requests][:3] == ["count", "create", "get"]
    assert kernel.requests[-2:] == [delete, flush]
    assert (create.subsystem, create.message, create.family) == (1, 0, 2)
    assert create.attributes["orig"] == flows.tcp().orig
    assert create.attributes["nat_src"] == NATRange.of("192.0.2.1", 99)
    assert create.attributes["mark"] == 3
    assert update.attributes["mark_mask"] == 0xF
    assert update.attributes["protoinfo"] == TCPInfo(state=4)
    assert (dump.is_dump, dump.attributes["mark"]) == (True, 1)
    assert (flush.attributes, flush.version, flush.is_dump) == ({}, 0, False)
    assert str(flush) == "flush()"
    assert "mark=1" in str(update)
    assert {asked.port_id for asked in kernel.requests} == {
        kernel.sockets[0].port_id,
        kernel.sockets[1].port_id,
    }
    assert kernel.sockets[1].requests == [dump]
    assert kernel.sockets[1].sent[0][16:] == dump.payload


@pytest.mark.parametrize(
    ("payload", "attributes"),
    [
        (b"", {}),
        (b"\2\0\0\0", {}),
        (b"\2\0\0\0\7", {}),
        (b"\2\0\0\0" + b"\x05\0\x63\0x\0\0\0", {"99": b"x"}),
        (b"\2\0\0\0" + b"\x06\0\x08\0\0\1\0\0", {"8": b"\0\1"}),
    ],
)
def test_requests_that_make_no_sense(payload: bytes, attributes: dict[str, object]) -> None:
    asked = ReceivedRequest(0x101, 5, 1, payload, 7, "get", (Flow,))
    told = {("8" if key == "mark" else key): value for key, value in asked.attributes.items()}
    assert told == attributes


def test_a_part_of_a_tuple() -> None:
    from support.raw import CTA, be16, pack_nest

    part = pack_nest(CTA.TUPLE_ORIG, pack_nest(2, b"\5\0\1\0\6\0\0\0", be16(3, 80)))
    asked = ReceivedRequest(0x101, 5, 1, b"\2\0\0\0" + part, 7, "dump", (Flow,))
    assert asked.attributes == {"orig": {"proto": 6, "dport": 80}}


# -- by hand ----------------------------------------------------------------------------------


async def test_a_script() -> None:
    def script(socket: FakeSocket, asked: ReceivedRequest) -> bool:
        if asked.verb != "delete":
            return False
        socket.ack(asked)
        return True

    kernel = FakeKernel(flows=[flows.tcp()], on_request=script)
    async with kernel.connect() as conn:
        await conn.delete(flows.tcp().orig)
        assert await conn.count() == 1
        kernel.on_request = None
        await conn.delete(flows.tcp().orig)
        assert await conn.count() == 0


def test_a_typing_error_in_its_making_is_told() -> None:
    with pytest.raises(ValueError, match=r"no setting net\.netfilter\.acct"):
        FakeKernel(sysctls={"acct": 1})
    with pytest.raises(TypeError, match="must be a string"):
        FakeKernel(6.18)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_it_keeps_no_expectations_and_says_so() -> None:
    async with FakeKernel().connect() as conn:
        with pytest.raises(conntrack_aio.NotSupported, match="keeps no expectations"):
            await conn.expectations.list()


async def test_a_rule_chooses_the_events_of_flows() -> None:
    """Of those that are made from then on; they emit even where others don't."""
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
        heard = [await anext(stream) for _ in range(2)]
    assert [each.type for each in heard] == [EventType.UPDATE, EventType.DESTROY]
    assert {each.flow.orig for each in heard} == {flows.tcp(1).orig}
