"""Requests about flows: subsystem ``NFNL_SUBSYS_CTNETLINK``.

Rules of the kernel that this module deals with (``ctnetlink_del_conntrack``,
``ctnetlink_change_status``, ``__nf_conntrack_update``):

- A delete without a tuple is a flush.
- A status must repeat the bits that must not change.
- A mark with bits outside its mask toggles bits of the entry's mark.
- Labels that are shorter than the kernel's bitmap clear the rest of it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Hashable, Mapping
from copy import copy
from functools import partial
from socket import AF_UNSPEC
from types import MappingProxyType
from typing import Final, cast

from ...errors import EncodeError, UnsafeRequest
from ...model.enums import Status, TCPFlags, TCPState
from ...model.flow import Flow, SeqAdj
from ...model.nat import NATRange
from ...model.protocols import PROTOCOL_NAMES, TCP
from ...model.protoinfo import PROTOINFO_TYPES, SCTPInfo, TCPInfo
from ...model.requests import RequestOnly, Selection
from ...model.tuples import IPAddress, Tuple
from ...model.values import describe_value, number_within, plain_number
from ...netlink.exchange import Request
from ...netlink.messages import HEADER_SIZE
from ...netlink.nfnetlink import message_type
from ...uapi.netlink import NLM_F
from ...uapi.nfnetlink import NFNL_SUBSYS
from ...uapi.nfnetlink_conntrack import IPCTNL_MSG_CT
from ..packers import Packers, RequestValue, UnsupportedShape
from ..reference import encode_fields
from .common import NO_HINTS, as_argument, request
from .selection import select
from .targets import EntryKey, Target, as_target, check_named, lookup

SETTABLE: Final = Status.SEEN_REPLY | Status.ASSURED | Status.FIXED_TIMEOUT | Status.HELPER
"""The status bits that a request may set. It can clear none."""

_CREATED: Final = (
    *("orig", "reply", "master", "timeout", "mark", "zone", "helper", "labels"),
    *("seqadj_orig", "seqadj_reply", "synproxy"),
)
"""The fields of a flow that are sent as they are. Only the kernel can set the others."""

_LIBERAL = TCPFlags.BE_LIBERAL | TCPFlags.SACK_PERM
_EXCLUSIVE = int(NLM_F.CREATE | NLM_F.EXCL)
_DUMP = int(NLM_F.DUMP)

_NO_ZONE_HINT = (
    "There is no such entry. An entry in a zone is found only with its zone, and the entry of a "
    "Flow only while its id is the same"
)
_HINTS_LOOKUP: Mapping[int, str] = MappingProxyType({errno.ENOENT: _NO_ZONE_HINT})
_HINTS_DELETE: Mapping[int, str] = MappingProxyType(
    {
        errno.ENOENT: _NO_ZONE_HINT,
        errno.EBUSY: "Before Linux 6.6, an offloaded entry cannot be deleted",
    }
)
_HINTS_CREATE: Mapping[int, str] = MappingProxyType(
    {
        errno.EEXIST: "An entry already has one of its two tuples; or every address and port "
        "of the range to translate to is in use",
        errno.ENOENT: "There is no entry with the tuple of its master; masters_first() puts the "
        "masters of many flows first",
        errno.EOPNOTSUPP: "This kernel has no such helper, or no NAT",
        errno.ENOMEM: "The table is full (net.netfilter.nf_conntrack_max), or no address and "
        "port to translate to is free",
    }
)
_HINTS_UPDATE: Mapping[int, str] = MappingProxyType(
    {
        errno.ENOENT: _NO_ZONE_HINT,
        errno.ENOSPC: "The entry was created before any rule of this namespace used labels, so it "
        "has no room for them",
        errno.EPERM: "This needs CAP_NET_ADMIN; nobody can change the timeout of an entry with "
        "FIXED_TIMEOUT",
        errno.EBUSY: "The helper of an entry cannot be replaced, only detached: with an empty name",
        errno.EOPNOTSUPP: "Only a new entry can get a helper",
        errno.ETIME: "The entry has just expired",
    }
)
_HINTS: Final = {"create": _HINTS_CREATE, "delete": _HINTS_DELETE}


def _request(
    verb: str,
    subject: object,
    message: IPCTNL_MSG_CT,
    attributes: bytes = b"",
    *,
    flags: int = 0,
    family: int = AF_UNSPEC,
    hints: Mapping[int, str] = NO_HINTS,
) -> Request:
    subsystem = NFNL_SUBSYS.CTNETLINK
    return request(
        verb, subject, subsystem, message, attributes, flags=flags, family=family, hints=hints
    )


def get_by(key: EntryKey, verb: str = "get") -> Request:
    """Return the request that reads the entry with a key."""
    return _by(key, verb, IPCTNL_MSG_CT.GET, _HINTS_LOOKUP)


def get_by_original_tuple(flow: Flow) -> Request:
    """Return the request that reads the entry with this original tuple, but none with this reply
    tuple.

    A zone inside a tuple counts for one direction, and the other direction is in zone 0. The kernel
    hashes a tuple together with the zone of its direction. So in the bucket where it looks first, a
    zone inside the original tuple excludes all reply tuples. The default zone cannot be sent like
    that. Then the original tuple is sent as the reply tuple, with any zone
    (``nf_conntrack_find_get``, ``nf_ct_key_equal``).

    :raises EncodeError: for an incomplete tuple.
    """
    sent = copy(flow.orig)
    sent.zone = (flow.zone if sent.zone is None else sent.zone) or None
    if sent.zone is not None:
        return get_by(EntryKey("orig", sent, None))
    sent.zone = flow.reply.zone or 1
    return get_by(EntryKey("reply", sent, None))


def reset_by(key: EntryKey) -> Request:
    """Return the request that reads the entry with a key and resets its counters."""
    return _by(key, "get and reset", IPCTNL_MSG_CT.GET_CTRZERO, _HINTS_LOOKUP)


def delete_by(key: EntryKey, id: int | None) -> Request:
    """Return the request that deletes the entry with a key, if it has this id."""
    return _by(key, "delete", IPCTNL_MSG_CT.DELETE, _HINTS_DELETE, id=id)


def _by(
    key: EntryKey, verb: str, message: IPCTNL_MSG_CT, hints: Mapping[int, str], **more: object
) -> Request:
    attributes = encode_fields(Flow, key.values(**more))
    family = key.tuple.family
    return _request(verb, key.tuple.without_zone, message, attributes, family=family, hints=hints)


def get(target: Target, zone: int | None = None) -> Request:
    """Return the request that reads one entry.

    :raises EncodeError: for an incomplete tuple, and for a field that holds no valid value.
    """
    packed = get_message(target, zone, 0)
    return _about("get", _named(target), IPCTNL_MSG_CT.GET, packed, _HINTS_LOOKUP)


def get_message(target: Target, zone: int | None, seq: int) -> bytes:
    """Return the complete message of :func:`get` with this sequence number."""
    return _GET.pack(_hint_of(target), seq, target, zone)


def get_and_reset(target: Target, zone: int | None = None) -> Request:
    """Return the request that reads one entry and resets its counters.

    For a single entry, the kernel has room for the reply before it resets the counters. In a dump
    it may not have, and loses them.

    :raises EncodeError: for an incomplete tuple, and for a field that holds no valid value.
    """
    packed = _RESET.pack(_hint_of(target), 0, target, zone)
    return _about("get and reset", _named(target), IPCTNL_MSG_CT.GET_CTRZERO, packed, _HINTS_LOOKUP)


def _make_get(message: IPCTNL_MSG_CT, target: Target, zone: int | None) -> bytes:
    found, zone = lookup(target, zone)
    attributes = encode_fields(Flow, {"orig": found, "zone": zone})
    return _request("", None, message, attributes, family=found.family).pack(0)


def _about(
    verb: str,
    subject: Tuple,
    message: IPCTNL_MSG_CT,
    packed: bytes,
    hints: Mapping[int, str],
    flags: int = 0,
) -> Request:
    """Return the request of a packed message."""
    kind = message_type(NFNL_SUBSYS.CTNETLINK, message)
    return Request(verb, subject, kind, flags, packed[HEADER_SIZE:], hints)


def _named(target: Target) -> Tuple:
    """Return the tuple by which errors name a target."""
    return (target.orig if isinstance(target, Flow) else target).without_zone


def _lookup_values(target: Target, zone: int | None) -> list[RequestValue]:
    """Return the values that a request about an entry depends on."""
    if type(target) is Tuple:
        values = [RequestValue("target", target, Flow, "orig")]
    elif type(target) is Flow:
        values = [RequestValue("target.orig", target.orig, Flow, "orig")]
        if zone is None:
            values.append(RequestValue("target.zone", target.zone, Flow, "zone"))
    else:
        raise UnsupportedShape
    if zone is not None:
        values.append(RequestValue("zone", zone, Flow, "zone"))
    return values


def _delete_values(target: Target, zone: int | None) -> list[RequestValue]:
    values = _lookup_values(target, zone)
    if isinstance(target, Flow):
        values.append(RequestValue("target.id", target.id, Flow, "id"))
    return values


def _hint_of(target: object) -> Hashable:
    """Return a part of a target's shape that is quick to find; ``None`` without a tuple."""
    tuple_ = target.orig if isinstance(target, Flow) else target
    return (tuple_.proto, type(tuple_.src)) if isinstance(tuple_, Tuple) else None


