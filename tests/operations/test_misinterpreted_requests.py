"""Test that requests that the kernel would misinterpret are refused and change nothing.

The kernel takes a delete without a tuple for a flush. It ignores filters that it does not know. It
considers the family of a flush only in a message version that no program sends. These tests run on
all supported releases, and on this machine's kernel.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from socket import AF_INET, AF_INET6
from types import NoneType
from typing import Any, Never, get_type_hints

import attrs
import pytest
from support import flows
from support.attribute_encoding import with_values
from support.real_or_fake_kernel import REAL, AnyKernel, FakeKernelAdapter, RealKernel

from conntrack_aio import (
    Connection,
    EncodeError,
    Flow,
    Match,
    NotFound,
    Tuple,
    UnknownAttribute,
    UnsafeRequest,
)
from conntrack_aio.testing import FakeKernel

pytestmark = pytest.mark.anyio

RELEASES = ("4.19", "5.4", "5.15", "6.1", "6.8", "6.12", "6.18")
IPV6_FLOWS = 3
"""The number of IPv6 flows."""


@pytest.fixture(params=[*RELEASES, REAL])
def anykernel(request: pytest.FixtureRequest) -> AnyKernel:
    if request.param == "real":
        return RealKernel(request.getfixturevalue("lab"))
    return FakeKernelAdapter(FakeKernel(request.param))


@pytest.fixture
async def conn(anykernel: AnyKernel) -> AsyncIterator[Connection]:
    """Open a connection, and create flows of both families with marks 0 to 4, one in a zone."""
    async with anykernel.connect() as connection:
        for number in range(1, 6):
            await connection.create(flows.tcp(number, mark=number % 5))
        for number in range(1, IPV6_FLOWS + 1):
            await connection.create(flows.udp6(number, mark=number))
        await connection.create(attrs.evolve(flows.tcp(9), zone=7))
        yield connection


async def keys(conn: Connection) -> set[object]:
    return {flow.key for flow in await conn.list()}


async def first_flow(conn: Connection) -> Flow:
    return await conn.get(flows.tcp(1))


Call = Callable[[Connection, Flow], Awaitable[object]]


def without(flow: Flow, *names: str) -> Any:
    """Return the original tuple of the flow with ``None`` in these fields."""
    return with_values(flow.orig, **dict.fromkeys(names))


REFUSED: dict[str, tuple[type[Exception], Call]] = {
    # no tuple, or something else instead of a target
    "no tuple": (EncodeError, lambda c, f: c.delete(attrs.evolve(f, orig=None))),
    "an id": (TypeError, lambda c, f: c.delete(f.id)),  # type: ignore[arg-type]
    "nothing": (TypeError, lambda c, f: c.delete(None)),  # type: ignore[arg-type]
    "text": (TypeError, lambda c, f: c.delete("tcp")),  # type: ignore[arg-type]
    "a match": (TypeError, lambda c, f: c.delete(Match(mark=1))),  # type: ignore[arg-type]
    # an incomplete tuple
    "no ports": (EncodeError, lambda c, f: c.delete(without(f, "sport", "dport"))),
    "no port": (EncodeError, lambda c, f: c.delete(without(f, "dport"))),
    "no protocol": (EncodeError, lambda c, f: c.delete(without(f, "proto"))),
    "no address": (EncodeError, lambda c, f: c.delete(without(f, "src"))),
    "no addresses": (EncodeError, lambda c, f: c.delete(without(f, "src", "dst"))),
    "two families": (
        EncodeError,
        lambda c, f: c.delete(with_values(f.orig, dst=flows.udp6().orig.dst)),
    ),
    # the target denotes no entry, or another one
    "another id": (NotFound, lambda c, f: c.delete(attrs.evolve(f, id=(f.id or 0) ^ 1))),
    "another zone": (NotFound, lambda c, f: c.delete(f, zone=3)),
    "without its zone": (NotFound, lambda c, f: c.delete(flows.tcp(9).orig)),
    "an impossible zone": (EncodeError, lambda c, f: c.delete(f, zone=1 << 16)),
    # everything, though not requested by flush()
    "all by a match": (UnsafeRequest, lambda c, f: c.delete_matching(Match())),
    "all by a mask": (UnsafeRequest, lambda c, f: c.delete_matching(Match(mark=0, mark_mask=0))),
    "no match": (TypeError, lambda c, f: c.delete_matching(None)),  # type: ignore[arg-type]
    "a predicate": (TypeError, lambda c, f: c.delete_matching(lambda _: False)),  # type: ignore[arg-type]
    "a flush of some": (TypeError, lambda c, f: c.flush(Match(mark=1))),  # type: ignore[call-arg]
    "a flush of a family": (TypeError, lambda c, f: c.flush(family=AF_INET6)),  # type: ignore[call-arg]
    # updates that would create an entry, toggle bits, or clear them
    "an update of a missing entry": (NotFound, lambda c, f: c.update(flows.tcp(99), mark=1)),
    "a mark outside its mask": (EncodeError, lambda c, f: c.update(f, mark=0x11, mark_mask=0x10)),
    "a mask alone": (EncodeError, lambda c, f: c.update(f, mark_mask=0xFF)),
    "a mask of labels alone": (EncodeError, lambda c, f: c.update(f, labels_mask=1)),
    "labels outside their mask": (EncodeError, lambda c, f: c.update(f, labels=3, labels_mask=1)),
    "an update without changes": (EncodeError, lambda c, f: c.update(f)),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_invalid_requests_are_refused_and_change_nothing(conn: Connection, name: str) -> None:
    error, call = REFUSED[name]
    before = await conn.list()
    with pytest.raises(error):
        await call(conn, await first_flow(conn))
    assert [flows.without_timeout(flow) for flow in await conn.list()] == [
        flows.without_timeout(flow) for flow in before
    ]


@pytest.mark.parametrize(
    "arguments",
    [{"mark_mask": 1}, {"mark": 2, "mark_mask": 1}, {"mark": 1 << 32}, {"family": 99}],
)
async def test_an_impossible_match_cannot_be_constructed(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"mark|family"):
        Match(**arguments)


@pytest.mark.parametrize(
    "match",
    [
        Match(mark=3),
        Match(mark=0),
        Match(mark=2, mark_mask=2),
        Match(mark=77),
        Match(family=AF_INET6),
        Match(family=AF_INET),
        Match(family=AF_INET6, mark=2),
        Match(family=AF_INET, mark=4, mark_mask=4),
    ],
    ids=str,
)
async def test_delete_matching_deletes_only_what_matches(conn: Connection, match: Match) -> None:
    """Even on a kernel that ignores the filter, only matching entries are deleted."""
    all_flows = await conn.list()
    spared = {flow.key for flow in all_flows if not match(flow)}
    assert await conn.delete_matching(match) == len(all_flows) - len(spared)
    assert await keys(conn) == spared


async def test_delete_deletes_only_one_entry(conn: Connection) -> None:
    left = await conn.list()
    while left:
        flow = left.pop()
        await conn.delete(flow)
        assert await keys(conn) == {other.key for other in left}


async def test_unknown_attributes_are_not_sent(anykernel: AnyKernel, conn: Connection) -> None:
    """A flow read from a newer kernel may have an attribute that this kernel takes for a filter."""
    flow = await first_flow(conn)
    flow.unknown = (UnknownAttribute((25,), b"\1\2\3\4", nested=True),)
    others = await keys(conn) - {flow.key}
    await conn.update(flow, mark=9)
    await conn.delete(flow)
    assert await keys(conn) == others


async def test_a_reply_tuple_deletes_only_its_own_entry(conn: Connection) -> None:
    flow = await first_flow(conn)
    others = await keys(conn) - {flow.key}
    await conn.delete(flow.reply)
    assert await keys(conn) == others


async def test_a_tuple_without_ports_deletes_no_entry_with_ports(conn: Connection) -> None:
    esp: Tuple = attrs.evolve(flows.tcp(1).orig, proto=50, sport=None, dport=None)
    before = await keys(conn)
    with pytest.raises(NotFound):
        await conn.delete(esp)
    assert await keys(conn) == before


def supports_flush_filter(release: str) -> bool:
    """Return whether kernels of this release can filter a flush."""
    return tuple(map(int, release.split("."))) >= (6, 12)


@pytest.mark.parametrize("release", RELEASES)
async def test_only_a_flush_is_a_delete_without_a_tuple(release: str) -> None:
    """No other delete has a filter, a mask or a status, unless the kernel is known to apply it."""
    kernel = FakeKernel(release)
    async with kernel.connect() as conn:
        for number in range(20):
            await conn.create(flows.tcp(number, mark=number % 3))
        flow = (await conn.list())[0]
        await conn.delete(flow)
        await conn.delete((await conn.list())[0].orig)
        await conn.delete_matching(Match(mark=1))
        await conn.delete_matching(Match(family=AF_INET, mark=2, mark_mask=3))
        await conn.features()
        await conn.flush()
    deletes = [request for request in kernel.requests if request.type == 0x102]
    *targeted, flush = deletes
    if supports_flush_filter(release):
        filtered = [
            request for request in targeted if not request.attributes.keys() & {"orig", "reply"}
        ]
        assert [request.attributes["mark"] for request in filtered] == [1, 2]
        assert all("filter" in request.attributes for request in filtered)
        targeted = [request for request in targeted if request not in filtered]
    assert kernel.flows == []
    assert not flush.payload[4:]
    # The first attribute is the original tuple, a nest of type 1. Only the probe of the flush
    # filter adds a filter to a tuple, and no entry has that tuple.
    assert all(request.payload[6:8] == b"\x01\x80" for request in targeted)


def test_all_deleting_methods_but_flush_need_a_target_or_match() -> None:
    """A deleting method has a required target or match as its first parameter."""
    for name in ("delete", "delete_matching"):
        first = list(inspect.signature(getattr(Connection, name)).parameters.values())[1]
        assert first.default is inspect.Parameter.empty
    # flush() has parameters only to refuse arguments with a hint.
    hints = get_type_hints(Connection.flush)
    assert set(hints.values()) == {Never, NoneType}
