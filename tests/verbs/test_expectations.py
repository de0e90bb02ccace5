"""Expectations, on this machine's kernel; and what its traps would have done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from socket import AF_INET, AF_INET6
from typing import Any

import anyio
import attrs
import pytest
from support import expectations as some
from support import kernel_modules

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

ELSEWHERE = attrs.evolve(some.EXPECTED, sport=4444)
"""What a packet would look like that meets :data:`some.EXPECTED` from any port."""


# -- making ---------------------------------------------------------------------------------


async def test_create_returns_it_as_the_kernel_has_it(conn: Connection) -> None:
    master = await conn.create(some.ftp())
    made = await conn.expectations.create(some.data_connection(master))
    assert made.id is not None
    assert made == Expectation(
        master=master.orig,
        tuple=some.EXPECTED,
        mask=Tuple.tcp("255.255.255.255", 0, "255.255.255.255", 65535),
        timeout=made.timeout,
        id=made.id,
        helper="ftp",
        flags=ExpectFlags(0),
        expect_class=0,
    )
    assert made.timeout in (299, 300)
    assert [some.without_timeout(found) for found in await conn.expectations.list()] == [
        some.without_timeout(made)
    ]
    assert some.without_timeout(await conn.expectations.get(made)) == some.without_timeout(made)


async def test_create_with_all_that_can_be_given(conn: Connection) -> None:
    kernel_modules.load_in_guest("nf_nat_sip")
    master = await conn.create(some.sip())
    asked = Expectation.of(
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
    made = await conn.expectations.create(asked)
    assert made.timeout in (76, 77)
    assert made == attrs.evolve(
        asked,
        timeout=made.timeout,
        id=made.id,
        helper="sip",
        flags=ExpectFlags.PERMANENT | ExpectFlags.INACTIVE,
    )


async def test_what_was_read_can_be_made_again(conn: Connection) -> None:
    made = await some.create_expectation(conn, some.irc())
    await conn.expectations.update(made, timeout=100)
    before = await conn.expectations.get(made)
    await conn.expectations.flush()
    again = await conn.expectations.create(before)
    assert attrs.evolve(some.without_timeout(again), id=made.id) == some.without_timeout(made)
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
async def test_any_protocol_can_be_expected(
    conn: Connection, tuple_: Tuple, any_sport: bool
) -> None:
    master = await conn.create(some.ftp())
    asked = Expectation.of(master.orig, tuple_, any_sport=any_sport)
    made = await conn.expectations.create(asked)
    assert (made.tuple, made.mask) == (asked.tuple, asked.mask)
    await conn.expectations.update(made, timeout=30)
    await conn.expectations.delete(made)
    assert await conn.expectations.list() == []


async def test_create_never_changes_what_is_there(conn: Connection) -> None:
    made = await some.create_expectation(conn)
    other = attrs.evolve(some.data_connection(some.ftp()), timeout=5, flags=ExpectFlags.INACTIVE)
    with pytest.raises(AlreadyExists, match=r"create expectation tcp 10\.0\.0\.1:0.*update\(\)"):
        await conn.expectations.create(other)
    (left,) = await conn.expectations.list()
    assert some.without_timeout(left) == some.without_timeout(made)
    assert left.timeout is not None
    assert left.timeout > 200


async def test_an_overlap_is_refused(conn: Connection) -> None:
    master = await conn.create(some.ftp())
    narrow = Expectation.of(master.orig, attrs.evolve(some.EXPECTED, sport=20), any_src=True)
    made = await conn.expectations.create(narrow)
    with pytest.raises(ResourceBusy, match="overlap"):
        await conn.expectations.create(some.data_connection(master))
    assert [found.id for found in await conn.expectations.list()] == [made.id]


async def test_a_master_needs_a_helper(conn: Connection) -> None:
    plain = await conn.create(Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 21, timeout=60))
    with pytest.raises(NotSupported, match="The master has no helper"):
        await conn.expectations.create(some.data_connection(plain))


async def test_a_master_must_be_there(conn: Connection) -> None:
    with pytest.raises(NotFound, match="The master is missing"):
        await conn.expectations.create(some.data_connection(some.ftp()))


@pytest.mark.parametrize("fields", [{"function": "nope"}, {"expect_class": 1}], ids=str)
async def test_what_the_kernel_does_not_have(conn: Connection, fields: dict[str, Any]) -> None:
    master = await conn.create(some.ftp())
    with pytest.raises(InvalidRequest, match="no function of this name, or the helper has no such"):
        await conn.expectations.create(attrs.evolve(some.data_connection(master), **fields))
    assert await conn.expectations.list() == []


async def test_beyond_the_helpers_limit_the_oldest_goes(conn: Connection) -> None:
    master = await conn.create(some.ftp())
    async with conn.expectations.events() as stream:
        made = [
            await conn.expectations.create(some.data_connection(master, port)) for port in (1, 2)
        ]
        events = await some.next_events(stream, 3)
    assert sorted((event.type.name, event.expectation.id) for event in events) == sorted(
        [("NEW", made[0].id), ("DESTROY", made[0].id), ("NEW", made[1].id)]
    )
    assert [found.id for found in await conn.expectations.list()] == [made[1].id]


# -- finding --------------------------------------------------------------------------------


async def test_get_takes_its_own_tuple_and_find_a_packets(conn: Connection) -> None:
    made = await some.create_expectation(conn)
    assert (await conn.expectations.get(some.EXPECTED)).id == made.id
    assert (await conn.expectations.find(ELSEWHERE)).id == made.id
    with pytest.raises(NotFound, match="mask of another one"):
        await conn.expectations.get(ELSEWHERE)
    for other in (attrs.evolve(ELSEWHERE, dport=2051), made.master, made.master.inverse):
        with pytest.raises(NotFound, match="no such expectation"):
            await conn.expectations.find(other)


async def test_an_expectation_is_the_one_with_its_id(conn: Connection) -> None:
    made = await some.create_expectation(conn)
    assert made.id is not None
    other = attrs.evolve(made, id=made.id ^ 1)
    with pytest.raises(NotFound, match="another id"):
        await conn.expectations.get(other)
    with pytest.raises(NotFound):
        await conn.expectations.update(other, timeout=5)
    with pytest.raises(NotFound):
        await conn.expectations.delete(other)
    (left,) = await conn.expectations.list()
    assert some.without_timeout(left) == some.without_timeout(made)
    assert (await conn.expectations.get(attrs.evolve(made, id=None))).id == made.id


async def test_the_expectations_of_a_master(conn: Connection) -> None:
    """The kernel takes the master of a GET for the tuple of an expectation."""
    masters = [await conn.create(master) for master in (some.irc(), some.ftp(), some.ftp6())]
    made = [
        await conn.expectations.create(some.data_connection(master, port))
        for master, port in zip((masters[0], *masters), (1, 2, 3, 4), strict=True)
    ]
    for target in (masters[0], masters[0].orig, masters[0].reply):
        ids = {found.id for found in await conn.expectations.list(master=target)}
        assert ids == {made[0].id, made[1].id}
    assert [found.id for found in await conn.expectations.list(master=masters[2])] == [made[3].id]
    by_family = {
        family: {found.id for found in await conn.expectations.list(family=family)}
        for family in (AF_INET, AF_INET6)
    }
    assert by_family == {AF_INET: {one.id for one in made[:3]}, AF_INET6: {made[3].id}}
    dump = conn.expectations.dump()
    assert {found.id async for found in dump} == {one.id for one in made}


async def test_a_master_without_a_helper_has_none(conn: Connection) -> None:
    """The kernel answers such a dump with nothing at all, unless an acknowledgement is asked."""
    plain = await conn.create(Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 21, timeout=60))
    with anyio.fail_after(1):
        assert await conn.expectations.list(master=plain) == []
    bare = await conn.create(some.ftp(2000))
    assert await conn.expectations.list(master=bare) == []
    with pytest.raises(NotFound, match="dump the expectations of tcp"):
        await conn.expectations.list(master=attrs.evolve(plain.orig, sport=1))


@pytest.mark.parametrize(
    "arguments",
    [
        {"zone": 7},
        {"master": some.EXPECTED, "family": AF_INET},
        {"master": attrs.evolve(some.EXPECTED, dport=None)},
        {"master": "tcp"},
        {"family": 7},
    ],
    ids=str,
)
async def test_dumps_that_are_none(conn: Connection, arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError if arguments.get("master") == "tcp" else EncodeError):
        conn.expectations.dump(**arguments)


# -- zones ----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["both", "orig", "reply"])
async def test_the_zone_is_that_of_the_master(conn: Connection, where: str) -> None:
    flow = some.ftp(zone=9 if where == "both" else None)
    if where != "both":
        getattr(flow, where).zone = 9
    master = await conn.create(flow)
    # Where only its replies are in a zone, the master is found there by its reply tuple.
    named = master.reply if where == "reply" else master.orig
    asked = attrs.evolve(some.data_connection(master), master=named.without_zone)
    with pytest.raises(NotFound, match="only with its zone"):
        await conn.expectations.create(asked)
    made = await conn.expectations.create(asked, zone=9)
    assert made.master == master.orig.without_zone
    assert [found.id for found in await conn.expectations.list()] == [made.id]
    assert [found.id for found in await conn.expectations.list(master=master)] == [made.id]
    for zone in (None, 0, 8):
        for verb in (
            conn.expectations.get(made, zone=zone),
            conn.expectations.find(ELSEWHERE, zone=zone),
            conn.expectations.update(made, timeout=9, zone=zone),
            conn.expectations.delete(made, zone=zone),
        ):
            with pytest.raises(NotFound):
                await verb
    assert (await conn.expectations.get(made, zone=9)).id == made.id
    await conn.expectations.update(made, timeout=1000, zone=9)
    assert ((await conn.expectations.find(ELSEWHERE, zone=9)).timeout or 0) > 900
    await conn.expectations.delete(made, zone=9)
    assert await conn.expectations.list() == []


async def test_a_master_by_its_tuple_needs_its_zone(conn: Connection) -> None:
    master = await conn.create(some.ftp(zone=9))
    made = await conn.expectations.create(some.data_connection(master), zone=9)
    with pytest.raises(NotFound):
        await conn.expectations.list(master=master.orig)
    assert [e.id for e in await conn.expectations.list(master=master.orig, zone=9)] == [made.id]


async def test_a_master_whose_replies_have_a_zone_is_explained(conn: Connection) -> None:
    flow = some.ftp()
    flow.reply.zone = 9
    master = await conn.create(flow)
    with pytest.raises(NotFound, match="reply tuple and the zone"):
        await conn.expectations.create(some.data_connection(master))


# -- changing and deleting ------------------------------------------------------------------


@pytest.mark.parametrize("by_tuple", [False, True])
async def test_update_changes_the_timeout_and_says_nothing(
    conn: Connection, by_tuple: bool
) -> None:
    made = await some.create_expectation(conn)
    async with conn.expectations.events() as stream:
        await conn.expectations.update(made.tuple if by_tuple else made, timeout=4_294_967)
        now = await conn.expectations.get(made)
        assert some.without_timeout(now) == some.without_timeout(made)
        assert now.timeout in (4_294_966, 4_294_967)
        await conn.expectations.delete(made)
        (event,) = await some.next_events(stream, 1)
    assert event.type is EventType.DESTROY


async def test_an_update_to_zero_ends_it(conn: Connection) -> None:
    made = await some.create_expectation(conn)
    async with conn.expectations.events(EventType.DESTROY) as stream:
        await conn.expectations.update(made, timeout=0)
        (event,) = await some.next_events(
            stream, 1, seconds=90
        )  # Linux 6.1.192 sweeps them, in its time
    assert await conn.expectations.list() == []
    assert (event.expectation.id, event.port_id) == (made.id, 0)


async def test_update_never_makes_one(conn: Connection) -> None:
    made = await some.create_expectation(conn)
    await conn.expectations.delete(made)
    for target in (made, made.tuple):
        with pytest.raises(NotFound, match="update expectation"):
            await conn.expectations.update(target, timeout=60)
    assert await conn.expectations.list() == []


async def test_what_only_a_mask_finds_is_left_alone(conn: Connection) -> None:
    made = await some.create_expectation(conn)
    with pytest.raises(NotFound, match=r"update expectation .*mask of another one"):
        await conn.expectations.update(ELSEWHERE, timeout=5)
    with pytest.raises(NotFound, match=r"delete expectation .*mask of another one"):
        await conn.expectations.delete(ELSEWHERE)
    with pytest.raises(NotFound):
        await conn.expectations.delete(attrs.evolve(made, tuple=ELSEWHERE, id=None))
    (left,) = await conn.expectations.list()
    assert (left.timeout or 0) > 200


@pytest.mark.parametrize("how", ["expectation", "tuple", "without its id"])
async def test_delete_deletes_one(conn: Connection, how: str) -> None:
    master = await conn.create(some.irc())
    made = [
        await conn.expectations.create(some.data_connection(master, port)) for port in (1, 2, 3)
    ]
    target: Expectation | Tuple = made[1]
    if how == "tuple":
        target = made[1].tuple
    elif how == "without its id":
        target = attrs.evolve(made[1], id=None)
    await conn.expectations.delete(target)
    left = {found.id for found in await conn.expectations.list()}
    assert left == {made[0].id, made[2].id}
    with pytest.raises(NotFound, match="delete expectation tcp"):
        await conn.expectations.delete(target)
    assert {found.id for found in await conn.expectations.list()} == left


async def test_delete_by_helper(conn: Connection) -> None:
    ended, left = (
        await some.create_expectation(conn),
        await some.create_expectation(conn, some.irc()),
    )
    await conn.expectations.delete_by_helper("sip")
    await conn.expectations.delete_by_helper("ft")
    assert len(await conn.expectations.list()) == 2
    await conn.expectations.delete_by_helper("ftp")
    assert [found.id for found in await conn.expectations.list()] == [left.id] != [ended.id]


async def test_flush_deletes_expectations_alone(conn: Connection) -> None:
    for master in (some.ftp(), some.irc(), some.ftp6()):
        await some.create_expectation(conn, master)
    await conn.expectations.flush()
    assert await conn.expectations.list() == []
    assert await conn.count() == 3


async def test_their_end_is_their_masters(conn: Connection) -> None:
    made = await some.create_expectation(conn)
    async with conn.expectations.events() as stream:
        await conn.delete(made.master)
        (event,) = await some.next_events(stream, 1)
    assert (event.type, event.expectation.id) == (EventType.DESTROY, made.id)
    assert await conn.expectations.list() == []


WITHOUT_A_TUPLE: list[Callable[[Connection], Awaitable[object]]] = [
    lambda conn: conn.expectations.delete(None),  # type: ignore[arg-type]
    lambda conn: conn.expectations.delete(some.ftp()),  # type: ignore[arg-type]
    lambda conn: conn.expectations.delete(attrs.evolve(some.EXPECTED, sport=None)),
    lambda conn: conn.expectations.delete(attrs.evolve(some.EXPECTED, zone=3)),
    lambda conn: conn.expectations.delete(
        attrs.evolve(some.data_connection(some.ftp()), tuple=None, id=5)  # only an id, and a master
    ),
    lambda conn: conn.expectations.delete_by_helper(None),  # type: ignore[arg-type]
    lambda conn: conn.expectations.delete_by_helper(""),
    lambda conn: conn.expectations.delete_by_helper("a helper's name is short"),
    lambda conn: conn.expectations.update(None, timeout=3),  # type: ignore[arg-type]
    lambda conn: conn.expectations.update(some.EXPECTED, timeout=4_294_968),
    lambda conn: conn.expectations.update(some.EXPECTED, timeout=None),  # type: ignore[arg-type]
    lambda conn: conn.expectations.get(None),  # type: ignore[arg-type]
    lambda conn: conn.expectations.find(None),  # type: ignore[arg-type]
    lambda conn: conn.expectations.create(None),  # type: ignore[arg-type]
    lambda conn: conn.expectations.create(
        attrs.evolve(some.data_connection(some.ftp()), timeout=-1)
    ),
]


@pytest.mark.parametrize("verb", WITHOUT_A_TUPLE)
async def test_bad_input_is_refused_before_anything_is_sent(
    conn: Connection, verb: Callable[[Connection], Awaitable[object]]
) -> None:
    """To the kernel a delete without a tuple is a flush."""
    made = await some.create_expectation(conn)
    requests = conn.client_statistics().requests
    with pytest.raises((EncodeError, TypeError)):
        await verb(conn)
    assert conn.client_statistics().requests == requests
    (left,) = await conn.expectations.list()
    assert some.without_timeout(left) == some.without_timeout(made)
    assert (left.timeout or 0) > 200
