"""The declared access of attributes, and the kernels that have them, are correct."""

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
from conntrack_aio.model.requests import RequestOnly
from conntrack_aio.model.tuples import parse_address
from conntrack_aio.model.wire import INLINE, PLACES, SEQUENCE, Access, At, Nest
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
def test_kernel_versions_are_valid(cls: type) -> None:
    for place in places(cls):
        since = version(place.since) if place.since else (4, 19)
        assert since > (4, 19) or not place.since, f"{place}: versions before 4.19 are not declared"
        assert not place.until or since <= version(place.until), place


@pytest.mark.parametrize(
    "outer",
    [place for place in PLACES_OF_ALL if isinstance(place.wire, Nest)],
    ids=lambda place: ".".join(map(str, map(int, place.path))),
)
def test_attributes_in_a_nest_have_the_access_and_versions_of_the_nest(outer: At[object]) -> None:
    """If a class is in several nests, its attributes match at least one of them."""
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


def paths_of(cls: type, prefix: Path = ()) -> Iterator[tuple[Path, At[object]]]:
    """Yield the attributes of a class at any depth, with the numbers that lead there."""
    for field in attrs.fields(cls):
        if INLINE in field.metadata:
            yield from paths_of(field.metadata[INLINE], prefix)
        for place in field.metadata.get(PLACES, ()):
            here = (*prefix, *map(int, place.path))
            yield here, place
            if isinstance(place.wire, Nest):
                yield from paths_of(place.wire.cls, here)


def paths_in(data: bytes, start: int, prefix: Path = (), end: int | None = None) -> Iterator[Path]:
    """Yield the numbers that lead to each attribute of a message."""
    for number, nested, first, last in attributes.walk(
        data, start, len(data) if end is None else end
    ):
        yield (*prefix, number)
        if nested:
            yield from paths_in(data, first, (*prefix, number), last)


DECLARED = dict([*paths_of(FlowEvent), *paths_of(RequestOnly)])

NOT_SENT: set[Path] = {
    (CTA.FILTER,),
    (CTA.FILTER, CTA_FILTER.ORIG_FLAGS),
    (CTA.FILTER, CTA_FILTER.REPLY_FLAGS),
    (CTA.STATUS_MASK,),
    (CTA.TUPLE_MASTER, CTA_TUPLE.ZONE),
}
"""Attributes that a program may send and that these requests do not have."""


def test_requests_send_every_attribute_that_a_program_may_send() -> None:
    sent = {path for request in full_requests() for path in paths_in(request.payload, 4)}
    writable = {path for path, place in DECLARED.items() if place.access is not Access.READ}
    assert sent & DECLARED.keys() == writable - NOT_SENT


def test_the_kernel_sends_no_attribute_that_only_a_program_sends() -> None:
    received = {
        path for capture in CAPTURED for path in paths_in(capture.data, 20)
    } & DECLARED.keys()
    assert received
    assert not [path for path in received if DECLARED[path].access is Access.WRITE]


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


def full_requests() -> Iterator[Request]:
    """Yield requests about flows with every field, including those that only the kernel sets."""
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


def test_the_full_flow_has_every_field() -> None:
    absent = {
        name
        for name, value in attrs.asdict(full(*KINDS[0]), recurse=False).items()
        if value is None
    }
    assert not absent
