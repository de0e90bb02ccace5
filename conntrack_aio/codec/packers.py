"""Packers: requests written by code compiled for their shape.

The shape of a request is which of its values are there and of which types, and the few values that
say what others mean. The first request of a shape is made by the reference, which checks it and
knows all the rules; where its values stand in it, a survey tells. From that a function is
generated that looks whether an object has the very same shape, and then packs its values with one
:class:`struct.Struct`. Whatever is not just so (a value out of range, a type of another class)
goes to the reference again, which raises what there is to raise.

So what a shape stands for must not depend on anything else: a rule that compares values is none
that a packer knows.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, NamedTuple

import attrs

from ..generated import compile_function
from ..model.declare import Bitmap, Integer, Wire, is_message, normalizers_of
from ..model.flow import Flow
from ..netlink.attributes import HEADER
from ..netlink.messages import HEADER_SIZE
from ..netlink.nfnetlink import SIZE
from .scalars import Scalar, to_words
from .schema import Leaf, Schema, schema_of
from .skeleton import Found, Skeleton, survey

SHAPES: Final = 16
"""Packers that are kept for one hint, the last used ones first."""

FREE: Final = 64
"""Shapes that are compiled at once. After so many, each further one has to wait until as many
requests went to the reference: variety for its own sake must not have us compile all day."""

_REMEMBERED: Final = 1 << 10
"""Values of one part that are remembered."""

_SEQ: Final = 8
_BODY: Final = HEADER_SIZE + SIZE

Pack = Callable[..., bytes | None]


class Part(NamedTuple):
    """A value of a request, and the attribute that it goes into."""

    source: str
    """The expression that has it, of the arguments' names."""
    value: object
    """In the request at hand."""
    cls: type
    """The class that declares the attribute,"""
    field: str
    """and its field."""
    changed: bool = False
    """Whether it is written otherwise than it is declared: then what became of it is remembered."""


class Unfit(Exception):
    """It does not stand where it is expected."""


class Packers:
    """The packers of one kind of request, made of these ``arguments``.

    ``make`` is the reference: the whole message, numbered 0. It raises :exc:`EncodeError`.
    ``parts`` names the values that a request depends on, all of them.
    """

    def __init__(
        self,
        arguments: str,
        make: Callable[..., bytes],
        parts: Callable[..., Sequence[Part]],
    ) -> None:
        self.compiled = 0
        self._arguments = arguments
        self._make = make
        self._parts = parts
        self._credit = FREE
        self._packers: dict[Hashable, list[Pack]] = {}

    def pack(self, hint: Hashable, seq: int, *arguments: object) -> bytes:
        """The message of these arguments. Raises what the reference raises.

        ``hint`` is a cheap part of the shape: packers are looked for by it.
        """
        try:
            packers = self._packers.get(hint, [])
            for index, packer in enumerate(packers):
                packed = packer(seq, *arguments)
                if packed is not None:
                    if index:
                        # What was just met will be met again.
                        self._packers[hint] = [packer, *packers[:index], *packers[index + 1 :]]
                    return packed
        except Exception:
            pass  # the reference says what is wrong with it, or nothing is
        data = self._make(*arguments)
        self._learn(hint, data, arguments)
        return data[:_SEQ] + seq.to_bytes(4, sys.byteorder) + data[_SEQ + 4 :]

    def _learn(self, hint: Hashable, data: bytes, arguments: Sequence[object]) -> None:
        self._credit = min(self._credit + 1, FREE)
        if self.compiled >= FREE and self._credit < FREE:
            return
        if self.compiled >= FREE:
            self._credit = 0
        self.compiled += 1
        try:
            code = _Code(self._arguments, self._make, data)
            packer = code.compile(arguments, self._parts(*arguments))
            if packer(0, *arguments) != data:
                return
        except Exception:
            return  # whatever it is, the reference can do it
        self._packers[hint] = [packer, *self._packers.get(hint, [])[: SHAPES - 1]]


