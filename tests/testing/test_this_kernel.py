"""The fake kernel behaves as this machine's kernel when it imitates its release.

Each scenario uses a behavior that differs between releases. The suite runs the scenarios on this
machine's kernel, and the virtual machines of ``tests/kernels`` run them on older ones.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import attrs
import pytest
from support import flows, raw_requests
from support.kernel_release import release_text
from support.lab import Lab
from support.raw_requests import (
    ACK,
    CTA,
    DUMP,
    REQUEST,
    error_codes,
    exchange,
    pack,
    pack_be32,
    request,
)
from support.real_or_fake_kernel import AnyKernel, FakeKernelAdapter, RealKernel, result_or_error

from conntrack_aio import (
    EventType,
    Flow,
    Match,
    SCTPTimeouts,
    Status,
    TCPTimeouts,
    Tuple,
    UDPTimeouts,
)
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.testing import FakeKernel

from .test_protocol import count, create, create6, dumped, filtered, orig, reply, tuple6

pytestmark = [pytest.mark.kernel, pytest.mark.kernels]

EVENTS = {"nf_conntrack_events": 1}


@pytest.fixture
def both(lab: Lab) -> tuple[AnyKernel, AnyKernel]:
    """Return a fake kernel of this machine's release, and the real one."""
    limit = {"nf_conntrack_max": int(lab.read_sysctl("nf_conntrack_max"))}
    return FakeKernelAdapter(FakeKernel(release_text(), sysctls=EVENTS | limit)), RealKernel(lab)


# -- messages ---------------------------------------------------------------------------------


def comparable(replies: list[raw_requests.RawReply]) -> list[object]:
    """Return the parts of replies that do not differ between two kernels."""
    parts: list[object] = []
    for message in replies:
        numbers = (
            sorted(raw_requests.attributes_by_number(message.payload))
            if message.code is None
            else None
        )
        parts.append((message.type, message.flags, message.code, message.offset, numbers))
    return parts


def update_under_a_mask(socket: NetlinkSocket) -> object:
    create(socket, 1, 17, pack_be32(CTA.MARK, 0xF0))
    parts = (pack_be32(CTA.MARK, 0x3), pack_be32(CTA.MARK_MASK, 0x0F))
    result = error_codes(exchange(socket, request(raw_requests.NEW, orig(), *parts)))
    entry, _ = exchange(socket, request(raw_requests.GET, orig()))
    return result, raw_requests.attributes_by_number(entry.payload)[CTA.MARK]


def flush_of_a_family(socket: NetlinkSocket) -> object:
    left = []
    for family in (2, 10):
        create(socket, 1)
        result = error_codes(
            exchange(socket, request(raw_requests.DELETE, family=family, version=1))
        )
        left.append((result, count(socket)))
        exchange(socket, request(raw_requests.DELETE, family=0))
    return left


def filtered_by(*attributes: bytes) -> Callable[[NetlinkSocket], object]:
    """Return the scenario that dumps and flushes with these filter attributes."""

    def scenario(socket: NetlinkSocket) -> object:
        create(socket, 1)
        create(socket, 2, 17, pack_be32(CTA.MARK, 1))
        entries = comparable(
            exchange(socket, request(raw_requests.GET, *attributes, flags=REQUEST | DUMP))
        )
        return (
            entries,
            error_codes(exchange(socket, request(raw_requests.DELETE, *attributes))),
            count(socket),
        )

    return scenario


def delete_with_a_filter(*parts: bytes) -> Callable[[NetlinkSocket], object]:
    def scenario(socket: NetlinkSocket) -> object:
        create(socket, 1)
        return comparable(exchange(socket, request(raw_requests.DELETE, *parts))), count(socket)

    return scenario


def address_of_ipv6(socket: NetlinkSocket) -> object:
    create6(socket)
    return [len(dumped(socket, tuple6(1), filtered(flags), family=10)) for flags in (1, 2, 3)]


def flags_of_a_filter(socket: NetlinkSocket) -> object:
    flags = (0, 0x1000, 0x8000_0000)
    dumps = [request(raw_requests.GET, orig(), filtered(n), flags=REQUEST | DUMP) for n in flags]
    return [comparable(exchange(socket, dump)) for dump in dumps]


def states_out_of_range(socket: NetlinkSocket) -> object:
    create(socket, 1, 6)
    create(socket, 2, 132)
    infos = [(1, 6, 1, state) for state in (9, 10, 11, 200)]
    infos += [(2, 132, 3, state) for state in (8, 9, 10, 200)]
    return [
        comparable(
            exchange(
                socket,
                request(
                    raw_requests.NEW,
                    orig(number, proto),
                    raw_requests.pack_nest(
                        CTA.PROTOINFO, raw_requests.pack_nest(kind, raw_requests.be8(1, state))
                    ),
                ),
            )
        )
        for number, proto, kind, state in infos
    ]


