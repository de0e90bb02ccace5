"""Test what command lines mean, and the messages about those that are not valid.

The messages are those of the program, whose answers to random command lines are compared in
tests/programs.
"""

from __future__ import annotations

import shlex
from contextlib import suppress
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from socket import AF_INET6

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conntrack_aio.cli.conntrack8 import label_names
from conntrack_aio.cli.conntrack8.actions import Action, Table
from conntrack_aio.cli.conntrack8.commands import Command, GivenNAT, GivenStatus
from conntrack_aio.cli.conntrack8.label_names import ALL_LABELS
from conntrack_aio.cli.conntrack8.messages import CommandFailure
from conntrack_aio.cli.conntrack8.options import LONG_OPTIONS, SHORT_OPTIONS
from conntrack_aio.cli.conntrack8.output_options import OutputOptions
from conntrack_aio.cli.conntrack8.parse import parse

LABELS = """\
# names
3 web
5 db
127 last
128 too large
x none
-1 negative
7
  9 two words
5 other
"""


@pytest.fixture(autouse=True)
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "connlabel.conf"
    path.write_text(LABELS)
    monkeypatch.setattr(label_names, "PATH", str(path))


def parsed(line: str) -> Command:
    return parse(shlex.split(line))


def failure(line: str) -> tuple[int, str]:
    """Return the status and the message of a command line that is not valid."""
    with pytest.raises(CommandFailure) as caught:
        parsed(line)
    return caught.value.status, caught.value.text


A, B = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
ENTRY = "-p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2"


def test_actions_and_tables() -> None:
    for line, action, table in (
        ("-L", Action.LIST, Table.CONNTRACK),
        ("--dump conntrack", Action.LIST, Table.CONNTRACK),
        ("-L c", Action.LIST, Table.CONNTRACK),
        ("-Lexpect", Action.EXPECT_LIST, Table.EXPECT),
        ("--dump=e", Action.EXPECT_LIST, Table.EXPECT),
        ("-L dy", Action.LIST, Table.DYING),
        ("-L u", Action.LIST, Table.UNCONFIRMED),
        ("expect -L", Action.LIST, Table.CONNTRACK),
        ("-L -- expect", Action.LIST, Table.CONNTRACK),
        ("-F", Action.FLUSH, Table.CONNTRACK),
        ("-Fexpect", Action.EXPECT_FLUSH, Table.EXPECT),
        ("-F expect", Action.EXPECT_FLUSH, Table.EXPECT),
        ("--flush=expect", Action.EXPECT_FLUSH, Table.EXPECT),
        ("-C", Action.COUNT, Table.CONNTRACK),
        ("--count expect", Action.EXPECT_COUNT, Table.EXPECT),
        ("-S expect", Action.EXPECT_STATISTICS, Table.EXPECT),
        ("-E expect", Action.EXPECT_EVENT, Table.EXPECT),
        ("-V", Action.VERSION, Table.CONNTRACK),
        ("--he", Action.HELP, Table.CONNTRACK),
        ("", Action.NONE, Table.CONNTRACK),
        ("word", Action.NONE, Table.CONNTRACK),
    ):
        assert parsed(line)[:2] == (action, table), line


