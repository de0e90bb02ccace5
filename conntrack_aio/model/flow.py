"""Flows: entries of the kernel's connection tracking table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ..errors import EncodeError
from ..uapi.nfnetlink_conntrack import (
    CTA,
    CTA_COUNTERS,
    CTA_HELP,
    CTA_PROTOINFO,
    CTA_SECCTX,
    CTA_SEQADJ,
    CTA_SYNPROXY,
    CTA_TIMESTAMP,
)
from .declare import Lazy, UnknownAttribute, attribute, by_path, message, variants
from .enums import Status, TCPState
from .lazy_fields import LazyFields, text_if_unread
from .normalization import normalized
from .protoinfo import DCCPInfo, ProtoInfo, SCTPInfo, TCPInfo
from .text import describe_flow
from .times import as_datetime
from .tuples import AddressLike, Tuple, is_plain_tuple, proto_number
from .values import describe_value
from .wire import S32, U16, U32, U64, Access, Bitmap, Bytes, Nest, Text, at, u32

if TYPE_CHECKING:
    from datetime import datetime

    from .nat import NAT

LABELS = Bitmap(16)
"""A bitmap of 128 labels: ``NF_CT_LABELS_MAX_SIZE``."""


@message(hashable=True)
class Counters:
    """The packets and bytes of one direction since the entry was created or last reset."""

    packets: int | None = attribute(CTA_COUNTERS.PACKETS, U64, default=None, access=Access.READ)
    bytes: int | None = attribute(CTA_COUNTERS.BYTES, U64, default=None, access=Access.READ)
    """The bytes of the IP packets, headers included."""


@message(hashable=True)
class Timestamp:
    """The times at which the entry was created and ended, in nanoseconds since 1970, in UTC."""

    start: int | None = attribute(CTA_TIMESTAMP.START, U64, default=None, access=Access.READ)
    stop: int | None = attribute(CTA_TIMESTAMP.STOP, U64, default=None, access=Access.READ)
    """The time at which the entry ended; absent until then."""

    @property
    def start_time(self) -> datetime | None:
        """The value of :attr:`start` as a datetime, rounded down to the microsecond."""
        return as_datetime(self.start)

    @property
    def stop_time(self) -> datetime | None:
        """The value of :attr:`stop` as a datetime, rounded down to the microsecond."""
        return as_datetime(self.stop)


@message(hashable=True)
class Helper:
    """The connection tracking helper of an entry."""

    name: str | None = attribute(CTA_HELP.NAME, Text(16), default=None)
    """The helper's name, such as ``ftp``. In an update, an empty name detaches the helper."""
    info: bytes | None = attribute(CTA_HELP.INFO, Bytes(32), default=None)
    """The private data of a user-space helper."""


@message(hashable=True)
class SeqAdj:
    """The adjustment of the TCP sequence numbers of one direction."""

    correction_pos: int | None = attribute(CTA_SEQADJ.CORRECTION_POS, U32, default=None)
    """The sequence number at which the offset last changed."""
    offset_before: int | None = attribute(CTA_SEQADJ.OFFSET_BEFORE, S32, default=None)
    """The offset before that sequence number."""
    offset_after: int | None = attribute(CTA_SEQADJ.OFFSET_AFTER, S32, default=None)
    """The offset after that sequence number."""


@message(hashable=True)
class SynProxy:
    """The state of SYNPROXY for a connection that it proxies, since Linux 4.17."""

    isn: int | None = attribute(CTA_SYNPROXY.ISN, U32, default=None)
    """The proxy's initial sequence number."""
    its: int | None = attribute(CTA_SYNPROXY.ITS, U32, default=None)
    """The proxy's initial TCP timestamp."""
    tsoff: int | None = attribute(CTA_SYNPROXY.TSOFF, U32, default=None)
    """The offset between the server's TCP timestamps and the proxy's."""


