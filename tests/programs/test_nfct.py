"""Beside nfct(8) of conntrack-tools: what one writes the other reads."""

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
UNTOLD = {"heartbeat_sent", "heartbeat_acked"}
"""What nfct 1.4.7 does not know."""

Facts = dict[str, object]


def said(output: str) -> dict[str, Facts]:
    """What nfct prints of policies, by their names; of defaults, by an empty one."""
    found: dict[str, Facts] = {}
    for name, body in re.findall(r"(?:^\.(.*) = \{\n)?((?:\t.*\n)+)\};", output, re.MULTILINE):
        numbers = re.findall(r"\.(\w+) = (\d+),", body)
        found[name] = {key.lower(): int(value) for key, value in numbers}
    return found


def expected(family: int, proto: int, timeouts: ProtocolTimeouts | None) -> Facts:
    assert timeouts is not None
    told: Facts = {
        {"unack": "unacknowledged"}.get(name, name): value
        for name, value in attrs.asdict(timeouts).items()
        if name not in UNTOLD
    }
    return {"l3proto": family, "l4proto": proto} | told


def arguments(timeouts: ProtocolTimeouts) -> list[str]:
    """As nfct wants to hear them."""
    words: list[str] = []
    for name, value in attrs.asdict(timeouts).items():
        if value is not None:
            words += [{"unack": "unacknowledged"}.get(name, name), str(value)]
    return words


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("proto", PROTOCOLS)
async def test_it_reads_what_we_write(conn: Connection, lab: Lab, proto: str, family: str) -> None:
    timeouts = PROTOCOLS[proto]
    made = await conn.timeouts.create(TimeoutPolicy.of("ours", timeouts, family=FAMILIES[family]))
    wanted = {"ours": expected(made.family, made.proto, made.timeouts)}
    assert said(lab.program("nfct", "list", "timeout")) == wanted
    assert said(lab.program("nfct", "get", "timeout", "ours")) == wanted
    await conn.timeouts.set_defaults(timeouts)
    assert said(lab.program("nfct", "default-get", "timeout", family, proto)) == {
        "": expected(FAMILIES[family], protocol_of(type(timeouts)), timeouts)
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("proto", PROTOCOLS)
async def test_we_read_what_it_writes(conn: Connection, lab: Lab, proto: str, family: str) -> None:
    timeouts = PROTOCOLS[proto]
    lab.program("nfct", "add", "timeout", "theirs", family, proto, *arguments(timeouts))
    (read,) = await conn.timeouts.list()
    assert (read.name, read.family, read.use) == ("theirs", FAMILIES[family], 1)
    assert read.proto == protocol_of(type(timeouts))
    assert expected(0, 0, read.timeouts) == expected(0, 0, timeouts)
    lab.program("nfct", "default-set", "timeout", family, proto, *arguments(timeouts))
    defaults = await conn.timeouts.get_defaults(type(timeouts))
    assert expected(0, 0, defaults) == expected(0, 0, timeouts)


async def test_each_deletes_what_the_other_made(conn: Connection, lab: Lab) -> None:
    lab.program("nfct", "add", "timeout", "theirs", *["inet", "udp", "replied", "5"])
    await conn.timeouts.delete("theirs")
    await conn.timeouts.create(TimeoutPolicy.of("ours", UDPTimeouts(), family=AF_INET))
    lab.program("nfct", "delete", "timeout", "ours")
    assert await conn.timeouts.list() == []
