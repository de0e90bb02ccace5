"""Record the requests that the fake kernel receives, for a test to inspect."""

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
"""Classes of the model whose attributes a request may have."""


@attrs.frozen
class ReceivedRequest:
    """A request that the kernel received from the program under test."""

    type: int
    """The message type: ``subsystem << 8 | message``."""
    flags: int
    """The flags of the netlink header, see :class:`~conntrack_aio.uapi.netlink.NLM_F`."""
    seq: int
    """The sequence number."""
    payload: bytes
    """The bytes after the netlink header, beginning with ``struct nfgenmsg``."""
    port_id: int
    """The port id of the socket that sent the request."""
    verb: str
    """What the request does: ``"create"``, ``"update"``, ``"get"``, ``"dump"``, ``"delete"``,
    ``"flush"``, ``"count"`` and so on, as in the library's error messages.

    For a message that this kernel does not know it is the message type in hexadecimal.
    """
    _classes: Classes = ()

    @property
    def subsystem(self) -> int:
        """The subsystem's number, see :class:`~conntrack_aio.uapi.nfnetlink.NFNL_SUBSYS`."""
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
        """The version in ``struct nfgenmsg``, which is not 0 in a flush of one address family."""
        return self.payload[1] if len(self.payload) > 1 else 0

    @property
    def is_dump(self) -> bool:
        """Whether the request has any bit of ``NLM_F_DUMP``, which is how the kernel checks it."""
        return bool(self.flags & _DUMP)

    @property
    def attributes(self) -> dict[str, object]:
        """The decoded attributes, by the names of the model's fields: ``orig``, ``mark_mask``…

        The values are objects of the model. An incomplete object is a dictionary of its fields:
        the tuple of a filter has only the fields that are compared. An attribute that the model
        does not know is listed under its number, as bytes.
        """
        schemas: list[Schema[object]] = [schema_of(cls) for cls in self._classes]
        branches = [(schema, schema.root) for schema in schemas]
        try:
            return _describe(branches, self.payload, nfnetlink.SIZE, len(self.payload))
        except DecodeError:
            return {}

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={_short(value)}" for name, value in self.attributes.items())
        return f"{self.verb}({shown})"


def _short(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


_SchemaBranch = tuple[Schema[object], Branch]


def _describe(
    branches: list[_SchemaBranch], data: bytes, start: int, end: int
) -> dict[str, object]:
    """Decode the attributes between ``start`` and ``end``, whichever of the fields they are."""
    described: dict[str, object] = {}
    attributes = {number: (first, last) for number, _, first, last in walk(data, start, end)}
    for number, (first, last) in attributes.items():
        for schema, branch in branches:
            child = branch.children.get(number)
            if isinstance(child, Fork):
                decider = slice(*attributes.get(child.by, (0, 0)))
                child = child.leaves.get(int.from_bytes(data[decider], "big"))
            if isinstance(child, Branch):
                described |= _describe([(schema, child)], data, first, last)
                break
            if isinstance(child, Leaf):
                described[_field_name(schema, child)] = _decode(child, data, first, last)
                break
        else:
            described[str(number)] = data[first:last]
    return described


def _field_name(schema: Schema[object], leaf: Leaf) -> str:
    names = {field.slot: field.name for field in schema.fields}
    for sequence in schema.sequences:
        names[sequence.count.slot] = f"len({sequence.name})"
        names |= {item.slot: f"{sequence.name}[{i}]" for i, item in enumerate(sequence.leaves)}
    return names[leaf.slot]


def _decode(leaf: Leaf, data: bytes, start: int, end: int) -> object:
    """Decode a payload; return its fields or its bytes if it is incomplete or invalid."""
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
