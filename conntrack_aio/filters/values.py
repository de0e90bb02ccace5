"""Conditions of what people write: numbers, ranges, networks, names; objects or their text.

Whatever is passed becomes a plain ``int`` or ``str`` here (:mod:`conntrack_aio.plain`): what
subclasses print, compare or hash as is of no effect in a match.
"""

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
from ..model.enums import DCCPState, SCTPState, Status, TCPState
from ..model.labels import Label, LabelNames
from ..model.protocols import PROTOCOL_NAMES
from ..model.tuples import TCP
from ..plain import as_address, as_int, as_str, describe_value, unmapped
from .fields import (
    DCCP,
    FAMILY,
    LABEL,
    MARK,
    PROTO,
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
from .nodes import FALSE, Addresses, Bits, Node, Numbers, Texts
from .tree import atom, every, negate, some
from .words import is_mapped, near, proto_name, state_names

Number = int | str | range
"""A number, its text (also ``"80-90"``, or a name such as ``"tcp"``), or a range."""

Network = str | IPv4Address | IPv6Address | IPv4Network | IPv6Network
"""An address, a network, or the text of one; text can also be a range: ``"10.0.0.1-10.0.0.9"``."""

State = TCPState | SCTPState | DCCPState | str
"""A state, or its name: of one protocol (``"tcp.close"``), or of all that have it."""

Masked = int | str
"""A value of bits: a number, or its text; the text may have a mask behind a slash."""

NAT: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {"snat": ("src_nat", "reply.dst"), "dnat": ("dst_nat", "reply.src")}
)
"""What the kernel translates: the bit that says so, and the address that it is translated to."""

UNREPLIED: Final = "unreplied"
"""A word for the bit ``seen_reply`` not being set, as flows print it."""

STATUS_WORDS: Final = MappingProxyType(
    {text: name for name in ("assured", UNREPLIED) for text in (name, f"[{name.upper()}]")}
)
"""Words that are conditions on the status by themselves, as flows print them, too."""

Range = tuple[int, int]

_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]{1,32}|[0-9]{1,40}")
_KEPT: Final = re.compile(r"\[([^\][]*:[^\][]*)\]")
"""An IPv6 address in brackets: it is kept as it is, though it may be an IPv4-mapped one."""
_LONGEST_NETWORK: Final = 100
"""Characters: there are no addresses of so many."""


_PROTOCOLS: Final[dict[type[IntEnum], int]] = {TCPState: TCP, SCTPState: SCTP, DCCPState: DCCP}


# -- numbers ------------------------------------------------------------------------------------


def numbers(field: NumberField, given: Number | Iterable[Number]) -> Node:
    """The field is one of these. Raises :exc:`MatchError` and :exc:`TypeError`."""
    items = cast("list[Number]", _items(field.name, _accepted(field), given))
    wanted = (each for each in items if not (isinstance(each, range) and not each))
    return one_of(field, [number(field, each) for each in wanted])


def one_of(field: NumberField, ranges: Iterable[Range]) -> Node:
    """The field is in one of these ranges: if there are none, never."""
    values = normalize(ranges)
    return atom(Numbers(field, values)) if values else FALSE


def number(field: NumberField, item: Number) -> Range:
    """First and last of what is meant by one item, which is no empty range."""
    if isinstance(item, str):
        first, last = _number_text(field, as_str(item))
    elif isinstance(item, range):
        start, stop, step = as_int(item.start), as_int(item.stop), as_int(item.step)
        if step != 1:
            raise MatchError(
                f"{field.name}: a range has a step of 1, not {describe_value(step)}; "
                "a list may have any"
            )
        first, last = start, stop - 1
    else:
        first = last = _integer(field.name, _accepted(field), item)
    for each in (first, last):
        if not 0 <= each <= field.maximum:
            shown = describe_value(each)
            raise MatchError(f"{field.name} {shown} is not between 0 and {field.maximum}")
        if field is FAMILY and each not in field.words.values():
            raise MatchError(f"family {each} is neither AF_INET nor AF_INET6")
    return first, last


