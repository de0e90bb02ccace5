"""The commands in one row of a table that follow events print the same events, as the library does.

They are the rows below the heading "Follow".
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from command_pairs import (
    Entry,
    Row,
    create_links,
    entries_in,
    entry_of_tuple,
    public_names,
    rows_of,
)
from example_entries import fill, prepare
from running import environment
from support.lab import Lab
from support.processes import Process, wait_until

from conntrack_aio import (
    Connection,
    EventStream,
    Expectation,
    ExpectEvent,
    Flow,
    FlowEvent,
    NATRange,
    Tuple,
    connect,
)

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.program("conntrack", "conntrack"),
    pytest.mark.program("nft", "nftables"),
]

FlowOrExpected = FlowEvent | ExpectEvent
Seen = tuple[str, Entry]
"""The type of an event, and the entry."""


@pytest.mark.parametrize(
    "row",
    [row for row in rows_of("docs/guides/conntrack8.md") if row.heading == "Follow"],
    ids=lambda row: row.title,
)
def test_the_commands_of_a_row_follow_the_same_events(lab: Lab, row: Row, tmp_path: Path) -> None:
    anyio.run(check_events, lab, row, tmp_path)


async def check_events(lab: Lab, row: Row, directory: Path) -> None:
    """All ways follow the events at the same time, until each has shown what the library got."""
    assert row.program is not None
    assert row.own is not None
    prepare(lab)
    (call,) = row.library
    async with connect(netns=lab.netns) as conn:
        await fill(conn)
        stream: EventStream[FlowOrExpected] = eval(call, {**public_names(), "conn": conn})
        async with stream:
            with (
                follower(lab, directory, row.program) as program,
                follower(lab, directory, row.program, links=True) as same,
                follower(lab, directory, row.own) as own,
            ):
                await anyio.to_thread.run_sync(wait_until, lambda: count_listeners(lab) >= 4)
                await change_entries(conn)
                expected = sorted(map(seen, received(stream)))
                assert expected, row
                for process, status in ((program, 0), (same, 0), (own, 130)):
                    await anyio.to_thread.run_sync(
                        check_follower, process, expected, status, process is program
                    )


def follower(lab: Lab, directory: Path, command: str, *, links: bool = False) -> Process:
    """Start a command that follows events."""
    inherited = environment(directory)
    path = inherited["PATH"]
    if links:
        path = f"{create_links(directory)}:{path}"
    words = [f"{name}={value}" for name, value in {**inherited, "PATH": path}.items()]
    return Process(lab, "env", "-i", *words, "bash", "-c", f"exec {command}")


def count_listeners(lab: Lab) -> int:
    """Return how many netfilter sockets of the namespace subscribe to events."""
    table = lab.run(Path("/proc/thread-self/net/netlink").read_text)
    lines = [line.split() for line in table.splitlines()[1:]]
    return sum(line[1] == "12" and int(line[3], 16) != 0 for line in lines)


async def change_entries(conn: Connection) -> None:
    """Create, change and delete entries, so that every row has events."""
    new = Flow.udp("10.0.0.70", 7000, "10.96.0.10", 53, timeout=60)
    made = await conn.create(new, nat_dst=NATRange.of("10.244.1.5"))
    await conn.create(Flow.udp("10.0.0.7", 7000, "10.0.0.8", 80, timeout=60, zone=7))
    await conn.update(made, mark=9)
    master = Tuple.tcp("10.0.0.1", 1000, "10.0.0.2", 6667)
    expected = Tuple.tcp("10.0.0.1", 0, "10.0.0.2", 2051)
    await conn.expectations.create(Expectation.of(master, expected, any_sport=True))
    await conn.expectations.flush()
    await conn.flush()


def received(stream: EventStream[FlowOrExpected]) -> Iterator[FlowOrExpected]:
    """Yield the events that the kernel has sent: it sends them before it answers a request."""
    while batch := stream.receive_batch_nowait():
        yield from batch


def seen(event: FlowOrExpected) -> Seen:
    found = event.flow.orig if isinstance(event, FlowEvent) else event.expectation.tuple
    return event.type.name, entry_of_tuple(found)


def check_follower(
    process: Process, expected: Sequence[Seen], status: int, may_repeat: bool
) -> None:
    """Check that a command prints these events and no others, and ends when interrupted.

    :param may_repeat: whether it may print its last line twice. conntrack(8) does so if it is
        interrupted right after it has written a line: its signal handler calls ``exit()``, which
        writes the buffer again.
    """
    found: list[Seen] = []
    while len(found) < len(expected):
        found += events_in(process.line())
    process.signal(signal.SIGINT)
    ended, errors = process.wait()
    found += events_in(process.stdout.read().decode())
    if may_repeat and len(found) > len(expected):
        found.remove(found[-1])
    assert sorted(found) == expected
    assert ended == status, errors


def events_in(text: str) -> list[Seen]:
    """Return the event of each line of text."""
    found: list[Seen] = []
    for line in text.splitlines():
        kind = re.search(r"\b(new|update|destroy)\b", line, re.IGNORECASE)
        if kind:
            (entry,) = entries_in(line)
            found.append((kind[1].upper(), entry))
    return found
