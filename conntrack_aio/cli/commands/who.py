"""``who``: print which address and port is behind a public one."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Final

from ..arguments import parse_zone
from ..parsing import Commands
from ..running import run_async

_EPILOG: Final = """\
For a source that is translated (SNAT, masquerading), the inside is the source
of the connection; for a destination (DNAT, port forwarding), it is the server.
Several flows may be printed: one public port can be used toward several peers.
ADDRESS alone selects all ports; an IPv6 address with a port is in brackets.
For ICMP the port is the identifier of the query.

With --json, each object has the public and inside end, the peer, the kind of
translation as nat, "src" or "dst", and the flow itself.

The table has the present. Who had a port earlier, only a log of events says.
The exit status is 1 if no flow is translated to the ADDRESS. Standard error
then says in how many flows it is the inside end or the peer instead."""


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add(
        "who",
        _run,
        commands.netns,
        commands.json,
        help="print which address and port is behind a public one",
        description="Print which inside address and port is behind a public address and port of "
        "this machine's NAT, with a line for each flow.",
        epilog=_EPILOG,
    )
    command.add_argument(
        "public",
        metavar="ADDRESS[:PORT]",
        help="the address and port that is seen outside, such as 192.0.2.1:61000",
    )
    command.add_argument(
        "--proto",
        metavar="PROTO",
        help="only flows of this protocol, by name or number, such as tcp (default: all)",
    )
    command.add_argument(
        "--zone",
        type=parse_zone,
        metavar="N",
        help="only flows that have this zone in at least one direction (default: all)",
    )


def _run(options: argparse.Namespace) -> None:
    from ...errors import EncodeError
    from ...model.protocols import TCP
    from ...model.tuples import proto_number
    from ..tuple_arguments import parse_endpoint

    if options.proto is not None:
        digits = options.proto.isascii() and options.proto.isdigit() and len(options.proto) < 10
        try:
            options.proto = proto_number(int(options.proto) if digits else options.proto)
        except EncodeError as error:
            options.parser.error(f"argument --proto: {error.reason}")
    proto = TCP if options.proto is None else options.proto  # of which service names are
    options.public = parse_endpoint(options.parser, options.public, proto)
    run_async(partial(_who, options))


async def _who(options: argparse.Namespace) -> None:
    from ...connecting import connect
    from ..behind_nat import print_who

    async with connect(netns=options.netns) as conn:
        await print_who(conn, options.public, options.proto, options.zone, json=options.json)
