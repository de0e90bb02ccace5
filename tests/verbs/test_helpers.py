"""User-space helpers: on a fake kernel, and on a real one that has none."""

from __future__ import annotations

import errno
from socket import AF_INET, AF_INET6

import attrs
import pytest
from support.attribute_encoding import attr, be32, nest
from support.byte_order import attributes_to_host_byte_order
from support.policy_cases import HELPER_KEY, expect_policy
from support.scripted_kernel import ScriptedKernel

from conntrack_aio import (
    AlreadyExists,
    Connection,
    EncodeError,
    NotFound,
    NotSupported,
    PermissionDenied,
    ResourceBusy,
)
from conntrack_aio.codec.requests import helpers as requests
from conntrack_aio.model.enums import HelperStatus
from conntrack_aio.model.helpers import ExpectPolicy, UserspaceHelper
from conntrack_aio.netlink import attributes
from conntrack_aio.testing import FakeKernel, FakeSocket, ReceivedRequest

pytestmark = [pytest.mark.kernels, pytest.mark.anyio]

CONTROL = ExpectPolicy(name="control", expect_max=1, expect_timeout=300)
DATA = ExpectPolicy(name="data", expect_max=4, expect_timeout=60)


def alike(**limits: int) -> tuple[ExpectPolicy, ExpectPolicy]:
    """Both classes with the same limits, as an update wants them."""
    control = attrs.evolve(CONTROL, **limits)
    return control, attrs.evolve(control, name="data")


def helper(name: str = "ftp", family: int = AF_INET, proto: int = 6) -> UserspaceHelper:
    return UserspaceHelper(name=name, family=family, proto=proto, policies=(CONTROL, DATA))


KEY = helper().key


def kernel_of_one() -> FakeKernel:
    """A kernel which has one helper itself: FTP over IPv6."""
    kernel = FakeKernel()
    kernel.builtin_helpers &= {("ftp", int(AF_INET6), 6)}
    return kernel


async def fill(conn: Connection) -> None:
    """Four helpers, of three names."""
    for each in (
        helper(),
        helper("tftp", proto=17),
        helper("sip", proto=17),
        helper("sip", AF_INET6, 17),
    ):
        await conn.helpers.create(each)


async def test_what_is_made_is_there() -> None:
    kernel = kernel_of_one()
    async with kernel.connect() as conn:
        made = await conn.helpers.create(helper())
        assert made == UserspaceHelper(
            name="ftp",
            family=AF_INET,
            proto=6,
            policies=(CONTROL, DATA),
            queue=0,
            private_data_length=0,
            status=HelperStatus.DISABLED,
        )
        full = helper("x" * 15)
        full.queue, full.private_data_length, full.status = 65535, 32, HelperStatus.ENABLED
        assert await conn.helpers.create(full) == full
        assert await conn.helpers.list() == [made, full]
        assert await conn.helpers.get(*KEY) == made
        with pytest.raises(AlreadyExists, match=r"create helper 'ftp' \(tcp, IPv4\).*update\(\)"):
            await conn.helpers.create(helper())
        assert len(kernel.helpers) == 2


async def test_a_name_inside_the_kernel_is_taken() -> None:
    async with kernel_of_one().connect() as conn:
        with pytest.raises(ResourceBusy, match="inside the kernel"):
            await conn.helpers.create(helper(family=AF_INET6))


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ({}, ["ftp", "tftp", "sip", "sip"]),
        ({"name": "sip"}, ["sip", "sip"]),
        ({"family": AF_INET6}, ["sip"]),
        ({"proto": 17}, ["tftp", "sip", "sip"]),
        ({"name": "sip", "family": AF_INET, "proto": 17}, ["sip"]),
        ({"name": "sip", "proto": 6}, []),
        ({"name": ""}, []),
    ],
)
async def test_some_of_the_helpers(chosen: dict[str, int | str], found: list[str]) -> None:
    async with kernel_of_one().connect() as conn:
        await fill(conn)
        listed = await conn.helpers.list(**chosen)  # type: ignore[arg-type]
        assert [each.name for each in listed] == found
        async with conn.helpers.dump(**chosen) as dump:  # type: ignore[arg-type]
            assert [each.name async for each in dump] == found


