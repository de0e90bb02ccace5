"""Interoperate with conntrack(8): each reads what the other writes, and both get equal events."""

from __future__ import annotations

import signal
import socket
import struct
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any

import anyio
import attrs
import pytest
from support.conntrack8 import (
    COMMAND,
    DETAILS,
    Facts,
    check_listing,
    conntrack,
    expected_event_facts,
    expected_facts,
    from_text,
)
from support.lab import Lab
from support.processes import DESTROY, NEW, TIMEOUT, UPDATE, Process, count_subscribers, wait_until

from conntrack_aio import (
    Connection,
    EventType,
    Flow,
    Helper,
    NATRange,
    NotFound,
    SCTPInfo,
    SCTPState,
    Status,
    TCPFlags,
    TCPInfo,
    TCPState,
    Tuple,
)
from conntrack_aio.sandbox import traffic

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.kernel,
    pytest.mark.program("conntrack", "conntrack"),
    pytest.mark.program("unshare", "util-linux"),
]

LABELS_IN_USE = "add table t; add chain t c; add rule t c ct label set 5"
A, B = "10.0.0.1", "10.0.0.2"
A6, B6 = "fd00::1", "fd00::2"
V4, V6 = f"-s {A} -d {B}", f"-s {A6} -d {B6}"
PORTS = "--sport 1000 --dport 2000"
ASSURED = Status.SEEN_REPLY | Status.ASSURED
PALINDROME = 0x0A0B0B0A
"""An SCTP tag that is the same in both byte orders.

conntrack(8) 1.4.7 sends the tags in host byte order.
"""


@attrs.frozen
class Case:
    """A flow, and the arguments of ``conntrack -I`` that create the same flow."""

    name: str
    arguments: str
    flow: Flow
    nat: Mapping[str, object] = MappingProxyType({})
    reply: Tuple | None = None
    """The reply tuple, if the kernel translates the flow."""


def udp(**changes: object) -> Flow:
    return attrs.evolve(Flow.udp(A, 1000, B, 2000, timeout=500), **changes)


def tcp(**changes: object) -> Flow:
    return attrs.evolve(Flow.tcp(A, 1000, B, 2000, timeout=500), **changes)


def other(proto: int, *ports: int, **changes: object) -> Flow:
    sport, dport = ports or (None, None)
    orig = Tuple(src=ip_address(A), dst=ip_address(B), proto=proto, sport=sport, dport=dport)
    return Flow(orig=orig, reply=orig.inverse, timeout=500, **changes)  # type: ignore[arg-type]


def sctp(state: SCTPState) -> Flow:
    info = SCTPInfo(state=state, vtag_orig=PALINDROME, vtag_reply=0)
    return other(132, 1000, 2000, protoinfo=info)


def cases() -> Iterator[Case]:
    for state in list(TCPState):
        arguments = f"-p tcp {V4} {PORTS} --state {state.name}"
        yield Case(f"tcp {state.name}", arguments, tcp(protoinfo=TCPInfo(state=state)))
    # conntrack(8) 1.4.7 crashes with the state HEARTBEAT_SENT.
    for kind in list(SCTPState)[: SCTPState.HEARTBEAT_SENT]:
        arguments = f"-p sctp {V4} {PORTS} --orig-vtag {PALINDROME} --reply-vtag 0"
        yield Case(f"sctp {kind.name}", f"{arguments} --state {kind.name}", sctp(kind))
    established = f"-p tcp {V4} {PORTS} --state ESTABLISHED"
    yield Case("assured", f"{established} -u ASSURED,SEEN_REPLY", tcp(status=ASSURED))
    yield Case("seen", f"{established} -u SEEN_REPLY", tcp(status=Status.SEEN_REPLY))
    fixed = Status.FIXED_TIMEOUT
    yield Case("fixed timeout", f"{established} -u FIXED_TIMEOUT", tcp(status=fixed))
    yield Case("labels", f"{established} --label-add zero,last", tcp(labels=1 | 1 << 127))
    yield Case("mark", f"-p udp {V4} {PORTS} -m 4294967295", udp(mark=0xFFFFFFFF))
    yield Case("udplite", f"-p udplite {V4} {PORTS}", other(136, 1000, 2000))
    yield Case("gre", f"-p gre {V4} --srckey 1000 --dstkey 2", other(47, 1000, 2))
    yield Case("esp", f"-p 50 {V4}", other(50))
    for type in (8, 0, 13, 17):
        flow = Flow.icmp(A, B, id=0xBEEF, type=type, timeout=500)
        arguments = f"-p icmp {V4} --icmp-type {type} --icmp-code 0 --icmp-id {0xBEEF}"
        yield Case(f"icmp {type}", arguments, flow)
    for type in (128, 129):
        flow = Flow.icmp(A6, B6, id=7, type=type, timeout=500)
        arguments = f"-p icmpv6 {V6} --icmpv6-type {type} --icmpv6-code 0 --icmpv6-id 7"
        yield Case(f"icmpv6 {type}", arguments, flow)
    udp6 = Flow.udp(A6, 1000, B6, 2000, timeout=500)
    yield Case("udp over ipv6", f"-p udp {V6} {PORTS}", udp6)
    plain = f"-p udp {V4} {PORTS}"
    orig, reply = udp().orig, udp().reply
    yield Case("zone", f"{plain} -w 65535", udp(zone=65535))
    yield Case("orig zone", f"{plain} --orig-zone 7", udp(orig=attrs.evolve(orig, zone=7)))
    yield Case("reply zone", f"{plain} --reply-zone 7", udp(reply=attrs.evolve(reply, zone=7)))
    translated = Tuple.udp(B, 2000, "10.0.0.9", 77)
    source = NATRange.of("10.0.0.9", 77)
    yield Case("snat", f"{plain} --src-nat 10.0.0.9:77", udp(), {"nat_src": source}, translated)
    translated = Tuple.udp("10.0.0.9", 2000, A, 1000)
    yield Case("dnat", f"{plain} --dst-nat 10.0.0.9", udp(), {"nat_dst": "10.0.0.9"}, translated)
    target = NATRange.of("fd00::9", 77)
    translated = Tuple.udp("fd00::9", 77, A6, 1000)
    dnat6 = f"-p udp {V6} {PORTS} --dst-nat [fd00::9]:77"
    yield Case("dnat over ipv6", dnat6, udp6, {"nat_dst": target}, translated)


