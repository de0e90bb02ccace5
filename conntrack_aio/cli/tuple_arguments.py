"""Read tuples from the command line: ``tcp 10.0.0.1:1000 10.1.0.1:80``.

A tuple is written as flows are listed: the protocol, the source, the destination, and for ICMP its
fields. So what ``list`` prints can be given to other subcommands::

    tuple:    protocol end ["->"] end field*
    end:      address | IPv4 ":" port | "[" address "]" ":" port
    field:    ("type" | "code" | "id" | "zone") ("=" | " ") number
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple, NoReturn

from ..errors import EncodeError, point_at
from ..model.nat import Endpoint
from ..model.protocols import DCCP, ICMP, ICMPV6, PROTOCOL_NAMES, UDPLITE
from ..model.tuples import PORTED, IPAddress, Tuple, proto_number
from ..suggestions import suggestion

TUPLE_HELP: Final = """\
A TUPLE is the protocol, the source and the destination, in one argument or in
several; a quoted arrow may be between the ends:

  tcp 10.0.0.1:1000 10.1.0.1:80
  udp [2001:db8::1]:1000 [2001:db8::2]:53
  icmp 10.0.0.1 10.1.0.1 id=7
  'tcp 10.0.0.1:1000 -> 10.1.0.1:80'

An IPv6 address with a port is in brackets. A port may be the name of a service.
ICMP has the fields type=, code= and id=; by default, type and code are those of
an echo request. Protocols without ports, such as esp, have addresses alone."""

_FIELDS: Final = {"type": 0xFF, "code": 0xFF, "id": 0xFFFF, "zone": 0xFFFF}
_LISTED: Final = re.compile(r"[(\[].*|(timeout|mark|labels|helper|master|packets|bytes)=.*")
"""The words that follow a tuple in the line of a flow. IPv6 ends begin with a bracket, too, but
they are read before."""
_STATE: Final = re.compile(r"[A-Z][A-Z0-9_]*|state-\d+")
_ARROWS: Final = ("->", "→")
_UNTRACKED_SOMEWHERE: Final = (DCCP, UDPLITE)
"""The protocols that some kernels do not track. Their tuples then have no ports."""


class _Word(NamedTuple):
    text: str
    column: int
    """Its position in the text, counted from 1."""


def parse_tuple(
    command: argparse.ArgumentParser,
    arguments: Sequence[str],
    *,
    listed: bool = False,
    any_sport: bool = False,
) -> Tuple:
    """Return the tuple that the arguments express.

    :param command: the parser that reports an error and exits.
    :param arguments: the arguments, which are one text together.
    :param listed: whether to accept a whole line of ``list``. What it has beside the tuple and the
        zone is ignored, so only subcommands for which the tuple names an entry may accept it.
    :param any_sport: whether the source may have no port. :attr:`Tuple.sport` is then ``None``.
    :returns: the tuple. Its zone is ``None`` unless the text has one.
    """
    try:
        text = " ".join(arguments)
        if listed:
            return read_tuple(text, listed=True, any_sport=any_sport)
        return read_tuple_alone(text, any_sport=any_sport)
    except ValueError as error:
        command.error(f"argument TUPLE: {error}")


def read_tuple(text: str, *, listed: bool = False, any_sport: bool = False) -> Tuple:
    """Return the tuple of a text; see :func:`parse_tuple`.

    :raises ValueError: when the text is not a tuple. The message shows the place of the mistake.
    """
    return _TupleReader(text, listed, any_sport).read()


def read_tuple_alone(text: str, *, any_sport: bool = False) -> Tuple:
    """Return the tuple of a text that is more than the name of an entry, such as a new one.

    :raises ValueError: when the text is not a tuple. For a line of ``list``, the message says what
        its tuple is: the rest of the line must not be silently ignored.
    """
    try:
        return read_tuple(text, any_sport=any_sport)
    except ValueError:
        try:
            found = read_tuple(text, listed=True, any_sport=any_sport)
        except ValueError:
            found = None
        if found is None:
            raise
        raise ValueError(
            f"the line of a flow has more than a tuple; pass '{found.without_zone}', and the rest "
            "as options"
        ) from None


def parse_endpoint(command: argparse.ArgumentParser, argument: str, proto: int) -> Endpoint:
    """Return the address and port of an argument such as ``192.0.2.1:443`` or ``[2001:db8::1]:53``.

    :param command: the parser that reports an error and exits.
    :param argument: the argument. It may be an address without a port.
    :param proto: the protocol, for the names of services.
    """
    try:
        return _read_end(argument, proto)
    except ValueError as error:
        command.error(f"argument {argument!r}: {error}")


class _TupleReader:
    """The words of a text, and what was read from them."""

    def __init__(self, text: str, listed: bool, any_sport: bool) -> None:
        self._text = text
        self._listed = listed
        self._any_sport = any_sport
        self._words = [_Word(found[0], found.start() + 1) for found in re.finditer(r"\S+", text)]
        self._end = _Word("", len(text.rstrip()) + 1)

    def read(self) -> Tuple:
        """Return the tuple.

        :raises ValueError: when the text is not a tuple.
        """
        start = self._next("a protocol such as tcp")
        proto = self._protocol(start)
        if self._listed and self._words and _STATE.fullmatch(self._words[0].text):
            self._words.pop(0)
        at_src, src = self._endpoint("source", proto)
        if self._words and self._words[0].text in _ARROWS:
            self._words.pop(0)
        at_dst, dst = self._endpoint("destination", proto)
        if src.address.version != dst.address.version:
            self._fail(at_dst, f"{dst.address} is not of the family of {src.address}")
        portless = proto in _UNTRACKED_SOMEWHERE and src.port is dst.port is None
        if proto in PORTED and not portless:
            if not self._any_sport:
                self._require_port(at_src, proto, src)
            self._require_port(at_dst, proto, dst)
        self._check_family(start, proto, src.address)
        values = self._fields(proto)
        if proto in (ICMP, ICMPV6):
            if "id" not in values:
                self._fail(self._end, "ICMP needs the identifier: id=NUMBER")
            values = {"type": 8 if proto == ICMP else 128, "code": 0, **values}
        return Tuple(
            src=src.address,
            dst=dst.address,
            proto=proto,
            sport=src.port,
            dport=dst.port,
            icmp_type=values.get("type"),
            icmp_code=values.get("code"),
            icmp_id=values.get("id"),
            zone=values.get("zone"),
        )

    def _fail(self, word: _Word, reason: str) -> NoReturn:
        raise ValueError(point_at(reason, self._text, word.column))

    def _next(self, wanted: str) -> _Word:
        if not self._words:
            self._fail(self._end, f"expected {wanted}")
        return self._words.pop(0)

    def _protocol(self, word: _Word) -> int:
        name = word.text.removeprefix("proto-")
        try:
            return proto_number(int(name) if re.fullmatch(r"[0-9]{1,9}", name) else name)
        except EncodeError as error:
            self._fail(word, error.reason)

    def _endpoint(self, side: str, proto: int) -> tuple[_Word, Endpoint]:
        example = "ADDRESS:PORT" if proto in PORTED else "ADDRESS"
        word = self._next(f"the {side}: {example}")
        if word.text == "-":
            self._fail(
                word,
                "the shell took '>' for a redirection; omit the arrow, or quote the whole tuple",
            )
        try:
            end = _read_end(word.text, proto)
        except ValueError as error:
            self._fail(word, str(error))
        if proto not in PORTED and end.port is not None:
            self._fail(word, f"{_name_of(proto)} has no ports; expected the address alone")
        return word, end

    def _require_port(self, word: _Word, proto: int, end: Endpoint) -> None:
        if end.port is None:
            shown = f"[{end.address}]" if end.address.version == 6 else end.address
            self._fail(word, f"{_name_of(proto)} needs a port: {shown}:PORT")

    def _check_family(self, word: _Word, proto: int, address: IPAddress) -> None:
        for number, version, other in ((ICMP, 4, "icmpv6"), (ICMPV6, 6, "icmp")):
            if proto == number and address.version != version:
                name = PROTOCOL_NAMES[number]
                self._fail(word, f"{name} has IPv{version} addresses; did you mean {other!r}?")

    def _fields(self, proto: int) -> dict[str, int]:
        """Read the fields after the ends, and return the number of each name."""
        values: dict[str, int] = {}
        while self._words:
            word = self._words.pop(0)
            name, sign, number = word.text.partition("=")
            if self._listed and _LISTED.fullmatch(word.text):
                self._skip_parentheses(word)
                continue
            if name not in _FIELDS:
                hint = suggestion(name, _FIELDS) or f"; expected {'=, '.join(_FIELDS)}="
                self._fail(word, f"unknown field {name[:40]!r}{hint}")
            if not sign:
                number = self._next(f"the number of {name}").text
            value = int(number) if re.fullmatch(r"[0-9]{1,9}", number) else -1
            if not 0 <= value <= _FIELDS[name]:
                self._fail(word, f"{name} must be a number from 0 to {_FIELDS[name]}")
            if name in values:
                self._fail(word, f"{name} is given twice")
            if name != "zone" and proto not in (ICMP, ICMPV6):
                self._fail(word, f"{name} is a field of icmp and icmpv6 only")
            values[name] = value
        return values

    def _skip_parentheses(self, word: _Word) -> None:
        """Skip what is in parentheses in the line of a flow: the reply tuple, the master's."""
        if "(" not in word.text:
            return
        while not word.text.endswith(")"):
            word = self._next("')'")


