"""Layouts: a reader compiled for one skeleton.

Of a message whose skeleton is known, the masked bytes are compared with those that make the
skeleton what it is; if they are the same, one :class:`struct.Struct` takes all its values out, and
a function generated for them makes the objects. Whether it is this or the reference that reads a
message makes no difference but for the time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

import attrs

from ..errors import DecodeError
from ..model.declare import UnknownAttribute, is_shared
from ..netlink.attributes import Buffer
from .reference import decode_surveyed, items_of
from .scalars import Memo, Scalar
from .schema import Schema
from .skeleton import Found, Kept, Skeleton, Survey, survey

_BLOBS: Final = 1 << 10
"""Shared objects of one class that are remembered."""


class Unfit(Exception):
    """The message has this skeleton, but a part of it that the layout takes as a whole is new."""


class Layout(NamedTuple):
    """A compiled reader. The header's length, type and flags are for the caller to compare."""

    size: int
    step: int
    """The size with the padding behind it."""
    mask: int
    template: int
    """What the message is, masked, as a little-endian number."""
    unpack: Callable[[Buffer, int], tuple[object, ...]]
    """The raw values of the message that starts at an offset."""
    build: Callable[..., Any]
    """The object made of them. Raises :exc:`Unfit`."""


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
        len(message),
        (len(message) + 3) & ~3,
        number,
        number & int.from_bytes(message, "little"),
        struct.Struct(code.format()).unpack_from,
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
        self._names: dict[str, object] = {"new": object.__new__}

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
        if scalar.memo is not None:
            return f"{self._constant(scalar.memo)}[{raw}]"
        # A port each of its own would be a fifth of a flow's memory.
        return f"{self._constant(_small_numbers())}[{raw}]" if scalar.code == "H" else raw

    def _kept(self, kept: Kept) -> str:
        if any(start <= kept.start < end for start, end in self.blobs):
            raise DecodeError("a shared object that is not whole")
        size = kept.end - kept.start
        raw = self._take(kept.start, f"{size}s", size)
        return f"{self._constant(UnknownAttribute)}({kept.path}, {raw}, {kept.nested})"

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

    def format(self) -> str:
        parts, at = ["!"], 0
        for start, (code, size) in sorted(self._raw.items()):
            parts += [f"{start - at}x", code]
            at = start + size
        return "".join(parts)

    def function(self, made: str) -> Callable[..., object]:
        names = ", ".join([f"r{start}" for start in sorted(self._raw)])
        body = "\n    ".join([*self._lines, f"return {made}"])
        # Only names and numbers of our own are in it: nothing of the message's bytes.
        exec(f"def build({names}):\n    {body}\n", self._names)
        build = self._names["build"]
        assert callable(build)
        return build


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
