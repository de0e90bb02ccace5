"""The live table: its life, and what it can be asked."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Awaitable, Callable, Iterator
from typing import Self

import anyio
import anyio.lowlevel
import attrs
from anyio.abc import AsyncResource

from .. import eventloop
from ..codec.requests.common import as_argument
from ..errors import ConntrackError, EncodeError
from ..model.flow import Flow
from ..model.table import FlowTableStatistics, TableMode
from ..model.tuples import Tuple
from ..model.values import describe_value
from ..plain import as_int
from .changes import Backlog, Changes
from .keeper import Interval, Keeper
from .keys import plain_tuple, plain_zone
from .merging import may_be_same
from .mirror import Mirror
from .upstream import Upstream, chain_of


class FlowTable(AsyncResource):
    """A mirror of the kernel's table, kept true while its ``async with`` lasts; see
    :meth:`Connection.table`.

    Look-ups and iteration are plain calls: what they see is what had been applied when the task
    had its last turn; :meth:`synced` waits for what the kernel has told since. The flows are as the
    kernel last told them, and are not to be changed: an entry that changes gets another object.
    Their timeouts, counters and timestamps are as of a comparison or an event, few of which tell
    of those.

    Every method but :meth:`aclose` raises :exc:`anyio.ClosedResourceError` before the table is
    entered and once it, or its connection, is closed; and, if the table can no longer be kept true,
    the error that it failed for.

    A shortage does not end the table: of descriptors, threads, memory or answers. It tries again
    until the shortage is over, and is :attr:`behind` meanwhile. What ends it is final: a missing
    privilege, a kernel that can't do what is needed, or what the function ``match`` raises. A table
    that is closed, or has ended, holds no entries any more.
    """

    def __init__(
        self,
        upstream: Upstream,
        keep: Callable[[Flow], bool] | None,
        reconcile: Interval,
        prepare: Callable[[], Awaitable[None]] | None,
        *,
        choice_is_fixed: bool = True,
    ) -> None:
        """``choice_is_fixed`` says that ``keep`` looks at nothing that changes."""
        self._upstream = upstream
        self._prepare = prepare
        self._mirror = Mirror(keep)
        self._entries = self._mirror.entries
        self._keeper = Keeper(
            upstream, self._mirror, reconcile, self._check, choice_is_fixed=choice_is_fixed
        )
        self._backlogs: tuple[Backlog, ...] = ()
        self._entered = self._closed = False
        self._failure: BaseException | None = None
        self._cancels: list[Callable[[], None]] = []
        """What cancels its tasks, of those that were started."""
        self._running = 0
        """How many of them have not ended."""
        self._ended: anyio.Event | None = None
        """Set when the last of them has ended."""

    # -- look-ups ---------------------------------------------------------------------------

    def by_orig(self, tuple_: Tuple, *, zone: int | None = None) -> Flow | None:
        """The entry whose original tuple this is; ``None`` if there is none.

        :param zone: the zone to look in, instead of the tuple's own; 0 if neither is given.

        :raises TypeError: for what is not a :class:`Tuple`, and a zone that is not an integer.
        :raises EncodeError: for a value that can't be in its field.
        """
        self._check()
        tuple_ = plain_tuple(tuple_)
        return self._entries.by_orig(tuple_, _zone_of(tuple_, zone))

    def by_reply(self, tuple_: Tuple, *, zone: int | None = None) -> Flow | None:
        """The entry whose reply tuple this is; otherwise as :meth:`by_orig`."""
        self._check()
        tuple_ = plain_tuple(tuple_)
        return self._entries.by_reply(tuple_, _zone_of(tuple_, zone))

    def get(self, tuple_: Tuple, *, zone: int | None = None) -> Flow | None:
        """The entry that has this tuple in either direction; otherwise as :meth:`by_orig`.

        As the kernel does with a packet, whose tuple no two entries have; but where entries have a
        zone for one direction alone, one may have the tuple in its original, and another in its
        reply direction. This is then the first of them.
        """
        self._check()
        tuple_ = plain_tuple(tuple_)
        return self._get(tuple_, _zone_of(tuple_, zone))

    def _get(self, tuple_: Tuple, zone: int) -> Flow | None:
        found = self._entries.by_orig(tuple_, zone)
        return self._entries.by_reply(tuple_, zone) if found is None else found

    def by_id(self, id: int) -> list[Flow]:
        """The entries with this :attr:`Flow.id`.

        It is a hash of 32 bits: of a million entries, some hundred share theirs with another.

        :raises TypeError: for what is not an integer.
        """
        self._check()
        try:
            number = as_int(id)
        except TypeError:
            raise TypeError(f"id must be a number; got {describe_value(id)}") from None
        return self._entries.by_id(number)

    def find(self, packet: Tuple, *, zone: int | None = None) -> Flow | None:
        """The entry that a packet belongs to; ``None`` if there is none.

        The packet may be of either direction, and be seen on either side, before or after the
        translation. If it could be one that arrives, by some entry, and one that leaves, by
        another, it is taken for the first. Otherwise as :meth:`by_orig`.
        """
        self._check()
        packet = plain_tuple(packet)
        number = _zone_of(packet, zone)
        found = self._get(packet, number)
        if found is None:
            try:
                found = self._get(packet.inverse, number)
            except EncodeError:  # an ICMP type without an answer, which nothing tracks
                return None
        return found

    def translate(self, packet: Tuple, *, zone: int | None = None) -> Tuple | None:
        """A packet's addresses and ports as they are on the other side of NAT; ``None`` if it
        belongs to no entry. Where nothing is translated, they are the same.

        The packet is what :meth:`find` takes, and the answer :meth:`Flow.translate`'s.
        """
        flow = self.find(packet, zone=zone)
        return None if flow is None else flow.translate(packet)

    def __len__(self) -> int:
        self._check()
        return len(self._entries)

    def __iter__(self) -> Iterator[Flow]:
        """The entries as they are now, whatever happens to the table meanwhile."""
        self._check()
        return iter(tuple(self._entries.flows))

    def __contains__(self, item: object) -> bool:
        """Whether an entry has this tuple, in either direction; or whether this flow is there: the
        same entry, be it in another state. What no entry can have is in no table."""
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
        return stored is not None and may_be_same(stored, item)

    # -- what it knows of itself ------------------------------------------------------------

    @property
    def mode(self) -> TableMode:
        """How far it can be trusted between two comparisons.

        The setting ``nf_conntrack_events`` is read at each comparison, and as often as
        ``reconcile`` says; it may be another by now. Rules that silence events of single flows
        can't be seen (nftables' ``ct event set``, iptables' ``CT --ctevents``, Open vSwitch): they
        count once a comparison, or a look-up, has found a change that they kept back.
        """
        self._check()
        return self._keeper.mode

    @property
    def behind(self) -> bool:
        """Whether the table may lack changes that the kernel has reported.

        Events were lost, or the last comparison has failed (:attr:`last_error`); and the comparison
        that repairs it is not done yet.
        """
        self._check()
        return self._keeper.behind

    @property
    def last_error(self) -> ConntrackError | None:
        """Why the last comparison with the kernel's table failed; ``None`` if it did not fail.

        It is tried again, after 2 seconds at most, until it can be done.
        """
        self._check()
        return self._keeper.last_error

    @property
    def resyncs(self) -> int:
        """Times that it was compared with the kernel's table because events had been lost."""
        return self._keeper.statistics().resyncs

    def statistics(self) -> FlowTableStatistics:
        """What it has done so far. Works on a closed table too, which has no entries."""
        return attrs.evolve(
            self._keeper.statistics(),
            entries=len(self._entries),
            unheard=len(self._mirror.unheard),
            events_applied=self._mirror.applied,
            readers=len(self._backlogs),
            changes_waiting=max(map(len, self._backlogs), default=0),
            stream=self._upstream.statistics(),
        )

    # -- waiting ----------------------------------------------------------------------------

    async def synced(self) -> None:
        """Return when everything is applied that the kernel had queued at the call.

        If events had been lost by then, that includes the comparison that repairs it. What a
        silent flow did (:attr:`mode`) is not included: :meth:`reconcile` finds it. It takes some
        microseconds where nothing waits, and in a storm as long as a comparison, which is seconds
        at a million entries: nothing to do before each look-up.

        Raises, besides, a :exc:`ResourceExhausted`, :exc:`NoReply` or :exc:`DumpInterrupted` if the
        comparison was needed and has failed for some seconds. The table goes on, and tries again.
        """
        self._upstream.owner.check()
        self._check()
        await self._keeper.synced()

    async def reconcile(self) -> None:
        """Compare with the kernel's table now, and return when that is done.

        It finds what silent flows did, and brings timeouts and counters up to date. Raises,
        besides, what :meth:`synced` does: the comparison was tried for some seconds, is still to be
        done, and will be once that is possible.
        """
        self._upstream.owner.check()
        self._check()
        await self._keeper.reconciled()

    def changes(self) -> Changes:
        """What changes, as an async iterator that starts with the entries that are there.

        Each call is a subscription of its own, from now on. Whoever does nothing but apply the
        changes to a dict of :attr:`Flow.orig` and :attr:`Flow.zone` has this table in it, whatever
        was lost and however slow they are: what is not read yet takes the room of one change an
        entry at most. After :meth:`synced`, they are up to date once :attr:`Changes.waiting` is 0.
        """
        self._check()
        backlog = Backlog(self._entries)
        self._tell((*self._backlogs, backlog))
        return Changes(self._upstream.owner, backlog, self._check, self._forget)

    def _forget(self, backlog: Backlog) -> None:
        self._tell(tuple(each for each in self._backlogs if each is not backlog))

    def _tell(self, backlogs: tuple[Backlog, ...]) -> None:
        self._backlogs = self._mirror.listeners = backlogs

    # -- life -------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Subscribe, read the kernel's table, and follow it.

        Raises :exc:`RuntimeError` if it was entered before; :exc:`PermissionDenied` without
        CAP_NET_ADMIN, or without the right to change the setting; what else the kernel refuses;
        :exc:`ResourceExhausted` and :exc:`NoReply`, if it can't be opened or the kernel's table not
        be read in some attempts; and :exc:`anyio.ClosedResourceError`.
        """
        if self._entered:
            raise RuntimeError("this table was entered before; call table() again for another")
        self._entered = True
        self._upstream.begin(self)
        try:
            await self._keeper.subscribe(self._prepare)
            if self._closed:  # by another task, while the settings were read
                self._upstream.close()
            self._check()
            self._start()
            await self._keeper.begun()
        except BaseException:
            await self.aclose()
            raise
        return self

    def _check(self) -> None:
        """Raises what every method does once the table can't be used."""
        self._upstream.owner.check_process()
        if self._failure is not None:
            raise _again(self._failure)
        if self._closed:
            raise anyio.ClosedResourceError("the table is closed")
        if not self._upstream.is_subscribed:
            raise anyio.ClosedResourceError(
                "the table is not open yet: use it inside `async with conn.table() as table`"
            )

    async def aclose(self) -> None:
        """End it. Idempotent; whoever waits for it, or reads its changes, is woken."""
        self.close()
        # In another event loop nothing could wake this task.
        if self._running and self._upstream.owner.is_running_here:
            assert self._ended is not None
            with anyio.CancelScope(shield=True):
                await self._ended.wait()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """As :meth:`aclose`, without waiting. To be called in the event loop's thread."""
        if not self._closed:
            self._closed = True
            for cancel in self._cancels:
                cancel()
            self._cancels.clear()
            self._upstream.close()
            self._upstream.end(self)
            self._wake_all()
            self._let_go()

    def _let_go(self) -> None:
        """Hold nothing of the kernel's table any more: this one may be in use much longer."""
        self._mirror.clear()
        self._keeper.clear()
        for backlog in self._backlogs:
            backlog.clear()
        self._backlogs = ()

    def _wake_all(self) -> None:
        self._keeper.announce()
        for backlog in self._backlogs:
            backlog.wake()

    def _start(self) -> None:
        """Start its tasks, none of which ends by itself."""
        loop = eventloop.current()
        self._ended = anyio.Event()
        for work in self._keeper.works:
            self._cancels.append(loop.start(work, "conntrack_aio table", self._end))
            self._running += 1

    def _end(self, error: BaseException | None) -> None:
        """One of its tasks has ended: it failed, or was cancelled, perhaps with the event loop."""
        if error is not None and not self._closed:
            self._failure = error
            _forget_frames(error)
        self.close()
        # Less than one, if an interrupt struck just before it was counted.
        self._running = max(0, self._running - 1)
        if not self._running and self._ended is not None:
            self._let_go()  # of what its tasks took in until they ended, too
            self._ended.set()
        self._wake_all()


def _again(error: BaseException) -> BaseException:
    """Copy an error, to be raised: what is raised holds the frames that it passes, and they hold
    what whoever uses the table holds. The error itself where it can't be copied."""
    try:
        copied = copy.copy(error)
    except Exception:
        return error
    copied.__cause__, copied.__suppress_context__ = error.__cause__, error.__suppress_context__
    return copied.with_traceback(error.__traceback__)


def _forget_frames(error: BaseException) -> None:
    """Have an error, and what caused it, show where they were raised, but hold nothing of it.

    The frames of the table's own task hold the table, which holds the error.
    """
    for part in chain_of(error):
        traceback.clear_frames(part.__traceback__)


def _zone_of(tuple_: Tuple, zone: int | None) -> int:
    """Return the zone to look in, for a tuple with plain values."""
    return tuple_.zone or 0 if zone is None else plain_zone(zone)
