"""Test reading and setting the sysctls of a connection's namespace."""

from __future__ import annotations

import errno
import inspect
import os
import threading

import anyio
import attrs
import pytest
from support import flows
from support.lab import Lab
from support.scripted_kernel import ScriptedKernel

from conntrack_aio import (
    Connection,
    DecodeError,
    InvalidRequest,
    KernelError,
    NotSupported,
    PermissionDenied,
    ResourceExhausted,
    connect,
)
from conntrack_aio.model.settings import SETTINGS, EventMode, sysctl_of
from conntrack_aio.netlink import nfnetlink
from conntrack_aio.netlink.attributes import pack_be32, pack_text
from conntrack_aio.sandbox import traffic
from conntrack_aio.testing import FakeKernel, FakeSocket, ReceivedRequest
from conntrack_aio.uapi.nf_tables import NFPROTO
from conntrack_aio.uapi.nfnetlink import NFNL_SUBSYS
from conntrack_aio.uapi.nfnetlink_hook import NFNL_MSG_HOOK, NFNLA_HOOK

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]


class FakeSysctls:
    """Settings in memory. An integer as a value is the error number of reading or writing it."""

    def __init__(self, **values: str | int) -> None:
        self.values = {sysctl_of(name): value for name, value in values.items()}
        self.threads: set[int] = set()

    def read(self, name: str, /) -> str:
        self.threads.add(threading.get_ident())
        return self._value(name)

    def write(self, name: str, value: str | int, /) -> None:
        self.threads.add(threading.get_ident())
        self._value(name)
        self.values[name] = str(value)

    def check_writable(self, name: str, /) -> None:
        self._value(name)

    def _value(self, name: str) -> str:
        value = self.values.get(name, errno.ENOENT)
        if isinstance(value, int):
            raise OSError(value, os.strerror(value))
        return value


def kernel_with_sysctls(**values: str | int) -> tuple[ScriptedKernel, FakeSysctls]:
    kernel, sysctls = ScriptedKernel(), FakeSysctls(**values)
    kernel._socket_factory.sysctls = sysctls
    return kernel, sysctls


# -- reading --------------------------------------------------------------------------------


async def test_settings_are_those_of_the_namespace(lab: Lab, conn: Connection) -> None:
    lab.sysctl("nf_conntrack_acct", 1)
    lab.sysctl("nf_conntrack_udp_timeout", 17)
    await conn.create(flows.tcp())
    settings = await conn.sysctls.read()
    assert (settings.acct, settings.udp_timeout, settings.count) == (True, 17, 1)
    assert settings.events is EventMode.ALWAYS
    async with connect() as here:
        assert (await here.sysctls.read()).udp_timeout != 17


async def test_all_settings_that_exist_are_read(lab: Lab, conn: Connection) -> None:
    settings = attrs.asdict(await conn.sysctls.read())
    for name, value in settings.items():
        sysctl = sysctl_of(name).removeprefix("net.netfilter.")
        try:
            assert value == int(lab.read_sysctl(sysctl)), name
        except FileNotFoundError:
            assert value is None, name


async def test_settings_that_the_kernel_lacks_are_none() -> None:
    kernel, sysctls = kernel_with_sysctls(acct="1", events="7")
    async with kernel.connect() as conn:
        settings = await conn.sysctls.read()
    present = {name: value for name, value in attrs.asdict(settings).items() if value is not None}
    assert present == {"acct": True, "events": 7}
    assert threading.get_ident() not in sysctls.threads


async def test_a_setting_that_cannot_be_read_raises_an_error() -> None:
    kernel, _ = kernel_with_sysctls(acct=errno.EACCES)
    async with kernel.connect() as conn:
        with pytest.raises(PermissionDenied, match=r"read net\.netfilter\.nf_conntrack_acct"):
            await conn.sysctls.read()
    kernel, _ = kernel_with_sysctls(acct="on")
    async with kernel.connect() as conn:
        with pytest.raises(DecodeError, match="nf_conntrack_acct: expected a number; got 'on'"):
            await conn.sysctls.read()


# -- setting --------------------------------------------------------------------------------


