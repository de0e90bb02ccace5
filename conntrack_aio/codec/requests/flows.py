"""Requests about flows: subsystem ``NFNL_SUBSYS_CTNETLINK``.

- :mod:`.targets` says by what the kernel finds the entry that a request is about.
- :mod:`.flow_creation` and :mod:`.flow_updates` encode the values of a new and of a changed entry.
- :mod:`.selection` encodes what a dump or a flush selects.

A delete without a tuple is a flush (``ctnetlink_del_conntrack``). So only the functions whose names
begin with ``flush`` encode one.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Hashable, Mapping
from copy import copy
from functools import partial
from socket import AF_UNSPEC
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from ...errors import UnsafeRequest
from ...model.flow import Flow
from ...model.lazy_fields import own_class
from ...model.tuples import IPAddress, Tuple
from ...netlink.exchange import Request
from ...netlink.messages import HEADER_SIZE
from ...netlink.nfnetlink import message_type
from ...uapi.netlink import NLM_F
from ...uapi.nfnetlink import NFNL_SUBSYS
from ...uapi.nfnetlink_conntrack import IPCTNL_MSG_CT
from ..packed_requests import RequestValue, UnsupportedShape
from ..packers import Packers
from ..reference import encode_fields
from .request import NO_HINTS, request
from .targets import EntryKey, Target, as_target, lookup

if TYPE_CHECKING:
    from ...model.nat import NATRange
    from ...model.requests import Selection

# Few requests create, update or filter, and the modules for these take long to import.

_EXCLUSIVE = int(NLM_F.CREATE | NLM_F.EXCL)
_DUMP = int(NLM_F.DUMP)

_NOT_FOUND_HINT = (
    "There is no such entry. An entry in a zone is found only with its zone, and the entry of a "
    "Flow only while its id is the same"
)
_HINTS_LOOKUP: Mapping[int, str] = MappingProxyType({errno.ENOENT: _NOT_FOUND_HINT})
_HINTS_DELETE: Mapping[int, str] = MappingProxyType(
    {
        errno.ENOENT: _NOT_FOUND_HINT,
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
        errno.ENOMEM: "The table is full (net.netfilter.nf_conntrack_max)",
    }
)
_HINTS_UPDATE: Mapping[int, str] = MappingProxyType(
    {
        errno.ENOENT: _NOT_FOUND_HINT,
        errno.ENOSPC: "The entry was created before any rule of this namespace used labels, so it "
        "has no room for them",
        errno.EPERM: "This needs CAP_NET_ADMIN; nobody can change the timeout of an entry with "
        "FIXED_TIMEOUT",
        errno.EBUSY: "The helper of an entry cannot be replaced, only detached, by an empty name. "
        "With a status: packets changed it between each look-up and its update",
        errno.EOPNOTSUPP: "Only a new entry can get a helper",
        errno.ETIME: "The entry has just expired",
    }
)
_HINTS_BY_VERB: Final = {"create": _HINTS_CREATE, "delete": _HINTS_DELETE}


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


def get_by_key(key: EntryKey, verb: str = "get") -> Request:
    """Return the request that reads the entry with a key."""
    return _request_by_key(key, verb, IPCTNL_MSG_CT.GET, _HINTS_LOOKUP)


def get_by_original_tuple(flow: Flow) -> Request:
    """Return the request that reads the entry with the original tuple of a flow.

    Another entry may have this tuple as its reply tuple, if a zone applies to one direction only.
    :func:`get` may find either of the two. This request finds the other one only if no entry has
    the original tuple, so the caller must compare.

    A zone inside a tuple counts for one direction, and the other direction is in zone 0. The kernel
    looks up the tuple in the zone of the original direction first, then in that of the reply
    direction. Each time, it finds an entry only if the zone of the direction in which the entry has
    the tuple is the zone of the look-up (``nf_conntrack_find_get``, ``nf_ct_key_equal``).

    - So with a zone inside the original tuple, the first look-up excludes all reply tuples: they
      would have to be in zone 0.
    - The default zone cannot be sent like that, because 0 means that no zone is given. Then the
      tuple is sent as the reply tuple, with any other zone. The original direction is in zone 0,
      and the first look-up excludes all reply tuples, because they would have to be in
      that other zone.

    :raises EncodeError: when the tuple is incomplete.
    """
    sent = copy(flow.orig)
    sent.zone = (flow.zone if sent.zone is None else sent.zone) or None
    if sent.zone is not None:
        return get_by_key(EntryKey("orig", sent, None))
    sent.zone = flow.reply.zone or 1
    return get_by_key(EntryKey("reply", sent, None))


def reset_by_key(key: EntryKey) -> Request:
    """Return the request that reads the entry with a key and resets its counters."""
    return _request_by_key(key, "get and reset", IPCTNL_MSG_CT.GET_CTRZERO, _HINTS_LOOKUP)


def delete_by_key(key: EntryKey, id: int | None) -> Request:
    """Return the request that deletes the entry with a key, if it has this id."""
    return _request_by_key(key, "delete", IPCTNL_MSG_CT.DELETE, _HINTS_DELETE, id=id)


def _request_by_key(
    key: EntryKey, verb: str, message: IPCTNL_MSG_CT, hints: Mapping[int, str], **more: object
) -> Request:
    attributes = encode_fields(Flow, key.values(**more))
    family = key.tuple.family
    return _request(verb, key.tuple.without_zone, message, attributes, family=family, hints=hints)


def get(target: Target, zone: int | None = None) -> Request:
    """Return the request that reads one entry.

    :raises EncodeError: when the tuple is incomplete, or when a field holds no valid value.
    """
    packed = get_message(target, zone, 0)
    return _packed_request("get", _subject_of(target), IPCTNL_MSG_CT.GET, packed, _HINTS_LOOKUP)


def get_message(target: Target, zone: int | None, seq: int) -> bytes:
    """Return the complete message of :func:`get` with this sequence number."""
    return _GET.pack(_shape_key(target), seq, target, zone)


def get_and_reset(target: Target, zone: int | None = None) -> Request:
    """Return the request that reads one entry and resets its counters.

    For a single entry, the kernel has room for the reply before it resets the counters. In a dump
    it may not have, and loses them.

    :raises EncodeError: when the tuple is incomplete, or when a field holds no valid value.
    """
    packed = _RESET.pack(_shape_key(target), 0, target, zone)
    return _packed_request(
        "get and reset", _subject_of(target), IPCTNL_MSG_CT.GET_CTRZERO, packed, _HINTS_LOOKUP
    )


def _make_get(message: IPCTNL_MSG_CT, target: Target, zone: int | None) -> bytes:
    found, zone = lookup(target, zone)
    attributes = encode_fields(Flow, {"orig": found, "zone": zone})
    return _request("", None, message, attributes, family=found.family).pack(0)


def _packed_request(
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


def _subject_of(target: Target) -> Tuple:
    """Return the tuple by which errors name a target."""
    return (target.orig if isinstance(target, Flow) else target).without_zone


def _lookup_values(target: Target, zone: int | None) -> list[RequestValue]:
    """Return the values that a request about an entry depends on."""
    if type(target) is Tuple:
        values = [RequestValue("target", target, Flow, "orig")]
    elif isinstance(target, Flow) and own_class(target) is Flow:
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


def _shape_key(target: object) -> Hashable:
    """Return a part of a target's shape that is quick to find; ``None`` without a tuple."""
    tuple_ = target.orig if isinstance(target, Flow) else target
    return (tuple_.proto, type(tuple_.src)) if isinstance(tuple_, Tuple) else None


