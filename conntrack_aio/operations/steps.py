"""Act on exactly the entry that a flow was read from, and on no other one.

A flow that was read carries the id of its entry and, where the kernel keeps it, the time at which
the entry was created. But the kernel finds entries by a tuple, and another entry may have that
tuple: one that was created since, or one that lives at the same time (see
:func:`~conntrack_aio.codec.requests.targets.entry_keys`). So each reply is compared with the flow,
and if it is another entry, the next key is tried.

Only :func:`run_steps` does I/O. Functions that return :data:`Steps` are generators without I/O.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from typing import TypeVar

from ..codec.requests import flows as requests
from ..codec.requests.targets import EntryKey, Target, entry_keys, id_of
from ..errors import NotFound, kernel_error
from ..model.flow import Flow, Timestamp
from ..model.values import plain_number
from ..netlink.exchange import Request, Response
from ..session import Session
from .replies import flow_in

T = TypeVar("T")
Steps = Generator[Request, Response, T]
"""The requests of one operation, without I/O.

A generator of this type yields a request and is sent the response to it, until it returns the
result of the operation or raises its error. :func:`run_steps` sends the requests of one generator.
:class:`~conntrack_aio.operations.windows.StepsWindow` sends those of many generators together.
"""


def start_time_of(flow: Flow) -> int | None:
    """Return the time at which the entry of a flow was created, or ``None`` if the flow has none.

    :raises EncodeError: when the time is not a number.
    """
    timestamp = flow.timestamp
    if not isinstance(timestamp, Timestamp) or timestamp.start is None:
        return None
    return plain_number(timestamp.start, "timestamp", "start")


def is_identified(target: Target) -> bool:
    """Return whether a target means one entry, not whichever entry has its tuple."""
    return isinstance(target, Flow) and (
        id_of(target) is not None or start_time_of(target) is not None
    )


def describe_difference(target: Flow, found: Flow) -> str | None:
    """Describe how a found entry differs from the flow's own; ``None`` if it is the same.

    An entry that is created just after an equal one was deleted usually has the same id, but
    another start time.
    """
    id = id_of(target)
    if id is not None and found.id != id:
        return "Another flow, with another id, has this tuple now"
    start, other = start_time_of(target), start_time_of(found)
    if start is not None and other is not None and start != other:
        return "Another flow, created at another time, has this tuple now"
    return None


def check_same(target: Target, found: Flow, request: Request) -> None:
    """Check that a reply is about the entry that the target means.

    :raises EncodeError: when the id or the start time of the target is not a number.
    :raises NotFound: when ``target`` is a flow and ``found`` is another entry.
    """
    hint = describe_difference(target, found) if isinstance(target, Flow) else None
    if hint is not None:
        raise kernel_error(errno.ENOENT, str(request), hint=hint)


def look_up_steps(target: Target, zone: int | None) -> Steps[tuple[EntryKey | None, Flow]]:
    """Look up the entry that a target means.

    :param target: a flow or a tuple.
    :param zone: the zone to look in, instead of the target's own.
    :returns: the key that found the entry, or ``None`` if it was the target's first key
        (:func:`~conntrack_aio.codec.requests.targets.lookup`); and the entry.

    :raises NotFound: when there is no such entry.
    :raises KernelError: when the kernel refuses a request.
    :raises NoReply: when the kernel does not reply in time.
    :raises DecodeError: when a reply cannot be decoded.
    :raises EncodeError: when a tuple is incomplete, or when a field holds no valid value.
    :raises TypeError: when the target is neither a :class:`Flow` nor a :class:`Tuple`.
    """
    request = requests.get(target, zone)
    is_identified(target)  # an invalid id is refused before anything is sent
    try:
        found = flow_in((yield request))
        check_same(target, found, request)
    except NotFound as error:
        if not (isinstance(target, Flow) and is_identified(target)):
            raise
        return (yield from _look_up_by_other_keys_steps(target, zone, error))
    return None, found


def _look_up_by_other_keys_steps(
    target: Flow, zone: int | None, error: NotFound
) -> Steps[tuple[EntryKey, Flow]]:
    """Look up an entry that its first key did not find.

    :param target: the flow that was read from the entry.
    :param zone: the zone to look in, instead of the flow's own.
    :param error: the error for the first key, which is raised if no other key finds the entry.
    :returns: the key that found the entry, and the entry.
    """
    for key in entry_keys(target, zone)[1:]:
        request = requests.get_by_key(key)
        response = yield request
        if isinstance(response.error, NotFound):
            continue
        found = flow_in(response)
        if describe_difference(target, found) is None:
            return key, found
    raise error


def delete_steps(target: Target, zone: int | None) -> Steps[None]:
    """Delete the entry that a target means.

    :raises NotFound: when there is no such entry.
    :raises KernelError: when the kernel refuses a request.
    :raises NoReply: when the kernel does not reply in time.
    :raises EncodeError: when a tuple is incomplete, or when a field holds no valid value.
    :raises TypeError: when the target is neither a :class:`Flow` nor a :class:`Tuple`.
    """
    if isinstance(target, Flow) and start_time_of(target) is not None:
        key, found = yield from look_up_steps(target, zone)
        if key is None:
            key = entry_keys(target, zone)[0]
        (yield requests.delete_by_key(key, found.id)).result()
        return
    response = yield requests.delete(target, zone)
    if isinstance(response.error, NotFound) and isinstance(target, Flow) and is_identified(target):
        yield from delete_by_other_keys_steps(target, zone, response.error)
    else:
        response.result()


def delete_by_other_keys_steps(target: Flow, zone: int | None, error: NotFound) -> Steps[None]:
    """Delete an entry that its first key did not find.

    :param target: the flow that was read from the entry.
    :param zone: the zone to look in, instead of the flow's own.
    :param error: the kernel's error for the first key, which is raised if no other key finds the
        entry.

    :raises NotFound: when no key finds the entry.
    :raises KernelError: when the kernel refuses a request.
    :raises NoReply: when the kernel does not reply in time.
    """
    for key in entry_keys(target, zone)[1:]:
        response = yield requests.delete_by_key(key, target.id)
        if not isinstance(response.error, NotFound):
            response.result()
            return
    raise error


def read_back_steps(flow: Flow, read: Response) -> Steps[Flow]:
    """Return the entry that was created from a flow.

    The flow's original tuple may find another entry, which has that tuple in its other direction.

    :param flow: the flow that was created.
    :param read: the response to reading the entry by the flow's original tuple.

    :raises NotFound: when the entry has ended.
    :raises KernelError: when the kernel refuses a request.
    :raises NoReply: when the kernel does not reply in time.
    """
    found = flow_in(read)
    if _has_same_orig(flow, found):
        return found
    for key in entry_keys(flow, None)[1:]:
        response = yield requests.get_by_key(key)
        if not isinstance(response.error, NotFound):
            other = flow_in(response)
            if _has_same_orig(flow, other):
                return other
    return found  # the reply lacks a part of the tuple


def _has_same_orig(flow: Flow, found: Flow) -> bool:
    """Return whether two flows have equal original tuples in the same zone."""
    zones = [each.orig.zone or each.zone or 0 for each in (flow, found)]
    return zones[0] == zones[1] and flow.orig.without_zone == found.orig.without_zone


async def run_steps(session: Session, steps: Steps[T]) -> T:
    """Send the requests of the steps one after the other, and return what the steps return."""
    try:
        request = next(steps)
        while True:
            request = steps.send(await session.ask(request))
    except StopIteration as end:
        result: T = end.value
        return result
