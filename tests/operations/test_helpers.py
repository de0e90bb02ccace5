"""Test user-space helpers, on a fake kernel, and on a real one that lacks them."""

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
from conntrack_aio.model.helpers import ExpectPolicy, HelperStatus, UserspaceHelper
from conntrack_aio.netlink import attributes
from conntrack_aio.testing import FakeKernel, FakeSocket, ReceivedRequest

pytestmark = [pytest.mark.kernels, pytest.mark.anyio]

CONTROL = ExpectPolicy(name="control", expect_max=1, expect_timeout=300)
DATA = ExpectPolicy(name="data", expect_max=4, expect_timeout=60)


def with_equal_limits(**limits: int) -> tuple[ExpectPolicy, ExpectPolicy]:
    """Return both classes with the same limits, as an update requires."""
    control = attrs.evolve(CONTROL, **limits)
    return control, attrs.evolve(control, name="data")


def helper(name: str = "ftp", family: int = AF_INET, proto: int = 6) -> UserspaceHelper:
    return UserspaceHelper(name=name, family=family, proto=proto, policies=(CONTROL, DATA))


KEY = helper().key


def kernel_with_builtin_helper() -> FakeKernel:
    """Return a kernel with one helper of its own: FTP over IPv6."""
    kernel = FakeKernel()
    kernel.builtin_helpers &= {("ftp", int(AF_INET6), 6)}
    return kernel


async def fill(conn: Connection) -> None:
    """Create four helpers with three names."""
    for new in (
        helper(),
        helper("tftp", proto=17),
        helper("sip", proto=17),
        helper("sip", AF_INET6, 17),
    ):
        await conn.helpers.create(new)


async def test_create_returns_the_helper_as_the_kernel_has_it() -> None:
    kernel = kernel_with_builtin_helper()
    async with kernel.connect() as conn:
        created = await conn.helpers.create(helper())
        assert created == UserspaceHelper(
            name="ftp",
            family=AF_INET,
            proto=6,
            policies=(CONTROL, DATA),
            queue=0,
            private_data_length=0,
            status=HelperStatus.DISABLED,
        )
        with_all_fields = helper("x" * 15)
        with_all_fields.queue, with_all_fields.private_data_length, with_all_fields.status = (
            65535,
            32,
            HelperStatus.ENABLED,
        )
        assert await conn.helpers.create(with_all_fields) == with_all_fields
        assert await conn.helpers.list() == [created, with_all_fields]
        assert await conn.helpers.get(*KEY) == created
        with pytest.raises(AlreadyExists, match=r"create helper 'ftp' \(tcp, IPv4\).*update\(\)"):
            await conn.helpers.create(helper())
        assert len(kernel.helpers) == 2


async def test_the_key_of_a_builtin_helper_is_refused() -> None:
    async with kernel_with_builtin_helper().connect() as conn:
        with pytest.raises(ResourceBusy, match="inside the kernel"):
            await conn.helpers.create(helper(family=AF_INET6))


@pytest.mark.parametrize(
    ("selection", "names"),
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
async def test_helpers_can_be_listed_by_name_family_and_protocol(
    selection: dict[str, int | str], names: list[str]
) -> None:
    async with kernel_with_builtin_helper().connect() as conn:
        await fill(conn)
        listed = await conn.helpers.list(**selection)  # type: ignore[arg-type]
        assert [listed_helper.name for listed_helper in listed] == names
        async with conn.helpers.dump(**selection) as dump:  # type: ignore[arg-type]
            assert [dumped.name async for dumped in dump] == names


async def test_get_finds_either_of_two_helpers_of_the_same_name() -> None:
    async with kernel_with_builtin_helper().connect() as conn:
        await fill(conn)
        for family in (AF_INET, AF_INET6):
            assert (await conn.helpers.get("sip", family, 17)).family == family


async def test_update_changes_only_the_given_fields() -> None:
    async with kernel_with_builtin_helper().connect() as conn:
        await fill(conn)
        others = await conn.helpers.list(proto=17)
        await conn.helpers.update(*KEY, queue=7)
        await conn.helpers.update(*KEY, status=HelperStatus.ENABLED)
        changed = with_equal_limits(expect_max=255, expect_timeout=0)
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
    "policies",
    [
        with_equal_limits()[:1],
        [*with_equal_limits(), CONTROL],
        with_equal_limits()[::-1],
        [CONTROL, CONTROL],
    ],
)
async def test_update_cannot_change_the_names_of_policies(policies: list[ExpectPolicy]) -> None:
    async with kernel_with_builtin_helper().connect() as conn:
        await fill(conn)
        before = await conn.helpers.list()
        with pytest.raises(ResourceBusy, match="number, the order and the names"):
            await conn.helpers.update(*KEY, policies=policies)
        assert await conn.helpers.list() == before


@pytest.mark.parametrize("empty", [False, True])
async def test_a_missing_helper_raises_not_found(empty: bool) -> None:
    """The kernel would create a missing helper on update, and acknowledges its deletion."""
    kernel = kernel_with_builtin_helper()
    async with kernel.connect() as conn:
        if not empty:
            await fill(conn)
        before = await conn.helpers.list()
        for key in (("ftp", AF_INET6, 6), ("ftp", AF_INET, 17), ("pptp", AF_INET, 6)):
            for method, call in {
                "get": conn.helpers.get(*key),
                "update": conn.helpers.update(*key, queue=1, policies=with_equal_limits()),
                "delete": conn.helpers.delete(*key),
            }.items():
                with pytest.raises(NotFound, match=f"{method} helper '{key[0]}'.*no user-space"):
                    await call
        assert await conn.helpers.list() == before


