"""The fake kernel imitates older releases: test each feature before and after it came."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import attrs
import pytest
from support import flows, raw_requests
from support.raw_requests import CTA, DUMP, REQUEST, error_codes, exchange, pack, pack_be32, request

from conntrack_aio import (
    AlreadyExists,
    DCCPInfo,
    EventType,
    Flow,
    Helper,
    Match,
    NotFound,
    PermissionDenied,
    Status,
    TCPInfo,
    Tuple,
)
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.testing import FakeKernel, releases
from conntrack_aio.testing.releases import Feature, Release

from .test_protocol import count, create, dumped, filtered, orig, reply

pytestmark = pytest.mark.kernels

RELEASES = ["4.19", "5.4", "5.10", "5.15", "6.1", "6.6", "6.12", "6.18", "7.1", "7.2"]


_opened: list[NetlinkSocket] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def open_on(kernel: FakeKernel) -> NetlinkSocket:
    """Open a socket of a kernel; it is closed when the test ends."""
    _opened.append(kernel._socket_factory.open())
    return _opened[-1]


def open_release(release: str) -> NetlinkSocket:
    """Open a socket of a kernel with this release."""
    return open_on(FakeKernel(release))


# -- releases ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("6.18", Release(6, 18)),
        ("5.15.24", Release(5, 15, 24)),
        ("6.1.0-13-amd64", Release(6, 1)),
        ("5.15.0-91-generic", Release(5, 15)),
        ("6.1.0", Release(6, 1, 0)),
        ("6.1.0-rc1", Release(6, 1, 0)),
        ("6.18.44-fc-v657", Release(6, 18, 44)),
        ("6.12-rc3", Release(6, 12)),
        ("4.19", Release(4, 19)),
    ],
)
def test_a_release_is_parsed(text: str, release: Release) -> None:
    assert Release.parse(text) == release


@pytest.mark.parametrize("text", ["", "six", "6", "4.18", "3.10.0", "6.18.x"])
def test_an_invalid_or_too_old_release_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a kernel version|not supported"):
        FakeKernel(text)


def test_a_feature_is_present_from_one_release_until_another() -> None:
    feature = Feature((6, 8), until=(7, 0), stable={(6, 6): 30})
    having = [
        text
        for text in ("6.5", "6.6.29", "6.6.30", "6.6", "6.7.9", "6.8", "6.18", "7.0")
        if Release.parse(text).has(feature)
    ]
    assert having == ["6.6.30", "6.6", "6.8", "6.18"]


def test_every_feature_makes_a_difference_between_releases() -> None:
    features = {name: value for name, value in vars(releases).items() if isinstance(value, Feature)}
    assert len(features) > 20
    for name, feature in features.items():
        having = {Release.parse(text).has(feature) for text in [*RELEASES, "7.0"]}
        assert having == {True, False}, name


# -- the library on each release --------------------------------------------------------------


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.anyio
async def test_the_methods_of_a_connection_work_on_each_release(release: str) -> None:
    """No request affects more flows than its match, whatever the kernel ignores."""
    kernel = FakeKernel(release, sysctls={"nf_conntrack_events": 1})
    async with kernel.connect() as conn, conn.events() as stream:
        for number, mark in enumerate((0, 5, 0x15)):
            await conn.create(flows.tcp(number, mark=mark))
        await conn.create(flows.udp6(1, mark=5))
        with pytest.raises(AlreadyExists):
            await conn.create(flows.tcp(1))
        assert len(await conn.list(Match(mark=5))) == 2
        assert len(await conn.list(Match(mark=5, mark_mask=7))) == 3
        assert len(await conn.list(Match(family=10))) == 1
        assert await conn.delete_matching(Match(mark=5, family=2)) == 1
        ipv6_flow = (await conn.list(Match(family=10)))[0]
        await conn.delete(ipv6_flow)
        with pytest.raises(NotFound):
            await conn.delete(ipv6_flow)
        assert await conn.count() == len(kernel.flows) == 2
        await conn.flush()
        events = [(await anext(stream)).type for _ in range(8)]
    assert events == [EventType.NEW] * 4 + [EventType.DESTROY] * 4
    assert kernel.flows == []


# -- each feature -----------------------------------------------------------------------------


@pytest.mark.parametrize(("release", "same"), [("4.19", True), ("5.4", False)])
def test_the_id_depends_on_the_tuple_since_5_2(release: str, same: bool) -> None:
    """Before 5.2 the id is the address in memory, which the next flow gets."""
    kernel = FakeKernel(release)
    first = kernel.add(flows.tcp(1))
    kernel.remove(first)
    assert (kernel.add(flows.tcp(2)).id == first.id) is same


@pytest.mark.parametrize(("release", "mark"), [("4.19", 0x3), ("5.4", 0xF3)])
def test_an_update_honors_the_mask_of_the_mark_since_5_3(release: str, mark: int) -> None:
    socket = open_release(release)
    create(socket, 1, 17, pack_be32(CTA.MARK, 0xF0))
    parts = (pack_be32(CTA.MARK, 0x3), pack_be32(CTA.MARK_MASK, 0x0F))
    assert error_codes(exchange(socket, request(raw_requests.NEW, orig(), *parts))) == [0]
    message, _ = exchange(socket, request(raw_requests.GET, orig()))
    assert raw_requests.attributes_by_number(message.payload)[CTA.MARK] == mark.to_bytes(4, "big")


@pytest.mark.parametrize(("release", "left"), [("4.19", 0), ("5.4", 2)])
def test_a_flush_is_limited_to_a_family_since_5_2(release: str, left: int) -> None:
    socket = open_release(release)
    create(socket, 1)
    create(socket, 2)
    assert error_codes(exchange(socket, request(raw_requests.DELETE, family=10, version=1))) == [0]
    assert count(socket) == left


@pytest.mark.parametrize(
    ("attribute", "since"),
    [
        (pack_be32(CTA.MARK, 1), "5.8"),
        (pack_be32(CTA.STATUS, 2), "5.15"),
        (pack(CTA.ZONE, b"\0\7"), "6.8"),
    ],
)
def test_an_unknown_filter_attribute_selects_all_entries(attribute: bytes, since: str) -> None:
    """The dump returns, and the flush deletes, entries that the filter excludes."""
    for release in [*RELEASES, "5.8", "6.8"]:
        socket = open_release(release)
        create(socket, 1)
        is_known = Release.parse(release) >= Release.parse(since)
        assert len(dumped(socket, attribute)) == (0 if is_known else 1), release
        assert error_codes(exchange(socket, request(raw_requests.DELETE, attribute))) == [0]
        assert count(socket) == (1 if is_known else 0), release


def test_dumps_filter_by_tuple_since_5_8() -> None:
    other = raw_requests.pack_nest(
        1, raw_requests.addresses("9.9.9.9", "9.9.9.9"), raw_requests.ports(17, 1, 2)
    )
    for release in RELEASES:
        socket = open_release(release)
        create(socket, 1)
        entries = dumped(socket, other, filtered(3))
        old = release in ("4.19", "5.4")
        assert len(entries) == (1 if old else 0), release
        (entry,) = dumped(socket)
        assert entry.flags == (2 if old else 0x22)


@pytest.mark.parametrize(
    ("release", "alone", "with_tuple"),
    [
        ("5.4", (0, 0), (errno.ENOENT, 1)),
        ("5.10", (errno.EOPNOTSUPP, 1), (errno.ENOENT, 1)),
        ("6.6", (errno.EOPNOTSUPP, 1), (errno.ENOENT, 1)),
        ("6.12", (errno.EINVAL, 1), (0, 1)),
    ],
)
def test_a_delete_with_a_filter_is_a_flush_since_6_12(
    release: str, alone: tuple[int, int], with_tuple: tuple[int, int]
) -> None:
    """The request has the filter alone, or the filter and a tuple that no flow has."""
    for parts, (code, left) in (((filtered(3),), alone), ((orig(9), filtered(3)), with_tuple)):
        socket = open_release(release)
        create(socket, 1)
        assert error_codes(exchange(socket, request(raw_requests.DELETE, *parts))) == [code]
        assert count(socket) == left


@pytest.mark.parametrize(("release", "found"), [("5.10", 0), ("5.15", 1)])
def test_dumps_filter_by_the_reply_tuple_since_5_15(release: str, found: int) -> None:
    """Before 5.15 the kernel parses it by the flags of the original tuple, and compares zeros."""
    socket = open_release(release)
    create(socket, 1)
    assert len(dumped(socket, reply(1), filtered(0, 3))) == found


def test_every_release_inverts_the_comparison_of_ipv6_addresses() -> None:
    for release in RELEASES[2:]:
        kernel = FakeKernel(release, flows=[flows.udp6(1), flows.udp6(2)])
        socket = open_on(kernel)
        tuple_ = flows.udp6(1).orig
        packed = raw_requests.pack_nest(
            1,
            raw_requests.addresses(str(tuple_.src), str(tuple_.dst)),
            raw_requests.ports(17, 1, 2),
        )
        (entry,) = dumped(socket, packed, filtered(1), family=10)
        assert flows.udp6(2).orig.src.packed in entry.payload


@pytest.mark.parametrize(("release", "code"), [("5.10", 95), ("6.6", 95), ("6.12", 22)])
def test_unknown_filter_flags_are_refused(release: str, code: int) -> None:
    dump = request(raw_requests.GET, orig(), filtered(0x1000), flags=REQUEST | DUMP)
    assert error_codes(exchange(open_release(release), dump)) == [code]


@pytest.mark.parametrize(
    ("release", "code"),
    [
        ("6.1.100", errno.EINVAL),
        ("6.1.0-56-amd64", errno.ERANGE),
        ("6.6", errno.EINVAL),
        ("6.12.80", errno.EINVAL),
        ("6.12.81", errno.ERANGE),
    ],
)
def test_a_tcp_state_out_of_range_is_refused(release: str, code: int) -> None:
    socket = open_release(release)
    create(socket, 1, 6)
    info = raw_requests.pack_nest(CTA.PROTOINFO, raw_requests.pack_nest(1, raw_requests.be8(1, 10)))
    assert error_codes(exchange(socket, request(raw_requests.NEW, orig(1, 6), info))) == [code]


def test_the_refusal_of_a_short_attribute_shows_whether_it_is_known() -> None:
    for number, since in ((CTA.FILTER, "5.8"), (CTA.STATUS_MASK, "5.15")):
        for release in RELEASES:
            (message,) = exchange(
                open_release(release), request(raw_requests.GET, pack(number, b"\0"))
            )
            is_known = Release.parse(release) >= Release.parse(since)
            assert message.code == (errno.ERANGE if is_known else errno.EINVAL)
            assert (message.offset == 20) is is_known
    for release in RELEASES:
        (message,) = exchange(
            open_release(release), request(raw_requests.GET, pack(CTA.TIMESTAMP_EVENT, bytes(8)))
        )
        assert (message.offset == 20) is (Release.parse(release) >= Release(6, 14))


@pytest.mark.parametrize(
    ("release", "statistics"),
    [
        ("5.4", [2, 4, 5, 8, 9, 10, 11, 12, 13]),
        ("5.10", [2, 4, 8, 9, 10, 11, 12, 13, 14]),
        ("5.15", [2, 4, 8, 9, 10, 11, 12, 13, 14, 15]),
    ],
)
def test_the_statistics_depend_on_the_release(release: str, statistics: list[int]) -> None:
    replies = exchange(
        open_release(release), request(raw_requests.GET_STATS_CPU, flags=REQUEST | DUMP)
    )
    assert list(raw_requests.attributes_by_number(replies[0].payload)) == statistics


# -- events and flows -----------------------------------------------------------------------------


@pytest.mark.parametrize(("release", "with_state"), [("5.10", False), ("5.11", True)])
@pytest.mark.anyio
async def test_a_destroy_event_has_the_state_since_5_11(release: str, with_state: bool) -> None:
    kernel = FakeKernel(release, sysctls={"nf_conntrack_events": 1})
    async with kernel.connect() as conn, conn.events(EventType.DESTROY) as stream:
        kernel.remove(kernel.add(flows.tcp()))
        flow = (await anext(stream)).flow
    assert flow.protoinfo == (TCPInfo(state=3) if with_state else None)
    assert flow.timeout == (600 if with_state else None)


@pytest.mark.parametrize(("release", "with_time"), [("6.13", False), ("6.14", True)])
@pytest.mark.anyio
async def test_an_event_has_its_time_since_6_14(release: str, with_time: bool) -> None:
    kernel = FakeKernel(release, sysctls={"nf_conntrack_events": 1, "nf_conntrack_timestamp": 1})
    async with kernel.connect() as conn, conn.events() as stream:
        flow = kernel.add(flows.tcp())
        kernel.advance(1.5)
        kernel.change(flow, mark=1)
        new, update = await anext(stream), await anext(stream)
    assert flow.timestamp is not None
    if with_time:
        assert new.timestamp == flow.timestamp.start
        assert update.timestamp == (new.timestamp or 0) + 1_500_000_000
    else:
        assert (new.timestamp, update.timestamp) == (None, None)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.anyio
async def test_flows_older_than_the_stream_emit_no_events_by_default_since_5_19(
    release: str,
) -> None:
    kernel = FakeKernel(release)
    older = kernel.add(flows.tcp(1))
    async with kernel.connect() as conn, conn.events() as stream:
        kernel.remove(older)
        kernel.add(flows.tcp(2))
        event = await anext(stream)
        assert stream.covers_older_flows is (release < "6")
    first = EventType.DESTROY if release < "6" else EventType.NEW
    assert event.type is first


@pytest.mark.parametrize(("release", "counts"), [("6.1", False), ("6.6", True)])
@pytest.mark.anyio
async def test_subscribers_in_other_namespaces_count_since_6_6(release: str, counts: bool) -> None:
    kernel = FakeKernel(release)
    kernel.listeners_in_other_namespaces = True
    older = kernel.add(flows.tcp(1))
    async with kernel.connect() as conn, conn.events() as stream:
        kernel.remove(older)
        kernel.add(flows.tcp(2))
        event = await anext(stream)
    assert (event.type is EventType.DESTROY) is counts


@pytest.mark.parametrize(("release", "with_state"), [("4.19", True), ("5.4", False)])
def test_offloaded_flows_have_no_state_since_5_4(release: str, with_state: bool) -> None:
    kernel = FakeKernel(release)
    flow = kernel.change(kernel.add(flows.tcp()), status=Status.OFFLOAD)
    assert (flow.timeout is not None) is with_state
    assert (flow.protoinfo is not None) is with_state


@pytest.mark.parametrize(
    ("release", "code", "left"), [("6.1.100", errno.EBUSY, 1), ("6.1.176", 0, 0), ("6.6", 0, 0)]
)
def test_offloaded_flows_can_be_deleted_since_6_6(release: str, code: int, left: int) -> None:
    kernel = FakeKernel(release, flows=[flows.tcp()])
    kernel.change(kernel.flows[0], status=Status.OFFLOAD)
    socket = open_on(kernel)
    tuple_ = kernel.flows[0].orig
    packed = raw_requests.pack_nest(
        1,
        raw_requests.addresses(str(tuple_.src), str(tuple_.dst)),
        raw_requests.ports(6, 40000, 80),
    )
    assert error_codes(exchange(socket, request(raw_requests.DELETE, packed))) == [code]
    assert error_codes(exchange(socket, request(raw_requests.DELETE))) == [0]
    assert count(socket) == left


@pytest.mark.parametrize(("release", "is_fixed"), [("5.15", False), ("6.1", True)])
@pytest.mark.anyio
async def test_a_fixed_timeout_cannot_be_changed_since_6_1(release: str, is_fixed: bool) -> None:
    kernel = FakeKernel(release)
    async with kernel.connect() as conn:
        flow = await conn.create(attrs.evolve(flows.tcp(), status=Status.FIXED_TIMEOUT))
        if is_fixed:
            with pytest.raises(PermissionDenied):
                await conn.update(flow, timeout=5)
        else:
            await conn.update(flow, timeout=5)
    assert kernel.flows[0].timeout == (600 if is_fixed else 5)


@pytest.mark.parametrize(("release", "bit"), [("5.10", Status(0)), ("5.15", Status.HELPER)])
@pytest.mark.anyio
async def test_a_new_flow_with_a_helper_has_the_status_bit_since_5_15(
    release: str, bit: Status
) -> None:
    async with FakeKernel(release).connect() as conn:
        flow = await conn.create(attrs.evolve(flows.tcp(), helper=Helper(name="ftp")))
    assert flow.status == Status.CONFIRMED | bit


@pytest.mark.parametrize(("release", "tracked"), [("6.16", True), ("6.17", False)])
@pytest.mark.anyio
async def test_dccp_is_tracked_before_6_17(release: str, tracked: bool) -> None:
    tuple_ = flows.tcp().orig
    dccp = Tuple(src=tuple_.src, dst=tuple_.dst, proto=33, sport=1, dport=2)
    kernel = FakeKernel(release)
    flow = Flow(orig=dccp, reply=dccp.inverse, timeout=600)
    async with kernel.connect() as conn:
        created = await conn.create(flow)
        if tracked:
            info = DCCPInfo(state=4, role=1, handshake_seq=1 << 40)
            await conn.update(created, protoinfo=info)
            assert (await conn.get(created)).protoinfo == info
    assert created.orig.sport == (1 if tracked else None)


@pytest.mark.parametrize(("release", "granted"), [("6.12", 2 * 212992), ("6.18", 2 * 4194304)])
@pytest.mark.anyio
async def test_the_receive_buffer_is_limited_without_privileges(release: str, granted: int) -> None:
    kernel = FakeKernel(release, without=["initial CAP_NET_ADMIN"])
    async with kernel.connect(receive_buffer=1 << 24) as conn, conn.events() as stream:
        assert stream.receive_buffer == granted


def test_the_family_of_a_tuple_is_checked_since_5_9() -> None:
    get = request(raw_requests.GET, orig(), family=0)
    assert error_codes(exchange(open_release("4.19"), get)) == [errno.ENOENT]
    assert error_codes(exchange(open_release("5.4"), get)) == [errno.EOPNOTSUPP]


@pytest.mark.parametrize(
    ("release", "flags"), [("6.1.176", 2), ("6.1.192", 0x22), ("6.18", 2), ("7.2", 0x22)]
)
def test_the_end_of_a_filtered_dump_has_the_flag_in_some_releases(release: str, flags: int) -> None:
    socket = open_release(release)
    create(socket)
    for family, expected in ((2, flags), (0, 2)):
        end = exchange(socket, request(raw_requests.GET, flags=REQUEST | DUMP, family=family))[-1]
        assert (end.type, end.flags) == (3, expected)
