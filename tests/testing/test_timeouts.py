"""Timeout policies are the same in the fake and the real kernel, and depend on the release."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import closing
from socket import AF_INET, AF_INET6

import attrs
import pytest
from support import raw_requests
from support.lab import Lab
from support.policy_cases import policy_head, seconds
from support.raw_requests import ACK, DUMP, REQUEST, be8, be16, pack, pack_be32, pack_nest
from support.real_or_fake_kernel import AnyKernel, FakeKernelAdapter, RealKernel

from conntrack_aio import (
    AlreadyExists,
    Connection,
    DCCPTimeouts,
    GenericTimeouts,
    GRETimeouts,
    ICMPTimeouts,
    ICMPv6Timeouts,
    InvalidRequest,
    NotFound,
    NotSupported,
    ResourceBusy,
    SCTPTimeouts,
    TCPTimeouts,
    TimeoutPolicy,
    UDPTimeouts,
)
from conntrack_aio.testing import FakeKernel

pytestmark = pytest.mark.anyio

KINDS = (
    *(TCPTimeouts, UDPTimeouts, SCTPTimeouts, ICMPTimeouts),
    *(ICMPv6Timeouts, GRETimeouts, GenericTimeouts),
)


@pytest.fixture
async def conn(anykernel: AnyKernel) -> AsyncIterator[Connection]:
    async with anykernel.connect() as connection:
        yield connection


def udp(name: str = "a", unreplied: int | None = None, replied: int | None = None) -> TimeoutPolicy:
    return TimeoutPolicy.of(name, UDPTimeouts(unreplied=unreplied, replied=replied), family=AF_INET)


@pytest.mark.since("DEFAULTS_WITHOUT_FAMILY")
async def test_the_default_timeouts_are_the_same(conn: Connection) -> None:
    defaults = [await conn.timeouts.get_defaults(kind) for kind in KINDS]
    assert defaults[0] == TCPTimeouts(
        syn_sent=120,
        syn_recv=60,
        established=432000,
        fin_wait=120,
        close_wait=60,
        last_ack=30,
        time_wait=120,
        close=10,
        syn_sent2=120,
        retrans=300,
        unack=300,
    )
    assert defaults[1:] == [
        UDPTimeouts(unreplied=30, replied=120),
        SCTPTimeouts(
            closed=10,
            cookie_wait=3,
            cookie_echoed=3,
            established=210,
            shutdown_sent=3,
            shutdown_recd=3,
            shutdown_ack_sent=3,
            heartbeat_sent=30,
            heartbeat_acked=0,
        ),
        ICMPTimeouts(timeout=30),
        ICMPv6Timeouts(timeout=30),
        GRETimeouts(unreplied=30, replied=180),
        GenericTimeouts(timeout=600),
    ]
    assert await conn.timeouts.get_defaults(UDPTimeouts, proto=136) == defaults[1]


async def test_policies_are_created_updated_replaced_and_deleted(conn: Connection) -> None:
    await conn.timeouts.set_defaults(UDPTimeouts(replied=77))
    created = await conn.timeouts.create(udp(unreplied=5))
    assert created == attrs.evolve(udp(unreplied=5, replied=77), use=1)
    with pytest.raises(AlreadyExists):
        await conn.timeouts.create(udp(unreplied=6))
    other = await conn.timeouts.create(TimeoutPolicy.of("b", TCPTimeouts(), family=AF_INET6))
    assert other.timeouts == await conn.timeouts.get_defaults(TCPTimeouts)
    assert await conn.timeouts.list() == [created, other]
    updated = await conn.timeouts.update("a", UDPTimeouts(unreplied=0))
    assert updated.timeouts == UDPTimeouts(unreplied=0, replied=77)
    replaced = await conn.timeouts.replace(udp(replied=9))
    assert replaced.timeouts == UDPTimeouts(unreplied=30, replied=9)
    for policy in (
        TimeoutPolicy.of("a", UDPTimeouts(), family=AF_INET6),
        TimeoutPolicy.of("a", TCPTimeouts(), family=AF_INET),
    ):
        with pytest.raises(InvalidRequest, match="another family or protocol"):
            await conn.timeouts.replace(policy)
    await conn.timeouts.set_defaults(UDPTimeouts(unreplied=1))
    assert await conn.timeouts.get("a") == replaced
    await conn.timeouts.delete("a")
    with pytest.raises(NotFound):
        await conn.timeouts.delete("a")
    assert await conn.timeouts.list() == [other]
    assert await conn.timeouts.delete_unused() == 1
    assert await conn.timeouts.list() == []


async def test_the_default_timeouts_are_settings(anykernel: AnyKernel, conn: Connection) -> None:
    anykernel.sysctl("nf_conntrack_udp_timeout", 45)
    assert (await conn.timeouts.get_defaults(UDPTimeouts)).unreplied == 45
    await conn.timeouts.set_defaults(TCPTimeouts(unack=7, syn_sent2=8))
    defaults = await conn.timeouts.get_defaults(TCPTimeouts)
    assert (defaults.unack, defaults.syn_sent2, defaults.retrans) == (7, 8, 300)
    assert anykernel.read_sysctl("nf_conntrack_tcp_timeout_unacknowledged") == 7


async def test_a_name_may_have_any_bytes(conn: Connection) -> None:
    for name in ("ä" * 15, "\udcff", "a b"):
        await conn.timeouts.create(udp(name))
    assert [policy.name for policy in await conn.timeouts.list()] == ["ä" * 15, "\udcff", "a b"]


async def test_many_policies_are_listed_in_order(conn: Connection) -> None:
    names = [f"policy{n}" for n in range(300)]
    for name in names:
        await conn.timeouts.create(udp(name))
    assert [policy.name for policy in await conn.timeouts.list()] == names


NEW, GET, DELETE, DEFAULT_SET, DEFAULT_GET = range(0x800, 0x805)
HEAD, DATA = policy_head(b"a", 2, 17), pack_nest(4, seconds(5))
POLICY = HEAD + DATA
REQUESTS: dict[str, tuple[int, int, bytes, int]] = {
    "new": (NEW, 0, policy_head(b"b", 2, 17) + DATA, 0),
    "without a family": (NEW, 0, pack(1, b"b\0") + be8(3, 17) + DATA, errno.EINVAL),
    "without timeouts": (NEW, 0, policy_head(b"b", 2, 17), errno.EINVAL),
    "without a name": (NEW, 0, be16(2, 2) + be8(3, 17) + DATA, errno.EINVAL),
    "an empty name": (NEW, 0, policy_head(b"", 2, 17) + DATA, 0),
    "a long name": (NEW, 0, policy_head(b"b" * 32, 2, 17) + DATA, errno.EINVAL),
    "a name without its NUL": (NEW, 0, pack(1, b"b") + HEAD[8:] + DATA, errno.EINVAL),
    "an unknown family": (NEW, 0, policy_head(b"b", 99, 17) + DATA, 0),
    "an unknown protocol": (NEW, 0, policy_head(b"b", 2, 200) + DATA, errno.EOPNOTSUPP),
    "unknown timeouts": (
        NEW,
        0,
        policy_head(b"b", 2, 17) + pack_nest(4, seconds(*[1] * 30)),
        0,
    ),
    "a short timeout": (NEW, 0, policy_head(b"b", 2, 17) + pack_nest(4, be16(1, 5)), errno.ERANGE),
    "a timeout that overflows": (
        NEW,
        0,
        policy_head(b"b", 2, 17) + pack_nest(4, seconds(0xFFFFFFFF)),
        0,
    ),
    "existing": (NEW, 0, POLICY, errno.EBUSY),
    "existing, exclusive": (NEW, 0x200, POLICY, errno.EEXIST),
    "existing, exclusive and replace": (NEW, 0x300, POLICY, errno.EEXIST),
    "replaced": (NEW, 0x100, POLICY, 0),
    "replaced with another family": (NEW, 0x100, policy_head(b"a", 10, 17) + DATA, errno.EINVAL),
    "replaced with an unknown protocol": (
        NEW,
        0x100,
        policy_head(b"a", 2, 200) + DATA,
        errno.EINVAL,
    ),
    "read": (GET, 0, pack(1, b"a\0"), 0),
    "read without a name": (GET, 0, b"", errno.EINVAL),
    "read a missing policy": (GET, 0, pack(1, b"c\0"), errno.ENOENT),
    "dump": (GET, DUMP, pack(1, b"c\0"), 0),
    "delete": (DELETE, 0, pack(1, b"a\0"), 0),
    "delete a missing policy": (DELETE, 0, pack(1, b"c\0"), errno.ENOENT),
    "delete all": (DELETE, 0, b"", 0),
    "defaults read": (DEFAULT_GET, 0, be16(2, 77) + be8(3, 6), 0),
    "defaults read without a family": (DEFAULT_GET, 0, be8(3, 6), errno.EINVAL),
    "defaults read of an unknown protocol": (
        DEFAULT_GET,
        0,
        be16(2, 2) + be8(3, 9),
        errno.EOPNOTSUPP,
    ),
    "defaults set": (DEFAULT_SET, 0, be16(2, 2) + be8(3, 17) + DATA, 0),
    "defaults set without a family": (DEFAULT_SET, 0, be8(3, 17) + DATA, 0),
    "defaults set to nothing": (DEFAULT_SET, 0, be16(2, 2) + be8(3, 17), errno.EINVAL),
    "defaults set of an unknown protocol": (
        DEFAULT_SET,
        0,
        be16(2, 2) + be8(3, 9) + DATA,
        errno.EOPNOTSUPP,
    ),
    "unknown message": (0x805, 0, b"", errno.EINVAL),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", REQUESTS)
def test_the_replies_are_the_same(lab: Lab, name: str) -> None:
    """The kernels send the same bytes, and have the same policies and defaults afterwards."""
    kind, flags, data, code = REQUESTS[name]
    observed: list[object] = []
    for kernel in (FakeKernelAdapter(FakeKernel()), RealKernel(lab)):
        with closing(kernel.open()) as socket:
            raw_requests.exchange(socket, raw_requests.request(NEW, POLICY, family=0))
            replies = raw_requests.exchange(
                socket, raw_requests.request(kind, data, flags=REQUEST | ACK | flags)
            )
            after = raw_requests.exchange(socket, raw_requests.request(GET, flags=REQUEST | DUMP))
            after += raw_requests.exchange(
                socket, raw_requests.request(DEFAULT_GET, be16(2, 2) + be8(3, 17))
            )
            observed.append([reply._replace(port_id=0) for reply in replies + after])
            assert raw_requests.error_codes(replies)[:1] in (
                [code],
                [] if flags == DUMP else [code],
            )
    assert observed[0] == observed[1]


# -- other releases ---------------------------------------------------------------------------


async def test_the_tracked_protocols_depend_on_the_release() -> None:
    for release, dccp, udplite in (
        ("5.4", True, True),
        ("6.18", False, True),
        ("7.1", False, False),
    ):
        kernel = FakeKernel(release)
        async with kernel.connect() as conn:
            for is_tracked, timeouts, proto in (
                (dccp, DCCPTimeouts(open=7), None),
                (udplite, UDPTimeouts(replied=7), 136),
            ):
                policy = TimeoutPolicy.of(str(proto), timeouts, family=AF_INET, proto=proto)
                if is_tracked:
                    await conn.timeouts.create(policy)
                    await conn.timeouts.set_defaults(timeouts, proto=proto)
                    defaults = await conn.timeouts.get_defaults(type(timeouts), proto=proto)
                    assert 7 in attrs.astuple(defaults)
                else:
                    with pytest.raises(NotSupported):
                        await conn.timeouts.create(policy)
                    with pytest.raises(NotSupported):
                        await conn.timeouts.set_defaults(timeouts, proto=proto)
        assert kernel.sysctls.get("nf_conntrack_dccp_timeout_open") == (7 if dccp else None)


@pytest.mark.parametrize("release", ["6.8", "6.12"])
def test_setting_defaults_needs_a_family_before_6_9(release: str) -> None:
    kernel = FakeKernel(release)
    with closing(kernel._socket_factory.open()) as socket:
        data = be8(3, 17) + pack_nest(4, pack_be32(1, 5))
        (reply,) = raw_requests.exchange(socket, raw_requests.request(DEFAULT_SET, data))
    assert reply.code == (errno.EINVAL if release == "6.8" else 0)
    assert kernel.sysctls["nf_conntrack_udp_timeout"] == (30 if release == "6.8" else 5)


async def test_a_test_can_add_policies_and_mark_them_as_used() -> None:
    kernel = FakeKernel(sysctls={"nf_conntrack_udp_timeout": 31})
    kernel.timeout_policies += [udp("a"), udp("b", unreplied=5)]
    async with kernel.connect() as conn:
        policies = await conn.timeouts.list()
        assert policies == [
            attrs.evolve(udp("a", 31, 120), use=1),
            attrs.evolve(udp("b", 5, 120), use=1),
        ]
        kernel.timeout_policies[0].use = 2
        with pytest.raises(ResourceBusy):
            await conn.timeouts.delete("a")
        assert await conn.timeouts.delete_unused() == 1
        assert [policy.name for policy in kernel.timeout_policies] == ["a"]
        assert [request.verb for request in kernel.requests[1:]] == [
            *("dump policies", "delete policy", "dump policies", "delete policy"),
        ]


def test_received_requests_are_decoded() -> None:
    kernel = FakeKernel()
    with closing(kernel._socket_factory.open()) as socket:
        for kind, flags, data in (
            (NEW, 0x600, POLICY),
            (NEW, 0x100, POLICY),
            (GET, 0, HEAD[:8]),
            (GET, DUMP, b""),
            (DELETE, 0, HEAD[:8]),
            (DELETE, 0, b""),
            (DEFAULT_SET, 0, be8(3, 17) + DATA),
            (DEFAULT_GET, 0, be8(3, 17)),
        ):
            raw_requests.exchange(socket, raw_requests.request(kind, data, flags=REQUEST | flags))
    assert [request.verb for request in kernel.requests] == [
        *("create policy", "replace policy", "get policy", "dump policies"),
        *("delete policy", "flush policies", "set defaults", "get defaults"),
    ]
    assert kernel.requests[0].attributes == {
        "name": "a",
        "family": 2,
        "proto": 17,
        "timeouts": UDPTimeouts(unreplied=5),
    }


async def test_a_kernel_without_timeout_policies() -> None:
    async with FakeKernel(without=["ctnetlink_timeout"]).connect() as conn:
        with pytest.raises(NotSupported, match="CONFIG_NF_CONNTRACK_TIMEOUT"):
            await conn.timeouts.create(udp())
