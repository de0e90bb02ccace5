"""Hypothesis strategies for the objects of the model, derived from their declarations.

Declaring a new attribute is enough to cover it. Only the rules that relate several fields, which
the ``validate`` methods of the classes check, are repeated here: all addresses have one family,
both tuples have one protocol, and a range is not reversed.
"""

from __future__ import annotations

import importlib
import pkgutil
from ipaddress import IPv4Address, IPv6Address
from types import UnionType
from typing import Any, get_args, get_type_hints

import attrs
from hypothesis import strategies as st

import conntrack_aio.model
from conntrack_aio import Flow, NATRange, UnknownAttribute
from conntrack_aio.codec.schema import Branch, FieldSchema, Fork, Leaf, Schema, schema_of
from conntrack_aio.model.wire import (
    INLINE,
    PLACES,
    SEQUENCE,
    Address,
    Bitmap,
    Bytes,
    Integer,
    MaskedFlags,
    Text,
    Wire,
)

Address_ = type[IPv4Address] | type[IPv6Address]

NUMBERS = st.integers(0, 0x3FFF)
UNDECLARED_FIELDS: dict[object, st.SearchStrategy[Any]] = {
    int: st.integers(-(1 << 63), (1 << 64) - 1),
    str: st.binary(max_size=40)
    .filter(lambda data: 0 not in data)
    .map(lambda data: data.decode(errors="surrogateescape")),
}
"""Strategies for fields that are not in an attribute, by their type."""


def declared_classes() -> list[type]:
    """Return every class of the model that declares attributes."""
    found: list[type] = []
    for module in pkgutil.iter_modules(conntrack_aio.model.__path__):
        names = vars(importlib.import_module(f"conntrack_aio.model.{module.name}"))
        for cls in names.values():
            declares = isinstance(cls, type) and attrs.has(cls) and _declares(cls)
            if declares and cls not in found:
                found.append(cls)
    return found


def _declares(cls: type) -> bool:
    return any({PLACES, SEQUENCE, INLINE} & set(field.metadata) for field in attrs.fields(cls))


