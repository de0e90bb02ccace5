"""Entries as the kernel tells of them (``ctnetlink_fill_info``), attribute by attribute.

Written by hand and not by the codec, so that a fault there can't hide itself. The order is the
kernel's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..codec.scalars import to_words
from ..model.enums import Status
from ..model.flow import SeqAdj
from ..model.protoinfo import DCCPInfo, SCTPInfo, TCPInfo
from ..netlink.attributes import pack, pack_be32, pack_nest, pack_text
from ..uapi.nfnetlink_conntrack import (
    CTA,
    CTA_COUNTERS,
    CTA_HELP,
    CTA_PROTOINFO,
    CTA_PROTOINFO_DCCP,
    CTA_PROTOINFO_SCTP,
    CTA_PROTOINFO_TCP,
    CTA_SEQADJ,
    CTA_SYNPROXY,
    CTA_TIMESTAMP,
)
from . import ages
from .ages import Release
from .table import ORIG, REPLY, Entry
from .tuples import pack_tuple

_SIDES: Final = ((ORIG, CTA.COUNTERS_ORIG), (REPLY, CTA.COUNTERS_REPLY))


def tuples(entry: Entry, release: Release) -> Iterator[bytes]:
    """What every message about an entry begins with."""
    zone = entry.zone
    both = len(zone.directions) == 2
    for direction, number in ((ORIG, CTA.TUPLE_ORIG), (REPLY, CTA.TUPLE_REPLY)):
        own = 0 if both else zone.at(direction)
        yield pack_tuple(number, entry.tuple_at(direction), release, own)
    if both and zone.id:
        yield pack(CTA.ZONE, zone.id.to_bytes(2, "big"))


def information(
    entry: Entry, release: Release, now: float, use: int, *, zero: bool
) -> Iterator[bytes]:
    """An entry in a dump or an answer.

    With ``zero`` the counters are reset when they are come to, whether the message is finished or
    not: that is how the kernel loses some.
    """
    yield from tuples(entry, release)
    yield status(entry)
    yield pack_be32(CTA.MARK, entry.mark)
    yield identity(entry)
    yield pack_be32(CTA.USE, use)
    if entry.master is not None:
        yield pack_tuple(CTA.TUPLE_MASTER, entry.master.orig, release)
    offloaded = entry.status & Status.OFFLOAD and release.has(ages.OFFLOADED_WITHOUT_STATE)
    if not offloaded:
        yield timeout(entry, now)
        yield from protoinfo(entry)
    yield from counters(entry, zero=zero)
    yield from timestamps(entry)
    yield from helper(entry)
    yield from labels(entry)
    yield from seqadj(entry)
    yield from synproxy(entry)
    for kept in entry.unknown:
        yield pack(kept.path[-1], kept.payload, nested=kept.nested)


def status(entry: Entry) -> bytes:
    return pack_be32(CTA.STATUS, entry.status)


def identity(entry: Entry) -> bytes:
    return pack_be32(CTA.ID, entry.id)


def remaining(entry: Entry, now: float) -> int:
    """Whole seconds until it ends."""
    return max(0, int(entry.expires - now))


def timeout(entry: Entry, now: float) -> bytes:
    return pack_be32(CTA.TIMEOUT, remaining(entry, now))


def counters(entry: Entry, *, zero: bool = False) -> Iterator[bytes]:
    if entry.counters is None:
        return
    for direction, number in _SIDES:
        count = entry.counters[direction]
        packets, octets = count.packets, count.bytes
        if zero:
            count.packets = count.bytes = 0
        yield pack_nest(
            number,
            pack(CTA_COUNTERS.PACKETS, packets.to_bytes(8, "big")),
            pack(CTA_COUNTERS.BYTES, octets.to_bytes(8, "big")),
        )


def timestamps(entry: Entry) -> Iterator[bytes]:
    if entry.started is None:
        return
    parts = [pack(CTA_TIMESTAMP.START, entry.started.to_bytes(8, "big"))]
    if entry.stopped is not None:
        parts.append(pack(CTA_TIMESTAMP.STOP, entry.stopped.to_bytes(8, "big")))
    yield pack_nest(CTA.TIMESTAMP, *parts)


def helper(entry: Entry) -> Iterator[bytes]:
    if entry.helper is None or entry.helper.name is None:
        return
    parts = [pack_text(CTA_HELP.NAME, entry.helper.name)]
    if entry.helper.info is not None:
        parts.append(pack(CTA_HELP.INFO, entry.helper.info))
    yield pack_nest(CTA.HELP, *parts)


def labels(entry: Entry) -> Iterator[bytes]:
    if entry.labels:
        yield pack(CTA.LABELS, to_words(entry.labels, 16))


def seqadj(entry: Entry) -> Iterator[bytes]:
    if entry.seqadj is None or not entry.status & Status.SEQ_ADJUST:
        return
    yield _seqadj(CTA.SEQ_ADJ_ORIG, entry.seqadj[ORIG])
    yield _seqadj(CTA.SEQ_ADJ_REPLY, entry.seqadj[REPLY])


def _seqadj(number: int, value: SeqAdj) -> bytes:
    return pack_nest(
        number,
        pack_be32(CTA_SEQADJ.CORRECTION_POS, value.correction_pos or 0),
        pack_be32(CTA_SEQADJ.OFFSET_BEFORE, (value.offset_before or 0) & 0xFFFFFFFF),
        pack_be32(CTA_SEQADJ.OFFSET_AFTER, (value.offset_after or 0) & 0xFFFFFFFF),
    )


def synproxy(entry: Entry) -> Iterator[bytes]:
    if entry.synproxy is None:
        return
    yield pack_nest(
        CTA.SYNPROXY,
        pack_be32(CTA_SYNPROXY.ISN, entry.synproxy.isn or 0),
        pack_be32(CTA_SYNPROXY.ITS, entry.synproxy.its or 0),
        pack_be32(CTA_SYNPROXY.TSOFF, entry.synproxy.tsoff or 0),
    )


def protoinfo(entry: Entry, *, destroy: bool = False) -> Iterator[bytes]:
    """The protocol's state; a destroy event has nothing else of it."""
    info = entry.protoinfo
    if info is None:
        return
    if isinstance(info, TCPInfo):
        number, parts = int(CTA_PROTOINFO.TCP), [_byte(CTA_PROTOINFO_TCP.STATE, info.state)]
        if not destroy:
            parts += _tcp(info)
    elif isinstance(info, SCTPInfo):
        number, parts = int(CTA_PROTOINFO.SCTP), [_byte(CTA_PROTOINFO_SCTP.STATE, info.state)]
        if not destroy:
            parts += [
                pack_be32(CTA_PROTOINFO_SCTP.VTAG_ORIGINAL, info.vtag_orig or 0),
                pack_be32(CTA_PROTOINFO_SCTP.VTAG_REPLY, info.vtag_reply or 0),
            ]
    else:
        number, parts = int(CTA_PROTOINFO.DCCP), [_byte(CTA_PROTOINFO_DCCP.STATE, info.state)]
        if not destroy:
            parts += _dccp(info)
    yield pack_nest(CTA.PROTOINFO, pack_nest(number, *parts))


def _byte(number: int, value: int | None) -> bytes:
    return pack(number, bytes([value or 0]))


def _tcp(info: TCPInfo) -> list[bytes]:
    """The flags' masks are 0 in what the kernel sends."""
    return [
        _byte(CTA_PROTOINFO_TCP.WSCALE_ORIGINAL, info.wscale_orig),
        _byte(CTA_PROTOINFO_TCP.WSCALE_REPLY, info.wscale_reply),
        pack(CTA_PROTOINFO_TCP.FLAGS_ORIGINAL, bytes([info.flags_orig or 0, 0])),
        pack(CTA_PROTOINFO_TCP.FLAGS_REPLY, bytes([info.flags_reply or 0, 0])),
    ]


def _dccp(info: DCCPInfo) -> list[bytes]:
    return [
        _byte(CTA_PROTOINFO_DCCP.ROLE, info.role),
        pack(CTA_PROTOINFO_DCCP.HANDSHAKE_SEQ, (info.handshake_seq or 0).to_bytes(8, "big")),
    ]
