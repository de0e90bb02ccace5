"""Test timeout policies and default timeouts, on this machine's kernel."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import AF_INET, AF_INET6

import anyio
import attrs
import pytest
from support.kernel_release import RELEASE
from support.lab import Lab
from support.namespaces import new_network_namespace
from support.policy_cases import seconds
from support.scripted_kernel import ScriptedKernel

from conntrack_aio import (
    AlreadyExists,
    Connection,
    EncodeError,
    Flow,
    InvalidRequest,
    NoReply,
    NotFound,
    NotSupported,
    ResourceBusy,
    UnknownAttribute,
    connect,
)
from conntrack_aio.codec.reference import encode
from conntrack_aio.codec.requests.common import MAX_SECONDS
from conntrack_aio.codec.requests.request import request
from conntrack_aio.model.timeouts import (
    GenericTimeouts,
    GRETimeouts,
    ICMPTimeouts,
    ICMPv6Timeouts,
    ProtocolTimeouts,
    SCTPTimeouts,
    TCPTimeouts,
    TimeoutPolicy,
    UDPTimeouts,
)
from conntrack_aio.netlink import nfnetlink
from conntrack_aio.sandbox import traffic
from conntrack_aio.testing import FakeSocket, ReceivedRequest, releases
from conntrack_aio.uapi.nfnetlink import NFNL_SUBSYS
from conntrack_aio.uapi.nfnetlink_cttimeout import IPCTNL_MSG_TIMEOUT

pytestmark = [pytest.mark.kernels, pytest.mark.anyio]
kernel = pytest.mark.kernel
iptables = pytest.mark.program("iptables-legacy", "iptables")

CLOCK_MONOTONIC_COARSE = 6
"""The number of this clock, whose resolution is one tick of the kernel."""

TCP = TCPTimeouts(
    syn_sent=1,
    syn_recv=2,
    established=3,
    fin_wait=4,
    close_wait=5,
    last_ack=6,
    time_wait=7,
    close=8,
    syn_sent2=9,
    retrans=10,
    unack=11,
)
SCTP = SCTPTimeouts(
    closed=1,
    cookie_wait=2,
    cookie_echoed=3,
    established=4,
    shutdown_sent=5,
    shutdown_recd=6,
    shutdown_ack_sent=7,
    heartbeat_sent=8,
)
EVERY_PROTOCOL: list[ProtocolTimeouts] = [
    TCP,
    UDPTimeouts(unreplied=0, replied=2),
    SCTP,
    ICMPTimeouts(timeout=5),
    ICMPv6Timeouts(timeout=6),
    GRETimeouts(unreplied=7, replied=8),
    GenericTimeouts(timeout=9),
]


def udp(name: str = "a", unreplied: int | None = None, replied: int | None = None) -> TimeoutPolicy:
    return TimeoutPolicy.of(name, UDPTimeouts(unreplied=unreplied, replied=replied), family=AF_INET)


# Writing and reading


@kernel
@pytest.mark.parametrize("timeouts", EVERY_PROTOCOL, ids=lambda timeouts: type(timeouts).__name__)
async def test_create_returns_the_policy_as_the_kernel_has_it(
    conn: Connection, timeouts: ProtocolTimeouts
) -> None:
    requested = TimeoutPolicy.of("a" * 31, timeouts, family=AF_INET6)
    created = await conn.timeouts.create(requested)
    if isinstance(created.timeouts, SCTPTimeouts):
        created.timeouts.heartbeat_acked = None  # not sent; since Linux 6.6 the kernel reports 0
    assert created == TimeoutPolicy(
        name="a" * 31, family=AF_INET6, proto=requested.proto, timeouts=timeouts, use=1
    )
    assert not created.in_use


@kernel
async def test_create_does_not_change_an_existing_policy(conn: Connection) -> None:
    created = await conn.timeouts.create(udp(unreplied=5))
    with pytest.raises(AlreadyExists, match=r"create timeout policy 'a'.*update\(\)"):
        await conn.timeouts.create(udp(unreplied=6))
    assert await conn.timeouts.get("a") == created


@kernel
async def test_create_uses_defaults_for_timeouts_that_are_none(conn: Connection) -> None:
    await conn.timeouts.set_defaults(UDPTimeouts(replied=77))
    created = await conn.timeouts.create(udp(unreplied=5))
    assert created.timeouts == UDPTimeouts(unreplied=5, replied=77)
    created = await conn.timeouts.create(udp("b"))
    assert created.timeouts == await conn.timeouts.get_defaults(UDPTimeouts)


@kernel
async def test_update_changes_only_the_given_timeouts(conn: Connection) -> None:
    await conn.timeouts.create(TimeoutPolicy.of("a", TCP, family=AF_INET))
    updated = await conn.timeouts.update("a", TCPTimeouts(close=0))
    assert updated.timeouts == attrs.evolve(TCP, close=0)
    assert await conn.timeouts.get("a") == updated


@kernel
async def test_replace_resets_timeouts_that_are_none(conn: Connection) -> None:
    await conn.timeouts.set_defaults(UDPTimeouts(replied=77))
    await conn.timeouts.create(udp(unreplied=5, replied=6))
    replaced = await conn.timeouts.replace(udp(unreplied=7))
    assert replaced.timeouts == UDPTimeouts(unreplied=7, replied=77)


@kernel
async def test_replace_creates_a_missing_policy(conn: Connection) -> None:
    assert (await conn.timeouts.replace(udp(unreplied=5))).use == 1
    assert [policy.name for policy in await conn.timeouts.list()] == ["a"]


@kernel
async def test_a_policy_keeps_its_family_and_protocol(conn: Connection) -> None:
    created = await conn.timeouts.create(udp())
    other = TimeoutPolicy.of("a", UDPTimeouts(), family=AF_INET6)
    for policy in (other, TimeoutPolicy.of("a", TCP, family=AF_INET)):
        with pytest.raises(InvalidRequest, match="another family or protocol"):
            await conn.timeouts.replace(policy)
    with pytest.raises(EncodeError, match="TCPTimeouts needs proto 6; got 17"):
        await conn.timeouts.update("a", TCP)
    assert await conn.timeouts.get("a") == created


@kernel
async def test_a_missing_policy_raises_not_found(conn: Connection) -> None:
    for call in (
        conn.timeouts.get("a"),
        conn.timeouts.update("a", TCP),
        conn.timeouts.delete("a"),
    ):
        with pytest.raises(NotFound, match=r"timeout policy 'a'.*nftables"):
            await call
    assert await conn.timeouts.list() == []


@kernel
async def test_a_protocol_without_timeouts_is_refused(conn: Connection) -> None:
    data = UnknownAttribute((4,), seconds(5), nested=True)
    unsupported = TimeoutPolicy(name="a", family=AF_INET, proto=200, unknown=(data,))
    for write in (conn.timeouts.create, conn.timeouts.replace):
        with pytest.raises(NotSupported, match=r"create|replace .* no timeouts of this protocol"):
            await write(unsupported)


@kernel
@pytest.mark.parametrize("name", ["ä" * 15, "\udcff", "a b", "'"])
async def test_a_name_may_be_any_bytes(conn: Connection, name: str) -> None:
    await conn.timeouts.create(udp(name))
    assert [policy.name for policy in await conn.timeouts.list()] == [name]
    await conn.timeouts.delete(name)


@kernel
async def test_many_policies_are_listed_and_deleted(conn: Connection) -> None:
    """There are more policies than fit into one chunk of a dump."""
    names = {f"policy{number}" for number in range(400)}
    for name in names:
        await conn.timeouts.create(udp(name, unreplied=int(name[6:])))
    listed = await conn.timeouts.list()
    assert len(listed) == 400
    assert {policy.name for policy in listed} == names
    seen: set[str] = set()
    async with conn.timeouts.dump() as dump:
        async for policy in dump:
            assert isinstance(policy.timeouts, UDPTimeouts)
            assert policy.timeouts.unreplied == int(policy.name[6:])
            seen.add(policy.name)
    assert seen == names
    assert await conn.timeouts.delete_unused() == 400


@kernel
async def test_delete_deletes_only_one(conn: Connection) -> None:
    for name in "abc":
        await conn.timeouts.create(udp(name))
    await conn.timeouts.delete("b")
    with pytest.raises(EncodeError):
        await conn.timeouts.delete("")
    with pytest.raises(TypeError, match="must be text"):
        await conn.timeouts.delete(None)  # type: ignore[arg-type]
    assert [policy.name for policy in await conn.timeouts.list()] == ["a", "c"]


@kernel
async def test_each_namespace_has_its_own_policies_and_defaults(conn: Connection) -> None:
    await conn.timeouts.create(udp())
    await conn.timeouts.set_defaults(UDPTimeouts(replied=99))
    descriptor = new_network_namespace()
    async with connect(netns=Lab(descriptor).netns) as other:
        assert await other.timeouts.list() == []
        assert (await other.timeouts.get_defaults(UDPTimeouts)).replied != 99
    os.close(descriptor)


# Defaults

SYSCTLS: list[tuple[type[ProtocolTimeouts], dict[str, str]]] = [
    (
        TCPTimeouts,
        {
            "syn_sent": "tcp_timeout_syn_sent",
            "syn_recv": "tcp_timeout_syn_recv",
            "established": "tcp_timeout_established",
            "fin_wait": "tcp_timeout_fin_wait",
            "close_wait": "tcp_timeout_close_wait",
            "last_ack": "tcp_timeout_last_ack",
            "time_wait": "tcp_timeout_time_wait",
            "close": "tcp_timeout_close",
            "retrans": "tcp_timeout_max_retrans",
            "unack": "tcp_timeout_unacknowledged",
        },
    ),
    (UDPTimeouts, {"unreplied": "udp_timeout", "replied": "udp_timeout_stream"}),
    (
        SCTPTimeouts,
        {
            name: f"sctp_timeout_{name}"
            for name in (
                *("closed", "cookie_wait", "cookie_echoed", "established", "shutdown_sent"),
                *("shutdown_recd", "shutdown_ack_sent", "heartbeat_sent"),
            )
        },
    ),
    (ICMPTimeouts, {"timeout": "icmp_timeout"}),
    (ICMPv6Timeouts, {"timeout": "icmpv6_timeout"}),
    (GRETimeouts, {"unreplied": "gre_timeout", "replied": "gre_timeout_stream"}),
    (GenericTimeouts, {"timeout": "generic_timeout"}),
]


@kernel
@pytest.mark.parametrize(
    ("timeout_class", "names"), SYSCTLS, ids=lambda value: getattr(value, "__name__", "")
)
async def test_defaults_equal_the_sysctls(
    conn: Connection, lab: Lab, timeout_class: type[ProtocolTimeouts], names: dict[str, str]
) -> None:
    def read_sysctls() -> dict[str, int]:
        return {
            field: int(lab.read_sysctl(f"nf_conntrack_{name}")) for field, name in names.items()
        }

    def as_dict(timeouts: ProtocolTimeouts) -> dict[str, int]:
        return {field: getattr(timeouts, field) for field in names}

    before = read_sysctls()
    assert as_dict(await conn.timeouts.get_defaults(timeout_class)) == before
    expected = before.copy()
    for number, (field, name) in enumerate(names.items(), 1001):
        # Each is set by itself. Timeouts that are None stay as they are.
        expected[field] = number
        await conn.timeouts.set_defaults(timeout_class(**{field: number}))
        assert (
            read_sysctls() == as_dict(await conn.timeouts.get_defaults(timeout_class)) == expected
        )
        lab.sysctl(f"nf_conntrack_{name}", number + 1000)
        expected[field] = number + 1000
        assert as_dict(await conn.timeouts.get_defaults(timeout_class)) == expected


@kernel
async def test_changed_defaults_do_not_change_policies(conn: Connection) -> None:
    created = await conn.timeouts.create(udp())
    await conn.timeouts.set_defaults(UDPTimeouts(unreplied=1, replied=2))
    assert await conn.timeouts.get("a") == created


# In use


def rule(lab: Lab, change: str, name: str, proto: str, program: str = "iptables-legacy") -> None:
    """Add (``-A``) or delete (``-D``) a rule of iptables that assigns the policy ``name``."""
    # The lock file of iptables is the machine's, and only root can open it. No other program
    # writes rules in this namespace.
    unlocked = ("env", f"XTABLES_LOCKFILE={os.devnull}")
    arguments = ("OUTPUT", "-p", proto, "-j", "CT", "--timeout", name)
    lab.program(*unlocked, program, "-t", "raw", change, *arguments)


@contextmanager
def sender(lab: Lab) -> Iterator[Callable[[], object]]:
    """Return a function that sends a UDP datagram of one flow at each call."""
    open_udp_socket = lambda: socket.socket(AF_INET, socket.SOCK_DGRAM)  # noqa: E731
    with lab.run(open_udp_socket) as client, lab.run(open_udp_socket) as server:
        server.bind(("127.0.0.1", 0))
        client.connect(server.getsockname())
        yield lambda: client.send(b"x")


NLM_F_REPLACE, NLM_F_EXCL = 0x100, 0x200


async def write(conn: Connection, policy: TimeoutPolicy, flags: int) -> None:
    """Send a policy that the library would refuse to send."""
    message = IPCTNL_MSG_TIMEOUT.NEW
    new_request = request(
        "write", policy, NFNL_SUBSYS.CTNETLINK_TIMEOUT, message, encode(policy), flags=flags
    )
    (await conn._session.ask(new_request)).result()


async def remaining_timeout(conn: Connection) -> int:
    """Return the remaining timeout of the only flow, in seconds."""
    (flow,) = await conn.list()
    assert flow.timeout is not None
    return flow.timeout


def recently_set(timeout: int) -> tuple[int, ...]:
    """Return the values that a timeout may have up to 9 seconds after it was set."""
    return tuple(range(timeout - 9, timeout + 1))


@kernel
@iptables
@pytest.mark.parametrize(
    ("program", "name", "timeouts", "exchange", "expected"),
    [
        ("iptables-legacy", "tcp", TCPTimeouts(time_wait=5000), traffic.tcp_exchange, 5000),
        ("iptables-legacy", "udp", UDPTimeouts(unreplied=6000), traffic.udp_exchange, 6000),
        ("iptables-legacy", "icmp", ICMPTimeouts(timeout=MAX_SECONDS), traffic.ping, MAX_SECONDS),
        ("ip6tables-legacy", "udp", UDPTimeouts(unreplied=7000), traffic.udp_exchange, 7000),
        ("ip6tables-legacy", "icmpv6", ICMPv6Timeouts(timeout=8000), traffic.ping, 8000),
    ],
)
async def test_a_flow_has_the_timeout_of_its_policy(
    conn: Connection,
    lab: Lab,
    program: str,
    name: str,
    timeouts: ProtocolTimeouts,
    exchange: Callable[[str], object],
    expected: int,
) -> None:
    lab.track()
    v6 = program.startswith("ip6")
    await conn.timeouts.create(TimeoutPolicy.of("a", timeouts, family=AF_INET6 if v6 else AF_INET))
    rule(lab, "-A", "a", name, program)
    await anyio.to_thread.run_sync(lab.run, exchange, "::1" if v6 else "127.0.0.1")
    flows: list[Flow] = [flow for flow in await conn.list() if (flow.orig.src.version == 6) == v6]
    assert [flow.timeout in recently_set(expected) for flow in flows] == [True]


@kernel
@iptables
async def test_a_timeout_above_the_limit_expires_at_once(conn: Connection, lab: Lab) -> None:
    """The library limits timeouts: the kernel regards an entry as expired at 2^31 ticks."""
    lab.track()
    await conn.timeouts.create(udp(unreplied=MAX_SECONDS, replied=MAX_SECONDS))
    rule(lab, "-A", "a", "udp")
    with sender(lab) as send:
        send()
        assert await remaining_timeout(conn) in recently_set(MAX_SECONDS)
    await conn.flush()
    ticks = round(1 / time.clock_getres(CLOCK_MONOTONIC_COARSE))
    await write(conn, udp(unreplied=(1 << 31) // ticks + 1), NLM_F_REPLACE)
    with sender(lab) as send:
        send()
        assert await conn.list() == []


@kernel
@iptables
async def test_a_policy_in_use_can_be_changed_but_mostly_not_deleted(
    conn: Connection, lab: Lab
) -> None:
    lab.track()
    await conn.timeouts.create(udp(unreplied=1000))
    await conn.timeouts.create(udp("unused"))
    rule(lab, "-A", "a", "udp")
    rule(lab, "-A", "a", "udp")
    with sender(lab) as send:
        send()
        assert await remaining_timeout(conn) in recently_set(1000)
        policy = await conn.timeouts.get("a")
        # Linux 6.1 counts each rule of iptables more than once.
        assert policy.use is not None
        assert (policy.use >= 3, policy.in_use) == (True, True)

        # An update applies to the flows that use the policy.
        assert (await conn.timeouts.update("a", UDPTimeouts(unreplied=2000))).use == policy.use
        send()
        assert await remaining_timeout(conn) in recently_set(2000)

        # delete_unused() skips it, and most kernels refuse to delete it by name.
        assert await conn.timeouts.delete_unused() == 1
        assert [policy.name for policy in await conn.timeouts.list()] == ["a"]
        if RELEASE.has(releases.POLICY_DELETED_IN_USE):
            await conn.timeouts.delete("a")
            assert await conn.timeouts.list() == []
            return
        for _ in range(2):
            with pytest.raises(ResourceBusy, match=r"delete timeout policy 'a'.*-j CT --timeout"):
                await conn.timeouts.delete("a")
            rule(lab, "-D", "a", "udp")
        policy = await conn.timeouts.get("a")
        assert (policy.use, policy.in_use) == (1, False)

        # The flow still uses it. After the policy is deleted, the flow uses the defaults.
        send()
        assert await remaining_timeout(conn) in recently_set(2000)
        await conn.timeouts.delete("a")
        send()
        assert await remaining_timeout(conn) in recently_set(30)


@kernel
async def test_delete_unused_deletes_a_policy_with_an_empty_name(conn: Connection) -> None:
    """The kernel accepts such a policy. A delete with an empty name is no delete without a name."""
    await write(conn, udp(""), NLM_F_EXCL)
    assert [policy.name for policy in await conn.timeouts.list()] == [""]
    assert await conn.timeouts.delete_unused() == 1
    assert await conn.timeouts.list() == []


@kernel
@pytest.mark.program("nft", "nftables")
async def test_timeout_objects_of_nftables_are_no_policies(conn: Connection, lab: Lab) -> None:
    lab.program(
        "nft",
        "add table t; add ct timeout t n { protocol udp; l3proto ip; policy = { replied: 10 }; };"
        "add chain t c { type filter hook output priority 0; }; add rule t c ct timeout set n",
    )
    assert await conn.timeouts.list() == []
    with pytest.raises(NotFound):
        await conn.timeouts.get("n")
    # A policy may have the name of an object of nftables.
    await conn.timeouts.create(udp("n"))
    await conn.timeouts.delete("n")


# Other kernels and rare replies


def refuse_as_missing(socket: FakeSocket, received: ReceivedRequest) -> None:
    """Refuse every request, like a kernel that was built without timeout policies."""
    socket.ack(received, errno.EINVAL)


async def test_the_error_names_the_option_of_a_kernel_without_policies() -> None:
    kernel = ScriptedKernel(refuse_as_missing)
    async with kernel.connect() as conn:
        calls = {
            "dump": conn.timeouts.list(),
            "get timeout policy": conn.timeouts.get("a"),
            "create": conn.timeouts.create(udp()),
            "replace": conn.timeouts.replace(udp()),
            "get timeout policy 'b'": conn.timeouts.update("b", TCP),
            "delete": conn.timeouts.delete("a"),
            "dump timeout policies": conn.timeouts.delete_unused(),
            "get the default TCPTimeouts": conn.timeouts.get_defaults(TCPTimeouts),
            "set the default TCPTimeouts": conn.timeouts.set_defaults(TCP),
        }
        for operation, call in calls.items():
            with pytest.raises(
                NotSupported, match=f"{operation}.*CONFIG_NF_CT_NETLINK_TIMEOUT"
            ) as e:
                await call
            assert "CONFIG_NF_CONNTRACK_TIMEOUT" in str(e.value)
        assert not (await conn.features()).timeouts


async def test_an_acknowledgement_without_a_policy_raises_no_reply() -> None:
    async with ScriptedKernel().connect() as conn:
        with pytest.raises(NoReply, match="get timeout policy 'a'"):
            await conn.timeouts.get("a")
        with pytest.raises(NoReply, match="the default UDPTimeouts"):
            await conn.timeouts.get_defaults(UDPTimeouts)


async def test_delete_unused_skips_policies_deleted_or_used_meanwhile() -> None:
    """Between the dump and the deletes, one policy is deleted and one gets a rule."""
    uses = {"gone": 1, "taken": 1, "free": 1, "used": 2}
    refused = {"gone": errno.ENOENT, "taken": errno.EBUSY}
    deleted: list[str] = []

    def answer(socket: FakeSocket, received: ReceivedRequest) -> None:
        if received.type == 0x801:
            for name, use in uses.items():
                listed = attrs.evolve(udp(name), use=use)
                socket.reply(received, 0x800, nfnetlink.pack(0) + encode(listed))
            socket.done(received)
            return
        assert received.type == 0x802
        name = received.payload[8:].split(b"\0")[0].decode()
        deleted.append(name)
        socket.ack(received, refused.get(name, 0))

    async with ScriptedKernel(answer).connect() as conn:
        assert await conn.timeouts.delete_unused() == 1
    assert deleted == ["gone", "taken", "free"]
