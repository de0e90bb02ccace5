"""Whole messages of ctnetlink, read: an entry of a dump, an event, the statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from ..errors import DecodeError
from ..model.enums import EventType
from ..model.events import FlowEvent
from ..model.expectations import Expectation, ExpectEvent
from ..model.flow import Flow
from ..model.helpers import UserspaceHelper
from ..model.statistics import (
    CPUStatistics,
    ExpectCPUStatistics,
    TableStatistics,
)
from ..model.timeouts import TimeoutPolicy
from ..netlink import messages, nfnetlink
from ..netlink.attributes import Buffer
from ..netlink.exchange import Reply
from ..netlink.messages import Message
from ..uapi.netlink import NLM_F
from ..uapi.nfnetlink import NFNL_SUBSYS
from ..uapi.nfnetlink_conntrack import IPCTNL_MSG_CT, IPCTNL_MSG_EXP
from ..uapi.nfnetlink_cthelper import NFNL_MSG_CTHELPER
from ..uapi.nfnetlink_cttimeout import IPCTNL_MSG_TIMEOUT
from .decoder import Counters, Datagram, Decoder, Plain
from .reference import decode_fields

T = TypeVar("T")

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


def _only(*types: int) -> Callable[[int, int], Plain | None]:
    return lambda kind, _: {} if kind in types else None


def _flow_event(type: int, flags: int) -> Plain | None:
    """The first event of a flow has NLM_F_CREATE and NLM_F_EXCL, an update has neither.

    (``ctnetlink_conntrack_event``)
    """
    if type == CT_DELETE:
        return {"type": EventType.DESTROY}
    if type == CT_NEW:
        return {"type": EventType.NEW if flags & _CREATE else EventType.UPDATE}
    return None


def _expect_event(type: int, flags: int) -> Plain | None:
    if type not in (EXP_NEW, EXP_DELETE):
        return None
    return {"type": EventType.NEW if type == EXP_NEW else EventType.DESTROY}


decode_flow: Final = Decoder(Flow, "a conntrack entry", _only(CT_NEW))
"""As dumps and answers to GET have it."""

decode_event: Final = Decoder(FlowEvent, "a conntrack event", _flow_event, port="port_id")

decode_cpu_statistics: Final = Decoder(
    CPUStatistics, "the statistics of a processor", _only(CT_STATS_CPU), resource="cpu"
)
"""A processor's share of ``IPCTNL_MSG_CT_GET_STATS_CPU``; its number is in the nfgenmsg."""

decode_expectation: Final = Decoder(Expectation, "an expectation", _only(EXP_NEW))
"""As dumps and answers to GET have it."""

decode_expect_event: Final = Decoder(
    ExpectEvent, "an expectation's event", _expect_event, port="port_id"
)
"""New or gone."""

decode_expect_cpu_statistics: Final = Decoder(
    ExpectCPUStatistics,
    "the statistics of expectations",
    # To 6.18 at least, the kernel puts the other subsystem's number in its type
    # (ctnetlink_exp_stat_fill_info): it reads as IPCTNL_MSG_CT_GET_CTRZERO.
    _only(EXP_GET_STATS_CPU, _CT << 8 | IPCTNL_MSG_EXP.GET_STATS_CPU),
    resource="cpu",
)
"""One processor's part of the answer to ``IPCTNL_MSG_EXP_GET_STATS_CPU``."""

decode_timeout_policy: Final = Decoder(TimeoutPolicy, "a timeout policy", _only(TIMEOUT_NEW))
"""As dumps and answers to GET have it."""

decode_helper: Final = Decoder(UserspaceHelper, "a helper", _only(CTHELPER_NEW))
"""As dumps and answers to GET have it."""

_decode_global_statistics: Final = Decoder(
    TableStatistics, "the statistics of the table", lambda kind, flags: {}
)


class Skip:
    """For a dump of which only its beginning or its refusal matters."""

    def __call__(self, buffer: Buffer, message: Message) -> None: ...

    def read(
        self,
        datagram: Datagram,
        takes: Callable[[bytes, Message], bool],
        seq: bytes | None,
        items: list[DecodeError | None],
        counters: Counters,
    ) -> None:
        """As :meth:`Decoder.read`, and reads nothing of it."""
        data = datagram.data
        items += [None for message in messages.walk(data, len(data)) if takes(data, message)]
        datagram.offset = len(data)


skip: Final = Skip()


def flow_of(reply: Reply) -> Flow:
    """The entry in an answer. Raises :exc:`DecodeError`."""
    return _read(decode_flow, reply)


def table_statistics_of(reply: Reply) -> TableStatistics:
    """The answer to ``IPCTNL_MSG_CT_GET_STATS``. Raises :exc:`DecodeError`."""
    return _read(_decode_global_statistics, reply)


def expectation_of(reply: Reply) -> Expectation:
    """The expectation in an answer. Raises :exc:`DecodeError`."""
    return _read(decode_expectation, reply)


def timeout_policy_of(reply: Reply) -> TimeoutPolicy:
    """The policy in an answer. Raises :exc:`DecodeError`."""
    return _read(decode_timeout_policy, reply)


def helper_of(reply: Reply) -> UserspaceHelper:
    """The helper in an answer. Raises :exc:`DecodeError`."""
    return _read(decode_helper, reply)


def default_timeouts_of(reply: Reply) -> object:
    """The timeouts in the answer to ``DEFAULT_GET``, which comes as a ``DEFAULT_SET``.

    ``None`` if it has none that are known. Raises :exc:`DecodeError`.
    """
    if reply.type != TIMEOUT_DEFAULT_SET:
        raise DecodeError(f"a message of type {reply.type:#x} has no timeouts by default")
    nfnetlink.parse(reply.payload, _whole(reply))
    told = decode_fields(TimeoutPolicy, reply.payload, nfnetlink.SIZE, len(reply.payload))
    return told.get("timeouts")


def _read(decode: Decoder[T], reply: Reply) -> T:
    # Of the header its type and flags are kept; nobody asks an answer for the rest.
    return decode.one(messages.pack(reply.type, reply.flags, 0, reply.payload))


def _whole(reply: Reply) -> Message:
    return Message(reply.type, reply.flags, 0, 0, 0, len(reply.payload))