async def test_set_changes_the_settings_of_the_kernel(lab: Lab, conn: Connection) -> None:
    await conn.sysctls.set(acct=True, events=EventMode.AUTO, tcp_timeout_established=3600)
    assert lab.read_sysctl("nf_conntrack_acct") == "1"
    assert lab.read_sysctl("nf_conntrack_events") == "2"
    assert lab.read_sysctl("nf_conntrack_tcp_timeout_established") == "3600"
    assert (await conn.create(flows.tcp())).counters_orig is not None
    await conn.sysctls.set(acct=False)
    assert lab.read_sysctl("nf_conntrack_acct") == "0"
    assert lab.read_sysctl("nf_conntrack_events") == "2"


async def test_set_without_values_changes_nothing() -> None:
    kernel, sysctls = kernel_with_sysctls(acct="0")
    async with kernel.connect() as conn:
        await conn.sysctls.set()
        await conn.sysctls.set(acct=None)
    assert set(sysctls.values.values()) == {"0"}


@pytest.mark.parametrize("name", [name for name, declared in SETTINGS.items() if declared.machine])
async def test_settings_of_the_machine_need_the_initial_namespace(
    conn: Connection, name: str
) -> None:
    with pytest.raises(PermissionDenied, match="initial network namespace") as caught:
        await conn.sysctls.set(**{name: 5})  # type: ignore[arg-type]
    assert caught.value.request == f"set {sysctl_of(name)} to 5"
    assert "Set before it" not in caught.value.hint


async def test_check_sets_nothing_and_raises_what_set_would(lab: Lab, conn: Connection) -> None:
    before = await conn.sysctls.read()
    await conn.sysctls.check()
    await conn.sysctls.check(acct=True, udp_timeout=40)
    assert await conn.sysctls.read() == before
    with pytest.raises(PermissionDenied, match=r"set .*_max to 5: .*whole machine"):
        await conn.sysctls.check(acct=True, max=5)
    with pytest.raises(TypeError, match="acct must be True or False"):
        await conn.sysctls.check(acct=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"check\(\) .*it takes the fields of ConntrackSysctls"):
        await conn.sysctls.check(nonsense=1)  # type: ignore[call-arg]
    assert await conn.sysctls.read() == before


async def test_check_on_the_fake_kernel() -> None:
    async with FakeKernel().connect() as conn:
        await conn.sysctls.check(acct=True, max=5)
        assert (await conn.sysctls.read()).max != 5
    kernel, _ = kernel_with_sysctls(acct="0")
    async with kernel.connect() as conn:
        with pytest.raises(NotSupported, match=r"set .*_dccp_loose to 1"):
            await conn.sysctls.check(acct=True, dccp_loose=True)


async def test_a_value_that_the_kernel_refuses_is_named(lab: Lab, conn: Connection) -> None:
    with pytest.raises(InvalidRequest, match="log_invalid to 256"):
        await conn.sysctls.set(log_invalid=256)
    assert lab.read_sysctl("nf_conntrack_log_invalid") == "0"


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("acct", True, "does not have it"),
        ("helper", True, "until 6.0"),
        ("gre_timeout", 5, "since 5.0"),
    ],
)
async def test_setting_what_the_kernel_lacks_raises_not_supported(
    name: str, value: object, hint: str
) -> None:
    kernel, sysctls = kernel_with_sysctls()
    async with kernel.connect() as conn:
        with pytest.raises(NotSupported, match=hint):
            await conn.sysctls.set(**{name: value})  # type: ignore[arg-type]
    assert sysctls.values == {}