def attributes_beyond_the_last(socket: NetlinkSocket) -> object:
    return [
        comparable(exchange(socket, request(raw_requests.GET, pack(number, b"\0"))))
        for number in range(20, 32)
    ]


def statistics(socket: NetlinkSocket) -> object:
    replies = exchange(socket, request(raw_requests.GET_STATS_CPU, flags=REQUEST | DUMP))
    return sorted(raw_requests.attributes_by_number(replies[0].payload))


def dying_and_unconfirmed(socket: NetlinkSocket) -> object:
    create(socket, 1)
    return [
        comparable(exchange(socket, request(kind, flags=REQUEST | DUMP))) for kind in (0x106, 0x107)
    ]


def protocols(socket: NetlinkSocket) -> object:
    """Create flows of several protocols, whose ports may be part of the tuple."""
    seen = []
    for proto in (6, 17, 33, 47, 132, 136, 50, 255):
        parts = (orig(1, proto), reply(1, proto), pack_be32(CTA.TIMEOUT, 600))
        created = exchange(socket, request(raw_requests.NEW, *parts, flags=REQUEST | ACK | 0x600))
        entries = [
            raw_requests.attributes_by_number(entry.payload)[CTA.TUPLE_ORIG]
            for entry in dumped(socket)
        ]
        seen.append((proto, error_codes(created), entries))
        exchange(socket, request(raw_requests.DELETE, family=0))
    return seen


def families(socket: NetlinkSocket) -> object:
    return [
        error_codes(exchange(socket, request(raw_requests.GET, orig(), family=n)))
        for n in (0, 1, 2, 7, 10)
    ]


def statuses(socket: NetlinkSocket) -> object:
    """Set each status bit when an entry is created, and then update the entry."""
    seen = []
    for bit in range(16):
        new_flow = (orig(), reply(), pack_be32(CTA.TIMEOUT, 600))
        status = pack_be32(CTA.STATUS, 1 << bit | 8)
        flags = REQUEST | ACK | 0x600
        seen.append(
            error_codes(exchange(socket, request(raw_requests.NEW, *new_flow, status, flags=flags)))
        )
        seen.append(
            [
                raw_requests.attributes_by_number(entry.payload).get(CTA.STATUS)
                for entry in dumped(socket)
            ]
        )
        change = (orig(), pack_be32(CTA.TIMEOUT, 60))
        seen.append(error_codes(exchange(socket, request(raw_requests.NEW, *change))))
        exchange(socket, request(raw_requests.DELETE, family=0))
    return seen


BY_TUPLE = filtered(3)
MESSAGE_SCENARIOS: dict[str, Callable[[NetlinkSocket], object]] = {
    "an update under a mask": update_under_a_mask,
    "a flush of a family": flush_of_a_family,
    "a filter by mark": filtered_by(pack_be32(CTA.MARK, 1)),
    "a filter by mark and mask": filtered_by(pack_be32(CTA.MARK, 1), pack_be32(CTA.MARK_MASK, 1)),
    "a filter by status": filtered_by(pack_be32(CTA.STATUS, 2)),
    "a filter by status and mask": filtered_by(
        pack_be32(CTA.STATUS, 2), pack_be32(CTA.STATUS_MASK, 2)
    ),
    "a filter by zone": filtered_by(pack(CTA.ZONE, b"\0\7")),
    "a filter by tuple": filtered_by(orig(1), BY_TUPLE),
    "a filter by another tuple": filtered_by(orig(9), BY_TUPLE),
    "a filter by reply": filtered_by(reply(1), filtered(0, 3)),
    "a filter that is not nested": filtered_by(orig(1), filtered(3, nested=False)),
    "a delete with a filter alone": delete_with_a_filter(BY_TUPLE),
    "a delete with a filter and a tuple": delete_with_a_filter(orig(1), BY_TUPLE),
    "a delete with a filter and another tuple": delete_with_a_filter(orig(9), BY_TUPLE),
    "an address of IPv6": address_of_ipv6,
    "flags of a filter": flags_of_a_filter,
    "states out of range": states_out_of_range,
    "attributes beyond the last": attributes_beyond_the_last,
    "statistics": statistics,
    "dying and unconfirmed": dying_and_unconfirmed,
    "protocols": protocols,
    "families": families,
    "statuses": statuses,
}


@pytest.mark.parametrize("name", MESSAGE_SCENARIOS)
def test_the_fake_kernel_sends_the_same_replies(
    both: tuple[AnyKernel, AnyKernel], name: str
) -> None:
    seen = []
    for kernel in both:
        socket = kernel.open()
        try:
            seen.append(MESSAGE_SCENARIOS[name](socket))
        finally:
            socket.close()
    fake, real = seen
    assert fake == real


