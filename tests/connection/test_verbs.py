"""Test the methods that read and write single flows, on this machine's kernel."""

from __future__ import annotations

from ipaddress import IPv4Address
from socket import AF_INET6

import anyio
import attrs
import pytest
from support import flows

from conntrack_aio import (
    AlreadyExists,
    Connection,
    EncodeError,
    Flow,
    Match,
    NATRange,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Status,
    TCPFlags,
    TCPInfo,
    TCPState,
    Tuple,
    UnsafeRequest,
)

pytestmark = [pytest.mark.smoke, pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]


async def test_create_returns_the_entry_as_the_kernel_has_it(conn: Connection) -> None:
    created = await conn.create(flows.tcp(mark=7))
    assert created.id is not None
    assert created.status == Status.CONFIRMED
    assert created.mark == 7
    assert created.timeout in (599, 600)  # below 600 after one tick
    assert flows.without_timeout(await conn.get(created)) == flows.without_timeout(created)


async def test_a_created_tcp_flow_is_established_and_liberal(conn: Connection) -> None:
    bare = flows.tcp()
    bare.protoinfo = None
    info = (await conn.create(bare)).protoinfo
    assert isinstance(info, TCPInfo)
    assert info.state is TCPState.ESTABLISHED
    assert info.flags_orig == info.flags_reply == TCPFlags.BE_LIBERAL | TCPFlags.SACK_PERM


async def test_create_keeps_the_given_tcp_state(conn: Connection) -> None:
    flow = Flow.tcp("10.0.0.1", 1, "10.0.0.2", 2, timeout=9, state=TCPState.SYN_SENT)
    info = (await conn.create(flow)).protoinfo
    assert isinstance(info, TCPInfo)
    assert info.state is TCPState.SYN_SENT


async def test_create_does_not_change_an_existing_entry(conn: Connection) -> None:
    await conn.create(flows.tcp(mark=1))
    with pytest.raises(AlreadyExists, match=r"create tcp 10\.1\.0\.1:40000"):
        await conn.create(flows.tcp(mark=2))
    assert (await conn.get(flows.tcp())).mark == 1


async def test_create_sets_only_the_status_bits_that_the_kernel_accepts(conn: Connection) -> None:
    flow = flows.tcp()
    flow.status = Status.SEEN_REPLY | Status.ASSURED | Status.SRC_NAT_DONE
    assert (await conn.create(flow)).status == (
        Status.SEEN_REPLY | Status.ASSURED | Status.CONFIRMED
    )


async def test_create_reports_an_entry_that_expires_at_once(conn: Connection) -> None:
    with pytest.raises(NotFound, match="was gone before it could be read back"):
        await conn.create(flows.tcp(timeout=0))


@pytest.mark.parametrize(
    ("nat_src", "nat_dst", "reply"),
    [
        ("192.0.2.1", None, ("10.2.0.1", 80, "192.0.2.1", 40000)),
        (None, NATRange.of("192.0.2.9", 8080), ("192.0.2.9", 8080, "10.1.0.1", 40000)),
        (NATRange(port_min=50000), "192.0.2.9", ("192.0.2.9", 80, "10.1.0.1", 50000)),
    ],
)
async def test_create_with_nat_translates_the_reply(
    conn: Connection,
    nat_src: str | NATRange | None,
    nat_dst: str | NATRange | None,
    reply: tuple[str, int, str, int],
) -> None:
    created = await conn.create(flows.tcp(), nat_src=nat_src, nat_dst=nat_dst)
    assert created.reply == Tuple.tcp(*reply)
    assert created.status is not None
    assert bool(created.status & Status.SRC_NAT) == (nat_src is not None)
    assert bool(created.status & Status.DST_NAT) == (nat_dst is not None)


async def test_the_kernel_chooses_from_a_nat_range(conn: Connection) -> None:
    first, last = IPv4Address("192.0.2.10"), IPv4Address("192.0.2.12")
    created = await conn.create(
        flows.tcp(), nat_src=NATRange(address_min=first, address_max=last, port_min=1, port_max=9)
    )
    assert isinstance(created.reply.dst, IPv4Address)
    assert first <= created.reply.dst <= last
    assert created.reply.dport is not None
    assert 1 <= created.reply.dport <= 9


async def test_the_tuple_of_either_direction_is_a_target(conn: Connection) -> None:
    created = await conn.create(flows.tcp(), nat_src="192.0.2.1")
    for target in (created, created.orig, created.reply):
        assert (await conn.get(target)).id == created.id
    await conn.update(created.reply, mark=5)
    assert (await conn.get(created.orig)).mark == 5
    await conn.delete(created.reply)
    assert await conn.count() == 0


