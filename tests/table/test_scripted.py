"""The live table beside kernels that refuse, fall silent or answer what is none."""

from __future__ import annotations

import copy
import errno
import logging
import os
from collections.abc import AsyncIterator, Callable

import anyio
import anyio.lowlevel
import pytest
from support import flows
from support.files import OpenFiles
from support.waiting import until

from conntrack_aio import (
    Cause,
    Change,
    ChangeType,
    Counters,
    DumpInterrupted,
    EventType,
    Flow,
    FlowEvent,
    FlowTable,
    Helper,
    KernelError,
    Match,
    NoReply,
    PermissionDenied,
    Status,
    TableMode,
    TCPInfo,
    TCPState,
    Tuple,
)
from conntrack_aio.codec.messages import CT_NEW
from conntrack_aio.netlink.socket import RECEIVE_SIZE
from conntrack_aio.testing import Asked, FakeKernel, FakeSocket
from conntrack_aio.uapi.nfnetlink import NFNLGRP

pytestmark = pytest.mark.anyio


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel(flows=[flows.tcp(n) for n in range(3)], sysctls={"nf_conntrack_events": 1})


@pytest.fixture
async def table(kernel: FakeKernel) -> AsyncIterator[FlowTable]:
    async with kernel.connect(reply_timeout=0.1) as conn, conn.table(reconcile=None) as table:
        yield table


async def eventually(condition: Callable[[], object]) -> None:
    """Return once it holds: of what a pause of the table comes before."""
    with anyio.fail_after(5):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.001)


def verbs(kernel: FakeKernel) -> list[str]:
    return [asked.verb for asked in kernel.asked]


async def check(kernel: FakeKernel, table: FlowTable) -> None:
    with anyio.fail_after(5):
        await table.synced()
    assert {flow.id for flow in table} == {flow.id for flow in kernel.flows}


async def test_one_dump_and_nothing_more(kernel: FakeKernel, table: FlowTable) -> None:
    kernel.add(flows.tcp(7))
    kernel.change(flows.tcp(1).orig, mark=7)
    kernel.remove(flows.tcp(2).orig)
    await check(kernel, table)
    assert verbs(kernel) == ["count", "dump"]


async def test_a_refusal_at_the_start(kernel: FakeKernel) -> None:
    kernel.refuse(errno.EPERM, "dump")
    async with kernel.connect() as conn:
        table = conn.table()
        with pytest.raises(PermissionDenied) as raised:
            await table.__aenter__()
        assert raised.value.request.startswith("dump")
        with pytest.raises(PermissionDenied):
            len(table)
        assert conn.client_statistics().open_streams == conn.client_statistics().open_tables == 0


async def test_a_setting_that_may_not_be_changed() -> None:
    kernel = FakeKernel(without=["CAP_NET_ADMIN"])
    async with FakeKernel().connect() as conn:
        conn._session.endpoint = kernel._endpoint  # type: ignore[attr-defined]
        with pytest.raises(PermissionDenied):
            await conn.table(enable_events=True).__aenter__()
        assert conn.client_statistics().open_tables == 0


async def test_a_failure_later_is_raised_everywhere(kernel: FakeKernel, table: FlowTable) -> None:
    changes = table.changes()
    for _ in range(3):
        await anext(changes)
    kernel.refuse(errno.EPERM, "dump")
    kernel.overrun()
    with anyio.fail_after(5):
        with pytest.raises(PermissionDenied):
            await table.synced()
        with pytest.raises(PermissionDenied):
            await anext(changes)
    depths: list[int] = []
    for use in (
        lambda: len(table),
        lambda: table.by_id(1),
        lambda: table.mode,
        lambda: table.behind,
        lambda: table.last_error,
        lambda: table.changes(),
    ):
        with pytest.raises(PermissionDenied) as raised:
            use()
        depths.append(len(raised.traceback))
    assert len({*depths}) == 1, "each raising makes its traceback longer"
    with pytest.raises(PermissionDenied):
        await table.reconcile()