def _accepted(field: NumberField) -> str:
    """What can be passed, as errors say it."""
    if field is FAMILY:
        return "socket.AF_INET, socket.AF_INET6, ipv4, ipv6, or a list of these"
    named = ", a name such as tcp" if field is PROTO else ""
    return f"a number{named}, a range, the text of these, or a list of them"


def _number_text(field: NumberField, text: str) -> Range:
    for names in (field.words, field.aliases):
        if (number := names.get(text.lower())) is not None:
            return number, number
    first, dash, last = text.partition("-")
    try:
        found = _digits(first), _digits(last if dash else first)
    except ValueError:
        raise MatchError(_no_number(field, text)) from None
    if found[0] > found[1]:
        raise MatchError(f"{field.name}: the range {describe_value(text)} ends before it begins")
    return found


def _no_number(field: NumberField, text: str) -> str:
    if field is PROTO:
        meant = near(text, PROTOCOL_NAMES.values()) or near(text, (*PROTO.words, *PROTO.aliases))
        hint = f"; did you mean {', '.join(meant)}?" if meant else ""
        kinds = "expected a number or a name such as tcp, udp, icmp"
        return f"unknown protocol {describe_value(text)}; {kinds}{hint}"
    known = f", nor one of {', '.join((*field.words, *field.aliases))}" if field.words else ""
    return f"{field.name}: {describe_value(text)} is no number{known}"


