"""Subsystem 1, conntrack: what the kernel does about each of its messages
(``nf_conntrack_netlink.c``)."""

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
from . import ages, render
from .ages import Release, last_attribute
from .attributes import NEST, REJECTED, U16, U32, Policy, Refused, Rule, parse, u32
from .changes import create, update
from .events import IPCT, WRITTEN
from .filters import Filter, parse_filter
from .protocol import Call, Handler, ListDump, Subsystem
from .sockets import Chunk
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
_LABELS: Final = Rule(most=16)
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
"""``ct_nla_policy``. SYNPROXY has no rule."""

_VERBS: Final = {
    _MSG.GET_CTRZERO: "get and reset",
    _MSG.GET_STATS_CPU: "statistics",
    _MSG.GET_STATS: "count",
    _MSG.GET_DYING: "dump dying",
    _MSG.GET_UNCONFIRMED: "dump unconfirmed",
}
_COUNTED: Final = (
    *((CTA_STATS.FOUND, "found"), (CTA_STATS.INVALID, "invalid"), (CTA_STATS.IGNORE, "ignore")),
    *((CTA_STATS.INSERT, "insert"), (CTA_STATS.INSERT_FAILED, "insert_failed")),
    *((CTA_STATS.DROP, "drop"), (CTA_STATS.EARLY_DROP, "early_drop"), (CTA_STATS.ERROR, "error")),
    *((CTA_STATS.SEARCH_RESTART, "search_restart"), (CTA_STATS.CLASH_RESOLVE, "clash_resolve")),
    (CTA_STATS.CHAIN_TOOLONG, "chain_toolong"),
)
_COUNTED_SINCE: Final = {
    CTA_STATS.IGNORE: ages.IGNORE_COUNTED,
    CTA_STATS.CLASH_RESOLVE: ages.CLASH_RESOLVE_COUNTED,
    CTA_STATS.CHAIN_TOOLONG: ages.CHAIN_TOOLONG_COUNTED,
}