class _Code:
    """The source of a packer for requests like this one."""

    def __init__(self, arguments: str, make: Callable[..., bytes], data: bytes) -> None:
        self._arguments = arguments
        self._make = make
        self._data = data
        self._names: dict[str, Any] = {"htonl": socket.htonl}
        self._levels: dict[int, _Guards] = {}
        self._depths: dict[str, int] = {}
        self._learned: list[str] = []
        self._fields: dict[int, tuple[int, str, str]] = {_SEQ: (4, "I", "htonl(seq)")}
        """By where they start: their size, what struct calls them, and their source."""
        self._skeletons: dict[type, Skeleton] = {}

    def compile(self, arguments: Sequence[object], parts: Sequence[Part]) -> Pack:
        """Raises :exc:`Unfit`, and :exc:`DecodeError` where the message can't be surveyed."""
        for name, value in zip(self._arguments.split(", "), arguments, strict=True):
            self._check(name, value)
        for part in parts:
            self._part(part)
        format, values = self._layout()
        self._names["pack"] = struct.Struct(format).pack
        body: list[str] = []
        for _, guards in sorted(self._levels.items()):
            body += guards.source(self._constant)
        body += [*self._learned, f"return pack({', '.join(values)})"]
        # Only names of our own and of fields are in it: nothing of any value.
        source = f"def packer(seq, {self._arguments}):\n    " + "\n    ".join(body) + "\n"
        return compile_function("packer", source, self._names, "packer")

    # -- values -----------------------------------------------------------------------------

    def _part(self, part: Part) -> None:
        skeleton = self._skeletons.get(part.cls)
        if skeleton is None:
            skeleton = survey(part.cls, self._data, _BODY, len(self._data)).skeleton
            self._skeletons[part.cls] = skeleton
        field = next(each for each in skeleton.schema.fields if each.name == part.field)
        found = skeleton.values[field.slot]
        name = self._local(part.source)
        self._check(name, part.value)
        if part.changed:
            self._changed(name, part.value, found)
        elif part.value is not None:
            self._value(name, part.value, found)

    def _value(self, name: str, value: object, found: Found | None) -> None:
        """One that is written as it is declared."""
        if found is None:
            raise Unfit
        if found.inside is not None:
            self._object(name, value, found.inside)
            return
        scalar = found.leaf.scalar
        assert scalar is not None
        size = found.end - found.start
        if size != len(scalar.encode(value)):
            raise Unfit
        code, source = self._packed(found.leaf.wire, scalar, name)
        if code is None:
            self._remember([name], found)
        else:
            self._fields[found.start] = (size, code, source)

    def _packed(self, wire: Wire[object], scalar: Scalar, name: str) -> tuple[str | None, str]:
        """What :mod:`struct` takes of a value, with ``None`` if it does not know its kind."""
        if isinstance(wire, Integer) and not wire.host_order:
            return scalar.code, name
        if isinstance(wire, Bitmap):
            return f"{wire.size}s", f"{self._constant(to_words)}({name}, {wire.size})"
        if scalar.parts is None:
            return None, ""
        if scalar.code == "I":
            return "I", f"{name}._ip"
        self._guards(name, 1).absent.append(f"{name}._scope_id")
        return "16s", f"{self._constant(int.to_bytes)}({name}._ip, 16, 'big')"

    def _object(self, name: str, value: object, skeleton: Skeleton) -> None:
        """One whose fields are written as they are declared."""
        schema = skeleton.schema
        if type(value) is not schema.cls or schema.sequences or schema.inlines:
            raise Unfit
        deciding = _deciding(schema)
        for field in schema.fields:
            inner = getattr(value, field.name)
            local = self._local(f"{name}.{field.name}")
            self._check(local, inner)
            if field.name in deciding:
                self._guards(local).equal.append(f"{local} == {self._constant(inner)}")
            elif inner is not None:
                self._value(local, inner, skeleton.values[field.slot])

    def _changed(self, name: str, value: object, found: Found | None) -> None:
        """What the reference makes something else of, which depends on nothing but this value."""
        if value is None:
            return  # what is made of that is a part of the shape
        if found is None:
            raise Unfit
        if found.inside is None:
            self._remember([name], found)
            return
        told: list[str] = []
        for field in schema_of(type(value)).fields:
            inner = getattr(value, field.name)
            local = self._local(f"{name}.{field.name}")
            if inner is None:
                self._check(local, None)
            else:
                told.append(local)
        self._remember(told, found)

    def _remember(self, names: Sequence[str], found: Found) -> None:
        """Bytes that are looked up by what they come of, with its types: True is 1, and 1.0."""
        memory = _Memory(self._make, self._data, found.start, found.end)
        known, learn = self._constant(memory.known), self._constant(memory.learn)
        key = f"({''.join([f'{name}, type({name}), ' for name in names])})"
        local = f"bytes{found.start}"
        self._learned += [
            f"{local} = {known}.get({key}) or {learn}({key}, {self._arguments})",
            f"if {local} is None: return None",
        ]
        size = found.end - found.start
        self._fields[found.start] = (size, f"{size}s", local)

    # -- the parts of the source ------------------------------------------------------------

    def _guards(self, name: str, deeper: int = 0) -> _Guards:
        """Of the objects that are as deep as the one of this name: those above are known then."""
        return self._levels.setdefault(self._depths[name] + deeper, _Guards())

    def _local(self, source: str) -> str:
        """A variable for an argument, or for a field of a variable."""
        owner = source.rpartition(".")[0]
        if not owner:
            self._depths.setdefault(source, 0)
            return source
        name = source.replace(".", "_")
        self._depths[name] = self._depths[owner] + 1
        self._guards(name).loads.append(f"{name} = {source}")
        return name

    def _check(self, name: str, value: object) -> None:
        """Have it be of this type, or absent.

        Raises :exc:`Unfit` for a type that is not plain: its objects may compare and hash as they
        like, and what is remembered of them would be of no value.
        """
        self._depths.setdefault(name, 0)
        guards = self._guards(name)
        if value is None:
            guards.absent.append(name)
        elif _is_plain(type(value)):
            guards.types.setdefault(type(value), []).append(name)
        else:
            raise Unfit

    def _constant(self, value: object) -> str:
        for name, known in self._names.items():
            if known is value:
                return name
        name = f"c{len(self._names)}"
        self._names[name] = value
        return name

    def _layout(self) -> tuple[str, list[str]]:
        """The format of the whole message, and what goes into it."""
        parts: list[str] = ["!"]
        values: list[str] = []
        at = 0
        for start, (size, code, source) in sorted(self._fields.items()):
            if start > at:
                parts.append(f"{start - at}s")
                values.append(self._constant(self._data[at:start]))
            parts.append(code)
            values.append(source)
            at = start + size
        if at < len(self._data):
            parts.append(f"{len(self._data) - at}s")
            values.append(self._constant(self._data[at:]))
        return "".join(parts), values


