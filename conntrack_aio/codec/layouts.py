"""Layouts: a reader compiled for one skeleton.

Of a message whose skeleton is known, the masked bytes are compared with those that make the
skeleton what it is; if they are the same, one :class:`struct.Struct` takes all its values out, and
a function generated for them makes the objects. Whether it is this or the reference that reads a
message makes no difference but for the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from struct import Struct
from typing import Any, Final, Literal, NamedTuple

import attrs

from ..errors import DecodeError
from ..generated import compile_function
from ..model.declare import UnknownAttribute, is_shared
from .reference import decode_surveyed, items_of
from .scalars import Memo, Scalar
from .schema import Schema
from .skeleton import Found, Kept, Skeleton, Survey, survey

MOST_BYTES: Final = 1 << 16
"""Of a datagram."""

_BLOBS: Final = 1 << 10
"""Shared objects of one class that are remembered."""


class Unfit(Exception):
    """The message has this skeleton, but a part of it that the layout takes as a whole is new."""


@attrs.define(eq=False)
class Layout:
    """A compiled reader."""

    head: bytes
    """The header's length, type and flags, which are for the caller to compare."""
    size: int
    step: int
    """The size with the padding behind it."""
    mask: int
    template: int
    """What the message is, masked, as a little-endian number."""
    struct: Struct
    """Takes the raw values out of a message."""
    build: Callable[[Iterable[tuple[object, ...]], Callable[[Any], None]], None]
    """Make the objects of raw values, and pass each on. Raises :exc:`Unfit` at one it can't."""
    _columns: list[Column] | None = None

    def run(self, buffer: bytes, offset: int, seq: bytes | None) -> int:
        """How many messages from here on have this skeleton and sequence number, all told.

        Compared column by column, for a third of what it takes one by one, if they are many.
        """
        count = min((len(buffer) - offset) // self.step, MOST_BYTES // self.step)
        if self._columns is None:
            self._columns = self._make_columns()
        view = memoryview(buffer)[offset : offset + count * self.step]
        for column in self._columns:
            count = column.same(view, count)
        if seq is not None:
            count = Column("I", 8, self.step, seq, MOST_BYTES // self.step).same(view, count)
        return count

    def _make_columns(self) -> list[Column]:
        mask = b"\xff" * 8 + self.mask.to_bytes(self.step, "little")[8:]
        template = self.head + self.template.to_bytes(self.step, "little")[8:]
        most = MOST_BYTES // self.step
        columns: list[Column] = []
        for at in range(0, self.step, 4):
            if mask[at : at + 4] == b"\xff\xff\xff\xff":
                columns.append(Column("I", at, self.step, template[at : at + 4], most))
            else:
                columns += [
                    Column("B", byte, self.step, template[byte : byte + 1], most)
                    for byte in range(at, at + 4)
                    if mask[byte]
                ]
        return columns


class Column:
    """A number that stands at the same place of many messages."""

    def __init__(
        self, code: Literal["I", "B"], at: int, step: int, number: bytes, most: int
    ) -> None:
        self._code: Literal["I", "B"] = code
        self._at = at // len(number)
        self._step = step // len(number)
        self._number = number
        self._expected = memoryview(number * most).cast(code)

    def same(self, messages: memoryview, count: int) -> int:
        """Of the first ``count`` messages, how many have it before one that has another."""
        found = messages.cast(self._code)[self._at : count * self._step : self._step]
        if found == self._expected[:count]:
            return count
        (number,) = memoryview(self._number).cast(self._code)
        return next(i for i, other in enumerate(found) if other != number)


class Head(NamedTuple):
    """A field whose value stands in the message's headers, ``offset`` bytes from its start."""

    offset: int
    scalar: Scalar


def compile_layout(
    surveyed: Survey, message: bytes, plain: Mapping[str, object], heads: Mapping[str, Head]
) -> Layout | None:
    """A reader for messages like this one, which was surveyed from its start, headers and all.

    ``plain`` are the values of fields that no attribute holds, ``heads`` those that the headers
    hold. ``None`` if each such message has to be looked at: shared objects that keep unknown
    attributes for their owner.
    """
    code = _Code()
    try:
        made = code.message(surveyed, plain, heads)
    except DecodeError:
        return None
    mask = bytearray(len(message))
    for start, end in surveyed.fixed:
        mask[start:end] = b"\xff" * (end - start)
    for start, end in code.blobs:
        mask[start:end] = bytes(end - start)
    number = int.from_bytes(mask, "little")
    return Layout(
        message[:8],
        len(message),
        (len(message) + 3) & ~3,
        number,
        number & int.from_bytes(message, "little"),
        Struct(code.format(len(message))),
        code.function(made),
    )


class _Code:
    """The source of a function that makes an object of raw values."""

    def __init__(self) -> None:
        self.blobs: list[tuple[int, int]] = []
        """From where to where stands what is taken as a whole."""
        self._lines: list[str] = []
        self._raw: dict[int, tuple[str, int]] = {}
        """By where they start: what struct calls them, and their size."""
        self._names: dict[str, object] = {"new": object.__new__, "number": int.from_bytes}

    # -- what it is made of -----------------------------------------------------------------

    def message(
        self, surveyed: Survey, plain: Mapping[str, object], heads: Mapping[str, Head]
    ) -> str:
        skeleton = surveyed.skeleton
        expressions = {name: self._constant(value) for name, value in plain.items()}
        for name, head in heads.items():
            expressions[name] = self._scalar(head.scalar, head.offset, head.scalar.size or 0)
        made = self._object(skeleton.schema, skeleton, 0, expressions, "unknown")
        unknown = "".join([f"{self._kept(each)}, " for each in surveyed.kept])
        self._lines.insert(0, f"unknown = ({unknown})")
        return made

    def _object(
        self,
        schema: Schema[object],
        skeleton: Skeleton,
        offset: int,
        plain: Mapping[str, str],
        unknown: str,
    ) -> str:
        """Write what makes the object whose slots begin at ``offset``; its variable."""
        told = dict(plain)
        for field in schema.fields:
            told[field.name] = self._value(skeleton.values[offset + field.slot])
        for sequence in schema.sequences:
            items = [self._value(found) for found in items_of(sequence, skeleton, offset)]
            told[sequence.name] = f"({''.join([f'{item}, ' for item in items])})"
        for inline in schema.inlines:
            at = offset + inline.offset
            told[inline.name] = self._object(inline.schema, skeleton, at, {}, unknown)
        if schema.keeps_unknown:
            told["unknown"] = unknown
        name = f"o{len(self._lines)}"
        self._lines.append(f"{name} = new({self._constant(schema.cls)})")
        for field in attrs.fields(schema.cls):  # type: ignore[arg-type]
            value = told.get(field.name) or self._constant(field.default)
            self._lines.append(f"{name}.{field.name} = {value}")
        return name

    def _value(self, found: Found | None) -> str:
        if found is None:
            return "None"
        size = found.end - found.start
        if found.inside is None:
            assert found.leaf.scalar is not None
            return self._scalar(found.leaf.scalar, found.start, size)
        schema = found.inside.schema
        if is_shared(schema.cls):
            self.blobs.append((found.start, found.end))
            blob = self._take(found.start, f"{size}s", size)
            return f"{self._constant(_blobs_of(schema))}[{blob}]"
        return self._object(schema, found.inside, 0, {}, "()")

    def _scalar(self, scalar: Scalar, start: int, size: int) -> str:
        raw = self._take(start, scalar.code or f"{size}s", size)
        if scalar.memo is None:
            # A port each of its own would be a fifth of a flow's memory.
            return f"{self._constant(_small_numbers())}[{raw}]" if scalar.code == "H" else raw
        memo = self._constant(scalar.memo)
        if scalar.parts is None:
            return f"{memo}[{raw}]"
        name = f"v{start}"
        self._lines += [
            f"{name} = {memo}.get({raw})",
            f"if {name} is None:",
            f"    if len({memo}) >= {scalar.memo.limit}: {memo}.clear()",
            f"    {name} = new({self._constant(scalar.types[0])})",
            *[
                f"    {name}.{part} = {source.replace('raw', raw)}"
                for part, source in scalar.parts.items()
            ],
            f"    {memo}[{raw}] = {name}",
        ]
        return name

    def _kept(self, kept: Kept) -> str:
        if any(start <= kept.start < end for start, end in self.blobs):
            raise DecodeError("a shared object that is not whole")
        size = kept.end - kept.start
        raw = self._take(kept.start, f"{size}s", size)
        path, nested = self._constant(kept.path), self._constant(kept.nested)
        return f"{self._constant(UnknownAttribute)}({path}, {raw}, {nested})"

    # -- the parts of the source ------------------------------------------------------------

    def _take(self, start: int, code: str, size: int) -> str:
        self._raw[start] = code, size
        return f"r{start}"

    def _constant(self, value: object) -> str:
        if value is None:
            return "None"
        for name, known in self._names.items():
            if known is value:
                return name
        name = f"c{len(self._names)}"
        self._names[name] = value
        return name

    def format(self, end: int) -> str:
        parts, at = ["!"], 0
        for start, (code, size) in sorted(self._raw.items()):
            parts += [f"{start - at}x", code]
            at = start + size
        return "".join([*parts, f"{end - at}x"])

    def function(self, made: str) -> Callable[..., None]:
        names = "".join([f"r{start}, " for start in sorted(self._raw)])
        body = "\n        ".join([*self._lines, f"add({made})"])
        # Only names of our own and positions are in it: nothing of the message's bytes.
        source = f"def build(rows, add):\n    for ({names}) in rows:\n        {body}\n"
        return compile_function("build", source, self._names, "layout")


@cache
def _small_numbers() -> list[int]:
    return list(range(1 << 16))


@cache
def _blobs_of(schema: Schema[object]) -> Memo:
    """The objects of a shared class, by the bytes of their nest, whatever skeleton that has."""

    def read(blob: bytes) -> object:
        try:
            surveyed = survey(schema.cls, blob, 0, len(blob))
            if surveyed.kept:
                raise Unfit
            return decode_surveyed(surveyed, blob, {})
        except DecodeError:
            raise Unfit from None

    return Memo(read, _BLOBS)
