"""Programs connect to the fake kernel, whose capabilities, parts and settings a test chooses."""

from __future__ import annotations

import asyncio
import inspect
import os

import anyio
import pytest
from support import flows
from support.kernel_release import release_text
from support.lab import Lab
from support.polling import wait_until

import conntrack_aio
from conntrack_aio import (
    EventMode,
    NetNS,
    PermissionDenied,
)
from conntrack_aio.testing import FakeKernel

pytestmark = pytest.mark.anyio


# -- connecting -------------------------------------------------------------------------------


def test_connect_has_the_parameters_of_the_real_one() -> None:
    real = dict(inspect.signature(conntrack_aio.connect).parameters)
    fake = dict(inspect.signature(FakeKernel.connect).parameters)
    del real["netns"], fake["self"]
    assert fake == real


async def test_connect_uses_the_installed_kernels() -> None:
    kernel, blue = FakeKernel(flows=[flows.tcp()]), FakeKernel()
    with kernel.installed({"blue": blue}) as same:
        assert same is kernel
        for netns, count in ((None, 1), ("green", 1), ("blue", 0), ("/run/netns/blue", 1)):
            async with conntrack_aio.connect(netns=netns) as conn:
                assert await conn.count() == count
    assert kernel.requested_namespaces == [
        None,
        NetNS.from_name("green"),
        NetNS.from_name("blue"),
        NetNS.from_path("/run/netns/blue"),
    ]
    assert (len(kernel.requests), len(blue.requests)) == (6, 2)


async def test_installations_can_be_nested() -> None:
    outer, inner = FakeKernel(), FakeKernel()
    with outer.installed():
        with inner.installed():
            await (await conntrack_aio.connect()).aclose()
        await (await conntrack_aio.connect()).aclose()
    assert len(outer.requests) == len(inner.requests) == 1


async def test_a_kernel_is_installed_for_tasks_started_inside_the_context() -> None:
    kernel = FakeKernel()

    async def program() -> None:
        async with conntrack_aio.connect() as conn:
            await conn.flush()

    async with anyio.create_task_group() as tasks:
        with kernel.installed():
            tasks.start_soon(program)
    assert [request.verb for request in kernel.requests] == ["count", "flush"]


def test_concurrent_tests_have_separate_kernels() -> None:
    async def program(kernel: FakeKernel) -> None:
        with kernel.installed():
            await asyncio.sleep(0)
            async with conntrack_aio.connect() as conn:
                await asyncio.sleep(0)
                await conn.create(flows.tcp())

    async def main() -> None:
        kernels = [FakeKernel() for _ in range(3)]
        await asyncio.gather(*map(program, kernels))
        assert [len(kernel.flows) for kernel in kernels] == [1, 1, 1]

    asyncio.run(main())


async def test_all_sockets_are_closed_with_the_connection() -> None:
    kernel = FakeKernel(flows=map(flows.tcp, range(300)))
    async with kernel.connect() as conn, conn.events():
        async for _ in conn.dump():
            break
    assert len(kernel.sockets) == 3
    await wait_until(lambda: all(socket.closed for socket in kernel.sockets))
    assert kernel.sockets[0].fileno() == -1
    assert "closed" in repr(kernel.sockets[0])
    assert repr(kernel) == "<FakeKernel 6.18, 300 flows>"


# -- capabilities and settings ----------------------------------------------------------------


async def test_a_kernel_without_cap_net_admin_refuses_to_connect() -> None:
    kernel = FakeKernel()
    async with kernel.connect() as conn:
        kernel = FakeKernel(without=["CAP_NET_ADMIN"])
        with pytest.raises(PermissionDenied):
            await kernel.connect()
        assert await conn.count() == 0


async def test_a_kernel_without_nat_refuses_translations() -> None:
    async with FakeKernel(without=["nat"]).connect() as conn:
        with pytest.raises(conntrack_aio.NotSupported):
            await conn.create(flows.tcp(), nat_src="192.0.2.1")


async def test_settings_are_read_and_written() -> None:
    kernel = FakeKernel(sysctls={"nf_conntrack_max": 2})
    settings = kernel._socket_factory.sysctls
    name = "net.netfilter.nf_conntrack_"
    async with kernel.connect() as conn:
        for number in range(2):
            await conn.create(flows.tcp(number))
        with pytest.raises(conntrack_aio.ResourceExhausted):
            await conn.create(flows.tcp(3))
    assert (settings.read(name + "count"), settings.read(name + "max")) == ("2", "2")
    settings.write(name + "acct", 1)
    assert kernel.sysctls["nf_conntrack_acct"] == 1
    assert settings.read("net.core.rmem_max") == "4194304"
    for missing in ("net.ipv4.ip_forward", name + "nothing"):
        with pytest.raises(FileNotFoundError):
            settings.read(missing)
    for setting, value in (("acct", "many"), ("events", 3)):
        with pytest.raises(OSError, match="Invalid argument"):
            settings.write(name + setting, value)
    with pytest.raises(PermissionError):
        settings.write(name + "count", 1)


@pytest.mark.kernel
def test_the_fake_kernel_has_every_setting_of_this_kernel(lab: Lab) -> None:
    """A kernel may be built without some of them, but has no others."""
    real = lab.run(os.listdir, "/proc/sys/net/netfilter")
    fake = FakeKernel(release_text()).sysctls.keys() | {"nf_conntrack_count"}
    assert {name for name in real if name.startswith("nf_conntrack")} <= fake
    assert len(fake & set(real)) > 30


async def test_the_settings_depend_on_the_release() -> None:
    async with FakeKernel("6.18").connect() as new, FakeKernel("4.19").connect() as old:
        new_settings, old_settings = await new.sysctls.read(), await old.sysctls.read()
        assert (new_settings.events, old_settings.events) == (EventMode.AUTO, EventMode.ALWAYS)
        assert (new_settings.helper, old_settings.helper) == (None, False)
        assert (new_settings.dccp_loose, old_settings.dccp_loose) == (None, True)
        assert (new_settings.gre_timeout, old_settings.gre_timeout) == (30, None)
        await new.sysctls.set(acct=True)
        assert (await new.sysctls.read()).acct
        with pytest.raises(conntrack_aio.InvalidRequest):
            await old.sysctls.set(events=EventMode.AUTO)


async def test_the_statistics_of_processors_are_reported() -> None:
    kernel = FakeKernel()
    async with kernel.connect() as conn:
        await conn.create(flows.tcp())
        kernel.cpu_counters.append({"drop": 4})
        statistics = await conn.cpu_statistics()
    assert [(cpu.cpu, cpu.insert, cpu.drop) for cpu in statistics] == [
        (0, 1, 0),
        (1, 0, 0),
        (2, 0, 4),
    ]


def test_invalid_constructor_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no setting net\.netfilter\.acct"):
        FakeKernel(sysctls={"acct": 1})
    with pytest.raises(TypeError, match="must be a string"):
        FakeKernel(6.18)  # type: ignore[arg-type]


async def test_a_fake_kernel_has_no_expectations() -> None:
    async with FakeKernel().connect() as conn:
        with pytest.raises(conntrack_aio.NotSupported, match="has no expectations"):
            await conn.expectations.list()
