"""Find the very entry that a flow stands for, and act on no other one.

A flow that was read carries the id of its entry and, where the kernel keeps it, the time when the
entry was made. The kernel finds entries by a tuple, though, and another entry may have that: one
that was made since, or one that lives at the same time (see :func:`~.flows.names_of`). So what an
answer tells is compared with the flow, and where it is another entry, the next name is tried.

There is no I/O in it: the generators yield requests and are sent their outcomes.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from typing import TypeVar

from ..codec.requests import flows as requests
from ..codec.requests.targets import Name, Target, id_of, names_of
from ..errors import NotFound, kernel_error
from ..model.flow import Flow, Timestamp
from ..model.values import plain_number
from ..netlink.exchange import Request, Response
from ..session import Session
from .answers import the_flow

T = TypeVar("T")
Steps = Generator[Request, Response, T]


def start_of(flow: Flow) -> int | None:
    """Return when the entry was made, where the flow tells.

    Raises :exc:`EncodeError` for what is not a number.
    """
    timestamp = flow.timestamp
    if not isinstance(timestamp, Timestamp) or timestamp.start is None:
        return None
    return plain_number(timestamp.start, "timestamp", "start")


def is_identified(target: Target) -> bool:
    """Whether a target stands for one entry alone, not for whatever has its tuple."""
    return isinstance(target, Flow) and (id_of(target) is not None or start_of(target) is not None)


def difference(target: Flow, found: Flow) -> str | None:
    """Return what shows that the entry found is another one; ``None`` if nothing does.

    An entry that is made where an equal one was just deleted mostly has its very id. The time when
    it was made still tells them apart.
    """
    id = id_of(target)
    if id is not None and found.id != id:
        return "Another flow, with another id, has this tuple now"
    start, other = start_of(target), start_of(found)
    if start is not None and other is not None and start != other:
        return "Another flow, made at another time, has this tuple now"
    return None


def check_same(target: Target, found: Flow, request: Request) -> None:
    """Raises :exc:`NotFound` if ``target`` is a flow, and this is another one."""
    hint = difference(target, found) if isinstance(target, Flow) else None
    if hint is not None:
        raise kernel_error(errno.ENOENT, str(request), hint=hint)


def looking(target: Target, zone: int | None) -> Steps[tuple[Name | None, Flow]]:
    """Read the entry that a target stands for.

    Returns what found it, with ``None`` for what :func:`~.flows.lookup` makes of the target; and
    the entry. Raises :exc:`NotFound`, and what the kernel answers else.
    """
    request = requests.get(target, zone)
    is_identified(target)  # what can't be an id is refused before the kernel is asked
    try:
        found = the_flow((yield request))
        check_same(target, found, request)
    except NotFound as error:
        if not (isinstance(target, Flow) and is_identified(target)):
            raise
        return (yield from _looking_again(target, zone, error))
    return None, found


def _looking_again(target: Flow, zone: int | None, error: NotFound) -> Steps[tuple[Name, Flow]]:
    for name in names_of(target, zone)[1:]:
        request = requests.get_by(name)
        outcome = yield request
        if isinstance(outcome.error, NotFound):
            continue
        found = the_flow(outcome)
        if difference(target, found) is None:
            return name, found
    raise error


def deleting(target: Target, zone: int | None) -> Steps[None]:
    """Delete the entry that a target stands for. Raises :exc:`NotFound`, among others."""
    if isinstance(target, Flow) and start_of(target) is not None:
        name, found = yield from looking(target, zone)
        if name is None:
            name = names_of(target, zone)[0]
        (yield requests.delete_by(name, found.id)).result()
        return
    outcome = yield requests.delete(target, zone)
    if isinstance(outcome.error, NotFound) and isinstance(target, Flow) and is_identified(target):
        yield from deleting_again(target, zone, outcome.error)
    else:
        outcome.result()


def deleting_again(target: Flow, zone: int | None, error: NotFound) -> Steps[None]:
    """Delete an entry that its first name did not find, which is the ``error``."""
    for name in names_of(target, zone)[1:]:
        outcome = yield requests.delete_by(name, target.id)
        if not isinstance(outcome.error, NotFound):
            outcome.result()
            return
    raise error


def reading_back(flow: Flow, read: Response) -> Steps[Flow]:
    """Return the entry that was made of a flow; ``read`` is what its original tuple found.

    Another entry may be found by that tuple, one that has it in its other direction.
    """
    found = the_flow(read)
    if _is_made_of(flow, found):
        return found
    for name in names_of(flow, None)[1:]:
        outcome = yield requests.get_by(name)
        if not isinstance(outcome.error, NotFound):
            other = the_flow(outcome)
            if _is_made_of(flow, other):
                return other
    return found  # the kernel has left out a part of the tuple


def _is_made_of(flow: Flow, found: Flow) -> bool:
    """Whether the original tuple and its zone are the same."""
    zones = [each.orig.zone or each.zone or 0 for each in (flow, found)]
    return zones[0] == zones[1] and flow.orig.without_zone == found.orig.without_zone


async def carry_out(session: Session, steps: Steps[T]) -> T:
    """Ask one request after the other, and return what the steps return."""
    try:
        request = next(steps)
        while True:
            request = steps.send(await session.ask(request))
    except StopIteration as end:
        result: T = end.value
        return result
