"""Encode the requests for the kernel's statistics of connection tracking."""

from __future__ import annotations

from ...netlink.exchange import Request
from ...uapi.netlink import NLM_F
from ...uapi.nfnetlink import NFNL_SUBSYS
from ...uapi.nfnetlink_conntrack import IPCTNL_MSG_CT
from .request import request


def table_statistics(verb: str = "count", subject: str = "the entries") -> Request:
    """Return the request that reads the number of entries.

    It costs the kernel less than any other, so it is also the first request of a connection.
    """
    return request(verb, subject, NFNL_SUBSYS.CTNETLINK, IPCTNL_MSG_CT.GET_STATS)


def cpu_statistics() -> Request:
    """Return the request that reads the counters of each processor.

    Without DUMP the kernel sends no statistics.
    """
    return request(
        "read",
        "the statistics of each processor",
        NFNL_SUBSYS.CTNETLINK,
        IPCTNL_MSG_CT.GET_STATS_CPU,
        flags=int(NLM_F.DUMP),
    )