def dump(selection: Selection | None = None) -> Request:
    """Return the request that dumps the table, or the selected part of it."""
    if selection is None:
        return _request("dump", "the table", IPCTNL_MSG_CT.GET, flags=_DUMP)
    from .selection import select

    attributes = select(selection)
    return _request(
        "dump", "the table", IPCTNL_MSG_CT.GET, attributes, flags=_DUMP, family=selection.family
    )


def dump_dying_or_unconfirmed(
    which: IPCTNL_MSG_CT, subject: str, family: int = AF_UNSPEC
) -> Request:
    """Return the request that dumps the dying or the unconfirmed entries.

    The kernel filters them only by family.
    """
    return _request("dump", subject, which, flags=_DUMP, family=family)


def delete(target: Target, zone: int | None = None) -> Request:
    """Return the request that deletes one entry.

    If the target is a flow, the kernel deletes the entry only if it has the id of the flow.

    :raises EncodeError: when the tuple is incomplete, or when a field holds no valid value.
    """
    packed = delete_message(target, zone, 0)
    return _packed_request(
        "delete", _subject_of(target), IPCTNL_MSG_CT.DELETE, packed, _HINTS_DELETE
    )


def delete_message(target: Target, zone: int | None, seq: int) -> bytes:
    """Return the complete message of :func:`delete` with this sequence number."""
    return _DELETE.pack(_shape_key(target), seq, target, zone)


def _make_delete(target: Target, zone: int | None) -> bytes:
    target = as_target(target)
    found, zone = lookup(target, zone)
    identity = target.id if isinstance(target, Flow) else None
    attributes = encode_fields(Flow, {"orig": found, "zone": zone, "id": identity})
    return _request("", None, IPCTNL_MSG_CT.DELETE, attributes, family=found.family).pack(0)


def request_in_errors(verb: str, target: object) -> Request:
    """Return a request that is never sent: errors about one request of a bulk operation name it.

    :param verb: ``create`` or ``delete``.
    :param target: the item that the request is about.
    """
    subject = target.orig if isinstance(target, Flow) else target
    if isinstance(subject, Tuple) and verb != "create":
        subject = subject.without_zone
    return Request(verb, subject, 0, 0, b"", _HINTS_BY_VERB[verb])


