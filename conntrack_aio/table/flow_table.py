"""The live table: look-ups, changes, waiting, opening and closing.

- Look-ups are plain calls that read the mirror. No request is sent.
- Each open table runs tasks of its own, which belong to no task group. An error in one of them ends
  the table, and every later call raises it.
- A table that has ended holds no flows, even if the program still holds the table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Self

import anyio
import anyio.lowlevel
import attrs

from ..closing import Closable
from ..codec.requests.common import as_argument
from ..error_chains import clear_frames, copy_to_raise
from ..errors import ConntrackError, EncodeError
from ..model.flow import Flow
from ..model.nat import translate
from ..model.table import FlowTableStatistics, TableMode
from ..model.tuples import Tuple
from ..model.values import describe_value
from ..plain import as_int
from .changes import Changes, PendingChanges
from .kernel_table import KernelTable
from .merging import may_be_same_entry
from .mirror import Mirror
from .reconciler import Interval
from .states import State
from .synchronizer import Synchronizer
from .tasks import TableTasks
from .tuple_keys import plain_tuple, plain_zone


class FlowTable(Closable):
    """A live mirror of the kernel's table; see :meth:`Connection.table`.

    It is updated while its ``async with`` block runs. Look-ups and iteration are plain calls. They
    see what had been applied when the task last gave control to the event loop. :meth:`synced`
    waits for all changes that the kernel has reported since.

    A **reconciliation** dumps the kernel's table and applies the differences to this table. The
    table does it when it is opened, after events were lost, at the interval ``reconcile``, and when
    :meth:`reconcile` is called.

    The flows are as the kernel last reported them. Each look-up returns new objects, which belong
    to the program: no later change of the entry changes them. Timeouts, counters and timestamps are
    those of the last reconciliation or of the last event that had them, which few events do.

    A shortage of file descriptors, threads or memory, or a missing reply, does not end the table.
    The table retries until the shortage is over, and is :attr:`behind` until then. A missing
    privilege, a kernel that lacks a required feature, or an error raised by the function ``match``
    ends the table. A table that is closed or has ended holds no entries.

    :meth:`aclose`, :meth:`close`, :meth:`statistics` and :attr:`resyncs` work in every state. The
    other methods raise, besides the errors that each lists, the error that ended the table, and:

    :raises anyio.ClosedResourceError: when the table was not entered yet, or the table or its
        connection is closed.
    :raises UsedElsewhere: when the table is used in another process; from :meth:`synced` and
        :meth:`reconcile` also when it is used in another event loop.
    """

    def __init__(
        self,
        kernel_table: KernelTable,
        predicate: Callable[[Flow], bool] | None,
        reconcile: Interval,
        prepare: Callable[[], Awaitable[None]] | None,
        *,
        constant_match: bool = True,
    ) -> None:
        """Initialize a table that is not open yet.

        :param kernel_table: the kernel's table.
        :param predicate: which flows to hold; ``None`` for all.
        :param reconcile: the time between two reconciliations.
        :param prepare: called before the table subscribes to events.
        :param constant_match: whether the predicate depends only on what never changes, so that an
            entry that does not match never comes to match.
        """
        self._kernel_table = kernel_table
        self._prepare = prepare
        self._mirror = Mirror(predicate)
        self._entries = self._mirror.entries
        self._new_flow = self._mirror.states.new_flow
        self._synchronizer = Synchronizer(
            kernel_table, self._mirror, reconcile, self._check, constant_match=constant_match
        )
        self._readers: tuple[PendingChanges, ...] = ()
        """The pending changes of each open iterator of changes."""
        self._entered = self._closed = False
        self._failure: BaseException | None = None
        """The error that ended the table."""
        self._tasks = TableTasks()

    # -- look-ups ---------------------------------------------------------------------------

    def by_orig(self, tuple: Tuple, *, zone: int | None = None) -> Flow | None:
        """Return the entry with this original tuple, or ``None``.

        :param tuple: the tuple.
        :param zone: the zone to look in, instead of the tuple's own; 0 if neither is given.

        :raises TypeError: when ``tuple`` is not a :class:`Tuple`, or ``zone`` is not an integer.
        :raises EncodeError: when a value does not fit its field.
        """
        self._check()
        tuple = plain_tuple(tuple)
        state = self._entries.by_orig(tuple, _zone_of(tuple, zone))
        return None if state is None else self._new_flow(state)

    def by_reply(self, tuple: Tuple, *, zone: int | None = None) -> Flow | None:
        """Return the entry with this reply tuple, or ``None``.

        Takes the parameters of :meth:`by_orig` and raises what it raises.
        """
        self._check()
        tuple = plain_tuple(tuple)
        state = self._entries.by_reply(tuple, _zone_of(tuple, zone))
        return None if state is None else self._new_flow(state)

    def get(self, tuple: Tuple, *, zone: int | None = None) -> Flow | None:
        """Return the entry with this tuple in either direction, or ``None``.

        The kernel finds the entry of a packet in the same way. Two entries share a tuple only if a
        zone applies to one direction: one has it as its original, the other as its reply tuple.
        Then the entry with the original tuple is returned.

        Takes the parameters of :meth:`by_orig` and raises what it raises.
        """
        self._check()
        tuple = plain_tuple(tuple)
        state = self._get(tuple, _zone_of(tuple, zone))
        return None if state is None else self._new_flow(state)

    def _get(self, tuple: Tuple, zone: int) -> State | None:
        state = self._entries.by_orig(tuple, zone)
        return self._entries.by_reply(tuple, zone) if state is None else state

    def by_id(self, id: int) -> list[Flow]:
        """Return the entries with this :attr:`Flow.id`.

        The id is a hash of 32 bits: of a million entries, some hundred share theirs with another.

        :raises TypeError: when ``id`` is not an integer.
        """
        self._check()
        try:
            number = as_int(id)
        except TypeError:
            raise TypeError(f"id must be a number; got {describe_value(id)}") from None
        return [self._new_flow(state) for state in self._entries.by_id(number)]

    def find(self, packet: Tuple, *, zone: int | None = None) -> Flow | None:
        """Return the entry that a packet belongs to, or ``None``.

        The packet may be of either direction, and captured before or after the translation. If it
        fits one entry as an arriving packet and another as a departing one, the entry of the
        arriving packet is returned.

        :param packet: the addresses and ports of the packet.
        :param zone: the zone to look in, instead of the tuple's own; 0 if neither is given.

        Raises what :meth:`by_orig` raises.
        """
        state = self._find(plain_tuple(packet), zone)
        return None if state is None else self._new_flow(state)

    def _find(self, packet: Tuple, zone: int | None) -> State | None:
        self._check()
        number = _zone_of(packet, zone)
        found = self._get(packet, number)
        if found is None:
            try:
                found = self._get(packet.inverse, number)
            except EncodeError:  # an ICMP type without a reply type, which the kernel cannot track
                return None
        return found

    def translate(self, packet: Tuple, *, zone: int | None = None) -> Tuple | None:
        """Return the addresses and ports that a packet has on the other side of NAT.

        Takes the parameters of :meth:`find` and raises what it raises.

        :returns: what :meth:`Flow.translate` returns for the entry of the packet. Without a
            translation the addresses and ports are the same. ``None`` if the packet belongs to no
            entry.
        """
        packet = plain_tuple(packet)
        state = self._find(packet, zone)
        return None if state is None else translate(*self._mirror.states.ends_of(state), packet)

    def __len__(self) -> int:
        """Return the number of entries."""
        self._check()
        return len(self._entries)

    def __iter__(self) -> Iterator[Flow]:
        """Iterate over a snapshot of the entries. Later changes do not affect the iterator."""
        self._check()
        return self._entries.flows

    def __contains__(self, item: object) -> bool:
        """Return whether an entry has this tuple, or is the entry of this flow.

        A tuple may be of either direction. A flow is contained if its entry is, in whatever state.
        The result is ``False`` for other objects, and for values that no entry can have.
        """
        self._check()
        try:
            if isinstance(item, Tuple):
                return self.get(item) is not None
            if not isinstance(item, Flow):
                return False
            item = as_argument(item, Flow, "")
            orig = plain_tuple(item.orig)
            zone = item.zone if orig.zone is None else orig.zone
            stored = self._entries.by_orig(orig, _zone_of(orig, zone))
        except (EncodeError, TypeError):
            return False
        return stored is not None and may_be_same_entry(self._new_flow(stored), item)

    # -- state ------------------------------------------------------------------------------

    @property
    def mode(self) -> TableMode:
        """How reliable the table is between two reconciliations.

        The table reads the sysctl ``nf_conntrack_events`` at each reconciliation and at the
        interval ``reconcile``. It may have changed since. The table cannot see rules that
        suppress events of single flows: nftables' ``ct event set``, iptables' ``CT --ctevents``,
        Open vSwitch. They affect the mode after a reconciliation or a look-up has found a change
        that no event reported.
        """
        self._check()
        return self._synchronizer.mode

    @property
    def behind(self) -> bool:
        """Whether the table may lack changes that the kernel has reported.

        This is the case after events were lost, or after a reconciliation failed, until a
        reconciliation succeeds. :attr:`last_error` says why the last reconciliation failed.
        """
        self._check()
        return self._synchronizer.behind

    @property
    def last_error(self) -> ConntrackError | None:
        """Why the last reconciliation failed; ``None`` if it did not fail.

        The table retries after 2 seconds at most, until the reconciliation succeeds.
        """
        self._check()
        return self._synchronizer.last_error

    @property
    def resyncs(self) -> int:
        """How many reconciliations were attempted because events were lost."""
        return self._synchronizer.statistics.resyncs

    def statistics(self) -> FlowTableStatistics:
        """Return what the table has done so far. Works on a closed table, too."""
        return attrs.evolve(
            self._synchronizer.statistics,
            entries=len(self._entries),
            without_events=len(self._mirror.without_events),
            events_applied=self._mirror.applied,
            readers=len(self._readers),
            changes_waiting=max(map(len, self._readers), default=0),
            stream=self._kernel_table.statistics(),
        )

    # -- waiting ----------------------------------------------------------------------------

    async def synced(self) -> None:
        """Wait until all changes are applied that the kernel has reported before this call.

        If events were lost before, this includes the reconciliation that repairs the loss. Changes
        of silent entries are not included; see :attr:`mode`. :meth:`reconcile` finds those. The
        call takes some microseconds if no events wait. After lost events it takes as long as a
        reconciliation, which is seconds at a million entries. So do not call it before each
        look-up.

        :raises ResourceExhausted: when the required reconciliation has failed for some seconds
            because of a shortage.
        :raises NoReply: when it has failed because the kernel did not reply.
        :raises DumpInterrupted: when it has failed because no dump was complete.

        After one of these errors the table continues and retries the reconciliation.
        """
        self._kernel_table.owner.check()
        self._check()
        await self._synchronizer.wait_synced()

    async def reconcile(self) -> None:
        """Request a reconciliation, and wait until it is done.

        This finds the changes of silent entries, and updates timeouts and counters.

        Raises what :meth:`synced` raises, if the reconciliation has failed for some seconds. The
        table continues and retries the reconciliation.
        """
        self._kernel_table.owner.check()
        self._check()
        await self._synchronizer.reconcile()

    def changes(self) -> Changes:
        """Return an async iterator over the changes, which starts with the present entries.

        Each call returns an independent iterator. A dict by :attr:`Flow.orig` and
        :attr:`Flow.zone`, to which each change is applied, converges to the contents of this table,
        even after lost events and with a slow reader. At most one change per entry waits to be
        read. After :meth:`synced`, the dict is up to date when :attr:`Changes.waiting` is 0.
        """
        self._check()
        changes = PendingChanges(self._entries)
        self._set_readers((*self._readers, changes))
        return Changes(self._kernel_table.owner, changes, self._check, self._remove_reader)

    def _remove_reader(self, changes: PendingChanges) -> None:
        self._set_readers(tuple(reader for reader in self._readers if reader is not changes))

    def _set_readers(self, readers: tuple[PendingChanges, ...]) -> None:
        self._readers = self._mirror.readers = readers

    # -- opening and closing ----------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Subscribe to events, dump the kernel's table, and start to follow the events.

        :raises RuntimeError: when the table was entered before.
        :raises PermissionDenied: when the program lacks CAP_NET_ADMIN, or, with ``enable_events``,
            the right to change the setting.
        :raises KernelError: when the kernel refuses a request for another reason; the class says
            why.
        :raises ResourceExhausted: when a shortage prevents the subscription, or several attempts to
            dump the table.
        :raises NoReply: when several attempts to dump the table got no reply.
        :raises anyio.ClosedResourceError: when the table or the connection is closed.
        """
        if self._entered:
            raise RuntimeError("this table was entered before; call table() again for another")
        self._entered = True
        self._kernel_table.register(self)
        try:
            await self._synchronizer.subscribe(self._prepare)
            if self._closed:  # another task closed the table while the settings were read
                self._kernel_table.close()
            self._check()
            # The tasks may store flows until they end, so the flows are dropped again then.
            self._tasks.start(self._synchronizer.task_functions, self._on_task_end, self._release)
            await self._synchronizer.wait_opened()
        except BaseException:
            await self.aclose()
            raise
        return self

    def _check(self) -> None:
        """Raise the error that every method raises while the table is not open."""
        self._kernel_table.owner.check_process()
        if self._failure is not None:
            raise copy_to_raise(self._failure)
        if self._closed:
            raise anyio.ClosedResourceError("the table is closed")
        if not self._kernel_table.is_subscribed:
            raise anyio.ClosedResourceError(
                "the table is not open yet: use it inside `async with conn.table() as table`"
            )

    async def aclose(self) -> None:
        """Close the table, and wake the tasks that wait for it or read its changes. Idempotent."""
        self.close()
        # Nothing could wake this task in another event loop.
        if self._tasks.running and self._kernel_table.owner.is_running_here:
            with anyio.CancelScope(shield=True):
                await self._tasks.wait_ended()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close as :meth:`aclose` does, without waiting for the table's tasks to end.

        Call it in the event loop's thread.
        """
        if not self._closed:
            self._closed = True
            self._tasks.cancel()
            self._kernel_table.close()
            self._kernel_table.unregister(self)
            self._wake_all()
            self._release()

    def _release(self) -> None:
        """Drop all flows, because the program may hold this object much longer."""
        self._mirror.clear()
        self._synchronizer.clear()
        for reader in self._readers:
            reader.clear()
        self._readers = ()

    def _wake_all(self) -> None:
        self._synchronizer.wake_waiters()
        for reader in self._readers:
            reader.wake()

    def _on_task_end(self, error: BaseException | None) -> None:
        """Close the table, because one of its tasks has failed or was cancelled.

        The end of the event loop cancels the tasks, too.
        """
        if error is not None and not self._closed:
            self._failure = error
            # The frames of the task refer to the table, and the table refers to the error.
            clear_frames(error)
        self.close()
        self._wake_all()


def _zone_of(tuple: Tuple, zone: int | None) -> int:
    """Return the zone to look in, for a tuple with plain values."""
    return tuple.zone or 0 if zone is None else plain_zone(zone)
