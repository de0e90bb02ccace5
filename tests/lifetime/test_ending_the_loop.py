"""Test that an event loop may end at any step: nothing hangs, and nothing stays open."""

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


async def _use_everything(conn: Connection) -> None:
    """Open all kinds of objects, and use them at the same time."""
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


async def _leave_open(conn: Connection) -> None:
    """Open and use objects, and close only the connection."""
    table = conn.table(reconcile=None)
    await table.__aenter__()
    dump, stream, changes = conn.dump(), conn.events(), table.changes()
    await anext(dump)
    await conn.update(flows.tcp(1), mark=9)
    await anext(stream)
    await anext(changes)


USES = OPERATIONS | {"everything": _use_everything, "left open": _leave_open}

WITH_TASKS_OR_THREADS = ["table", "reset", "everything", "left open"]
"""The uses that start tasks and threads, and those where the order of closing matters most."""


def main_function(lab: Lab, name: str) -> Main:
    async def main() -> None:
        async with connect(netns=lab.netns) as conn:
            await USES[name](conn)

    return main


async def _list_and_reset(conn: Connection) -> None:
    await conn.list(reset_counters=True)


USES["reset"] = _list_and_reset


@pytest.fixture
def no_asyncio_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that asyncio logs nothing, such as a lost task or an exception never retrieved."""
    yield
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def wait_until_closed(files: OpenFiles) -> None:
    """Wait until no new file is open. A thread closes its files only when it ends."""
    deadline = time.monotonic() + 10
    while files.new():
        gc.collect()
        assert time.monotonic() < deadline, files.new()


async def _fill(lab: Lab) -> None:
    async with connect(netns=lab.netns) as conn:
        await conn.flush()
        await flows.fill_cached(conn, 299)


def open_process_wide_files(lab: Lab, backend: str) -> OpenFiles:
    """Let the backend open its process-wide files, and return the files that are open then."""
    run_until_cancelled(backend, lambda: _fill(lab), 1 << 30)
    return OpenFiles()


def run_at_each_step(run: Callable[[int], bool], most: int, every: int, backend: str) -> None:
    """Call ``run`` with step numbers until it returns ``False``: there is no such step.

    :param most: an upper bound of the number of steps.
    :param every: the distance between step numbers. Each event loop starts with another one.
    """
    first = 1 + BACKENDS.index(backend) % every
    for number in itertools.count(first, every):
        if not run(number):
            assert number > 1
            return
        assert number < most


@pytest.mark.usefixtures("no_asyncio_errors")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", USES)
def test_all_tasks_can_be_cancelled_at_any_step(
    lab: Lab, name: str, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "asyncio")
    files = open_process_wide_files(lab, backend)

    def run(number: int) -> bool:
        anyio.run(_fill, lab)
        reached = run_until_cancelled(backend, main_function(lab, name), number)
        wait_until_closed(files)
        return reached

    run_at_each_step(run, 3000, stride(1 if name in WITH_TASKS_OR_THREADS else 3, 7), backend)


@pytest.mark.usefixtures("no_asyncio_errors")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", WITH_TASKS_OR_THREADS)
def test_an_interrupt_between_steps_leaves_nothing_open(lab: Lab, name: str, backend: str) -> None:
    files = open_process_wide_files(lab, backend)

    def run(number: int) -> bool:
        anyio.run(_fill, lab)
        try:
            reached = interrupt_at_step(backend, main_function(lab, name), number)
        except KeyboardInterrupt:
            reached = True
        else:
            # The last step may end before the loop handles the signal.
            assert not reached or backend != "trio"
        wait_until_closed(files)
        return reached

    run_at_each_step(run, 3000, stride(1 if backend == "trio" else 3, 11), backend)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a socket not yet assigned
@pytest.mark.parametrize("offload", [False, True], ids=["on the loop", "offloaded"])
def test_a_connection_is_usable_after_an_interrupt(lab: Lab, offload: bool) -> None:
    """An interrupt at any point leaves no lock held.

    Only trio raises it in the library: asyncio cancels the main task instead.
    """
    open_process_wide_files(lab, "trio")
    interrupted = 0

    async def main() -> None:
        nonlocal interrupted
        async with connect(netns=lab.netns, offload=offload) as conn:
            try:
                await conn.count()
            except KeyboardInterrupt:
                interrupted += 1
                with anyio.fail_after(5):
                    assert await conn.count() == 299
                raise

    calls = interrupt_at_call("trio", main, 0)
    for number in range(1, calls, thorough_or_quick(1, 5)):
        with contextlib.suppress(KeyboardInterrupt):
            interrupt_at_call("trio", main, number)
    gc.collect()
    assert interrupted > thorough_or_quick(30, 5)


@pytest.mark.anyio
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("number", range(3))
async def test_a_table_whose_tasks_cannot_be_started_can_be_opened_later(
    lab: Lab, number: int, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = type(eventloop.current())
    start, starts_left = loop.start, number

    def fail(*arguments: Any) -> Callable[[], None]:
        nonlocal starts_left
        starts_left -= 1
        if starts_left < 0:
            raise error
        return start(*arguments)

    async with connect(netns=lab.netns) as conn:
        monkeypatch.setattr(loop, "start", fail)
        with anyio.fail_after(5), pytest.raises(error):
            await conn.table().__aenter__()
        monkeypatch.undo()
        async with conn.table() as table:
            assert len(table) == 0


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a socket not yet assigned
# Python itself discards an interrupt that arrives while it closes a collected generator.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("no_asyncio_errors")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", WITH_TASKS_OR_THREADS)
def test_an_interrupt_inside_the_library_leaves_nothing_open(
    lab: Lab, name: str, backend: str
) -> None:
    """The interrupt reaches the program, whether it arrives in its task or in the library's."""
    files = open_process_wide_files(lab, backend)
    anyio.run(_fill, lab)
    calls = interrupt_at_call(backend, main_function(lab, name), 0)
    assert calls > 300
    interrupted = 0
    # The calls thorough_or_quick threads differ from run to run, so different points are hit.
    for number in range(1, calls, calls // thorough_or_quick(12, 4)):
        anyio.run(_fill, lab)
        try:
            interrupt_at_call(backend, main_function(lab, name), number)
        except KeyboardInterrupt:
            interrupted += 1
        wait_until_closed(files)
    assert interrupted > thorough_or_quick(6, 2)
