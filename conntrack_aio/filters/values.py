"""Conditions of what people write: numbers, ranges, networks, names; objects or their text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import IntEnum
from functools import cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from types import MappingProxyType
from typing import Final, cast

from ..errors import EncodeError, MatchError
from ..model.flow import Status
from ..model.labels import Label, LabelNames
from ..model.protoinfo import DCCPState, SCTPState, TCPState
from ..model.tuples import TCP
from .fields import (
    DCCP,
    FAMILY,
    LABEL,
    MARK,
    SCTP,
    STATE,
    STATES,
    STATUS,
    AddressField,
    BitsField,
    NumberField,
    TextField,
    state_number,
)
from .intervals import normalize
from .nodes import Addresses, Bits, Node, Numbers, Texts
from .tree import atom
from .words import proto_name, state_names

Number = int | str | range
"""A number, its text (also ``"80-90"``, or a name such as ``"tcp"``), or a range."""

Network = str | IPv4Address | IPv6Address | IPv4Network | IPv6Network
"""An address, a network, or the text of one; text can also be a range: ``"10.0.0.1-10.0.0.9"``."""

State = TCPState | SCTPState | DCCPState | str
"""A state, or its name: of one protocol (``"tcp.close"``), or of all that have it."""

NAT: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {"snat": ("src_nat", "reply.dst"), "dnat": ("dst_nat", "reply.src")}
)
"""What the kernel translates: the bit that says so, and the address that it is translated to."""

Range = tuple[int, int]

_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]{1,32}|[0-9]{1,32}")
_LONGEST_NETWORK: Final = 100
"""Characters: there are no addresses of so many."""


_PROTOCOLS: Final[dict[type[IntEnum], int]] = {TCPState: TCP, SCTPState: SCTP, DCCPState: DCCP}


def shown(given: object) -> str:
    """What was given, in one line that is not long."""
    text = repr(given)
    return text if len(text) <= 80 else f"{text[:60]}…"


def numbers(field: NumberField, given: Number | Iterable[Number]) -> Node:
    """The field is one of these. Raises :exc:`MatchError` and :exc:`TypeError`."""
    items = cast("list[Number]", _items(field.name, given, (int, range)))
    return atom(Numbers(field, normalize(number(field, each) for each in items)))


def number(field: NumberField, item: Number) -> Range:
    """First and last of what is meant by one item."""
    if isinstance(item, str):
        first, last = _number_text(field, item)
    elif isinstance(item, range):
        if item.step != 1 or not item:
            raise MatchError(f"{field.name}: {item!r} is not a range of one number or more")
        first, last = item[0], item[-1]
    else:
        first = last = _integer(field.name, item)
    for each in (first, last):
        if not 0 <= each <= field.maximum:
            raise MatchError(f"{field.name} {each} is not between 0 and {field.maximum}")
        if field is FAMILY and each not in field.words.values():
            raise MatchError(f"family {each} is neither AF_INET nor AF_INET6")
    return first, last


def _number_text(field: NumberField, text: str) -> Range:
    if text.lower() in field.words:
        number = field.words[text.lower()]
        return number, number
    first, dash, last = text.partition("-")
    try:
        found = _digits(first), _digits(last if dash else first)
    except ValueError:
        known = f", nor one of {', '.join(field.words)}" if field.words else ""
        raise MatchError(f"{field.name}: {shown(text)} is no number{known}") from None
    if found[0] > found[1]:
        raise MatchError(f"{field.name}: the range {text} ends before it begins")
    return found


def _digits(text: str) -> int:
    """Decimal, or hexadecimal behind ``0x``. Raises :exc:`ValueError`."""
    if not _NUMBER.fullmatch(text):
        raise ValueError
    return int(text, 0)


def addresses(field: AddressField, given: Network | Iterable[Network]) -> Node:
    """The address is one of these. Raises :exc:`MatchError` and :exc:`TypeError`."""
    single = (IPv4Address, IPv6Address, IPv4Network, IPv6Network)
    items = cast("list[Network]", _items(field.name, given, single))
    v4: list[Range] = []
    v6: list[Range] = []
    for item in items:
        version, found = network(field, item)
        (v4 if version == 4 else v6).append(found)
    return atom(Addresses(field, normalize(v4), normalize(v6)))


def network(field: AddressField, item: Network) -> tuple[int, Range]:
    """The version, and first and last of what is meant by one item."""
    if isinstance(item, str):
        try:
            return _network_text(item)
        except ValueError as error:
            raise MatchError(f"{field.name}: {error}") from None
    scoped = item.network_address if isinstance(item, IPv6Network) else item
    if isinstance(scoped, IPv6Address) and scoped.scope_id is not None:
        raise MatchError(f"{field.name}: {_scoped(item)}")
    if isinstance(item, IPv4Network | IPv6Network):
        return item.version, (int(item.network_address), int(item.broadcast_address))
    if isinstance(item, IPv4Address | IPv6Address):  # pyright: ignore[reportUnnecessaryIsInstance]
        return item.version, (int(item), int(item))
    raise TypeError(f"{field.name}: {item!r} is neither an address nor a network, nor the text")


def _scoped(item: object) -> str:
    return f"{item}: addresses in packets have no scope"


def _network_text(text: str) -> tuple[int, Range]:
    if len(text) > _LONGEST_NETWORK:
        raise ValueError(f"{shown(text)} is neither an address nor a network")
    if "%" in text:
        raise ValueError(_scoped(text))
    if "/" in text:
        found = ip_network(text)
        return found.version, (int(found.network_address), int(found.broadcast_address))
    first_text, dash, last_text = text.partition("-")
    first = ip_address(first_text.strip())
    last = ip_address(last_text.strip()) if dash else first
    if first.version != last.version:
        raise ValueError(f"the range {text} is of two families")
    if int(last) < int(first):
        raise ValueError(f"the range {text} ends before it begins")
    return first.version, (int(first), int(last))


def mark(value: int, mask: int | None = None) -> Node:
    """The mark, under the mask, is this. Raises :exc:`MatchError` and :exc:`TypeError`."""
    full = (1 << MARK.width) - 1
    mask = full if mask is None else _integer("mark_mask", mask)
    _integer("mark", value)
    for name, each in (("mark", value), ("mark_mask", mask)):
        if not 0 <= each <= full:
            raise MatchError(f"{name} {each} is not of 32 bits")
    if value & ~mask:
        raise MatchError(f"never true: mark {value:#x} has bits outside its mask {mask:#x}")
    return atom(Bits(MARK, mask, value))


def mark_text(text: str) -> Node:
    """``3``, or with a mask ``0x3/0xff``."""
    value, slash, mask = text.partition("/")
    try:
        found = _digits(value), _digits(mask) if slash else None
    except ValueError:
        raise MatchError(
            f"{shown(text)} is neither a mark nor a mark and its mask, as 0x3/0xff"
        ) from None
    return mark(*found)


def bit(field: BitsField, number: int) -> Node:
    """The bit of this number is set."""
    return Bits(field, 1 << number, 1 << number)


def status_text(text: str) -> Node:
    """The bit of this name, or number, is set."""
    if text.lower() in STATUS.words:
        return bit(STATUS, STATUS.words[text.lower()])
    if _NUMBER.fullmatch(text) and _digits(text) < STATUS.width:
        return bit(STATUS, _digits(text))
    raise MatchError(f"{shown(text)} is no bit of the status; these are {', '.join(STATUS.words)}")


def status(value: Status | int) -> list[Node]:
    """For each of these bits, that it is set. Raises :exc:`MatchError` and :exc:`TypeError`."""
    number = _integer("status", value)
    if not 0 <= number < 1 << STATUS.width:
        raise MatchError(f"status {number:#x} is not of {STATUS.width} bits")
    if not number:
        raise MatchError("a status of no bits says nothing of a flow")
    return [bit(STATUS, at) for at in range(number.bit_length()) if number >> at & 1]


def labels(given: Label | Iterable[Label], names: LabelNames | None) -> list[Node]:
    """For each of these labels, that it is set. Raises :exc:`MatchError` and :exc:`TypeError`."""
    items = cast("list[Label]", _items("labels", given, (int,)))
    return [label(each, names) for each in items]


def label(given: Label, names: LabelNames | None) -> Node:
    """The label is set.

    Without ``names``, those of the system's connlabel.conf. Raises :exc:`MatchError` for a name
    that is not among them.
    """
    if isinstance(given, str) and _NUMBER.fullmatch(given):
        given = _digits(given)
    if isinstance(given, str) and names is None:
        names = LabelNames.read()
    try:
        return bit(LABEL, (names or LabelNames()).bit(given))
    except EncodeError as error:
        raise MatchError(error.reason) from None


def states(given: State | Iterable[State]) -> Node:
    """The connection is in one of these states. Raises :exc:`MatchError` and :exc:`TypeError`."""
    items = cast("list[State]", _items("state", given, tuple(_PROTOCOLS)))
    return Numbers(STATE, normalize((each, each) for item in items for each in state(item)))


def state(item: State) -> frozenset[int]:
    """The numbers of what is meant by one item."""
    if isinstance(item, str):
        return _state_text(item.lower())
    if type(item) not in _PROTOCOLS:
        raise TypeError(f"state: {item!r} is neither a TCPState, SCTPState or DCCPState nor a name")
    return frozenset({state_number(_PROTOCOLS[type(item)], item)})


def _state_text(text: str) -> frozenset[int]:
    names = _known_states()
    if text in names:
        return names[text]
    proto, dot, name = text.partition(".")
    if dot and _NUMBER.fullmatch(name) and _digits(name) < 256:
        for number in STATES:
            if proto == proto_name(number):
                return frozenset({state_number(number, _digits(name))})
    raise MatchError(f"{shown(text)} is no state; the states are {', '.join(state_names())}")


@cache
def _known_states() -> dict[str, frozenset[int]]:
    of_one = {
        f"{proto_name(proto)}.{name}": frozenset({state_number(proto, number)})
        for proto, names in STATES.items()
        for name, number in names.items()
    }
    return state_names() | of_one


def texts(field: TextField, given: str | Iterable[str]) -> Node:
    """The field is one of these texts. Raises :exc:`MatchError` and :exc:`TypeError`."""
    items = cast("list[str]", _items(field.name, given))
    return Texts(field, tuple(sorted({text(field, each) for each in items})))


def text(field: TextField, item: str) -> str:
    """One of them."""
    if not isinstance(item, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{field.name}: {item!r} is no text")
    if not item or not item.isprintable() or len(item.encode()) > field.longest:
        raise MatchError(f"{field.name}: {shown(item)} is not a name of 1 to {field.longest} bytes")
    return item


def _integer(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is a number, not {value!r}")
    return int(value)


def _items(name: str, given: object, single: tuple[type, ...] = ()) -> list[object]:
    """The items of what may be one alone; at least one."""
    if isinstance(given, (str, *single)):
        return [given]
    if not isinstance(given, Iterable):
        raise TypeError(f"{name}: {given!r} is neither a value nor some")
    items = list(cast("Iterable[object]", given))
    if not items:
        raise MatchError(f"never true: {name} is to be one of none")
    return items
