"""Create the entries and the traffic that a page needs, before and while its blocks run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from socket import AF_INET
from types import MappingProxyType
from typing import Any, Final

import anyio
import anyio.to_thread
import attrs
from example_entries import create_entries
from support import expectations, flows
from support.lab import Lab

from conntrack_aio import (
    Connection,
    Flow,
    Match,
    NATRange,
    TimeoutPolicy,
    UDPTimeouts,
)
from conntrack_aio.sandbox import traffic

Action = Callable[[Lab, Connection], Awaitable[object]]


async def nothing(lab: Lab, conn: Connection) -> None:
    """Do nothing."""


@attrs.frozen(kw_only=True)
class Scene:
    """The preparation of a block."""

    before: Action = nothing
    """What to do before the block runs."""
    endless: bool = False
    """Whether the block runs until it is stopped, which is once it has printed the shown output."""
    meanwhile: tuple[tuple[int, Action], ...] = ()
    """What to do while an endless block runs, each after this number of lines of output."""
    listens: bool = True
    """Whether an endless program subscribes to events: the actions wait until it has."""
    prelude: str = ""
    """Commands that the shell runs before the program, or code to insert before a test module."""
    arguments: str = ""
    """The arguments of the program."""
    output: str | None = None
    """The output, if the page does not show it."""
    names: Mapping[str, object] = MappingProxyType({})
    """Names that a fragment uses but does not define."""


def endless(*meanwhile: Action | tuple[int, Action], **more: Any) -> Scene:
    """Return the scene of a block that runs until it has printed the shown output."""
    steps = tuple(each if isinstance(each, tuple) else (0, each) for each in meanwhile)
    return Scene(meanwhile=steps, endless=True, **more)


async def create_flows(lab: Lab, conn: Connection) -> None:
    for number in range(3):
        await conn.create(Flow.udp("10.0.0.70", 1000 + number, "10.1.0.1", 53, timeout=60))
    await conn.create(flows.tcp(mark=0x13))


async def create_flow(lab: Lab, conn: Connection) -> None:
    await conn.create(flows.tcp(mark=7))


async def create_translated_flow(lab: Lab, conn: Connection) -> None:
    flow = Flow.tcp("10.0.0.2", 40422, "198.51.100.9", 443, timeout=60)
    await conn.create(flow, nat_src=NATRange.of("192.0.2.1", 61000))
    await conn.create(flows.udp6())


async def create_and_end_translated_flow(lab: Lab, conn: Connection) -> None:
    await create_translated_flow(lab, conn)
    await conn.delete_matching(Match("snat"))


async def create_forwarded_port(lab: Lab, conn: Connection) -> None:
    flow = Flow.tcp("203.0.113.5", 5000, "192.0.2.1", 80, timeout=60)
    await conn.create(flow, nat_dst=NATRange.of("10.0.0.3", 8080))


async def track(lab: Lab, conn: Connection) -> None:
    lab.track()


async def create_policy(lab: Lab, conn: Connection) -> None:
    await conn.timeouts.create(TimeoutPolicy.of("dns", UDPTimeouts(), family=AF_INET))


async def track_with_counters(lab: Lab, conn: Connection) -> None:
    lab.sysctl("nf_conntrack_acct", 1)
    lab.track()


async def connect_and_end(lab: Lab, conn: Connection) -> None:
    await anyio.to_thread.run_sync(lab.run, traffic.tcp_exchange)
    await conn.flush()


async def create_thousand_flows(lab: Lab, conn: Connection) -> None:
    await flows.fill(conn, map(flows.tcp, range(1000)))


async def change_flow(lab: Lab, conn: Connection) -> None:
    await conn.update(flows.tcp().orig, mark=8)


async def end_all(lab: Lab, conn: Connection) -> None:
    await conn.flush()


async def create_change_and_end_flow(lab: Lab, conn: Connection) -> None:
    """Create, update and delete a flow."""
    await flows.fill(conn, [flows.tcp(mark=7)])
    await change_flow(lab, conn)
    await conn.flush()


async def create_and_end_many_flows(lab: Lab, conn: Connection) -> None:
    await flows.fill(conn, map(flows.tcp, range(20)))
    await conn.flush()


async def exchange_datagrams(lab: Lab, conn: Connection) -> None:
    """Exchange one datagram each way, with counters and timestamps enabled."""
    lab.sysctl("nf_conntrack_acct", 1)
    lab.sysctl("nf_conntrack_timestamp", 1)
    lab.track()
    await anyio.to_thread.run_sync(lab.run, traffic.udp_exchange)


async def allow_labels(lab: Lab, conn: Connection) -> None:
    rule = "table inet t { chain c { type filter hook output priority 0; ct label set 5; }; }"
    lab.program("nft", "-f", "-", input=rule)
    await conn.create(flows.tcp())


async def create_expectation(lab: Lab, conn: Connection) -> None:
    master = await conn.create(expectations.ftp())
    await conn.expectations.create(expectations.data_connection(master))


async def create_flow_with_timestamp(lab: Lab, conn: Connection) -> None:
    lab.sysctl("nf_conntrack_timestamp", 1)
    await conn.create(flows.tcp())


async def use_default_events(lab: Lab, conn: Connection) -> None:
    lab.sysctl("nf_conntrack_events", 2)


SCENES: Final[dict[str, Scene]] = {
    "docs/guides/events.md: Follow events": endless(create_change_and_end_flow),
    "docs/guides/events.md: What an event contains": endless(create_change_and_end_flow),
    "docs/guides/events.md: Subscribe, then dump": endless(
        (1, change_flow), end_all, before=create_flow
    ),
    "docs/guides/events.md: Losses": endless(create_and_end_many_flows),
    "docs/guides/events.md: Filter in the kernel": endless(create_and_end_many_flows),
    "docs/guides/events.md: What a stream cannot receive": Scene(before=use_default_events),
    "docs/guides/events.md: Times": endless(create_change_and_end_flow),
    "docs/guides/events.md: Every DESTROY, reliably": endless(create_and_end_many_flows),
    "docs/guides/live-table.md: Look up connections": Scene(before=create_translated_flow),
    "docs/guides/live-table.md: Follow changes": endless(
        (1, change_flow), (2, end_all), before=create_flow
    ),
    "docs/guides/live-table.md: Keep a copy that is always correct": endless(
        (1, end_all), before=create_flow
    ),
    "docs/guides/live-table.md: A part of the table": Scene(before=create_flows),
    "docs/guides/matches.md: Use it": Scene(before=create_flows),
    "docs/guides/bulk.md: End the connections of a client": Scene(before=create_flows),
    "docs/guides/bulk.md: Change some bits of the mark": Scene(before=create_flows),
    "docs/guides/bulk.md: Save the table and restore it": Scene(before=create_translated_flow),
    "docs/guides/save-restore.md: Save and restore (console 1)": Scene(
        before=create_forwarded_port
    ),
    "docs/guides/bulk.md: Label flows": Scene(before=allow_labels),
    "docs/guides/nat.md: Who has a public port now": Scene(before=create_translated_flow),
    "docs/guides/nat.md: Which address is behind the NAT": Scene(before=create_translated_flow),
    "docs/guides/nat.md: Translate a packet": Scene(before=create_translated_flow),
    "docs/guides/nat.md: All translated flows": Scene(before=create_translated_flow),
    "docs/guides/nat.md: Connections that helpers expect": Scene(before=create_expectation),
    "docs/guides/conntrack8.md: For those who know conntrack(8)": Scene(before=create_entries),
    "docs/guides/command.md: Look (console 1)": Scene(before=create_entries),
    "docs/guides/columns.md: From a shell (console 1)": Scene(before=create_flows),
    "docs/guides/columns.md: Query a table with DuckDB": Scene(before=create_flows),
    "docs/guides/columns.md: Polars, pandas and Parquet": Scene(before=create_flows),
    "docs/guides/columns.md: Batch by batch": Scene(before=create_flows),
    "docs/guides/columns.md: Events": endless(create_change_and_end_flow),
    "docs/guides/columns.md: The columns": Scene(before=create_flow),
    "docs/guides/counters.md: Who talks to whom": Scene(before=create_flows),
    "docs/guides/counters.md: Who talks to whom (python 2)": Scene(before=exchange_datagrams),
    "docs/guides/counters.md: Account traffic without losing a packet": endless(
        before=exchange_datagrams
    ),
    "docs/guides/counters.md: Traffic of a connection when it ends": endless(
        end_all, before=exchange_datagrams
    ),
    "docs/guides/asyncio-servers.md: aiohttp": Scene(before=create_flows),
    "docs/guides/trio.md: A complete application": Scene(before=create_flow_with_timestamp),
    "docs/guides/workers.md: N workers, order kept": endless(create_change_and_end_flow),
    "docs/guides/usage-alarm.md: How full is it": Scene(before=create_flows),
    "docs/guides/usage-alarm.md: The alarm": Scene(before=create_flows),
    "docs/guides/http-endpoint.md: Query it": Scene(before=create_translated_flow),
    "docs/guides/json-log.md: A program with fields of your own": endless(
        create_and_end_translated_flow, before=create_forwarded_port
    ),
    "docs/guides/json-log.md: With the command": Scene(before=track),
    "docs/guides/usage-alarm.md: Give some flows a timeout policy (console 1)": Scene(
        before=create_policy
    ),
    "docs/troubleshooting.md: I see no events": Scene(before=use_default_events),
    "docs/install.md: Check the installation": Scene(before=track),
    "docs/privileges.md: Root": Scene(before=track),
    "docs/index.md: A first example": endless(connect_and_end, before=track_with_counters),
    "docs/index.md: What it does": Scene(before=create_translated_flow),
    "docs/internals.md: Why pure Python is fast enough": Scene(before=create_thousand_flows),
    "README.md: conntrack_aio": endless(connect_and_end, before=track),
}
"""The scenes, by page and heading. A key may also name one block below the heading."""

EXCERPTS: Final[dict[str, str]] = {
    "docs/internals.md:One declaration for each attribute:3": "conntrack_aio/model/flow.py",
}
"""The blocks that are excerpts of a file, and the files."""

_ANOTHER_USER: Final = """\
setpriv --reuid=65534 --regid=65534 --clear-groups \\
    --inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin --bounding-set=-all,+net_admin \\
    conntrack-aio count"""

EXCEPTIONS: Final[dict[tuple[str, str], str]] = {
    (
        "docs/install.md",
        "python3 -m venv .venv",
    ): "takes seconds; the tests run in an existing environment",
    (
        "docs/install.md",
        ". .venv/bin/activate",
    ): "needs the environment that the tests do not create",
    ("docs/tutorial.md", ". .venv/bin/activate"): (
        "needs the environment that the tests do not create"
    ),
    (
        "docs/guides/command.md",
        "conntrack-aio list --json proto tcp | jq -r 'select(.timeout < 60) | .orig.src'",
    ): "needs jq",
    (
        "docs/guides/command.md",
        "conntrack-aio events --json --type destroy | "
        "jq -c '{src: .flow.orig.src, bytes: .flow.counters_orig.bytes}'",
    ): "needs jq, and runs until it is interrupted",
    ("docs/install.md", "pip install ."): "needs a package index",
    ("docs/install.md", "pip install trio uvloop"): "needs a package index",
    (
        "docs/install.md",
        "sudo .venv/bin/conntrack-aio count",
    ): "needs the environment that the tests do not create",
    ("docs/install.md", "sudo modprobe nf_conntrack_netlink"): "changes the machine",
    ("docs/troubleshooting.md", "sudo modprobe nf_conntrack_netlink"): "changes the machine",
    ("docs/privileges.md", "sudo modprobe nf_conntrack_netlink"): "changes the machine",
    (
        "docs/privileges.md",
        "docker run --rm --network host --cap-drop ALL --cap-add NET_ADMIN IMAGE "
        "conntrack-aio count",
    ): "needs a Docker daemon and an image",
    (
        "docs/privileges.md",
        "docker run --rm --cap-add NET_ADMIN --sysctl net.netfilter.nf_conntrack_acct=1 IMAGE "
        "conntrack-aio count",
    ): "needs a Docker daemon and an image",
    ("docs/privileges.md", _ANOTHER_USER): "needs a Python that another user may run; "
    "tests/examples/test_units.py shows that the capability is sufficient",
}
"""The commands that are not run, by page and command, and why."""
