"""Create and update entries (``ctnetlink_create_conntrack``, ``ctnetlink_change_conntrack``).

- The kernel applies the attributes of an update one after the other, in an order of its own.
- When it refuses one of them, those before it stay applied.
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
from . import releases
from .attributes import NEST, U8, U32, AttributeRule, Policy, Refused, number, parse_nest, text, u32
from .events import IPCT
from .nat import translate
from .protocol import Call
from .state import State
from .table import ORIG, REPLY, Entry
from .tuples import Zone, parse_tuple

_FIXED: Final = Status.EXPECTED | Status.CONFIRMED | Status.DYING
"""Status bits that a request must repeat as they are."""
_ONLY_SET: Final = Status.SEEN_REPLY | Status.ASSURED
"""Status bits that a request can set but must not clear."""
_SETTABLE: Final = Status((1 << 16) - 1) & ~Status.UNCHANGEABLE_MASK
"""Status bits that a request can set. The kernel ignores the others."""
_U32: Final = 0xFFFFFFFF

_HELP_POLICY: Final[Policy] = {CTA_HELP.NAME: AttributeRule(text=True, max_length=15)}
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
    """Create an entry; return it with the events that the kernel reports for it.

    :raises Refused: when the kernel refuses the request. The table is unchanged then.
    """
    state, attributes = call.state, call.attributes
    if state.is_full():
        raise Refused(errno.ENOMEM)
    if CTA.TIMEOUT not in attributes:
        raise Refused(errno.EINVAL)
    entry = Entry(orig, reply, zone, call.request.family)
    if CTA.HELP in attributes:
        _set_helper(state, entry, attributes[CTA.HELP])
    translate(state, entry, attributes.get(CTA.NAT_SRC), attributes.get(CTA.NAT_DST))
    state.add_extensions(entry)
    entry.seqadj = (_no_seqadj(), _no_seqadj())
    entry.synproxy = SynProxy(isn=0, its=0, tsoff=0)
    entry.status |= Status.CONFIRMED
    state.set_timeout(entry, u32(attributes[CTA.TIMEOUT]))
    for attribute, change in _ON_CREATE:
        if attribute in attributes:
            change(state, entry, attributes)
    if CTA.TUPLE_MASTER in attributes:
        _set_master(call, entry)
    if state.table.is_taken(entry.orig, zone) or state.table.is_taken(entry.reply, zone):
        state.count_statistic("insert_failed")
        raise Refused(errno.EEXIST)
    state.insert(entry)
    return entry, _creation_events(state, entry, attributes)


def _creation_events(state: State, entry: Entry, attributes: Attributes) -> IPCT:
    """Set the labels of a new entry, and return its events.

    The kernel sets the labels last and ignores errors in them.
    """
    events = IPCT.RELATED if entry.master is not None else IPCT.NEW
    if CTA.LABELS in attributes:
        try:
            _change_labels(state, entry, attributes)
            events |= IPCT.LABEL
        except Refused:
            pass
    return events


def _set_master(call: Call, entry: Entry) -> None:
    """Set the master connection, which the kernel looks up in the zone of the new entry."""
    state = call.state
    master, _ = parse_tuple(
        call.attributes[CTA.TUPLE_MASTER], call.request.family, None, ORIG, state.release
    )
    entry.master = state.find(master, entry.zone)
    if entry.master is None:
        raise Refused(errno.ENOENT)
    entry.status |= Status.EXPECTED


def _set_helper(state: State, entry: Entry, data: bytes) -> None:
    """Give a new entry its helper."""
    name = _helper_name(data)
    if not state.has_helper(name, entry.family, entry.orig.proto):
        raise Refused(errno.EOPNOTSUPP)
    entry.has_helper_extension, entry.helper = True, Helper(name=name)
    if state.release.has(releases.HELPER_BIT_ON_CREATE):
        entry.status |= Status.HELPER


def _helper_name(data: bytes) -> str:
    nest = parse_nest(data, CTA_HELP.INFO, _HELP_POLICY)
    if CTA_HELP.NAME not in nest:
        raise Refused(errno.EINVAL)
    return text(nest[CTA_HELP.NAME])


# -- an existing entry ------------------------------------------------------------------------


def update(state: State, entry: Entry, attributes: Attributes) -> None:
    """Update an entry, in the kernel's order.

    :raises Refused: when the kernel refuses an attribute. Those before it stay applied.
    """
    if {CTA.NAT_SRC, CTA.NAT_DST, CTA.TUPLE_MASTER} & attributes.keys():
        raise Refused(errno.EOPNOTSUPP)
    for attribute, change in _ON_UPDATE:
        if attribute in attributes:
            change(state, entry, attributes)


def _change_helper(state: State, entry: Entry, attributes: Attributes) -> None:
    """Detach the helper, which is the only change that the kernel accepts."""
    name = _helper_name(attributes[CTA.HELP])
    current = None if entry.helper is None else entry.helper.name
    if entry.master is not None:
        if name != current:
            raise Refused(errno.EBUSY)
    elif not name:
        entry.helper = None
    elif not entry.has_helper_extension or not state.has_helper(
        name, entry.family, entry.orig.proto
    ):
        raise Refused(errno.EOPNOTSUPP)
    elif name != current:
        raise Refused(errno.EBUSY)


def _change_timeout(state: State, entry: Entry, attributes: Attributes) -> None:
    if entry.status & Status.FIXED_TIMEOUT and state.release.has(releases.FIXED_TIMEOUT_KEPT):
        raise Refused(errno.EPERM)
    state.set_timeout(entry, u32(attributes[CTA.TIMEOUT]))


def _change_status(state: State, entry: Entry, attributes: Attributes) -> None:
    """Set status bits; the kernel never clears any.

    An unchangeable bit must be repeated as it is (``ctnetlink_change_status``).
    """
    requested = Status(u32(attributes[CTA.STATUS]))
    changed = entry.status ^ requested
    if changed & _FIXED or changed & _ONLY_SET & ~requested:
        raise Refused(errno.EBUSY)
    entry.status |= requested & _SETTABLE


def _change_mark(state: State, entry: Entry, attributes: Attributes) -> None:
    """Set the mark under its mask.

    The kernel combines old and new mark with XOR, so it toggles the mark's bits outside the mask
    (``ctnetlink_change_mark``).
    """
    unmasked = 0
    if CTA.MARK_MASK in attributes and state.release.has(releases.MARK_MASK_ON_UPDATE):
        unmasked = ~u32(attributes[CTA.MARK_MASK]) & _U32
    entry.mark = (entry.mark & unmasked) ^ u32(attributes[CTA.MARK])


def _change_labels(state: State, entry: Entry, attributes: Attributes) -> None:
    """Set the labels under their mask, with the same XOR as for the mark.

    The kernel clears the 32-bit words that the request does not have, whatever the mask
    (``nf_connlabels_replace``).
    """
    data, mask = attributes[CTA.LABELS], attributes.get(CTA.LABELS_MASK)
    if len(data) % 4 or (mask is not None and (not mask or len(mask) != len(data))):
        raise Refused(errno.EINVAL)
    if entry.labels is None:
        raise Refused(errno.ENOSPC)
    size = len(data)
    unmasked = ~from_words(mask) if mask is not None else 0
    entry.labels = (entry.labels & unmasked & (1 << 8 * size) - 1) ^ from_words(data)


def _change_seqadj(direction: int, attribute: int) -> Change:
    """Return the function that sets the sequence adjustment of one direction.

    An entry that packets created lacks the extension for it; the kernel then does nothing.
    """

    def change(state: State, entry: Entry, attributes: Attributes) -> None:
        if entry.seqadj is None:
            return
        nest = parse_nest(attributes[attribute], CTA_SEQADJ.OFFSET_AFTER, _SEQADJ_POLICY)
        adjustment = entry.seqadj[direction]
        # The kernel stores each field before it looks for the next one, so the fields before a
        # missing one stay changed (change_seq_adj).
        adjustment.correction_pos = _required_u32(nest, CTA_SEQADJ.CORRECTION_POS)
        adjustment.offset_before = _required_u32(nest, CTA_SEQADJ.OFFSET_BEFORE)
        adjustment.offset_after = _required_u32(nest, CTA_SEQADJ.OFFSET_AFTER)
        entry.status |= Status.SEQ_ADJUST

    return change


def _change_synproxy(state: State, entry: Entry, attributes: Attributes) -> None:
    if entry.synproxy is None:
        return
    nest = parse_nest(attributes[CTA.SYNPROXY], CTA_SYNPROXY.TSOFF, _SYNPROXY_POLICY)
    isn, its, tsoff = (_required_u32(nest, part) for part in _SYNPROXY_POLICY)
    entry.synproxy = SynProxy(isn=isn, its=its, tsoff=tsoff)


def _no_seqadj() -> SeqAdj:
    return SeqAdj(correction_pos=0, offset_before=0, offset_after=0)


def _required_u32(nest: Attributes, part: int) -> int:
    if part not in nest:
        raise Refused(errno.EINVAL)
    return u32(nest[part])


# -- the protocol state -----------------------------------------------------------------------


def _change_protoinfo(state: State, entry: Entry, attributes: Attributes) -> None:
    """Set the protocol state; the kernel ignores the nest of another protocol."""
    policy: dict[int, AttributeRule] = {CTA_PROTOINFO.TCP: NEST, CTA_PROTOINFO.SCTP: NEST}
    if state.release.has(releases.DCCP_TRACKED):
        policy[CTA_PROTOINFO.DCCP] = NEST
    nest = parse_nest(attributes[CTA.PROTOINFO], CTA_PROTOINFO.SCTP, policy)
    info = entry.protoinfo
    strict = state.release.has(releases.STRICT_RANGES)
    if isinstance(info, TCPInfo) and CTA_PROTOINFO.TCP in nest:
        entry.protoinfo = _tcp(info, nest[CTA_PROTOINFO.TCP], strict)
    elif isinstance(info, SCTPInfo) and CTA_PROTOINFO.SCTP in nest:
        entry.protoinfo = _sctp(nest[CTA_PROTOINFO.SCTP], strict)
    elif isinstance(info, DCCPInfo) and CTA_PROTOINFO.DCCP in nest:
        entry.protoinfo = _dccp(info, nest[CTA_PROTOINFO.DCCP])


def _tcp(info: TCPInfo, data: bytes, strict: bool) -> TCPInfo:
    part = CTA_PROTOINFO_TCP
    state, scale = (
        (AttributeRule(1, max_value=9), AttributeRule(1, max_value=14)) if strict else (U8, U8)
    )
    nest = parse_nest(
        data,
        part.FLAGS_REPLY,
        {
            part.STATE: state,
            part.WSCALE_ORIGINAL: scale,
            part.WSCALE_REPLY: scale,
            part.FLAGS_ORIGINAL: AttributeRule(2),
            part.FLAGS_REPLY: AttributeRule(2),
        },
    )
    tcp_state = info.state
    if part.STATE in nest:
        tcp_state = nest[part.STATE][0]
        if tcp_state > 9:
            raise Refused(errno.EINVAL)
    flags_orig = _flags(info.flags_orig, nest.get(part.FLAGS_ORIGINAL))
    flags_reply = _flags(info.flags_reply, nest.get(part.FLAGS_REPLY))
    scales = info.wscale_orig, info.wscale_reply
    scaled = flags_orig & flags_reply & TCPFlags.WINDOW_SCALE
    if scaled and part.WSCALE_ORIGINAL in nest and part.WSCALE_REPLY in nest:
        scales = nest[part.WSCALE_ORIGINAL][0], nest[part.WSCALE_REPLY][0]
    return TCPInfo(
        state=tcp_state,
        wscale_orig=scales[0],
        wscale_reply=scales[1],
        flags_orig=flags_orig,
        flags_reply=flags_reply,
    )


def _flags(current: TCPFlags | None, data: bytes | None) -> TCPFlags:
    """Apply a ``struct nf_ct_tcp_flags``: a byte of flags and a byte that masks them."""
    flags = int(current or 0)
    if data is not None:
        flags = (flags & ~data[1]) | (data[0] & data[1])
    return TCPFlags(flags)


def _sctp(data: bytes, strict: bool) -> SCTPInfo:
    part = CTA_PROTOINFO_SCTP
    state = AttributeRule(1, max_value=8) if strict else U8
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
    policy: Policy = {part.STATE: U8, part.ROLE: U8, part.HANDSHAKE_SEQ: AttributeRule(8)}
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
