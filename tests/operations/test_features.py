"""Test the detection of features, on all supported releases and on this machine's kernel."""

from __future__ import annotations

import errno

import pytest
from support import flows
from support.lab import Lab

from conntrack_aio import Connection, Features, KernelError, PermissionDenied
from conntrack_aio.testing import FakeKernel
from conntrack_aio.testing.state import Unavailable

pytestmark = [pytest.mark.kernels, pytest.mark.anyio]

FEATURES_BY_RELEASE: dict[str, set[str]] = {
    "4.19": set(),
    "5.4": set(),
    "5.10": {"tuple_filter", "mark_mask"},
    "5.15": {"tuple_filter", "mark_mask", "reply_filter", "status_filter"},
    "6.1": {"tuple_filter", "mark_mask", "reply_filter", "status_filter"},
}
FEATURES_BY_RELEASE["6.8"] = FEATURES_BY_RELEASE["6.1"] | {"zone_filter"}
FEATURES_BY_RELEASE["6.12"] = FEATURES_BY_RELEASE["6.8"] | {"flush_filter"}
FEATURES_BY_RELEASE["6.18"] = FEATURES_BY_RELEASE["6.12"] | {"event_timestamp"}

SUBSYSTEM_FEATURES = {"expectations", "timeouts", "helpers"}


def supported(features: Features) -> set[str]:
    return {name for name in Features.__annotations__ if getattr(features, name)}


@pytest.mark.parametrize("release", FEATURES_BY_RELEASE)
async def test_features_match_the_release(release: str) -> None:
    kernel = FakeKernel(release, flows=map(flows.tcp, range(300)))
    before = kernel.flows
    async with kernel.connect() as conn, conn.events() as stream:
        features = await conn.features()
        assert supported(features) - SUBSYSTEM_FEATURES == FEATURES_BY_RELEASE[release]
        requests = len(kernel.requests)
        assert await conn.features() == features
        assert len(kernel.requests) == requests  # features are probed once
        # Probing changed no entry, emitted no event, and left no dump open.
        assert kernel.flows == before
        kernel.add(flows.udp6())
        assert (await anext(stream)).flow.orig == flows.udp6().orig
        assert conn.client_statistics().open_dumps == 0


SUBSYSTEMS: dict[str, Unavailable] = {"timeouts": "ctnetlink_timeout", "helpers": "cthelper"}
"""What a kernel lacks if it lacks the feature."""


@pytest.mark.parametrize("missing", [None, *SUBSYSTEMS])
async def test_features_of_missing_subsystems_are_false(missing: str | None) -> None:
    unavailable = [] if missing is None else [SUBSYSTEMS[missing]]
    async with FakeKernel(without=unavailable).connect() as conn:
        features = await conn.features()
        assert supported(features) & SUBSYSTEMS.keys() == SUBSYSTEMS.keys() - {missing}


@pytest.mark.kernel
async def test_detecting_features_changes_nothing_on_this_kernel(
    lab: Lab, conn: Connection
) -> None:
    """The probes are harmless, whatever the kernel supports."""
    await flows.fill(conn, map(flows.tcp, range(300)))
    before = {flow.key for flow in await conn.list()}
    async with conn.events() as stream:
        features = await conn.features()
        assert {flow.key for flow in await conn.list()} == before
        created = await conn.create(flows.udp6())
        assert (await anext(stream)).flow.id == created.id
    # Event timestamps are newer than the flush filter.
    if features.event_timestamp:
        assert features.flush_filter


async def test_a_refused_probe_is_repeated_later() -> None:
    kernel = FakeKernel()
    async with kernel.connect() as conn:
        kernel.refuse(errno.EPERM)
        with pytest.raises(PermissionDenied):
            await conn.features()
        # A feature that could not be probed is probed again.
        assert (await conn.features()).tuple_filter


async def test_an_unexpected_error_of_a_probe_is_raised() -> None:
    kernel = FakeKernel("5.15")
    async with kernel.connect() as conn:
        kernel.refuse(errno.ENOMEM, "delete")
        with pytest.raises(KernelError, match="ENOMEM"):
            await conn.features()


# -- what the library does on kernels that lack a feature -----------------------------------------


@pytest.mark.parametrize("release", FEATURES_BY_RELEASE)
async def test_mark_masks_work_on_kernels_that_ignore_them(release: str) -> None:
    kernel = FakeKernel(release, flows=[flows.tcp(mark=0x1234)])
    async with kernel.connect() as conn:
        (flow,) = await conn.list()
        await conn.update(flow, mark=0x50, mark_mask=0xF0)
        assert kernel.flows[0].mark == 0x1254
        await conn.update(flow.orig, mark=0, mark_mask=0xFF00)
        assert kernel.flows[0].mark == 0x54
        await conn.update(flow, mark=7)
        assert kernel.flows[0].mark == 7


@pytest.mark.parametrize("release", FEATURES_BY_RELEASE)
async def test_label_masks_work_on_all_releases(release: str) -> None:
    kernel = FakeKernel(release)
    kernel.labels_used = True
    kernel.add(flows.tcp())
    async with kernel.connect() as conn:
        (flow,) = await conn.list()
        await conn.set_labels(flow, 1, 127)
        await conn.add_labels(flow, 64)
        await conn.remove_labels(flow, 1)
        assert kernel.flows[0].labels == 1 << 127 | 1 << 64