CASES = [pytest.param(case, id=case.name) for case in cases()]


@pytest.fixture
def lab(lab: Lab) -> Lab:
    """A lab whose flows have counters and timestamps."""
    lab.sysctl("nf_conntrack_acct", 1)
    lab.sysctl("nf_conntrack_timestamp", 1)
    return lab


@pytest.fixture
def labels(lab: Lab) -> None:
    """Make the kernel allocate labels for new entries."""
    lab.program("nft", LABELS_IN_USE)


def requested_fields(flow: Flow) -> Flow:
    """Return a copy of a new flow without the fields that only the kernel sets."""
    assert 495 <= (flow.timeout or 0) <= 500
    assert flow.status is not None
    return Flow(
        orig=flow.orig,
        reply=flow.reply,
        zone=flow.zone,
        mark=flow.mark or None,
        labels=flow.labels,
        protoinfo=flow.protoinfo,
        status=flow.status & (ASSURED | Status.FIXED_TIMEOUT) or None,
        timeout=500,
    )


def expected_flow(case: Case) -> Flow:
    """Return the flow that the kernel creates: translated, and liberal about TCP windows."""
    info = case.flow.protoinfo
    if isinstance(info, TCPInfo):
        assert info.state is not None
        flags = TCPFlags.BE_LIBERAL | TCPFlags.SACK_PERM
        if info.state >= TCPState.TIME_WAIT:
            flags |= TCPFlags.CLOSE_INIT
        info = TCPInfo(
            state=info.state, wscale_orig=0, wscale_reply=0, flags_orig=flags, flags_reply=flags
        )
    return attrs.evolve(case.flow, reply=case.reply or case.flow.reply, protoinfo=info)


@pytest.mark.program("nft", "nftables")
@pytest.mark.usefixtures("labels")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("creator", ["conntrack(8)", "conntrack_aio"])
async def test_a_flow_that_either_creates_is_equal_for_both(
    lab: Lab, conn: Connection, case: Case, creator: str
) -> None:
    if creator == "conntrack_aio":
        await conn.create(case.flow, **case.nat)  # type: ignore[arg-type]
    else:
        conntrack(lab, "-I", "-t", "500", *case.arguments.split())
    (flow,) = await check_listing(lab, conn)
    assert requested_fields(flow) == expected_flow(case)
    assert flow.status is not None
    manipulated = {"nat_src": Status.SRC_NAT, "nat_dst": Status.DST_NAT}
    expected = sum(manipulated[name] for name in case.nat)
    assert flow.status & Status.NAT_MASK == expected


async def test_conntrack8_reads_flows_that_it_cannot_create(lab: Lab, conn: Connection) -> None:
    ftp = Flow.tcp(A, 1000, B, 21, timeout=500)
    ftp.helper = Helper(name="ftp")
    master = await conn.create(ftp)
    assert master.helper == Helper(name="ftp")
    await conn.create(sctp(SCTPState.HEARTBEAT_SENT))
    expected = Flow.tcp(B, 20, A, 3000, timeout=500)
    expected.master = master.orig
    child = await conn.create(expected)
    assert child.master == master.orig
    assert len(await check_listing(lab, conn)) == 3


