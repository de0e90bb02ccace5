"""Test how tuples on the command line are read."""

from __future__ import annotations

import argparse
import re

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrack_aio import Endpoint, Tuple
from conntrack_aio.cli.tuple_arguments import parse_endpoint, parse_tuple, read_tuple

WEB = Tuple.tcp("10.0.0.1", 1000, "10.1.0.1", 80)
DNS6 = Tuple.udp("2001:db8::1", 1000, "2001:db8::2", 53)
PING = Tuple.icmp("10.0.0.1", "10.1.0.1", id=7)
PING6 = Tuple.icmp("fd00::1", "fd00::2", id=7)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp 10.0.0.1:1000 10.1.0.1:80", WEB),
        ("TCP  10.0.0.1:1000   ->  10.1.0.1:http", WEB),
        ("6 10.0.0.1:1000 → 10.1.0.1:80", WEB),
        (
            "tcp 10.0.0.1:1000 10.1.0.1:80 zone=5",
            Tuple.tcp("10.0.0.1", 1000, "10.1.0.1", 80, zone=5),
        ),
        ("tcp [::ffff:10.0.0.1]:1000 [::ffff:10.1.0.1]:80", WEB),
        ("udp [2001:db8::1]:1000 [2001:DB8::2]:domain", DNS6),
        ("icmp 10.0.0.1 10.1.0.1 id=7", PING),
        ("icmp 10.0.0.1 -> 10.1.0.1 type=8 code=0 id=7", PING),
        ("icmp 10.0.0.1 -> 10.1.0.1 type 8 code 0 id 7", PING),
        ("icmp 10.0.0.1 10.1.0.1 id=7 type=13", Tuple.icmp("10.0.0.1", "10.1.0.1", id=7, type=13)),
        ("icmpv6 fd00::1 fd00::2 id=7", PING6),
        ("icmp6 [fd00::1] [fd00::2] id=7", PING6),
        ("esp 10.0.0.1 10.1.0.1", Tuple(src="10.0.0.1", dst="10.1.0.1", proto=50)),
        ("proto-99 fd00::1 fd00::2", Tuple(src="fd00::1", dst="fd00::2", proto=99)),
        ("dccp 10.0.0.1 10.1.0.1", Tuple(src="10.0.0.1", dst="10.1.0.1", proto=33)),
    ],
)
def test_tuples_are_read(text: str, expected: Tuple) -> None:
    assert read_tuple(text) == expected


@pytest.mark.parametrize("tuple_", [WEB, DNS6, PING, PING6])
@pytest.mark.parametrize("zone", [None, 0, 7])
def test_the_text_of_a_tuple_is_read(tuple_: Tuple, zone: int | None) -> None:
    expected = attrs.evolve(tuple_, zone=zone)
    assert read_tuple(str(expected)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "tcp ESTABLISHED 10.0.0.1:1000 -> 10.1.0.1:80 (reply 10.1.0.1:80 -> 192.0.2.1:1000 "
            "zone=2) [ASSURED] timeout=9 mark=0x50 zone=7 labels=1,2 helper=ftp "
            "master=(tcp 10.0.0.1:1 -> 10.1.0.1:2) packets=1/2 bytes=3/4",
            Tuple.tcp("10.0.0.1", 1000, "10.1.0.1", 80, zone=7),
        ),
        (
            "tcp 10.0.0.1:1000 -> 10.1.0.1:80 zone=3 [UNREPLIED]",
            Tuple.tcp("10.0.0.1", 1000, "10.1.0.1", 80, zone=3),
        ),
        ("icmp 10.0.0.1 -> 10.1.0.1 type=8 code=0 id=7 [UNREPLIED] timeout=9", PING),
        ("tcp state-99 10.0.0.1:1000 -> 10.1.0.1:80 timeout=9", WEB),
    ],
)
def test_lines_of_flows_are_read_where_that_is_allowed(line: str, expected: Tuple) -> None:
    assert read_tuple(line, listed=True) == expected
    with pytest.raises(ValueError, match=r"unknown field|is not an address"):
        read_tuple(f"{line} timeout=9")


def test_the_source_may_have_no_port_where_that_is_allowed() -> None:
    expected = Tuple(src="10.0.0.1", dst="10.1.0.1", proto=6, dport=80)
    assert read_tuple("tcp 10.0.0.1 10.1.0.1:80", any_sport=True) == expected
    with pytest.raises(ValueError, match=r"tcp needs a port: 10\.1\.0\.1:PORT"):
        read_tuple("tcp 10.0.0.1 10.1.0.1", any_sport=True)


