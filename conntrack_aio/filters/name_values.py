"""Convert names, which are texts or members of enums, to conditions: states and helpers."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from functools import cache
from typing import Final, cast

from ..errors import MatchError
from ..model.enums import DCCPState, SCTPState, TCPState
from ..model.protoinfo import STATE_TYPES
from ..plain import as_int, as_str, describe_value
from ..suggestions import suggestion
from .arguments import NUMBER, parse_digits, parse_items
from .describe import proto_name, state_names
from .fields import STATE, STATES, TextField, state_number
from .nodes import FALSE, Node, Texts
from .number_values import number_in

State = TCPState | SCTPState | DCCPState | str
"""A state, or its name: of one protocol (``"tcp.close"``), or of all that have it."""

_ACCEPTED_STATES: Final = (
    "a TCPState, SCTPState or DCCPState, a name such as established, or a list of these"
)

_PROTOCOLS: Final[dict[type[IntEnum], int]] = {
    states: proto for proto, states in STATE_TYPES.items()
}


def state_condition(given: State | Iterable[State]) -> Node:
    """Return the condition that a connection is in one of the given states.

    :raises MatchError: when a name is unknown.
    :raises TypeError: when the value is neither a state nor an iterable of states.
    """
    items = cast("list[State]", parse_items("state", _ACCEPTED_STATES, given))
    return state_in(parse_state(item) for item in items)


def state_in(states: Iterable[frozenset[int]]) -> Node:
    """Return the condition that the state is in one of the sets; without any it never is."""
    return number_in(STATE, [(number, number) for numbers in states for number in numbers])


def parse_state(item: State) -> frozenset[int]:
    """Return the numbers of the states that one item stands for (see :func:`state_number`).

    :raises MatchError: when a name is unknown.
    :raises TypeError: when the item is not a state.
    """
    if isinstance(item, str):
        return _parse_state_text(as_str(item).lower())
    if type(item) not in _PROTOCOLS:
        raise TypeError(f"state must be {_ACCEPTED_STATES}; got {describe_value(item)}")
    return frozenset({state_number(_PROTOCOLS[type(item)], as_int(item))})


def _parse_state_text(text: str) -> frozenset[int]:
    names = _known_states()
    if text in names:
        return names[text]
    proto, dot, name = text.partition(".")
    if dot and NUMBER.fullmatch(name) and parse_digits(name) < 256:
        for number in STATES:
            if proto == proto_name(number):
                return frozenset({state_number(number, parse_digits(name))})
    hint = (
        suggestion(text, names if dot else state_names())
        or f"; expected one of {', '.join(state_names())}"
    )
    raise MatchError(f"unknown state {describe_value(text)}{hint}")


@cache
def _known_states() -> dict[str, frozenset[int]]:
    """Return the states by their names, with and without a protocol."""
    of_one_protocol = {
        f"{proto_name(proto)}.{name}": frozenset({state_number(proto, number)})
        for proto, names in STATES.items()
        for name, number in names.items()
    }
    return state_names() | of_one_protocol


def text_condition(field: TextField, given: str | Iterable[str]) -> Node:
    """Return the condition that a field has one of the given texts.

    :raises MatchError: when the field cannot have the text.
    :raises TypeError: when the value is neither text nor an iterable of texts.
    """
    items = cast("list[str]", parse_items(field.name, "a name or a list of names", given))
    return text_in(field, [parse_text(field, item) for item in items])


def text_in(field: TextField, texts: Iterable[str]) -> Node:
    """Return the condition that a field has one of the texts; without any it never holds.

    :param field: the field with the text.
    :param texts: texts that :func:`parse_text` has checked.
    """
    values = tuple(sorted({*texts}))
    return Texts(field, values) if values else FALSE


def parse_text(field: TextField, item: str) -> str:
    """Return a text as a plain ``str``.

    :raises MatchError: when the field cannot have the text.
    :raises TypeError: when the item is not text.
    """
    try:
        item = as_str(item)
    except TypeError:
        raise TypeError(
            f"{field.name} must be a name or a list of names; got {describe_value(item)}"
        ) from None
    if not item or not item.isprintable() or len(item.encode()) > field.max_bytes:
        shown = describe_value(item)
        raise MatchError(
            f"{field.name} must be a printable name of 1 to {field.max_bytes} bytes; got {shown}"
        )
    return item
