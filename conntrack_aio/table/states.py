"""States of entries: what the live table stores, compares and merges.

A state is usually a *record*: the attributes that the kernel sent, after the number of the format
of the record, and the time at which they were sent. Records of one format have the same skeleton,
so functions that are compiled for the format read them. A record takes a third of the memory of a
flow. Most events are applied without creating an object.

A state is a flow if there is no format for it: a flow that a layout did not decode, or the result
of a merge that records do not allow. The rules for flows are in :mod:`.merging`. Those for records
give the same results.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple, TypeAlias, cast

from ..codec.layout_writer import can_compile, compile_values, make_reader
from ..codec.schema import schema_of
from ..codec.skeleton import Found, Survey, named_values, survey
from ..function_builder import BoundedMemo
from ..model.enums import Status
from ..model.events import FlowEvent
from ..model.flow import Flow
from ..model.lazy_fields import FieldReader, lazy_classes_of
from ..model.tuples import Tuple
from ..netlink.attributes import HEADER, pack, walk
from ..uapi.nfnetlink_conntrack import CTA
from . import merging, tuple_keys
from .merging import duplicate
from .record_functions import (
    Attribute,
    Compare,
    Layout,
    Merge,
    ReadKeys,
    ReadMessage,
    compile_keys,
    compile_merge,
    compile_read,
    compile_same_entry,
    compile_unchanged,
    find_attributes,
    merged_pieces,
)
from .tuple_keys import Keys

Ends: TypeAlias = tuple[Tuple, Tuple, Status | None]
"""Both tuples of an entry, and its status."""

State: TypeAlias = bytes | Flow
"""A state of an entry: a record, or a flow that nothing changes any more."""

_PREFIX: Final = 2
"""The first bytes of a record: the number of its format."""

_TIME: Final = Struct("!d")
"""What follows them: when the entry was read or reported, in seconds of a monotonic clock."""

_START: Final = _PREFIX + _TIME.size
"""The offset of the attributes in a record."""

_NO_HEAD: Final = bytes(_START)

_MAX_FORMATS: Final = 1024
"""Formats of a table, at most. The states of further skeletons are flows. A table of real traffic
needs some dozens."""

_MAX_FUNCTIONS: Final = 1024
"""Compiled functions of each kind that a table keeps, at most. When there are more, all are
dropped."""

_MAX_PARTS: Final = 256
"""Skeletons whose functions all tables of the process share, at most."""

_DYING: Final = int(Status.DYING)
_DYING_BYTE, _DYING_BIT = 1, _DYING >> 8
"""The bit DYING of the status: in the next-to-last byte."""
_MARK_0: Final = pack(CTA.MARK, bytes(4))
_NOT_OF_FLOWS: Final = (
    schema_of(FlowEvent).root.children.keys() - schema_of(Flow).root.children.keys()
)
"""The numbers of the attributes of an event that are not of its flow."""

_unread: Final = cast("type[Flow]", lazy_classes_of(Flow).unread)
_lazy: Final = frozenset({_unread, lazy_classes_of(Flow).partly_read})
"""The classes of the flows whose message says everything. What a table reads may have been read
before, but never changed: no program has had it."""
_new: Final = object.__new__


class _Parts(NamedTuple):
    """What depends only on the skeleton of a record. All tables of the process share it."""

    template: bytes
    """A record whose values are 0, except those that determine the skeleton."""
    reader: FieldReader
    keys: ReadKeys | None
    ends: Callable[[bytes], Ends]
    values: dict[str, Found]
    attributes: dict[str, Attribute] | None


_parts: Final = BoundedMemo(_MAX_PARTS)


class _Format:
    """A format of records."""

    __slots__ = (
        "dying",
        "ends",
        "has_labels",
        "id",
        "keys",
        "layout",
        "prefix",
        "template",
        "timeout",
    )

    def __init__(self, prefix: bytes, parts: _Parts) -> None:
        assert parts.keys is not None
        values = parts.values
        self.prefix = prefix
        self.template = parts.template
        self.keys = parts.keys
        self.ends = parts.ends
        self.layout = None
        """Where the values are; ``None`` if records of the format are not compared or merged."""
        if parts.attributes is not None:
            self.layout = Layout(prefix, values, parts.attributes)
        self.has_labels = "labels" in values
        self.id = _slice_of(values.get("id"))
        status = values.get("status")
        self.dying = None if status is None else status.end - 1 - _DYING_BYTE
        """The offset of the byte that has the bit DYING of the status."""
        self.timeout = _slice_of(values.get("timeout"))


def _slice_of(found: Found | None) -> slice | None:
    return None if found is None else slice(found.start, found.end)


class States:
    """The formats of the records of a table, and operations on states."""

    def __init__(self) -> None:
        self._time = _TIME.pack(0.0)
        self._formats: dict[bytes, _Format] = {}
        """The formats by their prefixes."""
        self._readers: dict[bytes, FieldReader] = {}
        """The readers of their flows, by the same prefixes."""
        self._by_skeleton: dict[tuple[int, int, int], _Format | None] = {}
        """The formats by their skeletons; ``None`` if entries with a skeleton have to be flows."""
        self._reads = BoundedMemo(_MAX_FUNCTIONS)
        """The functions that make records of messages, by the readers of the flows."""
        self._reads_of_new = BoundedMemo(_MAX_FUNCTIONS)
        """Those for NEW events."""
        self._find_read, self._find_read_of_new = self._reads.get, self._reads_of_new.get
        self._merges = BoundedMemo(_MAX_FUNCTIONS, self._make_merge)
        """By the prefixes of the known record and of the update, one after the other."""
        self._unchanged = BoundedMemo(_MAX_FUNCTIONS, self._make_unchanged)
        self._same_entry = BoundedMemo(_MAX_FUNCTIONS, self._make_same_entry)

    # -- times --------------------------------------------------------------------------------

    def set_time(self, seconds: float) -> None:
        """Set the time of the records that :meth:`read` makes from now on."""
        self._time = _TIME.pack(seconds)

    @staticmethod
    def time_of(record: bytes) -> float:
        """Return the time of a record."""
        (seconds,) = _TIME.unpack_from(record, _PREFIX)
        return cast("float", seconds)

    @staticmethod
    def with_time(record: bytes, seconds: float) -> bytes:
        """Return a record with another time."""
        return record[:_PREFIX] + _TIME.pack(seconds) + record[_START:]

    # -- from flows and to flows --------------------------------------------------------------

    def read(self, flow: Flow) -> tuple[State, Keys]:
        """Return the state of an entry that the kernel sent, and its keys.

        The caller must not use the flow afterwards.
        """
        if type(flow) in _lazy:
            reader = flow._reader  # pyright: ignore[reportPrivateUsage]
            message: bytes | None = flow._message  # pyright: ignore[reportPrivateUsage]
            read: ReadMessage | None = self._find_read(reader)
            if read is None and message is not None and reader not in self._reads:
                read = self._make_read(reader, message, new=False)
                self._reads.store(reader, read)
            if read is not None and message is not None:
                return read(message, self._time)
        return flow, tuple_keys.keys_of(flow)

    def read_new(self, flow: Flow) -> tuple[State, Keys]:
        """Return the state of an entry of a NEW event, and its keys.

        Only NEW events leave out a mark of 0. The caller must not use the flow afterwards.
        """
        if type(flow) in _lazy:
            reader = flow._reader  # pyright: ignore[reportPrivateUsage]
            message: bytes | None = flow._message  # pyright: ignore[reportPrivateUsage]
            read: ReadMessage | None = self._find_read_of_new(reader)
            if read is None and message is not None and reader not in self._reads_of_new:
                read = self._make_read(reader, message, new=True)
                self._reads_of_new.store(reader, read)
            if read is not None and message is not None:
                return read(message, self._time)
        flow.mark = flow.mark or 0
        return flow, tuple_keys.keys_of(flow)

    def new_flow(self, state: State) -> Flow:
        """Return a new flow for the program, which may change it."""
        if type(state) is bytes:
            flow = _new(_unread)
            flow._message = state  # pyright: ignore[reportPrivateUsage]
            flow._reader = self._readers[state[:_PREFIX]]  # pyright: ignore[reportPrivateUsage]
            return flow
        return duplicate(cast("Flow", state))

    def flow_of(self, state: State) -> Flow:
        """Return the flow of a state, which must not be changed."""
        return self.new_flow(state) if type(state) is bytes else cast("Flow", state)

    # -- one state ----------------------------------------------------------------------------

    def keys_of(self, state: State) -> Keys:
        """Return the keys of the entry."""
        if type(state) is bytes:
            return self._formats[state[:_PREFIX]].keys(state)
        return tuple_keys.keys_of(cast("Flow", state))

    def ends_of(self, state: State) -> Ends:
        """Return both tuples of the entry, and its status."""
        if type(state) is bytes:
            return self._formats[state[:_PREFIX]].ends(state)
        flow = cast("Flow", state)
        return flow.orig, flow.reply, flow.status

    def is_dying(self, state: State) -> bool:
        """Return whether the entry has ended and is still in the kernel's table.

        Its destroy event was already sent: ``nf_ct_delete`` sends it before it removes the entry.
        No further event reports the end.
        """
        if type(state) is bytes:
            at = self._formats[state[:_PREFIX]].dying
            return at is not None and state[at] & _DYING_BIT != 0
        status = cast("Flow", state).status
        return status is not None and bool(int(status) & _DYING)

    def id_of(self, state: State) -> int | None:
        """Return the id of the entry."""
        if type(state) is bytes:
            where = self._formats[state[:_PREFIX]].id
            return None if where is None else int.from_bytes(state[where], "big")
        return cast("Flow", state).id

    def has_id(self, state: State) -> bool:
        """Return whether the id of the entry is known."""
        if type(state) is bytes:
            return self._formats[state[:_PREFIX]].id is not None
        return cast("Flow", state).id is not None

    def has_labels(self, state: State) -> bool:
        """Return whether labels are known of the entry."""
        if type(state) is bytes:
            return self._formats[state[:_PREFIX]].has_labels
        return cast("Flow", state).labels is not None

    def timeout_of(self, state: State) -> int | None:
        """Return the timeout of the entry."""
        if type(state) is bytes:
            where = self._formats[state[:_PREFIX]].timeout
            return None if where is None else int.from_bytes(state[where], "big")
        return cast("Flow", state).timeout

    # -- two states ---------------------------------------------------------------------------

    def same_entry(self, one: State, other: State) -> bool:
        """Return whether two states with one original tuple are of one entry.

        See :func:`.merging.same_entry`.
        """
        if type(one) is bytes and type(other) is bytes:
            certainly: Compare | None = self._same_entry[one[:_PREFIX] + other[:_PREFIX]]
            if certainly is not None and certainly(one, other):
                return True
        return merging.same_entry(self.flow_of(one), self.flow_of(other))

    def changed_fields(self, before: State, after: State) -> tuple[str, ...]:
        """Return the names of the fields in which two states of an entry differ.

        See :func:`.merging.changed_fields`.
        """
        if type(before) is bytes and type(after) is bytes:
            unchanged: Compare | None = self._unchanged[before[:_PREFIX] + after[:_PREFIX]]
            if unchanged is not None and unchanged(before, after):
                return ()
        return merging.changed_fields(self.flow_of(before), self.flow_of(after))

    def merge(self, known: State, update: State) -> State | None:
        """Return the state of an entry after an update; ``None`` if it is of another entry.

        See :func:`.merging.same_entry` and :func:`.merging.merge_update`.
        """
        if type(known) is bytes and type(update) is bytes:
            merge: Merge | None = self._merges[known[:_PREFIX] + update[:_PREFIX]]
            if merge is not None and (merged := merge(known, update)) is not None:
                return merged
        flow = self.flow_of(known)
        changed = self.flow_of(update)
        if not merging.same_entry(flow, changed):
            return None
        if changed is update:
            changed = duplicate(changed)
        merging.merge_update(flow, changed)
        return changed

    def final_state(self, known: State, final: State) -> State:
        """Return the last state of an entry, by its state before and by its destroy event.

        See :func:`.merging.merge_destroy`.
        """
        return merging.merge_destroy(self.flow_of(known), self.new_flow(final))

    def has_reportable_change(self, before: State, after: State) -> bool:
        """Return whether two states differ in a field whose changes the kernel always reports.

        See :func:`.merging.has_reportable_change`.
        """
        changed = self.changed_fields(before, after)
        return bool(changed) and merging.has_reportable_change(
            self.flow_of(before), self.flow_of(after), changed
        )

    # -- formats ------------------------------------------------------------------------------

    def _make_read(self, reader: FieldReader, message: bytes, *, new: bool) -> ReadMessage | None:
        """Return what makes records of messages like this one; ``None`` if they cannot be made."""
        # What an event keeps begins in the header, with its port id.
        left_out = _NOT_OF_FLOWS if reader.start else frozenset[int]()
        ranges: list[tuple[int, int]] = []
        for number, _, first, last in walk(message, reader.start, len(message)):
            if number in left_out:
                continue
            start, end = first - HEADER.size, first + ((last - first + 3) & ~3)
            if ranges and ranges[-1][1] == start:
                start = ranges.pop()[0]
            ranges.append((start, end))
        parts = [slice(start, min(end, len(message))) for start, end in ranges]
        attributes = b"".join([message[part] for part in parts])
        suffix = b""
        if new and "mark" not in named_values(_survey(_NO_HEAD + attributes).skeleton):
            suffix = _MARK_0
        format = self._format_of(attributes + suffix)
        if format is None:
            return None
        surveyed = survey(Flow, message, reader.start, len(message))
        return compile_read(surveyed, len(message), format.prefix, parts, suffix)

    def _format_of(self, attributes: bytes) -> _Format | None:
        """Return the format of a record; ``None`` if its entry has to be a flow.

        :param attributes: the attributes of the record.
        """
        record = _NO_HEAD + attributes
        surveyed = _survey(record)
        mask = bytearray(len(record))
        for start, end in surveyed.fixed:
            mask[start:end] = b"\xff" * (end - start)
        fixed = int.from_bytes(mask, "little")
        template = fixed & int.from_bytes(record, "little")
        skeleton = (len(record), fixed, template)
        if skeleton in self._by_skeleton:
            return self._by_skeleton[skeleton]
        if len(self._by_skeleton) >= _MAX_FORMATS:
            return None
        parts: _Parts | None = _parts.get(skeleton)
        if parts is None:
            parts = _make_parts(surveyed, template.to_bytes(len(record), "little"))
            _parts.store(skeleton, parts)
        format = None
        if parts.keys is not None:
            prefix = len(self._formats).to_bytes(_PREFIX, "little")
            format = self._formats[prefix] = _Format(prefix, parts)
            self._readers[prefix] = parts.reader
        self._by_skeleton[skeleton] = format
        return format

    def _make_merge(self, prefixes: bytes) -> Merge | None:
        layouts = self._layouts(prefixes)
        if layouts is None:
            return None
        known, update = layouts
        pieces = merged_pieces(known, update)
        templates = [self._formats[each.prefix].template for each in layouts]
        merged = [templates[of_update][start:end] for of_update, start, end in pieces]
        format = self._format_of(b"".join(merged))
        return (
            None
            if format is None
            else compile_merge(known, update, pieces, format.prefix, slice(_PREFIX, _START))
        )

    def _layouts(self, prefixes: bytes) -> tuple[Layout, Layout] | None:
        one, other = [self._formats[p].layout for p in (prefixes[:_PREFIX], prefixes[_PREFIX:])]
        return None if one is None or other is None else (one, other)

    def _make_same_entry(self, prefixes: bytes) -> Compare | None:
        layouts = self._layouts(prefixes)
        return None if layouts is None else compile_same_entry(*layouts)

    def _make_unchanged(self, prefixes: bytes) -> Compare | None:
        layouts = self._layouts(prefixes)
        return None if layouts is None else compile_unchanged(*layouts)


def _survey(record: bytes) -> Survey:
    return survey(Flow, record, _START, len(record))


def _make_parts(surveyed: Survey, template: bytes) -> _Parts:
    size = len(template)
    return _Parts(
        template,
        make_reader(surveyed, size),
        compile_keys(surveyed, size) if can_compile(surveyed) else None,
        _compiled_later(lambda: compile_values(surveyed, size, ("orig", "reply", "status"))),
        named_values(surveyed.skeleton),
        find_attributes(surveyed, template),
    )


def _compiled_later(compile: Callable[[], Callable[[bytes], Ends]]) -> Callable[[bytes], Ends]:
    """Return a function that is compiled when it is called first."""
    compiled: list[Callable[[bytes], Ends]] = []

    def call(record: bytes) -> Ends:
        if not compiled:
            compiled.append(compile())
        return compiled[0](record)

    return call
