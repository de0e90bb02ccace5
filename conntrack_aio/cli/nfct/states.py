"""The timeouts of each protocol by the names that ``nfct`` has for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ...model.protocols import DCCP, GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE
from ...model.timeouts import (
    GENERIC,
    DCCPTimeouts,
    GenericTimeouts,
    GRETimeouts,
    ICMPTimeouts,
    ICMPv6Timeouts,
    ProtocolTimeouts,
    SCTPTimeouts,
    TCPTimeouts,
    UDPTimeouts,
)
from .refusal import Refused

CLASSES: Final[dict[int, type[ProtocolTimeouts]]] = {
    TCP: TCPTimeouts,
    UDP: UDPTimeouts,
    UDPLITE: UDPTimeouts,
    SCTP: SCTPTimeouts,
    DCCP: DCCPTimeouts,
    ICMP: ICMPTimeouts,
    ICMPV6: ICMPv6Timeouts,
    GRE: GRETimeouts,
    GENERIC: GenericTimeouts,
}
"""The classes of timeouts by the number of the protocol."""

_LONGER: Final = {"unack": "UNACKNOWLEDGED"}
"""The names that are not those of the fields."""
_LEFT_OUT: Final = frozenset({"heartbeat_sent", "heartbeat_acked"})
"""The fields that nfct does not have."""

_SECONDS: Final = re.compile(r"[ \t-\r]*\+?0*([0-9]+)[ \t-\r]*")


def state_names(kind: type[ProtocolTimeouts]) -> dict[str, str]:
    """Return the names of the timeouts of a class, in the order of nfct, with their fields."""
    fields = [field for field in kind.__annotations__ if field not in _LEFT_OUT]
    return {_LONGER.get(field, field.upper()): field for field in fields}


def parse_timeouts(protocol: str, number: int, words: Sequence[str]) -> ProtocolTimeouts | None:
    """Return timeouts of a protocol.

    :param protocol: the name of the protocol, for errors.
    :param number: the number of the protocol.
    :param words: names of timeouts, each followed by its seconds. The last one of a name counts.
    :returns: the timeouts; ``None`` if there are no words.
    :raises Refused: when a name or a number of seconds is not valid.
    """
    kind = CLASSES.get(number)
    names = {} if kind is None else state_names(kind)
    values: dict[str, int] = {}
    for index in range(0, len(words), 2):
        if index + 1 == len(words):
            raise Refused("missing value for this timeout")
        word = words[index]
        field = names.get(word.upper()) if word.isascii() else None
        if field is None:
            raise Refused(f"Wrong state name: `{word}' for protocol `{protocol}'")
        values[field] = _parse_seconds(word, words[index + 1])
    return kind(**values) if kind is not None and values else None


def _parse_seconds(state: str, word: str) -> int:
    if (match := _SECONDS.fullmatch(word)) is None:
        raise Refused(f"Wrong timeout: `{word}' for state `{state}'; expected a number of seconds")
    # The library refuses what has 20 digits. Python refuses to convert thousands of them.
    return int(match[1][:20])
