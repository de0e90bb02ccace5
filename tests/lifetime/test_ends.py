"""The end of an event loop, at any step: nothing hangs, and nothing is left behind."""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from support import flows
from support.connection_operations import BULK_FLOWS, OPERATIONS
from support.effort import stride, thorough_or_quick
from support.event_loops import BACKENDS
from support.lab import Lab
from support.open_files import OpenFiles
from support.task_steps import (
    Main,
    interrupt_at_call,
    interrupt_at_step,
    run_until_cancelled,
)

from conntrack_aio import Connection, connect, eventloop

pytestmark = [pytest.mark.kernel]


async def _everything(conn: Connection) -> None:
    """All kinds of things are open, and used, at the same time."""
    async with (
        conn.events() as stream,
        conn.dump() as dump,
        conn.table(reconcile=None) as table,
        table.changes() as changes,
        conn.delete_many(BULK_FLOWS) as bulk,
    ):
        await anext(dump)
        await anext(bulk)
        await conn.update(flows.tcp(1), mark=9)
        await anext(stream)
        await table.synced()
        await changes.receive_batch()
        await table.reconcile()


async def _left_open(conn: Connection) -> None:
    """Nothing is closed but the connection."""
    table = conn.table(reconcile=None)
    await table.__aenter__()
    dump, stream, changes = conn.dump(), conn.events(), table.changes()
    await anext(dump)
    await conn.update(flows.tcp(1), mark=9)
    await anext(stream)
    await anext(changes)


USES = OPERATIONS | {"everything": _everything, "left open": _left_open}

FEW = ["table", "reset", "everything", "left open"]
"""Those with tasks and threads of their own, and those of which the order matters most."""


def main_of(lab: Lab, name: str) -> Main:
    async def main() -> None:
        async with connect(netns=lab.netns) as conn:
            await USES[name](conn)

    return main


async def _reset(conn: Connection) -> None:
    await conn.list(reset_counters=True)


USES["reset"] = _reset


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is complained of by the event loop: no task was lost, no exception never seen."""
    yield
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def closed(files: OpenFiles) -> None:
    """Return once nothing new is open: a thread closes what it uses when it is done."""
    deadline = time.monotonic() + 10
    while files.new():
        gc.collect()
        assert time.monotonic() < deadline, files.new()


async def _fill(lab: Lab) -> None:
    async with connect(netns=lab.netns) as conn:
        await conn.flush()
        await flows.fill_cached(conn, 299)


def begin(lab: Lab, backend: str) -> OpenFiles:
    """Have the backend open what it keeps for the whole process; what is open then."""
    run_until_cancelled(backend, lambda: _fill(lab), 1 << 30)
    return OpenFiles()


def every_step(run: Callable[[int], bool], most: int, every: int, backend: str) -> None:
    """Run it with the numbers from 1 on until there are no more steps.

    Or with every so many of them: each loop with others.
    """
    first = 1 + BACKENDS.index(backend) % every
    for number in itertools.count(first, every):
        if not run(number):
            assert number > 1
            return
        assert number < most


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", USES)
def test_all_tasks_are_cancelled(
    lab: Lab, name: str, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "asyncio")
    files = begin(lab, backend)

    def run(number: int) -> bool:
        anyio.run(_fill, lab)
        reached = run_until_cancelled(backend, main_of(lab, name), number)
        closed(files)
        return reached

    every_step(run, 3000, stride(1 if name in FEW else 3, 7), backend)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FEW)
def test_an_interrupt_between_steps(lab: Lab, name: str, backend: str) -> None:
    files = begin(lab, backend)

    def run(number: int) -> bool:
        anyio.run(_fill, lab)
        try:
            reached = interrupt_at_step(backend, main_of(lab, name), number)
        except KeyboardInterrupt:
            reached = True
        else:
            # The last step may be over before the loop looks at the signal.
            assert not reached or backend != "trio"
        closed(files)
        return reached

    every_step(run, 3000, stride(1 if backend == "trio" else 3, 11), backend)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a socket that nothing has yet
@pytest.mark.parametrize("offload", [False, True], ids=["on the loop", "offloaded"])
def test_a_connection_works_after_an_interrupt(lab: Lab, offload: bool) -> None:
    """Wherever it strikes: no lock stays held. (In trio; asyncio cancels the main task instead.)"""
    begin(lab, "trio")
    struck = 0

    async def main() -> None:
        nonlocal struck
        async with connect(netns=lab.netns, offload=offload) as conn:
            try:
                await conn.count()
            except KeyboardInterrupt:
                struck += 1
                with anyio.fail_after(5):
                    assert await conn.count() == 299
                raise

    calls = interrupt_at_call("trio", main, 0)
    for number in range(1, calls, thorough_or_quick(1, 5)):
        with contextlib.suppress(KeyboardInterrupt):
            interrupt_at_call("trio", main, number)
    gc.collect()
    assert struck > thorough_or_quick(30, 5)


@pytest.mark.anyio
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("number", range(3))
async def test_a_table_whose_tasks_cannot_be_started(
    lab: Lab, number: int, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = type(eventloop.current())
    start, left = loop.start, number

    def fail(*arguments: Any) -> Callable[[], None]:
        nonlocal left
        left -= 1
        if left < 0:
            raise error
        return start(*arguments)

    async with connect(netns=lab.netns) as conn:
        monkeypatch.setattr(loop, "start", fail)
        with anyio.fail_after(5), pytest.raises(error):
            await conn.table().__aenter__()
        monkeypatch.undo()
        async with conn.table() as table:
            assert len(table) == 0


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a socket that nothing has yet
# One that strikes while Python closes a generator that was dropped is lost, by Python itself.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FEW)
def test_an_interrupt_inside_the_library(lab: Lab, name: str, backend: str) -> None:
    """It leaves as itself, wherever it strikes: in the program's task, or in one of the library."""
    files = begin(lab, backend)
    anyio.run(_fill, lab)
    calls = interrupt_at_call(backend, main_of(lab, name), 0)
    assert calls > 300
    interrupted = 0
    # Others come into play from time to time: the steps of the threads are not the same.
    for number in range(1, calls, calls // thorough_or_quick(12, 4)):
        anyio.run(_fill, lab)
        try:
            interrupt_at_call(backend, main_of(lab, name), number)
        except KeyboardInterrupt:
            interrupted += 1
        closed(files)
    assert interrupted > thorough_or_quick(6, 2)