@pytest.mark.parametrize(
    ("code", "error", "hint"),
    [
        (errno.EACCES, PermissionDenied, "CAP_NET_ADMIN"),
        (errno.EPERM, PermissionDenied, "CAP_NET_ADMIN"),
        (errno.EROFS, PermissionDenied, "read-only"),
        (errno.ENOMEM, ResourceExhausted, ""),
        (errno.EIO, KernelError, ""),
    ],
)
async def test_a_refusal_names_the_settings_that_were_changed_before_it(
    code: int, error: type[KernelError], hint: str
) -> None:
    kernel, sysctls = kernel_with_sysctls(events="2", acct="0", timestamp=code, tcp_loose="1")
    async with kernel.connect() as conn:
        with pytest.raises(error) as caught:
            await conn.sysctls.set(
                tcp_loose=False, timestamp=True, acct=True, events=EventMode.ALWAYS
            )
    assert caught.value.errno == code
    assert hint in str(caught.value)
    assert str(caught.value).endswith("These were changed before it, and stay so: events, acct")
    assert list(sysctls.values.values()) == ["1", "1", code, "1"]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"acct": True, "events": 1}, TypeError),
        ({"acct": True, "timestamp": 1}, TypeError),
        ({"acct": True, "udp_timeout": -1}, ValueError),
        ({"acct": True, "nonsense": 1}, TypeError),
        ({"acct": True, "count": 1}, TypeError),
    ],
)
async def test_invalid_values_are_refused_before_anything_is_set(
    values: dict[str, object], error: type[Exception]
) -> None:
    kernel, sysctls = kernel_with_sysctls(acct="0", events="2", timestamp="0", udp_timeout="30")
    async with kernel.connect() as conn:
        with pytest.raises(error) as caught:
            await conn.sysctls.set(**values)  # type: ignore[arg-type]
    assert sysctls.threads == set()
    assert "SettableSysctls" not in str(caught.value)


# -- whether the kernel tracks flows ------------------------------------------------------------

RULES = {
    "none": (None, False),
    "a rule that needs no connections": ("ip daddr 10.0.0.1 counter", False),
    "a name that looks like one": ('iifname "ct" counter comment "ct state"', False),
    "ct state": ("ct state new counter", True),
    "ct mark, in another family": ("meta mark set ct mark", True),
}


@pytest.mark.program("nft", "nftables")
@pytest.mark.parametrize("rules", RULES)
async def test_tracking_agrees_with_what_the_kernel_does(
    lab: Lab, conn: Connection, rules: str
) -> None:
    rule, tracked = RULES[rules]
    if rule is not None:
        family = "ip6" if "family" in rules else "inet"
        chain = "chain c { type filter hook output priority 0; "
        lab.program("nft", "-f", "-", input=f"table {family} t {{ {chain} {rule}; }}; }}")
    assert await conn.sysctls.tracking() is tracked
    # Compare with what the kernel does.
    for address in ("127.0.0.1", "::1"):
        lab.run(traffic.udp_exchange, address)
    assert (await conn.count() > 0) is tracked