def _digits(text: str) -> int:
    """Decimal, with zeros in front or not, or hexadecimal behind ``0x``.

    Raises :exc:`ValueError`.
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError
    return int(text, 16 if text[:2] in ("0x", "0X") else 10)


# -- addresses ----------------------------------------------------------------------------------

_NETWORKS: Final = "an address, a network, a range, or a list of these"


def addresses(field: AddressField, given: Network | Iterable[Network]) -> Node:
    """The address is one of these. Raises :exc:`MatchError` and :exc:`TypeError`."""
    items = cast("list[Network]", _items(field.name, _NETWORKS, given))
    return one_network_of(field, [network(field, each) for each in items])


def one_network_of(field: AddressField, ranges: Iterable[tuple[int, Range]]) -> Node:
    """The address is in one of these ranges, of which each has a version: if there are none,
    never."""
    found: dict[int, list[Range]] = {4: [], 6: []}
    for version, each in ranges:
        found[version].append(each)
    v4, v6 = normalize(found[4]), normalize(found[6])
    return atom(Addresses(field, v4, v6)) if v4 or v6 else FALSE


def network(field: AddressField, item: Network) -> tuple[int, Range]:
    """The version, and first and last of what is meant by one item."""
    if isinstance(item, str):
        try:
            return _network_text(as_str(item))
        except ValueError as error:
            raise MatchError(f"{field.name}: {error}") from None
    if isinstance(item, IPv4Network | IPv6Network):
        first = _address(field, item.network_address)
        size = first.max_prefixlen - as_int(item.prefixlen)
        if not 0 <= size <= first.max_prefixlen or int(first) % (1 << size):
            raise MatchError(f"{field.name}: {describe_value(item)} is not a network")
    elif isinstance(item, IPv4Address | IPv6Address):  # pyright: ignore[reportUnnecessaryIsInstance]
        first, size = _address(field, item), 0
    else:
        raise TypeError(f"{field.name} must be {_NETWORKS}; got {describe_value(item)}")
    if isinstance(first, IPv6Address) and first.scope_id is not None:
        raise MatchError(f"{field.name}: {_scoped(first)}")
    return _meant(first.version, (int(first), int(first) + (1 << size) - 1))


def _address(field: AddressField, item: object) -> IPv4Address | IPv6Address:
    """Raises :exc:`MatchError` for an object that holds no address."""
    try:
        found = as_address(item)
    except ValueError:
        raise MatchError(f"{field.name}: {describe_value(item)} is not an address") from None
    if not 0 <= int(found) < 1 << found.max_prefixlen:
        raise MatchError(f"{field.name}: {describe_value(item)} is not an address")
    return found


def _meant(version: int, interval: Range) -> tuple[int, Range]:
    """IPv4, where all addresses are IPv4-mapped ones: so a socket of both families names IPv4."""
    if version == 6 and is_mapped(interval):
        return 4, (interval[0] & 0xFFFFFFFF, interval[1] & 0xFFFFFFFF)
    return version, interval


def _scoped(item: object) -> str:
    return f"{item}: addresses in packets have no scope"


def _network_text(text: str) -> tuple[int, Range]:
    if len(text) > _LONGEST_NETWORK:
        raise ValueError(f"{describe_value(text)} is neither an address nor a network")
    if "%" in text:
        raise ValueError(_scoped(text))
    bare = _KEPT.sub(r"\1", text) if "[" in text else text
    if "/" in text:
        found = ip_network(bare)
        version, interval = found.version, (int(found[0]), int(found[-1]))
    else:
        first_text, dash, last_text = bare.partition("-")
        first = ip_address(first_text.strip())
        last = ip_address(last_text.strip()) if dash else first
        if first.version != last.version and bare == text:
            first, last = unmapped(first), unmapped(last)
        if first.version != last.version:
            raise ValueError(f"the range {text} is of two families")
        if int(last) < int(first):
            raise ValueError(f"the range {text} ends before it begins")
        version, interval = first.version, (int(first), int(last))
    return (version, interval) if bare != text else _meant(version, interval)


# -- marks, status and labels -------------------------------------------------------------------

_MARKS: Final = "a number, its text with or without a mask, as 0x3/0xff, or a list of these"


def marks(given: Masked | Iterable[Masked], mask: Masked | None = None) -> Node:
    """The mark is one of these. Raises :exc:`MatchError` and :exc:`TypeError`."""
    items = cast("list[Masked]", _items("mark", _MARKS, given))
    return some(mark(each, mask) for each in items)


def mark(value: Masked, mask: Masked | None = None) -> Node:
    """The mark, under the mask, is this. Raises :exc:`MatchError` and :exc:`TypeError`."""
    return _masked(MARK, value, mask)


def _masked(field: BitsField, value: Masked, mask: Masked | None) -> Node:
    name = "labels" if field is LABEL else "mark"
    if isinstance(value, str):
        text = as_str(value)
        value_text, slash, mask_text = text.partition("/")
        if slash and mask is not None:
            raise MatchError(f"{describe_value(text)} has a mask, and so has {name}_mask")
        try:
            value, mask = _digits(value_text), _digits(mask_text) if slash else mask
        except ValueError:
            raise MatchError(
                f"{describe_value(text)} is neither a {name} nor a {name} and its mask, as 0x3/0xff"
            ) from None
    full = (1 << field.width) - 1
    value = _integer(name, _MARKS, value)
    mask = full if mask is None else _mask_of(f"{name}_mask", mask)
    for what, each in ((name, value), (f"{name}_mask", mask)):
        if not 0 <= each <= full:
            raise MatchError(f"{what} {describe_value(each)} is not of {field.width} bits")
    if value & ~mask:
        raise MatchError(f"never true: {name} {value:#x} has bits outside its mask {mask:#x}")
    return atom(Bits(field, mask, value))


def _mask_of(name: str, mask: Masked) -> int:
    if isinstance(mask, str):
        try:
            return _digits(as_str(mask))
        except ValueError:
            raise MatchError(f"{name}: {describe_value(mask)} is no number") from None
    return _integer(name, "a number or its text, as 0xff", mask)


def bit(field: BitsField, number: int) -> Node:
    """The bit of this number is set."""
    return Bits(field, 1 << number, 1 << number)


def status_text(text: str) -> Node:
    """Return the node for a status as text: all of its bits are set.

    :param text: names of bits with ``|`` between them, or the number that has these bits.

    :raises MatchError: for an unknown name, and for a number that is 0 or too large.
    """
    return every(_bits_of_text("status", text))


def _bits_of_text(name: str, text: str) -> list[Node]:
    if _NUMBER.fullmatch(text):
        return _status_number(name, _digits(text))
    return [_status_name(each) for each in text.split("|")]


def _status_number(name: str, number: int) -> list[Node]:
    """Return a node for each bit of a number. Raise :exc:`MatchError` if it can't be a status."""
    if not 0 <= number < 1 << STATUS.width:
        raise MatchError(f"{name} {describe_value(number)} is not of {STATUS.width} bits")
    if not number:
        raise MatchError(
            f"{name} 0 has no bits and matches nothing; "
            "to match flows without some bits, use status_unset"
        )
    return [bit(STATUS, at) for at in range(number.bit_length()) if number >> at & 1]


