"""Programs for events: what they accept, in an interpreter and in the kernel."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import flows as samples
from support import match_strategies
from support.effort import examples
from support.kernel_release import RELEASE

from conntrack_aio import Flow, Match
from conntrack_aio.filters.program import EventFilter
from conntrack_aio.netlink.bpf import MAX_INSTRUCTIONS, Instruction, Program
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.testing import bpf, releases


def accepts(filter_: EventFilter | None, flow: Flow) -> bool:
    """Return whether a program accepts the event of a flow."""
    if filter_ is None:
        return True
    return bool(bpf.run(_parsed(filter_.program.pack()), samples.update_event(flow)))


_parsed = lru_cache(1)(bpf.parse)


def required(filter_: EventFilter | None) -> EventFilter:
    assert filter_ is not None
    return filter_


@settings(max_examples=examples(120), deadline=None)
@given(match_strategies.matches(), match_strategies.flows())
def test_a_program_accepts_what_matches(match: Match, flow: Flow) -> None:
    filter_ = match._compiled.program()
    accepted = accepts(filter_, flow)
    assert accepted or not match(flow)
    if filter_ is not None and filter_.exact:
        assert accepted is match(flow)


@settings(max_examples=examples(80), deadline=None)
@given(match_strategies.matches(), match_strategies.flows(), st.integers(2, 60))
def test_a_shorter_program_accepts_what_matches(match: Match, flow: Flow, limit: int) -> None:
    filter_ = match._compiled.program(limit=limit)
    assert filter_ is None or len(filter_.program) <= limit
    accepted = accepts(filter_, flow)
    assert accepted or not match(flow)
    if filter_ is not None and filter_.exact:
        assert accepted is match(flow)


@pytest.mark.parametrize("limit", [2, 30])
def test_a_program_for_a_match_that_can_never_hold_is_short_enough(limit: int) -> None:
    ported = "orig.dport 53"
    match = Match.parse(f"orig.icmp_code 0 and (({ported} and not status dying) or {ported})")
    filter_ = match._compiled.program(limit=limit)
    assert filter_ is None or len(filter_.program) <= limit


@settings(max_examples=examples(80), deadline=None)
@given(match_strategies.matches(), match_strategies.flows(), match_strategies.flows())
def test_a_program_of_constant_fields_accepts_all_or_no_events_of_a_flow(
    match: Match, one: Flow, other: Flow
) -> None:
    """It accepts all if any state of the flow matches."""
    filter_ = match._compiled.program(constant_only=True)
    later = attrs.evolve(
        other, orig=one.orig, reply=one.reply, zone=one.zone, id=one.id, protoinfo=one.protoinfo
    )
    accepted = accepts(filter_, one)
    assert accepted is accepts(filter_, later)
    assert accepted or not (match(one) or match(later))


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        ("proto tcp and orig.dport in {80, 443}", True),
        ("not orig.src in 10.0.0.0/8", True),
        ("orig.src in 2001:db8::/32 or zone 3 or mark 3/0xff", True),
        ("none", True),
        ("status assured", False),
        ("state established and proto tcp", False),
        ("label 3", False),
        ("timeout <= 5", False),
        ("helper ftp", False),
    ],
)
def test_which_programs_are_exact(text: str, exact: bool) -> None:
    assert required(Match.parse(text)._compiled.program()).exact is exact


def test_there_is_no_program_that_would_accept_every_event() -> None:
    assert Match()._compiled.program() is None
    assert Match(mark=1)._compiled.program(constant_only=True) is None
    assert (~Match(mark=1))._compiled.program(constant_only=True) is None


def networks(count: int) -> list[IPv4Network]:
    """Return networks of mixed prefix lengths that do not overlap."""
    rng = random.Random(6)
    found: list[IPv4Network] = []
    for number in rng.sample(range(1, 1 << 14), count):
        length = rng.choice([22, 24, 25, 27, 28, 30, 31, 32])
        found.append(IPv4Network(((10 << 24) + (number << 10), length)))
    return found


def test_a_program_of_three_thousand_networks_is_exact() -> None:
    nets = networks(3000)
    filter_ = required(Match(orig_src=nets)._compiled.program())
    assert filter_.exact
    assert len(filter_.program) < 3600
    program = bpf.parse(filter_.program.pack())
    expected = Match(orig_src=nets)
    for net in nets:
        for number in (-1, 0, net.num_addresses - 1, net.num_addresses):
            flow = Flow.udp(
                IPv4Address(int(net.network_address) + number), 1, "192.0.2.1", 53, timeout=1
            )
            assert bool(bpf.run(program, samples.new_event(flow))) is expected(flow)


def test_a_program_of_many_ipv6_networks() -> None:
    rng = random.Random(7)
    nets = [
        IPv6Network(
            ((0x20010DB8 << 96) | rng.getrandbits(96) >> 128 - length << 128 - length, length)
        )
        for length in rng.choices([40, 48, 56, 64, 96, 128], k=800)
    ]
    filter_ = required(Match(reply_dst=nets)._compiled.program())
    program = bpf.parse(filter_.program.pack())
    expected = Match(reply_dst=nets)
    for net in nets:
        for number in (-1, 0, net.num_addresses - 1, net.num_addresses):
            address = net.network_address + number
            flow = Flow.udp(address, 1, "2001:db8::1", 53, timeout=1)
            assert bool(bpf.run(program, samples.new_event(flow))) >= expected(flow)
            assert not filter_.exact or bool(bpf.run(program, samples.new_event(flow))) is expected(
                flow
            )


def test_too_many_pairs_for_a_program_are_approximated_by_their_fields() -> None:
    pairs = [Match(orig_src=f"10.{n >> 8}.{n & 255}.1", orig_dport=n) for n in range(3000)]
    filter_ = required(Match.any(pairs)._compiled.program())
    assert len(filter_.program) <= MAX_INSTRUCTIONS
    assert not filter_.exact
    for n in range(0, 3000, 7):
        assert accepts(filter_, Flow.tcp(f"10.{n >> 8}.{n & 255}.1", 1, "192.0.2.1", n, timeout=1))
    assert not accepts(filter_, Flow.tcp("11.0.0.1", 1, "192.0.2.1", 80, timeout=1))
    assert not accepts(filter_, Flow.tcp("10.0.0.1", 1, "192.0.2.1", 30000, timeout=1))


# -- the kernel ---------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[socket.socket, NetlinkSocket]]:
    """Return a pair of Unix sockets. The kernel runs filters on their datagrams, too."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.setblocking(False)
    with sender:
        attached = NetlinkSocket(receiver)
        yield sender, attached
        attached.close()


