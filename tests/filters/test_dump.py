"""Filters of dumps: they use what the kernel supports, and never drop a flow that matches."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6

import attrs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import match_strategies
from support.codec_cases import be16, be32, host32, nest
from support.effort import examples

from conntrack_aio import EncodeError, Flow, Match, UnsafeRequest
from conntrack_aio.codec.requests import flows as requests
from conntrack_aio.codec.requests.selection import select
from conntrack_aio.filters.dump import NO_FEATURES, DumpFeatures, compile_dump_filter
from conntrack_aio.model.requests import Masked, Selection


def features(*lacking: str) -> DumpFeatures:
    """Return the features of the newest kernel, except some."""
    return DumpFeatures(*(name not in lacking for name in DumpFeatures._fields))


NEW = features()
SOURCE = {"src": IPv4Address("10.0.0.1")}


@pytest.mark.parametrize(
    ("text", "selection", "exact"),
    [
        ("all", Selection(), True),
        ("family ipv6", Selection(family=AF_INET6), True),
        ("not family ipv6", Selection(family=AF_INET), True),
        ("mark 3", Selection(mark=Masked(3, 0xFFFFFFFF)), True),
        ("mark 0x1/0x3 and mark 0x4/0xc", Selection(mark=Masked(5, 15)), True),
        ("not mark 0x1/0x1", Selection(mark=Masked(0, 1)), True),
        ("not mark 0x1/0x3", Selection(), False),
        ("status assured", Selection(status=Masked(4, 4)), True),
        ("status assured and not status dying", Selection(status=Masked(4, 0x204)), True),
        ("status assured or status dying", Selection(), False),
        ("zone 0", Selection(zone=0), True),
        ("zone 7", Selection(zone=7), False),
        ("orig.zone 7", Selection(zone=7), False),
        ("orig.zone 0", Selection(), False),
        ("orig.src 10.0.0.1", Selection(family=AF_INET, orig=SOURCE), True),
        ("reply.src 10.0.0.1", Selection(family=AF_INET, reply=SOURCE), True),
        ("orig.src in 10.0.0.0/8", Selection(family=AF_INET), False),
        ("orig.src 2001:db8::1", Selection(family=AF_INET6), False),
        ("orig.src in {10.0.0.1, ::1}", Selection(), False),
        ("proto tcp and family ipv6", Selection(family=AF_INET6, orig={"proto": 6}), True),
        (
            "proto tcp and family ipv4 and reply.sport 80",
            Selection(family=AF_INET, orig={"proto": 6}, reply={"proto": 6, "sport": 80}),
            True,
        ),
        ("orig.dport 80 and family ipv4", Selection(family=AF_INET), False),
        (
            "proto sctp and orig.dport 80 and family ipv4",
            Selection(family=AF_INET, orig={"proto": 132}),
            False,
        ),
        (
            "proto icmp and orig.icmp_type 8 and orig.icmp_id 1 and family ipv4",
            Selection(family=AF_INET, orig={"proto": 1, "icmp_type": 8, "icmp_id": 1}),
            True,
        ),
        (
            "proto icmp and orig.icmp_type 3 and family ipv4",
            Selection(family=AF_INET, orig={"proto": 1}),
            False,
        ),
        ("mark 1 and zone 1 or mark 1 and zone 2", Selection(mark=Masked(1, 0xFFFFFFFF)), False),
        ("not (mark 0x1/0x1 or family ipv6)", Selection(family=AF_INET, mark=Masked(0, 1)), True),
        ("mark 1 and timeout <= 5", Selection(mark=Masked(1, 0xFFFFFFFF)), False),
    ],
)
def test_the_filter_of_the_newest_kernel(text: str, selection: Selection, exact: bool) -> None:
    found = compile_dump_filter(Match.parse(text)._node, NEW)
    assert found.selections == (selection,)
    assert found.exact is exact


@pytest.mark.parametrize(
    ("text", "selection", "exact"),
    [
        ("proto tcp", Selection(orig={"proto": 6}), True),
        ("proto tcp and orig.dport 80", Selection(orig={"proto": 6, "dport": 80}), True),
        (
            "proto udp and mark 1 and reply.sport in {53, 853}",
            Selection(mark=Masked(1, 0xFFFFFFFF), orig={"proto": 17}),
            False,
        ),
    ],
)
def test_a_match_of_tuples_takes_a_dump_of_each_family(
    text: str, selection: Selection, exact: bool
) -> None:
    found = compile_dump_filter(Match.parse(text)._node, NEW)
    families = (AF_INET, AF_INET6)
    assert found.selections == tuple(attrs.evolve(selection, family=each) for each in families)
    assert found.exact is exact


@pytest.mark.parametrize(
    ("text", "lacking", "selection", "exact"),
    [
        ("proto tcp", "tuple_filter", Selection(), False),
        ("status assured", "status_filter", Selection(), False),
        ("zone 0", "zone_filter", Selection(), False),
        ("mark 3", "zone_filter", Selection(mark=Masked(3, 0xFFFFFFFF)), False),
        ("family ipv4", "zone_filter", Selection(family=AF_INET), True),
        ("orig.src 10.0.0.1", "tuple_filter", Selection(family=AF_INET), False),
        ("reply.src 10.0.0.1", "reply_filter", Selection(family=AF_INET), False),
        ("orig.src 10.0.0.1", "reply_filter", Selection(family=AF_INET, orig=SOURCE), True),
    ],
)
def test_the_filter_of_a_kernel_that_lacks_a_feature(
    text: str, lacking: str, selection: Selection, exact: bool
) -> None:
    found = compile_dump_filter(Match.parse(text)._node, features(lacking))
    assert (found.selections, found.exact) == ((selection,), exact)


@pytest.mark.parametrize("kernel", [NEW, NO_FEATURES])
def test_a_match_that_is_never_true_takes_no_dump(kernel: DumpFeatures) -> None:
    found = compile_dump_filter(Match.parse("none")._node, kernel)
    assert (found.selections, found.exact) == ((), True)


def test_every_kernel_filters_by_family_and_mark() -> None:
    match = Match(family=AF_INET, mark=3, zone=0, proto="tcp")
    expected = Selection(family=AF_INET, mark=Masked(3, 0xFFFFFFFF))
    assert compile_dump_filter(match._node, NO_FEATURES).selections == (expected,)


def selects(selection: Selection, flow: Flow) -> bool:
    """Return whether the kernel sends a flow (``ctnetlink_filter_match``).

    Filters never contain IPv6 addresses.
    """
    zone = flow.zone or flow.orig.zone or flow.reply.zone or 0
    for side, tuple_ in ((selection.orig, flow.orig), (selection.reply, flow.reply)):
        for name, value in side.items():
            assert not isinstance(value, IPv6Address)
            if getattr(tuple_, name) != value:
                return False
    mark, status = selection.mark or Masked(0, 0), selection.status or Masked(0, 0)
    return (
        selection.family in (0, flow.orig.family)
        and (flow.mark or 0) & mark.mask == mark.value
        and int(flow.status or 0) & status.mask == status.value
        and selection.zone in (None, zone)
    )


@st.composite
def kernels(draw: st.DrawFn) -> DumpFeatures:
    return features(*draw(st.lists(st.sampled_from(DumpFeatures._fields))))


@settings(max_examples=examples(120), deadline=None)
@given(match_strategies.matches(), match_strategies.flows(), kernels())
def test_each_flow_that_matches_is_sent_in_one_dump(
    match: Match, flow: Flow, kernel: DumpFeatures
) -> None:
    assume(flow.orig.proto == flow.reply.proto)
    found = compile_dump_filter(match._node, kernel)
    selected = [selects(each, flow) for each in found.selections].count(True)
    assert selected >= match(flow)
    assert selected <= 1
    if found.exact:
        assert selected == match(flow)
    assert all(select(each) is not None for each in found.selections)  # it can be encoded


# -- encoding -----------------------------------------------------------------------------------


def test_the_attributes_of_a_filter() -> None:
    selection = Selection(
        family=AF_INET,
        mark=Masked(1, 3),
        status=Masked(4, 4),
        zone=0,
        orig={"src": IPv4Address("10.0.0.1"), "proto": 6, "dport": 80},
        reply={"proto": 6},
    )
    data = select(selection)
    parts = [
        be32(3, 4),
        be32(8, 1),
        be16(18, 0),
        be32(21, 3),
        be32(26, 4),
        nest(
            1, nest(1, be32(1, 0x0A000001)), nest(2, struct.pack("=HHBxxx", 5, 1, 6), be16(3, 80))
        ),
        nest(2, nest(2, struct.pack("=HHBxxx", 5, 1, 6))),
        nest(25, host32(1, 0x1 | 0x8 | 0x20), host32(2, 0x8)),
    ]
    assert sorted(split_attributes(data)) == sorted(parts)


def split_attributes(data: bytes) -> Iterator[bytes]:
    """Yield each attribute with its header and padding."""
    while data:
        size = struct.unpack_from("=H", data)[0] + 3 & ~3
        yield data[:size]
        data = data[size:]


def test_filters_that_the_kernel_would_invert_or_ignore_are_refused() -> None:
    with pytest.raises(EncodeError, match="do not have this IPv6 address"):
        select(Selection(family=AF_INET6, orig={"src": IPv6Address("::1")}))
    with pytest.raises(EncodeError, match="the kernel cannot select by this field"):
        select(Selection(family=AF_INET, orig={"zone": 1}))


def test_a_filtered_flush_always_contains_the_filter_attribute() -> None:
    """Without it the kernel would ignore the family, and an older kernel would flush everything."""
    request = requests.flush_selected(Selection(family=AF_INET))
    assert request.payload[4:] == nest(25)
    with pytest.raises(UnsafeRequest):
        requests.flush_selected(Selection())