def dump(selection: Selection | None = None) -> Request:
    """Return the request that dumps the table, or the selected part of it."""
    selection = selection or Selection()
    attributes = select(selection)
    return _request(
        "dump", "the table", IPCTNL_MSG_CT.GET, attributes, flags=_DUMP, family=selection.family
    )


def dump_special(which: IPCTNL_MSG_CT, subject: str, family: int = AF_UNSPEC) -> Request:
    """Return the request that dumps the dying or the unconfirmed entries.

    The kernel filters them only by family.
    """
    return _request("dump", subject, which, flags=_DUMP, family=family)


def delete(target: Target, zone: int | None = None) -> Request:
    """Return the request that deletes one entry. If the target is a flow, only the entry with its
    id.

    :raises EncodeError: for an incomplete tuple, and for a field that holds no valid value.
    """
    packed = delete_message(target, zone, 0)
    return _about("delete", _named(target), IPCTNL_MSG_CT.DELETE, packed, _HINTS_DELETE)


def delete_message(target: Target, zone: int | None, seq: int) -> bytes:
    """Return the complete message of :func:`delete` with this sequence number."""
    return _DELETE.pack(_hint_of(target), seq, target, zone)


def _make_delete(target: Target, zone: int | None) -> bytes:
    target = as_target(target)
    found, zone = lookup(target, zone)
    identity = target.id if isinstance(target, Flow) else None
    attributes = encode_fields(Flow, {"orig": found, "zone": zone, "id": identity})
    return _request("", None, IPCTNL_MSG_CT.DELETE, attributes, family=found.family).pack(0)


