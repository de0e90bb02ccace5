"""Test which flow a command line creates, and which tuple it asks for."""

from __future__ import annotations

import os
import shlex
import sys

import pytest

from conntrack_aio import EncodeError, NATRange, SCTPInfo, Status, TCPInfo, TCPState
from conntrack_aio.bulk.new_flow import NewFlow
from conntrack_aio.cli.conntrack8.messages import CommandFailure
from conntrack_aio.cli.conntrack8.named_entries import named_tuple
from conntrack_aio.cli.conntrack8.new_flow import new_flow
from conntrack_aio.cli.conntrack8.parse import parse

ENTRY = "-I -t 100 -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2"


def new(line: str) -> NewFlow:
    return new_flow(parse(shlex.split(line)))


def test_values_of_the_entry() -> None:
    flow = new(f"{ENTRY} -m 5/1 -u ASSURED,SEEN -w 7").flow
    assert str(flow.reply.src) == "10.0.0.2"
    assert (flow.reply.sport, flow.reply.dport) == (2, 1)
    assert (flow.timeout, flow.mark, flow.zone) == (100, 5, 7)
    assert (flow.orig.zone, flow.reply.zone) == (None, None)
    assert flow.status == Status.ASSURED | Status.SEEN_REPLY


def test_zones() -> None:
    """The kernel accepts one zone that is not 0, if no other one follows it."""
    for options, zones in (
        ("", (None, None, None)),
        ("-w 0", (None, None, None)),
        ("-w 7", (7, None, None)),
        ("--orig-zone 7", (None, 7, None)),
        ("-w 0 --orig-zone 7", (None, 7, None)),
        ("-w 0 --orig-zone 0 --reply-zone 7", (None, None, 7)),
        ("-w 7 --orig-zone 0", None),
        ("-w 7 --reply-zone 7", None),
        ("--orig-zone 7 --reply-zone 0", None),
    ):
        if zones is None:
            with pytest.raises(EncodeError):
                new(f"{ENTRY} {options}")
        else:
            flow = new(f"{ENTRY} {options}").flow
            assert (flow.zone, flow.orig.zone, flow.reply.zone) == zones, options


def test_states() -> None:
    for line, info in (
        ("-p tcp --state LISTEN", TCPInfo(state=TCPState.SYN_SENT2)),
        ("-p udp", None),
    ):
        given = f"-I -t 1 -s 10.0.0.1 -d 10.0.0.2 {line} --sport 1 --dport 2"
        assert new(given).flow.protoinfo == info
    sctp = new(
        "-I -t 1 -s 10.0.0.1 -d 10.0.0.2 -p sctp --sport 1 --dport 2 --state CLOSED "
        "--orig-vtag 1 --reply-vtag 2"
    ).flow.protoinfo
    assert isinstance(sctp, SCTPInfo)
    assert sctp.vtag_orig == int.from_bytes((1).to_bytes(4, sys.byteorder), "big")


def test_a_direction_that_is_not_given_is_the_inverse_of_the_other() -> None:
    ports = "--reply-port-src 2 --reply-port-dst 1"
    flow = new(f"-I -t 1 -p udp -r 10.0.0.2 -q 10.0.0.1 {ports}").flow
    assert flow.orig == new(ENTRY).flow.orig
    icmp = new("-I -t 1 -p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 13 --icmp-code 0").flow
    assert (icmp.orig.icmp_id, icmp.reply.icmp_type) == (0, 14)


def test_translations() -> None:
    for options, src, dst in (
        ("", None, None),
        ("-n", None, None),
        ("-n 192.0.2.1", NATRange.of("192.0.2.1"), None),
        ("-n192.0.2.1", NATRange.of("192.0.2.1"), None),
        ("-n 192.0.2.1:77", NATRange.of("192.0.2.1", 77), None),
        ("-g 192.0.2.1", None, NATRange.of("192.0.2.1")),
        ("-n 192.0.2.1 -g 192.0.2.2:5", NATRange.of("192.0.2.1"), NATRange.of("192.0.2.2", 5)),
    ):
        found = new(f"{ENTRY} {options}")
        assert (found.nat_src, found.nat_dst) == (src, dst), options
        assert found.flow.reply == found.flow.orig.inverse


def test_flows_that_cannot_be_made() -> None:
    for line in (
        "-I -t 1 -p udp -r 10.0.0.2 -q 10.0.0.1 --sport 1 --dport 2",
        "-I -t 1 -p icmp -r 10.0.0.2 -q 10.0.0.1 --icmp-type 8 --icmp-code 0",
    ):
        with pytest.raises(EncodeError):
            new(line)


def test_the_tuple_to_get() -> None:
    found = named_tuple(parse(shlex.split(ENTRY.replace("-I -t 100", "-G"))))
    assert found == new(ENTRY).flow.orig
    line = "-G -p udp -s 10.0.0.1 -d 10.0.0.2 --reply-port-src 1 --reply-port-dst 2"
    with pytest.raises(CommandFailure) as caught:
        named_tuple(parse(shlex.split(line)))
    assert caught.value.text == f"Operation failed: {os.strerror(0)}"
