"""The verbs, on this machine's kernel."""

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


async def test_create_returns_the_flow_as_the_kernel_has_it(conn: Connection) -> None:
    made = await conn.create(flows.tcp(mark=7))
    assert made.id is not None
    assert made.status == Status.CONFIRMED
    assert made.mark == 7
    assert made.timeout in (599, 600)  # a tick may have passed
    assert flows.without_timeout(await conn.get(made)) == flows.without_timeout(made)


async def test_a_created_tcp_flow_is_established_and_liberal(conn: Connection) -> None:
    bare = flows.tcp()
    bare.protoinfo = None
    info = (await conn.create(bare)).protoinfo
    assert isinstance(info, TCPInfo)
    assert info.state is TCPState.ESTABLISHED
    assert info.flags_orig == info.flags_reply == TCPFlags.BE_LIBERAL | TCPFlags.SACK_PERM


async def test_create_keeps_the_state_that_was_asked_for(conn: Connection) -> None:
    flow = Flow.tcp("10.0.0.1", 1, "10.0.0.2", 2, timeout=9, state=TCPState.SYN_SENT)
    info = (await conn.create(flow)).protoinfo
    assert isinstance(info, TCPInfo)
    assert info.state is TCPState.SYN_SENT


async def test_create_never_changes_what_is_there(conn: Connection) -> None:
    await conn.create(flows.tcp(mark=1))
    with pytest.raises(AlreadyExists, match=r"create tcp 10\.1\.0\.1:40000"):
        await conn.create(flows.tcp(mark=2))
    assert (await conn.get(flows.tcp())).mark == 1


async def test_create_sets_the_status_that_may_be_set(conn: Connection) -> None:
    flow = flows.tcp()
    flow.status = Status.SEEN_REPLY | Status.ASSURED | Status.SRC_NAT_DONE
    assert (await conn.create(flow)).status == (
        Status.SEEN_REPLY | Status.ASSURED | Status.CONFIRMED
    )


async def test_create_of_a_flow_that_is_gone_at_once_says_so(conn: Connection) -> None:
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
async def test_create_with_nat(
    conn: Connection,
    nat_src: str | NATRange | None,
    nat_dst: str | NATRange | None,
    reply: tuple[str, int, str, int],
) -> None:
    made = await conn.create(flows.tcp(), nat_src=nat_src, nat_dst=nat_dst)
    assert made.reply == Tuple.tcp(*reply)
    assert made.status is not None
    assert bool(made.status & Status.SRC_NAT) == (nat_src is not None)
    assert bool(made.status & Status.DST_NAT) == (nat_dst is not None)


async def test_a_nat_range_is_the_kernels_to_choose_from(conn: Connection) -> None:
    first, last = IPv4Address("192.0.2.10"), IPv4Address("192.0.2.12")
    made = await conn.create(
        flows.tcp(), nat_src=NATRange(address_min=first, address_max=last, port_min=1, port_max=9)
    )
    assert isinstance(made.reply.dst, IPv4Address)
    assert first <= made.reply.dst <= last
    assert made.reply.dport is not None
    assert 1 <= made.reply.dport <= 9


async def test_either_direction_alone_is_enough(conn: Connection) -> None:
    made = await conn.create(flows.tcp(), nat_src="192.0.2.1")
    for target in (made, made.orig, made.reply):
        assert (await conn.get(target)).id == made.id
    await conn.update(made.reply, mark=5)
    assert (await conn.get(made.orig)).mark == 5
    await conn.delete(made.reply)
    assert await conn.count() == 0


async def test_an_ipv6_tuple_goes_out_as_ipv6(conn: Connection) -> None:
    made = await conn.create(flows.udp6())
    assert (await conn.get(made.reply)).id == made.id
    await conn.update(made.orig, mark=1)
    await conn.delete(made.orig)


async def test_get_of_nothing(conn: Connection) -> None:
    with pytest.raises(NotFound, match=r"get tcp 10\.1\.0\.1:40000 -> 10\.2\.0\.1:80") as caught:
        await conn.get(flows.tcp())
    assert caught.value.errno == 2


async def test_a_flow_is_the_one_with_its_id(conn: Connection) -> None:
    new = await conn.create(flows.tcp())
    assert new.id is not None
    # Not by deleting and making it again: in the same memory it would get the same id.
    old = attrs.evolve(new, id=new.id ^ 1)
    with pytest.raises(NotFound, match="another id"):
        await conn.get(old)
    with pytest.raises(NotFound):
        await conn.update(old, mark=1)
    with pytest.raises(NotFound):
        await conn.delete(old)
    assert flows.without_timeout(await conn.get(new)) == flows.without_timeout(new)
    assert (await conn.get(old.orig)).id == new.id


async def test_a_mark_is_set_cleared_and_masked(conn: Connection) -> None:
    made = await conn.create(flows.tcp(mark=0xFF))
    await conn.update(made, mark=0x0100, mark_mask=0xFF00)
    assert (await conn.get(made)).mark == 0x01FF
    await conn.update(made, mark=0, mark_mask=0xF)
    assert (await conn.get(made)).mark == 0x01F0
    await conn.update(made, mark=0)
    assert (await conn.get(made)).mark == 0