@message(lazy=Lazy(often_read=("orig", "status", "mark", "zone", "id")))
class Flow(LazyFields):
    """An entry of the connection tracking table, as the kernel reports it.

    ``None`` means "absent", 0 means zero. The kernel always sends the tuples. Other fields may be
    absent:

    - An update event has the fields that changed.
    - Of :attr:`protoinfo`, a destroy event has at most the state of TCP.
    - An offloaded flow has no timeout.
    - Counters and timestamps exist only if the sysctls ``nf_conntrack_acct`` and
      ``nf_conntrack_timestamp`` were on when the entry was created.

    Flows compare equal if all their fields are equal; :attr:`key` identifies the entry.

    A flow that was decoded gets the values of its fields when they are first read. Until then it
    belongs to a private subclass: use :func:`isinstance`, not :class:`type`, to recognize a flow.

    On the wire: ``ctattr_type`` (linux/netfilter/nfnetlink_conntrack.h), written by
    ``ctnetlink_fill_info`` and ``ctnetlink_conntrack_event``.
    """

    orig: Tuple = attribute(CTA.TUPLE_ORIG, Nest(Tuple))
    """The tuple of the original direction: the first packet, before any translation."""
    reply: Tuple = attribute(CTA.TUPLE_REPLY, Nest(Tuple))
    """The tuple of the reply direction, as replies arrive. With NAT, it is not the inverse of
    :attr:`orig`."""
    master: Tuple | None = attribute(CTA.TUPLE_MASTER, Nest(Tuple), default=None)
    """The original tuple of the master connection, if this connection was expected."""
    status: Status | None = attribute(CTA.STATUS, u32(Status), default=None)
    """The status bits of the entry. A program can set few of them and clear none."""
    timeout: int | None = attribute(CTA.TIMEOUT, U32, default=None)
    """The seconds until the entry expires."""
    mark: int | None = attribute(CTA.MARK, U32, default=None)
    """The mark of the connection. Events of an entry whose mark is 0 may omit it."""
    zone: int | None = attribute(CTA.ZONE, U16, default=None)
    """The zone of both directions; absent in zone 0, and if a tuple has a zone of its own."""
    id: int | None = attribute(CTA.ID, U32, default=None)
    """An opaque number that stays the same as long as the entry exists and differs between entries.

    It is a hash of the tuple and of the entry's address in memory (``nf_ct_get_id``, since Linux
    5.2; before, part of that address). If an entry is deleted and created again at once, the new
    one may have the same address and so the same id.
    """
    use: int | None = attribute(CTA.USE, U32, default=None, access=Access.READ)
    """The kernel's reference count; absent in events. The look-up of a single entry holds one
    reference itself."""
    protoinfo: ProtoInfo | None = variants(
        at((CTA.PROTOINFO, CTA_PROTOINFO.TCP), Nest(TCPInfo)),
        at((CTA.PROTOINFO, CTA_PROTOINFO.DCCP), Nest(DCCPInfo), until="6.16"),
        at((CTA.PROTOINFO, CTA_PROTOINFO.SCTP), Nest(SCTPInfo)),
        default=None,
    )
    """The protocol's own state: of TCP, SCTP and DCCP; absent for other protocols."""
    counters_orig: Counters | None = attribute(
        CTA.COUNTERS_ORIG, Nest(Counters), default=None, access=Access.READ
    )
    """The counters of the original direction: in dumps, replies to ``get`` and destroy events;
    absent in new and update events."""
    counters_reply: Counters | None = attribute(
        CTA.COUNTERS_REPLY, Nest(Counters), default=None, access=Access.READ
    )
    """The counters of the reply direction, in the same messages as :attr:`counters_orig`."""
    timestamp: Timestamp | None = attribute(
        CTA.TIMESTAMP, Nest(Timestamp), default=None, access=Access.READ
    )
    """The times of the entry: in dumps, replies to ``get`` and destroy events; absent in new and
    update events."""
    helper: Helper | None = attribute(CTA.HELP, Nest(Helper), default=None)
    """The helper of the entry; absent in destroy events."""
    labels: int | None = attribute(CTA.LABELS, LABELS, default=None)
    """The labels, as 128 bits: ``labels >> n & 1`` is label n, and :class:`LabelNames` has the
    names. Absent if no label is set."""
    seqadj_orig: SeqAdj | None = attribute(CTA.SEQ_ADJ_ORIG, Nest(SeqAdj), default=None)
    """The sequence adjustment of the original direction, if a helper changed the length of TCP
    payload."""
    seqadj_reply: SeqAdj | None = attribute(CTA.SEQ_ADJ_REPLY, Nest(SeqAdj), default=None)
    """The sequence adjustment of the reply direction, if :attr:`seqadj_orig` is present."""
    synproxy: SynProxy | None = attribute(CTA.SYNPROXY, Nest(SynProxy), default=None)
    """The state of SYNPROXY. Every entry created through ctnetlink has one, with all numbers 0."""
    secctx: str | None = attribute(
        (CTA.SECCTX, CTA_SECCTX.NAME), Text(4096), default=None, access=Access.READ
    )
    """The security context that a Linux security module assigned to the connection."""
    unknown: tuple[UnknownAttribute, ...] = attrs.field(default=(), eq=by_path)
    """The attributes that the kernel sent and this version does not know."""

    @property
    def key(self) -> tuple[Tuple, int | None, int | None]:
        """The original tuple, zone and id: hashable, and as unique as :attr:`id`."""
        return self.orig, self.zone, self.id

    @property
    def nat(self) -> NAT | None:
        """The translation of this connection, or ``None`` if nothing is translated.

        It is derived from the tuples. If the status is present, it counts a source or
        destination as translated only if the kernel marked it so (SRC_NAT, DST_NAT): an entry that
        a program created with different tuples and without those bits does not change packets.
        """
        from .nat import translation

        return translation(self.orig, self.reply, self.status)

    def translate(self, packet: Tuple) -> Tuple | None:
        """Return a packet of this connection as it looks on the other side of the translation.

        The packet may have either direction, and may be as it arrives or as it leaves. The result
        for a packet as it arrives is the packet as it leaves, and vice versa. Without a translation
        both are the same.

        :param packet: the packet's addresses and ports; the tuple's zone is ignored.
        :returns: the translated tuple; ``None`` if the packet does not belong to this connection.
        :raises TypeError: when the packet is not a :class:`Tuple`.
        """
        if not issubclass(type(packet), Tuple):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"packet must be a Tuple; got {describe_value(packet)}")
        if not is_plain_tuple(packet):
            packet = normalized(packet)
        from .nat import translate

        return translate(self.orig, self.reply, self.status, packet)

    @classmethod
    def tcp(
        cls,
        src: AddressLike,
        sport: int,
        dst: AddressLike,
        dport: int,
        *,
        timeout: int,
        state: TCPState = TCPState.ESTABLISHED,
        status: Status | None = None,
        mark: int | None = None,
        zone: int | None = None,
    ) -> Flow:
        """Return a new TCP flow whose reply is the inverse of its original direction.

        :param src: the sender's address, as text or as an address object.
        :param sport: the sender's port, 0 to 65535.
        :param dst: the receiver's address, as text or as an address object.
        :param dport: the receiver's port, 0 to 65535.
        :param timeout: seconds until the entry expires.
        :param state: the TCP state.
        :param status: the status bits to set; see :attr:`status`.
        :param mark: the mark of the connection.
        :param zone: the zone of both directions.
        :raises EncodeError: when an address or a port is invalid; this is a :exc:`ValueError`.
        """
        return cls._of(
            Tuple.tcp(src, sport, dst, dport), timeout, status, mark, zone, TCPInfo(state=state)
        )

    @classmethod
    def udp(
        cls,
        src: AddressLike,
        sport: int,
        dst: AddressLike,
        dport: int,
        *,
        timeout: int,
        status: Status | None = None,
        mark: int | None = None,
        zone: int | None = None,
    ) -> Flow:
        """Return a new UDP flow whose reply is the inverse of its original direction.

        :param src: the sender's address, as text or as an address object.
        :param sport: the sender's port, 0 to 65535.
        :param dst: the receiver's address, as text or as an address object.
        :param dport: the receiver's port, 0 to 65535.
        :param timeout: seconds until the entry expires.
        :param status: the status bits to set; see :attr:`status`.
        :param mark: the mark of the connection.
        :param zone: the zone of both directions.
        :raises EncodeError: when an address or a port is invalid; this is a :exc:`ValueError`.
        """
        return cls._of(Tuple.udp(src, sport, dst, dport), timeout, status, mark, zone)

    @classmethod
    def icmp(
        cls,
        src: AddressLike,
        dst: AddressLike,
        *,
        id: int,
        timeout: int,
        type: int | None = None,
        code: int = 0,
        status: Status | None = None,
        mark: int | None = None,
        zone: int | None = None,
    ) -> Flow:
        """Return a new ICMP flow, or an ICMPv6 flow for IPv6 addresses: by default an echo request.

        :param src: the sender's address, as text or as an address object.
        :param dst: the receiver's address, as text or as an address object.
        :param id: the identifier of the query and its replies, 0 to 65535.
        :param timeout: seconds until the entry expires.
        :param type: the ICMP type of the query; by default that of an echo request.
        :param code: the ICMP code.
        :param status: the status bits to set; see :attr:`status`.
        :param mark: the mark of the connection.
        :param zone: the zone of both directions.
        :raises EncodeError: when an address is invalid, when the addresses have different families,
            or when the type has no reply; this is a :exc:`ValueError`.
        """
        orig = Tuple.icmp(src, dst, id=id, type=type, code=code)
        return cls._of(orig, timeout, status, mark, zone)

    @classmethod
    def _of(
        cls,
        orig: Tuple,
        timeout: int,
        status: Status | None,
        mark: int | None,
        zone: int | None,
        protoinfo: ProtoInfo | None = None,
    ) -> Flow:
        return cls(
            orig=orig,
            reply=orig.inverse,
            timeout=timeout,
            status=status,
            mark=mark,
            zone=zone,
            protoinfo=protoinfo,
        )

    def __str__(self) -> str:
        return text_if_unread(self) or describe_flow(self)

    def validate(self) -> None:
        """Check that the two directions can belong to one entry.

        :raises EncodeError: when a direction is invalid, or when the directions have different
            families or protocols.
        """
        for name in ("orig", "reply"):
            if not isinstance(getattr(self, name), Tuple):
                raise EncodeError(
                    f"must be a Tuple; got {describe_value(getattr(self, name))}", (name,)
                )
            try:
                getattr(self, name).validate()
                proto_number(getattr(self, name).proto)
            except EncodeError as error:
                raise EncodeError(error.reason, (name, *error.path)) from None
        if self.orig.family != self.reply.family:
            raise EncodeError("its addresses must have the family of those of orig", ("reply",))
        if proto_number(self.orig.proto) != proto_number(self.reply.proto):
            raise EncodeError("must be the protocol of orig", ("reply", "proto"))
