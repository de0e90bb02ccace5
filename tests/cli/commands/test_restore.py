"""Test the subcommand ``restore`` as a process, in a network namespace."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import anyio
import pytest
from support import flows
from support.command import COMMAND, run_process
from support.lab import Lab
from support.namespaces import new_network_namespace
from support.processes import Process, unread_bytes, wait_until
from support.saved_tables import saved_text

from conntrack_aio import Flow, Helper, Match, Tuple, connect
from conntrack_aio.cli.command import parse

pytestmark = pytest.mark.kernel

RESTORE = (*COMMAND, "restore")


def listed(lab: Lab) -> list[Flow]:
    async def main() -> list[Flow]:
        async with connect(netns=lab.netns) as conn:
            return await conn.list()

    return sorted(anyio.run(main), key=lambda flow: str(flow.orig))


def create(lab: Lab, created: Iterable[Flow]) -> None:
    async def main() -> None:
        async with connect(netns=lab.netns) as conn:
            for outcome in await conn.create_many(created):
                outcome.result()

    anyio.run(main)


def count(lab: Lab) -> int:
    return int(lab.read_sysctl("nf_conntrack_count"))


def with_helper(flow: Flow, name: str) -> Flow:
    flow.helper = Helper(name=name)
    return flow


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("save", {"output": "-", "match": None, "json": False}),
        ("save --output f mark 3", {"output": "f", "match": Match(mark=3)}),
        ("restore", {"file": "-", "dry_run": False, "update": False, "subtract_elapsed": False}),
        ("restore f --dry-run", {"file": "f", "dry_run": True}),
        ("restore --update --subtract-elapsed -", {"file": "-", "update": True}),
    ],
)
def test_command_lines_are_parsed(line: str, options: dict[str, object]) -> None:
    parsed = vars(parse(line.split()))
    assert {name: parsed[name] for name in options} == options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["restore", "f", "g"], "unrecognized arguments: g"),
        (["restore", ""], "the name of the file is empty"),
        (["restore", "--output", "f"], "unrecognized arguments: --output"),
        (["save", "--output", "f", "--output", "g"], "may be given only once"),
        (["save", "--dry-run"], "unrecognized arguments: --dry-run"),
    ],
)
def test_other_command_lines_are_errors(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_restore_creates_what_save_saved_in_another_namespace(lab: Lab, tmp_path: Path) -> None:
    create(lab, [flows.tcp(1, mark=5), flows.udp6(2)])
    file = str(tmp_path / "table")
    assert run_process(lab, "save", "--output", file)[0] == 0
    other = Lab(new_network_namespace())
    try:
        assert run_process(other, "restore", file) == (0, "", "conntrack-aio: created 2 flows\n")
        for old, new in zip(listed(lab), listed(other), strict=True):
            assert (old.orig, old.reply, old.mark) == (new.orig, new.reply, new.mark)
        # A second restore finds everything there.
        assert run_process(other, "restore", file) == (
            0,
            "",
            "conntrack-aio: created 0 flows; left 2 flows alone\n",
        )
        assert run_process(other, "restore", "--quiet", file) == (0, "", "")
        assert count(other) == 2
    finally:
        os.close(other.descriptor)


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_restore_reads_standard_input(lab: Lab, arguments: tuple[str, ...]) -> None:
    status, out, err = run_process(lab, "restore", *arguments, input=saved_text(flows.tcp(1)))
    assert (status, out, err) == (0, "", "conntrack-aio: created 1 flow\n")
    assert [flow.orig for flow in listed(lab)] == [flows.tcp(1).orig]


def test_restore_reads_a_file_that_is_standard_input_from_its_position(
    lab: Lab, tmp_path: Path
) -> None:
    file = tmp_path / "table"
    file.write_text(f"# saved for the failover\n{saved_text(flows.tcp(1))}")
    shell = f"exec < {file}; read line; {' '.join(RESTORE)}"
    with Process(lab, "bash", "-c", shell) as process:
        assert process.wait() == (0, "conntrack-aio: created 1 flow\n")


def test_a_dry_run_creates_nothing_and_prints_what_it_would_do(lab: Lab) -> None:
    create(lab, [flows.tcp(1), flows.tcp(2)])
    in_the_way = flows.tcp(2)
    in_the_way.reply = Tuple.tcp("10.2.0.1", 80, "192.0.2.1", 40000)
    table = saved_text(flows.tcp(1), in_the_way, flows.tcp(3))
    before = listed(lab)
    status, out, err = run_process(lab, "restore", "--dry-run", input=table)
    assert status == 1
    assert out.splitlines() == [
        "exists tcp ESTABLISHED 10.1.0.1:40000 -> 10.2.0.1:80 timeout=600",
        "conflict tcp ESTABLISHED 10.1.0.2:40000 -> 10.2.0.1:80 "
        "(reply 10.2.0.1:80 -> 192.0.2.1:40000) timeout=600",
        "create tcp ESTABLISHED 10.1.0.3:40000 -> 10.2.0.1:80 timeout=600",
    ]
    assert err == (
        "conntrack-aio: 1 not restored: another entry has one of its two tuples: "
        "tcp 10.1.0.2:40000 -> 10.2.0.1:80\n"
        "conntrack-aio: would create 1 flow; would leave 1 flow alone; "
        "could not create 1 flow\n"
    )
    assert [flow.id for flow in listed(lab)] == [flow.id for flow in before]


def test_a_dry_run_and_a_restore_print_json(lab: Lab) -> None:
    create(lab, [flows.tcp(1)])
    table = saved_text(flows.tcp(1), flows.tcp(3), with_helper(flows.tcp(4), "nosuch"))
    status, out, err = run_process(lab, "restore", "--dry-run", "--json", "--quiet", input=table)
    assert (status, err) == (0, "")
    *lines, summary = map(json.loads, out.splitlines())
    assert [(line["type"], line["flow"]["orig"]["src"]) for line in lines] == [
        ("existing", "10.1.0.1"),
        ("created", "10.1.0.3"),
        ("created", "10.1.0.4"),
    ]
    assert summary["dry_run"] is True
    assert count(lab) == 1

    status, out, err = run_process(lab, "restore", "--json", input=table)
    assert status == 1
    *lines, summary = map(json.loads, out.splitlines())
    assert sorted((line["type"], line["flow"]["orig"]["src"]) for line in lines) == [
        ("existing", "10.1.0.1"),
        ("without helper", "10.1.0.4"),
    ]
    numbers = {"created": 2, "existing": 1, "updated": 0, "expired": 0, "failed": 0}
    assert summary == {
        "type": "summary",
        "dry_run": False,
        "stopped": False,
        "flows": numbers,
        "expectations": dict.fromkeys(numbers, 0),
    }
    assert "1 created without the helper: Operation not supported" in err


def test_restore_updates_entries_on_request(lab: Lab) -> None:
    create(lab, [flows.tcp(1, mark=1)])
    table = saved_text(flows.tcp(1, mark=2, timeout=900))
    assert run_process(lab, "restore", "--update", input=table) == (
        0,
        "",
        "conntrack-aio: created 0 flows; updated 1 flow\n",
    )
    (flow,) = listed(lab)
    assert flow.mark == 2
    assert (flow.timeout or 0) > 800


@pytest.mark.parametrize("seconds", [100, -100], ids=["past", "future"])
def test_restore_subtracts_the_elapsed_time_on_request(lab: Lab, seconds: int) -> None:
    saved_at = time.time_ns() - seconds * 10**9
    table = saved_text(flows.tcp(1, timeout=50), flows.tcp(2, timeout=500), time=saved_at)
    status, out, err = run_process(lab, "restore", "--subtract-elapsed", input=table)
    assert (status, out) == (0, "")
    if seconds > 0:
        assert err == "conntrack-aio: created 1 flow; 1 flow expired\n"
        assert (listed(lab)[0].timeout or 0) in range(370, 401)
    else:  # the clock of the other host is ahead
        assert err == "conntrack-aio: created 2 flows\n"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "standard input: the file is empty, so it is no saved table"),
        (saved_text(flows.tcp(1))[:-10], "standard input: line 3: "),
        (saved_text(flows.tcp(1)).replace('"version": 1', '"version": 2'), "line 1: version 2"),
        (os.urandom(4000), "standard input: line 1: "),
        (b"\x00" * (2 << 20), "standard input: line 1: "),
    ],
    ids=["empty", "truncated", "version", "random", "zeros"],
)
def test_restore_refuses_other_files_before_it_creates_anything(
    lab: Lab, table: str | bytes, message: str
) -> None:
    status, out, err = run_process(lab, "restore", input=table)
    assert (status, out) == (1, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert count(lab) == 0


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("/no/such/file", "conntrack-aio: /no/such/file: No such file or directory\n"),
        ("/", "conntrack-aio: /: Is a directory\n"),
        ("/dev/zero", "conntrack-aio: /dev/zero: line 1: this is longer than any line of a saved"),
        ("/dev/null", "conntrack-aio: /dev/null: the file is empty"),
    ],
)
def test_restore_names_a_file_that_it_cannot_read(lab: Lab, file: str, message: str) -> None:
    status, out, err = run_process(lab, "restore", file)
    assert (status, out) == (1, "")
    assert err.startswith(message)


def test_restore_goes_on_when_the_reader_of_its_output_has_gone(lab: Lab, tmp_path: Path) -> None:
    table = saved_text(*[with_helper(flows.tcp(number), "nosuch") for number in range(1, 200)])
    file = tmp_path / "table"
    file.write_text(table)
    with Process(lab, *RESTORE, "--json", str(file)) as process:
        process.stop_reading()
        status, errors = process.wait()
    assert status == 1
    assert "created 199 flows" in errors
    assert count(lab) == 199


def test_restore_says_how_much_was_done_when_it_is_interrupted(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "table"
    file.write_text(saved_text(*map(flows.tcp, range(1, 20_000))))
    with Process(lab, *RESTORE, str(file)) as process:
        wait_until(lambda: count(lab))
        process.signal(signal.SIGINT)
        status, errors = process.wait()
    assert status == 130
    assert errors == f"conntrack-aio: stopped before the end: created {count(lab)} flows\n"
    assert 0 < count(lab) < 19_999


def test_an_interrupted_check_creates_nothing(lab: Lab, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with Process(lab, *RESTORE, str(pipe)) as process, pipe.open("wb") as file:
        file.write(saved_text(flows.tcp(1)).splitlines(keepends=True)[0].encode())
        file.flush()
        wait_until(lambda: not unread_bytes(file))
        process.signal(signal.SIGINT)
        assert process.wait() == (130, "")
    assert count(lab) == 0
