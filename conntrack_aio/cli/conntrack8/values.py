"""Parse the arguments of options as conntrack(8) does."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from .messages import invalid, warn
from .protocols import PROTOCOLS

IPAddress = IPv4Address | IPv6Address

_LONG_BITS: Final = 64

_DIGITS: Final = {
    0: r"[ \t-\r]*([+-]?)(?:0[xX]([0-9a-fA-F]+)|0([0-7]*)|([1-9][0-9]*))",
    10: r"[ \t-\r]*([+-]?)()()([0-9]+)",
}
"""The patterns of integers, by base. :mod:`re` compiles each one when it is first used."""


def parse_leading_integer(text: str, base: int) -> tuple[int, int]:
    """Return the integer at the beginning of the text, and where it ends; 0 and 0 if there is none.

    :param text: the text. White space may precede the integer.
    :param base: 10; or 0 for octal and hexadecimal integers, too.
    """
    found = re.match(_DIGITS[base], text)
    if found is None:
        return 0, 0
    sign, hexadecimal, octal, decimal = found.groups()
    digits, radix = decimal or "0", 10
    if hexadecimal:
        digits, radix = hexadecimal, 16
    elif octal:
        digits, radix = octal, 8
    # A number of 4300 digits would be a ValueError; more than 64 bits are out of range anyway.
    number = int(digits, radix) if len(digits.lstrip("0")) < 30 else 1 << 99
    return -number if sign == "-" else number, found.end()


def parse_unsigned(text: str, bits: int) -> int:
    """Return the lower bits of the number at the beginning of the text, as of ``strtoul(…, 0)``.

    A number out of the range of C's type becomes the largest. Text that is no number is 0.
    """
    return _as_unsigned(parse_leading_integer(text, 0)[0], bits)


def _as_unsigned(number: int, bits: int) -> int:
    if abs(number) >= 1 << _LONG_BITS:
        number = -1
    return number & (1 << bits) - 1


def parse_decimal(text: str, bits: int) -> int:
    """Return the lower bits of the decimal number at the beginning of the text, as of ``atol``."""
    number, _ = parse_leading_integer(text, 10)
    most = (1 << _LONG_BITS - 1) - 1
    return max(-most - 1, min(number, most)) & (1 << bits) - 1


class Masked(NamedTuple):
    """A value, and the bits of it that count."""

    value: int
    mask: int = 0xFFFFFFFF


def parse_mark(text: str) -> Masked:
    """Parse ``VALUE[/MASK]``."""
    number, end = parse_leading_integer(text, 0)
    value = _as_unsigned(number, 32)
    if text[end : end + 1] != "/":
        return Masked(value)
    return Masked(value, parse_unsigned(text[end + 1 :], 32))


# Addresses


def parse_address(text: str, shown: str) -> IPAddress:
    """Parse an address. IPv4 addresses may have fewer than four parts.

    :param text: the text.
    :param shown: the text that a message shows.
    :raises CommandFailure: when the text is not an address.
    """
    try:
        return IPv4Address(socket.inet_aton(text))
    except (OSError, ValueError):
        pass
    try:
        return IPv6Address(socket.inet_pton(socket.AF_INET6, text))
    except (OSError, ValueError):
        pass
    raise invalid(f"Invalid IP address `{shown}'")


def split_address(text: str) -> tuple[IPAddress, str | None]:
    """Parse an address, and return it with the text that follows a ``/`` behind it.

    :raises CommandFailure: when the text does not begin with an address.
    """
    name, slash, rest = text.partition("/")
    return parse_address(name, text), rest if slash else None


def parse_prefix(bits: str, address: IPAddress) -> IPAddress | None:
    """Return the mask for the number of leading bits that count; ``None`` if all do.

    The program takes no number for 0, so that ``ADDRESS/`` is any address. Here it is an error.

    :param bits: the number.
    :param address: the address that is compared under the mask.
    :raises CommandFailure: when the number is not valid.
    """
    length = address.max_prefixlen
    prefix, end = parse_leading_integer(bits, 10)
    if not bits or end != len(bits) or not 0 <= prefix <= length:
        raise invalid("Invalid netmask")
    if prefix == length:
        return None
    return type(address)((1 << length) - (1 << length - prefix))


def split_endpoint(text: str) -> tuple[str, int | None]:
    """Parse ``IP[:PORT]``, where an IPv6 address with a port has brackets.

    :returns: the text of the address, and the port.
    :raises CommandFailure: when the text is not valid.
    """
    name, port = _split_port(text)
    if port is None:
        return name, None
    if not port:
        raise invalid("No port specified after `:'")
    digits = port.lstrip("0") or "0"
    if not re.fullmatch("[0-9]+", port) or len(digits) > 5 or int(digits) > 0xFFFF:
        raise invalid(f"Invalid port `{port}'")
    return name, int(digits)


def _split_port(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        if not bracket:
            raise invalid("No closing ']' around IPv6 address")
        if not name:
            raise invalid("No IPv6 address specified")
        return (name, rest[1:]) if rest.startswith(":") else (text, None)
    name, colon, port = text.partition(":")
    return (name, port) if colon and ":" not in port else (text, None)


# Words


_NAT_WORDS: Final = {"SRC_NAT": "src-nat", "DST_NAT": "dst-nat"}
"""Words that are ignored in each list, with the option that takes the place of each."""


def parse_words(
    text: str, words: Iterable[str], whole: str = "", *, negatable: bool = False
) -> Iterator[tuple[str, bool]]:
    """Yield words with commas between them. Each may be shortened, in upper or lower case.

    :param text: the argument.
    :param words: the words; a shortened one means the first that begins so.
    :param whole: a word that is neither shortened nor negated. Letters after it are ignored.
    :param negatable: whether ``!`` may precede each word.
    :returns: each word, and whether it is negated.
    :raises CommandFailure: when a word is unknown.
    """
    all_words = (*_NAT_WORDS, *words)
    rest: str | None = text
    while rest is not None:
        negated = negatable and rest.startswith("!")
        rest = rest.removeprefix("!") if negated else rest
        part, comma, after = rest.partition(",")
        if whole and not negated and part.startswith(whole):
            yield whole, False
        else:
            matching = [word for word in all_words if word.startswith(_ascii_upper(part))]
            if not part or not matching:
                raise invalid(f"Bad parameter `{rest}'")
            if matching[0] in _NAT_WORDS:
                warn(f"WARNING: ignoring {matching[0]}, use --{_NAT_WORDS[matching[0]]} instead")
            else:
                yield matching[0], negated
        rest = after if comma else None


def _ascii_upper(text: str) -> str:
    """Return the text in upper case. Other letters than those of ASCII are left as they are."""
    return re.sub("[a-z]+", lambda letters: letters[0].upper(), text)


_FAMILIES: Final = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


def parse_family(text: str) -> int:
    """Parse the name of an address family. As in the program, letters after it are ignored.

    :raises CommandFailure: when it is unknown.
    """
    family = _FAMILIES.get(text[:4])
    if family is None:
        raise invalid(f"`{text}' unsupported protocol")
    return family


_PROTOCOL_NUMBER: Final = r"[ \t-\r]*[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)"


def parse_protocol(text: str) -> int:
    """Parse the name or the number of a protocol.

    :raises CommandFailure: when it is unknown.
    """
    for protocol in PROTOCOLS:
        if protocol.name == text.lower():
            return protocol.number
    if re.fullmatch(_PROTOCOL_NUMBER, text):
        number, end = parse_leading_integer(text, 0)
        if end == len(text) and 0 <= number <= 0xFF:
            return number
    try:
        return socket.getprotobyname(text)
    except (OSError, ValueError):
        raise invalid(f"`{text}' unsupported protocol") from None


def parse_state(text: str, protocol: str, states: Mapping[str, int]) -> int:
    """Parse the name of a connection's state.

    :raises CommandFailure: when it is unknown.
    """
    state = states.get(text)
    if state is None:
        unknown = "Unknown" if protocol == "DCCP" else "unknown"
        raise invalid(f"{unknown} {protocol} state `{text}'")
    return state