def _status_name(text: str) -> Node:
    """Return the node for one name: its bit is set or, for ``unreplied``, SEEN_REPLY is not."""
    name = text.strip().lower()
    if name in STATUS.words:
        return bit(STATUS, STATUS.words[name])
    if name == UNREPLIED:
        return negate(bit(STATUS, STATUS.words["seen_reply"]))
    known = ", ".join((*STATUS.words, UNREPLIED))
    raise MatchError(f"unknown status bit {describe_value(text)}; expected {known}")


_STATUS: Final = "bits of Status, their names as in 'assured|seen_reply', or a list of these"


def status(
    name: str, given: Status | int | str | Iterable[Status | int | str], *, unset: bool = False
) -> Node:
    """Return the node for a parameter about the status: one of the given values holds.

    A value holds if all of its bits are set or, with ``unset``, if none of them is.

    :raises MatchError: for an unknown name, and for a number that can't be a status.
    :raises TypeError: for what is neither bits nor an iterable of these.
    """
    return some([_status_value(name, item, unset) for item in _items(name, _STATUS, given)])


def _status_value(name: str, item: object, unset: bool) -> Node:
    if isinstance(item, str):
        bits = _bits_of_text(name, as_str(item))
    else:
        bits = _status_number(name, _integer(name, _STATUS, item))
    return every(map(negate, bits) if unset else bits)


_LABELS: Final = "labels by bit or by name, or a list of these"


class Names:
    """The names of labels: those that are given, or the system's, which are read once they are
    needed."""

    def __init__(self, names: LabelNames | None) -> None:
        """Raises :exc:`TypeError`."""
        if not isinstance(names, LabelNames | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"label_names must be LabelNames(…); got {describe_value(names)}")
        self._names = names

    def bit(self, label: Label) -> int:
        """Raises :exc:`MatchError`, for a file that can't be read, too."""
        try:
            if self._names is None:
                if not isinstance(label, str):
                    return LabelNames().bit(label)
                self._names = LabelNames.read()
            return self._names.bit(label)
        except EncodeError as error:
            raise MatchError(error.reason) from None


def labels(given: Label | Iterable[Label], mask: Masked | None, names: Names) -> Node:
    """Return the node for ``labels``: one of them is set.

    With a mask, ``given`` is a number, and those bits of the labels that the mask has equal it.

    :raises MatchError: for an unknown label, and for a mask with other than one number.
    :raises TypeError: for what is neither a label nor an iterable of labels.
    """
    if mask is None:
        return some(_each_label("labels", given, names))
    items = _items("labels", _LABELS, given)
    if len(items) != 1:
        raise MatchError("labels must be one number of 128 bits where there is a labels_mask")
    return _masked(LABEL, cast("Label", items[0]), mask)


def labels_all(given: Label | Iterable[Label], names: Names) -> Node:
    """Return the node for ``labels_all``: each of them is set; without any, nothing matches.

    Raises what :func:`labels` does.
    """
    found = _each_label("labels_all", given, names)
    return every(found) if found else FALSE


def _each_label(name: str, given: Label | Iterable[Label], names: Names) -> list[Node]:
    items = cast("list[Label]", _items(name, _LABELS, given))
    return [label(each, names) for each in items]


