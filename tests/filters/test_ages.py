"""Matches on simulated kernels of every release: dumps, deletes and events select what matches."""

from __future__ import annotations

import anyio
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import match_strategies
from support.effort import examples
from support.event_storm import flow_pool

from conntrack_aio import Flow, Match, Status
from conntrack_aio.testing import FakeKernel

RELEASES = (
    "4.19",
    "5.4",
    "5.8",
    "5.14",
    "5.15",
    "6.1",
    "6.7",
    "6.8",
    "6.11",
    "6.12",
    "6.18",
    "7.1",
)
FLOWS = [
    attrs.evolve(
        flow,
        mark=match_strategies.MARKS[number % 6],
        status=Status.CONFIRMED | (Status.ASSURED if number % 2 else Status.SEEN_REPLY),
    )
    for number, (flow, gateways) in enumerate(flow_pool(160))
    if gateways is None
]


def key(flow: Flow) -> object:
    return flow.orig, flow.zone


@pytest.mark.parametrize("release", RELEASES)
def test_dumps_and_deletes_select_exactly_what_matches(release: str) -> None:
    async def check(match: Match, selected: slice) -> None:
        kernel = FakeKernel(release, flows=FLOWS[selected])
        async with kernel.connect() as conn:
            flows = await conn.list()
            expected = {key(flow) for flow in flows if match(flow)}
            assert {key(flow) for flow in await conn.list(match)} == expected
            assert await conn.count(match) == len(expected)
            if match.always:
                return
            assert await conn.delete_matching(match) == len(expected)
            remaining = {key(flow) for flow in await conn.list()}
            assert remaining == {key(flow) for flow in flows} - expected

    @settings(max_examples=examples(10), deadline=None)
    @given(match_strategies.matches("timeout"), st.slices(len(FLOWS)))
    def run(match: Match, selected: slice) -> None:
        anyio.run(check, match, selected)

    run()


@pytest.mark.anyio
@pytest.mark.parametrize("release", ["4.19", "6.18"])
async def test_only_matching_events_are_received(release: str) -> None:
    """The simulated kernel runs the program that a real kernel would run."""
    kernel = FakeKernel(release)
    async with kernel.connect() as conn:
        match = Match(proto="tcp", orig_dport=443, family=2)
        async with conn.events(match=match) as stream:
            await conn.create_many(FLOWS)
            events = []
            while batch := stream.receive_batch_nowait():
                events += batch
            assert {key(event.flow) for event in events} == {
                key(flow) for flow in FLOWS if match(flow)
            }
            assert stream.statistics().datagrams_received == len(events)


@pytest.mark.anyio
async def test_a_small_optmem_max_gets_a_shorter_program() -> None:
    """The library checks what the shorter program accepts.

    Older kernels have 20 KiB, which is room for 2,560 instructions.
    """
    networks = [f"10.{n >> 4 & 255}.{(n & 15) << 4}.0/{21 + n % 12}" for n in range(3000)]
    flows = [Flow.udp(f"10.{n}.16.0", 1000, "192.0.2.1", 53, timeout=60) for n in range(200)]
    for memory, exact in ((131072, True), (20480, False), (4096, False), (100, False)):
        kernel = FakeKernel("6.18", sysctls={"net.core.optmem_max": memory})
        async with kernel.connect() as conn:
            match = Match(orig_src=networks)
            async with conn.events(match=match) as stream:
                assert (stream.kernel_filter is not None) is (memory > 100)
                if stream.kernel_filter is not None:
                    assert stream.kernel_filter.exact is exact
                    assert len(stream.kernel_filter.program) * 8 <= memory
                await conn.create_many(flows)
                events = []
                while batch := stream.receive_batch_nowait():
                    events += batch
                assert [event.flow.orig for event in events] == [
                    flow.orig for flow in flows if match(flow)
                ]