def _name_of(proto: int) -> str:
    return PROTOCOL_NAMES.get(proto, f"protocol {proto}")


def _read_end(text: str, proto: int) -> Endpoint:
    """Return the address and port of one end of a tuple.

    :raises ValueError: when the text is not an address, or an address and a port.
    """
    port: str | None = None
    if bracketed := re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", text):
        address, port = bracketed[1], bracketed[2]
    elif text.count(":") == 1:
        address, port = text.split(":")
    else:
        address = text
    try:
        found = ip_address(address)
    except ValueError:
        raise ValueError(f"{text[:80]!r} is not an address{_hint(text)}") from None
    if found.version == 6 and found.scope_id is not None:
        raise ValueError(f"{text[:80]!r} has a scope; the kernel's table has none: omit '%…'")
    return Endpoint(found, None if port is None else _read_port(port, proto))


def _hint(text: str) -> str:
    if ":" in text and not text.startswith("[") and text.count(":") > 1:
        return "; an IPv6 address with a port is written [ADDRESS]:PORT"
    return ", such as 10.0.0.1:80 or [2001:db8::1]:80"


def _read_port(text: str, proto: int) -> int:
    if re.fullmatch(r"[0-9]{1,9}", text):
        if int(text) > 0xFFFF:
            raise ValueError(f"port {text} is not from 0 to 65535")
        return int(text)
    from socket import getservbyname

    try:
        return getservbyname(text, PROTOCOL_NAMES.get(proto, ""))
    except (OSError, ValueError):  # a name with a NUL is a ValueError
        raise ValueError(
            f"port {text[:40]!r} is neither a number nor a service of {_name_of(proto)}"
        ) from None
