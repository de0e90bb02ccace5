"""Type checkers accept and refuse the same uses of the public API as intended."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conntrack_aio import Flow, Tuple

SNIPPET = """\
from ipaddress import IPv4Address
from typing import assert_type
from conntrack_aio import Connection, EventStream, Flow, FlowEvent, Status, TCPInfo, Tuple
from conntrack_aio import Change, EventsLost, EventType, ExpectEvent, FlowTable, Match
from conntrack_aio.model.helpers import ExpectPolicy, UserspaceHelper
from conntrack_aio.model.timeouts import TCPTimeouts, TimeoutPolicy, UDPTimeouts
from conntrack_aio.model.settings import EventMode

a = IPv4Address("10.0.0.1")
t = Tuple(src=a, dst=a, proto=6)
good = Flow(orig=t, reply=t, mark=1)
Flow()  # WRONG
Flow(orig=t)  # WRONG
Tuple(src=a, dst=a)  # WRONG
Tuple(src=a, dst=a, proto="tcp")  # WRONG
Tuple(src="10.0.0.1", dst=a, proto=6)  # WRONG
Flow(orig=t, reply=t, colour=1)  # WRONG
Flow(t, t)  # WRONG
mark: int | None = good.mark
certain: int = good.mark  # WRONG
version: int = good.orig.src.version
good.protoinfo.state  # WRONG
if isinstance(good.protoinfo, TCPInfo):
    state: int | None = good.protoinfo.state


async def read_with_losses(conn: Connection) -> None:
    assert_type(conn.events(), EventStream[FlowEvent])
    assert_type(conn.events(EventType.NEW, on_loss="raise"), EventStream[FlowEvent])
    items = conn.events(EventType.NEW, on_loss="item", reliable=True)
    assert_type(items, EventStream[FlowEvent | EventsLost])
    assert_type(await items.receive_batch(), list[FlowEvent | EventsLost])
    assert_type(items.receive_batch_nowait(), list[FlowEvent | EventsLost])
    async for item in items:
        item.flow  # WRONG
        if not isinstance(item, EventsLost):
            assert_type(item, FlowEvent)
    assert_type(conn.expectations.events(), EventStream[ExpectEvent])
    expected = conn.expectations.events(on_loss="item")
    assert_type(expected, EventStream[ExpectEvent | EventsLost])
    conn.events(on_loss="other")  # WRONG
    conn.expectations.events(reliable=True)  # WRONG


async def watch(conn: Connection) -> None:
    async with conn.table(Match(mark=1), reconcile=5) as table:
        assert_type(table, FlowTable)
        assert_type(table.by_orig(t), Flow | None)
        assert_type(table.by_id(7), list[Flow])
        assert_type(table.translate(t), Tuple | None)
        table.by_reply("10.0.0.1")  # WRONG
        async for change in table.changes():
            assert_type(change, Change)
            change.fields = ()  # WRONG
            change.before.orig  # WRONG
        async for batch in table.changes().batches():
            assert_type(batch, list[Change])
        ports = {flow.orig.sport for flow in table}
        assert_type(ports, set[int | None])
    conn.table(lambda flow: flow.mark == 1)
    conn.table(lambda: True)  # WRONG


async def read(stream: EventStream[FlowEvent]) -> None:
    async for event in stream:
        typed: FlowEvent = event
        print(typed.flow.orig.src, typed.flow.id)


policy = TimeoutPolicy(name="a", family=2, proto=6, timeouts=TCPTimeouts(close=1))
TimeoutPolicy(name="a", family=2, proto=6, timeouts=TCPInfo())  # WRONG
TimeoutPolicy.of("a", UDPTimeouts(replied=1), family=2)
TimeoutPolicy.of("a", UDPTimeouts(replied=1))  # WRONG
policy.timeouts.close  # WRONG
if isinstance(policy.timeouts, TCPTimeouts):
    close: int | None = policy.timeouts.close
expected = ExpectPolicy(name="b", expect_max=1, expect_timeout=1)
helper = UserspaceHelper(name="a", family=2, proto=6, policies=(expected,))
UserspaceHelper(name="a", family=2, proto=6, policies=(policy,))  # WRONG
first: ExpectPolicy = helper.policies[0]


async def change(conn: Connection, flow: Flow) -> int:
    await conn.update(flow, mark=1, timeout=5, helper="ftp", zone=3)
    await conn.update(flow, marc=1)  # WRONG
    await conn.update(flow, mark="1")  # WRONG
    for outcome in await conn.update_many([flow], status=Status.ASSURED, stop_on_error=True):
        assert_type(outcome.item, Flow)
    conn.update_many([flow], timeouts=1)  # WRONG
    return await conn.update_matching(Match(mark=1), mark=2)


async def policies(conn: Connection) -> None:
    tcp: TCPTimeouts = await conn.timeouts.get_defaults(TCPTimeouts)
    udp: UDPTimeouts = await conn.timeouts.get_defaults(TCPTimeouts)  # WRONG
    await conn.timeouts.get_defaults(TCPInfo)  # WRONG
    policies: list[TimeoutPolicy] = await conn.timeouts.list()
    async for each in conn.timeouts.dump():
        named: TimeoutPolicy = each
    await conn.helpers.delete(*helper.key)
    await conn.helpers.delete("ftp")  # WRONG
async def settings(conn: Connection) -> bool | None:
    await conn.sysctls.set(acct=True, events=EventMode.ALWAYS)
    await conn.sysctls.set(acct="1")  # WRONG
    await conn.sysctls.set(count=1)  # WRONG
    await conn.sysctls.set(colour=1)  # WRONG
    return (await conn.sysctls.read()).acct
"""
WRONG = {n for n, line in enumerate(SNIPPET.splitlines(), 1) if line.endswith("# WRONG")}


@pytest.fixture
def snippet(tmp_path: Path) -> Path:
    path = tmp_path / "snippet.py"
    path.write_text(SNIPPET)
    return path


def checker(name: str) -> str:
    """Return the path of a type checker, from this environment or from ``PATH``.

    The test is skipped if there is none.
    """
    installed = Path(sys.executable).with_name(name)
    found = str(installed) if installed.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is missing: pip install {name}")
    return found


def test_mypy_reports_exactly_the_wrong_lines(snippet: Path) -> None:
    command = [checker("mypy"), "--strict", "--python-executable", sys.executable, str(snippet)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=snippet.parent)
    lines = {int(n) for n in re.findall(r"^snippet\.py:(\d+): error", done.stdout, re.MULTILINE)}
    assert lines == WRONG, done.stdout


def test_pyright_reports_exactly_the_wrong_lines(snippet: Path) -> None:
    command = [checker("pyright"), "--pythonpath", sys.executable, "--outputjson", str(snippet)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=snippet.parent)
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = [each for each in found if each["severity"] == "error"]
    assert {each["range"]["start"]["line"] + 1 for each in errors} == WRONG, done.stdout


def test_python_refuses_wrong_arguments() -> None:
    tuple_ = Tuple.tcp("10.0.0.1", 1, "10.0.0.2", 2)
    with pytest.raises(TypeError, match="orig"):
        Flow()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Flow(tuple_, tuple_)  # type: ignore[misc]
    with pytest.raises(TypeError, match="colour"):
        Flow(orig=tuple_, reply=tuple_, colour=1)  # type: ignore[call-arg]
