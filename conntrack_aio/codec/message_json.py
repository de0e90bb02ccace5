"""Compile the functions that write an object as JSON, from the bytes of its message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from ipaddress import IPv6Address
from typing import Any, Final

import attrs

from ..function_builder import BoundedMemo, Expression
from ..model.address_text import ipv4_texts, ipv6_texts
from ..model.lazy_fields import WriteLine
from ..model.normalization import is_shared
from ..model.tuples import Tuple
from ..model.wire import PLACES, Address, Integer, Wire
from .json import KIND, MAPPED, json_fields_of, kinds_of, to_dict
from .json_values import json_codec
from .lazy_objects import LazyObject
from .message_lines import Line, LineWriter
from .reference import decode_surveyed, items_of
from .scalars import scalar_of
from .schema import Schema
from .skeleton import Found, FoundUnknown, Skeleton, survey

_TEXTS: Final = 1 << 10
"""Limit of a memo of texts."""
_ADDRESSES: Final = 1 << 13
"""Limit of a memo of addresses."""


def compile_json(obj: LazyObject) -> WriteLine:
    """Return the function that writes an object as JSON, from messages of one skeleton."""
    return _JSONWriter(obj).compile()


class _JSONWriter:
    """Writes the function."""

    def __init__(self, obj: LazyObject) -> None:
        self._obj = obj
        self._writer = LineWriter(obj, "json")

    def compile(self) -> WriteLine:
        obj = self._obj
        header_values = {
            name: Line(json.dumps(json_fields_of(obj.schema.cls)[name].codec.write(value)))
            for name, value in obj.header_values.items()
        }
        line = self._object(obj.schema, obj.surveyed.skeleton, obj.offset, header_values)
        return self._writer.build(line)

    def _object(
        self,
        schema: Schema[object],
        skeleton: Skeleton,
        offset: int,
        header_values: Mapping[str, Line] | None = None,
        kind: str | None = None,
    ) -> Line:
        """Return the JSON of an object.

        :param schema: the schema of the object.
        :param skeleton: the skeleton that has the object's values.
        :param offset: the first of the object's slots among the skeleton's.
        :param header_values: the JSON of fields that follow from the headers.
        :param kind: the value of ``"kind"``, if the object has one.
        """
        values = {**self._values(schema, skeleton, offset), **(header_values or {})}
        line, separator = Line("{"), ""
        if kind is not None:
            line.add(f"{json.dumps(KIND)}: {json.dumps(kind)}")
            separator = ", "
        for name in json_fields_of(schema.cls):
            if name in values:
                line.add(f"{separator}{json.dumps(name)}: ")
                line.extend(values[name])
                separator = ", "
        if schema.cls is Tuple:
            self._add_mapped(line, skeleton)
        line.add("}")
        return line

    def _values(self, schema: Schema[object], skeleton: Skeleton, offset: int) -> dict[str, Line]:
        """Return the JSON of the fields that are present in messages of the skeleton, by name."""
        obj, values = self._obj, dict[str, Line]()
        own = skeleton is obj.surveyed.skeleton
        for name, header in obj.header_fields.items():
            if own and name in json_fields_of(schema.cls):
                raw = self._writer.raw.unpack(
                    header.offset, header.scalar.size or 0, header.scalar.code
                )
                memo = header.scalar.memo
                values[name] = Line(self._looked_up(memo, raw) if memo is not None else raw)
        places = {
            field.name: field.metadata.get(PLACES, ())
            for field in attrs.fields(schema.cls)  # type: ignore[arg-type]
        }
        for field in schema.fields:
            found = skeleton.values[offset + field.slot]
            if found is not None:
                values[field.name] = self._value(found, kinds_of(places[field.name]))
        for sequence in schema.sequences:
            items = [self._value(found, {}) for found in items_of(sequence, skeleton, offset)]
            if items:
                values[sequence.name] = _list(items)
        for inline in schema.inlines:
            values[inline.name] = self._object(inline.schema, skeleton, offset + inline.offset)
        if schema.keeps_unknown and own and obj.surveyed.unknown:
            values["unknown"] = _list([self._unknown(found) for found in obj.surveyed.unknown])
        return values

    def _value(self, found: Found, kinds: Mapping[str, type[object]]) -> Line:
        """Return the JSON of a value.

        :param found: the value.
        :param kinds: the classes of objects that its field can hold, by kind.
        """
        if found.inside is None:
            if isinstance(found.leaf.wire, Address):
                return Line('"', self._scalar(found), '"')
            return Line(self._scalar(found))
        schema, kind = found.inside.schema, None
        if len(kinds) > 1:
            (kind,) = [name for name, cls in kinds.items() if cls is schema.cls]
        if is_shared(schema.cls):
            raw = self._writer.raw.unpack(found.start, found.end - found.start)
            return Line(self._looked_up(_shared_objects(schema, kind), raw))
        return self._object(schema, found.inside, 0, None, kind)

    def _scalar(self, found: Found) -> Expression:
        wire, scalar = found.leaf.wire, found.leaf.scalar
        assert scalar is not None
        raw = self._writer.raw.unpack(found.start, found.end - found.start, scalar.code)
        if isinstance(wire, Address):
            return self._looked_up(ipv6_texts if wire.cls is IPv6Address else ipv4_texts, raw)
        if isinstance(wire, Integer) and scalar.memo is None:
            return raw
        return self._looked_up(_scalar_texts(found.leaf.wire), raw)

    def _unknown(self, found: FoundUnknown) -> Line:
        raw = self._writer.raw.unpack(found.start, found.end - found.start)
        before = json.dumps({"path": found.path, "payload": ""})
        after = json.dumps({"": found.nested})
        return Line(
            before.removesuffix('"}'),
            self._writer.builder.call(_HEX, raw),
            f'", "nested{after[2:]}',
        )

    def _add_mapped(self, line: Line, skeleton: Skeleton) -> None:
        """Add whether both addresses of a tuple are IPv4-mapped, if they are of IPv6."""
        builder, are_mapped = self._writer.builder, list[Expression]()
        for field in skeleton.schema.fields:
            found = skeleton.values[field.slot]
            if field.name in ("src", "dst") and found is not None:
                assert found.leaf.scalar is not None
                if found.leaf.scalar.types != (IPv6Address,):
                    return
                raw = self._writer.raw.unpack(found.start, 16, found.leaf.scalar.code)
                are_mapped.append(self._looked_up(_mapped, raw))
        mapped = builder.join("and", are_mapped)
        text = f", {json.dumps(MAPPED)}: true"
        template = builder.expression(
            "{text} if {mapped} else {empty}", text=text, mapped=mapped, empty=""
        )
        line.add(template)

    def _looked_up(self, memo: BoundedMemo, raw: Expression) -> Expression:
        return self._writer.builder.expression("{memo}[{raw}]", memo=memo, raw=raw)


_HEX: Final = bytes.hex


def _list(items: list[Line]) -> Line:
    line = Line("[")
    for i, item in enumerate(items):
        line.add(", " if i else "")
        line.extend(item)
    line.add("]")
    return line


@cache
def _scalar_texts(wire: Wire[Any]) -> BoundedMemo:
    """Return the JSON of the values of an encoding, by their raw values."""
    codec, scalar = json_codec(wire), scalar_of(wire)
    memo = scalar.memo

    def write(raw: Any) -> str:
        return json.dumps(codec.write(raw if memo is None else memo[raw]))

    return BoundedMemo(_TEXTS, write)


@cache
def _shared_objects(schema: Schema[object], kind: str | None) -> BoundedMemo:
    """Return the JSON of the objects of a shared class, by the bytes of their nest."""

    def write(nest: bytes) -> str:
        obj = decode_surveyed(survey(schema.cls, nest, 0, len(nest)), nest, {})
        written = to_dict(obj)
        return json.dumps(written if kind is None else {KIND: kind, **written})

    return BoundedMemo(_TEXTS, write)


_mapped: Final = BoundedMemo(_ADDRESSES, lambda raw: IPv6Address(raw).ipv4_mapped is not None)
"""Whether IPv6 addresses are IPv4-mapped, by their bytes."""
