"""Read the messages of ctnetlink: entries, events, statistics, expectations, policies, helpers."""

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
from ..netlink.attributes import BytesLike
from ..netlink.exchange import Reply
from ..netlink.messages import Message
from ..uapi.netlink import NLM_F
from ..uapi.nfnetlink import NFNL_SUBSYS
from ..uapi.nfnetlink_conntrack import IPCTNL_MSG_CT, IPCTNL_MSG_EXP
from ..uapi.nfnetlink_cthelper import NFNL_MSG_CTHELPER
from ..uapi.nfnetlink_cttimeout import IPCTNL_MSG_TIMEOUT
from .decoder import Datagram, DecodeCounters, Decoder, HeaderValues
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


def _only(*types: int) -> Callable[[int, int], HeaderValues | None]:
    """Return a function that accepts messages of these types, which determine no field."""
    return lambda message_type, _: {} if message_type in types else None


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


def _expect_event(type: int, flags: int) -> HeaderValues | None:
    """Return the event type of a message, or ``None`` if it is not an event of an expectation."""
    if type not in (EXP_NEW, EXP_DELETE):
        return None
    return {"type": EventType.NEW if type == EXP_NEW else EventType.DESTROY}


decode_flow: Final = Decoder(Flow, "a conntrack entry", _only(CT_NEW))
"""Reads an entry of a dump or of the reply to GET."""

decode_event: Final = Decoder(FlowEvent, "a conntrack event", _flow_event, port_id_field="port_id")
"""Reads an event of a flow."""

decode_cpu_statistics: Final = Decoder(
    CPUStatistics, "the statistics of a processor", _only(CT_STATS_CPU), resource_field="cpu"
)
"""Reads the statistics of one processor in the reply to ``IPCTNL_MSG_CT_GET_STATS_CPU``.

The number of the processor is ``res_id`` of the nfgenmsg."""

decode_expectation: Final = Decoder(Expectation, "an expectation", _only(EXP_NEW))
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
    _only(EXP_GET_STATS_CPU, _CT << 8 | IPCTNL_MSG_EXP.GET_STATS_CPU),
    resource_field="cpu",
)
"""Reads the statistics of one processor in the reply to ``IPCTNL_MSG_EXP_GET_STATS_CPU``."""

decode_timeout_policy: Final = Decoder(TimeoutPolicy, "a timeout policy", _only(TIMEOUT_NEW))
"""Reads a policy of a dump or of the reply to GET."""

decode_helper: Final = Decoder(UserspaceHelper, "a helper", _only(CTHELPER_NEW))
"""Reads a helper of a dump or of the reply to GET."""

_decode_global_statistics: Final = Decoder(
    TableStatistics, "the statistics of the table", lambda message_type, flags: {}
)


class Skip:
    """A decoder that decodes nothing, for dumps whose entries are only counted.

    It also serves dumps that only show whether the kernel refuses them.
    """

    def __call__(self, buffer: BytesLike, message: Message) -> None: ...

    def read(
        self,
        datagram: Datagram,
        accepts: Callable[[bytes, Message], bool],
        seq: bytes | None,
        items: list[DecodeError | None],
        counters: DecodeCounters,
        sample: None = None,
    ) -> None:
        """Add ``None`` for each message of a datagram that is to be read.

        The parameters are those of :meth:`Decoder.read`.
        """
        data = datagram.data
        items += [None for message in messages.walk(data, len(data)) if accepts(data, message)]
        datagram.offset = len(data)


skip: Final = Skip()


def flow_of(reply: Reply) -> Flow:
    """Return the entry in a reply.

    :raises DecodeError: when the reply cannot be decoded.
    """
    return _read(decode_flow, reply)


def table_statistics_of(reply: Reply) -> TableStatistics:
    """Return the statistics in the reply to ``IPCTNL_MSG_CT_GET_STATS``.

    :raises DecodeError: when the reply cannot be decoded.
    """
    return _read(_decode_global_statistics, reply)


def expectation_of(reply: Reply) -> Expectation:
    """Return the expectation in a reply.

    :raises DecodeError: when the reply cannot be decoded.
    """
    return _read(decode_expectation, reply)


def timeout_policy_of(reply: Reply) -> TimeoutPolicy:
    """Return the timeout policy in a reply.

    :raises DecodeError: when the reply cannot be decoded.
    """
    return _read(decode_timeout_policy, reply)


def helper_of(reply: Reply) -> UserspaceHelper:
    """Return the helper in a reply.

    :raises DecodeError: when the reply cannot be decoded.
    """
    return _read(decode_helper, reply)


def default_timeouts_of(reply: Reply) -> object:
    """Return the timeouts in the reply to ``DEFAULT_GET``, which is a ``DEFAULT_SET`` message.

    :returns: the timeouts; ``None`` if the reply has none that the library knows.

    :raises DecodeError: when the reply cannot be decoded.
    """
    if reply.type != TIMEOUT_DEFAULT_SET:
        raise DecodeError(f"a message of type {reply.type:#x} has no default timeouts")
    nfnetlink.parse(reply.payload, _whole(reply))
    fields = decode_fields(TimeoutPolicy, reply.payload, nfnetlink.SIZE, len(reply.payload))
    return fields.get("timeouts")


def _read(decode: Decoder[T], reply: Reply) -> T:
    # A reply has only the type and the flags of its header. No field depends on the rest.
    return decode.one(messages.pack(reply.type, reply.flags, 0, reply.payload))


def _whole(reply: Reply) -> Message:
    return Message(reply.type, reply.flags, 0, 0, 0, len(reply.payload))
