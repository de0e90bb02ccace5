"""Update one flow: the requests that change it, and what the responses mean.

There is no I/O here: the generators are of the type :data:`~conntrack_aio.operations.steps.Steps`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import cast

import attrs

from ..codec.requests import flows as requests
from ..codec.requests.flow_updates import merged_mark, updated_status
from ..codec.requests.targets import EntryKey, Target
from ..errors import EncodeError, NotSupported, ResourceBusy
from ..model.enums import Status
from ..model.flow import Helper
from ..model.update import FlowUpdate
from ..model.values import describe_value, plain_number
from ..netlink.exchange import Request, Response
from ..plain import as_str
from ..suggestions import suggestion
from .replies import flow_in
from .steps import Steps, is_identified, look_up_steps

_EXTENSIONS = ("seqadj_orig", "seqadj_reply", "synproxy")
"""Fields that the kernel ignores silently if the entry has no room for them."""

_NUMBERS = ("mark", "mark_mask", "timeout", "labels", "labels_mask")

_MAX_ATTEMPTS = 5
"""Attempts to update a status, which packets may change between the look-up and the update."""


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

        :param update: the update, as the program gave it.
        :param zone: the zone to look in, instead of the target's own.

        :raises TypeError: when a keyword is unknown.
        :raises EncodeError: when the update changes nothing, or a value is not a number where one
            is needed.
        """
        values: dict[str, object] = dict(update)
        for name in values:
            if name not in FlowUpdate.__annotations__:
                hint = suggestion(name, FlowUpdate.__annotations__)
                raise TypeError(f"an update has no keyword argument {name!r}{hint}")
        if all(value is None for value in values.values()):
            raise EncodeError("the update changes nothing; give at least one value")
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
        """Whether the update has a ``mark_mask``, which not every kernel applies."""
        return self.values.get("mark_mask") is not None


def update_steps(
    target: Target,
    update: CheckedUpdate,
    *,
    kernel_applies_mark_mask: bool,
    encode: Callable[[Target], Request] | None = None,
) -> Steps[None]:
    """Update one flow.

    :param target: a flow or a tuple.
    :param update: what to change.
    :param kernel_applies_mark_mask: whether this kernel applies ``mark_mask``.
    :param encode: returns the request, if there is a faster way than the usual one.

    :raises EncodeError: when the update cannot be encoded, or when no program can set one of the
        bits of its status; nothing was changed then.
    :raises ConntrackError: when :meth:`Connection.update` raises it.
    """
    if encode is None:
        request = requests.update(target, update.values, update.zone)
    else:
        request = encode(target)
    key: Target | EntryKey = target
    if update.status is None:
        if is_identified(target):
            found_by, _ = yield from look_up_steps(target, update.zone)
            if found_by is not None:
                key, request = found_by, requests.update(found_by, update.values)
        if update.has_mark_mask and not kernel_applies_mark_mask:
            request = yield from _request_with_whole_mark(key, update.values, update.zone)
        (yield from _send_and_verify(key, request, update)).result()
        return
    for attempt in range(_MAX_ATTEMPTS):
        # The request has to repeat the bits that must not change, and packets may change them.
        found_by, found = yield from look_up_steps(target, update.zone)
        key = target if found_by is None else found_by
        status = updated_status(found.status or Status(0), update.status)
        values = {**update.values, "status": status}
        if update.has_mark_mask and not kernel_applies_mark_mask:
            request = yield from _request_with_whole_mark(key, values, update.zone)
        else:
            request = requests.update(key, values, update.zone)
        response = yield from _send_and_verify(key, request, update)
        if not isinstance(response.error, ResourceBusy) or attempt == _MAX_ATTEMPTS - 1:
            response.result()
            return


def _get_request(key: Target | EntryKey, zone: int | None) -> Request:
    """Return the request that reads an entry."""
    return requests.get_by_key(key) if isinstance(key, EntryKey) else requests.get(key, zone)


def _request_with_whole_mark(
    key: Target | EntryKey, values: Mapping[str, object], zone: int | None
) -> Steps[Request]:
    """Return a request with the whole mark, for kernels before 5.8, which ignore the mask."""
    current = flow_in((yield _get_request(key, zone))).mark or 0
    return requests.update(key, {**values, **merged_mark(current, values)}, zone)


def _send_and_verify(
    key: Target | EntryKey, request: Request, update: CheckedUpdate
) -> Steps[Response]:
    """Send a request that updates an entry, and return the response.

    Extensions that the kernel may have ignored are read back.

    :param key: what finds the entry.
    :param request: the request.
    :param update: the update that the request is for.

    :raises NotSupported: when the entry has no room for an extension.
    """
    response = yield request
    written = [name for name in _EXTENSIONS if update.values.get(name) is not None]
    if written and response.error is None:
        flow = flow_in((yield _get_request(key, update.zone)))
        for name in written:
            if getattr(flow, name) is None:
                hint = (
                    f"Packets created the entry, so it has no room for {name}. "
                    "Other fields were changed"
                )
                raise NotSupported(errno.EOPNOTSUPP, str(request), hint=hint)
    return response
