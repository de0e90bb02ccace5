"""Events as the kernel tells them (``ctnetlink_conntrack_event``)."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntFlag
from typing import Final, NamedTuple

from ..netlink import nfnetlink
from ..netlink.attributes import pack, pack_be32
from ..uapi.netlink import NLM_F
from ..uapi.nfnetlink import NFNL_SUBSYS, NFNLGRP
from ..uapi.nfnetlink_conntrack import CTA, IPCTNL_MSG_CT
from . import ages, render
from .ages import Release
from .table import Entry
from .tuples import pack_tuple


class IPCT(IntFlag):
    """``enum ip_conntrack_events``, inside the kernel: what happened to an entry."""

    NEW = 1 << 0
    RELATED = 1 << 1
    DESTROY = 1 << 2
    REPLY = 1 << 3
    ASSURED = 1 << 4
    PROTOINFO = 1 << 5
    HELPER = 1 << 6
    MARK = 1 << 7
    SEQADJ = 1 << 8
    SECMARK = 1 << 9
    LABEL = 1 << 10
    SYNPROXY = 1 << 11


WRITTEN: Final = (
    IPCT.REPLY
    | IPCT.ASSURED
    | IPCT.HELPER
    | IPCT.PROTOINFO
    | IPCT.SEQADJ
    | IPCT.MARK
    | IPCT.SYNPROXY
)
"""What a program's request is said to have changed, whatever it did."""


class Notice(NamedTuple):
    """An event: its message, and the group that hears of it."""

    type: int
    flags: int
    group: int
    payload: bytes


def compose(entry: Entry, events: IPCT, release: Release, now: float, time: int) -> Notice:
    """The event of what happened to an entry, ``now`` by its clock and at that ``time``."""
    message, flags, group = IPCTNL_MSG_CT.NEW, 0, NFNLGRP.CONNTRACK_UPDATE
    if events & IPCT.DESTROY:
        message, group = IPCTNL_MSG_CT.DELETE, NFNLGRP.CONNTRACK_DESTROY
    elif events & (IPCT.NEW | IPCT.RELATED):
        flags, group = int(NLM_F.CREATE | NLM_F.EXCL), NFNLGRP.CONNTRACK_NEW
    parts = [nfnetlink.pack(entry.family), *_attributes(entry, events, release, now)]
    if entry.started is not None and release.has(ages.EVENT_TIMESTAMP):
        parts.append(pack(CTA.TIMESTAMP_EVENT, time.to_bytes(8, "big")))
    kind = nfnetlink.message_type(NFNL_SUBSYS.CTNETLINK, message)
    return Notice(kind, flags, group, b"".join(parts))


def _attributes(entry: Entry, events: IPCT, release: Release, now: float) -> Iterator[bytes]:
    yield from render.tuples(entry, release)
    yield render.identity(entry)
    yield render.status(entry)
    if events & IPCT.DESTROY:
        yield from _ending(entry, release, now)
    else:
        yield render.timeout(entry, now)
        yield from _changes(entry, events, release)
    if entry.mark or events & IPCT.MARK:
        yield pack_be32(CTA.MARK, entry.mark)


def _ending(entry: Entry, release: Release, now: float) -> Iterator[bytes]:
    told = release.has(ages.DESTROY_WITH_STATE)
    if told and render.remaining(entry, now):
        yield render.timeout(entry, now)
    yield from render.counters(entry)
    yield from render.timestamps(entry)
    if told:
        yield from render.protoinfo(entry, destroy=True)


def _changes(entry: Entry, events: IPCT, release: Release) -> Iterator[bytes]:
    """What is not among the events is not told, but for a helper."""
    if events & IPCT.PROTOINFO:
        yield from render.protoinfo(entry)
    yield from render.helper(entry)
    if events & IPCT.LABEL:
        yield from render.labels(entry)
    if events & IPCT.RELATED and entry.master is not None:
        yield pack_tuple(CTA.TUPLE_MASTER, entry.master.orig, release)
    if events & IPCT.SEQADJ:
        yield from render.seqadj(entry)
    if events & IPCT.SYNPROXY:
        yield from render.synproxy(entry)