def request_in_errors(verb: str, target: object) -> Request:
    """Return a request that is never sent: its text names a request about a flow in errors."""
    subject = target.orig if isinstance(target, Flow) else target
    if isinstance(subject, Tuple) and verb != "create":
        subject = subject.without_zone
    return Request(verb, subject, 0, 0, b"", _HINTS[verb])


def flush() -> Request:
    """Return the request that deletes every entry of the namespace."""
    return _request("flush", "the table", IPCTNL_MSG_CT.DELETE)


def flush_selected(selection: Selection) -> Request:
    """Return the request that deletes what is selected.

    A kernel that does not know one of the filters deletes more. So the caller must know that this
    kernel knows each of them. The filter of tuples is always sent, because it makes the kernel
    compare the family, too.

    :raises UnsafeRequest: for a selection without any filter, which would delete everything.
    """
    if selection == Selection():
        raise UnsafeRequest("a flush that selects nothing would delete everything")
    attributes = select(selection, flags=True)
    return _request(
        "flush", "what matches", IPCTNL_MSG_CT.DELETE, attributes, family=selection.family
    )


def statistics(verb: str = "count", subject: str = "the entries") -> Request:
    """Return the request that reads the number of entries.

    It costs the kernel less than any other, so it is also the first request of a connection.
    """
    return _request(verb, subject, IPCTNL_MSG_CT.GET_STATS)


