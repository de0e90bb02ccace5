"""A request as the kernel got it: what a test looks at to see what was asked."""

from __future__ import annotations

from typing import Final

import attrs

from ..codec.reference import decode
from ..codec.schema import Branch, Fork, Leaf, Schema, schema_of
from ..errors import DecodeError
from ..netlink import nfnetlink
from ..netlink.attributes import walk
from ..uapi.netlink import NLM_F

_DUMP: Final = int(NLM_F.DUMP)


Classes = tuple[type[object], ...]
"""Classes of the model."""


@attrs.frozen
class Asked:
    """One request that a program sent.

    ``payload`` are its bytes behind the header, ``struct nfgenmsg`` first. What they say is read
    when it is asked for.
    """

    type: int
    """``subsystem << 8 | message``."""
    flags: int
    """The header's flags, :class:`~conntrack_aio.uapi.netlink.NLM_F`."""
    seq: int
    payload: bytes
    port_id: int
    """The socket that it came by."""
    verb: str
    """What it amounts to, in the words of the library's errors: ``"create"``, ``"update"``,
    ``"get"``, ``"dump"``, ``"delete"``, ``"flush"``, ``"count"`` and so on; for a subsystem that
    the kernel lacks, the type in hexadecimal."""
    _classes: Classes = ()

    @property
    def subsystem(self) -> int:
        """The number of the subsystem, :class:`~conntrack_aio.uapi.nfnetlink.NFNL_SUBSYS`."""
        return self.type >> 8

    @property
    def message(self) -> int:
        """The message's number within its subsystem."""
        return self.type & 0xFF

    @property
    def family(self) -> int:
        """The address family in ``struct nfgenmsg``."""
        return self.payload[0] if self.payload else 0

    @property
    def version(self) -> int:
        """The version in ``struct nfgenmsg``: not 0 where a flush of one family is meant."""
        return self.payload[1] if len(self.payload) > 1 else 0

    @property
    def is_dump(self) -> bool:
        """Whether it bears the flag of a dump (either of its bits, as the kernel looks at it)."""
        return bool(self.flags & _DUMP)

    @property
    def attributes(self) -> dict[str, object]:
        """What its attributes say, by the names of the model's fields: ``orig``, ``mark_mask``…

        Values are objects of the model. A part of one (the tuple of a filter has only the fields
        that are compared) is a dictionary, and what the model does not know stands under its
        number, as bytes.
        """
        schemas: list[Schema[object]] = [schema_of(cls) for cls in self._classes]
        places = [(schema, schema.root) for schema in schemas]
        try:
            return _describe(places, self.payload, nfnetlink.SIZE, len(self.payload))
        except DecodeError:
            return {}

    def __str__(self) -> str:
        told = ", ".join(f"{name}={_short(value)}" for name, value in self.attributes.items())
        return f"{self.verb}({told})"


def _short(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


_Place = tuple[Schema[object], Branch]


def _describe(places: list[_Place], data: bytes, start: int, end: int) -> dict[str, object]:
    """The fields that stand between ``start`` and ``end``, whichever there are."""
    found: dict[str, object] = {}
    attributes = {number: (first, last) for number, _, first, last in walk(data, start, end)}
    for number, (first, last) in attributes.items():
        for schema, branch in places:
            child = branch.children.get(number)
            if isinstance(child, Fork):
                decider = slice(*attributes.get(child.by, (0, 0)))
                child = child.leaves.get(int.from_bytes(data[decider], "big"))
            if isinstance(child, Branch):
                found |= _describe([(schema, child)], data, first, last)
                break
            if isinstance(child, Leaf):
                found[_field_of(schema, child)] = _value(child, data, first, last)
                break
        else:
            found[str(number)] = data[first:last]
    return found


def _field_of(schema: Schema[object], leaf: Leaf) -> str:
    names = {field.slot: field.name for field in schema.fields}
    for sequence in schema.sequences:
        names[sequence.count.slot] = f"len({sequence.name})"
        names |= {item.slot: f"{sequence.name}[{i}]" for i, item in enumerate(sequence.leaves)}
    return names[leaf.slot]


def _value(leaf: Leaf, data: bytes, start: int, end: int) -> object:
    try:
        if leaf.nest is not None:
            return decode(leaf.nest.cls, data, start, end)
        assert leaf.scalar is not None
        if leaf.scalar.size in (None, end - start) and end - start <= leaf.scalar.maximum:
            return leaf.scalar.decode(data, start, end)
    except DecodeError:
        if leaf.nest is not None:
            return _describe([(leaf.nest, leaf.nest.root)], data, start, end)
    return data[start:end]
