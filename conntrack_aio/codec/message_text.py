"""Compile the functions that write an object as text, from the bytes of its message.

The format of the text is that of :mod:`~conntrack_aio.model.text`, which writes the text where
these functions return ``None``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from ipaddress import IPv6Address
from typing import Any, Final

from ..function_builder import BoundedMemo, Expression
from ..model.address_text import ipv4_texts, ipv6_texts
from ..model.events import FlowEvent
from ..model.flow import Flow
from ..model.lazy_fields import WriteLine
from ..model.normalization import is_shared
from ..model.protocols import ICMP, ICMPV6
from ..model.text import describe_state, label_parts, status_parts, time_piece
from ..model.tuples import ICMP_INVERSE, ICMPV6_INVERSE, protocol_name
from .lazy_objects import LazyObject
from .message_lines import Line, LineWriter, Values, decoded, scalar_of, values_in
from .reference import decode_surveyed
from .scalars import Scalar
from .schema import Schema
from .skeleton import Found, named_values, survey

_TEXTS: Final = 1 << 10
"""The limit of a memo of texts."""

_ICMP_FIELDS: Final = ("icmp_type", "icmp_code", "icmp_id")


def compile_text(obj: LazyObject) -> WriteLine:
    """Return the function that writes an object as text, from messages of one skeleton."""
    writer, cls = _TextWriter(obj), obj.schema.cls
    if cls is Flow:
        return writer.compile_flow()
    return writer.compile_event() if cls is FlowEvent else _by_fields


def _by_fields(obj: object, message: bytes) -> None:
    """Leave the text to be written from the fields of the object."""


class _TextWriter:
    """Writes the function."""

    def __init__(self, obj: LazyObject) -> None:
        self._obj = obj
        self._writer = LineWriter(obj, "text")
        self._builder = self._writer.builder
        self._raw, self._looked_up = self._writer.raw_value, self._writer.looked_up

    def compile_event(self) -> WriteLine:
        """Return the function that writes an event."""
        obj = self._obj
        (inline,) = obj.schema.inlines
        line = Line(f"{obj.header_values['type'].name:<7} ")  # type: ignore[attr-defined]
        skeleton, at = obj.surveyed.skeleton, obj.offset
        line.extend(self._flow(named_values(skeleton, inline.schema, at + inline.offset)))
        header = obj.header_fields["port_id"]
        assert header.scalar.memo is not None
        assert header.scalar.size is not None
        raw = self._writer.raw.unpack(header.offset, header.scalar.size, header.scalar.code)
        number = self._builder.expression("{memo}[{raw}]", memo=header.scalar.memo, raw=raw)
        line.add(self._unless_zero(" portid=%s", number))
        timestamp = named_values(skeleton, obj.schema, at).get("timestamp")
        if timestamp is not None:
            line.add(self._builder.call(time_piece, self._raw(timestamp)))
        return self._writer.build(line)

    def compile_flow(self) -> WriteLine:
        """Return the function that writes a flow."""
        obj = self._obj
        values = named_values(obj.surveyed.skeleton, obj.schema, obj.offset)
        return self._writer.build(self._flow(values))

    def _flow(self, values: Values) -> Line:
        orig, reply = values["orig"], values["reply"]
        line = Line(self._looked_up(_prefixed_protocols, values_in(orig)["proto"]))
        if "protoinfo" in values:
            line.extend(self._state(values["protoinfo"]))
        line.add(" ")
        line.extend(self._direction(values_in(orig)))
        self._add_reply(line, values_in(orig), values_in(reply))
        if "status" in values:
            line.add(self._looked_up(_statuses, values["status"]))
        if "timeout" in values:
            line.add(" timeout=", self._raw(values["timeout"]))
        if "mark" in values:
            line.add(self._unless_zero(" mark=%#x", self._raw(values["mark"])))
        if "zone" in values:
            line.add(" zone=", self._raw(values["zone"]))
        if "labels" in values:
            labels = values["labels"]
            line.add(self._looked_up(_labels_of(scalar_of(labels)), labels))
        name = values_in(values.get("helper")).get("name")
        if name is not None:
            memo = scalar_of(name).memo
            assert memo is not None
            line.add(" helper=", self._looked_up(memo, name))
        if "master" in values:
            line.add(" master=(")
            line.extend(self._tuple(values_in(values["master"])))
            line.add(")")
        counters = [values_in(values.get(f"counters_{each}")) for each in ("orig", "reply")]
        for each in ("packets", "bytes"):
            self._add_counts(line, each, [values.get(each) for values in counters])
        return line

    def _state(self, protoinfo: Found) -> Line:
        assert protoinfo.inside is not None
        schema = protoinfo.inside.schema
        if is_shared(schema.cls):
            return Line(self._looked_up(_shared_states(schema), protoinfo))
        state = values_in(protoinfo).get("state")
        if state is None:
            return Line()
        return Line(self._looked_up(_states_of(scalar_of(state)), state))

    def _direction(self, values: Values) -> Line:
        if any(name in values for name in _ICMP_FIELDS):
            # These attributes mean this only if the protocol is ICMP or ICMPv6.
            line = Line(self._address(values["src"]), " -> ", self._address(values["dst"]))
            for name in _ICMP_FIELDS:
                value = self._raw(values[name]) if name in values else "None"
                line.add(f" {name.removeprefix('icmp_')}=", value)
        else:
            proto = self._raw(values["proto"])
            self._writer.require(
                self._builder.expression("{proto} not in {icmp}", proto=proto, icmp=_ICMP)
            )
            line = self._ends(values)
        if "zone" in values:
            line.add(" zone=", self._raw(values["zone"]))
        return line

    def _ends(self, values: Values) -> Line:
        line = self._endpoint(values["src"], values.get("sport"))
        line.add(" -> ")
        line.extend(self._endpoint(values["dst"], values.get("dport")))
        return line

    def _endpoint(self, address: Found, port: Found | None) -> Line:
        if port is None:
            return Line(self._address(address))
        if scalar_of(address).types == (IPv6Address,):
            return Line("[", self._address(address), "]:", self._raw(port))
        return Line(self._address(address), ":", self._raw(port))

    def _tuple(self, values: Values) -> Line:
        """Return what :class:`str` returns for a tuple."""
        line = Line(self._looked_up(_protocols, values["proto"]), " ")
        line.extend(self._ends(values))
        if "icmp_type" in values:
            for name in _ICMP_FIELDS:
                value = self._raw(values[name]) if name in values else "None"
                line.add(f" {name.removeprefix('icmp_')} ", value)
        if "zone" in values:
            line.add(" zone ", self._raw(values["zone"]))
        return line

    def _add_reply(self, line: Line, orig: Values, reply: Values) -> None:
        """Add the reply direction, unless it is the inverse of the original direction."""
        shown = Line(" (reply ")
        shown.extend(self._direction(reply))
        shown.add(")")
        inverse = self._is_inverse(orig, reply)
        if inverse is None:
            line.extend(shown)
            return
        line.add(
            self._builder.expression(
                "{empty} if {inverse} else {shown}",
                empty="",
                inverse=inverse,
                shown=shown.expression(self._builder),
            )
        )

    def _is_inverse(self, orig: Values, reply: Values) -> Expression | None:
        """Return the condition under which a tuple is the inverse; ``None`` if it never is."""
        names = {
            "src": "dst",
            "dst": "src",
            "proto": "proto",
            "sport": "dport",
            "dport": "sport",
            "icmp_id": "icmp_id",
            "icmp_type": "icmp_type",
            "icmp_code": "icmp_code",
        }
        if "zone" in reply or {names[name] for name in orig if name != "zone"} != {*reply}:
            return None
        if orig["src"].leaf.wire != reply["src"].leaf.wire:
            return None
        equal: list[Expression] = []
        for name, other in names.items():
            if name in reply:
                expected = self._raw(orig[other])
                if name == "icmp_type":
                    expected = self._inverse_type(orig[name])
                equal.append(
                    self._builder.expression("{a} == {b}", a=self._raw(reply[name]), b=expected)
                )
        return self._builder.join("and", equal)

    def _inverse_type(self, icmp_type: Found) -> Expression:
        """Return the ICMP type of replies; ``None`` if there is none."""
        assert icmp_type.leaf.when is not None
        inverse = ICMP_INVERSE if icmp_type.leaf.when[1] == ICMP else ICMPV6_INVERSE
        return self._builder.expression(
            "{inverse}.get({type})", inverse=inverse, type=self._raw(icmp_type)
        )

    def _add_counts(self, line: Line, name: str, both: list[Found | None]) -> None:
        """Add the counters of both directions, if one of them is present."""
        if both != [None, None]:
            orig, reply = [Line() if each is None else Line(self._raw(each)) for each in both]
            line.add(f" {name}=")
            line.extend(orig)
            line.add("/")
            line.extend(reply)

    # -- values -----------------------------------------------------------------------------

    def _address(self, found: Found) -> Expression:
        is_ipv6 = scalar_of(found).types == (IPv6Address,)
        return self._looked_up(ipv6_texts if is_ipv6 else ipv4_texts, found)

    def _unless_zero(self, format: str, number: Expression) -> Expression:
        """Return a formatted number, and an empty text for 0."""
        return self._builder.expression(
            "{format} % {number} if {number} else {empty}", format=format, number=number, empty=""
        )


# Memos of texts, by raw values. A text that begins with a space may be empty.

_ICMP: Final = frozenset({ICMP, ICMPV6})


def _memo(write: Callable[[Any], str]) -> BoundedMemo:
    return BoundedMemo(_TEXTS, write)


def _joined(parts: list[str]) -> str:
    return "".join([f" {part}" for part in parts])


_protocols: Final = _memo(lambda raw: protocol_name(raw, ""))
_prefixed_protocols: Final = _memo(lambda raw: protocol_name(raw, "proto-"))
_statuses: Final = _memo(lambda raw: _joined(status_parts(raw)))


@cache
def _labels_of(scalar: Scalar) -> BoundedMemo:
    """Return the memo of the texts of labels."""
    return _memo(lambda raw: _joined(label_parts(decoded(scalar, raw))))


@cache
def _states_of(scalar: Scalar) -> BoundedMemo:
    """Return the memo of the texts of states."""
    return _memo(lambda raw: f" {describe_state(decoded(scalar, raw))}")


@cache
def _shared_states(schema: Schema[object]) -> BoundedMemo:
    """Return the memo of the states of objects of a shared class, by the bytes of their nests."""

    def write(nest: bytes) -> str:
        obj = decode_surveyed(survey(schema.cls, nest, 0, len(nest)), nest, {})
        state = getattr(obj, "state", None)
        return "" if state is None else f" {describe_state(state)}"

    return _memo(write)
