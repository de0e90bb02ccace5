"""Build the messages of events as the kernel does (``ctnetlink_conntrack_event``)."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntFlag
from typing import Final, NamedTuple

from ..netlink import nfnetlink
from ..netlink.attributes import pack, pack_be32
from ..uapi.netlink import NLM_F
from ..uapi.nfnetlink import NFNL_SUBSYS, NFNLGRP
from ..uapi.nfnetlink_conntrack import CTA, IPCTNL_MSG_CT
from . import releases, render
from .releases import Release
from .table import Entry
from .tuples import pack_tuple


class IPCT(IntFlag):
    """What happened to an entry, as the kernel's event bits (``enum ip_conntrack_events``)."""

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


REQUEST_EVENTS: Final = (
    IPCT.REPLY
    | IPCT.ASSURED
    | IPCT.HELPER
    | IPCT.PROTOINFO
    | IPCT.SEQADJ
    | IPCT.MARK
    | IPCT.SYNPROXY
)
"""The events that the kernel reports for a program's request, whatever it changed."""


class EventMessage(NamedTuple):
    """The message of an event, and the multicast group that the kernel sends it to."""

    type: int
    flags: int
    group: int
    payload: bytes
    """The bytes after the netlink header."""


def build_event(
    entry: Entry, events: IPCT, release: Release, now: float, time: int
) -> EventMessage:
    """Build the event message of an entry.

    :param entry: the entry.
    :param events: what happened to it.
    :param release: the kernel's release.
    :param now: the kernel's clock, in seconds.
    :param time: the wall clock, in nanoseconds since 1970.
    """
    message, flags, group = IPCTNL_MSG_CT.NEW, 0, NFNLGRP.CONNTRACK_UPDATE
    if events & IPCT.DESTROY:
        message, group = IPCTNL_MSG_CT.DELETE, NFNLGRP.CONNTRACK_DESTROY
    elif events & (IPCT.NEW | IPCT.RELATED):
        flags, group = int(NLM_F.CREATE | NLM_F.EXCL), NFNLGRP.CONNTRACK_NEW
    parts = [nfnetlink.pack(entry.family), *_attributes(entry, events, release, now)]
    if entry.start_time is not None and release.has(releases.EVENT_TIMESTAMP):
        parts.append(pack(CTA.TIMESTAMP_EVENT, time.to_bytes(8, "big")))
    type_ = nfnetlink.message_type(NFNL_SUBSYS.CTNETLINK, message)
    return EventMessage(type_, flags, group, b"".join(parts))


def _attributes(entry: Entry, events: IPCT, release: Release, now: float) -> Iterator[bytes]:
    yield from render.tuples(entry, release)
    yield render.entry_id(entry)
    yield render.status(entry)
    if events & IPCT.DESTROY:
        yield from _destroy_attributes(entry, release, now)
    else:
        yield render.timeout(entry, now)
        yield from _changed_attributes(entry, events, release)
    if entry.mark or events & IPCT.MARK:
        yield pack_be32(CTA.MARK, entry.mark)


def _destroy_attributes(entry: Entry, release: Release, now: float) -> Iterator[bytes]:
    with_state = release.has(releases.DESTROY_WITH_STATE)
    if with_state and render.remaining(entry, now):
        yield render.timeout(entry, now)
    yield from render.counters(entry)
    yield from render.timestamps(entry)
    if with_state:
        yield from render.protoinfo(entry, destroy=True)


def _changed_attributes(entry: Entry, events: IPCT, release: Release) -> Iterator[bytes]:
    """Yield the attributes that belong to the events; the helper is always reported."""
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
