"""Convert numbers and ranges, as objects or text, to conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, cast

from ..errors import MatchError
from ..model.protocols import unknown_protocol
from ..plain import as_int, as_str, describe_value
from ..quantities import parse_duration, parse_size
from .arguments import NUMBER, parse_digits, parse_integer, parse_items
from .fields import FAMILY, PROTO, NumberField
from .intervals import Interval, normalize
from .memberships import simplify_atom
from .nodes import FALSE, Node, Numbers
from .services import service_port

_QUANTITIES: Final[Mapping[str, Callable[[str], int]]] = MappingProxyType(
    {"seconds": parse_duration, "bytes": parse_size}
)
"""What reads the text of a number with suffixes, by the unit of the field."""

_WANTED: Final = MappingProxyType(
    {
        "": "a number or a range such as 80-90",
        "port": "a number or a range such as 80-90, or the name of a service",
        "seconds": "a number of seconds, a duration such as 1h30m, or a range of these",
        "bytes": "a number of bytes, which may end in K, M, G or T, or a range of these",
    }
)
"""What the text of a number can be, by the unit of the field."""

Number = int | str | range
"""A number, its text (also ``"80-90"``, or a name such as ``"tcp"``), or a range."""


def number_condition(field: NumberField, given: Number | Iterable[Number]) -> Node:
    """Return the condition that a field has one of the given values.

    :raises MatchError: when the field cannot have the value.
    :raises TypeError: when the value is neither a number nor an iterable of numbers.
    """
    items = cast("list[Number]", parse_items(field.name, _accepted(field), given))
    nonempty = (item for item in items if not (isinstance(item, range) and not item))
    return number_in(field, [parse_number(field, item) for item in nonempty])


def number_in(field: NumberField, ranges: Iterable[Interval]) -> Node:
    """Return the condition that a number is in one of the ranges; without any it never is."""
    values = normalize(ranges)
    return simplify_atom(Numbers(field, values)) if values else FALSE


def parse_number(field: NumberField, item: Number) -> Interval:
    """Return the range that one item stands for.

    :param field: the field with the number.
    :param item: a number, its text, or a range, which is not empty.

    :raises MatchError: when the field cannot have the value.
    :raises TypeError: when the item is not a number.
    """
    if isinstance(item, str):
        first, last = _parse_text(field, as_str(item))
    elif isinstance(item, range):
        start, stop, step = as_int(item.start), as_int(item.stop), as_int(item.step)
        if step != 1:
            raise MatchError(
                f"{field.name}: a range must have a step of 1; got {describe_value(step)}; "
                "pass other steps as a list"
            )
        first, last = start, stop - 1
    else:
        first = last = parse_integer(field.name, _accepted(field), item)
    for number in (first, last):
        if not 0 <= number <= field.maximum:
            shown = describe_value(number)
            raise MatchError(f"{field.name} must be between 0 and {field.maximum}; got {shown}")
        if field is FAMILY and number not in field.names.values():
            accepted = ", ".join((*field.names, *field.aliases))
            raise MatchError(
                f"family must be one of {accepted}; got {number}"
                if isinstance(item, str)
                else f"family must be AF_INET or AF_INET6; got {number}"
            )
    return first, last


def _accepted(field: NumberField) -> str:
    """Return what a parameter accepts, for error messages."""
    if field is FAMILY:
        return "socket.AF_INET, socket.AF_INET6, ipv4, ipv6, or a list of these"
    named = ", a name such as tcp" if field is PROTO else ""
    return f"a number{named}, a range, the text of these, or a list of them"


def _parse_text(field: NumberField, text: str) -> Interval:
    for names in (field.names, field.aliases):
        if (number := names.get(text.lower())) is not None:
            return number, number
    first, dash, last = text.partition("-")
    try:
        found = _parse_one(field, first), _parse_one(field, last if dash else first)
    except ValueError:
        if field.unit == "port" and (port := service_port(field.name, text)) is not None:
            return port, port
        raise MatchError(_why_not_a_number(field, text)) from None
    if found[0] > found[1]:
        raise MatchError(f"{field.name}: the range {describe_value(text)} ends before it begins")
    return found


def _parse_one(field: NumberField, text: str) -> int:
    """Return the number of a text, which may have the suffixes of its unit.

    :raises ValueError: when it has none.
    """
    if field.unit in _QUANTITIES and not NUMBER.fullmatch(text):
        return _QUANTITIES[field.unit](text)
    return parse_digits(text)


def _why_not_a_number(field: NumberField, text: str) -> str:
    shown = describe_value(text)
    if field is PROTO:
        return unknown_protocol(text)
    if field.names:
        return (
            f"{field.name} must be one of {', '.join((*field.names, *field.aliases))}; got {shown}"
        )
    return f"{field.name} must be {_WANTED[field.unit]}; got {shown}"
