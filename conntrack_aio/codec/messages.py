"""Whole messages of ctnetlink, read: an entry of a dump, an event, the statistics."""

from __future__ import annotations

from ..errors import DecodeError
from ..model.events import EventType, FlowEvent
from ..model.expectations import Expectation, ExpectEvent
from ..model.flow import Flow
from ..model.helpers import UserspaceHelper
from ..model.statistics import CPUStatistics, ExpectCPUStatistics, GlobalStatistics
from ..model.timeouts import TimeoutPolicy
from ..netlink import nfnetlink
from ..netlink.attributes import Buffer
from ..netlink.exchange import Reply
from ..netlink.messages import Message
from ..uapi.netlink import NLM_F
from ..uapi.nfnetlink import NFNL_SUBSYS
from ..uapi.nfnetlink_conntrack import IPCTNL_MSG_CT, IPCTNL_MSG_EXP
from ..uapi.nfnetlink_cthelper import NFNL_MSG_CTHELPER
from ..uapi.nfnetlink_cttimeout import IPCTNL_MSG_TIMEOUT
from .reference import decode, decode_fields

_CT = NFNL_SUBSYS.CTNETLINK
CT_NEW = nfnetlink.message_type(_CT, IPCTNL_MSG_CT.NEW)
CT_STATS_CPU = nfnetlink.message_type(_CT, IPCTNL_MSG_CT.GET_STATS_CPU)
CT_DELETE = nfnetlink.message_type(_CT, IPCTNL_MSG_CT.DELETE)
_TIMEOUT = NFNL_SUBSYS.CTNETLINK_TIMEOUT
TIMEOUT_NEW = nfnetlink.message_type(_TIMEOUT, IPCTNL_MSG_TIMEOUT.NEW)
TIMEOUT_DEFAULT_SET = nfnetlink.message_type(_TIMEOUT, IPCTNL_MSG_TIMEOUT.DEFAULT_SET)
CTHELPER_NEW = nfnetlink.message_type(NFNL_SUBSYS.CTHELPER, NFNL_MSG_CTHELPER.NEW)
_CREATE = int(NLM_F.CREATE)
_EXP = NFNL_SUBSYS.CTNETLINK_EXP
EXP_NEW = nfnetlink.message_type(_EXP, IPCTNL_MSG_EXP.NEW)
EXP_DELETE = nfnetlink.message_type(_EXP, IPCTNL_MSG_EXP.DELETE)
EXP_GET_STATS_CPU = nfnetlink.message_type(_EXP, IPCTNL_MSG_EXP.GET_STATS_CPU)


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


def decode_expectation(buffer: Buffer, message: Message) -> Expectation:
    """An expectation, as dumps and answers to GET have it. Raises :exc:`DecodeError`."""
    if message.type != EXP_NEW:
        raise DecodeError(f"a message of type {message.type:#x} is not an expectation")
    nfnetlink.parse(buffer, message)
    return decode(Expectation, buffer, message.start + nfnetlink.SIZE, message.end)


def decode_expect_event(buffer: Buffer, message: Message) -> ExpectEvent:
    """An event of an expectation: new or gone. Raises :exc:`DecodeError`."""
    if message.type not in (EXP_NEW, EXP_DELETE):
        raise DecodeError(f"a message of type {message.type:#x} is not an expectation's event")
    kind = EventType.NEW if message.type == EXP_NEW else EventType.DESTROY
    nfnetlink.parse(buffer, message)
    start = message.start + nfnetlink.SIZE
    return decode(ExpectEvent, buffer, start, message.end, type=kind, port_id=message.port)


def expectation_of(reply: Reply) -> Expectation:
    """The expectation in an answer. Raises :exc:`DecodeError`."""
    return decode_expectation(reply.payload, _whole(reply))


def decode_expect_cpu_statistics(buffer: Buffer, message: Message) -> ExpectCPUStatistics:
    """One processor's part of the answer to ``IPCTNL_MSG_EXP_GET_STATS_CPU``.

    To 6.18 at least, the kernel puts the other subsystem's number in its type
    (``ctnetlink_exp_stat_fill_info``): it reads as ``IPCTNL_MSG_CT_GET_CTRZERO``.
    Raises :exc:`DecodeError`.
    """
    if message.type not in (EXP_GET_STATS_CPU, _CT << 8 | IPCTNL_MSG_EXP.GET_STATS_CPU):
        raise DecodeError(f"a message of type {message.type:#x} is not of expectation statistics")
    head = nfnetlink.parse(buffer, message)
    start = message.start + nfnetlink.SIZE
    return decode(ExpectCPUStatistics, buffer, start, message.end, cpu=head.resource)


def decode_timeout_policy(buffer: Buffer, message: Message) -> TimeoutPolicy:
    """A timeout policy, as dumps and answers to GET have it. Raises :exc:`DecodeError`."""
    if message.type != TIMEOUT_NEW:
        raise DecodeError(f"a message of type {message.type:#x} is not a timeout policy")
    nfnetlink.parse(buffer, message)
    return decode(TimeoutPolicy, buffer, message.start + nfnetlink.SIZE, message.end)


def timeout_policy_of(reply: Reply) -> TimeoutPolicy:
    """The policy in an answer. Raises :exc:`DecodeError`."""
    return decode_timeout_policy(reply.payload, _whole(reply))


def default_timeouts_of(reply: Reply) -> object:
    """The timeouts in the answer to ``DEFAULT_GET``, which comes as a ``DEFAULT_SET``.

    ``None`` if it has none that are known. Raises :exc:`DecodeError`.
    """
    if reply.type != TIMEOUT_DEFAULT_SET:
        raise DecodeError(f"a message of type {reply.type:#x} has no timeouts by default")
    nfnetlink.parse(reply.payload, _whole(reply))
    told = decode_fields(TimeoutPolicy, reply.payload, nfnetlink.SIZE, len(reply.payload))
    return told.get("timeouts")


def decode_helper(buffer: Buffer, message: Message) -> UserspaceHelper:
    """A user-space helper, as dumps and answers to GET have it. Raises :exc:`DecodeError`."""
    if message.type != CTHELPER_NEW:
        raise DecodeError(f"a message of type {message.type:#x} is not a helper")
    nfnetlink.parse(buffer, message)
    return decode(UserspaceHelper, buffer, message.start + nfnetlink.SIZE, message.end)


def helper_of(reply: Reply) -> UserspaceHelper:
    """The helper in an answer. Raises :exc:`DecodeError`."""
    return decode_helper(reply.payload, _whole(reply))


def _whole(reply: Reply) -> Message:
    return Message(reply.type, reply.flags, 0, 0, 0, len(reply.payload))
