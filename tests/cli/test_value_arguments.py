"""Test how arguments of the command line become values of flows."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrack_aio import ExpectFlags, NATRange, SCTPInfo, SCTPState, Status, SynProxy, TCPState
from conntrack_aio.cli import value_arguments as values
from conntrack_aio.model import labels


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (values.parse_mark, "0xffffffff", 0xFFFFFFFF),
        (values.parse_mark, "010", 10),
        (values.parse_masked_mark, "16", (16, None)),
        (values.parse_masked_mark, "0x10/0xF0", (0x10, 0xF0)),
        (values.parse_masked_mark, "0/0", (0, 0)),
        (values.parse_zone, "65535", 65535),
        (values.parse_family, "inet", socket.AF_INET),
        (values.parse_labels, "0,127, 5", 1 | 1 << 127 | 1 << 5),
        (values.parse_status, "assured,Seen_Reply", Status.ASSURED | Status.SEEN_REPLY),
        (values.parse_status, "ASSURED|HELPER", Status.ASSURED | Status.HELPER),
        (values.parse_expect_flags, "permanent", ExpectFlags.PERMANENT),
        (values.parse_tcp_state, "time_wait", TCPState.TIME_WAIT),
        (values.parse_family, "IPv6", socket.AF_INET6),
        (values.parse_protocol, "udp", 17),
        (values.parse_protocol, "132", 132),
        (values.parse_hex, "00ff", b"\0\xff"),
        (
            values.parse_protoinfo,
            '{"kind": "sctp", "state": "CLOSED", "vtag_orig": 1, "vtag_reply": 2}',
            SCTPInfo(state=SCTPState.CLOSED, vtag_orig=1, vtag_reply=2),
        ),
        (
            values.json_object(SynProxy),
            '{"isn": 1, "its": 2, "tsoff": 3}',
            SynProxy(isn=1, its=2, tsoff=3),
        ),
    ],
)
def test_values_are_read(parse: Callable[[str], object], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", NATRange.of("10.0.0.1")),
        ("10.0.0.1:80", NATRange.of("10.0.0.1", 80)),
        (
            "10.0.0.1-10.0.0.9:80-90",
            NATRange(
                address_min=ip_address("10.0.0.1"),
                address_max=ip_address("10.0.0.9"),
                port_min=80,
                port_max=90,
            ),
        ),
        (":80-90", NATRange(port_min=80, port_max=90)),
        ("fd00::1", NATRange.of("fd00::1")),
        ("[fd00::1]", NATRange.of("fd00::1")),
        ("[fd00::1]:80", NATRange.of("fd00::1", 80)),
        (
            "[fd00::1-fd00::9]:80",
            NATRange(
                address_min=ip_address("fd00::1"), address_max=ip_address("fd00::9"), port_min=80
            ),
        ),
    ],
)
def test_ranges_to_translate_to_are_read(text: str, expected: NATRange) -> None:
    assert values.parse_nat_range(text) == expected


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (values.parse_mark, "4294967296", "invalid mark '4294967296'; expected 0 to 4294967295"),
        (values.parse_mark, "-1", "invalid mark '-1'"),
        (values.parse_mark, "1_0", "invalid mark '1_0'"),
        (values.parse_mark, "٣", "invalid mark"),
        (values.parse_masked_mark, "1/", "invalid mark ''"),
        (values.parse_masked_mark, "0x11/0x10", "it has bits beside its mask"),
        (values.parse_zone, "65536", "invalid zone '65536'; expected 0 to 65535"),
        (values.parse_labels, "128", "from 0 to 127"),
        (values.parse_labels, "", "a label is empty"),
        (values.parse_labels, "1,,2", "a label is empty"),
        (values.parse_status, "assure", "did you mean 'assured'?"),
        (values.parse_status, "confirmed", "unknown status 'confirmed'"),
        (values.parse_expect_flags, "userspace", "unknown flag 'userspace'"),
        (values.parse_tcp_state, "estab", "did you mean 'established'"),
        (values.parse_family, "inet4", "unknown family 'inet4'"),
        (values.parse_protocol, "256", "256"),
        (values.parse_protocol, "tpc", "did you mean 'tcp'"),
        (values.parse_hex, "0g", "'0g' is not hexadecimal digits"),
        (values.parse_protoinfo, "{}", 'expected an object with "kind"'),
        (values.parse_protoinfo, "[]", 'expected an object with "kind"'),
        (values.parse_protoinfo, '{"kind": []}', 'expected an object with "kind"'),
        (values.parse_protoinfo, '{"kind": "tcp", "stat": 1}', "did you mean 'state'"),
        (values.json_object(SynProxy), "{", "not JSON: "),
        (values.json_object(SynProxy), "[" * 100_000, "not JSON: "),
        (values.json_object(SynProxy), '{"isn": -1}', "isn"),
        (values.parse_nat_range, "", "an address or a port"),
        (values.parse_nat_range, "nonsense", "must be an address"),
        (values.parse_nat_range, "10.0.0.9-10.0.0.1", "must not be less"),
        (values.parse_nat_range, "10.0.0.1-fd00::1", "family"),
        (values.parse_nat_range, "10.0.0.1:", "invalid port ''"),
        (values.parse_nat_range, ":90-80", "must not be less"),
        (values.parse_nat_range, "10.0.0.1:65536", "invalid port '65536'"),
    ],
)
def test_wrong_values_are_errors(parse: Callable[[str], object], text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        parse(text)
    assert message in str(caught.value)


def test_labels_are_read_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "connlabel.conf"
    file.write_text("3 web\n9 mail\n")
    monkeypatch.setattr(labels, "PATHS", (str(file),))
    assert values.parse_labels("web,mail,1") == 1 << 3 | 1 << 9 | 1 << 1
    with pytest.raises(argparse.ArgumentTypeError, match=r"unknown label 'wep'.*'web'"):
        values.parse_labels("wep")


@given(st.text() | st.text(alphabet='0123456789.:[]-/,|xfmhd{}"'))
def test_any_text_is_a_value_or_an_error(text: str) -> None:
    for parse in (
        *(values.parse_mark, values.parse_masked_mark, values.parse_zone),
        *(values.parse_status, values.parse_expect_flags, values.parse_tcp_state),
        *(values.parse_family, values.parse_protocol, values.parse_hex, values.parse_protoinfo),
        *(values.json_object(SynProxy), values.parse_nat_range, values.parse_labels),
    ):
        with suppress(argparse.ArgumentTypeError):
            parse(text)
