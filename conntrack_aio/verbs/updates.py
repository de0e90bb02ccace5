"""Updates: what is asked of the kernel to change one flow, and what its answers mean.

There is no I/O in it: a generator yields requests and is sent their outcomes, so that one update
and a window full of them go the same way.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Mapping

import attrs

from ..codec.requests import flows as requests
from ..codec.requests.flows import Target
from ..errors import EncodeError, NotSupported, ResourceBusy
from ..model.flow import Flow, Helper, Status
from ..netlink.exchange import Outcome, Request
from .answers import check_same, the_flow

EXTENSIONS = ("seqadj_orig", "seqadj_reply", "synproxy")
"""What the kernel passes over in silence where an entry has no room for it."""

ATTEMPTS = 5
"""At an update of the status, which packets may change between our look and our request."""

Steps = Generator[Request, Outcome, None]
Look = Generator[Request, Outcome, Flow]


@attrs.frozen
class Change:
    """What an update changes: values by the names of its parameters, and status bits."""

    values: Mapping[str, object]
    status: Status | None
    zone: int | None

    @classmethod
    def of(cls, values: Mapping[str, object], status: Status | None, zone: int | None) -> Change:
        """Raises :exc:`EncodeError` for one that changes nothing."""
        if status is None and all(value is None for value in values.values()):
            raise EncodeError("an update that changes nothing")
        if status is not None and not isinstance(status, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise EncodeError(f"{status!r} is no Status", ("status",))
        helper = values.get("helper")
        if isinstance(helper, str):
            values = {**values, "helper": Helper(name=helper)}
        return cls(values, status, zone)

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
) -> Steps:
    """Change one flow; ``masks`` says whether this kernel looks at ``mark_mask``.

    ``encode`` makes the request of the change, if there is a quicker way than the usual one.

    What can't be encoded is an :exc:`EncodeError` before the first request. Raises what
    :meth:`Connection.update` does.
    """
    if encode is None:
        request = requests.update(target, change.values, change.zone)
    else:
        request = encode(target)
    if change.status is None:
        if isinstance(target, Flow) and target.id is not None:
            yield from _look(target, change.zone)
        if change.masked and not masks:
            request = yield from _with_the_whole_mark(target, change.values, change.zone)
        (yield from _write(target, request, change)).result()
        return
    for attempt in range(ATTEMPTS):
        # The kernel wants the bits repeated that may not change; packets may change them.
        current = (yield from _look(target, change.zone)).status or Status(0)
        status = requests.updated_status(current, change.status)
        values = {**change.values, "status": status}
        if change.masked and not masks:
            request = yield from _with_the_whole_mark(target, values, change.zone)
        else:
            request = requests.update(target, values, change.zone)
        outcome = yield from _write(target, request, change)
        if not isinstance(outcome.error, ResourceBusy) or attempt == ATTEMPTS - 1:
            outcome.result()
            return


def _look(target: Target, zone: int | None) -> Look:
    request = requests.get(target, zone)
    flow = the_flow((yield request))
    check_same(target, flow, request)
    return flow


def _with_the_whole_mark(
    target: Target, values: Mapping[str, object], zone: int | None
) -> Generator[Request, Outcome, Request]:
    """Kernels before 5.3 ignore the mask, and would replace the whole mark."""
    current = (yield from _look(target, zone)).mark or 0
    return requests.update(target, {**values, **requests.merged_mark(current, values)}, zone)


def _write(
    target: Target, request: Request, change: Change
) -> Generator[Request, Outcome, Outcome]:
    outcome = yield request
    written = [name for name in EXTENSIONS if change.values.get(name) is not None]
    if written and outcome.error is None:
        flow = the_flow((yield requests.get(target, change.zone)))
        for name in written:
            if getattr(flow, name) is None:
                hint = f"The entry has no room for {name}: packets made it. The rest was done"
                raise NotSupported(errno.EOPNOTSUPP, str(request), hint=hint)
    return outcome
