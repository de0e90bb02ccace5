"""Compile packers: write the function that packs requests of one shape."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

import attrs

from ..function_builder import BoundedMemo, Expression, FunctionBuilder
from ..model.flow import Flow
from ..model.normalization import is_message_class, normalizers_of
from ..model.wire import Bitmap, Integer, Wire
from ..netlink.attributes import HEADER
from ..netlink.messages import HEADER_SIZE
from ..netlink.nfnetlink import SIZE
from .packed_requests import SEQ, Pack, RequestValue, UnsupportedShape
from .scalars import Scalar, to_words
from .schema import Leaf, Schema, schema_of
from .skeleton import Found, Skeleton, survey

_MEMO_LIMIT: Final = 1 << 10
"""The largest number of results in the memo of each computed value."""

_BODY: Final = HEADER_SIZE + SIZE

_Path = tuple[str, ...]
"""An argument, and the fields that lead from it to an object. Each has a variable of its own."""


class _PackedValue(NamedTuple):
    """What :mod:`struct` packs at one place of the message."""

    format: str
    size: int
    value: Expression


class PackerWriter:
    """Writes a packer for requests like this one."""

    def __init__(self, arguments: tuple[str, ...], make: Callable[..., bytes], data: bytes) -> None:
        self._make = make
        self._data = data
        self._skeletons: dict[type, Skeleton] = {}
        builder = self._builder = FunctionBuilder("packer", "packer")
        seq = builder.parameter("seq")
        self._arguments = {name: builder.parameter(name) for name in arguments}
        self._variables: dict[_Path, Expression] = {
            (name,): argument for name, argument in self._arguments.items()
        }
        self._packed = {SEQ: _PackedValue("I", 4, builder.call(socket.htonl, seq))}
        """What is packed, by its offset."""
        self._guards: dict[int, _Guards] = {}
        """The conditions on objects, by the lengths of their paths."""
        self._guarded: set[_Path] = set()
        self._computed: list[tuple[Expression, Expression]] = []
        """The variables that hold computed bytes, and how they are looked up."""

    def compile(self, arguments: Sequence[object], values: Sequence[RequestValue]) -> Pack:
        """Return the packer.

        :raises UnsupportedShape: when a packer cannot write such requests.
        :raises DecodeError: when the message cannot be surveyed.
        """
        builder = self._builder
        for name, argument in zip(self._arguments, arguments, strict=True):
            self._guard((name,), argument)
        for value in values:
            self._request_value(value)
        format, packed = self._format()
        for _, guards in sorted(self._guards.items()):
            guards.write(builder)
        for variable, lookup in self._computed:
            builder.line("{variable} = {lookup}", variable=variable, lookup=lookup)
            with builder.block("if {variable} is None", variable=variable):
                builder.line("return None")
        builder.line("return {packed}", packed=builder.call(struct.Struct(format).pack, *packed))
        return builder.build()

    # -- values -----------------------------------------------------------------------------

    def _request_value(self, part: RequestValue) -> None:
        skeleton = self._skeletons.get(part.cls)
        if skeleton is None:
            skeleton = survey(part.cls, self._data, _BODY, len(self._data)).skeleton
            self._skeletons[part.cls] = skeleton
        field = next(each for each in skeleton.schema.fields if each.name == part.field)
        found = skeleton.values[field.slot]
        path = tuple(part.path.split("."))
        self._guard(path, part.value)
        if part.computed:
            self._computed_value(path, part.value, found)
        elif part.value is not None:
            self._value(path, part.value, found)

    def _value(self, path: _Path, value: object, found: Found | None) -> None:
        """Write a value that is packed as its field declares."""
        if found is None:
            raise UnsupportedShape
        if found.inside is not None:
            self._object(path, value, found.inside)
            return
        scalar = found.leaf.scalar
        assert scalar is not None
        size = found.end - found.start
        if size != len(scalar.encode(value)):
            raise UnsupportedShape
        packed = self._scalar(found.leaf.wire, scalar, path)
        if packed is None:
            self._look_up([path], found)
        else:
            self._packed[found.start] = _PackedValue(packed[0], size, packed[1])

    def _scalar(
        self, wire: Wire[object], scalar: Scalar, path: _Path
    ) -> tuple[str, Expression] | None:
        """Return the struct format of a value and what is packed; ``None`` if there is no format.

        An address is packed from the attributes that :mod:`.scalars` has checked.
        """
        builder, name = self._builder, self._variable(path)
        if isinstance(wire, Integer) and not wire.host_order:
            assert scalar.code is not None
            return scalar.code, name
        if isinstance(wire, Bitmap):
            return f"{wire.size}s", builder.call(to_words, name, wire.size)
        if scalar.attributes is None:
            return None
        ip = builder.attribute(name, "_ip")
        if scalar.code == "I":
            return "I", ip
        self._guards_at(len(path) + 1).absent.append(builder.attribute(name, "_scope_id"))
        return "16s", builder.call(int.to_bytes, ip, 16, "big")

    def _object(self, path: _Path, value: object, skeleton: Skeleton) -> None:
        """Write an object whose fields are packed as its class declares them."""
        builder, schema = self._builder, skeleton.schema
        if type(value) is not schema.cls or schema.sequences or schema.inlines:
            raise UnsupportedShape
        deciding = _deciding(schema)
        for field in schema.fields:
            inner = getattr(value, field.name)
            inside = (*path, field.name)
            self._guard(inside, inner)
            if field.name in deciding:
                name = self._variable(inside)
                equal = builder.expression("{name} == {value}", name=name, value=inner)
                self._guards_at(len(inside)).equal.append(equal)
            elif inner is not None:
                self._value(inside, inner, skeleton.values[field.slot])

    def _computed_value(self, path: _Path, value: object, found: Found | None) -> None:
        """Write a value from which alone the reference computes the bytes."""
        if value is None:
            return  # what the reference writes for an absent value is a part of the shape
        if found is None:
            raise UnsupportedShape
        if found.inside is None:
            self._look_up([path], found)
            return
        present: list[_Path] = []
        for field in schema_of(type(value)).fields:
            inside = (*path, field.name)
            if getattr(value, field.name) is None:
                self._guard(inside, None)
            else:
                present.append(inside)
        self._look_up(present, found)

    def _look_up(self, paths: Sequence[_Path], found: Found) -> None:
        """Write a look-up of bytes by the values that they are computed from.

        The types of the values are a part of the key: True equals 1 and 1.0.
        """
        builder = self._builder
        computed = _ComputedBytes(self._make, self._data, found.start, found.end)
        parts: list[Expression] = []
        for name in map(self._variable, paths):
            parts += [name, builder.call(type, name)]
        key = builder.expression("({parts})", parts=parts)
        found_bytes = builder.find(computed.memo, key)
        new = builder.call(computed.compute, key, *self._arguments.values())
        lookup = builder.expression("{found_bytes} or {new}", found_bytes=found_bytes, new=new)
        local = builder.local("computed")
        self._computed.append((local, lookup))
        size = found.end - found.start
        self._packed[found.start] = _PackedValue(f"{size}s", size, local)

    # -- the parts of the source ------------------------------------------------------------

    def _variable(self, path: _Path) -> Expression:
        """Return the variable of an object, and load it before the conditions on it."""
        name = self._variables.get(path)
        if name is None:
            builder = self._builder
            field = self._read(path)
            name = self._variables[path] = builder.local("_".join(path))
            load = builder.expression("{name} = {field}", name=name, field=field)
            self._guards_at(len(path)).loads.append(load)
        return name

    def _read(self, path: _Path) -> Expression:
        """Return the variable of an object, or the expression that reads it where it has none."""
        known = self._variables.get(path)
        if known is not None:
            return known
        return self._builder.attribute(self._variables[path[:-1]], path[-1])

    def _guards_at(self, length: int) -> _Guards:
        return self._guards.setdefault(length, _Guards())

    def _guard(self, path: _Path, value: object) -> None:
        """Write the condition that an object has the same type, or is absent.

        :raises UnsupportedShape: when the type is not plain. Its objects may be compared and hashed
            in any way, so bytes cannot be looked up by them.
        """
        if path in self._guarded:
            return
        self._guarded.add(path)
        guards = self._guards_at(len(path))
        if value is None:
            guards.absent.append(self._read(path))
            return
        name = self._variable(path)
        if _is_plain(type(value)):
            types = guards.types.setdefault(type(value), [])
            types.append(self._builder.call(type, name))
        else:
            raise UnsupportedShape

    def _format(self) -> tuple[str, list[Expression]]:
        """Return the struct format of the whole message, and what is packed."""
        parts: list[_PackedValue] = []
        at = 0
        for start, packed in [*sorted(self._packed.items()), (len(self._data), None)]:
            if start > at:
                fixed = self._builder.bind(self._data[at:start])
                parts.append(_PackedValue(f"{start - at}s", start - at, fixed))
            if packed is not None:
                parts.append(packed)
                at = start + packed.size
        return "!" + "".join([each.format for each in parts]), [each.value for each in parts]


class _ComputedBytes:
    """The bytes that the reference computes from values, for messages otherwise like this one."""

    def __init__(self, make: Callable[..., bytes], data: bytes, start: int, end: int) -> None:
        self.memo = BoundedMemo(_MEMO_LIMIT)
        """The bytes, by the values and their types."""
        self._make = make
        self._size = len(data)
        self._header = data[start - HEADER.size : start]
        self._start = start
        self._end = end

    def compute(self, key: Hashable, *arguments: object) -> bytes | None:
        """Compute the bytes with the reference, and store them in the memo.

        :returns: the bytes; ``None`` when the length of the message or the header of the attribute
            differs, so that the bytes do not fit into the packed message.

        :raises EncodeError: when the reference raises it.
        """
        data = self._make(*arguments)
        header = data[self._start - HEADER.size : self._start]
        if len(data) != self._size or header != self._header:
            return None
        computed_bytes = data[self._start : self._end]
        self.memo.store(key, computed_bytes)
        return computed_bytes


@attrs.define
class _Guards:
    """The conditions on the objects of one depth. They come before those on the objects inside."""

    loads: list[Expression] = attrs.field(factory=list[Expression])
    absent: list[Expression] = attrs.field(factory=list[Expression])
    types: dict[type, list[Expression]] = attrs.field(factory=dict[type, list[Expression]])
    """The expressions that must be each type."""
    equal: list[Expression] = attrs.field(factory=list[Expression])

    def write(self, builder: FunctionBuilder) -> None:
        """Write the lines that load the objects, and that return ``None`` if they do not fit."""
        for load in self.loads:
            builder.line("{load}", load=load)
        conditions: list[Expression] = []
        if self.absent:
            conditions.append(builder.join("is", [*self.absent, None]))
        for cls, types in self.types.items():
            conditions.append(builder.join("is", [*types, cls]))
        conditions += self.equal
        if conditions:
            condition = builder.join("and", conditions)
            with builder.block("if not {condition}", condition=condition):
                builder.line("return None")


_PLAIN: Final = frozenset({int, str, bytes, IPv4Address, IPv6Address})


def _is_plain(cls: type) -> bool:
    """Return whether objects of exactly this type are compared by their values.

    That is so for the classes of the model, their enums, and the built-in types in :data:`_PLAIN`.
    """
    return cls in _PLAIN or is_message_class(cls) or cls in _declared_enums()


@cache
def _declared_enums() -> frozenset[type]:
    """Return the enums that the fields of flows are declared with."""
    found: set[type] = set()
    for cls in (Flow, *_nested(Flow)):
        found.update(each for plain in normalizers_of(cls).values() for each in plain.types)
    return frozenset(found)


def _nested(cls: type[object]) -> list[type[object]]:
    """Return the classes of the objects inside, at any depth."""
    nests = [leaf.nest for field in schema_of(cls).fields for leaf in field.leaves if leaf.nest]
    return [each for nest in nests for each in (nest.cls, *_nested(nest.cls))]


def _deciding(schema: Schema[object]) -> set[str]:
    """Return the names of the fields that decide what other attributes mean."""
    leaves: list[Leaf] = [leaf for field in schema.fields for leaf in field.leaves]
    return {leaf.when[0] for leaf in leaves if leaf.when is not None}
