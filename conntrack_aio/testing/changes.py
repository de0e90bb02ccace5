"""Making and changing entries (``ctnetlink_create_conntrack``, ``ctnetlink_change_conntrack``).

The parts of a request are applied one after the other. What came before a part that is refused
stays.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from copy import copy
from typing import Final

from ..codec.scalars import from_words
from ..model.enums import Status, TCPFlags
from ..model.flow import Helper, SeqAdj, SynProxy
from ..model.protoinfo import DCCPInfo, SCTPInfo, TCPInfo
from ..model.tuples import Tuple
from ..uapi.nfnetlink_conntrack import (
    CTA,
    CTA_HELP,
    CTA_PROTOINFO,
    CTA_PROTOINFO_DCCP,
    CTA_PROTOINFO_SCTP,
    CTA_PROTOINFO_TCP,
    CTA_SEQADJ,
    CTA_SYNPROXY,
)
from . import ages
from .attributes import NEST, U8, U32, Policy, Refused, Rule, number, parse_nest, text, u32
from .events import IPCT
from .nat import translate
from .protocol import Call
from .state import State
from .table import ORIG, REPLY, Entry
from .tuples import Zone, parse_tuple

_FIXED: Final = Status.EXPECTED | Status.CONFIRMED | Status.DYING
_ONLY_SET: Final = Status.SEEN_REPLY | Status.ASSURED
_SETTABLE: Final = Status((1 << 16) - 1) & ~Status.UNCHANGEABLE_MASK
_WORD: Final = 0xFFFFFFFF

_HELP_POLICY: Final[Policy] = {CTA_HELP.NAME: Rule(text=True, most=15)}
_SEQADJ_POLICY: Final[Policy] = {
    CTA_SEQADJ.CORRECTION_POS: U32,
    CTA_SEQADJ.OFFSET_BEFORE: U32,
    CTA_SEQADJ.OFFSET_AFTER: U32,
}
_SYNPROXY_POLICY: Final[Policy] = {
    CTA_SYNPROXY.ISN: U32,
    CTA_SYNPROXY.ITS: U32,
    CTA_SYNPROXY.TSOFF: U32,
}

Attributes = Mapping[int, bytes]
Change = Callable[[State, Entry, Attributes], None]


# -- a new entry ------------------------------------------------------------------------------


def create(call: Call, orig: Tuple, reply: Tuple, zone: Zone) -> tuple[Entry, IPCT]:
    """Make an entry, and say what happened. Raises :exc:`Refused`; then there is none."""
    state, given = call.state, call.attributes
    if state.is_full():
        raise Refused(errno.ENOMEM)
    if CTA.TIMEOUT not in given:
        raise Refused(errno.EINVAL)
    entry = Entry(orig, reply, zone, call.asked.family)
    if CTA.HELP in given:
        _give_helper(state, entry, given[CTA.HELP])
    translate(state, entry, given.get(CTA.NAT_SRC), given.get(CTA.NAT_DST))
    state.extend(entry)
    entry.seqadj = (_no_seqadj(), _no_seqadj())
    entry.synproxy = SynProxy(isn=0, its=0, tsoff=0)
    entry.status |= Status.CONFIRMED
    state.set_timeout(entry, u32(given[CTA.TIMEOUT]))
    for attribute, change in _ON_CREATE:
        if attribute in given:
            change(state, entry, given)
    if CTA.TUPLE_MASTER in given:
        _set_master(call, entry)
    if state.table.taken(entry.orig, zone) or state.table.taken(entry.reply, zone):
        state.note("insert_failed")
        raise Refused(errno.EEXIST)
    state.insert(entry)
    return entry, _what_happened(state, entry, given)


def _what_happened(state: State, entry: Entry, given: Attributes) -> IPCT:
    """The labels come last, and what is wrong with them is not told."""
    events = IPCT.RELATED if entry.master is not None else IPCT.NEW
    if CTA.LABELS in given:
        try:
            _change_labels(state, entry, given)
            events |= IPCT.LABEL
        except Refused:
            pass
    return events


def _set_master(call: Call, entry: Entry) -> None:
    """It is looked up in the zone of the new entry."""
    state = call.state
    master, _ = parse_tuple(
        call.attributes[CTA.TUPLE_MASTER], call.asked.family, None, ORIG, state.release
    )
    entry.master = state.find(master, entry.zone)
    if entry.master is None:
        raise Refused(errno.ENOENT)
    entry.status |= Status.EXPECTED


def _give_helper(state: State, entry: Entry, data: bytes) -> None:
    name = _helper_name(data)
    if not state.has_helper(name, entry.family, entry.orig.proto):
        raise Refused(errno.EOPNOTSUPP)
    entry.helped, entry.helper = True, Helper(name=name)
    if state.release.has(ages.HELPER_BIT_ON_CREATE):
        entry.status |= Status.HELPER


def _helper_name(data: bytes) -> str:
    nest = parse_nest(data, CTA_HELP.INFO, _HELP_POLICY)
    if CTA_HELP.NAME not in nest:
        raise Refused(errno.EINVAL)
    return text(nest[CTA_HELP.NAME])


# -- an entry that is there -------------------------------------------------------------------


def update(state: State, entry: Entry, given: Attributes) -> None:
    """Change what the request names, in the kernel's order. Raises :exc:`Refused`."""
    if {CTA.NAT_SRC, CTA.NAT_DST, CTA.TUPLE_MASTER} & given.keys():
        raise Refused(errno.EOPNOTSUPP)
    for attribute, change in _ON_UPDATE:
        if attribute in given:
            change(state, entry, given)