@pytest.mark.program("iptables-legacy", "iptables")
@pytest.mark.parametrize("command", ["iptables-legacy", "ip6tables-legacy"])
async def test_tracking_is_unknown_or_true_with_iptables_legacy(
    lab: Lab, conn: Connection, command: str
) -> None:
    """It is known where the kernel lists its hooks (CONFIG_NETFILTER_NETLINK_HOOK)."""
    assert await conn.sysctls.tracking() is False
    lab.program(command, "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "NEW")
    assert await conn.sysctls.tracking() is not False


@pytest.mark.program("iptables-nft", "iptables")
@pytest.mark.parametrize(
    "rule",
    ["-A OUTPUT -m conntrack --ctstate NEW", "-A OUTPUT -m connlimit --connlimit-above 9 -j DROP"],
)
async def test_tracking_is_true_with_iptables_nft(lab: Lab, conn: Connection, rule: str) -> None:
    lab.program("iptables-nft", *rule.split())
    assert await conn.sysctls.tracking() is True


@pytest.mark.program("nft", "nftables")
async def test_tracking_is_found_in_a_dump_of_many_rules(lab: Lab, conn: Connection) -> None:
    """The dump of the rules takes several datagrams."""
    chain = "chain c { type filter hook output priority 0; }"
    lab.program("nft", "-f", "-", input=f"table inet t {{ {chain}; }}")
    rules = "add rule inet t c ip daddr 10.0.0.1 counter\n" * 250
    for _ in range(8):  # without privileges, no more fit into one send
        lab.program("nft", "-f", "-", input=rules)
    assert await conn.sysctls.tracking() is False
    lab.track()
    assert await conn.sysctls.tracking() is True


@pytest.mark.parametrize(
    ("family", "function", "tracked"),
    [
        (NFPROTO.IPV4, "ipv4_conntrack_in", True),
        (NFPROTO.IPV6, "ipv6_conntrack_in", True),
        (NFPROTO.BRIDGE, "nf_ct_bridge_pre", True),
        (NFPROTO.IPV4, "nft_do_chain_inet", False),
        (NFPROTO.IPV6, "ipv4_conntrack_in", False),
    ],
)
async def test_tracking_is_found_by_netfilter_hooks(
    family: NFPROTO, function: str, tracked: bool
) -> None:
    """The script replies like a kernel with CONFIG_NETFILTER_NETLINK_HOOK."""
    hooks = nfnetlink.message_type(NFNL_SUBSYS.HOOK, NFNL_MSG_HOOK.GET)

    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        if request.type != hooks:
            socket.ack(request, errno.EINVAL)
            return
        if request.payload[0] == family:
            socket.reply(
                request,
                hooks,
                nfnetlink.pack(family)
                + pack_be32(NFNLA_HOOK.HOOKNUM, 0)
                + pack_be32(NFNLA_HOOK.PRIORITY, -200 & 0xFFFFFFFF)
                + pack_text(NFNLA_HOOK.FUNCTION_NAME, function)
                + pack_text(NFNLA_HOOK.MODULE_NAME, "nf_conntrack"),
            )
        socket.done(request)

    async with ScriptedKernel(script).connect() as conn:
        assert await conn.sysctls.tracking() is tracked


async def test_tracking_is_false_on_the_fake_kernel() -> None:
    async with FakeKernel().connect() as conn:
        assert await conn.sysctls.tracking() is False
    with pytest.raises(anyio.ClosedResourceError):
        await conn.sysctls.tracking()


# -- closing --------------------------------------------------------------------------------


async def test_settings_of_a_closed_connection_raise_closed_resource_error(lab: Lab) -> None:
    async with connect(netns=lab.netns) as conn:
        pass
    with pytest.raises(anyio.ClosedResourceError):
        await conn.sysctls.read()
    with pytest.raises(anyio.ClosedResourceError):
        await conn.sysctls.set(acct=True)
    assert lab.read_sysctl("nf_conntrack_acct") == "0"


async def test_a_cancelled_set_is_carried_out(conn: Connection) -> None:
    started, proceed = threading.Event(), threading.Event()
    kernel, sysctls = kernel_with_sysctls(acct="0", timestamp="0")
    original = sysctls.write

    def slow(name: str, value: str | int) -> None:
        started.set()
        assert proceed.wait(5)
        original(name, value)

    sysctls.write = slow  # type: ignore[method-assign]
    async with kernel.connect() as conn, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: conn.sysctls.set(acct=True, timestamp=True))
        await anyio.to_thread.run_sync(started.wait)
        tasks.cancel_scope.cancel()
        proceed.set()
    assert set(sysctls.values.values()) == {"1"}


async def test_the_socket_closes_after_settings_are_written() -> None:
    """The writing thread enters the namespace by way of the socket's descriptor.

    If the socket were closed meanwhile, another file could get the number of that descriptor.
    """
    started, proceed = threading.Event(), threading.Event()
    kernel, sysctls = kernel_with_sysctls(acct="0")
    original = sysctls.write

    def slow(name: str, value: str | int) -> None:
        started.set()
        assert proceed.wait(5)
        original(name, value)

    sysctls.write = slow  # type: ignore[method-assign]
    async with kernel.connect() as conn, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: conn.sysctls.set(acct=True))
        await anyio.to_thread.run_sync(started.wait)
        conn.close()
        assert not kernel.sockets[0].closed
        proceed.set()
    assert kernel.sockets[0].closed
    assert set(sysctls.values.values()) == {"1"}


async def test_the_signature_of_set_has_all_settings(conn: Connection) -> None:
    parameters = inspect.signature(conn.sysctls.set).parameters
    assert set(parameters) == set(SETTINGS) - {"count"}
