"""Test the sandbox on this machine's kernel: it sends real traffic, which the kernel tracks."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

import pytest
from support.proc_entries import check_single_entry, read_entries

from conntrack_aio.errors import (
    KernelError,
    NotFound,
    NotSupported,
    PermissionDenied,
)
from conntrack_aio.netlink.namespaces import run_inside
from conntrack_aio.proc_sys import read_sysctl, set_sysctl
from conntrack_aio.sandbox import rules, traffic
from conntrack_aio.uapi.nf_tables import NF_INET, NFT_CT

pytestmark = pytest.mark.kernels

kernel = pytest.mark.kernel


# -- network namespaces --------------------------------------------------------------------------


@kernel
def test_a_new_namespace_has_its_loopback_up(
    new_namespace: Callable[[], int],
) -> None:
    here = os.stat("/proc/self/ns/net")
    fd = new_namespace()
    assert not os.path.samestat(os.fstat(fd), here)
    assert not os.get_inheritable(fd)
    assert run_inside(fd, lambda: traffic.tcp_exchange("127.0.0.1"))
    assert os.path.samestat(os.stat("/proc/thread-self/ns/net"), here)
    names = run_inside(fd, lambda: [name for _, name in socket.if_nameindex()])
    assert "lo" in names


@kernel
def test_sysctls_are_per_namespace(new_namespace: Callable[[], int]) -> None:
    one, other = new_namespace(), new_namespace()
    name = "net.ipv4.ip_default_ttl"
    run_inside(one, lambda: set_sysctl(name, 17))
    assert run_inside(one, lambda: read_sysctl(name)) == "17"
    assert run_inside(other, lambda: read_sysctl(name)) == "64"
    with pytest.raises(FileNotFoundError):
        read_sysctl("net.ipv4.no_such_thing")


# -- tracking ------------------------------------------------------------------------------------


@kernel
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_tcp_is_tracked(new_namespace: Callable[[], int], address: str) -> None:
    def body() -> None:
        rules.track_connections()
        sport, dport = traffic.tcp_exchange(address)
        check_single_entry(rf"tcp .* TIME_WAIT .*sport={sport} dport={dport} .*\[ASSURED\]")

    run_inside(new_namespace(), body)


@kernel
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_udp_is_tracked(new_namespace: Callable[[], int], address: str) -> None:
    def body() -> None:
        rules.track_connections()
        sport, dport = traffic.udp_exchange(address)
        check_single_entry(rf"udp .*sport={sport} dport={dport} src.*sport={dport} dport={sport}")

    run_inside(new_namespace(), body)


@kernel
@pytest.mark.parametrize(
    ("address", "protocol", "types"),
    [("127.0.0.1", "icmp", (8, 0)), ("::1", "icmpv6", (128, 129))],
)
@pytest.mark.parametrize("id", [0, 1, 0xBEEF, 0xFFFF])
def test_pings_are_tracked(
    new_namespace: Callable[[], int],
    address: str,
    protocol: str,
    types: tuple[int, int],
    id: int,
) -> None:
    def body() -> None:
        rules.track_connections()
        traffic.ping(address, id)
        request, reply = types
        check_single_entry(
            rf"{protocol} .*type={request} code=0 id={id} src.*type={reply} code=0 id={id} "
        )

    run_inside(new_namespace(), body)


@kernel
def test_nothing_is_tracked_without_the_rule_and_its_table_may_already_exist(
    new_namespace: Callable[[], int],
) -> None:
    def body() -> None:
        traffic.udp_exchange()
        assert read_entries()[0] == 0
        rules.track_connections()
        rules.track_connections()
        traffic.udp_exchange()
        assert read_entries()[0] == 1

    # The first user of connection tracking loads its module, and the sysctl with it.
    run_inside(new_namespace(), rules.track_connections)
    run_inside(new_namespace(), body)


@kernel
def test_a_failed_transaction_changes_no_rules(
    new_namespace: Callable[[], int],
) -> None:
    def body() -> None:
        load = rules.load_ct(NFT_CT.STATE)
        with pytest.raises(NotFound, match=r"create the nftables rule in t nowhere: .*ENOENT"):
            rules.commit(rules.new_table("t"), rules.new_rule("t", "nowhere", load))
        with pytest.raises(NotFound, match="create the nftables chain t c"):
            rules.commit(rules.new_chain("t", "c", NF_INET.LOCAL_OUT))

    run_inside(new_namespace(), body)


def test_a_kernel_without_nftables_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal: KernelError

    def run_exchange(protocol: int, exchange: object) -> None:
        raise refusal

    monkeypatch.setattr(rules, "run_exchange", run_exchange)
    for refusal in (NotFound(errno.ENOENT, "a"), NotSupported(errno.EOPNOTSUPP, "a")):
        with pytest.raises(NotSupported, match=r"CONFIG_NFT_CT") as caught:
            rules.track_connections()
        assert caught.value.errno == refusal.errno
    refusal = PermissionDenied(errno.EPERM, "a")
    with pytest.raises(PermissionDenied, match="CAP_NET_ADMIN"):
        rules.track_connections()
