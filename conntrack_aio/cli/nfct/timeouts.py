"""The commands of ``nfct`` for timeout policies and default timeouts.

Each function parses the parameters of a command. It returns the action on the kernel, which returns
the text to print.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from ...errors import AlreadyExists, NotFound, NotSupported, ResourceBusy
from ...model.timeouts import GenericTimeouts, TimeoutPolicy
from .protocols import parse_family, parse_protocol
from .refusal import Refused, missing, refused_by_kernel, too_many
from .rendering import render_policy, render_timeouts
from .states import CLASSES, parse_timeouts

if TYPE_CHECKING:
    from ...connection import Connection

Action = Callable[["Connection"], Awaitable[str]]
"""A function that does something on a connection, and returns the text to print."""

_NAME_BYTES: Final = 31


def timeout_action(command: str, parameters: Sequence[str]) -> Action:
    """Return the action of a command.

    :param command: the name of the command.
    :param parameters: the words after the command and the subsystem.
    :raises Refused: when the parameters are not valid.
    """
    action = _PARSERS[command](parameters)

    async def run(conn: Connection) -> str:
        try:
            return await action(conn)
        except NotSupported:
            # The kernel answers EOPNOTSUPP if it lacks the protocol. If it lacks the subsystem, it
            # answers EINVAL, which the library reports as EOPNOTSUPP, too.
            has_subsystem = (await conn.features()).timeouts
            raise refused_by_kernel(errno.EOPNOTSUPP if has_subsystem else errno.EINVAL) from None

    return run


def _list(parameters: Sequence[str]) -> Action:
    if parameters:
        raise too_many()

    async def action(conn: Connection) -> str:
        return "".join([render_policy(policy) for policy in await conn.timeouts.list()])

    return action


def _add(parameters: Sequence[str]) -> Action:
    if len(parameters) < 3:
        raise missing("add timeout name family protocol state1 timeout1 ...")
    name, family, protocol, *words = parameters
    number, proto = parse_family(family), parse_protocol(protocol)
    timeouts = parse_timeouts(protocol, proto, words)
    _check_name(name)

    async def action(conn: Connection) -> str:
        if timeouts is None:
            # nfct sends a policy without timeouts, which the kernel refuses.
            await _check_access(conn)
            raise refused_by_kernel(errno.EINVAL)
        try:
            await conn.timeouts.create(
                TimeoutPolicy.of(name, timeouts, family=number, proto=proto),
            )
        except AlreadyExists:
            raise refused_by_kernel(errno.EBUSY) from None
        return ""

    return action


def _get(parameters: Sequence[str]) -> Action:
    name = _parse_name(parameters)

    async def action(conn: Connection) -> str:
        return render_policy(await conn.timeouts.get(name))

    return action


def _delete(parameters: Sequence[str]) -> Action:
    name = _parse_name(parameters)

    async def action(conn: Connection) -> str:
        await conn.timeouts.delete(name)
        return ""

    return action


def _flush(parameters: Sequence[str]) -> Action:
    if parameters:
        raise too_many()

    async def action(conn: Connection) -> str:
        await conn.timeouts.delete_unused()
        # Like nfct's own flush, this deletes policies in use where the kernel allows it: Linux 7.1.
        for policy in await conn.timeouts.list():
            if policy.in_use:
                try:
                    await conn.timeouts.delete(policy.name)
                except (NotFound, ResourceBusy):
                    pass
        return ""

    return action


def _default_set(parameters: Sequence[str]) -> Action:
    if len(parameters) < 3:
        raise missing("default-set timeout family protocol state1 timeout1...")
    family, protocol, *words = parameters
    parse_family(family)  # the defaults are those of both families
    proto = parse_protocol(protocol)
    timeouts = parse_timeouts(protocol, proto, words)

    async def action(conn: Connection) -> str:
        if timeouts is not None:
            await conn.timeouts.set_defaults(timeouts, proto=proto)
        return ""

    return action


def _default_get(parameters: Sequence[str]) -> Action:
    if len(parameters) < 2:
        raise missing("default-get timeout family protocol")
    family, protocol, *others = parameters
    number, proto = parse_family(family), parse_protocol(protocol)
    if others:
        raise too_many()

    async def action(conn: Connection) -> str:
        if (kind := CLASSES.get(proto)) is None:
            await _check_access(conn)
            raise refused_by_kernel(errno.EOPNOTSUPP)
        return render_timeouts(number, proto, await conn.timeouts.get_defaults(kind, proto=proto))

    return action


_PARSERS: Final[dict[str, Callable[[Sequence[str]], Action]]] = {
    "list": _list,
    "add": _add,
    "get": _get,
    "delete": _delete,
    "flush": _flush,
    "default-set": _default_set,
    "default-get": _default_get,
}


async def _check_access(conn: Connection) -> None:
    """Raise the error that every request gets, such as that of a missing capability."""
    await conn.timeouts.get_defaults(GenericTimeouts)


def _parse_name(parameters: Sequence[str]) -> str:
    """Return the name that is the only parameter.

    :raises Refused: when it is missing or not valid, and when there are others.
    """
    if not parameters:
        raise Refused("missing timeout policy name")
    if len(parameters) > 1:
        raise too_many()
    _check_name(parameters[0])
    return parameters[0]


def _check_name(name: str) -> None:
    if not name:
        raise Refused("missing timeout policy name")
    if len(name.encode(errors="surrogateescape")) > _NAME_BYTES:
        raise Refused(f"timeout policy name too long: `{name}' has more than {_NAME_BYTES} bytes")
