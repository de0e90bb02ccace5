"""The flow: an entry of the kernel's connection tracking table."""

from __future__ import annotations

from datetime import datetime

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
from .declare import (
    S32,
    U16,
    U32,
    U64,
    Access,
    Bitmap,
    Bytes,
    Nest,
    Text,
    UnknownAttribute,
    at,
    attribute,
    by_path,
    message,
    normalized,
    u32,
    variants,
)
from .enums import Status, TCPState
from .nat import NAT, translate, translation
from .protoinfo import DCCPInfo, ProtoInfo, SCTPInfo, TCPInfo
from .text import describe_flow
from .times import as_datetime
from .tuples import AddressLike, Tuple, is_plain_tuple, proto_number
from .values import describe_value

LABELS = Bitmap(16)
"""128 labels, ``NF_CT_LABELS_MAX_SIZE``."""


@message(hashable=True)
class Counters:
    """Packets and bytes of one direction, since the entry was made or last reset."""

    packets: int | None = attribute(CTA_COUNTERS.PACKETS, U64, default=None, access=Access.READ)
    bytes: int | None = attribute(CTA_COUNTERS.BYTES, U64, default=None, access=Access.READ)
    """Of IP packets, with their headers."""


@message(hashable=True)
class Timestamp:
    """When the entry was made, and when it ended: nanoseconds since 1970, UTC."""

    start: int | None = attribute(CTA_TIMESTAMP.START, U64, default=None, access=Access.READ)
    stop: int | None = attribute(CTA_TIMESTAMP.STOP, U64, default=None, access=Access.READ)
    """Absent until the entry has ended."""

    @property
    def start_time(self) -> datetime | None:
        """:attr:`start` to the microsecond, which is all that a datetime holds."""
        return as_datetime(self.start)

    @property
    def stop_time(self) -> datetime | None:
        """:attr:`stop` to the microsecond."""
        return as_datetime(self.stop)


@message(hashable=True)
class Helper:
    """The connection tracking helper of an entry."""

    name: str | None = attribute(CTA_HELP.NAME, Text(16), default=None)
    """Such as ``ftp``; an empty one, in an update, detaches it."""
    info: bytes | None = attribute(CTA_HELP.INFO, Bytes(32), default=None)
    """A user-space helper's own data."""


@message(hashable=True)
class SeqAdj:
    """By how much the TCP sequence numbers of one direction are shifted."""

    correction_pos: int | None = attribute(CTA_SEQADJ.CORRECTION_POS, U32, default=None)
    """The sequence number at which the shift last changed."""
    offset_before: int | None = attribute(CTA_SEQADJ.OFFSET_BEFORE, S32, default=None)
    """The shift of what is before that position."""
    offset_after: int | None = attribute(CTA_SEQADJ.OFFSET_AFTER, S32, default=None)
    """The shift of what is after it."""


@message(hashable=True)
class SynProxy:
    """What SYNPROXY knows of a connection it stands in for (since Linux 4.17)."""

    isn: int | None = attribute(CTA_SYNPROXY.ISN, U32, default=None)
    """The proxy's initial sequence number."""
    its: int | None = attribute(CTA_SYNPROXY.ITS, U32, default=None)
    """The proxy's initial TCP timestamp."""
    tsoff: int | None = attribute(CTA_SYNPROXY.TSOFF, U32, default=None)
    """How far the server's timestamps are ahead of the proxy's."""


