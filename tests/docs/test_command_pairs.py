"""The commands in one row of a table do the same: the old one by both programs, the new one, and
the call of the library."""

from __future__ import annotations

import ast
import inspect
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import CodeType
from typing import Final, cast

import anyio
import attrs
import pytest
from blocks import DOCS
from command_pairs import (
    Entry,
    Row,
    entries_in,
    entry_of,
    number_in,
    rows_of,
    start_worker,
    state_of,
)
from command_worker import Done, Worker
from example_entries import LABELS, fill, prepare
from support.lab import Lab
from support.processes import TIMEOUT, count_subscribers

import conntrack_aio
from conntrack_aio import (
    Connection,
    Dump,
    EventStream,
    EventType,
    Flow,
    FlowEvent,
    Match,
    Tuple,
    connect,
)
from conntrack_aio.model import labels

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.program("conntrack", "conntrack"),
    pytest.mark.program("nft", "nftables"),
]

PAGE: Final = "docs/guides/conntrack8.md"
ROWS: Final = rows_of(PAGE)
FOLLOWING: Final = "Follow"
HEADINGS: Final = [*dict.fromkeys(row.heading for row in ROWS)]

FAILS_AFTER_SUCCESS: Final = {"conntrack -D expect"}
"""The commands of conntrack(8) that do what they are asked, and then exit with status 1."""

SHOWN: Final = {
    "extended": (r"^(ipv[46]) ", r"\b(ipv[46])\b"),
    "id": (r" id=(\d+)$", r"\b(\d{4,})\b(?!:)"),
    "labels": (r" labels=(\S+)", r" (web\S*|db\S*)$"),
    "ktimestamp": (r"\[start=.*?(\d\d:\d\d:\d\d)", r"\d\d\d\d-\d\d-\d\d.(\d\d:\d\d:\d\d)"),
    "xml,id": (r"<id>(\d+)</id>(?:<|$)", r'"id": (\d{4,})'),
    "save": (r" --(?:orig-port-dst|dport) (\d+)", r'"orig": {[^}]*"dport": (\d+)'),
}
"""What each format has to show: patterns of the values in the output of the two commands."""


@attrs.frozen
class Effect:
    """What one way did. Values that it does not report are ``None``."""

    way: str
    done: Done | None
    entries: list[Entry] | None
    """The entries that it printed or returned."""
    number: int | None
    """The number that it printed, reported or returned."""
    state: dict[str, object]
    """What the tables have afterwards."""


async def run_command(worker: Worker, conn: Connection, command: str, *, links: bool) -> Effect:
    done = worker.run(command, links=links)
    state = await state_of(conn)
    way = f"{command} (by conntrack-aio)" if links else command
    number = None if ";" in command else number_in(done)
    return Effect(way, done, sorted(entries_in(done.output)) or None, number, state)


async def run_call(conn: Connection, call: str, names: dict[str, object]) -> Effect:
    """Evaluate a call of the library. A match selects flows to list, and a dump is read."""
    result = eval(_compiled(call), names)
    if inspect.isawaitable(result):
        result = await result
    if isinstance(result, Match):
        result = await conn.list(result)
    if isinstance(result, Dump):
        result = [item async for item in result]
    entries, number = _described(result)
    return Effect(call, None, entries, number, await state_of(conn))


def _compiled(call: str) -> CodeType:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(call, PAGE, "eval", flags, dont_inherit=True)
    return code


def _described(result: object) -> tuple[list[Entry] | None, int | None]:
    if isinstance(result, int):
        return None, result
    items = result if isinstance(result, list) else [result]
    flows = [item for item in items if isinstance(item, Flow)]
    return sorted(map(entry_of, flows)) or None, len(items) if isinstance(result, list) else None


