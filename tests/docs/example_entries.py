"""Create the entries on which the commands of the pages about conntrack(8) and nfct(8) are run."""

from __future__ import annotations

from collections.abc import Iterator
from socket import AF_INET, IPPROTO_GRE, IPPROTO_SCTP
from typing import Final

import attrs
from support.lab import Lab

from conntrack_aio import (
    Connection,
    Expectation,
    Flow,
    Helper,
    NATRange,
    NewFlow,
    SCTPInfo,
    SCTPState,
    Status,
    TCPState,
    TCPTimeouts,
    TimeoutPolicy,
    Tuple,
    UDPTimeouts,
)

WEB, DB = 1 << 3, 1 << 5
LABELS: Final = "3 web\n5 db\n"
"""The contents of ``connlabel.conf``."""

LONG: Final = 20000
"""The timeout of the entries: longer than the pages set."""

_RULES: Final = """
table inet page {
    chain labels { type filter hook output priority filter; ct label set 3; }
    chain translate { type nat hook output priority -100; }
}
"""
_REPLIED: Final = Status.SEEN_REPLY | Status.ASSURED


async def create_entries(lab: Lab, conn: Connection) -> None:
    """Prepare a namespace, and create the entries."""
    prepare(lab)
    await fill(conn)


def prepare(lab: Lab) -> None:
    """Let entries have start times, labels and translations."""
    lab.sysctl("nf_conntrack_timestamp", 1)
    lab.program("nft", "-f", "-", input=_RULES)


async def fill(conn: Connection) -> None:
    """Delete all entries and timeout policies of a namespace, and create those of the pages."""
    await conn.flush()
    await conn.timeouts.delete_unused()
    await conn.timeouts.set_defaults(UDPTimeouts(unreplied=30, replied=120))
    async for outcome in conn.create_many(_flows()):
        outcome.result()
    expected = Tuple.tcp("10.0.0.1", 0, "10.0.0.2", 2050)
    master = Tuple.tcp("10.0.0.1", 1000, "10.0.0.2", 21)
    await conn.expectations.create(Expectation.of(master, expected, any_sport=True))
    for name, timeouts in (("web", TCPTimeouts(close=5)), ("dns", UDPTimeouts(replied=5))):
        await conn.timeouts.create(TimeoutPolicy.of(name, timeouts, family=AF_INET))


def _flows() -> Iterator[NewFlow]:
    yield NewFlow(
        _tcp("10.0.0.5", 40001, "192.0.2.10", 443, TCPState.ESTABLISHED, mark=0x13, status=_REPLIED)
    )
    yield NewFlow(_tcp("10.0.0.6", 40002, "192.0.2.10", 22))
    yield NewFlow(
        _tcp("10.0.0.2", 40422, "198.51.100.9", 443, TCPState.ESTABLISHED, status=_REPLIED),
        nat_src=NATRange.of("192.0.2.1", 61000),
    )
    yield NewFlow(_tcp("203.0.113.5", 5000, "192.0.2.1", 80), nat_dst=NATRange.of("10.0.0.3", 8080))
    yield NewFlow(_tcp("10.0.0.7", 1007, "10.0.0.8", 80, zone=7))
    in_zone = _tcp("10.0.0.9", 1009, "10.0.0.8", 80)
    in_zone.orig = attrs.evolve(in_zone.orig, zone=5)
    yield NewFlow(in_zone)
    for name, port in (("ftp", 21), ("irc", 6667)):
        master = _tcp("10.0.0.1", 1000, "10.0.0.2", port, TCPState.ESTABLISHED, status=_REPLIED)
        master.helper = Helper(name=name)
        yield NewFlow(master)
    yield NewFlow(
        _udp("10.0.0.70", 1000, "10.96.0.10", 53, labels=WEB), nat_dst=NATRange.of("10.244.1.5")
    )
    yield NewFlow(
        _udp("10.0.0.71", 1001, "10.96.0.10", 53, labels=WEB | DB, mark=0x21),
        nat_dst=NATRange.of("10.244.1.6"),
    )
    yield NewFlow(
        _udp("10.0.0.72", 1002, "192.0.2.7", 30053), nat_dst=NATRange.of("10.244.1.5", 53)
    )
    yield NewFlow(_udp("2001:db8::1", 1000, "2001:db8::2", 53))
    yield NewFlow(Flow.icmp("10.0.0.70", "10.0.0.8", id=7, timeout=LONG))
    yield NewFlow(Flow.icmp("2001:db8::1", "2001:db8::2", id=8, timeout=LONG))
    sctp = attrs.evolve(Tuple.udp("10.0.0.70", 2000, "10.0.0.8", 3868), proto=IPPROTO_SCTP)
    info = SCTPInfo(state=SCTPState.ESTABLISHED, vtag_orig=1, vtag_reply=2)
    yield NewFlow(Flow(orig=sctp, reply=sctp.inverse, timeout=LONG, protoinfo=info))
    gre = attrs.evolve(Tuple.udp("10.0.0.70", 1, "10.0.0.8", 2), proto=IPPROTO_GRE)
    yield NewFlow(Flow(orig=gre, reply=gre.inverse, timeout=LONG))


def _tcp(
    src: str,
    sport: int,
    dst: str,
    dport: int,
    state: TCPState = TCPState.SYN_SENT,
    *,
    status: Status | None = None,
    mark: int | None = None,
    zone: int | None = None,
) -> Flow:
    return Flow.tcp(
        src, sport, dst, dport, state=state, status=status, mark=mark, zone=zone, timeout=LONG
    )


def _udp(
    src: str, sport: int, dst: str, dport: int, *, labels: int = 0, mark: int | None = None
) -> Flow:
    flow = Flow.udp(src, sport, dst, dport, mark=mark, timeout=LONG)
    flow.labels = labels or None
    return flow
