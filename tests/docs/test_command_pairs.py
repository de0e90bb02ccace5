"""The commands in one row of a table do the same: the old one by both programs, the new one, and
the call of the library."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import socket
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Final

import anyio
import attrs
import pytest
from command_pairs import (
    Entry,
    Row,
    counters_in,
    counters_of,
    entries_in,
    entry_of,
    number_in,
    public_names,
    rows_of,
    start_worker,
    state_of,
)
from command_worker import Done, Worker
from example_entries import LABELS, fill, prepare
from support.lab import Lab

from conntrack_aio import (
    Connection,
    Dump,
    ExpectPolicy,
    Flow,
    HelperStatus,
    Match,
    Tuple,
    UserspaceHelper,
    connect,
)
from conntrack_aio.cli import main
from conntrack_aio.model import labels
from conntrack_aio.testing import FakeKernel

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.program("conntrack", "conntrack"),
    pytest.mark.program("nfct", "nfct"),
    pytest.mark.program("nft", "nftables"),
]

PAGE: Final = "docs/guides/conntrack8.md"
NFCT_PAGE: Final = "docs/guides/nfct8.md"
ROWS: Final = [*rows_of(PAGE), *rows_of(NFCT_PAGE)]
FOLLOWING, FORMATS, HELPERS = "Follow", "Formats", "User-space helpers"
"""The headings of rows that have a test of their own."""
HEADINGS: Final = [*dict.fromkeys(row.heading for row in ROWS)]

FAILS_AFTER_SUCCESS: Final = {"conntrack -D expect"}
"""The commands of conntrack(8) that do what they are asked, and then exit with status 1."""

SHOWN: Final = {
    "extended": (r"^(ipv[46]) ", r"\b(ipv[46])\b"),
    "id": (r" id=(\d+)$", r" (\d+)$"),
    "labels": (r" labels=(\S+)", r" (web\S*|db)$"),
    "ktimestamp": (r"\[start=.*?(\d\d:\d\d:\d\d)", r"\d\d\d\d-\d\d-\d\d.(\d\d:\d\d:\d\d)"),
    "xml,id": (r"<id>(\d+)</id>(?:<|$)", r'"id": (\d{4,})'),
    "save": (r" -d (\S+)", r'"orig": {"src": "[^"]+", "dst": "([^"]+)"'),
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
    counters: list[tuple[int, ...]] | None
    """The counters of each processor, or the timeouts of policies."""
    state: dict[str, object]
    """What the tables have afterwards."""


async def run_command(worker: Worker, conn: Connection, command: str, *, links: bool) -> Effect:
    done = worker.run(command, links=links)
    state = await state_of(conn)
    way = f"{command} (by conntrack-aio)" if links else command
    number = None if ";" in command else number_in(done)
    return Effect(
        way, done, sorted(entries_in(done.output)) or None, number, counters_in(done.output), state
    )


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
    return Effect(call, None, entries, number, counters_of(result), await state_of(conn))


def _compiled(call: str) -> CodeType:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(call, PAGE, "eval", flags, dont_inherit=True)
    return code


def _described(result: object) -> tuple[list[Entry] | None, int | None]:
    if isinstance(result, int):
        return None, result
    items = result if isinstance(result, list) else [result]
    flows = [item for item in items if isinstance(item, Flow)]
    number = len(items) if isinstance(result, list) and counters_of(result) is None else None
    return sorted(map(entry_of, flows)) or None, number


def check_equal(row: Row, effects: list[Effect]) -> None:
    """Check that all ways did the same, as far as they report it."""
    first, *others = effects
    for effect in others:
        assert effect.state == first.state, f"{row.title}: {effect.way}: {effect.done}"
        for name in ("entries", "number", "counters"):
            values = getattr(first, name), getattr(effect, name)
            assert None in values or values[0] == values[1], f"{row.title}: {effect.way}: {values}"


def check_old_language(row: Row, program: Effect, same: Effect) -> None:
    """Check that both programs did and printed the same for the old command."""
    assert program.done is not None
    assert same.done is not None
    fails = any(program.way.startswith(command) for command in FAILS_AFTER_SUCCESS)
    assert program.done.status == same.done.status == fails, (row, program.done, same.done)
    if not program.way.endswith("-o save"):  # ours has more: see "What differs"
        assert without_times(program.done.output) == without_times(same.done.output)
    assert without_version(program.done.errors) == without_version(same.done.errors)


def without_times(text: str) -> list[str]:
    """Return the lines without timeouts, times and ids, sorted: their order is the table's."""
    for pattern in (
        r"(?<=<timeout>)\d+",
        r"\bid=\d{6,}|<id>\d+</id>",
        r"\[(start|\d+)[=.].*?\]|<start>\d+</start>|delta-?time[=>]\d+",
        r"(?<=-t )\d+",
        r"portid=\d+( progname=\S+)?",
        r"<(hour|min|sec|wday|day|month|year)>\d+</\1>",
        r"^(?:(?:ipv[46] +\d+ )?\w+ +\d+ )?\d+",
        r"\b(found|insert|use)=\d+",
    ):
        text = re.sub(pattern, "*", text, flags=re.MULTILINE)
    return sorted(text.splitlines())


