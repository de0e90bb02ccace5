"""Every kind of message there is, by its type: what the kernel calls it, and what is inside.

For who reads messages without knowing what was asked, as the trace does. A new kind is one line.
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
    # The subsystem, its messages, and the classes that declare their attributes, those of
    # requests and of answers. A later line goes before an earlier one.
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


class Kind(NamedTuple):
    """A kind of message."""

    name: str
    """The kernel's name of its type."""
    attributes: Branch
    """The attributes that are known in it."""


_classes: Final = {
    message_type(subsystem, message): (kernel_name(message), classes)
    for subsystem, messages, classes in _ROWS
    for message in messages
}
_OTHERWISE_ANSWERED: Final = {
    # ctnetlink_exp_ct_stat_fill says NFNL_SUBSYS_CTNETLINK where it means CTNETLINK_EXP.
    message_type(NFNL_SUBSYS.CTNETLINK, IPCTNL_MSG_EXP.GET_STATS_CPU): message_type(
        NFNL_SUBSYS.CTNETLINK_EXP, IPCTNL_MSG_EXP.GET_STATS_CPU
    )
}


@lru_cache(maxsize=256)
def kind_of(type: int, *, answer: bool) -> Kind | None:
    """What is known of a type; ``answer``: sent by the kernel. ``None``: nothing is."""
    if answer:
        type = _OTHERWISE_ANSWERED.get(type, type)
    if type not in _classes:
        return None
    name, classes = _classes[type]
    attributes = Branch(name)
    for cls in classes:
        for number, child in schema_of(cls).root.children.items():
            attributes.children.setdefault(number, child)
    return Kind(name, attributes)
