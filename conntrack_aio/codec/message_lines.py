"""Compile the functions that write an object as a line, from the bytes of its message.

An object of which nothing was read (:mod:`~conntrack_aio.model.lazy_fields`) is what its message
says. So its line is made of constant pieces, which depend on the skeleton of the message, and of
the texts of raw values. No object of the model is created.

The result is the text of the reference: :func:`~.json.to_dict` for JSON, and
:mod:`~conntrack_aio.model.text` for text.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..function_builder import BoundedMemo, Expression, FunctionBuilder
from ..model.lazy_fields import WriteLine, lazy_classes_of
from .lazy_objects import LazyObject
from .raw_values import RawValues
from .scalars import Scalar
from .skeleton import Found, named_values

Values = Mapping[str, Found]
"""The values of an object that are present in messages of a skeleton, by the names of fields."""


def values_in(found: Found | None) -> Values:
    """Return the values of an object that is a value itself; none if it is absent."""
    inside = None if found is None else found.inside
    return {} if inside is None else named_values(inside)


def scalar_of(found: Found) -> Scalar:
    """Return how a value that is not an object is encoded."""
    assert found.leaf.scalar is not None
    return found.leaf.scalar


def decoded(scalar: Scalar, raw: object) -> object:
    """Return the value of a field for a raw value."""
    return raw if scalar.memo is None else scalar.memo[raw]


class LineWriter:
    """Writes a function that returns the line of an object, piece by piece."""

    def __init__(self, obj: LazyObject, name: str) -> None:
        """Start a function.

        :param obj: the object.
        :param name: the name of the function.
        """
        self.builder = FunctionBuilder(name, "line")
        self.raw = RawValues(self.builder)
        self._obj = obj
        self._parameters = self.builder.parameter("obj"), self.builder.parameter("message")
        self._conditions: list[Expression] = []

    def raw_value(self, found: Found) -> Expression:
        """Return the raw value of a field: a number, or the bytes of its payload."""
        scalar, size = found.leaf.scalar, found.end - found.start
        return self.raw.unpack(found.start, size, None if scalar is None else scalar.code)

    def looked_up(self, memo: BoundedMemo, found: Found) -> Expression:
        """Return what a memo has for the raw value of a field."""
        raw = self.raw_value(found)
        return self.builder.expression("{memo}[{raw}]", memo=memo, raw=raw)

    def require(self, condition: Expression) -> None:
        """Leave a message to the reference if a condition on its raw values does not hold."""
        self._conditions.append(condition)

    def build(self, line: Line) -> WriteLine:
        """Return the function, which returns ``None`` where the reference is to write the line."""
        builder, (_, message) = self.builder, self._parameters
        for condition in self._at_once():
            self._unless(condition)
        builder.line(
            "({raw}) = {unpack}({message})",
            raw=self.raw.variables,
            unpack=self.raw.struct(self._obj.start, self._obj.end).unpack,
            message=message,
        )
        for condition in self._conditions:
            self._unless(condition)
        builder.line("return {line}", line=line.expression(builder))
        return builder.build()

    def _unless(self, condition: Expression) -> None:
        with self.builder.block("if not {condition}", condition=condition):
            self.builder.line("return None")

    def _at_once(self) -> list[Expression]:
        """Return the conditions under which the fields set at once are those of the message.

        A program may have assigned these fields, or fields of the objects in them.
        """
        builder, (obj, message) = self.builder, self._parameters
        conditions: list[Expression] = []
        for name in lazy_classes_of(self._obj.schema.cls).at_once:
            field = builder.attribute(obj, name)
            if name in self._obj.header_values:
                value = self._obj.header_values[name]
                conditions.append(builder.expression("{a} is {b}", a=field, b=value))
                continue
            inner = next(each for each in self._obj.schema.inlines if each.name == name)
            unread = lazy_classes_of(inner.schema.cls).unread
            conditions += [
                builder.expression("{type}({obj}) is {cls}", type=type, obj=field, cls=unread),
                builder.expression(
                    "{kept} is {message}",
                    kept=builder.attribute(field, "_message"),
                    message=message,
                ),
            ]
        return conditions


class Line:
    """A line, or a part of one: constant pieces, and the texts or numbers between them."""

    def __init__(self, *parts: str | Expression) -> None:
        """Create a line of these constant pieces and values."""
        self._format: list[str] = []
        self._values: list[Expression] = []
        self.add(*parts)

    def add(self, *parts: str | Expression) -> None:
        """Add constant pieces and values. A number is written as its digits."""
        for part in parts:
            if isinstance(part, str):
                self._format.append(part.replace("%", "%%"))
            else:
                self._format.append("%s")
                self._values.append(part)

    def extend(self, other: Line) -> None:
        """Add another line."""
        self._format += other._format
        self._values += other._values

    def expression(self, builder: FunctionBuilder) -> Expression:
        """Return the expression of the text."""
        format = "".join(self._format)
        return builder.expression("{line} % ({values})", line=format, values=self._values)
