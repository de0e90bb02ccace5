"""Test ``sysctl``: printing and setting the settings of connection tracking."""

from __future__ import annotations

import json
import re

import pytest
from support.command import do, run_process
from support.lab import Lab

from conntrack_aio import ConntrackSysctls
from conntrack_aio.cli.field_descriptions import field_descriptions
from conntrack_aio.cli.settings import parse_settings
from conntrack_aio.model.settings import SETTINGS

PREFIX = "net.netfilter.nf_conntrack_"


def test_all_settings_of_this_kernel_are_printed(lab: Lab) -> None:
    status, out, err = run_process(lab, "sysctl")
    assert (status, err) == (0, "")
    lines = dict(line.split(" = ") for line in out.splitlines())
    assert lines[f"{PREFIX}events"] == "1"
    assert lines[f"{PREFIX}count"] == "0"
    assert lines[f"{PREFIX}udp_timeout"] == lab.read_sysctl("nf_conntrack_udp_timeout").strip()


def test_settings_are_set_and_printed(lab: Lab) -> None:
    arguments = ("acct=1", "nf_conntrack_udp_timeout=40", f"{PREFIX}tcp_loose = off", "events")
    assert run_process(lab, "sysctl", *arguments) == (
        0,
        f"{PREFIX}acct = 1\n{PREFIX}udp_timeout = 40\n{PREFIX}tcp_loose = 0\n{PREFIX}events = 1\n",
        "",
    )
    for name, value in (("acct", "1"), ("udp_timeout", "40"), ("tcp_loose", "0")):
        assert lab.read_sysctl(f"nf_conntrack_{name}").strip() == value


@pytest.mark.parametrize(
    "line",
    [
        "acct = 1 udp_timeout = 40 events",
        "acct= 1 udp_timeout =40 events",
        "acct=1 udp_timeout = 40 events",
    ],
)
def test_a_setting_and_its_value_may_be_several_arguments(line: str) -> None:
    changes = {"acct": 1, "udp_timeout": 40}
    assert parse_settings(line.split()) == (["acct", "udp_timeout", "events"], changes)


def test_a_dry_run_sets_nothing(lab: Lab) -> None:
    arguments = ("acct=1", "udp_timeout=40", "tcp_loose", "--dry-run")
    assert run_process(lab, "sysctl", *arguments) == (
        0,
        f"{PREFIX}acct = 1\n{PREFIX}udp_timeout = 40\n{PREFIX}tcp_loose = 1\n",
        "conntrack-aio: 2 settings would be set\n",
    )
    line = run_process(lab, "sysctl", "events=auto", "--dry-run", "--json", "--quiet")
    assert (json.loads(line.out)["value"], line.err) == ("auto", "")
    for name, value in (("acct", "0"), ("udp_timeout", "30"), ("events", "1")):
        assert lab.read_sysctl(f"nf_conntrack_{name}").strip() == value
    settings = do(lab, lambda conn: conn.sysctls.read())
    missing = next(name for name in SETTINGS if getattr(settings, name) is None)
    for wrong in (f"{missing}=1", "max=100"):  # the limit is that of the whole machine
        for dry_run in (["--dry-run"], []):
            status, out, err = run_process(lab, "sysctl", wrong, *dry_run)
            assert (status, out) == (1, "")
            assert err.startswith(f"conntrack-aio: set {PREFIX}{wrong.replace('=', ' to ')}: ")


def test_nothing_is_set_if_one_argument_is_wrong(lab: Lab) -> None:
    status, out, err = run_process(lab, "sysctl", "acct=1", "tcp_lose=1")
    assert (status, out) == (2, "")
    assert "unknown setting 'tcp_lose'; did you mean 'tcp_loose'" in err
    assert lab.read_sysctl("nf_conntrack_acct").strip() == "0"


