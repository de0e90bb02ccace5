"""Test the subcommand ``timeouts``. The kernel's policies show what it has changed."""

from __future__ import annotations

import errno
import json
from socket import AF_INET, AF_INET6

import anyio
import pytest
from support.command import do, run, run_here
from support.lab import Lab

from conntrack_aio import GenericTimeouts, TCPTimeouts, TimeoutPolicy, UDPTimeouts
from conntrack_aio.testing import FakeKernel

pytestmark = pytest.mark.kernel

WEB = TimeoutPolicy.of("web", TCPTimeouts(established=7200), family=AF_INET)
DNS = TimeoutPolicy.of("dns", UDPTimeouts(replied=9), family=AF_INET6)


def add(lab: Lab, *policies: TimeoutPolicy) -> None:
    """Create policies."""
    for policy in policies:
        do(lab, lambda conn, policy=policy: conn.timeouts.create(policy))  # type: ignore[misc]


def policies(lab: Lab) -> dict[str, TimeoutPolicy]:
    """Return the kernel's policies by name."""
    return {policy.name: policy for policy in do(lab, lambda conn: conn.timeouts.list())}


def test_policies_are_printed_with_their_timeouts_and_rules(lab: Lab) -> None:
    add(lab, WEB, DNS)
    status, out, err = run(lab, "timeouts", "list")
    assert (status, err) == (0, "")
    assert "dns ipv6 udp unreplied=30 replied=9 rules=0\n" in out
    assert out.count("\n") == 2
    status, out, err = run(lab, "timeouts", "get", "web", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["timeouts"]["established"] == 7200
    status, out, err = run(lab, "timeouts", "get", "nonsense")
    assert (status, out) == (1, "")
    assert "ENOENT" in err


def test_a_policy_is_created_updated_replaced_and_deleted(lab: Lab) -> None:
    arguments = ("web", "ipv4", "tcp", "established=2h", "close=5")
    status, out, err = run(lab, "timeouts", "create", *arguments)
    assert (status, err) == (0, "conntrack-aio: 1 timeout policy created\n")
    assert out.startswith("web ipv4 tcp syn_sent=120 ")
    assert " established=7200 " in out

    assert run(lab, "timeouts", "update", "web", "established=60").status == 0
    kept = policies(lab)["web"].timeouts
    assert isinstance(kept, TCPTimeouts)
    assert (kept.established, kept.close) == (60, 5)

    assert run(lab, "timeouts", "replace", "web", "ipv4", "tcp", "syn_sent=9").status == 0
    replaced = policies(lab)["web"].timeouts
    assert isinstance(replaced, TCPTimeouts)
    assert (replaced.syn_sent, replaced.established, replaced.close) == (9, 432000, 10)

    status, out, err = run(lab, "timeouts", "delete", "web", "--dry-run")
    assert (status, err) == (0, "conntrack-aio: 1 timeout policy would be deleted\n")
    assert policies(lab)
    status, out, err = run(lab, "timeouts", "delete", "web")
    assert (status, err) == (0, "conntrack-aio: 1 timeout policy deleted\n")
    assert out.startswith("web ipv4 tcp syn_sent=9 ")
    assert not policies(lab)


def test_a_dry_run_changes_no_policy(lab: Lab) -> None:
    arguments = ("web", "ipv4", "tcp", "established=2h")
    status, out, err = run(lab, "timeouts", "create", *arguments, "--dry-run")
    assert (status, err) == (0, "conntrack-aio: 1 timeout policy would be created\n")
    assert not policies(lab)
    created = run(lab, "timeouts", "create", *arguments).out
    assert created == out.replace("\n", " rules=0\n")
    before = policies(lab)

    status, out, err = run(lab, "timeouts", "create", *arguments, "--dry-run")
    assert (status, out) == (1, "")
    assert "there is one of this name; `timeouts update` changes" in err
    for verb, rest in (
        ("replace", ("web", "ipv4", "tcp", "close=5")),
        ("update", ("web", "close=6")),
    ):
        status, planned, err = run(lab, "timeouts", verb, *rest, "--dry-run")
        assert (status, err) == (0, f"conntrack-aio: 1 timeout policy would be {verb}d\n")
        assert policies(lab) == before
        assert run(lab, "timeouts", verb, *rest).out == planned
        before = policies(lab)
    status, out, err = run(lab, "timeouts", "replace", "web", "ipv6", "tcp", "--dry-run")
    assert (status, out) == (1, "")
    assert "its family and its protocol cannot change" in err
    assert run(lab, "timeouts", "replace", "web", "ipv6", "tcp").status == 1
    assert run(lab, "timeouts", "update", "none", "close=6", "--dry-run").status == 1
    for name in ("", "n" * 32):
        ran = run(lab, "timeouts", "create", name, "ipv4", "tcp", "--dry-run")
        assert (ran.status, ran.out) == (2, "")
    assert policies(lab) == before


def test_a_dry_run_changes_no_default_timeouts(lab: Lab) -> None:
    before = run(lab, "timeouts", "defaults", "udp").out
    arguments = ("timeouts", "set-defaults", "udp", "replied=77")
    status, out, err = run(lab, *arguments, "--dry-run")
    assert (status, err) == (0, "conntrack-aio: default timeouts of udp would be changed\n")
    assert out.endswith(" replied=77\n")
    assert run(lab, "timeouts", "defaults", "udp").out == before
    assert run(lab, *arguments) == (0, out, "")
    json_line = run(lab, *arguments, "--dry-run", "--json", "--quiet")
    assert json.loads(json_line.out)["timeouts"]["replied"] == 77


def test_the_protocol_generic_is_every_other(lab: Lab) -> None:
    assert run(lab, "timeouts", "create", "rest", "ipv6", "generic", "timeout=3").status == 0
    policy = policies(lab)["rest"]
    assert (policy.family, policy.proto) == (AF_INET6, 255)
    assert policy.timeouts == GenericTimeouts(timeout=3)


def test_failures_say_what_to_do(lab: Lab) -> None:
    add(lab, WEB)
    status, out, err = run(lab, "timeouts", "create", "web", "ipv4", "tcp")
    assert (status, out) == (1, "")
    assert "`timeouts update` changes some of its timeouts" in err
    status, out, err = run(lab, "timeouts", "update", "web", "replied=4")
    assert (status, out) == (2, "")
    assert "unknown timeout of tcp 'replied'" in err
    for verb in (("update", "dns", "replied=4"), ("delete", "dns")):
        status, out, err = run(lab, "timeouts", *verb)
        assert (status, out) == (1, "")
        assert "ENOENT" in err


@pytest.mark.program("iptables-legacy", "iptables")
def test_unused_policies_are_deleted_and_those_of_rules_kept(lab: Lab) -> None:
    add(lab, WEB, DNS)
    rule = ("-t", "raw", "-A", "OUTPUT", "-p", "tcp", "-j", "CT", "--timeout", "web")
    lab.program("iptables-legacy", *rule)
    assert " rules=1\n" in run(lab, "timeouts", "get", "web").out
    status, out, err = run(lab, "timeouts", "delete", "--unused")
    assert (status, err) == (0, "conntrack-aio: 1 timeout policy deleted\n")
    assert out.startswith("dns ")
    assert set(policies(lab)) == {"web"}


def test_a_failure_in_between_reports_how_many_were_deleted() -> None:
    kernel = FakeKernel()

    async def add_both() -> None:
        async with kernel.connect() as conn:
            await conn.timeouts.create(WEB)
            await conn.timeouts.create(DNS)

    anyio.run(add_both)
    deletions = iter((False, True))
    kernel.refuse(errno.EPERM, lambda request: request.verb == "delete policy" and next(deletions))
    with kernel.installed():
        status, out, err = run_here("timeouts", "delete", "--unused")
    assert (status, out) == (1, "")
    first, second = err.splitlines()
    assert first == "conntrack-aio: not finished: 1 timeout policy deleted"
    assert "EPERM" in second
    assert len(kernel.timeout_policies) == 1


def test_every_default_timeout_has_the_setting_that_a_long_one_is_led_to(lab: Lab) -> None:
    lines = run(lab, "timeouts", "defaults").out.splitlines()
    settings = run(lab, "sysctl").out
    for proto, *values in map(str.split, lines):
        for value in values:
            name, _, seconds = value.partition("=")
            err = run_here("timeouts", "set-defaults", proto, f"{name}=30d").err
            if ": conntrack-aio sysctl " in err:
                setting = err.split()[-1].removesuffix("=2592000")
                assert f"nf_conntrack_{setting} = {seconds}\n" in settings
            else:
                assert (proto, name) in {
                    ("tcp", "syn_sent2"),
                    ("sctp", "heartbeat_acked"),
                    *(("udplite", name) for name in ("unreplied", "replied")),
                }


def test_defaults_are_printed_and_changed(lab: Lab) -> None:
    out = run(lab, "timeouts", "defaults").out
    assert "\nudp unreplied=30 replied=120\n" in out
    assert "\ngeneric timeout=600\n" in out
    status, out, err = run(lab, "timeouts", "set-defaults", "udp", "replied=99")
    assert (status, out, err) == (0, "udp unreplied=30 replied=99\n", "")
    assert lab.read_sysctl("nf_conntrack_udp_timeout_stream") == "99"
    out = run(lab, "timeouts", "defaults", "udp", "--json").out
    assert json.loads(out) == {
        "proto": 17,
        "timeouts": {"kind": "udp", "unreplied": 30, "replied": 99},
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("create web ipv4 tpc", "unknown protocol 'tpc'; did you mean 'tcp'"),
        ("create web ip tcp", "unknown family 'ip'"),
        ("create web ipv4 tcp established", "'established' is not a timeout such as"),
        ("create web ipv4 tcp established=soon", "invalid number of seconds 'soon'"),
        ("create web ipv4 tcp close=1 close=2", "close is given twice"),
        (
            "create web ipv4 tcp estab=1",
            "unknown timeout of tcp 'estab'; did you mean 'established'",
        ),
        (
            "set-defaults tcp retrans=30d",
            "most that a kernel with 1000 ticks per second can count; the setting takes more "
            "where the kernel has fewer: conntrack-aio sysctl tcp_timeout_max_retrans=2592000\n",
        ),
        ("set-defaults tcp syn_sent2=30d", "1000 ticks per second can count\n"),
        ("create web ipv4 tcp established=30d", "1000 ticks per second can count\n"),
        ("update web", "the following arguments are required: TIMEOUT"),
        ("delete", "pass either a NAME or --unused"),
        ("delete web --unused", "pass either a NAME or --unused"),
        ("set-defaults udp", "the following arguments are required: TIMEOUT"),
    ],
)
def test_wrong_arguments_are_errors(line: str, message: str) -> None:
    status, out, err = run_here("timeouts", *line.split())
    assert (status, out) == (2, "")
    assert message in err