def test_values() -> None:
    for line, name, value in (
        ("-L -s 10.0.0.1", "orig.src", A),
        ("-L --orig-s=10.0.0.1", "orig.src", A),
        ("-L -s10.1", "orig.src", A),
        ("-L -d 10.0.0.2", "orig.dst", B),
        ("-L -r 10.0.0.2", "reply.src", B),
        ("-L -q 10.0.0.1", "reply.dst", A),
        ("-L -s 10.0.0.1/8", "mask.src", IPv4Address("255.0.0.0")),
        ("-L -s 10.0.0.1/32", "mask.src", None),
        ("-L -s fd00::1/16", "mask.src", ip_address("ffff::")),
        ("-L -s fd00::1", "family", AF_INET6),
        ("-L -f ipv6", "family", AF_INET6),
        ("-L -p UDP", "proto", 17),
        ("-L -p 0x11", "proto", 17),
        ("-L -p udp --sport 5", "orig.sport", 5),
        ("-L -p udp --sport=65537", "orig.sport", 1),
        ("-L -p udp --reply-port-dst 5", "reply.dport", 5),
        ("-L -p gre --srckey 0x10", "orig.sport", 16),
        ("-L -p icmp --icmp-type 8", "reply.icmp_type", 0),
        ("-L -p icmp --icmp-id 8", "orig.icmp_id", 8),
        ("-L -p tcp --state LISTEN", "state", 9),
        ("-L -m 0x10/0xff", "mark", (16, 255)),
        ("-L -u ASSURED,!SEEN", "status", GivenStatus(4, 2)),
        ("-L -u UNREPLIED", "status", GivenStatus(0, 2)),
        ("-L -u UNSET", "status", GivenStatus(0, 0)),
        ("-L dying --mask-src 10.0.0.1", "mask.src", A),
        ("-L -w 5", "zone", 5),
        ("-L --orig-zone 5", "orig.zone", 5),
        ("-L --reply-zone 5", "reply.zone", 5),
        ("-L -c 5", "secmark", 5),
        ("-D -i 5", "id", 5),
        ("-L -n", "src_nat", GivenNAT()),
        ("-L -n 10.0.0.1:5", "src_nat", GivenNAT(A, 5)),
        ("-L -g 10.0.0.1", "dst_nat", GivenNAT(A)),
        ("-L -j [fd00::1]:5", "any_nat", GivenNAT(ip_address("fd00::1"), 5)),
        ("-L -l web,db", "labels", 1 << 3 | 1 << 5),
        ("-L -l web -l last", "labels", 1 << 3 | 1 << 127),
        ("-L -l 'two words'", "labels", 1 << 9),
        ("-U --label-add other", "labels_added", 1 << 5),
        ("-U --label-del", "labels_removed", ALL_LABELS),
        ("-U --label-del web", "labels_removed", 1 << 3),
        (
            "-L -o xml,Ext,id",
            "output",
            OutputOptions.XML | OutputOptions.EXTENDED | OutputOptions.ID,
        ),
        ("-L -o s", "output", OutputOptions.NONE),
        ("-E -e new,D -e u", "events", {"NEW", "UPDATES"}),
        ("-E -b 4096", "buffer_size", 4096),
        (f"-I -t 5 {ENTRY}", "timeout", 5),
    ):
        found: object = parsed(line)
        for part in name.split("."):
            found = getattr(found, part)
        assert found == value, line


def test_a_value_joined_to_an_option_with_an_optional_one_is_used() -> None:
    """The program ignores it, and acts on more entries than were meant."""
    for line, name, value in (
        ("-D -n10.0.0.1", "src_nat", GivenNAT(A)),
        ("-D -n10.0.0.1:5 word", "src_nat", GivenNAT(A, 5)),
        ("-D --src-nat=10.0.0.1", "src_nat", GivenNAT(A)),
        ("-D --src=10.0.0.1 --dst-n=10.0.0.2", "dst_nat", GivenNAT(B)),
        ("-L -j10.0.0.1", "any_nat", GivenNAT(A)),
        ("-U --label-del=web", "labels_removed", 1 << 3),
    ):
        assert getattr(parsed(line), name) == value, line
    for line, message in (
        ("-D -nx", "Invalid IP address `x'"),
        ("-D --src-nat=", "Invalid IP address `'"),
        ("-U --label-del=nosuch", "unknown label 'nosuch'"),
        ("-U --label-del=", "unknown label ''"),
        ("--flush=foo", "unknown type `foo'"),
    ):
        assert failure(line) == (2, message), line


def test_letters_joined_to_an_action_are_options_unless_they_name_a_table() -> None:
    """Version 1.4.7 ignores them, and version 1.4.9 reads them as options."""
    for line, same in (
        ("-Lo extended", "-L -o extended"),
        ("-Lp tcp --dport 80", "-L -p tcp --dport 80"),
        ("-Lzo id", "-L -z -o id"),
        ("-Dp udp", "-D -p udp"),
        ("-Dn10.0.0.1", "-D -n10.0.0.1"),
        ("-Ln 10.0.0.1", "-L -n 10.0.0.1"),
        ("-Em 5 word", "-E -m 5 word"),
        ("-Lex", "-L expect"),
        ("-Ldy", "-L dying"),
    ):
        assert parsed(line) == parsed(same), line
    for line, message in (
        ("-LD", "Invalid commands combination"),
        ("-Ffoo", "`oo' unsupported protocol"),
        ("-Fn", "Illegal option `--src-nat' with this command"),
        ("-Lp", "option `-Lp' requires an argument"),
        ("-Lx", "unknown option `-Lx'"),
    ):
        assert failure(line) == (2, message), line


