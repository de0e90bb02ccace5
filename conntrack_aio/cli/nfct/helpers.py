"""The commands of ``nfct`` for user-space helpers.

Each function parses the parameters of a command. It returns the action on the kernel, which returns
the text to print.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from ...errors import AlreadyExists, NotFound, NotSupported, ResourceBusy
from ...model.helpers import ExpectPolicy, HelperStatus, UserspaceHelper
from ...model.protocols import TCP, UDP
from .protocols import parse_family, parse_helper_protocol
from .refusal import Refused, missing, refused_by_kernel, too_many
from .rendering import render_helper

if TYPE_CHECKING:
    from ...connection import Connection
    from .timeouts import Action

_NAME_BYTES: Final = 15


class _Kind(NamedTuple):
    """What the kernel must know of a helper of conntrackd."""

    protocols: tuple[int, ...]
    expect_max: int
    expect_timeout: int
    private_data_length: int = 0


_KINDS: Final = {
    "amanda": _Kind((UDP,), 3, 180),
    "dhcpv6": _Kind((UDP,), 1, 300),
    "ftp": _Kind((TCP,), 1, 300, 24),
    "mdns": _Kind((UDP,), 8, 30),
    "rpc": _Kind((TCP, UDP), 1, 300, 16),
    "sane": _Kind((TCP,), 1, 300, 4),
    "slp": _Kind((UDP,), 8, 16),
    "ssdp": _Kind((TCP, UDP), 8, 300),
    "tftp": _Kind((UDP,), 1, 300),
    "tns": _Kind((TCP,), 1, 300, 1),
}
"""The helpers of conntrackd. Each has one class of expectations, which has its name."""


def helper_action(command: str, parameters: Sequence[str]) -> Action:
    """Return the action of a command.

    :param command: the name of the command.
    :param parameters: the words after the command and the subsystem.
    :raises Refused: when the parameters are not valid.
    """
    action = _PARSERS[command](parameters)

    async def run(conn: Connection) -> str:
        try:
            return await action(conn)
        except NotSupported:  # the kernel answers EINVAL if it lacks the subsystem
            raise refused_by_kernel(errno.EINVAL) from None

    return run


def _list(parameters: Sequence[str]) -> Action:
    if parameters:
        raise too_many()

    async def action(conn: Connection) -> str:
        return "".join([render_helper(helper) for helper in await conn.helpers.list()])

    return action


def _add(parameters: Sequence[str]) -> Action:
    helper = _parse_known("add", parameters)

    async def action(conn: Connection) -> str:
        try:
            await conn.helpers.create(helper)
        except AlreadyExists:
            existing = await conn.helpers.get(*helper.key)
            if existing.private_data_length != helper.private_data_length:
                raise refused_by_kernel(errno.EBUSY) from None
            await conn.helpers.update(*helper.key, policies=helper.policies)
        return ""

    return action


def _disable(parameters: Sequence[str]) -> Action:
    helper = _parse_known("disable", parameters)

    async def action(conn: Connection) -> str:
        try:
            await conn.helpers.update(*helper.key, status=HelperStatus.DISABLED)
        except NotFound:
            # The kernel takes the request of nfct for that of a new helper, which is incomplete.
            raise refused_by_kernel(errno.EINVAL) from None
        return ""

    return action


def _get(parameters: Sequence[str]) -> Action:
    selection = _parse_selection(parameters)

    async def action(conn: Connection) -> str:
        for helper in await conn.helpers.list(**selection._asdict()):
            return render_helper(helper)
        raise refused_by_kernel(errno.ENOENT)

    return action


def _delete(parameters: Sequence[str]) -> Action:
    selection = _parse_selection(parameters)

    async def action(conn: Connection) -> str:
        selected = await conn.helpers.list(**selection._asdict())
        if not selected and not await conn.helpers.list():
            return ""  # so the kernel answers if there is no helper at all
        deleted = 0
        for helper in selected:
            try:
                await conn.helpers.delete(*helper.key)
                deleted += 1
            except (NotFound, ResourceBusy):
                pass
        if not deleted:
            raise refused_by_kernel(errno.EBUSY if selected else errno.ENOENT)
        return ""

    return action


def _flush(parameters: Sequence[str]) -> Action:
    if parameters:
        raise too_many()

    async def action(conn: Connection) -> str:
        await conn.helpers.flush()
        return ""

    return action


_PARSERS: Final[dict[str, Callable[[Sequence[str]], Action]]] = {
    "list": _list,
    "add": _add,
    "disable": _disable,
    "get": _get,
    "delete": _delete,
    "flush": _flush,
}


def _parse_known(command: str, parameters: Sequence[str]) -> UserspaceHelper:
    """Return the helper of conntrackd that the parameters name.

    :raises Refused: when there is none, and when there are further parameters.
    """
    if len(parameters) < 3:
        raise missing(f"{command} helper name family protocol")
    name, family, protocol, *others = parameters
    number, proto = parse_family(family), parse_helper_protocol(protocol)
    kind = _KINDS.get(name)
    if kind is None or proto not in kind.protocols:
        raise Refused("that helper is not supported")
    if others:
        raise too_many()
    policy = ExpectPolicy(name=name, expect_max=kind.expect_max, expect_timeout=kind.expect_timeout)
    return UserspaceHelper(
        name=name,
        family=number,
        proto=proto,
        policies=(policy,),
        private_data_length=kind.private_data_length,
    )


class _Selection(NamedTuple):
    """The helpers that a command is for."""

    name: str
    family: int | None
    proto: int | None


def _parse_selection(parameters: Sequence[str]) -> _Selection:
    """Return the helpers of a name, or the one of a name, a family and a protocol.

    :raises Refused: when the name is missing, when a parameter is not valid, and when there are
        further parameters.
    """
    if not parameters or not parameters[0]:
        raise Refused("missing helper policy name")
    if len(parameters) > 3:
        raise too_many()
    name, *key = parameters
    family = parse_family(key[0]) if key else None
    proto = parse_helper_protocol(key[1]) if key[1:] else None
    if len(name.encode(errors="surrogateescape")) > _NAME_BYTES:
        raise Refused(f"helper name too long: `{name}' has more than {_NAME_BYTES} bytes")
    if family is not None and proto is None:
        proto = 0  # as nfct has it: no helper has this protocol
    return _Selection(name, family, proto)
