"""Expectations: reading, making, changing and deleting them, and what happens to them."""

from __future__ import annotations

import builtins
import errno
from socket import AF_UNSPEC
from typing import Final, Literal, Never, overload

from ..codec.messages import (
    decode_expect_cpu_statistics,
    decode_expect_event,
    decode_expectation,
)
from ..codec.requests import expectations as requests
from ..codec.requests.expectations import ExpectTarget
from ..codec.requests.targets import Target
from ..errors import EncodeError, EventsLost, NotFound, kernel_error
from ..model.enums import EventType
from ..model.expectations import Expectation, ExpectEvent
from ..model.statistics import ExpectCPUStatistics
from ..model.tuples import Tuple
from ..session import Session
from ..streams.dump import Dump
from ..streams.events import EventStream, OnLoss
from ..uapi.nfnetlink import NFNLGRP
from .answers import the_expectation
from .reader import groups_of

_GROUPS: Final = {
    EventType.NEW: NFNLGRP.CONNTRACK_EXP_NEW,
    EventType.DESTROY: NFNLGRP.CONNTRACK_EXP_DESTROY,
}


class Expectations:
    """The connections that helpers expect: ``conn.expectations``.

    A **target** is an :class:`Expectation` that was read, which stands for the one with its id, or
    an expectation's own tuple. The kernel does not tell zones: where the master is in one, say it
    with ``zone``. Every verb raises what those of :class:`Connection` do.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def dump(
        self,
        *,
        master: Target | None = None,
        zone: int | None = None,
        family: int = AF_UNSPEC,
    ) -> Dump[Expectation]:
        """The expectations of the namespace, or of one flow: an async iterator.

        :param master: the flow whose they are, or the tuple of either of its directions; it is
            found by tuple and zone. One without a helper has none. Where there is no such flow,
            iterating raises :exc:`NotFound`.
        :param zone: the zone to look for the master in, instead of its own.
        :param family: those of ``AF_INET`` or ``AF_INET6`` alone.

        Raises :exc:`EncodeError` for an incomplete tuple, for a zone without a master, and for a
        family beside a master, which has its own.
        """
        if master is None:
            if zone is not None:
                raise EncodeError("the kernel tells no zones; it is that of a master", ("zone",))
            return self._session.dump(requests.dump(family), decode_expectation)
        if family != AF_UNSPEC:
            raise EncodeError("expectations are of their master's family", ("family",))
        return self._session.dump(requests.dump_of(master, zone), decode_expectation)

    async def list(
        self,
        *,
        master: Target | None = None,
        zone: int | None = None,
        family: int = AF_UNSPEC,
    ) -> list[Expectation]:
        """The expectations of :meth:`dump`, all of them."""
        found: list[Expectation] = []
        async with self.dump(master=master, zone=zone, family=family) as dump:
            async for batch in dump.batches():
                found += batch
        return found

    async def get(self, target: ExpectTarget, *, zone: int | None = None) -> Expectation:
        """One expectation, as the kernel has it now.

        Raises :exc:`NotFound` if there is none with this very tuple, or if ``target`` is an
        expectation and another one has its tuple by now; :exc:`EncodeError` for an incomplete
        tuple.
        """
        return await self._get(target, zone, "get")

    async def find(self, packet: Tuple, *, zone: int | None = None) -> Expectation:
        """The expectation that a connection with this first packet would meet.

        That is one whose mask fits: an expectation from any source port is found with any. One
        that is INACTIVE is found too, though no packet meets it.

        Raises :exc:`NotFound`; :exc:`EncodeError` for an incomplete tuple.
        """
        return the_expectation(await self._session.ask(requests.get(packet, zone, "find")))

    async def create(
        self, expectation: Expectation, *, helper: str | None = None, zone: int | None = None
    ) -> Expectation:
        """Make a new expectation, and return it as the kernel then has it, id included.

        Its master must be in the table, and have a helper. Each class of a helper has a limit for
        one master (``ftp`` 1, ``irc`` 8, ``sip`` 1 to 4): beyond it the oldest one goes, without a
        word but its DESTROY event. The events of an expectation need a master that emits any.

        The kernel gives it its helper's timeout; where ``expectation`` has one, a second request
        sets that. Of the flags it takes PERMANENT and INACTIVE. Its helper's name and its id are
        the kernel's to say, and not sent.

        :param helper: the helper of the connection that is expected. Only kernels older than a
            correction of March 2026 (in 6.12.81 and 6.18.22, too) look at it. Those look at
            ``expect_class`` only where this is given, and compare it with this helper's classes.
        :param zone: the zone of the master. Where only its replies are in one, give its reply
            tuple as ``expectation.master``: by the other it is found, and the expectation is not.

        Raises :exc:`NotFound` if there is no such master, or if the expectation was met or had
        expired before it could be read back; :exc:`NotSupported` if the master has no helper;
        :exc:`AlreadyExists` if its tuple is expected already; :exc:`ResourceBusy` if it overlaps
        with another; :exc:`ResourceExhausted` at ``nf_conntrack_expect_max``;
        :exc:`InvalidRequest` for a function that the kernel does not have, or a class that the
        helper does not; :exc:`EncodeError`.
        """
        made = requests.create(expectation, helper, zone)
        if expectation.timeout is not None:
            requests.check_timeout(expectation.timeout)
        read = requests.get(expectation.tuple, zone)
        created, outcome = await self._session.run([made, read])
        created.result()
        try:
            found = the_expectation(outcome)
            if expectation.timeout is None:
                return found
            # Not in the same datagram: had the first been refused, the second would have changed
            # an expectation that was there before.
            changed = requests.update(found, expectation.timeout, zone)
            updated, outcome = await self._session.run([changed, read])
            updated.result()
            return the_expectation(outcome)
        except NotFound as error:
            hint = (
                "It was made, and was gone before it could be read back (unless its master has a "
                "zone for its replies alone: then name the master by its reply tuple, and the zone)"
            )
            raise NotFound(errno.ENOENT, str(made), hint=hint) from error

    async def update(
        self,
        target: ExpectTarget,
        *,
        timeout: int,  # noqa: ASYNC109 - the expectation's, not ours
        zone: int | None = None,
    ) -> None:
        """Have an expectation expire after ``timeout`` seconds; it has nothing else to change.

        It is looked up first. (The kernel does not compare ids in updates; should it be replaced
        just in between, its successor is changed.) The kernel emits no event. With 0 it is gone
        within a tick of the clock; the event of its end may come up to a minute later (6.1.192).

        Raises :exc:`NotFound`; :exc:`EncodeError` for a timeout beyond 4,294,967 seconds too, of
        which some kernels would make a short one; :exc:`KernelError` (ETIME) if it expires in
        this very moment.
        """
        requests.check_timeout(timeout)
        found = await self._get(target, zone, "update")
        outcome = await self._session.ask(requests.update(found, timeout, zone))
        outcome.result()

    async def delete(self, target: ExpectTarget, *, zone: int | None = None) -> None:
        """Delete one expectation, only if its id is still the same.

        A tuple is looked up first, for the id. (Kernels from 5.4 to 6.8 refuse every id, unless
        they were corrected. There it is looked up, its id compared here, and it is deleted by its
        tuple.)

        Raises :exc:`NotFound`; :exc:`EncodeError` for an incomplete tuple.
        """
        tuple_ = requests.tuple_of(target)
        id = requests.id_of(target)
        if id is None:
            id = (await self._get(target, zone, "delete")).id
        outcome = await self._session.ask(requests.delete(tuple_, id, zone))
        if isinstance(outcome.error, NotFound) and await self._has_id(tuple_, id, zone):
            outcome = await self._session.ask(requests.delete(tuple_, None, zone))
        outcome.result()

    async def delete_by_helper(self, name: str) -> None:
        """Delete every expectation of the flows that have this helper; it is right if none has.

        Raises :exc:`EncodeError` for what is no helper's name.
        """
        (outcome,) = await self._session.run([requests.delete_by_helper(name)], walk=True)
        outcome.result()

    async def flush(self, *refused: Never, **also_refused: Never) -> None:
        """Delete every expectation of the namespace.

        :raises TypeError: for any argument.
        """
        if refused or also_refused:
            raise TypeError(
                "flush() takes no argument, for it deletes every expectation; delete(expectation) "
                "deletes one, and delete_by_helper(name) those of a helper"
            )
        (outcome,) = await self._session.run([requests.flush()], walk=True)
        outcome.result()

    async def cpu_statistics(self) -> builtins.list[ExpectCPUStatistics]:
        """What each processor has done with expectations, of all that the machine could have."""
        request = requests.cpu_statistics()
        async with self._session.dump(request, decode_expect_cpu_statistics) as dump:
            return [told async for told in dump]

    @overload
    def events(
        self,
        *types: EventType,
        receive_buffer: int | None = None,
        receive_buffer_max: int | None = None,
        all_netns: bool = False,
        on_loss: Literal["raise"] = "raise",
        receive_time: bool = False,
    ) -> EventStream[ExpectEvent]: ...

    @overload
    def events(
        self,
        *types: EventType,
        receive_buffer: int | None = None,
        receive_buffer_max: int | None = None,
        all_netns: bool = False,
        on_loss: Literal["item"],
        receive_time: bool = False,
    ) -> EventStream[ExpectEvent | EventsLost]: ...

    def events(
        self,
        *types: EventType,
        receive_buffer: int | None = None,
        receive_buffer_max: int | None = None,
        all_netns: bool = False,
        on_loss: OnLoss = "raise",
        receive_time: bool = False,
    ) -> EventStream[ExpectEvent] | EventStream[ExpectEvent | EventsLost]:
        """Subscribe to events: NEW, DESTROY, or both. Subscribed when this returns.

        An expectation whose master emits no events emits none either: see
        :attr:`EventStream.covers_older_flows`. No stream of them is reliable: the kernel does not
        try again to deliver any (``ctnetlink_expect_event``).

        The parameters are those of :meth:`Connection.events`.

        Raises :exc:`PermissionDenied` without CAP_NET_ADMIN, for ``all_netns`` CAP_NET_BROADCAST
        too; :exc:`ValueError` for UPDATE, which the kernel never sends, and for parameters that
        can't be; :exc:`TypeError` for what is no :class:`EventType`.
        """
        return self._session.subscribe(
            groups_of(types, _GROUPS),
            decode_expect_event,
            receive_buffer=receive_buffer,
            receive_buffer_max=receive_buffer_max,
            all_netns=all_netns,
            on_loss=on_loss,
            receive_time=receive_time,
        )

    async def _get(self, target: ExpectTarget, zone: int | None, verb: str) -> Expectation:
        """The expectation with this very tuple, and id if it has one. Raises :exc:`NotFound`."""
        tuple_ = requests.tuple_of(target)
        id = requests.id_of(target)
        request = requests.get(tuple_, zone, verb)
        found = the_expectation(await self._session.ask(request))
        if found.tuple != tuple_:
            hint = f"There is only one that its packets would meet: {found.tuple}, by its mask"
        elif id not in (None, found.id):
            hint = "Another expectation, with another id, has this tuple now"
        else:
            return found
        raise kernel_error(errno.ENOENT, str(request), hint=hint)

    async def _has_id(self, tuple_: Tuple, id: int | None, zone: int | None) -> bool:
        """Whether the tuple finds the expectation with this id."""
        outcome = await self._session.ask(requests.get(tuple_, zone))
        return not isinstance(outcome.error, NotFound) and the_expectation(outcome).id == id
