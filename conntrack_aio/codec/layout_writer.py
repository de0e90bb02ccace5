"""Write and compile the functions of layouts: they create objects from the bytes of messages.

An object is created at once from the raw values that one :class:`struct.Struct` unpacks. An object
with :mod:`lazy fields <conntrack_aio.model.lazy_fields>` gets its message and the values of a few
fields. For its other fields, functions are compiled when a program first reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import cache
from struct import Struct
from typing import Any, Final, NamedTuple

import attrs

from ..function_builder import BoundedMemo, Expression, FunctionBuilder
from ..model.declare import UnknownAttribute
from ..model.lazy_fields import FieldReader, SetFields, lazy_classes_of, set_class, slot_name
from ..model.normalization import is_shared
from ..netlink.attributes import BytesLike
from .lazy_objects import HeaderField, LazyObject
from .raw_values import RawValues
from .reference import decode_surveyed, items_of
from .scalars import Scalar
from .schema import Schema
from .skeleton import Found, FoundUnknown, Skeleton, Survey, survey

_FORMS: Final = 8
"""The largest number of forms of lines whose writers a reader keeps."""
_SHARED_OBJECTS: Final = 1 << 10
"""Limit of the memo of each shared class."""

Make = Callable[[bytes], Any]
"""Creates the object of a message, from its first header on."""

State = tuple[type, ...]
"""The classes that the objects of a message belong to: that of the message itself, and of each
object that is inlined in it. They tell which of their fields are set."""


def can_compile(surveyed: Survey) -> bool:
    """Return whether objects can be created from raw values of such messages.

    They cannot if there is an unknown attribute inside a shared object, which is looked up as a
    whole, because the owner of the shared object keeps that attribute.
    """
    shared = [
        found
        for found in surveyed.skeleton.values
        if found is not None and found.inside is not None and is_shared(found.inside.schema.cls)
    ]
    return not any(
        found.start <= unknown.start < found.end for found in shared for unknown in surveyed.unknown
    )


class Compiler:
    """Compiles the functions that create objects from the messages of one skeleton."""

    def __init__(
        self,
        surveyed: Survey,
        size: int,
        header_values: Mapping[str, object],
        header_fields: Mapping[str, HeaderField],
    ) -> None:
        """Initialize a compiler.

        :param surveyed: the survey of a message, with offsets from its first header on.
        :param size: the bytes of a message.
        :param header_values: the values of the fields that follow from the type and the flags.
        :param header_fields: the fields whose values are in the headers.
        """
        self._surveyed = surveyed
        self._size = size
        self._header_values = header_values
        self._header_fields = header_fields
        start = min([surveyed.start, *[field.offset for field in header_fields.values()]])
        self._kept = _Kept(start, size)
        self._readers: dict[type, FieldReader] = {}
        """The readers of the objects, by their classes."""

    def compile_make(
        self, state: State, varied: frozenset[int] = frozenset()
    ) -> tuple[Make, Mapping[int, int]]:
        """Return the function that creates one object, in a state.

        :param state: the state.
        :param varied: the offsets of addresses that are not looked up in a memo.
        :returns: the function, and the sizes of the addresses that are looked up or created, by
            their offsets.
        """
        writer = self._writer("make")
        writer.varied = varied
        builder = writer.builder
        whole, message = builder.parameter("whole"), builder.local("message")
        obj = self._write_object(writer, state, message)
        builder.line("return {obj}", obj=obj)
        if self._keeps(state):
            kept = slice(self._kept.start, None)
            builder.first_line("{m} = {whole}[{kept}]", m=message, whole=whole, kept=kept)
        if self._unpacks(state):
            unpack = writer.raw.struct(0, self._size).unpack
            row = writer.raw.variables
            builder.first_line("({row}) = {unpack}({whole})", row=row, unpack=unpack, whole=whole)
        return builder.build(), writer.addresses

    def compile_build(self, state: State, varied: frozenset[int] = frozenset()) -> Builder:
        """Return what creates many objects, in a state.

        :param state: the state.
        :param varied: the offsets of addresses that are not looked up in a memo.
        """
        writer = self._writer("build")
        writer.varied = varied
        builder = writer.builder
        rows, add = builder.parameter("rows"), builder.parameter("add")
        message = builder.local("message")
        keeps, unpacks = self._keeps(state), self._unpacks(state)
        row: list[Expression] = []
        if not keeps:
            loop = builder.block("for ({row}) in {rows}", row=row, rows=rows)
        elif not unpacks:
            loop = builder.block("for {message}, in {rows}", message=message, rows=rows)
        else:
            loop = builder.block(
                "for ({message}), ({row}) in {rows}", message=[message], row=row, rows=rows
            )
        with loop:
            obj = self._write_object(writer, state, message)
            builder.line("{add}({obj})", add=add, obj=obj)
            row += writer.raw.variables
        start, end = self._kept
        kept = Struct(f"{start}x{end - start}s") if keeps else None
        values = writer.raw.struct(0, self._size) if unpacks else None
        return Builder(builder.build(), values, kept, writer.addresses)

    def _writer(self, name: str) -> _Writer:
        return _Writer(name, self._surveyed, self._header_fields)

    def _write_object(self, writer: _Writer, state: State, message: Expression) -> Expression:
        """Write the lines that create the object of a message, and return its variable."""
        skeleton, values = self._surveyed.skeleton, self._header_values
        if not state:
            return writer.eager_object(skeleton.schema, skeleton, 0, values)
        return writer.lazy_object(skeleton.schema, 0, values, iter(state), message, self._reader)

    def _reader(
        self, schema: Schema[object], offset: int, header_values: Mapping[str, object]
    ) -> FieldReader:
        """Return the reader of an object: see :meth:`_Writer.lazy_object`."""
        reader = self._readers.get(schema.cls)
        if reader is None:
            obj = LazyObject(
                self._surveyed, schema, offset, header_values, self._header_fields, *self._kept
            )
            reader = self._readers[schema.cls] = _ReaderCompiler(obj).reader()
        return reader

    def _keeps(self, state: State) -> bool:
        """Return whether objects in a state keep their message."""
        return any(cls is not lazy_classes_of(cls).complete for cls in state)

    def _unpacks(self, state: State) -> bool:
        """Return whether creating objects in a state takes raw values."""
        return not state or any(cls is not lazy_classes_of(cls).unread for cls in state)


@attrs.frozen(eq=False)
class Builder:
    """A generated function that creates objects from rows, and what unpacks the rows."""

    function: Callable[[Iterable[tuple[object, ...]], Callable[..., None]], None]
    """Takes the rows of :attr:`values` or of :attr:`message` or, if there are both, pairs of
    these."""
    values: Struct | None
    """Unpacks the raw values of a message."""
    message: Struct | None
    """Unpacks the bytes of a message that its object keeps."""
    addresses: Mapping[int, int]
    """The sizes of the addresses that are looked up or created, by their offsets."""

    def build(self, messages: BytesLike, add: Callable[..., None]) -> None:
        """Create the object of each of consecutive messages, and pass it to ``add``."""
        values, message = self.values, self.message
        if values is None:
            assert message is not None
            self.function(message.iter_unpack(messages), add)
        elif message is None:
            self.function(values.iter_unpack(messages), add)
        else:
            rows = zip(message.iter_unpack(messages), values.iter_unpack(messages), strict=True)
            self.function(rows, add)


class _Kept(NamedTuple):
    """The bytes of a message that a lazily decoded object keeps: from ``start`` to ``end``."""

    start: int
    end: int


class _Writer:
    """Writes a function that creates objects, or sets fields of objects, from raw values."""

    def __init__(
        self, name: str, surveyed: Survey, header_fields: Mapping[str, HeaderField]
    ) -> None:
        """Start a function.

        :param name: the name of the function.
        :param surveyed: the survey of a message.
        :param header_fields: the fields of the message's own object whose values are in the
            headers.
        """
        self.builder = FunctionBuilder(name, "layout")
        self._surveyed = surveyed
        self._header_fields = header_fields
        self.raw = RawValues(self.builder)
        self.addresses: dict[int, int] = {}
        """The sizes of the addresses among the values, by their offsets."""
        self.varied: frozenset[int] = frozenset()
        """The offsets of addresses that are not looked up in a memo, because they rarely repeat."""

    def eager_object(
        self,
        schema: Schema[object],
        skeleton: Skeleton,
        offset: int,
        header_values: Mapping[str, object],
    ) -> Expression:
        """Write the lines that create an object, and return its variable.

        :param schema: the schema of the object.
        :param skeleton: the skeleton that has the object's values.
        :param offset: the first of the object's slots among the skeleton's.
        :param header_values: the values of the fields that follow from the headers.
        """
        names = [field.name for field in _fields_of(schema)]
        values = self.values(schema, skeleton, offset, names)
        values.update(header_values)
        obj = self.builder.local(schema.cls.__name__.lower())
        self._new(obj, schema.cls)
        self.set_fields(obj, schema, names, values)
        return obj

    def lazy_object(
        self,
        schema: Schema[object],
        offset: int,
        header_values: Mapping[str, object],
        state: Iterator[type],
        message: Expression,
        reader_of: Callable[[Schema[object], int, Mapping[str, object]], FieldReader],
    ) -> Expression:
        """Write the lines that create an object with lazy fields, and return its variable.

        :param schema: the schema of the object.
        :param offset: the first of the object's slots among the message's.
        :param header_values: the values of the fields that follow from the headers.
        :param state: the class that the object belongs to, and those of the objects in it.
        :param message: the variable of the bytes to keep.
        :param reader_of: returns the reader of an object, for the first three of these arguments.
        """
        builder, skeleton, cls = self.builder, self._surveyed.skeleton, next(state)
        classes = lazy_classes_of(schema.cls)
        values = dict(header_values)
        for inline in schema.inlines:
            at = offset + inline.offset
            values[inline.name] = self.lazy_object(inline.schema, at, {}, state, message, reader_of)
        assert values.keys() == set(classes.at_once), "only these need no raw value"
        names = classes.set_in(cls)
        values.update(self.values(schema, skeleton, offset, [n for n in names if n not in values]))
        obj = builder.local(schema.cls.__name__.lower())
        self._new(obj, cls)
        if cls is not classes.complete:
            builder.set(obj, "_message", message)
            builder.set(obj, "_reader", reader_of(schema, offset, header_values))
        self.set_fields(obj, schema, names, values)
        return obj

    def set_fields(
        self,
        obj: Expression,
        schema: Schema[object],
        names: Container[str],
        values: Mapping[str, object],
        attribute: Callable[[str], str] = str,
    ) -> None:
        """Write the lines that set fields of an object.

        :param obj: the object.
        :param schema: its schema.
        :param names: the names of the fields.
        :param values: their values, as parts; a field without one gets its default.
        :param attribute: returns the name of the attribute to assign, for the name of a field.
        """
        for field in _fields_of(schema):
            if field.name in names:
                value = values.get(field.name, field.default)
                self.builder.set(obj, attribute(field.name), value)

    def values(
        self, schema: Schema[object], skeleton: Skeleton, offset: int, names: Container[str]
    ) -> dict[str, object]:
        """Return the values of fields, as parts of the function, by name.

        :param schema: the schema of the object.
        :param skeleton: the skeleton that has the object's values.
        :param offset: the first of the object's slots among the skeleton's.
        :param names: the names of the fields.
        """
        builder = self.builder
        values: dict[str, object] = {}
        if skeleton is self._surveyed.skeleton and offset == 0:
            for name, header in self._header_fields.items():
                if name in names:
                    size = header.scalar.size or 0
                    values[name] = self._scalar(header.scalar, header.offset, size)
        for field in schema.fields:
            if field.name in names:
                values[field.name] = self._value(skeleton.values[offset + field.slot])
        for sequence in schema.sequences:
            if sequence.name in names:
                items = [self._value(found) for found in items_of(sequence, skeleton, offset)]
                values[sequence.name] = builder.expression("({items})", items=items)
        for inline in schema.inlines:
            if inline.name in names:
                at = offset + inline.offset
                values[inline.name] = self.eager_object(inline.schema, skeleton, at, {})
        if schema.keeps_unknown and "unknown" in names:
            unknown = self._surveyed.unknown if skeleton is self._surveyed.skeleton else []
            items = [self._unknown(found) for found in unknown]
            values["unknown"] = builder.expression("({items})", items=items)
        return values

    def _value(self, found: Found | None) -> Expression:
        builder = self.builder
        if found is None:
            return builder.bind(None)
        size = found.end - found.start
        if found.inside is None:
            assert found.leaf.scalar is not None
            return self._scalar(found.leaf.scalar, found.start, size)
        schema = found.inside.schema
        if is_shared(schema.cls):
            objects, raw = _shared_objects(schema), self.raw.unpack(found.start, size)
            return builder.expression("{objects}[{raw}]", objects=objects, raw=raw)
        return self.eager_object(schema, found.inside, 0, {})

    def _scalar(self, scalar: Scalar, start: int, size: int) -> Expression:
        builder, memo = self.builder, scalar.memo
        raw = self.raw.unpack(start, size, scalar.code)
        if memo is None:
            return raw
        if scalar.attributes is None:
            return builder.expression("{memo}[{raw}]", memo=memo, raw=raw)
        self.addresses[start] = size
        if start in self.varied:
            value = builder.local("value")
            self._address(value, scalar, raw)
            return value
        value = builder.let("value", "{found}", found=builder.find(memo, raw))
        with builder.block("if {value} is None", value=value):
            self._address(value, scalar, raw)
            builder.store(memo, raw, value)
        return value

    def _address(self, variable: Expression, scalar: Scalar, raw: Expression) -> None:
        """Write the lines that create an address."""
        assert scalar.attributes is not None
        self._new(variable, scalar.types[0])
        for name, attribute in scalar.attributes(self.builder, raw).items():
            self.builder.set(variable, name, attribute)

    def _unknown(self, found: FoundUnknown) -> Expression:
        raw = self.raw.unpack(found.start, found.end - found.start)
        return self.builder.call(UnknownAttribute, found.path, raw, found.nested)

    def _new(self, variable: Expression, cls: type[object]) -> None:
        self.builder.line("{obj} = {new}({cls})", obj=variable, new=object.__new__, cls=cls)


def _fields_of(schema: Schema[object]) -> tuple[attrs.Attribute[object], ...]:
    fields: tuple[attrs.Attribute[object], ...] = attrs.fields(schema.cls)  # type: ignore[arg-type]
    return fields


# Lazy fields


def make_reader(surveyed: Survey, size: int) -> FieldReader:
    """Return a reader for objects with lazy fields that keep their whole message, of this size."""
    obj = LazyObject(surveyed, surveyed.skeleton.schema, 0, {}, {}, 0, size)
    return _ReaderCompiler(obj).reader()


def compile_values(
    surveyed: Survey, size: int, names: tuple[str, ...]
) -> Callable[[bytes], tuple[Any, ...]]:
    """Return a function that returns the values of some fields of a message's object.

    :param surveyed: the survey of a message.
    :param size: the bytes of a message.
    :param names: the names of the fields.
    """
    writer = _Writer("values", surveyed, {})
    builder, skeleton = writer.builder, surveyed.skeleton
    message = builder.parameter("message")
    found = writer.values(skeleton.schema, skeleton, 0, names)
    builder.line("return {values}", values=[found[name] for name in names])
    row, unpack = writer.raw.variables, writer.raw.struct(0, size).unpack
    builder.first_line("({row}) = {unpack}({m})", row=row, unpack=unpack, m=message)
    return builder.build()


class _ReaderCompiler:
    """Compiles the functions that read the fields of one object, for messages of one skeleton."""

    def __init__(self, obj: LazyObject) -> None:
        self._obj = obj

    def reader(self) -> FieldReader:
        """Return a reader whose functions are compiled when they are first called."""
        reader = FieldReader()
        reader.start = self._obj.surveyed.start - self._obj.start
        classes = lazy_classes_of(self._obj.schema.cls)

        def set_often_read(obj: Any, message: bytes) -> None:
            setter = self._compile(classes.often_read, classes.partly_read)
            reader.set_often_read = setter
            setter(obj, message)

        def set_others(obj: Any, message: bytes) -> None:
            reader.set_others = setter = self._compile(classes.others, classes.complete)
            setter(obj, message)

        def write_json(obj: Any, message: bytes) -> str | None:
            from .message_json import compile_json

            reader.write_json = write = compile_json(self._obj)
            return write(obj, message)

        def write_text(obj: Any, message: bytes) -> str | None:
            from .message_text import compile_text

            reader.write_text = write = compile_text(self._obj)
            return write(obj, message)

        reader.set_often_read, reader.set_others = set_often_read, set_others
        reader.write_json, reader.write_text = write_json, write_text
        reader.line_writers = BoundedMemo(_FORMS, lambda form: form.compile(self._obj))
        reader.absent = self._absent()
        return reader

    def _absent(self) -> frozenset[str]:
        """Return the names of the fields that are absent."""
        obj = self._obj
        present = {*obj.header_values, *obj.header_fields}
        present.update(inline.name for inline in obj.schema.inlines)
        for field in obj.schema.fields:
            if obj.surveyed.skeleton.values[obj.offset + field.slot] is not None:
                present.add(field.name)
        fields = _fields_of(obj.schema)
        return frozenset(each.name for each in fields if each.default is None) - present

    def _compile(self, names: tuple[str, ...], next_class: type) -> SetFields:
        """Return the function that sets these fields of an object from its message.

        :param names: the fields.
        :param next_class: the class that the object belongs to afterwards.
        """
        schema, surveyed = self._obj.schema, self._obj.surveyed
        writer = _Writer("set_fields", surveyed, self._obj.header_fields)
        builder = writer.builder
        obj, message = map(builder.parameter, ("obj", "message"))
        values = writer.values(schema, surveyed.skeleton, self._obj.offset, names)
        writer.set_fields(obj, schema, names, values, slot_name)
        # Last, because another thread may be reading the object.
        builder.line("{set_class}({obj}, {next})", set_class=set_class, obj=obj, next=next_class)
        if next_class is schema.cls:
            builder.set(obj, "_message", None)
        builder.first_line(
            "({raw}) = {unpack}({message})",
            raw=writer.raw.variables,
            unpack=writer.raw.struct(self._obj.start, self._obj.end).unpack,
            message=message,
        )
        return builder.build()


# Memos


@cache
def _shared_objects(schema: Schema[object]) -> BoundedMemo:
    """Return the memo of a shared class: its objects by the bytes of their nest."""

    def read(nest: bytes) -> object:
        # The mask of the layout has the headers of all attributes in the nest, so this cannot fail.
        # Unknown attributes in it are kept by the owner of the object.
        return decode_surveyed(survey(schema.cls, nest, 0, len(nest)), nest, {})

    return BoundedMemo(_SHARED_OBJECTS, read)