def flush() -> Request:
    """Return the request that deletes every entry of the namespace."""
    return _request("flush", "the table", IPCTNL_MSG_CT.DELETE)


def flush_selected(selection: Selection) -> Request:
    """Return the request that deletes what is selected.

    A kernel that does not know one of the filters deletes more. So the caller must know that this
    kernel knows each of them. The filter of tuples is always sent, because it makes the kernel
    compare the family, too.

    :raises UnsafeRequest: when the selection has no filter, because it would delete everything.
    """
    from .selection import select

    if selection == type(selection)():
        raise UnsafeRequest("a flush that selects nothing would delete everything")
    attributes = select(selection, flags=True)
    return _request(
        "flush", "what matches", IPCTNL_MSG_CT.DELETE, attributes, family=selection.family
    )


def create(
    flow: Flow,
    nat_src: NATRange | IPAddress | str | None = None,
    nat_dst: NATRange | IPAddress | str | None = None,
) -> Request:
    """Return the request that creates an entry, and never changes one that exists.

    The fields that only the kernel can set are not sent: the id, the counters, the times and the
    reference count.

    :raises EncodeError: when a field holds no valid value.
    """
    packed = create_message(flow, nat_src, nat_dst, 0)
    return _packed_request(
        "create", flow.orig, IPCTNL_MSG_CT.NEW, packed, _HINTS_CREATE, _EXCLUSIVE
    )


def create_message(
    flow: Flow,
    nat_src: NATRange | IPAddress | str | None,
    nat_dst: NATRange | IPAddress | str | None,
    seq: int,
) -> bytes:
    """Return the complete message of :func:`create` with this sequence number."""
    return _CREATE.pack(_creation_key(flow, nat_src, nat_dst), seq, flow, nat_src, nat_dst)


def _creation_key(flow: object, nat_src: object, nat_dst: object) -> Hashable:
    """Return the shape key of a new entry: that of the flow, and whether a translation fits it."""
    if nat_src is None and nat_dst is None:
        return _shape_key(flow)
    from .flow_creation import is_untranslated

    return _shape_key(flow), is_untranslated(flow)


def _make_create(
    flow: Flow,
    nat_src: NATRange | IPAddress | str | None,
    nat_dst: NATRange | IPAddress | str | None,
) -> bytes:
    from .flow_creation import checked_flow, encode_new_entry

    flow = checked_flow(flow)
    attributes = encode_new_entry(flow, nat_src, nat_dst)
    new, family = IPCTNL_MSG_CT.NEW, flow.orig.family
    return _request("", None, new, attributes, flags=_EXCLUSIVE, family=family).pack(0)


def update(
    target: Target | EntryKey, values: Mapping[str, object], zone: int | None = None
) -> Request:
    """Return the request that changes fields of an entry.

    :param target: the entry to change.
    :param values: the new values, by the names of :class:`Flow` and :class:`RequestOnly`. A status
        must come from :func:`~.flow_updates.updated_status`.
    :param zone: the zone of the entry; by default that of the target.

    :raises EncodeError: when the tuple is incomplete, or when a value is not valid.
    """
    if issubclass(type(target), EntryKey):
        key = cast("EntryKey", target)
    else:
        key = EntryKey("orig", *lookup(cast("Target", target), zone))
    from .flow_updates import encode_update

    attributes = encode_update(key, values)
    return _request(
        "update",
        key.tuple.without_zone,
        IPCTNL_MSG_CT.NEW,
        attributes,
        family=key.tuple.family,
        hints=_HINTS_UPDATE,
    )


def update_of_many(values: Mapping[str, object], zone: int | None) -> Callable[[Target], Request]:
    """Return a function that returns the :func:`update` of a target, always with the same values.

    It compiles packers, which pays off for many targets.
    """

    def make(target: Target, zone: int | None) -> bytes:
        return update(target, values, zone).pack(0)

    packers = Packers(("target", "zone"), make, _lookup_values)

    def request(target: Target) -> Request:
        packed = packers.pack(_shape_key(target), 0, target, zone)
        return _packed_request(
            "update", _subject_of(target), IPCTNL_MSG_CT.NEW, packed, _HINTS_UPDATE
        )

    return request


def _create_values(flow: Flow, nat_src: object, nat_dst: object) -> list[RequestValue]:
    from .flow_creation import new_entry_values

    return new_entry_values(flow, nat_src, nat_dst)


_CREATE: Final = Packers(("flow", "nat_src", "nat_dst"), _make_create, _create_values)
_DELETE: Final = Packers(("target", "zone"), _make_delete, _delete_values)
_GET: Final = Packers(("target", "zone"), partial(_make_get, IPCTNL_MSG_CT.GET), _lookup_values)
_RESET: Final = Packers(
    ("target", "zone"), partial(_make_get, IPCTNL_MSG_CT.GET_CTRZERO), _lookup_values
)
