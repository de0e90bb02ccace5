"""What happens before and while a block runs: entries and traffic that its page supposes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from socket import AF_INET
from types import MappingProxyType
from typing import Any, Final

import anyio
import anyio.to_thread
import attrs
from support import expectations as some
from support import flows
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
    """For a block that needs none."""


@attrs.frozen(kw_only=True)
class Scene:
    """What a block supposes."""

    before: Action = nothing
    """Done before it runs."""
    endless: bool = False
    """Whether it runs until it is stopped; it is stopped once it has printed what is shown."""
    meanwhile: tuple[tuple[int, Action], ...] = ()
    """Done while an endless block runs, each once that many lines have been printed."""
    listens: bool = True
    """Whether an endless program subscribes to events, and is waited for until it has."""
    prelude: str = ""
    """Commands that a shell runs before the program, or what stands above a test module."""
    arguments: str = ""
    """The arguments of the program."""
    output: str | None = None
    """What it prints, where the page does not show it."""
    names: Mapping[str, object] = MappingProxyType({})
    """Names that a fragment uses and does not define."""


def endless(*meanwhile: Action | tuple[int, Action], **more: Any) -> Scene:
    """A scene that goes on until its block has printed what is shown."""
    steps = tuple(each if isinstance(each, tuple) else (0, each) for each in meanwhile)
    return Scene(meanwhile=steps, endless=True, **more)


async def some_flows(lab: Lab, conn: Connection) -> None:
    for number in range(3):
        await conn.create(Flow.udp("10.0.0.70", 1000 + number, "10.1.0.1", 53, timeout=60))
    await conn.create(flows.tcp(mark=0x13))


async def a_marked_flow(lab: Lab, conn: Connection) -> None:
    await conn.create(Flow.udp("10.0.0.70", 1000, "10.1.0.1", 53, timeout=60, mark=0x13))


async def a_flow(lab: Lab, conn: Connection) -> None:
    await conn.create(flows.tcp(mark=7))


async def a_translated_flow(lab: Lab, conn: Connection) -> None:
    flow = Flow.tcp("10.0.0.2", 40422, "198.51.100.9", 443, timeout=60)
    await conn.create(flow, nat_src=NATRange.of("192.0.2.1", 61000))
    await conn.create(flows.udp6())


async def a_translation(lab: Lab, conn: Connection) -> None:
    await a_translated_flow(lab, conn)
    await conn.delete_matching(Match("snat"))


async def a_forwarded_port(lab: Lab, conn: Connection) -> None:
    flow = Flow.tcp("203.0.113.5", 5000, "192.0.2.1", 80, timeout=60)
    await conn.create(flow, nat_dst=NATRange.of("10.0.0.3", 8080))


async def tracking(lab: Lab, conn: Connection) -> None:
    lab.track()


async def a_policy(lab: Lab, conn: Connection) -> None:
    await conn.timeouts.create(TimeoutPolicy.of("dns", UDPTimeouts(), family=AF_INET))


async def counting(lab: Lab, conn: Connection) -> None:
    lab.sysctl("nf_conntrack_acct", 1)
    lab.track()


async def a_connection(lab: Lab, conn: Connection) -> None:
    await anyio.to_thread.run_sync(lab.run, traffic.tcp_exchange)
    await conn.flush()


async def a_thousand_flows(lab: Lab, conn: Connection) -> None:
    await flows.fill(conn, map(flows.tcp, range(1000)))


async def it_changes(lab: Lab, conn: Connection) -> None:
    await conn.update(flows.tcp().orig, mark=8)


async def all_end(lab: Lab, conn: Connection) -> None:
    await conn.flush()


async def a_life(lab: Lab, conn: Connection) -> None:
    """A flow begins, changes and ends."""
    await flows.fill(conn, [flows.tcp(mark=7)])
    await it_changes(lab, conn)
    await conn.flush()


async def a_flood(lab: Lab, conn: Connection) -> None:
    await flows.fill(conn, map(flows.tcp, range(20)))
    await conn.flush()


async def an_exchange(lab: Lab, conn: Connection) -> None:
    """One datagram each way, tracked and counted."""
    lab.sysctl("nf_conntrack_acct", 1)
    lab.sysctl("nf_conntrack_timestamp", 1)
    lab.track()
    await anyio.to_thread.run_sync(lab.run, traffic.udp_exchange)


async def room_for_labels(lab: Lab, conn: Connection) -> None:
    rule = "table inet t { chain c { type filter hook output priority 0; ct label set 5; }; }"
    lab.program("nft", "-f", "-", input=rule)
    await conn.create(flows.tcp())


async def an_expectation(lab: Lab, conn: Connection) -> None:
    master = await conn.create(some.ftp())
    await conn.expectations.create(some.data(master))


async def an_old_flow(lab: Lab, conn: Connection) -> None:
    lab.sysctl("nf_conntrack_timestamp", 1)
    await conn.create(flows.tcp())


async def default_events(lab: Lab, conn: Connection) -> None:
    lab.sysctl("nf_conntrack_events", 2)


SCENES: Final[dict[str, Scene]] = {
    "docs/guides/events.md: Follow events": endless(a_life),
    "docs/guides/events.md: What an event contains": endless(a_life),
    "docs/guides/events.md: Subscribe, then dump": endless((1, it_changes), all_end, before=a_flow),
    "docs/guides/events.md: Losses": endless(a_flood),
    "docs/guides/events.md: Filter in the kernel": endless(a_flood),
    "docs/guides/events.md: What a stream cannot receive": Scene(before=default_events),
    "docs/guides/events.md: Times": endless(a_life),
    "docs/guides/events.md: Every DESTROY, reliably": endless(a_flood),
    "docs/guides/live-table.md: Look up connections": Scene(before=a_translated_flow),
    "docs/guides/live-table.md: Follow changes": endless(
        (1, it_changes), (2, all_end), before=a_flow
    ),
    "docs/guides/live-table.md: Keep a copy that is always correct": endless(
        (1, all_end), before=a_flow
    ),
    "docs/guides/live-table.md: A part of the table": Scene(before=some_flows),
    "docs/guides/matches.md: Use it": Scene(before=some_flows),
    "docs/guides/bulk.md: End the connections of a client": Scene(before=some_flows),
    "docs/guides/bulk.md: Change some bits of the mark": Scene(before=some_flows),
    "docs/guides/bulk.md: Save the table and restore it": Scene(before=a_translated_flow),
    "docs/guides/bulk.md: Label flows": Scene(before=room_for_labels),
    "docs/guides/nat.md: Who has a public port now": Scene(before=a_translated_flow),
    "docs/guides/nat.md: Which address is behind the NAT": Scene(before=a_translated_flow),
    "docs/guides/nat.md: Translate a packet": Scene(before=a_translated_flow),
    "docs/guides/nat.md: All translated flows": Scene(before=a_translated_flow),
    "docs/guides/nat.md: Connections that helpers expect": Scene(before=an_expectation),
    "docs/guides/conntrack8.md: Filters": Scene(before=a_marked_flow),
    "docs/guides/conntrack8.md: Change and delete": Scene(before=a_marked_flow),
    "docs/guides/counters.md: Who talks to whom": Scene(before=some_flows),
    "docs/guides/counters.md: Who talks to whom (python 2)": Scene(before=an_exchange),
    "docs/guides/counters.md: Account traffic without losing a packet": endless(before=an_exchange),
    "docs/guides/counters.md: Traffic of a connection when it ends": endless(
        all_end, before=an_exchange
    ),
    "docs/guides/asyncio-servers.md: aiohttp": Scene(before=some_flows),
    "docs/guides/trio.md: A complete application": Scene(before=an_old_flow),
    "docs/guides/workers.md: N workers, order kept": endless(a_life),
    "docs/guides/usage-alarm.md: How full is it": Scene(before=some_flows),
    "docs/guides/usage-alarm.md: The alarm": Scene(before=some_flows),
    "docs/guides/http-endpoint.md: Query it": Scene(before=a_translated_flow),
    "docs/guides/json-log.md: A program with fields of your own": endless(
        a_translation, before=a_forwarded_port
    ),
    "docs/guides/json-log.md: With the command": Scene(before=tracking),
    "docs/guides/usage-alarm.md: Give some flows a timeout policy (console 1)": Scene(
        before=a_policy
    ),
    "docs/troubleshooting.md: I see no events": Scene(before=default_events),
    "docs/install.md: Check the installation": Scene(before=tracking),
    "docs/privileges.md: Root": Scene(before=tracking),
    "docs/index.md: A first example": endless(a_connection, before=counting),
    "docs/index.md: What it does": Scene(before=a_translated_flow),
    "docs/internals.md: Why pure Python is fast enough": Scene(before=a_thousand_flows),
    "README.md: conntrack_aio": endless(a_connection, before=tracking),
}
EXCERPTS: Final[dict[str, str]] = {
    "docs/internals.md:One declaration for each attribute:3": "conntrack_aio/model/flow.py",
}
_ANOTHER_USER: Final = """\
setpriv --reuid=65534 --regid=65534 --clear-groups \\
    --inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin --bounding-set=-all,+net_admin \\
    conntrack-aio count"""

EXCEPTIONS: Final[dict[tuple[str, str], str]] = {
    ("docs/install.md", "python3 -m venv .venv"): "takes seconds; the tests have an environment",
    ("docs/install.md", ". .venv/bin/activate"): "is of that environment",
    ("docs/tutorial.md", ". .venv/bin/activate"): "is of that environment",
    ("docs/install.md", "pip install ."): "needs a package index",
    ("docs/install.md", "pip install trio uvloop"): "needs a package index",
    ("docs/install.md", "sudo .venv/bin/conntrack-aio count"): "is of that environment",
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
    ("docs/privileges.md", _ANOTHER_USER): "needs a Python that another user may run; that the "
    "capability is enough, tests/examples/test_units.py shows",
}
