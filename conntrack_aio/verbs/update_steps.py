"""Updates: what is asked of the kernel to change one flow, and what its answers mean.

There is no I/O in it: a generator yields requests and is sent their outcomes, so that one update
and a window full of them go the same way.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import cast

import attrs

from ..codec.requests import flows as requests
from ..codec.requests.targets import EntryKey, Target
from ..errors import EncodeError, NotSupported, ResourceBusy
from ..filters.words import near
from ..model.enums import Status
from ..model.flow import Helper
from ..model.update import FlowUpdate
from ..model.values import describe_value, plain_number
from ..netlink.exchange import Outcome, Request
from ..plain import as_str
from .replies import flow_in
from .steps import Steps, is_identified, look_up_steps

EXTENSIONS = ("seqadj_orig", "seqadj_reply", "synproxy")
"""What the kernel passes over in silence where an entry has no room for it."""

_NUMBERS = ("mark", "mark_mask", "timeout", "labels", "labels_mask")

ATTEMPTS = 5
"""At an update of the status, which packets may change between our look and our request."""


@attrs.frozen
class CheckedUpdate:
    """A :class:`FlowUpdate` with plain values."""

    values: Mapping[str, object]
    """All but the status, by name."""
    status: Status | None
    zone: int | None

    @classmethod
    def of(cls, update: FlowUpdate, zone: int | None) -> CheckedUpdate:
        """Check an update and make its values plain.

        :raises TypeError: for a keyword that an update does not have.
        :raises EncodeError: for an update that changes nothing, and for a value that is not a
            number where one is needed.
        """
        values: dict[str, object] = dict(update)
        for name in values:
            if name not in FlowUpdate.__annotations__:
                meant = near(name, FlowUpdate.__annotations__)
                hint = f"; did you mean {', '.join(meant)}?" if meant else ""
                raise TypeError(f"an update has no keyword argument {name!r}{hint}")
        if all(value is None for value in values.values()):
            raise EncodeError("an update that changes nothing")
        for name in _NUMBERS:
            if values.get(name) is not None:
                values[name] = plain_number(values[name], name)
        status = values.pop("status", None)
        if isinstance(status, str):
            shown = describe_value(status)
            hint = "join members by |, as in Status.SEEN_REPLY | Status.ASSURED"
            raise EncodeError(f"status must be a Status, not {shown}; {hint}", ("status",))
        helper = values.get("helper")
        if issubclass(type(helper), str):
            values["helper"] = Helper(name=as_str(helper))
        bits = None if status is None else cast("Status", plain_number(status, "status"))
        return cls(values, bits, None if zone is None else plain_number(zone, "zone"))

    @property
    def has_mark_mask(self) -> bool:
        """Whether one request is enough only if the kernel looks at ``mark_mask``."""
        return self.values.get("mark_mask") is not None


def update_flow(
    target: Target,
    change: CheckedUpdate,
    *,
    masks: bool,
    encode: Callable[[Target], Request] | None = None,
) -> Steps[None]:
    """Change one flow; ``masks`` says whether this kernel looks at ``mark_mask``.

    ``encode`` makes the request of the change, if there is a quicker way than the usual one.

    What can't be encoded is an :exc:`EncodeError` before the first request. Raises what
    :meth:`Connection.update` does.
    """
    if encode is None:
        request = requests.update(target, change.values, change.zone)
    else:
        request = encode(target)
    where: Target | EntryKey = target
    if change.status is None:
        if is_identified(target):
            name, _ = yield from look_up_steps(target, change.zone)
            if name is not None:
                where, request = name, requests.update(name, change.values)
        if change.has_mark_mask and not masks:
            request = yield from _with_the_whole_mark(where, change.values, change.zone)
        (yield from _write(where, request, change)).result()
        return
    for attempt in range(ATTEMPTS):
        # The kernel wants the bits repeated that may not change; packets may change them.
        name, found = yield from look_up_steps(target, change.zone)
        where = target if name is None else name
        status = requests.updated_status(found.status or Status(0), change.status)
        values = {**change.values, "status": status}
        if change.has_mark_mask and not masks:
            request = yield from _with_the_whole_mark(where, values, change.zone)
        else:
            request = requests.update(where, values, change.zone)
        outcome = yield from _write(where, request, change)
        if not isinstance(outcome.error, ResourceBusy) or attempt == ATTEMPTS - 1:
            outcome.result()
            return


def _get(where: Target | EntryKey, zone: int | None) -> Request:
    return requests.get_by(where) if isinstance(where, EntryKey) else requests.get(where, zone)


def _with_the_whole_mark(
    where: Target | EntryKey, values: Mapping[str, object], zone: int | None
) -> Steps[Request]:
    """Kernels before 5.3 ignore the mask, and would replace the whole mark."""
    current = flow_in((yield _get(where, zone))).mark or 0
    return requests.update(where, {**values, **requests.merged_mark(current, values)}, zone)


def _write(where: Target | EntryKey, request: Request, change: CheckedUpdate) -> Steps[Outcome]:
    outcome = yield request
    written = [name for name in EXTENSIONS if change.values.get(name) is not None]
    if written and outcome.error is None:
        flow = flow_in((yield _get(where, change.zone)))
        for name in written:
            if getattr(flow, name) is None:
                hint = f"The entry has no room for {name}: packets made it. The rest was done"
                raise NotSupported(errno.EOPNOTSUPP, str(request), hint=hint)
    return outcome
