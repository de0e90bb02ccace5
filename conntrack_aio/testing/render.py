"""Encode the attributes of entries as the kernel does (``ctnetlink_fill_info``).

- The attributes are in the kernel's order.
- The encoders are written by hand and do not use the codec, so that tests find errors in the codec.
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
from . import releases
from .releases import Release
from .table import ORIG, REPLY, Entry
from .tuples import pack_tuple

_COUNTERS: Final = ((ORIG, CTA.COUNTERS_ORIG), (REPLY, CTA.COUNTERS_REPLY))


def tuples(entry: Entry, release: Release) -> Iterator[bytes]:
    """Yield the tuples and the zone, with which every message about an entry begins."""
    zone = entry.zone
    both = len(zone.directions) == 2
    for direction, number in ((ORIG, CTA.TUPLE_ORIG), (REPLY, CTA.TUPLE_REPLY)):
        tuple_zone = 0 if both else zone.in_direction(direction)
        yield pack_tuple(number, entry.tuple_at(direction), release, tuple_zone)
    if both and zone.id:
        yield pack(CTA.ZONE, zone.id.to_bytes(2, "big"))


def entry_attributes(
    entry: Entry, release: Release, now: float, use: int, *, reset_counters: bool
) -> Iterator[bytes]:
    """Yield the attributes of an entry in a dump or a reply.

    :param entry: the entry.
    :param release: the kernel's release.
    :param now: the kernel's clock, in seconds.
    :param use: the reference count of the entry.
    :param reset_counters: reset the counters when this generator yields them. The kernel resets
        them before it knows whether the message fits, and loses the counters of entries that do
        not fit.
    """
    yield from tuples(entry, release)
    yield status(entry)
    yield pack_be32(CTA.MARK, entry.mark)
    yield entry_id(entry)
    yield pack_be32(CTA.USE, use)
    if entry.master is not None:
        yield pack_tuple(CTA.TUPLE_MASTER, entry.master.orig, release)
    offloaded = entry.status & Status.OFFLOAD and release.has(releases.OFFLOADED_WITHOUT_STATE)
    if not offloaded:
        yield timeout(entry, now)
        yield from protoinfo(entry)
    yield from counters(entry, reset_counters=reset_counters)
    yield from timestamps(entry)
    yield from helper(entry)
    yield from labels(entry)
    yield from seqadj(entry)
    yield from synproxy(entry)
    for attribute in entry.unknown:
        yield pack(attribute.path[-1], attribute.payload, nested=attribute.nested)


def status(entry: Entry) -> bytes:
    """Return ``CTA_STATUS``."""
    return pack_be32(CTA.STATUS, entry.status)


def entry_id(entry: Entry) -> bytes:
    """Return ``CTA_ID``."""
    return pack_be32(CTA.ID, entry.id)


def remaining(entry: Entry, now: float) -> int:
    """Return the whole seconds until the entry expires."""
    return max(0, int(entry.expires - now))


def timeout(entry: Entry, now: float) -> bytes:
    """Return ``CTA_TIMEOUT``, in seconds."""
    return pack_be32(CTA.TIMEOUT, remaining(entry, now))


def counters(entry: Entry, *, reset_counters: bool = False) -> Iterator[bytes]:
    """Yield the counters of both directions if the entry has them."""
    if entry.counters is None:
        return
    for direction, number in _COUNTERS:
        count = entry.counters[direction]
        packets, octets = count.packets, count.bytes
        if reset_counters:
            count.packets = count.bytes = 0
        yield pack_nest(
            number,
            pack(CTA_COUNTERS.PACKETS, packets.to_bytes(8, "big")),
            pack(CTA_COUNTERS.BYTES, octets.to_bytes(8, "big")),
        )


def timestamps(entry: Entry) -> Iterator[bytes]:
    """Yield ``CTA_TIMESTAMP``, in nanoseconds since 1970, if the entry has it."""
    if entry.start_time is None:
        return
    parts = [pack(CTA_TIMESTAMP.START, entry.start_time.to_bytes(8, "big"))]
    if entry.stop_time is not None:
        parts.append(pack(CTA_TIMESTAMP.STOP, entry.stop_time.to_bytes(8, "big")))
    yield pack_nest(CTA.TIMESTAMP, *parts)


def helper(entry: Entry) -> Iterator[bytes]:
    """Yield ``CTA_HELP`` if the entry has a helper."""
    if entry.helper is None or entry.helper.name is None:
        return
    parts = [pack_text(CTA_HELP.NAME, entry.helper.name)]
    if entry.helper.info is not None:
        parts.append(pack(CTA_HELP.INFO, entry.helper.info))
    yield pack_nest(CTA.HELP, *parts)


def labels(entry: Entry) -> Iterator[bytes]:
    """Yield ``CTA_LABELS`` if any label is set."""
    if entry.labels:
        yield pack(CTA.LABELS, to_words(entry.labels, 16))


def seqadj(entry: Entry) -> Iterator[bytes]:
    """Yield the sequence adjustments of both directions if the entry has any."""
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
    """Yield ``CTA_SYNPROXY`` if the entry has it."""
    if entry.synproxy is None:
        return
    yield pack_nest(
        CTA.SYNPROXY,
        pack_be32(CTA_SYNPROXY.ISN, entry.synproxy.isn or 0),
        pack_be32(CTA_SYNPROXY.ITS, entry.synproxy.its or 0),
        pack_be32(CTA_SYNPROXY.TSOFF, entry.synproxy.tsoff or 0),
    )


def protoinfo(entry: Entry, *, destroy: bool = False) -> Iterator[bytes]:
    """Yield ``CTA_PROTOINFO`` if the protocol has state.

    In a destroy event the kernel reports the state, and none of the other fields.
    """
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
    """Return the TCP attributes other than the state; the kernel sends flags with mask 0."""
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