async def test_enoent_for_a_helper_raises_not_found() -> None:
    """Accept ENOENT as the reply to a get request by key, as the protocol intends."""

    def refuse(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.ack(request, errno.ENOENT if request.type == 0x901 else 0)

    async with ScriptedKernel(refuse).connect() as conn:
        for call in (conn.helpers.get(*KEY), conn.helpers.delete(*KEY)):
            with pytest.raises(NotFound, match="no user-space helper of this name"):
                await call


async def test_delete_deletes_only_one() -> None:
    async with kernel_with_builtin_helper().connect() as conn:
        await fill(conn)
        (first, second) = await conn.helpers.list(name="sip")
        await conn.helpers.delete(*first.key)
        assert await conn.helpers.list(name="sip") == [second]
        assert len(await conn.helpers.list()) == 3


@pytest.mark.parametrize(
    "key", [("", AF_INET, 6), (None, AF_INET, 6), ("ftp", None, 6), ("ftp", AF_INET, None)]
)
async def test_an_incomplete_key_is_refused_before_any_request(key: tuple[str, int, int]) -> None:
    kernel = kernel_with_builtin_helper()
    async with kernel.connect() as conn:
        await fill(conn)
        requests = len(kernel.sockets[0].requests)
        for call in (conn.helpers.delete(*key), conn.helpers.update(*key, queue=1)):
            with pytest.raises(EncodeError):
                await call
        assert len(kernel.sockets[0].requests) == requests
        assert len(kernel.helpers) == 4


async def test_a_helper_in_use_is_not_deleted() -> None:
    kernel = kernel_with_builtin_helper()
    async with kernel.connect() as conn:
        await fill(conn)
        kernel.helpers_in_use.add(KEY)
        with pytest.raises(ResourceBusy, match=r"delete helper 'ftp'.*A rule or a connection"):
            await conn.helpers.delete(*KEY)
        await conn.helpers.flush()
        assert [remaining.name for remaining in await conn.helpers.list()] == ["ftp"]
        with pytest.raises(ResourceBusy, match=r"flush user-space helpers.*A rule"):
            await conn.helpers.flush()
        kernel.helpers_in_use.clear()
        await conn.helpers.flush()
        await conn.helpers.flush()  # there is no helper left
        assert kernel.helpers == []


async def test_the_error_names_the_initial_user_namespace() -> None:
    kernel = FakeKernel(without=["initial CAP_NET_ADMIN"])
    async with kernel.connect() as conn:
        for call in (
            conn.helpers.list(),
            conn.helpers.get(*KEY),
            conn.helpers.create(helper()),
            conn.helpers.update(*KEY, queue=1),
            conn.helpers.delete(*KEY),
            conn.helpers.flush(),
        ):
            with pytest.raises(PermissionDenied, match="initial user namespace"):
                await call


async def test_a_dump_of_many_helpers_spans_several_datagrams() -> None:
    async with kernel_with_builtin_helper().connect() as conn:
        for number in range(50):
            await conn.helpers.create(helper(f"h{number}"))
        async with conn.helpers.dump() as dump:
            assert len([listed async for listed in dump]) == 50


async def test_create_sends_what_nfct_sends() -> None:
    """Compare with what nfct(8) 1.4.7 sends for ``nfct add helper ftp inet tcp``."""
    theirs = attributes_to_host_byte_order(
        bytes.fromhex(
            "0800010066747000080005000000001814000280060001000002000005000200060000002800048"
            "01c00028008000100667470000800020000000001080003000000012c0800010000000001"
        )
    )
    created = UserspaceHelper(
        name="ftp",
        family=AF_INET,
        proto=6,
        policies=(ExpectPolicy(name="ftp", expect_max=1, expect_timeout=300),),
        private_data_length=24,
    )
    ours = requests.create(created).payload[4:]
    assert flattened(ours) == flattened(theirs)
    key = attr(1, b"ftp\0") + HELPER_KEY
    policies = nest(4, be32(1, 1), expect_policy(2, b"ftp", 1, 300))
    assert ours == key + policies + be32(5, 24)


def flattened(data: bytes, path: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], bytes]]:
    """Return each attribute that is no nest, with its path of numbers, sorted by path."""
    found: list[tuple[tuple[int, ...], bytes]] = []
    for number, nested, first, last in attributes.walk(data, 0, len(data)):
        here = (*path, number)
        found += flattened(data[first:last], here) if nested else [(here, data[first:last])]
    return sorted(found)


# A kernel that was built without user-space helpers


@pytest.mark.kernel
async def test_the_error_names_the_option_of_a_kernel_without_helpers(conn: Connection) -> None:
    if (await conn.features()).helpers:
        pytest.skip("this kernel has user-space helpers, which the whole machine shares")
    for operation, call in {
        "dump user-space helpers": conn.helpers.list(),
        "get helper 'ftp'": conn.helpers.get(*KEY),
        "create helper 'ftp'": conn.helpers.create(helper()),
        "update helper 'ftp'": conn.helpers.update(*KEY, queue=1),
        "delete helper 'ftp'": conn.helpers.delete(*KEY),
        "flush user-space helpers": conn.helpers.flush(),
    }.items():
        with pytest.raises(NotSupported, match=f"{operation}.*CONFIG_NF_CT_NETLINK_HELPER"):
            await call


async def test_update_refuses_limits_that_differ_between_classes() -> None:
    """The kernel gives all classes the limits of the first (nfnl_cthelper_update_policy_all)."""
    async with kernel_with_builtin_helper().connect() as conn:
        created = await conn.helpers.create(helper("two"))
        with pytest.raises(EncodeError, match="limits of the first"):
            await conn.helpers.update(*created.key, policies=created.policies)
        equal = with_equal_limits(expect_max=9)
        await conn.helpers.update(*created.key, policies=equal)
        assert (await conn.helpers.get(*created.key)).policies == equal
