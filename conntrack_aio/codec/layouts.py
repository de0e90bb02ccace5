"""Layouts: compiled readers, each for the messages of one skeleton.

A message has a known skeleton when its masked bytes equal those of the message that the layout was
compiled from. Then one :class:`struct.Struct` unpacks all raw values, and a generated function
creates the objects. The result is that of the reference decoder; a layout is only faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from struct import Struct
from typing import Final, Literal, NamedTuple

import attrs

from ..errors import DecodeError
from ..function_builder import BoundedMemo, Expression, FunctionBuilder
from ..model.declare import UnknownAttribute
from ..model.normalization import is_shared
from .reference import decode_surveyed, items_of
from .scalars import Scalar
from .schema import Schema
from .skeleton import Found, FoundUnknown, Skeleton, Survey, survey

_LARGEST_DATAGRAM: Final = 1 << 16
"""Bytes of a datagram whose messages are compared at once."""

_SHARED_OBJECTS: Final = 1 << 10
"""Limit of the memo of each shared class."""


class LayoutMismatch(Exception):
    """A message has the layout's skeleton, but only the reference can read one of its nests."""


@attrs.define(eq=False)
class Layout:
    """A compiled reader."""

    head: bytes
    """The header's length, type and flags. The caller compares them."""
    size: int
    """Bytes of a message."""
    step: int
    """Bytes of a message with the padding that follows it."""
    mask: int
    """The bits of a message that are the same in all messages of the skeleton, as a little-endian
    number."""
    template: int
    """The values of these bits, as a little-endian number."""
    struct: Struct
    """Unpacks the raw values of a message."""
    build: Callable[[Iterable[tuple[object, ...]], Callable[..., None]], None]
    """Creates an object from each tuple of raw values, and passes it to the second argument. Raises
    :exc:`LayoutMismatch` at the first message that only the reference can read."""
    _fixed: list[_FixedNumber] | None = None

    def count_run(self, buffer: bytes, offset: int, seq: bytes | None) -> int:
        """Return how many consecutive messages from ``offset`` on have this skeleton.

        The messages are compared number by number. That takes a third of the time of comparing one
        message after the other.

        :param buffer: the datagram.
        :param offset: the offset of the first message.
        :param seq: the sequence number that the messages must have, as in the header.
        """
        limit = _LARGEST_DATAGRAM // self.step
        count = min((len(buffer) - offset) // self.step, limit)
        if self._fixed is None:
            self._fixed = self._make_fixed(limit)
        view = memoryview(buffer)[offset : offset + count * self.step]
        for number in self._fixed:
            count = number.count_equal(view, count)
        if seq is not None:
            count = _FixedNumber("I", 8, self.step, seq, limit).count_equal(view, count)
        return count

    def _make_fixed(self, limit: int) -> list[_FixedNumber]:
        mask = b"\xff" * 8 + self.mask.to_bytes(self.step, "little")[8:]
        template = self.head + self.template.to_bytes(self.step, "little")[8:]
        fixed: list[_FixedNumber] = []
        for at in range(0, self.step, 4):
            if mask[at : at + 4] == b"\xff\xff\xff\xff":
                fixed.append(_FixedNumber("I", at, self.step, template[at : at + 4], limit))
            else:
                fixed += [
                    _FixedNumber("B", byte, self.step, template[byte : byte + 1], limit)
                    for byte in range(at, at + 4)
                    if mask[byte]
                ]
        return fixed


class _FixedNumber:
    """A word or byte that is the same, at the same offset, in every message of a skeleton."""

    def __init__(
        self, format: Literal["I", "B"], offset: int, step: int, number: bytes, limit: int
    ) -> None:
        self._format: Literal["I", "B"] = format
        self._offset = offset // len(number)
        self._step = step // len(number)
        self._number = number
        self._expected = memoryview(number * limit).cast(format)

    def count_equal(self, messages: memoryview, count: int) -> int:
        """Return how many of the first ``count`` messages have the number, up to the first other.

        The messages must be consecutive, each of the same size.
        """
        found = messages.cast(self._format)[self._offset : count * self._step : self._step]
        if found == self._expected[:count]:
            return count
        (number,) = memoryview(self._number).cast(self._format)
        return next(i for i, other in enumerate(found) if other != number)


class HeaderField(NamedTuple):
    """A field whose value is in the message's headers, ``offset`` bytes from its start."""

    offset: int
    scalar: Scalar


def compile_layout(
    surveyed: Survey,
    message: bytes,
    header_values: Mapping[str, object],
    header_fields: Mapping[str, HeaderField],
) -> Layout | None:
    """Compile a reader for messages like this one.

    :param surveyed: the survey of the message, with offsets from its first header on.
    :param message: the message, from its first header on.
    :param header_values: the values of the fields that follow from the type and the flags.
    :param header_fields: the fields whose values are in the headers.
    :returns: the reader; ``None`` when only the reference can read such messages. That is so if
        there are unknown attributes inside a shared object, because its owner keeps them.
    """
    writer = _LayoutWriter()
    writer.write(surveyed, header_values, header_fields)
    if any(
        start <= found.start < end for found in surveyed.unknown for start, end in writer.shared
    ):
        return None
    mask = bytearray(len(message))
    for start, end in surveyed.fixed:
        mask[start:end] = b"\xff" * (end - start)
    for start, end in writer.shared:
        mask[start:end] = bytes(end - start)
    number = int.from_bytes(mask, "little")
    return Layout(
        message[:8],
        len(message),
        (len(message) + 3) & ~3,
        number,
        number & int.from_bytes(message, "little"),
        Struct(writer.format(len(message))),
        writer.build(),
    )


class _RawValue(NamedTuple):
    """What :mod:`struct` unpacks for one value, and the variable that it goes into."""

    format: str
    size: int
    variable: Expression


class _LayoutWriter:
    """Writes the function that creates objects from raw values."""

    def __init__(self) -> None:
        self.shared: list[tuple[int, int]] = []
        """The start and end of each nest that is looked up as a whole, by its bytes."""
        self._raw: dict[int, _RawValue] = {}
        """The raw values, by their offsets."""
        self._builder = FunctionBuilder("build", "layout")

    def write(
        self,
        surveyed: Survey,
        header_values: Mapping[str, object],
        header_fields: Mapping[str, HeaderField],
    ) -> None:
        """Write the whole function."""
        builder, skeleton = self._builder, surveyed.skeleton
        rows, add = builder.parameter("rows"), builder.parameter("add")
        raw: list[Expression] = []
        with builder.block("for ({raw}) in {rows}", raw=raw, rows=rows):
            values = dict(header_values)
            for name, field in header_fields.items():
                values[name] = self._scalar(field.scalar, field.offset, field.scalar.size or 0)
            unknown = builder.let(
                "unknown",
                "({unknown})",
                unknown=[self._unknown(found) for found in surveyed.unknown],
            )
            obj = self._object(skeleton.schema, skeleton, 0, values, unknown)
            builder.line("{add}({obj})", add=add, obj=obj)
            raw += [value.variable for _, value in sorted(self._raw.items())]

    def build(self) -> Callable[..., None]:
        return self._builder.build()

    def format(self, end: int) -> str:
        """Return the struct format of a message with this end, which skips all but raw values."""
        parts, at = ["!"], 0
        for start, raw in sorted(self._raw.items()):
            parts += [f"{start - at}x", raw.format]
            at = start + raw.size
        return "".join([*parts, f"{end - at}x"])

    def _object(
        self,
        schema: Schema[object],
        skeleton: Skeleton,
        offset: int,
        header_values: Mapping[str, object],
        unknown: Expression,
    ) -> Expression:
        """Write the lines that create an object, and return its variable.

        :param schema: the schema of the object.
        :param skeleton: the skeleton that has the object's values.
        :param offset: the first of the object's slots among the skeleton's.
        :param header_values: the values of the fields that no attribute holds.
        :param unknown: the unknown attributes, if the object keeps them.
        """
        builder = self._builder
        values = dict(header_values)
        for field in schema.fields:
            values[field.name] = self._value(skeleton.values[offset + field.slot])
        for sequence in schema.sequences:
            items = [self._value(found) for found in items_of(sequence, skeleton, offset)]
            values[sequence.name] = builder.expression("({items})", items=items)
        for inline in schema.inlines:
            at = offset + inline.offset
            values[inline.name] = self._object(inline.schema, skeleton, at, {}, unknown)
        if schema.keeps_unknown:
            values["unknown"] = unknown
        obj = builder.local(schema.cls.__name__.lower())
        self._new(obj, schema.cls)
        for attribute in attrs.fields(schema.cls):  # type: ignore[arg-type]
            builder.set(obj, attribute.name, values.get(attribute.name, attribute.default))
        return obj

    def _value(self, found: Found | None) -> Expression:
        builder = self._builder
        if found is None:
            return builder.bind(None)
        size = found.end - found.start
        if found.inside is None:
            assert found.leaf.scalar is not None
            return self._scalar(found.leaf.scalar, found.start, size)
        schema = found.inside.schema
        if is_shared(schema.cls):
            self.shared.append((found.start, found.end))
            objects, raw = _shared_objects(schema), self._unpack(found.start, size)
            return builder.expression("{objects}[{raw}]", objects=objects, raw=raw)
        return self._object(schema, found.inside, 0, {}, builder.expression("()"))

    def _scalar(self, scalar: Scalar, start: int, size: int) -> Expression:
        builder, memo = self._builder, scalar.memo
        raw = self._unpack(start, size, scalar.code)
        if memo is None and scalar.code == "H":
            # Otherwise each port would be a separate object: a fifth of a flow's memory.
            numbers = builder.bind(_small_numbers(), "numbers")
            return builder.expression("{numbers}[{raw}]", numbers=numbers, raw=raw)
        if memo is None:
            return raw
        if scalar.attributes is None:
            return builder.expression("{memo}[{raw}]", memo=memo, raw=raw)
        value = builder.let("value", "{found}", found=builder.find(memo, raw))
        with builder.block("if {value} is None", value=value):
            self._new(value, scalar.types[0])
            for name, attribute in scalar.attributes(builder, raw).items():
                builder.set(value, name, attribute)
            builder.store(memo, raw, value)
        return value

    def _unknown(self, found: FoundUnknown) -> Expression:
        raw = self._unpack(found.start, found.end - found.start)
        return self._builder.call(UnknownAttribute, found.path, raw, found.nested)

    def _unpack(self, start: int, size: int, format: str | None = None) -> Expression:
        """Return the raw value at an offset; without a format, its bytes."""
        variable = self._builder.local("raw")
        self._raw[start] = _RawValue(format or f"{size}s", size, variable)
        return variable

    def _new(self, variable: Expression, cls: type[object]) -> None:
        self._builder.line("{obj} = {new}({cls})", obj=variable, new=object.__new__, cls=cls)


@cache
def _small_numbers() -> list[int]:
    return list(range(1 << 16))


@cache
def _shared_objects(schema: Schema[object]) -> BoundedMemo:
    """Return the memo of a shared class: its objects by the bytes of their nest."""

    def read(nest: bytes) -> object:
        try:
            surveyed = survey(schema.cls, nest, 0, len(nest))
            if surveyed.unknown:
                raise LayoutMismatch
            return decode_surveyed(surveyed, nest, {})
        except DecodeError:
            raise LayoutMismatch from None

    return BoundedMemo(_SHARED_OBJECTS, read)
