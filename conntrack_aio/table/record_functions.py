"""Compile the functions of records: they read, compare and merge the bytes of entries.

A record is a prefix and the attributes of an entry, as :mod:`.states` describes. All records of one
format have the same skeleton, so each value is at the same offset in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import Struct
from typing import Final, NamedTuple

from ..codec.skeleton import Found, Skeleton, Survey
from ..function_builder import Expression, FunctionBuilder
from ..netlink.attributes import HEADER, walk
from .merging import UNREPORTED_FIELDS
from .tuple_keys import Keys, inverse_icmp_type

ReadKeys = Callable[[bytes], Keys]
"""Returns the keys of a record."""
ReadMessage = Callable[[bytes], tuple[bytes, Keys]]
"""Returns the record of a message, and its keys."""
Merge = Callable[[bytes, bytes], bytes | None]
"""Returns the record that results from an update of a known record; ``None`` if the two may be
records of different entries."""
Compare = Callable[[bytes, bytes], bool]
"""Returns whether two records certainly have equal values. Unequal bytes may have equal values."""

_TUPLES: Final = frozenset({"orig", "reply"})
_join: Final = b"".join


def named_values(skeleton: Skeleton) -> dict[str, Found]:
    """Return the values of an object that are present, by the names of their fields."""
    found = {field.name: skeleton.values[field.slot] for field in skeleton.schema.fields}
    return {name: value for name, value in found.items() if value is not None}


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


class _Numbers:
    """Unpacks numbers of a record into variables."""

    def __init__(self, builder: FunctionBuilder) -> None:
        self._builder = builder
        self._raw: dict[int, tuple[str, int, Expression]] = {}
        """The format, the size and the variable of each number, by its offset."""

    def number(self, found: Found) -> Expression:
        """Return the variable of a number of at most 32 bits."""
        assert found.leaf.scalar is not None
        assert found.leaf.scalar.code in ("B", "H", "I")
        return self._unpack(found.start, found.leaf.scalar.code, found.end - found.start)

    def address(self, found: Found) -> tuple[Expression, ...]:
        """Return the variables of an address: one of 32 bits, or two of 64 bits."""
        if found.end - found.start == 4:
            return (self._unpack(found.start, "I", 4),)
        return tuple(self._unpack(found.start + at, "Q", 8) for at in (0, 8))

    def _unpack(self, start: int, format: str, size: int) -> Expression:
        if start not in self._raw:
            self._raw[start] = (format, size, self._builder.local("raw"))
        return self._raw[start][2]

    def write(self, record: Expression, size: int) -> None:
        """Write the line that unpacks the numbers, before all other lines."""
        parts, at, variables = ["!"], 0, list[Expression]()
        for start, (format, length, variable) in sorted(self._raw.items()):
            parts += [f"{start - at}x", format]
            variables.append(variable)
            at = start + length
        unpack = Struct("".join([*parts, f"{size - at}x"])).unpack
        self._builder.first_line("({raw}) = {f}({m})", raw=variables, f=unpack, m=record)


class _TupleNumbers:
    """The numbers of a tuple in a record."""

    def __init__(self, numbers: _Numbers, values: Mapping[str, Found]) -> None:
        """Initialize from the values of the tuple, by their names."""
        self.src, self.dst = numbers.address(values["src"]), numbers.address(values["dst"])
        self.others = {
            name: numbers.number(found)
            for name, found in values.items()
            if name not in ("src", "dst")
        }

    @property
    def has_icmp(self) -> bool:
        """Whether the tuple has a field of ICMP."""
        return any(name.startswith("icmp") for name in self.others)

    def key(self, builder: FunctionBuilder, zone: Expression | None) -> Expression:
        """Return the key of the tuple, as :func:`.tuple_keys.key_of` returns it."""
        zone = self.others.get("zone", zone)
        ends = self._joined(builder, (*self.src, *self.dst), 32 if len(self.src) == 1 else 64)
        wide = len(self.src) > 1
        names = ("proto", "sport", "dport")
        proto, sport, dport = [self.others.get(name) for name in names]
        none = builder.bind(0)
        ports = self._joined(builder, (sport or none, dport or none), 16)
        low = builder.expression("{proto} << {by}", proto=proto, by=18)
        if zone is not None:
            low = builder.expression("{low} | {zone} << {by}", low=low, zone=zone, by=2)
        if wide:
            low = builder.expression("{low} | {form}", low=low, form=1)
        parts = {"ends": ends, "ports": ports, "by": 26, "low": low}
        key = builder.expression("{ends} << {high} | {ports} << {by} | {low}", high=58, **parts)
        if not self.has_icmp:
            return key
        id, *kind = [self.others.get(f"icmp_{name}", none) for name in ("id", "type", "code")]
        icmp = builder.expression(
            "({id} << {by} | {kind})", id=id, by=16, kind=self._joined(builder, kind, 8)
        )
        return builder.expression(
            "({ends} << {high} | {ports} << {middle} | {icmp} << {by} | {low} | {form} "
            "if {icmp} else {key})",
            high=90, middle=58, icmp=icmp, form=2, key=key, **parts,
        )  # fmt: skip

    def _joined(
        self, builder: FunctionBuilder, numbers: Iterable[Expression], bits: int
    ) -> Expression:
        """Return one number, made of several with so many bits each."""
        first, *others = numbers
        for other in others:
            first = builder.expression(
                "({first} << {bits} | {other})", first=first, bits=bits, other=other
            )
        return first


def compile_keys(surveyed: Survey, size: int) -> ReadKeys | None:
    """Return the function that reads the keys of records; ``None`` if there can be none.

    :param surveyed: the survey of a record.
    :param size: the bytes of a record.
    """
    builder = FunctionBuilder("keys", "record")
    record, numbers = builder.parameter("record"), _Numbers(builder)
    keys = _KeyNumbers.find(numbers, surveyed)
    if keys is None:
        return None
    keys.write_return(builder, lambda keys: keys)
    numbers.write(record, size)
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
    message, numbers = builder.parameter("message"), _Numbers(builder)
    keys = _KeyNumbers.find(numbers, surveyed)
    if keys is None:
        return None
    record = builder.expression("{prefix}", prefix=prefix)
    for part in parts:
        copied = message if part == slice(0, size) else None
        copied = copied or builder.expression("{m}[{part}]", m=message, part=part)
        record = builder.expression("{record} + {part}", record=record, part=copied)
    if suffix:
        record = builder.expression("{record} + {suffix}", record=record, suffix=suffix)
    keys.write_return(
        builder, lambda keys: builder.expression("{record}, ({keys})", record=record, keys=keys)
    )
    numbers.write(message, size)
    return builder.build()


class _KeyNumbers(NamedTuple):
    """The numbers of the keys of an entry."""

    orig: _TupleNumbers
    reply: _TupleNumbers
    zone: Expression | None
    id: Expression | None

    @classmethod
    def find(cls, numbers: _Numbers, surveyed: Survey) -> _KeyNumbers | None:
        """Return the numbers of an entry; ``None`` if it lacks a number that each entry has."""
        values = named_values(surveyed.skeleton)
        tuples: list[dict[str, Found]] = []
        for name in ("orig", "reply"):
            found = values.get(name)
            if found is None or found.inside is None:
                return None
            tuples.append(named_values(found.inside))
            if not {"src", "dst", "proto"} <= tuples[-1].keys():
                return None
        zone, id = [
            numbers.number(values[name]) if name in values else None for name in ("zone", "id")
        ]
        orig, reply = [_TupleNumbers(numbers, each) for each in tuples]
        return cls(orig, reply, zone, id)

    def write_return(
        self, builder: FunctionBuilder, result: Callable[[Expression], Expression]
    ) -> None:
        """Write the statements that return the keys.

        :param builder: the function.
        :param result: returns what the function returns, for the keys without brackets.
        """
        key = self.orig.key(builder, self.zone)
        equal = _inverse_condition(builder, self.orig, self.reply)
        if equal is not None:
            with builder.block("if {equal}", equal=equal):
                keys = builder.expression("{key}, None, {id}", key=key, id=self.id)
                builder.line("return {result}", result=result(keys))
        other = self.reply.key(builder, self.zone)
        keys = builder.expression("{key}, {other}, {id}", key=key, other=other, id=self.id)
        builder.line("return {result}", result=result(keys))


def _inverse_condition(
    builder: FunctionBuilder, orig: _TupleNumbers, reply: _TupleNumbers
) -> Expression | None:
    """Return whether one tuple is the other one with its ends exchanged; ``None`` if it never is.

    This is the condition of :func:`.tuple_keys.reply_is_inverse`.
    """
    one, other = orig.others, reply.others
    opposites = {"sport": "dport", "dport": "sport"}
    if {opposites.get(name, name) for name in one} != other.keys() or "zone" in one:
        return None
    if len(orig.src) != len(reply.src):
        return None
    pairs = [*zip(orig.src, reply.dst, strict=True), *zip(orig.dst, reply.src, strict=True)]
    for name, number in one.items():
        opposite = other[opposites.get(name, name)]
        if name == "icmp_type":
            opposite = builder.call(inverse_icmp_type, other["proto"], opposite)
        pairs.append((number, opposite))
    return builder.join(
        "and", [builder.expression("{a} == {b}", a=a, b=b) for a, b in reversed(pairs)]
    )


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
    known: Layout, update: Layout, pieces: Iterable[Piece], prefix: bytes
) -> Merge | None:
    """Return the function that merges records of two formats; ``None`` if there can be none.

    :param known: the layout of the known records.
    :param update: the layout of the updates.
    :param pieces: what :func:`merged_pieces` returned for them.
    :param prefix: the first bytes of the resulting records.
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
            for of_update, start, end in pieces
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