def scalars(wire: Wire[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for the values that an attribute can hold."""
    if isinstance(wire, Integer):
        bits = 8 * wire.size
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if wire.signed else (0, (1 << bits) - 1)
        numbers = st.integers(low, high) | st.sampled_from([low, 0, high])
        return numbers if wire.enum is None else numbers | st.sampled_from(list(wire.enum))
    if isinstance(wire, MaskedFlags):
        return st.builds(wire.enum, st.integers(0, 0xFF))
    if isinstance(wire, Address):
        return st.binary(min_size=wire.size, max_size=wire.size).map(wire.cls)
    if isinstance(wire, Bitmap):
        return st.integers(0, (1 << 8 * wire.size) - 1)
    if isinstance(wire, Bytes):
        return st.binary(max_size=wire.maximum)
    if isinstance(wire, Text):
        data = st.binary(max_size=min(wire.maximum, 40) - 1).filter(lambda data: 0 not in data)
        return data.map(lambda data: data.decode(errors="surrogateescape"))
    raise AssertionError(f"no strategy for {wire}")


def _leaf_applies(leaf: Leaf, address: Address_, values: dict[str, Any]) -> bool:
    if isinstance(leaf.wire, Address):
        return leaf.wire.cls is address
    return leaf.when is None or values.get(leaf.when[0]) == leaf.when[1]


@st.composite
def objects(
    draw: st.DrawFn,
    cls: type,
    address: Address_ | None = None,
    given: dict[str, Any] | None = None,
) -> Any:
    """Draw a valid object of a class.

    :param address: the class of all addresses; by default, either.
    :param given: values of fields that the caller has chosen.
    """
    address = address or draw(st.sampled_from([IPv4Address, IPv6Address]))
    schema = schema_of(cls)
    values: dict[str, Any] = dict(given or {})
    conditions = {leaf.when for field in schema.fields for leaf in field.leaves} - {None}
    for field in schema.fields:
        if field.name in values:
            continue
        deciding = [value for name, value in conditions if name == field.name]  # type: ignore[misc]
        if deciding and draw(st.booleans()):
            values[field.name] = draw(st.sampled_from(deciding))
        else:
            values[field.name] = draw(_values(cls, field, address, values))
    for sequence in schema.sequences:
        item = sequence.leaves[0].nest
        assert item is not None
        items = st.lists(objects(item.cls, address), max_size=len(sequence.leaves))
        values[sequence.name] = tuple(draw(items))
    for inline in schema.inlines:
        values[inline.name] = draw(objects(inline.schema.cls, address))
    for attribute in attrs.fields(cls):
        if attribute.name not in values and attribute.name != "unknown":
            hints = get_type_hints(cls)
            values[attribute.name] = draw(_undeclared_values(hints[attribute.name]))
    if schema.keeps_unknown:
        values["unknown"] = draw(_unknown(schema, values))
    if cls is NATRange:
        _make_valid_range(values)
    return cls(**values)


def _undeclared_values(hint: Any) -> st.SearchStrategy[Any]:
    parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return st.one_of(
        [
            UNDECLARED_FIELDS[part] if part in UNDECLARED_FIELDS else st.from_type(part)
            for part in parts
        ]
    )


def _values(
    cls: type, field: FieldSchema, address: Address_, values: dict[str, Any]
) -> st.SearchStrategy[Any]:
    given = {"proto": values["orig"].proto} if cls is Flow and field.name == "reply" else None
    choices: list[st.SearchStrategy[Any]] = [] if field.required else [st.none()]
    for leaf in field.leaves:
        if not _leaf_applies(leaf, address, values):
            continue
        if leaf.nest is not None:
            choices.append(objects(leaf.nest.cls, address, given))
        else:
            choices.append(scalars(leaf.wire))
    return st.one_of(choices)


def _make_valid_range(values: dict[str, Any]) -> None:
    """Change the values to those of a range that translates something and is not reversed."""
    if values["address_min"] is None and values["port_min"] is None:
        values["port_min"] = 1
    for name in ("address", "port"):
        first, last = values[f"{name}_min"], values[f"{name}_max"]
        if first is None:
            values[f"{name}_max"] = None
        elif last is not None:
            values[f"{name}_min"], values[f"{name}_max"] = sorted([first, last])


TOP_LEVEL_NUMBERS = {
    number for cls in declared_classes() for number in schema_of(cls).root.children
}


def _slot_values(schema: Schema[Any], values: dict[str, Any]) -> dict[int, Any]:
    """Return the value that a decoder would store in each slot."""
    slots = {field.slot: values[field.name] for field in schema.fields}
    for sequence in schema.sequences:
        items = values[sequence.name]
        slots[sequence.count.slot] = len(items) or None
        for i, leaf in enumerate(sequence.leaves):
            slots[leaf.slot] = items[i] if i < len(items) else None
    return slots


def _unknown(
    schema: Schema[Any], values: dict[str, Any]
) -> st.SearchStrategy[tuple[UnknownAttribute, ...]]:
    """Return a strategy for undeclared attributes, inside the nests that the object has."""
    choices: list[st.SearchStrategy[UnknownAttribute]] = []

    def visit(branch: Branch, path: tuple[int, ...], slots: dict[int, Any]) -> None:
        # At the top level, exclude also the attributes that only events or requests declare.
        known = TOP_LEVEL_NUMBERS | set(branch.children) if not path else set(branch.children)
        numbers = NUMBERS.filter(lambda number: number not in known)
        add(numbers.map(lambda number: (*path, number)), st.binary(max_size=20))
        for number, child in branch.children.items():
            here = (*path, number)
            if isinstance(child, Fork):
                decider = branch.children[child.by]
                assert isinstance(decider, Leaf)
                leaf = child.leaves.get(slots[decider.slot])
                if leaf is None:
                    add(st.just(here), st.binary(max_size=20))
                    continue
                child = leaf
            if isinstance(child, Branch):
                visit(child, here, slots)
            elif child.scalar is not None:
                size = child.scalar.maximum
                add(st.just(here), st.binary(min_size=size + 1, max_size=size + 9))
            elif child.nest is not None:
                value = slots[child.slot]
                if isinstance(value, child.types):
                    inner = {name: getattr(value, name) for name in attrs.fields_dict(type(value))}
                    visit(child.nest.root, here, _slot_values(child.nest, inner))

    def add(path: st.SearchStrategy[tuple[int, ...]], payload: st.SearchStrategy[bytes]) -> None:
        choices.append(st.builds(UnknownAttribute, path, payload, st.booleans()))

    visit(schema.root, (), _slot_values(schema, values))
    return st.just(()) | st.lists(st.one_of(choices), max_size=4).map(tuple)


def edited_payloads(payloads: list[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy for these payloads with a few bytes changed, removed or inserted."""

    @st.composite
    def edit(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(st.sampled_from(payloads)))
        for _ in range(draw(st.integers(1, 5))):
            start = draw(st.integers(0, len(data)))
            length = draw(st.integers(0, 8))
            data[start : start + length] = draw(
                st.binary(min_size=length, max_size=length) | st.binary(max_size=8)
            )
        return bytes(data)

    return edit()
