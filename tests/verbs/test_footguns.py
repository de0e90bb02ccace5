"""The kernel's foot-guns, tried through the public interface: the table stays as it is.

A delete without a tuple is a flush; a filter that a kernel does not know is no filter; a family
counts only in a version that nobody sends. On kernels of every age, and on this machine's.
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
V6 = 3
"""How many of the flows are IPv6 ones."""


@pytest.fixture(params=[*RELEASES, REAL])
def anykernel(request: pytest.FixtureRequest) -> AnyKernel:
    if request.param == "real":
        return RealKernel(request.getfixturevalue("lab"))
    return FakeKernelAdapter(FakeKernel(request.param))


@pytest.fixture
async def conn(anykernel: AnyKernel) -> AsyncIterator[Connection]:
    """Flows of both families, of marks 0 to 4, one in a zone."""
    async with anykernel.connect() as connection:
        for number in range(1, 6):
            await connection.create(flows.tcp(number, mark=number % 5))
        for number in range(1, V6 + 1):
            await connection.create(flows.udp6(number, mark=number))
        await connection.create(attrs.evolve(flows.tcp(9), zone=7))
        yield connection


async def keys(conn: Connection) -> set[object]:
    return {flow.key for flow in await conn.list()}


async def one(conn: Connection) -> Flow:
    return await conn.get(flows.tcp(1))


Call = Callable[[Connection, Flow], Awaitable[object]]


def without(flow: Flow, *names: str) -> Any:
    """With nothing where the kernel wants something."""
    return with_values(flow.orig, **dict.fromkeys(names))


REFUSED: dict[str, tuple[type[Exception], Call]] = {
    # only an id, or what stands for one
    "no tuple": (EncodeError, lambda c, f: c.delete(attrs.evolve(f, orig=None))),
    "an id": (TypeError, lambda c, f: c.delete(f.id)),  # type: ignore[arg-type]
    "nothing": (TypeError, lambda c, f: c.delete(None)),  # type: ignore[arg-type]
    "text": (TypeError, lambda c, f: c.delete("tcp")),  # type: ignore[arg-type]
    "a match": (TypeError, lambda c, f: c.delete(Match(mark=1))),  # type: ignore[arg-type]
    # half a tuple
    "no ports": (EncodeError, lambda c, f: c.delete(without(f, "sport", "dport"))),
    "no port": (EncodeError, lambda c, f: c.delete(without(f, "dport"))),
    "no protocol": (EncodeError, lambda c, f: c.delete(without(f, "proto"))),
    "no address": (EncodeError, lambda c, f: c.delete(without(f, "src"))),
    "no addresses": (EncodeError, lambda c, f: c.delete(without(f, "src", "dst"))),
    "two families": (
        EncodeError,
        lambda c, f: c.delete(with_values(f.orig, dst=flows.udp6().orig.dst)),
    ),
    # not the one that is meant
    "another id": (NotFound, lambda c, f: c.delete(attrs.evolve(f, id=(f.id or 0) ^ 1))),
    "another zone": (NotFound, lambda c, f: c.delete(f, zone=3)),
    "without its zone": (NotFound, lambda c, f: c.delete(flows.tcp(9).orig)),
    "a zone that is none": (EncodeError, lambda c, f: c.delete(f, zone=1 << 16)),
    # all, unasked
    "all by a match": (UnsafeRequest, lambda c, f: c.delete_matching(Match())),
    "all by a mask": (UnsafeRequest, lambda c, f: c.delete_matching(Match(mark=0, mark_mask=0))),
    "no match": (TypeError, lambda c, f: c.delete_matching(None)),  # type: ignore[arg-type]
    "a predicate": (TypeError, lambda c, f: c.delete_matching(lambda _: False)),  # type: ignore[arg-type]
    "a flush of some": (TypeError, lambda c, f: c.flush(Match(mark=1))),  # type: ignore[call-arg]
    "a flush of a family": (TypeError, lambda c, f: c.flush(family=AF_INET6)),  # type: ignore[call-arg]
    # updates that would make, toggle, or clear
    "an update of none": (NotFound, lambda c, f: c.update(flows.tcp(99), mark=1)),
    "a mark outside its mask": (EncodeError, lambda c, f: c.update(f, mark=0x11, mark_mask=0x10)),
    "a mask alone": (EncodeError, lambda c, f: c.update(f, mark_mask=0xFF)),
    "a mask of labels alone": (EncodeError, lambda c, f: c.update(f, labels_mask=1)),
    "labels outside their mask": (EncodeError, lambda c, f: c.update(f, labels=3, labels_mask=1)),
    "an update to nothing": (EncodeError, lambda c, f: c.update(f)),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_and_nothing_happens(conn: Connection, name: str) -> None:
    error, call = REFUSED[name]
    before = await conn.list()
    with pytest.raises(error):
        await call(conn, await one(conn))
    assert [flows.without_timeout(flow) for flow in await conn.list()] == [
        flows.without_timeout(flow) for flow in before
    ]


@pytest.mark.parametrize(
    "arguments",
    [{"mark_mask": 1}, {"mark": 2, "mark_mask": 1}, {"mark": 1 << 32}, {"family": 99}],
)
async def test_a_match_that_is_none_is_not_made(arguments: dict[str, int]) -> None:
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
async def test_what_does_not_match_survives(conn: Connection, match: Match) -> None:
    """A filter that the kernel ignores deletes no more than what it is asked for."""
    everything = await conn.list()
    spared = {flow.key for flow in everything if not match(flow)}
    assert await conn.delete_matching(match) == len(everything) - len(spared)
    assert await keys(conn) == spared


async def test_one_delete_deletes_one(conn: Connection) -> None:
    left = await conn.list()
    while left:
        flow = left.pop()
        await conn.delete(flow)
        assert await keys(conn) == {other.key for other in left}


async def test_attributes_that_are_not_known_are_not_sent_along(
    anykernel: AnyKernel, conn: Connection
) -> None:
    """A flow that was read from a newer kernel may carry what this one takes for a filter."""
    flow = await one(conn)
    flow.unknown = (UnknownAttribute((25,), b"\1\2\3\4", nested=True),)
    others = await keys(conn) - {flow.key}
    await conn.update(flow, mark=9)
    await conn.delete(flow)
    assert await keys(conn) == others


async def test_a_reply_tuple_deletes_its_own_flow(conn: Connection) -> None:
    flow = await one(conn)
    others = await keys(conn) - {flow.key}
    await conn.delete(flow.reply)
    assert await keys(conn) == others


async def test_a_tuple_of_a_protocol_without_ports(conn: Connection) -> None:
    esp: Tuple = attrs.evolve(flows.tcp(1).orig, proto=50, sport=None, dport=None)
    before = await keys(conn)
    with pytest.raises(NotFound):
        await conn.delete(esp)
    assert await keys(conn) == before


def kernel_selects(release: str) -> bool:
    """Whether a flush can be filtered."""
    return tuple(map(int, release.split("."))) >= (6, 12)


@pytest.mark.parametrize("release", RELEASES)
async def test_no_delete_without_a_tuple_is_ever_sent_but_a_flush(release: str) -> None:
    """And none with a filter, a mask or a status, whatever the kernel would make of it: but where
    it is known to make of it what it should."""
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
    deletes = [asked for asked in kernel.requests if asked.type == 0x102]
    *exact, flush = deletes
    if kernel_selects(release):
        filtered = [asked for asked in exact if not asked.attributes.keys() & {"orig", "reply"}]
        assert [asked.attributes["mark"] for asked in filtered] == [1, 2]
        assert all("filter" in asked.attributes for asked in filtered)
        exact = [asked for asked in exact if asked not in filtered]
    assert kernel.flows == []
    assert not flush.payload[4:]
    # A tuple first; and a filter only in the question that has none to delete.
    assert all(asked.payload[6:8] == b"\x01\x80" for asked in exact)


def test_no_verb_but_flush_takes_no_target() -> None:
    """What deletes says what: a target, a match, or that it is all."""
    for name in ("delete", "delete_matching"):
        first = list(inspect.signature(getattr(Connection, name)).parameters.values())[1]
        assert first.default is inspect.Parameter.empty
    # It has parameters for what it refuses, to say what deletes some.
    hints = get_type_hints(Connection.flush)
    assert set(hints.values()) == {Never, NoneType}
