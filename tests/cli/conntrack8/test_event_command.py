"""Test ``-E``: filters, the count at a signal, and lost events."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

import pytest
from support.command import create
from support.lab import Lab
from support.processes import DESTROY, NEW, UPDATE, Process, count_subscribers, wait_until

import conntrack_aio
from conntrack_aio import Flow

pytestmark = pytest.mark.kernel

VERSION = f"conntrack v{conntrack_aio.__version__} (conntrack_aio)"
ALL = NEW | UPDATE | DESTROY


def listening(lab: Lab, *arguments: str, groups: int = ALL) -> Process:
    """Start ``-E``, and wait until it receives events."""
    process = Process(lab, sys.executable, "-m", "conntrack_aio", "-E", *arguments)
    wait_until(lambda: count_subscribers(lab, groups) == 1)
    return process


def udp(ports: Sequence[int], source: str = "10.0.0.1", **changes: int) -> list[Flow]:
    return [Flow.udp(source, port, "10.0.0.2", 53, timeout=1000, **changes) for port in ports]


@pytest.mark.parametrize(
    ("arguments", "ports"),
    [
        (["-s", "10.0.0.0/24"], [1, 2, 3]),
        (["-s", "10.0.0.1", "--mask-src", "0.0.0.1"], [1, 2, 3, 4]),
        (["-s", "10.0.0.1", "--mask-src", "0.0.0.8"], [1, 2, 3]),
        (["-s", "192.0.0.0/8"], [4]),
        (["-s", "0.0.0.0/0"], [1, 2, 3, 4]),
        (["-s", "fd00::1"], [5]),
        (["-s", "fd00::/16"], [5]),
        (["-f", "ipv6"], [5]),
        (["-p", "udp", "--sport", "2"], [2]),
        (["-p", "udp", "--reply-port-dst", "3"], [3]),
        (["-q", "192.0.2.9"], [4]),
        (["-p", "tcp"], []),
        (["-m", "3"], [3]),
        (["-m", "1/1"], [1, 3]),
        (["-w", "0"], [1, 2, 3, 4, 5]),
        (["-e", "DESTROY"], []),
        (["-e", "src_nat"], []),
    ],
)
def test_events_are_filtered(lab: Lab, arguments: list[str], ports: list[int]) -> None:
    groups = {"DESTROY": DESTROY, "src_nat": NEW}.get(arguments[-1], ALL)
    with listening(lab, *arguments, groups=groups) as process:
        for port in (1, 2, 3):
            create(lab, *udp([port], mark=port))
        create(lab, *udp([4], "192.0.2.9"))
        create(lab, Flow.udp("fd00::1", 5, "fd00::2", 53, timeout=1000))
        lines = [process.line() for _ in ports]
        process.signal(signal.SIGTERM)
        assert process.stdout.read() == b""
        status, errors = process.wait()
    assert [int(line.partition("sport=")[2].split()[0]) for line in lines] == ports
    assert status == 0
    assert errors.endswith(f"{VERSION}: {len(ports)} flow events have been shown.\n")


@pytest.mark.parametrize("output", [[], ["-o", "xml"]])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_events_with_their_count(
    lab: Lab, number: signal.Signals, output: list[str]
) -> None:
    with listening(lab, *output) as process:
        create(lab, *udp(range(1, 4)))
        lines = [process.line() for _ in range(5 if output else 3)]
        process.signal(number)
        rest = process.stdout.read().decode()
        assert process.wait() == (0, f"{VERSION}: 3 flow events have been shown.\n")
    assert rest == ("</conntrack>\n" if output else "")
    assert lines[0].startswith("<?xml " if output else "    [NEW] udp      17 1000 ")


def test_lost_events_are_reported_and_later_ones_are_shown(lab: Lab) -> None:
    """The buffer of ``-b`` is that of the socket that receives events."""
    with listening(lab, "-b", "4096") as process:
        assert process.stderr.readline() == (
            b"NOTICE: Netlink socket buffer size has been set to 8192 bytes.\n"
        )
        process.pause()
        create(lab, *udp(range(1, 501)))
        process.signal(signal.SIGCONT)
        warning = [process.stderr.readline().decode() for _ in range(3)]
        create(lab, *udp([1000]))
        count = 0
        while " sport=1000 " not in process.line():
            count += 1
        process.signal(signal.SIGINT)
        process.stdout.read()
        status, errors = process.wait()
    assert warning[0] == "WARNING: We have hit ENOBUFS! We are losing events.\n"
    assert 0 < count < 100  # the buffer has room for few
    assert status == 0
    assert errors.endswith(f"{VERSION}: {count + 1} flow events have been shown.\n")


def test_a_closed_pipe_ends_events(lab: Lab) -> None:
    with listening(lab) as process:
        process.stop_reading()
        create(lab, *udp([1, 2]))
        assert "Traceback" not in process.wait()[1]
