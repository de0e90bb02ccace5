"""User-space helpers of a kernel that has them: it and the fake one, verb by verb."""

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
    pytest.mark.xdist_group("helpers"),  # which are the whole machine's
]

CONTROL = ExpectPolicy(name="control", expect_max=1, expect_timeout=300)
DATA = ExpectPolicy(name="data", expect_max=4, expect_timeout=60)


def helper(name: str, family: int = AF_INET, proto: int = 6) -> UserspaceHelper:
    return UserspaceHelper(name=name, family=family, proto=proto, policies=(CONTROL, DATA))


async def use(kernel: AnyKernel) -> list[object]:
    """What each verb does, one after the other."""
    mine = helper("rpc")
    other = helper("rpc", AF_INET6, 17)
    full = helper("x" * 15)
    full.queue, full.private_data_length, full.status = 65535, 32, HelperStatus.ENABLED
    seen: list[object] = []
    async with kernel.connect() as conn:
        helpers = conn.helpers
        seen.append((await conn.features()).helpers)
        seen.append(await helpers.list())
        seen += [await result_or_error(helpers.create(each)) for each in (mine, mine, other, full)]
        seen.append(
            await result_or_error(helpers.create(helper("ftp")))
        )  # which the kernel has itself
        seen += [await result_or_error(helpers.get(*each.key)) for each in (mine, other, full)]
        seen.append(await result_or_error(helpers.get("rpc", AF_INET6, 6)))
        seen.append(sorted(map(str, await helpers.list())))
        seen.append(sorted(map(str, await helpers.list(name="rpc"))))
        seen.append(await result_or_error(helpers.update(*mine.key, queue=9)))
        seen.append(await result_or_error(helpers.update(*mine.key, status=HelperStatus.ENABLED)))
        changed = tuple(
            attrs.evolve(each, expect_max=9, expect_timeout=6) for each in (CONTROL, DATA)
        )
        seen.append(await result_or_error(helpers.update(*mine.key, policies=changed)))
        seen.append(await result_or_error(helpers.update(*mine.key, policies=(CONTROL,))))
        seen.append(await result_or_error(helpers.update("none", AF_INET, 6, queue=9)))
        seen.append(await result_or_error(helpers.get(*mine.key)))
        seen.append(await result_or_error(helpers.delete(*other.key)))
        seen.append(await result_or_error(helpers.delete(*other.key)))
        seen.append(sorted(map(str, await helpers.list())))
        seen.append(await result_or_error(helpers.flush()))
        seen.append(await helpers.list())
    return seen


async def test_an_update_may_give_all_classes_the_limits_of_the_first(
    lab: Lab,
) -> None:
    """Which is why the verb wants them to be the same."""
    seen = []
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
            made = await conn.helpers.get("limits", AF_INET, 6)
            seen.append((error_codes(answers), [attrs.astuple(each) for each in made.policies]))
            await conn.helpers.delete(*made.key)
    data = ("data", 9, 10) if RELEASE.has(releases.HELPER_LIMITS_EACH) else ("data", 7, 8)
    assert seen == [([0], [("control", 7, 8), data])] * 2


async def test_the_verbs(lab: Lab) -> None:
    lab.program("modprobe", "nf_conntrack_ftp")
    async with RealKernel(lab).connect() as conn:
        if not (await conn.features()).helpers:
            pytest.skip("this kernel was built without CONFIG_NF_CT_NETLINK_HELPER")
        await conn.helpers.flush()
    assert await use(RealKernel(lab)) == await use(FakeKernelAdapter(FakeKernel(release_text())))
