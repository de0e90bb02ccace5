"""``-E`` shows the events that the program conntrack(8) shows: random options, by both at once."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest
from support.conntrack8_commands import Generator
from support.conntrack8_worker import Worker, in_environment
from support.effort import thorough_or_quick
from support.expectations import ftp
from support.lab import Lab
from support.processes import Process, wait_until

from conntrack_aio import Expectation, NetNS, Tuple, __version__, connect

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.program("conntrack", "conntrack"),
    pytest.mark.program("nft", "nftables"),
    pytest.mark.program("unshare", "util-linux"),
]

SEED = int(os.environ.get("CONNTRACK_AIO_TEST_SEED", "1"))
COUNT = thorough_or_quick(40, 10)
"""How many command lines are compared."""

LABELS_IN_USE = "add table t; add chain t c; add rule t c ct label set 5"

CHANGES = """\
-I -t 1000 -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 80 --state SYN_SENT -m 1
-I -t 1000 -p tcp -s fd00::1 -d fd00::2 --sport 1 --dport 2 --state ESTABLISHED -u SEEN_REPLY
-I -t 1000 -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2 -n 192.0.2.1 -m 7
-I -t 1000 -p udp -s 10.0.0.2 -d 10.0.0.3 --sport 1 --dport 2 -g 192.0.2.1:77 --label-add web
-I -t 1000 -p udp -s 10.0.0.3 -d 10.0.0.1 --sport 3 --dport 80 -w 5 -u ASSURED,SEEN_REPLY
-I -t 1000 -p udp -s 10.0.0.1 -d 10.0.0.3 --sport 1 --dport 2 --orig-zone 5
-I -t 1000 -p sctp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2 --state ESTABLISHED --orig-vtag 1 \
--reply-vtag 2
-I -t 1000 -p gre -s 10.0.0.1 -d 10.0.0.2 --srckey 1 --dstkey 2
-I -t 1000 -p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 7
-I -t 1000 -p igmp -s 10.0.0.1 -d 10.0.0.2
-U -p tcp -s 10.0.0.1 -d 10.0.0.2 --state ESTABLISHED -u SEEN_REPLY,ASSURED
-U -p tcp -s fd00::1 -d fd00::2 -m 255
-U -p udp -s 10.0.0.1 -d 10.0.0.2 -m 0
-U -p udp -s 10.0.0.1 -d 10.0.0.2 --label-add db
-U -p igmp -s 10.0.0.1 -d 10.0.0.2 -t 2000 -m 16
-D -p udp -s 10.0.0.1
-D -p sctp
-F
"""
"""Changes of the table, made by the program."""

RUN_OURS = """
import sys
from conntrack_aio.cli.conntrack8.command import run
sys.exit(run(sys.argv[1:]))
"""

_THEIRS = re.compile(r"conntrack v[0-9.]+ \(conntrack-tools\)")
_OURS = f"conntrack v{__version__} (conntrack_aio)"
_MARKS_AND_LABELS_SAVED = re.compile(r"( -m \d+)?( --label-add \S+)?(?= \[USERSPACE\]|$)")
_NAT_PORT_SAVED = re.compile(r"(?<= -[ng] )([^ :]+):\d+")


@pytest.fixture
def lab(lab: Lab) -> Lab:
    lab.program("nft", LABELS_IN_USE)
    return lab


@pytest.fixture
def worker(lab: Lab) -> Iterator[Worker]:
    worker = Worker(lab)
    yield worker
    worker.close()


def listener(lab: Lab, *arguments: str, ours: bool) -> Process:
    program = (sys.executable, "-c", RUN_OURS) if ours else ("conntrack",)
    return Process(lab, *in_environment(*program, *arguments))


def receive_queues(lab: Lab) -> list[int]:
    """Return the bytes that wait in each netfilter socket that subscribes to events."""
    table = lab.run(Path("/proc/thread-self/net/netlink").read_text)
    rows = [line.split() for line in table.splitlines()[1:]]
    return [int(row[4]) for row in rows if row[1] == "12" and int(row[3], 16)]


def wait_until_subscribed(lab: Lab, processes: Iterable[Process]) -> None:
    """Wait until each process subscribes to events, or ends because of its arguments."""
    wait_until(lambda: len(receive_queues(lab)) == sum(each.running for each in processes))


def wait_until_idle(lab: Lab, processes: Iterable[Process]) -> None:
    """Wait until each process has handled all events, and sleeps."""
    wait_until(lambda: not any(receive_queues(lab)))
    wait_until(lambda: not any(each.running and _is_busy(each) for each in processes))


def _is_busy(process: Process) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S"


def ended(process: Process) -> tuple[int, str, list[str]]:
    """End a process, and return its status, errors and lines, without what varies."""
    if process.running:  # the arguments are valid
        process.signal(signal.SIGTERM)
    output = process.stdout.read().decode()
    status, errors = process.wait()
    return status, _THEIRS.sub(_OURS, errors), [_masked(line) for line in output.splitlines()]


def _masked(line: str) -> str:
    # The program writes blanks behind microseconds instead of zeros before them.
    line = re.sub(r"^\[\d+\.[\d ]{6}\]", "[*]", line)
    line = re.sub(r"portid=\d+( progname=\S+)?", "portid=*", line)
    line = re.sub(r"<when>.*?</when>|<(portid|progname)>.*?</\1>", "", line)
    if line.startswith(("-A ", "-U ", "-D ")):
        # This package saves marks, labels and the ports of translations, too.
        line = _NAT_PORT_SAVED.sub(r"\1", _MARKS_AND_LABELS_SAVED.sub("", line, count=1))
    return line


def test_random_options(lab: Lab, worker: Worker) -> None:
    generate = Generator(SEED).events
    commands = [generate() for _ in range(COUNT)]
    shown = 0
    with ExitStack() as stack:
        pairs = [
            [stack.enter_context(listener(lab, *arguments, ours=ours)) for ours in (False, True)]
            for arguments in commands
        ]
        listeners = [process for pair in pairs for process in pair]
        wait_until_subscribed(lab, listeners)
        for line in CHANGES.splitlines():
            assert worker.program(*line.split()).status == 0, line
        wait_until_idle(lab, listeners)
        for arguments, pair in zip(commands, pairs, strict=True):
            theirs, ours = map(ended, pair)
            assert ours == theirs, arguments
            shown += len(ours[2])
    assert shown > COUNT


async def add_expectation(netns: NetNS) -> None:
    """Create a master and an expectation, and flush the expectations."""
    async with connect(netns=netns) as conn:
        master = ftp()
        await conn.create(master)
        expected = Tuple.tcp("10.0.0.2", 5, "10.0.0.1", 2000)
        await conn.expectations.create(Expectation.of(master.orig, expected))
        await conn.expectations.flush()


@pytest.mark.parametrize("output", [(), ("-o", "xml"), ("-o", "timestamp"), ("-o", "extended,id")])
def test_expectations(lab: Lab, output: tuple[str, ...]) -> None:
    arguments = ("-E", "expect", *output)
    with (
        listener(lab, *arguments, ours=False) as theirs,
        listener(lab, *arguments, ours=True) as ours,
    ):
        wait_until_subscribed(lab, (theirs, ours))
        anyio.run(add_expectation, lab.netns)
        wait_until_idle(lab, (theirs, ours))
        expected = ended(theirs)
        assert ended(ours) == expected
    assert len(expected[2]) >= 2
