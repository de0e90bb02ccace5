"""Restore a saved table in the kernel: the work of the subcommand ``restore``.

An entry that exists already is never replaced. It is the same entry if both of its tuples are those
of the saved flow; otherwise it is in the way of that flow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from copy import copy

import anyio
import attrs

from ..bulk.new_flow import NewFlow, masters_first
from ..connection import Connection
from ..errors import AlreadyExists, ConntrackError, NotFound, NotSupported
from ..model.enums import Status, TCPFlags
from ..model.flow import Flow
from ..model.protoinfo import TCPInfo
from ..model.update import FlowUpdate
from .restore_report import RestoreReport, Result
from .saved_tables import SavedExpectation, SavedTable

IN_THE_WAY = "another entry has one of its two tuples"

_SETTABLE = Status.SEEN_REPLY | Status.ASSURED | Status.FIXED_TIMEOUT
"""The status bits that an update of an existing entry sets."""


@attrs.frozen(kw_only=True)
class RestoreOptions:
    """How to restore a table."""

    update: bool = False
    """Whether to update entries that exist already, instead of leaving them alone."""
    elapsed: int = 0
    """The seconds to subtract from each timeout."""


class Restoration:
    """Restores a table."""

    def __init__(
        self,
        conn: Connection,
        report: RestoreReport,
        options: RestoreOptions,
    ) -> None:
        """Create the restoration. It does nothing yet.

        :param conn: the connection to the namespace.
        :param report: receives what is done with each flow and expectation.
        :param options: how to restore the table.
        """
        self._conn = conn
        self._report = report
        self._options = options
        self._labeled: dict[int, list[Flow]] = {}
        """The flows that were created and have labels, by their labels."""
        self._half_scaled: list[Flow] = []
        """The flows that were created without their window scale."""

    async def run(self, table: SavedTable) -> None:
        """Create the flows, then those with a master, then the expectations."""
        await self._create(table.unrelated())
        await self._create(masters_first(table.related))
        await self._check_labels()
        for flow in self._half_scaled:
            await self._set_window_scale(flow)
        for saved in table.expectations:
            await self._create_expectation(saved)

    async def dry_run(self, table: SavedTable) -> None:
        """Report what :meth:`run` would do, as far as the entries that exist determine it."""
        for flows in (table.unrelated(), masters_first(table.related)):
            for flow in self._remaining(flows):
                entry = await find_entry(self._conn, flow)
                if entry is None:
                    self._report.add(Result.CREATED, flow)
                elif not is_same_entry(entry, flow):
                    self._report.fail(flow, IN_THE_WAY)
                else:
                    update = self._options.update
                    self._report.add(Result.UPDATED if update else Result.EXISTING, flow)
        for saved in self._remaining_expectations(table.expectations):
            try:
                await self._conn.expectations.get(saved.expectation.tuple, zone=saved.zone)
            except NotFound:
                self._report.add(Result.CREATED, saved.expectation)
            else:
                self._report.add(Result.EXISTING, saved.expectation)

    # -- timeouts -----------------------------------------------------------------------------

    def _remaining(self, flows: Iterable[Flow]) -> Iterator[Flow]:
        """Yield the flows that have not expired, with what remains of their timeouts."""
        elapsed = self._options.elapsed
        for flow in flows:
            assert flow.timeout is not None  # the file was checked
            if not elapsed:
                yield flow
            elif flow.timeout > elapsed:
                flow.timeout -= elapsed
                yield flow
            else:
                self._report.add(Result.EXPIRED, flow)

    def _remaining_expectations(
        self, expectations: Iterable[SavedExpectation]
    ) -> Iterator[SavedExpectation]:
        elapsed = self._options.elapsed
        for saved in expectations:
            expectation = saved.expectation
            if expectation.timeout is None:
                yield saved
            elif expectation.timeout > elapsed:
                expectation.timeout -= elapsed
                yield saved
            else:  # also without `elapsed`: one with a timeout of 0 would be gone at once
                self._report.add(Result.EXPIRED, expectation)

    # -- new entries --------------------------------------------------------------------------

    async def _create(self, flows: Iterable[Flow]) -> None:
        """Create flows. If this is stopped, the flows that were sent are counted first."""
        sent: deque[Flow] = deque()
        stopped = False

        def items() -> Iterator[NewFlow]:
            for flow in self._remaining(flows):
                if stopped:
                    return
                sent.append(flow)
                yield NewFlow.from_flow(flow)

        unsettled: deque[ConntrackError | None] = deque()
        async with self._conn.create_many(items()) as bulk:
            try:
                async for outcomes in bulk.batches():
                    unsettled += [outcome.error for outcome in outcomes]
                    while unsettled:
                        await self._settle(sent[0], unsettled[0])
                        sent.popleft()
                        unsettled.popleft()
            except BaseException:
                stopped = True
                with anyio.CancelScope(shield=True):
                    async for outcomes in bulk.batches():
                        unsettled += [outcome.error for outcome in outcomes]
                for error in unsettled:
                    self._count(sent.popleft(), error)
                raise

    async def _settle(self, flow: Flow, error: ConntrackError | None) -> None:
        """Do what the outcome of the request for a flow calls for."""
        if isinstance(error, AlreadyExists):
            await self._settle_existing(flow, error)
        elif isinstance(error, NotFound | NotSupported):
            await self._create_with_less(flow, error)
        else:
            self._count(flow, error)

    def _count(self, flow: Flow, error: ConntrackError | None) -> None:
        if isinstance(error, AlreadyExists):
            self._report.add(Result.EXISTING, flow)
        elif error is not None:
            self._report.fail(flow, error)
        else:
            self._report.add(Result.CREATED, flow)
            if flow.labels:
                self._labeled.setdefault(flow.labels, []).append(flow)
            if is_half_scaled(flow.protoinfo):
                self._half_scaled.append(flow)

    async def _create_with_less(self, flow: Flow, error: ConntrackError) -> None:
        """Create a flow without its master or its helper, if the kernel has not got it.

        The flow then keeps its translation, and its packets pass.
        """
        new = NewFlow.from_flow(flow)
        lacking: list[tuple[str, ConntrackError, bool]] = []
        reason: ConntrackError | None = error
        while reason is not None:
            less = copy(new.flow)
            if isinstance(reason, NotFound) and less.master is not None:
                # The master of a flow may end before it: this is no failure.
                lacking.append(("master", reason, False))
                less.master = None
                new = attrs.evolve(new, flow=less)
            elif isinstance(reason, NotSupported) and less.helper is not None:
                lacking.append(("helper", reason, True))
                less.helper = None
                less.status = Status(less.status or 0) & ~Status.HELPER
                new = attrs.evolve(new, flow=less)
            elif isinstance(reason, NotSupported) and flow.nat is None and new.nat_src is not None:
                new = NewFlow(less)  # this kernel has no NAT, and the flow needs none
            else:
                break
            (outcome,) = await self._conn.create_many([new])
            reason = outcome.error
        if isinstance(reason, AlreadyExists):
            await self._settle_existing(flow, reason)
            return
        self._count(flow, reason)
        if reason is None:
            for what, why, is_failure in lacking:
                self._report.lack(flow, what, why, is_failure=is_failure)

    # -- entries that exist -------------------------------------------------------------------

    async def _settle_existing(self, flow: Flow, error: AlreadyExists) -> None:
        """Leave alone or update the entry because of which a flow could not be created."""
        try:
            entry = await find_entry(self._conn, flow)
            if entry is None:
                self._report.fail(flow, error)
            elif not is_same_entry(entry, flow):
                self._report.fail(flow, IN_THE_WAY)
            elif self._options.update:
                changes = changes_to(entry, flow)
                if changes:
                    await self._conn.update(entry, **changes)
                self._report.add(Result.UPDATED, flow)
            else:
                self._report.add(Result.EXISTING, flow)
        except ConntrackError as refused:
            self._report.fail(flow, refused)

    # -- what the kernel ignores in the request for a new entry -------------------------------

    async def _check_labels(self) -> None:
        """Set the labels once more. The kernel creates a flow without them if it has no room."""
        for labels, flows in self._labeled.items():
            async for outcome in self._conn.update_many(flows, labels=labels):
                if outcome.error is not None and not isinstance(outcome.error, NotFound):
                    self._report.lack(outcome.item, "labels", outcome.error)

    async def _set_window_scale(self, flow: Flow) -> None:
        """Set the window scale of a connection of which only one side has announced one.

        The kernel stores it only if both sides have (``nlattr_to_tcp``). So both flags are set, and
        then restored.
        """
        assert isinstance(flow.protoinfo, TCPInfo)
        try:
            entry = await self._conn.get(flow)
            assert isinstance(entry.protoinfo, TCPInfo)
            for more in (TCPFlags.WINDOW_SCALE, TCPFlags(0)):
                scaled = TCPInfo(
                    wscale_orig=flow.protoinfo.wscale_orig,
                    wscale_reply=flow.protoinfo.wscale_reply,
                    flags_orig=TCPFlags(entry.protoinfo.flags_orig or 0) | more,
                    flags_reply=TCPFlags(entry.protoinfo.flags_reply or 0) | more,
                )
                await self._conn.update(entry, protoinfo=scaled)
        except NotFound:
            pass  # it has ended
        except ConntrackError as error:
            self._report.lack(flow, "window scale", error)

    # -- expectations -------------------------------------------------------------------------

    async def _create_expectation(self, saved: SavedExpectation) -> None:
        for remaining in self._remaining_expectations([saved]):
            expectation = remaining.expectation
            try:
                await self._conn.expectations.create(expectation, zone=remaining.zone)
            except AlreadyExists:
                self._report.add(Result.EXISTING, expectation)
            except ConntrackError as error:
                self._report.fail(expectation, error)
            else:
                self._report.add(Result.CREATED, expectation)


def is_half_scaled(info: object) -> bool:
    """Return whether only one side of a TCP connection has announced a window scale."""
    if not isinstance(info, TCPInfo) or not (info.wscale_orig or info.wscale_reply):
        return False
    flags = TCPFlags(info.flags_orig or 0) & TCPFlags(info.flags_reply or 0)
    return not flags & TCPFlags.WINDOW_SCALE


async def find_entry(conn: Connection, flow: Flow) -> Flow | None:
    """Return the entry with the tuples of a flow, or one that has one of them, or ``None``."""
    found: Flow | None = None
    for tuple_ in (flow.orig, flow.reply):
        try:
            entry = await conn.get(tuple_, zone=flow.zone)
        except NotFound:
            continue
        if is_same_entry(entry, flow):
            return entry
        found = entry
    return found


def is_same_entry(entry: Flow, flow: Flow) -> bool:
    """Return whether an entry has the tuples and the zone of a flow."""
    return (entry.orig, entry.reply, entry.zone) == (flow.orig, flow.reply, flow.zone)


def changes_to(entry: Flow, flow: Flow) -> FlowUpdate:
    """Return what makes an existing entry equal to a flow, as far as it can be changed."""
    changes: FlowUpdate = {}
    if flow.mark is not None and flow.mark != entry.mark:
        changes["mark"] = flow.mark
    if flow.timeout is not None and not Status(entry.status or 0) & Status.FIXED_TIMEOUT:
        changes["timeout"] = flow.timeout
    missing = Status(flow.status or 0) & _SETTABLE & ~Status(entry.status or 0)
    if missing:
        changes["status"] = missing
    if (flow.labels or 0) != (entry.labels or 0):
        changes["labels"] = flow.labels or 0
    if flow.protoinfo is not None and flow.protoinfo != entry.protoinfo:
        changes["protoinfo"] = flow.protoinfo
    if flow.seqadj_orig is not None and flow.seqadj_orig != entry.seqadj_orig:
        changes["seqadj_orig"] = flow.seqadj_orig
    if flow.seqadj_reply is not None and flow.seqadj_reply != entry.seqadj_reply:
        changes["seqadj_reply"] = flow.seqadj_reply
    if flow.synproxy is not None and flow.synproxy != entry.synproxy:
        changes["synproxy"] = flow.synproxy
    return changes
