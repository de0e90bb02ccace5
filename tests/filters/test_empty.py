"""Empty sets match nothing, for each field, as parameters and as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import anyio
import pytest

from conntrack_aio import EventType, Flow, Match, MatchError, UnsafeRequest
from conntrack_aio.filters.conditions import Conditions
from conntrack_aio.filters.fields import FIELDS
from conntrack_aio.filters.nodes import FALSE
from conntrack_aio.testing import FakeKernel

SETS = sorted(Conditions.__annotations__.keys() - {"mark_mask", "labels_mask", "label_names"})
EMPTY: list[Callable[[], Iterable[Any]]] = [list, tuple, set, dict, lambda: iter(())]
FLOW = Flow.tcp("10.0.0.1", 1, "10.0.0.2", 80, timeout=60)


@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("name", SETS)
def test_an_empty_set_matches_nothing(name: str, empty: Callable[[], Iterable[Any]]) -> None:
    match = Match(**{name: empty()})  # type: ignore[misc]
    assert match == Match.any([]) == ~Match() == Match.parse("none")
    assert match._node is FALSE or match._node == FALSE
    assert str(match) == "none"
    assert not match(FLOW)
    assert not match.always
    assert ~match == Match()
    assert (~match).always
    assert Match(proto="tcp") & match == match
    assert Match(proto="tcp") | match == Match(proto="tcp")
    assert Match(proto="tcp") & ~match == Match(proto="tcp")
    assert Match("proto tcp", **{name: empty()}) == match  # type: ignore[misc]


@pytest.mark.parametrize("name", ["labels", "status", "status_unset"])
def test_a_status_of_0_and_a_label_outside_its_mask_are_refused(name: str) -> None:
    with pytest.raises(MatchError, match="has no bits" if "status" in name else "mask"):
        Match(**({name: 0} if "status" in name else {name: 1, "labels_mask": 0}))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*FIELDS, "snat to", "dnat to"])
def test_an_empty_set_in_text_matches_nothing(name: str) -> None:
    for text in (f"{name} {{}}", f"{name} in {{ }}", f"{name} = {{}}"):
        assert Match.parse(text) == ~Match()
        assert Match.parse(f"not ({text})") == Match()
        assert Match.parse(f"proto tcp and not ({text})") == Match(proto="tcp")
        assert Match.parse(f"proto tcp or {text}") == Match(proto="tcp")
    if name in FIELDS:
        assert Match.parse(f"{name} != {{}}") == Match()


def test_empty_ranges_match_nothing() -> None:
    assert Match(orig_dport=range(0)) == Match(orig_dport=[range(5, 5), range(9, 3)]) == ~Match()
    assert Match(orig_dport=[80, range(0)]) == Match(orig_dport=80)


SERVICES = [Match(proto="tcp", orig_dst=f"10.0.0.{n}", orig_dport=80) for n in range(20)]
ALWAYS: list[Callable[[], Match]] = [
    *(lambda name=name: ~Match(**{name: []}) for name in SETS),  # type: ignore[misc]
    lambda: Match.all([]),
    lambda: ~Match.any([]),
    lambda: ~(Match(zone=1) & Match(reply_src=[])),
    lambda: Match(proto="tcp") | ~Match(reply_src=[]),
    lambda: Match.parse("not orig.dport in {}"),
    lambda: Match.parse("orig.dport != {}"),
    lambda: Match.any([Match(zone=1), ~Match(zone=[])]),
    lambda: Match(mark=0, mark_mask=0),
    lambda: Match(labels=0, labels_mask=0),
    lambda: ~Match(snat=[]) & ~Match(status=[]),
    lambda: Match.parse("mark in {0/1, 1/1}"),
    lambda: Match.parse("family ipv4 or orig.src in ::/0"),
    lambda: Match.any(SERVICES) | ~Match.any(SERVICES),
]


@pytest.mark.anyio
async def test_deleting_what_is_always_true_is_refused() -> None:
    kernel = FakeKernel(flows=[FLOW])
    async with kernel.connect() as conn:
        for make in ALWAYS:
            with pytest.raises(UnsafeRequest):
                await conn.delete_matching(make())
        assert await conn.count() == 1


@pytest.mark.anyio
async def test_every_method_accepts_a_match_that_is_never_true() -> None:
    """No request is sent, except by tables and event streams."""
    never = Match(reply_src=[])
    async with FakeKernel(flows=[FLOW]).connect() as conn:
        before = conn.client_statistics()
        assert await conn.list(never) == []
        assert await conn.list(never, reset_counters=True) == []
        assert [flow async for flow in conn.dump(never)] == []
        assert [flow async for flow in conn.dying(never)] == []
        assert [flow async for flow in conn.unconfirmed(never)] == []
        assert await conn.count(never) == 0
        assert await conn.delete_matching(never) == 0
        assert await conn.update_matching(never, mark=1) == 0
        after = conn.client_statistics()
        assert after.requests == before.requests
        assert after.datagrams_received == before.datagrams_received
        assert after.open_dumps == after.open_bulk_operations == 0
        assert "no request, because no flow can match" in str(await never.explain(conn))
        async with conn.table(never) as table:
            async with conn.events(EventType.NEW, match=never) as stream:
                await conn.create(Flow.tcp("10.0.0.1", 2, "10.0.0.2", 80, timeout=60))
                assert stream.receive_batch_nowait() == []
            await table.synced()
            assert len(table) == 0
        dump = conn.dump(never)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(dump)
        assert scope.cancelled_caught
        assert [flow async for flow in dump] == []
