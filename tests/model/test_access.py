"""Who tells an attribute to whom, and which kernels have it: what is declared is what is done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import copy

import attrs
import pytest
from support.captured import CAPTURED
from support.model_strategies import declared_classes

from conntrack_aio import (
    Counters,
    DCCPInfo,
    DCCPRole,
    DCCPState,
    Flow,
    FlowEvent,
    Helper,
    NATRange,
    ProtoInfo,
    SCTPInfo,
    SCTPState,
    SeqAdj,
    Status,
    SynProxy,
    TCPFlags,
    TCPInfo,
    TCPState,
    Timestamp,
    Tuple,
)
from conntrack_aio.codec.requests import flows as requests
from conntrack_aio.model.declare import INLINE, PLACES, SEQUENCE, Access, At, Nest
from conntrack_aio.model.requests import RequestOnly
from conntrack_aio.model.tuples import parse_address
from conntrack_aio.netlink import attributes
from conntrack_aio.netlink.exchange import Request
from conntrack_aio.uapi.nfnetlink_conntrack import CTA, CTA_FILTER, CTA_TUPLE

Path = tuple[int, ...]


def places(cls: type) -> Iterator[At[object]]:
    for field in attrs.fields(cls):
        yield from field.metadata.get(PLACES, ())
        if SEQUENCE in field.metadata:
            yield from (field.metadata[SEQUENCE].count, *field.metadata[SEQUENCE].items)


PLACES_OF_ALL = [place for cls in declared_classes() for place in places(cls)]


def version(text: str) -> tuple[int, ...]:
    assert re.fullmatch(r"\d\.\d{1,2}", text), text
    return tuple(map(int, text.split(".")))


@pytest.mark.parametrize("cls", declared_classes(), ids=lambda cls: cls.__name__)
def test_versions_are_versions(cls: type) -> None:
    for place in places(cls):
        since = version(place.since) if place.since else (4, 19)
        assert since > (4, 19) or not place.since, f"{place}: 4.19 is as far back as is told"
        assert not place.until or since <= version(place.until), place


@pytest.mark.parametrize(
    "outer",
    [place for place in PLACES_OF_ALL if isinstance(place.wire, Nest)],
    ids=lambda place: ".".join(map(str, map(int, place.path))),
)
def test_what_is_in_a_nest_is_where_the_nest_is(outer: At[object]) -> None:
    """Of a class that stands in several nests: as in one of them."""
    assert isinstance(outer.wire, Nest)
    outers = [place for place in PLACES_OF_ALL if place.wire == outer.wire]
    accesses = {place.access for place in outers}
    for inner in places(outer.wire.cls):
        assert Access.BOTH in accesses or inner.access in accesses, inner
        if all(place.since for place in outers):
            assert version(inner.since) >= min(version(place.since) for place in outers), inner
        if all(place.until for place in outers):
            assert version(inner.until) <= max(version(place.until) for place in outers), inner


# A flow's messages


def below(cls: type, prefix: Path = ()) -> Iterator[tuple[Path, At[object]]]:
    """The places in a class's message, at any depth, with the numbers that lead there."""
    for field in attrs.fields(cls):
        if INLINE in field.metadata:
            yield from below(field.metadata[INLINE], prefix)
        for place in field.metadata.get(PLACES, ()):
            here = (*prefix, *map(int, place.path))
            yield here, place
            if isinstance(place.wire, Nest):
                yield from below(place.wire.cls, here)


def told(data: bytes, start: int, prefix: Path = (), end: int | None = None) -> Iterator[Path]:
    """The numbers that lead to each attribute of a message."""
    for number, nested, first, last in attributes.walk(
        data, start, len(data) if end is None else end
    ):
        yield (*prefix, number)
        if nested:
            yield from told(data, first, (*prefix, number), last)


DECLARED = dict([*below(FlowEvent), *below(RequestOnly)])

UNSAID: set[Path] = {
    (CTA.FILTER,),
    (CTA.FILTER, CTA_FILTER.ORIG_FLAGS),
    (CTA.FILTER, CTA_FILTER.REPLY_FLAGS),
    (CTA.STATUS_MASK,),
    (CTA.TUPLE_MASTER, CTA_TUPLE.ZONE),
}
"""What a program may say and these requests don't."""


def test_requests_say_all_but_what_only_the_kernel_tells() -> None:
    said = {path for request in fullest() for path in told(request.payload, 4)}
    writable = {path for path, place in DECLARED.items() if place.access is not Access.READ}
    assert said & DECLARED.keys() == writable - UNSAID


def test_the_kernel_tells_nothing_that_only_a_program_says() -> None:
    seen = {path for capture in CAPTURED for path in told(capture.data, 20)} & DECLARED.keys()
    assert seen
    assert not [path for path in seen if DECLARED[path].access is Access.WRITE]


A, B = parse_address("10.0.0.1"), parse_address("10.0.0.2")
KINDS: list[tuple[Tuple, ProtoInfo | None]] = [
    (
        Tuple.tcp(A, 1, B, 2),
        TCPInfo(
            state=TCPState.ESTABLISHED,
            wscale_orig=1,
            wscale_reply=1,
            flags_orig=TCPFlags.WINDOW_SCALE,
            flags_reply=TCPFlags.WINDOW_SCALE,
        ),
    ),
    (
        Tuple(src=A, dst=B, proto=132, sport=1, dport=2),
        SCTPInfo(state=SCTPState.ESTABLISHED, vtag_orig=1, vtag_reply=1),
    ),
    (
        Tuple(src=A, dst=B, proto=33, sport=1, dport=2),
        DCCPInfo(state=DCCPState.OPEN, role=DCCPRole.CLIENT, handshake_seq=1),
    ),
    (Tuple.icmp(A, B, id=1), None),
    (Tuple.icmp("fd00::1", "fd00::2", id=1), None),
]


def fullest() -> Iterator[Request]:
    """Requests about flows that have everything, what only the kernel can give as well."""
    for orig, info in KINDS:
        flow = full(orig, info)
        span = NATRange(address_min=orig.src, address_max=orig.dst, port_min=1, port_max=2)
        yield requests.create(flow, nat_src=span, nat_dst=span)
        yield requests.delete(flow)
        yield requests.update(flow, {"mark": 1, "mark_mask": 1, "labels": 1, "labels_mask": 1})
        for name in ("orig", "reply"):
            zoned = copy(flow)
            zoned.zone = None
            setattr(zoned, name, in_zone(getattr(flow, name)))
            yield requests.create(zoned)


def full(orig: Tuple, info: ProtoInfo | None) -> Flow:
    shift = SeqAdj(correction_pos=1, offset_before=1, offset_after=1)
    return Flow(
        orig=orig,
        reply=orig.inverse,
        master=orig,
        status=Status.ASSURED,
        timeout=1,
        mark=1,
        zone=1,
        id=1,
        use=1,
        protoinfo=info,
        counters_orig=Counters(packets=1, bytes=1),
        counters_reply=Counters(packets=1, bytes=1),
        timestamp=Timestamp(start=1, stop=1),
        helper=Helper(name="ftp", info=b"1"),
        labels=1,
        seqadj_orig=shift,
        seqadj_reply=shift,
        synproxy=SynProxy(isn=1, its=1, tsoff=1),
        secctx="1",
    )


def in_zone(tuple_: Tuple) -> Tuple:
    zoned = copy(tuple_)
    zoned.zone = 1
    return zoned


def test_the_fullest_flow_is_full() -> None:
    absent = {
        name
        for name, value in attrs.asdict(full(*KINDS[0]), recurse=False).items()
        if value is None
    }
    assert not absent
