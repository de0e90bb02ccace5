"""Write the text of many flows from the bytes of their messages, with compiled functions.

The lines are those of :func:`~.text.flow_text`, which writes the lines of all other flows.
"""

from __future__ import annotations

from functools import cache
from ipaddress import IPv6Address
from socket import AF_INET6, inet_ntop
from typing import Any, Final

import attrs

from ...codec.lazy_objects import LazyObject
from ...codec.message_lines import Line, LineWriter, Values, decoded, scalar_of, values_in
from ...codec.reference import decode_surveyed
from ...codec.scalars import Scalar
from ...codec.schema import Schema
from ...codec.skeleton import Found, named_values, survey
from ...function_builder import BoundedMemo, Expression
from ...model.address_text import ipv4_texts
from ...model.flow import Flow
from ...model.lazy_fields import WriteLine
from ...model.normalization import is_shared
from ...model.protocols import GRE, ICMP, ICMPV6
from .output_options import OutputOptions
from .text import (
    PORTED,
    family_name,
    flow_text,
    labels_text,
    protection_text,
    protocol_text,
    reply_text,
    state_name,
    state_names,
    state_of,
    times_text,
)

_TEXTS: Final = 1 << 10
_ADDRESSES: Final = 1 << 13
"""The largest numbers of texts that a memo keeps."""

_ICMP: Final = frozenset({ICMP, ICMPV6})
_WITH_FIELDS: Final = PORTED | {GRE} | _ICMP


@attrs.frozen
class FlowTextForm:
    """The form of lines of :func:`flow_text`."""

    output: OutputOptions
    names: tuple[tuple[int, str], ...]
    """The bits and names of the labels."""

    def compile(self, obj: LazyObject) -> WriteLine:
        """Return the function that writes a flow, from messages of one skeleton."""
        return _FlowWriter(obj, self).compile()

    def write(self, obj: Flow) -> str:
        """Return the line of a flow."""
        return flow_text(obj, self.output, dict(self.names))