@pytest.mark.parametrize(
    ("text", "message", "word"),
    [
        ("", "expected a protocol such as tcp", ""),
        ("tpc 10.0.0.1:1 10.1.0.1:2", "unknown protocol 'tpc'; .*did you mean 'tcp'", "tpc"),
        ("256 10.0.0.1 10.1.0.1", "256", "256"),
        ("tcp", "expected the source: ADDRESS:PORT", ""),
        ("tcp 10.0.0.1:1000", "expected the destination: ADDRESS:PORT", ""),
        ("tcp 10.0.0.1:1000 -", "omit the arrow, or quote", "-"),
        ("tcp 10.0.0.1 10.1.0.1:80", r"tcp needs a port: 10\.0\.0\.1:PORT", "10.0.0.1"),
        ("tcp 2001:db8::1:80 [::1]:80", r"needs a port: \[2001:db8::1:80\]:PORT", "2001:db8::1:80"),
        ("tcp 2001:db8::1:65536 [::1]:80", r"written \[ADDRESS\]:PORT", "2001:db8::1:65536"),
        ("tcp 10.0.0.256:1 10.1.0.1:2", r"'10\.0\.0\.256:1' is not an address", "10.0.0.256:1"),
        ("tcp localhost:1 10.1.0.1:2", "'localhost:1' is not an address", "localhost:1"),
        ("tcp 10.0.0.1:65536 10.1.0.1:2", "port 65536 is not from 0 to 65535", "10.0.0.1:65536"),
        (
            "tcp 10.0.0.1:nowhere 10.1.0.1:2",
            "'nowhere' is neither a number nor a service of tcp",
            "10.0.0.1:nowhere",
        ),
        ("tcp 10.0.0.1: 10.1.0.1:2", "port '' is neither", "10.0.0.1:"),
        ("tcp 10.0.0.1:1 [::1]:2", r"::1 is not of the family of 10\.0\.0\.1", "[::1]:2"),
        ("tcp [fe80::1%eth0]:1 [::1]:2", "has a scope", "[fe80::1%eth0]:1"),
        ("esp 10.0.0.1:1 10.1.0.1", "esp has no ports", "10.0.0.1:1"),
        ("dccp 10.0.0.1:1 10.1.0.1", "dccp needs a port", "10.1.0.1"),
        ("icmp 10.0.0.1 10.1.0.1", "id=NUMBER", ""),
        ("icmp ::1 ::2 id=7", "icmp has IPv4 addresses; did you mean 'icmpv6'", "icmp"),
        ("icmpv6 10.0.0.1 10.1.0.1 id=7", "did you mean 'icmp'", "icmpv6"),
        ("icmp 10.0.0.1 10.1.0.1 id=65536", "id must be a number from 0 to 65535", "id=65536"),
        ("icmp 10.0.0.1 10.1.0.1 id", "expected the number of id", ""),
        ("icmp 10.0.0.1 10.1.0.1 id=7 id=8", "id is given twice", "id=8"),
        ("icmp 10.0.0.1 10.1.0.1 id=7 typ=8", "unknown field 'typ'; did you mean 'type'", "typ=8"),
        ("tcp 10.0.0.1:1 10.1.0.1:2 id=7", "id is a field of icmp and icmpv6 only", "id=7"),
        ("tcp 10.0.0.1:1 10.1.0.1:2 mark=7", "unknown field 'mark'", "mark=7"),
        ("tcp 10.0.0.1:1 10.1.0.1:2 zone=-1", "zone must be a number from 0 to 65535", "zone=-1"),
        ("tcp 10.0.0.1:1 10.1.0.1:2 zone=٣", "zone must be a number", "zone=٣"),
    ],
)
def test_an_error_shows_the_place_of_the_mistake(text: str, message: str, word: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_tuple(text)
    _, shown, pointer = str(caught.value).splitlines()
    assert shown == f"  {text}"
    column = pointer.index("^") - 2
    assert text[column:].split(" ")[0] == word
    assert word or column == len(text)


@given(st.text(max_size=40) | st.text("tcpdu 10.:[]->=idzone/%\0", max_size=60))
def test_any_text_is_a_tuple_or_an_error(text: str) -> None:
    for listed in (False, True):
        try:
            read_tuple(text, listed=listed)
        except ValueError:
            continue


def test_an_error_ends_the_command_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    command = argparse.ArgumentParser("conntrack-aio get")
    assert parse_tuple(command, ["tcp", "10.0.0.1:1000 ->", "10.1.0.1:80"]) == WEB
    with pytest.raises(SystemExit) as caught:
        parse_tuple(command, ["tcp", "10.0.0.1:1000"])
    assert caught.value.code == 2
    assert "error: argument TUPLE: expected the destination" in capsys.readouterr().err


def test_endpoints_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    command = argparse.ArgumentParser("conntrack-aio who")
    end = parse_endpoint(command, "[2001:db8::1]:53", 17)
    assert (str(end), end.port) == ("[2001:db8::1]:53", 53)
    assert parse_endpoint(command, "10.0.0.1", 6) == Endpoint(WEB.src)
    with pytest.raises(SystemExit):
        parse_endpoint(command, "10.0.0.1:x", 6)
    assert re.search(r"argument '10\.0\.0\.1:x': port 'x' is neither", capsys.readouterr().err)
