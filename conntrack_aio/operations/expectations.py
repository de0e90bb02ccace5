"""Read, create, change and delete expectations, and subscribe to their events."""

from __future__ import annotations

import builtins
import errno
from socket import AF_UNSPEC
from typing import Final, Literal, Never, overload

from ..codec.expectation_messages import (
    decode_expect_cpu_statistics,
    decode_expect_event,
    decode_expectation,
    expectation_of,
)
from ..codec.requests import expectations as requests
from ..codec.requests.expectations import ExpectTarget
from ..codec.requests.targets import Target
from ..errors import EncodeError, EventsLost, NotFound, kernel_error
from ..model.enums import EventType
from ..model.expectations import Expectation, ExpectEvent
from ..model.statistics import ExpectCPUStatistics
from ..model.tuples import Tuple
from ..netlink.exchange import Response
from ..session import Session
from ..streams.dump import Dump
from ..streams.events import EventStream
from ..streams.options import OnLoss, StreamOptions
from ..uapi.nfnetlink import NFNLGRP
from .reader import groups_of
from .replies import object_in

_GROUPS: Final = {
    EventType.NEW: NFNLGRP.CONNTRACK_EXP_NEW,
    EventType.DESTROY: NFNLGRP.CONNTRACK_EXP_DESTROY,
}