@message
class Flow:
    """An entry of the connection tracking table, as the kernel tells of it.

    ``None`` is "not told", 0 is zero. The kernel always tells the tuples. The rest may be missing:
    an update event has what changed, a destroy event may have only the TCP state, an offloaded
    flow has no timeout, and counters and timestamps exist only where the sysctls
    ``nf_conntrack_acct`` and ``nf_conntrack_timestamp`` were on when the entry was made.

    Flows compare by all their fields; :attr:`key` tells whether two are the same entry.

    On the wire: ``ctattr_type`` (linux/netfilter/nfnetlink_conntrack.h), written by
    ``ctnetlink_fill_info`` and ``ctnetlink_conntrack_event``.
    """

    orig: Tuple = attribute(CTA.TUPLE_ORIG, Nest(Tuple))
    """The direction of the first packet, as it was before any translation."""
    reply: Tuple = attribute(CTA.TUPLE_REPLY, Nest(Tuple))
    """The direction of the answers, as they arrive: with NAT not the inverse of :attr:`orig`."""
    master: Tuple | None = attribute(CTA.TUPLE_MASTER, Nest(Tuple), default=None)
    """The original tuple of the connection that this one was expected by."""
    status: Status | None = attribute(CTA.STATUS, u32(Status), default=None)
    """What the kernel knows of the entry, as bits. A program can set few, and clear none."""
    timeout: int | None = attribute(CTA.TIMEOUT, U32, default=None)
    """Seconds until the entry expires."""
    mark: int | None = attribute(CTA.MARK, U32, default=None)
    """An event of an entry without a mark may leave it out."""
    zone: int | None = attribute(CTA.ZONE, U16, default=None)
    """The zone of both directions; absent in zone 0, and where a tuple has a zone of its own."""
    id: int | None = attribute(CTA.ID, U32, default=None)
    """Opaque: the same as long as the entry lives; other entries have others.

    A hash of the tuple and of the entry's place in memory (``nf_ct_get_id``, since 5.2; before, a
    part of the address itself): an entry that was deleted and made again at once may find itself
    in the same place and have the same id.
    """
    use: int | None = attribute(CTA.USE, U32, default=None, access=Access.READ)
    """The kernel's reference count; never in events. Looking one entry up holds one itself."""
    protoinfo: ProtoInfo | None = variants(
        at((CTA.PROTOINFO, CTA_PROTOINFO.TCP), Nest(TCPInfo)),
        at((CTA.PROTOINFO, CTA_PROTOINFO.DCCP), Nest(DCCPInfo), until="6.16"),
        at((CTA.PROTOINFO, CTA_PROTOINFO.SCTP), Nest(SCTPInfo)),
        default=None,
    )
    """The state of the connection's own protocol. Other protocols have none."""
    counters_orig: Counters | None = attribute(
        CTA.COUNTERS_ORIG, Nest(Counters), default=None, access=Access.READ
    )
    """In dumps, answers to ``get`` and destroy events; not in new and update events."""
    counters_reply: Counters | None = attribute(
        CTA.COUNTERS_REPLY, Nest(Counters), default=None, access=Access.READ
    )
    """Where :attr:`counters_orig` is."""
    timestamp: Timestamp | None = attribute(
        CTA.TIMESTAMP, Nest(Timestamp), default=None, access=Access.READ
    )
    """In dumps, answers to ``get`` and destroy events; not in new and update events."""
    helper: Helper | None = attribute(CTA.HELP, Nest(Helper), default=None)
    """Not in destroy events."""
    labels: int | None = attribute(CTA.LABELS, LABELS, default=None)
    """128 bits: ``labels >> n & 1`` is label n; :class:`LabelNames` has their names. Absent where
    no label is set."""
    seqadj_orig: SeqAdj | None = attribute(CTA.SEQ_ADJ_ORIG, Nest(SeqAdj), default=None)
    """Where a helper has changed the length of what TCP carries."""
    seqadj_reply: SeqAdj | None = attribute(CTA.SEQ_ADJ_REPLY, Nest(SeqAdj), default=None)
    """Where :attr:`seqadj_orig` is."""
    synproxy: SynProxy | None = attribute(CTA.SYNPROXY, Nest(SynProxy), default=None)
    """Every entry made through ctnetlink has one, all zero."""
    secctx: str | None = attribute(
        (CTA.SECCTX, CTA_SECCTX.NAME), Text(4096), default=None, access=Access.READ
    )
    """The security context that a Linux security module has for the connection."""
    unknown: tuple[UnknownAttribute, ...] = attrs.field(default=(), eq=by_path)
    """What the kernel sent that this version does not know."""

    @property
    def key(self) -> tuple[Tuple, int | None, int | None]:
        """Original tuple, zone and id: hashable, and as unique as :attr:`id` is."""
        return self.orig, self.zone, self.id

    @property
    def nat(self) -> NAT | None:
        """What is translated to what, or ``None`` if nothing is.

        Told from the tuples. Where the status is known, an end counts only if the kernel marked it
        as translated (SRC_NAT, DST_NAT): an entry that a program made with tuples that differ and
        without those bits changes no packet.
        """
        return translation(self.orig, self.reply, self.status)

    def translate(self, packet: Tuple) -> Tuple | None:
        """A packet of this connection as it looks on the other side of the translation.

        The packet is told by its addresses and ports, in a tuple whose zone does not count. It may
        be of either direction and be seen on either side: one that arrives is told as it leaves,
        and one that leaves as it arrived. Where nothing is translated, that is the same. ``None``
        if the packet is not of this connection.

        :raises TypeError: for what is no :class:`Tuple`.
        """
        if not issubclass(type(packet), Tuple):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a packet is a Tuple, not {describe_value(packet)}")
        if not is_plain_tuple(packet):
            packet = normalized(packet)
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
        """A new TCP flow, its reply the inverse of its original direction; ``timeout`` seconds.

        Raises :exc:`EncodeError`, which is a :exc:`ValueError`, for an address or a port that
        can't be.
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
        """A new UDP flow, its reply the inverse of its original direction; ``timeout`` seconds.

        Raises :exc:`EncodeError`, which is a :exc:`ValueError`, for an address or a port that
        can't be.
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
        """A new ICMP or ICMPv6 flow (by its addresses), an echo request by default.

        Raises :exc:`EncodeError`, which is a :exc:`ValueError`, for an address that can't be,
        for two of different families, and for a type without an answer.
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
        return describe_flow(self)

    def validate(self) -> None:
        """Raises :exc:`EncodeError` if the two directions can't belong to one entry."""
        for name in ("orig", "reply"):
            if not isinstance(getattr(self, name), Tuple):
                raise EncodeError(f"{describe_value(getattr(self, name))} is not a Tuple", (name,))
            try:
                getattr(self, name).validate()
                proto_number(getattr(self, name).proto)
            except EncodeError as error:
                raise EncodeError(error.reason, (name, *error.path)) from None
        if self.orig.family != self.reply.family:
            raise EncodeError(
                "its addresses are not of the original direction's family", ("reply",)
            )
        if proto_number(self.orig.proto) != proto_number(self.reply.proto):
            raise EncodeError("its protocol is not the original direction's", ("reply", "proto"))