async def test_ipv6_tuples_are_targets(conn: Connection) -> None:
    created = await conn.create(flows.udp6())
    assert (await conn.get(created.reply)).id == created.id
    await conn.update(created.orig, mark=1)
    await conn.delete(created.orig)


async def test_get_of_a_missing_entry_raises_not_found(conn: Connection) -> None:
    with pytest.raises(NotFound, match=r"get tcp 10\.1\.0\.1:40000 -> 10\.2\.0\.1:80") as caught:
        await conn.get(flows.tcp())
    assert caught.value.errno == 2


async def test_a_flow_as_target_means_the_entry_with_its_id(conn: Connection) -> None:
    new = await conn.create(flows.tcp())
    assert new.id is not None
    # Deleting and creating the entry again would not do: it would mostly get the same id, since
    # the kernel derives the id from the entry's address in memory.
    old = attrs.evolve(new, id=new.id ^ 1)
    with pytest.raises(NotFound, match="another id"):
        await conn.get(old)
    with pytest.raises(NotFound):
        await conn.update(old, mark=1)
    with pytest.raises(NotFound):
        await conn.delete(old)
    assert flows.without_timeout(await conn.get(new)) == flows.without_timeout(new)
    assert (await conn.get(old.orig)).id == new.id


async def test_update_sets_clears_and_masks_a_mark(conn: Connection) -> None:
    created = await conn.create(flows.tcp(mark=0xFF))
    await conn.update(created, mark=0x0100, mark_mask=0xFF00)
    assert (await conn.get(created)).mark == 0x01FF
    await conn.update(created, mark=0, mark_mask=0xF)
    assert (await conn.get(created)).mark == 0x01F0
    await conn.update(created, mark=0)
    assert (await conn.get(created)).mark == 0


async def test_update_changes_only_the_given_fields(conn: Connection) -> None:
    created = await conn.create(flows.tcp(mark=3))
    await conn.update(created, timeout=100)
    now = await conn.get(created)
    assert flows.without_timeout(now) == flows.without_timeout(created)
    assert now.timeout in (99, 100)


async def test_update_of_the_status_repeats_the_bits_that_are_set(conn: Connection) -> None:
    flow = flows.tcp()
    flow.status = Status.SEEN_REPLY
    created = await conn.create(flow)
    await conn.update(created, status=Status.ASSURED)
    assert (await conn.get(created)).status == (
        Status.SEEN_REPLY | Status.ASSURED | Status.CONFIRMED
    )


async def test_update_refuses_status_bits_that_only_the_kernel_sets(conn: Connection) -> None:
    created = await conn.create(flows.tcp())
    with pytest.raises(EncodeError, match="SRC_NAT"):
        await conn.update(created, status=Status.SRC_NAT)
    assert (await conn.get(created)).status == created.status


async def test_the_timeout_of_an_entry_with_fixed_timeout_cannot_change(conn: Connection) -> None:
    created = await conn.create(flows.tcp())
    await conn.update(created, timeout=300, status=Status.FIXED_TIMEOUT)
    with pytest.raises(PermissionDenied, match="FIXED_TIMEOUT"):
        await conn.update(created, timeout=100)


async def test_update_changes_protoinfo(conn: Connection) -> None:
    created = await conn.create(flows.tcp())
    await conn.update(created, protoinfo=TCPInfo(state=TCPState.CLOSE_WAIT))
    info = (await conn.get(created)).protoinfo
    assert isinstance(info, TCPInfo)
    assert info.state is TCPState.CLOSE_WAIT
    assert info.flags_orig == TCPFlags.BE_LIBERAL | TCPFlags.SACK_PERM


async def test_the_error_explains_why_an_entry_has_no_room_for_labels(conn: Connection) -> None:
    created = await conn.create(flows.tcp())
    with pytest.raises(ResourceExhausted, match="before any rule of this namespace used labels"):
        await conn.update(created, labels=1)


async def test_an_update_without_changes_is_refused(conn: Connection) -> None:
    created = await conn.create(flows.tcp())
    with pytest.raises(EncodeError, match="changes nothing"):
        await conn.update(created)