def cpu_statistics() -> Request:
    """Return the request that reads the counters of each processor.

    Without DUMP the kernel sends no reply.
    """
    return _request(
        "read", "the statistics of each processor", IPCTNL_MSG_CT.GET_STATS_CPU, flags=_DUMP
    )


def create(
    flow: Flow,
    nat_src: NATRange | IPAddress | str | None = None,
    nat_dst: NATRange | IPAddress | str | None = None,
) -> Request:
    """Return the request that creates an entry, and never changes one that exists.

    The fields that only the kernel can set are not sent: the id, the counters, the times and the
    reference count.

    :raises EncodeError: for a field that holds no valid value.
    """
    packed = create_message(flow, nat_src, nat_dst, 0)
    return _about("create", flow.orig, IPCTNL_MSG_CT.NEW, packed, _HINTS_CREATE, _EXCLUSIVE)


def create_message(
    flow: Flow,
    nat_src: NATRange | IPAddress | str | None,
    nat_dst: NATRange | IPAddress | str | None,
    seq: int,
) -> bytes:
    """Return the complete message of :func:`create` with this sequence number."""
    return _CREATE.pack(_hint_of(flow), seq, flow, nat_src, nat_dst)


def _create_values(flow: Flow, nat_src: object, nat_dst: object) -> list[RequestValue]:
    """Return the values that a new entry depends on.

    Whether a translation fits the entry depends on a comparison, which a packer can't make.
    """
    if type(flow) is not Flow or nat_src is not None or nat_dst is not None:
        raise UnsupportedShape
    return [
        *[RequestValue(f"flow.{name}", getattr(flow, name), Flow, name) for name in _CREATED],
        RequestValue("flow.status", flow.status, Flow, "status", computed=True),
        RequestValue("flow.protoinfo", flow.protoinfo, Flow, "protoinfo", computed=True),
    ]


def _make_create(
    flow: Flow,
    nat_src: NATRange | IPAddress | str | None,
    nat_dst: NATRange | IPAddress | str | None,
) -> bytes:
    flow = as_argument(flow, Flow, "an entry is created from a Flow")
    flow.validate()
    for name in ("orig", "reply", "master"):
        tuple_: object = getattr(flow, name)
        if tuple_ is not None:
            check_named(tuple_, name)
    if flow.timeout is None:
        raise EncodeError("a new entry needs a timeout", ("timeout",))
    _check_zones(flow)
    _check_protoinfo(flow.protoinfo, flow.orig.proto)
    _check_seqadj({name: getattr(flow, name) for name in ("seqadj_orig", "seqadj_reply")})
    ranges = {
        "nat_src": _range(flow, "nat_src", nat_src),
        "nat_dst": _range(flow, "nat_dst", nat_dst),
    }
    values: dict[str, object] = {name: getattr(flow, name) for name in _CREATED}
    values["status"] = _created_status(flow.status)
    values["protoinfo"] = _created_protoinfo(flow)
    attributes = encode_fields(Flow, values) + encode_fields(RequestOnly, ranges)
    new = IPCTNL_MSG_CT.NEW
    family = flow.orig.family
    return _request("", None, new, attributes, flags=_EXCLUSIVE, family=family).pack(0)