async def test_of_two_of_a_name_each_is_got() -> None:
    async with kernel_of_one().connect() as conn:
        await fill(conn)
        for family in (AF_INET, AF_INET6):
            assert (await conn.helpers.get("sip", family, 17)).family == family


async def test_update_changes_what_is_named_alone() -> None:
    async with kernel_of_one().connect() as conn:
        await fill(conn)
        others = await conn.helpers.list(proto=17)
        await conn.helpers.update(*KEY, queue=7)
        await conn.helpers.update(*KEY, status=HelperStatus.ENABLED)
        changed = alike(expect_max=255, expect_timeout=0)
        await conn.helpers.update(*KEY, policies=changed)
        now = await conn.helpers.get(*KEY)
        assert (now.queue, now.status, now.policies) == (
            *(7, HelperStatus.ENABLED),
            changed,
        )
        await conn.helpers.update(*KEY, queue=0, status=HelperStatus.DISABLED)
        now = await conn.helpers.get(*KEY)
        assert (now.queue, now.status) == (0, HelperStatus.DISABLED)
        assert await conn.helpers.list(proto=17) == others


@pytest.mark.parametrize(
    "policies", [alike()[:1], [*alike(), CONTROL], alike()[::-1], [CONTROL, CONTROL]]
)
async def test_a_helper_keeps_its_policies_names(policies: list[ExpectPolicy]) -> None:
    async with kernel_of_one().connect() as conn:
        await fill(conn)
        before = await conn.helpers.list()
        with pytest.raises(ResourceBusy, match="number, the order and the names"):
            await conn.helpers.update(*KEY, policies=policies)
        assert await conn.helpers.list() == before


@pytest.mark.parametrize("empty", [False, True])
async def test_what_is_not_there_is_not_found(empty: bool) -> None:
    """The kernel itself makes what it should update, and deletes in vain with success."""
    kernel = kernel_of_one()
    async with kernel.connect() as conn:
        if not empty:
            await fill(conn)
        before = await conn.helpers.list()
        for key in (("ftp", AF_INET6, 6), ("ftp", AF_INET, 17), ("pptp", AF_INET, 6)):
            for words, verb in {
                "get": conn.helpers.get(*key),
                "update": conn.helpers.update(*key, queue=1, policies=alike()),
                "delete": conn.helpers.delete(*key),
            }.items():
                with pytest.raises(NotFound, match=f"{words} helper '{key[0]}'.*no user-space"):
                    await verb
        assert await conn.helpers.list() == before


async def test_a_kernel_that_says_so_is_understood_too() -> None:
    """One that answers ENOENT to a GET by the key, as it was meant to."""

    def refuse(socket: FakeSocket, asked: ReceivedRequest) -> None:
        socket.ack(asked, errno.ENOENT if asked.type == 0x901 else 0)

    async with ScriptedKernel(refuse).connect() as conn:
        for verb in (conn.helpers.get(*KEY), conn.helpers.delete(*KEY)):
            with pytest.raises(NotFound, match="no user-space helper of this name"):
                await verb


async def test_delete_deletes_one() -> None:
    async with kernel_of_one().connect() as conn:
        await fill(conn)
        (first, second) = await conn.helpers.list(name="sip")
        await conn.helpers.delete(*first.key)
        assert await conn.helpers.list(name="sip") == [second]
        assert len(await conn.helpers.list()) == 3


@pytest.mark.parametrize(
    "key", [("", AF_INET, 6), (None, AF_INET, 6), ("ftp", None, 6), ("ftp", AF_INET, None)]
)
async def test_less_than_a_key_deletes_nothing(key: tuple[str, int, int]) -> None:
    kernel = kernel_of_one()
    async with kernel.connect() as conn:
        await fill(conn)
        asked = len(kernel.sockets[0].requests)
        for verb in (conn.helpers.delete(*key), conn.helpers.update(*key, queue=1)):
            with pytest.raises(EncodeError):
                await verb
        assert len(kernel.sockets[0].requests) == asked
        assert len(kernel.helpers) == 4