def _change_helper(state: State, entry: Entry, given: Attributes) -> None:
    """It can be detached, and nothing else."""
    name = _helper_name(given[CTA.HELP])
    current = None if entry.helper is None else entry.helper.name
    if entry.master is not None:
        if name != current:
            raise Refused(errno.EBUSY)
    elif not name:
        entry.helper = None
    elif not entry.helped or not state.has_helper(name, entry.family, entry.orig.proto):
        raise Refused(errno.EOPNOTSUPP)
    elif name != current:
        raise Refused(errno.EBUSY)


def _change_timeout(state: State, entry: Entry, given: Attributes) -> None:
    if entry.status & Status.FIXED_TIMEOUT and state.release.has(ages.FIXED_TIMEOUT_KEPT):
        raise Refused(errno.EPERM)
    state.set_timeout(entry, u32(given[CTA.TIMEOUT]))


def _change_status(state: State, entry: Entry, given: Attributes) -> None:
    """What may not change must be repeated, and nothing is ever cleared."""
    wanted = Status(u32(given[CTA.STATUS]))
    changed = entry.status ^ wanted
    if changed & _FIXED or changed & _ONLY_SET & ~wanted:
        raise Refused(errno.EBUSY)
    entry.status |= wanted & _SETTABLE


def _change_mark(state: State, entry: Entry, given: Attributes) -> None:
    """``XOR``: bits outside the mask are toggled."""
    kept = 0
    if CTA.MARK_MASK in given and state.release.has(ages.MARK_MASK_ON_UPDATE):
        kept = ~u32(given[CTA.MARK_MASK]) & _WORD
    entry.mark = (entry.mark & kept) ^ u32(given[CTA.MARK])


def _change_labels(state: State, entry: Entry, given: Attributes) -> None:
    """Word by word as the mark; the words that are not given are cleared, mask or no mask."""
    data, mask = given[CTA.LABELS], given.get(CTA.LABELS_MASK)
    if len(data) % 4 or (mask is not None and (not mask or len(mask) != len(data))):
        raise Refused(errno.EINVAL)
    if entry.labels is None:
        raise Refused(errno.ENOSPC)
    size = len(data)
    kept = ~from_words(mask) if mask is not None else 0
    entry.labels = (entry.labels & kept & (1 << 8 * size) - 1) ^ from_words(data)


def _change_seqadj(direction: int, attribute: int) -> Change:
    """That of one direction. An entry that packets made has no place for it: nothing happens."""

    def change(state: State, entry: Entry, given: Attributes) -> None:
        if entry.seqadj is None:
            return
        nest = parse_nest(given[attribute], CTA_SEQADJ.OFFSET_AFTER, _SEQADJ_POLICY)
        side = entry.seqadj[direction]
        # One after the other: what comes before one that is missing stays.
        side.correction_pos = _required_u32(nest, CTA_SEQADJ.CORRECTION_POS)
        side.offset_before = _required_u32(nest, CTA_SEQADJ.OFFSET_BEFORE)
        side.offset_after = _required_u32(nest, CTA_SEQADJ.OFFSET_AFTER)
        entry.status |= Status.SEQ_ADJUST

    return change


def _change_synproxy(state: State, entry: Entry, given: Attributes) -> None:
    if entry.synproxy is None:
        return
    nest = parse_nest(given[CTA.SYNPROXY], CTA_SYNPROXY.TSOFF, _SYNPROXY_POLICY)
    isn, its, tsoff = (_required_u32(nest, part) for part in _SYNPROXY_POLICY)
    entry.synproxy = SynProxy(isn=isn, its=its, tsoff=tsoff)


def _no_seqadj() -> SeqAdj:
    return SeqAdj(correction_pos=0, offset_before=0, offset_after=0)


def _required_u32(nest: Attributes, part: int) -> int:
    if part not in nest:
        raise Refused(errno.EINVAL)
    return u32(nest[part])


# -- the protocol's state ---------------------------------------------------------------------


def _change_protoinfo(state: State, entry: Entry, given: Attributes) -> None:
    """That of another protocol is ignored."""
    policy: dict[int, Rule] = {CTA_PROTOINFO.TCP: NEST, CTA_PROTOINFO.SCTP: NEST}
    if state.release.has(ages.DCCP_TRACKED):
        policy[CTA_PROTOINFO.DCCP] = NEST
    nest = parse_nest(given[CTA.PROTOINFO], CTA_PROTOINFO.SCTP, policy)
    info = entry.protoinfo
    strict = state.release.has(ages.STRICT_RANGES)
    if isinstance(info, TCPInfo) and CTA_PROTOINFO.TCP in nest:
        entry.protoinfo = _tcp(info, nest[CTA_PROTOINFO.TCP], strict)
    elif isinstance(info, SCTPInfo) and CTA_PROTOINFO.SCTP in nest:
        entry.protoinfo = _sctp(nest[CTA_PROTOINFO.SCTP], strict)
    elif isinstance(info, DCCPInfo) and CTA_PROTOINFO.DCCP in nest:
        entry.protoinfo = _dccp(info, nest[CTA_PROTOINFO.DCCP])