async def test_the_body_of_a_table_that_failed_leaves_as_it_likes(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn, conn.table() as table:
        kernel.refuse(errno.EPERM, "dump")
        with anyio.fail_after(5), pytest.raises(PermissionDenied):
            await table.reconcile()
    assert conn.client_statistics().open_tables == 0


@pytest.mark.parametrize("times", [1, 3])
async def test_want_of_memory_is_waited_out(
    kernel: FakeKernel, table: FlowTable, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conntrack_aio.table.keeper._RETRY", 0.001)
    kernel.refuse(errno.ENOMEM, "dump", times=times)
    kernel.overrun()
    await check(kernel, table)
    assert table.statistics().comparisons == times + 2


PASSING = (KernelError, NoReply, DumpInterrupted)

Shortage = Callable[[FlowTable, FakeKernel, pytest.MonkeyPatch], None]


def _no_memory(table: FlowTable, kernel: FakeKernel, patch: pytest.MonkeyPatch) -> None:
    kernel.refuse(errno.ENOMEM, "dump", times=1_000_000)


def _no_answers(table: FlowTable, kernel: FakeKernel, patch: pytest.MonkeyPatch) -> None:
    kernel.garble("dump", times=1_000_000)


def _no_descriptors(code: int) -> Shortage:
    def begin(table: FlowTable, kernel: FakeKernel, patch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        patch.setattr(kernel._endpoint, "open", fail)

    return begin


def _no_settings(table: FlowTable, kernel: FakeKernel, patch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> str:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    patch.setattr(kernel._endpoint.sysctls, "read", fail)


def _no_threads(table: FlowTable, kernel: FakeKernel, patch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    patch.setattr(table._upstream._session._threads, "start", fail)


def _no_threads_aside(table: FlowTable, kernel: FakeKernel, patch: pytest.MonkeyPatch) -> None:
    async def fail(function: object) -> None:
        await anyio.lowlevel.checkpoint()
        raise RuntimeError("can't start new thread")

    patch.setattr(table._upstream._session, "run_on_thread", fail)


def _no_reading(table: FlowTable, kernel: FakeKernel, patch: pytest.MonkeyPatch) -> None:
    """Nothing can be read of the event socket, and nothing can wait for it either."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    patch.setattr(table._upstream.stream, "receive_batch_nowait", fail)
    patch.setattr(table._upstream.stream._socket, "wait_readable", fail)
    _no_memory(table, kernel, patch)


SHORTAGES = {
    "memory": _no_memory,
    "answers": _no_answers,
    **{name: _no_descriptors(getattr(errno, name)) for name in ("EMFILE", "ENFILE", "ENOBUFS")},
    "settings": _no_settings,
    "threads": _no_threads,
    "threads aside": _no_threads_aside,
    "reading": _no_reading,
}
shortages = pytest.mark.parametrize("begin", SHORTAGES.values(), ids=SHORTAGES)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is tried again soon."""
    monkeypatch.setattr("conntrack_aio.table.keeper._RETRY", 0.001)
    monkeypatch.setattr("conntrack_aio.table.keeper._LONGEST_RETRY", 0.005)


@shortages
@pytest.mark.usefixtures("hurried")
async def test_no_shortage_ends_a_table(
    kernel: FakeKernel, table: FlowTable, begin: Shortage, caplog: pytest.LogCaptureFixture
) -> None:
    """Who waits for a comparison learns of it after some attempts; and then all is right again."""
    caplog.set_level(logging.INFO, "conntrack_aio")
    changes = table.changes()
    with pytest.MonkeyPatch.context() as patch:
        begin(table, kernel, patch)
        kernel.overrun()
        kernel.remove(flows.tcp(2).orig)
        for wait in (table.reconcile, table.synced, table.reconcile):
            with anyio.fail_after(5), pytest.raises(PASSING):
                await wait()
        assert table.behind
        assert isinstance(table.last_error, PASSING)
        assert table.statistics().last_error == str(table.last_error)
        assert table.statistics().failures >= 6
        with anyio.CancelScope() as scope:
            scope.cancel()
            await table.reconcile()
        assert len(table) == 3
        said = [each for each in caplog.records if "can't be compared" in each.message]
        assert len(said) == 1, "it is logged once"
    kernel._faults._waiting.clear()
    await eventually(lambda: not table.behind)
    kernel.add(flows.tcp(7))
    await check(kernel, table)
    statistics = table.statistics()
    assert statistics.last_error is None
    assert statistics.comparisons > statistics.failures
    assert sum("failed attempts" in each.message for each in caplog.records) == 1
    replay: dict[object, Flow] = {}
    while changes.waiting:
        change = await anext(changes)
        if change.type is ChangeType.REMOVED:
            del replay[change.flow.orig]
        else:
            replay[change.flow.orig] = change.flow
    assert replay.keys() == {flow.orig for flow in kernel.flows}


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("code", [errno.ENOMEM, errno.ENFILE, errno.EBADMSG])
async def test_a_shortage_when_entries_are_looked_up(
    kernel: FakeKernel, table: FlowTable, code: int
) -> None:
    kernel.refuse(code, "get", times=20)
    kernel.emit(told_of(kernel.flows[0], id=77))
    await check(kernel, table)


@shortages
@pytest.mark.usefixtures("hurried")
async def test_a_table_is_not_opened_under_a_shortage(kernel: FakeKernel, begin: Shortage) -> None:
    """After some attempts it is said."""
    if begin is _no_reading:
        return  # there is no socket yet
    async with kernel.connect(reply_timeout=0.1) as conn:
        table = conn.table()
        with pytest.MonkeyPatch.context() as patch:
            begin(table, kernel, patch)
            with anyio.fail_after(5), pytest.raises(PASSING):
                await table.__aenter__()
        kernel._faults._waiting.clear()
        assert conn.client_statistics().open_tables == conn.client_statistics().open_streams == 0
        async with conn.table() as table:
            assert len(table) == 3


FINAL = [
    OSError(errno.EMFILE, "mine"),
    RuntimeError("can't start new thread"),
    ValueError("mine"),
    MemoryError("mine"),
]


@pytest.mark.parametrize("error", FINAL, ids=[type(each).__name__ for each in FINAL])
@pytest.mark.parametrize("door", ["event", "comparison"])
async def test_what_a_function_raises_ends_the_table(
    kernel: FakeKernel, error: Exception, door: str
) -> None:
    """Whatever it is: it is no shortage of the table's."""
    failing = False

    def match(flow: Flow) -> bool:
        if failing:
            raise error
        return True

    async with kernel.connect() as conn, conn.table(match, reconcile=None) as table:
        failing = True
        if door == "event":
            kernel.add(flows.tcp(7))
        with anyio.fail_after(5), pytest.raises(type(error)) as raised:
            await (table.synced() if door == "event" else table.reconcile())
        assert raised.value.args == error.args


@pytest.mark.parametrize("fault", ["ignore", "garble"])
async def test_an_answer_that_does_not_come(
    kernel: FakeKernel, table: FlowTable, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conntrack_aio.table.keeper._RETRY", 0.001)
    getattr(kernel, fault)("dump")
    kernel.overrun()
    await check(kernel, table)


@pytest.mark.parametrize("times", [1, 1000])
async def test_a_dump_that_ends_with_what_is_no_message(
    kernel: FakeKernel, table: FlowTable, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing behind it can be read; if that is always so, entries are asked for one by one."""
    monkeypatch.setattr("conntrack_aio.table.keeper._RETRY", 0.001)
    left = times

    def answer(socket: FakeSocket, asked: Asked) -> bool:
        nonlocal left
        if asked.verb != "dump" or not left:
            return False
        left -= 1
        socket.deliver(bytes(RECEIVE_SIZE + 4))
        return True

    kernel.script = answer
    kernel.overrun()
    kernel.remove(kernel.flows[0])
    await check(kernel, table)
    assert table.statistics().comparisons == (3 if times == 1 else 6)


async def test_an_event_that_can_not_be_read_is_a_loss(
    kernel: FakeKernel, table: FlowTable
) -> None:
    kernel.emit(b"\xff" * 32, group=NFNLGRP.CONNTRACK_NEW)
    await check(kernel, table)
    told = table.statistics()
    assert (told.stream.decode_errors, told.resyncs, told.comparisons) == (1, 1, 2)


async def test_forged_events_change_nothing(kernel: FakeKernel, table: FlowTable) -> None:
    event = FlowEvent(type=EventType.DESTROY, flow=kernel.flows[0])
    kernel.emit(event, sender=4711)
    await check(kernel, table)
    assert table.statistics().stream.forged == 1


# -- strangers ----------------------------------------------------------------------------------


def told_of(flow: Flow, **fields: object) -> FlowEvent:
    told = copy.copy(flow)
    for name, value in fields.items():
        setattr(told, name, value)
    return FlowEvent(type=EventType.UPDATE, flow=told)


async def test_an_unknown_flow_is_looked_up(kernel: FakeKernel, table: FlowTable) -> None:
    kernel.sysctls["nf_conntrack_events"] = 0
    silent = kernel.add(flows.tcp(50, mark=9))
    changes = table.changes()
    for _ in range(3):
        await anext(changes)
    kernel.emit(told_of(silent, mark=None))
    await check(kernel, table)
    change: Change = await anext(changes)
    assert (change.type, change.flow.mark) == (ChangeType.ADDED, 9)
    assert verbs(kernel) == ["count", "dump", "get"]
    assert table.statistics().looked_up == 1


async def test_one_that_is_not_there(kernel: FakeKernel, table: FlowTable) -> None:
    kernel.emit(told_of(flows.tcp(50), id=77, status=Status.CONFIRMED))
    await check(kernel, table)


async def test_one_with_the_tuple_of_one_that_is_known(
    kernel: FakeKernel, table: FlowTable
) -> None:
    """The kernel's is right."""
    kernel.emit(told_of(kernel.flows[0], id=77))
    await check(kernel, table)
    assert verbs(kernel)[-1] == "get"


async def test_a_tuple_that_can_not_be_asked_for(kernel: FakeKernel, table: FlowTable) -> None:
    bad = told_of(flows.tcp(50), id=77, status=Status.CONFIRMED)
    bad.flow.orig = copy.copy(bad.flow.orig)
    bad.flow.orig.sport = None
    kernel.emit(bad)
    await check(kernel, table)
    assert "get" not in verbs(kernel)


@pytest.mark.parametrize("fault", ["ignore", "garble"])
async def test_a_look_up_without_an_answer_is_a_loss(
    kernel: FakeKernel, table: FlowTable, fault: str
) -> None:
    getattr(kernel, fault)("get")
    kernel.emit(told_of(flows.tcp(50), id=77, status=Status.CONFIRMED))
    await check(kernel, table)
    assert table.statistics().resyncs == 1


async def test_a_look_up_that_is_refused_is_a_failure(kernel: FakeKernel, table: FlowTable) -> None:
    kernel.refuse(errno.EPERM, "get")
    kernel.emit(told_of(flows.tcp(50), id=77, status=Status.CONFIRMED))
    with anyio.fail_after(5), pytest.raises(PermissionDenied):
        await table.synced()


# -- settings -----------------------------------------------------------------------------------


async def test_a_table_that_is_rehashed_is_read_again(kernel: FakeKernel, table: FlowTable) -> None:
    """A walk may have missed entries: what it did not tell of may still be there."""
    delayed = kernel.delay("dump")
    kernel.overrun()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(table.synced)
        while delayed.asked is None:
            await anyio.lowlevel.checkpoint()
        _rehash(kernel)
        delayed.release()
    await check(kernel, table)
    assert table.statistics().comparisons == 3


def _rehash(kernel: FakeKernel) -> None:
    kernel.sysctls["nf_conntrack_buckets"] = 2 * int(kernel.sysctls["nf_conntrack_buckets"])


async def test_one_that_is_rehashed_again_and_again(
    kernel: FakeKernel, table: FlowTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At last each entry that was not found is asked for."""
    monkeypatch.setattr("conntrack_aio.table.keeper._RETRY", 0.001)

    def rehash(socket: FakeSocket, asked: Asked) -> bool:
        if asked.verb == "dump":
            _rehash(kernel)
        return False

    kernel.script = rehash
    with anyio.fail_after(5):
        await table.reconcile()
    await check(kernel, table)
    assert table.statistics().comparisons == 6


async def test_an_entry_that_no_dump_can_tell(kernel: FakeKernel, table: FlowTable) -> None:
    """It does not stand in the way of the others; whether they are there is asked one by one."""
    kernel.overrun()
    for flow in kernel.flows[:2]:
        kernel.remove(flow)  # and nobody is told

    def tell_what_is_none(socket: FakeSocket, asked: Asked) -> bool:
        if asked.verb == "dump":
            socket.answer(asked, CT_NEW, b"\2\0\0\0" + b"\xff" * 8)
            socket.done(asked)
        return asked.verb == "dump"

    kernel.script = tell_what_is_none
    await check(kernel, table)
    assert len(table) == 1
    assert verbs(kernel).count("get") == 3
    assert table.statistics().comparisons == 2


def _compare_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conntrack_aio.table.keeper._INTERVAL", 0.01)


@pytest.mark.parametrize(("before", "after"), [(0, 1), (0, 2), (1, 2), (None, 1), (1, None)])
@pytest.mark.parametrize("reconcile", ["auto", 0.01])
async def test_a_change_of_the_setting_asks_for_a_comparison(
    before: int | None, after: int | None, reconcile: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries that were made before it may be silent."""
    _compare_often(monkeypatch)
    kernel = FakeKernel()
    _set(kernel, before)
    async with kernel.connect() as conn, conn.table(reconcile=reconcile) as table:
        await until(lambda: len(table) == 0)
        kernel.sysctls["nf_conntrack_events"] = 0  # for the entry; and nobody looks meanwhile
        kernel.add(flows.tcp(7))
        _set(kernel, after)
        await eventually(lambda: len(table) > 0)
        await check(kernel, table)


def _set(kernel: FakeKernel, setting: int | None) -> None:
    if setting is None:
        kernel.sysctls.pop("nf_conntrack_events", None)
    else:
        kernel.sysctls["nf_conntrack_events"] = setting


async def test_a_setting_that_can_not_be_read_may_be_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    _compare_often(monkeypatch)
    kernel = FakeKernel()
    async with kernel.connect() as conn, conn.table() as table:
        kernel.sysctls["nf_conntrack_events"] = 0
        kernel.add(flows.tcp(7))
        del kernel.sysctls["nf_conntrack_events"]
        await eventually(lambda: len(table) > 0)
        assert table.mode is TableMode.PARTIAL
        done = table.statistics().comparisons
        await eventually(lambda: table.statistics().comparisons >= done + 3)


async def test_where_all_are_heard_of_none_is_made_but_on_request(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number is a request; the default is none, and may be named."""
    _compare_often(monkeypatch)
    for flow in kernel.flows:
        kernel.remove(flow)
    async with (
        kernel.connect() as conn,
        conn.table() as default,
        conn.table(reconcile="auto") as auto,
        conn.table(reconcile=None) as none,
        conn.table(reconcile=0.01) as often,
    ):
        await eventually(lambda: often.statistics().comparisons >= 5)
        for table in (default, auto, none):
            assert table.statistics().comparisons == 1
            assert table.mode is TableMode.FOLLOWED


async def test_what_does_not_match_yet_may_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older entry that is none of the table's is not among those that it has not heard of."""
    _compare_often(monkeypatch)
    kernel = FakeKernel(flows=[flows.tcp(1)])  # with the setting at 2
    async with (
        kernel.connect() as conn,
        conn.table(Match(mark=7)) as marked,
        conn.table(lambda flow: flow.mark == 7) as chosen,
        conn.table(Match(orig_src="192.0.2.1")) as others,
    ):
        assert marked.mode is chosen.mode is TableMode.PARTIAL
        assert others.mode is TableMode.FOLLOWED, "a source never changes"
        kernel.change(flows.tcp(1).orig, mark=7)
        await eventually(lambda: len(marked) and len(chosen))
        assert others.statistics().comparisons == 1


# -- events that rules leave out ----------------------------------------------------------------


@pytest.fixture
def quickened(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a second takes a hundredth of it."""
    for name, value in {"_TICK": 0.01, "_RIPE": 0.02, "_INTERVAL": 0.05}.items():
        monkeypatch.setattr(f"conntrack_aio.table.keeper.{name}", value)
    monkeypatch.setattr("conntrack_aio.table.mirror._ROUNDING", 0.0)
    monkeypatch.setattr("conntrack_aio.table.mirror.SPACING", 0.05)


MASKED: dict[str, tuple[set[str], Callable[[FakeKernel], object]]] = {
    "its end": ({"new"}, lambda kernel: kernel.remove(flows.tcp(7).orig)),
    "its mark": ({"new", "destroy"}, lambda kernel: kernel.change(flows.tcp(7).orig, mark=9)),
    "its status": (
        {"new", "mark"},
        lambda kernel: kernel.change(
            flows.tcp(7).orig, status=Status.CONFIRMED | Status.SEEN_REPLY | Status.ASSURED
        ),
    ),
    "its state": (
        {"new", "destroy"},
        lambda kernel: kernel.change(
            flows.tcp(7).orig, protoinfo=TCPInfo(state=TCPState.TIME_WAIT)
        ),
    ),
    "another with its tuple": ({"new"}, lambda kernel: _make_again(kernel)),
    "its beginning": (set(), lambda kernel: kernel.add(flows.tcp(8))),
}


def _make_again(kernel: FakeKernel) -> None:
    kernel.event_mask = []
    kernel.remove(flows.tcp(7).orig)
    kernel.add(flows.tcp(20))  # takes the place, and so the id
    kernel.add(flows.tcp(7))


@pytest.mark.usefixtures("quickened")
@pytest.mark.parametrize("which", MASKED)
async def test_a_change_without_its_event_is_found(which: str) -> None:
    """By the comparison that was asked for; and from then on the table says what it is."""
    names, change = MASKED[which]
    kernel = FakeKernel(sysctls={"nf_conntrack_events": 1})
    kernel.event_mask = names
    async with kernel.connect() as conn, conn.table(reconcile=0.02) as table:
        if names:
            kernel.add(flows.tcp(7))
            await table.synced()
        assert table.mode is TableMode.FOLLOWED
        change(kernel)
        await eventually(lambda: table.mode is TableMode.PARTIAL)
        assert table.statistics().unreported_changes >= 1
        await check(kernel, table)
        done = table.statistics().comparisons
        await eventually(lambda: table.statistics().comparisons > done)
        assert table.mode is TableMode.PARTIAL, "the rule is still there"


REPORTED: dict[str, Callable[[FakeKernel], object]] = {
    "its end": lambda kernel: kernel.remove(flows.tcp(1).orig),
    "its mark": lambda kernel: kernel.change(flows.tcp(1).orig, mark=9),
    "its timeout": lambda kernel: kernel.change(flows.tcp(1).orig, timeout=9),
    "its counters": lambda kernel: kernel.change(
        flows.tcp(1).orig, counters_orig=Counters(packets=1, bytes=2)
    ),
    "its helper": lambda kernel: kernel.change(flows.tcp(1).orig, helper=Helper(name="ftp")),
    "another": lambda kernel: kernel.add(flows.tcp(7)),
    "time": lambda kernel: kernel.advance(10_000),
    "a loss": lambda kernel: _lose_an_end(kernel),
}


def _lose_an_end(kernel: FakeKernel) -> None:
    kernel.overrun()
    kernel.remove(flows.tcp(1).orig)


@pytest.mark.usefixtures("quickened")
@pytest.mark.parametrize("which", REPORTED)
@pytest.mark.parametrize("during", [False, True])
async def test_a_change_that_is_reported_is_none(
    kernel: FakeKernel, which: str, during: bool
) -> None:
    """Be it before a comparison or in the middle of one; be it lost, or nothing to report."""
    async with kernel.connect() as conn, conn.table(reconcile=0.02) as table:
        if during:
            delayed = kernel.delay("dump")
            await until(lambda: delayed.asked is not None)
        REPORTED[which](kernel)
        if during:
            delayed.release()
        done = table.statistics().comparisons
        await eventually(lambda: table.statistics().comparisons >= done + 5)
        assert table.mode is TableMode.FOLLOWED
        assert table.statistics().unreported_changes == 0


@pytest.mark.usefixtures("quickened")
@pytest.mark.parametrize("setting", [1, 2])
@pytest.mark.parametrize("reconcile", [None, "auto"])
async def test_an_entry_whose_timeout_has_run_out_is_looked_up(
    setting: int, reconcile: None
) -> None:
    """It goes without a comparison. What an older entry lacks by the setting is no news."""
    kernel = FakeKernel(
        flows=[flows.tcp(1)] if setting == 2 else [], sysctls={"nf_conntrack_events": setting}
    )
    async with kernel.connect() as conn, conn.table(reconcile=reconcile) as table:
        kernel.event_mask = ["new"]
        if setting == 1:
            kernel.add(flows.tcp(1))
        await table.synced()
        changes = table.changes()
        assert (await anext(changes)).type is ChangeType.ADDED
        kernel.advance(10_000)
        table._mirror._told_at = dict.fromkeys(table._mirror._told_at, -10_000.0)  # type: ignore[misc]
        with anyio.fail_after(5):
            change = await anext(changes)
        assert (change.type, change.cause) == (ChangeType.REMOVED, Cause.RECONCILED)
        assert table.statistics().unreported_changes == (setting == 1)
        assert table.mode is (TableMode.PARTIAL if setting == 1 else TableMode.FOLLOWED)


@pytest.mark.usefixtures("quickened")
async def test_one_that_lives_is_looked_up_now_and_then(
    kernel: FakeKernel, table: FlowTable
) -> None:
    """Packets put its end off, and no event says so."""
    gets = verbs(kernel).count("get")
    table._mirror._told_at = dict.fromkeys(table._mirror._told_at, -10_000.0)  # type: ignore[misc]
    await eventually(lambda: verbs(kernel).count("get") >= gets + 3)
    for _ in range(10):
        await anyio.sleep(0.01)
    assert verbs(kernel).count("get") == gets + 3, "each of the three once"
    assert len(table) == 3


@pytest.mark.usefixtures("quickened")
async def test_an_end_that_is_reported_late_is_an_event(
    kernel: FakeKernel, table: FlowTable
) -> None:
    """The look-up itself has the kernel take away what has expired, and report it."""
    changes = table.changes()
    for _ in range(3):
        await anext(changes)
    kernel._state.now += 10_000  # nothing is collected yet
    table._mirror._told_at = dict.fromkeys(table._mirror._told_at, -10_000.0)  # type: ignore[misc]
    with anyio.fail_after(5):
        causes = [(await anext(changes)).cause for _ in range(3)]
    assert causes == [Cause.EVENT] * 3
    assert table.statistics().unreported_changes == 0
    assert table.mode is TableMode.FOLLOWED


# -- tuples that two entries have ---------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
async def test_with_zones_of_one_direction_each_is_itself(first: int) -> None:
    """The original tuple of each is the reply tuple of the other."""
    there = Tuple.udp("10.0.0.1", 1000, "10.0.0.2", 53)
    zoned = copy.copy(there)
    zoned.zone = 1
    pair = [Flow(orig=zoned, reply=there.inverse), Flow(orig=there.inverse, reply=zoned)]
    kernel = FakeKernel(sysctls={"nf_conntrack_events": 1})
    made = [kernel.add(flow) for flow in (pair[first], pair[1 - first])]
    async with kernel.connect() as conn, conn.table(Match(mark=7), reconcile=None) as table:
        for number, flow in enumerate(made):
            kernel.emit(told_of(flow, mark=7))
            entry = next(each for each in kernel._state.table if each.id == flow.id)
            entry.mark = 7
            await table.synced()
            assert len(table) == number + 1
        await check(kernel, table)


async def test_a_kernel_without_the_setting() -> None:
    kernel = FakeKernel("4.19")
    async with kernel.connect() as conn, conn.table() as table:
        kernel.add(flows.tcp(1))
        await check(kernel, table)
        assert table.mode in TableMode


async def test_no_descriptor_is_left(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn:
        async with conn.table():
            pass
        files = OpenFiles()
        kernel.refuse(errno.EPERM, "dump", times=3)
        for _ in range(3):
            with pytest.raises(PermissionDenied):
                await conn.table().__aenter__()
        await files.closed()