# -- the library ------------------------------------------------------------------------------


def plain(flow: Flow) -> object:
    """Return the flow without the fields that differ between two kernels."""
    return attrs.evolve(
        flow, id=0, timeout=flow.timeout and round(flow.timeout / 30), timestamp=None
    )


async def features(kernel: AnyKernel) -> object:
    async with kernel.connect() as conn:
        found = await conn.features()
    # These depend on the kernel's configuration and modules, not on its release.
    return attrs.evolve(found, helpers=True, expectations=True)


async def life_of_a_flow(kernel: AnyKernel) -> object:
    seen: list[object] = []
    async with kernel.connect() as conn, conn.events() as stream:
        flow = await conn.create(flows.tcp(1, mark=3))
        await conn.update(flow, mark=4, timeout=300)
        await conn.delete(flow)
        with anyio.fail_after(60):
            async for event in stream:
                seen.append((event.type, plain(event.flow), event.timestamp is None))
                if event.type is EventType.DESTROY:
                    break
    return seen


async def timestamps_in_events(kernel: AnyKernel) -> object:
    kernel.sysctl("nf_conntrack_timestamp", 1)
    async with kernel.connect() as conn, conn.events() as stream:
        await conn.delete(await conn.create(flows.tcp(1)))
        with anyio.fail_after(60):
            return [(await anext(stream)).timestamp is None for _ in range(2)]


async def fixed_timeout(kernel: AnyKernel) -> object:
    async with kernel.connect() as conn:
        flow = await conn.create(attrs.evolve(flows.tcp(1), status=Status.FIXED_TIMEOUT))
        return await result_or_error(conn.update(flow, timeout=5))


async def matches(kernel: AnyKernel) -> object:
    seen: list[object] = []
    async with kernel.connect() as conn:
        for number in range(4):
            await conn.create(flows.tcp(number, mark=number))
        await conn.create(attrs.evolve(flows.udp6(1), zone=4))
        for match in (Match(mark=1), Match(mark=1, mark_mask=1), Match(zone=4), Match(family=10)):
            seen.append(sorted(str(flow.orig) for flow in await conn.list(match)))
        seen.append(await conn.delete_matching(Match(mark=1, mark_mask=1)))
        seen.append(await conn.count())
    return seen


async def defaults(kernel: AnyKernel) -> object:
    async with kernel.connect() as conn:
        seen: list[object] = []
        for changed in (UDPTimeouts(replied=7), TCPTimeouts(established=9), SCTPTimeouts(closed=4)):
            seen.append(await result_or_error(conn.timeouts.set_defaults(changed)))
            seen.append(await result_or_error(conn.timeouts.get_defaults(type(changed))))
    return seen


async def ports_of_dccp(kernel: AnyKernel) -> object:
    tuple_ = flows.tcp().orig
    seen: list[object] = []
    async with kernel.connect() as conn:
        for proto in (33, 136):
            ported = Tuple(src=tuple_.src, dst=tuple_.dst, proto=proto, sport=1, dport=2)
            created = await conn.create(Flow(orig=ported, reply=ported.inverse, timeout=600))
            seen.append((str(created.orig), created.protoinfo))
    return seen


LIBRARY_SCENARIOS: dict[str, Callable[[AnyKernel], Awaitable[object]]] = {
    "features": features,
    "life of a flow": life_of_a_flow,
    "timestamps in events": timestamps_in_events,
    "fixed timeout": fixed_timeout,
    "matches": matches,
    "defaults": defaults,
    "ports of DCCP and UDP-Lite": ports_of_dccp,
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", LIBRARY_SCENARIOS)
async def test_the_library_gets_the_same_results(
    both: tuple[AnyKernel, AnyKernel], name: str
) -> None:
    fake, real = [await LIBRARY_SCENARIOS[name](kernel) for kernel in both]
    assert fake == real


def test_a_new_namespace_has_the_same_settings(both: tuple[AnyKernel, AnyKernel]) -> None:
    """The fake kernel has the settings of a new namespace, with the same values."""
    fake, real = both
    assert isinstance(fake, FakeKernelAdapter)
    names = [name for name in fake.kernel.sysctls if name.startswith("nf_conntrack_")]
    assert len(names) > 5
    values: list[tuple[str, int, int | None]] = []
    for name in names:
        try:
            values.append((name, fake.read_sysctl(name), real.read_sysctl(name)))
        except FileNotFoundError:
            values.append((name, fake.read_sysctl(name), None))
    differing = {name for name, fake_value, real_value in values if fake_value != real_value}
    # The machine-wide settings depend on the size of its memory.
    of_the_machine = {"nf_conntrack_count", "nf_conntrack_buckets", "nf_conntrack_expect_max"}
    assert differing <= of_the_machine
