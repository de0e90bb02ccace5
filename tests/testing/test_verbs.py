"""The methods of a connection have the same results with the fake and the real kernel."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import attrs
import pytest
from support import flows, kernel_modules
from support.real_or_fake_kernel import AnyKernel

from conntrack_aio import (
    AlreadyExists,
    Connection,
    EventType,
    Flow,
    FlowEvent,
    Helper,
    Match,
    NATRange,
    NotFound,
    NotSupported,
    PermissionDenied,
    ResourceBusy,
    ResourceExhausted,
    SCTPInfo,
    SeqAdj,
    Status,
    SynProxy,
    TCPFlags,
    TCPInfo,
    TCPState,
    Tuple,
)

pytestmark = pytest.mark.anyio

C, SR, A = Status.CONFIRMED, Status.SEEN_REPLY, Status.ASSURED
DONE = Status.SRC_NAT_DONE | Status.DST_NAT_DONE


@pytest.fixture
async def conn(anykernel: AnyKernel) -> AsyncIterator[Connection]:
    async with anykernel.connect() as connection:
        yield connection


def comparable(flow: Flow) -> Flow:
    """Return the flow without its id and with a rounded timeout, which differ between kernels."""
    timeout = None if flow.timeout is None else (flow.timeout + 5) // 100 * 100
    return attrs.evolve(flow, id=None, timeout=timeout)


def udp(number: int = 1, **others: object) -> Flow:
    created = Flow.udp(f"10.0.0.{number}", 5000, "10.0.1.1", 53, timeout=600)
    return attrs.evolve(created, **others)


NO_SEQADJ = SeqAdj(correction_pos=0, offset_before=0, offset_after=0)
NO_SYNPROXY = SynProxy(isn=0, its=0, tsoff=0)


async def test_a_new_flow_can_be_read_by_either_tuple(conn: Connection) -> None:
    created = await conn.create(udp(mark=5))
    assert created.id
    expected = udp(mark=5, status=C, use=2, synproxy=NO_SYNPROXY)
    assert comparable(created) == expected
    assert [comparable(flow) for flow in await conn.list()] == [attrs.evolve(expected, use=1)]
    assert comparable(await conn.get(created.reply)) == comparable(created)
    assert await conn.count() == 1


async def test_the_window_scale_needs_both_flags(conn: Connection) -> None:
    created = await conn.create(flows.tcp())
    liberal = TCPFlags.BE_LIBERAL | TCPFlags.SACK_PERM
    established = TCPInfo(
        state=TCPState.ESTABLISHED,
        wscale_orig=0,
        wscale_reply=0,
        flags_orig=liberal,
        flags_reply=liberal,
    )
    assert created.protoinfo == established
    await conn.update(created, protoinfo=TCPInfo(wscale_orig=7, wscale_reply=9))
    assert (await conn.get(created)).protoinfo == established  # neither direction scales its window
    flags = liberal | TCPFlags.WINDOW_SCALE
    scaled = TCPInfo(wscale_orig=7, wscale_reply=9, flags_orig=flags, flags_reply=flags)
    await conn.update(created, protoinfo=scaled)
    assert (await conn.get(created)).protoinfo == attrs.evolve(scaled, state=TCPState.ESTABLISHED)


async def test_flows_of_other_protocols_are_created(conn: Connection) -> None:
    sctp = Tuple(src=udp().orig.src, dst=udp().orig.dst, proto=132, sport=1, dport=2)
    info = SCTPInfo(state=3, vtag_orig=1, vtag_reply=2)
    created = await conn.create(Flow(orig=sctp, reply=sctp.inverse, timeout=600, protoinfo=info))
    assert created.protoinfo == info
    echo = await conn.create(Flow.icmp("10.0.0.1", "10.0.1.1", id=7, timeout=600))
    assert echo.reply == echo.orig.inverse
    esp = Tuple(src=udp().orig.src, dst=udp().orig.dst, proto=50)
    bare = await conn.create(Flow(orig=esp, reply=esp.inverse, timeout=600))
    assert (bare.orig, bare.protoinfo) == (esp, None)
    echo6 = await conn.create(Flow.icmp("2001:db8::1", "2001:db8::2", id=7, timeout=600))
    assert echo6.orig.icmp_type == 128
    assert await conn.count() == 4


async def test_an_existing_tuple_is_refused(conn: Connection) -> None:
    await conn.create(udp())
    with pytest.raises(AlreadyExists):
        await conn.create(udp())
    other = udp(2)
    with pytest.raises(AlreadyExists):  # only the reply tuple exists
        await conn.create(attrs.evolve(other, reply=udp().reply))
    assert await conn.count() == 1


async def test_a_missing_flow_is_not_found(conn: Connection) -> None:
    created = await conn.create(udp())
    await conn.delete(created)
    for call in (conn.get(created), conn.delete(created), conn.update(created.orig, mark=1)):
        with pytest.raises(NotFound):
            await call


async def test_an_entry_created_again_at_the_same_address_has_the_same_id(conn: Connection) -> None:
    """The id is computed from the tuple and the address in memory, and from nothing else.

    The allocator chooses the address, so the test creates many entries repeatedly until one of
    them has an address that it had before.
    """
    ids: dict[int, set[int | None]] = {number: set() for number in range(1, 64)}
    repeated = 0
    for _ in range(200):
        for number, known in ids.items():
            flow = await conn.create(udp(number))
            repeated += flow.id in known
            known.add(flow.id)
        await conn.flush()
        if repeated:
            break
    assert repeated
    all_ids = [id for known in ids.values() for id in known]
    assert len(set(all_ids)) == len(all_ids)  # no two tuples share an id


async def test_a_flow_with_another_id_is_not_found(conn: Connection) -> None:
    created = await conn.create(udp())
    other = attrs.evolve(created, id=(created.id or 0) ^ 1)
    for call in (conn.get(other), conn.delete(other), conn.update(other, mark=1)):
        with pytest.raises(NotFound):
            await call
    assert await conn.count() == 1


async def test_flows_are_found_in_their_zone(conn: Connection) -> None:
    in_zone_7 = await conn.create(udp(zone=7))
    in_zone_8 = await conn.create(udp(zone=8))
    await conn.create(udp())
    assert (in_zone_7.zone, in_zone_8.zone) == (7, 8)
    for zone in (None, 7, 8):
        assert (await conn.get(udp().reply, zone=zone)).zone == zone
    with pytest.raises(NotFound):
        await conn.get(udp().orig, zone=9)
    await conn.delete(in_zone_7)
    assert {flow.zone for flow in await conn.list()} == {None, 8}


async def test_a_zone_may_be_of_one_direction(conn: Connection) -> None:
    flow = udp()
    created = await conn.create(attrs.evolve(flow, orig=attrs.evolve(flow.orig, zone=7)))
    assert (created.orig.zone, created.reply.zone, created.zone) == (7, None, None)
    assert (await conn.get(flow.reply)).id == created.id
    assert (await conn.get(flow.orig, zone=7)).id == created.id
    for target, zone in ((flow.orig, None), (flow.reply, 7)):
        with pytest.raises(NotFound):
            await conn.get(target, zone=zone)


async def test_nat_rewrites_the_reply_tuple(conn: Connection) -> None:
    source = await conn.create(udp(1), nat_src=NATRange.of("192.0.2.1", 7000))
    assert (str(source.reply.dst), source.reply.dport) == ("192.0.2.1", 7000)
    assert source.status == C | Status.SRC_NAT | DONE
    destination = await conn.create(udp(2), nat_dst="192.0.2.2")
    assert (str(destination.reply.src), destination.reply.sport) == ("192.0.2.2", 53)
    assert destination.status == C | Status.DST_NAT | DONE
    both = await conn.create(udp(3), nat_src="192.0.2.3", nat_dst=NATRange.of(None, 5353))
    assert both.status == C | Status.SRC_NAT | Status.DST_NAT | DONE
    assert str(both.reply).startswith("udp 10.0.1.1:5353 -> 192.0.2.3:5000")


async def test_nat_chooses_a_free_port(conn: Connection) -> None:
    """The port is from the range or any other; with a single port in use, creating fails."""
    same = Flow.udp("10.0.0.1", 5000, "10.0.1.1", 53, timeout=600)
    created = [
        await conn.create(attrs.evolve(udp(number)), nat_src="192.0.2.1") for number in (1, 2, 3)
    ]
    assert len({flow.reply.dport for flow in created}) == 3
    assert all(flow.reply.dport and flow.reply.dport >= 1024 for flow in created)
    await conn.flush()
    narrow = NATRange.of("192.0.2.1", 7000)
    narrow.port_max = 7001
    ports = [(await conn.create(udp(number), nat_src=narrow)).reply.dport for number in (1, 2)]
    assert sorted(port or 0 for port in ports) == [7000, 7001]
    with pytest.raises(AlreadyExists):
        await conn.create(udp(3), nat_src=narrow)
    with pytest.raises(AlreadyExists):
        await conn.create(udp(4), nat_src=NATRange.of("192.0.2.1", 7000))
    assert same.orig == udp(1).orig


async def test_a_flow_may_have_a_master(conn: Connection) -> None:
    with pytest.raises(NotFound):
        await conn.create(udp(2, master=udp(1).orig))
    master = await conn.create(udp(1))
    child = await conn.create(udp(2, master=udp(1).orig))
    assert (child.master, child.status) == (master.orig, C | Status.EXPECTED)
    assert (await conn.get(master)).use == 3  # the table, the child, and this request
    await conn.update(child, status=SR)
    await conn.delete(master)
    assert (await conn.get(child)).master == master.orig


async def test_a_helper_can_be_set_on_creation_and_detached(conn: Connection) -> None:
    kernel_modules.load_in_guest("nf_conntrack_ftp", "nf_conntrack_sane")
    created = await conn.create(attrs.evolve(flows.tcp(), helper=Helper(name="ftp")))
    assert (created.helper, created.status) == (Helper(name="ftp"), C | Status.HELPER)
    await conn.update(created, helper="ftp")
    with pytest.raises(ResourceBusy):
        await conn.update(created, helper="sane")
    await conn.update(created, helper="")
    assert (await conn.get(created)).helper is None
    with pytest.raises(ResourceBusy):
        await conn.update(created, helper="ftp")
    bare = await conn.create(flows.tcp(2))
    for flow, name in ((bare, "ftp"), (created, "nothing")):
        with pytest.raises(NotSupported):
            await conn.update(flow, helper=name)
    with pytest.raises(NotSupported):
        await conn.create(udp(helper=Helper(name="ftp")))  # ftp is a helper for TCP


async def test_an_update_changes_fields(conn: Connection) -> None:
    created = await conn.create(udp(mark=0xF0F))
    await conn.update(created, mark=0x30, mark_mask=0xFF)
    await conn.update(created, timeout=900, status=SR | A)
    adjusted = SeqAdj(correction_pos=1, offset_before=-2, offset_after=3)
    await conn.update(created, seqadj_orig=adjusted, synproxy=SynProxy(isn=1, its=2, tsoff=3))
    assert comparable(await conn.get(created)) == udp(
        mark=0xF30,
        timeout=900,
        status=C | SR | A | Status.SEQ_ADJUST,
        use=2,
        seqadj_orig=adjusted,
        seqadj_reply=NO_SEQADJ,
        synproxy=SynProxy(isn=1, its=2, tsoff=3),
    )
    await conn.update(created, mark=0)
    assert (await conn.get(created)).mark == 0


async def test_updates_that_the_kernel_refuses(conn: Connection) -> None:
    created = await conn.create(udp(status=Status.FIXED_TIMEOUT))
    with pytest.raises(PermissionDenied):
        await conn.update(created, timeout=5)
    with pytest.raises(ResourceExhausted):
        await conn.update(created, labels=1)
    assert (await conn.get(created)).timeout in (599, 600)


async def test_a_timeout_is_limited_by_the_kernels_clock(conn: Connection) -> None:
    created = await conn.create(udp(timeout=0xFFFFFFFF))
    assert created.timeout in (8589933, 8589934)  # at 250 ticks a second


async def test_a_flow_with_timeout_0_ends_at_once(conn: Connection) -> None:
    async with conn.events() as stream:
        with pytest.raises(NotFound, match="gone before it could be read back"):
            await conn.create(udp(timeout=0))
        with anyio.fail_after(5):
            new, destroy = await anext(stream), await anext(stream)
    assert (new.type, destroy.type) == (EventType.NEW, EventType.DESTROY)
    assert new.port_id
    assert not destroy.port_id
    assert destroy.flow.timeout is None
    assert await conn.list() == []


async def test_the_settings_turn_on_counters_and_timestamps_of_new_flows(
    anykernel: AnyKernel, conn: Connection
) -> None:
    before = await conn.create(udp(1))
    anykernel.sysctl("nf_conntrack_acct", 1)
    anykernel.sysctl("nf_conntrack_timestamp", 1)
    after = await conn.create(udp(2))
    assert (before.counters_orig, before.timestamp) == (None, None)
    assert after.counters_orig is not None
    assert after.counters_orig.packets == 0
    assert after.timestamp is not None
    assert after.timestamp.start
    assert after.timestamp.stop is None


async def test_flows_are_selected_by_mark_and_family(conn: Connection) -> None:
    for number, mark in enumerate((0, 5, 0x15)):
        await conn.create(udp(number, mark=mark))
    await conn.create(flows.udp6(1, mark=5))
    assert {flow.mark for flow in await conn.list(Match(mark=5, mark_mask=0xF))} == {5, 0x15}
    assert len(await conn.list(Match(mark=5))) == 2
    assert await conn.delete_matching(Match(mark=5, family=10)) == 1
    assert await conn.count() == 3
    await conn.flush()
    assert await conn.count() == 0


# -- events -----------------------------------------------------------------------------------


async def take(stream: AsyncIterator[FlowEvent], count: int) -> list[FlowEvent]:
    with anyio.fail_after(5):
        return [await anext(stream) for _ in range(count)]


async def test_requests_emit_events(conn: Connection) -> None:
    async with conn.events() as stream:
        created = await conn.create(flows.tcp())
        await conn.update(created, mark=0)
        await conn.delete(created)
        new, update, destroy = await take(stream, 3)
    assert [event.type for event in (new, update, destroy)] == list(EventType)
    for event in (new, update):
        assert comparable(event.flow) == comparable(attrs.evolve(created, use=None, mark=0))
    assert destroy.flow.status == C | Status.DYING
    assert destroy.flow.protoinfo == TCPInfo(state=TCPState.ESTABLISHED)
    assert (destroy.flow.mark, destroy.flow.synproxy) == (None, None)
    assert destroy.flow.timeout in (599, 600)
    assert len({event.port_id for event in (new, update, destroy)} - {0}) == 1


@pytest.mark.since("EVENT_TIMESTAMP")
async def test_only_destroy_events_have_counters_and_timestamps(
    anykernel: AnyKernel, conn: Connection
) -> None:
    anykernel.sysctl("nf_conntrack_acct", 1)
    anykernel.sysctl("nf_conntrack_timestamp", 1)
    async with conn.events() as stream:
        created = await conn.create(udp())
        await conn.update(created, mark=1)
        await conn.delete(created)
        new, update, destroy = await take(stream, 3)
    for event in (new, update):
        assert (event.flow.counters_orig, event.flow.timestamp) == (None, None)
    assert destroy.flow.counters_orig is not None
    assert destroy.flow.timestamp is not None
    start, stop = destroy.flow.timestamp.start, destroy.flow.timestamp.stop
    assert start is not None
    assert stop is not None
    assert start <= stop
    times = [event.timestamp for event in (new, update, destroy)]
    assert None not in times
    assert times == sorted(times)  # type: ignore[type-var]


async def test_flows_created_without_events_never_emit_one(
    anykernel: AnyKernel, conn: Connection
) -> None:
    anykernel.sysctl("nf_conntrack_events", 0)
    silent = await conn.create(udp(1))
    anykernel.sysctl("nf_conntrack_events", 1)
    async with conn.events() as stream:
        await conn.update(silent, mark=1)
        await conn.delete(silent)
        emitting = await conn.create(udp(2))
        (event,) = await take(stream, 1)
    assert event.flow.id == emitting.id
