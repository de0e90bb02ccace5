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
from ..codec.requests.targets import Name, Target
from ..errors import EncodeError, NotSupported, ResourceBusy
from ..model.enums import Status
from ..model.flow import Helper
from ..model.values import describe_value, plain_number
from ..netlink.exchange import Request, Response
from ..plain import as_str
from .answers import the_flow
from .naming import Steps, is_identified, looking

EXTENSIONS = ("seqadj_orig", "seqadj_reply", "synproxy")
"""What the kernel passes over in silence where an entry has no room for it."""

_NUMBERS = ("mark", "mark_mask", "timeout", "labels", "labels_mask")

ATTEMPTS = 5
"""At an update of the status, which packets may change between our look and our request."""


@attrs.frozen
class Change:
    """What an update changes: values by the names of its parameters, and status bits."""

    values: Mapping[str, object]
    status: Status | None
    zone: int | None

    @classmethod
    def of(cls, values: Mapping[str, object], status: Status | None, zone: int | None) -> Change:
        """Make one of the values that a verb was given, in their plain form.

        Raises :exc:`EncodeError` for one that changes nothing, and for what is not a number.
        """
        if status is None and all(value is None for value in values.values()):
            raise EncodeError("an update that changes nothing")
        plain = dict(values)
        for name in _NUMBERS:
            if plain.get(name) is not None:
                plain[name] = plain_number(plain[name], name)
        if isinstance(status, str):
            shown = describe_value(status)
            hint = "it has members, as Status.ASSURED, which are joined by |"
            raise EncodeError(f"{shown} is no Status: {hint}", ("status",))
        helper = values.get("helper")
        if issubclass(type(helper), str):
            plain["helper"] = Helper(name=as_str(helper))
        bits = None if status is None else cast("Status", plain_number(status, "status"))
        return cls(plain, bits, None if zone is None else plain_number(zone, "zone"))

    @property
    def masked(self) -> bool:
        """Whether it takes a kernel that looks at ``mark_mask`` to do it in one go."""
        return self.values.get("mark_mask") is not None


def updating(
    target: Target,
    change: Change,
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
    where: Target | Name = target
    if change.status is None:
        if is_identified(target):
            name, _ = yield from looking(target, change.zone)
            if name is not None:
                where, request = name, requests.update(name, change.values)
        if change.masked and not masks:
            request = yield from _with_the_whole_mark(where, change.values, change.zone)
        (yield from _write(where, request, change)).result()
        return
    for attempt in range(ATTEMPTS):
        # The kernel wants the bits repeated that may not change; packets may change them.
        name, found = yield from looking(target, change.zone)
        where = target if name is None else name
        status = requests.updated_status(found.status or Status(0), change.status)
        values = {**change.values, "status": status}
        if change.masked and not masks:
            request = yield from _with_the_whole_mark(where, values, change.zone)
        else:
            request = requests.update(where, values, change.zone)
        outcome = yield from _write(where, request, change)
        if not isinstance(outcome.error, ResourceBusy) or attempt == ATTEMPTS - 1:
            outcome.result()
            return


def _get(where: Target | Name, zone: int | None) -> Request:
    return requests.get_by(where) if isinstance(where, Name) else requests.get(where, zone)


def _with_the_whole_mark(
    where: Target | Name, values: Mapping[str, object], zone: int | None
) -> Steps[Request]:
    """Kernels before 5.3 ignore the mask, and would replace the whole mark."""
    current = the_flow((yield _get(where, zone))).mark or 0
    return requests.update(where, {**values, **requests.merged_mark(current, values)}, zone)


def _write(where: Target | Name, request: Request, change: Change) -> Steps[Response]:
    outcome = yield request
    written = [name for name in EXTENSIONS if change.values.get(name) is not None]
    if written and outcome.error is None:
        flow = the_flow((yield _get(where, change.zone)))
        for name in written:
            if getattr(flow, name) is None:
                hint = f"The entry has no room for {name}: packets made it. The rest was done"
                raise NotSupported(errno.EOPNOTSUPP, str(request), hint=hint)
    return outcome
