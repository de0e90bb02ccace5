"""The bytes of requests that create entries, and flows that are refused."""

from __future__ import annotations

from ipaddress import ip_address
from socket import AF_INET, AF_INET6

import attrs
import pytest
from support.codec_cases import (
    A6,
    BOTH_TUPLES,
    IP6,
    TCP4,
    TCP4_PAYLOAD,
    TCP4_REPLY,
    TCP4_REPLY_PAYLOAD,
    C,
    attr,
    be8,
    be16,
    be32,
    check_request,
    flow,
    nest,
    pack_unsigned_longs,
)

from conntrack_aio import (
    Counters,
    EncodeError,
    Flow,
    Helper,
    NATRange,
    SCTPInfo,
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

NEW = 0x100
TCP_FLOW = Flow.tcp("10.0.0.1", 1, "10.0.0.2", 2, timeout=9)
SCTP_TUPLE = attrs.evolve(TCP_FLOW.orig, proto=132)
SCTP_FLOW = Flow(orig=SCTP_TUPLE, reply=SCTP_TUPLE.inverse, timeout=9)
CREATED_TCP = nest(4, nest(1, be8(1, 3), attr(4, b"\x0a\xff"), attr(5, b"\x0a\xff")))
"""ESTABLISHED, and liberal on both sides."""
V6 = Tuple(src=A6, dst=ip_address("2001:db8::2"), proto=50)


def test_created_tcp_flows_are_established_and_liberal() -> None:
    check_request(
        requests.create(flow(timeout=0)),
        NEW,
        0x600,
        AF_INET,
        BOTH_TUPLES + be32(7, 0) + CREATED_TCP,
    )


def test_create_keeps_the_state_and_flags_given() -> None:
    info = TCPInfo(
        state=TCPState.SYN_SENT, wscale_orig=0, wscale_reply=7, flags_orig=TCPFlags.WINDOW_SCALE
    )
    inside = nest(1, be8(1, 1), be8(2, 0), be8(3, 7), attr(4, b"\x0b\xff"), attr(5, b"\x0a\xff"))
    request = requests.create(flow(timeout=1, protoinfo=info))
    check_request(request, NEW, 0x600, AF_INET, BOTH_TUPLES + be32(7, 1) + nest(4, inside))


def test_the_tcp_state_none_is_sent() -> None:
    request = requests.create(flow(timeout=1, protoinfo=TCPInfo(state=TCPState.NONE)))
    assert nest(4, nest(1, be8(1, 0), attr(4, b"\x0a\xff"), attr(5, b"\x0a\xff"))) in (
        request.payload
    )


def test_flows_of_other_protocols_get_no_tcp_state() -> None:
    check_request(
        requests.create(Flow(orig=V6, reply=V6.inverse, timeout=1)),
        NEW,
        0x600,
        AF_INET6,
        nest(1, IP6, nest(2, be8(1, 50)))
        + nest(2, nest(1, attr(3, V6.dst.packed), attr(4, A6.packed)), nest(2, be8(1, 50)))
        + be32(7, 1),
    )


def test_create_sends_sctp_as_given() -> None:
    tuple_ = attrs.evolve(TCP4, proto=132)
    info = SCTPInfo(state=1, vtag_orig=2, vtag_reply=3)
    created = Flow(orig=tuple_, reply=tuple_.inverse, timeout=1, protoinfo=info)
    payload = requests.create(created).payload
    assert payload.endswith(nest(4, nest(3, be8(1, 1), be32(2, 2), be32(3, 3))))


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (None, b""),
        (Status(0), be32(3, 8)),
        (Status.ASSURED | Status.SEEN_REPLY, be32(3, 0x0E)),
        (Status.FIXED_TIMEOUT | Status.HELPER, be32(3, 0x2408)),
        (Status.EXPECTED | Status.DYING | Status.SRC_NAT | Status.OFFLOAD, be32(3, 8)),
    ],
)
def test_create_status_is_confirmed_and_settable(status: Status | None, sent: bytes) -> None:
    request = requests.create(flow(timeout=1, status=status))
    check_request(request, NEW, 0x600, AF_INET, BOTH_TUPLES + sent + be32(7, 1) + CREATED_TCP)


def test_values_that_only_the_kernel_sets_are_not_sent() -> None:
    copied = flow(
        timeout=1,
        id=5,
        use=1,
        counters_orig=Counters(packets=1),
        counters_reply=Counters(packets=1),
        timestamp=Timestamp(start=1),
        secctx="x",
    )
    assert requests.create(copied).payload == requests.create(flow(timeout=1)).payload


def test_all_values_that_a_program_can_set_are_sent() -> None:
    adjusted = SeqAdj(correction_pos=1, offset_before=-1, offset_after=2)
    inside = be32(1, 1) + be32(2, 0xFFFFFFFF) + be32(3, 2)
    full = flow(
        master=TCP4_REPLY,
        timeout=9,
        mark=0,
        zone=7,
        helper=Helper(name="ftp"),
        labels=2,
        seqadj_orig=adjusted,
        seqadj_reply=adjusted,
        synproxy=SynProxy(isn=1, its=2, tsoff=3),
    )
    check_request(
        requests.create(full),
        NEW,
        0x600,
        AF_INET,
        BOTH_TUPLES
        + nest(14, TCP4_REPLY_PAYLOAD)
        + be32(7, 9)
        + be32(8, 0)
        + be16(18, 7)
        + CREATED_TCP
        + nest(5, attr(1, b"ftp\0"))
        + attr(22, pack_unsigned_longs(2))
        + nest(15, inside)
        + nest(16, inside)
        + nest(24, be32(1, 1), be32(2, 2), be32(3, 3)),
    )