class _Memory:
    """What values of one part become in messages that are otherwise like this one."""

    def __init__(self, make: Callable[..., bytes], data: bytes, start: int, end: int) -> None:
        self.known: dict[Hashable, bytes] = {}
        self._make = make
        self._size = len(data)
        self._header = data[start - HEADER.size : start]
        self._start = start
        self._end = end

    def learn(self, key: Hashable, *arguments: object) -> bytes | None:
        """``None`` if it is of another size. Raises what the reference raises."""
        data = self._make(*arguments)
        header = data[self._start - HEADER.size : self._start]
        if len(data) != self._size or header != self._header:
            return None
        if len(self.known) >= _REMEMBERED:
            self.known.clear()
        made = self.known[key] = data[self._start : self._end]
        return made


@attrs.define
class _Guards:
    """What has to hold of the objects of one depth, before those inside of them are looked at."""

    loads: list[str] = attrs.field(factory=list[str])
    absent: list[str] = attrs.field(factory=list[str])
    types: dict[type, list[str]] = attrs.field(factory=dict[type, list[str]])
    equal: list[str] = attrs.field(factory=list[str])

    def source(self, constant: Callable[[object], str]) -> list[str]:
        """The lines that see to it."""
        told = [" is ".join([*dict.fromkeys(self.absent), "None"])] if self.absent else []
        for cls, names in self.types.items():
            types = [f"type({name})" for name in dict.fromkeys(names)]
            told.append(" is ".join([*types, constant(cls)]))
        told += self.equal
        check = [f"if not ({' and '.join(told)}): return None"] if told else []
        return [*self.loads, *check]


_PLAIN: Final = frozenset({int, str, bytes, IPv4Address, IPv6Address})


def _is_plain(cls: type) -> bool:
    """Whether objects of just this type are what they compare as: ours, and built-in ones."""
    return cls in _PLAIN or is_message(cls) or cls in _declared_enums()


@cache
def _declared_enums() -> frozenset[type]:
    """The enums that fields of flows are declared with."""
    found: set[type] = set()
    for cls in (Flow, *_nested(Flow)):
        found.update(each for plain in normalizers_of(cls).values() for each in plain.types)
    return frozenset(found)


def _nested(cls: type[object]) -> list[type[object]]:
    """The classes of the objects inside, at any depth."""
    nests = [leaf.nest for field in schema_of(cls).fields for leaf in field.leaves if leaf.nest]
    return [each for nest in nests for each in (nest.cls, *_nested(nest.cls))]


def _deciding(schema: Schema[object]) -> set[str]:
    """The fields that say what other attributes mean."""
    leaves: list[Leaf] = [leaf for field in schema.fields for leaf in field.leaves]
    return {leaf.when[0] for leaf in leaves if leaf.when is not None}
