"""Each row of "What differs from conntrack(8)" is true of both programs."""

from __future__ import annotations

import re
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import pytest
from blocks import ROOT
from command_pairs import entries_in, start_worker
from command_worker import Done, Worker
from example_entries import fill, prepare
from running import environment
from support import flows
from support.lab import Lab
from support.processes import NEW, Process, count_subscribers, wait_until

from conntrack_aio import Connection, Match, connect
from conntrack_aio.model.protocols import TCP, UDP

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.program("conntrack", "conntrack"),
    pytest.mark.program("nft", "nftables"),
]

PAGE: Final = ROOT / "docs" / "guides" / "conntrack8.md"
EVENTS: Final = 5000
"""A burst that a receive buffer of the default size does not hold."""

Check = Callable[["Both"], Awaitable[None]]
CHECKS: Final[dict[str, Check]] = {}


class Both:
    """Both programs, in one namespace."""

    def __init__(self, lab: Lab, conn: Connection, directory: Path) -> None:
        self.lab = lab
        self.conn = conn
        self.directory = directory
        self._worker: Worker = start_worker(lab, directory)

    async def run(self, command: str, *, own: bool) -> Done:
        """Fill the table, and run a command by one of the programs."""
        await fill(self.conn)
        return self._worker.run(f"conntrack {command}", links=own)

    async def listed(self, command: str) -> tuple[int, int]:
        """Return how many entries conntrack(8) and this package list."""
        theirs, ours = [await self.run(command, own=own) for own in (False, True)]
        assert ours.status == 0
        return len(entries_in(theirs.output)), len(entries_in(ours.output))

    async def left(self, command: str) -> tuple[int, int]:
        """Return how many entries there are after a command of conntrack(8) and of this package."""
        counts: list[int] = []
        for own in (False, True):
            assert (await self.run(command, own=own)).status == 0
            counts.append(await self.conn.count())
        return counts[0], counts[1]

    def restore(self, file: str) -> Done:
        """Run the commands of a file by this package."""
        return self._worker.run(f"conntrack -R {file}", links=True)

    def close(self) -> None:
        self._worker.close()


def check(row: str) -> Callable[[Check], Check]:
    """Register the function that checks a row, by its first cell."""

    def register(function: Check) -> Check:
        CHECKS[row] = function
        return function

    return register


def rows() -> list[str]:
    """Return the first cells of the table."""
    text = PAGE.read_text(encoding="utf-8").partition("## What differs")[2]
    table = text.partition("| | conntrack(8) | `conntrack-aio` |\n")[2].partition("\n\n")[0]
    return re.findall(r"^\| (\S.*?) \|", table, re.MULTILINE)


@check("`-D -u UNREPLIED`, `-D -u '!ASSURED'`")
async def unset_bits(both: Both) -> None:
    await fill(both.conn)
    kept = sum(str(flow.status).count("ASSURED") for flow in await both.conn.list())
    assert kept
    for status in ("UNREPLIED", "!ASSURED"):
        assert await both.left(f"-D -u {status}") == (0, kept)


@check("`-F -f ipv6`")
async def flush_of_one_family(both: Both) -> None:
    assert await both.left("-F -f ipv6") == (0, 14)


@check("`-L -u UNSET`")
async def unset(both: Both) -> None:
    assert (await both.run("-L -u UNSET", own=False)).status == 1
    assert len(entries_in((await both.run("-L -u UNSET", own=True)).output)) == 12


@check("`-L -c 5`")
async def security_mark(both: Both) -> None:
    assert await both.listed("-L -c 5") == (16, 0)


@check("`-L -p gre --srckey 5`")
async def keys(both: Both) -> None:
    assert await both.listed("-L -p gre --srckey 5") == (1, 0)
    assert await both.listed("-L -p gre --srckey 1") == (1, 1)


@check("`-L -o save`")
async def save(both: Both) -> None:
    theirs, ours = [await both.run("-L -o save", own=own) for own in (False, True)]
    for word in (" -m ", " --label-add ", "-g 10.0.0.3:8080"):
        assert word not in theirs.output
        assert word in ours.output
    (both.directory / "saved").write_text(
        "".join(line for line in ours.output.splitlines(keepends=True) if "label" not in line)
    )
    await both.conn.flush()
    await both.conn.expectations.flush()
    done = both.restore("saved")
    assert done.status == 0, done.errors
    marks = sorted(flow.mark or 0 for flow in await both.conn.list())
    assert marks[-1] == 0x13


@check("`-E -b 8388608`")
async def buffer(both: Both) -> None:
    for own in (False, True):
        await both.conn.flush()
        assert await is_complete(both, own=own) is own


