"""The columns of flows and events: their names, and where their values are in objects and messages.

Both are derived from the declarations of the model. A column holds the values of one stored field,
or is computed from several.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from operator import attrgetter
from socket import AF_INET, AF_INET6
from typing import Final, Literal, cast

import attrs

from ..model.enums import EventType
from ..model.events import FlowEvent
from ..model.flow import Flow
from ..model.protoinfo import DCCPInfo, SCTPInfo, TCPInfo
from ..model.wire import Address, Bitmap, Bytes, Integer, MaskedFlags, Text, Wire
from ..suggestions import suggestion
from .scalars import INTEGER_CODES, IntegerCode, to_words
from .schema import Schema, schema_of
from .skeleton import Found, Skeleton

Content = Literal["number", "address", "bitmap", "text", "bytes"]
"""What the values of a stored field are."""

_WIDTHS: Final = {"B": 1, "H": 2, "I": 4, "i": 4, "Q": 8}

MAPPED: Final = bytes(10) + b"\xff\xff"
"""What precedes an IPv4 address where 16 bytes hold an address."""

PREFIXES: Final = {
    "counters_orig": "orig",
    "counters_reply": "reply",
    "seqadj_orig": "orig_seqadj",
    "seqadj_reply": "reply_seqadj",
    "timestamp": "",
}
"""What the names of columns begin with, for objects in a flow whose field has another name."""

_VARIANTS: Final[dict[type, str]] = {TCPInfo: "tcp", SCTPInfo: "sctp", DCCPInfo: "dccp"}
"""What they begin with where a field holds objects of different classes."""

_RENAMED: Final[dict[str, str | None]] = {"orig_proto": "proto", "reply_proto": None}
"""Other names. A flow has one protocol, so the reply tuple's is no column."""

EVENT_TYPES: Final = tuple(EventType)


@attrs.frozen(eq=False)
class StoredField:
    """A field whose values are stored in the records of rows."""

    name: str
    content: Content
    code: IntegerCode
    """The format of a value in a record: of the number, or of the index of a text among the
    payloads; not used for values of 16 bytes."""
    find: Callable[[Skeleton], Found | None]
    """Returns where the value is in a message."""
    value_of: Callable[[object], object]
    """Returns the value in an object; ``None`` if it is absent."""
    host_order: bool = False
    """Whether a record holds the number in host byte order instead of network byte order."""
    header_offset: int | None = None
    """The offset of the value in a message, if it is in the header."""

    @property
    def width(self) -> int:
        """Bytes of a value in a record."""
        return 16 if self.content in ("address", "bitmap") else _WIDTHS[self.code]


def _absent(skeleton: Skeleton) -> None:
    """Return ``None``: the value is in no attribute."""


def _getter(path: tuple[tuple[str, type | None], ...]) -> Callable[[object], object]:
    """Return a function that follows attributes from an object to a value.

    :param path: the names, each with the class that the object there must have, if there are
        several.
    """
    if len(path) == 1:
        return attrgetter(path[0][0])

    def get(obj: object) -> object:
        for name, cls in path:
            obj = getattr(obj, name)
            if obj is None or (cls is not None and not isinstance(obj, cls)):
                return None
        return obj

    return get


def _finder(slots: tuple[int, ...], cls: type | None) -> Callable[[Skeleton], Found | None]:
    """Return a function that finds a value in a message.

    :param slots: the slots of the objects around it, from the message's own inward, and its own.
    :param cls: the class of the last of these objects, if there are several.
    """

    def find(skeleton: Skeleton) -> Found | None:
        inner: Skeleton | None = skeleton
        found: Found | None = None
        for slot in slots:
            assert inner is not None
            found = inner.values[slot]
            if found is None:
                return None
            inner = found.inside
            if inner is not None and cls is not None and inner.schema.cls is not cls:
                return None
        return found

    return find


def _content_of(wire: Wire[object]) -> tuple[Content, IntegerCode]:
    if isinstance(wire, Integer):
        integer = cast("Integer[int]", wire)
        return "number", INTEGER_CODES[integer.size, integer.signed]
    if isinstance(wire, MaskedFlags):
        return "number", "B"
    if isinstance(wire, Address):
        return "address", "B"
    if isinstance(wire, Bitmap):
        return "bitmap", "B"
    assert isinstance(wire, Text | Bytes)
    return ("text" if isinstance(wire, Text) else "bytes"), "I"


def _derive(
    schema: Schema[object],
    offset: int,
    prefix: str,
    slots: tuple[int, ...],
    path: tuple[tuple[str, type | None], ...],
    cls: type | None = None,
) -> Iterator[StoredField]:
    """Yield the fields of an object, and of the objects in it.

    :param schema: the schema of the object.
    :param offset: the first of the object's slots among the skeleton's.
    :param prefix: what their names begin with.
    :param slots: the slots of the objects around it.
    :param path: the attributes that lead to the object, each with the class of its value.
    :param cls: the class that the object must have, if there are several.
    """
    for inline in schema.inlines:
        at = (*path, (inline.name, None))
        yield from _derive(inline.schema, offset + inline.offset, prefix, slots, at)
    for field in schema.fields:
        name = f"{prefix}{field.name}"
        inward = (*slots, offset + field.slot)
        for leaf in field.leaves:
            if leaf.nest is None:
                continue
            several = len(field.leaves) > 1
            inner = leaf.nest.cls if several else None
            begin = _VARIANTS[leaf.nest.cls] if several else PREFIXES.get(field.name, field.name)
            begin = begin and f"{prefix}{begin}_"
            yield from _derive(leaf.nest, 0, begin, inward, (*path, (field.name, inner)), inner)
        if field.leaves[0].nest is None:
            renamed = _RENAMED.get(name, name)
            if renamed is not None:
                content, code = _content_of(field.leaves[0].wire)
                get = _getter((*path, (field.name, None)))
                yield StoredField(renamed, content, code, _finder(inward, cls), get)


