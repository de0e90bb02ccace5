"""The columns of flows that ``list`` can print: their names, values and texts.

Their names are those of the fields of matches, and some more. The values come from the batches of
columns of a dump, or from a flow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import attrs

from ..codec.column_fields import stored_fields_of
from ..codec.columns import ColumnBatch
from ..codec.json_values import JSON
from ..model.flow import Flow
from ..suggestions import suggestion
from .aligned import printable
from .column_values import (
    ABSENT,
    End,
    Value,
    address_key,
    age_of,
    details_of,
    end_key,
    end_name,
    end_text,
    family_of,
    first_value,
    label_numbers,
    port_name,
    port_of,
    protocol_text,
    state_of,
    state_style,
    status_names,
    status_style,
    status_text,
    sum_of,
    time_text,
    translations_of,
    unreplied_style,
    zone_of,
)
from .column_widths import Shrinking
from .label_texts import LabelTexts
from .terminal import short_number

Text = Callable[[Any], str]
"""Returns the text of a value that is not ``None``."""


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
    shrinking: Shrinking | None = None
    """How it becomes narrower at a terminal without room for its longest text."""
    style: Callable[[Any], str] | None = None
    """Returns the style of a value at a terminal; see :meth:`.AlignedRows.add`."""


class FlowTexts:
    """Writes the rows of some columns."""

    def __init__(
        self, columns: Sequence[FlowColumn], *, short: bool, colors: bool, numeric: bool = False
    ) -> None:
        """Choose how values are written.

        :param columns: the columns.
        :param short: whether to write them for people at a terminal.
        :param colors: whether to color them.
        :param numeric: whether to write labels by number, instead of by name.
        """
        self._texts = [
            column.short_text if short and column.short_text else column.text for column in columns
        ]
        if not numeric:
            labels = LabelTexts()
            by_name: dict[str, Text] = {
                "labels": lambda value: labels.text(value) or ABSENT,
                "details": lambda value: labels.in_lines(printable(value)),
            }
            self._texts = [
                by_name.get(column.name, text)
                for column, text in zip(columns, self._texts, strict=True)
            ]
        self._styles = [column.style if colors else None for column in columns]

    def cells(self, row: Sequence[Value]) -> list[str]:
        """Return the cells of a row of values."""
        return [
            ABSENT if value is None else text(value)
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

_COUNTERS: Final = ("orig_packets", "orig_bytes", "reply_packets", "reply_bytes")
_SETTINGS: Final = {**dict.fromkeys(_COUNTERS, "acct"), "start": "timestamp"}
"""The settings without which the kernel does not record stored fields."""


def needed_fields(columns: Sequence[FlowColumn]) -> tuple[str, ...]:
    """Return the names of the stored fields that columns need, each once."""
    return tuple(dict.fromkeys(name for column in columns for name in column.needs))


def setting_of(column: FlowColumn) -> str | None:
    """Return the setting without which the kernel records no values of a column.

    :returns: a field of :class:`ConntrackSysctls`; ``None`` if the values need no setting.
    """
    found = {_SETTINGS.get(name) for name in column.needs}
    return found.pop() if len(found) == 1 else None


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


_C = FlowColumn
_CUT: Final = Shrinking(len("[UNREPLIED]"), cuts=True)
_ADDRESS: Final = Shrinking(len("255.255.255.255"), cuts=False)


def _tuple_columns(side: str) -> Iterator[FlowColumn]:
    """Yield the columns of a tuple: of the direction ``orig`` or ``reply``."""
    for name in ("src", "dst"):
        yield _C(
            f"{side}.{name}", (f"{side}_{name}",), first_value, shrinking=_ADDRESS, key=address_key
        )
    for name in ("sport", "dport"):
        yield _C(
            f"{side}.{name}",
            (f"{side}_{name}", "proto"),
            port_of,
            to_the_right=True,
            text=lambda value: str(value.port),
            short_text=port_name,
            json=lambda value: value.port,
        )
    for name in ("icmp_type", "icmp_code", "icmp_id"):
        yield _C(f"{side}.{name}", (f"{side}_{name}",), first_value, to_the_right=True)


def _counter_columns() -> Iterator[FlowColumn]:
    """Yield the columns of counters: of each direction, and of both."""
    for name in ("packets", "bytes"):
        fields = (f"orig_{name}", f"reply_{name}")
        for side, needs in (("orig.", fields[:1]), ("reply.", fields[1:]), ("", fields)):
            value = first_value if side else sum_of
            yield _C(f"{side}{name}", needs, value, to_the_right=True, short_text=short_number)


def _end_column(name: str, address: str, port: str) -> FlowColumn:
    return _C(
        name,
        (address, port, "proto"),
        End,
        text=lambda value: end_text(value.address, value.port),
        short_text=end_name,
        json=lambda value: end_text(value.address, value.port),
        key=end_key,
        shrinking=Shrinking(len("255.255.255.255:65535"), cuts=False),
    )


_TUPLE_NEEDS: Final = ("src", "sport", "dst", "dport", "icmp_id")

COLUMNS: Final[Mapping[str, FlowColumn]] = MappingProxyType(
    {
        column.name: column
        for column in (
            _C("proto", ("proto",), first_value, text=protocol_text, json=protocol_text),
            _C("family", ("family",), family_of),
            _C("state", ("tcp_state", "sctp_state", "dccp_state"), state_of, style=state_style),
            _C(
                "status",
                ("status",),
                first_value,
                text=status_text,
                json=status_names,
                shrinking=_CUT,
                style=status_style,
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
                translations_of,
                shrinking=Shrinking(len("snat=255.255.255.255:65535"), cuts=True),
            ),
            *_tuple_columns("orig"),
            *_tuple_columns("reply"),
            _C("zone", ("zone",), first_value, to_the_right=True),
            *(
                _C(f"{side}.zone", (f"{side}_zone", "zone"), zone_of, to_the_right=True)
                for side in ("orig", "reply")
            ),
            _C("mark", ("mark",), first_value, to_the_right=True, text=hex),
            _C(
                "labels",
                ("labels",),
                first_value,
                text=lambda value: ",".join(map(str, label_numbers(value))) or ABSENT,
                json=label_numbers,
                shrinking=_CUT,
            ),
            _C("helper", ("helper_name",), first_value, text=printable, shrinking=_CUT),
            _C("timeout", ("timeout",), first_value, to_the_right=True),
            *_counter_columns(),
            _C("start", ("start",), first_value, text=time_text),
            _C("age", ("start",), age_of, to_the_right=True),
            _C("id", ("id",), first_value, to_the_right=True),
            _C("use", ("use",), first_value, to_the_right=True),
            _C("secctx", ("secctx",), first_value, text=printable, shrinking=_CUT),
            _C(
                "details",
                (
                    *("status", "orig_icmp_type", "orig_icmp_code", "orig_icmp_id", "mark"),
                    *("zone", "orig_zone", "reply_zone", "labels", "helper_name"),
                ),
                details_of,
                text=printable,
                shrinking=_CUT,
                style=unreplied_style,
            ),
        )
    }
)
"""All columns by name."""

DEFAULT_COLUMNS: Final = parse_columns("proto,state,source,destination,nat,timeout,bytes,details")
"""The columns of the table at a terminal."""

OPTIONAL_COLUMNS: Final = ("nat", "details", "bytes", "timeout")
"""Those of them that may be left out, the most important ones first."""