async def is_complete(both: Both, *, own: bool) -> bool:
    """Return whether a program gets all events of a burst that comes while it is stopped."""
    variables = environment(both.directory)
    path = f"{both.directory}/links:{variables['PATH']}" if own else variables["PATH"]
    command = ("env", f"PATH={path}", "conntrack", "-E", "-e", "NEW", "-b", "8388608")
    with Process(both.lab, *command) as process:
        await anyio.to_thread.run_sync(wait_until, lambda: count_subscribers(both.lab, NEW))
        process.pause()
        await flows.fill(both.conn, map(flows.tcp, range(EVENTS)))
        process.signal(signal.SIGCONT)
        # A loss is reported before the first event.
        lines = EVENTS if own else 1
        await anyio.to_thread.run_sync(lambda: [process.line() for _ in range(lines)])
        process.signal(signal.SIGINT)
        _, errors = await anyio.to_thread.run_sync(process.wait)
    return "ENOBUFS" not in errors


@check("`-D --dst-nat=10.244.1.6`, `-D -g10.244.1.6`")
async def joined_values(both: Both) -> None:
    for option in ("--dst-nat=10.244.1.6", "-g10.244.1.6"):
        assert await both.left(f"-D {option}") == (16 - 4, 16 - 1)


@check("`-Lp udp`, `-Dp udp`")
async def joined_letters(both: Both) -> None:
    await fill(both.conn)
    udp = len(await both.conn.list(Match(proto=UDP)))
    assert 0 < udp < 16
    assert await both.listed("-Lp udp") == (16, udp)
    assert await both.left("-Dp udp") == (0, 16 - udp)


@check("`-D -s 10.0.0.70/`")
async def network_without_bits(both: Both) -> None:
    assert (await both.run("-D -s 10.0.0.70/", own=False)).status == 0
    assert await both.conn.count() == 2
    assert (await both.run("-D -s 10.0.0.70/", own=True)).status == 2
    assert await both.conn.count() == 16


@check("`-L -m 0x13 -u ASSURED`")
async def mark_and_status(both: Both) -> None:
    assert await both.listed("-L -m 0x13 -u ASSURED") == (0, 1)


@check("`-U -p udp -s 10.0.0.64/26 -m 5`")
async def update_of_several(both: Both) -> None:
    command = "-U -p udp -s 10.0.0.64/26 -m 5"
    theirs, ours = [await both.run(command, own=own) for own in (False, True)]
    for done in (theirs, ours):
        assert "3 flow entries have been updated" in done.errors
    assert len(entries_in(theirs.output)) < len(entries_in(ours.output)) == 3


@check("`-R` with marks in two lines of `-U`")
async def marks_in_a_file(both: Both) -> None:
    (both.directory / "marks").write_text("-U -s 10.0.0.5 -m 1\n-U -s 10.0.0.6 -m 2\n")
    for own, expected in ((False, [2, 2]), (True, [1, 2])):
        assert (await both.run("-R marks", own=own)).status == 0
        marks = {str(flow.orig.src): flow.mark for flow in await both.conn.list()}
        assert [marks["10.0.0.5"], marks["10.0.0.6"]] == expected


@check("`-R` with labels in two lines")
async def labels_in_a_file(both: Both) -> None:
    line = "-U -s 10.0.0.71 --label-add db\n"
    (both.directory / "labels").write_text(line * 2)
    assert (await both.run("-R labels", own=False)).status not in (0, 1, 2)
    assert (await both.run("-R labels", own=True)).status == 0


@check("`-I expect -p tcp`")
async def expectation(both: Both) -> None:
    command = (
        "-I expect -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 6667 -t 60 "
        "--tuple-src 10.0.0.1 --tuple-dst 10.0.0.2 --tuple-port-src 0 --tuple-port-dst 2051 "
        "--mask-src 255.255.255.255 --mask-dst 255.255.255.255 "
        "--mask-port-src 0 --mask-port-dst 65535"
    )
    for own in (False, True):
        assert (await both.run(command, own=own)).status == 0
        protocols = {each.tuple.proto for each in await both.conn.expectations.list()}
        assert (protocols == {TCP}) is own


@pytest.mark.parametrize("row", rows())
def test_the_programs_differ_as_the_page_says(lab: Lab, row: str, tmp_path: Path) -> None:
    anyio.run(compare, lab, row, tmp_path)


async def compare(lab: Lab, row: str, directory: Path) -> None:
    prepare(lab)
    async with connect(netns=lab.netns) as conn:
        both = Both(lab, conn, directory)
        await CHECKS[row](both)
        both.close()


def test_every_check_has_a_row() -> None:
    assert [*CHECKS] == rows()