def test_command_lines_that_are_not_valid() -> None:
    for line, message in (
        ("-X", "unknown option `-X'"),
        ("-L --xyz", "unknown option `--xyz'"),
        ("-L --s 1", "unknown option `--s'"),
        ("-L --zero=1", "unknown option `--zero=1'"),
        ("-L -s", "option `-s' requires an argument"),
        ("-L --src", "option `--src' requires an argument"),
        ("-L foo", "unknown type `foo'"),
        ("-L -D", "Invalid commands combination"),
        ("-U expect", "Can't do --update on expectations"),
        ("-A expect", "Can't do --add on expectations"),
        ("-D dying", "Can't do that command with tables `dying' and `unconfirmed'"),
        ("-L -s 300.1.1.1", "Invalid IP address `300.1.1.1'"),
        ("-L -s 10.0.0.1/33", "Invalid netmask"),
        ("-L -s 10.0.0.1/", "Invalid netmask"),
        ("-L -s 10.0.0.1 -d ::1", "mismatched address family"),
        ("-L -f ipv6 -s 10.0.0.1", "mismatched address family"),
        ("-L -r 10.0.0.0/8", "CIDR notation unavailable for `--reply-src'"),
        ("-L -n 10.0.0.0/8", "CIDR notation unavailable for `--src-nat'"),
        ("-L --mask-src 255.0.0.0", "Can't use --mask-src without --src"),
        ("-L -p foo", "`foo' unsupported protocol"),
        ("-L -f ipx", "`ipx' unsupported protocol"),
        ("-L -o foo", "Bad parameter `foo'"),
        ("-L -u ASSURED,,", "Bad parameter `,'"),
        ("-E -e NEW,x", "Bad parameter `x'"),
        ("-L -b 5", "Illegal option `--buffer-size' with this command"),
        ("-L -t 5", "Illegal option `--timeout' with this command"),
        ("-I", "You need to supply the `--protonum' option for this command"),
        ("-I -p udp -t 5", "you have to specify `--src' and `--dst'"),
        ("-I -p udp -t 5 -s 10.0.0.1 -r 10.0.0.2", "you have to specify `--src' and `--dst'"),
        ("-I -p udp -t 5 -r 10.0.0.2", "you have to specify `--reply-src' and `--reply-dst'"),
        ("-G -p udp -s 10.0.0.1 -d 10.0.0.2", "you have to specify `--sport' and `--dport'"),
        ("-L -p tcp --state FOO", "unknown TCP state `FOO'"),
        ("-L -p dccp --state FOO", "Unknown DCCP state `FOO'"),
        ("-L -n 10.0.0.1:65536", "Invalid port `65536'"),
        ("-L -n 10.0.0.1:", "No port specified after `:'"),
        ("-L -n [fd00::1", "No closing ']' around IPv6 address"),
        ("-L -n -j", "cannot specify `--src-nat' or `--dst-nat' with `--any-nat'"),
        ("-L -z -s 10.0.0.1", "Can't use -z with filtering parameters"),
        ("-L -z -r 10.0.0.1 --mask-src 255.0.0.0", "Can't use -z with filtering parameters"),
        ("-L -l nosuch", "unknown label 'nosuch'"),
        ("-L -p udp --tuple-port-src 1", "Illegal option `--tuple-port-src' with this command"),
        ("-L --sport 1 -p udp", "unknown option `--sport'"),
        ("-L -R x", "unknown option `-R'"),
    ):
        assert failure(line) == (2, message), line


def test_command_lines_with_status_1() -> None:
    for line, message in (
        (
            "-U --label-add web --label-del",
            "cannot use --label-add and --label-del at the same time",
        ),
        (
            "-L -o xml,save",
            "cannot combine save output with any other output type, use -o save only",
        ),
    ):
        assert failure(line) == (1, message), line


def test_a_deprecated_option_is_ignored_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("-L -a 1", "-L --nat-range=1"):
        assert parsed(line).action is Action.LIST
        assert capsys.readouterr().err == "WARNING: ignoring -a, deprecated option.\n"


def test_labels_without_a_file_of_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(label_names, "PATH", "/nonexistent/connlabel.conf")
    assert failure("-L -l web") == (2, "unknown label 'web'")
    assert parsed("-L -o labels").output == OutputOptions.LABELS
    assert capsys.readouterr().err == 2 * "nfct_labelmap_new: No such file or directory\n"


WORDS = st.sampled_from(
    [
        *(f"-{letter}" for letter in SHORT_OPTIONS),
        *(f"--{option.name}" for option in LONG_OPTIONS),
        *(
            "--sport",
            "--state",
            "--icmp-type",
            "--srckey",
            "--",
            "-",
            "tcp",
            "icmp",
            "gre",
            "expect",
        ),
        *("10.0.0.1", "fd00::1", "::ffff:1.2.3.4", "5", "web", "xml,save", "NEW", "UNREPLIED"),
    ]
)
BYTES = st.binary(max_size=12).map(
    lambda data: data.replace(b"\0", b"").decode(errors="surrogateescape")
)
JOINED = st.tuples(WORDS, st.sampled_from(["", "="]), BYTES | WORDS).map("".join)


@given(st.lists(WORDS | BYTES | JOINED, max_size=8))
@example(["-L", "-m", "9" * 5000])
@example(["-D", "-i", "\u0661"])
@example(["-n[", "-n[]", "-n]:5"])
def test_no_arguments_raise_anything_else(arguments: list[str]) -> None:
    with suppress(CommandFailure):
        parse(arguments)
