"""The options for fields of flows that both ``create`` and ``update`` have."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from .value_arguments import json_object, parse_hex, parse_protoinfo, parse_tcp_state

if TYPE_CHECKING:
    from ..model.flow import Helper, SeqAdj, SynProxy
    from ..model.protoinfo import ProtoInfo


def add_state_options(add: Callable[..., object]) -> None:
    """Add the options for the state of protocols, helpers, sequence numbers and SYNPROXY.

    :param add: adds an option: ``add_argument`` of a parser or of a group of its options.
    """
    add("--helper-info", type=parse_hex, metavar="HEX", help="set the private data of the helper")
    add("--state", type=parse_tcp_state, metavar="STATE", help="set the state of TCP")
    add(
        "--protoinfo",
        type=parse_protoinfo,
        metavar="JSON",
        help="set the state of the protocol, as an object of the form of `list --json`",
    )
    for name, subject in (("orig", "original"), ("reply", "reply")):
        add(
            f"--seqadj-{name}",
            type=_parse_seqadj,
            metavar="JSON",
            help=f"set the sequence adjustment of the {subject} direction, all of its numbers",
        )
    add(
        "--synproxy",
        type=_parse_synproxy,
        metavar="JSON",
        help="set the state of SYNPROXY, all of its numbers",
    )


def _parse_seqadj(value: str) -> SeqAdj:
    from ..model.flow import SeqAdj

    found = json_object(SeqAdj)(value)
    if None in (found.correction_pos, found.offset_before, found.offset_after):
        raise argparse.ArgumentTypeError(
            "correction_pos, offset_before and offset_after must be given together"
        )
    return found


def _parse_synproxy(value: str) -> SynProxy:
    from ..model.flow import SynProxy

    return json_object(SynProxy)(value)


def protocol_with_state(options: argparse.Namespace) -> int | None:
    """Return the protocol whose state ``--state`` or ``--protoinfo`` gives, or ``None``."""
    info = protoinfo_of(options)
    if info is None:
        return None
    from ..model.protoinfo import PROTOINFO_TYPES

    return next(proto for proto, cls in PROTOINFO_TYPES.items() if isinstance(info, cls))


def check_state_of(options: argparse.Namespace, proto: int) -> None:
    """Check that a flow of this protocol can have the state that the options give."""
    wanted = protocol_with_state(options)
    if wanted is not None and wanted != proto:
        from ..model.protocols import PROTOCOL_NAMES

        option = "--protoinfo" if options.state is None else "--state"
        hint = "" if options.state is None else "; see --protoinfo"
        options.parser.error(
            f"argument {option}: only flows of {PROTOCOL_NAMES[wanted]} have this{hint}"
        )


def protoinfo_of(options: argparse.Namespace) -> ProtoInfo | None:
    """Return the state of the protocol that ``--state`` or ``--protoinfo`` gives."""
    if options.state is None:
        found: ProtoInfo | None = options.protoinfo
        return found
    if options.protoinfo is not None:
        options.parser.error("argument --protoinfo: not allowed with --state")
    from ..model.protoinfo import TCPInfo

    return TCPInfo(state=options.state)


def helper_of(options: argparse.Namespace) -> Helper | None:
    """Return the helper that ``--helper`` and ``--helper-info`` give."""
    if options.helper is None:
        if options.helper_info is not None:
            options.parser.error("argument --helper-info: needs --helper NAME")
        return None
    if not options.helper:
        options.parser.error("argument --helper: the name is empty")
    from ..model.flow import Helper

    return Helper(name=options.helper, info=options.helper_info)