async def test_a_flow_is_a_target_in_its_own_zone(conn: Connection) -> None:
    flow = flows.tcp()
    flow.zone = 7
    created = await conn.create(flow)
    assert created.zone == 7
    with pytest.raises(NotFound, match="zone"):
        await conn.get(created.orig)
    assert (await conn.get(created.orig, zone=7)).id == created.id
    await conn.update(created, mark=1)
    await conn.delete(created)
    assert await conn.count() == 0


@pytest.mark.parametrize("direction", ["orig", "reply"])
async def test_a_zone_can_be_of_one_direction(conn: Connection, direction: str) -> None:
    flow = flows.tcp()
    getattr(flow, direction).zone = 9
    created = await conn.create(flow)
    assert getattr(created, direction).zone == 9
    assert created.zone is None
    for target in (created, created.orig, created.reply):
        assert (await conn.get(target)).id == created.id
    await conn.delete(created)
    assert await conn.count() == 0


async def test_one_tuple_in_two_zones_is_two_entries(conn: Connection) -> None:
    first, second = flows.tcp(), flows.tcp()
    second.zone = 3
    created = [await conn.create(first), await conn.create(second)]
    await conn.delete(created[1])
    assert [flow.id for flow in await conn.list()] == [created[0].id]


async def test_flush_empties_the_table(conn: Connection) -> None:
    for number in range(5):
        await conn.create(flows.tcp(number))
    await conn.flush()
    assert await conn.count() == 0


@pytest.mark.parametrize(
    ("match", "left"),
    [
        (Match(mark=1), {0, 2, 3}),
        (Match(mark=0), {1, 2, 3}),
        (Match(mark=2, mark_mask=2), {0, 1}),
        (Match(family=AF_INET6), {0, 1, 2, 3}),
        (Match(mark=1, family=AF_INET6), {0, 1, 2, 3}),
    ],
)
async def test_delete_matching_deletes_what_matches(
    conn: Connection, match: Match, left: set[int]
) -> None:
    for number in range(100):
        await conn.create(flows.tcp(number, mark=number % 4))
    await conn.create(flows.udp6(mark=1))
    deleted = await conn.delete_matching(match)
    remaining = await conn.list()
    assert deleted == 101 - len(remaining)
    assert {flow.mark for flow in remaining if flow.orig.src.version == 4} == left
    assert not any(match(flow) for flow in remaining)


@pytest.mark.parametrize("match", [Match(), Match(mark=0, mark_mask=0)])
async def test_delete_matching_refuses_a_match_of_everything(
    conn: Connection, match: Match
) -> None:
    await conn.create(flows.tcp())
    with pytest.raises(UnsafeRequest, match="flush"):
        await conn.delete_matching(match)
    assert await conn.count() == 1


@pytest.mark.parametrize(
    "target",
    [
        Tuple(src=IPv4Address("10.1.0.1"), dst=IPv4Address("10.2.0.1"), proto=6),
        Tuple(src=IPv4Address("10.1.0.1"), dst=IPv4Address("10.2.0.1"), proto=6, sport=40000),
        Tuple(src=IPv4Address("10.1.0.1"), dst=IPv4Address("10.2.0.1"), proto=1, icmp_id=3),
        None,
        1,
    ],
)
async def test_an_invalid_target_is_refused_and_changes_nothing(
    conn: Connection, target: Tuple
) -> None:
    await conn.create(flows.tcp())
    for call in (conn.get(target), conn.delete(target), conn.update(target, mark=1)):
        with pytest.raises(EncodeError if isinstance(target, Tuple) else TypeError):
            await call
    assert await conn.count() == 1
    assert (
        conn.client_statistics().requests == 4
    )  # one by connect(), two by create(), one by count()


async def test_many_tasks_share_a_connection(conn: Connection) -> None:
    seen: set[int | None] = set()

    async def use_one_flow(number: int) -> None:
        created = await conn.create(flows.tcp(number))
        await conn.update(created, mark=number)
        now = await conn.get(created)
        assert (now.id, now.mark) == (created.id, number)
        seen.add(now.id)

    async with anyio.create_task_group() as tasks:
        for number in range(1, 101):
            tasks.start_soon(use_one_flow, number)
    assert len(seen) == await conn.count() == 100


async def test_entries_of_an_untracked_protocol_can_be_used(conn: Connection) -> None:
    """The kernel drops the ports from the tuple of DCCP, which still finds the entry."""
    dccp = attrs.evolve(flows.tcp().orig, proto=33)
    created = await conn.create(Flow(orig=dccp, reply=dccp.inverse, timeout=60))
    assert (await conn.get(created)).id == created.id
    await conn.delete(created)
    assert await conn.count() == 0
