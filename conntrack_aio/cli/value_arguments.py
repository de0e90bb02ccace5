"""Convert arguments of the command line to values of flows: marks, labels, states and others.

Each function converts the text of one argument, as argparse's ``type``.
"""

from __future__ import annotations

import argparse
import re
import socket
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from ..suggestions import suggestion

if TYPE_CHECKING:
    from ..codec.json_values import JSON
    from ..model.enums import ExpectFlags, Status, TCPState
    from ..model.nat import NATRange
    from ..model.protoinfo import ProtoInfo

C = TypeVar("C")

_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20}", re.ASCII)


class MaskedMark(NamedTuple):
    """The value of a mark, and the bits of the mark that it is about."""

    value: int
    mask: int | None
    """The bits; ``None`` for all."""


def number(name: str, most: int) -> Callable[[str], int]:
    """Return the function that reads a decimal or hexadecimal number from 0 to ``most``.

    :param name: what the number is, for error messages.
    """

    def parse(value: str) -> int:
        found = int(value, 0 if value[:2].lower() == "0x" else 10) if _is_number(value) else -1
        if not 0 <= found <= most:
            raise argparse.ArgumentTypeError(f"invalid {name} {value!r}; expected 0 to {most}")
        return found

    return parse


def _is_number(value: str) -> bool:
    return _NUMBER.fullmatch(value) is not None


parse_zone: Final = number("zone", 0xFFFF)
_parse_mark: Final = number("mark", 0xFFFFFFFF)


def parse_mark(value: str) -> int:
    """Return a mark."""
    return _parse_mark(value)


def parse_masked_mark(value: str) -> MaskedMark:
    """Return a mark that may have a mask: ``0x10`` or ``0x10/0xf0``."""
    mark, slash, mask = value.partition("/")
    found = MaskedMark(_parse_mark(mark), _parse_mark(mask) if slash else None)
    if found.mask is not None and found.value & ~found.mask:
        raise argparse.ArgumentTypeError(f"invalid mark {value!r}; it has bits beside its mask")
    return found


def parse_family(value: str) -> int:
    """Return an address family by its name: ``ipv4`` or ``inet``, ``ipv6`` or ``inet6``."""
    names = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
    families = {**names, "inet": socket.AF_INET, "inet6": socket.AF_INET6}
    if value.lower() not in families:
        raise argparse.ArgumentTypeError(unknown_name("family", value, names))
    return int(families[value.lower()])


def parse_protocol(value: str) -> int:
    """Return a protocol by its name or its number."""
    from ..errors import EncodeError
    from ..model.tuples import proto_number

    try:
        return proto_number(int(value) if value.isdecimal() and len(value) < 10 else value)
    except EncodeError as error:
        raise argparse.ArgumentTypeError(error.reason) from None


def parse_labels(value: str) -> int:
    """Return labels as a bitmap: numbers, or names of connlabel.conf, with commas between them."""
    from ..errors import EncodeError
    from ..model.labels import LabelNames, is_name

    labels = [label.strip() for label in value.split(",")]
    if "" in labels:
        raise argparse.ArgumentTypeError("a label is empty")
    try:
        names = LabelNames.read() if any(map(is_name, labels)) else LabelNames()
        return names.mask(*labels)
    except EncodeError as error:
        raise argparse.ArgumentTypeError(error.reason) from None


def parse_status(value: str) -> Status:
    """Return status bits that a program can set, by name, with commas between them."""
    from ..model.enums import Status

    settable = Status.SEEN_REPLY | Status.ASSURED | Status.FIXED_TIMEOUT | Status.HELPER
    return Status(_bits("status", value, {str(bit.name): bit.value for bit in settable}))


def parse_expect_flags(value: str) -> ExpectFlags:
    """Return flags of an expectation that a program can set, by name, with commas between them."""
    from ..model.enums import ExpectFlags

    settable = ExpectFlags.PERMANENT | ExpectFlags.INACTIVE
    return ExpectFlags(_bits("flag", value, {str(bit.name): bit.value for bit in settable}))


def _bits(what: str, value: str, known: dict[str, int]) -> int:
    bits = 0
    for name in re.split(r"[,|]", value):
        name = name.strip()
        if name.upper() not in known:
            raise argparse.ArgumentTypeError(unknown_name(what, name, known))
        bits |= known[name.upper()]
    return bits


def parse_tcp_state(value: str) -> TCPState:
    """Return a TCP state by its name."""
    from ..model.enums import TCPState

    return parse_name("TCP state", value, TCPState)


E = TypeVar("E", bound=IntEnum)


def parse_name(what: str, value: str, names: type[E]) -> E:
    """Return the member of an enum that has this name, in upper or lower case.

    :param what: what the names are, for error messages.
    """
    try:
        return names[value.upper()]
    except KeyError:
        known = [name for name in names.__members__ if name != "NONE"]
        raise argparse.ArgumentTypeError(unknown_name(what, value, known)) from None


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Return the error message for an unknown name, of names that may be in lower case, too."""
    known = list(known)
    hint = suggestion(name, map(str.lower, known)) or f"; expected one of {', '.join(known)}"
    return f"unknown {what} {name[:40]!r}{hint}"


def parse_hex(value: str) -> bytes:
    """Return bytes, given as hexadecimal digits."""
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value[:40]!r} is not hexadecimal digits") from None


def json_object(cls: type[C]) -> Callable[[str], C]:
    """Return the function that reads an object of the model from JSON, as ``--json`` prints it."""

    def parse(value: str) -> C:
        return _from_json(cls, _loads(value))

    return parse


def parse_protoinfo(value: str) -> ProtoInfo:
    """Return the state of a protocol from JSON: ``{"kind": "tcp", "state": "CLOSE"}``."""
    from ..model.protoinfo import DCCPInfo, SCTPInfo, TCPInfo

    kinds: dict[object, type[ProtoInfo]] = {"tcp": TCPInfo, "sctp": SCTPInfo, "dccp": DCCPInfo}
    data = _loads(value)
    kind = data.pop("kind", None) if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(kind, str) or kind not in kinds:
        raise argparse.ArgumentTypeError('expected an object with "kind": "tcp", "sctp" or "dccp"')
    return _from_json(kinds[kind], data)


def _loads(value: str) -> JSON:
    import json

    try:
        found: JSON = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    return found


def _from_json(cls: type[C], data: JSON) -> C:
    from ..codec.json import from_dict
    from ..errors import DecodeError

    try:
        return from_dict(cls, data)
    except DecodeError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_nat_range(value: str) -> NATRange:
    """Return a range to translate to: ``ADDRESS[-ADDRESS][:PORT[-PORT]]`` or ``:PORT[-PORT]``.

    IPv6 addresses with a port are in brackets.
    """
    from ..errors import EncodeError
    from ..model.nat import NATRange

    if bracketed := re.fullmatch(r"\[([^\[\]]+)\](?::(.+))?", value):
        addresses, ports = bracketed[1], bracketed[2]
    elif value.count(":") == 1:
        addresses, ports = value.split(":")
    else:
        addresses, ports = value, None
    first, _, last = addresses.partition("-")
    try:
        found = NATRange(
            address_min=first or None,  # type: ignore[arg-type]
            address_max=last or None,  # type: ignore[arg-type]
            port_min=None,
        )
        if ports is not None:
            low, dash, high = ports.partition("-")
            found.port_min = _parse_port(low)
            found.port_max = _parse_port(high) if dash else None
        found.validate()
    except EncodeError as error:
        raise argparse.ArgumentTypeError(f"{value[:80]!r}: {error.reason}") from None
    return found


_parse_port: Final = number("port", 0xFFFF)
