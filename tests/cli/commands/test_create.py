"""Test the subcommand ``create``. The kernel's table shows what it has created."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest
from support.command import count, create, run, run_here, table
from support.lab import Lab

from conntrack_aio import Flow, Helper, Status, TCPInfo, TCPState, Tuple

pytestmark = pytest.mark.kernel

WORDS = ("tcp", "10.0.0.1:1000", "10.1.0.1:80")
ORIG = Tuple.tcp("10.0.0.1", 1000, "10.1.0.1", 80)
CREATED = "conntrack-aio: 1 flow created\n"


def created(lab: Lab, *arguments: str) -> Flow:
    """Create the only entry, and return it as the kernel has it."""
    status, _, err = run(lab, "create", *arguments)
    assert (status, err) == (0, CREATED)
    (flow,) = table(lab).values()
    return flow


def test_it_prints_the_entry_as_the_kernel_has_it(lab: Lab) -> None:
    status, out, err = run(lab, "create", *WORDS, "--timeout", "10m")
    assert (status, out, err) == (
        0,
        "tcp ESTABLISHED 10.0.0.1:1000 -> 10.1.0.1:80 [UNREPLIED] timeout=600\n",
        CREATED,
    )
    (flow,) = table(lab).values()
    assert (flow.orig, flow.reply, flow.mark) == (ORIG, ORIG.inverse, 0)


def test_a_timeout_that_the_kernel_shortens_is_reported(lab: Lab) -> None:
    most = "21474836"  # no kernel with more than 100 ticks per second keeps it
    status, _, err = run(lab, "create", *WORDS, "--timeout", most)
    (flow,) = table(lab).values()
    assert flow.timeout is not None
    assert (status, err.splitlines()[0]) == (0, CREATED.strip())
    is_shortened = flow.timeout < int(most) - 60
    assert ("the kernel keeps no longer timeout than" in err) == is_shortened
    status, _, err = run(lab, "update", "all", "--timeout", "100d")
    (flow,) = table(lab).values()
    assert flow.timeout is not None
    assert status == 0
    assert ("the kernel keeps no longer timeout than" in err) == (flow.timeout < 8600000)
    one = run(lab, "update", "--tuple", str(ORIG), "--timeout", "100d")
    assert one == (status, "", err)


def test_a_dry_run_prints_the_flow_and_creates_none(lab: Lab) -> None:
    arguments = (*WORDS, "--timeout", "1h30m", "--mark", "7", "--dry-run")
    status, out, err = run(lab, "create", *arguments)
    assert (status, err) == (0, "conntrack-aio: 1 flow would be created\n")
    assert out.startswith("tcp ")
    assert "timeout=5400" in out
    assert count(lab) == 0
    create(lab, Flow.tcp("10.0.0.1", 1000, "10.1.0.1", 80, timeout=600))
    status, out, err = run(lab, "create", *arguments)
    assert (status, out) == (1, "")
    assert "an entry already has the tuple" in err


def test_gre_has_keys_in_the_place_of_ports(lab: Lab) -> None:
    status, _, err = run(lab, "create", "gre", "10.1.0.1", "10.1.0.2", "--timeout", "60")
    assert status == 2
    assert "gre needs a key as the port: 10.1.0.1:KEY, 0 if it has none" in err
    assert created(lab, "gre", "10.1.0.1:0", "10.1.0.2:0", "--timeout", "60").orig.proto == 47


def test_fields_are_set(lab: Lab) -> None:
    flow = created(
        lab,
        *(*WORDS, "--timeout", "600", "--mark", "0x50", "--zone", "7", "--helper", "ftp"),
        *("--state", "syn_recv", "--status", "seen_reply,assured"),
    )
    assert (flow.mark, flow.zone, flow.helper) == (0x50, 7, Helper(name="ftp"))
    assert isinstance(flow.protoinfo, TCPInfo)
    assert flow.protoinfo.state is TCPState.SYN_RECV
    assert flow.status is not None
    assert flow.status & Status.ASSURED
    assert flow.status & Status.SEEN_REPLY


def test_a_zone_in_the_tuple_is_that_of_its_direction(lab: Lab) -> None:
    flow = created(lab, "udp", "10.0.0.1:1", "10.0.0.2:2", "zone=3", "--timeout", "60")
    assert (flow.zone, flow.orig.zone, flow.reply.zone) == (None, 3, None)


@pytest.mark.program("nft", "nftables")
def test_labels_are_set_if_a_rule_uses_labels(lab: Lab) -> None:
    lab.program("nft", "-f", "-", input="table inet t {\nchain c {\nct label set 1\n}\n}\n")
    assert created(lab, *WORDS, "--timeout", "60", "--labels", "1,9").labels == 1 << 1 | 1 << 9


def test_it_reports_that_the_kernel_dropped_the_labels(lab: Lab) -> None:
    status, _, err = run(lab, "create", *WORDS, "--timeout", "60", "--labels", "1")
    assert status == 0
    assert err == (
        f"{CREATED}conntrack-aio: the kernel dropped the labels: no rule of this namespace uses "
        "labels\n"
    )


def test_source_and_destination_are_translated(lab: Lab) -> None:
    flow = created(
        lab,
        *(*WORDS, "--timeout", "60"),
        *("--snat", "203.0.113.1-203.0.113.4:2000-2009", "--dnat", "10.9.9.9"),
    )
    assert flow.reply.src == ip_address("10.9.9.9")
    assert flow.reply.dport is not None
    assert ip_address("203.0.113.1") <= flow.reply.dst <= ip_address("203.0.113.4")  # type: ignore[operator]
    assert 2000 <= flow.reply.dport <= 2009
    assert flow.nat is not None


def test_ipv6_is_translated_to_an_address_and_port(lab: Lab) -> None:
    flow = created(
        lab,
        *("udp", "[fd00::1]:5", "[fd00::2]:53", "--timeout", "60", "--snat", "[fd00::9]:77"),
    )
    assert (flow.reply.dst, flow.reply.dport) == (ip_address("fd00::9"), 77)


def test_a_reply_that_differs(lab: Lab) -> None:
    flow = created(lab, *WORDS, "--timeout", "60", "--reply", "tcp 10.5.5.5:81 10.6.6.6:1001")
    assert flow.reply == Tuple.tcp("10.5.5.5", 81, "10.6.6.6", 1001)


def test_a_master(lab: Lab) -> None:
    master = Flow.tcp("10.0.0.1", 1000, "10.1.0.1", 21, timeout=600)
    master.helper = Helper(name="ftp")
    create(lab, master)
    arguments = ("tcp", "10.0.0.1:2000", "10.1.0.1:20", "--timeout", "60")
    status, out, _ = run(lab, "create", *arguments, "--master", str(master.orig), "--json")
    assert status == 0
    flow = json.loads(out)
    assert flow["master"]["dport"] == 21
    assert "EXPECTED" in flow["status"]
    assert count(lab) == 2


def test_an_entry_that_exists_is_a_failure_that_says_how_to_change_it(lab: Lab) -> None:
    create(lab, Flow.tcp("10.0.0.1", 1000, "10.1.0.1", 80, timeout=600, mark=3, zone=7))
    status, out, err = run(lab, "create", *WORDS, "--zone", "7", "--timeout", "60")
    assert (status, out) == (1, "")
    assert "EEXIST" in err
    text = f"{ORIG} zone 7"
    assert err.endswith(f". To change the entry: conntrack-aio update --tuple '{text}'\n")
    assert run(lab, "update", "--tuple", text, "--mark", "4").status == 0
    assert [flow.mark for flow in table(lab).values()] == [4]


def test_a_missing_master_is_a_failure(lab: Lab) -> None:
    master = "tcp 10.0.0.1:1 10.0.0.2:2"
    status, out, err = run(lab, "create", *WORDS, "--timeout", "60", "--master", master)
    assert (status, out) == (1, "")
    assert "ENOENT" in err
    assert count(lab) == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tcp 10.0.0.1:1 10.0.0.2:2", "the following arguments are required: --timeout"),
        ("--timeout 5", "the following arguments are required: TUPLE"),
        ("tcp 10.0.0.1 10.0.0.2:2 --timeout 5", "tcp needs a port"),
        ("tcp 10.0.0.1:1 10.0.0.2:2 --timeout soon", "invalid number of seconds 'soon'"),
        ("tcp 10.0.0.1:1 10.0.0.2:2 --timeout 0", "the entry would end at once"),
        ("tcp 10.0.0.1:1 10.0.0.2:2 --timeout 4294967295", "range from 1 to 21474836 seconds"),
        ("icmp 10.0.0.1 10.0.0.2 id=1 type=3 --timeout 5", "must be a type with a reply"),
        (
            "tcp 10.0.0.1:1 10.0.0.2:2 --timeout 5 --snat 10.0.0.3 --reply tcp",
            "argument --reply: expected the source",
        ),
        ("tcp 10.0.0.1:1 10.0.0.2:2 --timeout 5 --snat 10.0.0.9-10.0.0.1", "argument --snat: "),
        ("tcp 10.0.0.1:1 10.0.0.2:2 --timeout 5 --snat :", "argument --snat: "),
        ("tcp 10.0.0.1:1 10.0.0.2:2 --timeout 5 --status confirmed", "unknown status 'confirmed'"),
        ("tcp 10.0.0.1:1 10.0.0.2:2 --timeout 5 --state 99", "unknown TCP state '99'"),
        ("udp 10.0.0.1:1 10.0.0.2:2 --timeout 5 --state close", "only flows of tcp have this"),
    ],
)
def test_wrong_arguments_are_errors_before_anything_is_created(line: str, message: str) -> None:
    status, out, err = run_here("create", *line.split())
    assert (status, out) == (2, "")
    assert message in err


def test_an_arrow_may_be_an_argument(lab: Lab) -> None:
    arrow = ("tcp", "10.0.0.1:1", "->", "10.0.0.2:2")
    assert run(lab, "create", *arrow, "--timeout", "60").status == 0
    assert count(lab) == 1


def test_a_line_of_list_is_not_silently_reduced_to_its_tuple() -> None:
    line = "tcp CLOSE 10.0.0.1:1 -> 10.0.0.2:2 [ASSURED] timeout=60 mark=0x5 zone=3"
    status, out, err = run_here("create", line, "--timeout", "60")
    assert (status, out) == (2, "")
    assert err.endswith(
        "argument TUPLE: the line of a flow has more than a tuple; pass "
        "'tcp 10.0.0.1:1 -> 10.0.0.2:2', and the rest as options\n"
    )


def test_a_reply_and_a_translation_exclude_each_other() -> None:
    arguments = (*WORDS, "--timeout", "60", "--reply", str(ORIG.inverse), "--dnat", "10.0.0.3")
    status, _, err = run_here("create", *arguments)
    assert status == 2
    assert err.endswith("argument --dnat: not allowed with --reply\n")
