"""Create, update, delete and flush flows."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator

from ...connection import Connection
from ...errors import AlreadyExists, EncodeError, KernelError, NotFound
from ...model.enums import Status
from ...model.flow import Flow
from ...model.protoinfo import SCTPInfo
from ...model.update import FlowUpdate
from ..running import runs_without_event_loop
from .actions import Action
from .commands import Command
from .entry_writer import EntryWriter
from .errors import errno_of
from .flow_reading import for_each_batch
from .matching import identifier, selector
from .messages import FAILED, OK, describe_errno, operation_failed, report, warn
from .new_flow import new_flow, protoinfo_of


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


async def delete_flows(conn: Connection, command: Command) -> int:
    """Delete the flows that match, print them, and return how many there were."""
    writer = EntryWriter(command)

    async def delete(flows: list[Flow]) -> None:
        deleted: list[Flow] = []
        try:
            async for flow in _deleted(conn, flows):
                deleted.append(flow)
        finally:
            writer.flows(deleted, command="-D")

    await for_each_batch(conn, command, selector(command), delete)
    return writer.count


async def _deleted(conn: Connection, flows: list[Flow]) -> AsyncIterator[Flow]:
    """Delete flows, and yield those that had not ended meanwhile."""
    if not runs_without_event_loop():
        async for outcome in conn.delete_many(flows):
            if not isinstance(outcome.error, NotFound):
                yield outcome.result()
        return
    for flow in flows:
        try:
            await conn.delete(flow)
        except NotFound:
            continue
        yield flow


async def update_flows(conn: Connection, command: Command) -> int:
    """Change the flows that match, print them, and return how many were changed."""
    updater = _Updater(conn, command)
    await for_each_batch(conn, command, identifier(command), updater.update)
    return updater.count


class _Updater:
    """Changes flows one after the other."""

    def __init__(self, conn: Connection, command: Command) -> None:
        self._conn = conn
        self._command = command
        self._writer = EntryWriter(command)

    @property
    def count(self) -> int:
        """How many flows were changed."""
        return self._writer.count

    async def update(self, flows: list[Flow]) -> None:
        """Change flows, and print them as they are then."""
        for flow in flows:
            changes = changes_of(self._command, flow)
            if changes:
                await self._update(flow, changes)

    async def _update(self, flow: Flow, changes: FlowUpdate) -> None:
        try:
            await self._change(flow, changes)
        except (KernelError, EncodeError) as error:
            code = errno_of(error) or 0
            if code != errno.ENOENT and self.count:
                raise
            warn(f"Operation failed: {describe_errno(self._command.action, code)}")
            if code == errno.ENOENT:
                return
        try:
            self._writer.flows([await self._conn.get(flow)])
        except NotFound:
            pass  # it ended meanwhile

    async def _change(self, flow: Flow, changes: FlowUpdate) -> None:
        """Change a flow as the program does.

        :raises CommandFailure: when the program could not make the request.
        :raises ConntrackError: when the flow is not changed.
        """
        command = self._command
        if not command.family:
            # The program sends the request without a family, and the kernel refuses it twice.
            failure = operation_failed(command.action, errno.EOPNOTSUPP)
            warn(failure.text)
            raise failure
        if flow.zone or flow.orig.zone:
            # The program sends the request without the zone.
            raise NotFound(errno.ENOENT, "update")
        if any(nat is not None and nat.address for nat in (command.src_nat, command.dst_nat)):
            raise KernelError(errno.EOPNOTSUPP, "update")
        refused = _refused(changes, flow)
        if refused is None:
            await self._conn.update(flow, **changes)
            return
        # The kernel applies the changes before the one that it refuses.
        before = FlowUpdate()
        if "timeout" in changes:
            before["timeout"] = changes["timeout"]
        if "status" in changes and refused != errno.EBUSY:
            before["status"] = changes["status"]
        if before:
            await self._conn.update(flow, **before)
        raise KernelError(refused, "update")


def _refused(changes: FlowUpdate, flow: Flow) -> int | None:
    """Return the error with which the kernel refuses a change; ``None`` if it refuses none.

    The library does not request these changes.
    """
    if int(changes.get("status") or 0) & Status.EXPECTED & ~int(flow.status or 0):
        return errno.EBUSY
    info = changes.get("protoinfo")
    if isinstance(info, SCTPInfo) and None in (info.vtag_orig, info.vtag_reply):
        return errno.EINVAL
    return None


def changes_of(command: Command, flow: Flow) -> FlowUpdate:
    """Return what a command requests to change of a flow; nothing if the flow has its values."""
    changes: FlowUpdate = {}
    if command.mark is not None:
        # In an update, the mask has the bits to clear before the mark is applied by XOR.
        value, mask = command.mark
        mark = (flow.mark or 0) & ~mask & 0xFFFFFFFF ^ value
        if mark != (flow.mark or 0):
            changes["mark"] = mark
    if command.timeout is not None and command.timeout != flow.timeout:
        changes["timeout"] = command.timeout
    if command.status is not None:
        before = int(flow.status or 0)
        if command.status.bits & ~before:
            changes["status"] = Status(command.status.bits)
    # The program requests a change of labels even if the flow has these labels already.
    if command.labels_added is not None:
        changes["labels"] = changes["labels_mask"] = command.labels_added
    elif command.labels_removed is not None and flow.labels:
        changes["labels"], changes["labels_mask"] = 0, command.labels_removed
    info = protoinfo_of(command)
    if info is not None and info.state != getattr(flow.protoinfo, "state", None):
        changes["protoinfo"] = info
    return changes


async def flush_flows(conn: Connection, command: Command) -> int:
    """Delete all flows, or those of one address family, and return the exit status."""
    if command.family:
        from ...filters.match import Match

        await conn.delete_matching(Match(family=command.family))
    else:
        await conn.flush()
    report("connection tracking table has been emptied.")
    return OK


async def write_flows(conn: Connection, command: Command) -> int:
    """Carry out ``-I``, ``-A``, ``-U`` or ``-D``, report it, and return the exit status."""
    match command.action:
        case Action.UPDATE:
            count, done = await update_flows(conn, command), "updated"
        case Action.DELETE:
            count, done = await delete_flows(conn, command), "deleted"
        case Action.ADD:
            count, done = await create_flow(conn, command), "added"
        case _:
            count, done = await create_flow(conn, command), "created"
    report(f"{count} flow entries have been {done}.")
    changes_existing = command.action in (Action.UPDATE, Action.DELETE)
    return FAILED if changes_existing and not count else OK
