"""What a kernel supports: asked of kernels of each age, and of this machine's."""

from __future__ import annotations

import errno

import pytest
from support import flows
from support.lab import Lab

from conntrack_aio import Connection, Features, KernelError, PermissionDenied
from conntrack_aio.testing import FakeKernel
from conntrack_aio.testing.state import Unavailable

pytestmark = [pytest.mark.kernels, pytest.mark.anyio]

AGES: dict[str, set[str]] = {
    "4.19": set(),
    "5.4": set(),
    "5.10": {"tuple_filter", "mark_mask"},
    "5.15": {"tuple_filter", "mark_mask", "reply_filter", "status_filter"},
    "6.1": {"tuple_filter", "mark_mask", "reply_filter", "status_filter"},
}
AGES["6.8"] = AGES["6.1"] | {"zone_filter"}
AGES["6.12"] = AGES["6.8"] | {"flush_filter"}
AGES["6.18"] = AGES["6.12"] | {"event_timestamp"}

OF_SUBSYSTEMS = {"expectations", "timeouts", "helpers"}


def told(features: Features) -> set[str]:
    return {name for name in Features.__annotations__ if getattr(features, name)}


@pytest.mark.parametrize("release", AGES)
async def test_by_age(release: str) -> None:
    kernel = FakeKernel(release, flows=map(flows.tcp, range(300)))
    before = kernel.flows
    async with kernel.connect() as conn, conn.events() as stream:
        features = await conn.features()
        assert told(features) - OF_SUBSYSTEMS == AGES[release]
        asked = len(kernel.requests)
        assert await conn.features() == features
        assert len(kernel.requests) == asked  # once is enough
        # Nothing was changed, nothing was told, nothing is left open.
        assert kernel.flows == before
        kernel.add(flows.udp6())
        assert (await anext(stream)).flow.orig == flows.udp6().orig
        assert conn.client_statistics().open_dumps == 0


SUBSYSTEMS: dict[str, Unavailable] = {"timeouts": "ctnetlink_timeout", "helpers": "cthelper"}
"""And what a kernel lacks that lacks it."""


@pytest.mark.parametrize("missing", [None, *SUBSYSTEMS])
async def test_by_what_was_built(missing: str | None) -> None:
    lacks = [] if missing is None else [SUBSYSTEMS[missing]]
    async with FakeKernel(without=lacks).connect() as conn:
        features = await conn.features()
        assert told(features) & SUBSYSTEMS.keys() == SUBSYSTEMS.keys() - {missing}


@pytest.mark.kernel
async def test_of_this_machine(lab: Lab, conn: Connection) -> None:
    """Whatever it supports: the questions are harmless."""
    await flows.fill(conn, map(flows.tcp, range(300)))
    before = {flow.key for flow in await conn.list()}
    async with conn.events() as stream:
        features = await conn.features()
        assert {flow.key for flow in await conn.list()} == before
        made = await conn.create(flows.udp6())
        assert (await anext(stream)).flow.id == made.id
    # What it claims of filters it does: this kernel's own answer to each.
    if features.event_timestamp:
        assert features.flush_filter


async def test_without_the_right_to_ask() -> None:
    kernel = FakeKernel()
    async with kernel.connect() as conn:
        kernel.refuse(errno.EPERM)
        with pytest.raises(PermissionDenied):
            await conn.features()
        # What was not found out is asked for again.
        assert (await conn.features()).tuple_filter


async def test_what_is_no_answer_to_the_question_is_raised() -> None:
    kernel = FakeKernel("5.15")
    async with kernel.connect() as conn:
        kernel.refuse(errno.ENOMEM, "delete")
        with pytest.raises(KernelError, match="ENOMEM"):
            await conn.features()


# -- what the library does otherwise for it -------------------------------------------------------


@pytest.mark.parametrize("release", AGES)
async def test_a_mask_is_kept_on_kernels_that_ignore_it(release: str) -> None:
    kernel = FakeKernel(release, flows=[flows.tcp(mark=0x1234)])
    async with kernel.connect() as conn:
        (flow,) = await conn.list()
        await conn.update(flow, mark=0x50, mark_mask=0xF0)
        assert kernel.flows[0].mark == 0x1254
        await conn.update(flow.orig, mark=0, mark_mask=0xFF00)
        assert kernel.flows[0].mark == 0x54
        await conn.update(flow, mark=7)
        assert kernel.flows[0].mark == 7


@pytest.mark.parametrize("release", AGES)
async def test_labels_under_a_mask(release: str) -> None:
    kernel = FakeKernel(release)
    kernel.labels_used = True
    kernel.add(flows.tcp())
    async with kernel.connect() as conn:
        (flow,) = await conn.list()
        await conn.set_labels(flow, 1, 127)
        await conn.add_labels(flow, 64)
        await conn.remove_labels(flow, 1)
        assert kernel.flows[0].labels == 1 << 127 | 1 << 64