@pytest.mark.program("nft", "nftables")
@pytest.mark.usefixtures("labels")
@pytest.mark.parametrize(
    ("changes", "options", "expected"),
    [
        ({"mark": 7}, "-m 7", {"mark": 7}),
        ({"mark": 0}, "-m 0", {"mark": 0}),
        ({"mark": 0x50, "mark_mask": 0xF0}, "-m 0x50/0xf0", {"mark": 0x12345658}),
        ({"timeout": 9000}, "-t 9000", {"timeout": 9000}),
        ({"status": ASSURED}, "-u ASSURED,SEEN_REPLY", {"status": {"ASSURED"}}),
        (
            {"labels": 1 << 5, "labels_mask": 1 << 5},
            "--label-add five",
            {"labels": {"five", "last"}},
        ),
        ({"labels": 0, "labels_mask": 1 << 127}, "--label-del last", {"labels": None}),
        ({"protoinfo": TCPInfo(state=TCPState.CLOSE)}, "--state CLOSE", {"state": "CLOSE"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("updater", ["conntrack(8)", "conntrack_aio"])
async def test_a_flow_that_either_updates_is_equal_for_both(
    lab: Lab,
    conn: Connection,
    changes: dict[str, Any],
    options: str,
    expected: Facts,
    updater: str,
) -> None:
    flow = await conn.create(tcp(mark=0x12345678, labels=1 << 127))
    unchanged = await conn.create(Flow.tcp(A, 1001, B, 2000, timeout=500))
    if updater == "conntrack_aio":
        await conn.update(flow, **changes)
    else:
        conntrack(lab, "-U", "-s", A, "-p", "tcp", "--sport", "1000", *options.split())
    listed = {flow.id: expected_facts(flow) for flow in await check_listing(lab, conn)}
    for before, wanted in ((flow, expected), (unchanged, {})):
        after = listed[before.id]
        # The use count of a single entry includes the request that reads it.
        wanted = expected_facts(before) | {"use": 1} | wanted
        seconds = wanted.pop("timeout")
        assert seconds - 5 <= after.pop("timeout") <= seconds
        assert after == {name: value for name, value in wanted.items() if value is not None}


async def test_a_flow_that_either_deletes_is_absent_for_both(lab: Lab, conn: Connection) -> None:
    flows = [await conn.create(Flow.udp(A, port, B, 2000, timeout=500)) for port in (1, 2, 3)]
    await conn.delete(flows[0])
    assert {flow.key for flow in await check_listing(lab, conn)} == {f.key for f in flows[1:]}
    conntrack(lab, "-D", "-s", A, "-p", "udp", "--sport", "2")
    with pytest.raises(NotFound):
        await conn.get(flows[1])
    assert [flow.key for flow in await check_listing(lab, conn)] == [flows[2].key]
    await conn.flush()
    assert await check_listing(lab, conn) == []


@pytest.mark.program("nft", "nftables")
@pytest.mark.usefixtures("labels")
async def test_both_receive_the_same_events(lab: Lab, conn: Connection) -> None:
    """The kernel multicasts one message per event, so that even the timeouts are equal."""
    lab.track()
    command = (*COMMAND, "-E", "-o", DETAILS)
    async with conn.events() as stream:
        with Process(lab, *command) as listener:
            wait_until(lambda: count_subscribers(lab, NEW | UPDATE | DESTROY) == 2)
            lab.run(traffic.tcp_exchange)
            lab.run(traffic.udp_exchange, "::1")
            lab.run(traffic.ping)
            orig = attrs.evolve(udp().orig, zone=7)
            flow = await conn.create(udp(orig=orig, mark=9))
            await conn.update(flow, mark=0, labels=1)
            await conn.flush()
            ended = 0
            with anyio.fail_after(TIMEOUT):
                while ended < 4:
                    event = await anext(stream)
                    assert from_text(listener.line()) == [expected_event_facts(event)]
                    ended += event.type is EventType.DESTROY
            listener.signal(signal.SIGINT)
            status, errors = listener.wait()
            assert (status, "flow events have been shown" in errors) == (0, True), errors


async def test_the_tag_of_a_real_sctp_packet_is_decoded(lab: Lab, conn: Connection) -> None:
    """The tag is in network byte order. The kernel tracks SCTP even without the SCTP module."""
    lab.track()
    init = struct.pack("!BBHIIHHI", 1, 0, 20, 0x01020304, 0xFFFF, 1, 1, 1)
    packet = struct.pack("!HHII", 1000, 2000, 0, 0) + init

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP) as raw:
            raw.sendto(packet, ("127.0.0.1", 0))

    lab.run(send)
    flows = await check_listing(lab, conn)
    (flow,) = [flow for flow in flows if flow.orig.proto == socket.IPPROTO_SCTP]
    info = SCTPInfo(state=SCTPState.CLOSED, vtag_orig=0, vtag_reply=0x01020304)
    assert flow.protoinfo == info
