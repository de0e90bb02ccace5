"""Test which entries a command line selects, and what of it the kernel filters."""

from __future__ import annotations

import shlex
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import attrs
import pytest

from conntrack_aio import Flow, Match, Status, TCPInfo, TCPState, Tuple
from conntrack_aio.cli.conntrack8 import label_names
from conntrack_aio.cli.conntrack8.matching import (
    beyond_kernel_match,
    has_complete_tuple,
    identifier,
    kernel_match,
    names_entry,
    selector,
)
from conntrack_aio.cli.conntrack8.parse import parse

A, B, C = "10.0.0.1", "10.0.0.2", "192.0.2.1"
ASSURED = Status.ASSURED | Status.SEEN_REPLY


def udp(sport: int, **changes: object) -> Flow:
    return attrs.evolve(Flow.udp(A, sport, B, 53, timeout=100, status=Status(0), mark=0), **changes)


FLOWS = {
    "tcp": attrs.evolve(
        Flow.tcp(A, 1, B, 80, timeout=100, state=TCPState.ESTABLISHED, status=ASSURED), mark=5, id=7
    ),
    "zone": udp(1, zone=5, labels=1 << 3, timeout=30),
    "orig zone": udp(2, orig=Tuple.udp(A, 2, B, 53, zone=6)),
    "icmp": attrs.evolve(
        Flow.icmp(A, B, id=9, timeout=100), status=Status.SEEN_REPLY, labels=1 << 3 | 1 << 5, mark=0
    ),
    "v6": attrs.evolve(
        Flow.udp("fd00::1", 1, "fd00::2", 53, timeout=100, status=Status.FIXED_TIMEOUT),
        secctx="label",
        mark=0,
    ),
    "snat": udp(
        3,
        reply=Tuple.udp(B, 53, C, 77),
        status=Status.SRC_NAT | Status.SRC_NAT_DONE | Status.DST_NAT_DONE,
    ),
    "dnat": udp(
        4,
        reply=Tuple.udp(C, 53, A, 4),
        status=Status.DST_NAT | Status.SRC_NAT_DONE | Status.DST_NAT_DONE,
    ),
}


@pytest.fixture(autouse=True)
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "connlabel.conf"
    path.write_text("3 web\n5 db\n")
    monkeypatch.setattr(label_names, "PATH", str(path))


def selected(line: str) -> set[str]:
    command = parse(shlex.split(line))
    matches = selector(command)
    found = {name for name, flow in FLOWS.items() if matches(flow)}
    # The kernel must not leave out what is selected, and what it does not compare is compared.
    kernel, beyond = kernel_match(command), selector(beyond_kernel_match(command))
    assert {name for name, flow in FLOWS.items() if kernel(flow) and beyond(flow)} == found, line
    return found


def test_an_address_of_any_nat_takes_the_place_of_the_source_before_it() -> None:
    for line, names in (
        (f"-L -j {C}", {"snat", "dnat"}),
        (f"-L -j {C} -s {A}", {"snat", "dnat"}),
        (f"-L -s {A} -j {C}", set[str]()),
        (f"-L -p udp -j {C}", set[str]()),
        (f"-L -j {C} -p udp -s {A} --dport 53", {"snat", "dnat"}),
        # The program compares the source with 2.0.2.1.
        (f"-L -s {A} --mask-src 0.0.0.255 -j {C}", {"snat", "dnat"}),
        (f"-L -s {B} --mask-src 0.0.0.255 -j {C}", {"snat", "dnat"}),
        (f"-L -s {A} --mask-src 255.0.0.0 -j {C}", set[str]()),
        (f"-L -j {C} -s {B} --mask-src 0.0.0.255", set[str]()),
        ("-L -j 2001:db8::1 -s fd00::1", set[str]()),
    ):
        assert selected(line) == names, line


