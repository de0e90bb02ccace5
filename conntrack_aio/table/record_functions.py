"""Compile the functions of records: they read, compare and merge the bytes of entries.

A record is a prefix and the attributes of an entry, as :mod:`.states` describes. All records of one
format have the same skeleton, so each value is at the same offset in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import Struct
from typing import Final, NamedTuple

from ..codec.raw_values import RawValues
from ..codec.skeleton import Found, Survey, named_values
from ..function_builder import Expression, FunctionBuilder
from ..netlink.attributes import HEADER, walk
from .merging import UNREPORTED_FIELDS
from .tuple_keys import Keys, inverse_icmp_type

ReadKeys = Callable[[bytes], Keys]
"""Returns the keys of a record."""
ReadMessage = Callable[[bytes, bytes], tuple[bytes, Keys]]
"""Returns the record of a message, with a time, and its keys."""
Merge = Callable[[bytes, bytes], bytes | None]
"""Returns the record that results from an update of a known record; ``None`` if the two may be
records of different entries."""
Compare = Callable[[bytes, bytes], bool]
"""Returns whether two records certainly have equal values. Unequal bytes may have equal values."""

_TUPLES: Final = frozenset({"orig", "reply"})
_join: Final = b"".join


# -- attributes ---------------------------------------------------------------------------------


class Attribute(NamedTuple):
    """An attribute of a record that holds the value of a field, with its header and padding."""

    number: int
    start: int
    end: int

    @property
    def bytes(self) -> slice:
        """The bytes of the attribute in the record."""
        return slice(self.start, self.end)


def find_attributes(surveyed: Survey, record: bytes) -> dict[str, Attribute] | None:
    """Return the attributes of a record by the names of the fields whose values they hold.

    :param surveyed: the survey of the record.
    :param record: the record.
    :returns: ``None`` if there is an unknown attribute, which may be inside another one, or if an
        attribute is cut off by the end of the record.
    """
    if surveyed.unknown or (len(record) - surveyed.start) % 4:
        return None
    values = named_values(surveyed.skeleton)
    attributes: dict[str, Attribute] = {}
    for number, _, first, last in walk(record, surveyed.start, len(record), str):
        for name, found in values.items():
            if first <= found.start and found.end <= last:
                end = surveyed.start + ((last - surveyed.start + 3) & ~3)
                attributes[name] = Attribute(number, first - HEADER.size, end)
    return attributes if len(attributes) == len(values) else None


# -- keys ---------------------------------------------------------------------------------------


_OPPOSITES: Final = {"src": "dst", "dst": "src", "sport": "dport", "dport": "sport"}
_ICMP: Final = ("icmp_id", "icmp_type", "icmp_code")
_NO_ICMP: Final = bytes(4)
_ZONE_0: Final = bytes(2)


class _RawTuple:
    """The bytes of the fields of a tuple."""

    def __init__(
        self, builder: FunctionBuilder, raw: RawValues, values: Mapping[str, Found]
    ) -> None:
        """Initialize from the values of the tuple, by their names."""
        self._builder = builder
        self.fields = {name: _unpack(raw, found) for name, found in values.items()}
        self.address_size = values["src"].end - values["src"].start

    def key(self, zone: Expression | None) -> Expression:
        """Write the lines that compute the key, as :func:`.tuple_keys.key_of` returns it.

        :param zone: the variable of the zone, if the tuple has none.
        """
        builder, fields = self._builder, self.fields
        zone = fields.get("zone", zone)
        absent = builder.bind(bytes(2))
        ends = [fields["src"], fields["dst"]]
        ends += [fields.get(name, absent) for name in ("sport", "dport")]
        size = self.address_size
        pack = Struct(f"{size}s{size}s2s2s1s").pack
        key = builder.let("key", "{key}", key=builder.call(pack, *ends, fields["proto"]))
        suffixes: list[tuple[Expression, bytes]] = []
        if any(name in fields for name in _ICMP):
            id, kind, code = [
                fields.get(name, builder.bind(bytes(size)))
                for name, size in zip(_ICMP, (2, 1, 1), strict=True)
            ]
            icmp = builder.let("icmp", "{id} + {kind} + {code}", id=id, kind=kind, code=code)
            suffixes.append((icmp, _NO_ICMP))
        if zone is not None:
            suffixes.append((zone, _ZONE_0))
        for suffix, zeros in suffixes:
            with builder.block("if {suffix} != {zeros}", suffix=suffix, zeros=zeros):
                builder.line("{key} = {key} + {suffix}", key=key, suffix=suffix)
        return key


def compile_keys(surveyed: Survey, size: int) -> ReadKeys | None:
    """Return the function that reads the keys of records; ``None`` if there can be none.

    :param surveyed: the survey of a record.
    :param size: the bytes of a record.
    """
    builder = FunctionBuilder("keys", "record")
    record, raw = builder.parameter("record"), RawValues(builder)
    keys = _RawKeys.find(builder, raw, surveyed)
    if keys is None:
        return None
    keys.write_return(builder, lambda keys: keys)
    _write_unpacking(builder, raw, record, size)
    return builder.build()


def compile_read(
    surveyed: Survey, size: int, prefix: bytes, parts: Sequence[slice], suffix: bytes
) -> ReadMessage | None:
    """Return the function that makes records of messages; ``None`` if there can be none.

    :param surveyed: the survey of a message.
    :param size: the bytes of a message.
    :param prefix: the first bytes of the records.
    :param parts: the bytes of a message to copy.
    :param suffix: the last bytes of the records.
    """
    builder = FunctionBuilder("read", "record")
    message, time = map(builder.parameter, ("message", "time"))
    raw = RawValues(builder)
    keys = _RawKeys.find(builder, raw, surveyed)
    if keys is None:
        return None
    record = builder.expression("{prefix} + {time}", prefix=prefix, time=time)
    for part in parts:
        copied = message
        if part != slice(0, size):
            copied = builder.expression("{m}[{part}]", m=message, part=part)
        record = builder.expression("{record} + {part}", record=record, part=copied)
    if suffix:
        record = builder.expression("{record} + {suffix}", record=record, suffix=suffix)
    keys.write_return(
        builder, lambda keys: builder.expression("{record}, ({keys})", record=record, keys=keys)
    )
    _write_unpacking(builder, raw, message, size)
    return builder.build()


def _unpack(raw: RawValues, found: Found, format: str | None = None) -> Expression:
    """Return the variable of a value: its bytes, unless there is a format."""
    return raw.unpack(found.start, found.end - found.start, format)


def _write_unpacking(
    builder: FunctionBuilder, raw: RawValues, record: Expression, size: int
) -> None:
    """Write the line that unpacks the values of a record, before all other lines."""
    unpack = raw.struct(0, size).unpack
    builder.first_line("({raw}) = {f}({m})", raw=raw.variables, f=unpack, m=record)


class _RawKeys(NamedTuple):
    """The values that the keys of an entry consist of."""

    orig: _RawTuple
    reply: _RawTuple
    zone: Expression | None
    id: Expression | None

    @classmethod
    def find(cls, builder: FunctionBuilder, raw: RawValues, surveyed: Survey) -> _RawKeys | None:
        """Return the values of an entry; ``None`` if it lacks one that each entry has."""
        values = named_values(surveyed.skeleton)
        tuples: list[dict[str, Found]] = []
        for name in ("orig", "reply"):
            found = values.get(name)
            if found is None or found.inside is None:
                return None
            tuples.append(named_values(found.inside))
            if not {"src", "dst", "proto"} <= tuples[-1].keys():
                return None
        zone = _unpack(raw, values["zone"]) if "zone" in values else None
        id = _unpack(raw, values["id"], "I") if "id" in values else None
        orig, reply = [_RawTuple(builder, raw, each) for each in tuples]
        return cls(orig, reply, zone, id)

    def write_return(
        self, builder: FunctionBuilder, result: Callable[[Expression], Expression]
    ) -> None:
        """Write the statements that return the keys.

        :param builder: the function.
        :param result: returns what the function returns, for the keys without brackets.
        """
        key = self.orig.key(self.zone)
        equal = _inverse_condition(builder, self.orig, self.reply)
        if equal is not None:
            with builder.block("if {equal}", equal=equal):
                keys = builder.expression("{key}, None, {id}", key=key, id=self.id)
                builder.line("return {result}", result=result(keys))
        other = self.reply.key(self.zone)
        keys = builder.expression("{key}, {other}, {id}", key=key, other=other, id=self.id)
        builder.line("return {result}", result=result(keys))


def _inverse_condition(
    builder: FunctionBuilder, orig: _RawTuple, reply: _RawTuple
) -> Expression | None:
    """Return whether one tuple is the other one with its ends exchanged; ``None`` if it never is.

    This is the condition of :func:`.tuple_keys.reply_is_inverse`.
    """
    one, other = orig.fields, reply.fields
    if {_OPPOSITES.get(name, name) for name in one} != other.keys() or "zone" in one:
        return None
    equal: list[Expression] = []
    for name, value in one.items():
        opposite = other[_OPPOSITES.get(name, name)]
        if name == "icmp_type":
            value, opposite, proto = [
                builder.expression("{raw}[{at}]", raw=raw, at=0)
                for raw in (value, opposite, other["proto"])
            ]
            opposite = builder.call(inverse_icmp_type, proto, opposite)
        equal.append(builder.expression("{a} == {b}", a=value, b=opposite))
    return builder.join("and", equal[::-1])


# -- two records --------------------------------------------------------------------------------


class Layout(NamedTuple):
    """Where the values are in the records of a format."""

    prefix: bytes
    """The first bytes of each record."""
    values: Mapping[str, Found]
    """The values of the flow, by the names of their fields."""
    attributes: Mapping[str, Attribute]
    """The attributes that hold them."""


class Piece(NamedTuple):
    """Consecutive attributes of one of two records."""

    of_update: bool
    start: int
    end: int


def merged_pieces(known: Layout, update: Layout) -> list[Piece]:
    """Return the attributes of the record that results from an update of a known record.

    An update lacks what it does not report, except the helper. The attributes are in the order of
    their numbers. So there are not many formats, whatever the order of the updates.
    """
    sources = {name: (False, each) for name, each in known.attributes.items() if name != "helper"}
    sources.update(
        {name: (True, each) for name, each in update.attributes.items() if name not in _TUPLES}
    )
    pieces: list[Piece] = []
    for of_update, attribute in sorted(sources.values(), key=lambda source: source[1].number):
        last = pieces[-1] if pieces else None
        if last is not None and (last.of_update, last.end) == (of_update, attribute.start):
            pieces[-1] = last._replace(end=attribute.end)
        else:
            pieces.append(Piece(of_update, attribute.start, attribute.end))
    return pieces


def compile_merge(
    known: Layout, update: Layout, pieces: Iterable[Piece], prefix: bytes, time: slice
) -> Merge | None:
    """Return the function that merges records of two formats; ``None`` if there can be none.

    :param known: the layout of the known records.
    :param update: the layout of the updates.
    :param pieces: what :func:`merged_pieces` returned for them.
    :param prefix: the first bytes of the resulting records.
    :param time: the bytes of records that hold the time, which is that of the update.
    """
    builder = FunctionBuilder("merge", "record")
    records = one, other = builder.parameter("known"), builder.parameter("update")
    same = _same_entry(builder, known, update, one, other)
    if same is None:
        return None
    with builder.block("if {same}", same=builder.join("and", same)):
        parts = [
            builder.expression(
                "{record}[{bytes}]", record=records[of_update], bytes=slice(start, end)
            )
            for of_update, start, end in (Piece(True, time.start, time.stop), *pieces)
        ]
        builder.line("return {join}(({prefix}, {parts}))", join=_join, prefix=prefix, parts=parts)
    builder.line("return None")
    return builder.build()


def compile_same_entry(known: Layout, update: Layout) -> Compare | None:
    """Return the function that returns whether two records certainly are of one entry.

    This is the condition of :func:`.merging.same_entry`, for records with the same key. The result
    is ``None`` if the formats alone do not allow the conclusion.
    """
    builder = FunctionBuilder("same", "record")
    same = _same_entry(builder, known, update, *map(builder.parameter, ("known", "update")))
    if same is None:
        return None
    builder.line("return {same}", same=builder.join("and", same))
    return builder.build()


def _same_entry(
    builder: FunctionBuilder, known: Layout, update: Layout, one: Expression, other: Expression
) -> list[Expression] | None:
    """Return the conditions under which two records certainly are of one entry."""
    pairs: list[tuple[slice, slice]] = []
    if not _add_equal(pairs, known.values, update.values, "reply"):
        return None
    if "id" in known.values and "id" in update.values:
        _add_equal(pairs, known.values, update.values, "id")
    if not _add_equal(pairs, known.values, update.values, "zone"):
        return None
    times = [each.values.get("timestamp") for each in (known, update)]
    if times[0] is not None and times[1] is not None:
        starts = [named_values(each.inside) if each and each.inside else {} for each in times]
        if not _add_equal(pairs, starts[0], starts[1], "start"):
            return None
    return [_equal_bytes(builder, one, other, *each) for each in pairs]


def _add_equal(
    pairs: list[tuple[slice, slice]],
    known: Mapping[str, Found],
    update: Mapping[str, Found],
    name: str,
) -> bool:
    """Add the bytes of a field to those that must be equal.

    :returns: ``False`` if only one of the records has the field.
    """
    one, other = known.get(name), update.get(name)
    if one is not None and other is not None:
        pairs.append((slice(one.start, one.end), slice(other.start, other.end)))
    return (one is None) == (other is None)


def compile_unchanged(before: Layout, after: Layout) -> Compare | None:
    """Return the function that returns whether two states of an entry certainly are equal.

    :data:`UNREPORTED_FIELDS` and the tuples are not compared. A mark of 0 equals an absent one. The
    result is ``None`` if records of the two formats always differ.
    """
    builder = FunctionBuilder("unchanged", "record")
    one, other = builder.parameter("before"), builder.parameter("after")
    left_out = _TUPLES | UNREPORTED_FIELDS
    fields = [
        {name: each for name, each in layout.attributes.items() if name not in left_out}
        for layout in (before, after)
    ]
    conditions: list[Expression] = []
    marks = [each.pop("mark", None) for each in fields]
    if marks[0] is not None and marks[1] is not None:
        fields[0]["mark"], fields[1]["mark"] = marks[0], marks[1]
    for record, mark in zip((one, other), marks, strict=True):
        if mark is not None and None in marks:
            payload = slice(mark.start + HEADER.size, mark.end)
            conditions.append(
                builder.expression(
                    "{record}[{payload}] == {zero}", record=record, payload=payload, zero=bytes(4)
                )
            )
    if fields[0].keys() != fields[1].keys():
        return None
    pairs: list[tuple[slice, slice]] = []
    for name, attribute in sorted(fields[0].items(), key=lambda item: item[1].start):
        old, new = attribute.bytes, fields[1][name].bytes
        if pairs and pairs[-1][0].stop == old.start and pairs[-1][1].stop == new.start:
            old, new = (
                slice(pairs[-1][0].start, old.stop),
                slice(pairs[-1][1].start, new.stop),
            )
            pairs.pop()
        pairs.append((old, new))
    conditions += [_equal_bytes(builder, one, other, *each) for each in pairs]
    if conditions:
        builder.line("return {equal}", equal=builder.join("and", conditions))
    else:
        builder.line("return True")
    return builder.build()


def _equal_bytes(
    builder: FunctionBuilder, one: Expression, other: Expression, left: slice, right: slice
) -> Expression:
    return builder.expression(
        "{one}[{left}] == {other}[{right}]", one=one, left=left, other=other, right=right
    )