def _family_of(source: StoredField) -> Callable[[object], object]:
    """Return a function that returns the family of the address in a field."""

    def family_of(obj: object) -> int:
        return AF_INET if isinstance(source.value_of(obj), IPv4Address) else AF_INET6

    return family_of


def _event_only_fields() -> list[StoredField]:
    """Return the fields of events that no attribute holds."""

    def type_of(event: object) -> int:
        return type_number(cast("FlowEvent", event).type)

    get = attrgetter
    return [
        StoredField("type", "number", "B", _absent, type_of),
        StoredField("port_id", "number", "I", _absent, get("port_id"), True, 12),
        StoredField("nsid", "number", "i", _absent, get("nsid")),
        StoredField("netns", "text", "I", _absent, get("netns")),
        StoredField("receive_timestamp", "number", "Q", _absent, get("receive_timestamp")),
    ]


def type_number(event_type: EventType) -> int:
    """Return the number that a record holds for the type of an event."""
    return EVENT_TYPES.index(event_type)


Computation = Literal["stored", "sum", "protocol", "state", "type"]


@attrs.frozen(eq=False)
class ColumnSource:
    """A column that can be asked for: the stored fields that it is made of."""

    name: str
    computation: Computation
    fields: tuple[StoredField, ...]


_stored_fields: Final[dict[type, dict[str, StoredField]]] = {}
_column_sources: Final[dict[type, dict[str, ColumnSource]]] = {}


def has_columns(cls: type[object]) -> bool:
    """Return whether there are columns for the objects of a class."""
    return cls in (Flow, FlowEvent)


def stored_fields_of(cls: type[object]) -> dict[str, StoredField]:
    """Return the stored fields of a class by name: of flows or of events.

    :param cls: :class:`Flow` or :class:`FlowEvent`.
    """
    known = _stored_fields.get(cls)
    if known is None:
        known = _stored_fields[cls] = _find_stored_fields(cls)
    return known


def _find_stored_fields(cls: type[object]) -> dict[str, StoredField]:
    is_event = cls is FlowEvent
    found = _event_only_fields() if is_event else []
    derived = list(_derive(schema_of(cls), 0, "", (), ()))
    source = next(field for field in derived if field.name == "orig_src")
    found.append(StoredField("family", "number", "B", source.find, _family_of(source)))
    found += derived
    fields = {field.name: field for field in found}
    assert len(fields) == len(found), "each has a name of its own"
    return fields


def column_sources_of(cls: type[object]) -> dict[str, ColumnSource]:
    """Return the columns of a class by name, in the order in which all of them are returned."""
    known = _column_sources.get(cls)
    if known is None:
        known = _column_sources[cls] = _make_column_sources(cls)
    return known


def _make_column_sources(cls: type[object]) -> dict[str, ColumnSource]:
    fields = stored_fields_of(cls)
    sources = {
        name: ColumnSource(name, "type" if name == "type" else "stored", (field,))
        for name, field in fields.items()
    }

    def after(place: str, name: str, computation: Computation, *needed: str) -> None:
        source = ColumnSource(name, computation, tuple([fields[each] for each in needed]))
        names = list(sources)
        names.insert(names.index(place) + 1, name)
        sources[name] = source
        ordered = {each: sources[each] for each in names}
        sources.clear()
        sources.update(ordered)

    after("proto", "protocol", "protocol", "proto")
    after("use", "state", "state", "tcp_state", "sctp_state", "dccp_state")
    after("reply_bytes", "packets", "sum", "orig_packets", "reply_packets")
    after("packets", "bytes", "sum", "orig_bytes", "reply_bytes")
    return sources


def select_columns(cls: type[object], names: tuple[str, ...]) -> dict[str, ColumnSource]:
    """Return the columns of the given names, or all columns without a name.

    :param cls: :class:`Flow` or :class:`FlowEvent`.
    :raises ValueError: when there is no such column, or when one is named twice.
    :raises TypeError: when a name is not text.
    """
    sources = column_sources_of(cls)
    chosen: dict[str, ColumnSource] = {}
    for name in names:
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"names of columns must be text; got {type(name).__name__}")
        if name not in sources:
            hint = suggestion(name, sources)
            raise ValueError(f"unknown column {name[:80]!r}{hint or _all_names(cls)}")
        if name in chosen:
            raise ValueError(f"column {name!r} is named twice")
        chosen[name] = sources[name]
    return chosen or dict(sources)


def _all_names(cls: type[object]) -> str:
    return f"; the columns are {', '.join(column_sources_of(cls))}"


def pack_fixed(field: StoredField, value: object) -> bytes:
    """Return the bytes of a value that a record holds: of a number, an address or a bitmap."""
    if field.content == "address":
        packed = cast("IPv4Address | IPv6Address", value).packed
        return MAPPED + packed if len(packed) == 4 else packed
    number = cast("int", value)
    if field.content == "bitmap":
        return to_words(number, 16)
    if field.host_order:
        return number.to_bytes(field.width, sys.byteorder)
    return number.to_bytes(field.width, "big", signed=field.code == "i")
