"""Test expectations on this machine's kernel, including requests that it misinterprets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from socket import AF_INET, AF_INET6
from typing import Any

import anyio
import attrs
import pytest
from support import expectations, kernel_modules

from conntrack_aio import (
    AlreadyExists,
    Connection,
    EncodeError,
    EventType,
    Flow,
    InvalidRequest,
    NotFound,
    NotSupported,
    ResourceBusy,
    Tuple,
)
from conntrack_aio.model.enums import Direction, ExpectFlags
from conntrack_aio.model.expectations import Expectation, ExpectNAT

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]

PACKET = attrs.evolve(expectations.EXPECTED, sport=4444)
"""The tuple of a packet that fulfills :data:`expectations.EXPECTED`, from any port."""


# -- creating -------------------------------------------------------------------------------


async def test_create_returns_the_expectation_as_the_kernel_has_it(conn: Connection) -> None:
    master = await conn.create(expectations.ftp())
    created = await conn.expectations.create(expectations.data_connection(master))
    assert created.id is not None
    assert created == Expectation(
        master=master.orig,
        tuple=expectations.EXPECTED,
        mask=Tuple.tcp("255.255.255.255", 0, "255.255.255.255", 65535),
        timeout=created.timeout,
        id=created.id,
        helper="ftp",
        flags=ExpectFlags(0),
        expect_class=0,
    )
    assert created.timeout in (299, 300)
    assert [expectations.without_timeout(found) for found in await conn.expectations.list()] == [
        expectations.without_timeout(created)
    ]
    assert expectations.without_timeout(
        await conn.expectations.get(created)
    ) == expectations.without_timeout(created)


async def test_create_sends_all_fields(conn: Connection) -> None:
    kernel_modules.load_in_guest("nf_nat_sip")
    master = await conn.create(expectations.sip())
    requested = Expectation.of(
        master.orig,
        Tuple.udp("0.0.0.0", 0, "10.0.0.2", 4000),
        any_src=True,
        any_sport=True,
        timeout=77,
        flags=ExpectFlags.PERMANENT | ExpectFlags.INACTIVE | ExpectFlags.USERSPACE,
        expect_class=1,
        nat=ExpectNAT.of("192.0.2.1", 99, direction=Direction.REPLY, proto=17),
        function="sip",
    )
    created = await conn.expectations.create(requested)
    assert created.timeout in (76, 77)
    assert created == attrs.evolve(
        requested,
        timeout=created.timeout,
        id=created.id,
        helper="sip",
        flags=ExpectFlags.PERMANENT | ExpectFlags.INACTIVE,
    )


async def test_an_expectation_that_was_read_can_be_created_again(conn: Connection) -> None:
    created = await expectations.create_expectation(conn, expectations.irc())
    await conn.expectations.update(created, timeout=100)
    before = await conn.expectations.get(created)
    await conn.expectations.flush()
    again = await conn.expectations.create(before)
    assert attrs.evolve(
        expectations.without_timeout(again), id=created.id
    ) == expectations.without_timeout(created)
    assert 90 < (again.timeout or 0) <= 100


@pytest.mark.parametrize(
    "tuple_",
    [
        Tuple.udp("10.0.0.1", 9, "10.0.0.2", 9),
        Tuple.icmp("10.0.0.1", "10.0.0.2", id=7),
        Tuple(src=IPv4Address("10.0.0.1"), dst=IPv4Address("10.0.0.2"), proto=47, sport=1, dport=2),
        Tuple(src=IPv4Address("10.0.0.1"), dst=IPv4Address("10.0.0.2"), proto=50),
    ],
    ids=str,
)
@pytest.mark.parametrize("any_sport", [False, True])
async def test_a_connection_of_any_protocol_can_be_expected(
    conn: Connection, tuple_: Tuple, any_sport: bool
) -> None:
    master = await conn.create(expectations.ftp())
    requested = Expectation.of(master.orig, tuple_, any_sport=any_sport)
    created = await conn.expectations.create(requested)
    assert (created.tuple, created.mask) == (requested.tuple, requested.mask)
    await conn.expectations.update(created, timeout=30)
    await conn.expectations.delete(created)
    assert await conn.expectations.list() == []


async def test_create_does_not_change_an_existing_expectation(conn: Connection) -> None:
    created = await expectations.create_expectation(conn)
    other = attrs.evolve(
        expectations.data_connection(expectations.ftp()), timeout=5, flags=ExpectFlags.INACTIVE
    )
    with pytest.raises(AlreadyExists, match=r"create expectation tcp 10\.0\.0\.1:0.*update\(\)"):
        await conn.expectations.create(other)
    (left,) = await conn.expectations.list()
    assert expectations.without_timeout(left) == expectations.without_timeout(created)
    assert left.timeout is not None
    assert left.timeout > 200


async def test_an_overlapping_expectation_is_refused(conn: Connection) -> None:
    master = await conn.create(expectations.ftp())
    narrow = Expectation.of(
        master.orig, attrs.evolve(expectations.EXPECTED, sport=20), any_src=True
    )
    created = await conn.expectations.create(narrow)
    with pytest.raises(ResourceBusy, match="overlap"):
        await conn.expectations.create(expectations.data_connection(master))
    assert [found.id for found in await conn.expectations.list()] == [created.id]


async def test_a_master_needs_a_helper(conn: Connection) -> None:
    plain = await conn.create(Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 21, timeout=60))
    with pytest.raises(NotSupported, match="The master has no helper"):
        await conn.expectations.create(expectations.data_connection(plain))


async def test_a_master_must_exist(conn: Connection) -> None:
    with pytest.raises(NotFound, match="The master is missing"):
        await conn.expectations.create(expectations.data_connection(expectations.ftp()))


@pytest.mark.parametrize("fields", [{"function": "nope"}, {"expect_class": 1}], ids=str)
async def test_unknown_functions_and_classes_are_refused(
    conn: Connection, fields: dict[str, Any]
) -> None:
    master = await conn.create(expectations.ftp())
    with pytest.raises(InvalidRequest, match="no function of this name, or the helper has no such"):
        await conn.expectations.create(attrs.evolve(expectations.data_connection(master), **fields))
    assert await conn.expectations.list() == []


async def test_beyond_the_limit_of_the_helper_the_oldest_is_deleted(conn: Connection) -> None:
    master = await conn.create(expectations.ftp())
    async with conn.expectations.events() as stream:
        created = [
            await conn.expectations.create(expectations.data_connection(master, port))
            for port in (1, 2)
        ]
        events = await expectations.next_events(stream, 3)
    assert sorted((event.type.name, event.expectation.id) for event in events) == sorted(
        [("NEW", created[0].id), ("DESTROY", created[0].id), ("NEW", created[1].id)]
    )
    assert [found.id for found in await conn.expectations.list()] == [created[1].id]


# -- finding --------------------------------------------------------------------------------


async def test_get_needs_the_own_tuple_and_find_the_tuple_of_a_packet(conn: Connection) -> None:
    created = await expectations.create_expectation(conn)
    assert (await conn.expectations.get(expectations.EXPECTED)).id == created.id
    assert (await conn.expectations.find(PACKET)).id == created.id
    with pytest.raises(NotFound, match="mask of another one"):
        await conn.expectations.get(PACKET)
    for other in (attrs.evolve(PACKET, dport=2051), created.master, created.master.inverse):
        with pytest.raises(NotFound, match="no such expectation"):
            await conn.expectations.find(other)


async def test_an_expectation_as_target_means_the_one_with_its_id(conn: Connection) -> None:
    created = await expectations.create_expectation(conn)
    assert created.id is not None
    other = attrs.evolve(created, id=created.id ^ 1)
    with pytest.raises(NotFound, match="another id"):
        await conn.expectations.get(other)
    with pytest.raises(NotFound):
        await conn.expectations.update(other, timeout=5)
    with pytest.raises(NotFound):
        await conn.expectations.delete(other)
    (left,) = await conn.expectations.list()
    assert expectations.without_timeout(left) == expectations.without_timeout(created)
    assert (await conn.expectations.get(attrs.evolve(created, id=None))).id == created.id


async def test_expectations_can_be_listed_by_master_and_family(conn: Connection) -> None:
    """The kernel interprets the master in a get request as the tuple of an expectation."""
    masters = [
        await conn.create(master)
        for master in (expectations.irc(), expectations.ftp(), expectations.ftp6())
    ]
    created = [
        await conn.expectations.create(expectations.data_connection(master, port))
        for master, port in zip((masters[0], *masters), (1, 2, 3, 4), strict=True)
    ]
    for target in (masters[0], masters[0].orig, masters[0].reply):
        ids = {found.id for found in await conn.expectations.list(master=target)}
        assert ids == {created[0].id, created[1].id}
    assert [found.id for found in await conn.expectations.list(master=masters[2])] == [
        created[3].id
    ]
    by_family = {
        family: {found.id for found in await conn.expectations.list(family=family)}
        for family in (AF_INET, AF_INET6)
    }
    assert by_family == {
        AF_INET: {expectation.id for expectation in created[:3]},
        AF_INET6: {created[3].id},
    }
    dump = conn.expectations.dump()
    assert {found.id async for found in dump} == {expectation.id for expectation in created}


async def test_a_master_without_a_helper_has_no_expectations(conn: Connection) -> None:
    """The kernel sends no reply to such a dump unless an acknowledgement is requested."""
    without_helper = await conn.create(Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 21, timeout=60))
    with anyio.fail_after(1):
        assert await conn.expectations.list(master=without_helper) == []
    without_expectations = await conn.create(expectations.ftp(2000))
    assert await conn.expectations.list(master=without_expectations) == []
    with pytest.raises(NotFound, match="dump the expectations of tcp"):
        await conn.expectations.list(master=attrs.evolve(without_helper.orig, sport=1))


@pytest.mark.parametrize(
    "arguments",
    [
        {"zone": 7},
        {"master": expectations.EXPECTED, "family": AF_INET},
        {"master": attrs.evolve(expectations.EXPECTED, dport=None)},
        {"master": "tcp"},
        {"family": 7},
    ],
    ids=str,
)
async def test_invalid_arguments_of_a_dump_are_refused(
    conn: Connection, arguments: dict[str, Any]
) -> None:
    with pytest.raises(TypeError if arguments.get("master") == "tcp" else EncodeError):
        conn.expectations.dump(**arguments)


# -- zones ----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["both", "orig", "reply"])
async def test_an_expectation_is_in_the_zone_of_its_master(conn: Connection, where: str) -> None:
    flow = expectations.ftp(zone=9 if where == "both" else None)
    if where != "both":
        getattr(flow, where).zone = 9
    master = await conn.create(flow)
    # If only the reply direction is in a zone, the reply tuple finds the master in that zone.
    master_tuple = master.reply if where == "reply" else master.orig
    requested = attrs.evolve(expectations.data_connection(master), master=master_tuple.without_zone)
    with pytest.raises(NotFound, match="only with its zone"):
        await conn.expectations.create(requested)
    created = await conn.expectations.create(requested, zone=9)
    assert created.master == master.orig.without_zone
    assert [found.id for found in await conn.expectations.list()] == [created.id]
    assert [found.id for found in await conn.expectations.list(master=master)] == [created.id]
    for zone in (None, 0, 8):
        for call in (
            conn.expectations.get(created, zone=zone),
            conn.expectations.find(PACKET, zone=zone),
            conn.expectations.update(created, timeout=9, zone=zone),
            conn.expectations.delete(created, zone=zone),
        ):
            with pytest.raises(NotFound):
                await call
    assert (await conn.expectations.get(created, zone=9)).id == created.id
    await conn.expectations.update(created, timeout=1000, zone=9)
    assert ((await conn.expectations.find(PACKET, zone=9)).timeout or 0) > 900
    await conn.expectations.delete(created, zone=9)
    assert await conn.expectations.list() == []


async def test_a_tuple_finds_a_master_only_with_its_zone(conn: Connection) -> None:
    master = await conn.create(expectations.ftp(zone=9))
    created = await conn.expectations.create(expectations.data_connection(master), zone=9)
    with pytest.raises(NotFound):
        await conn.expectations.list(master=master.orig)
    assert [e.id for e in await conn.expectations.list(master=master.orig, zone=9)] == [created.id]


async def test_the_error_explains_a_zone_of_the_reply_direction(conn: Connection) -> None:
    flow = expectations.ftp()
    flow.reply.zone = 9
    master = await conn.create(flow)
    with pytest.raises(NotFound, match="reply tuple and the zone"):
        await conn.expectations.create(expectations.data_connection(master))


# -- changing and deleting ------------------------------------------------------------------


@pytest.mark.parametrize("by_tuple", [False, True])
async def test_update_changes_the_timeout_without_an_event(
    conn: Connection, by_tuple: bool
) -> None:
    created = await expectations.create_expectation(conn)
    async with conn.expectations.events() as stream:
        await conn.expectations.update(created.tuple if by_tuple else created, timeout=4_294_967)
        now = await conn.expectations.get(created)
        assert expectations.without_timeout(now) == expectations.without_timeout(created)
        assert now.timeout in (4_294_966, 4_294_967)
        await conn.expectations.delete(created)
        (event,) = await expectations.next_events(stream, 1)
    assert event.type is EventType.DESTROY


async def test_a_timeout_of_zero_ends_an_expectation(conn: Connection) -> None:
    created = await expectations.create_expectation(conn)
    async with conn.expectations.events(EventType.DESTROY) as stream:
        await conn.expectations.update(created, timeout=0)
        # Linux 6.1.192 ends it only when it next sweeps expired expectations.
        (event,) = await expectations.next_events(stream, 1, seconds=90)
    assert await conn.expectations.list() == []
    assert (event.expectation.id, event.port_id) == (created.id, 0)


async def test_update_does_not_create_an_expectation(conn: Connection) -> None:
    created = await expectations.create_expectation(conn)
    await conn.expectations.delete(created)
    for target in (created, created.tuple):
        with pytest.raises(NotFound, match="update expectation"):
            await conn.expectations.update(target, timeout=60)
    assert await conn.expectations.list() == []


async def test_an_expectation_found_only_by_its_mask_is_not_changed(conn: Connection) -> None:
    created = await expectations.create_expectation(conn)
    with pytest.raises(NotFound, match=r"update expectation .*mask of another one"):
        await conn.expectations.update(PACKET, timeout=5)
    with pytest.raises(NotFound, match=r"delete expectation .*mask of another one"):
        await conn.expectations.delete(PACKET)
    with pytest.raises(NotFound):
        await conn.expectations.delete(attrs.evolve(created, tuple=PACKET, id=None))
    (left,) = await conn.expectations.list()
    assert (left.timeout or 0) > 200


@pytest.mark.parametrize("by", ["expectation", "tuple", "without its id"])
async def test_delete_deletes_only_one(conn: Connection, by: str) -> None:
    master = await conn.create(expectations.irc())
    created = [
        await conn.expectations.create(expectations.data_connection(master, port))
        for port in (1, 2, 3)
    ]
    target: Expectation | Tuple = created[1]
    if by == "tuple":
        target = created[1].tuple
    elif by == "without its id":
        target = attrs.evolve(created[1], id=None)
    await conn.expectations.delete(target)
    left = {found.id for found in await conn.expectations.list()}
    assert left == {created[0].id, created[2].id}
    with pytest.raises(NotFound, match="delete expectation tcp"):
        await conn.expectations.delete(target)
    assert {found.id for found in await conn.expectations.list()} == left


async def test_delete_by_helper_deletes_only_its_expectations(conn: Connection) -> None:
    ended, left = (
        await expectations.create_expectation(conn),
        await expectations.create_expectation(conn, expectations.irc()),
    )
    await conn.expectations.delete_by_helper("sip")
    await conn.expectations.delete_by_helper("ft")
    assert len(await conn.expectations.list()) == 2
    await conn.expectations.delete_by_helper("ftp")
    assert [found.id for found in await conn.expectations.list()] == [left.id] != [ended.id]


async def test_flush_deletes_only_expectations(conn: Connection) -> None:
    for master in (expectations.ftp(), expectations.irc(), expectations.ftp6()):
        await expectations.create_expectation(conn, master)
    await conn.expectations.flush()
    assert await conn.expectations.list() == []
    assert await conn.count() == 3


async def test_deleting_a_master_deletes_its_expectations(conn: Connection) -> None:
    created = await expectations.create_expectation(conn)
    async with conn.expectations.events() as stream:
        await conn.delete(created.master)
        (event,) = await expectations.next_events(stream, 1)
    assert (event.type, event.expectation.id) == (EventType.DESTROY, created.id)
    assert await conn.expectations.list() == []


INVALID_CALLS: list[Callable[[Connection], Awaitable[object]]] = [
    lambda conn: conn.expectations.delete(None),  # type: ignore[arg-type]
    lambda conn: conn.expectations.delete(expectations.ftp()),  # type: ignore[arg-type]
    lambda conn: conn.expectations.delete(attrs.evolve(expectations.EXPECTED, sport=None)),
    lambda conn: conn.expectations.delete(attrs.evolve(expectations.EXPECTED, zone=3)),
    # Only an id and a master:
    lambda conn: conn.expectations.delete(
        attrs.evolve(expectations.data_connection(expectations.ftp()), tuple=None, id=5)
    ),
    lambda conn: conn.expectations.delete_by_helper(None),  # type: ignore[arg-type]
    lambda conn: conn.expectations.delete_by_helper(""),
    lambda conn: conn.expectations.delete_by_helper("a helper's name is short"),
    lambda conn: conn.expectations.update(None, timeout=3),  # type: ignore[arg-type]
    lambda conn: conn.expectations.update(expectations.EXPECTED, timeout=4_294_968),
    lambda conn: conn.expectations.update(expectations.EXPECTED, timeout=None),  # type: ignore[arg-type]
    lambda conn: conn.expectations.get(None),  # type: ignore[arg-type]
    lambda conn: conn.expectations.find(None),  # type: ignore[arg-type]
    lambda conn: conn.expectations.create(None),  # type: ignore[arg-type]
    lambda conn: conn.expectations.create(
        attrs.evolve(expectations.data_connection(expectations.ftp()), timeout=-1)
    ),
]


@pytest.mark.parametrize("call", INVALID_CALLS)
async def test_invalid_input_is_refused_before_anything_is_sent(
    conn: Connection, call: Callable[[Connection], Awaitable[object]]
) -> None:
    """The kernel takes a delete without a tuple for a flush."""
    created = await expectations.create_expectation(conn)
    requests = conn.client_statistics().requests
    with pytest.raises((EncodeError, TypeError)):
        await call(conn)
    assert conn.client_statistics().requests == requests
    (left,) = await conn.expectations.list()
    assert expectations.without_timeout(left) == expectations.without_timeout(created)
    assert (left.timeout or 0) > 200
