"""Interoperate with nfct(8) of conntrack-tools: each reads what the other writes."""

from __future__ import annotations

import re
from socket import AF_INET, AF_INET6

import attrs
import pytest
from support.lab import Lab

from conntrack_aio import Connection
from conntrack_aio.model.timeouts import (
    GenericTimeouts,
    GRETimeouts,
    ICMPTimeouts,
    ICMPv6Timeouts,
    ProtocolTimeouts,
    SCTPTimeouts,
    TCPTimeouts,
    TimeoutPolicy,
    UDPTimeouts,
    protocol_of,
)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.kernel,
    pytest.mark.program("nfct", "nfct"),
]

FAMILIES = {"inet": AF_INET, "inet6": AF_INET6}
PROTOCOLS: dict[str, ProtocolTimeouts] = {
    "tcp": TCPTimeouts(
        syn_sent=1,
        syn_recv=2,
        established=3,
        fin_wait=4,
        close_wait=5,
        last_ack=6,
        time_wait=7,
        close=8,
        syn_sent2=9,
        retrans=10,
        unack=11,
    ),
    "udp": UDPTimeouts(unreplied=1, replied=2),
    "sctp": SCTPTimeouts(
        closed=1,
        cookie_wait=2,
        cookie_echoed=3,
        established=4,
        shutdown_sent=5,
        shutdown_recd=6,
        shutdown_ack_sent=7,
    ),
    "icmp": ICMPTimeouts(timeout=1),
    "icmpv6": ICMPv6Timeouts(timeout=1),
    "gre": GRETimeouts(unreplied=1, replied=2),
    "generic": GenericTimeouts(timeout=1),
}
UNSUPPORTED = {"heartbeat_sent", "heartbeat_acked"}
"""The timeouts that nfct 1.4.7 does not support."""

Facts = dict[str, object]


def parse_output(output: str) -> dict[str, Facts]:
    """Return the policies that nfct prints, by name. Default timeouts have an empty name."""
    found: dict[str, Facts] = {}
    for name, body in re.findall(r"(?:^\.(.*) = \{\n)?((?:\t.*\n)+)\};", output, re.MULTILINE):
        numbers = re.findall(r"\.(\w+) = (\d+),", body)
        found[name] = {key.lower(): int(value) for key, value in numbers}
    return found


def expected(family: int, proto: int, timeouts: ProtocolTimeouts | None) -> Facts:
    """Return what nfct must print of a policy."""
    assert timeouts is not None
    values: Facts = {
        {"unack": "unacknowledged"}.get(name, name): value
        for name, value in attrs.asdict(timeouts).items()
        if name not in UNSUPPORTED
    }
    return {"l3proto": family, "l4proto": proto} | values


def arguments(timeouts: ProtocolTimeouts) -> list[str]:
    """Return timeouts as arguments of nfct."""
    words: list[str] = []
    for name, value in attrs.asdict(timeouts).items():
        if value is not None:
            words += [{"unack": "unacknowledged"}.get(name, name), str(value)]
    return words


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("proto", PROTOCOLS)
async def test_nfct_reads_policies_of_the_library(
    conn: Connection, lab: Lab, proto: str, family: str
) -> None:
    timeouts = PROTOCOLS[proto]
    created = await conn.timeouts.create(
        TimeoutPolicy.of("ours", timeouts, family=FAMILIES[family])
    )
    wanted = {"ours": expected(created.family, created.proto, created.timeouts)}
    assert parse_output(lab.program("nfct", "list", "timeout")) == wanted
    assert parse_output(lab.program("nfct", "get", "timeout", "ours")) == wanted
    await conn.timeouts.set_defaults(timeouts)
    assert parse_output(lab.program("nfct", "default-get", "timeout", family, proto)) == {
        "": expected(FAMILIES[family], protocol_of(type(timeouts)), timeouts)
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("proto", PROTOCOLS)
async def test_the_library_reads_policies_of_nfct(
    conn: Connection, lab: Lab, proto: str, family: str
) -> None:
    timeouts = PROTOCOLS[proto]
    lab.program("nfct", "add", "timeout", "theirs", family, proto, *arguments(timeouts))
    (read,) = await conn.timeouts.list()
    assert (read.name, read.family, read.use) == ("theirs", FAMILIES[family], 1)
    assert read.proto == protocol_of(type(timeouts))
    assert expected(0, 0, read.timeouts) == expected(0, 0, timeouts)
    lab.program("nfct", "default-set", "timeout", family, proto, *arguments(timeouts))
    defaults = await conn.timeouts.get_defaults(type(timeouts))
    assert expected(0, 0, defaults) == expected(0, 0, timeouts)


async def test_each_deletes_policies_of_the_other(conn: Connection, lab: Lab) -> None:
    lab.program("nfct", "add", "timeout", "theirs", *["inet", "udp", "replied", "5"])
    await conn.timeouts.delete("theirs")
    await conn.timeouts.create(TimeoutPolicy.of("ours", UDPTimeouts(), family=AF_INET))
    lab.program("nfct", "delete", "timeout", "ours")
    assert await conn.timeouts.list() == []
