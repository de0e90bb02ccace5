"""Decode the messages of the kernel's statistics of connection tracking."""

from __future__ import annotations

from typing import Final

from ..model.statistics import CPUStatistics, TableStatistics
from ..netlink import nfnetlink
from ..netlink.exchange import Reply
from ..uapi.nfnetlink import NFNL_SUBSYS
from ..uapi.nfnetlink_conntrack import IPCTNL_MSG_CT
from .decoder import Decoder
from .messages import only, read_reply

CT_STATS_CPU = nfnetlink.message_type(NFNL_SUBSYS.CTNETLINK, IPCTNL_MSG_CT.GET_STATS_CPU)

decode_cpu_statistics: Final = Decoder(
    CPUStatistics, "the statistics of a processor", only(CT_STATS_CPU), resource_field="cpu"
)
"""Reads the statistics of one processor in the reply to ``IPCTNL_MSG_CT_GET_STATS_CPU``.

The number of the processor is ``res_id`` of the nfgenmsg."""

_decode_global_statistics: Final = Decoder(
    TableStatistics, "the statistics of the table", lambda message_type, flags: {}
)


def table_statistics_of(reply: Reply) -> TableStatistics:
    """Return the statistics in the reply to ``IPCTNL_MSG_CT_GET_STATS``.

    :raises DecodeError: when the reply cannot be decoded.
    """
    return read_reply(_decode_global_statistics, reply)