def received(pipe: tuple[socket.socket, NetlinkSocket], data: bytes) -> bool:
    sender, receiver = pipe
    sender.send(data)
    try:
        return receiver.raw.recv(1 << 16) == data  # type: ignore[attr-defined]
    except BlockingIOError:
        return False


def test_the_kernel_agrees_with_the_interpreter() -> None:
    @settings(max_examples=examples(80), deadline=None)
    @given(match_strategies.matches(), st.lists(match_strategies.flows(), min_size=1, max_size=6))
    def check(match: Match, flows: list[Flow]) -> None:
        filter_ = match._compiled.program()
        if filter_ is None:
            return
        sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.setblocking(False)
        attached = NetlinkSocket(receiver)
        with sender:
            attached.attach(filter_.program)
            for flow in flows:
                data = samples.update_event(flow)
                assert received((sender, attached), data) is accepts(filter_, flow)
        attached.close()

    check()


def test_the_kernel_accepts_a_program_of_three_thousand_networks(
    pipe: tuple[socket.socket, NetlinkSocket],
) -> None:
    """Older kernels have 20 KiB for programs, so that three hundred are tested there."""
    nets = networks(3000 if RELEASE.has(releases.LARGE_OPTMEM_MAX) else 300)
    filter_ = required(Match(orig_src=nets)._compiled.program())
    pipe[1].attach(filter_.program)
    for net in (*nets[:50], *nets[-50:]):
        inside = Flow.udp(net.broadcast_address, 1, "192.0.2.1", 53, timeout=1)
        outside = Flow.udp("11.1.1.1", 1, "192.0.2.1", 53, timeout=1)
        assert received(pipe, samples.new_event(inside))
        assert not received(pipe, samples.new_event(outside))


def test_the_kernel_and_the_interpreter_refuse_the_same_programs(
    pipe: tuple[socket.socket, NetlinkSocket],
) -> None:
    for data in (
        b"",
        struct.pack("=HBBI", 0x15, 0, 0, 1),  # no return at the end
        struct.pack("=HBBIHBBI", 0x15, 1, 0, 1, 6, 0, 0, 1),  # a jump beyond the end
        struct.pack("=HBBIHBBI", 0xFF, 0, 0, 0, 6, 0, 0, 1),
    ):
        with pytest.raises(ValueError, match="instruction"):
            bpf.parse(data)
        with pytest.raises(OSError, match="Invalid argument"):
            pipe[1].attach(
                Program(Instruction(*each) for each in struct.iter_unpack("=HBBI", data))
            )
