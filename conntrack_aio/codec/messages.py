"""Whole messages of ctnetlink, read: an entry of a dump, an event, the statistics."""

from __future__ import annotations

from ..errors import DecodeError
from ..model.events import EventType, FlowEvent
from ..model.flow import Flow
from ..model.statistics import CPUStatistics, GlobalStatistics
from ..netlink import nfnetlink
from ..netlink.attributes import Buffer
from ..netlink.exchange import Reply
from ..netlink.messages import Message
from ..uapi.netlink import NLM_F
from ..uapi.nfnetlink import NFNL_SUBSYS
from ..uapi.nfnetlink_conntrack import IPCTNL_MSG_CT
from .reference import decode

_CT = NFNL_SUBSYS.CTNETLINK
CT_NEW = nfnetlink.message_type(_CT, IPCTNL_MSG_CT.NEW)
CT_STATS_CPU = nfnetlink.message_type(_CT, IPCTNL_MSG_CT.GET_STATS_CPU)
CT_DELETE = nfnetlink.message_type(_CT, IPCTNL_MSG_CT.DELETE)
_CREATE = int(NLM_F.CREATE)


def decode_flow(buffer: Buffer, message: Message) -> Flow:
    """An entry, as dumps and answers to GET have it. Raises :exc:`DecodeError`."""
    if message.type != CT_NEW:
        raise DecodeError(f"a message of type {message.type:#x} is not a conntrack entry")
    nfnetlink.parse(buffer, message)
    return decode(Flow, buffer, message.start + nfnetlink.SIZE, message.end)


def decode_event(buffer: Buffer, message: Message) -> FlowEvent:
    """An event. A new flow is told from a changed one by the header's flags.

    The first event of a flow has NLM_F_CREATE and NLM_F_EXCL, an update has neither
    (``ctnetlink_conntrack_event``). Raises :exc:`DecodeError`.
    """
    if message.type == CT_DELETE:
        kind = EventType.DESTROY
    elif message.type == CT_NEW:
        kind = EventType.NEW if message.flags & _CREATE else EventType.UPDATE
    else:
        raise DecodeError(f"a message of type {message.type:#x} is not a conntrack event")
    nfnetlink.parse(buffer, message)
    start = message.start + nfnetlink.SIZE
    return decode(FlowEvent, buffer, start, message.end, type=kind, port_id=message.port)


def skip(buffer: Buffer, message: Message) -> None:
    """For a dump of which only its beginning or its refusal matters."""


def flow_of(reply: Reply) -> Flow:
    """The entry in an answer. Raises :exc:`DecodeError`."""
    return decode_flow(reply.payload, _whole(reply))


def global_statistics_of(reply: Reply) -> GlobalStatistics:
    """The answer to ``IPCTNL_MSG_CT_GET_STATS``. Raises :exc:`DecodeError`."""
    nfnetlink.parse(reply.payload, _whole(reply))
    return decode(GlobalStatistics, reply.payload, nfnetlink.SIZE, len(reply.payload))


def decode_cpu_statistics(buffer: Buffer, message: Message) -> CPUStatistics:
    """A processor's share of ``IPCTNL_MSG_CT_GET_STATS_CPU``; its number is in the nfgenmsg.

    Raises :exc:`DecodeError`.
    """
    if message.type != CT_STATS_CPU:
        raise DecodeError(f"a message of type {message.type:#x} has no statistics")
    head = nfnetlink.parse(buffer, message)
    start = message.start + nfnetlink.SIZE
    return decode(CPUStatistics, buffer, start, message.end, cpu=head.resource)


def _whole(reply: Reply) -> Message:
    return Message(reply.type, reply.flags, 0, 0, 0, len(reply.payload))
