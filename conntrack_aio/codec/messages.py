"""Read the messages of ctnetlink about entries.

Other modules read those about events of flows (:mod:`.event_messages`), expectations
(:mod:`.expectation_messages`), timeout policies and helpers (:mod:`.policy_messages`), and
statistics (:mod:`.statistics_messages`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from ..errors import DecodeError
from ..model.flow import Flow
from ..netlink import messages, nfnetlink
from ..netlink.attributes import BytesLike
from ..netlink.exchange import Reply
from ..netlink.messages import Message
from ..uapi.nfnetlink import NFNL_SUBSYS
from ..uapi.nfnetlink_conntrack import IPCTNL_MSG_CT
from .decoder import Datagram, DecodeCounters, Decoder, HeaderValues

T = TypeVar("T")

_CT = NFNL_SUBSYS.CTNETLINK
CT_NEW = nfnetlink.message_type(_CT, IPCTNL_MSG_CT.NEW)
CT_DELETE = nfnetlink.message_type(_CT, IPCTNL_MSG_CT.DELETE)


def only(*types: int) -> Callable[[int, int], HeaderValues | None]:
    """Return a function that accepts messages of these types, which determine no field."""
    return lambda message_type, _: {} if message_type in types else None


decode_flow: Final = Decoder(Flow, "a conntrack entry", only(CT_NEW))
"""Reads an entry of a dump or of the reply to GET."""


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
    return read_reply(decode_flow, reply)


def read_reply(decode: Decoder[T], reply: Reply) -> T:
    # A reply has only the type and the flags of its header. No field depends on the rest.
    return decode.one(messages.pack(reply.type, reply.flags, 0, reply.payload))