async def test_update_changes_what_is_named_alone(conn: Connection) -> None:
    made = await conn.create(flows.tcp(mark=3))
    await conn.update(made, timeout=100)
    now = await conn.get(made)
    assert flows.without_timeout(now) == flows.without_timeout(made)
    assert now.timeout in (99, 100)


async def test_a_status_repeats_what_the_kernel_demands(conn: Connection) -> None:
    flow = flows.tcp()
    flow.status = Status.SEEN_REPLY
    made = await conn.create(flow)
    await conn.update(made, status=Status.ASSURED)
    assert (await conn.get(made)).status == (Status.SEEN_REPLY | Status.ASSURED | Status.CONFIRMED)


async def test_a_status_bit_of_the_kernels_own_is_refused(conn: Connection) -> None:
    made = await conn.create(flows.tcp())
    with pytest.raises(EncodeError, match="SRC_NAT"):
        await conn.update(made, status=Status.SRC_NAT)
    assert (await conn.get(made)).status == made.status


async def test_a_fixed_timeout_is_fixed(conn: Connection) -> None:
    made = await conn.create(flows.tcp())
    await conn.update(made, timeout=300, status=Status.FIXED_TIMEOUT)
    with pytest.raises(PermissionDenied, match="FIXED_TIMEOUT"):
        await conn.update(made, timeout=100)


async def test_protoinfo_is_updated(conn: Connection) -> None:
    made = await conn.create(flows.tcp())
    await conn.update(made, protoinfo=TCPInfo(state=TCPState.CLOSE_WAIT))
    info = (await conn.get(made)).protoinfo
    assert isinstance(info, TCPInfo)
    assert info.state is TCPState.CLOSE_WAIT
    assert info.flags_orig == TCPFlags.BE_LIBERAL | TCPFlags.SACK_PERM


async def test_labels_without_room_are_explained(conn: Connection) -> None:
    made = await conn.create(flows.tcp())
    with pytest.raises(ResourceExhausted, match="before any rule of this namespace used labels"):
        await conn.update(made, labels=1)


async def test_an_update_of_nothing_is_refused(conn: Connection) -> None:
    made = await conn.create(flows.tcp())
    with pytest.raises(EncodeError, match="changes nothing"):
        await conn.update(made)


async def test_a_zone_goes_with_its_flow(conn: Connection) -> None:
    flow = flows.tcp()
    flow.zone = 7
    made = await conn.create(flow)
    assert made.zone == 7
    with pytest.raises(NotFound, match="zone"):
        await conn.get(made.orig)
    assert (await conn.get(made.orig, zone=7)).id == made.id
    await conn.update(made, mark=1)
    await conn.delete(made)
    assert await conn.count() == 0


@pytest.mark.parametrize("direction", ["orig", "reply"])
async def test_a_zone_of_one_direction(conn: Connection, direction: str) -> None:
    flow = flows.tcp()
    getattr(flow, direction).zone = 9
    made = await conn.create(flow)
    assert getattr(made, direction).zone == 9
    assert made.zone is None
    for target in (made, made.orig, made.reply):
        assert (await conn.get(target)).id == made.id
    await conn.delete(made)
    assert await conn.count() == 0


async def test_the_same_tuple_in_two_zones_is_two_flows(conn: Connection) -> None:
    first, second = flows.tcp(), flows.tcp()
    second.zone = 3
    made = [await conn.create(first), await conn.create(second)]
    await conn.delete(made[1])
    assert [flow.id for flow in await conn.list()] == [made[0].id]


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
async def test_delete_matching_everything_is_refused(conn: Connection, match: Match) -> None:
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
async def test_a_target_that_is_none_leaves_the_table_alone(
    conn: Connection, target: Tuple
) -> None:
    await conn.create(flows.tcp())
    for verb in (conn.get(target), conn.delete(target), conn.update(target, mark=1)):
        with pytest.raises(EncodeError if isinstance(target, Tuple) else TypeError):
            await verb
    assert await conn.count() == 1
    assert conn.client_statistics().requests == 4  # connect, create's two, count


async def test_any_number_of_tasks_share_a_connection(conn: Connection) -> None:
    seen: set[int | None] = set()

    async def work(number: int) -> None:
        made = await conn.create(flows.tcp(number))
        await conn.update(made, mark=number)
        now = await conn.get(made)
        assert (now.id, now.mark) == (made.id, number)
        seen.add(now.id)

    async with anyio.create_task_group() as tasks:
        for number in range(1, 101):
            tasks.start_soon(work, number)
    assert len(seen) == await conn.count() == 100


async def test_a_protocol_that_this_kernel_no_longer_tracks(conn: Connection) -> None:
    """Its tuple has lost its ports, and finds the entry all the same."""
    dccp = attrs.evolve(flows.tcp().orig, proto=33)
    made = await conn.create(Flow(orig=dccp, reply=dccp.inverse, timeout=60))
    assert (await conn.get(made)).id == made.id
    await conn.delete(made)
    assert await conn.count() == 0
