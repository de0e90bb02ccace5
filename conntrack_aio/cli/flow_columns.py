"""The columns of flows that ``list`` can print: their names, values and texts.

Their names are those of the fields of matches, and some more. The values come from the batches of
columns of a dump, or from a flow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from socket import AF_INET, AF_INET6, inet_aton, inet_pton
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import attrs

from ..codec.column_fields import stored_fields_of
from ..codec.columns import ColumnBatch
from ..codec.json_values import JSON
from ..model.enums import Status
from ..model.flow import Flow
from ..model.protocols import DCCP, PROTOCOL_NAMES, SCTP, TCP
from ..model.protoinfo import STATE_TYPES
from ..model.text import label_parts, status_parts
from ..model.times import as_datetime
from ..suggestions import suggestion
from .aligned import printable
from .terminal import service_name, short_number


class _Port(NamedTuple):
    """A port, and the protocol that says what its name is."""

    port: int
    proto: int


class _End(NamedTuple):
    """The address and port of one end."""

    address: str
    port: int | None
    proto: int


Value = int | str | _Port | _End | None
"""A value of a column. ``None`` if a flow has none."""

Text = Callable[[Any], str]
"""Returns the text of a value that is not ``None``."""

_GREEN, _YELLOW, _DIM = "32", "33", "2"
_ABSENT: Final = "-"


@attrs.frozen(eq=False)
class FlowColumn:
    """A column of flows."""

    name: str
    needs: tuple[str, ...]
    """The stored fields that its values are computed from."""
    value: Callable[..., Value]
    """Returns the value, by the values of these fields; they may be ``None``."""
    to_the_right: bool = False
    """Whether its text is aligned to the right."""
    text: Text = str
    short_text: Text | None = None
    """Returns the text for people at a terminal, if it differs from :attr:`text`."""
    json: Callable[[Any], JSON] = lambda value: value
    """Returns the value for JSON, where it is not ``None``."""
    key: Callable[[Any], Any] = lambda value: value
    """Returns what rows are sorted by, where the value is not ``None``."""
    style: Callable[[Any], str] | None = None
    """Returns the style of a value at a terminal; see :meth:`.AlignedRows.add`."""


class FlowTexts:
    """Writes the rows of some columns."""

    def __init__(self, columns: Sequence[FlowColumn], *, short: bool, colors: bool) -> None:
        """Choose how values are written.

        :param columns: the columns.
        :param short: whether to write them for people at a terminal.
        :param colors: whether to color them.
        """
        self._texts = [
            column.short_text if short and column.short_text else column.text for column in columns
        ]
        self._styles = [column.style if colors else None for column in columns]

    def cells(self, row: Sequence[Value]) -> list[str]:
        """Return the cells of a row of values."""
        return [
            _ABSENT if value is None else text(value)
            for text, value in zip(self._texts, row, strict=True)
        ]

    def styles(self, row: Sequence[Value]) -> list[str]:
        """Return the style of each cell of a row of values; empty texts without colors."""
        return [
            "" if style is None or value is None else style(value)
            for style, value in zip(self._styles, row, strict=True)
        ]


def json_row(columns: Sequence[FlowColumn], row: Sequence[Value]) -> dict[str, JSON]:
    """Return a row of values as an object of JSON, by the names of the columns."""
    return {
        column.name: None if value is None else column.json(value)
        for column, value in zip(columns, row, strict=True)
    }


# The values


def needed_fields(columns: Sequence[FlowColumn]) -> tuple[str, ...]:
    """Return the names of the stored fields that columns need, each once."""
    return tuple(dict.fromkeys(name for column in columns for name in column.needs))


def rows_of_batch(columns: Sequence[FlowColumn], batch: ColumnBatch) -> Iterator[tuple[Value, ...]]:
    """Return the rows of a batch, each with a value for each column.

    :param columns: the columns.
    :param batch: the batch, with the fields that they need and addresses as text.
    """
    made = [
        map(column.value, *[batch[name].to_list() for name in column.needs]) for column in columns
    ]
    return zip(*made, strict=True)


def value_reader(column: FlowColumn) -> Callable[[Flow], Value]:
    """Return the function that returns the value of a column for a flow."""
    fields = stored_fields_of(Flow)
    stored = [fields[name] for name in column.needs]

    def read(flow: Flow) -> Value:
        return column.value(
            *[
                str(value)
                if field.content == "address" and (value := field.value_of(flow)) is not None
                else field.value_of(flow)
                for field in stored
            ]
        )

    return read


def parse_columns(text: str) -> tuple[FlowColumn, ...]:
    """Return the columns of a text such as ``orig.src,bytes``.

    :raises ValueError: when there is no such column, or when one is named twice.
    """
    columns: list[FlowColumn] = []
    for name in text.split(","):
        column = column_named(name.strip())
        if column in columns:
            raise ValueError(f"column {column.name!r} is named twice")
        columns.append(column)
    return tuple(columns)


def column_named(name: str) -> FlowColumn:
    """Return the column of a name.

    :raises ValueError: when there is none.
    """
    known = COLUMNS.get(name)
    if known is None:
        hint = suggestion(name, COLUMNS) or f"; expected one of {', '.join(COLUMNS)}"
        raise ValueError(f"unknown column {name[:40]!r}{hint}")
    return known


# The columns


def _first(value: Value, *_: Value) -> Value:
    return value


def _sum(one: int | None, other: int | None) -> Value:
    if one is None or other is None:
        return one if other is None else other
    return one + other


def _zone(own: int | None, common: int | None) -> Value:
    """Return the zone of a direction: its own, that of both directions, or 0."""
    return (common or 0) if own is None else own


def _state(tcp: int | None, sctp: int | None, dccp: int | None) -> Value:
    for proto, number in ((TCP, tcp), (SCTP, sctp), (DCCP, dccp)):
        if number is not None:
            return _state_name(proto, number)
    return None


@cache
def _state_name(proto: int, number: int) -> str:
    try:
        return STATE_TYPES[proto](number).name
    except ValueError:
        return f"state-{number}"


def _family(number: int) -> Value:
    return "ipv4" if number == AF_INET else "ipv6"


def _protocol(number: int) -> str:
    return PROTOCOL_NAMES.get(number) or f"proto-{number}"


def _port(port: int | None, proto: int) -> Value:
    return None if port is None else _Port(port, proto)


def _port_name(value: _Port) -> str:
    return service_name(value.port, _protocol(value.proto)) or str(value.port)


def _end_text(address: str, port: int | str | None) -> str:
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _end_name(value: _End) -> str:
    address, port, proto = value
    return _end_text(address, None if port is None else _port_name(_Port(port, proto)))


def _address_key(text: str) -> tuple[int, bytes]:
    return (6, inet_pton(AF_INET6, text)) if ":" in text else (4, inet_aton(text))


def _end_key(value: _End) -> tuple[tuple[int, bytes], int]:
    return _address_key(value.address), -1 if value.port is None else value.port


def _translations(
    status: int | None,
    orig_src: str,
    orig_sport: int | None,
    orig_dst: str,
    orig_dport: int | None,
    orig_id: int | None,
    reply_src: str,
    reply_sport: int | None,
    reply_dst: str,
    reply_dport: int | None,
    reply_id: int | None,
) -> Value:
    """Return the translations as in :attr:`Flow.nat`: ``snat=192.0.2.1:61000``."""
    if not (status or 0) & (Status.SRC_NAT | Status.DST_NAT):
        return None
    assert status is not None
    parts: list[str] = []
    # The identifier of ICMP belongs to the source.
    before = orig_src, orig_sport if orig_id is None else orig_id
    after = reply_dst, reply_dport if reply_id is None else reply_id
    if status & Status.SRC_NAT and before != after:
        parts.append(f"snat={_end_text(*after)}")
    before, after = (orig_dst, orig_dport), (reply_src, reply_sport)
    if status & Status.DST_NAT and before != after:
        parts.append(f"dnat={_end_text(*after)}")
    return ",".join(parts) or None


def _details(
    status: int | None,
    icmp_type: int | None,
    icmp_code: int | None,
    icmp_id: int | None,
    mark: int | None,
    zone: int | None,
    orig_zone: int | None,
    reply_zone: int | None,
    labels: int | None,
    helper: str | None,
) -> Value:
    """Return what a flow has beside its ends, as in the lines of flows."""
    parts = status_parts(status)
    if icmp_type is not None:
        parts.append(f"type={icmp_type} code={icmp_code} id={icmp_id}")
    if mark:
        parts.append(f"mark={mark:#x}")
    for name, number in (("zone", zone), ("orig.zone", orig_zone), ("reply.zone", reply_zone)):
        if number is not None:
            parts.append(f"{name}={number}")
    parts += label_parts(labels)
    if helper is not None:
        parts.append(f"helper={helper}")
    return " ".join(parts) or None


def _status_text(value: int) -> str:
    return ",".join(part.strip("[]") for part in status_parts(value)) or _ABSENT


def _status_names(value: int) -> JSON:
    names: list[JSON] = [bit.name for bit in Status if bit & value and bit.name]
    return names


def _label_numbers(value: int) -> list[JSON]:
    return [bit for bit in range(value.bit_length()) if value >> bit & 1]


def _time_text(value: int) -> str:
    found = as_datetime(value)
    return _ABSENT if found is None else f"{found:%Y-%m-%dT%H:%M:%SZ}"


def _age(start: int | None) -> Value:
    return None if start is None else max(0, time.time_ns() - start) // 1_000_000_000


_STARTING: Final = {"SYN_SENT", "SYN_RECV", "SYN_SENT2", "COOKIE_WAIT", "COOKIE_ECHOED"}


def _state_style(value: str) -> str:
    if value == "ESTABLISHED":
        return _GREEN
    return _YELLOW if value in _STARTING else _DIM


def _unreplied_style(value: str) -> str:
    return _YELLOW if "[UNREPLIED]" in value else ""


def _status_style(value: int) -> str:
    return "" if value & Status.SEEN_REPLY else _YELLOW


_C = FlowColumn


def _tuple_columns(side: str) -> Iterator[FlowColumn]:
    """Yield the columns of a tuple: of the direction ``orig`` or ``reply``."""
    for name in ("src", "dst"):
        yield _C(f"{side}.{name}", (f"{side}_{name}",), _first, key=_address_key)
    for name in ("sport", "dport"):
        yield _C(
            f"{side}.{name}",
            (f"{side}_{name}", "proto"),
            _port,
            to_the_right=True,
            text=lambda value: str(value.port),
            short_text=_port_name,
            json=lambda value: value.port,
        )
    for name in ("icmp_type", "icmp_code", "icmp_id"):
        yield _C(f"{side}.{name}", (f"{side}_{name}",), _first, to_the_right=True)


def _counter_columns() -> Iterator[FlowColumn]:
    """Yield the columns of counters: of each direction, and of both."""
    for name in ("packets", "bytes"):
        fields = (f"orig_{name}", f"reply_{name}")
        for side, needs in (("orig.", fields[:1]), ("reply.", fields[1:]), ("", fields)):
            value = _first if side else _sum
            yield _C(f"{side}{name}", needs, value, to_the_right=True, short_text=short_number)


def _end_column(name: str, address: str, port: str) -> FlowColumn:
    return _C(
        name,
        (address, port, "proto"),
        _End,
        text=lambda value: _end_text(value.address, value.port),
        short_text=_end_name,
        json=lambda value: _end_text(value.address, value.port),
        key=_end_key,
    )


_TUPLE_NEEDS: Final = ("src", "sport", "dst", "dport", "icmp_id")

COLUMNS: Final[Mapping[str, FlowColumn]] = MappingProxyType(
    {
        column.name: column
        for column in (
            _C("proto", ("proto",), _first, text=_protocol, json=_protocol),
            _C("family", ("family",), _family),
            _C("state", ("tcp_state", "sctp_state", "dccp_state"), _state, style=_state_style),
            _C(
                "status",
                ("status",),
                _first,
                text=_status_text,
                json=_status_names,
                style=_status_style,
            ),
            _end_column("source", "orig_src", "orig_sport"),
            _end_column("destination", "orig_dst", "orig_dport"),
            _C(
                "nat",
                (
                    "status",
                    *(f"orig_{name}" for name in _TUPLE_NEEDS),
                    *(f"reply_{name}" for name in _TUPLE_NEEDS),
                ),
                _translations,
            ),
            *_tuple_columns("orig"),
            *_tuple_columns("reply"),
            _C("zone", ("zone",), _first, to_the_right=True),
            *(
                _C(f"{side}.zone", (f"{side}_zone", "zone"), _zone, to_the_right=True)
                for side in ("orig", "reply")
            ),
            _C("mark", ("mark",), _first, to_the_right=True, text=hex),
            _C(
                "labels",
                ("labels",),
                _first,
                text=lambda value: ",".join(map(str, _label_numbers(value))) or _ABSENT,
                json=_label_numbers,
            ),
            _C("helper", ("helper_name",), _first, text=printable),
            _C("timeout", ("timeout",), _first, to_the_right=True),
            *_counter_columns(),
            _C("start", ("start",), _first, text=_time_text),
            _C("age", ("start",), _age, to_the_right=True),
            _C("id", ("id",), _first, to_the_right=True),
            _C("use", ("use",), _first, to_the_right=True),
            _C("secctx", ("secctx",), _first, text=printable),
            _C(
                "details",
                (
                    *("status", "orig_icmp_type", "orig_icmp_code", "orig_icmp_id", "mark"),
                    *("zone", "orig_zone", "reply_zone", "labels", "helper_name"),
                ),
                _details,
                text=printable,
                style=_unreplied_style,
            ),
        )
    }
)
"""All columns by name."""

DEFAULT_COLUMNS: Final = parse_columns("proto,state,source,destination,nat,timeout,bytes,details")
"""The columns of the table at a terminal."""