def _tcp(info: TCPInfo, data: bytes, strict: bool) -> TCPInfo:
    part = CTA_PROTOINFO_TCP
    state, scale = (Rule(1, highest=9), Rule(1, highest=14)) if strict else (U8, U8)
    nest = parse_nest(
        data,
        part.FLAGS_REPLY,
        {
            part.STATE: state,
            part.WSCALE_ORIGINAL: scale,
            part.WSCALE_REPLY: scale,
            part.FLAGS_ORIGINAL: Rule(2),
            part.FLAGS_REPLY: Rule(2),
        },
    )
    told = info.state
    if part.STATE in nest:
        told = nest[part.STATE][0]
        if told > 9:
            raise Refused(errno.EINVAL)
    flags_orig = _flags(info.flags_orig, nest.get(part.FLAGS_ORIGINAL))
    flags_reply = _flags(info.flags_reply, nest.get(part.FLAGS_REPLY))
    scales = info.wscale_orig, info.wscale_reply
    scaled = flags_orig & flags_reply & TCPFlags.WINDOW_SCALE
    if scaled and part.WSCALE_ORIGINAL in nest and part.WSCALE_REPLY in nest:
        scales = nest[part.WSCALE_ORIGINAL][0], nest[part.WSCALE_REPLY][0]
    return TCPInfo(
        state=told,
        wscale_orig=scales[0],
        wscale_reply=scales[1],
        flags_orig=flags_orig,
        flags_reply=flags_reply,
    )


def _flags(current: TCPFlags | None, data: bytes | None) -> TCPFlags:
    """``struct nf_ct_tcp_flags``: the flags, and which of them are meant."""
    flags = int(current or 0)
    if data is not None:
        flags = (flags & ~data[1]) | (data[0] & data[1])
    return TCPFlags(flags)


def _sctp(data: bytes, strict: bool) -> SCTPInfo:
    part = CTA_PROTOINFO_SCTP
    state = Rule(1, highest=8) if strict else U8
    policy: Policy = {part.STATE: state, part.VTAG_ORIGINAL: U32, part.VTAG_REPLY: U32}
    nest = parse_nest(data, part.VTAG_REPLY, policy)
    if nest.keys() < policy.keys():
        raise Refused(errno.EINVAL)
    return SCTPInfo(
        state=nest[part.STATE][0],
        vtag_orig=u32(nest[part.VTAG_ORIGINAL]),
        vtag_reply=u32(nest[part.VTAG_REPLY]),
    )


def _dccp(info: DCCPInfo, data: bytes) -> DCCPInfo:
    part = CTA_PROTOINFO_DCCP
    policy: Policy = {part.STATE: U8, part.ROLE: U8, part.HANDSHAKE_SEQ: Rule(8)}
    nest = parse_nest(data, part.PAD, policy)
    if part.STATE not in nest or part.ROLE not in nest:
        raise Refused(errno.EINVAL)
    state, role = nest[part.STATE][0], nest[part.ROLE][0]
    if role > 1 or state >= 8:
        raise Refused(errno.EINVAL)
    info = copy(info)
    info.state, info.role = state, role
    if part.HANDSHAKE_SEQ in nest:
        info.handshake_seq = number(nest[part.HANDSHAKE_SEQ][:8])
    return info


_ON_CREATE: Final[tuple[tuple[int, Change], ...]] = (
    (CTA.STATUS, _change_status),
    (CTA.SEQ_ADJ_ORIG, _change_seqadj(ORIG, CTA.SEQ_ADJ_ORIG)),
    (CTA.SEQ_ADJ_REPLY, _change_seqadj(REPLY, CTA.SEQ_ADJ_REPLY)),
    (CTA.PROTOINFO, _change_protoinfo),
    (CTA.SYNPROXY, _change_synproxy),
    (CTA.MARK, _change_mark),
)
_ON_UPDATE: Final[tuple[tuple[int, Change], ...]] = (
    (CTA.HELP, _change_helper),
    (CTA.TIMEOUT, _change_timeout),
    (CTA.STATUS, _change_status),
    (CTA.PROTOINFO, _change_protoinfo),
    (CTA.MARK, _change_mark),
    (CTA.SEQ_ADJ_ORIG, _change_seqadj(ORIG, CTA.SEQ_ADJ_ORIG)),
    (CTA.SEQ_ADJ_REPLY, _change_seqadj(REPLY, CTA.SEQ_ADJ_REPLY)),
    (CTA.SYNPROXY, _change_synproxy),
    (CTA.LABELS, _change_labels),
)
