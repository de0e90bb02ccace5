"""Every recipe runs as it stands on the page, and prints what it should."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import anyio
import anyio.to_thread
import pytest
from support import expectations as some
from support import flows
from support.lab import Lab

from conntrack_aio import Connection, Flow, NATRange
from conntrack_aio.sandbox import traffic

PATIENCE = 20.0
PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"

Action = Callable[[Lab, Connection], Awaitable[object]]


async def nothing(lab: Lab, conn: Connection) -> None:
    """For a recipe that needs none."""


class Recipe(NamedTuple):
    """What makes a recipe's kitchen, what happens while it runs, and what it prints then."""

    prints: tuple[str, ...]
    before: Action = nothing
    meanwhile: Action = nothing
    endless: bool = False
    programs: tuple[str, ...] = ()


async def some_flows(lab: Lab, conn: Connection) -> None:
    for number in range(3):
        await conn.create(Flow.udp("10.0.0.70", 1000 + number, "10.1.0.1", 53, timeout=60))
    await conn.create(flows.tcp(mark=0x13))


async def a_translated_flow(lab: Lab, conn: Connection) -> None:
    flow = Flow.tcp("10.0.0.2", 40422, "198.51.100.9", 443, timeout=60)
    await conn.create(flow, nat_src=NATRange.of("192.0.2.1", 61000))
    await conn.create(flows.udp6())


async def accounting(lab: Lab, conn: Connection) -> None:
    lab.sysctl("nf_conntrack_acct", 1)
    lab.track()
    await anyio.to_thread.run_sync(lab.run, traffic.ping)


async def a_flow_ends(lab: Lab, conn: Connection) -> None:
    while True:
        await anyio.to_thread.run_sync(lab.run, traffic.udp_exchange)
        await conn.flush()


async def a_flood(lab: Lab, conn: Connection) -> None:
    await flows.fill(conn, map(flows.tcp, range(20)))
    await conn.flush()


async def room_for_labels(lab: Lab, conn: Connection) -> None:
    rule = "table inet t { chain c { type filter hook output priority 0; ct label set 5; }; }"
    lab.program("nft", "-f", "-", input=rule)
    await conn.create(flows.tcp())


async def no_events(lab: Lab, conn: Connection) -> None:
    lab.sysctl("nf_conntrack_events", 0)


async def an_expectation(lab: Lab, conn: Connection) -> None:
    master = await conn.create(some.ftp())
    await conn.expectations.create(some.data(master))


RECIPES = {
    "Who talks to whom": Recipe(("10.0.0.70 3", "10.1.0.1 1"), some_flows),
    "Which address is behind the NAT": Recipe(
        ("10.0.0.2:40422 is seen outside as 192.0.2.1:61000",), a_translated_flow
    ),
    "End the connections of one client": Recipe(("3 connections ended",), some_flows),
    "Account traffic without losing a packet": Recipe(
        (r"\[\('127.0.0.1', \d+\)\]",), accounting, a_flow_ends, endless=True
    ),
    "Follow events, and survive a loss": Recipe(
        ("NEW .*10.1.0.3:40000", "DESTROY .*10.1.0.3:40000"), nothing, a_flood, endless=True
    ),
    "Follow some flows alone, filtered in the kernel": Recipe(
        (
            "events: +the kernel queues only events that (may )?match, by a program of",
            "tcp .*10.1.0.19:40000",
        ),
        nothing,
        a_flood,
        endless=True,
    ),
    "Keep a copy of the table that is always true": Recipe(
        ("ended: udp 127.0.0.1.* known by: event",), accounting, a_flow_ends, endless=True
    ),
    "Translate packets that were seen on one side of a NAT": Recipe(
        ("inside it is tcp 198.51.100.9:443 -> 10.0.0.2:40422",), a_translated_flow
    ),
    "Hand a connection over to another router": Recipe(("NAT.*10.0.0.2.*40422.*192.0.2.1.*61000",)),
    "Save the table, and restore it": Recipe(("2 of 2 restored",), a_translated_flow),
    "Change some bits of the mark": Recipe(("1 changed",), some_flows),
    "Label flows": Recipe(
        (r"tcp 10.1.0.1:40000 -> 10.2.0.1:80 \['web'\]",), room_for_labels, programs=("nft",)
    ),
    "How full is the table": Recipe((r"4 of \d+",), some_flows),
    "Ask what this kernel supports": Recipe(
        ("filters dumps by zone: (True|False)", "has timeout policies: (True|False)")
    ),
    "Have counters and times, and events of every flow": Recipe(
        ("no flow is tracked here: .*firewall rule",), no_events
    ),
    "See what FTP and SIP are about to open": Recipe(
        ("ftp expects tcp 10.0.0.1:0 -> 10.0.0.2:2050 of tcp 10.0.0.1:1000",), an_expectation
    ),
    "Open a port for a connection that is expected": Recipe(
        (r"expected for (29|30) seconds: tcp 198.51.100.9:0 -> 10.0.0.2:50000",)
    ),
    "Give some flows timeouts of their own": Recipe(
        (r"dns UDPTimeouts\(unreplied=5, replied=10\)",)
    ),
    "Shorten the timeouts of a namespace": Recipe(("86400",)),
    "Look into another namespace": Recipe((r"\d+ flows there",)),
    "Follow all namespaces of a machine": Recipe(
        ("here NEW udp 127.0.0.1", "here DESTROY"), accounting, a_flow_ends, endless=True
    ),
    "Test a program without root": Recipe(("1 ended, 1 left",)),
}


def blocks() -> dict[str, str]:
    """The code of each recipe, by its heading."""
    found: dict[str, str] = {}
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        (found[heading],) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return found


def test_every_recipe_is_tried() -> None:
    assert list(blocks()) == list(RECIPES)


def compiled(heading: str) -> CodeType:
    """As in an interactive session, where one may await."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(blocks()[heading], f"{PAGE.name}: {heading}", "exec", flags)
    return code


class Printed:
    """What a recipe prints, and whether it is all that is expected."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self.lines: list[str] = []
        self.complete = anyio.Event()
        self._patterns = patterns

    def __call__(self, *values: object) -> None:
        self.lines.append(" ".join(map(str, values)))
        text = "\n".join(self.lines)
        if all(re.search(f"^{pattern}", text, re.MULTILINE) for pattern in self._patterns):
            self.complete.set()


@pytest.mark.anyio
@pytest.mark.kernel
@pytest.mark.parametrize(
    "heading",
    [
        pytest.param(
            heading,
            marks=[pytest.mark.program(each, "nftables") for each in recipe.programs],
            id=heading,
        )
        for heading, recipe in RECIPES.items()
    ],
)
async def test_recipe(lab: Lab, conn: Connection, heading: str) -> None:
    recipe = RECIPES[heading]
    await recipe.before(lab, conn)
    printed = Printed(recipe.prints)
    code = compiled(heading)

    async def run() -> None:
        # Of a block that awaits nothing there is nothing to await.
        result = eval(code, {"conn": conn, "print": printed})
        if inspect.isawaitable(result):
            await result
        assert not recipe.endless

    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(PATIENCE):
            if recipe.endless:
                tasks.start_soon(run)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(recipe.meanwhile, lab, conn)
                await printed.complete.wait()
            else:
                await run()
        tasks.cancel_scope.cancel()
    assert printed.complete.is_set(), printed.lines