def without_version(text: str) -> str:
    return re.sub(r"(conntrack|nfct) v\S+( \([a-z_-]+\))?", "VERSION", text)


async def names_for(conn: Connection) -> dict[str, object]:
    """Return the names that calls of the library use, also those that the page explains."""
    flow = next(flow for flow in await conn.list() if str(flow.orig.src) == "10.0.0.71")
    master = Tuple.tcp("10.0.0.1", 1000, "10.0.0.2", 6667)
    return {**public_names(), "conn": conn, "flow": flow, "ID": flow.id, "master": master}


def title_of(row: Row) -> str:
    return row.title


@pytest.fixture(autouse=True)
def label_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "connlabel.conf"
    path.write_text(LABELS)
    monkeypatch.setattr(labels, "PATHS", (str(path),))


@pytest.mark.parametrize(
    "heading", [each for each in HEADINGS if each not in (FOLLOWING, FORMATS, HELPERS)]
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
    await fill(conn)
    before = await state_of(conn)
    names = await names_for(conn)
    effects: list[Effect] = []

    async def add(effect: Effect) -> Effect:
        effects.append(effect)
        if effect.state != before:
            await fill(conn)
            names.update(await names_for(conn))
        return effect

    async def run(command: str, *, links: bool = False) -> Effect:
        command = command.replace('"$ID"', str(names["ID"]))
        return await add(await run_command(worker, conn, command, links=links))

    if row.program is not None:
        program = await run(row.program)
        check_old_language(row, program, await run(row.program, links=True))
    if row.own is not None:
        own = await run(row.own)
        assert own.done is not None
        assert own.done.status == 0, own
    for call in row.library:
        await add(await run_call(conn, call, names))
    check_equal(row, effects)
    first = effects[0]
    reports = first.entries is not None or first.number is not None or first.counters is not None
    assert reports or first.state != before, f"{row.title}: no effect"


# -- user-space helpers --------------------------------------------------------------------------


def test_the_commands_for_helpers_do_the_same() -> None:
    """They run on a fake kernel: all network namespaces of a machine share the helpers.

    tests/programs/test_nfct_commands.py compares the first command with nfct(8) itself.
    """
    for row in (row for row in ROWS if row.heading == HELPERS):
        assert row.program is not None
        assert row.own is not None
        done = [run_on_fake_kernel(partial(main, shlex.split(row.own)[1:]))]
        done.append(run_on_fake_kernel(partial(main, shlex.split(row.program))))
        done += [
            run_on_fake_kernel(partial(anyio.run, call_on_fake_kernel, c)) for c in row.library
        ]
        assert len({str(helpers) for helpers, _ in done}) == 1, row
        assert [status for _, status in done] == [0] * len(done), row


def run_on_fake_kernel(run: Callable[[], object]) -> tuple[object, object]:
    """Return the helpers after a command, and its exit status."""
    kernel = FakeKernel()
    kernel.builtin_helpers.clear()
    with kernel.installed():
        anyio.run(create_helpers)
        status = run()
        return anyio.run(list_helpers), status


async def create_helpers() -> None:
    async with connect() as conn:
        for name in ("ftp", "tns"):
            await conn.helpers.create(
                UserspaceHelper(
                    name=name,
                    family=socket.AF_INET,
                    proto=socket.IPPROTO_TCP,
                    status=HelperStatus.ENABLED,
                    policies=(ExpectPolicy(name=name, expect_max=1, expect_timeout=300),),
                )
            )


async def list_helpers() -> object:
    async with connect() as conn:
        return await conn.helpers.list()


async def call_on_fake_kernel(call: str) -> int:
    async with connect() as conn:
        result = eval(_compiled(call), {**public_names(), "conn": conn})
        if inspect.isawaitable(result):
            await result
    return 0


# -- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [row for row in ROWS if row.heading == FORMATS], ids=title_of)
def test_the_formats_of_a_row_show_the_same(lab: Lab, row: Row, tmp_path: Path) -> None:
    anyio.run(check_formats, lab, row, tmp_path)


async def check_formats(lab: Lab, row: Row, directory: Path) -> None:
    assert row.program is not None
    assert row.own is not None
    theirs, ours = SHOWN[row.program.rpartition(" ")[2]]
    prepare(lab)
    worker = start_worker(lab, directory)
    async with connect(netns=lab.netns) as conn:
        await fill(conn)
        program = await run_command(worker, conn, row.program, links=False)
        check_old_language(row, program, await run_command(worker, conn, row.program, links=True))
        own = worker.run(row.own)
        (call,) = row.library
        flows = await conn.list()
        values = [eval(call, {**await names_for(conn), "flow": flow}) for flow in flows]
    worker.close()
    assert program.done is not None
    shown = sorted(re.findall(theirs, program.done.output, re.MULTILINE))
    assert shown == sorted(re.findall(ours, own.output, re.MULTILINE))
    assert shown
    assert any(values)
