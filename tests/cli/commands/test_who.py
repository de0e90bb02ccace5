"""Test ``who``: which address and port is behind a public one."""

from __future__ import annotations

import json

import pytest
from support.command import do, run_process
from support.lab import Lab

from conntrack_aio import Connection, Flow, NATRange, Status

pytestmark = pytest.mark.kernel

REPLIED = Status.SEEN_REPLY | Status.ASSURED
HTTPS = "10.0.0.5:40 is behind 192.0.2.1:61000 (tcp, source NAT) to 198.51.100.9:443"
OTHER = "10.0.0.6:41 is behind 192.0.2.1:61000 (tcp, source NAT) to 198.51.100.10:443"
DNS = "10.0.0.6:41 is behind 192.0.2.1:61000 (udp, source NAT) to 198.51.100.9:53, zone 4"
PING = "10.0.0.5:77 is behind 192.0.2.1:5555 (icmp, source NAT) to 198.51.100.9"
SERVER = "10.0.0.80:8443 is behind 192.0.2.1:443 (tcp, destination NAT) from 203.0.113.7:50"
SIX = "[fd00::5]:40 is behind [2001:db8::1]:61000 (tcp, source NAT) to [2001:db8::9]:443"


@pytest.fixture
def nat(lab: Lab) -> Lab:
    """Return a namespace with translated flows, and one that is not translated."""

    async def action(conn: Connection) -> None:
        public = NATRange.of("192.0.2.1", 61000)
        for flow, source, target in (
            (
                Flow.tcp("10.0.0.5", 40, "198.51.100.9", 443, timeout=600, status=REPLIED),
                public,
                None,
            ),
            (Flow.tcp("10.0.0.6", 41, "198.51.100.10", 443, timeout=600), public, None),
            (Flow.udp("10.0.0.6", 41, "198.51.100.9", 53, timeout=600, zone=4), public, None),
            (
                Flow.icmp("10.0.0.5", "198.51.100.9", id=77, timeout=600),
                NATRange.of("192.0.2.1", 5555),
                None,
            ),
            (
                Flow.tcp("203.0.113.7", 50, "192.0.2.1", 443, timeout=600),
                None,
                NATRange.of("10.0.0.80", 8443),
            ),
            (
                Flow.tcp("fd00::5", 40, "2001:db8::9", 443, timeout=600),
                NATRange.of("2001:db8::1", 61000),
                None,
            ),
            (Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 80, timeout=600), None, None),
        ):
            await conn.create(flow, nat_src=source, nat_dst=target)

    do(lab, action)
    return lab


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["192.0.2.1"], {HTTPS, OTHER, DNS, PING, SERVER}),
        (["192.0.2.1", "--proto", "tcp"], {HTTPS, OTHER, SERVER}),
        (["192.0.2.1:61000"], {HTTPS, OTHER, DNS}),
        (["192.0.2.1:61000", "--proto", "17"], {DNS}),
        (["192.0.2.1:61000", "--zone", "4"], {DNS}),
        (["192.0.2.1:61000", "--zone", "0"], {HTTPS, OTHER}),
        (["192.0.2.1:5555"], {PING}),
        (["192.0.2.1:443"], {SERVER}),
        (["192.0.2.1:https"], {SERVER}),
        (["[2001:db8::1]:61000"], {SIX}),
        (["2001:db8::1"], {SIX}),
    ],
)
def test_the_ends_behind_a_public_one_are_printed(
    nat: Lab, arguments: list[str], lines: set[str]
) -> None:
    status, out, err = run_process(nat, "who", *arguments)
    assert (status, err) == (0, "")
    assert sorted(out.splitlines()) == sorted(lines)


def test_json_has_the_ends_and_the_flow(nat: Lab) -> None:
    status, out, err = run_process(nat, "who", "192.0.2.1:443", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    flow = found.pop("flow")
    assert found == {
        "nat": "dst",
        "proto": 6,
        "public": {"address": "192.0.2.1", "port": 443},
        "inside": {"address": "10.0.0.80", "port": 8443},
        "peer": {"address": "203.0.113.7", "port": 50},
    }
    assert flow["orig"]["sport"] == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["192.0.2.1:1"], "no flow is translated to 192.0.2.1:1"),
        (["192.0.2.1:443", "--proto", "udp"], "no udp flow is translated to 192.0.2.1:443"),
        (
            ["10.0.0.1:1000"],
            "no flow is translated to 10.0.0.1:1000; it is an end of 1 untranslated flow",
        ),
        (
            ["10.0.0.5:40"],
            "no flow is translated to 10.0.0.5:40; it is the inside end of 1 translated flow",
        ),
        (
            ["10.0.0.5"],
            "no flow is translated to 10.0.0.5; it is the inside end of 2 translated flows",
        ),
        (
            ["10.0.0.5:77"],
            "no flow is translated to 10.0.0.5:77; it is the inside end of 1 translated flow",
        ),
        (
            ["10.0.0.80:8443"],
            "no flow is translated to 10.0.0.80:8443; it is the inside end of 1 translated flow",
        ),
        (
            ["198.51.100.9"],
            "no flow is translated to 198.51.100.9; it is the peer of 3 translated flows",
        ),
        (
            ["198.51.100.9:443"],
            "no flow is translated to 198.51.100.9:443; it is the peer of 1 translated flow",
        ),
        (
            ["203.0.113.7:50"],
            "no flow is translated to 203.0.113.7:50; it is the peer of 1 translated flow",
        ),
        (
            ["[2001:db8::9]:443"],
            "no flow is translated to [2001:db8::9]:443; it is the peer of 1 translated flow",
        ),
        (
            ["10.0.0.6:41", "--zone", "4"],
            "no flow is translated to 10.0.0.6:41 in zone 4; "
            "it is the inside end of 1 translated flow",
        ),
        (
            ["10.0.0.6:41", "--proto", "tcp", "--zone", "4"],
            "no tcp flow is translated to 10.0.0.6:41 in zone 4",
        ),
    ],
)
def test_without_a_flow_the_status_is_1(nat: Lab, arguments: list[str], message: str) -> None:
    assert run_process(nat, "who", *arguments) == (1, "", f"conntrack-aio: {message}\n")


def test_an_end_with_several_roles(nat: Lab) -> None:
    async def action(conn: Connection) -> None:
        await conn.create(Flow.udp("10.0.0.5", 9, "198.51.100.9", 53, timeout=600))
        await conn.create(
            Flow.tcp("10.0.0.5", 60, "192.0.2.7", 443, timeout=600),
            nat_dst=NATRange.of("10.0.0.80", 8443),
        )

    do(nat, action)
    status, out, err = run_process(nat, "who", "10.0.0.5")
    assert (status, out) == (1, "")
    assert err == (
        "conntrack-aio: no flow is translated to 10.0.0.5; it is the inside end of 2 translated "
        "flows, the peer of 1 translated flow, an end of 1 untranslated flow\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["router:443"], "argument 'router:443': 'router:443' is not an address"),
        (["192.0.2.1", "--proto", "tpc"], "--proto: unknown protocol 'tpc'"),
        (["192.0.2.1", "--proto", "256"], "--proto: "),
    ],
)
def test_wrong_arguments_have_status_2(lab: Lab, arguments: list[str], message: str) -> None:
    status, out, err = run_process(lab, "who", *arguments)
    assert (status, out) == (2, "")
    assert message in err