class Conntrack(Subsystem):
    """ctnetlink's flows."""

    classes = (Flow, RequestOnly)

    def __init__(self, state: State) -> None:
        super().__init__(state)
        last = last_attribute(state.release)

        def reading(carry_out: Callable[[Call], None]) -> Handler:
            return Handler(carry_out, last, _POLICY)

        self.handlers: Mapping[int, Handler] = {
            _MSG.NEW: reading(new),
            _MSG.GET: reading(get),
            _MSG.DELETE: reading(delete),
            _MSG.GET_CTRZERO: reading(get),
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
            return "delete" if self._names_one(payload) else "flush"
        if message == _MSG.GET_CTRZERO and flags & _DUMP:
            return "dump and reset"
        return _VERBS[_MSG(message)]

    def _names_one(self, payload: bytes) -> bool:
        """Whether a delete is of one entry, and not a flush."""
        release = self.state.release
        given = parse(payload[nfnetlink.SIZE :], last_attribute(release), {}).attributes
        return not is_flush(given, release)


def is_flush(given: Container[int], release: Release) -> bool:
    """Whether a delete names no entry: the kernel then deletes all that a filter lets through."""
    if CTA.FILTER in given and release.has(ages.FILTERED_FLUSH):
        return True
    return CTA.TUPLE_ORIG not in given and CTA.TUPLE_REPLY not in given


def named(call: Call) -> Entry:
    """The entry that a request names by a tuple of it. Raises :exc:`Refused`."""
    zone = parse_zone(call.attributes)
    for number, direction in ((CTA.TUPLE_ORIG, ORIG), (CTA.TUPLE_REPLY, REPLY)):
        if number in call.attributes:
            tuple_, zone = parse_tuple(
                call.attributes[number], call.asked.family, zone, direction, call.state.release
            )
            entry = call.state.find(tuple_, zone)
            if entry is None:
                raise Refused(errno.ENOENT)
            return entry
    raise Refused(errno.EINVAL)


# -- reading ----------------------------------------------------------------------------------


def get(call: Call) -> None:
    """GET and GET_CTRZERO, of one entry or all. The id is not looked at."""
    zero = call.asked.message == _MSG.GET_CTRZERO
    if call.asked.is_dump:
        call.dump(lambda: TableDump(call, parse_filter(call, call.asked.family), zero=zero))
    entry = named(call)
    use = 2 + entry.children  # one for the table, one for who looks
    parts = render.information(entry, call.state.release, call.state.now, use, zero=zero)
    call.answer(_MSG.NEW, entry.family, *parts)


class TableDump:
    """A walk of the table, a chunk at a time, as it then is (``ctnetlink_dump_table``).

    It remembers the bucket and the id of the entry that did not fit any more. If that one is gone
    when it goes on, the bucket is told again from its start.
    """

    def __init__(self, call: Call, chosen: Filter | None, *, zero: bool) -> None:
        self._state = call.state
        self._seq = call.asked.seq
        self._port = call.port
        self._chosen = chosen
        self._zero = zero
        self._flags = _MULTI
        if chosen is not None and call.state.release.has(ages.DUMP_FILTER):
            self._flags |= _FILTERED
        tells = call.state.release.has(ages.DONE_TELLS_FILTER)
        self.end_flags = self._flags if tells else _MULTI
        self._bucket = 0
        self._resume: int | None = None
        self._ended = False

    def __call__(self, room: int) -> bytes:
        parts: list[bytes] = []
        while not self._ended:
            found = self._state.table.bucket_from(self._bucket)
            if found is None:
                self._ended = True
                break
            bucket, entries = found
            if bucket != self._bucket:
                self._bucket, self._resume = bucket, None
            if not self._walk(entries, room, parts):
                break
            self._bucket, self._resume = bucket + 1, None
        return b"".join(parts)

    def _walk(self, entries: list[Entry], room: int, parts: list[bytes]) -> bool:
        """One bucket; whether all of it found room."""
        if self._resume is not None:
            places = [i for i, entry in enumerate(entries) if entry.id == self._resume]
            entries = entries[places[0] :] if places else entries
        left = room - sum(map(len, parts))
        for entry in entries:
            if self._state.expired(entry):
                self._state.destroy(entry)
                continue
            if entry.status & Status.UNTRACKED:
                continue  # a dump walks the original directions, in which it is not hashed
            if self._chosen is not None and not self._chosen(entry):
                continue
            message = self._message(entry, left)
            if message is None:
                self._resume = entry.id
                return False
            parts.append(message)
            left -= len(message)
        return True

    def _message(self, entry: Entry, room: int) -> bytes | None:
        """An entry, if there is room; if not, its counters may have been reset for nothing."""
        parts = [nfnetlink.pack(entry.family)]
        room -= messages.HEADER_SIZE + nfnetlink.SIZE
        release, now, use = self._state.release, self._state.now, 1 + entry.children
        for part in render.information(entry, release, now, use, zero=self._zero):
            room -= len(part)
            if room < 0:
                return None
            parts.append(part)
        return messages.pack(_ENTRY, self._flags, self._seq, b"".join(parts), self._port)


def list_dump(call: Call, entries: Iterable[Entry]) -> Chunk:
    """Entries that are in no table, of the family that is asked for."""
    release, now, family = call.state.release, call.state.now, call.asked.family
    payloads = [
        b"".join(
            [nfnetlink.pack(each.family), *render.information(each, release, now, 1, zero=False)]
        )
        for each in entries
        if family in (0, each.family)
    ]
    return ListDump(call, _ENTRY, payloads)


def get_dying(call: Call) -> None:
    if not call.asked.is_dump:
        raise Refused(errno.EOPNOTSUPP)
    call.dump(lambda: list_dump(call, call.state.dying))


def get_unconfirmed(call: Call) -> None:
    """Nothing here is ever unconfirmed: no packet is on its way."""
    if not call.asked.is_dump:
        raise Refused(errno.EOPNOTSUPP)
    call.dump(lambda: list_dump(call, ()))


def get_statistics(call: Call) -> None:
    state = call.state
    call.answer(
        _MSG.GET_STATS,
        0,
        pack_be32(CTA_STATS_GLOBAL.ENTRIES, state.entries),
        pack_be32(CTA_STATS_GLOBAL.MAX_ENTRIES, state.sysctls["nf_conntrack_max"]),
    )


def get_cpu_statistics(call: Call) -> None:
    """A dump alone has them; else there is no answer but the acknowledgement."""
    if not call.asked.is_dump:
        return
    kind = nfnetlink.message_type(NFNL_SUBSYS.CTNETLINK, _MSG.GET_STATS_CPU)
    payloads = [_cpu(call.state, cpu) for cpu in range(len(call.state.cpu_counters))]
    call.dump(lambda: ListDump(call, kind, payloads))


def _cpu(state: State, cpu: int) -> bytes:
    counters = state.cpu_counters[cpu]
    parts = [
        pack_be32(number, counters.get(name, 0))
        for number, name in _COUNTED
        if number not in _COUNTED_SINCE or state.release.has(_COUNTED_SINCE[number])
    ]
    return nfnetlink.pack(0, 0, cpu) + b"".join(parts)


# -- writing ----------------------------------------------------------------------------------


def new(call: Call) -> None:
    """NEW: an update of the entry that a tuple finds, or if there is none a new one."""
    state, given = call.state, call.attributes
    zone = parse_zone(given)
    tuples: dict[int, Tuple] = {}
    for number, direction in ((CTA.TUPLE_ORIG, ORIG), (CTA.TUPLE_REPLY, REPLY)):
        if number in given:
            tuples[direction], zone = parse_tuple(
                given[number], call.asked.family, zone, direction, state.release
            )
    by = tuples.get(ORIG, tuples.get(REPLY))
    entry = None if by is None else state.find(by, zone)
    if entry is not None:
        if call.asked.flags & _EXCL:
            raise Refused(errno.EEXIST)
        update(state, entry, given)
        state.tell(entry, WRITTEN | IPCT.LABEL, call.port, report=call.report)
        return
    if not call.asked.flags & _CREATE:
        raise Refused(errno.ENOENT)
    if len(tuples) < 2 or tuples[ORIG].proto != tuples[REPLY].proto:
        raise Refused(errno.EINVAL)
    entry, events = create(call, tuples[ORIG], tuples[REPLY], zone)
    state.tell(entry, WRITTEN | events, call.port, report=call.report)


def delete(call: Call) -> None:
    """DELETE: of the entry that a tuple names; without one, a flush of all that the filter lets.

    That is how a request that names nothing deletes everything.
    """
    state, given = call.state, call.attributes
    if is_flush(given, state.release):
        flush(call)
        return
    entry = named(call)
    if _kept(state, entry):
        raise Refused(errno.EBUSY)
    if CTA.ID in given and u32(given[CTA.ID]) != entry.id:
        raise Refused(errno.ENOENT)
    state.destroy(entry, call.port, report=call.report)


def flush(call: Call) -> None:
    """The family counts only with a version that is not 0, or with ``CTA_FILTER``."""
    state, asked = call.state, call.asked
    filtered = CTA.FILTER in call.attributes and state.release.has(ages.FILTERED_FLUSH)
    family = asked.family if asked.version or filtered else 0
    chosen = parse_filter(call, family, flush=True)
    for entry in state.table:
        if (chosen is None or chosen(entry)) and not _kept(state, entry):
            state.destroy(entry, call.port, report=call.report)


def _kept(state: State, entry: Entry) -> bool:
    """Whether it is offloaded, which old kernels don't delete."""
    return bool(entry.status & Status.OFFLOAD) and not state.release.has(ages.OFFLOADED_DELETED)