def _check_zones(flow: Flow) -> None:
    zones = [zone for zone in (flow.zone, flow.orig.zone, flow.reply.zone) if zone is not None]
    if len(zones) > 1:
        raise EncodeError(
            "a new entry has one zone: that of both directions, or that of one tuple", ("zone",)
        )
    if flow.master is not None and flow.master.zone is not None:
        raise EncodeError(
            "the kernel looks the master up in the zone of the new entry; leave it out",
            ("master", "zone"),
        )


def _check_protoinfo(info: object, proto: int) -> None:
    """Check the state of an entry's own protocol.

    The kernel ignores the state of another protocol, and needs all three values of SCTP.
    """
    if info is None:
        return
    if not isinstance(info, PROTOINFO_TYPES.get(proto, ())):
        name = PROTOCOL_NAMES.get(proto, f"protocol {proto}")
        wanted = PROTOINFO_TYPES[proto].__name__ if proto in PROTOINFO_TYPES else "none"
        shown = describe_value(info)
        raise EncodeError(f"a flow of {name} has {wanted}; got {shown}", ("protoinfo",))
    if isinstance(info, SCTPInfo) and None in (info.state, info.vtag_orig, info.vtag_reply):
        raise EncodeError("state, vtag_orig and vtag_reply must be given together", ("protoinfo",))


def _check_seqadj(values: Mapping[str, object]) -> None:
    """Check that all three numbers are given, as the kernel requires."""
    for name in ("seqadj_orig", "seqadj_reply"):
        seqadj = values.get(name)
        if isinstance(seqadj, SeqAdj) and None in (
            seqadj.correction_pos,
            seqadj.offset_before,
            seqadj.offset_after,
        ):
            raise EncodeError(
                "correction_pos, offset_before and offset_after must be given together", (name,)
            )


def _range(flow: Flow, name: str, value: NATRange | IPAddress | str | None) -> NATRange | None:
    """Return a NAT range that the kernel will not drop silently.

    :raises EncodeError: for a range that it would drop, and for what is not a range.
    """
    if value is None:
        return None
    if issubclass(type(value), NATRange):
        value = as_argument(value, NATRange, "")
    else:
        try:
            value = NATRange.of(cast("IPAddress | str", value))
        except EncodeError as error:
            raise EncodeError(error.reason, (name, *error.path)) from None
    if value.address_min is not None and type(value.address_min) is not type(flow.orig.src):
        raise EncodeError(
            f"{describe_value(value.address_min)} is not an address of the flow's family",
            (name, "address_min"),
        )
    if flow.reply.without_zone != flow.orig.inverse:
        raise EncodeError(
            "for a translation it must be the inverse of orig; the kernel translates it",
            ("reply",),
        )
    return value


def _created_status(status: Status | None) -> int | None:
    """Return the status to create an entry with.

    With any status the kernel requires CONFIRMED, and it refuses the bits that it sets itself.
    """
    if status is None:
        return None
    return number_within(status, 0xFFFFFFFF, "status") & SETTABLE | Status.CONFIRMED


def _created_protoinfo(flow: Flow) -> object:
    """Return the state of its protocol to create an entry with.

    A TCP entry that a program creates has no window data, so without BE_LIBERAL its packets are
    invalid. Without a state it would be in NONE, where only a SYN is valid. From TIME_WAIT on it
    also gets CLOSE_INIT: only with that does a SYN that reuses its ports reopen it
    (``nf_conntrack_tcp_packet``).
    """
    if flow.orig.proto != TCP:
        return flow.protoinfo
    info = flow.protoinfo if isinstance(flow.protoinfo, TCPInfo) else TCPInfo()
    state = TCPState.ESTABLISHED if info.state is None else info.state
    closing = plain_number(state, "protoinfo", "state") >= TCPState.TIME_WAIT
    needed = int(_LIBERAL | TCPFlags.CLOSE_INIT if closing else _LIBERAL)

    def flags(name: str) -> TCPFlags:
        value = getattr(info, name)
        given = 0 if value is None else plain_number(value, "protoinfo", name)
        return cast("TCPFlags", needed | given)

    return TCPInfo(
        state=state,
        wscale_orig=info.wscale_orig,
        wscale_reply=info.wscale_reply,
        flags_orig=flags("flags_orig"),
        flags_reply=flags("flags_reply"),
    )