async def test_one_in_use_stays() -> None:
    kernel = kernel_of_one()
    async with kernel.connect() as conn:
        await fill(conn)
        kernel.helpers_in_use.add(KEY)
        with pytest.raises(ResourceBusy, match=r"delete helper 'ftp'.*A rule or a connection"):
            await conn.helpers.delete(*KEY)
        await conn.helpers.flush()
        assert [each.name for each in await conn.helpers.list()] == ["ftp"]
        with pytest.raises(ResourceBusy, match=r"flush user-space helpers.*A rule"):
            await conn.helpers.flush()
        kernel.helpers_in_use.clear()
        await conn.helpers.flush()
        await conn.helpers.flush()  # of nothing
        assert kernel.helpers == []


async def test_without_the_machines_privilege() -> None:
    kernel = FakeKernel(without=["initial CAP_NET_ADMIN"])
    async with kernel.connect() as conn:
        for verb in (
            conn.helpers.list(),
            conn.helpers.get(*KEY),
            conn.helpers.create(helper()),
            conn.helpers.update(*KEY, queue=1),
            conn.helpers.delete(*KEY),
            conn.helpers.flush(),
        ):
            with pytest.raises(PermissionDenied, match="initial user namespace"):
                await verb


async def test_many_helpers_are_several_datagrams() -> None:
    async with kernel_of_one().connect() as conn:
        for number in range(50):
            await conn.helpers.create(helper(f"h{number}"))
        async with conn.helpers.dump() as dump:
            assert len([each async for each in dump]) == 50


async def test_it_is_made_as_nfct_makes_it() -> None:
    """What nfct(8) 1.4.7 sent for ``nfct add helper ftp inet tcp``."""
    theirs = attributes_to_host_byte_order(
        bytes.fromhex(
            "0800010066747000080005000000001814000280060001000002000005000200060000002800048"
            "01c00028008000100667470000800020000000001080003000000012c0800010000000001"
        )
    )
    made = UserspaceHelper(
        name="ftp",
        family=AF_INET,
        proto=6,
        policies=(ExpectPolicy(name="ftp", expect_max=1, expect_timeout=300),),
        private_data_length=24,
    )
    ours = requests.create(made).payload[4:]
    assert flat(ours) == flat(theirs)
    key = attr(1, b"ftp\0") + HELPER_KEY
    policies = nest(4, be32(1, 1), expect_policy(2, b"ftp", 1, 300))
    assert ours == key + policies + be32(5, 24)


def flat(data: bytes, path: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], bytes]]:
    """Every attribute with the numbers that lead there, in order of them."""
    found: list[tuple[tuple[int, ...], bytes]] = []
    for number, nested, first, last in attributes.walk(data, 0, len(data)):
        here = (*path, number)
        found += flat(data[first:last], here) if nested else [(here, data[first:last])]
    return sorted(found)


# A kernel that was built without them


@pytest.mark.kernel
async def test_this_machines_kernel_has_none(conn: Connection) -> None:
    if (await conn.features()).helpers:
        pytest.skip("this kernel has user-space helpers: the whole machine's, not to be touched")
    for words, verb in {
        "dump user-space helpers": conn.helpers.list(),
        "get helper 'ftp'": conn.helpers.get(*KEY),
        "create helper 'ftp'": conn.helpers.create(helper()),
        "update helper 'ftp'": conn.helpers.update(*KEY, queue=1),
        "delete helper 'ftp'": conn.helpers.delete(*KEY),
        "flush user-space helpers": conn.helpers.flush(),
    }.items():
        with pytest.raises(NotSupported, match=f"{words}.*CONFIG_NF_CT_NETLINK_HELPER"):
            await verb


async def test_an_update_that_would_give_all_classes_the_limits_of_the_first() -> None:
    """The kernel carries it out so (nfnl_cthelper_update_policy_all)."""
    async with kernel_of_one().connect() as conn:
        made = await conn.helpers.create(helper("two"))
        with pytest.raises(EncodeError, match="limits of the first"):
            await conn.helpers.update(*made.key, policies=made.policies)
        same = alike(expect_max=9)
        await conn.helpers.update(*made.key, policies=same)
        assert (await conn.helpers.get(*made.key)).policies == same
