"""Test which flows ``list`` prints from the kernel's other dumps, and whose counters it resets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nanoarrow
import pytest
from support import flows
from support.command import Ran, create, do, run, run_process
from support.lab import Lab
from support.reliable_listener import open_reliable_listener
from support.terminal import run_at_terminal

from conntrack_aio import Flow

pytestmark = pytest.mark.kernel

# Dying and unconfirmed flows


@pytest.fixture
def dying(lab: Lab) -> Iterator[Lab]:
    """Yield a namespace with one flow, and dying ones with the mark 0 or 1."""
    with lab.run(open_reliable_listener):
        do(lab, lambda conn: flows.fill(conn, (flows.tcp(n, mark=n % 2) for n in range(100))))
        do(lab, lambda conn: conn.flush())
        create(lab, Flow.udp("10.0.0.1", 1000, "10.0.0.2", 53, timeout=600, mark=1))
        yield lab


def test_dying_flows_are_printed_in_every_form(dying: Lab) -> None:
    lines = run(dying, "list", "--dying").out.splitlines()
    assert len(lines) > 20
    assert all(line.startswith("tcp ") for line in lines)
    objects = [json.loads(line) for line in run(dying, "list", "--dying", "-j").out.splitlines()]
    assert {each["orig"]["proto"] for each in objects} == {6}
    assert {each.get("mark", 0) for each in objects} == {0, 1}
    marks = run(dying, "list", "--dying", "mark 1", "--columns", "mark", "--no-header").out
    assert len(marks.split()) > 5
    assert set(marks.split()) == {"0x1"}
    ordered = run(dying, "list", "--dying", "--sort", "-mark", "--json").out.splitlines()
    found = [json.loads(line).get("mark", 0) for line in ordered]
    assert found == sorted(found, reverse=True)
    assert len(run(dying, "list", "--dying", "--limit", "3").out.splitlines()) == 3
    assert run(dying, "list").out.startswith("udp ")


def test_unconfirmed_flows_are_an_empty_list_on_this_kernel(lab: Lab) -> None:
    create(lab, flows.tcp(1))
    assert run(lab, "list", "--unconfirmed") == (0, "", "")
    assert run(lab, "list", "--unconfirmed", "proto tcp", "--json") == (0, "", "")
    status, out, _ = run(lab, "list", "--unconfirmed", "--columns", "mark")
    assert (status, out) == (0, "mark\n")


# Counters


PORTS = (5001, 5002)
"""The ports to which the flows with counters go."""


@pytest.fixture
def counted(lab: Lab) -> Lab:
    """Return a namespace with three flows to each port, each of one packet."""
    lab.sysctl("nf_conntrack_acct", 1)
    lab.sysctl("nf_conntrack_udp_timeout", 3600)
    lab.track()
    lab.run(send)
    return lab


def send() -> None:
    """Send a packet in each flow."""

    def bound(port: int) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind(("127.0.0.1", port))
        return opened

    receivers = [bound(port) for port in PORTS]
    for number in range(6001, 6004):
        with bound(number) as sender:
            for port in PORTS:
                sender.sendto(b"12345678", ("127.0.0.1", port))
    for receiver in receivers:
        receiver.close()


def packets(lab: Lab, match: str) -> list[int]:
    """Return the packets of each flow that matches, without resetting them."""
    ran = run(lab, "list", match, "--columns", "packets", "--no-header")
    return [int(word) for word in ran.out.split()]


def test_counters_are_printed_and_reset(counted: Lab) -> None:
    ran = run(counted, "list", "--reset-counters")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.count("packets=1") == 6
    assert packets(counted, "all") == [0] * 6
    counted.run(send)
    assert packets(counted, "all") == [1] * 6


@pytest.mark.parametrize(
    "form",
    [[], ["--json"], ["--columns", "packets"], ["--sort", "packets"], ["--json", "--sort", "id"]],
)
def test_only_flows_that_match_lose_their_counters(counted: Lab, form: list[str]) -> None:
    ran = run(counted, "list", "--reset-counters", "orig.dport 5001", *form)
    assert ran.status == 0
    assert len(ran.out.splitlines()) == 3 + (form[:1] == ["--columns"])
    assert packets(counted, "orig.dport 5001") == [0] * 3
    assert packets(counted, "orig.dport 5002") == [1] * 3
    # A condition that the kernel cannot apply, and one that the reset changes.
    match = "orig.packets > 0 and not orig.sport 6001"
    assert run(counted, "list", "--reset-counters", match, *form).status == 0
    assert sorted(packets(counted, "all")) == [0] * 5 + [1]


def test_a_table_at_a_terminal_keeps_the_counters_that_are_reset(counted: Lab) -> None:
    for arguments, shown in (([], False), (["--reset-counters"], True)):
        _, text = run_at_terminal(counted, "list", "--quiet", *arguments, columns=50)
        assert ("bytes" in text) is shown
    assert packets(counted, "all") == [0] * 6


def test_a_file_of_columns_has_the_counters(counted: Lab, tmp_path: Path) -> None:
    path = str(tmp_path / "flows.arrows")
    assert run(counted, "list", "--reset-counters", "--arrow", path).status == 0
    table: Any = nanoarrow.ArrayStream.from_path(path).read_all()
    assert [row["orig_packets"] for row in table.to_pylist()] == [1] * 6
    assert packets(counted, "all") == [0] * 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reset-counters", "--limit", "1"], "--limit: not allowed with --reset-counters"),
        (["--dying", "--unconfirmed"], "--unconfirmed: not allowed with argument --dying"),
        (["--dying", "--reset-counters"], "--reset-counters: not allowed with argument --dying"),
    ],
)
def test_options_that_exclude_each_other(counted: Lab, arguments: list[str], message: str) -> None:
    ran = run_process(counted, "list", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert message in ran.err
    assert packets(counted, "all") == [1] * 6


def get(lab: Lab, *arguments: str) -> Ran:
    return run(lab, "get", "udp", "127.0.0.1:6001", "127.0.0.1:5001", *arguments)


def test_get_resets_the_counters_of_one_flow(counted: Lab) -> None:
    assert get(counted, "--direction", "reply", "--reset-counters").status == 1
    assert packets(counted, "all") == [1] * 6
    found = json.loads(get(counted, "--reset-counters", "--json").out)
    assert found["counters_orig"]["packets"] == 1
    assert "packets=0" in get(counted).out
    assert sorted(packets(counted, "all")) == [0] + [1] * 5
