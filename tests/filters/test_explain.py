"""Explanations of matches: their text, and that the kernel and the library act accordingly."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings
from support import match_strategies
from support.effort import examples
from support.event_storm import flow_pool

from conntrack_aio import Match
from conntrack_aio.testing import FakeKernel

FLOWS = [flow for flow, gateways in flow_pool(60) if gateways is None]

ONE_BY_ONE = "matches are read by a dump, then deleted one by one, by tuple, zone and id"
ONE_REQUEST = "matches are counted, then deleted by one kernel request"
ALL = "the kernel sends all flows; the library checks each"
ON_CHANGE = "the library checks each flow whenever it changes"

EXACT = "the kernel queues only events that match, by a program of {} instructions"
INEXACT = (
    "the kernel queues only events that may match, by a program of {} instructions; "
    "the library checks each for "
)
CONSTANT = (
    "the kernel queues only events of flows that may match, "
    f"by a program of {{}} instructions on fields that never change; {ON_CHANGE}"
)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "release", "dump", "delete", "events", "table"),
    [
        (
            "all",
            "6.18",
            *("all flows", "refused, because every flow matches"),
            *("all events", "all flows"),
        ),
        (
            *("proto tcp and family ipv4", "6.18"),
            "the kernel sends only flows that match: family ipv4 and proto tcp",
            ONE_REQUEST,
            EXACT,
            CONSTANT,
        ),
        (
            *("proto tcp", "6.18"),
            "the kernel sends only flows that match: proto tcp (in two dumps, one for each family)",
            ONE_REQUEST,
            EXACT,
            CONSTANT,
        ),
        (
            *("proto tcp", "4.19"),
            f"{ALL} (a newer kernel would send only: "
            "proto tcp (in two dumps, one for each family))",
            ONE_BY_ONE,
            EXACT,
            CONSTANT,
        ),
        (
            *("mark 1/3 and not status assured and status dying and timeout < 9", "6.18"),
            "the kernel sends only flows that may match: "
            "mark 0x1/0x3 and not status assured and status dying; "
            "the library checks each for timeout",
            ONE_BY_ONE,
            f"{INEXACT}status, timeout",
            f"the kernel queues all events; {ON_CHANGE}",
        ),
        (
            *("zone 7 and reply.dst 10.0.0.1", "6.18"),
            "the kernel sends only flows that may match: "
            "family ipv4 and reply.dst 10.0.0.1 and zone 7; the library checks each for zone",
            ONE_BY_ONE,
            EXACT,
            CONSTANT,
        ),
        (
            *("mark 1 or mark 3", "6.18"),
            "the kernel sends only flows that may match: mark 0x1/0xfffffffd; "
            "the library checks each because the kernel's filter is simplified",
            ONE_BY_ONE,
            EXACT,
            f"the kernel queues all events; {ON_CHANGE}",
        ),
        (
            *("not timeout < 9", "6.18"),
            ALL,
            ONE_BY_ONE,
            f"{INEXACT}timeout",
            f"the kernel queues all events; {ON_CHANGE}",
        ),
        (
            *("timeout < 9 or label 1 or mark 1", "6.12"),
            ALL,
            ONE_BY_ONE,
            f"{INEXACT}timeout, label",
            f"the kernel queues all events; {ON_CHANGE}",
        ),
    ],
)
async def test_the_text_of_an_explanation(
    text: str, release: str, dump: str, delete: str, events: str, table: str
) -> None:
    match = Match.parse(text)
    async with FakeKernel(release).connect() as conn:
        explanation = await match.explain(conn)
    events = events.format(len(explanation.event_program or ()))
    table = table.format(len(explanation.table_program or ()))
    assert (explanation.dump, explanation.delete, explanation.events, explanation.table) == (
        dump,
        delete,
        events,
        table,
    )
    assert str(explanation).splitlines() == [
        f"match:   {match}",
        f"dump:    {dump}",
        f"delete:  {delete}",
        f"events:  {events}",
        f"table:   {table}",
    ]


@pytest.mark.parametrize("release", ["4.19", "5.8", "5.15", "6.8", "6.18"])
def test_the_kernel_and_the_library_act_as_explained(release: str) -> None:
    async def check(match: Match) -> None:
        kernel = FakeKernel(release, flows=FLOWS)
        async with kernel.connect() as conn:
            explanation = await match.explain(conn)
            before = conn.client_statistics().entries_decoded
            found = len(await conn.list(match))
            decoded = conn.client_statistics().entries_decoded - before
            if "the library checks" not in explanation.dump:
                assert decoded == found
            if explanation.dump == ALL:
                assert decoded == len(FLOWS)
            async with conn.events(match=match) as stream:
                attached = stream.kernel_filter
                assert (attached and attached.program) == explanation.event_program
                exact = attached is not None and attached.exact
                assert exact is ("only events that match" in explanation.events)

    @settings(max_examples=examples(15), deadline=None)
    @given(match_strategies.matches())
    def run(match: Match) -> None:
        anyio.run(check, match)

    run()


@pytest.mark.anyio
async def test_a_program_that_would_be_too_long_is_simplified() -> None:
    pairs = [Match(orig_src=f"10.{n >> 8}.{n & 255}.1", orig_dport=n) for n in range(3000)]
    async with FakeKernel().connect() as conn:
        explanation = await Match.any(pairs).explain(conn)
    checks = "; the library checks each because the kernel's filter is simplified"
    assert explanation.events.endswith(checks)


@pytest.mark.anyio
async def test_a_program_is_printed_as_a_listing() -> None:
    async with FakeKernel().connect() as conn:
        explanation = await Match(mark=3).explain(conn)
    assert explanation.table_program is None
    assert str(explanation.event_program).splitlines() == [
        "   0: A = 0x14",
        "   1: X = 8",
        "   2: A = position of attribute X, searching from A",
        "   3: if A = 0x0 go to 7, else to 4",
        "   4: X = A",
        "   5: A = 4 bytes at X + 4",
        "   6: if A = 0x3 go to 8, else to 7",
        "   7: drop",
        "   8: accept",
    ]
