"""Create flows."""

from __future__ import annotations

import errno

from ...connection import Connection
from ...errors import AlreadyExists, KernelError, NotFound
from ...model.enums import Status
from ...model.flow import Flow
from .actions import Action
from .commands import Command
from .new_flow import new_flow


async def create_flow(conn: Connection, command: Command) -> int:
    """Create a flow and return how many were created: 0 if ``-A`` finds that it exists."""
    new = new_flow(command)
    try:
        if new.flow.status is not None and new.flow.status & Status.EXPECTED:
            await _refuse_status(conn, new.flow)
        await conn.create(new.flow, nat_src=new.nat_src, nat_dst=new.nat_dst)
    except AlreadyExists:
        if command.action is not Action.ADD:
            raise
        return 0
    except NotFound:
        pass  # it was created, and ended before it could be read back
    return 1


async def _refuse_status(conn: Connection, flow: Flow) -> None:
    """Raise the error with which the kernel refuses a status that only it can set.

    The library would leave that status out.
    """
    try:
        await conn.get(flow)
    except NotFound:
        raise KernelError(errno.EBUSY, "create") from None
    raise AlreadyExists(errno.EEXIST, "create")