class Expectations:
    """The expectations of a network namespace: ``conn.expectations``.

    A **target** is an :class:`Expectation` that was read, which means the one with its id, or the
    tuple of an expectation. The kernel does not report zones: if the master is in a zone, pass it
    as ``zone``. Besides the errors that it lists, every method raises what those of
    :class:`Connection` raise.
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
        """Dump the expectations of the namespace, or of one flow: return an async iterator.

        :param master: the flow whose expectations to return, or the tuple of either of its
            directions. The kernel finds it by tuple and zone. A flow without a helper has no
            expectations.
        :param zone: the zone to look for the master in, instead of its own.
        :param family: return those of ``AF_INET`` or of ``AF_INET6`` only.

        :raises EncodeError: when the tuple is incomplete, a zone is given without a master, or a
            family is given with a master, which has its own.

        Iterating raises :exc:`NotFound` when there is no such master.
        """
        if master is None:
            if zone is not None:
                raise EncodeError(
                    "an expectation has no zone of its own; pass its master, too", ("zone",)
                )
            return self._session.dump(requests.dump(family), decode_expectation)
        if family != AF_UNSPEC:
            raise EncodeError(
                "expectations have the family of their master; pass one of the two", ("family",)
            )
        return self._session.dump(requests.dump_of(master, zone), decode_expectation)

    async def list(
        self,
        *,
        master: Target | None = None,
        zone: int | None = None,
        family: int = AF_UNSPEC,
    ) -> list[Expectation]:
        """Return the expectations of :meth:`dump` as a list.

        Takes the same parameters and raises what iterating over the dump raises.
        """
        found: list[Expectation] = []
        async with self.dump(master=master, zone=zone, family=family) as dump:
            async for batch in dump.batches():
                found += batch
        return found

    async def get(self, target: ExpectTarget, *, zone: int | None = None) -> Expectation:
        """Return one expectation as the kernel has it now.

        :param target: an :class:`Expectation`, or the tuple of one.
        :param zone: the zone of the master.

        :raises NotFound: when there is no expectation with exactly this tuple, and when ``target``
            is an expectation and another one has its tuple by now.
        :raises EncodeError: when the tuple is incomplete.
        """
        return await self._get(target, zone, "get")

    async def find(self, packet: Tuple, *, zone: int | None = None) -> Expectation:
        """Return the expectation that a connection with this first packet would meet.

        The tuple is compared under the mask of the expectation: one for any source port is found by
        any source port. An INACTIVE expectation is found too, although no packet meets it.

        :param packet: the addresses and ports of the packet.
        :param zone: the zone of the packet.

        :raises NotFound: when there is no such expectation.
        :raises EncodeError: when the tuple is incomplete.
        """
        return _expectation_in(await self._session.ask(requests.get(packet, zone, "find")))

    async def create(
        self, expectation: Expectation, *, helper: str | None = None, zone: int | None = None
    ) -> Expectation:
        """Create an expectation, and return it as the kernel then has it, with its id.

        Its master must be in the table and have a helper. Each class of a helper has a limit for
        one master: ``ftp`` 1, ``irc`` 8, ``sip`` 1 to 4. Beyond the limit the kernel deletes the
        oldest expectation, which only its DESTROY event shows. An expectation emits events only if
        its master emits events.

        The kernel gives it the timeout of its helper. If ``expectation`` has a timeout, a second
        request sets it. Of the flags, the kernel accepts PERMANENT and INACTIVE. The name of the
        helper and the id are the kernel's to set and are not sent.

        :param expectation: what to create.
        :param helper: the helper of the expected connection. Only kernels without a correction of
            March 2026 (in 6.12.81 and 6.18.22, too) use it. Those use ``expect_class`` only
            together with ``helper``, and check it against the classes of this helper.
        :param zone: the zone of the master. If only the replies of the master are in a zone, use
            its reply tuple as ``expectation.master``: with the original tuple the kernel finds the
            master, but afterwards not the expectation.

        :raises NotFound: when there is no such master, and when the expectation was met or had
            expired before it could be read back.
        :raises NotSupported: when the master has no helper.
        :raises AlreadyExists: when there is an expectation with this tuple.
        :raises ResourceBusy: when it overlaps with another expectation.
        :raises ResourceExhausted: when ``nf_conntrack_expect_max`` is reached.
        :raises InvalidRequest: when the kernel does not have the function, or the helper does not
            have the class.
        :raises EncodeError: when a field holds no valid value.
        """
        request = requests.create(expectation, helper, zone)
        if expectation.timeout is not None:
            requests.check_timeout(expectation.timeout)
        read = requests.get(expectation.tuple, zone)
        created, response = await self._session.run([request, read])
        created.result()
        try:
            found = _expectation_in(response)
            if expectation.timeout is None:
                return found
            # Not in the same datagram: had the first been refused, the second would have changed
            # an expectation that was there before.
            changed = requests.update(found, expectation.timeout, zone)
            updated, response = await self._session.run([changed, read])
            updated.result()
            return _expectation_in(response)
        except NotFound as error:
            hint = (
                "It was created, and was gone before it could be read back. If only the replies of "
                "its master are in a zone, pass the master's reply tuple and the zone"
            )
            raise NotFound(errno.ENOENT, str(request), hint=hint) from error

    async def update(
        self,
        target: ExpectTarget,
        *,
        timeout: int,  # noqa: ASYNC109 - the expectation's, not ours
        zone: int | None = None,
    ) -> None:
        """Make an expectation expire after ``timeout`` seconds. Nothing else of it can be changed.

        The expectation is looked up first. The kernel does not compare ids in updates: if it is
        replaced between the look-up and the update, its successor is changed. The kernel emits no
        event. With a timeout of 0 the expectation ends within a tick of the clock; the event of its
        end may come up to a minute later (6.1.192).

        :param target: an :class:`Expectation`, or the tuple of one.
        :param timeout: seconds from now.
        :param zone: the zone of the master.

        :raises NotFound: when there is no such expectation.
        :raises EncodeError: when the timeout is above 4,294,967 seconds, which some kernels would
            shorten.
        :raises KernelError: when it expires at this very moment, with ETIME.
        """
        requests.check_timeout(timeout)
        found = await self._get(target, zone, "update")
        response = await self._session.ask(requests.update(found, timeout, zone))
        response.result()

    async def delete(self, target: ExpectTarget, *, zone: int | None = None) -> None:
        """Delete one expectation, provided that its id is still the same.

        If the target is a tuple, it is looked up first for its id. Kernels from 5.4 to 6.8 refuse
        every id, unless they were corrected. There the library looks the expectation up, compares
        the id itself, and deletes by tuple.

        :param target: an :class:`Expectation`, or the tuple of one.
        :param zone: the zone of the master.

        :raises NotFound: when there is no such expectation.
        :raises EncodeError: when the tuple is incomplete.
        """
        tuple_ = requests.tuple_of(target)
        id = requests.id_of(target)
        if id is None:
            id = (await self._get(target, zone, "delete")).id
        response = await self._session.ask(requests.delete(tuple_, id, zone))
        if isinstance(response.error, NotFound) and await self._has_id(tuple_, id, zone):
            response = await self._session.ask(requests.delete(tuple_, None, zone))
        response.result()

    async def delete_by_helper(self, name: str) -> None:
        """Delete every expectation of the flows that have this helper.

        It is not an error if there is none.

        :param name: the name of the helper, such as ``ftp``.

        :raises EncodeError: when no helper can have this name.
        """
        (response,) = await self._session.run([requests.delete_by_helper(name)], walks_table=True)
        response.result()

    async def flush(self, *refused: Never, **also_refused: Never) -> None:
        """Delete every expectation of the namespace.

        :raises TypeError: when an argument is given.
        """
        if refused or also_refused:
            raise TypeError(
                "flush() takes no argument, for it deletes every expectation; delete(expectation) "
                "deletes one, and delete_by_helper(name) those of a helper"
            )
        (response,) = await self._session.run([requests.flush()], walks_table=True)
        response.result()

    async def cpu_statistics(self) -> builtins.list[ExpectCPUStatistics]:
        """Return what each processor has counted: an object for each possible processor."""
        request = requests.cpu_statistics()
        async with self._session.dump(request, decode_expect_cpu_statistics) as dump:
            return [statistics async for statistics in dump]

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
        """Subscribe to NEW and DESTROY events of expectations: return an endless async iterator.

        The subscription is in effect when this method returns. An expectation whose master emits no
        events emits none either: see :attr:`EventStream.covers_older_flows`. The kernel never
        retries these events, so there is no ``reliable`` (``ctnetlink_expect_event``).

        The parameters are those of :meth:`Connection.events`.

        :raises PermissionDenied: when the program lacks CAP_NET_ADMIN, or, with ``all_netns``,
            CAP_NET_BROADCAST.
        :raises ValueError: when a type is UPDATE, which the kernel never sends, or a parameter is
            out of range.
        :raises TypeError: when a type is not an :class:`EventType`.
        """
        options = StreamOptions(
            receive_buffer=receive_buffer,
            receive_buffer_max=receive_buffer_max,
            all_netns=all_netns,
            on_loss=on_loss,
            receive_time=receive_time,
        )
        return self._session.subscribe(groups_of(types, _GROUPS), decode_expect_event, options)

    async def _get(self, target: ExpectTarget, zone: int | None, verb: str) -> Expectation:
        """Return the expectation with exactly this tuple, and with the target's id if it has one.

        :raises NotFound: when there is none.
        """
        tuple_ = requests.tuple_of(target)
        id = requests.id_of(target)
        request = requests.get(tuple_, zone, verb)
        found = _expectation_in(await self._session.ask(request))
        if found.tuple != tuple_:
            hint = f"The mask of another one covers its packets: {found.tuple}"
        elif id not in (None, found.id):
            hint = "Another expectation, with another id, has this tuple now"
        else:
            return found
        raise kernel_error(errno.ENOENT, str(request), hint=hint)

    async def _has_id(self, tuple_: Tuple, id: int | None, zone: int | None) -> bool:
        """Return whether the tuple finds the expectation with this id."""
        response = await self._session.ask(requests.get(tuple_, zone))
        return not isinstance(response.error, NotFound) and _expectation_in(response).id == id


def _expectation_in(response: Response) -> Expectation:
    """Return the expectation in the reply; see :mod:`.replies`."""
    return object_in(response, "expectation", expectation_of)
