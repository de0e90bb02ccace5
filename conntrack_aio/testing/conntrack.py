"""Handle the requests of nfnetlink's subsystem 1, conntrack (``nf_conntrack_netlink.c``)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Final

from ..model.enums import Status
from ..model.flow import Flow
from ..model.requests import RequestOnly
from ..model.tuples import Tuple
from ..netlink import messages, nfnetlink
from ..netlink.attributes import pack_be32
from ..uapi.netlink import NLM_F
from ..uapi.nfnetlink import NFNL_SUBSYS
from ..uapi.nfnetlink_conntrack import (
    CTA,
    CTA_STATS,
    CTA_STATS_GLOBAL,
    IPCTNL_MSG_CT,
)
from . import releases, render
from .attributes import NEST, REJECTED, U16, U32, AttributeRule, Policy, Refused, parse, u32
from .changes import create, update
from .events import IPCT, REQUEST_EVENTS
from .filters import EntryFilter, parse_filter
from .protocol import Call, Handler, ListDump, Subsystem
from .releases import Release, last_attribute
from .socket_types import DumpSource
from .state import State
from .table import ORIG, REPLY, Entry
from .tuples import parse_tuple, parse_zone

_MSG: Final = IPCTNL_MSG_CT
_DUMP: Final = int(NLM_F.DUMP)
_CREATE: Final = int(NLM_F.CREATE)
_EXCL: Final = int(NLM_F.EXCL)
_MULTI: Final = int(NLM_F.MULTI)
_FILTERED: Final = int(NLM_F.DUMP_FILTERED)
_ENTRY: Final = nfnetlink.message_type(NFNL_SUBSYS.CTNETLINK, _MSG.NEW)
_LABELS: Final = AttributeRule(max_length=16)
_POLICY: Final[Policy] = {
    **dict.fromkeys((CTA.TUPLE_ORIG, CTA.TUPLE_REPLY, CTA.TUPLE_MASTER), NEST),
    **dict.fromkeys((CTA.PROTOINFO, CTA.HELP, CTA.NAT_SRC, CTA.NAT_DST, CTA.FILTER), NEST),
    **dict.fromkeys((CTA.SEQ_ADJ_ORIG, CTA.SEQ_ADJ_REPLY), NEST),
    **dict.fromkeys((CTA.STATUS, CTA.TIMEOUT, CTA.MARK, CTA.ID), U32),
    **dict.fromkeys((CTA.MARK_MASK, CTA.STATUS_MASK), U32),
    CTA.ZONE: U16,
    CTA.LABELS: _LABELS,
    CTA.LABELS_MASK: _LABELS,
    CTA.TIMESTAMP_EVENT: REJECTED,
}
"""``ct_nla_policy``, which does not validate ``CTA_SYNPROXY``."""

_VERBS: Final = {
    _MSG.GET_CTRZERO: "get and reset",
    _MSG.GET_STATS_CPU: "statistics",
    _MSG.GET_STATS: "count",
    _MSG.GET_DYING: "dump dying",
    _MSG.GET_UNCONFIRMED: "dump unconfirmed",
}
_CPU_STATISTICS: Final = (
    *((CTA_STATS.FOUND, "found"), (CTA_STATS.INVALID, "invalid"), (CTA_STATS.IGNORE, "ignore")),
    *((CTA_STATS.INSERT, "insert"), (CTA_STATS.INSERT_FAILED, "insert_failed")),
    *((CTA_STATS.DROP, "drop"), (CTA_STATS.EARLY_DROP, "early_drop"), (CTA_STATS.ERROR, "error")),
    *((CTA_STATS.SEARCH_RESTART, "search_restart"), (CTA_STATS.CLASH_RESOLVE, "clash_resolve")),
    (CTA_STATS.CHAIN_TOOLONG, "chain_toolong"),
)
_CPU_STATISTICS_FEATURES: Final = {
    CTA_STATS.IGNORE: releases.IGNORE_COUNTED,
    CTA_STATS.CLASH_RESOLVE: releases.CLASH_RESOLVE_COUNTED,
    CTA_STATS.CHAIN_TOOLONG: releases.CHAIN_TOOLONG_COUNTED,
}


class Conntrack(Subsystem):
    """The subsystem that manages the entries of the table."""

    classes = (Flow, RequestOnly)

    def __init__(self, state: State) -> None:
        super().__init__(state)
        last = last_attribute(state.release)

        def handler(execute: Callable[[Call], None]) -> Handler:
            return Handler(execute, last, _POLICY)

        self.handlers: Mapping[int, Handler] = {
            _MSG.NEW: handler(new),
            _MSG.GET: handler(get),
            _MSG.DELETE: handler(delete),
            _MSG.GET_CTRZERO: handler(get),
            _MSG.GET_STATS_CPU: Handler(get_cpu_statistics),
            _MSG.GET_STATS: Handler(get_statistics),
            _MSG.GET_DYING: Handler(get_dying),
            _MSG.GET_UNCONFIRMED: Handler(get_unconfirmed),
        }

    def verb(self, message: int, flags: int, payload: bytes) -> str:
        if message == _MSG.NEW:
            return "create" if flags & _CREATE else "update"
        if message == _MSG.GET:
            return "dump" if flags & _DUMP else "get"
        if message == _MSG.DELETE:
            return "delete" if self._identifies_entry(payload) else "flush"
        if message == _MSG.GET_CTRZERO and flags & _DUMP:
            return "dump and reset"
        return _VERBS[_MSG(message)]

    def _identifies_entry(self, payload: bytes) -> bool:
        """Return whether a delete request is for one entry, and not a flush."""
        release = self.state.release
        attributes = parse(payload[nfnetlink.SIZE :], last_attribute(release), {}).attributes
        return not is_flush(attributes, release)


def is_flush(attributes: Container[int], release: Release) -> bool:
    """Return whether a delete request identifies no entry.

    The kernel then deletes all entries that the filter selects.
    """
    if CTA.FILTER in attributes and release.has(releases.FILTERED_FLUSH):
        return True
    return CTA.TUPLE_ORIG not in attributes and CTA.TUPLE_REPLY not in attributes


def find_entry(call: Call) -> Entry:
    """Return the entry that a request identifies by one of its tuples.

    :raises Refused: when the request has no tuple, or no entry has it.
    """
    zone = parse_zone(call.attributes)
    for number, direction in ((CTA.TUPLE_ORIG, ORIG), (CTA.TUPLE_REPLY, REPLY)):
        if number in call.attributes:
            tuple_, zone = parse_tuple(
                call.attributes[number], call.request.family, zone, direction, call.state.release
            )
            entry = call.state.find(tuple_, zone)
            if entry is None:
                raise Refused(errno.ENOENT)
            return entry
    raise Refused(errno.EINVAL)


# -- reading ----------------------------------------------------------------------------------


def get(call: Call) -> None:
    """Handle GET and GET_CTRZERO: reply with one entry, or dump. The kernel ignores ``CTA_ID``."""
    reset_counters = call.request.message == _MSG.GET_CTRZERO
    if call.request.is_dump:
        call.dump(
            lambda: TableDump(
                call, parse_filter(call, call.request.family), reset_counters=reset_counters
            )
        )
    entry = find_entry(call)
    # The table holds one reference, and this request holds another.
    use = 2 + entry.child_count
    parts = render.entry_attributes(
        entry, call.state.release, call.state.now, use, reset_counters=reset_counters
    )
    call.reply(_MSG.NEW, entry.family, *parts)


class TableDump:
    """A dump of the table (``ctnetlink_dump_table``).

    - Each chunk has the entries that the table has when the chunk is requested.
    - Between chunks the dump remembers the bucket, and the id of the first entry that did not fit.
    - If that entry has been deleted when the dump resumes, the bucket is dumped again from its
      start.
    """

    def __init__(
        self, call: Call, entry_filter: EntryFilter | None, *, reset_counters: bool
    ) -> None:
        self._state = call.state
        self._seq = call.request.seq
        self._port_id = call.port_id
        self._filter = entry_filter
        self._reset_counters = reset_counters
        self._flags = _MULTI
        if entry_filter is not None and call.state.release.has(releases.DUMP_FILTER):
            self._flags |= _FILTERED
        flagged = call.state.release.has(releases.DONE_HAS_FILTERED_FLAG)
        self.end_flags = self._flags if flagged else _MULTI
        self._bucket = 0
        self._resume_id: int | None = None
        self._ended = False

    def __call__(self, space: int) -> bytes:
        parts: list[bytes] = []
        while not self._ended:
            found = self._state.table.next_bucket(self._bucket)
            if found is None:
                self._ended = True
                break
            bucket, entries = found
            if bucket != self._bucket:
                self._bucket, self._resume_id = bucket, None
            if not self._dump_bucket(entries, space, parts):
                break
            self._bucket, self._resume_id = bucket + 1, None
        return b"".join(parts)

    def _dump_bucket(self, entries: list[Entry], space: int, parts: list[bytes]) -> bool:
        """Append the messages of a bucket to ``parts``; return whether all of them fitted."""
        if self._resume_id is not None:
            indexes = [i for i, entry in enumerate(entries) if entry.id == self._resume_id]
            entries = entries[indexes[0] :] if indexes else entries
        left = space - sum(map(len, parts))
        for entry in entries:
            if self._state.expired(entry):
                self._state.destroy(entry)
                continue
            if entry.status & Status.UNTRACKED:
                # A dump walks the original directions, and this entry is hashed only by its reply
                # tuple; see table._hashed_directions.
                continue
            if self._filter is not None and not self._filter(entry):
                continue
            message = self._message(entry, left)
            if message is None:
                self._resume_id = entry.id
                return False
            parts.append(message)
            left -= len(message)
        return True

    def _message(self, entry: Entry, space: int) -> bytes | None:
        """Return the message about an entry, or ``None`` if it does not fit.

        As in the kernel, the counters of an entry that does not fit may have been reset already.
        """
        parts = [nfnetlink.pack(entry.family)]
        space -= messages.HEADER_SIZE + nfnetlink.SIZE
        release, now, use = self._state.release, self._state.now, 1 + entry.child_count
        for part in render.entry_attributes(
            entry, release, now, use, reset_counters=self._reset_counters
        ):
            space -= len(part)
            if space < 0:
                return None
            parts.append(part)
        return messages.pack(_ENTRY, self._flags, self._seq, b"".join(parts), self._port_id)


def list_dump(call: Call, entries: Iterable[Entry]) -> DumpSource:
    """Dump entries that are not in the table, of the address family in the request."""
    release, now, family = call.state.release, call.state.now, call.request.family
    payloads = [
        b"".join(
            [
                nfnetlink.pack(entry.family),
                *render.entry_attributes(entry, release, now, 1, reset_counters=False),
            ]
        )
        for entry in entries
        if family in (0, entry.family)
    ]
    return ListDump(call, _ENTRY, payloads)


def get_dying(call: Call) -> None:
    """Handle GET_DYING: dump the entries whose destroy event is not delivered yet."""
    if not call.request.is_dump:
        raise Refused(errno.EOPNOTSUPP)
    call.dump(lambda: list_dump(call, call.state.dying))


def get_unconfirmed(call: Call) -> None:
    """Handle GET_UNCONFIRMED: the dump is empty, since the fake kernel has no packets."""
    if not call.request.is_dump:
        raise Refused(errno.EOPNOTSUPP)
    call.dump(lambda: list_dump(call, ()))


def get_statistics(call: Call) -> None:
    """Handle GET_STATS: reply with the number of entries and its limit."""
    state = call.state
    call.reply(
        _MSG.GET_STATS,
        0,
        pack_be32(CTA_STATS_GLOBAL.ENTRIES, state.entries),
        pack_be32(CTA_STATS_GLOBAL.MAX_ENTRIES, state.sysctls["nf_conntrack_max"]),
    )


def get_cpu_statistics(call: Call) -> None:
    """Handle GET_STATS_CPU: dump the statistics; without NLM_F_DUMP there is no reply."""
    if not call.request.is_dump:
        return
    type_ = nfnetlink.message_type(NFNL_SUBSYS.CTNETLINK, _MSG.GET_STATS_CPU)
    payloads = [_cpu(call.state, cpu) for cpu in range(len(call.state.cpu_counters))]
    call.dump(lambda: ListDump(call, type_, payloads))


def _cpu(state: State, cpu: int) -> bytes:
    counters = state.cpu_counters[cpu]
    parts = [
        pack_be32(number, counters.get(name, 0))
        for number, name in _CPU_STATISTICS
        if number not in _CPU_STATISTICS_FEATURES
        or state.release.has(_CPU_STATISTICS_FEATURES[number])
    ]
    return nfnetlink.pack(0, 0, cpu) + b"".join(parts)


# -- writing ----------------------------------------------------------------------------------


def new(call: Call) -> None:
    """Handle NEW: update the entry that has one of the tuples; if there is none, create one."""
    state, attributes = call.state, call.attributes
    zone = parse_zone(attributes)
    tuples: dict[int, Tuple] = {}
    for number, direction in ((CTA.TUPLE_ORIG, ORIG), (CTA.TUPLE_REPLY, REPLY)):
        if number in attributes:
            tuples[direction], zone = parse_tuple(
                attributes[number], call.request.family, zone, direction, state.release
            )
    key = tuples.get(ORIG, tuples.get(REPLY))
    entry = None if key is None else state.find(key, zone)
    if entry is not None:
        if call.request.flags & _EXCL:
            raise Refused(errno.EEXIST)
        update(state, entry, attributes)
        state.emit(entry, REQUEST_EVENTS | IPCT.LABEL, call.port_id, report=call.report)
        return
    if not call.request.flags & _CREATE:
        raise Refused(errno.ENOENT)
    if len(tuples) < 2 or tuples[ORIG].proto != tuples[REPLY].proto:
        raise Refused(errno.EINVAL)
    entry, events = create(call, tuples[ORIG], tuples[REPLY], zone)
    state.emit(entry, REQUEST_EVENTS | events, call.port_id, report=call.report)


def delete(call: Call) -> None:
    """Handle DELETE: delete the entry that has the tuple; without a tuple, flush.

    A request with neither tuple nor filter therefore deletes all entries.
    """
    state, attributes = call.state, call.attributes
    if is_flush(attributes, state.release):
        flush(call)
        return
    entry = find_entry(call)
    if _is_protected(state, entry):
        raise Refused(errno.EBUSY)
    if CTA.ID in attributes and u32(attributes[CTA.ID]) != entry.id:
        raise Refused(errno.ENOENT)
    state.destroy(entry, call.port_id, report=call.report)


def flush(call: Call) -> None:
    """Delete all entries that the filter selects.

    The kernel honors the address family only if ``nfgenmsg.version`` is not 0, or with
    ``CTA_FILTER``.
    """
    state, request = call.state, call.request
    filtered = CTA.FILTER in call.attributes and state.release.has(releases.FILTERED_FLUSH)
    family = request.family if request.version or filtered else 0
    entry_filter = parse_filter(call, family, flush=True)
    for entry in state.table:
        selected = entry_filter is None or entry_filter(entry)
        if selected and not _is_protected(state, entry):
            state.destroy(entry, call.port_id, report=call.report)


def _is_protected(state: State, entry: Entry) -> bool:
    """Return whether the entry is offloaded and this kernel deletes no offloaded entries."""
    return bool(entry.status & Status.OFFLOAD) and not state.release.has(releases.OFFLOADED_DELETED)
