"""Test the command line of conntrack(8) as a process, in a network namespace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from support.command import create
from support.expectations import ftp
from support.flows import tcp
from support.lab import Lab
from support.processes import DESTROY, NEW, UPDATE, Process, count_subscribers, wait_until

import conntrack_aio
from conntrack_aio.cli import main

pytestmark = pytest.mark.kernel

COMMAND = (sys.executable, "-m", "conntrack_aio")
VERSION = f"conntrack v{conntrack_aio.__version__} (conntrack_aio)"
UDP = ("-p", "udp", "-s", "10.0.0.1", "-d", "10.0.0.2", "--sport", "1", "--dport", "2")


def run(lab: Lab, *arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
    return lab.run(partial(_run, (*COMMAND, *arguments), input))


def _run(command: Sequence[str], input: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=input, capture_output=True, text=True, check=False)


def link_to_python(directory: Path) -> Path:
    """Return a program with the name ``conntrack``, as a link to the script has."""
    program = directory / "conntrack"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom conntrack_aio.cli import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("argument", ["--version", "--help", "-h"])
def test_own_options_are_not_those_of_conntrack8(
    argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument]) == 0
    assert "conntrack-aio" in capsys.readouterr().out


def test_an_option_as_the_first_argument_selects_conntrack8(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["-V"]) == 0
    assert capsys.readouterr().out == f"{VERSION}\n"


def test_the_name_of_the_program_selects_conntrack8(tmp_path: Path) -> None:
    program = str(link_to_python(tmp_path))
    for arguments, output in (
        ((), "Command line interface"),
        (("--version",), VERSION),
        (("--help",), "Command line interface"),
        (("word", "-V"), VERSION),
    ):
        done = _run((program, *arguments), "")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(output)


def test_an_invalid_argument_is_reported_with_a_hint(lab: Lab) -> None:
    done = run(lab, "-L", "-X")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"{VERSION}: unknown option `-X'\n"
        "Try `conntrack -h' or 'conntrack --help' for more information.\n"
    )


def test_an_entry_is_created_listed_updated_and_deleted(lab: Lab) -> None:
    assert run(lab, "-I", *UDP, "-t", "1000").stderr == (
        f"{VERSION}: 1 flow entries have been created.\n"
    )
    assert run(lab, "-C").stdout == "1\n"
    listed = run(lab, "-L")
    assert listed.stderr == f"{VERSION}: 1 flow entries have been shown.\n"
    assert "src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 [UNREPLIED]" in listed.stdout
    updated = run(lab, "-U", *UDP, "-m", "5")
    assert updated.returncode == 0
    assert " mark=5 " in updated.stdout
    for options in ((*UDP, "-w", "7"), (*UDP, "-m", "6")):
        done = run(lab, "-D", *options)
        assert (done.returncode, done.stdout) == (1, "")
    deleted = run(lab, "-D", *UDP, "-w", "0")
    assert deleted.returncode == 0
    assert " mark=5 " in deleted.stdout
    assert run(lab, "-C").stdout == "0\n"


def test_an_entry_that_is_read_by_itself_is_printed_as_in_a_dump(lab: Lab) -> None:
    """The kernel also counts the use of a request for one entry, except in the dump of a table."""
    run(lab, "-I", *UDP, "-t", "1000")
    assert run(lab, "-G", *UDP).stdout.endswith(" use=2\n")
    assert run(lab, "-L", *UDP, "-w", "0").stdout.endswith(" use=1\n")
    assert run(lab, "-L", "-z").stdout.endswith(" use=1\n")
    assert run(lab, "-D", *UDP).stdout.endswith(" use=1\n")
    run(lab, "-I", *UDP, "-t", "1000", "-w", "7")
    assert run(lab, "-D", *UDP, "-w", "7").stdout.endswith(" use=1\n")


@pytest.mark.parametrize("others", [0, 3000])  # a dump without a filter, and with one
def test_a_complete_tuple_without_a_zone_deletes_the_entries_of_all_zones(
    lab: Lab, others: int
) -> None:
    create(lab, *(tcp(number) for number in range(others)))
    for zone in ((), ("-w", "5"), ("-w", "7")):
        run(lab, "-I", *UDP, "-t", "1000", *zone)
    deleted = run(lab, "-D", *UDP, "-w", "7")
    assert deleted.stdout.count(" zone=7 ") == len(deleted.stdout.splitlines()) == 1
    deleted = run(lab, "-D", *UDP)
    assert len(deleted.stdout.splitlines()) == 2
    assert deleted.stderr.endswith(": 2 flow entries have been deleted.\n")
    assert run(lab, "-C").stdout == f"{others}\n"


@pytest.mark.parametrize("zone", [(), ("-w", "5")])
def test_a_type_of_icmp_that_is_not_tracked_selects_no_entry(
    lab: Lab, zone: tuple[str, ...]
) -> None:
    icmp = ("-p", "icmp", "-s", "10.0.0.1", "-d", "10.0.0.2", "--icmp-code", "0", "--icmp-id", "8")
    for action, status, done in (("-D", 1, "deleted"), ("-L", 0, "shown")):
        result = run(lab, action, *icmp, "--icmp-type", "3", *zone)
        assert (result.returncode, result.stdout) == (status, "")
        assert result.stderr.endswith(f": 0 flow entries have been {done}.\n")


def test_statuses_that_are_to_be_clear_select_entries(lab: Lab) -> None:
    """conntrack(8) deletes the whole table."""
    run(lab, "-I", *UDP, "-t", "1000", "-u", "SEEN_REPLY,ASSURED")
    for status in ("UNREPLIED", "!ASSURED", "UNSET"):
        assert run(lab, "-D", "-u", status).returncode == 1
    assert run(lab, "-C").stdout == "1\n"


def test_a_flush_of_one_family_keeps_the_other(lab: Lab) -> None:
    """conntrack(8) flushes both."""
    run(lab, "-I", *UDP, "-t", "1000")
    assert run(lab, "-F", "-f", "ipv6").returncode == 0
    assert run(lab, "-C").stdout == "1\n"


def test_keys_and_security_marks_select_entries(lab: Lab) -> None:
    """conntrack(8) ignores them."""
    gre = ("-p", "gre", "-s", "10.0.0.1", "-d", "10.0.0.2", "--srckey", "1", "--dstkey", "2")
    run(lab, "-I", *gre, "-t", "1000")
    assert run(lab, "-L", "-p", "gre", "--srckey", "1").stdout != ""
    assert run(lab, "-L", "-p", "gre", "--srckey", "2").stdout == ""
    assert run(lab, "-L", "-c", "0").stdout != ""
    assert run(lab, "-L", "-c", "5").stdout == ""


def test_the_mask_of_the_destination_of_an_expectation_is_ignored(lab: Lab) -> None:
    """The kernel ignores it, and reports all ones."""
    create(lab, ftp())
    master = ("-p", "tcp", "-s", "10.0.0.1", "-d", "10.0.0.2", "--sport", "1000", "--dport", "21")
    expected = ("--tuple-src", "10.0.0.1", "--tuple-dst", "10.0.0.2", "-t", "5")
    ports = ("--tuple-port-src", "0", "--tuple-port-dst", "2000", "--mask-port-src", "0")
    mask = ("--mask-src", "255.255.0.0", "--mask-dst", "255.0.0.0", "--mask-port-dst", "300")
    created = run(lab, "-I", "expect", *master, *expected, *ports, *mask)
    assert (created.returncode, created.stderr) == (0, "")
    assert (
        " src=10.0.0.1 dst=10.0.0.2 sport=0 dport=2000 mask-src=255.255.0.0"
        " mask-dst=255.255.255.255 sport=0 dport=65535 master-src=10.0.0.1"
    ) in run(lab, "-L", "expect").stdout


def test_many_deletes_of_a_file_take_one_dump(lab: Lab) -> None:
    ports = range(1, 2001)
    lines = "".join(
        f"{{}} -p udp -s 10.0.0.1 -d 10.0.0.2 --sport {port} --dport 2\n" for port in ports
    )
    created = run(lab, "-R", "-", input=lines.replace("{}", "-I -t 1000"))
    assert (created.returncode, created.stderr) == (0, "")
    deleted = run(lab, "-R", "-", input=lines.replace("{}", "-D"))
    assert (deleted.returncode, deleted.stderr) == (0, "")
    found = [line.partition("sport=")[2].split()[0] for line in deleted.stdout.splitlines()]
    assert [int(port) for port in found] == [*ports]
    assert run(lab, "-C").stdout == "0\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_events_are_shown_until_a_signal(lab: Lab, number: signal.Signals) -> None:
    # A background job of a shell ignores SIGINT.
    ignoring = "import signal, os, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    ignoring += "os.execv(sys.argv[1], sys.argv[1:])"
    command = (
        sys.executable,
        "-c",
        ignoring,
        *COMMAND,
        "-E",
        "-e",
        "NEW,DESTROY",
        "-s",
        "10.0.0.1",
    )
    with Process(lab, *command) as process:
        wait_until(lambda: count_subscribers(lab, NEW | DESTROY) == 1)
        assert count_subscribers(lab, UPDATE) == 0
        run(lab, "-I", *UDP, "-t", "1000")
        run(lab, "-I", *UDP, "-t", "1000", "-s", "10.0.0.9")
        run(lab, "-U", *UDP, "-m", "1")
        run(lab, "-F")
        lines = [process.line(), process.line()]
        os.kill(process.pid, number)
        errors = process.stderr.read().decode()
        assert process.wait()[0] == 0
    assert [line.split()[0] for line in lines] == ["[NEW]", "[DESTROY]"]
    assert errors == f"{VERSION}: 2 flow events have been shown.\n"


def test_the_buffer_of_events_has_the_given_size(lab: Lab) -> None:
    """conntrack(8) sets the size of another socket."""
    with Process(lab, *COMMAND, "-E", "-b", "1000000") as process:
        notice = process.stderr.readline().decode()
        os.kill(process.pid, signal.SIGTERM)
        process.stderr.read()
        assert process.wait()[0] == 0
    assert notice == "NOTICE: Netlink socket buffer size has been set to 2000000 bytes.\n"


def test_a_closed_pipe_ends_the_list_quietly(lab: Lab) -> None:
    run(lab, "-I", *UDP, "-t", "1000")
    command = f"{' '.join(COMMAND)} -L | true"
    done = lab.run(partial(_run, ("sh", "-c", command), ""))
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("-\udcff",),
        ("-L", "-s", "\udcff"),
        ("-L", "-p", "\udcff\udcfe"),
        ("-L", "-l", "\udcff"),
        ("-R", "\udcff"),
        ("-L", "-m", "9" * 5000),
        ("-L", "-n", "[" * 100),
        ("-D", "-i", "\u0661"),
    ],
)
def test_no_argument_ends_in_a_traceback(lab: Lab, arguments: tuple[str, ...]) -> None:
    done = run(lab, *arguments)
    assert done.returncode in (0, 1, 2)
    assert "Traceback" not in done.stderr
