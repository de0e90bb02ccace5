"""The catalog of message types: the kernel's name of each, and the attributes in its messages.

The trace uses it, which reads messages without knowing the request. A new type is one line.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

from ..model.events import FlowEvent
from ..model.expectations import ExpectEvent
from ..model.helpers import UserspaceHelper
from ..model.requests import ExpectRequestOnly, RequestOnly
from ..model.statistics import CPUStatistics, ExpectCPUStatistics, TableStatistics
from ..model.timeouts import TimeoutPolicy
from ..netlink.nfnetlink import message_type
from ..uapi.nf_tables import NFT_MSG
from ..uapi.nfnetlink import NFNL_MSG, NFNL_SUBSYS
from ..uapi.nfnetlink_conntrack import IPCTNL_MSG_CT, IPCTNL_MSG_EXP
from ..uapi.nfnetlink_cthelper import NFNL_MSG_CTHELPER
from ..uapi.nfnetlink_cttimeout import IPCTNL_MSG_TIMEOUT
from .schema import Branch, kernel_name, schema_of

Row = tuple[NFNL_SUBSYS, Iterable[IntEnum], tuple[type, ...]]

_ROWS: Final[tuple[Row, ...]] = (
    # Each line has a subsystem, its messages, and the classes that declare the attributes of
    # requests and replies. A later line overrides an earlier one.
    (NFNL_SUBSYS.NONE, NFNL_MSG, ()),
    (NFNL_SUBSYS.CTNETLINK, IPCTNL_MSG_CT, (FlowEvent, RequestOnly)),
    (NFNL_SUBSYS.CTNETLINK, (IPCTNL_MSG_CT.GET_STATS,), (TableStatistics,)),
    (NFNL_SUBSYS.CTNETLINK, (IPCTNL_MSG_CT.GET_STATS_CPU,), (CPUStatistics,)),
    (NFNL_SUBSYS.CTNETLINK_EXP, IPCTNL_MSG_EXP, (ExpectEvent, ExpectRequestOnly)),
    (NFNL_SUBSYS.CTNETLINK_EXP, (IPCTNL_MSG_EXP.GET_STATS_CPU,), (ExpectCPUStatistics,)),
    (NFNL_SUBSYS.CTNETLINK_TIMEOUT, IPCTNL_MSG_TIMEOUT, (TimeoutPolicy,)),
    (NFNL_SUBSYS.CTHELPER, NFNL_MSG_CTHELPER, (UserspaceHelper,)),
    (NFNL_SUBSYS.NFTABLES, NFT_MSG, ()),
)


class MessageInfo(NamedTuple):
    """What is known about a message type."""

    name: str
    """The kernel's name of the type."""
    attributes: Branch
    """The known attributes of its messages."""


_KNOWN: Final = {
    message_type(subsystem, message): (kernel_name(message), classes)
    for subsystem, messages, classes in _ROWS
    for message in messages
}
_REPLY_TYPES: Final = {
    # The kernel replies with NFNL_SUBSYS_CTNETLINK instead of CTNETLINK_EXP
    # (ctnetlink_exp_stat_fill_info).
    message_type(NFNL_SUBSYS.CTNETLINK, IPCTNL_MSG_EXP.GET_STATS_CPU): message_type(
        NFNL_SUBSYS.CTNETLINK_EXP, IPCTNL_MSG_EXP.GET_STATS_CPU
    )
}


@lru_cache(maxsize=256)
def message_info(type: int, *, from_kernel: bool) -> MessageInfo | None:
    """Return what is known about a message type, or ``None`` if it is unknown.

    :param type: the type in the header: the subsystem and the message.
    :param from_kernel: whether the kernel sent the message.
    """
    if from_kernel:
        type = _REPLY_TYPES.get(type, type)
    if type not in _KNOWN:
        return None
    name, classes = _KNOWN[type]
    attributes = Branch(name)
    for cls in classes:
        for number, child in schema_of(cls).root.children.items():
            attributes.children.setdefault(number, child)
    return MessageInfo(name, attributes)
