"""Read the messages of ctnetlink about expectations."""

from __future__ import annotations

from typing import Final

from ..model.enums import EventType
from ..model.expectations import Expectation, ExpectEvent
from ..model.statistics import ExpectCPUStatistics
from ..netlink import nfnetlink
from ..netlink.exchange import Reply
from ..uapi.nfnetlink import NFNL_SUBSYS
from ..uapi.nfnetlink_conntrack import IPCTNL_MSG_EXP
from .decoder import Decoder, HeaderValues
from .messages import only, read_reply

_EXP = NFNL_SUBSYS.CTNETLINK_EXP
EXP_NEW = nfnetlink.message_type(_EXP, IPCTNL_MSG_EXP.NEW)
EXP_DELETE = nfnetlink.message_type(_EXP, IPCTNL_MSG_EXP.DELETE)
EXP_GET_STATS_CPU = nfnetlink.message_type(_EXP, IPCTNL_MSG_EXP.GET_STATS_CPU)


def _expect_event(type: int, flags: int) -> HeaderValues | None:
    """Return the event type of a message, or ``None`` if it is not an event of an expectation."""
    if type not in (EXP_NEW, EXP_DELETE):
        return None
    return {"type": EventType.NEW if type == EXP_NEW else EventType.DESTROY}


decode_expectation: Final = Decoder(Expectation, "an expectation", only(EXP_NEW))
"""Reads an expectation of a dump or of the reply to GET."""

decode_expect_event: Final = Decoder(
    ExpectEvent, "an expectation's event", _expect_event, port_id_field="port_id"
)
"""Reads the NEW or DESTROY event of an expectation."""

decode_expect_cpu_statistics: Final = Decoder(
    ExpectCPUStatistics,
    "the statistics of expectations",
    # Up to 6.18 at least, the kernel replies with the number of the other subsystem
    # (ctnetlink_exp_stat_fill_info). The type is then that of IPCTNL_MSG_CT_GET_CTRZERO.
    only(EXP_GET_STATS_CPU, NFNL_SUBSYS.CTNETLINK << 8 | IPCTNL_MSG_EXP.GET_STATS_CPU),
    resource_field="cpu",
)
"""Reads the statistics of one processor in the reply to ``IPCTNL_MSG_EXP_GET_STATS_CPU``."""


def expectation_of(reply: Reply) -> Expectation:
    """Return the expectation in a reply.

    :raises DecodeError: when the reply cannot be decoded.
    """
    return read_reply(decode_expectation, reply)
