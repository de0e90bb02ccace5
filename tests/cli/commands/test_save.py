"""Test the subcommand ``save``, and what a saved table contains."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import anyio
import attrs
import pytest
from support import expectations, flows
from support.command import run_process
from support.lab import Lab

from conntrack_aio import Flow, Tuple, connect, from_dict, to_dict

pytestmark = pytest.mark.kernel


def create(lab: Lab, *created: Flow, expecting: tuple[tuple[Flow, int | None], ...] = ()) -> None:
    """Create flows, and an expectation of each master in its zone."""

    async def main() -> None:
        async with connect(netns=lab.netns) as conn:
            for flow in created:
                await conn.create(flow)
            for master, zone in expecting:
                found = await conn.expectations.create(
                    expectations.data_connection(master), zone=zone
                )
                assert found.timeout

    anyio.run(main)


def test_save_writes_a_table_with_a_first_and_a_last_line(lab: Lab) -> None:
    create(lab, flows.tcp(1, mark=5), flows.udp6(2))
    status, out, err = run_process(lab, "save")
    assert (status, err) == (0, "conntrack-aio: saved 2 flows\n")
    first, *lines, last = map(json.loads, out.splitlines())
    assert first.pop("time") > 1_700_000_000 * 10**9
    assert first == {"format": "conntrack_aio table", "version": 1}
    assert last == {"end": {"flows": 2, "expectations": 0}}
    _, listed, _ = run_process(lab, "list", "--json", "--quiet")
    without_timeout = [
        sorted(
            (flow for flow in map(from_flow_dict, texts) if flow),
            key=lambda flow: str(flow.orig),
        )
        for texts in (lines, map(json.loads, listed.splitlines()))
    ]
    assert without_timeout[0] == without_timeout[1]


def from_flow_dict(data: dict[str, object]) -> Flow:
    return flows.without_timeout(from_dict(Flow, data))  # type: ignore[arg-type]


def test_save_selects_flows_by_a_match(lab: Lab) -> None:
    create(lab, flows.tcp(1, mark=5), flows.udp6(2))
    status, out, err = run_process(lab, "save", "mark", "5")
    assert (status, err) == (0, "conntrack-aio: saved 1 flow\n")
    assert json.loads(out.splitlines()[1])["mark"] == 5
    status, out, err = run_process(lab, "save", "--quiet", "family ipv6")
    assert (status, err) == (0, "")
    assert json.loads(out.splitlines()[1])["orig"]["proto"] == 17


def test_save_includes_the_expectations_of_the_saved_flows_with_their_zones(lab: Lab) -> None:
    """Two masters in different zones have the same tuple, and so have their expectations."""
    plain, zoned = expectations.ftp(), expectations.ftp(zone=7)
    other = expectations.ftp(2000)
    create(lab, plain, zoned, other, expecting=((plain, None), (zoned, 7)))
    status, out, err = run_process(lab, "save", "--quiet")
    assert (status, err) == (0, "")
    found = [line for line in map(json.loads, out.splitlines()) if "expectation" in line]
    assert sorted(line.get("zone", 0) for line in found) == [0, 7]
    for line in found:
        assert line["expectation"]["master"] == to_dict(plain.orig)
        assert line["expectation"]["tuple"] == to_dict(expectations.EXPECTED)
    status, out, _ = run_process(lab, "save", "--quiet", "zone 7")
    assert [line.get("zone") for line in [*map(json.loads, out.splitlines())][2:3]] == [7]


def test_save_names_a_master_whose_replies_alone_are_in_a_zone_by_its_reply(lab: Lab) -> None:
    orig = Tuple.tcp("10.0.0.1", 1000, "10.0.0.2", 21)
    master = expectations.with_helper(
        Flow(orig=orig, reply=attrs.evolve(orig.inverse, zone=3), timeout=600), "ftp"
    )
    create(lab, master)

    async def expect() -> None:
        async with connect(netns=lab.netns) as conn:
            expected = expectations.data_connection(master)
            expected.master = orig.inverse
            await conn.expectations.create(expected, zone=3)

    anyio.run(expect)
    _, out, _ = run_process(lab, "save")
    (line,) = [line for line in map(json.loads, out.splitlines()) if "expectation" in line]
    assert line["zone"] == 3
    assert line["expectation"]["master"] == to_dict(orig.inverse)


def test_save_replaces_a_file_when_it_is_whole(lab: Lab, tmp_path: Path) -> None:
    create(lab, flows.tcp(1))
    file = tmp_path / "table"
    file.write_text("old")
    file.chmod(0o600)
    status, out, err = run_process(lab, "save", "--output", str(file))
    assert (status, out, err) == (0, "", "conntrack-aio: saved 1 flow\n")
    assert json.loads(file.read_text().splitlines()[-1]) == {"end": {"flows": 1, "expectations": 0}}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["table"]


def test_save_with_json_also_prints_the_numbers(lab: Lab, tmp_path: Path) -> None:
    create(lab, flows.tcp(1), flows.tcp(2))
    status, out, err = run_process(
        lab, "save", "--json", "--quiet", "--output", str(tmp_path / "table")
    )
    assert (status, err) == (0, "")
    assert json.loads(out) == {"flows": 2, "expectations": 0}


def test_save_of_an_empty_table_is_a_table_and_says_why(lab: Lab) -> None:
    status, out, err = run_process(lab, "save")
    assert status == 0
    assert json.loads(out.splitlines()[-1]) == {"end": {"flows": 0, "expectations": 0}}
    assert err.startswith("conntrack-aio: saved 0 flows\nconntrack-aio: no flow is tracked here")
    assert run_process(lab, "save", "--quiet")[2] == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output", ""), "the name of the file is empty"),
        (("--output", "/no/such/directory/file"), "/no/such/directory/file: No such file"),
        (("--output", "/dev/full"), "/dev/full: No space left on device"),
        (("proto", "tpc"), "unknown protocol 'tpc'"),
        (("",), "the match is empty"),
    ],
)
def test_save_refuses_what_it_cannot_do(lab: Lab, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = run_process(lab, "save", *arguments)
    assert status in (1, 2)
    assert out == ""
    assert message in err
    assert "Traceback" not in err
