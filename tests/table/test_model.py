"""Test that the live table equals the kernel's table after random operations in random order.

Hypothesis draws operations on this machine's kernel. From time to time the table, its look-ups and
the readers of its changes are compared with a dump.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from typing import TypeVar

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from support import expectations, flows
from support.effort import examples
from support.event_storm import enable_labels, flow_pool
from support.lab import Lab
from support.namespaces import new_network_namespace
from support.table_comparison import (
    Key,
    Replay,
    by_key,
    differences,
    kernel_flows,
    key_of,
    wrong_look_ups,
)

from conntrack_aio import (
    Flow,
    FlowTable,
    KernelError,
    NATRange,
    SeqAdj,
    Status,
    SynProxy,
    TableMode,
    TCPInfo,
    TCPState,
    connect,
)
from conntrack_aio.codec.requests import flows as requests
from conntrack_aio.netlink.exchange import Request

pytestmark = pytest.mark.kernel

T = TypeVar("T")

BACKENDS = [
    ("asyncio", {"use_uvloop": False}),
    ("asyncio", {"use_uvloop": True}),
    ("trio", {}),
]
TINY_BUFFER = 8192
"""Bytes for a dozen events. A datagram with more requests overruns the receive buffer, because the
event loop does not run while the kernel processes the datagram."""


def _with_a_master(flow: Flow) -> Flow:
    flow.master = expectations.ftp().orig
    return flow


POOL: list[tuple[Flow, dict[str, NATRange | str]]] = [
    *(
        (flow, {} if gateways is None else {"nat_src": gateways})
        for flow, gateways in flow_pool(16)
    ),
    (Flow.udp("10.4.0.1", 1000, "10.4.0.2", 53, timeout=600), {"nat_dst": "192.0.2.200"}),
    (Flow.tcp("10.4.0.1", 1000, "10.4.0.2", 80, timeout=600), {"nat_src": "192.0.2.201"}),
    (Flow.icmp("10.4.0.1", "10.4.0.2", id=7, timeout=600), {}),
    (Flow.icmp("fd00::1", "fd00::2", id=7, timeout=600), {}),
    (expectations.ftp(), {}),
    (expectations.sip(), {}),
    (_with_a_master(Flow.tcp("10.0.0.1", 3000, "10.0.0.2", 20, timeout=600)), {}),
]
NUMBERS = st.sampled_from([0, 8, 10]) | st.integers(0, len(POOL) - 1)
"""Indexes into the pool. A few are drawn more often than the others."""
SEQADJ = SeqAdj(correction_pos=1, offset_before=2, offset_after=-3)
CHANGES: list[dict[str, object]] = [
    *({"mark": mark} for mark in (0, 1, 0xFFFFFFFF)),
    {"mark": 0x10, "mark_mask": 0xF0},
    {"mark": 0, "mark_mask": 0xFF},
    *({"timeout": timeout} for timeout in (300, 7200)),
    *({"status": status} for status in (Status.SEEN_REPLY, Status.ASSURED, Status.FIXED_TIMEOUT)),
    *({"labels": labels} for labels in (0, 1, 1 << 127)),
    {"labels": 1 << 64, "labels_mask": 1 << 64},
    {"labels": 0, "labels_mask": 1},
    {"seqadj_orig": SEQADJ},
    {"seqadj_reply": SEQADJ},
    {"synproxy": SynProxy(isn=1, its=2, tsoff=3)},
    {"synproxy": SynProxy(isn=0, its=0, tsoff=0)},
    {"helper": ""},
    {"protoinfo": TCPInfo(state=TCPState.FIN_WAIT)},
    {"protoinfo": TCPInfo(state=TCPState.ESTABLISHED, wscale_orig=7)},
]


def is_marked(flow: Flow) -> bool:
    return bool(flow.mark)


def creation(number: int) -> Request:
    flow, translation = POOL[number]
    return requests.create(flow, **translation)


class TableMachine(RuleBasedStateMachine):
    """A network namespace, two live tables of it, and random operations in it."""

    table: FlowTable
    marked: FlowTable
    """The live table with only the entries that have a mark."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.silent: set[Key] = set()
        """Keys of entries that may emit no events, and that may have replaced one that did."""
        self.events = 1
        self.quick: list[tuple[Replay, Future[None]]] = []
        self.slow: list[Replay] = []
        self.last_change_count = 0

    @initialize(
        backend=st.sampled_from(BACKENDS),
        events=st.sampled_from([1, 1, 2, 0]),
        existing=st.lists(NUMBERS, unique=True),
    )
    def begin(self, backend: tuple[str, dict[str, bool]], events: int, existing: list[int]) -> None:
        """Open the tables after some entries were created, which may be silent."""
        lab = self.lab = Lab(new_network_namespace())
        self.stack.callback(os.close, lab.descriptor)
        enable_labels(lab)
        self.set_events(events)
        self.portal = self.stack.enter_context(start_blocking_portal(*backend))
        wrap = self.portal.wrap_async_context_manager
        self.conn = self.stack.enter_context(
            wrap(connect(netns=lab.netns, receive_buffer=TINY_BUFFER))
        )
        self.send(*map(creation, existing))
        if events != 1:
            self.silent.update(key_of(POOL[number][0]) for number in existing)
        for name, match in (("table", None), ("marked", is_marked)):
            table = self.portal.call(lambda: self.conn.table(match, reconcile=None))  # noqa: B023
            setattr(self, name, self.stack.enter_context(wrap(table)))

    def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Call a function in the event loop, and wait 10 seconds at most."""

        async def within() -> T:
            with anyio.fail_after(10):
                return await function()

        return self.portal.call(within)

    def send(self, *to_send: Request) -> None:
        """Send requests in one datagram, so that the event loop does not run in between.

        Errors in the replies are ignored.
        """
        self.call(lambda: self.conn._session.run(to_send))

    def _record_created(self, *numbers: int) -> None:
        """Record whether the entries, which were just created, are silent."""
        keys = {key_of(POOL[number][0]) for number in numbers}
        self.silent = self.silent - keys if self.events else self.silent | keys

    # -- operations in the kernel -----------------------------------------------------------

    @rule(events=st.sampled_from([0, 1, 1, 2]))
    def set_events(self, events: int) -> None:
        """Change the setting for new entries. With 2 they emit events, as the table listens."""
        self.events = events
        self.lab.sysctl("nf_conntrack_events", events)

    @rule(number=NUMBERS)
    def create(self, number: int) -> None:
        flow, translation = POOL[number]
        with suppress(KernelError):
            self.call(lambda: self.conn.create(flow, **translation))
            self._record_created(number)

    @rule(number=NUMBERS, changes=st.lists(st.sampled_from(CHANGES), min_size=1, max_size=5))
    def update(self, number: int, changes: list[dict[str, object]]) -> None:
        for change in changes:
            self.change(POOL[number][0], change)

    def change(self, flow: Flow, change: dict[str, object]) -> None:
        if "protoinfo" not in change or flow.orig.proto == 6:
            with suppress(KernelError):
                self.call(lambda: self.conn.update(flow, **change))  # type: ignore[arg-type]

    @rule(number=NUMBERS, labels=st.sampled_from([1, 1 << 127]))
    def label_and_clear(self, number: int, labels: int) -> None:
        """Set a label and clear it. No event reports that the last label was cleared."""
        self.change(POOL[number][0], {"labels": labels})
        self.change(POOL[number][0], {"labels": 0})

    @rule(number=NUMBERS)
    def delete(self, number: int) -> None:
        self.send(requests.delete(POOL[number][0]))

    @rule(number=NUMBERS, times=st.integers(1, 3))
    def create_again_at_once(self, number: int, times: int) -> None:
        """Delete and create an entry. The new entry may have the id of the old one."""
        pair = [requests.delete(POOL[number][0]), creation(number)]
        self.send(*pair * times)
        self._record_created(number)

    @rule(number=NUMBERS, change=st.sampled_from([each for each in CHANGES if "mark" in each]))
    def create_again_and_change(self, number: int, change: dict[str, object]) -> None:
        flow = POOL[number][0]
        self.send(requests.delete(flow), creation(number), requests.update(flow, change))
        self._record_created(number)

    @rule()
    def flush(self) -> None:
        self.call(self.conn.flush)

    @rule(numbers=st.lists(NUMBERS, min_size=8, max_size=20), mark=st.integers(0, 3))
    def burst(self, numbers: list[int], mark: int) -> None:
        """Emit more events than the receive buffer has room for, so that some are lost."""
        to_send: list[Request] = []
        for number in numbers:
            flow = POOL[number][0]
            to_send += [requests.delete(flow), creation(number)]
            to_send.append(requests.update(flow, {"mark": mark}))
        self.send(*to_send)
        self._record_created(*numbers)

    # -- readers of changes -----------------------------------------------------------------

    @precondition(lambda self: len(self.quick) < 3)
    @rule()
    def follow(self) -> None:
        replay = self.portal.call(Replay, self.table)
        self.quick.append((replay, self.portal.start_task_soon(replay.follow)))

    @precondition(lambda self: len(self.slow) < 3)
    @rule()
    def follow_later(self) -> None:
        self.slow.append(self.portal.call(Replay, self.table))

    @precondition(lambda self: self.slow)
    @rule(data=st.data(), count=st.integers(1, 10))
    def read_a_little(self, data: st.DataObject, count: int) -> None:
        replay = data.draw(st.sampled_from(self.slow))
        self.portal.call(replay.read_at_most, count)

    @precondition(lambda self: self.quick or self.slow)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.quick) + len(self.slow) - 1))
        if place < len(self.quick):
            self.quick.pop(place)[1].cancel()
        else:
            self.portal.call(self.slow.pop(place - len(self.quick)).aclose)

    # -- checks -----------------------------------------------------------------------------

    @rule()
    def check_followed(self) -> None:
        """Check, after all events were applied, the entries that emit events."""
        self.call(self.table.synced)
        self.call(self.marked.synced)
        assert not self.portal.call(lambda: self._differences(self.silent))

    @rule()
    def check_all(self) -> None:
        """Check all entries and all readers after a reconciliation."""
        self.check_followed()
        self.call(self.table.reconcile)
        self.call(self.marked.reconcile)
        assert not self.portal.call(lambda: self._differences(set()))
        mode = self.portal.call(lambda: self._mode())
        assert (mode is TableMode.POLLED) is (self.events == 0)
        self.call(self._check_replays)

    async def _mode(self) -> TableMode:
        return self.table.mode

    async def _differences(self, excluded: set[Key]) -> list[str]:
        """Describe how the tables differ from the kernel's, without the entries of these keys."""
        assert not self.table.behind
        assert not self.marked.behind
        truth = await kernel_flows(self.conn)
        expected = {key: flow for key, flow in truth.items() if key not in excluded}
        found = {key: flow for key, flow in by_key(self.table).items() if key not in excluded}
        found_marked = {
            key: flow for key, flow in by_key(self.marked).items() if key not in excluded
        }
        marked = {key: flow for key, flow in expected.items() if is_marked(flow)}
        absent = [
            flow for flow, _ in POOL if key_of(flow) not in truth and key_of(flow) not in excluded
        ]
        return [
            *differences(found, expected),
            *(f"with a mark: {each}" for each in differences(found_marked, marked)),
            *wrong_look_ups(self.table, expected.values()),
            *(f"found: {flow}" for flow in absent if self.table.by_orig(flow.orig, zone=flow.zone)),
        ]

    async def _check_replays(self) -> None:
        last = await self._last_change()
        truth = by_key(self.table)
        for replay, future in self.quick:
            if future.done():
                future.result()
            await replay.wait_until_present(last)
            assert not differences(replay.flows, truth)
        for replay in self.slow:
            await replay.read_until_present(last)
            assert not differences(replay.flows, truth)

    async def _last_change(self) -> Key:
        """Create an entry with a new tuple, whose change is the last one, and return its key."""
        self.last_change_count += 1
        old, new = (
            flows.tcp(50_000 + self.last_change_count - 1),
            flows.tcp(50_000 + self.last_change_count),
        )
        with suppress(KernelError):
            await self.conn.delete(old)
        await self.table.reconcile()
        await self.conn.create(new)
        if self.events == 0:
            self.silent.add(key_of(new))
            await self.table.reconcile()
        await self.table.synced()
        return key_of(new)

    def teardown(self) -> None:
        try:
            if hasattr(self, "table"):
                self.check_all()
                for _, future in self.quick:
                    future.cancel()
        finally:
            self.stack.close()


TestModel = TableMachine.TestCase
TestModel.settings = settings(
    max_examples=examples(15),
    stateful_step_count=30,
    deadline=None,
    # No shrinking: it takes minutes and fails, because the kernel's behavior depends on the timing.
    phases=(Phase.explicit, Phase.generate),
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
