"""The options that follow ``-p``: those of each protocol, and which actions accept or need them."""

# Annotations are evaluated here: a NamedTuple compiles each one that is a text, which would take a
# quarter of this module's import.

from typing import Final, NamedTuple

from .actions import Action
from .getopt import Argument, LongOption
from .messages import invalid
from .options import Checked, actions, check_options

TCP, UDP, ICMP, GRE, DCCP, ICMPV6, SCTP, UDPLITE = 6, 17, 1, 47, 33, 58, 132, 136


class ProtocolOption(NamedTuple):
    """An option of a protocol. It has an argument."""

    name: str
    """The name that messages use, after ``--``, and by which :mod:`.parse` knows the option."""
    long_names: tuple[str, ...]
    accepted: frozenset[Action]
    needed: frozenset[Action]


class Protocol(NamedTuple):
    """A protocol with options of its own."""

    name: str
    number: int
    options: tuple[ProtocolOption, ...]
    pairs: tuple[tuple[str, str, str], ...] = ()
    """Pairs of options one of which a new or requested entry needs: two names, and the names in
    the message about a missing one."""


_FLOW = "L I A U D G E"
_EXPECT = "xI xD xG"


def _option(name: str, accepted: str, needed: str = "", long_names: str = "") -> ProtocolOption:
    names = tuple((long_names or name).split())
    return ProtocolOption(name, names, actions(accepted), actions(needed))


def _with_ports(name: str, number: int, *more: ProtocolOption, reply: str = "") -> Protocol:
    options = (
        _option("sport", f"{_FLOW} {_EXPECT}", _EXPECT, "orig-port-src sport"),
        _option("dport", f"{_FLOW} {_EXPECT}", _EXPECT, "orig-port-dst dport"),
        _option("reply-port-src", f"{_FLOW} xD xG", "xD xG"),
        _option("reply-port-dst", f"{_FLOW} xD xG", "xD xG"),
        _option("mask-port-src", "xI", "xI"),
        _option("mask-port-dst", "xI", "xI"),
    )
    in_expectation = (
        _option("tuple-port-src", "xI", "xI"),
        _option("tuple-port-dst", "xI", "xI"),
    )
    state, others = more[:1], more[1:]
    pairs = (
        ("sport", "dport", "`--sport' and `--dport'"),
        (
            "reply-port-src",
            "reply-port-dst",
            reply or "`--reply-src-port' and `--reply-dst-port'",
        ),
    )
    return Protocol(name, number, (*options, *state, *in_expectation, *others), pairs)


_STATE = _option("state", _FLOW, "I A")

_KEY_PAIRS = (
    ("srckey", "dstkey", "`--srckey' and `--dstkey'"),
    ("reply-key-src", "reply-key-dst", "`--reply-src-key' and `--reply-dst-key'"),
)


def _icmp(name: str, number: int) -> Protocol:
    return Protocol(
        name,
        number,
        (
            _option(f"{name}-type", _FLOW, "I A G"),
            _option(f"{name}-code", _FLOW, "I A G"),
            _option(f"{name}-id", _FLOW),
        ),
    )


PROTOCOLS: Final = (
    _with_ports("tcp", TCP, _STATE),
    _with_ports("udp", UDP),
    _with_ports("udplite", UDPLITE),
    _icmp("icmp", ICMP),
    _icmp("icmpv6", ICMPV6),
    _with_ports(
        "sctp",
        SCTP,
        _STATE,
        _option("orig-vtag", "I A U G xI", "I A xI"),
        _option("reply-vtag", "I A U G xI", "I A xI"),
    ),
    _with_ports(
        "dccp",
        DCCP,
        _STATE,
        _option("role", "I A xI", "I A xI"),
        reply="`--reply-port-src' and `--report-port-dst'",
    ),
    Protocol(
        "gre",
        GRE,
        (
            _option("srckey", f"{_FLOW} {_EXPECT}", _EXPECT, "orig-key-src srckey"),
            _option("dstkey", f"{_FLOW} {_EXPECT}", _EXPECT, "orig-key-dst dstkey"),
            _option("reply-key-src", f"{_FLOW} {_EXPECT}", _EXPECT),
            _option("reply-key-dst", f"{_FLOW} {_EXPECT}", _EXPECT),
            _option("mask-key-src", "xI", "xI"),
            _option("mask-key-dst", "xI", "xI"),
            _option("tuple-key-src", "xI", "xI"),
            _option("tuple-key-dst", "xI", "xI"),
        ),
        _KEY_PAIRS,
    ),
)

BY_NUMBER: Final = {protocol.number: protocol for protocol in PROTOCOLS}


def long_options(protocol: Protocol) -> list[LongOption]:
    """Return the long options of a protocol. Their codes are the names in messages."""
    return [
        LongOption(name, Argument.REQUIRED, option.name)
        for option in protocol.options
        for name in option.long_names
    ]


_PAIRED: Final = actions("I A G")


def check_protocol_options(action: Action, protocol: Protocol, given: frozenset[str]) -> None:
    """Check that an action has the options of a protocol that it needs, and no others.

    :raises CommandFailure: for the first option that is missing or not accepted.
    """
    checked = [Checked(option.name, option.accepted, option.needed) for option in protocol.options]
    check_options(action, given, checked)
    if action in _PAIRED:
        check_pairs(given, protocol.pairs)


def check_pairs(given: frozenset[str], pairs: tuple[tuple[str, str, str], ...]) -> None:
    """Check that both options of one of the pairs are given.

    :raises CommandFailure: when no pair is complete. It names a pair whose first or second option
        alone is given, if that is the only one, and the first pair otherwise.
    """
    if not pairs or any({one, other} <= given for one, other, _ in pairs):
        return
    begun = [text for one, other, text in pairs if {one, other} & given]
    raise invalid(f"you have to specify {begun[0] if begun else pairs[0][2]}")