def label(given: Label, names: Names) -> Node:
    """The label is set; or, of a text as ``0x3/0xff``, the bits in the mask have this value.

    Raises :exc:`MatchError` for a name that is not among ``names``.
    """
    if isinstance(given, str):
        given = as_str(given)
        value, slash, mask = given.partition("/")
        if _NUMBER.fullmatch(value) and (not slash or _NUMBER.fullmatch(mask)):
            if slash:
                return _masked(LABEL, given, None)
            given = _digits(given)
    if isinstance(given, int) and LABEL.width <= as_int(given) < 1 << LABEL.width:
        raise MatchError(
            f"a label is a bit from 0 to 127 or a name, not {as_int(given)}; a value of the labels "
            f"has a mask: {as_int(given):#x}/{(1 << LABEL.width) - 1:#x}, or labels_mask"
        )
    return bit(LABEL, names.bit(given))


# -- states and texts ---------------------------------------------------------------------------

_STATES: Final = (
    "a TCPState, SCTPState or DCCPState, a name such as established, or a list of these"
)


def states(given: State | Iterable[State]) -> Node:
    """The connection is in one of these states. Raises :exc:`MatchError` and :exc:`TypeError`."""
    items = cast("list[State]", _items("state", _STATES, given))
    return one_of(STATE, [(each, each) for item in items for each in state(item)])


def state(item: State) -> frozenset[int]:
    """The numbers of what is meant by one item."""
    if isinstance(item, str):
        return _state_text(as_str(item).lower())
    if type(item) not in _PROTOCOLS:
        raise TypeError(f"state must be {_STATES}; got {describe_value(item)}")
    return frozenset({state_number(_PROTOCOLS[type(item)], as_int(item))})


def _state_text(text: str) -> frozenset[int]:
    names = _known_states()
    if text in names:
        return names[text]
    proto, dot, name = text.partition(".")
    if dot and _NUMBER.fullmatch(name) and _digits(name) < 256:
        for number in STATES:
            if proto == proto_name(number):
                return frozenset({state_number(number, _digits(name))})
    known = ", ".join(state_names())
    raise MatchError(f"{describe_value(text)} is no state; the states are {known}")


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
    items = cast("list[str]", _items(field.name, "a name or a list of names", given))
    return one_text_of(field, [text(field, each) for each in items])


def one_text_of(field: TextField, found: Iterable[str]) -> Node:
    """The field is one of these texts, which are checked: if there are none, never."""
    values = tuple(sorted({*found}))
    return Texts(field, values) if values else FALSE


def text(field: TextField, item: str) -> str:
    """One of them."""
    try:
        item = as_str(item)
    except TypeError:
        raise TypeError(f"{field.name} must be a name; {describe_value(item)} is no text") from None
    if not item or not item.isprintable() or len(item.encode()) > field.longest:
        shown = describe_value(item)
        raise MatchError(f"{field.name}: {shown} is not a name of 1 to {field.longest} bytes")
    return item


# -- what is passed -----------------------------------------------------------------------------


def _integer(name: str, accepted: str, value: object) -> int:
    try:
        return as_int(value)
    except TypeError:
        raise TypeError(f"{name} must be {accepted}; got {describe_value(value)}") from None


_SINGLE: Final = (str, int, range, IPv4Address, IPv6Address, IPv4Network, IPv6Network)
"""What is one item, though flags, ranges and networks can be iterated: for very long."""


def _items(name: str, accepted: str, given: object) -> list[object]:
    """The items of what may be one alone."""
    if isinstance(given, _SINGLE):
        return [given]
    if hasattr(type(given), "__index__") and not hasattr(given, "__len__"):
        return [given]
    binary = issubclass(type(given), (bytes, bytearray, memoryview))  # its items would be numbers
    if issubclass(type(given), Iterable) and not binary:
        try:
            items = iter(cast("Iterable[object]", given))
        except TypeError:  # as an array of no dimension
            if hasattr(type(given), "__index__"):
                return [given]
        else:
            return list(items)
    raise TypeError(f"{name} must be {accepted}; got {describe_value(given)}")