class _FlowWriter:
    """Writes the function."""

    def __init__(self, obj: LazyObject, form: FlowTextForm) -> None:
        self._obj = obj
        self._form = form
        self._writer = LineWriter(obj, "text")
        self._builder = self._writer.builder
        self._raw, self._looked_up = self._writer.raw_value, self._writer.looked_up

    def compile(self) -> WriteLine:
        """Return the function."""
        obj = self._obj
        values = named_values(obj.surveyed.skeleton, obj.schema, obj.offset)
        return self._writer.build(self._flow(values))

    def _flow(self, values: Values) -> Line:
        output = self._form.output
        orig, reply = values_in(values["orig"]), values_in(values["reply"])
        line = Line()
        if output & OutputOptions.EXTENDED:
            line.add(f"{family_name(6 if _is_ipv6(orig['src']) else 4)} ")
        line.add(self._looked_up(_protocols, orig["proto"]))
        if "timeout" in values:
            line.add(" ", self._raw(values["timeout"]))
        if "protoinfo" in values:
            line.extend(self._state(values["protoinfo"]))
        line.extend(self._direction(orig, " zone-orig="))
        line.extend(self._counters(values.get("counters_orig")))
        if "status" in values:
            line.add(self._looked_up(_replies, values["status"]))
        line.extend(self._direction(reply, " zone-reply="))
        line.extend(self._counters(values.get("counters_reply")))
        if "status" in values:
            line.add(self._looked_up(_protections, values["status"]))
        for name in ("mark", "secctx", "zone"):
            self._add_value(line, name, values.get(name))
        times = values_in(values.get("timestamp"))
        if times:
            line.add(self._times(times))
        self._add_value(line, "helper", values_in(values.get("helper")).get("name"))
        self._add_value(line, "use", values.get("use"))
        if output & OutputOptions.ID:
            self._add_value(line, "id", values.get("id"))
        if output & OutputOptions.LABELS and "labels" in values and self._form.names:
            labels = values["labels"]
            memo = _labels_of(self._form.names, scalar_of(labels))
            line.add(self._looked_up(memo, labels))
        return line

    def _state(self, protoinfo: Found) -> Line:
        assert protoinfo.inside is not None
        schema = protoinfo.inside.schema
        if is_shared(schema.cls):
            return Line(self._looked_up(_shared_states(schema), protoinfo))
        state = values_in(protoinfo).get("state")
        if state is None:
            return Line()
        names = state_names(schema.cls)
        return Line(" ", self._looked_up(_states_of(names), state))

    def _direction(self, values: Values, zone: str) -> Line:
        """Return the fields of a tuple, whose protocol must be one that has these fields."""
        line = Line(" src=", self._address(values["src"]), " dst=", self._address(values["dst"]))
        proto = self._raw(values["proto"])
        if "icmp_type" in values and "icmp_code" in values and "icmp_id" in values:
            line.add(" type=", self._raw(values["icmp_type"]))
            line.add(" code=", self._raw(values["icmp_code"]))
            line.add(" id=", self._raw(values["icmp_id"]))
            allowed = _ICMP
        elif "sport" in values and "dport" in values:
            line.add(" sport=", self._raw(values["sport"]), " dport=", self._raw(values["dport"]))
            allowed = PORTED
        else:
            allowed = _WITHOUT_FIELDS
        self._writer.require(
            self._builder.expression("{proto} in {allowed}", proto=proto, allowed=allowed)
        )
        if "zone" in values:
            line.add(zone, self._raw(values["zone"]))
        return line

    def _counters(self, found: Found | None) -> Line:
        values = values_in(found)
        if "packets" not in values or "bytes" not in values:
            return Line()
        packets, bytes_ = self._raw(values["packets"]), self._raw(values["bytes"])
        return Line(" packets=", packets, " bytes=", bytes_)

    def _times(self, values: Values) -> Expression:
        start, stop = (
            self._raw(values[name]) if name in values else None for name in ("start", "stop")
        )
        shown = bool(self._form.output & OutputOptions.KTIMESTAMP)
        return self._builder.call(times_text, start, stop, shown)

    def _add_value(self, line: Line, name: str, found: Found | None) -> None:
        """Add a value with its name, if it is present."""
        if found is None:
            return
        memo = scalar_of(found).memo
        line.add(f" {name}=", self._raw(found) if memo is None else self._looked_up(memo, found))

    def _address(self, found: Found) -> Expression:
        return self._looked_up(_ipv6_texts if _is_ipv6(found) else ipv4_texts, found)


def _is_ipv6(address: Found) -> bool:
    return scalar_of(address).types == (IPv6Address,)


# Memos of texts, by raw values. A text that begins with a space may be empty.

_WITHOUT_FIELDS: Final = frozenset(range(256)) - _WITH_FIELDS
_protocols: Final = BoundedMemo(_TEXTS, protocol_text)
_replies: Final = BoundedMemo(_TEXTS, reply_text)
_protections: Final = BoundedMemo(_TEXTS, protection_text)
_ipv6_texts: Final = BoundedMemo(_ADDRESSES, lambda packed: inet_ntop(AF_INET6, packed))


@cache
def _states_of(names: tuple[str, ...]) -> BoundedMemo:
    """Return the memo of the names of states."""
    return BoundedMemo(_TEXTS, lambda state: state_name(names, state))


@cache
def _shared_states(schema: Schema[object]) -> BoundedMemo:
    """Return the memo of the states of objects of a shared class, by the bytes of their nests."""

    def write(nest: bytes) -> str:
        protoinfo: Any = decode_surveyed(survey(schema.cls, nest, 0, len(nest)), nest, {})
        state = state_of(protoinfo)
        return "" if state is None else f" {state}"

    return BoundedMemo(_TEXTS, write)


@cache
def _labels_of(names: tuple[tuple[int, str], ...], scalar: Scalar) -> BoundedMemo:
    """Return the memo of the texts of labels with these names."""
    by_bit = dict(names)

    def write(raw: object) -> str:
        labels: Any = decoded(scalar, raw)
        return f" {labels_text(labels, by_bit)}"

    return BoundedMemo(_TEXTS, write)