def check_equal(row: Row, effects: list[Effect]) -> None:
    """Check that all ways did the same, as far as they report it."""
    first, *others = effects
    for effect in others:
        assert effect.state == first.state, f"{row.title}: {effect.way}: {effect.done}"
        for name in ("entries", "number"):
            values = getattr(first, name), getattr(effect, name)
            assert None in values or values[0] == values[1], f"{row.title}: {effect.way}: {values}"


def check_commands(row: Row, program: Effect, same: Effect, own: Effect | None) -> None:
    """Check the exit status of each command, and that the old language is the program's."""
    assert program.done is not None
    assert same.done is not None
    fails = any(row.program.startswith(command) for command in FAILS_AFTER_SUCCESS)
    assert program.done.status == same.done.status == fails, (row, program.done, same.done)
    assert without_times(program.done.output) == without_times(same.done.output)
    assert without_version(program.done.errors) == without_version(same.done.errors)
    assert own is None or (own.done is not None and own.done.status == 0), own


def without_times(text: str) -> list[str]:
    """Return the lines without timeouts, times and ids, sorted: their order is the table's."""
    for pattern in (
        r"(?<=<timeout>)\d+",
        r"\bid=\d{6,}|<id>\d+</id>",
        r"\[(start|\d+)[=.].*?\]|<start>\d+</start>|delta-?time[=>]\d+",
        r"(?<=-t )\d+",
        r"portid=\d+( progname=\S+)?",
        r"<(hour|min|sec|wday|day|month|year)>\d+</\1>",
        r"^((?:ipv[46] +\d+ )?\w+ +\d+ )\d+",
        r"\b(found|insert)=\d+",
    ):
        text = re.sub(pattern, "*", text, flags=re.MULTILINE)
    return sorted(text.splitlines())


def without_version(text: str) -> str:
    return re.sub(r"(conntrack|nfct) v\S+( \([a-z_-]+\))?", "VERSION", text)


async def names_for(conn: Connection) -> dict[str, object]:
    """Return the names that calls of the library use."""
    names: dict[str, object] = {
        name: getattr(conntrack_aio, name) for name in conntrack_aio.__all__
    }
    flow = next(flow for flow in await conn.list() if str(flow.orig.src) == "10.0.0.71")
    master = Tuple.tcp("10.0.0.1", 1000, "10.0.0.2", 6667)
    return {**names, "conn": conn, "flow": flow, "ID": flow.id, "master": master}


@pytest.fixture(autouse=True)
def label_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "connlabel.conf"
    path.write_text(LABELS)
    monkeypatch.setattr(labels, "PATHS", (str(path),))


@pytest.mark.parametrize(
    "heading", [each for each in HEADINGS if each not in (FOLLOWING, "Formats")]
)
def test_the_commands_of_a_row_do_the_same(lab: Lab, heading: str, tmp_path: Path) -> None:
    anyio.run(check_rows, lab, tmp_path, [row for row in ROWS if row.heading == heading])


async def check_rows(lab: Lab, directory: Path, rows: Iterable[Row]) -> None:
    prepare(lab)
    worker = start_worker(lab, directory)
    async with connect(netns=lab.netns) as conn:
        for row in rows:
            await check_row(worker, conn, row)
    worker.close()


async def check_row(worker: Worker, conn: Connection, row: Row) -> None:
    effects: list[Effect] = []

    async def run(command: str, *, links: bool = False) -> Effect:
        await fill(conn)
        command = command.replace('"$ID"', str((await names_for(conn))["ID"]))
        effects.append(await run_command(worker, conn, command, links=links))
        return effects[-1]

    program = await run(row.program)
    same = await run(row.program, links=True)
    own = None if row.own is None else await run(row.own)
    check_commands(row, program, same, own)
    for call in row.library:
        await fill(conn)
        effects.append(await run_call(conn, call, await names_for(conn)))
    check_equal(row, effects)
    await fill(conn)
    reports = program.entries is not None or program.number is not None
    assert reports or program.state != await state_of(conn), f"{row.title}: no effect"
