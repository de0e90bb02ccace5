"""Change flows."""

from __future__ import annotations

import errno

from ...connection import Connection
from ...errors import EncodeError, KernelError, NotFound
from ...model.enums import Status
from ...model.flow import Flow
from ...model.protoinfo import SCTPInfo
from ...model.update import FlowUpdate
from ..running import runs_without_event_loop
from .commands import Command
from .entry_writer import EntryWriter
from .errors import errno_of
from .flow_reading import for_each_batch
from .matching import identifier
from .messages import describe_errno, operation_failed, warn
from .new_flow import protoinfo_of


async def update_flows(conn: Connection, command: Command) -> int:
    """Change the flows that match, print them, and return how many were changed."""
    updater = _Updater(conn, command)
    await for_each_batch(conn, command, identifier, updater.update)
    return updater.count


class _Updater:
    """Changes flows one after the other."""

    def __init__(self, conn: Connection, command: Command) -> None:
        self._conn = conn
        self._command = command
        self._writer = EntryWriter(command, many=not runs_without_event_loop())

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