def test_selected_entries() -> None:
    everything = set(FLOWS)
    ipv4 = everything - {"v6"}
    for line, names in (
        ("-L", everything),
        ("-L -f ipv4", ipv4),
        ("-L -f ipv6", {"v6"}),
        ("-L -s 10.0.0.1", ipv4),
        ("-L -s 10.0.0.2", set[str]()),
        ("-L -s 10.0.0.0/31", ipv4),
        ("-L -s 10.0.0.2/31", set[str]()),
        ("-L -s 10.9.9.9/8", ipv4),
        ("-L -s 1.2.3.4/0", ipv4),
        ("-L -s 10.9.0.1 --mask-src 0.0.0.255", ipv4),
        ("-L -s ::1 --mask-src ::ffff", {"v6"}),
        ("-L -d fd00::/16", {"v6"}),
        ("-L -r 192.0.2.1", {"dnat"}),
        ("-L -q 192.0.2.1", {"snat"}),
        ("-L -p udp", everything - {"tcp", "icmp"}),
        ("-L -p tcp", {"tcp"}),
        ("-L -p udp --sport 1", {"zone", "v6"}),
        ("-L -p udp --reply-port-dst 77", {"snat"}),
        ("-L -p tcp --state ESTABLISHED", {"tcp"}),
        ("-L -p tcp --state CLOSE", set[str]()),
        ("-L -p icmp --icmp-type 8 --icmp-id 9", {"icmp"}),
        ("-L -p icmp --icmp-type 0", set[str]()),
        ("-L -m 5", {"tcp"}),
        ("-L -m 4/4", {"tcp"}),
        ("-L -m 4/5", set[str]()),
        ("-L -m 0", everything - {"tcp"}),
        ("-L -w 5", {"zone"}),
        ("-L -w 0", everything - {"zone"}),
        ("-L --orig-zone 6", {"orig zone"}),
        ("-L --reply-zone 6", set[str]()),
        ("-L -u ASSURED", {"tcp"}),
        ("-L -u SEEN_REPLY", {"tcp", "icmp"}),
        ("-L -u SEEN_REPLY,ASSURED", {"tcp"}),
        ("-L -u UNREPLIED", everything - {"tcp", "icmp"}),
        ("-L -u !ASSURED", everything - {"tcp"}),
        ("-L -u ASSURED,UNREPLIED", set[str]()),
        ("-L -u UNSET", everything - {"tcp", "icmp", "v6"}),
        ("-L -l web", {"zone", "icmp"}),
        ("-L -l web,db", {"icmp"}),
        ("-L -c 0", ipv4),
        ("-L -c 5", set[str]()),
        ("-D -i 7", {"tcp"}),
        ("-D -i 8", set[str]()),
        ("-D -t 30", {"zone"}),
        ("-L -n", {"snat"}),
        ("-L -g", {"dnat"}),
        ("-L -j", {"snat", "dnat"}),
        ("-L -n 192.0.2.1", {"snat"}),
        ("-L -n 192.0.2.1:77", {"snat"}),
        ("-L -n 192.0.2.1:78", set[str]()),
        ("-L -n 192.0.2.2", set[str]()),
        ("-L -g192.0.2.1", {"dnat"}),
        ("-L -j 192.0.2.1", {"snat", "dnat"}),
        ("-L -j 192.0.2.1 -p udp", set[str]()),
        ("-L -s 10.0.0.1 -n", {"snat"}),
    ):
        assert selected(line) == names, line


def test_an_event_without_a_mark_has_none_to_compare() -> None:
    for line, selects in (("-E -m 0", False), ("-E", True)):
        assert selector(parse(shlex.split(line)))(udp(1, mark=None)) is selects


def test_an_update_selects_by_what_identifies_entries() -> None:
    for line, names in (
        ("-U -s 10.0.0.1 -m 9 -u ASSURED -t 5", set(FLOWS) - {"v6"}),
        ("-U -p tcp --state CLOSE", {"tcp"}),
        ("-U -i 7 -m 9", {"tcp"}),
        ("-U -n -m 9", {"snat"}),
        ("-U -l db -m 9", {"icmp"}),
    ):
        matches = identifier(parse(shlex.split(line)))
        assert {name for name, flow in FLOWS.items() if matches(flow)} == names, line


def test_a_state_of_another_protocol_is_not_selected() -> None:
    matches = selector(parse(["-L", "-p", "tcp", "--state", "SYN_SENT"]))
    assert matches(attrs.evolve(FLOWS["tcp"], protoinfo=TCPInfo(state=TCPState.SYN_SENT)))
    assert not matches(attrs.evolve(FLOWS["tcp"], protoinfo=None))


def test_the_match_of_the_kernel() -> None:
    for line, match in (
        ("-L -m 5", Match(mark=5)),
        ("-D -m 0x5/0xf", Match(mark=5, mark_mask=15)),
        ("-L -m 0x15/0xf", Match()),  # no flow has such a mark, but to a match it is 5
        ("-E -m 5", Match()),
        ("-U -p udp -m 5", Match(proto=17)),
        ("-L -s 10.0.0.1", Match(family=2, orig_src=A)),
        ("-L -s 10.0.0.1/8", Match(family=2, orig_src=IPv4Network("10.0.0.0/8"))),
        ("-L -s 10.0.0.1 --mask-src 0.0.0.255", Match(family=2)),
        ("-L -d fd00::1/16", Match(family=10, orig_dst=IPv6Network("fd00::/16"))),
        ("-L -s ::ffff:1.2.3.4", Match(family=10)),
        ("-L -s ::ffff:0:0/96", Match(family=10)),
        ("-L -p udp --sport 5 -q 10.0.0.1", Match(family=2, proto=17, orig_sport=5, reply_dst=A)),
        ("-L -p icmp --icmp-id 5", Match(proto=1)),
    ):
        assert kernel_match(parse(shlex.split(line))) == match, line


def test_complete_tuples() -> None:
    ports = "-p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2"
    for line, complete, named in (
        (f"-D {ports}", True, False),
        (f"-D {ports} -w 0", True, True),
        (f"-D {ports} -w 0 --orig-zone 5", True, False),
        (f"-D {ports} -w 0 --mask-src 255.0.0.0", False, False),
        ("-D -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1 -w 0", False, False),
        ("-D -p 50 -s 10.0.0.1 -d 10.0.0.2 -w 0", True, True),
        ("-D -p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 -w 0", False, False),
        (
            "-D -p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 7 -w 0",
            True,
            True,
        ),
    ):
        command = parse(shlex.split(line))
        assert has_complete_tuple(command) is complete, line
        assert names_entry(command) is named, line
