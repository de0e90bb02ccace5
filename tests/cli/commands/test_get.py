"""Test ``get``: which entry is printed, and what is said if there is none."""

from __future__ import annotations

import json

import pytest
from support.command import create, do, run_process
from support.lab import Lab

from conntrack_aio import Flow, NATRange, Status

pytestmark = pytest.mark.kernel

WEB = Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 80, timeout=600)
ENDS = ("10.0.0.1:1000", "10.0.0.2:80")


@pytest.fixture
def zones(lab: Lab) -> Lab:
    """Return a namespace with entries in several zones, and a translated one."""
    create(
        lab,
        WEB,
        Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 80, timeout=600, zone=3),
        Flow.udp("fd00::1", 1000, "fd00::2", 53, timeout=600, zone=7),
        Flow.icmp("10.0.0.1", "10.0.0.2", id=9, timeout=600),
    )
    status = Status.SEEN_REPLY | Status.ASSURED
    translated = Flow.tcp("10.0.0.5", 40, "198.51.100.9", 443, timeout=600, status=status)
    do(lab, lambda conn: conn.create(translated, nat_src=NATRange.of("192.0.2.1", 61000)))
    return lab


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["tcp", *ENDS], "tcp ESTABLISHED 10.0.0.1:1000 -> 10.0.0.2:80 [UNREPLIED]"),
        (["tcp", *reversed(ENDS)], "tcp ESTABLISHED 10.0.0.1:1000 -> 10.0.0.2:80 [UNREPLIED]"),
        (["tcp", ENDS[0], "->", ENDS[1]], "tcp ESTABLISHED 10.0.0.1:1000 -> 10.0.0.2:80"),
        (["tcp", ENDS[0], f"-> {ENDS[1]}"], "tcp ESTABLISHED 10.0.0.1:1000 -> 10.0.0.2:80"),
        (["udp [fd00::1]:1000 -> [fd00::2]:53 zone=7"], "udp [fd00::1]:1000 -> [fd00::2]:53"),
        (["udp", "[fd00::1]:1000", "[fd00::2]:53", "--zone", "7"], "udp [fd00::1]:1000"),
        (["icmp", "10.0.0.1", "10.0.0.2", "id=9"], "icmp 10.0.0.1 -> 10.0.0.2 type=8"),
        (["icmp", "10.0.0.2", "10.0.0.1", "type=0", "id=9"], "icmp 10.0.0.1 -> 10.0.0.2 type=8"),
        (["tcp", "198.51.100.9:443", "192.0.2.1:61000"], "tcp ESTABLISHED 10.0.0.5:40"),
        (
            ["tcp", "198.51.100.9:443", "192.0.2.1:61000", "--direction", "reply"],
            "tcp ESTABLISHED 10.0.0.5:40",
        ),
        (["tcp", "192.0.2.1:61000", "198.51.100.9:443", "--packet"], "tcp ESTABLISHED 10.0.0.5:40"),
    ],
)
def test_the_entry_with_the_tuple_is_printed(zones: Lab, arguments: list[str], found: str) -> None:
    status, out, err = run_process(zones, "get", *arguments)
    assert (status, err) == (0, "")
    assert out.startswith(found)
    assert out.count("\n") == 1


def test_the_zone_selects_the_entry(zones: Lab) -> None:
    for zone, arguments in ((3, ["--zone", "3"]), (3, ["zone=3"]), (None, ["--zone", "0"])):
        status, out, _ = run_process(zones, "get", "--json", "tcp", *ENDS, *arguments)
        assert (status, json.loads(out).get("zone")) == (0, zone)


def test_a_line_of_list_names_its_entry(zones: Lab) -> None:
    lines = run_process(zones, "list")[1].splitlines()
    assert len(lines) == 5
    for line in lines:
        status, out, _ = run_process(zones, "get", line)
        assert (status, out.split(" timeout=")[0]) == (0, line.split(" timeout=")[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["tcp", "10.0.0.1:1", "10.0.0.2:80"],
            "no entry has the tuple tcp 10.0.0.1:1 -> 10.0.0.2:80 in either direction, in zone 0",
        ),
        (
            ["tcp", *ENDS, "--zone", "9"],
            "no entry has the tuple tcp 10.0.0.1:1000 -> 10.0.0.2:80 in either direction, "
            "in zone 9; zones 0, 3 have one: --zone 0",
        ),
        (
            ["udp", "[fd00::2]:53", "[fd00::1]:1000"],
            "no entry has the tuple udp [fd00::2]:53 -> [fd00::1]:1000 in either direction, "
            "in zone 0; zone 7 has one: --zone 7",
        ),
        (
            ["tcp", "192.0.2.1:61000", "198.51.100.9:443"],
            "no entry has the tuple tcp 192.0.2.1:61000 -> 198.51.100.9:443 in either direction, "
            "in zone 0",
        ),
    ],
)
def test_what_was_not_found_is_reported(zones: Lab, arguments: list[str], message: str) -> None:
    assert run_process(zones, "get", *arguments) == (1, "", f"conntrack-aio: {message}\n")


def test_an_entry_that_has_the_tuple_in_the_other_direction_is_named(zones: Lab) -> None:
    status, out, err = run_process(
        zones, "get", "tcp", "198.51.100.9:443", "192.0.2.1:61000", "--direction", "orig"
    )
    assert (status, out) == (1, "")
    assert err.startswith(
        "conntrack-aio: no entry has the orig tuple tcp 198.51.100.9:443 -> 192.0.2.1:61000 in "
        "zone 0; it is the reply tuple of: tcp ESTABLISHED 10.0.0.5:40 -> "
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tcp", "10.0.0.1", "10.0.0.2:80"], "argument TUPLE: tcp needs a port: 10.0.0.1:PORT"),
        (["tcp", *ENDS, "--zone", "65536"], "--zone: invalid zone '65536'; expected 0 to 65535"),
        ([], "TUPLE"),
        (["tcp", ENDS[0], "->", "->", ENDS[1]], "argument TUPLE: '→' is not an address"),
        (["tcp", ENDS[0], "--", "->"], "argument TUPLE: expected the destination"),
    ],
)
def test_wrong_arguments_have_status_2(lab: Lab, arguments: list[str], message: str) -> None:
    status, out, err = run_process(lab, "get", *arguments)
    assert (status, out) == (2, "")
    assert message in err
