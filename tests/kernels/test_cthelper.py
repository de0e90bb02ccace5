"""Compare how a real and a fake kernel handle user-space helpers.

Real kernels need ``CONFIG_NF_CT_NETLINK_HELPER`` for them.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6

import attrs
import pytest
from support.attribute_encoding import attr, be32, nest
from support.kernel_release import RELEASE, release_text
from support.lab import Lab
from support.policy_cases import HELPER_KEY, expect_policy
from support.raw_requests import error_codes, exchange, request
from support.real_or_fake_kernel import AnyKernel, FakeKernelAdapter, RealKernel, result_or_error

from conntrack_aio import ExpectPolicy, HelperStatus, UserspaceHelper
from conntrack_aio.testing import FakeKernel, releases
from conntrack_aio.uapi.nfnetlink import NFNL_SUBSYS

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.anyio,
    pytest.mark.xdist_group("helpers"),  # all network namespaces share the helpers
]

CONTROL = ExpectPolicy(name="control", expect_max=1, expect_timeout=300)
DATA = ExpectPolicy(name="data", expect_max=4, expect_timeout=60)


def helper(name: str, family: int = AF_INET, proto: int = 6) -> UserspaceHelper:
    return UserspaceHelper(name=name, family=family, proto=proto, policies=(CONTROL, DATA))


async def run_operations(kernel: AnyKernel) -> list[object]:
    """Run each operation on helpers, and return their results and errors in order."""
    tcp = helper("rpc")
    udp6 = helper("rpc", AF_INET6, 17)
    full = helper("x" * 15)
    full.queue, full.private_data_length, full.status = 65535, 32, HelperStatus.ENABLED
    results: list[object] = []
    async with kernel.connect() as conn:
        helpers = conn.helpers
        results.append((await conn.features()).helpers)
        results.append(await helpers.list())
        for new in (tcp, tcp, udp6, full):
            results.append(await result_or_error(helpers.create(new)))
        # The kernel's own helper has this name.
        results.append(await result_or_error(helpers.create(helper("ftp"))))
        for created in (tcp, udp6, full):
            results.append(await result_or_error(helpers.get(*created.key)))
        results.append(await result_or_error(helpers.get("rpc", AF_INET6, 6)))
        results.append(sorted(map(str, await helpers.list())))
        results.append(sorted(map(str, await helpers.list(name="rpc"))))
        results.append(await result_or_error(helpers.update(*tcp.key, queue=9)))
        results.append(await result_or_error(helpers.update(*tcp.key, status=HelperStatus.ENABLED)))
        changed = tuple(
            attrs.evolve(policy, expect_max=9, expect_timeout=6) for policy in (CONTROL, DATA)
        )
        results.append(await result_or_error(helpers.update(*tcp.key, policies=changed)))
        results.append(await result_or_error(helpers.update(*tcp.key, policies=(CONTROL,))))
        results.append(await result_or_error(helpers.update("none", AF_INET, 6, queue=9)))
        results.append(await result_or_error(helpers.get(*tcp.key)))
        results.append(await result_or_error(helpers.delete(*udp6.key)))
        results.append(await result_or_error(helpers.delete(*udp6.key)))
        results.append(sorted(map(str, await helpers.list())))
        results.append(await result_or_error(helpers.flush()))
        results.append(await helpers.list())
    return results


async def test_old_kernels_update_all_policies_with_the_limits_of_the_first(lab: Lab) -> None:
    """Therefore ``helpers.update`` requires the same limits in all policies."""
    results = []
    for kernel in (RealKernel(lab), FakeKernelAdapter(FakeKernel(release_text()))):
        async with kernel.connect() as conn:
            if not (await conn.features()).helpers:
                pytest.skip("this kernel was built without CONFIG_NF_CT_NETLINK_HELPER")
            await conn.helpers.create(helper("limits"))
            socket = kernel.open()
            policies = (
                be32(1, 2),
                expect_policy(2, b"control", 7, 8),
                expect_policy(3, b"data", 9, 10),
            )
            parts = (attr(1, b"limits\0"), HELPER_KEY, nest(4, *policies))
            answers = exchange(socket, request(NFNL_SUBSYS.CTHELPER << 8, *parts))
            socket.close()
            updated = await conn.helpers.get("limits", AF_INET, 6)
            limits = [attrs.astuple(policy) for policy in updated.policies]
            results.append((error_codes(answers), limits))
            await conn.helpers.delete(*updated.key)
    data = ("data", 9, 10) if RELEASE.has(releases.HELPER_LIMITS_EACH) else ("data", 7, 8)
    assert results == [([0], [("control", 7, 8), data])] * 2


async def test_the_fake_kernel_handles_helpers_as_the_real_one(lab: Lab) -> None:
    lab.program("modprobe", "nf_conntrack_ftp")
    async with RealKernel(lab).connect() as conn:
        if not (await conn.features()).helpers:
            pytest.skip("this kernel was built without CONFIG_NF_CT_NETLINK_HELPER")
        await conn.helpers.flush()
    fake = FakeKernelAdapter(FakeKernel(release_text()))
    assert await run_operations(RealKernel(lab)) == await run_operations(fake)
