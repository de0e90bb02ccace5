"""Read the messages of ctnetlink about events of flows."""

from __future__ import annotations

from typing import Final

from ..model.enums import EventType
from ..model.events import FlowEvent
from ..uapi.netlink import NLM_F
from .decoder import Decoder, HeaderValues
from .messages import CT_DELETE, CT_NEW

_CREATE: Final = int(NLM_F.CREATE)


def _flow_event(type: int, flags: int) -> HeaderValues | None:
    """Return the event type of a message, or ``None`` if it is not an event.

    The kernel sets NLM_F_CREATE and NLM_F_EXCL in the first event of a flow, and neither in an
    update (``ctnetlink_conntrack_event``).
    """
    if type == CT_DELETE:
        return {"type": EventType.DESTROY}
    if type == CT_NEW:
        return {"type": EventType.NEW if flags & _CREATE else EventType.UPDATE}
    return None


decode_event: Final = Decoder(FlowEvent, "a conntrack event", _flow_event, port_id_field="port_id")
"""Reads an event of a flow."""
