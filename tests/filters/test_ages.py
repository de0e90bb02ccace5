"""With kernels of every age: what matches is found and deleted, and nothing else."""

from __future__ import annotations

import anyio
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import matches
from support.effort import examples
from support.storm import pool

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
        mark=matches.MARKS[number % 6],
        status=Status.CONFIRMED | (Status.ASSURED if number % 2 else Status.SEEN_REPLY),
    )
    for number, (flow, gateways) in enumerate(pool(160))
    if gateways is None
]


def key(flow: Flow) -> object:
    return flow.orig, flow.zone


@pytest.mark.parametrize("release", RELEASES)
def test_what_does_not_match_survives(release: str) -> None:
    async def judge(match: Match, some: slice) -> None:
        kernel = FakeKernel(release, flows=FLOWS[some])
        async with kernel.connect() as conn:
            there = await conn.list()
            wanted = {key(flow) for flow in there if match(flow)}
            assert {key(flow) for flow in await conn.list(match)} == wanted
            assert await conn.count(match) == len(wanted)
            if match.always:
                return
            assert await conn.delete_matching(match) == len(wanted)
            left = {key(flow) for flow in await conn.list()}
            assert left == {key(flow) for flow in there} - wanted

    @settings(max_examples=examples(10), deadline=None)
    @given(matches.matches("timeout"), st.slices(len(FLOWS)))
    def run(match: Match, some: slice) -> None:
        anyio.run(judge, match, some)

    run()


@pytest.mark.anyio
@pytest.mark.parametrize("release", ["4.19", "6.18"])
async def test_events(release: str) -> None:
    """The scripted kernel runs the same program as a real one."""
    kernel = FakeKernel(release)
    async with kernel.connect() as conn:
        match = Match(proto="tcp", orig_dport=443, family=2)
        async with conn.events(match=match) as stream:
            await conn.create_many(FLOWS)
            heard = []
            while batch := stream.receive_batch_nowait():
                heard += batch
            assert {key(event.flow) for event in heard} == {
                key(flow) for flow in FLOWS if match(flow)
            }
            assert stream.statistics().datagrams_received == len(heard)


@pytest.mark.anyio
async def test_where_there_is_little_room_for_programs_they_are_shorter() -> None:
    """And what they let through is checked: 20 KiB, as older kernels have, is room for 2,560."""
    nets = [f"10.{n >> 4 & 255}.{(n & 15) << 4}.0/{21 + n % 12}" for n in range(3000)]
    flows = [Flow.udp(f"10.{n}.16.0", 1000, "192.0.2.1", 53, timeout=60) for n in range(200)]
    for memory, exact in ((131072, True), (20480, False), (4096, False), (100, False)):
        kernel = FakeKernel("6.18", sysctls={"net.core.optmem_max": memory})
        async with kernel.connect() as conn:
            match = Match(orig_src=nets)
            async with conn.events(match=match) as stream:
                assert (stream.kernel_filter is not None) is (memory > 100)
                if stream.kernel_filter is not None:
                    assert stream.kernel_filter.exact is exact
                    assert len(stream.kernel_filter.program) * 8 <= memory
                await conn.create_many(flows)
                heard = []
                while batch := stream.receive_batch_nowait():
                    heard += batch
                assert [event.flow.orig for event in heard] == [
                    flow.orig for flow in flows if match(flow)
                ]
