"""Test that errors of the library are reported in the words of the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.command import run_here

import conntrack_aio
from conntrack_aio import EncodeError, EventsLost
from conntrack_aio.cli.command import build_parser
from conntrack_aio.cli.error_texts import LIBRARY_PHRASES, text_of, wrong_argument
from conntrack_aio.testing import FakeKernel

PACKAGE = Path(conntrack_aio.__file__).parent


def test_every_phrase_is_one_of_the_library() -> None:
    sources = (path for path in PACKAGE.rglob("*.py") if "cli" not in path.parts)
    # Adjacent literals are one text.
    text = re.sub(r'"\s*\n\s*f?"', "", "".join(path.read_text("utf-8") for path in sources))
    for phrase in LIBRARY_PHRASES:
        assert phrase in text


def test_lost_events_name_the_option() -> None:
    assert text_of(EventsLost(3)).endswith("a larger --receive-buffer holds more events")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (("nat_src", "address_min"), "argument --snat: is wrong"),
        (("nat_dst", "port_max"), "argument --dnat: port_max: is wrong"),
        (("seqadj_orig",), "argument --seqadj-orig: is wrong"),
        (("reply", "proto"), "argument --reply: proto: is wrong"),
        (("orig", "sport"), "argument TUPLE: sport: is wrong"),
        (("helper", "name"), "argument --helper: is wrong"),
        (("elsewhere",), None),
        ((), None),
    ],
)
def test_a_field_is_named_by_its_option(path: tuple[str, ...], message: str | None) -> None:
    parser = build_parser(["create"]).subcommands["create"]
    assert wrong_argument(parser, EncodeError("is wrong", path)) == message


TUPLE = ("10.0.0.1:3", "10.0.0.2:2")
CREATE = ("create", "tcp", *TUPLE, "--timeout", "5")
EXPECT = ("expect", "create", "tcp", *TUPLE, "--master", "tcp 10.0.0.1:1 10.0.0.2:2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("create", "udp", "[fd00::1]:8", "[fd00::2]:8", "--timeout=5", "--snat", "1.2.3.4"),
            "argument --snat: 1.2.3.4 is not an address of the flow's family",
        ),
        ((*CREATE, "--dnat", "fd00::1"), "argument --dnat: fd00::1 is not an address"),
        ((*CREATE, "--helper", "a" * 30), "argument --helper: "),
        ((*CREATE, "--reply", "udp 10.0.0.2:2 10.0.0.1:3"), "argument --reply: proto: must be"),
        ((*CREATE, "--seqadj-orig", "{}"), "argument --seqadj-orig: correction_pos, "),
        ((*CREATE, "--protoinfo", '{"kind": "sctp"}'), "argument --protoinfo: only flows of sctp"),
        ((*CREATE, "--master", "tcp 10.0.0.1:1 10.0.0.2:2 zone=3"), "argument --master: zone: "),
        ((*EXPECT, "--nat", "[fd00::1]:3"), "argument --nat: its addresses must have the family"),
        (("timeouts", "create", "", "ipv4", "tcp"), "argument NAME: a name must not be empty"),
        (("timeouts", "get", ""), "argument NAME: a name must not be empty"),
        (("count", "family", "4"), "family must be one of ipv4, ipv6, inet, inet6; got 4"),
        (("update", "all", "--seqadj-reply", "{}"), "argument --seqadj-reply: correction_pos, "),
    ],
)
def test_wrong_values_are_wrong_arguments(arguments: tuple[str, ...], message: str) -> None:
    kernel = FakeKernel()
    with kernel.installed():
        status, out, err = run_here(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert not re.search(r"IPv[46]Address|<[A-Z]|Info\(", err)
