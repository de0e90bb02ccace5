"""Compile the functions that write an object as JSON from its fields, for each class.

Such a function checks that each value is of the plain type that its field declares. If one is not,
it returns ``None``: the reference, :func:`~.json.to_dict`, normalizes the value or raises the
error. The functions are derived from the same declarations.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, cast

import attrs

from ..function_builder import BoundedMemo, Expression, FunctionBuilder
from ..model.address_text import ipv4_texts, ipv6_texts_by_number
from ..model.enums import EventType
from ..model.lazy_fields import has_lazy_fields, lazy_classes_of, own_class, unread_classes
from ..model.normalization import is_message_class
from ..model.tuples import Tuple
from ..model.wire import INLINE, PLACES, Address, At, Bitmap, Integer, MaskedFlags, Text, Wire
from .json import KIND, MAPPED, JSONField, codec_of_type, json_fields_of, kinds_of
from .json_values import HIGHEST, LOWEST, JSONCodec, json_codec
from .message_lines import Line

Write = Callable[[Any], str | None]
"""Returns the JSON of an object; ``None`` if the reference has to write it."""

_TEXTS: Final = 1 << 10
_ADDRESS_TEXTS: Final = 1 << 12
"""Limits of the memos of texts."""

_writers: Final[dict[type, Write]] = {}


def writer_of(cls: type) -> Write:
    """Return the function that writes the objects of a class.

    :raises TypeError: when ``cls`` is not a class of the model.
    """
    known = _writers.get(cls)
    if known is None:
        known = _writers[cls] = _compile(cls)
    return known


def _compile(cls: type) -> Write:
    if has_lazy_fields(cls):
        cls = lazy_classes_of(cls).complete
    elif not is_message_class(cls) and any(map(is_message_class, cls.__mro__)):
        return _by_reference  # a program's own subclass
    return _compile_object(cls, None)


def _by_reference(obj: object) -> None:
    """Leave an object to the reference."""


@cache
def _compile_object(cls: type, kind: str | None) -> Write:
    return _ObjectWriter(cls, kind).compile()


class _ObjectWriter:
    """Writes the function of one class."""

    def __init__(self, cls: type, kind: str | None) -> None:
        """Start a function.

        :param cls: the class.
        :param kind: the value of ``"kind"``, if its objects have one where they are written.
        """
        self._cls = cls
        self._kind = kind
        self._builder = FunctionBuilder("json", f"JSON of {cls.__name__}")
        self._obj = self._builder.parameter("obj")

    def compile(self) -> Write:
        builder, cls = self._builder, self._cls
        line = Line()
        if self._kind is not None:
            line.add(f", {json.dumps(KIND)}: {json.dumps(self._kind)}")
        fields: tuple[attrs.Attribute[object], ...] = attrs.fields(cls)
        described = json_fields_of(cls)
        for field in fields:
            self._field(line, field, described[field.name])
        if cls is Tuple:
            self._mapped(line)
        builder.line(
            "return {braces} % {inside}[{start}]",
            braces="{%s}",
            inside=builder.expression("({line})", line=line.expression(builder)),
            start=slice(2, None),
        )
        return builder.build()

    def _field(self, line: Line, field: attrs.Attribute[object], described: JSONField) -> None:
        builder, start = self._builder, f", {json.dumps(field.name)}: "
        value = builder.let("value", "{field}", field=builder.attribute(self._obj, field.name))
        if not described.nullable and not described.empty:
            line.add(start, self._value(field, described, value))
            return
        piece = builder.let("piece", "{empty}", empty="")
        if described.empty:
            self._require(
                self._builder.expression(
                    "{type}({value}) is {tuple}", type=type, value=value, tuple=tuple
                )
            )
        present = builder.expression("{value} is not None", value=value)
        with builder.block("if {present}", present=value if described.empty else present):
            text = self._value(field, described, value)
            builder.line(
                "{piece} = {line}", piece=piece, line=Line(start, text).expression(builder)
            )
        line.add(piece)

    def _value(
        self, field: attrs.Attribute[object], described: JSONField, value: Expression
    ) -> Expression:
        """Write the lines that check a value, and return the expression of its JSON."""
        places: tuple[At[object], ...] = field.metadata.get(PLACES, ())
        kinds = kinds_of(places)
        if INLINE in field.metadata:
            return self._object(field.metadata[INLINE], value)
        if len(kinds) > 1:
            return self._variant(kinds, value)
        if kinds:
            (cls,) = kinds.values()
            return self._object(cls, value)
        if any(isinstance(place.wire, Address) for place in places):
            text = Line('"', self._address(value), '"')
            return text.expression(self._builder)
        if places:
            return self._scalar(places[0].wire, value)
        return self._undeclared(field, described.codec, value)

    def _object(self, cls: type, value: Expression) -> Expression:
        builder = self._builder
        if has_lazy_fields(cls):
            self._require(
                self._builder.expression(
                    "{own}({value}) is {cls}", own=own_class, value=value, cls=cls
                )
            )
            return self._written(builder.call(line_of, value))
        self._require(
            self._builder.expression("{type}({value}) is {cls}", type=type, value=value, cls=cls)
        )
        return self._written(builder.call(_compile_object(cls, None), value))

    def _variant(self, kinds: Mapping[str, type], value: Expression) -> Expression:
        builder = self._builder
        names = {cls: name for name, cls in kinds.items()}
        writers = {cls: _compile_object(cls, name) for cls, name in names.items()}
        kind = builder.expression("{type}({value})", type=type, value=value)
        self._require(self._builder.expression("{kind} in {writers}", kind=kind, writers=writers))
        return self._written(
            builder.expression(
                "{writers}[{kind}]({value})", writers=writers, kind=kind, value=value
            )
        )

    def _written(self, call: Expression) -> Expression:
        """Return the JSON of an object inside, unless the reference has to write it."""
        text = self._builder.let("text", "{call}", call=call)
        self._require(self._builder.expression("{text} is not None", text=text))
        return text

    def _address(self, value: Expression) -> Expression:
        builder = self._builder
        ip = builder.let("ip", "{ip}", ip=builder.attribute(value, "_ip"))
        self._require(self._builder.expression("{type}({ip}) is {int}", type=type, ip=ip, int=int))
        text = builder.local("text")
        with builder.block("if {type}({value}) is {cls}", type=type, value=value, cls=IPv4Address):
            builder.line("{text} = {memo}[{ip}]", text=text, memo=ipv4_texts, ip=ip)
        with builder.block("else"):
            scope = builder.attribute(value, "_scope_id")
            self._require(
                self._builder.expression(
                    "{type}({value}) is {cls}", type=type, value=value, cls=IPv6Address
                )
            )
            self._require(self._builder.expression("{scope} is None", scope=scope))
            builder.line("{text} = {memo}[{ip}]", text=text, memo=ipv6_texts_by_number, ip=ip)
        return text

    def _scalar(self, wire: Wire[Any], value: Expression) -> Expression:
        builder = self._builder
        codec = json_codec(wire)
        if isinstance(wire, Integer) and wire.enum is None:
            bits = 8 * wire.size
            low = -(1 << bits - 1) if wire.signed else 0
            return self._number(value, low, low + (1 << bits) - 1)
        if isinstance(wire, Integer | MaskedFlags):
            accepted = frozenset({wire.enum, int})
            self._require(
                self._builder.expression(
                    "{type}({value}) in {accepted}", type=type, value=value, accepted=accepted
                )
            )
            number = builder.call(operator.index, value)
            return builder.expression("{memo}[{number}]", memo=_texts_of(codec), number=number)
        cls = int if isinstance(wire, Bitmap) else str if isinstance(wire, Text) else bytes
        self._require(
            self._builder.expression("{type}({value}) is {cls}", type=type, value=value, cls=cls)
        )
        return builder.expression("{memo}[{value}]", memo=_texts_of(codec), value=value)

    def _number(self, value: Expression, low: int, high: int) -> Expression:
        self._require(
            self._builder.expression("{type}({value}) is {int}", type=type, value=value, int=int)
        )
        self._require(
            self._builder.expression("{low} <= {value} <= {high}", value=value, low=low, high=high)
        )
        return value

    def _undeclared(
        self, field: attrs.Attribute[object], codec: JSONCodec, value: Expression
    ) -> Expression:
        """Write a value of which no attribute is declared. The reference does not normalize it."""
        builder = self._builder
        if codec is codec_of_type(int):
            return self._number(value, LOWEST, HIGHEST)
        if codec is codec_of_type(EventType):
            texts = {id(member): json.dumps(codec.write(member)) for member in EventType}
            self._require(
                builder.expression(
                    "{type}({value}) is {cls}", type=type, value=value, cls=EventType
                )
            )
            return builder.expression("{texts}[{id}({value})]", texts=texts, id=id, value=value)

        def write(value: object) -> str:
            return json.dumps(codec.write(value))

        return builder.call(write, value)

    def _mapped(self, line: Line) -> None:
        """Add whether both addresses of a tuple are IPv4-mapped."""
        builder, mapped = self._builder, list[Expression]()
        for name in ("src", "dst"):
            address = builder.attribute(self._obj, name)
            mapped += [
                builder.expression("{type}({a}) is {cls}", type=type, a=address, cls=IPv6Address),
                builder.expression(
                    "{memo}[{ip}]", memo=_mapped, ip=builder.attribute(address, "_ip")
                ),
            ]
        line.add(
            builder.expression(
                "{text} if {mapped} else {empty}",
                text=f", {json.dumps(MAPPED)}: true",
                mapped=builder.join("and", mapped),
                empty="",
            )
        )

    def _require(self, condition: Expression) -> None:
        """Leave the object to the reference if a condition does not hold."""
        with self._builder.block("if not ({condition})", condition=condition):
            self._builder.line("return None")


def line_of(obj: Any) -> str | None:
    """Return the JSON of an object; ``None`` if the reference has to write it.

    :raises TypeError: when ``obj`` is not an object of the model.
    """
    cls = cast("type[object]", type(obj))
    if cls in unread_classes:
        message = obj._message
        if message is not None:
            text: str | None = obj._reader.write_json(obj, message)
            if text is not None:
                return text
    return (_writers.get(cls) or writer_of(cls))(obj)


# Memos of JSON, by plain values


@cache
def _texts_of(codec: JSONCodec) -> BoundedMemo:
    """Return the memo of the values of an encoding. It raises the errors of the encoding."""
    return BoundedMemo(_TEXTS, lambda value: json.dumps(codec.write(value)))


_mapped: Final = BoundedMemo(_ADDRESS_TEXTS, lambda ip: IPv6Address(ip).ipv4_mapped is not None)
"""Whether IPv6 addresses are IPv4-mapped, by their numbers."""