def test_json_says_what_a_setting_means(lab: Lab) -> None:
    status, out, err = run_process(lab, "sysctl", "events", "udp_timeout=40", "count", "--json")
    assert (status, err) == (0, "")
    events, timeout, count = map(json.loads, out.splitlines())
    assert events == {
        "name": "events",
        "sysctl": f"{PREFIX}events",
        "value": "always",
        "settable": True,
        "whole_machine": False,
        "description": "The flows that emit events.",
    }
    assert (timeout["value"], timeout["unit"]) == (40, "seconds")
    assert (count["value"], count["settable"]) == (0, False)


def test_settings_are_explained(lab: Lab) -> None:
    assert run_process(lab, "sysctl", "tcp_loose", "--explain")[1] == (
        "# Whether the kernel tracks TCP connections that it did not see from their\n"
        f"# start.\n{PREFIX}tcp_loose = 1\n"
    )


def test_a_setting_of_the_whole_machine_is_refused_clearly(lab: Lab) -> None:
    status, out, err = run_process(lab, "sysctl", "max=100000")
    assert (status, out) == (1, "")
    assert "The whole machine has one" in err


def test_a_setting_that_this_kernel_does_not_have_is_a_failure(lab: Lab) -> None:
    lines = run_process(lab, "sysctl")[1]
    missing = next(name for name in ("helper", "dccp_loose") if f"{PREFIX}{name} =" not in lines)
    status, out, err = run_process(lab, "sysctl", missing, "acct")
    assert (status, out) == (1, f"{PREFIX}acct = 0\n")
    assert err == f"conntrack-aio: this kernel does not have, at least not here: {missing}\n"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("act", "unknown setting 'act'; did you mean 'acct'"),
        ("net.ipv4.ip_forward", "unknown setting 'net.ipv4.ip_forward'"),
        ("count=5", "count cannot be set: only the kernel writes it"),
        ("acct=2", "acct must be one of 0, off, false, 1, on, true; got '2'"),
        ("acct=", "acct must be one of"),
        ("events=3", "events must be one of 0, off, 1, always, 2, auto; got '3'"),
        (
            "udp_timeout=-1",
            "udp_timeout must be a number of seconds, or a duration such as 1h30m; got",
        ),
        ("udp_timeout=٣", "udp_timeout must be a number of seconds"),
        ("udp_timeout=1w", "udp_timeout must be a number of seconds, or a duration"),
        ("frag6_high_thresh=1k", "must be a number of bytes, which may end in K, M, G or T"),
        ("max=1K", "max must be a number; got '1K'"),
        ("max=1e5", "max must be a number; got '1e5'"),
        (f"max={1 << 64}", "max must be at most 18446744073709551615"),
        ("=1", "unknown setting ''"),
        ("= 1", "unknown setting ''"),
    ],
)
def test_wrong_arguments_are_errors(argument: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_settings([argument])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("acct = 1 1", "unknown setting '1'"),
        ("acct = 1 = 1", "unknown setting ''"),
        ("acct = events=1", "acct must be one of 0, off, false, 1, on, true; got ''"),
        ("acct =", "acct must be one of"),
    ],
)
def test_separate_signs_join_only_a_name_and_a_value(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_settings(line.split())


def test_a_setting_is_named_once() -> None:
    assert parse_settings(["acct", "net/netfilter/nf_conntrack_max"]) == (["acct", "max"], {})
    with pytest.raises(ValueError, match="acct is given twice"):
        parse_settings(["acct=1", "nf_conntrack_acct=0"])


def test_every_setting_has_a_description() -> None:
    texts = field_descriptions(ConntrackSysctls)
    assert texts.keys() == SETTINGS.keys()
    assert not [text for text in texts.values() if "`" in text or "\n" in text]


def test_values_may_have_units(lab: Lab) -> None:
    arguments = ("udp_timeout=1m30s", "tcp_timeout_established=5d", "frag6_high_thresh=5M")
    assert run_process(lab, "sysctl", *arguments)[0] == 0
    assert lab.read_sysctl("nf_conntrack_udp_timeout") == "90"
    assert lab.read_sysctl("nf_conntrack_tcp_timeout_established") == "432000"
    assert lab.read_sysctl("nf_conntrack_frag6_high_thresh") == str(5 << 20)
