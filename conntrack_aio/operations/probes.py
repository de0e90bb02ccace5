"""Find out what the kernel supports, by requests and not by its version."""

from __future__ import annotations

from typing import Final

import attrs

from ..codec.messages import skip
from ..codec.requests import probes
from ..errors import InvalidRequest, NotFound, PermissionDenied
from ..model.features import Features
from ..netlink.exchange import Request
from ..session import Session
from ..uapi.nfnetlink import NFNL_SUBSYS
from ..uapi.nfnetlink_conntrack import CTA, IPCTNL_MSG_EXP
from ..uapi.nfnetlink_cthelper import NFNL_MSG_CTHELPER
from ..uapi.nfnetlink_cttimeout import IPCTNL_MSG_TIMEOUT

_ATTRIBUTES: Final = {
    "tuple_filter": (CTA.FILTER, 1),
    "mark_mask": (CTA.FILTER, 1),
    "status_filter": (CTA.STATUS_MASK, 1),
    "reply_filter": (CTA.STATUS_MASK, 1),
    "event_timestamp": (CTA.TIMESTAMP_EVENT, 8),
}
"""The attributes that were added with a feature.

With a value of this size, the kernel shows whether it knows the attribute."""

_SUBSYSTEMS: Final = {
    "expectations": (NFNL_SUBSYS.CTNETLINK_EXP, IPCTNL_MSG_EXP.GET),
    "timeouts": (NFNL_SUBSYS.CTNETLINK_TIMEOUT, IPCTNL_MSG_TIMEOUT.GET),
    "helpers": (NFNL_SUBSYS.CTHELPER, NFNL_MSG_CTHELPER.GET),
}


class Probes:
    """The features of a connection's kernel. Each feature is probed once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[str, bool] = {}

    async def features(self) -> Features:
        """Return all features.

        :raises PermissionDenied: without CAP_NET_ADMIN.
        :raises KernelError: for any other refusal.
        """
        names = [field.name for field in attrs.fields(Features)]
        return Features(**{name: await self.has(name) for name in names})

    async def has(self, feature: str) -> bool:
        """Return whether the kernel has a feature: a field of :class:`Features`."""
        if feature not in self._known:
            self._known[feature] = await self._probe(feature)
        return self._known[feature]

    async def _probe(self, feature: str) -> bool:
        if feature in _SUBSYSTEMS:
            return not await self._refuses(probes.probe_subsystem(*_SUBSYSTEMS[feature]))
        if feature in _ATTRIBUTES:
            return await self._knows(probes.probe_attribute(*_ATTRIBUTES[feature]))
        if feature == "zone_filter":
            return await self._refuses(probes.probe_zone_filter())
        return await self._applies_filters_to_deletes()

    async def _knows(self, request: Request) -> bool:
        response = await self._session.ask(request)
        if isinstance(response.error, PermissionDenied):
            raise response.error
        return probes.is_attribute_known(response.completion)

    async def _refuses(self, request: Request) -> bool:
        """Return whether the kernel refuses a dump as invalid.

        A dump that it does not refuse is closed after its first chunk.
        """
        async with self._session.dump(request, skip) as dump:
            try:
                await anext(dump, None)
            except InvalidRequest:
                return True
            except PermissionDenied:
                # Only root in the initial user namespace may dump helpers. The subsystem exists.
                if request.type >> 8 != NFNL_SUBSYS.CTHELPER:
                    raise
            return False

    async def _applies_filters_to_deletes(self) -> bool:
        error = (await self._session.ask(probes.probe_flush_filter())).error
        if isinstance(error, NotFound):
            return False  # the kernel looked only for the tuple
        if error is not None and not isinstance(error, InvalidRequest):
            raise error
        return True