def test_create_needs_a_timeout() -> None:
    with pytest.raises(EncodeError) as caught:
        requests.create(flow())
    assert caught.value.path == ("timeout",)


@pytest.mark.parametrize("zones", [(7, 7, None), (7, None, 7), (None, 5, 6), (0, 5, None)])
def test_a_flow_with_two_zones_is_refused(zones: tuple[int | None, int | None, int | None]) -> None:
    both, orig, reply = zones
    inconsistent = Flow(
        orig=attrs.evolve(TCP4, zone=orig),
        reply=attrs.evolve(TCP4_REPLY, zone=reply),
        zone=both,
        timeout=1,
    )
    with pytest.raises(EncodeError) as caught:
        requests.create(inconsistent)
    assert caught.value.path == ("zone",)


@pytest.mark.parametrize("name", ["orig", "reply"])
def test_create_in_the_zone_of_a_direction(name: str) -> None:
    created = attrs.evolve(flow(timeout=1), **{name: attrs.evolve(getattr(flow(), name), zone=5)})
    inside = {"orig": TCP4_PAYLOAD, "reply": TCP4_REPLY_PAYLOAD}
    inside[name] += be16(3, 5)
    tuples = nest(1, inside["orig"]) + nest(2, inside["reply"])
    check_request(requests.create(created), NEW, 0x600, AF_INET, tuples + be32(7, 1) + CREATED_TCP)


# NAT


@pytest.mark.parametrize(
    ("given", "inside"),
    [
        ("10.0.0.3", attr(1, C.packed)),
        (C, attr(1, C.packed)),
        (NATRange.of("10.0.0.3", 0), attr(1, C.packed) + nest(3, be16(1, 0))),
        (NATRange(port_min=1, port_max=2), nest(3, be16(1, 1), be16(2, 2))),
    ],
)
def test_create_with_nat(given: NATRange | str, inside: bytes) -> None:
    created = BOTH_TUPLES + be32(7, 1) + CREATED_TCP
    source = requests.create(flow(timeout=1), nat_src=given)
    check_request(source, NEW, 0x600, AF_INET, created + nest(6, inside))
    destination = requests.create(flow(timeout=1), nat_dst=given)
    check_request(destination, NEW, 0x600, AF_INET, created + nest(13, inside))


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("2001:db8::1", ("nat_src", "address_min")),
        (NATRange(address_min=C, address_max=A6), ("nat_src", "address_max")),
        (NATRange(address_min=C, address_max=TCP4.src), ("nat_src", "address_max")),
        (NATRange(address_max=C), ("nat_src",)),
        (NATRange(port_max=5), ("nat_src",)),
        (NATRange(address_min=C, port_max=5), ("nat_src", "port_max")),
        (NATRange(port_min=5, port_max=4), ("nat_src", "port_max")),
        (NATRange(), ("nat_src",)),
        (NATRange.of(port=65536), ("nat_src", "port_min")),
    ],
)
def test_nat_ranges_that_are_not_valid_are_refused(
    given: NATRange | str, path: tuple[str, ...]
) -> None:
    with pytest.raises(EncodeError) as caught:
        requests.create(flow(timeout=1), nat_src=given)
    assert caught.value.path == path


def test_nat_needs_a_flow_without_a_translation() -> None:
    translated = attrs.evolve(flow(timeout=1), reply=attrs.evolve(TCP4_REPLY, dst=C))
    assert requests.create(translated).payload
    with pytest.raises(EncodeError) as caught:
        requests.create(translated, nat_src="10.0.0.3")
    assert caught.value.path == ("reply",)


@pytest.mark.parametrize(
    ("flow", "path"),
    [
        (
            attrs.evolve(TCP_FLOW, protoinfo=SCTPInfo(state=3, vtag_orig=1, vtag_reply=2)),
            "protoinfo",
        ),
        (attrs.evolve(SCTP_FLOW, protoinfo=SCTPInfo(state=3)), "protoinfo"),
        (attrs.evolve(SCTP_FLOW, protoinfo=TCPInfo(state=3)), "protoinfo"),
        (attrs.evolve(TCP_FLOW, master=Tuple.tcp("10.0.0.1", 1, "10.0.0.2", 2, zone=1)), "master"),
    ],
)
def test_values_that_the_kernel_would_ignore_or_refuse_are_refused(flow: Flow, path: str) -> None:
    with pytest.raises(EncodeError) as caught:
        requests.create(flow)
    assert caught.value.path[0] == path


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("status", attrs.evolve(flow(timeout=1), status="x")),
        ("status", attrs.evolve(flow(timeout=1), status=1.0)),
        ("protoinfo/state", attrs.evolve(flow(timeout=1), protoinfo=TCPInfo(state="x"))),  # type: ignore[arg-type]
        ("protoinfo/flags_orig", attrs.evolve(flow(timeout=1), protoinfo=TCPInfo(flags_orig=[]))),  # type: ignore[arg-type]
        ("protoinfo/flags_reply", attrs.evolve(flow(timeout=1), protoinfo=TCPInfo(flags_reply=-1))),  # type: ignore[arg-type]
    ],
)
def test_flags_and_states_must_be_numbers(path: str, wrong: Flow) -> None:
    with pytest.raises(EncodeError, match=f"{path}: "):
        requests.create(wrong)