def update(
    target: Target | EntryKey, values: Mapping[str, object], zone: int | None = None
) -> Request:
    """Return the request that changes fields of an entry.

    :param values: the new values, by the names of :class:`Flow` and :class:`RequestOnly`. A status
        must come from :func:`updated_status`.

    :raises EncodeError: for an incomplete tuple, and for a value that is not valid.
    """
    if issubclass(type(target), EntryKey):
        key = cast("EntryKey", target)
    else:
        key = EntryKey("orig", *lookup(cast("Target", target), zone))
    found = key.tuple
    _check_protoinfo(values.get("protoinfo"), found.proto)
    _check_seqadj(values)
    for field, full in (("mark", 0xFFFFFFFF), ("labels", (1 << 128) - 1)):
        value, mask = values.get(field), values.get(f"{field}_mask")
        if mask is None:
            continue
        if value is None:
            raise EncodeError(
                f"a mask needs {field}, the new value of its bits",
                (f"{field}_mask",),
            )
        value, mask = plain_number(value, field), plain_number(mask, f"{field}_mask")
        if value & ~mask & full:
            raise EncodeError(
                f"{value:#x} has bits outside {field}_mask {mask:#x}; the kernel would toggle them",
                (field,),
            )
    own = key.values()
    flow_values = {k: v for k, v in values.items() if not k.endswith("_mask")}
    mask_values = {k: v for k, v in values.items() if k.endswith("_mask")}
    attributes = encode_fields(Flow, own | flow_values) + encode_fields(RequestOnly, mask_values)
    return _request(
        "update",
        found.without_zone,
        IPCTNL_MSG_CT.NEW,
        attributes,
        family=found.family,
        hints=_HINTS_UPDATE,
    )


def update_of_many(values: Mapping[str, object], zone: int | None) -> Callable[[Target], Request]:
    """Return a function that makes :func:`update` of the same values for many targets.

    It compiles a packer, which is worth it for many.
    """

    def make(target: Target, zone: int | None) -> bytes:
        return update(target, values, zone).pack(0)

    packers = Packers(("target", "zone"), make, _lookup_values)

    def request(target: Target) -> Request:
        packed = packers.pack(_hint_of(target), 0, target, zone)
        return _about("update", _named(target), IPCTNL_MSG_CT.NEW, packed, _HINTS_UPDATE)

    return request


def merged_mark(current: int, values: Mapping[str, object]) -> dict[str, object]:
    """Return values without ``mark_mask`` that have the same effect.

    Their mark is the present one with the masked bits replaced.
    """
    mark, mask = values["mark"], values["mark_mask"]
    assert isinstance(mark, int) and isinstance(mask, int)  # noqa: PT018 - update() checked both
    return {"mark": current & ~int(mask) | mark, "mark_mask": None}


def updated_status(current: Status, wanted: Status) -> Status:
    """Return the status to send in order to set bits.

    The kernel requires the bits that must not change to be as they are, and refuses to clear
    SEEN_REPLY and ASSURED.

    :raises EncodeError: for a bit that no program can set.
    """
    refused = int(wanted) & ~int(current) & ~int(SETTABLE)
    if refused:
        shown = describe_value(Status(refused) if 0 < refused < 1 << 32 else refused)
        raise EncodeError(f"{shown} cannot be set by a program", ("status",))
    return Status(int(current) | int(wanted))


_CREATE: Final = Packers(("flow", "nat_src", "nat_dst"), _make_create, _create_values)
_DELETE: Final = Packers(("target", "zone"), _make_delete, _delete_values)
_GET: Final = Packers(("target", "zone"), partial(_make_get, IPCTNL_MSG_CT.GET), _lookup_values)
_RESET: Final = Packers(
    ("target", "zone"), partial(_make_get, IPCTNL_MSG_CT.GET_CTRZERO), _lookup_values
)
